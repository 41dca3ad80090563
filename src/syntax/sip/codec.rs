//! Octets to messages (RFC 3261 §7): one pass over the head, nothing parsed that nobody asked for.
//! The only file that may name `rsip`, and only as an oracle in tests.

use bytes::{Buf, Bytes, BytesMut};
use memchr::{memchr, memrchr};
use nom::Parser;
use nom::bytes::complete::{tag, tag_no_case, take};
use nom::combinator::{opt, rest};
use smallvec::SmallVec;

use super::fault::Fault;
use super::grammar::{
    Read, count_control, digits, has_control, is_blank, is_token_octet, skip_blanks, trim,
};
use super::headers::{Entry, Headers};
use super::msg::{Message, Request, Response};
use super::name::{Method, Name};
use crate::base::limits;

/// Why a datagram is no message.
#[derive(Clone, Debug)]
pub enum Unreadable {
    /// Not SIP, or nothing that may be answered (a response, an ACK, no Via): drop it silently.
    Garbage,
    /// A request that deserves an answer.
    Answerable {
        /// As far as it could be read: Via, From, To, Call-ID and CSeq as they came. No body.
        request: Request,
        /// The answer.
        fault: Fault,
    },
}

/// Reads one whole message. The body is Content-Length octets; without that header it is the
/// rest; octets behind it are ignored (RFC 3261 §18.3). Empty lines in front are skipped.
///
/// # Errors
/// See [`Unreadable`]. The faults are 400, 413 (body), 414 (Request-URI), 505 (version) and 513
/// (headers beyond the limits).
#[expect(clippy::result_large_err, reason = "the refused request is the answer's raw material")]
pub fn read(datagram: Bytes) -> Result<Message, Unreadable> {
    let empty_lines = datagram.chunks(2).take_while(|two| two == b"\r\n").count();
    let mut message = datagram;
    message.advance(2 * empty_lines);
    let window = message.len().min(limits::HEADER_SECTION_OCTETS_MAX);
    let mut index = Index::of(message.get(..window).unwrap_or_default());
    let unfolded = index.folded.then(|| unfold(message.get(..window).unwrap_or_default()));
    if let Some(unfolded) = &unfolded {
        index = Index::of(unfolded);
    }
    if index.end.is_none() {
        index.refuse(match message.len() > window {
            true => TOO_LARGE,
            false => Fault::new(400, "No empty line behind the headers"),
        });
    }
    let end = index.end.unwrap_or(window);
    let mut head = message.split_to(end);
    if let Some(mut unfolded) = unfolded {
        unfolded.truncate(end);
        head = unfolded;
    }
    let Some(start) = StartLine::of(&head, index.start_line, &mut index.fault) else {
        return Err(Unreadable::Garbage);
    };
    let headers = Headers::new(head, &index.entries);
    let body = match index.fault {
        Some(fault) => Err(fault),
        None => cut_body(message, &headers),
    };
    match (start, body) {
        (StartLine::Request { method, uri }, Ok(body)) => {
            Ok(Message::Request(Request { method, uri, headers, body }))
        }
        (StartLine::Response { status, reason }, Ok(body)) => {
            Ok(Message::Response(Response { status, reason, headers, body }))
        }
        (StartLine::Request { method, uri }, Err(fault))
            if method != Method::Ack && headers.get(Name::Via).is_some() =>
        {
            let request = Request { method, uri, headers, body: Bytes::new() };
            Err(Unreadable::Answerable { request, fault })
        }
        (_, Err(_)) => Err(Unreadable::Garbage),
    }
}

fn cut_body(mut rest: Bytes, headers: &Headers) -> Result<Bytes, Fault> {
    if let Some(octets) = content_length(headers)? {
        if octets > rest.len() {
            return Err(Fault::new(400, "Content-Length exceeds the body"));
        }
        rest.truncate(octets);
    }
    if rest.len() > limits::BODY_OCTETS_MAX { Err(BODY_TOO_LARGE) } else { Ok(rest) }
}

pub(super) const TOO_LARGE: Fault = Fault::new(513, "Message Too Large");
pub(super) const BODY_TOO_LARGE: Fault = Fault::new(413, "Request Entity Too Large");
const CONTROL: Fault = Fault::new(400, "Control character in the headers");

/// What Content-Length says, if it is there. Twice is a fault, even with the same number: another
/// reader might take the other one.
pub(super) fn content_length(headers: &Headers) -> Result<Option<usize>, Fault> {
    let mut all = headers.all(Name::ContentLength);
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => {
            digits(value).map(Some).ok_or_else(|| Fault::malformed(Name::ContentLength))
        }
        _ => Err(Fault::repeated(Name::ContentLength)),
    }
}

/// The headers of a whole head, for the framer, which needs the length alone.
pub(super) fn headers_of(head: Bytes) -> Headers {
    let mut head = head;
    let mut index = Index::of(&head);
    if index.folded {
        head = unfold(&head);
        index = Index::of(&head);
    }
    Headers::new(head, &index.entries)
}

/// What the start line says; whether it is one at all.
pub(super) enum StartLine {
    /// Method and Request-URI.
    Request { method: Method, uri: Bytes },
    /// Status and reason phrase.
    Response { status: u16, reason: Bytes },
}

