//! CPIM messages (RFC 3862) and the imdn headers inside them (RFC 5438 §6). A message that passes
//! through is only read here; its octets are forwarded as they came.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use memchr::memchr;

use super::mime::{self, Fields, MediaType};
use crate::base::limits;

mod write;

pub use write::{CpimWriter, rfc3339};

/// The identity that names nobody: in From it means the asserted identity of the sender.
pub const ANONYMOUS: &str = "sip:anonymous@anonymous.invalid";
/// The namespace of From, To, DateTime and the other headers of RFC 3862 §4.
pub const CORE: &str = "urn:ietf:params:cpim-headers:";
/// The namespace of the disposition headers (RFC 5438 §6.1).
pub const IMDN: &str = "urn:ietf:params:imdn";

/// Why a body is not a CPIM message that we would act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CpimFault {
    /// A line that is no header: no colon, no name, or control characters.
    #[error("malformed CPIM header line")]
    Line,
    /// Header lines beyond `limits::HEADERS_MAX` or `limits::HEADER_SECTION_OCTETS_MAX`.
    #[error("too many CPIM headers")]
    TooLarge,
    /// A header that must be there once and stands twice, or once more in another spelling; a
    /// reader that takes the other one would see another sender or another message.
    #[error("ambiguous CPIM header {0}")]
    Ambiguous(&'static str),
    /// A header whose value cannot be read.
    #[error("malformed CPIM header {0}")]
    Malformed(&'static str),
}

/// One header of the message, in the order of the message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// As written, prefix included. Case counts (RFC 3862 §2.2).
    pub name: Bytes,
    /// What stands between the colon and the blank: `;lang=fr`, or nothing.
    pub params: Bytes,
    /// The value without blanks around it, escapes kept.
    pub value: Bytes,
    /// The namespace the prefix was bound to where the header stands; `None` if to none.
    namespace: Option<Bytes>,
}

/// A person or a service, as From and To name it (RFC 3862 §4.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The formal name, escapes undone.
    pub display: Option<String>,
    /// The URI, without angle brackets, as written.
    pub uri: String,
}

impl Identity {
    /// An identity without a name.
    #[must_use]
    pub fn of(uri: &str) -> Identity {
        Identity { display: None, uri: uri.to_owned() }
    }

    /// Whether this is the identity that names nobody.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.uri.eq_ignore_ascii_case(ANONYMOUS)
    }
}

/// Which notifications the sender asks for (RFC 5438 §6.2). None where the header is absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    /// `positive-delivery`: tell me when it arrived.
    pub positive_delivery: bool,
    /// `negative-delivery`: tell me when it could not arrive.
    pub negative_delivery: bool,
    /// `display`: tell me when it was shown.
    pub display: bool,
    /// `processing`: tell me what servers did with it.
    pub processing: bool,
}

impl Wanted {
    /// Whether anything is asked for.
    #[must_use]
    pub fn any(self) -> bool {
        self != Wanted::default()
    }
}

impl fmt::Display for Wanted {
    /// The value of imdn.Disposition-Notification; empty where nothing is asked for.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.positive_delivery, "positive-delivery"),
            (self.negative_delivery, "negative-delivery"),
            (self.display, "display"),
            (self.processing, "processing"),
        ];
        let chosen: Vec<&str> = words.iter().filter(|(on, _)| *on).map(|(_, w)| *w).collect();
        f.write_str(&chosen.join(", "))
    }
}

/// A CPIM message. The content shares the octets of the body it was read from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cpim {
    headers: Vec<Header>,
    from: Option<Identity>,
    content_headers: Fields,
    content: Bytes,
}

impl Cpim {
    /// Reads a body: message headers, MIME headers of the content, content. The MIME headers of
    /// message/cpim itself (RFC 3862 §2.1) may stand before them, as in MSRP, or in the envelope,
    /// as in SIP. Lines may end in a bare LF. The content may be missing, and so may its headers
    /// (then it is text/plain).
    ///
    /// # Errors
    /// A line that is no header, too many of them, From unreadable, From or imdn.Message-ID not
    /// unique.
    pub fn read(body: &Bytes) -> Result<Cpim, CpimFault> {
        let (headers, at) = message_headers(body, after_outer_headers(body))?;
        let from = sole_from(&headers)?;
        let mut cpim = Cpim { headers, from, content_headers: Vec::new(), content: Bytes::new() };
        if cpim.all(IMDN, "Message-ID").nth(1).is_some() {
            return Err(CpimFault::Ambiguous("Message-ID"));
        }
        let block = mime::header_block(body, at).ok();
        let of_mime = |b: &mime::Block| b.closed || b.fields.iter().all(|(n, _)| is_mime(n));
        // Text that a client put where the MIME headers belong is still what a person wrote.
        let (fields, at) = block.filter(of_mime).map_or((Vec::new(), at), |b| (b.fields, b.end));
        (cpim.content_headers, cpim.content) = (fields, mime::cut(body, at, body.len()));
        Ok(cpim)
    }

