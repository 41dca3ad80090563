//! The loop: devices, load, the server and its deaths, and now and then a halt for the counting.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cpmd::base::now::{Mono, Now, Unix};
use cpmd::stack::transport::Protocol;
use cpmd::syntax::cpim::Cpim;
use cpmd::ua::{AgentEvent, Kind, Receipts};

use super::audit;
use super::catalogue::Dice;
use super::device::{Device, Model, Noticed, Promise};
use super::fate::{Fate, Fates};
use super::ledger::{ALICE, BOB, Faults, Ledger};
use super::server::Server;
use super::wire::Event;

const MODELS: &[Model] = &[
    alice("phone", Kind::Cpm, Protocol::Udp, Receipts::Delivered),
    alice("tablet", Kind::Cpm, Protocol::Tcp, Receipts::None),
    alice("old phone", Kind::Plain, Protocol::Udp, Receipts::None),
    bob("desk", Kind::Cpm, Protocol::Tcp),
    bob("mobile", Kind::Cpm, Protocol::Udp),
    bob("old desk", Kind::Plain, Protocol::Udp),
    bob("laptop", Kind::Cpm, Protocol::Tcp),
    bob("kitchen", Kind::Plain, Protocol::Udp),
    // These only look: they ask for the list of bindings after each restart.
    alice("list of Alice", Kind::Plain, Protocol::Udp, Receipts::None),
    bob("list of Bob", Kind::Plain, Protocol::Udp),
];
pub(super) const ALICES: std::ops::Range<usize> = 0..3;
pub(super) const BOBS: std::ops::Range<usize> = 3..8;
pub(super) const PHONES: std::ops::Range<usize> = 0..8;
pub(super) const OBSERVERS: std::ops::Range<usize> = 8..10;

/// Before a refused or lost message is tried again.
pub(super) const AGAIN: Duration = Duration::from_millis(50);

const fn alice(name: &'static str, kind: Kind, protocol: Protocol, receipts: Receipts) -> Model {
    Model { name, aor: ALICE, kind, protocol, receipts }
}

const fn bob(name: &'static str, kind: Kind, protocol: Protocol) -> Model {
    Model { name, aor: BOB, kind, protocol, receipts: Receipts::None }
}

/// How a run is to be.
pub struct Options {
    /// The server: `cpmd`.
    pub program: PathBuf,
    /// Kills in all.
    pub kills: u64,
    /// Where every choice comes from.
    pub seed: u64,
    /// Messages per second while the server is up, about.
    pub rate: u64,
    /// Kills between two countings.
    pub every: u64,
}

/// What is wrong, by claim.
#[derive(Default)]
pub struct Claims {
    /// Registrations that a 200 had promised and that were not there.
    pub registrations: Faults,
    /// The store is not sound, or does not hold what was acknowledged.
    pub store: Faults,
    /// Starts that failed, or servers that died without being killed.
    pub starts: Faults,
    /// Final answers that no kill explains.
    pub refused: Faults,
    /// Messages without a final answer, however often they were tried.
    pub unanswered: Faults,
}

/// What one device has under way.
#[derive(Default)]
pub(super) struct Outgoing {
    /// The message, and how often it was tried.
    pub under_way: Option<(usize, u32)>,
    /// Number of the agent's last message.
    pub number: u64,
    /// It waits for an answer.
    pub asked: bool,
    /// When the next thing is sent.
    pub next: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages are sent and the server is killed.
    Load,
    /// Everybody is awake, nothing new is sent; since when, and since when nothing is owed.
    Halt { since: Instant, quiet: Option<Instant> },
}

/// One run.
pub struct Rig {
    pub options: Options,
    pub server: Server,
    pub ledger: Ledger,
    pub claims: Claims,
    /// Kills by name.
    pub kills: BTreeMap<&'static str, u64>,
    /// Kills so far.
    pub done: u64,
    /// Registrations that were compared after restarts.
    pub compared: u64,
    /// The last reading of the store.
    pub found: audit::Found,
    pub(super) devices: Vec<Device>,
    pub(super) outgoing: Vec<Outgoing>,
    pub(super) asked_lists: Vec<Option<Vec<u64>>>,
    pub(super) dice: Dice,
    pub(super) fate: Fate,
    fates: Fates,
    spawned: Instant,
    ready: Option<Instant>,
    /// The server of this life was killed from outside.
    killed: bool,
    pub(super) phase: Phase,
    began: Instant,
    events: Receiver<Event>,
    pub(super) over: bool,
}

