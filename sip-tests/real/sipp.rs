//! SIPp: one process per device or sender, each with a scenario of `sip-tests/sipp`.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::ports;
use crate::process::{Process, read};
use crate::server::Account;
use crate::wait;

/// How SIPp talks to the server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Over {
    /// UDP.
    Udp,
    /// One TCP connection.
    Tcp,
}

/// Where a SIPp process finds what it needs.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where logs go.
    pub logs: PathBuf,
    /// The server.
    pub server: SocketAddr,
    /// How it is reached.
    pub over: Over,
}

/// A SIPp process.
pub struct Sipp {
    process: Process,
    name: String,
    logs: PathBuf,
}

impl Sipp {
    /// Starts `scenario` as `account`, from `port`; `keys` fill in its `[words]`, and `arguments`
    /// are SIPp's own.
    ///
    /// # Errors
    /// In words.
    pub fn start(
        place: &Place,
        name: &str,
        scenario: &str,
        account: Account,
        port: u16,
        keys: &[(&str, &str)],
        arguments: &[&str],
    ) -> Result<Sipp, String> {
        let at = |end: &str| place.logs.join(format!("{name}.{end}"));
        let ip = place.server.ip();
        let mut command = Command::new("sipp");
        command.current_dir(&place.logs).args(["-nostdin", "-m", "1", "-bind_local"]);
        command.arg("-sf").arg(scenario_file(scenario));
        command.args(["-i", &ip.to_string(), "-p", &port.to_string()]);
        command.args(["-cp", &ports::free(IpAddr::from([127, 0, 0, 1]), 0)?.to_string()]);
        command.args(["-t", if place.over == Over::Tcp { "t1" } else { "u1" }]);
        command.args(["-au", account.user, "-ap", account.password]);
        for (trace, option, end) in [
            ("-trace_msg", "-message_file", "messages"),
            ("-trace_logs", "-log_file", "notes"),
            ("-trace_err", "-error_file", "errors"),
        ] {
            command.arg(trace).arg(option).arg(at(end));
        }
        for (key, value) in [("account", account.user), ("domain", account.domain)] {
            command.args(["-key", key, value]);
        }
        for (key, value) in keys {
            command.args(["-key", key, value]);
        }
        command.args(arguments).arg(place.server.to_string());
        let process = Process::start(command, name, &place.logs)?;
        Ok(Sipp { process, name: name.to_owned(), logs: place.logs.clone() })
    }

    /// Waits until it has played its scenario to the end.
    ///
    /// # Errors
    /// Something was not as the scenario says; with what SIPp noted of it.
    pub fn done(&mut self) -> Result<(), String> {
        let status = self.process.end(wait::SOON)?;
        if status.success() { Ok(()) } else { Err(self.trouble()) }
    }

    /// Waits until it has noted a line that begins with `what`.
    ///
    /// # Errors
    /// It ended, or nothing came in time.
    pub fn noted(&mut self, what: &str) -> Result<(), String> {
        let waits = format!("{}: `{what}`", self.name);
        wait::until(&waits, wait::SOON, || {
            if self.notes().lines().any(|line| line.starts_with(what)) {
                return Ok(Some(()));
            }
            match self.process.ended()? {
                Some(_) => Err(self.trouble()),
                None => Ok(None),
            }
        })
    }

    /// What the scenario has noted with `<log>`.
    pub fn notes(&self) -> String {
        read(&self.logs.join(format!("{}.notes", self.name)))
    }

    /// Every message that passed, as SIPp wrote it down.
    pub fn messages(&self) -> String {
        read(&self.logs.join(format!("{}.messages", self.name)))
    }

    /// The process, for signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    fn trouble(&self) -> String {
        let errors = read(&self.logs.join(format!("{}.errors", self.name)));
        let text = if errors.trim().is_empty() {
            read(&self.logs.join(format!("{}.err", self.name)))
        } else {
            errors
        };
        let said: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(3).collect();
        format!("{}: {}", self.name, said.join(" / "))
    }
}

/// A device of SIPp: registered, and taking messages.
pub struct Device {
    sipp: Sipp,
    port: u16,
}

