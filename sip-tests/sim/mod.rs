//! The program in virtual time: one node, wires, devices, a disk, a clock and one seed.
//!
//! One loop: the earliest of what is due (a packet, a deadline of the node or of a device, the
//! disk) happens, the clock jumps there, what the node wants is done, the invariants are checked.
//! Nothing waits, nothing is random but the seed.

pub mod device;
pub mod disk;
pub mod ladder;
pub mod model;
pub mod net;
mod verbs;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use cpmd::base::hash::Secret;
use cpmd::base::now::{Mono, Now, Unix};
use cpmd::node::{Effect, Input, Node, Reply};
use cpmd::service::account::{Domain, Domains, credentials};
use cpmd::service::digest::Algorithms;
use cpmd::service::record::AccountPut;
use cpmd::service::tu::{Note, Settings};
use cpmd::stack::transport::{Flow, Listener, Protocol};
use cpmd::syntax::sip::{Frame, Framer, Message, read};
use cpmd::ua::{AgentAct, AgentConfig};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub use self::device::{Ask, Dev, Device};
pub use self::net::{Rule, Way};
pub use self::verbs::{mins, ms, secs};

use self::disk::Disk;
use self::ladder::Row;
use self::model::Model;
use self::net::Fate;

/// Where all chance comes from.
#[derive(Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Dice that fall the same way for the same seed.
    pub fn new(seed: u64) -> Dice {
        Dice(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.0.next_u64() % (most.saturating_sub(least) + 1)
    }

    /// True so often in a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        per_mille > 0 && self.between(0, 999) < per_mille
    }

    fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.0.fill_bytes(&mut seed);
        seed
    }
}

enum Happening {
    ToNode(Flow, Bytes),
    ToDevice(Dev, u64, Bytes),
    Node(Input),
    Lost(Dev, u64),
    Ended(u64),
    Reopen(u64),
}

/// One connection, as both ends see it.
struct Connection {
    dev: Dev,
    flow: Flow,
    /// Not before this does anything more arrive: up, down.
    last: [u64; 2],
    /// What has come up so far, for those who watch.
    seen: Framer,
    /// What has come down so far.
    down: Framer,
}

impl Connection {
    fn new(dev: Dev, flow: Flow, there: u64) -> Connection {
        let (seen, down) = (Framer::new(), Framer::new());
        Connection { dev, flow, last: [there, there], seen, down }
    }
}

/// When the worlds begin: some day in 2026.
const UNIX: u64 = 1_767_225_600_000_000;
/// Connections that devices open are numbered from here, so that they differ from the server's.
const ACCEPTED: u64 = 1 << 62;
/// So many things at one moment mean that the node spins.
const SPIN: u32 = 20_000;

/// Everything.
pub struct World {
    /// What all chance comes from.
    pub seed: u64,
    /// Chance.
    pub dice: Dice,
    /// The disk.
    pub disk: Disk,
    /// The devices.
    pub devices: Vec<Device>,
    /// What the node noted.
    pub notes: Vec<Note>,
    /// What the node told the operator.
    pub replies: Vec<(u64, Reply)>,
    /// What passed.
    pub rows: Vec<Row>,
    /// The promises.
    pub model: Model,
    /// How often a store was found broken and opened again.
    pub reopened: u32,
    node: Option<Node>,
    settings: Settings,
    accounts: Vec<(String, AccountPut)>,
    /// Microseconds since the world began.
    time: u64,
    /// Microseconds of 1970 when the world's clock stood at 0; a story steps it.
    unix: u64,
    /// When the process began: its monotonic clock starts there.
    began: u64,
    /// When the node was made, on that clock.
    made: u64,
    life: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    serial: u64,
    connections: BTreeMap<u64, Connection>,
    spins: u32,
    /// SIM_TRACE is set: everything that passes is printed.
    is_told: bool,
}

impl World {
    /// A world with an empty disk and a server that has just started.
    pub fn new(seed: u64) -> World {
        World::with(seed, |_| {})
    }

