//! URIs: sip and sips (RFC 3261 §19.1), tel (RFC 3966), GRUU (RFC 5627); any other scheme is kept
//! as it is.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::fault::Fault;
use super::grammar::digits;
use super::params::Params;
use crate::base::limits;

/// The part before the first colon.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Scheme {
    /// `sip`
    Sip,
    /// `sips`
    Sips,
    /// `tel`
    Tel,
    /// Any other, in lower case: `im`, `pres`, `urn`, …
    Other(Box<str>),
}

impl Scheme {
    /// The scheme in lower case, without the colon.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Scheme::Sip => "sip",
            Scheme::Sips => "sips",
            Scheme::Tel => "tel",
            Scheme::Other(other) => other,
        }
    }

    /// Whether the URI has a host of the SIP kind.
    #[must_use]
    pub fn is_sip(&self) -> bool {
        matches!(self, Scheme::Sip | Scheme::Sips)
    }
}

/// Where a URI or a Via points. Names are equal in any case.
#[derive(Clone, Debug)]
pub enum Host {
    /// A domain name, as spelled; empty in a URI whose scheme has no host.
    Name(String),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, written in brackets.
    V6(Ipv6Addr),
}

impl PartialEq for Host {
    fn eq(&self, other: &Host) -> bool {
        match (self, other) {
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (Host::V4(a), Host::V4(b)) => a == b,
            (Host::V6(a), Host::V6(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Host {}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Name(name) => f.write_str(name),
            Host::V4(address) => write!(f, "{address}"),
            Host::V6(address) => write!(f, "[{address}]"),
        }
    }
}

impl Host {
    /// A host name, an IPv4 address or an IPv6 address in brackets; `None` for anything else.
    /// A name whose last label is a number is none (RFC 3261 §25.1, `toplabel`).
    #[must_use]
    pub fn parse(octets: &[u8]) -> Option<Host> {
        if let [b'[', inner @ .., b']'] = octets {
            return std::str::from_utf8(inner).ok()?.parse().ok().map(Host::V6);
        }
        let text = std::str::from_utf8(octets).ok()?;
        let last = text.strip_suffix('.').unwrap_or(text).rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|o| o.is_ascii_digit()) {
            return text.parse().ok().map(Host::V4);
        }
        // An underscore is no host name, but container platforms give such names to machines.
        let legal = |o: u8| o.is_ascii_alphanumeric() || matches!(o, b'-' | b'.' | b'_');
        (text.bytes().all(legal) && !text.starts_with('.') && !text.contains(".."))
            .then(|| Host::Name(text.to_owned()))
    }

    /// Host and port, from `host[:port]`.
    #[must_use]
    pub fn with_port(octets: &[u8]) -> Option<(Host, Option<u16>)> {
        let end = match octets.first()? {
            b'[' => memchr::memchr(b']', octets)? + 1,
            _ => memchr::memchr(b':', octets).unwrap_or(octets.len()),
        };
        let (host, port) = octets.split_at_checked(end)?;
        let port = match port {
            [] => None,
            [b':', port @ ..] => Some(digits(port)?),
            _ => return None,
        };
        Some((Host::parse(host)?, port))
    }
}

/// A URI. For `sip` and `sips` everything is in its field; for `tel` the number is in `user` and
/// the parameters in `params`; for another scheme all that follows the colon is in `user`.
#[derive(Clone, Debug)]
pub struct Uri {
    /// Before the colon.
    pub scheme: Scheme,
    /// As written, escapes kept.
    pub user: Option<String>,
    /// As written; discouraged by RFC 3261 §19.1.1, never used by us.
    pub password: Option<String>,
    /// Where to.
    pub host: Host,
    /// After the host.
    pub port: Option<u16>,
    /// After `;`.
    pub params: Params,
    /// What follows `?`, as written.
    pub headers: Option<String>,
}

impl Uri {
    /// A `sip:` URI without port and parameters.
    #[must_use]
    pub fn sip(user: Option<&str>, host: Host) -> Uri {
        Uri {
            scheme: Scheme::Sip,
            user: user.map(str::to_owned),
            password: None,
            host,
            port: None,
            params: Params::new(),
            headers: None,
        }
    }

    /// Reads a whole URI, without `<>`. Octets outside ASCII must be escaped.
    ///
    /// # Errors
    /// 400 when it is malformed, 414 when it is longer than [`limits::URI_OCTETS_MAX`].
    pub fn parse(octets: &[u8]) -> Result<Uri, Fault> {
        if octets.len() > limits::URI_OCTETS_MAX {
            return Err(Fault::new(414, "Request-URI Too Long"));
        }
        read(octets).ok_or(Fault::new(400, "Malformed URI"))
    }

