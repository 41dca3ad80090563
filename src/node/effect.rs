//! Everything the program can do to the world.

use std::sync::Arc;

use bytes::Bytes;

use crate::base::log::{Append, Position};
use crate::service::tu::{Content, Note};
use crate::stack::transport::Flow;

/// One thing to be done.
#[derive(Debug)]
pub enum Effect {
    /// Send a datagram, or write to a connection. An unknown connection is answered with
    /// [`Closed`](super::Input::Closed).
    Send {
        /// Where to.
        flow: Flow,
        /// What.
        octets: Bytes,
    },
    /// Open a connection under this flow's number; what is sent on it meanwhile waits.
    Connect(Flow),
    /// Close a connection.
    Close(Flow),
    /// Somebody has authenticated on this connection: it may stay idle longer.
    Proven(Flow),
    /// Write a batch, and tell what became of it.
    Append(Append),
    /// Read content.
    Fetch {
        /// Comes back with the octets.
        ticket: u64,
        /// Whose.
        user: Arc<str>,
        /// Where.
        at: Content,
    },
    /// Read the end of a user's log.
    Tail {
        /// Comes back with the batches.
        ticket: u64,
        /// Whose.
        user: Arc<str>,
        /// From where on.
        from: Position,
    },
    /// Answer the operator.
    Reply {
        /// The question's id.
        id: u64,
        /// The answer.
        reply: Reply,
    },
    /// Something worth a line; nothing depends on it.
    Note(Note),
    /// The store writes no more: close it, open it again, and start a new node from it.
    StoreBroken,
}

/// What an operator is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// It is done and on disk.
    Done,
    /// It cannot be done, and why, in words that say what to do.
    No(String),
    /// All accounts, by address.
    Accounts(Vec<AccountLine>),
    /// Counts.
    Status(Status),
}

/// One account as an operator sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountLine {
    /// Address of record.
    pub aor: String,
    /// Whether the configuration provides it.
    pub provisioned: bool,
    /// Devices known.
    pub devices: usize,
    /// Devices registered now.
    pub bound: usize,
    /// Messages that wait for somebody.
    pub waiting: usize,
}

/// How full the node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Accounts.
    pub accounts: usize,
    /// Devices registered now.
    pub bindings: usize,
    /// Messages that wait for somebody.
    pub waiting: usize,
    /// Transactions that have state.
    pub transactions: usize,
    /// Whether the store takes writes.
    pub store_works: bool,
}
