//! The log on disk: one engine behind a trait, a thread that commits groups, files for large
//! content, and the checker.
//!
//! In the data directory: `lock` (held while open), `log/` (the engine's own files), `blobs/`
//! (content by its SHA-256), `mark` (how much was on disk at the last sync; see mark.rs).

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use crate::base::hash::Secret;
use crate::base::ids::Partition;
use crate::base::limits::{URI_OCTETS_MAX, VALUE_OCTETS_MAX};
use crate::base::log::{Append, Outcome, Position};

mod blobs;
mod check;
mod committer;
mod envelope;
mod index;
mod mark;
mod sled;
#[cfg(test)]
mod tests;

pub use self::blobs::Blobs;
pub use self::check::{Decode, Finding, Report, check};
pub use self::committer::{Committer, Counters, Handle, Refused, Report as Reporter};
pub use self::sled::SledEngine;

/// Batches between two calls of a progress function.
const PROGRESS_EVERY: u64 = 1000;
const UNREADABLE: &str = "a key cannot be read";

/// What replay calls for each batch: user, place of its first record, number of records, value.
/// An error says why the value cannot be read; replay ends with [`StoreError::Damaged`].
pub type Visit<'a> = dyn FnMut(&str, Position, u32, &[u8]) -> Result<(), String> + 'a;

/// Called now and then with (batches done, batches expected).
pub type Progress<'a> = dyn FnMut(u64, u64) + 'a;

/// A place where batches are kept. Opening is each engine's own affair.
pub trait Engine: Send {
    /// Every batch, damaged ones included, in the order of commits: users are mixed, the batches of
    /// each one come by position. Ends early when `visit` says `false`, and with an error where the
    /// engine itself cannot go on.
    fn walk(&self, visit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<(), StoreError>;

    /// Every batch, in the order of [`Engine::walk`], with proof that none is missing: positions of
    /// each user follow each other, checksums agree, no group is missing or torn, and there are at
    /// least as many as the mark says.
    fn replay(&self, visit: &mut Visit<'_>, progress: &mut Progress<'_>) -> Result<(), StoreError>;

    /// Writes the batches that stand at the next free place of their user; one sync for all. The
    /// outcomes stand in the order of `group`.
    ///
    /// A batch that breaks a bound refuses the whole group with [`StoreError::Refused`] and
    /// nothing is written. Any other error breaks the engine: what the group wrote may or may not
    /// be found when the store is opened again, and every later commit gives `Failed`.
    fn commit(&mut self, group: &[Append]) -> Result<Vec<Outcome>, StoreError>;

    /// The batch that contains the record at `position`.
    fn read(&self, user: &str, position: Position) -> Result<Option<Batch>, StoreError>;

    /// The batches of `user` from the one that contains `from` on, at most
    /// [`TAIL_MAX`](crate::base::limits::TAIL_MAX); for the time after `Outcome::Unknown`.
    fn tail(&self, user: &str, from: Position) -> Result<Vec<Batch>, StoreError>;

    /// The octets of a blob; never others than those that were stored under this name.
    fn blob(&self, name: &str) -> Result<Bytes, StoreError>;

    /// Figures for the operator. Before the first replay or commit, `tally` is the mark's.
    fn counts(&self) -> Counts;

    /// Syncs of this run.
    fn syncs(&self) -> u64;

    /// The secret of this store, made when it was created.
    fn secret(&self) -> Secret;
}

/// One batch as it is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Where its first record stands.
    pub first: Position,
    /// How many records the value holds.
    pub count: u32,
    /// The records.
    pub value: Bytes,
}

impl Batch {
    /// Where its last record stands.
    #[must_use]
    pub fn last(&self) -> Position {
        let more = u64::from(self.count).saturating_sub(1);
        Position { epoch: self.first.epoch, seq: self.first.seq.saturating_add(more) }
    }

    /// Whether the record at `position` is in it.
    #[must_use]
    pub fn holds(&self, position: Position) -> bool {
        self.first.epoch == position.epoch && self.first <= position && position <= self.last()
    }
}