    /// A parameter: absent, without value, or with its value as written.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<Option<&str>> {
        self.params.get(name)
    }

    /// Whether it is a loose router's (RFC 3261 §19.1.1): `;lr`, or `;lr=on` as some write.
    #[must_use]
    pub fn is_lr(&self) -> bool {
        self.params.has("lr")
    }

    /// The value of `gr` (RFC 5627 §4); empty for a temporary GRUU, which has `gr` alone.
    #[must_use]
    pub fn gruu(&self) -> Option<&str> {
        self.params.get("gr").map(Option::unwrap_or_default)
    }

    /// The canonical address of record: `sip:` for sip and sips, user without needless escapes,
    /// host in lower case, no password, port, parameters and headers (RFC 3261 §10.3 step 5).
    /// For `tel` the number without visual separators (RFC 3966 §3), and the context of a local
    /// one. `None` without a user, and for other schemes.
    #[must_use]
    pub fn aor(&self) -> Option<String> {
        let user = self.user.as_deref()?;
        match self.scheme {
            Scheme::Sip | Scheme::Sips => {
                let host = self.host.to_string().to_ascii_lowercase();
                self.aor_at(host.strip_suffix('.').unwrap_or(&host))
            }
            Scheme::Tel => {
                let number = number(user);
                match self.params.value("phone-context") {
                    Some(context) if !number.starts_with('+') => {
                        Some(format!("tel:{number};phone-context={}", context.to_ascii_lowercase()))
                    }
                    _ => Some(format!("tel:{number}")),
                }
            }
            Scheme::Other(_) => None,
        }
    }

    /// The address of record of this URI's user at `host`, whatever the URI itself says of the
    /// host: `sip:user@host`. `None` without a user, and for other schemes.
    #[must_use]
    pub fn aor_at(&self, host: &str) -> Option<String> {
        let user = self.user.as_deref().filter(|_| self.scheme.is_sip())?;
        let mut out = String::with_capacity("sip:@".len() + user.len() + host.len());
        out.push_str("sip:");
        unescape_into(&mut out, user, is_unreserved);
        out.push('@');
        out.push_str(host);
        Some(out)
    }

    /// Whether both mean the same resource (RFC 3261 §19.1.4, RFC 3966 §5). Not transitive: a
    /// parameter that only one of them has is ignored, with the exceptions of that section.
    #[must_use]
    pub fn same_as(&self, other: &Uri) -> bool {
        if self.scheme != other.scheme || self.host != other.host || self.port != other.port {
            return false;
        }
        let plain = |part: &Option<String>| part.as_deref().map(|p| unescape(p, is_not_reserved));
        let users = match self.scheme {
            Scheme::Tel => self.user.as_deref().map(number) == other.user.as_deref().map(number),
            Scheme::Other(_) => self.user == other.user,
            _ => plain(&self.user) == plain(&other.user),
        };
        users
            && plain(&self.password) == plain(&other.password)
            && self.params_allow(other)
            && other.params_allow(self)
            && headers_sorted(self.headers.as_deref()) == headers_sorted(other.headers.as_deref())
    }

    fn params_allow(&self, other: &Uri) -> bool {
        let strict = ["user", "ttl", "method", "maddr", "transport"];
        self.params.iter().all(|(name, value)| match other.params.get(name) {
            Some(theirs) => same_text(value, theirs),
            None if self.scheme == Scheme::Tel => false,
            None => !strict.iter().any(|s| s.eq_ignore_ascii_case(name)),
        })
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme.as_str())?;
        if let Some(user) = &self.user {
            f.write_str(user)?;
            if let Some(password) = &self.password {
                write!(f, ":{password}")?;
            }
            if self.scheme.is_sip() {
                f.write_str("@")?;
            }
        }
        if self.scheme.is_sip() {
            write!(f, "{}", self.host)?;
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, "{}", self.params)?;
        match &self.headers {
            Some(headers) => write!(f, "?{headers}"),
            None => Ok(()),
        }
    }
}

