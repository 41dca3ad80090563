//! Stream octets to whole messages (RFC 3261 §18.3), and the keep-alive of RFC 5626 §4.4.1.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;

use super::codec::{BODY_TOO_LARGE, TOO_LARGE, content_length, headers_of};
use super::fault::Fault;
use super::name::Name;
use crate::base::limits;

/// What a stream yields.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// A whole message, head and body, for [`super::read`].
    Message(Bytes),
    /// The peer's ping (two CRLF): answer with one CRLF.
    KeepAlive,
    /// The stream cannot be cut any more: answer if there is a head, and close. Reading the head
    /// gives the request to answer; the fault here is the one to tell.
    Broken(Fault, Option<Bytes>),
}

/// Cuts one connection's octets. Holds at most two messages of the largest size; a broken one
/// yields nothing more. Call [`Framer::next`] until it is `None` after each push.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    /// Octets in front that hold no head's end.
    scanned: usize,
    /// Octets of the message whose head has been read, head included.
    whole: Option<usize>,
    overflow: bool,
    broken: bool,
}

/// Octets that may wait: one unfinished message, and what one read may bring.
const PENDING_MAX: usize = 2 * (limits::HEADER_SECTION_OCTETS_MAX + limits::BODY_OCTETS_MAX);

impl Framer {
    /// An empty one.
    #[must_use]
    pub fn new() -> Framer {
        Framer::default()
    }

    /// Whether nothing waits in it: then a new one would do as well.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.whole.is_none() && !self.broken && !self.overflow
    }

    /// Adds what was read from the connection.
    pub fn push(&mut self, octets: &[u8]) {
        if self.broken || self.overflow {
            return;
        }
        if self.buffer.len() + octets.len() > PENDING_MAX {
            self.overflow = true;
            return;
        }
        self.buffer.extend_from_slice(octets);
    }

    /// The next frame, if it is complete.
    #[expect(clippy::should_implement_trait, reason = "it may yield again after None")]
    pub fn next(&mut self) -> Option<Frame> {
        if self.broken {
            return None;
        }
        let frame = self.cut();
        if frame.is_none() && self.overflow {
            return self.stop(TOO_LARGE, None);
        }
        frame
    }

    fn cut(&mut self) -> Option<Frame> {
        if self.whole.is_none() {
            if self.buffer.starts_with(b"\r\n\r\n") {
                self.buffer.advance(4);
                return Some(Frame::KeepAlive);
            }
            // Half a ping, or an empty line before a message: the next octets decide.
            if b"\r\n\r\n".starts_with(&self.buffer) {
                return None;
            }
            if self.buffer.starts_with(b"\r\n") {
                self.buffer.advance(2);
            }
            let end = match self.head_end() {
                Some(end) if end <= limits::HEADER_SECTION_OCTETS_MAX => end,
                None if self.buffer.len() <= limits::HEADER_SECTION_OCTETS_MAX => return None,
                _ => {
                    let head = self.buffer.split_to(limits::HEADER_SECTION_OCTETS_MAX).freeze();
                    return self.stop(TOO_LARGE, Some(head));
                }
            };
            match self.whole_octets(end) {
                Ok(whole) => self.whole = Some(whole),
                Err(fault) => {
                    let head = self.buffer.split_to(end).freeze();
                    return self.stop(fault, Some(head));
                }
            }
        }
        let whole = self.whole.filter(|whole| *whole <= self.buffer.len())?;
        self.whole = None;
        self.scanned = 0;
        Some(Frame::Message(self.buffer.split_to(whole).freeze()))
    }

    /// Behind the first empty line. Resumes where the last search ended.
    fn head_end(&mut self) -> Option<usize> {
        while let Some(at) = self.buffer.get(self.scanned..).and_then(|rest| memchr(b'\n', rest)) {
            let end = self.scanned + at + 1;
            let empty = match self.buffer.get(end..) {
                Some([b'\n', ..]) => Some(end + 1),
                Some([b'\r', b'\n', ..]) => Some(end + 2),
                Some([] | [b'\r']) => {
                    self.scanned += at;
                    return None;
                }
                _ => None,
            };
            if empty.is_some() {
                return empty;
            }
            self.scanned = end;
        }
        self.scanned = self.buffer.len();
        None
    }

    fn whole_octets(&self, head: usize) -> Result<usize, Fault> {
        let octets = Bytes::copy_from_slice(self.buffer.get(..head).unwrap_or_default());
        match content_length(&headers_of(octets))? {
            None => Err(Fault::missing(Name::ContentLength)),
            Some(body) if body > limits::BODY_OCTETS_MAX => Err(BODY_TOO_LARGE),
            Some(body) => Ok(head + body),
        }
    }

    fn stop(&mut self, fault: Fault, head: Option<Bytes>) -> Option<Frame> {
        self.broken = true;
        self.buffer = BytesMut::new();
        let head = head.filter(|head| {
            use super::codec::{Unreadable, read};
            !matches!(read(head.clone()), Err(Unreadable::Garbage))
                && !head.get(..4).is_some_and(|s| s.eq_ignore_ascii_case(b"SIP/"))
        });
        Some(Frame::Broken(fault, head))
    }
}

#[cfg(test)]
mod tests;