/// One entry met by [`Engine::walk`].
#[derive(Debug)]
pub struct Entry<'a> {
    /// Whose, and where its first record stands; `None` where that cannot be read, or where
    /// something should be and is not.
    pub place: Option<(&'a str, Position)>,
    /// Number of records and the value, or what is wrong with it.
    pub content: Result<(u32, &'a [u8]), String>,
}

/// How much a log holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Batches.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
}

/// Figures of an open engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// What the log holds.
    pub tally: Tally,
    /// Octets of the engine's files, blobs not counted.
    pub octets_on_disk: u64,
    /// Syncs since it was opened.
    pub syncs: u64,
}

/// Why the store did not do what was asked; the text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has the directory open.
    #[error("the store in {} is in use: stop the cpmd that runs on it, or give another data directory", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// There is no store where one was expected.
    #[error("there is no store in {}: give the data directory of the server", path.display())]
    Absent {
        /// The data directory.
        path: PathBuf,
    },
    /// Something on disk is not what was written.
    #[error(
        "store damaged: {what} ({}). Stop cpmd, move the data directory aside, put a backup copy in \
         its place (cp -a) and start again; `cpmd store check` lists all that is wrong",
        path.display()
    )]
    Damaged {
        /// The data directory or the file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The mark was taken away from a log.
    #[error(
        "the file {}/mark is missing: it says how much the log holds, and without it a loss would \
         go unnoticed. Put back a backup copy of the whole data directory; or, if you know the log \
         to be whole, make an empty one: touch {}/mark",
        path.display(),
        path.display()
    )]
    Unmarked {
        /// The data directory.
        path: PathBuf,
    },
    /// A check works on a copy, and there is no room for it.
    #[error(
        "no room for a copy of the log, which the check reads: it takes {} MB ({}). Make room \
         there, or set TMPDIR to a directory that has it",
        octets.div_ceil(1_000_000),
        path.display()
    )]
    NoRoom {
        /// The file that could not be written.
        path: PathBuf,
        /// What all of it takes.
        octets: u64,
    },
    /// Written by a later version of the program.
    #[error(
        "the store in {} has format {found}, this cpmd knows {known}: start the newer cpmd, or put \
         back a copy made before the upgrade",
        path.display()
    )]
    Newer {
        /// The data directory.
        path: PathBuf,
        /// The number in the store.
        found: u32,
        /// The largest number that we read.
        known: u32,
    },
    /// The system refused.
    #[error("cannot {what} {}: {source}. See that the disk is whole, has room, and may be written, then start again", path.display())]
    Io {
        /// The verb.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An earlier error; nothing is read or written any more.
    #[error("the store stopped after an error (see the log): restart cpmd once its cause is gone")]
    Broken,
    /// The batch breaks a bound; nothing was written. A fault of the caller.
    #[error("batch refused: {0}; this is a bug in cpmd, please report it")]
    Refused(&'static str),
}

impl StoreError {
    pub(crate) fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io { what, path, source }
    }

    /// Damage at one place. The user goes by partition: errors reach the log.
    pub(crate) fn damaged_at(dir: &Path, place: Option<(&str, Position)>, why: &str) -> StoreError {
        let at = place.map_or(String::new(), |(user, at)| {
            let partition = Partition::of(user);
            format!(" in partition {partition}, epoch {}, record {}", at.epoch, at.seq)
        });
        StoreError::damaged(dir, format!("{why}{at}"))
    }

    pub(crate) fn damaged(path: &Path, what: impl Into<String>) -> StoreError {
        StoreError::Damaged { path: path.to_owned(), what: what.into() }
    }
}

/// The bounds that every engine may rely on.
///
/// # Errors
/// [`StoreError::Refused`] names the bound.
pub fn validate(append: &Append) -> Result<(), StoreError> {
    let refused = |why| Err(StoreError::Refused(why));
    if append.user.is_empty() || append.user.len() > URI_OCTETS_MAX || append.user.contains('\0') {
        return refused("the user's name is empty, too long, or has a zero octet");
    }
    if append.count == 0 || append.position.seq == 0 {
        return refused("a batch holds one record at least, and records count from 1");
    }
    if append.position.seq.checked_add(u64::from(append.count)).is_none() {
        return refused("the log is full");
    }
    if append.value.len() > VALUE_OCTETS_MAX {
        return refused("the value is too large: large content goes to blobs");
    }
    Ok(())
}

