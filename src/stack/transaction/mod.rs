//! Transactions: the table of all that are open, by the keys of RFC 3261 §17.1.3 and §17.2.3.
//! Hands each message and each timer to its machine, absorbs strays, and keeps the bounds.
//!
//! ```text
//!             request()                        response()
//!                │ key: branch, sent-by, method    │ key: branch, CSeq method
//!      ┌─────────┴─────────┐            ┌──────────┴─────────┐
//!   server_invite.rs   server.rs    client_invite.rs     client.rs
//!      └─────────┬─────────┘            └──────────┬─────────┘
//!                ▼                                 ▼
//!        Act::Request, Ack, …             Act::Response, Failed, Ended
//! ```
//!
//! A new request makes no state by itself: its user asks for it with `accept`, after it knows who
//! is speaking. Deadlines that last equally long for all stand in queues, the others in one index.

mod answers;
mod client;
mod client_invite;
mod entry;
mod key;
mod server;
mod server_invite;
#[cfg(test)]
mod table;
mod timing;

use std::collections::{BTreeSet, VecDeque};
use std::hash::Hash;

use bytes::Bytes;

use self::answers::Answers;
use self::client::Client;
use self::client_invite::ClientInvite;
use self::entry::{
    ClientEntry, ClientInput, ClientMachine, Open, ServerEntry, ServerInput, ServerMachine,
    reliable,
};
use self::key::{Map, Namer};
use self::server::Server;
use self::server_invite::ServerInvite;
use self::timing::Effect;
use super::transport::{Flow, reply_flow};
use crate::base::limits::{
    CLIENT_TRANSACTIONS_MAX, COMPLETED_MAX, COMPLETED_OCTETS_MAX, SERVER_TRANSACTIONS_MAX,
    TRANSACTIONS_ROOM,
};
use crate::base::now::{Deadlines, Mono, Now};
use crate::syntax::sip::{Method, Request, Response, answer, reason_phrase};

pub use self::key::ServerKey;

/// The name of a client transaction, minted by its user; each is used once.
pub type ClientId = u64;

/// Why a client transaction has no final response.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Failure {
    /// Timer B or F: nobody answered within 64*T1.
    Timeout,
    /// The request could not be sent, its connection is gone, or the table is full.
    Transport,
}

/// What the transactions want done, in order.
#[derive(Clone, Debug)]
pub enum Act {
    /// Send these octets.
    Send {
        /// Where to.
        flow: Flow,
        /// A whole message.
        bytes: Bytes,
    },
    /// A new request, for which nothing is kept yet: `accept` and `respond`, or answer it
    /// without state.
    Request {
        /// Its transaction.
        key: ServerKey,
        /// How it came.
        flow: Flow,
        /// The request; neither ACK nor CANCEL.
        request: Request,
    },
    /// An ACK of a 2xx, or one that belongs to nothing (RFC 3261 §17.2.3).
    Ack {
        /// The ACK.
        request: Request,
    },
    /// A new CANCEL, to be answered like a request: 200, or 481 without an INVITE (§9.2).
    Cancel {
        /// The transaction of the CANCEL itself.
        key: ServerKey,
        /// The INVITE that it is about, if we know it.
        invite: Option<ServerKey>,
        /// How it came.
        flow: Flow,
        /// The CANCEL.
        request: Request,
    },
    /// A response to a request of ours: each 1xx, one final, and for INVITE each further 2xx.
    Response {
        /// Whose.
        id: ClientId,
        /// The response.
        response: Response,
    },
    /// No final response will come.
    Failed {
        /// Whose.
        id: ClientId,
        /// Why.
        why: Failure,
    },
    /// The ACK of a refused INVITE never came (timer H), or its connection is gone.
    AckMissing {
        /// The transaction of the INVITE.
        key: ServerKey,
    },
    /// The client transaction is over: the last act of every one, exactly once.
    Ended {
        /// Which.
        id: ClientId,
    },
}

