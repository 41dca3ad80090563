//! Requests and responses: start line, headers, body (RFC 3261 §7).

use bytes::Bytes;

use super::fault::Fault;
use super::header::{CSeq, NameAddr, Via};
use super::headers::Headers;
use super::name::{Method, Name};
use super::scan::param;
use super::uri::Uri;
use crate::base::limits;

/// A request as it came in. The body is what Content-Length says.
#[derive(Clone, Debug)]
pub struct Request {
    /// What is asked.
    pub method: Method,
    /// The Request-URI as written.
    pub uri: Bytes,
    /// All headers.
    pub headers: Headers,
    /// The body octets.
    pub body: Bytes,
}

/// A response as it came in. The body is what Content-Length says.
#[derive(Clone, Debug)]
pub struct Response {
    /// 100 to 699.
    pub status: u16,
    /// The reason phrase as written; may be empty.
    pub reason: Bytes,
    /// All headers.
    pub headers: Headers,
    /// The body octets.
    pub body: Bytes,
}

/// A request or a response.
#[derive(Clone, Debug)]
pub enum Message {
    /// Starts with a method.
    Request(Request),
    /// Starts with the version.
    Response(Response),
}

macro_rules! common_reads {
    () => {
        /// The topmost Via value (RFC 3261 §18.1.2).
        ///
        /// # Errors
        /// 400 when it is missing or malformed.
        pub fn via(&self) -> Result<Via, Fault> {
            let value = self.headers.list(Name::Via).next();
            Via::parse(value.ok_or_else(|| Fault::missing(Name::Via))?)
        }

        /// The From header.
        ///
        /// # Errors
        /// 400 when it is missing or malformed.
        pub fn from(&self) -> Result<NameAddr, Fault> {
            address(&self.headers, Name::From)
        }

        /// The To header.
        ///
        /// # Errors
        /// 400 when it is missing or malformed.
        pub fn to(&self) -> Result<NameAddr, Fault> {
            address(&self.headers, Name::To)
        }

        /// The Call-ID, compared octet by octet (RFC 3261 §8.1.1.4).
        ///
        /// # Errors
        /// 400 when it is missing, empty, has a blank inside or is not UTF-8.
        pub fn call_id(&self) -> Result<&str, Fault> {
            let value = self.headers.get(Name::CallId);
            let value = value.ok_or_else(|| Fault::missing(Name::CallId))?;
            let blank = |o: &u8| super::grammar::is_blank(*o);
            match std::str::from_utf8(value) {
                Ok(text) if !text.is_empty() && !value.iter().any(blank) => Ok(text),
                _ => Err(Fault::malformed(Name::CallId)),
            }
        }

        /// The CSeq header (RFC 3261 §8.1.1.5).
        ///
        /// # Errors
        /// 400 when it is missing, malformed or not below 2^31.
        pub fn cseq(&self) -> Result<CSeq, Fault> {
            let value = self.headers.get(Name::CSeq);
            CSeq::parse(value.ok_or_else(|| Fault::missing(Name::CSeq))?)
        }
    };
}

impl Request {
    common_reads!();

    /// The Request-URI, read.
    ///
    /// # Errors
    /// 400 when it is malformed, 414 when it is too long.
    pub fn target(&self) -> Result<Uri, Fault> {
        Uri::parse(&self.uri).map_err(|fault| match fault.status {
            400 => Fault::new(400, "Malformed Request-URI"),
            _ => fault,
        })
    }

    /// Whether To has a tag: the request belongs to a dialog (RFC 3261 §12.2.2).
    #[must_use]
    pub fn is_in_dialog(&self) -> bool {
        self.headers.get(Name::To).is_some_and(|to| param(to, b"tag").is_some())
    }

    /// Max-Forwards, if there is one (RFC 3261 §20.22).
    ///
    /// # Errors
    /// 400 when it is no number up to 255.
    pub fn max_forwards(&self) -> Result<Option<u8>, Fault> {
        number(&self.headers, Name::MaxForwards)
    }

    /// Expires in seconds, if there is one (RFC 3261 §20.19).
    ///
    /// # Errors
    /// 400 when it is no number of 32 bits.
    pub fn expires(&self) -> Result<Option<u32>, Fault> {
        number(&self.headers, Name::Expires)
    }

    /// Whether the headers that every request carries (RFC 3261 §8.1.1) are there, once and
    /// readable, the Request-URI is, the CSeq names the request's method, and the Via count is
    /// within limits. A missing Max-Forwards passes (RFC 3261 §16.3 step 3).
    ///
    /// # Errors
    /// 400 or 414 with the first thing that is wrong.
    pub fn check(&self) -> Result<(), Fault> {
        let mut vias = 0;
        for value in self.headers.list(Name::Via) {
            vias += 1;
            if vias > limits::VIAS_MAX {
                return Err(Fault::new(400, "Too many Via headers"));
            }
            Via::parse(value)?;
        }
        if vias == 0 {
            return Err(Fault::missing(Name::Via));
        }
        for name in [Name::From, Name::To, Name::CallId, Name::CSeq, Name::MaxForwards] {
            if self.headers.all(name).nth(1).is_some() {
                return Err(Fault::repeated(name));
            }
        }
        self.from()?;
        self.to()?;
        self.call_id()?;
        if self.cseq()?.method != self.method {
            return Err(Fault::new(400, "CSeq names another method"));
        }
        self.max_forwards()?;
        self.target()?;
        Ok(())
    }
}

impl Response {
    common_reads!();
}

fn address(headers: &Headers, name: Name) -> Result<NameAddr, Fault> {
    let value = headers.get(name).ok_or_else(|| Fault::missing(name))?;
    NameAddr::parse(value).map_err(|_| Fault::malformed(name))
}

fn number<T: std::str::FromStr>(headers: &Headers, name: Name) -> Result<Option<T>, Fault> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    super::grammar::digits(value).map(Some).ok_or_else(|| Fault::malformed(name))
}
