//! The node and everything it acts on: sockets, the store, the operator's questions, the trace.
#![expect(clippy::disallowed_methods, reason = "the one place that reads the clocks")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};

use super::journal::Journal;
use crate::base::limits;
use crate::base::log::Outcome;
use crate::base::now::{Mono, Now, Unix};
use crate::node::{Effect, Input, Node, Question, Reply};
use crate::service::account::{self, Domain, Domains};
use crate::service::digest::Algorithms;
use crate::service::record::AccountPut;
use crate::service::tu::{Note, Settings};
use crate::shell::config::{self, Algorithm, Config};
use crate::shell::crash;
use crate::shell::listen::{self, Connections, Event};
use crate::shell::operator::{AccountLine, OperatorReply, OperatorRequest, Status};
use crate::shell::trace::{Direction, Filter, TraceRing};
use crate::stack::transport::{Flow, Listener, Protocol};
use crate::syntax::sip::Uri;

/// What comes to the loop from other threads and tasks.
pub(super) enum Happening {
    /// Batches of this life of the store have an outcome.
    Outcomes(u64, Vec<(u64, Outcome)>),
    /// A question to this life of the store is answered.
    Input(u64, Input),
}

type ReplyTo = oneshot::Sender<OperatorReply>;

pub(super) struct World {
    began: Instant,
    node: Node,
    /// Empty between two calls: its room is kept.
    effects: Vec<Effect>,
    journal: Journal,
    life: u64,
    reopen_at: Option<Instant>,
    connections: Connections,
    listeners: Vec<Listener>,
    ring: TraceRing,
    scratch: BytesMut,
    operators: BTreeMap<u64, ReplyTo>,
    next_operator: u64,
    in_flight: usize,
    make: NodeMaker,
    data: PathBuf,
    happen: mpsc::UnboundedSender<Happening>,
}

/// How long after a failed opening of the store the next is tried.
const REOPEN: Duration = Duration::from_secs(5);

impl World {
    pub(super) fn open(
        config: Config,
        listeners: &[Listener],
        happen: mpsc::UnboundedSender<Happening>,
        events: mpsc::Sender<Event>,
    ) -> Result<World, String> {
        let began = Instant::now();
        let make = NodeMaker::new(&config, listeners)?;
        let data = config.data.clone();
        // From here on nobody needs the passwords.
        drop(config);
        let now = now(began);
        let (journal, node) = Journal::open(&data, 1, now, |legs| make.node(legs), happen.clone())?;
        Ok(World {
            began,
            node,
            effects: Vec::new(),
            journal,
            life: 1,
            reopen_at: None,
            connections: Connections::new(events),
            listeners: listeners.to_vec(),
            ring: TraceRing::default(),
            scratch: BytesMut::new(),
            operators: BTreeMap::new(),
            next_operator: 0,
            in_flight: 0,
            make,
            data,
            happen,
        })
    }

    pub(super) fn until_deadline(&self) -> Option<Duration> {
        let node = self.node.next_deadline().map(|at| at.since(now(self.began).mono));
        let reopen = self.reopen_at.map(|at| at.saturating_duration_since(Instant::now()));
        [node, reopen].into_iter().flatten().min()
    }

    pub(super) fn tick(&mut self) {
        if self.reopen_at.is_some_and(|at| at <= Instant::now()) {
            self.reopen();
        }
        let now = now(self.began);
        if self.node.next_deadline().is_some_and(|at| at <= now.mono) {
            self.node.handle(now, Input::Tick);
        }
    }

    /// Handles one datagram; false if there was none.
    pub(super) fn datagram(&mut self, listener: u16, socket: &UdpSocket) -> bool {
        let (octets, peer) = match listen::receive(socket, &mut self.scratch) {
            Ok(received) => received,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            Err(error) => {
                // An earlier datagram could not be delivered: its transaction will time out.
                tracing::debug!(%error, "receive");
                return true;
            }
        };
        let flow = Flow { protocol: Protocol::Udp, listener, peer, connection: 0 };
        self.octets(flow, octets);
        true
    }

