//! The configuration: a TOML file becomes a plain, validated [`Config`], or a list of every
//! mistake in it with the line, the key and what to type.

mod listen;
mod mistake;
mod read;
mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};

use crate::base::limits;
use crate::base::pii::Pii;

pub use mistake::{Mistake, nearest};

/// The port of SIP (RFC 3261 §19.1.2).
pub const SIP_PORT: u16 = 5060;

/// Where the data lies if nothing else is said.
pub const DATA_DEFAULT: &str = "cpmd-data";

/// The password of every account of `cpmd dev`, which listens on loopback only.
pub const DEV_PASSWORD: &str = "secret";

/// Everything the server needs to know before it starts. Names are lower-case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Directory of the embedded store.
    pub data: PathBuf,
    /// The home domains, at least one.
    pub domains: Vec<Domain>,
    /// Where SIP is heard, at least one.
    pub sip: Vec<(Protocol, SocketAddr)>,
    /// Accounts that the file provisions; others come through the operator interface.
    pub accounts: Vec<ConfigAccount>,
    /// Digest algorithms offered to accounts that name none, at least one (RFC 8760).
    pub algorithms: Vec<Algorithm>,
    /// A request with more octets does not go out over UDP (RFC 3428 §8).
    pub udp_bytes_max: usize,
    /// Messages that one account may send per second, in the long run.
    pub messages_per_second: u32,
    /// Messages that one account may send at once.
    pub messages_burst: u32,
}

/// A home domain. Its name is the realm of its accounts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Domain {
    /// The name in addresses of record.
    pub name: String,
    /// Other hosts that mean this domain: names, or IP addresses without brackets.
    pub aliases: Vec<String>,
}

/// A transport of SIP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// RFC 3261 §18 over UDP.
    Udp,
    /// RFC 3261 §18 over TCP.
    Tcp,
}

/// A digest algorithm.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Algorithm {
    /// What every phone knows (RFC 3261 §22.4).
    Md5,
    /// RFC 8760.
    Sha256,
}

/// An account of the configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigAccount {
    /// `sip:user@domain`; the domain is a home domain's name.
    pub uri: String,
    /// In clear, as read from the file; the server keeps only digests of it.
    pub password: Pii<String>,
    /// What this account is offered; empty: what everybody is offered.
    pub algorithms: Vec<Algorithm>,
}

/// What came of reading a file: a configuration, or at least one mistake.
#[derive(Clone, Debug)]
pub struct Reading {
    /// There if and only if there is no mistake.
    pub config: Option<Config>,
    /// The data directory, where it could be read in spite of mistakes elsewhere.
    pub data: Option<PathBuf>,
    /// In order of lines.
    pub mistakes: Vec<Mistake>,
    /// What is accepted and does nothing in this version; in order of lines.
    pub warnings: Vec<Mistake>,
}

impl Config {
    /// What `cpmd dev` runs with: `a.example` (alice, carol; also meant by the loopback
    /// addresses) and `b.example` (bob), on port 5060 of loopback, IPv6 where there is one.
    #[must_use]
    pub fn dev(data: PathBuf) -> Config {
        let mut hosts = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        if UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok() {
            hosts.push(IpAddr::V6(Ipv6Addr::LOCALHOST));
        }
        let sip = hosts
            .iter()
            .flat_map(|host| [Protocol::Udp, Protocol::Tcp].map(|protocol| (protocol, *host)))
            .map(|(protocol, host)| (protocol, SocketAddr::new(host, SIP_PORT)))
            .collect();
        let account = |uri: &str| ConfigAccount {
            uri: uri.to_owned(),
            password: Pii(DEV_PASSWORD.to_owned()),
            algorithms: Vec::new(),
        };
        Config {
            data,
            domains: vec![
                Domain {
                    name: "a.example".to_owned(),
                    aliases: vec!["127.0.0.1".to_owned(), "::1".to_owned()],
                },
                Domain { name: "b.example".to_owned(), aliases: Vec::new() },
            ],
            sip,
            accounts: ["sip:alice@a.example", "sip:carol@a.example", "sip:bob@b.example"]
                .map(account)
                .into(),
            algorithms: vec![Algorithm::Md5],
            udp_bytes_max: limits::UDP_REQUEST_OCTETS_MAX,
            messages_per_second: limits::MESSAGES_PER_SECOND,
            messages_burst: limits::MESSAGES_BURST,
        }
    }

    /// The same with every listener on another port; 0 lets the system choose.
    #[must_use]
    pub fn with_port(mut self, port: u16) -> Config {
        for (_, address) in &mut self.sip {
            address.set_port(port);
        }
        self
    }

    /// Reads a file. The error is a sentence: the file itself could not be read.
    pub fn load(path: &Path) -> Result<Reading, String> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            format!(
                "{}: {e}: name a file, or write one with `cpmd config default > {}`",
                path.display(),
                path.display()
            )
        })?;
        Ok(Config::read(&text, &|name| std::env::var(name).ok(), &|path| {
            std::fs::read_to_string(path)
        }))
    }

    /// Reads the text of a file; `env` answers for `${NAME}`, `file` reads a `password_file`.
    #[must_use]
    pub fn read(
        text: &str,
        env: &dyn Fn(&str) -> Option<String>,
        file: &dyn Fn(&Path) -> std::io::Result<String>,
    ) -> Reading {
        read::read(text, env, file)
    }
}

/// The whole default configuration with comments; it parses without mistakes or warnings.
#[must_use]
pub fn default_text() -> &'static str {
    include_str!("default.toml")
}

impl Protocol {
    /// `udp` or `tcp`, as in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Udp => "udp",
            Protocol::Tcp => "tcp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Algorithm {
    /// The token of RFC 8760 §2.1.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
