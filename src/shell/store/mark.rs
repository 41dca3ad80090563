//! How much the log held when it was last synced, kept outside of the engine.
//!
//! An engine may answer damage in its files by dropping what follows, without a word: sled did so
//! for each of 1,200 flipped bits and cuts in a log of one segment, and in a log of nine for 77 of
//! 398 flips and 69 of 79 cuts.
//!
//! The mark is written after the sync that it speaks of and is not synced itself: it never
//! promises more than is on disk, it is exact after a crash of the process, and some seconds old
//! after a power cut. A log that holds less than its mark has lost something.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{StoreError, Tally, sync_path};

const MAGIC: &[u8; 4] = b"CPM1";
const OCTETS: usize = 24;

/// The open file, and the tally that stood in it.
#[derive(Debug)]
pub(super) struct Mark {
    file: File,
    found: Option<Tally>,
}

impl Mark {
    /// Opens `dir/mark`, or creates it for a log that is `new`: it is there before the log, so a
    /// log without one has lost it. A mark that cannot be read promises nothing.
    pub(super) fn open(dir: &Path, new: bool) -> Result<Mark, StoreError> {
        let path = dir.join("mark");
        let opened = OpenOptions::new().read(true).write(true).create(new).open(&path);
        let mut file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound if !new => StoreError::Unmarked { path: dir.to_owned() },
            _ => StoreError::io("open", &path)(error),
        })?;
        if new {
            sync_path(dir)?;
        }
        let mut octets = Vec::new();
        file.read_to_end(&mut octets).map_err(StoreError::io("read", &path))?;
        let found = parse(&octets);
        if found.is_none() && !octets.is_empty() {
            tracing::warn!(path = %path.display(), "the mark is damaged: losses cannot be noticed");
        }
        Ok(Mark { file, found })
    }

    /// What was known to be on disk when the file was opened.
    pub(super) fn found(&self) -> Tally {
        self.found.unwrap_or_default()
    }

    /// Notes what is on disk now.
    pub(super) fn set(&mut self, tally: Tally) -> io::Result<()> {
        let mut octets = [0; OCTETS];
        octets[..4].copy_from_slice(MAGIC);
        octets[4..12].copy_from_slice(&tally.batches.to_be_bytes());
        octets[12..20].copy_from_slice(&tally.records.to_be_bytes());
        let crc = crc32fast::hash(&octets[..20]);
        octets[20..].copy_from_slice(&crc.to_be_bytes());
        self.file.write_all_at(&octets, 0)
    }
}

fn parse(octets: &[u8]) -> Option<Tally> {
    let (body, crc) = octets.split_last_chunk::<4>()?;
    let (batches, records) = body.strip_prefix(MAGIC)?.split_first_chunk::<8>()?;
    let records: &[u8; 8] = records.try_into().ok()?;
    (u32::from_be_bytes(*crc) == crc32fast::hash(body)).then(|| Tally {
        batches: u64::from_be_bytes(*batches),
        records: u64::from_be_bytes(*records),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_or_promises_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let tally = Tally { batches: 3, records: 9 };
        let mut mark = Mark::open(dir.path(), true).unwrap();
        assert_eq!(mark.found(), Tally::default());
        mark.set(Tally { batches: 1, records: 1 }).unwrap();
        mark.set(tally).unwrap();
        assert_eq!(Mark::open(dir.path(), false).unwrap().found(), tally);
        for text in [&b"CPM1 something else here"[..], b""] {
            std::fs::write(dir.path().join("mark"), text).unwrap();
            assert_eq!(Mark::open(dir.path(), false).unwrap().found(), Tally::default());
        }
        std::fs::remove_file(dir.path().join("mark")).unwrap();
        assert!(matches!(Mark::open(dir.path(), false), Err(StoreError::Unmarked { .. })));
    }
}