    /// All message headers in order.
    #[must_use]
    pub fn headers(&self) -> &[Header] {
        &self.headers
    }

    /// The value of the first header `name` of `namespace`, whatever the prefix it is written with.
    #[must_use]
    pub fn header(&self, namespace: &str, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|h| h.is(namespace, name)).map(|h| h.value.as_ref())
    }

    /// Every header `name` of `namespace`.
    pub fn all<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = &'a Header> + 'a {
        self.headers.iter().filter(move |h| h.is(namespace, name))
    }

    /// Who sent it, by its own word.
    #[must_use]
    pub fn from(&self) -> Option<&Identity> {
        self.from.as_ref()
    }

    /// The first readable To.
    #[must_use]
    pub fn to(&self) -> Option<Identity> {
        self.all(CORE, "To").find_map(|h| identity(&h.value))
    }

    /// DateTime as written (RFC 3339).
    #[must_use]
    pub fn date_time(&self) -> Option<&str> {
        self.text(CORE, "DateTime")
    }

    /// The first Subject, escapes undone.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        self.text(CORE, "Subject").map(|s| unescape(s).into_owned())
    }

    /// imdn.Message-ID, where it is not empty.
    #[must_use]
    pub fn message_id(&self) -> Option<&str> {
        self.text(IMDN, "Message-ID")
    }

    /// Which notifications are asked for. Words that we do not know are passed over.
    #[must_use]
    pub fn dispositions(&self) -> Wanted {
        let mut wanted = Wanted::default();
        for header in self.all(IMDN, "Disposition-Notification") {
            for word in header.value.split(|o| *o == b',') {
                let word = word.split(|o| *o == b';').next().unwrap_or_default().trim_ascii();
                match word.to_ascii_lowercase().as_slice() {
                    b"positive-delivery" => wanted.positive_delivery = true,
                    b"negative-delivery" => wanted.negative_delivery = true,
                    b"display" => wanted.display = true,
                    b"processing" => wanted.processing = true,
                    _ => {}
                }
            }
        }
        wanted
    }

    /// Names of headers that a reader must understand (RFC 3862 §4.7), as written.
    pub fn requires(&self) -> impl Iterator<Item = &str> {
        self.all(CORE, "Require")
            .filter_map(|h| str::from_utf8(&h.value).ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|name| !name.is_empty())
    }

    /// The MIME headers of the content, in order.
    #[must_use]
    pub fn content_headers(&self) -> &Fields {
        &self.content_headers
    }

    /// The value of the first MIME header of the content of this name, whatever its case.
    #[must_use]
    pub fn content_header(&self, name: &str) -> Option<&[u8]> {
        mime::field(&self.content_headers, name)
    }

    /// What the content is: its Content-Type, or text/plain where that is absent or unreadable.
    #[must_use]
    pub fn content_type(&self) -> MediaType {
        mime::media_type(&self.content_headers)
    }

    /// The content, octet for octet, to the end of the body (Content-Length inside a CPIM message
    /// is not believed).
    #[must_use]
    pub fn content(&self) -> &Bytes {
        &self.content
    }

    fn text(&self, namespace: &str, name: &str) -> Option<&str> {
        str::from_utf8(self.header(namespace, name)?).ok().filter(|text| !text.is_empty())
    }
}

impl Header {
    /// Whether this is `name` of `namespace`.
    #[must_use]
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.namespace.as_deref() == Some(namespace.as_bytes()) && self.local() == name.as_bytes()
    }

    fn prefix(&self) -> &[u8] {
        memchr(b'.', &self.name).and_then(|dot| self.name.get(..dot)).unwrap_or_default()
    }

    fn local(&self) -> &[u8] {
        let dot = memchr(b'.', &self.name).map_or(0, |dot| dot + 1);
        self.name.get(dot..).unwrap_or_default()
    }
}

/// Where the message headers begin: after MIME headers that say message/cpim, else at once.
fn after_outer_headers(body: &Bytes) -> usize {
    mime::header_block(body, 0)
        .ok()
        .filter(|b| b.fields.iter().all(|(name, _)| is_mime(name)))
        .filter(|b| mime::media_type(&b.fields).is("message/cpim"))
        .map_or(0, |b| b.end)
}

fn is_mime(name: &[u8]) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with(b"content-") || name == b"mime-version"
}

