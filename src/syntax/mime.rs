//! Media types and multipart bodies (RFC 2045, RFC 2046, RFC 5621): what a body is, which parts it
//! has, which text a person would read in it, and whether an Accept list takes it.

use std::fmt;

use bytes::Bytes;
use memchr::memchr;

use super::cpim::Cpim;
use crate::base::limits;

mod transfer;

/// Why a body or a media type cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MimeFault {
    /// Not `type/subtype *(;name=value)`.
    #[error("malformed media type")]
    MediaType,
    /// No boundary, longer than 70 characters, or with characters no boundary has.
    #[error("malformed multipart boundary")]
    Boundary,
    /// The boundary occurs nowhere in the body.
    #[error("multipart body without parts")]
    NoParts,
    /// More parts than `limits::MULTIPART_PARTS_MAX`.
    #[error("too many parts")]
    TooManyParts,
    /// A header line without a colon or without a name.
    #[error("malformed header line in a body")]
    Header,
    /// More header lines than `limits::HEADERS_MAX`.
    #[error("too many header lines in a body")]
    TooManyHeaders,
}

/// Header fields of a body: name and value as they were written, blanks around the value cut, in
/// order. A folded value (RFC 5322 §2.2.3) keeps its line ends.
pub type Fields = Vec<(Bytes, Bytes)>;

/// A media type with its parameters (RFC 2045 §5.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaType {
    essence: String,
    params: Vec<(String, String)>,
}

/// Whether a Content-Type value names `type/subtype`, in any case; its parameters are not read.
#[must_use]
pub fn is(content_type: &[u8], essence: &str) -> bool {
    self::essence(content_type).eq_ignore_ascii_case(essence.as_bytes())
}

/// Whether a Content-Type value names a multipart type (RFC 2046 §5.1).
#[must_use]
pub fn is_multipart(content_type: &[u8]) -> bool {
    split_once(essence(content_type), b'/').0.eq_ignore_ascii_case(b"multipart")
}

fn essence(content_type: &[u8]) -> &[u8] {
    split_once(content_type, b';').0.trim_ascii()
}

impl MediaType {
    /// Reads the value of a Content-Type header. Type, subtype and parameter names become lower
    /// case, quoted values lose their quotes, all values their control characters; parameters
    /// without a name or without `=` are skipped.
    ///
    /// # Errors
    /// `MimeFault::MediaType` where type and subtype are not tokens around a slash, or where a
    /// quoted value does not end.
    pub fn parse(value: &[u8]) -> Result<MediaType, MimeFault> {
        let (essence, mut rest) = split_once(value, b';');
        let essence = essence.trim_ascii();
        let (top, sub) = split_once(essence, b'/');
        if !is_token(top) || !is_token(sub) {
            return Err(MimeFault::MediaType);
        }
        let mut params = Vec::new();
        while !rest.is_empty() {
            let (param, after) = split_quoted(rest, b';').ok_or(MimeFault::MediaType)?;
            if let Some(eq) = memchr(b'=', param) {
                let (name, value) = param.split_at(eq);
                let (name, value) = (name.trim_ascii(), value.get(1..).unwrap_or_default());
                if is_token(name) {
                    params.push((lower(name), unquote(value.trim_ascii())));
                }
            }
            rest = after;
        }
        Ok(MediaType { essence: lower(essence), params })
    }

    /// Whether this is `other` ("message/cpim"), whatever its case and parameters.
    #[must_use]
    pub fn is(&self, other: &str) -> bool {
        self.essence.eq_ignore_ascii_case(other)
    }

    /// `type/subtype` in lower case.
    #[must_use]
    pub fn essence(&self) -> &str {
        &self.essence
    }

    /// The type before the slash, in lower case.
    #[must_use]
    pub fn top(&self) -> &str {
        self.essence.split('/').next().unwrap_or_default()
    }

    /// The value of the first parameter of this name, whatever its case.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        let found = self.params.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The boundary, where there is one that RFC 2046 §5.1.1 allows.
    #[must_use]
    pub fn boundary(&self) -> Option<&str> {
        self.param("boundary").filter(|b| is_boundary(b))
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.essence)?;
        for (name, value) in &self.params {
            if is_token(value.as_bytes()) {
                write!(f, ";{name}={value}")?;
            } else {
                write!(f, ";{name}=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))?;
            }
        }
        Ok(())
    }
}

/// One part of a multipart body. Both halves share the octets of the whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// Its headers, in order.
    pub headers: Fields,
    /// Its content, as it was transferred.
    pub body: Bytes,
}

impl Part {
    /// The value of the first header of this name, whatever its case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        field(&self.headers, name)
    }

    /// What the part is: Content-Type, or text/plain where that is absent or unreadable
    /// (RFC 2045 §5.2).
    #[must_use]
    pub fn media_type(&self) -> MediaType {
        media_type(&self.headers)
    }
}