/// What a device is.
#[derive(Clone, Debug)]
pub struct Model<'a> {
    /// Whose.
    pub account: Account,
    /// What it is called in the logs.
    pub name: &'a str,
    /// Contact parameters after the instance.
    pub features: &'a str,
    /// The scenario for what it is sent.
    pub takes: &'a str,
}

impl<'a> Model<'a> {
    /// A plain phone that takes everything.
    pub fn plain(account: Account, name: &'a str) -> Model<'a> {
        Model { account, name, features: "", takes: "take" }
    }

    /// Registers it from a free port and waits until that is done. The instance follows from the
    /// name, so the same name is the same device, wherever it comes back.
    ///
    /// # Errors
    /// With what went wrong.
    pub fn up(&self, place: &Place) -> Result<Device, String> {
        let port = ports::free(place.server.ip(), 0)?;
        let out_of_call = scenario_file(self.takes);
        let out_of_call = out_of_call.to_string_lossy();
        let instance = instance(self.name);
        let keys = [("instance", &*instance), ("features", self.features)];
        let visit = format!("{}-{port}", self.name);
        let arguments = ["-oocsf", &*out_of_call];
        let mut sipp = Sipp::start(place, &visit, "device", self.account, port, &keys, &arguments)?;
        sipp.noted("registered")?;
        Ok(Device { sipp, port })
    }
}

/// A message that a device has taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Content-Type.
    pub content_type: String,
    /// The body.
    pub body: String,
}

impl Device {
    /// What it has taken so far, in order.
    pub fn taken(&self) -> Vec<Taken> {
        let notes = self.sipp.notes();
        notes.split("((took ").skip(1).filter_map(read_taken).collect()
    }

    /// Waits until it has taken messages with exactly these bodies, in this order.
    ///
    /// # Errors
    /// It has others, or too few.
    pub fn has(&self, bodies: &[&str]) -> Result<(), String> {
        let mut seen = Vec::new();
        let came = wait::until("messages", wait::SOON, || {
            seen = self.taken();
            Ok((seen.len() >= bodies.len()).then_some(()))
        });
        let had: Vec<&str> = seen.iter().map(|taken| taken.body.as_str()).collect();
        if came.is_ok() && had == bodies {
            return Ok(());
        }
        Err(format!("{} has {had:?}, expected {bodies:?}", self.sipp.name))
    }

    /// Listens again where it was, after a loss of power, and tells nobody: no registration says
    /// that it is back.
    ///
    /// # Errors
    /// In words.
    pub fn listen_again(&mut self, model: &Model<'_>, place: &Place) -> Result<(), String> {
        let name = format!("{}-again", self.sipp.name);
        self.sipp = Sipp::start(place, &name, model.takes, model.account, self.port, &[], &[])?;
        Ok(())
    }

    /// The process, to cut its power.
    pub fn process(&mut self) -> &mut Process {
        self.sipp.process()
    }
}

/// Sends one text as `account` and waits for the 202.
///
/// # Errors
/// Another answer, or none.
pub fn say(place: &Place, account: Account, to: Account, text: &str) -> Result<(), String> {
    let keys = [("to", &*to.address()), ("text", text)];
    play(place, "message", account, &keys).map(drop)
}

/// Plays a scenario to its end.
///
/// # Errors
/// Something was not as the scenario says.
pub fn play(
    place: &Place,
    scenario: &str,
    account: Account,
    keys: &[(&str, &str)],
) -> Result<Sipp, String> {
    let port = ports::free(place.server.ip(), 0)?;
    let name = format!("{scenario}-{}-{port}", account.user);
    let mut sipp = Sipp::start(place, &name, scenario, account, port, keys, &[])?;
    sipp.done()?;
    Ok(sipp)
}

fn read_taken(text: &str) -> Option<Taken> {
    let (whole, _) = text.split_once("))")?;
    let (content_type, body) = whole.split_once('|')?;
    Some(Taken { content_type: content_type.trim().to_owned(), body: body.to_owned() })
}

fn scenario_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sip-tests/sipp").join(format!("{name}.xml"))
}

/// A UUID that the name gives.
pub fn instance(name: &str) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for octet in name.bytes() {
        hash = (hash ^ u64::from(octet)).wrapping_mul(0x100_0000_01b3);
    }
    format!("{:08x}-0000-4000-8000-{:012x}", hash >> 32, hash & 0xffff_ffff)
}