/// Every open transaction.
#[derive(Debug)]
pub struct Transactions {
    namer: Namer,
    clients: Map<u128, ClientEntry>,
    servers: Map<ServerKey, ServerEntry>,
    /// The requests without a final answer, by what their copies on other ways share.
    merged: Map<u128, ServerKey>,
    /// All deadlines but those of the two queues.
    deadlines: Deadlines<Key>,
    /// Non-INVITE servers in the order in which a 100 would be due. May hold answered ones, but
    /// never at its front.
    unanswered: VecDeque<(Mono, ServerKey)>,
    /// Non-INVITE servers in Completed, oldest first: exactly these.
    completed: VecDeque<(Mono, ServerKey)>,
    /// Octets of their answers.
    completed_octets: usize,
    /// Non-INVITE clients in Completed, oldest first: exactly these.
    answered: VecDeque<(Mono, u128)>,
    /// What a failed connection touches. Datagrams have none that could fail.
    flows: BTreeSet<(Flow, Key)>,
    /// Where the answers of servers stand while they are kept.
    answers: Answers,
    effects: Vec<Effect>,
}

impl Transactions {
    /// An empty table. The seed is a secret of the process: whoever knows it can aim requests
    /// at one place of the table.
    #[must_use]
    pub fn new(seed: u64) -> Transactions {
        Transactions {
            namer: Namer::new(seed),
            clients: Map::default(),
            servers: Map::default(),
            merged: Map::default(),
            deadlines: Deadlines::default(),
            unanswered: VecDeque::new(),
            completed: VecDeque::new(),
            completed_octets: 0,
            answered: VecDeque::new(),
            flows: BTreeSet::new(),
            answers: Answers::default(),
            effects: Vec::new(),
        }
    }

    /// Takes a request as the transport gives it (checked and stamped).
    pub fn request(&mut self, now: Now, flow: Flow, request: Request, out: &mut Vec<Act>) {
        let key = self.namer.server(&request);
        if let Some(entry) = self.servers.get(&key) {
            if request.method != Method::Ack {
                self.server(now, key, ServerInput::Again, out);
            } else if entry.acknowledged_by(&request) {
                self.server(now, key, ServerInput::Ack(request), out);
            } else {
                out.push(Act::Ack { request });
            }
            return;
        }
        match request.method {
            Method::Ack => out.push(Act::Ack { request }),
            Method::Cancel => {
                let invite = self.namer.cancelled(&request);
                let invite = self.servers.contains_key(&invite).then_some(invite);
                out.push(Act::Cancel { key, invite, flow, request });
            }
            _ if self.is_merged(&request) => {
                // RFC 3261 §8.2.2.2: a copy that came another way SHOULD be answered with 482.
                let bytes = answer(&request, 482, reason_phrase(482), Some(&key.tag())).finish(b"");
                out.push(Act::Send { flow: reply_flow(&request, flow), bytes });
            }
            _ => out.push(Act::Request { key, flow, request }),
        }
    }

    /// Keeps state for a request from now on; `flow` is the one that it came on. False if the
    /// table is full: then answer 503 and no state is kept.
    #[must_use]
    pub fn accept(&mut self, now: Now, key: &ServerKey, flow: Flow, request: &Request) -> bool {
        if self.servers.contains_key(key) {
            return true;
        }
        if self.servers.len() - self.completed.len() >= SERVER_TRANSACTIONS_MAX {
            return false;
        }
        let merged = self.namer.merged(request);
        if let Some(name) = merged {
            self.merged.insert(name, *key);
        }
        let flow = reply_flow(request, flow);
        let machine = if request.method == Method::Invite {
            if reliable(flow) {
                self.flows.insert((flow, Key::Server(*key)));
            }
            let machine = ServerInvite::start(now.mono, reliable(flow));
            schedule(&mut self.deadlines, Key::Server(*key), machine.next_deadline());
            ServerMachine::Invite(Box::new(machine))
        } else {
            let machine = Server::start(now.mono);
            self.unanswered.extend(machine.next_deadline().map(|at| (at, *key)));
            ServerMachine::Other(machine)
        };
        let open = Some(Box::new(Open { request: request.clone(), merged }));
        self.servers.insert(*key, ServerEntry { flow, machine, open, kept: 0 });
        true
    }

