//! Typed reads and writes of the headers that steer a message.

use std::fmt;
use std::net::IpAddr;

use nom::Parser;
use nom::bytes::complete::{tag_no_case, take_while1};
use nom::combinator::{all_consuming, rest};

use super::fault::Fault;
use super::grammar::{
    Read, blanks, digits, is_blank, no, quote, quoted, separator, token, trim, unquote,
};
use super::headers::Headers;
use super::name::{Method, Name};
pub use super::params::Params;
use super::uri::{Host, Uri};

/// One Via value (RFC 3261 §20.42).
#[derive(Clone, Debug)]
pub struct Via {
    /// `UDP`, `TCP`, … as written.
    pub transport: String,
    /// Host of the sent-by.
    pub host: Host,
    /// Port of the sent-by.
    pub port: Option<u16>,
    /// branch, rport, received, …
    pub params: Params,
}

impl Via {
    /// Reads one value: what stands between two commas.
    ///
    /// # Errors
    /// 400 when it is malformed.
    pub fn parse(value: &[u8]) -> Result<Via, Fault> {
        match via(value) {
            Ok((_, via)) => Ok(via),
            Err(_) => Err(Fault::malformed(Name::Via)),
        }
    }

    /// The branch as written (compared octet by octet).
    #[must_use]
    pub fn branch(&self) -> Option<&str> {
        self.params.get("branch").flatten()
    }

    /// The address that the receiver saw, with or without brackets (RFC 5118 §4.5).
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        let spelled = self.params.get("received").flatten()?;
        spelled.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// RFC 3581: `Some(None)` is a wish, `Some(Some(port))` the answer; an unreadable port is a
    /// wish.
    #[must_use]
    pub fn rport(&self) -> Option<Option<u16>> {
        self.params.get("rport").map(|port| port.and_then(|p| digits(p.as_bytes())))
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SIP/2.0/{} {}", self.transport, self.host)?;
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)
    }
}

fn via(i: &[u8]) -> Read<'_, Via> {
    let (i, _) = (blanks, tag_no_case("SIP"), separator(b'/'), tag_no_case("2.0")).parse(i)?;
    let (i, (_, transport)) = (separator(b'/'), token).parse(i)?;
    let (i, _) = take_while1(is_blank)(i)?;
    let (after, host) = sent_by_host(i)?;
    let (after, port) = match separator(b':')(after) {
        Ok((after, ())) => {
            let (after, port) = take_while1(|o: u8| o.is_ascii_digit())(after)?;
            (after, Some(port))
        }
        Err(_) => (after, None),
    };
    let port = port.map(digits);
    let (Some(host), Ok(transport)) = (Host::parse(host), std::str::from_utf8(transport)) else {
        return no(i);
    };
    if port == Some(None) {
        return no(i);
    }
    let (after, params) = Params::of_header(after)?;
    Ok((after, Via { transport: transport.to_owned(), host, port: port.flatten(), params }))
}

fn sent_by_host(i: &[u8]) -> Read<'_, &[u8]> {
    if i.first() == Some(&b'[') {
        let end = memchr::memchr(b']', i).and_then(|end| i.split_at_checked(end + 1));
        return end.map_or_else(|| no(i), |(host, after)| Ok((after, host)));
    }
    take_while1(|o: u8| !is_blank(o) && o != b':' && o != b';')(i)
}

/// An address with an optional name before and parameters behind: From, To, Contact, Route,
/// P-Asserted-Identity, … (RFC 3261 §20.10).
#[derive(Clone, Debug)]
pub struct NameAddr {
    /// The display name without quotes and escapes; octets that are no UTF-8 are replaced.
    pub display: Option<String>,
    /// The address.
    pub uri: Uri,
    /// Parameters of the header, not of the URI.
    pub params: Params,
}

impl NameAddr {
    /// An address without name and parameters.
    #[must_use]
    pub fn new(uri: Uri) -> NameAddr {
        NameAddr { display: None, uri, params: Params::new() }
    }

    /// Reads one value. Without `<>` what follows the first `;` belongs to the header, and the
    /// URI may hold no comma and no question mark (RFC 3261 §20.10).
    ///
    /// # Errors
    /// 400 when it is malformed, 414 when the URI is too long.
    pub fn parse(value: &[u8]) -> Result<NameAddr, Fault> {
        let malformed = || Fault::new(400, "Malformed address");
        let value = trim(value);
        let Some((display, uri, params)) = split_address(value) else { return Err(malformed()) };
        let uri = Uri::parse(uri)?;
        let params = Params::of_header(params).map_err(|_| malformed())?.1;
        let display = Some(display).filter(|d| !d.is_empty());
        let display = display.map(|d| unquote(&String::from_utf8_lossy(d)).into_owned());
        Ok(NameAddr { display, uri, params })
    }

