//! The operator interface: HTTP over a Unix socket in the data directory. It knows nothing of the
//! node; it passes questions through a [`Door`] and writes the answers as JSON.

mod client;
mod server;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::base::limits;
use crate::base::pii::Pii;

use super::trace::Line;

pub use client::Client;
pub use server::Socket;

/// What an operator wants of the running server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OperatorRequest {
    /// Make an account.
    AccountAdd {
        /// `sip:user@domain`, as typed: the server checks it.
        uri: String,
        /// In clear.
        password: Pii<String>,
    },
    /// Every account.
    AccountList,
    /// Give an account another password.
    AccountPasswd {
        /// `sip:user@domain`, as typed.
        uri: String,
        /// In clear.
        password: Pii<String>,
    },
    /// Remove an account.
    AccountRemove {
        /// `sip:user@domain`, as typed.
        uri: String,
    },
    /// How the server is.
    Status,
    /// What passed since `cursor` ([`super::trace::TraceRing::since`]).
    TraceSince {
        /// Where the last look ended; 0 for what is remembered.
        cursor: u64,
        /// Only this account.
        account: Option<String>,
        /// Only this Call-ID.
        call: Option<String>,
        /// How many messages to look at, at most.
        max: usize,
    },
}

/// What the server says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum OperatorReply {
    /// Done, and on disk.
    Done,
    /// Every account, in order of names.
    Accounts {
        /// One line each.
        accounts: Vec<AccountLine>,
    },
    /// How the server is.
    Status(Box<Status>),
    /// What passed.
    Trace {
        /// In order.
        lines: Vec<Line>,
        /// Where the next look starts.
        next: u64,
    },
    /// Not done.
    Refused(Refusal),
}

/// One account of a list.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AccountLine {
    /// `sip:user@domain`.
    pub uri: String,
    /// Whether the configuration file provisions it.
    pub provisioned: bool,
    /// Devices known.
    pub devices: u32,
    /// Registered addresses.
    pub bindings: u32,
}

/// How the server is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Seconds since it was ready.
    pub uptime: u64,
    /// Its listeners: `udp:127.0.0.1:5060`.
    pub sip: Vec<String>,
    /// How many accounts.
    pub accounts: u64,
    /// How many registered addresses.
    pub bindings: u64,
    /// Messages that still wait for a device.
    pub waiting: u64,
    /// SIP transactions that are kept, answered ones included.
    #[serde(default)]
    pub transactions: u64,
    /// Whether the store takes writes.
    pub store_ok: bool,
    /// What the store has written since it was opened.
    #[serde(default)]
    pub written: Written,
}

/// What a store has written since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Written {
    /// Groups of batches, each committed as one.
    pub groups: u64,
    /// Batches, each of one user.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Times that the disk was waited for.
    pub syncs: u64,
}

/// Why something was not done, and what to do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// As HTTP says it: 400, 404, 409, 503.
    pub status: u16,
    /// Why.
    pub why: String,
    /// What to do.
    pub fix: String,
}

/// The way to the server loop: a request, and where the answer goes. Bounded by
/// [`limits::OPERATOR_REQUESTS_MAX`].
pub type Door = mpsc::Sender<(OperatorRequest, oneshot::Sender<OperatorReply>)>;

/// The server loop's end of a [`Door`].
pub type Visits = mpsc::Receiver<(OperatorRequest, oneshot::Sender<OperatorReply>)>;

/// A door and its two ends.
#[must_use]
pub fn door() -> (Door, Visits) {
    mpsc::channel(limits::OPERATOR_REQUESTS_MAX)
}

/// Where the socket of the server with this data directory is.
#[must_use]
pub fn socket_path(data: &Path) -> PathBuf {
    data.join("operator.sock")
}

impl OperatorReply {
    /// A refusal.
    #[must_use]
    pub fn refused(status: u16, why: impl Into<String>, fix: impl Into<String>) -> OperatorReply {
        OperatorReply::Refused(Refusal { status, why: why.into(), fix: fix.into() })
    }
}