    fn octets(&mut self, flow: Flow, octets: Bytes) {
        let now = now(self.began);
        if octets.starts_with(b"SIP/2.0 200") {
            crash::point("device-answered");
        }
        self.traced(now, Direction::In, flow, octets.clone());
        self.node.handle(now, Input::Octets { flow, octets });
    }

    pub(super) fn accepted(&mut self, stream: TcpStream, flow: Flow) {
        self.connections.accepted(stream, flow);
    }

    pub(super) fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Outcomes(life, outcomes) if life == self.life => {
                let now = now(self.began);
                for (ticket, outcome) in outcomes {
                    self.in_flight = self.in_flight.saturating_sub(1);
                    self.node.handle(now, Input::Outcome { ticket, outcome });
                }
            }
            Happening::Input(life, input) if life == self.life => {
                self.node.handle(now(self.began), input);
            }
            // Of a store that has been closed since.
            Happening::Outcomes(..) | Happening::Input(..) => {}
        }
    }

    pub(super) fn connection(&mut self, event: Event) {
        match event {
            Event::Opened(flow) => self.node.handle(now(self.began), Input::Opened(flow)),
            Event::Octets(flow, octets) => self.octets(flow, octets),
            Event::Closed(flow) => {
                self.connections.closed(flow);
                self.node.handle(now(self.began), Input::Closed(flow));
            }
        }
    }

    /// Does what the node wants, until it wants no more.
    pub(super) fn flush(&mut self, udp: &[(u16, UdpSocket)]) {
        let mut effects = std::mem::take(&mut self.effects);
        loop {
            self.node.drain_into(&mut effects);
            if effects.is_empty() {
                break;
            }
            for effect in effects.drain(..) {
                self.perform(udp, effect);
            }
        }
        self.effects = effects;
    }

    fn perform(&mut self, udp: &[(u16, UdpSocket)], effect: Effect) {
        match effect {
            Effect::Send { flow, octets } => self.send(udp, flow, octets),
            Effect::Connect(flow) => self.connections.connect(flow),
            Effect::Close(flow) => self.connections.close(flow),
            Effect::Proven(flow) => self.connections.proven(flow),
            Effect::Append(append) => {
                self.in_flight += 1;
                self.journal.append(append);
            }
            Effect::Fetch { ticket, user, at } => self.journal.fetch(ticket, user, at),
            Effect::Tail { ticket, user, from } => self.journal.tail(ticket, user, from),
            Effect::Reply { id, reply } => self.reply(id, reply),
            Effect::Note(note) => log_note(&note),
            Effect::StoreBroken => {
                tracing::error!("the store is broken: it is closed and opened again");
                self.reopen_at = Some(Instant::now());
            }
        }
    }

    fn send(&mut self, udp: &[(u16, UdpSocket)], flow: Flow, octets: Bytes) {
        let now = now(self.began);
        self.traced(now, Direction::Out, flow, octets.clone());
        if flow.protocol == Protocol::Tcp {
            if !self.connections.send(flow, octets) {
                self.node.handle(now, Input::Closed(flow));
            }
            return;
        }
        let Some((_, socket)) = udp.iter().find(|(id, _)| *id == flow.listener) else { return };
        if let Err(error) = socket.try_send_to(&octets, flow.peer) {
            // As if the network had lost it: transactions send again.
            tracing::debug!(%error, peer = %flow.peer, "send");
        }
        // The sender has its answer, and the devices' requests come behind it in the same flush.
        // Over TCP there is no such moment: the answer waits for its connection's task.
        if octets.starts_with(b"SIP/2.0 202") {
            crash::point("answered-not-sent");
        }
    }

    fn traced(&mut self, now: Now, direction: Direction, flow: Flow, octets: Bytes) {
        let local = self.listeners.get(usize::from(flow.listener)).map(|l| l.local);
        let local = local.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
        let protocol = match flow.protocol {
            Protocol::Udp => config::Protocol::Udp,
            Protocol::Tcp => config::Protocol::Tcp,
        };
        self.ring.push(now.unix, direction, protocol, local, flow.peer, octets);
    }

    // --- the store ----------------------------------------------------------------------------

    /// Closes the broken store and starts a new node from what is on disk.
    fn reopen(&mut self) {
        self.reopen_at = None;
        self.journal.close();
        self.in_flight = 0;
        let now = now(self.began);
        let make = &self.make;
        let happen = self.happen.clone();
        let opened = Journal::open(&self.data, self.life + 1, now, |legs| make.node(legs), happen);
        match opened {
            Ok((journal, node)) => {
                self.life += 1;
                (self.journal, self.node) = (journal, node);
                // The new node knows nothing of what was half read on them.
                for flow in self.connections.flows() {
                    self.connections.close(flow);
                }
                for (_, reply) in std::mem::take(&mut self.operators) {
                    drop(reply.send(OperatorReply::refused(
                        503,
                        "the store was opened again meanwhile",
                        "try again",
                    )));
                }
                tracing::info!("the store is open again");
            }
            Err(why) => {
                tracing::error!(%why, "the store cannot be opened: requests get 503");
                self.reopen_at = Some(Instant::now() + REOPEN);
            }
        }
    }

    /// Records nobody waits for are written now.
    pub(super) fn close(&mut self) {
        self.node.close(now(self.began));
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.in_flight == 0
    }

    pub(super) fn stop(&mut self) {
        self.journal.close();
    }

    // --- the operator -------------------------------------------------------------------------

    pub(super) fn visit(&mut self, request: OperatorRequest, reply: ReplyTo) {
        let question = match request {
            OperatorRequest::AccountAdd { uri, password } => {
                self.account_put(&uri, &password.0, true)
            }
            OperatorRequest::AccountPasswd { uri, password } => {
                self.account_put(&uri, &password.0, false)
            }
            OperatorRequest::AccountRemove { uri } => {
                self.make.aor(&uri).map(|aor| Question::AccountRemove { aor })
            }
            OperatorRequest::AccountList => Ok(Question::Accounts),
            OperatorRequest::Status => Ok(Question::Status),
            OperatorRequest::TraceSince { cursor, account, call, max } => {
                let (lines, next) = self.ring.since(cursor, &Filter { account, call }, max);
                drop(reply.send(OperatorReply::Trace { lines, next }));
                return;
            }
        };
        match question {
            Ok(question) => {
                self.next_operator += 1;
                let id = self.next_operator;
                self.operators.insert(id, reply);
                self.node.handle(now(self.began), Input::Operator { id, question });
            }
            Err(refused) => drop(reply.send(refused)),
        }
    }

    fn account_put(&self, uri: &str, password: &str, new: bool) -> Result<Question, OperatorReply> {
        let aor = self.make.aor(uri)?;
        let refused = |why: String, fix| Err(OperatorReply::refused(400, why, fix));
        if password.is_empty() {
            let fix = "give --password, --password-file, or type one";
            return refused("the password is empty".to_owned(), fix);
        }
        if password.len() > limits::PASSWORD_OCTETS_MAX {
            let why = format!("the password is longer than {} octets", limits::PASSWORD_OCTETS_MAX);
            return refused(why, "choose a shorter one");
        }
        let credentials = account::credentials(&aor, password, false);
        Ok(Question::AccountPut { aor, credentials, new })
    }

    fn reply(&mut self, id: u64, reply: Reply) {
        let Some(to) = self.operators.remove(&id) else { return };
        let small = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let answer = match reply {
            Reply::Done => OperatorReply::Done,
            Reply::No(why) => {
                let (why, fix) = why.split_once(": ").unwrap_or((&why, "see `cpmd --help`"));
                OperatorReply::refused(409, why, fix)
            }
            Reply::Accounts(lines) => OperatorReply::Accounts {
                accounts: lines
                    .into_iter()
                    .map(|line| AccountLine {
                        uri: line.aor,
                        provisioned: line.provisioned,
                        devices: small(line.devices),
                        bindings: small(line.bound),
                    })
                    .collect(),
            },
            Reply::Status(status) => OperatorReply::Status(Box::new(Status {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                uptime: self.began.elapsed().as_secs(),
                sip: self.listeners.iter().map(listener_text).collect(),
                accounts: status.accounts as u64,
                bindings: status.bindings as u64,
                waiting: status.waiting as u64,
                transactions: status.transactions as u64,
                store_ok: status.store_works,
                written: self.journal.written(),
            })),
        };
        // The operator may have gone.
        drop(to.send(answer));
    }
}