impl StartLine {
    /// Reads the first `end` octets of the head; a fault goes to `fault`, in front of others.
    fn of(head: &Bytes, end: usize, fault: &mut Option<Fault>) -> Option<StartLine> {
        let line = head.get(..end)?;
        if line.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/")) {
            let (_, (status, reason)) = status_line(line).ok()?;
            let status = digits(status).filter(|s| (100..700).contains(s))?;
            return Some(StartLine::Response { status, reason: head.slice_ref(reason) });
        }
        let method_end = memchr(b' ', line)?;
        let tail = trim(line.get(method_end..)?);
        let version = memrchr(b' ', tail).map_or(0, |at| at + 1);
        let (spelled, version) = (line.get(..method_end)?, tail.get(version..)?);
        let is_sip = |v: &[u8]| v.get(..4).is_some_and(|s| s.eq_ignore_ascii_case(b"SIP/"));
        if !is_sip(version) && !tail.split(|o| is_blank(*o)).any(is_sip) {
            return None;
        }
        let uri = trim(tail.get(..tail.len().checked_sub(version.len())?)?);
        let exact = method_end + uri.len() + version.len() + 2 == line.len();
        let method = Method::of(spelled);
        if !exact || method.is_none() || uri.is_empty() || uri.iter().any(|o| is_blank(*o)) {
            *fault = Some(Fault::new(400, "Malformed Request-Line"));
        } else if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            *fault = Some(Fault::new(505, "Version Not Supported"));
        } else if uri.len() > limits::URI_OCTETS_MAX {
            *fault = Some(Fault::new(414, "Request-URI Too Long"));
        } else if has_control(line) {
            *fault = Some(CONTROL);
        }
        let method = method.unwrap_or_else(|| {
            Method::Other(String::from_utf8_lossy(spelled).into_owned().into_boxed_str())
        });
        Some(StartLine::Request { method, uri: head.slice_ref(uri) })
    }
}

/// Some peers leave out the blank before an empty reason phrase.
fn status_line(line: &[u8]) -> Read<'_, (&[u8], &[u8])> {
    let (i, (_, _, status)) = (tag_no_case("SIP/2.0"), tag(" "), take(3usize)).parse(line)?;
    let (i, blank) = opt(tag(" ")).parse(i)?;
    if (blank.is_none() && !i.is_empty()) || has_control(i) {
        return super::grammar::no(i);
    }
    let (i, reason) = rest(i)?;
    Ok((i, (status, reason)))
}

/// Where the lines are.
struct Index {
    entries: SmallVec<[Entry; 32]>,
    /// Octets of the start line, without its end.
    start_line: usize,
    /// Behind the empty line.
    end: Option<usize>,
    /// The first thing that is wrong; reading went on, so that an answer finds its headers.
    fault: Option<Fault>,
    /// A line begins with a blank: nothing else here is right until the head is unfolded.
    folded: bool,
}

impl Index {
    fn of(head: &[u8]) -> Index {
        let mut index = Index {
            entries: SmallVec::new(),
            start_line: 0,
            end: None,
            fault: None,
            folded: false,
        };
        let (mut at, mut first, mut line_ends) = (0, true, 0);
        while let Some(rest) = head.get(at..) {
            let Some(octets) = memchr(b'\n', rest) else { break };
            let line = rest.get(..octets).unwrap_or_default();
            let next = at + octets + 1;
            let line = match line {
                [line @ .., b'\r'] => line,
                line => {
                    index.refuse(Fault::new(400, "Line does not end with CRLF"));
                    line
                }
            };
            line_ends += 2;
            if line.is_empty() && !first {
                index.end = Some(next);
                break;
            }
            if head.get(next).is_some_and(|o| is_blank(*o)) {
                index.folded = true;
                break;
            }
            if first {
                index.start_line = line.len();
                first = false;
            } else if index.entries.len() >= limits::HEADERS_MAX
                || line.len() > limits::HEADER_OCTETS_MAX
            {
                index.refuse(TOO_LARGE);
            } else {
                index.line(at, line);
            }
            at = next;
        }
        let read = head.get(..index.end.unwrap_or(at)).unwrap_or_default();
        if !index.folded && count_control(read) != line_ends {
            index.refuse(CONTROL);
        }
        index
    }

    fn refuse(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }

    #[expect(clippy::cast_possible_truncation, reason = "asserted beside Entry")]
    fn line(&mut self, at: usize, line: &[u8]) {
        let name_octets = line.iter().position(|&o| !is_token_octet(o)).unwrap_or(line.len());
        let Some((spelled, rest)) = line.split_at_checked(name_octets) else { return };
        let [b':', value @ ..] = skip_blanks(rest) else {
            return self.refuse(match memchr(b':', line) {
                Some(_) => Fault::new(400, "Malformed header name"),
                None => Fault::new(400, "Header line without a colon"),
            });
        };
        if spelled.is_empty() {
            return self.refuse(Fault::new(400, "Malformed header name"));
        }
        let name = Name::of(spelled);
        let value = trim(value);
        // `trim` only cuts, so the value lies inside the line.
        let offset = (value.as_ptr() as usize).saturating_sub(line.as_ptr() as usize);
        self.entries.push(Entry {
            name,
            start: at as u16,
            name_octets: spelled.len() as u16,
            value: (at + offset) as u16,
            value_octets: value.len() as u16,
        });
    }
}

/// A copy with every line end that is followed by a blank replaced by blanks (RFC 3261 §7.3.1),
/// of the same length. What follows the empty line is left alone.
fn unfold(head: &[u8]) -> Bytes {
    let mut copy = BytesMut::from(head);
    let mut at = 0;
    while let Some(octets) = copy.get(at..).and_then(|rest| memchr(b'\n', rest)) {
        let end = at + octets;
        let empty = at != 0 && matches!(copy.get(at..end), Some([] | [b'\r']));
        if empty {
            break;
        }
        if copy.get(end + 1).is_some_and(|o| is_blank(*o)) {
            let start = if end > at && copy.get(end - 1) == Some(&b'\r') { end - 1 } else { end };
            if let Some(fold) = copy.get_mut(start..=end) {
                fold.fill(b' ');
            }
        }
        at = end + 1;
    }
    copy.freeze()
}

#[cfg(test)]
mod tests;