    /// Sends an answer and keeps it for copies of the request. Nothing happens for a key without
    /// state. A final answer to a non-INVITE request that comes after 64*T1 goes nowhere, and a
    /// 408 is not sent (RFC 4320 §4.2).
    pub fn respond(
        &mut self,
        now: Now,
        key: &ServerKey,
        status: u16,
        response: Bytes,
        out: &mut Vec<Act>,
    ) {
        // Over TCP an answer is not kept, and who reads slowly would hold a whole block.
        let kept = self.servers.get(key).is_some_and(|entry| !reliable(entry.flow));
        let response = if kept { self.answers.keep(&response) } else { response };
        self.server(now, *key, ServerInput::Respond(status, response), out);
        self.trim();
    }

    /// Sends a request and starts its transaction. `branch` is the one in its topmost Via. If
    /// the table is full or the branch is under way, `Failed` comes at once. An ACK is only sent.
    #[expect(clippy::too_many_arguments, reason = "each is of another type; agreed with the node")]
    pub fn send(
        &mut self,
        now: Now,
        id: ClientId,
        method: &Method,
        branch: &str,
        flow: Flow,
        request: Bytes,
        out: &mut Vec<Act>,
    ) {
        if *method == Method::Ack {
            out.push(Act::Send { flow, bytes: request });
            return;
        }
        let name = self.namer.client(branch.as_bytes(), method);
        if self.clients.len() >= CLIENT_TRANSACTIONS_MAX || self.clients.contains_key(&name) {
            out.push(Act::Failed { id, why: Failure::Transport });
            out.push(Act::Ended { id });
            return;
        }
        let reliable = reliable(flow);
        let effects = &mut self.effects;
        let machine = if *method == Method::Invite {
            let machine = ClientInvite::start(now.mono, reliable, request, effects);
            ClientMachine::Invite(Box::new(machine))
        } else {
            ClientMachine::Other(Client::start(now.mono, reliable, request, effects))
        };
        self.clients.insert(name, ClientEntry { id, flow, machine });
        if reliable {
            self.flows.insert((flow, Key::Client(name)));
        }
        self.settle_client(name, None, out);
    }

    /// Takes a response; one that belongs to no transaction is dropped (RFC 6026 §7.2).
    pub fn response(&mut self, now: Now, _flow: Flow, response: Response, out: &mut Vec<Act>) {
        let Ok(cseq) = response.cseq() else { return };
        let name = match key::branch_of_response(&response.headers) {
            // RFC 3261 §8.1.3.3: with more than one Via it was misrouted and SHOULD be dropped.
            None | Some((_, true)) => return,
            Some((branch, false)) => self.namer.client(branch, &cseq.method),
        };
        self.client(now, name, ClientInput::Response(response), out);
    }

    /// Tells all that wait on this flow that it is gone.
    pub fn transport_failed(&mut self, now: Now, flow: Flow, out: &mut Vec<Act>) {
        let range = (flow, Key::FIRST)..=(flow, Key::LAST);
        let keys: Vec<Key> = self.flows.range(range).map(|(_, key)| *key).collect();
        for key in keys {
            match key {
                Key::Client(name) => self.client(now, name, ClientInput::TransportError, out),
                Key::Server(key) => self.server(now, key, ServerInput::TransportError, out),
            }
        }
    }

