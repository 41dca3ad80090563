//! One device: the pure user agent, its sockets, and what it was promised by the registrar.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cpmd::base::now::Now;
use cpmd::stack::transport::{Flow, Protocol};
use cpmd::syntax::sip::{self, Message, Name};
use cpmd::ua::{Agent, AgentAct, AgentConfig, AgentEvent, Answers, Kind, Receipts};

use super::catalogue::seed_of;
use super::wire::{self, Event, Port};

/// What the registrar has promised to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Promise {
    /// Something is under way, or was never answered.
    Open,
    /// A 200 said that it is bound here, until then.
    Bound(SocketAddr, Instant),
    /// A 200 said that it is not bound.
    Gone,
}

/// What a device has noticed.
pub enum Noticed {
    /// What its agent says.
    Event(AgentEvent),
    /// It answered a MESSAGE with 2xx: a phone without memory shows it now.
    Answered(Showing),
}

/// One MESSAGE as it came.
pub struct Showing {
    /// Call-ID of the leg.
    pub call_id: String,
    /// CSeq number.
    pub cseq: u32,
    /// Content-Type.
    pub content_type: String,
    /// The body.
    pub body: Bytes,
}

/// One device of one account.
pub struct Device {
    /// Its place in the table of devices.
    pub at: usize,
    /// For people.
    pub name: &'static str,
    /// The agent.
    pub agent: Agent,
    /// What it was promised.
    pub promise: Promise,
    /// Counts changes of `promise`.
    pub serial: u64,
    /// Sleeps until then.
    pub asleep: Option<Instant>,
    /// Goes to sleep when its unregistration is answered.
    pub retiring: Option<Duration>,
    /// Registers again, or falls asleep, at this time.
    pub next_turn: Instant,
    server: SocketAddr,
    port: Option<Port>,
    listening: Option<SocketAddr>,
    connections: BTreeMap<u64, TcpStream>,
    /// The connection that the device has opened itself; 0 if there is none.
    main: u64,
    last_connection: u64,
    events: Sender<Event>,
}

/// What makes one device differ from the others.
pub struct Model {
    pub name: &'static str,
    pub aor: &'static str,
    pub kind: Kind,
    pub protocol: Protocol,
    /// What the agent gives receipts for by itself.
    pub receipts: Receipts,
}

/// Registrations ask for this many seconds.
const EXPIRES: u32 = 90;
const PATIENCE: Duration = Duration::from_secs(2);

impl Device {
    /// A device that is switched on and has done nothing yet.
    pub fn new(
        at: usize,
        seed: u64,
        model: &Model,
        server: SocketAddr,
        events: Sender<Event>,
    ) -> Device {
        let tcp = model.protocol == Protocol::Tcp;
        let port = (!tcp).then(|| Port::open(at, 0, events.clone()));
        let listening = tcp.then(|| wire::listen(at, events.clone()));
        let contact = listening.or(port.as_ref().map(Port::address)).expect("one of the two");
        let connection = u64::from(tcp);
        let user = model.aor.trim_start_matches("sip:").split('@').next().unwrap_or_default();
        let accepts: &[&str] = if model.kind == Kind::Cpm { &["*/*"] } else { &["text/plain"] };
        let config = AgentConfig {
            aor: model.aor.to_owned(),
            user: user.to_owned(),
            password: "secret".to_owned(),
            device: model.name.to_owned(),
            instance: Some(format!("urn:uuid:00000000-0000-4000-8000-0000000000{at:02}")),
            kind: model.kind,
            flow: Flow { protocol: model.protocol, listener: 0, peer: server, connection },
            contact,
            expires: EXPIRES,
            accepts: accepts.iter().map(|a| (*a).to_owned()).collect(),
            receipts: model.receipts,
            answers: Answers::Ok200,
        };
        Device {
            at,
            name: model.name,
            agent: Agent::new(config, seed_of(seed, 1 << 32 | at as u64)),
            promise: Promise::Open,
            serial: 0,
            asleep: None,
            retiring: None,
            next_turn: Instant::now(),
            server,
            port,
            listening,
            connections: BTreeMap::new(),
            main: 0,
            last_connection: 0,
            events,
        }
    }

    /// Its `+sip.instance`.
    pub fn instance(&self) -> &str {
        self.agent.config().instance.as_deref().unwrap_or_default()
    }

    /// Whether it is a CPM device.
    pub fn is_cpm(&self) -> bool {
        self.agent.config().kind == Kind::Cpm
    }

    /// Whether it speaks over TCP.
    pub fn is_tcp(&self) -> bool {
        self.listening.is_some()
    }

    /// Whether it can send now: over TCP it must have connected and registered.
    pub fn can_send(&self) -> bool {
        self.asleep.is_none() && (!self.is_tcp() || self.main != 0 && self.agent.is_registered())
    }

    /// Whether it is awake and without a connection that it should have.
    pub fn wants_connection(&self) -> bool {
        self.is_tcp() && self.main == 0 && self.asleep.is_none()
    }

    /// Opens its own connection to the server and registers on it.
    pub fn connect(&mut self, now: Now) {
        let Ok(stream) = TcpStream::connect_timeout(&self.server, PATIENCE) else { return };
        self.main = self.add(stream);
        self.register(now);
    }