fn message_headers(body: &Bytes, start: usize) -> Result<(Vec<Header>, usize), CpimFault> {
    let mut headers: Vec<Header> = Vec::new();
    let mut bound: Vec<(Bytes, Bytes)> = vec![
        (Bytes::new(), Bytes::from_static(CORE.as_bytes())),
        // Some clients use the prefix without binding it.
        (Bytes::from_static(b"imdn"), Bytes::from_static(IMDN.as_bytes())),
    ];
    let mut at = start;
    while at < body.len() {
        let (line, next) = mime::line_at(body, at);
        if line.is_empty() {
            return Ok((headers, next));
        }
        if headers.len() >= limits::HEADERS_MAX || next - start > limits::HEADER_SECTION_OCTETS_MAX
        {
            return Err(CpimFault::TooLarge);
        }
        let mut header = split_line(body, at, line).ok_or(CpimFault::Line)?;
        if header.name.as_ref() == b"NS" {
            let (prefix, uri) = binding(&header.value).ok_or(CpimFault::Malformed("NS"))?;
            bound.push((prefix, uri));
            header.namespace = Some(Bytes::from_static(CORE.as_bytes()));
        } else {
            let of_prefix = bound.iter().rev().find(|(prefix, _)| prefix == header.prefix());
            header.namespace = of_prefix.map(|(_, uri)| uri.clone());
        }
        headers.push(header);
        at = next;
    }
    Ok((headers, at))
}

/// `name:[;params] value`. Header names have no blanks; values have no control characters but TAB.
fn split_line(body: &Bytes, at: usize, line: &[u8]) -> Option<Header> {
    let colon = memchr(b':', line)?;
    let (name, rest) = (line.get(..colon)?, line.get(colon + 1..)?);
    let graphic = |o: &u8| o.is_ascii_graphic();
    let control = |o: &u8| o.is_ascii_control() && *o != b'\t';
    if name.is_empty() || !name.iter().all(graphic) || rest.iter().any(control) {
        return None;
    }
    let blank = if rest.starts_with(b";") { memchr(b' ', rest).unwrap_or(rest.len()) } else { 0 };
    let value_at = at + colon + 1 + blank;
    Some(Header {
        name: mime::cut(body, at, at + colon),
        params: mime::cut(body, at + colon + 1, value_at),
        value: mime::trimmed(body, value_at, at + line.len()),
        namespace: None,
    })
}

/// `[prefix] <uri>` of an NS header (RFC 3862 §4.6).
fn binding(value: &Bytes) -> Option<(Bytes, Bytes)> {
    let open = memchr(b'<', value)?;
    let close = open + memchr(b'>', value.get(open..)?)?;
    Some((mime::trimmed(value, 0, open), mime::trimmed(value, open + 1, close)))
}

/// From, which must be one and must not have a twin that a reader less strict about case or
/// namespaces would take for it.
fn sole_from(headers: &[Header]) -> Result<Option<Identity>, CpimFault> {
    let looks_like = |h: &&Header| h.is(CORE, "From") || h.name.eq_ignore_ascii_case(b"From");
    let mut found = headers.iter().filter(looks_like);
    let Some(first) = found.next() else { return Ok(None) };
    if found.next().is_some() || !first.is(CORE, "From") {
        return Err(CpimFault::Ambiguous("From"));
    }
    identity(&first.value).map(Some).ok_or(CpimFault::Malformed("From"))
}

/// `[formal-name] <uri>`, or a bare URI as some clients write it.
fn identity(value: &[u8]) -> Option<Identity> {
    let text = str::from_utf8(value).ok()?.trim();
    let (display, rest) = match text.strip_prefix('"') {
        Some(quoted) => {
            let end = closing_quote(quoted)?;
            (quoted.get(..end)?, quoted.get(end + 1..)?.trim_start())
        }
        None => text.find('<').and_then(|open| text.split_at_checked(open)).unwrap_or(("", text)),
    };
    let uri = match rest.strip_prefix('<') {
        Some(inner) => inner.strip_suffix('>')?,
        None if display.is_empty() => rest,
        None => return None,
    };
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"');
    if !uri.contains(':') || uri.contains(odd) {
        return None;
    }
    let display = Some(unescape(display.trim()).into_owned()).filter(|d| !d.is_empty());
    Some(Identity { display, uri: uri.to_owned() })
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|o| {
        let closes = o == b'"' && !escaped;
        escaped = o == b'\\' && !escaped;
        closes
    })
}

/// Undoes the escapes of RFC 3862 §2.3. A backslash before anything else stands for itself.
fn unescape(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let plain = match after.chars().next() {
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('b') => Some('\u{8}'),
            Some(c @ ('\\' | '"' | '\'')) => Some(c),
            _ => None,
        };
        let hex = after.strip_prefix('u').and_then(|hex| hex.get(..4));
        let coded = hex.and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        out.push(plain.or(coded).unwrap_or('\\'));
        let used = if plain.is_some() { 1 } else { coded.map_or(0, |_| 5) };
        rest = after.get(used..).unwrap_or_default();
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