    /// The tag as written.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.params.get("tag").flatten()
    }

    /// The `expires` of a Contact, in seconds.
    #[must_use]
    pub fn expires(&self) -> Option<Result<u32, Fault>> {
        let seconds = self.params.get("expires")?;
        let seconds = seconds.and_then(|s| digits(s.as_bytes()));
        Some(seconds.ok_or_else(|| Fault::malformed(Name::Contact)))
    }

    /// `+sip.instance` without quotes and `<>` (RFC 5626 §4.1).
    #[must_use]
    pub fn instance(&self) -> Option<&str> {
        let spelled = self.params.get("+sip.instance").flatten()?;
        let inner = spelled.strip_prefix('"').and_then(|s| s.strip_suffix('"')).unwrap_or(spelled);
        Some(inner.strip_prefix('<').and_then(|s| s.strip_suffix('>')).unwrap_or(inner))
    }

    /// The preference of a Contact in thousandths, 0 to 1000; `None` when absent or malformed.
    #[must_use]
    pub fn q(&self) -> Option<u16> {
        let spelled = self.params.get("q").flatten()?;
        let (whole, part) = spelled.split_once('.').unwrap_or((spelled, ""));
        if part.len() > 3 || !(part.is_empty() || part.bytes().all(|o| o.is_ascii_digit())) {
            return None;
        }
        let whole: u16 = digits(whole.as_bytes())?;
        let part: u16 = format!("{part:0<3}").parse().ok()?;
        whole.checked_mul(1000)?.checked_add(part).filter(|q| *q <= 1000)
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(display) = &self.display {
            write!(f, "{} ", quote(display))?;
        }
        write!(f, "<{}>{}", self.uri, self.params)
    }
}

/// Name, URI, and what follows.
fn split_address(value: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (after_name, display) = match quoted(value) {
        Ok((after, name)) => (trim(after), name),
        Err(_) => {
            let end = memchr::memchr(b'<', value).unwrap_or(0);
            let (name, after) = value.split_at_checked(end)?;
            // A quote that never ends, or one in the middle of a word.
            if memchr::memchr(b'"', name).is_some() || value.first() == Some(&b'"') {
                return None;
            }
            (after, trim(name))
        }
    };
    if let [b'<', inner @ ..] = after_name {
        let end = memchr::memchr(b'>', inner)?;
        return Some((display, inner.get(..end)?, inner.get(end + 1..)?));
    }
    if !display.is_empty() {
        return None;
    }
    let end = memchr::memchr(b';', after_name).unwrap_or(after_name.len());
    let (uri, params) = after_name.split_at_checked(end)?;
    let bare = memchr::memchr2(b',', b'?', uri).is_none();
    bare.then_some((display, trim(uri), params))
}

/// CSeq: a number below 2^31 and the method (RFC 3261 §20.16).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CSeq {
    /// The sequence number.
    pub number: u32,
    /// The method it counts for.
    pub method: Method,
}

impl CSeq {
    /// Reads the value.
    ///
    /// # Errors
    /// 400 when it is malformed or the number is not below 2^31.
    pub fn parse(value: &[u8]) -> Result<CSeq, Fault> {
        let mut parts =
            (take_while1(|o: u8| o.is_ascii_digit()), take_while1(is_blank), all_consuming(rest));
        let parts: Read<'_, _> = parts.parse(trim(value));
        parts
            .ok()
            .and_then(|(_, (number, _, method))| {
                let number = digits(number).filter(|n: &u32| *n < 1 << 31)?;
                Some(CSeq { number, method: Method::of(method)? })
            })
            .ok_or_else(|| Fault::malformed(Name::CSeq))
    }
}

impl fmt::Display for CSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.number, self.method)
    }
}

/// One value of Contact.
#[derive(Clone, Debug)]
pub enum Contact {
    /// `*`: all of them (RFC 3261 §10.2.2).
    Star,
    /// One address.
    Addr(NameAddr),
}

/// All values of Contact, over all its lines.
///
/// # Errors
/// 400 when one of them is malformed.
pub fn contacts(headers: &Headers) -> Result<Vec<Contact>, Fault> {
    let read = |value: &[u8]| match value {
        b"*" => Ok(Contact::Star),
        value => NameAddr::parse(value).map(Contact::Addr),
    };
    let all: Result<_, _> = headers.list(Name::Contact).map(read).collect();
    all.map_err(|_| Fault::malformed(Name::Contact))
}

/// Credentials or a challenge: scheme and `name=value` list (RFC 3261 §20.7, §20.44; RFC 7616).
#[derive(Clone, Debug)]
pub struct AuthParams {
    /// `Digest`, as written.
    pub scheme: String,
    /// realm, nonce, …; use [`Params::value`] to get them without quotes.
    pub params: Params,
}

impl AuthParams {
    /// Reads one value of Authorization, Proxy-Authorization, WWW-Authenticate or
    /// Proxy-Authenticate: each stands on its own line (RFC 3261 §7.3.1).
    ///
    /// # Errors
    /// 400 when it is malformed.
    pub fn parse(value: &[u8]) -> Result<AuthParams, Fault> {
        let mut rule = (token, take_while1(is_blank), Params::of_credentials);
        let read: Read<'_, _> = rule.parse(trim(value));
        match read {
            Ok((_, (scheme, _, params))) => {
                Ok(AuthParams { scheme: String::from_utf8_lossy(scheme).into_owned(), params })
            }
            Err(_) => Err(Fault::new(400, "Malformed credentials")),
        }
    }
}

impl fmt::Display for AuthParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.scheme)?;
        for (at, (name, value)) in self.params.iter().enumerate() {
            f.write_str(if at == 0 { " " } else { ", " })?;
            match value {
                Some(value) => write!(f, "{name}={value}")?,
                None => f.write_str(name)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