fn listener_text(listener: &Listener) -> String {
    format!("{}:{}", listener.protocol.as_str().to_ascii_lowercase(), listener.local)
}

/// Builds nodes from the configuration: one at the start, another when the store was reopened.
struct NodeMaker {
    settings: Settings,
    listeners: Vec<Listener>,
    accounts: Vec<(String, AccountPut)>,
}

impl NodeMaker {
    fn new(config: &Config, listeners: &[Listener]) -> Result<NodeMaker, String> {
        let domains = config
            .domains
            .iter()
            .map(|d| Domain { name: d.name.clone(), aliases: d.aliases.clone() })
            .collect();
        let offers = |wanted| config.algorithms.contains(&wanted);
        let settings = Settings {
            domains: Domains(domains),
            algorithms: Algorithms {
                md5: offers(Algorithm::Md5),
                sha256: offers(Algorithm::Sha256),
            },
            udp_bytes_max: config.udp_bytes_max,
            messages_per_second: config.messages_per_second,
            messages_burst: config.messages_burst,
        };
        let mut make = NodeMaker { settings, listeners: listeners.to_vec(), accounts: vec![] };
        for configured in &config.accounts {
            let aor = make
                .aor(&configured.uri)
                .map_err(|_| format!("account {} is not in a home domain", configured.uri))?;
            let sha256_only = configured.algorithms == [Algorithm::Sha256];
            let kept = account::credentials(&aor, &configured.password.0, sha256_only);
            make.accounts.push((aor, kept));
        }
        Ok(make)
    }

