//! The server under test: the real program, its configuration, its data.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ports;
use crate::process::{Process, read};
use crate::wait;

/// An account of the server under test.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// User part.
    pub user: &'static str,
    /// Domain.
    pub domain: &'static str,
    /// Password.
    pub password: &'static str,
}

/// Alice, at home in the first domain.
pub const ALICE: Account = Account { user: "alice", domain: "a.example", password: "secret" };
/// Bob, at home in the second domain.
pub const BOB: Account = Account { user: "bob", domain: "b.example", password: "geheim" };

impl Account {
    /// `user@domain`.
    pub fn address(&self) -> String {
        format!("{}@{}", self.user, self.domain)
    }
}

/// A message as `cpmd trace --json` tells it.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Traced {
    /// `in` or `out`.
    pub direction: String,
    /// Method and URI, or status and reason.
    pub start: String,
    /// Call-ID.
    pub call_id: Option<String>,
    /// CSeq.
    pub cseq: Option<String>,
    /// Content-Type.
    pub content_type: Option<String>,
}

impl Traced {
    /// Whether it carries a receipt.
    pub fn is_imdn(&self) -> bool {
        self.content_type.as_ref().is_some_and(|t| t.starts_with("message/imdn"))
    }

    /// Whether it is about the same request as `other`.
    pub fn answers(&self, other: &Traced) -> bool {
        self.call_id == other.call_id && self.cseq == other.cseq && self.start != other.start
    }
}

/// The server.
pub struct Server {
    dir: PathBuf,
    process: Process,
    /// Its IPv4 address, for UDP and TCP.
    pub v4: SocketAddr,
    /// Its IPv6 address, where the machine has one.
    pub v6: Option<SocketAddr>,
    starts: usize,
}

impl Server {
    /// Starts it with an empty data directory in `dir` and waits until it is ready.
    ///
    /// # Errors
    /// It does not start; with what it says.
    pub fn start(dir: &Path) -> Result<Server, String> {
        let at = |host: IpAddr| Ok::<_, String>(SocketAddr::new(host, ports::free(host, 0)?));
        let v4: SocketAddr = at(Ipv4Addr::LOCALHOST.into())?;
        let v6 = IpAddr::from(Ipv6Addr::LOCALHOST);
        let v6 = if ports::has(v6) { Some(at(v6)?) } else { None };
        std::fs::write(dir.join("cpmd.toml"), configuration(dir, v4, v6))
            .map_err(|e| format!("cannot write the configuration: {e}"))?;
        let process = launch(dir)?;
        let mut server = Server { dir: dir.to_owned(), process, v4, v6, starts: 1 };
        server.ready()?;
        Ok(server)
    }

    /// Kills it with -9, then starts it again on the same data and ports.
    ///
    /// # Errors
    /// It does not come back.
    pub fn crash_and_return(&mut self) -> Result<(), String> {
        self.process.kill()?;
        self.process = launch(&self.dir)?;
        self.starts += 1;
        self.ready()
    }

    /// SIGTERM: it must drain and exit with 0, and leave a store without faults.
    ///
    /// # Errors
    /// It does not.
    pub fn stop(&mut self) -> Result<(), String> {
        if let Some(status) = self.process.ended()? {
            return Err(format!("the server ended by itself: {status}"));
        }
        self.process.signal("TERM")?;
        let status = self.process.end(wait::SOON)?;
        if !status.success() {
            return Err(format!("after SIGTERM the server ended with {status}"));
        }
        let checked = self.tool(&["store", "check"])?;
        std::fs::write(self.dir.join("store-check.txt"), &checked.1).map_err(|e| e.to_string())?;
        if checked.0 { Ok(()) } else { Err(format!("store check: {}", checked.1.trim())) }
    }

    /// The live ladder of what it remembers.
    pub fn ladder(&self) -> String {
        self.tool(&["trace", "--once"]).map_or_else(|e| e, |(_, text)| text)
    }

    /// The messages that it remembers.
    ///
    /// # Errors
    /// In words.
    pub fn trace(&self) -> Result<Vec<Traced>, String> {
        let (done, text) = self.tool(&["trace", "--once", "--json"])?;
        if !done {
            return Err(text);
        }
        let read = |line| serde_json::from_str(line).map_err(|e| format!("trace: {e}: {line}"));
        text.lines().map(read).collect()
    }

    /// What it has written to its log.
    pub fn log(&self) -> String {
        read(&self.dir.join("cpmd.err"))
    }

    /// Runs another command of the program on its data: whether it succeeded, and what it said.
    fn tool(&self, command: &[&str]) -> Result<(bool, String), String> {
        let done = Command::new(PROGRAM)
            .args(command)
            .arg("--data")
            .arg(self.dir.join("data"))
            .output()
            .map_err(|e| format!("cpmd {}: {e}", command.join(" ")))?;
        let mut text = String::from_utf8_lossy(&done.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&done.stderr));
        Ok((done.status.success(), text))
    }

    fn ready(&mut self) -> Result<(), String> {
        let starts = self.starts;
        let ready = |text: &str| text.lines().filter(|line| *line == "ready").count() >= starts;
        wait::until("`ready` from the server", wait::SOON, || {
            if ready(&self.process.output()) {
                return Ok(Some(()));
            }
            match self.process.ended()? {
                Some(status) => Err(format!("the server ended with {status}: {}", self.log())),
                None => Ok(None),
            }
        })
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_cpmd");

fn launch(dir: &Path) -> Result<Process, String> {
    let mut command = Command::new(PROGRAM);
    command.arg("serve").arg("--config").arg(dir.join("cpmd.toml"));
    Process::start(command, "cpmd", dir)
}

fn configuration(dir: &Path, v4: SocketAddr, v6: Option<SocketAddr>) -> String {
    let mut sip = vec![format!("\"udp:{v4}\""), format!("\"tcp:{v4}\"")];
    if let Some(v6) = v6 {
        sip.extend([format!("\"udp:{v6}\""), format!("\"tcp:{v6}\"")]);
    }
    let mut text = format!("data = {:?}\n", dir.join("data").display().to_string());
    for account in [ALICE, BOB] {
        let (domain, address, password) = (account.domain, account.address(), account.password);
        text += &format!("[[domain]]\nname = \"{domain}\"\n");
        text += &format!("[[account]]\nuri = \"sip:{address}\"\npassword = \"{password}\"\n");
    }
    text += &format!("[listen]\nsip = [{}]\n", sip.join(", "));
    text
}
