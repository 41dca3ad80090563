//! What passed lately: the server loop pushes raw messages, a look formats them. Bodies and
//! secrets never leave this module.

mod ladder;
mod line;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::base::limits;
use crate::base::now::Unix;

pub use ladder::Ladder;

use super::config::Protocol;

/// Which way a message went, seen from us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// To us.
    In,
    /// From us.
    Out,
}

/// The last messages that passed: at most [`limits::TRACE_RING_MAX`] of them and
/// [`limits::TRACE_OCTETS_MAX`] octets.
#[derive(Debug, Default)]
pub struct TraceRing {
    entries: VecDeque<Entry>,
    octets: usize,
    /// Number of the entry that comes next.
    next: u64,
}

/// One message as it passed.
#[derive(Clone, Debug)]
struct Entry {
    at: Unix,
    direction: Direction,
    protocol: Protocol,
    local: SocketAddr,
    peer: SocketAddr,
    octets: Bytes,
}

/// What a look wants to see.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// `sip:alice@a.example`, `alice@a.example` or `alice`: stands in From, To or Contact.
    pub account: Option<String>,
    /// The Call-ID.
    pub call: Option<String>,
}

/// One message for the eye: no body, no credentials, no control characters.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Line {
    /// Its number since the start of the server.
    pub number: u64,
    /// Milliseconds since 1970 (UTC).
    pub at: u64,
    /// Which way it went.
    pub direction: Option<Direction>,
    /// `udp` or `tcp`.
    pub protocol: String,
    /// Our address.
    pub local: String,
    /// The other's address.
    pub peer: String,
    /// Request line without the version, or status code and reason; `(keep-alive)` and
    /// `(not SIP)` for what is neither.
    pub start: String,
    /// The value of Call-ID.
    pub call_id: Option<String>,
    /// The value of CSeq.
    pub cseq: Option<String>,
    /// The URI of From.
    pub from: Option<String>,
    /// The URI of To.
    pub to: Option<String>,
    /// The value of Content-Type.
    pub content_type: Option<String>,
    /// Octets of the body.
    pub body_octets: usize,
    /// Headers with credentials, as `Authorization: (hidden)`.
    pub hidden: Vec<String>,
    /// Why the message could not be read, if so.
    pub fault: Option<String>,
}

impl TraceRing {
    /// Remembers one message. Nothing is parsed or copied here: nobody may be looking.
    pub fn push(
        &mut self,
        at: Unix,
        direction: Direction,
        protocol: Protocol,
        local: SocketAddr,
        peer: SocketAddr,
        octets: Bytes,
    ) {
        self.octets += octets.len();
        self.entries.push_back(Entry { at, direction, protocol, local, peer, octets });
        self.next += 1;
        while self.entries.len() > limits::TRACE_RING_MAX || self.octets > limits::TRACE_OCTETS_MAX
        {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.octets -= oldest.octets.len();
        }
    }

    /// The messages from number `cursor` on that `filter` lets through, and the cursor for the
    /// next look. It goes through at most `max` messages and never more than
    /// [`limits::TRACE_LOOK_MAX`], so there may be more: look again until the cursor stands still.
    /// A cursor before the oldest message starts there; one from another life of the server
    /// (beyond the newest message) starts at the oldest too.
    #[must_use]
    pub fn since(&self, cursor: u64, filter: &Filter, max: usize) -> (Vec<Line>, u64) {
        let oldest = self.next.saturating_sub(self.entries.len() as u64);
        let start = if cursor > self.next { oldest } else { cursor.max(oldest) };
        let skip = usize::try_from(start - oldest).unwrap_or(usize::MAX);
        let mut next = start;
        let mut lines = Vec::new();
        for entry in self.entries.iter().skip(skip).take(max.min(limits::TRACE_LOOK_MAX)) {
            lines.extend(line::show(next, entry, filter));
            next += 1;
        }
        (lines, next)
    }

    /// How many messages are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing passed yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
