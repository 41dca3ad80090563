//! The engine on sled 0.34.7, used in the one way that was measured to survive power cuts.
//!
//! sled's `flush()` does not reach the disk: each commit is followed by `sync_data()` on a handle
//! of its file. Its own blob files are never synced at all: segments of 8 MiB and values of at
//! most 64 KiB keep it from making any. A failed sync cannot be repeated: the kernel forgets the
//! dirty pages. Damage makes sled panic: every call goes through [`SledEngine::guard`].
//!
//! What sled costs, it costs per key: so a commit group is one key (docs/decisions/0011), and an
//! index in memory knows which users' batches are where.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use ::sled::IVec;
use bytes::Bytes;

use super::envelope::{Value, Writer, is_meta, key, meta, open, read_key, seal};
use super::index::{Index, Stretch};
use super::mark::Mark;
use super::{
    Batch, Blobs, Counts, Engine, Entry, Progress, StoreError, Tally, UNREADABLE, Visit, lock,
    patiently, replay, sync_path, validate,
};
use crate::base::hash::Secret;
use crate::base::limits::{STORE_CACHE_OCTETS, TAIL_MAX};
use crate::base::log::{Append, Outcome, Position, Stored};

/// Layout of the store as a whole; another number is refused. 1 had a key for each batch.
const FORMAT: u32 = 1;
const SEGMENT_OCTETS: usize = 8 << 20;

/// Brings a file to the disk; the tests put a failing one here.
pub(super) type Sync = Box<dyn FnMut(&File) -> io::Result<()> + Send>;

/// An open store.
pub struct SledEngine {
    dir: PathBuf,
    db: ::sled::Db,
    file: File,
    sync: Sync,
    syncs: u64,
    blobs: Blobs,
    mark: Mark,
    /// Unknown until the whole log was read once.
    index: RefCell<Option<Index>>,
    writer: Writer,
    broken: Cell<bool>,
    secret: Secret,
    /// Last, so that it is let go after sled has closed its files.
    _lock: File,
}