    /// The same with other settings.
    pub fn with(seed: u64, change: impl FnOnce(&mut Settings)) -> World {
        let home = |name: &str| Domain { name: name.into(), aliases: vec![] };
        let mut settings = Settings {
            domains: Domains(vec![home("a.example"), home("b.example")]),
            algorithms: Algorithms::default(),
            udp_bytes_max: cpmd::base::limits::UDP_REQUEST_OCTETS_MAX,
            messages_per_second: cpmd::base::limits::MESSAGES_PER_SECOND,
            messages_burst: cpmd::base::limits::MESSAGES_BURST,
        };
        change(&mut settings);
        let mut world = World {
            seed,
            dice: Dice::new(seed),
            disk: Disk::default(),
            devices: Vec::new(),
            notes: Vec::new(),
            replies: Vec::new(),
            rows: Vec::new(),
            model: Model::default(),
            reopened: 0,
            node: None,
            settings,
            accounts: Vec::new(),
            time: 0,
            unix: UNIX,
            began: 0,
            made: 0,
            life: 0,
            queue: BTreeMap::new(),
            serial: 0,
            connections: BTreeMap::new(),
            spins: 0,
            is_told: std::env::var_os("SIM_TRACE").is_some(),
        };
        world.start();
        world
    }

    // --- the loop -----------------------------------------------------------------------------

    /// Microseconds since the world began.
    pub fn time(&self) -> u64 {
        self.time
    }

    /// The moment as devices see it.
    pub fn now(&self) -> Now {
        Now { mono: Mono(self.time), unix: Unix((self.unix + self.time) / 1000) }
    }

    /// When the next thing happens.
    pub fn next(&self) -> Option<u64> {
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        let node = self.node.as_ref().and_then(Node::next_deadline).map(|at| at.0 + self.began);
        let devices = self.devices.iter().filter(|d| d.is_on).filter_map(|d| d.agent.as_ref());
        let devices = devices.filter_map(|a| a.next_deadline()).map(|at| at.0).min();
        [queued, node, devices, self.disk.due()].into_iter().flatten().min()
    }

    /// Lets the next thing happen, if there is one until `limit`; false if there is none.
    pub fn step(&mut self, limit: u64) -> bool {
        let Some(at) = self.next().filter(|at| *at <= limit) else { return false };
        if at > self.time {
            self.spins = 0;
        }
        self.time = self.time.max(at);
        self.spins += 1;
        assert!(self.spins < SPIN, "nothing goes on, and nothing waits: the node spins");
        if let Some(first) = self.queue.first_entry().filter(|e| e.key().0 <= self.time) {
            let happening = first.remove();
            self.happen(happening);
        } else if self.disk.due().is_some_and(|due| due <= self.time) {
            for answer in self.disk.complete(self.time, &mut self.dice) {
                if let Input::Outcome { outcome, .. } = &answer {
                    let said = format!("{outcome:?}");
                    let said = said.split([' ', '(']).next().unwrap_or_default();
                    self.row("disk", "cpmd", said.to_lowercase());
                }
                self.handle(answer);
            }
        } else if self.node_is_due() {
            self.handle(Input::Tick);
        } else {
            self.fire_devices();
        }
        if self.disk.is_held {
            self.model.held = Some(self.time);
        }
        self.model.check_answers(self.time);
        self.check_tables();
        true
    }

    fn node_is_due(&self) -> bool {
        let due = self.node.as_ref().and_then(Node::next_deadline);
        due.is_some_and(|at| at.0 + self.began <= self.time)
    }

