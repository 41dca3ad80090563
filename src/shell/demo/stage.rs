//! A server on a thread of its own, five devices, and the list of all that they have seen.
#![expect(clippy::disallowed_methods, reason = "what does not happen is waited for only so long")]

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::shell::client::{Device, Pool};
use crate::shell::config::{Config, DEV_PASSWORD, Protocol};
use crate::shell::run;
use crate::shell::scratch::Scratch;
use crate::ua::{Agent, AgentConfig, AgentEvent, Answers, Kind, Receipts};

pub(super) const ALICE: &str = "sip:alice@a.example";
pub(super) const BOB: &str = "sip:bob@b.example";

pub(super) const ALICE_PHONE: Device = 0;
pub(super) const ALICE_LAPTOP: Device = 1;
pub(super) const ALICE_PDA: Device = 2;
pub(super) const BOB_PHONE: Device = 3;
pub(super) const BOB_LAPTOP: Device = 4;

/// Each device: whose, what, how it behaves, how it is connected; in the order of the numbers.
const DEVICES: [(&str, &str, Kind, Protocol); 5] = [
    (ALICE, "phone", Kind::Cpm, Protocol::Udp),
    (ALICE, "laptop", Kind::Cpm, Protocol::Tcp),
    (ALICE, "PDA", Kind::Plain, Protocol::Udp),
    (BOB, "phone", Kind::Cpm, Protocol::Udp),
    (BOB, "laptop", Kind::Cpm, Protocol::Tcp),
];

/// How long a thing may take before it counts as not happening.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server, the devices, and what they have seen.
pub(super) struct Stage {
    pub(super) pool: Pool,
    /// In order.
    pub(super) seen: Vec<(Device, AgentEvent)>,
    server: Server,
    // Last: removed after the server has stopped.
    _data: Scratch,
}

impl Stage {
    /// Starts the server and sets the devices up, switched on and not registered.
    pub(super) fn open() -> Result<Stage, String> {
        let data = Scratch::new("demo")?;
        let server = Server::start(data.path())?;
        let mut pool = Pool::new();
        for (number, (aor, device, kind, protocol)) in DEVICES.iter().enumerate() {
            let port = match protocol {
                Protocol::Udp => pool.udp(server.udp),
                Protocol::Tcp => pool.tcp(server.tcp),
            }
            .map_err(|e| {
                format!("cannot open a socket: {e}: look at the limits of this process")
            })?;
            let (flow, contact) = pool.way(port);
            let user = aor.trim_start_matches("sip:").split('@').next().unwrap_or_default();
            let plain = *kind == Kind::Plain;
            let accepts = if plain { "text/plain" } else { "*/*" };
            let config = AgentConfig {
                aor: (*aor).to_owned(),
                user: user.to_owned(),
                password: DEV_PASSWORD.to_owned(),
                device: (*device).to_owned(),
                instance: Some(format!("urn:uuid:00000000-0000-4000-8000-{number:012}")),
                kind: *kind,
                flow,
                contact,
                expires: 600,
                accepts: vec![accepts.to_owned()],
                receipts: if plain { Receipts::None } else { Receipts::Delivered },
                answers: Answers::Ok200,
            };
            pool.add(port, Agent::new(config, seed()?));
        }
        Ok(Stage { pool, seen: Vec::new(), server, _data: data })
    }

    /// What is about to be seen, for people.
    pub(super) fn introduction(&self) -> String {
        format!(
            "cpmd demo: Alice (a.example: phone, laptop, and a PDA that knows nothing of CPM) and\n\
             Bob (b.example: phone, laptop), over UDP and TCP, on a real server at {}\n\n",
            self.server.udp
        )
    }

    /// Switches a device off without a word, as when its battery is taken out.
    pub(super) fn switch_off(&mut self, device: Device) {
        self.pool.switch_off(device);
    }

    /// Switches it on again, on another port, and lets it register.
    pub(super) fn switch_on(&mut self, device: Device) -> Result<(), String> {
        let port = self.pool.udp(self.server.udp).map_err(|e| format!("no socket: {e}"))?;
        self.pool.switch_on(device, port);
        self.pool.with(device, Agent::register);
        Ok(())
    }

    /// Lets everything go on until `enough` of what was seen; the error says that `what` did not
    /// happen in time.
    pub(super) async fn until(
        &mut self,
        what: &str,
        mut enough: impl FnMut(&[(Device, AgentEvent)]) -> bool,
    ) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.look();
            if enough(&self.seen) {
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(format!("not seen within {} s: {what}", PATIENCE.as_secs()));
            }
            self.pool.wait(end).await;
        }
    }

    /// Lets everything go on for a while.
    pub(super) async fn watch(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.look();
            self.pool.wait(end).await;
        }
        self.look();
    }

    /// Stops the server; its error, if it had one.
    pub(super) fn close(self) -> Result<(), String> {
        self.server.stop()
    }

    fn look(&mut self) {
        while self.pool.turn() {}
        while let Some(happened) = self.pool.take() {
            self.seen.push(happened);
        }
    }
}

/// A server on a thread.
struct Server {
    udp: std::net::SocketAddr,
    tcp: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    thread: JoinHandle<Result<(), String>>,
}

impl Server {
    fn start(data: &Path) -> Result<Server, String> {
        let config = Config::dev(data.to_owned()).with_port(0);
        let (ready, listening) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("server".to_owned())
            .spawn(move || {
                let ready = |l: &run::Listening| drop(ready.send(l.clone()));
                run::serve_until(config, ready, async {
                    // Told to stop, or left alone: either way it is the end.
                    drop(stopped.await);
                })
            })
            .map_err(|e| format!("cannot start the server: {e}"))?;
        let Ok(listening) = listening.recv() else {
            let gone = thread.join().unwrap_or_else(|_| Err("the server gave up".to_owned()));
            return Err(gone.err().unwrap_or_else(|| "the server stopped at once".to_owned()));
        };
        let find = |protocol| {
            let found =
                listening.sip.iter().find(|(p, address)| *p == protocol && address.is_ipv4());
            found.map(|(_, address)| *address).ok_or_else(|| format!("no {protocol} listener"))
        };
        Ok(Server { udp: find(Protocol::Udp)?, tcp: find(Protocol::Tcp)?, stop, thread })
    }

    fn stop(self) -> Result<(), String> {
        drop(self.stop);
        self.thread.join().unwrap_or_else(|_| Err("the server gave up".to_owned()))
    }
}

fn seed() -> Result<[u8; 32], String> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|e| format!("no random number: {e}: try again"))?;
    Ok(seed)
}
