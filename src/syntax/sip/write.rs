//! The only way octets of SIP leave: start line, names and framing are ours, values stay as given.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use bytes::{BufMut, Bytes, BytesMut};

use super::grammar::{elements, has_control, is_token};
use super::header::Via;
use super::headers::Headers;
use super::msg::Request;
use super::name::{Method, Name};

/// Builds one message. A control character inside a value (CR and LF above all; not HTAB) becomes a
/// blank, so that no value can begin a header or a message of its own.
#[derive(Debug)]
pub struct Writer {
    out: BytesMut,
}

impl Writer {
    /// Begins a request.
    #[must_use]
    pub fn request(method: &Method, uri: &[u8]) -> Writer {
        let mut out = BytesMut::with_capacity(1024);
        put_word(&mut out, method.as_str().as_bytes());
        out.put_u8(b' ');
        put_word(&mut out, uri);
        out.put_slice(b" SIP/2.0\r\n");
        Writer { out }
    }

    /// Begins a response. With an empty `reason` the RFC's phrase is taken.
    #[must_use]
    pub fn response(status: u16, reason: &str) -> Writer {
        // Answers are kept for half a minute: room that is not needed would be kept too.
        let mut out = BytesMut::with_capacity(RESPONSE_OCTETS);
        let reason = if reason.is_empty() { reason_phrase(status) } else { reason };
        out.put_slice(b"SIP/2.0 ");
        put_number(&mut out, usize::from(status));
        out.put_u8(b' ');
        put_value(&mut out, reason.as_bytes());
        out.put_slice(b"\r\n");
        Writer { out }
    }

    /// Adds a header line. Content-Length is left to [`Writer::finish`], and [`Name::Other`] has no
    /// spelling: both are ignored.
    pub fn header(&mut self, name: Name, value: impl AsRef<[u8]>) -> &mut Writer {
        self.joined(name, &[value.as_ref()])
    }

    /// Adds a header line whose value is these parts, one behind the other.
    pub fn joined(&mut self, name: Name, parts: &[&[u8]]) -> &mut Writer {
        if !matches!(name, Name::ContentLength | Name::Other) {
            self.out.put_slice(name.as_str().as_bytes());
            self.out.put_slice(b": ");
            parts.iter().for_each(|part| put_value(&mut self.out, part));
            self.out.put_slice(b"\r\n");
        }
        self
    }

    /// Adds a header line with this name; ignored when the name is no token or is Content-Length.
    pub fn named(&mut self, name: &[u8], value: impl AsRef<[u8]>) -> &mut Writer {
        if is_token(name) && Name::of(name) != Name::ContentLength {
            self.line(name, value.as_ref());
        }
        self
    }

    /// Adds all lines of that name, in order, values octet by octet.
    pub fn copy(&mut self, from: &Headers, name: Name) -> &mut Writer {
        for value in from.all(name) {
            self.header(name, value);
        }
        self
    }

    /// Adds ready lines, each ended by CRLF: the caller answers for them.
    pub fn raw_lines(&mut self, lines: &[u8]) -> &mut Writer {
        self.out.put_slice(lines);
        self
    }

    /// Adds Content-Length, the empty line and the body.
    #[must_use]
    pub fn finish(mut self, body: &[u8]) -> Bytes {
        self.out.put_slice(b"Content-Length: ");
        put_number(&mut self.out, body.len());
        self.out.put_slice(b"\r\n\r\n");
        self.out.put_slice(body);
        self.out.freeze()
    }

    fn line(&mut self, name: &[u8], value: &[u8]) {
        self.out.put_slice(name);
        self.out.put_slice(b": ");
        put_value(&mut self.out, value);
        self.out.put_slice(b"\r\n");
    }
}

/// What a stamp adds: an address and a port with their names.
const STAMP_OCTETS: usize = 80;
/// Most answers without a body are a little shorter.
const RESPONSE_OCTETS: usize = 640;

