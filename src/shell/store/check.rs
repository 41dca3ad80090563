//! `cpmd store check`: reads everything and says what is wrong and what to do about it.
//!
//! The engine opens its files for writing even to read them, and of a damaged one it may cut off
//! all that comes behind the damage. So it is given a copy of the log; the data directory itself is
//! only read, and what is left of a damaged log stays as it is.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{
    Blobs, Engine, Order, PROGRESS_EVERY, Progress, SledEngine, StoreError, Tally, UNREADABLE,
    lock, patiently,
};
use crate::base::limits::FINDINGS_MAX;
use crate::base::log::Position;
use crate::shell::scratch::Scratch;

const RESTORE: &str = "put back a backup copy of the whole data directory";

/// Reads a batch (user, place of its first record, number of records, value) and names the blobs
/// that it mentions, or says why it cannot be read.
pub type Decode<'a> = dyn FnMut(&str, Position, u32, &[u8]) -> Result<Vec<String>, String> + 'a;

/// One thing that is not as it should be. Names users: for the operator's eyes, not for logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// What and where.
    pub what: String,
    /// What the operator can do.
    pub advice: &'static str,
    /// Whether something that was promised may be lost.
    pub loss: bool,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Users with a log.
    pub users: u64,
    /// Batches and records that were readable.
    pub tally: Tally,
    /// Octets in the values.
    pub octets: u64,
    /// Blobs that records mention, each counted once.
    pub blobs: u64,
    /// At most `FINDINGS_MAX` findings, in the order met.
    pub findings: Vec<Finding>,
    /// Findings that are not listed.
    pub unlisted: u64,
}

impl Report {
    /// Whether nothing is lost or damaged; orphans do no harm.
    #[must_use]
    pub fn sound(&self) -> bool {
        self.unlisted == 0 && self.findings.iter().all(|f| !f.loss)
    }

    fn lost(&mut self, what: String, advice: &'static str) {
        self.push(Finding { what, advice, loss: true });
    }

    fn push(&mut self, finding: Finding) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(finding);
        } else {
            self.unlisted += 1;
        }
    }
}

/// Checks the store in `dir`: checksums, gaps, readability, blobs. `copied` hears of the octets of
/// the copy, `progress` of the batches that were read.
///
/// # Errors
/// [`StoreError`] where the store cannot be opened at all: absent, locked by a running server,
/// newer, or so damaged that the engine refuses; and where there is no room for the copy.
pub fn check(
    dir: &Path,
    decode: &mut Decode<'_>,
    copied: &mut Progress<'_>,
    progress: &mut Progress<'_>,
) -> Result<Report, StoreError> {
    if !dir.join("log").join("db").is_file() {
        return Err(StoreError::Absent { path: dir.to_owned() });
    }
    let _lock = patiently(|| lock(dir))?;
    let scratch = Scratch::new("check").map_err(|why| {
        StoreError::io("make a place for a copy of the log of", dir)(io::Error::other(why))
    })?;
    copy(dir, scratch.path(), copied)?;
    let mut report = Report::default();
    if !dir.join("mark").is_file() {
        let what = StoreError::Unmarked { path: dir.to_owned() }.to_string();
        report.lost(what, "only what is damaged within the log is listed here");
        // One that promises nothing.
        let path = scratch.path().join("mark");
        File::create(&path).map_err(StoreError::io("create", &path))?;
    }
    let original = |error| of_original(error, scratch.path(), dir);
    let engine = SledEngine::open(scratch.path()).map_err(original)?;
    let mut names = BTreeSet::new();
    let whole = walk(&engine, &mut report, &mut names, decode, progress);
    check_blobs(&Blobs::look(dir), &names, whole, &mut report)?;
    if engine.has_unsafe_files() {
        let what = "the engine keeps values in files that it does not sync (log/blobs)".to_owned();
        let advice = "nothing is lost now, but a power cut may do it: please report this";
        report.push(Finding { what, advice, loss: false });
    }
    let (copy, dir) = (scratch.path().display().to_string(), dir.display().to_string());
    for finding in &mut report.findings {
        finding.what = finding.what.replace(&copy, &dir);
    }
    Ok(report)
}

/// An error about the copy as one about what was copied.
fn of_original(error: StoreError, copy: &Path, dir: &Path) -> StoreError {
    let place = |path: PathBuf| match path.strip_prefix(copy) {
        Ok(inner) if inner.as_os_str().is_empty() => dir.to_owned(),
        Ok(inner) => dir.join(inner),
        Err(_) => path,
    };
    match error {
        StoreError::Damaged { path, what } => StoreError::Damaged { path: place(path), what },
        StoreError::Newer { path, found, known } => {
            StoreError::Newer { path: place(path), found, known }
        }
        other => other,
    }
}

