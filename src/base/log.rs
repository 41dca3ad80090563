//! The words of the log: where a record stands, and the token that says it is on disk.

use std::sync::Arc;

use bytes::Bytes;

/// A place in one user's log. A restore or a lossy fail-over starts a new epoch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Position {
    /// Which life of the log.
    pub epoch: u32,
    /// Number of the record in it, from 1.
    pub seq: u64,
}

/// Proof that a batch is on disk. A final 2xx that promises something is built from it and from
/// nothing else; only the store's committer (after fsync), replay, and a simulated disk mint it.
#[derive(Clone, Copy, Debug)]
pub struct Stored {
    position: Position,
}

impl Stored {
    /// To be called where a sync has returned without error, or where what was synced has been read
    /// back; nowhere else.
    #[must_use]
    pub fn after_sync(last: Position) -> Stored {
        Stored { position: last }
    }

    /// The last record that is known to be on disk.
    #[must_use]
    pub fn position(self) -> Position {
        self.position
    }
}

/// Content too large for a record: kept as a file named by its SHA-256, written and synced before
/// the record that names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Blob {
    /// 64 lower-case hex digits.
    pub name: String,
    /// The octets.
    pub octets: Bytes,
}

/// One batch for one user's log: consecutive records, all or nothing.
#[derive(Clone, Debug)]
pub struct Append {
    /// Comes back with the outcome.
    pub ticket: u64,
    /// Whose log: the address of record.
    pub user: Arc<str>,
    /// Where its first record stands; it must be the next free place.
    pub position: Position,
    /// How many records the value holds.
    pub count: u32,
    /// The records, framed and checked (service/record.rs).
    pub value: Bytes,
    /// Files that must be on disk before the batch.
    pub blobs: Vec<Blob>,
}

impl Append {
    /// Where the last record of the batch stands.
    #[must_use]
    pub fn last(&self) -> Position {
        Position { epoch: self.position.epoch, seq: self.position.seq + u64::from(self.count) - 1 }
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// On disk.
    Stored(Stored),
    /// The place was taken: nothing was written.
    Conflict,
    /// It may or may not be on disk: read before doing anything else.
    Unknown,
    /// The store is broken and writes nothing more until it is closed and opened again.
    Failed,
}
