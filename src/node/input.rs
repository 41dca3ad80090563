//! Everything that can wake the program.

use bytes::Bytes;

use crate::base::log::{Outcome, Position};
use crate::service::record::AccountPut;
use crate::stack::transport::Flow;

/// One thing that happened in the world.
#[derive(Debug)]
pub enum Input {
    /// Octets came: a datagram, or the next piece of a stream.
    Octets {
        /// Where they came from.
        flow: Flow,
        /// What came.
        octets: Bytes,
    },
    /// A connection was accepted, or one that was asked for is there.
    Opened(Flow),
    /// A connection is gone, or could not be made.
    Closed(Flow),
    /// What became of a batch.
    Outcome {
        /// The batch's ticket.
        ticket: u64,
        /// What became of it.
        outcome: Outcome,
    },
    /// Content that was asked for; `None` if it cannot be read.
    Fetched {
        /// The question's ticket.
        ticket: u64,
        /// The octets.
        octets: Option<Bytes>,
    },
    /// The end of a user's log that was asked for; `None` if it cannot be read.
    Tail {
        /// The question's ticket.
        ticket: u64,
        /// First place, count and value of each batch from there on.
        batches: Option<Vec<(Position, u32, Bytes)>>,
    },
    /// The operator asks.
    Operator {
        /// Comes back with the reply.
        id: u64,
        /// What is asked.
        question: Question,
    },
    /// Time has passed: a deadline is due.
    Tick,
}

/// What an operator can ask of a running node.
#[derive(Debug)]
pub enum Question {
    /// Make an account, or change its password.
    AccountPut {
        /// Address of record.
        aor: String,
        /// What is kept of the password.
        credentials: AccountPut,
        /// Whether it must be new (or must exist).
        new: bool,
    },
    /// Remove an account.
    AccountRemove {
        /// Address of record.
        aor: String,
    },
    /// List accounts.
    Accounts,
    /// Counts.
    Status,
}
