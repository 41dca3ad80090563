//! Debian's baresip, on a terminal of its own, driven over ctrl_tcp.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use crate::lab::Lab;
use crate::ports;
use crate::process::{Process, read};
use crate::server::Account;
use crate::wait;

/// A baresip. It keeps its settings, and with them its instance, while it is off.
pub struct Baresip {
    name: String,
    dir: PathBuf,
    logs: PathBuf,
    control: SocketAddr,
    peer: Account,
    starts: usize,
    process: Option<Process>,
    stream: Option<TcpStream>,
}

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// How often it is started anew before its fault counts as ours.
const STARTS_MAX: u32 = 4;
/// More subscriptions at a start than this are the fault.
const FLOOD: usize = 20;

impl Baresip {
    /// Sets one up for `account`; it will write to `peer` only. It is off.
    ///
    /// # Errors
    /// In words.
    pub fn new(lab: &Lab, account: Account, peer: Account) -> Result<Baresip, String> {
        let name = format!("{}-baresip", account.user);
        let dir = lab.dir.join(&name);
        let (sip, control) = (ports::free(HOST, 1)?, ports::free(HOST, 0)?);
        let settings = include_str!("baresip.conf")
            .replace("{sip_port}", &sip.to_string())
            .replace("{control_port}", &control.to_string());
        let line = format!(
            "<sip:{}>;auth_user={};auth_pass={};outbound=\"sip:{};transport=udp\";regint=600\n",
            account.address(),
            account.user,
            account.password,
            lab.server.v4
        );
        let contact = format!("\"Peer\" <sip:{}>\n", peer.address());
        std::fs::create_dir_all(&dir).map_err(|e| format!("{name}: {e}"))?;
        for (file, text) in [("config", settings), ("accounts", line), ("contacts", contact)] {
            std::fs::write(dir.join(file), text).map_err(|e| format!("{name}: {file}: {e}"))?;
        }
        let control = SocketAddr::new(HOST, control);
        let logs = lab.dir.clone();
        Ok(Baresip { name, dir, logs, control, peer, starts: 0, process: None, stream: None })
    }

    /// Starts it and waits until it has registered and taken messages can be shown.
    ///
    /// # Errors
    /// With the end of what it says.
    pub fn on(&mut self) -> Result<(), String> {
        for _ in 1..STARTS_MAX {
            let before = self.subscriptions();
            match self.start() {
                // baresip 1.0.0 subscribes without end, and hears nothing else, where it registers
                // before a timer of its own has run out. That is its fault, and not our question.
                Err(_) if self.subscriptions() > before + FLOOD => self.off()?,
                done => return done,
            }
        }
        self.start()
    }

    fn subscriptions(&self) -> usize {
        self.output().matches("mwi: subscribing to messages").count()
    }

    fn start(&mut self) -> Result<(), String> {
        let dir = self.dir.display();
        let run = format!("echo $$ > {dir}/pid; exec baresip -f {dir}");
        let mut command = Command::new("script");
        // It shows messages only on a terminal; `script` (bsdutils) is one.
        command.args(["--quiet", "--flush", "--return", "--command", &run, "/dev/null"]);
        self.process = Some(Process::start(command, &self.name, &self.logs)?);
        self.starts += 1;
        let what = format!("registration of {}", self.name);
        let starts = self.starts;
        wait::until(&what, wait::SOON, || {
            let times = self.output().matches("useragent registered successfully").count();
            Ok((times >= starts).then_some(()))
        })
        .map_err(|e| format!("{e}: {}", tail(&self.output())))?;
        let trouble = |e: std::io::Error| format!("{}: ctrl_tcp: {e}", self.name);
        let stream = TcpStream::connect(self.control).map_err(trouble)?;
        stream.set_read_timeout(Some(wait::SOON)).map_err(trouble)?;
        self.stream = Some(stream);
        let current = self.command("contact_next", "")?;
        let named = current.contains(&self.peer.address());
        if named { Ok(()) } else { Err(format!("{}: no contact: {current}", self.name)) }
    }

    /// Cuts its power: it does not unregister.
    ///
    /// # Errors
    /// In words.
    pub fn off(&mut self) -> Result<(), String> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        self.stream = None;
        self.signal("KILL")?;
        process.end(wait::SOON).map(drop)
    }

    /// Sends a text to its peer.
    ///
    /// # Errors
    /// It refuses the command.
    pub fn say(&mut self, text: &str) -> Result<(), String> {
        self.command("message", text).map(drop)
    }

    /// The texts that it has shown, over all its starts, in order.
    pub fn shown(&self) -> Vec<String> {
        let begin = format!("sip:{}: \"", self.peer.address());
        let lines = self.output();
        let texts = lines.split(['\n', '\r']).filter_map(|line| line.strip_prefix(&*begin));
        texts.filter_map(|text| text.rsplit_once('"').map(|(text, _)| text.to_owned())).collect()
    }

    /// Everything that it has written to its terminal.
    pub fn output(&self) -> String {
        read(&self.logs.join(format!("{}.out", self.name)))
    }

    /// The program is a child of its terminal.
    fn signal(&self, name: &str) -> Result<(), String> {
        let id = read(&self.dir.join("pid"));
        match Command::new("kill").arg(format!("-{name}")).arg(id.trim()).status() {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!("{} cannot be sent {name}", self.name)),
        }
    }

    /// Gives a command as a netstring with JSON inside; the answer's `data`. One connection serves
    /// for as long as the phone is on: it takes no second one.
    fn command(&mut self, command: &str, params: &str) -> Result<String, String> {
        let trouble = |e: std::io::Error| format!("{}: ctrl_tcp: {command}: {e}", self.name);
        let Some(stream) = &mut self.stream else {
            return Err(format!("{} is off", self.name));
        };
        let ask = serde_json::json!({ "command": command, "params": params, "token": "1" });
        let ask = ask.to_string();
        stream.write_all(format!("{}:{ask},", ask.len()).as_bytes()).map_err(trouble)?;
        let mut octets = Vec::new();
        let mut part = [0; 4096];
        loop {
            let count = stream.read(&mut part).map_err(trouble)?;
            if count == 0 {
                return Err(format!("{}: no answer to {command}", self.name));
            }
            octets.extend_from_slice(part.get(..count).unwrap_or_default());
            // Events may come before the answer.
            for json in netstrings(&octets) {
                if json["response"] == true {
                    let data = json["data"].as_str().unwrap_or_default().to_owned();
                    let done = json["ok"] == true;
                    return if done { Ok(data) } else { Err(format!("{command}: {data}")) };
                }
            }
        }
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        // It may be off.
        drop(self.off());
    }
}

fn netstrings(mut octets: &[u8]) -> Vec<serde_json::Value> {
    let mut found = Vec::new();
    while let Some(colon) = octets.iter().position(|o| *o == b':') {
        let (digits, rest) = octets.split_at(colon);
        let length = std::str::from_utf8(digits).ok().and_then(|d| d.parse::<usize>().ok());
        let Some(text) = length.and_then(|length| rest.get(1..=length)) else { break };
        found.extend(serde_json::from_slice(text));
        octets = rest.get(text.len() + 2..).unwrap_or_default();
    }
    found
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().rev().take(3).collect();
    lines.join(" / ")
}