impl SledEngine {
    /// Opens the store in `dir`, or creates it.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Damaged`], [`StoreError::Newer`] or
    /// [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<SledEngine, StoreError> {
        SledEngine::open_with(dir, Box::new(File::sync_data))
    }

    pub(super) fn open_with(dir: &Path, mut sync: Sync) -> Result<SledEngine, StoreError> {
        fs::create_dir_all(dir).map_err(StoreError::io("create", dir))?;
        let lock = patiently(|| lock(dir))?;
        let log = dir.join("log");
        let path = log.join("db");
        // Before the engine touches anything.
        let mark = Mark::open(dir, !path.exists())?;
        let db = open_sled(dir, &log)?;
        let file = File::open(&path).map_err(StoreError::io("open", &path))?;
        let secret = first_words(dir, &db)?;
        shielded(dir, || db.flush().map(drop))?;
        sync(&file).map_err(StoreError::io("sync", &path))?;
        // sled writes this file once, at creation, and leaves it to the kernel.
        sync_path(&log.join("conf"))?;
        let blobs = Blobs::open(dir)?;
        sync_path(&log)?;
        sync_path(dir)?;
        if let Some(parent) = dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            sync_path(parent)?;
        }
        let engine = SledEngine {
            dir: dir.to_owned(),
            db,
            file,
            sync,
            syncs: 0,
            blobs,
            mark,
            index: RefCell::new(None),
            writer: Writer::default(),
            broken: Cell::new(false),
            secret,
            _lock: lock,
        };
        if engine.has_unsafe_files() {
            tracing::error!(
                path = %log.join("blobs").display(),
                "the engine keeps values in files that it does not sync: a power cut may lose them"
            );
        }
        Ok(engine)
    }

    /// Whether sled has put values into files of its own, which it never syncs.
    pub(super) fn has_unsafe_files(&self) -> bool {
        fs::read_dir(self.dir.join("log").join("blobs")).is_ok_and(|mut list| list.next().is_some())
    }

    /// What the mark promises: the log holds at least this.
    pub(super) fn promised(&self) -> Tally {
        self.mark.found()
    }

    /// Runs a call of sled; an error or a panic of it breaks the engine.
    fn guard<T>(&self, call: impl FnOnce() -> ::sled::Result<T>) -> Result<T, StoreError> {
        if self.broken.get() {
            return Err(StoreError::Broken);
        }
        shielded(&self.dir, call).inspect_err(|_| self.broken.set(true))
    }

    /// Has the index built if the log was not read yet.
    fn indexed(&self) -> Result<(), StoreError> {
        if self.broken.get() {
            return Err(StoreError::Broken);
        }
        if self.index.borrow().is_some() {
            return Ok(());
        }
        self.replay(&mut |_, _, _, _| Ok(()), &mut |_, _| ())
    }

    /// The places of `user` from `from` on, at most `most`.
    fn stretches(
        &self,
        user: &str,
        from: Position,
        most: usize,
    ) -> Result<Vec<Stretch>, StoreError> {
        self.indexed()?;
        let index = self.index.borrow();
        Ok(index.iter().flat_map(|index| index.stretches(user, from)).take(most).collect())
    }

    /// The batches of `user` at a place that the index knows: all of them, or an error.
    fn batches(&self, user: &str, stretch: Stretch) -> Result<Vec<Batch>, StoreError> {
        let damaged =
            |why: String| StoreError::damaged_at(&self.dir, Some((user, stretch.first)), &why);
        let value = self.guard(|| self.db.get(key(stretch.number)))?;
        let value = value.ok_or_else(|| damaged(format!("value {} is missing", stretch.number)))?;
        let (mut out, mut next) = (Vec::new(), Some(stretch.first.seq));
        for framed in Value::open(stretch.number, &value).map_err(damaged)? {
            let framed = framed.map_err(damaged)?;
            if !framed.claims(user, stretch.first.epoch) {
                continue;
            }
            let (_, first, count, payload) = framed.checked().map_err(damaged)?;
            if next != Some(first.seq) {
                break;
            }
            out.push(Batch { first, count, value: Bytes::copy_from_slice(payload) });
            next = first.seq.checked_add(u64::from(count));
            if next.is_none_or(|next| next > stretch.last) {
                return Ok(out);
            }
        }
        Err(damaged("a batch is missing".to_owned()))
    }

    /// [`Engine::walk`] that also tells the number of the value.
    fn walk_values(&self, visit: &mut dyn FnMut(u64, Entry<'_>) -> bool) -> Result<(), StoreError> {
        let (mut pairs, mut sequence) =
            (self.db.iter(), Sequence { number: 0, next: Some((0, 0)) });
        let bad = |why: String| Entry { place: None, content: Err(why) };
        while let Some((key, value)) = self.guard(|| pairs.next().transpose())? {
            if is_meta(&key) {
                continue;
            }
            let Some(number) = read_key(&key) else {
                if !visit(0, bad(UNREADABLE.to_owned())) {
                    return Ok(());
                }
                continue;
            };
            let opened = Value::open(number, &value);
            let gap = sequence.next(number, opened.as_ref().ok().map(|v| (v.part, v.parts)));
            if gap.is_some_and(|why| !visit(number, bad(why))) {
                return Ok(());
            }
            let at = |why: String| format!("value {number}: {why}");
            match opened {
                Ok(batches) => {
                    for framed in batches {
                        let checked = framed.and_then(|framed| framed.checked());
                        let entry = match checked {
                            Ok((user, first, count, value)) => {
                                Entry { place: Some((user, first)), content: Ok((count, value)) }
                            }
                            Err(why) => bad(at(why)),
                        };
                        if !visit(number, entry) {
                            return Ok(());
                        }
                    }
                }
                Err(why) => {
                    if !visit(number, bad(at(why))) {
                        return Ok(());
                    }
                }
            }
        }
        if let Some(why) = sequence.end() {
            visit(0, bad(why));
        }
        Ok(())
    }

    fn commit_group(&mut self, group: &[Append]) -> Result<Vec<Outcome>, StoreError> {
        group.iter().try_for_each(validate)?;
        self.indexed()?;
        let Some(index) = self.index.get_mut() else { return Err(StoreError::Broken) };
        // First what may refuse the group: from the first batch that is taken on, the index holds
        // what the log does not, and an error breaks the engine.
        for append in group.iter().filter(|append| !append.blobs.is_empty()) {
            if index.head(&append.user) < Some(append.position) {
                append.blobs.iter().try_for_each(|blob| self.blobs.put(blob))?;
            }
        }
        self.writer.begin(index.number + 1);
        let take = |append: &Append| {
            let place = || self.writer.push(append);
            // The name is shared with who appends.
            let taken = index.take(append.user.clone(), append.position, append.count, place);
            taken.then(|| append.last())
        };
        let places: Vec<Option<Position>> = group.iter().map(take).collect();
        if places.iter().any(Option::is_some) {
            let tally = index.tally;
            self.write()?;
            if let Err(error) = self.mark.set(tally) {
                tracing::warn!(%error, "cannot write the mark: losses may go unnoticed");
            }
        }
        let outcome = |place: Option<Position>| {
            place.map_or(Outcome::Conflict, |last| Outcome::Stored(Stored::after_sync(last)))
        };
        Ok(places.into_iter().map(outcome).collect())
    }

    /// All values of the group at once, then the sync: when this returns, they are on disk.
    fn write(&mut self) -> Result<(), StoreError> {
        let mut values = Vec::new();
        self.writer.finish(|key, value| values.push((IVec::from(key), IVec::from(value))));
        self.guard(|| {
            // A single one is whole or absent by itself: a batch of sled costs one more write.
            if let [(key, value)] = values.as_slice() {
                self.db.insert(key, value)?;
            } else {
                let mut batch = ::sled::Batch::default();
                values.into_iter().for_each(|(key, value)| batch.insert(key, value));
                self.db.apply_batch(batch)?;
            }
            self.db.flush().map(drop)
        })?;
        let path = self.dir.join("log").join("db");
        (self.sync)(&self.file).map_err(StoreError::io("sync", &path))?;
        self.syncs += 1;
        Ok(())
    }

    #[cfg(test)]
    pub(super) fn stored(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.db.get(key).unwrap().map(|value| value.to_vec())
    }

    #[cfg(test)]
    pub(super) fn overwrite(&self, key: &[u8], value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.db.insert(key, value).map(drop),
            None => self.db.remove(key).map(drop),
        }
        .unwrap();
    }
}

