//! What a device says it can do: feature tags of its Contact (RFC 3840), CPM service ids.

use crate::syntax::sip::Params;

/// How a device is to be talked to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It registered a CPM service id (or its forerunner, `+g.oma.sip-im`).
    Cpm,
    /// Everything else.
    Plain,
}

const CPM_PREFIX: &str = "urn:urn-7:3gpp-service.ims.icsi.oma.cpm";

/// The kind of device that registered with these Contact parameters.
#[must_use]
pub fn kind(params: &Params) -> Kind {
    if params.get("+g.oma.sip-im").is_some() {
        return Kind::Cpm;
    }
    let listed = params.value("+g.3gpp.icsi-ref").unwrap_or_default();
    let cpm = listed.split(',').any(|urn| unescape(urn.trim()).starts_with(CPM_PREFIX));
    if cpm { Kind::Cpm } else { Kind::Plain }
}

/// Percent-decoding; service ids must compare equal however they are escaped.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 1..at + 3).and_then(|d| u8::from_str_radix(d, 16).ok());
        match code.filter(u8::is_ascii) {
            Some(code) => {
                out.push(char::from(code));
                rest = &rest[at + 3..];
            }
            None => {
                out.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    out.push_str(rest);
    out.make_ascii_lowercase();
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::syntax::sip::NameAddr;

    #[test]
    fn a_cpm_device_is_known_by_its_service_ids() {
        for (params, is) in [
            ("", Kind::Plain),
            (";+sip.instance=\"<urn:uuid:1>\"", Kind::Plain),
            (";+g.oma.sip-im", Kind::Cpm),
            (";+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"", Kind::Cpm),
            (";+g.3gpp.icsi-ref=\"urn:urn-7:3gpp-service.ims.icsi.mmtel\"", Kind::Plain),
            (
                ";+g.3gpp.icsi-ref=\"urn%3aurn-7%3a3gpp-service.ims.icsi.mmtel, \
                 urn%3aurn-7%3a3gpp-service.ims.icsi.oma.cpm.session\"",
                Kind::Cpm,
            ),
        ] {
            let contact = NameAddr::parse(format!("<sip:a@h>{params}").as_bytes()).expect("reads");
            assert_eq!(kind(&contact.params), is, "{params}");
        }
    }
}