fn read(octets: &[u8]) -> Option<Uri> {
    let colon = memchr::memchr(b':', octets)?;
    let (scheme, rest) = (octets.get(..colon)?, octets.get(colon + 1..)?);
    if rest.is_empty() || !rest.iter().all(|&o| is_uri_octet(o)) || !escapes_are_whole(rest) {
        return None;
    }
    let scheme = match scheme {
        s if s.eq_ignore_ascii_case(b"sip") => Scheme::Sip,
        s if s.eq_ignore_ascii_case(b"sips") => Scheme::Sips,
        s if s.eq_ignore_ascii_case(b"tel") => Scheme::Tel,
        [first, tail @ ..]
            if first.is_ascii_alphabetic()
                && tail.iter().all(|o| o.is_ascii_alphanumeric() || b"+-.".contains(o)) =>
        {
            Scheme::Other(text(scheme)?.to_ascii_lowercase().into())
        }
        _ => return None,
    };
    match scheme {
        Scheme::Sip | Scheme::Sips => read_sip(scheme, rest),
        Scheme::Tel => {
            let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
            let (number, params) = rest.split_at_checked(end)?;
            let legal = |o: &u8| o.is_ascii_hexdigit() || b"+-.()*#".contains(o);
            if !number.iter().all(legal) || !number.iter().any(u8::is_ascii_hexdigit) {
                return None;
            }
            Some(opaque(scheme, text(number)?, Params::of_uri(params).ok()?.1))
        }
        Scheme::Other(_) => Some(opaque(scheme, text(rest)?, Params::new())),
    }
}

fn opaque(scheme: Scheme, user: String, params: Params) -> Uri {
    let host = Host::Name(String::new());
    Uri { scheme, user: Some(user), password: None, host, port: None, params, headers: None }
}

/// The first `@` ends the user: it may stand nowhere before unescaped, and a second one makes the
/// host unreadable, so that nobody can hide one address behind another.
fn read_sip(scheme: Scheme, rest: &[u8]) -> Option<Uri> {
    let (user, password, rest) = match memchr::memchr(b'@', rest) {
        None => (None, None, rest),
        Some(at) => {
            let info = rest.get(..at)?;
            let (user, password) = match memchr::memchr(b':', info) {
                Some(colon) => (info.get(..colon)?, info.get(colon + 1..)),
                None => (info, None),
            };
            if user.is_empty() {
                return None;
            }
            let password = match password {
                Some(password) => Some(text(password)?),
                None => None,
            };
            (Some(text(user)?), password, rest.get(at + 1..)?)
        }
    };
    let (rest, headers) = match memchr::memchr(b'?', rest) {
        Some(at) => (rest.get(..at)?, Some(text(rest.get(at + 1..)?)?)),
        None => (rest, None),
    };
    let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
    let (at_host, params) = rest.split_at_checked(end)?;
    let (host, port) = Host::with_port(at_host)?;
    let params = Params::of_uri(params).ok()?.1;
    Some(Uri { scheme, user, password, host, port, params, headers })
}

fn text(octets: &[u8]) -> Option<String> {
    std::str::from_utf8(octets).ok().map(str::to_owned)
}

fn is_uri_octet(octet: u8) -> bool {
    (b'!'..=b'~').contains(&octet) && !matches!(octet, b'<' | b'>' | b'"')
}

fn escapes_are_whole(octets: &[u8]) -> bool {
    memchr::memchr_iter(b'%', octets).all(|at| {
        octets.get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    })
}

fn is_unreserved(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&octet)
}

fn is_not_reserved(octet: u8) -> bool {
    !b";/?:@&=+$,".contains(&octet)
}

/// Resolves the escapes of the octets that `plain` names, and spells the others in capitals.
fn unescape(part: &str, plain: fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(part.len());
    unescape_into(&mut out, part, plain);
    out
}

fn unescape_into(out: &mut String, part: &str, plain: fn(u8) -> bool) {
    let mut rest = part;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let hex = after.get(..2).unwrap_or_default();
        match u8::from_str_radix(hex, 16) {
            Ok(octet) if octet.is_ascii() && plain(octet) => out.push(char::from(octet)),
            _ => {
                out.push('%');
                out.push_str(&hex.to_ascii_uppercase());
            }
        }
        rest = after.get(hex.len()..).unwrap_or_default();
    }
    out.push_str(rest);
}

fn number(spelled: &str) -> String {
    spelled.chars().filter(|c| !"-.()".contains(*c)).map(|c| c.to_ascii_lowercase()).collect()
}

fn same_text(a: Option<&str>, b: Option<&str>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            unescape(a, is_not_reserved).eq_ignore_ascii_case(&unescape(b, is_not_reserved))
        }
        _ => false,
    }
}

fn headers_sorted(headers: Option<&str>) -> Vec<String> {
    let parts = headers.into_iter().flat_map(|h| h.split('&')).filter(|p| !p.is_empty());
    let mut sorted: Vec<String> = parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let name = unescape(name, is_not_reserved).to_ascii_lowercase();
            format!("{name}={}", unescape(value, is_not_reserved))
        })
        .collect();
    sorted.sort_unstable();
    sorted
}

#[cfg(test)]
mod tests;