    fn fire_devices(&mut self) {
        let now = self.now();
        for i in 0..self.devices.len() {
            let device = &mut self.devices[i];
            if let Some(agent) = device.agent.as_mut().filter(|_| device.is_on)
                && agent.next_deadline().is_some_and(|at| at <= now.mono)
            {
                agent.fire(now);
                self.drain_device(Dev(i));
            }
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToNode(flow, octets) => self.at_node(flow, octets),
            Happening::ToDevice(dev, connection, octets) => {
                self.at_device(dev, connection, &octets)
            }
            Happening::Node(input) => self.handle(input),
            Happening::Lost(dev, connection) => {
                let now = self.now();
                let device = &mut self.devices[dev.0];
                if device.connection == Some(connection) {
                    device.disconnected(now);
                    self.drain_device(dev);
                }
            }
            Happening::Ended(connection) => self.ended(connection),
            Happening::Reopen(life) if self.disk.is_full => {
                // The shell looks for room before it opens the store, and tries again later.
                self.schedule(self.time + 5_000_000, Happening::Reopen(life));
            }
            Happening::Reopen(life) => {
                if life == self.life {
                    self.reopened += 1;
                    self.disk.crash(0);
                    self.node = None;
                    self.start_node();
                    // The new node knows nothing of what was half read on them.
                    let open: Vec<u64> = self.connections.keys().copied().collect();
                    open.into_iter().for_each(|c| self.break_connection(c, true));
                }
            }
        }
    }

    fn at_node(&mut self, flow: Flow, octets: Bytes) {
        let open =
            flow.protocol == Protocol::Udp || self.connections.contains_key(&flow.connection);
        if self.node.is_none() || !open {
            return;
        }
        let source = self.device_at(flow);
        let from = source.map_or("nobody".to_owned(), |d| self.devices[d.0].name.clone());
        for message in self.whole(flow, &octets) {
            let message = read(message).ok();
            self.row(&from, "cpmd", self.label(message.as_ref()));
            if let Some(Message::Request(request)) = message {
                let way = (source, flow.connection);
                self.model.arrived(self.time, way, &request, &self.disk.facts);
            }
        }
        self.handle(Input::Octets { flow, octets });
    }

    /// The messages that these octets complete.
    fn whole(&mut self, flow: Flow, octets: &Bytes) -> Vec<Bytes> {
        let Some(connection) = self.connections.get_mut(&flow.connection) else {
            return vec![octets.clone()];
        };
        connection.seen.push(octets);
        let frames = std::iter::from_fn(|| connection.seen.next());
        let message = |frame| match frame {
            Frame::Message(octets) => Some(octets),
            Frame::Broken(..) => Some(octets.clone()),
            Frame::KeepAlive => None,
        };
        frames.take(100).filter_map(message).collect()
    }

    fn at_device(&mut self, dev: Dev, number: u64, octets: &Bytes) {
        if !self.devices[dev.0].is_on {
            return;
        }
        if self.devices[dev.0].protocol == Protocol::Udp {
            return self.reaches(dev, octets);
        }
        // A device may have two connections, one that it made and one that the server made.
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.down.push(octets);
        let frames: Vec<Frame> = std::iter::from_fn(|| connection.down.next()).collect();
        for frame in frames {
            if let Frame::Message(octets) = frame {
                self.reaches(dev, &octets);
            }
        }
    }

    fn reaches(&mut self, dev: Dev, octets: &Bytes) {
        let now = self.now();
        self.devices[dev.0].receive(now, octets);
        self.drain_device(dev);
    }

    fn label(&self, message: Option<&Message>) -> String {
        let label = ladder::label(message);
        if self.is_told { format!("{label} {}", ladder::detail(message)) } else { label }
    }

    fn row(&mut self, from: &str, to: &str, label: String) {
        if self.is_told {
            eprintln!("{:>13} {from} -> {to}: {label}", self.time);
        }
        self.rows.push(Row { at: self.time, from: from.into(), to: to.into(), label });
    }

    fn schedule(&mut self, at: u64, happening: Happening) {
        self.serial += 1;
        self.queue.insert((at, self.serial), happening);
    }

    // --- the node -----------------------------------------------------------------------------