/// Begins the answer to a request (RFC 3261 §8.2.6.2): all Via, From, To, Call-ID, CSeq. The tag
/// is added where To has none. With an empty `reason` the RFC's phrase is taken.
#[must_use]
pub fn answer(req: &Request, status: u16, reason: &str, to_tag: Option<&str>) -> Writer {
    let mut writer = Writer::response(status, reason);
    writer.copy(&req.headers, Name::Via).copy(&req.headers, Name::From);
    let tag = to_tag.filter(|_| !req.is_in_dialog());
    match (req.headers.get(Name::To), tag) {
        (Some(to), Some(tag)) => writer.joined(Name::To, &[to, b";tag=", tag.as_bytes()]),
        (Some(to), None) => writer.header(Name::To, to),
        (None, _) => &mut writer,
    };
    writer.copy(&req.headers, Name::CallId).copy(&req.headers, Name::CSeq);
    writer
}

/// What the transport writes into the topmost Via of a request that came from `peer`: `received`
/// when the sent-by is another address (RFC 3261 §18.2.1) or `rport` was asked for, and the port
/// in `rport` (RFC 3581 §4). All other octets stay; a Via that cannot be read stays too.
#[must_use]
pub fn stamp(req: &Request, peer: SocketAddr) -> Request {
    let value = req.headers.get(Name::Via).unwrap_or_default();
    let top = elements(value).next().unwrap_or_default();
    let (Some(line), Ok(via)) = (req.headers.position(Name::Via), Via::parse(top)) else {
        return req.clone();
    };
    let address = peer.ip().to_canonical();
    let sent_by = match via.host {
        super::uri::Host::Name(_) => None,
        super::uri::Host::V4(v4) => Some(v4.into()),
        super::uri::Host::V6(v6) => Some(IpAddr::from(v6).to_canonical()),
    };
    let asked = via.rport().is_some();
    if !asked && sent_by == Some(address) && !via.params.has("received") {
        return req.clone();
    }
    let mut new = BytesMut::with_capacity(top.len() + STAMP_OCTETS);
    let received = Some(address).filter(|_| asked || sent_by != Some(address));
    if stamped(&mut new, &via, peer.port(), received).is_err() {
        return req.clone();
    }
    // Leading commas are no value; they go with the old one.
    let lead = (top.as_ptr() as usize).saturating_sub(value.as_ptr() as usize);
    let headers = req.headers.with_start_of_value(line, lead + top.len(), &new);
    Request { headers, ..req.clone() }
}

/// The Via with what we saw of its sender in place of what it says of itself.
fn stamped(out: &mut BytesMut, via: &Via, port: u16, received: Option<IpAddr>) -> std::fmt::Result {
    write!(out, "SIP/2.0/{} {}", via.transport, via.host)?;
    if let Some(port) = via.port {
        write!(out, ":{port}")?;
    }
    for (name, value) in via.params.iter() {
        match value {
            _ if name.eq_ignore_ascii_case("rport") => write!(out, ";rport={port}")?,
            // A peer may not tell us where it is.
            _ if name.eq_ignore_ascii_case("received") => {}
            Some(value) => write!(out, ";{name}={value}")?,
            None => write!(out, ";{name}")?,
        }
    }
    match received {
        Some(address) => write!(out, ";received={address}"),
        None => Ok(()),
    }
}

/// The phrase that the RFCs give a status; `Unknown` for one they do not name.
#[must_use]
pub fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        417 => "Unknown Resource-Priority",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        428 => "Use Identity Header",
        429 => "Provide Referrer Identity",
        430 => "Flow Failed",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity Info",
        437 => "Unsupported Credential",
        438 => "Invalid Identity Header",
        439 => "First Hop Lacks Outbound Support",
        440 => "Max-Breadth Exceeded",
        469 => "Bad Info Package",
        470 => "Consent Needed",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        555 => "Push Notification Service Not Supported",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        _ => "Unknown",
    }
}

fn put_value(out: &mut BytesMut, value: &[u8]) {
    let start = out.len();
    out.put_slice(value);
    if has_control(value) {
        for octet in out.get_mut(start..).unwrap_or_default() {
            if has_control(&[*octet]) {
                *octet = b' ';
            }
        }
    }
}

#[expect(clippy::expect_used, reason = "a growing buffer takes everything")]
fn put_number(out: &mut BytesMut, number: usize) {
    write!(out, "{number}").expect("a growing buffer");
}

/// A part of the request line: a blank inside would move the parts behind it.
fn put_word(out: &mut BytesMut, word: &[u8]) {
    let start = out.len();
    out.put_slice(word);
    for octet in out.get_mut(start..).unwrap_or_default() {
        if *octet <= b' ' || *octet == 0x7f {
            *octet = b'_';
        }
    }
}

#[cfg(test)]
mod tests;
