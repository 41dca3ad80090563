//! A directory for the data of a demo or a benchmark: on a disk, and gone when it is dropped.

use std::path::{Path, PathBuf};

/// A directory that is removed with all that is in it when this is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one that is named after `what`, in the first of the system's temporary directory,
    /// `/var/tmp` and the current directory that lies on a disk and not in memory.
    ///
    /// # Errors
    /// One sentence that says what to do.
    pub fn new(what: &str) -> Result<Scratch, String> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let current = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
        let places = [std::env::temp_dir(), PathBuf::from("/var/tmp"), current];
        let place = places
            .iter()
            .find(|p| p.is_dir() && !is_memory(file_system(&mounts, p)))
            .unwrap_or(&places[0]);
        let mut number = [0; 8];
        getrandom::fill(&mut number).map_err(|e| format!("no random number: {e}: try again"))?;
        let number = u64::from_le_bytes(number);
        let path = place.join(format!("cpmd-{what}-{number:016x}"));
        std::fs::create_dir(&path).map_err(|e| {
            format!(
                "cannot make {}: {e}: set TMPDIR to a directory that can be written",
                path.display()
            )
        })?;
        Ok(Scratch(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The type of the file system that it is on, as the system calls it.
    #[must_use]
    pub fn file_system(&self) -> String {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        file_system(&mounts, &self.0).to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, path = %self.0.display(), "not removed");
        }
    }
}

fn is_memory(file_system: &str) -> bool {
    matches!(file_system, "tmpfs" | "ramfs" | "devtmpfs")
}

/// The type of the longest mount point above `path` in a text like `/proc/mounts`.
fn file_system<'a>(mounts: &'a str, path: &Path) -> &'a str {
    let mut best = (0, "unknown");
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (words.next(), words.next()) else { continue };
        // Of several on one point the last is on top.
        if path.starts_with(point) && point.len() >= best.0 {
            best = (point.len(), kind);
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_mount_point_counts() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        assert_eq!(file_system(mounts, Path::new("/tmp/x")), "tmpfs");
        assert_eq!(file_system(mounts, Path::new("/tmpx")), "ext4");
        assert_eq!(file_system("", Path::new("/x")), "unknown");
    }

    #[test]
    fn it_goes_with_its_owner() {
        let scratch = Scratch::new("test").unwrap();
        let path = scratch.path().to_owned();
        std::fs::write(path.join("x"), "x").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