/// Cuts a multipart body at its boundary (RFC 2046 §5.1.1). Preamble and epilogue are dropped,
/// lines may end in a bare LF, and a body that ends before the closing delimiter keeps its last
/// part. One pass, nothing is copied.
///
/// # Errors
/// The boundary is none, no part is there, there are too many, or a part's headers are malformed.
pub fn parts(boundary: &str, body: &Bytes) -> Result<Vec<Part>, MimeFault> {
    if !is_boundary(boundary) {
        return Err(MimeFault::Boundary);
    }
    let (mut found, mut start, mut at) = (Vec::new(), None, 0);
    while at < body.len() {
        let (line, next) = line_at(body, at);
        let delimiter = delimiter(line, boundary.as_bytes());
        if let Some(last) = delimiter {
            if let Some(from) = start {
                push_part(&mut found, cut(body, from, before_line_end(body, from, at)))?;
            }
            start = (!last).then_some(next);
            if last {
                break;
            }
        }
        at = next;
    }
    if let Some(from) = start.filter(|from| *from < body.len()) {
        push_part(&mut found, cut(body, from, body.len()))?;
    }
    if found.is_empty() { Err(MimeFault::NoParts) } else { Ok(found) }
}

/// The first readable text of a body: of text/plain itself, of the first such part of a multipart
/// (however deep, to `limits::MULTIPART_DEPTH_MAX` containers), or of the content of a CPIM
/// message.
/// Base64 and quoted-printable are undone; utf-8, us-ascii and iso-8859-1 become a string. Attached
/// files and empty texts are passed over. `None` where nobody could read anything.
#[must_use]
pub fn first_text(content_type: &[u8], body: &Bytes) -> Option<String> {
    let kind = MediaType::parse(content_type).ok()?;
    readable(&kind, &[], body, 0)
}

/// Whether a list of media ranges (values of Accept header lines, RFC 3261 §20.1) takes
/// `media_type`. The most exact range decides and `q=0` in it refuses; other parameters are not
/// compared. No values at all accept nothing: what an absent header means is for the caller.
#[must_use]
pub fn accepts<'a>(values: impl IntoIterator<Item = &'a [u8]>, media_type: &str) -> bool {
    let Ok(wanted) = MediaType::parse(media_type.as_bytes()) else { return false };
    let mut best = (0, false);
    for value in values {
        let mut rest = value;
        while !rest.is_empty() {
            let (item, after) = split_quoted(rest, b',').unwrap_or((rest, &[]));
            rest = after;
            let Ok(range) = MediaType::parse(item) else { continue };
            let exactness = match range.essence.strip_suffix("/*") {
                Some("*") => 1,
                Some(top) if top == wanted.top() => 2,
                _ if range.essence == wanted.essence => 3,
                _ => continue,
            };
            let zero = |q: &str| !q.is_empty() && q.bytes().all(|o| matches!(o, b'0' | b'.'));
            let takes = !range.param("q").is_some_and(zero);
            if exactness > best.0 {
                best = (exactness, takes);
            } else if exactness == best.0 {
                best.1 |= takes;
            }
        }
    }
    best.1
}

/// Header lines and where they ended.
pub(super) struct Block {
    pub(super) fields: Fields,
    /// The octet after the blank line, or the end of the body.
    pub(super) end: usize,
    /// Whether a blank line was there.
    pub(super) closed: bool,
}

/// Reads MIME header lines of `body` from the octet `at` to the first blank line.
pub(super) fn header_block(body: &Bytes, mut at: usize) -> Result<Block, MimeFault> {
    let mut spans: Vec<(usize, usize, usize)> = Vec::new();
    let mut closed = false;
    while at < body.len() {
        let (line, next) = line_at(body, at);
        let end = at + line.len();
        if line.is_empty() {
            (at, closed) = (next, true);
            break;
        }
        if line.starts_with(b" ") || line.starts_with(b"\t") {
            spans.last_mut().ok_or(MimeFault::Header)?.2 = end;
        } else {
            let colon = memchr(b':', line).ok_or(MimeFault::Header)?;
            let name = line.get(..colon).unwrap_or_default().trim_ascii_end();
            if !is_token(name) {
                return Err(MimeFault::Header);
            }
            if spans.len() >= limits::HEADERS_MAX {
                return Err(MimeFault::TooManyHeaders);
            }
            spans.push((at, at + colon, end));
        }
        at = next;
    }
    let fields = spans
        .into_iter()
        .map(|(from, colon, end)| (trimmed(body, from, colon), trimmed(body, colon + 1, end)));
    Ok(Block { fields: fields.collect(), end: at, closed })
}

/// The first field of this name, whatever its case.
pub(super) fn field<'a>(fields: &'a [(Bytes, Bytes)], name: &str) -> Option<&'a [u8]> {
    let found = fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
    found.map(|(_, value)| value.as_ref())
}

/// What these fields say their content is; text/plain where they do not (RFC 2045 §5.2).
pub(super) fn media_type(fields: &[(Bytes, Bytes)]) -> MediaType {
    field(fields, "Content-Type")
        .and_then(|value| MediaType::parse(value).ok())
        .unwrap_or_else(|| MediaType { essence: "text/plain".to_owned(), params: Vec::new() })
}