    fn node(&self, legs: crate::base::hash::Secret) -> Node {
        let mut seed = [0; 32];
        #[expect(clippy::expect_used, reason = "without entropy nothing that we mint is safe")]
        getrandom::fill(&mut seed).expect("the system gives entropy");
        let mut node = Node::new(self.settings.clone(), self.listeners.clone(), seed, legs);
        for (aor, credentials) in &self.accounts {
            node.provision(aor, credentials.clone());
        }
        node
    }

    fn aor(&self, uri: &str) -> Result<String, OperatorReply> {
        Uri::parse(uri.as_bytes()).ok().and_then(|uri| self.settings.domains.aor(&uri)).ok_or_else(
            || {
                OperatorReply::refused(
                    400,
                    format!("{} is not an address in a home domain", shortened(uri)),
                    "write sip:name@domain, with a domain of the configuration",
                )
            },
        )
    }
}

/// What somebody typed, as far as one line shows it.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

fn now(began: Instant) -> Now {
    let mono = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { mono: Mono(mono), unix: Unix(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)) }
}

fn log_note(note: &Note) {
    match note {
        Note::MayRepeat { call_id } => {
            tracing::warn!(call_id, "sent again after a restart: a plain phone may show it twice");
        }
        Note::SameIdOtherBody { message_id } => {
            tracing::info!(message_id, "the same message id with other content: another message");
        }
        Note::Undelivered { message_id, why } => tracing::info!(message_id, why, "undelivered"),
        Note::UnknownReceipt { message_id } => {
            tracing::debug!(message_id, "a receipt for no message that we know");
        }
        Note::DeviceForgotten { device } => {
            tracing::info!(device, "a device unseen for 30 days is forgotten");
        }
        Note::StoreTrouble { what } => tracing::error!(what, "store"),
    }
}