impl Engine for SledEngine {
    fn walk(&self, visit: &mut dyn FnMut(Entry<'_>) -> bool) -> Result<(), StoreError> {
        self.walk_values(&mut |_, entry| visit(entry))
    }

    fn replay(&self, visit: &mut Visit<'_>, progress: &mut Progress<'_>) -> Result<(), StoreError> {
        let mut index = Index::default();
        let walk = |visit: &mut dyn FnMut(Entry<'_>) -> bool| {
            self.walk_values(&mut |number, entry| {
                if let (Some((user, first)), Ok((count, _))) = (entry.place, &entry.content) {
                    // One that does not follow ends the replay in `visit`.
                    index.take(user, first, *count, || number);
                }
                visit(entry)
            })
        };
        replay(walk, &self.dir, self.promised(), visit, progress)?;
        self.index.replace(Some(index));
        Ok(())
    }

    fn commit(&mut self, group: &[Append]) -> Result<Vec<Outcome>, StoreError> {
        if self.broken.get() {
            return Ok(vec![Outcome::Failed; group.len()]);
        }
        let outcomes = self.commit_group(group);
        if outcomes.as_ref().is_err_and(|e| !matches!(e, StoreError::Refused(_))) {
            self.broken.set(true);
        }
        outcomes
    }

    fn read(&self, user: &str, position: Position) -> Result<Option<Batch>, StoreError> {
        let place = self.stretches(user, position, 1)?.pop();
        let held = |s: &Stretch| {
            s.first.epoch == position.epoch && (s.first.seq..=s.last).contains(&position.seq)
        };
        let Some(stretch) = place.filter(held) else { return Ok(None) };
        Ok(self.batches(user, stretch)?.into_iter().find(|batch| batch.holds(position)))
    }

    fn tail(&self, user: &str, from: Position) -> Result<Vec<Batch>, StoreError> {
        let mut out = Vec::new();
        for stretch in self.stretches(user, from, TAIL_MAX)? {
            let batches = self.batches(user, stretch)?;
            out.extend(batches.into_iter().filter(|batch| batch.last() >= from));
            if out.len() >= TAIL_MAX {
                break;
            }
        }
        out.truncate(TAIL_MAX);
        Ok(out)
    }

    fn blob(&self, name: &str) -> Result<Bytes, StoreError> {
        self.blobs.read(name)
    }

    fn counts(&self) -> Counts {
        Counts {
            tally: self.index.borrow().as_ref().map_or(self.promised(), |index| index.tally),
            octets_on_disk: self.guard(|| self.db.size_on_disk()).unwrap_or_default(),
            syncs: self.syncs,
        }
    }

    fn syncs(&self) -> u64 {
        self.syncs
    }

    fn secret(&self) -> Secret {
        self.secret.clone()
    }
}

/// Sees to it that no value is missing between those of a walk.
struct Sequence {
    number: u64,
    /// The next part of the group under way and how many it has; `None` where it is not known.
    next: Option<(u32, u32)>,
}

impl Sequence {
    /// Takes the next value: its number, its part and the parts of its group, if they can be read.
    /// Says what should have stood before it.
    fn next(&mut self, number: u64, part: Option<(u32, u32)>) -> Option<String> {
        let (missing, expected) = (self.number.saturating_add(1), self.next);
        self.number = number;
        self.next = part.map(|(part, parts)| (part.saturating_add(1), parts));
        if number != missing {
            return Some(format!("values {missing} to {} are missing", number.saturating_sub(1)));
        }
        let whole = match (part, expected) {
            (Some((0, _)), Some((next, parts))) => next >= parts,
            (Some(part), Some(expected)) => part == expected,
            (None, _) | (_, None) => true,
        };
        (!whole).then(|| format!("value {number} does not belong to the group before it"))
    }

