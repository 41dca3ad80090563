//! What one scenario works with: a server of its own and a place for logs.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::server::Server;
use crate::sipp::{Over, Place};

/// One scenario's server and logs.
pub struct Lab {
    /// Configuration, data and logs.
    pub dir: PathBuf,
    /// The server under test.
    pub server: Server,
}

impl Lab {
    /// Plays a scenario, stops the server and looks whether it is well. The directory is kept if
    /// anything was wrong.
    ///
    /// # Errors
    /// Why, and where the logs are.
    pub fn run(play: fn(&mut Lab) -> Result<(), String>) -> Result<(), String> {
        let temp = tempfile::Builder::new()
            .prefix("cpmd-real-")
            .tempdir()
            .map_err(|e| format!("no temporary directory: {e}"))?;
        let outcome = Server::start(temp.path()).and_then(|server| {
            let mut lab = Lab { dir: temp.path().to_owned(), server };
            let played = play(&mut lab);
            if played.is_err() {
                // Best effort: the server may be gone.
                drop(std::fs::write(lab.dir.join("ladder.txt"), lab.server.ladder()));
            }
            let stopped = lab.server.stop();
            let log = lab.server.log();
            let panicked = log.lines().find(|line| line.contains("panicked"));
            let well = panicked.map_or(Ok(()), |line| Err(line.to_owned()));
            played.and(stopped).and(well)
        });
        outcome.map_err(|why| format!("{why} (logs in {})", temp.keep().display()))
    }

    /// The server over UDP and IPv4.
    pub fn udp(&self) -> Place {
        self.place(self.server.v4, Over::Udp)
    }

    /// The server over TCP and IPv4.
    pub fn tcp(&self) -> Place {
        self.place(self.server.v4, Over::Tcp)
    }

    /// The server over IPv6, UDP and TCP.
    ///
    /// # Errors
    /// The machine has no IPv6.
    pub fn ipv6(&self) -> Result<[Place; 2], String> {
        let v6 = self.server.v6.ok_or("this machine has no ::1: enable IPv6 on loopback")?;
        Ok([Over::Udp, Over::Tcp].map(|over| self.place(v6, over)))
    }

    /// The server at this address.
    pub fn place(&self, server: SocketAddr, over: Over) -> Place {
        Place { logs: self.dir.clone(), server, over }
    }
}