/// Copies the engine's files and the mark; large content is read where it is.
fn copy(dir: &Path, to: &Path, copied: &mut Progress<'_>) -> Result<(), StoreError> {
    let mut files = vec![];
    for folder in ["log", "log/blobs"] {
        let (from, to) = (dir.join(folder), to.join(folder));
        fs::create_dir(&to).map_err(StoreError::io("create", &to))?;
        let Ok(listed) = fs::read_dir(&from) else { continue };
        files.extend(listed.flatten().map(|file| PathBuf::from(folder).join(file.file_name())));
    }
    files.push("mark".into());
    files.retain(|file| dir.join(file).is_file());
    let size = |file: &PathBuf| fs::metadata(dir.join(file)).map_or(0, |data| data.len());
    let total = files.iter().map(size).sum();
    let mut done = 0;
    for file in files {
        let (from, to) = (dir.join(&file), to.join(&file));
        let mut source = File::open(&from).map_err(StoreError::io("open", &from))?;
        let mut copy = File::create(&to).map_err(StoreError::io("create", &to))?;
        let mut octets = vec![0; COPIED_AT_ONCE];
        loop {
            let count = source.read(&mut octets).map_err(StoreError::io("read", &from))?;
            if count == 0 {
                break;
            }
            copy.write_all(&octets[..count]).map_err(|error| match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    StoreError::NoRoom { path: to.clone(), octets: total }
                }
                _ => StoreError::io("write", &to)(error),
            })?;
            done += count as u64;
            copied(done, total);
        }
    }
    Ok(())
}

const COPIED_AT_ONCE: usize = 1 << 20;

/// Reads all batches; `false` if the engine could not go on.
fn walk(
    engine: &SledEngine,
    report: &mut Report,
    names: &mut BTreeSet<String>,
    decode: &mut Decode<'_>,
    progress: &mut Progress<'_>,
) -> bool {
    let (promised, mut order, mut met) = (engine.promised(), Order::default(), 0);
    let end = engine.walk(&mut |entry| {
        met += 1;
        if met % PROGRESS_EVERY == 0 {
            progress(met, promised.batches.max(met));
        }
        let (user, first, count, value) = match (entry.place, entry.content) {
            (Some((user, first)), Ok((count, value))) => (user, first, count, value),
            (Some((user, first)), Err(why)) => {
                report.lost(format!("{}: {why}", place(user, first)), RESTORE);
                return true;
            }
            (None, content) => {
                report.lost(content.err().unwrap_or_else(|| UNREADABLE.to_owned()), RESTORE);
                return true;
            }
        };
        let at = || place(user, first);
        report.octets += value.len() as u64;
        if let Err(why) = order.next(user, first, count) {
            report.lost(format!("{}: {why}", at()), RESTORE);
        }
        match decode(user, first, count, value) {
            Ok(mentioned) => names.extend(mentioned),
            Err(why) => report.lost(
                format!("{}: the records cannot be read: {why}", at()),
                "start the newest cpmd; if it cannot read them either, restore a backup copy",
            ),
        }
        true
    });
    progress(met, met);
    report.users = order.users();
    report.tally = order.tally;
    if let Err(error) = end {
        report.lost(format!("the log cannot be read to its end: {error}"), RESTORE);
        return false;
    }
    let missing = promised.records.saturating_sub(order.tally.records);
    if missing > 0 || order.tally.batches < promised.batches {
        let what = format!("{missing} records that were on disk are missing or damaged");
        report.lost(what, RESTORE);
    }
    true
}

fn place(user: &str, first: Position) -> String {
    format!("{user}, epoch {}, record {}", first.epoch, first.seq)
}

fn check_blobs(
    blobs: &Blobs,
    names: &BTreeSet<String>,
    whole: bool,
    report: &mut Report,
) -> Result<(), StoreError> {
    report.blobs = names.len() as u64;
    for name in names {
        if let Err(error) = blobs.read(name) {
            let what = match error {
                StoreError::Damaged { path, what } => format!("{what}: {}", path.display()),
                other => format!("blob {name}: {other}"),
            };
            report.lost(what, "put back this one file from a backup copy: its name is its hash");
        }
    }
    // Damaged batches may mention any file: nothing can be called an orphan then.
    if whole && report.sound() {
        for path in blobs.orphans(names)? {
            report.push(Finding {
                what: format!("no record mentions {}", path.display()),
                advice: "harmless: left by a crash between file and record; it may be deleted",
                loss: false,
            });
        }
    }
    Ok(())
}