impl Rig {
    /// Everything switched off, in `dir`.
    pub fn new(options: Options, dir: &Path) -> Rig {
        let (tell, events): (Sender<Event>, _) = channel();
        let seed = options.seed;
        let server = Server::new(&options.program, dir, seed, tell.clone());
        let devices: Vec<Device> = MODELS
            .iter()
            .enumerate()
            .map(|(at, model)| Device::new(at, seed, model, server.address, tell.clone()))
            .collect();
        let mut ledger = Ledger::new(seed);
        let mask = |of: std::ops::Range<usize>, is: &dyn Fn(&Device) -> bool| {
            devices[of].iter().filter(|d| is(d)).fold(0, |mask, d| mask | 1 << d.at)
        };
        ledger.names = MODELS.iter().map(|m| m.name).collect();
        ledger.alice = mask(ALICES, &|_| true);
        ledger.bob_cpm = mask(BOBS, &Device::is_cpm);
        ledger.plain = mask(PHONES, &|d| !d.is_cpm());
        ledger.tcp = mask(PHONES, &Device::is_tcp);
        let now = Instant::now();
        Rig {
            server,
            ledger,
            claims: Claims::default(),
            kills: BTreeMap::new(),
            done: 0,
            compared: 0,
            found: audit::Found::default(),
            outgoing: devices.iter().map(|_| Outgoing::default()).collect(),
            asked_lists: devices.iter().map(|_| None).collect(),
            devices,
            dice: Dice::new(seed, 1),
            fates: Fates::new(seed),
            fate: Fate::Lives,
            spawned: now,
            ready: None,
            killed: false,
            phase: Phase::Halt { since: now, quiet: None },
            began: now,
            events,
            over: false,
            options,
        }
    }

    /// Plays until the last counting is done, or a start fails.
    pub fn run(&mut self, progress: &mut dyn FnMut(&Rig)) {
        self.start();
        let now = self.now();
        for device in &mut self.devices[PHONES] {
            if !device.is_tcp() {
                device.register(now);
            }
        }
        let mut shown = self.began;
        while !self.over {
            self.turn();
            if shown.elapsed() >= Duration::from_secs(5) {
                shown = Instant::now();
                progress(self);
            }
        }
    }

