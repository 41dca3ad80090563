//! The node: owns all tables; one input is handled at a time, effects are drained after it.
//!
//! The way of a request: octets → `stack/transport.rs` → `stack/transaction/` → [`Node`] dispatch
//! (below, one screen) → a service → records for the store → when they are on disk, the answer.

mod dispatch;
pub mod effect;
pub mod input;
mod journal;
mod operator;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;

pub use self::effect::{AccountLine, Effect, Reply, Status};
pub use self::input::{Input, Question};
use crate::base::hash::Secret;
use crate::base::now::{Deadlines, Mono, Now};
use crate::service::delivery::{self, End};
use crate::service::log::flush_lazy;
use crate::service::record::{AccountPut, DeviceNo, EntryNo};
use crate::service::tu::{Act, Out, Settings, Tables, Then, Timer, UserIx};
use crate::service::{disposition, message, registrar};
use crate::stack::transaction::{self, ClientId, Transactions};
use crate::stack::transport::{Arrival, Flow, Listener, Transport};
use crate::syntax::sip::Method;

/// Everything of one process that is not the world.
#[derive(Debug)]
pub struct Node {
    tables: Tables,
    transport: Transport,
    transactions: Transactions,
    timers: Deadlines<Timer>,
    legs: HashMap<ClientId, (UserIx, DeviceNo)>,
    tickets: HashMap<u64, Asked>,
    out: Out,
    effects: Vec<Effect>,
}

/// What a question to the store was for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Append(UserIx),
    Content { user: UserIx, no: EntryNo, device: Option<DeviceNo> },
    Tail(UserIx),
}

/// How often old keys and unseen devices are looked for.
const SWEEP: Duration = Duration::from_secs(3600);

impl Node {
    /// An empty node. `seed` is entropy (or a test's number), `legs` the store's secret.
    #[must_use]
    pub fn new(settings: Settings, listeners: Vec<Listener>, seed: [u8; 32], legs: Secret) -> Node {
        let sent_by = listeners.iter().map(Listener::sent_by).collect();
        let mut tables = Tables::new(settings, sent_by, seed, legs);
        let transactions = Transactions::new(tables.ids.number());
        Node {
            tables,
            transport: Transport::new(listeners),
            transactions,
            timers: Deadlines::default(),
            legs: HashMap::new(),
            tickets: HashMap::new(),
            out: Out::new(),
            effects: Vec::new(),
        }
    }

    /// An account from the configuration; it wins over one in the log.
    pub fn provision(&mut self, aor: &str, credentials: AccountPut) {
        let ix = self.tables.find_or_make(aor);
        let user = self.tables.user_mut(ix);
        user.account = Some(credentials);
        user.provisioned = true;
    }