/// The octets from `from` to `to`, sharing those of `body`.
pub(super) fn cut(body: &Bytes, from: usize, to: usize) -> Bytes {
    let to = to.min(body.len());
    body.slice(from.min(to)..to)
}

/// `cut` without blanks around it.
pub(super) fn trimmed(body: &Bytes, from: usize, to: usize) -> Bytes {
    let octets = body.get(from..to).unwrap_or_default();
    let kept = octets.trim_ascii_start();
    let from = from + (octets.len() - kept.len());
    cut(body, from, from + kept.trim_ascii_end().len())
}

/// The line at `at` without its line end (CRLF or LF), and where the next one begins.
pub(super) fn line_at(body: &[u8], at: usize) -> (&[u8], usize) {
    let rest = body.get(at..).unwrap_or_default();
    match memchr(b'\n', rest) {
        Some(lf) => {
            let line = rest.get(..lf).unwrap_or_default();
            (line.strip_suffix(b"\r").unwrap_or(line), at + lf + 1)
        }
        None => (rest, body.len()),
    }
}

fn readable(
    kind: &MediaType,
    fields: &[(Bytes, Bytes)],
    body: &Bytes,
    depth: usize,
) -> Option<String> {
    if kind.is("text/plain") {
        let attached = field(fields, "Content-Disposition")
            .is_some_and(|value| lower(split_once(value, b';').0.trim_ascii()) == "attachment");
        let encoding = field(fields, "Content-Transfer-Encoding").unwrap_or_default();
        let text = transfer::text(encoding, kind.param("charset"), body)?;
        return (!attached && !text.trim().is_empty()).then_some(text);
    }
    if depth >= limits::MULTIPART_DEPTH_MAX {
        return None;
    }
    if kind.is("message/cpim") {
        let cpim = Cpim::read(body).ok()?;
        return readable(&cpim.content_type(), cpim.content_headers(), cpim.content(), depth + 1);
    }
    if kind.top() == "multipart" {
        let parts = parts(kind.boundary()?, body).ok()?;
        let text = |p: &Part| readable(&p.media_type(), &p.headers, &p.body, depth + 1);
        return parts.iter().find_map(text);
    }
    None
}

fn push_part(found: &mut Vec<Part>, octets: Bytes) -> Result<(), MimeFault> {
    if found.len() >= limits::MULTIPART_PARTS_MAX {
        return Err(MimeFault::TooManyParts);
    }
    let block = header_block(&octets, 0)?;
    found.push(Part { headers: block.fields, body: cut(&octets, block.end, octets.len()) });
    Ok(())
}

/// `Some(false)` for a delimiter line, `Some(true)` for the closing one. Blanks may follow it.
fn delimiter(line: &[u8], boundary: &[u8]) -> Option<bool> {
    let tail = line.strip_prefix(b"--")?.strip_prefix(boundary)?;
    let (tail, last) = tail.strip_prefix(b"--").map_or((tail, false), |t| (t, true));
    tail.iter().all(|o| matches!(o, b' ' | b'\t')).then_some(last)
}

/// The line end before a delimiter belongs to the delimiter (RFC 2046 §5.1.1).
fn before_line_end(body: &[u8], from: usize, at: usize) -> usize {
    let part = body.get(from..at).unwrap_or_default();
    let part = part.strip_suffix(b"\n").unwrap_or(part);
    from + part.strip_suffix(b"\r").unwrap_or(part).len()
}

/// 1 to 70 printable US-ASCII characters, no blank at the end. Clients write more characters
/// unquoted than RFC 2046 lists, so the list is not enforced.
fn is_boundary(boundary: &str) -> bool {
    (1..=70).contains(&boundary.len())
        && !boundary.ends_with(' ')
        && boundary.bytes().all(|o| (b' '..=b'~').contains(&o))
}

fn is_token(octets: &[u8]) -> bool {
    let token = |o: &u8| o.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`{|}~".contains(o);
    !octets.is_empty() && octets.iter().all(token)
}

fn lower(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).to_ascii_lowercase()
}

fn split_once(octets: &[u8], at: u8) -> (&[u8], &[u8]) {
    match memchr(at, octets) {
        Some(i) => (octets.get(..i).unwrap_or_default(), octets.get(i + 1..).unwrap_or_default()),
        None => (octets, &[]),
    }
}

/// `split_once` that does not look into quoted strings; `None` where a quoted string does not end.
fn split_quoted(octets: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let (mut quoted, mut escaped) = (false, false);
    for (i, o) in octets.iter().enumerate() {
        if escaped {
            escaped = false;
        } else if quoted && *o == b'\\' {
            escaped = true;
        } else if *o == b'"' {
            quoted = !quoted;
        } else if !quoted && *o == at {
            return Some((octets.get(..i)?, octets.get(i + 1..)?));
        }
    }
    (!quoted).then_some((octets, &[]))
}

fn unquote(value: &[u8]) -> String {
    let inner = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
    let mut text = String::from_utf8_lossy(inner.unwrap_or(value)).into_owned();
    text.retain(|c| !c.is_control());
    if inner.is_none() || !text.contains('\\') {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

#[cfg(test)]
pub(crate) mod tests;