    /// How long the run has taken.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn turn(&mut self) {
        self.devices_turn();
        match self.phase {
            Phase::Load => self.load(),
            Phase::Halt { since, quiet } => self.halt(since, quiet),
        }
        let now = Instant::now();
        if self.fate.kill_at(self.spawned, self.ready).is_some_and(|at| at <= now) {
            self.kill();
        }
        if self.server.is_late() {
            self.give_up("the server is not ready in time");
        }
        let mut wait = self.wait();
        while !self.over {
            match self.events.recv_timeout(wait) {
                Ok(event) => self.happened(event),
                Err(RecvTimeoutError::Timeout) => return,
                Err(RecvTimeoutError::Disconnected) => return self.give_up("no more events"),
            }
            wait = Duration::ZERO;
        }
    }

    /// Until something is due.
    fn wait(&self) -> Duration {
        let now = self.now();
        let agents = self.devices.iter().filter(|d| d.asleep.is_none());
        let agents = agents.filter_map(|d| d.agent.next_deadline()).map(|at| at.since(now.mono));
        let kill = self.fate.kill_at(self.spawned, self.ready);
        let kill = kill.map(|at| at.saturating_duration_since(Instant::now()));
        let tick = Duration::from_millis(if self.phase == Phase::Load { 4 } else { 20 });
        agents.chain(kill).chain([tick]).min().unwrap_or(tick)
    }

    pub(super) fn now(&self) -> Now {
        let mono = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { mono: Mono(mono), unix: Unix(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)) }
    }

    // --- what happens -------------------------------------------------------------------------

    fn happened(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Ready(life) if life == self.server.life => {
                self.server.is_ready();
                self.ready = Some(Instant::now());
                self.ask_for_lists();
            }
            Event::Ready(_) => {}
            Event::Log(line) => self.server.log(line),
            Event::Gone(life) if life == self.server.life => self.died(),
            Event::Gone(_) => {}
            Event::Octets { device, connection, octets } => {
                let noticed = self.devices[device].octets(now, connection, octets);
                self.noticed(device, noticed);
            }
            Event::Accepted { device, stream } => self.devices[device].accepted(stream),
            Event::Closed { device, connection } => {
                self.devices[device].closed(now, connection);
                let noticed = self.devices[device].flush(now);
                self.noticed(device, noticed);
            }
        }
    }

    pub(super) fn noticed(&mut self, at: usize, all: Vec<Noticed>) {
        for noticed in all {
            if let Phase::Halt { quiet, .. } = &mut self.phase {
                *quiet = None;
            }
            let device = &mut self.devices[at];
            match noticed {
                Noticed::Answered(showing) if !device.is_cpm() => {
                    self.ledger.answered(at, self.server.life, &showing);
                }
                Noticed::Answered(_) => {}
                Noticed::Event(event) => self.event(at, event),
            }
        }
    }

    fn event(&mut self, at: usize, event: AgentEvent) {
        let now = self.now();
        let device = &mut self.devices[at];
        match event {
            AgentEvent::Registered { bindings, .. } if OBSERVERS.contains(&at) => {
                let listed = bindings.into_iter().filter_map(|b| Some((b.instance?, b.contact)));
                self.compare_lists(at, &listed.collect());
            }
            AgentEvent::Registered { expires, .. } => device.is_bound(expires),
            AgentEvent::Unregistered => {
                device.promised(Promise::Gone);
                if let Some(time) = device.retiring {
                    device.sleep(Instant::now() + time);
                }
            }
            // A list can be asked for at the next restart, too.
            AgentEvent::RegisterFailed { .. } if OBSERVERS.contains(&at) => {}
            AgentEvent::RegisterFailed { status } => {
                if !matches!(status, 401 | 408 | 500 | 503) {
                    let name = device.name;
                    self.claims.refused.add(format!("REGISTER of {name} got {status}"));
                }
                device.retiring = None;
                device.next_turn = Instant::now() + AGAIN;
                if !device.is_tcp() {
                    device.register(now);
                }
            }
            AgentEvent::Sent { message, status } => self.answered(at, message.number, status),
            // As if nothing had been said: tried again.
            AgentEvent::SendFailed { message, .. } => self.answered(at, message.number, 408),
            AgentEvent::Received(received) | AgentEvent::Copy(received) => {
                if device.is_cpm() {
                    let is_receipt = Cpim::read(&received.body)
                        .is_ok_and(|c| c.content_type().is("message/imdn+xml"));
                    debug_assert!(!is_receipt, "receipts have an event of their own");
                    self.ledger.shown(at, &received.content_type, &received.body);
                }
            }
            AgentEvent::Receipt { message_id, disposition } => {
                self.ledger.receipt(at, &message_id, disposition);
            }
        }
    }

    // --- devices ------------------------------------------------------------------------------

    fn devices_turn(&mut self) {
        let (now, instant) = (self.now(), Instant::now());
        let load = self.phase == Phase::Load;
        for at in 0..self.devices.len() {
            let device = &mut self.devices[at];
            if device.asleep.is_some_and(|until| until <= instant || !load) {
                device.wake(now, self.dice.percent(30));
            }
            if device.asleep.is_some() {
                continue;
            }
            if PHONES.contains(&at) && self.server.ready && device.wants_connection() {
                device.connect(now);
            }
            if device.agent.next_deadline().is_some_and(|due| due <= now.mono) {
                device.agent.fire(now);
            }
            if load && PHONES.contains(&at) && device.next_turn <= instant {
                device.next_turn = instant + Duration::from_millis(self.dice.between(1500, 6000));
                if ALICES.contains(&at) && self.dice.percent(35) && device.retiring.is_none() {
                    let long = self.dice.percent(3);
                    let (from, to) = if long { (33_000, 45_000) } else { (100, 4000) };
                    let time = Duration::from_millis(self.dice.between(from, to));
                    if self.dice.percent(50) {
                        device.sleep(instant + time);
                    } else if device.can_send() {
                        device.retire(now, time);
                    }
                } else if device.can_send() && device.retiring.is_none() {
                    device.register(now);
                }
            }
            let noticed = device.flush(now);
            self.noticed(at, noticed);
        }
    }

    // --- lives and deaths ---------------------------------------------------------------------

    fn start(&mut self) {
        (self.ready, self.killed) = (None, false);
        self.spawned = Instant::now();
        self.server.start(self.fate.arm());
    }

    pub(super) fn kill(&mut self) {
        self.killed = true;
        self.server.kill();
    }

    fn died(&mut self) {
        let halted = matches!(self.phase, Phase::Halt { .. });
        let status = self.server.is_gone();
        let by_itself = matches!(self.fate, Fate::Point(..)) && status.contains("SIGABRT");
        if !by_itself && !self.killed {
            let why = format!("life {} ended by itself: {status}", self.server.life);
            return self.give_up(&why);
        }
        self.done += 1;
        *self.kills.entry(self.fate.name(by_itself)).or_default() += 1;
        if halted {
            self.audit();
            if self.done >= self.options.kills {
                self.over = true;
                return;
            }
            self.phase = Phase::Load;
        } else if self.done.is_multiple_of(self.options.every)
            || self.done + 1 >= self.options.kills
        {
            self.phase = Phase::Halt { since: Instant::now(), quiet: None };
        }
        self.fate = match self.phase {
            Phase::Load => self.fates.draw(2 * self.ledger.acknowledged),
            Phase::Halt { .. } => Fate::Lives,
        };
        self.start();
    }

    fn give_up(&mut self, why: &str) {
        let log: Vec<&str> = self.server.tail().collect();
        self.claims.starts.add(format!("{why}; its log ends:\n{}", log.join("\n")));
        self.over = true;
    }
}