    /// Handles one input. Effects come from [`drain`](Node::drain).
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Octets { flow, octets } => self.octets(now, flow, octets),
            Input::Opened(flow) => self.transport.opened(flow),
            Input::Closed(flow) => self.closed(now, flow),
            Input::Outcome { ticket, outcome } => self.outcome(now, ticket, outcome),
            Input::Fetched { ticket, octets } => self.fetched(now, ticket, octets),
            Input::Tail { ticket, batches } => self.tail(now, ticket, batches),
            Input::Operator { id, question } => self.operator(now, id, question),
            Input::Tick => self.fire(now),
        }
        self.settle(now);
    }

    /// Takes what is to be done, in order.
    pub fn drain(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// The same, behind what is in `out` already; the buffers are kept.
    pub fn drain_into(&mut self, out: &mut Vec<Effect>) {
        out.append(&mut self.effects);
    }

    /// When the node wants a [`Input::Tick`] at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let timer = self.timers.next().map(|(at, _)| at);
        [self.transactions.next_deadline(), timer].into_iter().flatten().min()
    }

    /// Before a stop: records nobody waits for are written too.
    pub fn close(&mut self, now: Now) {
        for ix in self.users() {
            flush_lazy(&mut self.tables, ix, &mut self.out);
        }
        self.settle(now);
    }

    /// The tables, to look at (tests, invariants).
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    fn octets(&mut self, now: Now, flow: Flow, octets: Bytes) {
        let mut arrivals = Vec::new();
        self.transport.receive(flow, octets, &mut arrivals);
        for arrival in arrivals {
            let mut acts = Vec::new();
            match arrival {
                Arrival::Request(request) => {
                    self.transactions.request(now, flow, request, &mut acts);
                }
                Arrival::Response(response) => {
                    self.transactions.response(now, flow, response, &mut acts);
                }
                Arrival::Answer(octets) => self.effects.push(Effect::Send { flow, octets }),
                Arrival::Close => self.effects.push(Effect::Close(flow)),
            }
            self.stack_acts(now, acts);
            // Each message of a stream sees the state that the one before left.
            self.settle(now);
        }
    }

    fn closed(&mut self, now: Now, flow: Flow) {
        self.transport.closed(flow);
        let mut acts = Vec::new();
        self.transactions.transport_failed(now, flow, &mut acts);
        self.stack_acts(now, acts);
    }

    fn fire(&mut self, now: Now) {
        let mut acts = Vec::new();
        self.transactions.fire(now, &mut acts);
        self.stack_acts(now, acts);
        while let Some(timer) = self.timers.pop_due(now.mono) {
            let (t, out) = (&mut self.tables, &mut self.out);
            match timer {
                Timer::Bindings(ix) => registrar::expire(t, now, ix, out),
                Timer::Lane(ix, device) => delivery::pump(t, now, ix, device, out),
                Timer::Forward(ix, no) => message::waited(t, ix, no, out),
                Timer::Expiry(ix) => disposition::expire(t, now, ix, out),
                Timer::Lazy(ix) => flush_lazy(t, ix, out),
                Timer::Sweep => self.sweep(now),
            }
            self.settle(now);
        }
    }

    /// Does what the services want, in order, until nothing is left.
    fn settle(&mut self, now: Now) {
        while let Some(act) = self.out.pop_front() {
            self.act(now, act);
        }
    }

    fn act(&mut self, now: Now, act: Act) {
        match act {
            Act::Answer(answer) => {
                let mut acts = Vec::new();
                let (key, status) = (&answer.key, answer.status);
                self.transactions.respond(now, key, status, answer.octets, &mut acts);
                self.stack_acts(now, acts);
            }
            Act::Send { id, user, device, branch, flow, request } => {
                self.legs.insert(id, (user, device));
                let mut acts = Vec::new();
                let method = Method::Message;
                self.transactions.send(now, id, &method, &branch, flow, request, &mut acts);
                self.stack_acts(now, acts);
            }
            Act::Connect(flow) => self.effects.push(Effect::Connect(flow)),
            Act::Append(ix, append) => self.append(ix, append),
            Act::Fetch { user, no, device, at } => {
                let ticket = self.tables.ticket();
                self.tickets.insert(ticket, Asked::Content { user, no, device });
                let user = self.tables.user(user).aor.clone();
                self.effects.push(Effect::Fetch { ticket, user, at });
            }
            Act::Timer(timer, Some(at)) => self.timers.set(timer, at),
            Act::Timer(timer, None) => self.timers.stop(&timer),
            Act::DeviceUp(ix, device) => {
                delivery::device_up(&mut self.tables, now, ix, device, &mut self.out);
            }
            Act::DeviceDown(ix, device) => {
                delivery::device_down(&mut self.tables, now, ix, device, &mut self.out);
            }
            Act::Offer(offer) => message::take(&mut self.tables, now, *offer, &mut self.out),
            Act::Offered { from, no, status } => {
                message::offered(&mut self.tables, now, from, no, status, &mut self.out);
            }
            Act::Operator(id) => self.effects.push(Effect::Reply { id, reply: Reply::Done }),
            Act::Note(note) => self.effects.push(Effect::Note(note)),
        }
    }

    /// Goes on with what waited for the store.
    fn then(&mut self, now: Now, ix: UserIx, then: Then, stored: crate::base::log::Stored) {
        let (t, out) = (&mut self.tables, &mut self.out);
        match then {
            Then::Answer(held) => out.push_back(Act::Answer(held.release(&stored))),
            Then::DeviceUp(device) => delivery::device_up(t, now, ix, device, out),
            Then::Offer(no) => message::offer(t, now, ix, no, stored, out),
            Then::Taken { no, from, sent } => {
                out.push_back(Act::Offered { from, no: sent, status: 202 });
                message::taken(t, now, ix, no, out);
            }
            Then::Pump(no) => message::taken(t, now, ix, Some(no), out),
            Then::Operator(id) => out.push_back(Act::Operator(id)),
        }
    }

    fn stack_acts(&mut self, now: Now, acts: Vec<transaction::Act>) {
        for act in acts {
            match act {
                transaction::Act::Send { flow, bytes } => {
                    self.effects.push(Effect::Send { flow, octets: bytes });
                }
                transaction::Act::Request { key, flow, request } => {
                    self.request(now, key, flow, request);
                }
                transaction::Act::Cancel { key, flow, request, .. } => {
                    self.request(now, key, flow, request);
                }
                transaction::Act::Response { id, response } => {
                    if response.status >= 200 {
                        self.leg_ended(now, id, &End::Answer(&response));
                    }
                }
                transaction::Act::Failed { id, why } => {
                    self.leg_ended(now, id, &End::Failed(why));
                }
                // Nothing that we answer 2xx to has an ACK yet.
                transaction::Act::Ack { .. }
                | transaction::Act::AckMissing { .. }
                | transaction::Act::Ended { .. } => {}
            }
        }
    }

    fn leg_ended(&mut self, now: Now, id: ClientId, end: &End<'_>) {
        if let Some((ix, device)) = self.legs.remove(&id) {
            delivery::ended(&mut self.tables, now, ix, device, id, end, &mut self.out);
        }
    }

    fn fetched(&mut self, now: Now, ticket: u64, octets: Option<Bytes>) {
        let Some(Asked::Content { user, no, device }) = self.tickets.remove(&ticket) else {
            return;
        };
        let (t, out) = (&mut self.tables, &mut self.out);
        match device {
            Some(device) => delivery::fetched(t, now, user, device, no, octets, out),
            None => message::fetched(t, user, no, octets, out),
        }
    }
}