    /// Runs every timer that is due.
    pub fn fire(&mut self, now: Now, out: &mut Vec<Act>) {
        while let Some(key) = self.deadlines.pop_due(now.mono) {
            match key {
                Key::Client(name) => self.client(now, name, ClientInput::Fire, out),
                Key::Server(key) => self.server(now, key, ServerInput::Fire, out),
            }
        }
        while let Some(key) = pop_due(&mut self.unanswered, now.mono) {
            self.server(now, key, ServerInput::Fire, out);
        }
        while let Some(key) = pop_due(&mut self.completed, now.mono) {
            self.server(now, key, ServerInput::Fire, out);
        }
        while let Some(name) = pop_due(&mut self.answered, now.mono) {
            self.client(now, name, ClientInput::Fire, out);
        }
        self.trim();
        self.give_back();
    }

    /// When `fire` is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let servers = self.unanswered.front().into_iter().chain(self.completed.front());
        let clients = self.answered.front().map(|(at, _)| *at);
        let others = self.deadlines.next().map(|(at, _)| at);
        servers.map(|(at, _)| *at).chain(clients).chain(others).min()
    }

    /// How many transactions are kept, of all kinds and in all states.
    #[must_use]
    pub fn open(&self) -> usize {
        self.clients.len() + self.servers.len()
    }

    fn is_merged(&mut self, request: &Request) -> bool {
        // Only requests without a final answer count. One that was answered may come again over
        // another way with good reason: a client that goes on to our next address (RFC 3263
        // §4.3) keeps its CSeq.
        !self.merged.is_empty()
            && self.namer.merged(request).is_some_and(|name| self.merged.contains_key(&name))
    }

    fn server(&mut self, now: Now, key: ServerKey, input: ServerInput, out: &mut Vec<Act>) {
        let Some(entry) = self.servers.get_mut(&key) else { return };
        let ack = entry.on(now.mono, input, &mut self.effects);
        self.settle_server(now, key, ack, out);
    }

    /// Turns effects into acts and brings index, queues and bounds in line with the machine.
    fn settle_server(
        &mut self,
        now: Now,
        key: ServerKey,
        mut ack: Option<Request>,
        out: &mut Vec<Act>,
    ) {
        let Some(entry) = self.servers.get_mut(&key) else { return };
        let flow = entry.flow;
        let mut trying = None;
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Send(bytes) => out.push(Act::Send { flow, bytes }),
                Effect::Deliver => out.extend(ack.take().map(|request| Act::Ack { request })),
                Effect::Trying => trying = entry.open.as_ref().map(|open| hundred(&open.request)),
                Effect::AckMissing => out.push(Act::AckMissing { key }),
                Effect::Fail(_) => {}
            }
        }
        let answered = if entry.machine.is_open() { None } else { entry.open.take() };
        if let Some(name) = answered.as_ref().and_then(|open| open.merged) {
            self.merged.remove(&name);
        }
        match &entry.machine {
            machine if machine.is_terminated() => {
                if reliable(flow) && matches!(machine, ServerMachine::Invite(_)) {
                    self.flows.remove(&(flow, Key::Server(key)));
                }
                self.deadlines.stop(&Key::Server(key));
                self.forget(&key);
            }
            ServerMachine::Other(machine) if !machine.is_open() => {
                if answered.is_some() {
                    self.deadlines.stop(&Key::Server(key));
                    self.completed.extend(machine.next_deadline().map(|at| (at, key)));
                    entry.kept = machine.kept();
                    self.completed_octets += entry.kept;
                    self.evict();
                }
            }
            ServerMachine::Other(machine) if machine.awaits_trying() => {}
            machine => schedule(&mut self.deadlines, Key::Server(key), machine.next_deadline()),
        }
        if let Some(bytes) = trying {
            self.server(now, key, ServerInput::Respond(100, bytes), out);
        }
    }

    fn client(&mut self, now: Now, name: u128, input: ClientInput, out: &mut Vec<Act>) {
        let Some(entry) = self.clients.get_mut(&name) else { return };
        let answer = entry.on(now.mono, input, &mut self.effects);
        self.settle_client(name, answer, out);
    }

    /// Turns effects into acts and brings the index in line with the machine.
    fn settle_client(&mut self, name: u128, mut answer: Option<Response>, out: &mut Vec<Act>) {
        let Some(entry) = self.clients.get(&name) else { return };
        let (id, flow) = (entry.id, entry.flow);
        let mut delivered = false;
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Send(bytes) => out.push(Act::Send { flow, bytes }),
                Effect::Deliver => {
                    delivered = true;
                    out.extend(answer.take().map(|response| Act::Response { id, response }));
                }
                Effect::Fail(why) => out.push(Act::Failed { id, why }),
                Effect::Trying | Effect::AckMissing => {}
            }
        }
        let (over, next) = (entry.machine.is_terminated(), entry.machine.next_deadline());
        let completed =
            matches!(&entry.machine, ClientMachine::Other(machine) if machine.is_completed());
        schedule(&mut self.deadlines, Key::Client(name), next.filter(|_| !completed));
        if completed && delivered {
            self.answered.extend(next.map(|at| (at, name)));
        }
        if over {
            self.clients.remove(&name);
            if reliable(flow) {
                self.flows.remove(&(flow, Key::Client(name)));
            }
            out.push(Act::Ended { id });
        }
    }

    /// The oldest answers give way to new ones.
    fn evict(&mut self) {
        while self.completed.len() > COMPLETED_MAX || self.completed_octets > COMPLETED_OCTETS_MAX {
            let Some((_, oldest)) = self.completed.pop_front() else { return };
            self.forget(&oldest);
        }
    }

    fn forget(&mut self, server: &ServerKey) {
        if let Some(gone) = self.servers.remove(server) {
            self.completed_octets -= gone.kept;
        }
    }

    /// Gives back the room that a rush has left behind it.
    fn give_back(&mut self) {
        fit_map(&mut self.clients);
        fit_map(&mut self.servers);
        fit_map(&mut self.merged);
        fit_queue(&mut self.unanswered);
        fit_queue(&mut self.completed);
        fit_queue(&mut self.answered);
    }

    /// Drops what has been answered from the front of the queue, so that idle means no deadline.
    fn trim(&mut self) {
        while let Some((at, key)) = self.unanswered.front() {
            if self.servers.get(key).is_some_and(|entry| entry.awaits_trying_at(*at)) {
                return;
            }
            self.unanswered.pop_front();
        }
    }
}

