//! The server that is measured: this binary as a child process, with its data on a disk.
#![expect(
    clippy::disallowed_methods,
    reason = "a start takes time, and a stop is not waited for without end"
)]

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::machine::{self, Memory};
use crate::shell::operator::{Client, OperatorReply, OperatorRequest, Status};
use crate::shell::scratch::Scratch;

/// The home domain of all accounts.
pub(super) const DOMAIN: &str = "bench.example";
/// The password of all accounts.
pub(super) const PASSWORD: &str = "river-4821";

/// How long a start or a stop may take; a start replays the journal.
const PATIENCE: Duration = Duration::from_secs(120);

/// A running server.
pub(super) struct Server {
    child: Running,
    /// Where it listens.
    pub(super) udp: SocketAddr,
    /// From its start until it was ready.
    pub(super) started_in: Duration,
    place: Place,
}

/// A child that does not outlive a failure.
struct Running(Child);

/// What a server needs and leaves behind.
pub(super) struct Place {
    scratch: Scratch,
    pinned: bool,
}

impl Place {
    /// A directory with the configuration for `users` accounts. `pinned`: on core 0.
    pub(super) fn new(users: usize, pinned: bool) -> Result<Place, String> {
        let place = Place { scratch: Scratch::new("bench")?, pinned };
        let data = place.data();
        std::fs::write(place.config(), configuration(&data.to_string_lossy(), users))
            .map_err(|e| format!("cannot write {}: {e}", place.config().display()))?;
        Ok(place)
    }

    /// The data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.scratch.path().join("data")
    }

    /// What it lies on.
    pub(super) fn file_system(&self) -> String {
        self.scratch.file_system()
    }

    fn config(&self) -> PathBuf {
        self.scratch.path().join("cpmd.toml")
    }

    fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    /// The end of what the server said, to explain a failure.
    fn last_words(&self) -> String {
        let said = std::fs::read_to_string(self.log()).unwrap_or_default();
        said.lines().next_back().unwrap_or("it said nothing").to_owned()
    }

    /// Starts a server and waits until it is ready.
    pub(super) async fn start(self) -> Result<Server, String> {
        let program = std::env::current_exe().map_err(|e| format!("no program of our own: {e}"))?;
        let began = Instant::now();
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.map_err(|e| format!("cannot write {}: {e}", self.log().display()))?;
        let mut command = if self.pinned {
            let mut command = Command::new("taskset");
            command.args(["-c", "0"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.arg("serve").arg("--config").arg(self.config());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let child = command.spawn().map_err(|e| format!("cannot start the server: {e}"))?;
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let started_in = Duration::ZERO;
        let mut server = Server { child: Running(child), udp: any, started_in, place: self };
        server.await_ready()?;
        server.started_in = began.elapsed();
        let status = server.status().await?;
        let udp = status.sip.iter().find_map(|s| s.strip_prefix("udp:")?.parse().ok());
        server.udp = udp.ok_or("the server does not listen on UDP")?;
        Ok(server)
    }
}

impl Server {
    /// Its number.
    pub(super) fn process(&self) -> u32 {
        self.child.0.id()
    }

    /// Its memory now.
    pub(super) fn memory(&self) -> Memory {
        machine::memory(self.process())
    }

    /// What it says of itself.
    pub(super) async fn status(&self) -> Result<Status, String> {
        match Client::new(&self.place.data()).ask(&OperatorRequest::Status).await? {
            OperatorReply::Status(status) => Ok(*status),
            other => Err(format!("the server does not tell its status: {other:?}")),
        }
    }

    /// Asks for the status until it is as wished, or `at_most` is over; the last one.
    pub(super) async fn settled(
        &self,
        at_most: Duration,
        wished: impl Fn(&Status) -> bool,
    ) -> Result<Status, String> {
        let end = Instant::now() + at_most;
        loop {
            let status = self.status().await?;
            if wished(&status) || Instant::now() >= end {
                return Ok(status);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Stops it in good order; what it leaves behind.
    pub(super) async fn stop(mut self) -> Result<Place, String> {
        if !machine::terminate(self.process()) {
            return Err("cannot stop the server".to_owned());
        }
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            match self.child.0.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(self.place),
                Ok(Some(status)) => {
                    return Err(format!(
                        "the server ended with {status}: {}",
                        self.place.last_words()
                    ));
                }
                Ok(None) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => return Err(format!("cannot wait for the server: {error}")),
            }
        }
        Err(format!("the server did not stop within {} s", PATIENCE.as_secs()))
    }

    fn await_ready(&mut self) -> Result<(), String> {
        let out = self.child.0.stdout.take();
        let mut line = String::new();
        let read = out.map(|out| BufReader::new(out).read_line(&mut line));
        if matches!(read, Some(Ok(_))) && line.trim() == "ready" {
            return Ok(());
        }
        Err(format!("the server did not start: {}", self.place.last_words()))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// The address of record of a user.
pub(super) fn aor(user: usize) -> String {
    format!("sip:{}@{DOMAIN}", name(user))
}

/// The user part of it.
pub(super) fn name(user: usize) -> String {
    format!("u{user:07}")
}

/// One host sends everything: limits per account do not fit, so they are raised.
fn configuration(data: &str, users: usize) -> String {
    let mut text = format!(
        "data = {data:?}\n\n[[domain]]\nname = \"{DOMAIN}\"\n\n\
         [listen]\nsip = [\"udp:127.0.0.1:0\"]\n\n\
         [limits]\nmessages_per_second = 1000000\nmessages_burst = 1000000\n"
    );
    for user in 0..users {
        // Writing to a String cannot fail.
        _ = write!(text, "\n[[account]]\nuri = \"{}\"\npassword = \"{PASSWORD}\"\n", aor(user));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell::config::Config;

    #[test]
    fn the_configuration_is_one() {
        let reading = Config::read(&configuration("/x/data", 3), &|_| None, &|_| {
            Err(std::io::Error::other("no file"))
        });
        assert!(reading.mistakes.is_empty(), "{:?}", reading.mistakes);
        let config = reading.config.unwrap();
        assert_eq!(config.accounts.len(), 3);
        assert_eq!(config.accounts[2].uri, aor(2));
        assert_eq!(config.messages_per_second, 1_000_000);
    }
}
