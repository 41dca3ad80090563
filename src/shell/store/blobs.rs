//! Large content as files named by their SHA-256: `blobs/ab/ab…` (64 hex digits).
//!
//! A file gets its name only after its octets are synced, and the name is synced before the
//! record that mentions it is written. So a name without octets cannot be, and a file that no
//! record names is harmless.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{StoreError, sync_path};
use crate::base::hash::sha256_hex;
use crate::base::log::Blob;
use crate::shell::crash;

/// The directory of the files.
#[derive(Debug)]
pub struct Blobs {
    root: PathBuf,
}

impl Blobs {
    /// Opens or creates `dir/blobs` and removes what an interrupted write has left.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn open(dir: &Path) -> Result<Blobs, StoreError> {
        let blobs = Blobs::look(dir);
        let unfinished = blobs.unfinished();
        fs::create_dir_all(&unfinished).map_err(StoreError::io("create", &unfinished))?;
        for path in files(&unfinished)? {
            fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        }
        sync_path(&blobs.root)?;
        Ok(blobs)
    }

    /// The files in `dir/blobs`, for reading: changes nothing.
    #[must_use]
    pub fn look(dir: &Path) -> Blobs {
        Blobs { root: dir.join("blobs") }
    }

    /// Writes a blob so that it survives a power cut. One that is there already is read and
    /// written again only if it is not whole.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if the name is not that of the octets, else [`StoreError::Io`].
    pub fn put(&self, blob: &Blob) -> Result<(), StoreError> {
        let path = self.path(&blob.name);
        let Some((folder, path)) = path.filter(|_| sha256_hex(&blob.octets) == blob.name) else {
            return Err(StoreError::Refused("a blob's name is not the hash of its octets"));
        };
        // A file found here may come from a run that died before its name was synced.
        if fs::read(&path).is_ok_and(|there| there == blob.octets) {
            return sync_path(&folder);
        }
        if !folder.is_dir() {
            fs::create_dir_all(&folder).map_err(StoreError::io("create", &folder))?;
            sync_path(&self.root)?;
        }
        let unfinished = self.unfinished().join(&blob.name);
        File::create(&unfinished)
            .and_then(|mut file| {
                file.write_all(&blob.octets)?;
                file.sync_all()
            })
            .map_err(StoreError::io("write", &unfinished))?;
        fs::rename(&unfinished, &path).map_err(StoreError::io("rename", &path))?;
        crash::point("blob-renamed");
        sync_path(&folder)
    }

    /// The octets of a blob.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if there is no such file or its octets are not those of the name.
    pub fn read(&self, name: &str) -> Result<Bytes, StoreError> {
        let Some((_, path)) = self.path(name) else {
            return Err(StoreError::Refused("a blob's name is 64 hex digits"));
        };
        match fs::read(&path) {
            Ok(octets) if sha256_hex(&octets) == name => Ok(octets.into()),
            Ok(_) => Err(StoreError::damaged(&path, "the content of a file was altered")),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(StoreError::damaged(&path, "a file is missing"))
            }
            Err(e) => Err(StoreError::io("read", &path)(e)),
        }
    }

    /// The files that are not among `referenced`, and those whose names are not ours.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn orphans(&self, referenced: &BTreeSet<String>) -> Result<Vec<PathBuf>, StoreError> {
        let mut out = Vec::new();
        if !self.root.is_dir() {
            return Ok(out);
        }
        for folder in entries(&self.root)? {
            if folder == self.unfinished() {
                continue;
            }
            if !folder.is_dir() {
                out.push(folder);
                continue;
            }
            for path in files(&folder)? {
                let name = path.file_name().and_then(|n| n.to_str());
                if !name.is_some_and(|n| referenced.contains(n)) {
                    out.push(path);
                }
            }
        }
        out.sort();
        Ok(out)
    }

    /// Folder and file of a name; `None` if it is not 64 lower-case hex digits.
    fn path(&self, name: &str) -> Option<(PathBuf, PathBuf)> {
        let hex = name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let folder = self.root.join(name.get(..2).filter(|_| hex && name.len() == 64)?);
        let path = folder.join(name);
        Some((folder, path))
    }

    fn unfinished(&self) -> PathBuf {
        self.root.join("unfinished")
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    fs::read_dir(folder)
        .and_then(|list| list.map(|e| e.map(|e| e.path())).collect())
        .map_err(StoreError::io("list", folder))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    Ok(entries(folder)?.into_iter().filter(|p| !p.is_dir()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(text: &'static str) -> Blob {
        Blob { name: sha256_hex(text.as_bytes()), octets: Bytes::from_static(text.as_bytes()) }
    }

    #[test]
    fn kept_under_the_hash_and_never_read_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let kept = blob("a picture");
        blobs.put(&kept).unwrap();
        blobs.put(&kept).unwrap();
        assert_eq!(blobs.read(&kept.name).unwrap(), kept.octets);

        let path = dir.path().join("blobs").join(&kept.name[..2]).join(&kept.name);
        fs::write(&path, "a pictura").unwrap();
        let error = blobs.read(&kept.name).unwrap_err().to_string();
        assert!(error.contains("altered") && error.contains(&kept.name), "{error}");
        blobs.put(&kept).unwrap();
        assert_eq!(blobs.read(&kept.name).unwrap(), kept.octets, "written again when not whole");

        fs::remove_file(&path).unwrap();
        assert!(blobs.read(&kept.name).unwrap_err().to_string().contains("missing"));
    }

    #[test]
    fn names_that_are_no_hash_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let upper = sha256_hex(b"x").to_uppercase();
        for name in ["", "../lock", "é", upper.as_str()] {
            assert!(matches!(blobs.read(name), Err(StoreError::Refused(_))), "{name}");
        }
        let wrong = Blob { name: sha256_hex(b"x"), octets: Bytes::from_static(b"y") };
        assert!(matches!(blobs.put(&wrong), Err(StoreError::Refused(_))));
    }

    #[test]
    fn leftovers_go_and_orphans_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        let (one, two) = (blob("one"), blob("two"));
        blobs.put(&one).unwrap();
        blobs.put(&two).unwrap();
        let left = blobs.unfinished().join("half");
        fs::write(&left, "ha").unwrap();
        let blobs = Blobs::open(dir.path()).unwrap();
        assert!(!left.exists());
        let orphans = blobs.orphans(&BTreeSet::from([one.name])).unwrap();
        assert_eq!(orphans.len(), 1);
        assert!(orphans[0].ends_with(&two.name));
    }
}