/// One place in the tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Key {
    Client(u128),
    Server(ServerKey),
}

impl Key {
    const FIRST: Key = Key::Client(0);
    const LAST: Key = Key::Server(ServerKey::LAST);
}

fn schedule(deadlines: &mut Deadlines<Key>, key: Key, at: Option<Mono>) {
    match at {
        Some(at) => deadlines.set(key, at),
        None => deadlines.stop(&key),
    }
}

fn pop_due<K>(queue: &mut VecDeque<(Mono, K)>, now: Mono) -> Option<K> {
    queue.pop_front_if(|(at, _)| *at <= now).map(|(_, key)| key)
}

/// A table keeps the room of its fullest moment; with eight times as much as it uses, it goes back
/// to twice as much.
fn fit_map<K: Eq + Hash, V>(map: &mut Map<K, V>) {
    if is_roomy(map.len(), map.capacity()) {
        map.shrink_to(map.len().max(TRANSACTIONS_ROOM) * 2);
    }
}

fn fit_queue<T>(queue: &mut VecDeque<T>) {
    if is_roomy(queue.len(), queue.capacity()) {
        queue.shrink_to(queue.len().max(TRANSACTIONS_ROOM) * 2);
    }
}

/// Whether there is so much room that giving some back pays.
fn is_roomy(len: usize, capacity: usize) -> bool {
    capacity / 8 > len.max(TRANSACTIONS_ROOM)
}

fn hundred(request: &Request) -> Bytes {
    answer(request, 100, reason_phrase(100), None).finish(b"")
}

#[cfg(test)]
mod tests;
