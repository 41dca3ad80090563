//! `cpmd check`: the configuration, the listeners, the data directory.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use super::{complain, finish, say};
use crate::shell::config::{Config, DATA_DEFAULT, Mistake, Protocol};
use crate::shell::operator::socket_path;

/// What was found.
#[derive(Debug, Default, Serialize)]
pub(super) struct Findings {
    /// What keeps the server from working.
    pub(super) errors: Vec<Mistake>,
    /// What the operator may not expect.
    pub(super) warnings: Vec<Mistake>,
}

pub(super) fn check(file: Option<&Path>, json: bool) -> ExitCode {
    let findings = match examine(file) {
        Ok(findings) => findings,
        Err(error) => return finish(Err(error)),
    };
    if json {
        match serde_json::to_string(&findings) {
            Ok(text) => say(&format!("{text}\n")),
            Err(error) => return finish(Err(format!("{error}: leave out --json"))),
        };
    } else {
        let name = file.map(|file| format!("{}: ", file.display())).unwrap_or_default();
        for warning in &findings.warnings {
            complain(format_args!("warning: {name}{warning}"));
        }
        for error in &findings.errors {
            complain(format_args!("{name}{error}"));
        }
        if findings.errors.is_empty() {
            say("no mistakes found\n");
        }
    }
    ExitCode::from(u8::try_from(findings.errors.len()).unwrap_or(u8::MAX))
}

/// Looks at everything; the error is a sentence: the file cannot be read at all.
pub(super) fn examine(file: Option<&Path>) -> Result<Findings, String> {
    let mut findings = Findings::default();
    let config = match file {
        None => Some(Config::dev(PathBuf::from(DATA_DEFAULT))),
        Some(file) => {
            let reading = Config::load(file)?;
            findings.errors = reading.mistakes;
            findings.warnings = reading.warnings;
            // With mistakes elsewhere, the data directory can be looked at all the same.
            if let (None, Some(data)) = (&reading.config, &reading.data) {
                directory(data, &mut findings);
            }
            reading.config
        }
    };
    if let Some(config) = config {
        directory(&config.data, &mut findings);
        if UnixStream::connect(socket_path(&config.data)).is_ok() {
            findings.warnings.push(finding(
                "listen.sip",
                "not tried: a server runs on this data directory".to_owned(),
                "stop it to try the listeners too",
            ));
        } else {
            listeners(&config.sip, &mut findings);
        }
    }
    Ok(findings)
}

fn finding(key: &str, what: String, fix: impl Into<String>) -> Mistake {
    Mistake { line: 0, key: key.to_owned(), what, fix: fix.into() }
}

/// Opens every listener at once, and closes them again.
fn listeners(sip: &[(Protocol, SocketAddr)], findings: &mut Findings) {
    let mut open: (Vec<UdpSocket>, Vec<TcpListener>) = Default::default();
    for (protocol, address) in sip {
        let opened = match protocol {
            Protocol::Udp => UdpSocket::bind(address).map(|socket| open.0.push(socket)),
            Protocol::Tcp => TcpListener::bind(address).map(|socket| open.1.push(socket)),
        };
        let Err(error) = opened else { continue };
        let fix = match error.kind() {
            ErrorKind::AddrInUse => format!(
                "stop the program that has it (`ss -lnp 'sport = :{}'` names it), or change the port",
                address.port()
            ),
            ErrorKind::AddrNotAvailable => {
                "write an address of this machine (`ip address` lists them)".to_owned()
            }
            ErrorKind::PermissionDenied => format!(
                "choose a port above 1023, or give CAP_NET_BIND_SERVICE for port {}",
                address.port()
            ),
            _ => "choose another address".to_owned(),
        };
        findings.errors.push(finding("listen.sip", format!("{protocol}:{address}: {error}"), fix));
    }
}

/// Whether the data directory can be used, or made.
fn directory(data: &Path, findings: &mut Findings) {
    let mut error = |what: String, fix: String| findings.errors.push(finding("data", what, fix));
    match fs::metadata(data) {
        Ok(meta) if !meta.is_dir() => {
            let fix = "move it away or write another directory".to_owned();
            error(format!("{} is not a directory", data.display()), fix);
        }
        Ok(meta) => {
            if let Err(trouble) = probe(data) {
                let fix =
                    format!("give it to the user that runs cpmd: chown USER {}", data.display());
                error(format!("{}: {trouble}", data.display()), fix);
            }
            if meta.permissions().mode() & 0o007 != 0 {
                findings.warnings.push(finding(
                    "data",
                    format!("{} is open to every user of this machine", data.display()),
                    format!("chmod 750 {}", data.display()),
                ));
            }
        }
        Err(trouble) if trouble.kind() == ErrorKind::NotFound => {
            let here = Path::new(".");
            let nearest = data.ancestors().skip(1).find(|path| path.is_dir()).unwrap_or(here);
            if let Err(trouble) = probe(nearest) {
                let fix = format!("make it and give it to that user: mkdir -p {}", data.display());
                error(format!("cannot be made in {}: {trouble}", nearest.display()), fix);
            }
        }
        Err(trouble) => {
            let fix = "write a directory that this user may enter".to_owned();
            error(format!("{}: {trouble}", data.display()), fix);
        }
    }
}

/// Writes a file and removes it.
fn probe(directory: &Path) -> std::io::Result<()> {
    let file = directory.join(format!(".cpmd-check-{}", std::process::id()));
    fs::OpenOptions::new().write(true).create_new(true).open(&file)?;
    fs::remove_file(&file)
}
