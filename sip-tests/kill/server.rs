//! The server as a process of its own: started, killed, and heard on its standard streams.

use std::collections::{BTreeSet, VecDeque};
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use super::wire::Event;

/// Lines of the server's log that are kept for a failure.
const TAIL: usize = 40;
/// A start that takes longer has failed.
const START_MAX: Duration = Duration::from_secs(60);

/// One server on one data directory, life after life.
pub struct Server {
    /// Where it listens, over UDP and TCP.
    pub address: SocketAddr,
    /// Its data directory.
    pub data: PathBuf,
    /// Which life it is in, from 1.
    pub life: u32,
    /// Whether it has said `ready` in this life.
    pub ready: bool,
    /// From spawn to `ready`, for each life that got there.
    pub starts: Vec<Duration>,
    /// Legs that the server has named as sent again after a restart.
    pub named: BTreeSet<String>,
    /// Errors that it logged.
    pub errors: Vec<String>,
    program: PathBuf,
    config: PathBuf,
    child: Option<Child>,
    spawned: Instant,
    tail: VecDeque<String>,
    events: Sender<Event>,
}

impl Server {
    /// Writes the configuration; nothing is started yet.
    pub fn new(program: &Path, dir: &Path, port_seed: u64, events: Sender<Event>) -> Server {
        let address = free_address(port_seed);
        let (data, config) = (dir.join("data"), dir.join("cpmd.toml"));
        let text = format!(
            "data = \"{}\"\n\
             [[domain]]\nname = \"a.example\"\n[[domain]]\nname = \"b.example\"\n\
             [listen]\nsip = [\"udp:{address}\", \"tcp:{address}\"]\n\
             [[account]]\nuri = \"sip:alice@a.example\"\npassword = \"secret\"\n\
             [[account]]\nuri = \"sip:bob@b.example\"\npassword = \"secret\"\n\
             [limits]\nmessages_per_second = 1000\nmessages_burst = 1000\n",
            data.display()
        );
        std::fs::write(&config, text).expect("the configuration is written");
        Server {
            address,
            data,
            program: program.to_owned(),
            config,
            life: 0,
            ready: false,
            starts: Vec::new(),
            named: BTreeSet::new(),
            errors: Vec::new(),
            child: None,
            spawned: Instant::now(),
            tail: VecDeque::new(),
            events,
        }
    }

    /// Starts the next life, told to die at `arm` if there is one.
    pub fn start(&mut self, arm: Option<(&str, u64)>) {
        let mut command = Command::new(&self.program);
        command.args(["--log", "json", "serve", "--config"]).arg(&self.config);
        command.env_remove("CPMD_LOG").env_remove("CPMD_CRASH_AT");
        if let Some((point, nth)) = arm {
            command.env("CPMD_CRASH_AT", format!("{point}:{nth}"));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.life += 1;
        self.ready = false;
        self.spawned = Instant::now();
        let mut child = command.spawn().expect("the server is started");
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (life, events) = (self.life, self.events.clone());
        // Its death is told when all that it said was read.
        std::thread::spawn(move || {
            let log = events.clone();
            let errors = std::thread::spawn(move || {
                lines(err, &mut |line| drop(log.send(Event::Log(line))));
            });
            lines(out, &mut |line| {
                if line == "ready" {
                    drop(events.send(Event::Ready(life)));
                }
            });
            drop(errors.join());
            drop(events.send(Event::Gone(life)));
        });
        self.child = Some(child);
    }

    /// Kills it, as kill -9 does. `Event::Gone` tells when all is over.
    pub fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
        }
    }

    /// It has said `ready`.
    pub fn is_ready(&mut self) {
        self.ready = true;
        self.starts.push(self.spawned.elapsed());
    }

    /// Its streams have ended: waits for the process, and says how it ended.
    pub fn is_gone(&mut self) -> String {
        self.ready = false;
        let status = self.child.take().map(|mut child| child.wait());
        match status {
            Some(Ok(status)) => status.to_string(),
            other => format!("{other:?}"),
        }
    }

    /// Whether a process runs.
    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it should be ready by now.
    pub fn is_late(&self) -> bool {
        self.runs() && !self.ready && self.spawned.elapsed() > START_MAX
    }

    /// A line of its log.
    pub fn log(&mut self, line: String) {
        if let Ok(event) = serde_json::from_str::<serde_json::Value>(&line) {
            let text = |name: &str| event.get(name).and_then(|v| v.as_str()).unwrap_or_default();
            if text("message").starts_with("sent again after a restart") {
                self.named.insert(text("call_id").to_owned());
                return;
            }
            if text("level") == "ERROR" {
                self.errors.push(format!("life {}: {line}", self.life));
            }
        } else {
            self.errors.push(format!("life {}: {line}", self.life));
        }
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// The last lines of the log.
    pub fn tail(&self) -> impl Iterator<Item = &str> {
        self.tail.iter().map(String::as_str)
    }

    /// What `cpmd store check` says about the data directory, and whether it is content.
    pub fn store_check(&self) -> (bool, String) {
        let mut command = Command::new(&self.program);
        let out = command.args(["store", "check", "--data"]).arg(&self.data).output();
        match out {
            Ok(out) => {
                let said = [out.stdout, out.stderr].concat();
                (out.status.success(), String::from_utf8_lossy(&said).trim().to_owned())
            }
            Err(error) => (false, error.to_string()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn lines(stream: Option<impl Read>, each: &mut dyn FnMut(String)) {
    let Some(stream) = stream else { return };
    for line in BufReader::new(stream).lines() {
        match line {
            Ok(line) => each(line),
            Err(_) => return,
        }
    }
}

/// A port that is free for UDP and TCP, outside of the range from which the system gives ports by
/// itself: nobody gets it while the server is down.
fn free_address(seed: u64) -> SocketAddr {
    let first = 20_000 + (seed ^ u64::from(std::process::id())) % 10_000;
    let ports = (0..2000).map(|i| 20_000 + (first - 20_000 + i * 7) % 10_000);
    for port in ports {
        let address = SocketAddr::from(([127, 0, 0, 1], port as u16));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free");
}
