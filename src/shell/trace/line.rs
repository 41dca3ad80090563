//! One message becomes one line without its secrets.

use bytes::Bytes;

use crate::syntax::sip::{Contact, Headers, Message, Name, NameAddr, Unreadable, contacts, read};

use super::{Entry, Filter, Line};

/// Longest text of one column, in characters.
const TEXT_MAX: usize = 200;

/// Headers whose values let somebody in, or help to.
const SECRET: &[&str] = &[
    "Authorization",
    "Proxy-Authorization",
    "WWW-Authenticate",
    "Proxy-Authenticate",
    "Authentication-Info",
    "Proxy-Authentication-Info",
];

/// URI parameters that are addresses of a push service (RFC 8599) or access tokens.
const SECRET_PARAMS: &[&str] = &["pn-prid", "pn-param", "token", "access_token", "password"];

/// The line of an entry, if the filter lets it through.
pub(super) fn show(number: u64, entry: &Entry, filter: &Filter) -> Option<Line> {
    let mut line = Line {
        number,
        at: entry.at.0,
        direction: Some(entry.direction),
        protocol: entry.protocol.as_str().to_owned(),
        local: entry.local.to_string(),
        peer: entry.peer.to_string(),
        ..Line::default()
    };
    if entry.octets.iter().all(|octet| matches!(octet, b'\r' | b'\n')) {
        line.start = "(keep-alive)".to_owned();
        return filter.is_open().then_some(line);
    }
    let (message, fault) = match read(entry.octets.clone()) {
        Ok(message) => (message, None),
        Err(Unreadable::Answerable { request, fault }) => {
            (Message::Request(request), Some(fault.reason))
        }
        Err(Unreadable::Garbage) => {
            line.start = "(not SIP)".to_owned();
            line.body_octets = entry.octets.len();
            return filter.is_open().then_some(line);
        }
    };
    let (headers, body) = match &message {
        Message::Request(request) => {
            let uri = clean_uri(&String::from_utf8_lossy(&request.uri));
            line.start = clean(&format!("{} {uri}", request.method));
            (&request.headers, &request.body)
        }
        Message::Response(response) => {
            let reason = String::from_utf8_lossy(&response.reason);
            line.start = clean(&format!("{} {reason}", response.status));
            (&response.headers, &response.body)
        }
    };
    if !filter.passes(headers) {
        return None;
    }
    fill(&mut line, headers, body);
    line.fault = fault.map(|reason| clean(&reason));
    Some(line)
}

impl Filter {
    fn is_open(&self) -> bool {
        self.account.is_none() && self.call.is_none()
    }

    fn passes(&self, headers: &Headers) -> bool {
        if let Some(call) = &self.call
            && headers.get(Name::CallId) != Some(call.as_bytes())
        {
            return false;
        }
        let Some(account) = &self.account else { return true };
        let account = account.strip_prefix("sip:").unwrap_or(account);
        let (user, domain) = match account.split_once('@') {
            Some((user, domain)) => (user, Some(domain)),
            None => (account, None),
        };
        let of = |address: &NameAddr| address.uri.user.as_deref() == Some(user);
        let party = |name: Name| {
            let address = headers.get(name).and_then(|value| NameAddr::parse(value).ok());
            address.is_some_and(|address| {
                // A phone may know its domain by an address only.
                let host = address.uri.host.to_string();
                let numeric = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
                of(&address)
                    && domain.is_none_or(|domain| numeric || domain.eq_ignore_ascii_case(&host))
            })
        };
        // The host of a Contact is the phone's: its user part alone can match.
        let contact = || {
            contacts(headers).unwrap_or_default().iter().any(|contact| match contact {
                Contact::Addr(address) => of(address),
                Contact::Star => false,
            })
        };
        party(Name::From) || party(Name::To) || contact()
    }
}

fn fill(line: &mut Line, headers: &Headers, body: &Bytes) {
    let text = |name: Name| headers.get(name).map(|value| clean(&String::from_utf8_lossy(value)));
    let party = |name: Name| {
        let value = headers.get(name)?;
        Some(match NameAddr::parse(value) {
            Ok(address) => clean(&clean_uri(&address.uri.to_string())),
            Err(_) => "(unreadable)".to_owned(),
        })
    };
    line.call_id = text(Name::CallId);
    line.cseq = text(Name::CSeq);
    line.from = party(Name::From);
    line.to = party(Name::To);
    line.content_type = text(Name::ContentType).filter(|_| !body.is_empty());
    line.body_octets = body.len();
    for field in headers.iter() {
        let secret = SECRET.iter().find(|name| field.spelled.eq_ignore_ascii_case(name.as_bytes()));
        if let Some(name) = secret {
            line.hidden.push(format!("{name}: (hidden)"));
        }
    }
}

/// A URI without its password, its headers and the parameters that are secrets. It may be no URI
/// at all, so what is in doubt is hidden.
fn clean_uri(uri: &str) -> String {
    let (uri, headers) = match uri.split_once('?') {
        Some((uri, _)) => (uri, "?(hidden)"),
        None => (uri, ""),
    };
    let (scheme, rest) = match uri.split_once(':') {
        Some((scheme, rest)) => (format!("{scheme}:"), rest),
        None => (String::new(), uri),
    };
    let rest = hide_params(rest);
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:(hidden)@{host}"),
            None => rest,
        },
        None => rest,
    };
    format!("{scheme}{rest}{headers}")
}

fn hide_params(text: &str) -> String {
    let mut shown = String::new();
    for (at, part) in text.split(';').enumerate() {
        let name = part.split('=').next().unwrap_or_default().trim();
        if at > 0 {
            shown.push(';');
        }
        if at > 0 && SECRET_PARAMS.iter().any(|secret| name.eq_ignore_ascii_case(secret)) {
            shown.push_str(name);
            shown.push_str("=(hidden)");
        } else {
            shown.push_str(part);
        }
    }
    shown
}

/// A text that a terminal may print: short, and without control characters.
fn clean(text: &str) -> String {
    let mut clean: String = text
        .chars()
        .take(TEXT_MAX)
        .map(|c| if c.is_control() || is_bidi(c) { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(TEXT_MAX).is_some() {
        clean.push('…');
    }
    clean
}

/// Characters that turn the direction of what follows: they could rearrange a line.
fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