    fn handle(&mut self, input: Input) {
        let now = Now { mono: Mono(self.time - self.began), ..self.now() };
        let Some(node) = &mut self.node else { return };
        node.handle(now, input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            let effects = self.node.as_mut().map(Node::drain).unwrap_or_default();
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.perform(effect);
            }
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Send { flow, octets } => self.node_sends(flow, octets),
            Effect::Connect(flow) => self.connect(flow),
            Effect::Close(flow) => self.break_connection(flow.connection, false),
            Effect::Proven(_) => {}
            Effect::Append(append) => {
                self.row("cpmd", "disk", ladder::batch(&append.value));
                self.disk.append(self.time, &mut self.dice, append);
            }
            Effect::Fetch { ticket, user, at } => {
                self.disk.fetch(self.time, &mut self.dice, ticket, user, at);
            }
            Effect::Tail { ticket, user, from } => {
                self.disk.tail(self.time, &mut self.dice, ticket, user, from);
            }
            Effect::Reply { id, reply } => self.replies.push((id, reply)),
            Effect::Note(note) => {
                self.row("cpmd", "log", format!("{note:?}"));
                self.model.note(&note);
                self.notes.push(note);
            }
            Effect::StoreBroken => {
                self.row("cpmd", "log", "store broken".into());
                self.schedule(self.time + 50_000, Happening::Reopen(self.life));
            }
        }
    }

    /// The process starts: a new node from what is on disk.
    pub fn start(&mut self) {
        assert!(self.node.is_none(), "it runs already");
        self.began = self.time;
        self.start_node();
    }

    fn start_node(&mut self) {
        self.life += 1;
        self.made = self.time - self.began;
        self.model.restarted();
        let listener = |id, protocol| {
            let flow = device::server(protocol);
            Listener { id, protocol, local: flow.peer, host: device::SERVER.to_string() }
        };
        let listeners =
            vec![listener(device::UDP, Protocol::Udp), listener(device::TCP, Protocol::Tcp)];
        let legs = Secret::new([7; 32]);
        let mut node = Node::new(self.settings.clone(), listeners, self.dice.seed(), legs);
        for (aor, kept) in &self.accounts {
            node.provision(aor, kept.clone());
        }
        let now = Now { mono: Mono(self.time - self.began), ..self.now() };
        for (user, batch) in self.disk.all() {
            node.replay(now, &user, batch.first, &batch.value).expect("what is on disk reads back");
        }
        node.replayed(now);
        self.node = Some(node);
        self.drain();
    }

    /// kill -9 and power loss: of what the disk was doing the first `survives` batches are found
    /// written.
    pub fn crash(&mut self, survives: usize) {
        self.row("cpmd", "cpmd", "crash".into());
        self.node = None;
        self.life += 1;
        self.disk.crash(survives);
        let open: Vec<u64> = self.connections.keys().copied().collect();
        open.into_iter().for_each(|c| self.break_connection(c, false));
    }

    /// The node, to look at.
    pub fn node(&self) -> &Node {
        self.node.as_ref().expect("it runs")
    }

    // --- wires --------------------------------------------------------------------------------

    fn device_at(&self, flow: Flow) -> Option<Dev> {
        if flow.protocol == Protocol::Tcp {
            return self.connections.get(&flow.connection).map(|c| c.dev);
        }
        let at = |d: &Device| d.addr == flow.peer && d.protocol == Protocol::Udp;
        self.devices.iter().position(at).map(Dev)
    }

    fn node_sends(&mut self, flow: Flow, octets: Bytes) {
        if flow.protocol == Protocol::Tcp && !self.connections.contains_key(&flow.connection) {
            // Not in the middle of what it is doing.
            return self.schedule(self.time, Happening::Node(Input::Closed(flow)));
        }
        let dev = self.device_at(flow);
        let to = dev.map_or("nobody".to_owned(), |d| self.devices[d.0].name.clone());
        let message = read(octets.clone()).ok();
        self.row("cpmd", &to, self.label(message.as_ref()));
        if let Some(Message::Response(response)) = message {
            self.model.answered(&response, &self.disk.facts);
        }
        let Some(dev) = dev else { return };
        match flow.protocol {
            Protocol::Udp => self.datagram(dev, Way::Down, octets),
            Protocol::Tcp => self.stream(flow.connection, Way::Down, octets),
        }
    }

    fn device_sends(&mut self, dev: Dev, octets: Bytes) {
        match self.devices[dev.0].protocol {
            Protocol::Udp => self.datagram(dev, Way::Up, octets),
            Protocol::Tcp => {
                let open =
                    self.devices[dev.0].connection.filter(|c| self.connections.contains_key(c));
                match open.or_else(|| self.open_connection(dev)) {
                    Some(connection) => self.stream(connection, Way::Up, octets),
                    None => {
                        let none = self.devices[dev.0].connection.unwrap_or(0);
                        self.devices[dev.0].connection = Some(none);
                        self.schedule(self.time + 10_000, Happening::Lost(dev, none));
                    }
                }
            }
        }
    }

    fn datagram(&mut self, dev: Dev, way: Way, octets: Bytes) {
        let device = &mut self.devices[dev.0];
        match device.wire.fate(&mut self.dice, way, &octets) {
            Fate::Kept => {}
            Fate::Arrives(delays) => {
                for delay in delays {
                    self.pass(dev, way, octets.clone(), delay);
                }
            }
        }
    }

    fn pass(&mut self, dev: Dev, way: Way, octets: Bytes, delay: u64) {
        let flow = Flow { peer: self.devices[dev.0].addr, ..device::server(Protocol::Udp) };
        let happening = match way {
            Way::Up => Happening::ToNode(flow, octets),
            Way::Down => Happening::ToDevice(dev, 0, octets),
        };
        self.schedule(self.time + delay, happening);
    }

    // --- connections --------------------------------------------------------------------------

    fn open_connection(&mut self, dev: Dev) -> Option<u64> {
        if self.node.is_none() || self.devices[dev.0].wire.is_cut {
            return None;
        }
        self.serial += 1;
        let number = ACCEPTED + self.serial;
        let mut flow = device::server(Protocol::Tcp);
        flow.peer = self.devices[dev.0].addr;
        flow.peer.set_port(u16::try_from(40_000 + self.serial % 20_000).expect("a port"));
        flow.connection = number;
        let there = self.time + self.devices[dev.0].wire.delay(&mut self.dice, Way::Up);
        self.connections.insert(number, Connection::new(dev, flow, there));
        self.devices[dev.0].connection = Some(number);
        self.schedule(there, Happening::Node(Input::Opened(flow)));
        Some(number)
    }

    /// The server opens a connection to the Contact of a device.
    fn connect(&mut self, flow: Flow) {
        let at = |d: &Device| {
            d.addr == flow.peer && d.protocol == Protocol::Tcp && d.is_on && !d.wire.is_cut
        };
        let Some(dev) = self.devices.iter().position(at).map(Dev) else {
            return self.schedule(self.time + 10_000, Happening::Node(Input::Closed(flow)));
        };
        let there = self.time + 2 * self.devices[dev.0].wire.delay(&mut self.dice, Way::Down);
        self.connections.insert(flow.connection, Connection::new(dev, flow, there));
        self.devices[dev.0].connection.get_or_insert(flow.connection);
        self.schedule(there, Happening::Node(Input::Opened(flow)));
    }

    fn stream(&mut self, number: u64, way: Way, octets: Bytes) {
        let Some(connection) = self.connections.get(&number) else { return };
        let (dev, flow) = (connection.dev, connection.flow);
        let side = usize::from(way == Way::Down);
        let mut rest = octets;
        while !rest.is_empty() {
            let crumbles = self.devices[dev.0].wire.crumbles;
            let all = rest.len() as u64;
            let some = if crumbles { self.dice.between(1, all) } else { all };
            let piece = rest.split_to(usize::try_from(some).expect("fits"));
            let delay = self.devices[dev.0].wire.delay(&mut self.dice, way);
            let Some(connection) = self.connections.get_mut(&number) else { return };
            let at = connection.last[side].max(self.time + delay);
            connection.last[side] = at;
            let happening = match way {
                Way::Up => Happening::ToNode(flow, piece),
                Way::Down => Happening::ToDevice(dev, number, piece),
            };
            self.schedule(at, happening);
        }
    }

    /// A connection is gone; both ends hear of it, the server only if `tell_node`.
    fn break_connection(&mut self, number: u64, tell_node: bool) {
        let Some(connection) = self.connections.get(&number) else { return };
        let (dev, flow, last) = (connection.dev, connection.flow, connection.last);
        let down = last[1].max(self.time + 10_000);
        self.schedule(down, Happening::Lost(dev, number));
        self.connections.remove(&number);
        self.model.disconnected(number);
        if tell_node {
            self.schedule(self.time + 10_000, Happening::Node(Input::Closed(flow)));
        }
    }

    /// The device says that nothing more will come, behind all that it has sent; it still reads.
    pub fn half_closes(&mut self, dev: Dev) {
        let number = self.devices[dev.0].connection.expect("a connection");
        let connection = self.connections.get(&number).expect("it is open");
        let at = connection.last[0].max(self.time);
        self.devices[dev.0].connection = None;
        self.schedule(at, Happening::Ended(number));
    }

    /// Nothing more comes on a connection: the server closes its side too, as the shell does. What
    /// it has written arrives.
    fn ended(&mut self, number: u64) {
        let Some(flow) = self.connections.get(&number).map(|c| c.flow) else { return };
        self.handle(Input::Closed(flow));
        self.break_connection(number, false);
    }

    // --- devices ------------------------------------------------------------------------------

    /// A device joins: its account exists, unless its name begins with `nobody`.
    pub fn add(&mut self, name: &str, raw: bool, change: impl FnOnce(&mut AgentConfig)) -> Dev {
        let mut config = device::config(name, self.devices.len());
        change(&mut config);
        if !name.starts_with("nobody") && !self.accounts.iter().any(|(aor, _)| *aor == config.aor) {
            let kept = credentials(&config.aor, &device::password(&config.user), false);
            if let Some(node) = &mut self.node {
                node.provision(&config.aor, kept.clone());
            }
            self.accounts.push((config.aor.clone(), kept));
        }
        let instance = config.instance.clone().filter(|_| !raw);
        self.model.party(name, &config.aor, config.kind, instance);
        let seed = self.dice.seed();
        self.devices.push(Device::new(config, raw, seed));
        Dev(self.devices.len() - 1)
    }

    fn drain_device(&mut self, dev: Dev) {
        let mut acts = Vec::new();
        if let Some(agent) = &mut self.devices[dev.0].agent {
            agent.drain(&mut acts);
        }
        for act in acts {
            match act {
                AgentAct::Send(octets) => self.device_sends(dev, octets),
                AgentAct::Event(event) => {
                    self.model.event(dev, &event);
                    self.devices[dev.0].events.push((self.time, event));
                }
            }
        }
    }

    // --- what must be true --------------------------------------------------------------------

    fn check_tables(&self) {
        use cpmd::base::limits::{BINDINGS_MAX, DEVICES_MAX, OPEN_MESSAGES_MAX};
        let Some(node) = &self.node else { return };
        for user in &node.tables().users {
            assert!(user.location.devices().count() <= DEVICES_MAX);
            let bound = user.location.devices().filter(|d| d.binding.is_some()).count();
            assert!(bound <= BINDINGS_MAX);
            // Beyond the bound stand what is being sent, and one copy or receipt for each device.
            let beyond = user.mailbox.open().saturating_sub(OPEN_MESSAGES_MAX + DEVICES_MAX);
            let sending = || user.mailbox.items().filter(|(_, item)| item.forward).count();
            assert!(beyond == 0 || beyond <= sending());
            assert!(user.mailbox.lanes.len() <= DEVICES_MAX, "a queue for a device that is gone");
        }
    }

    /// The devices that have been registered and are on.
    pub fn present(&self) -> BTreeSet<Dev> {
        let there = |d: &Device| d.is_on && d.agent.as_ref().is_some_and(|a| a.is_registered());
        let all = self.devices.iter().enumerate();
        all.filter(|(_, d)| there(d)).map(|(i, _)| Dev(i)).collect()
    }

    /// So long from now.
    fn later(&self, d: Duration) -> u64 {
        self.time + u64::try_from(d.as_micros()).expect("fits")
    }
}
