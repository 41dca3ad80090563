//! SIP messages (RFC 3261): the door to our own reader and writer.
//!
//! A message keeps its octets; headers are found once, parsed when somebody asks, and written by
//! [`Writer`] alone.

pub mod codec;
mod fault;
pub mod framer;
mod grammar;
pub mod header;
pub mod headers;
pub mod msg;
pub mod name;
pub mod params;
pub mod scan;
pub mod uri;
pub mod write;

#[cfg(test)]
mod wall;

pub use codec::{Unreadable, read};
pub use fault::Fault;
pub use framer::{Frame, Framer};
pub use header::{AuthParams, CSeq, Contact, NameAddr, Via, contacts};
pub use headers::{Field, Headers};
pub use msg::{Message, Request, Response};
pub use name::{Method, Name};
pub use params::Params;
pub use uri::{Host, Scheme, Uri};
pub use write::{Writer, answer, reason_phrase, stamp};
