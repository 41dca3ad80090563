//! Single parts of header values that have been checked already, found without a copy: what every
//! request is asked for must not cost a whole parse.

/// `host:port` of a Via value as spelled: what stands between transport and first parameter.
#[must_use]
pub fn sent_by(via: &[u8]) -> &[u8] {
    let head = via.split(|o| *o == b';').next().unwrap_or_default();
    let transport = head.splitn(3, |o| *o == b'/').nth(2).unwrap_or_default().trim_ascii_start();
    let word = transport.iter().take_while(|o| !o.is_ascii_whitespace()).count();
    transport.get(word..).unwrap_or_default().trim_ascii()
}

/// The value of a header parameter as spelled, blanks around it left out; cut outside of quotes
/// and angle brackets. `None` also for a parameter without a value.
#[must_use]
pub fn param<'a>(value: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (mut quoted, mut bracket, mut escaped) = (false, false, false);
    let parts = value.split(|o| {
        let plain = !quoted && !bracket;
        match o {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !bracket => quoted = !quoted,
            b'<' if !quoted => bracket = true,
            b'>' if !quoted => bracket = false,
            b';' => return plain,
            _ => {}
        }
        false
    });
    parts.skip(1).find_map(|part| {
        let mut sides = part.splitn(2, |o| *o == b'=');
        let found = sides.next()?.trim_ascii().eq_ignore_ascii_case(name);
        if found { sides.next().map(<[u8]>::trim_ascii) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_outside_of_quotes_and_brackets() {
        for (value, name, found) in [
            (&b"SIP/2.0/UDP a:1;branch=z9hG4bKx;rport"[..], "branch", Some(&b"z9hG4bKx"[..])),
            (b"SIP / 2.0 / UDP  a : 1 ; BRANCH = x ;rport", "branch", Some(b"x")),
            (b"SIP/2.0/UDP a;rport", "rport", None),
            (b"\"a;tag=no\\\";tag=no\" <sip:a;tag=no>;x=1;tag=yes", "tag", Some(b"yes")),
            (b"sip:a@b;tag=1", "tag", Some(b"1")),
            (b"<sip:a@b>", "tag", None),
            (b"", "tag", None),
        ] {
            assert_eq!(param(value, name.as_bytes()), found, "{value:?}");
        }
        assert_eq!(sent_by(b"SIP/2.0/UDP a.b:5060;branch=x"), b"a.b:5060");
        assert_eq!(sent_by(b"SIP / 2.0 / UDP   [::1] : 5 ; branch=x"), b"[::1] : 5");
        assert_eq!(sent_by(b"SIP/2.0"), b"");
    }
}
