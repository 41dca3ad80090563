//! Processes that a scenario starts, and that end with it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::wait;

/// A process whose output goes to files; it is killed when this is dropped.
pub struct Process {
    name: String,
    child: Child,
    out: PathBuf,
}

impl Process {
    /// Starts `command`; its output goes to `NAME.out` and `NAME.err` in `logs`.
    ///
    /// # Errors
    /// In words, with the name of the program.
    pub fn start(mut command: Command, name: &str, logs: &Path) -> Result<Process, String> {
        let program = command.get_program().to_string_lossy().into_owned();
        let trouble = |e: std::io::Error| format!("cannot start {program} for {name}: {e}");
        let open = |end: &str| {
            let path = logs.join(format!("{name}.{end}"));
            File::options().create(true).append(true).open(path).map_err(trouble)
        };
        let (out, err) = (open("out")?, open("err")?);
        let child =
            command.stdin(Stdio::null()).stdout(out).stderr(err).spawn().map_err(trouble)?;
        Ok(Process { name: name.to_owned(), child, out: logs.join(format!("{name}.out")) })
    }

    /// What it has written to its standard output so far, over all its starts.
    pub fn output(&self) -> String {
        read(&self.out)
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    /// In words.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child.try_wait().map_err(|e| format!("{}: {e}", self.name))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It goes on.
    pub fn end(&mut self, at_most: Duration) -> Result<ExitStatus, String> {
        let what = format!("the end of {}", self.name);
        wait::until(&what, at_most, || self.ended())
    }

    /// Sends it a signal, by name: `TERM`, `STOP`, `CONT`.
    ///
    /// # Errors
    /// In words.
    pub fn signal(&self, name: &str) -> Result<(), String> {
        let id = self.child.id().to_string();
        match Command::new("kill").arg(format!("-{name}")).arg(id).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(format!("{} cannot be sent {name}: has it ended?", self.name)),
            Err(e) => Err(format!("kill: {e}")),
        }
    }

    /// Ends it at once, as a power cut would.
    ///
    /// # Errors
    /// In words.
    pub fn kill(&mut self) -> Result<(), String> {
        self.child.kill().map_err(|e| format!("{}: {e}", self.name))?;
        self.child.wait().map(drop).map_err(|e| format!("{}: {e}", self.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The text of a file that may not be there yet.
pub fn read(path: &Path) -> String {
    std::fs::read(path)
        .map(|octets| String::from_utf8_lossy(&octets).into_owned())
        .unwrap_or_default()
}