/// Whether a batch at `first` may follow the record at `last`: the next number, or number 1 of a
/// later epoch.
pub(crate) fn follows(last: Option<Position>, first: Position) -> bool {
    match last {
        Some(last) if last.epoch == first.epoch => last.seq.checked_add(1) == Some(first.seq),
        Some(last) => first.epoch > last.epoch && first.seq == 1,
        None => first.seq == 1,
    }
}

/// Sees to it that nothing is missing between the batches of a walk.
#[derive(Default)]
pub(crate) struct Order {
    heads: HashMap<String, Position>,
    pub(crate) tally: Tally,
}

impl Order {
    /// Users met.
    pub(crate) fn users(&self) -> u64 {
        self.heads.len() as u64
    }

    /// Takes the next batch; an error says what should have stood before it.
    pub(crate) fn next(&mut self, user: &str, first: Position, count: u32) -> Result<(), String> {
        let head = Position {
            epoch: first.epoch,
            seq: first.seq.saturating_add(u64::from(count)).saturating_sub(1),
        };
        let last = match self.heads.get_mut(user) {
            Some(last) => Some(std::mem::replace(last, head)),
            None => self.heads.insert(user.to_owned(), head),
        };
        self.tally.batches += 1;
        self.tally.records += u64::from(count);
        if follows(last, first) {
            return Ok(());
        }
        Err(match last {
            Some(last) if last.epoch == first.epoch => {
                format!("records {} to {} are missing", last.seq + 1, first.seq.saturating_sub(1))
            }
            _ => format!("the records before {} are missing", first.seq),
        })
    }
}

/// [`Engine::replay`] on top of `walk`, which is [`Engine::walk`]; `promised` is what the mark
/// says.
pub(crate) fn replay(
    walk: impl FnOnce(&mut dyn FnMut(Entry<'_>) -> bool) -> Result<(), StoreError>,
    dir: &Path,
    promised: Tally,
    visit: &mut Visit<'_>,
    progress: &mut Progress<'_>,
) -> Result<Tally, StoreError> {
    let (mut order, mut fault) = (Order::default(), None);
    walk(&mut |entry| {
        let seen = match (entry.place, entry.content) {
            (Some((user, first)), Ok((count, value))) => {
                order.next(user, first, count).and_then(|()| visit(user, first, count, value))
            }
            (_, Err(why)) => Err(why),
            (None, _) => Err(UNREADABLE.to_owned()),
        };
        fault = seen.err().map(|why| StoreError::damaged_at(dir, entry.place, &why));
        let done = order.tally.batches;
        if done.is_multiple_of(PROGRESS_EVERY) {
            progress(done, promised.batches.max(done));
        }
        fault.is_none()
    })?;
    if let Some(fault) = fault {
        return Err(fault);
    }
    let found = order.tally;
    if found.batches < promised.batches || found.records < promised.records {
        let missing = promised.records.saturating_sub(found.records);
        let what = format!("{missing} of {} records are missing", promised.records);
        return Err(StoreError::damaged(dir, what));
    }
    progress(found.batches, found.batches);
    Ok(found)
}

/// Tries again for a second while the place is taken: a process that ends, or a thread of an
/// engine just closed, may hold it a moment longer.
#[expect(clippy::disallowed_methods, reason = "a start has nothing else to do meanwhile")]
pub(crate) fn patiently<T>(
    mut open: impl FnMut() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    for _ in 0..100 {
        match open() {
            Err(StoreError::Locked { .. }) => std::thread::sleep(Duration::from_millis(10)),
            other => return other,
        }
    }
    open()
}

/// The right to use a data directory, as long as the file is kept.
pub(crate) fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(StoreError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(e)) => Err(StoreError::io("lock", &path)(e)),
    }
}

/// Makes a file, or the names in a directory, durable.
pub(crate) fn sync_path(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|d| d.sync_all()).map_err(StoreError::io("sync", path))
}