    /// Says what should have stood after the last value.
    fn end(&self) -> Option<String> {
        let (next, parts) = self.next.filter(|(next, parts)| next < parts)?;
        let last = self.number.saturating_add(u64::from(parts - next));
        Some(format!("values {} to {last} are missing", self.number.saturating_add(1)))
    }
}

fn open_sled(dir: &Path, log: &Path) -> Result<::sled::Db, StoreError> {
    let config = ::sled::Config::new()
        .path(log)
        .segment_size(SEGMENT_OCTETS)
        .cache_capacity(STORE_CACHE_OCTETS)
        // Its thread also gives back space; the sync that counts is ours.
        .flush_every_ms(Some(500));
    // Our lock is held: what still holds sled's are threads of an engine just closed.
    patiently(|| shielded(dir, || config.open()))
}

/// Format and secret of the store: read, or written if it is new and empty.
fn first_words(dir: &Path, db: &::sled::Db) -> Result<Secret, StoreError> {
    let (format, secret) = (meta("format"), meta("secret"));
    let get = |key: &[u8]| shielded(dir, || db.get(key));
    let (Some(kept_format), Some(kept)) = (get(&format)?, get(&secret)?) else {
        if shielded(dir, || db.first())?.is_some() {
            return Err(StoreError::damaged(dir, "the store's own values are missing"));
        }
        let mut octets = [0; 32];
        getrandom::fill(&mut octets).map_err(|e| {
            StoreError::io("draw random octets for", dir)(io::Error::other(e.to_string()))
        })?;
        let mut batch = ::sled::Batch::default();
        batch.insert(format.as_slice(), seal(&format, &FORMAT.to_be_bytes()));
        batch.insert(secret.as_slice(), seal(&secret, &octets));
        shielded(dir, || db.apply_batch(batch))?;
        return Ok(Secret::new(octets));
    };
    let value = |key: &[u8], found: &[u8]| -> Result<Vec<u8>, StoreError> {
        open(key, found).map(<[u8]>::to_vec).map_err(|why| StoreError::damaged(dir, why))
    };
    let odd = |_| StoreError::damaged(dir, "the store's own values cannot be read");
    let octets = value(&format, &kept_format)?;
    let number = u32::from_be_bytes(octets.try_into().map_err(odd)?);
    if number != FORMAT {
        let path = dir.to_owned();
        return Err(StoreError::Newer { path, found: number, known: FORMAT });
    }
    Ok(Secret::new(value(&secret, &kept)?.try_into().map_err(odd)?))
}

/// Runs a call of sled and turns its errors and panics into ours.
fn shielded<T>(dir: &Path, call: impl FnOnce() -> ::sled::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(::sled::Error::Io(e))) if e.to_string().contains("could not acquire lock") => {
            Err(StoreError::Locked { path: dir.to_owned() })
        }
        Ok(Err(::sled::Error::Io(e)))
            if !matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
        {
            Err(StoreError::io("read or write the log in", dir)(e))
        }
        Ok(Err(e)) => Err(StoreError::damaged(dir, format!("the engine says: {e}"))),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
            Err(StoreError::damaged(dir, format!("the engine gave up: {text}")))
        }
    }
}