    /// The server has connected to it.
    pub fn accepted(&mut self, stream: TcpStream) {
        if self.asleep.is_none() {
            self.add(stream);
        }
    }

    /// A connection has ended.
    pub fn closed(&mut self, now: Now, connection: u64) {
        self.connections.remove(&connection);
        if self.main == connection {
            self.main = 0;
            self.agent.disconnected(now);
        }
    }

    /// Registers, or refreshes.
    pub fn register(&mut self, now: Now) {
        let here = self.agent.config().contact;
        if !matches!(self.promise, Promise::Bound(there, _) if there == here) {
            self.promised(Promise::Open);
        }
        self.agent.register(now);
    }

    /// Unregisters, and sleeps for so long once that is answered.
    pub fn retire(&mut self, now: Now, sleep: Duration) {
        self.retiring = Some(sleep);
        self.promised(Promise::Open);
        self.agent.unregister(now);
    }

    /// Sleeps without a word.
    pub fn sleep(&mut self, until: Instant) {
        self.asleep = Some(until);
        self.retiring = None;
        self.drop_connections();
    }

    /// Is switched on again, perhaps at another address, and registers.
    pub fn wake(&mut self, now: Now, moves: bool) {
        self.asleep = None;
        if moves && self.port.is_some() {
            self.last_connection += 1;
            let port = Port::open(self.at, self.last_connection, self.events.clone());
            self.agent.moved(self.agent.config().flow, port.address());
            self.port = Some(port);
        }
        self.agent.restart();
        // Over TCP it registers when it is connected.
        if !self.is_tcp() {
            self.register(now);
        }
    }

    /// What the registrar has promised is another thing now.
    pub fn promised(&mut self, promise: Promise) {
        self.promise = promise;
        self.serial += 1;
    }

    /// The registrar said that it is bound.
    pub fn is_bound(&mut self, expires: u32) {
        if self.retiring.is_none() {
            let until = Instant::now() + Duration::from_secs(u64::from(expires));
            self.promise = Promise::Bound(self.agent.config().contact, until);
            self.serial += 1;
        }
    }

    /// Octets came; what that made the device notice.
    pub fn octets(&mut self, now: Now, connection: u64, octets: Bytes) -> Vec<Noticed> {
        let old_port = self.port.is_some() && connection != self.last_connection;
        if self.asleep.is_some() || old_port {
            return Vec::new();
        }
        let showing = octets.starts_with(b"MESSAGE ").then(|| showing(octets.clone())).flatten();
        self.agent.receive(now, octets);
        let (mut noticed, answered) = self.act(now, connection);
        if answered {
            noticed.extend(showing.map(Noticed::Answered));
        }
        noticed
    }

    /// Does what the agent wants done.
    pub fn flush(&mut self, now: Now) -> Vec<Noticed> {
        self.act(now, self.main).0
    }

    /// Sends; answers go on `connection`, requests on the device's own. Whether a 2xx went out.
    fn act(&mut self, now: Now, connection: u64) -> (Vec<Noticed>, bool) {
        let (mut noticed, mut answered) = (Vec::new(), false);
        let mut acts = Vec::new();
        self.agent.drain(&mut acts);
        while !acts.is_empty() {
            let mut broken = false;
            for act in acts.drain(..) {
                match act {
                    AgentAct::Send(octets) => {
                        let response = octets.starts_with(b"SIP/2.0 ");
                        answered |= octets.starts_with(b"SIP/2.0 2");
                        broken |=
                            !self.send(if response { connection } else { self.main }, &octets);
                    }
                    AgentAct::Event(event) => noticed.push(Noticed::Event(event)),
                }
            }
            if broken {
                self.main = 0;
                self.agent.disconnected(now);
            }
            self.agent.drain(&mut acts);
        }
        (noticed, answered)
    }

    /// False if the device's own connection is not there.
    fn send(&mut self, connection: u64, octets: &[u8]) -> bool {
        if self.asleep.is_some() {
            return true;
        }
        if let Some(port) = &self.port {
            port.send(octets, self.server);
            return true;
        }
        let Some(stream) = self.connections.get_mut(&connection) else { return connection != 0 };
        stream.write_all(octets).is_ok() || connection != self.main
    }

    fn add(&mut self, stream: TcpStream) -> u64 {
        self.last_connection += 1;
        let number = self.last_connection;
        drop((stream.set_nodelay(true), stream.set_write_timeout(Some(PATIENCE))));
        if let Ok(reader) = stream.try_clone() {
            wire::read(self.at, number, reader, self.events.clone());
        }
        self.connections.insert(number, stream);
        number
    }

    fn drop_connections(&mut self) {
        for stream in std::mem::take(&mut self.connections).into_values() {
            drop(stream.shutdown(std::net::Shutdown::Both));
        }
        self.main = 0;
    }
}

fn showing(octets: Bytes) -> Option<Showing> {
    let Ok(Message::Request(request)) = sip::read(octets) else { return None };
    Some(Showing {
        call_id: request.call_id().ok()?.to_owned(),
        cseq: request.cseq().ok()?.number,
        content_type: request.headers.text(Name::ContentType).unwrap_or_default().to_owned(),
        body: request.body,
    })
}
