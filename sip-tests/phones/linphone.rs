//! Debian's linphone-daemon, driven over its pipe.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::lab::Lab;
use crate::ports;
use crate::process::{Process, read};
use crate::server::Account;
use crate::sipp::instance;
use crate::wait;

/// A linphone-daemon. It keeps its settings, and with them its instance, while it is off.
pub struct Linphone {
    name: String,
    dir: PathBuf,
    logs: PathBuf,
    /// The daemon puts it under /tmp, whatever is asked.
    pipe: String,
    peer: Account,
    starts: usize,
    process: Option<Process>,
    stream: Option<UnixStream>,
}

impl Linphone {
    /// Sets one up for `account`; it will write to `peer` only. It is off.
    ///
    /// # Errors
    /// In words.
    pub fn new(lab: &Lab, account: Account, peer: Account) -> Result<Linphone, String> {
        let name = format!("{}-linphone", account.user);
        let dir = lab.dir.join(&name);
        let settings = include_str!("linphone.rc")
            .replace("{sip_port}", &ports::free([127, 0, 0, 1].into(), 0)?.to_string())
            .replace("{server}", &lab.server.v4.to_string())
            .replace("{user}", account.user)
            .replace("{domain}", account.domain)
            .replace("{password}", account.password)
            .replace("{uuid}", &instance(&name));
        // Without the folder of its database it starts, and does nothing.
        std::fs::create_dir_all(dir.join(".local/share/linphone"))
            .and_then(|()| std::fs::write(dir.join("rc"), settings))
            .map_err(|e| format!("{name}: {e}"))?;
        let unique = lab.dir.file_name().unwrap_or_default().to_string_lossy();
        let pipe = format!("{unique}-{name}");
        let logs = lab.dir.clone();
        Ok(Linphone { name, dir, logs, pipe, peer, starts: 0, process: None, stream: None })
    }

    /// Starts it and waits until it has registered.
    ///
    /// # Errors
    /// It does not.
    pub fn on(&mut self) -> Result<(), String> {
        self.starts += 1;
        let mut command = Command::new("linphone-daemon");
        command.env("HOME", &self.dir).env_remove("XDG_DATA_HOME").env_remove("XDG_CONFIG_HOME");
        // Else it leaves a directory in /tmp, or asks the sound server of whoever runs the tests.
        command.env("XDG_RUNTIME_DIR", &self.dir);
        command.current_dir(&self.dir).args(["--pipe", &self.pipe, "--config"]);
        command.arg(self.dir.join("rc")).arg("--log").arg(self.log_file(self.starts));
        command.args(["--auto-answer", "-C", "--disable-stats-events"]);
        self.process = Some(Process::start(command, &self.name, &self.logs)?);
        let socket = self.socket();
        let stream = wait::until(&format!("the pipe of {}", self.name), wait::SOON, || {
            Ok(UnixStream::connect(&socket).ok())
        })?;
        stream.set_read_timeout(Some(wait::SOON)).map_err(|e| format!("{}: {e}", self.name))?;
        self.stream = Some(stream);
        let what = format!("registration of {}", self.name);
        wait::until(&what, wait::SOON, || {
            let state = self.command("register-status ALL")?;
            Ok(state.contains("LinphoneRegistrationOk").then_some(()))
        })
    }

    /// Cuts its power: it does not unregister.
    ///
    /// # Errors
    /// In words.
    pub fn off(&mut self) -> Result<(), String> {
        self.stream = None;
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => Ok(()),
        }
    }

    /// Sends a text to its peer.
    ///
    /// # Errors
    /// It refuses the command.
    pub fn say(&mut self, text: &str) -> Result<(), String> {
        self.command(&format!("message sip:{} {text}", self.peer.address())).map(drop)
    }

    /// The texts that it has shown, over all its starts, in order: those for which it has told its
    /// application that a message is there. Repeats that it drops are not among them.
    pub fn shown(&self) -> Vec<String> {
        (1..=self.starts).flat_map(|start| shown(&read(&self.log_file(start)))).collect()
    }

    fn log_file(&self, start: usize) -> PathBuf {
        self.logs.join(format!("{}.{start}.log", self.name))
    }

    fn socket(&self) -> PathBuf {
        Path::new("/tmp").join(&self.pipe)
    }

    /// One connection serves for as long as the phone is on: it takes no second one.
    fn command(&mut self, command: &str) -> Result<String, String> {
        let trouble = |e: std::io::Error| format!("{}: pipe: {command}: {e}", self.name);
        let Some(stream) = &mut self.stream else {
            return Err(format!("{} is off", self.name));
        };
        stream.write_all(format!("{command}\n").as_bytes()).map_err(trouble)?;
        let mut answer = [0; 65536];
        let count = stream.read(&mut answer).map_err(trouble)?;
        let answer = String::from_utf8_lossy(answer.get(..count).unwrap_or_default()).into_owned();
        if answer.starts_with("Status: Ok") {
            Ok(answer)
        } else {
            Err(format!("{}: {command}: {answer}", self.name))
        }
    }
}

impl Drop for Linphone {
    fn drop(&mut self) {
        // It may be off, or never have been on.
        drop(self.off());
        drop(std::fs::remove_file(self.socket()));
    }
}

/// Reads the log: the body of the last MESSAGE before each notice to the application.
fn shown(log: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut body: Option<String> = None;
    let mut in_body = false;
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        let received = line.contains("new bytes from");
        let message = |next: &&str| next.starts_with("MESSAGE ");
        if received && lines.peek().is_some_and(message) {
            (body, in_body) = (Some(String::new()), false);
        } else if line.contains("liblinphone-message-") && line.contains("[message_received]") {
            found.extend(body.clone());
        } else if let Some(text) = &mut body {
            if is_log_line(line) {
                in_body = false;
            } else if in_body {
                text.push_str(line);
            } else if line.trim().is_empty() && text.is_empty() {
                in_body = true;
            }
        }
    }
    found
}

/// `2026-11-22 19:00:24:404 belle-sip-message-...`
fn is_log_line(line: &str) -> bool {
    let library =
        |word: &str| ["belle-sip-", "liblinphone-", "bctbx-"].iter().any(|l| word.starts_with(l));
    line.split(' ').nth(2).is_some_and(library)
}
