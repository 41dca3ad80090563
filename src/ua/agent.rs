//! One device: what it holds, how time and octets come in, how acts go out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::config::{
    AgentAct, AgentConfig, AgentEvent, Answers, Kind, Phase, Receipts, Registration,
};
use super::digest::Digest;
use super::inbox::{Counts, Inbox, Received};
use super::message::call_id;
use super::outgoing::{Draft, Outcome, line};
use super::register::Wish;
use crate::base::ids::Ids;
use crate::base::now::{Mono, Now};
use crate::stack::transaction::{Act, Failure, Transactions};
use crate::stack::transport::{Flow, Protocol};
use crate::syntax::sip::{self, Frame, Framer, Message, Unreadable};

/// The service that a CPM device registers (`+g.3gpp.icsi-ref`, RFC 3840 quoted string).
const CPM_FEATURE: &str = ";+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"";

/// One device of one account: registers, sends and receives messages. Pure: the caller moves the
/// octets and calls `fire` when `next_deadline` has come, then takes the acts with `drain`.
#[derive(Debug)]
pub struct Agent {
    pub(super) config: AgentConfig,
    pub(super) fixed: Fixed,
    /// Where the next ids come from while `ids` is not there.
    seed: [u8; 32],
    /// Registration asked for, raised by a 423.
    pub(super) expires: u32,
    pub(super) cseq: u32,
    pub(super) next_id: u64,
    pub(super) next_number: u64,
    pub(super) md5_only: bool,
    /// Credentials for the registrar (401) and for a proxy (407).
    pub(super) www: Option<Box<Digest>>,
    pub(super) proxy: Option<Box<Digest>>,
    pub(super) registration: Registration,
    pub(super) registering: bool,
    pub(super) wishes: Vec<Wish>,
    /// Requests that wait for an answer, by client transaction.
    pub(super) under_way: BTreeMap<u64, Draft>,
    /// URIs to which a MESSAGE is under way, each with those that wait behind it.
    pub(super) busy: HashMap<Arc<str>, VecDeque<Draft>>,
    pub(super) waiting: usize,
    pub(super) inbox: Option<Box<Inbox>>,
    // Made when needed and dropped when the agent falls idle, as most are.
    ids: Option<Box<Ids>>,
    transactions: Option<Box<Transactions>>,
    framer: Option<Box<Framer>>,
    acts: Vec<AgentAct>,
}

/// What stands in every request, written once.
#[derive(Debug)]
pub(super) struct Fixed {
    /// The Via line up to the branch.
    pub via: Box<str>,
    /// Request-URI of REGISTER.
    pub registrar: Arc<str>,
    /// Header lines of REGISTER before Contact.
    pub register: Box<[u8]>,
    /// The value of our Contact.
    pub contact: Box<str>,
}

impl Fixed {
    fn new(config: &AgentConfig, ids: &mut Ids) -> Fixed {
        let (aor, own) = (&config.aor, config.contact);
        let bare = aor.split(';').next().unwrap_or(aor);
        let (scheme, rest) = bare.split_once(':').unwrap_or(("sip", bare));
        let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        let (transport, param) = match config.flow.protocol {
            Protocol::Udp => ("UDP", ""),
            Protocol::Tcp => ("TCP", ";transport=tcp"),
        };
        let at = if user.is_empty() { "" } else { "@" };
        let mut contact = format!("<sip:{user}{at}{own}{param}>");
        if let Some(instance) = &config.instance {
            contact.push_str(&format!(";+sip.instance=\"<{instance}>\""));
        }
        if config.kind == Kind::Cpm {
            contact.push_str(CPM_FEATURE);
        }
        let mut register = Vec::with_capacity(256);
        line(&mut register, "Max-Forwards", &["70"]);
        line(&mut register, "From", &["<", aor, ">;tag=", &ids.tag()]);
        line(&mut register, "To", &["<", aor, ">"]);
        line(&mut register, "Call-ID", &[&call_id(ids)]);
        line(&mut register, "Supported", &["path, gruu"]);
        Fixed {
            via: format!("Via: SIP/2.0/{transport} {own};branch=").into_boxed_str(),
            registrar: Arc::from(format!("{scheme}:{host}")),
            register: register.into_boxed_slice(),
            contact: contact.into_boxed_str(),
        }
    }
}

impl Agent {
    /// A device that is switched on and has sent nothing yet. `seed` is where its ids come from:
    /// 32 octets of entropy, or a number of the simulator's choice.
    #[must_use]
    pub fn new(config: AgentConfig, seed: [u8; 32]) -> Agent {
        let mut ids = Box::new(Ids::new(seed));
        Agent {
            fixed: Fixed::new(&config, &mut ids),
            expires: config.expires,
            config,
            seed: next_seed(&mut ids),
            cseq: 0,
            next_id: 0,
            next_number: 0,
            md5_only: false,
            www: None,
            proxy: None,
            registration: Registration::default(),
            registering: false,
            wishes: Vec::new(),
            under_way: BTreeMap::new(),
            busy: HashMap::new(),
            waiting: 0,
            inbox: None,
            ids: None,
            transactions: None,
            framer: None,
            acts: Vec::new(),
        }
    }

    /// Octets from the server: one datagram, or whatever the stream gave.
    pub fn receive(&mut self, now: Now, octets: Bytes) {
        match self.config.flow.protocol {
            Protocol::Udp => self.message(now, octets),
            Protocol::Tcp => self.stream(now, &octets),
        }
    }

    /// Does what is due: retransmissions, timeouts, the refresh of the registration.
    pub fn fire(&mut self, now: Now) {
        if let Some(transactions) = &mut self.transactions {
            let mut acts = Vec::new();
            transactions.fire(now, &mut acts);
            self.perform(now, acts);
        }
        self.tidy();
        if self.registration.refresh.is_some_and(|at| at <= now.mono) {
            self.registration.refresh = None;
            self.register(now);
        }
    }

    /// When `fire` is to be called next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Mono> {
        let timer = self.transactions.as_ref().and_then(|t| t.next_deadline());
        [timer, self.registration.refresh].into_iter().flatten().min()
    }

    /// Appends to `out` what the agent wants done or known since the last call, in order.
    pub fn drain(&mut self, out: &mut Vec<AgentAct>) {
        // Not kept: an idle agent holds no buffer.
        out.append(&mut std::mem::take(&mut self.acts));
    }

    /// The way to the server failed: what is under way ends without an answer.
    pub fn disconnected(&mut self, now: Now) {
        self.framer = None;
        if let Some(transactions) = &mut self.transactions {
            let mut acts = Vec::new();
            transactions.transport_failed(now, self.config.flow, &mut acts);
            self.perform(now, acts);
        }
    }

    /// Switched off and on again: forgets registration, nonce, transactions and everything under
    /// way without a word, and registers under a new Call-ID. Keeps its instance, its inbox and
    /// what it has shown. Does not register by itself.
    pub fn restart(&mut self) {
        self.renew_fixed();
        (self.www, self.proxy) = (None, None);
        self.registration = Registration::default();
        self.registering = false;
        self.wishes.clear();
        self.under_way.clear();
        self.busy.clear();
        self.waiting = 0;
        (self.transactions, self.framer) = (None, None);
        self.acts.clear();
    }

    /// Another address of the device, or another way to the server. Takes effect with the next
    /// request; the registration is not renewed by itself.
    pub fn moved(&mut self, flow: Flow, contact: SocketAddr) {
        self.config.flow = flow;
        self.config.contact = contact;
        self.framer = None;
        self.renew_fixed();
    }

    /// What the device was told to be.
    #[must_use]
    pub fn config(&self) -> &AgentConfig {
        &self.config
    }

    /// Changes what MESSAGE is answered with.
    pub fn set_answers(&mut self, answers: Answers) {
        self.config.answers = answers;
    }

    /// Changes which receipts are given unprompted.
    pub fn set_receipts(&mut self, receipts: Receipts) {
        self.config.receipts = receipts;
    }

    /// Changes the media types taken.
    pub fn set_accepts(&mut self, accepts: Vec<String>) {
        self.config.accepts = accepts;
    }

    /// Looks at MD5 challenges only, as older phones do.
    pub fn set_md5_only(&mut self, md5_only: bool) {
        self.md5_only = md5_only;
    }

    /// The last messages shown, oldest first, at most `limits::UA_INBOX_MAX`.
    #[must_use]
    pub fn inbox(&self) -> &[Received] {
        self.inbox.as_ref().map_or(&[], |inbox| inbox.messages())
    }

    /// Totals, also of what the inbox has forgotten.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.inbox.as_ref().map(|inbox| inbox.counts).unwrap_or_default()
    }

    /// Where the registration stands.
    #[must_use]
    pub fn state(&self) -> &Registration {
        &self.registration
    }

    /// Whether the registrar's last word was that this device is registered.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.registration.phase == Phase::Registered
    }

    /// Requests of this agent that have no final answer yet, those in the queue included.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.under_way.len() + self.waiting
    }

    pub(super) fn transactions(&mut self) -> &mut Transactions {
        let seed = &self.seed;
        let ids = self.ids.get_or_insert_with(|| Box::new(Ids::new(*seed)));
        self.transactions.get_or_insert_with(|| Box::new(Transactions::new(ids.number())))
    }

    pub(super) fn ids(&mut self) -> &mut Ids {
        let seed = &self.seed;
        self.ids.get_or_insert_with(|| Box::new(Ids::new(*seed)))
    }

    pub(super) fn inbox_mut(&mut self) -> &mut Inbox {
        self.inbox.get_or_insert_default()
    }

    fn renew_fixed(&mut self) {
        let seed = &self.seed;
        let ids = self.ids.get_or_insert_with(|| Box::new(Ids::new(*seed)));
        self.fixed = Fixed::new(&self.config, ids);
    }

    pub(super) fn event(&mut self, event: AgentEvent) {
        self.acts.push(AgentAct::Event(event));
    }

    pub(super) fn send(&mut self, octets: Bytes) {
        self.acts.push(AgentAct::Send(octets));
    }

    /// Turns the acts of the transaction layer into ours.
    pub(super) fn perform(&mut self, now: Now, acts: Vec<Act>) {
        for act in acts {
            match act {
                // There is one way to the server, whatever the flow says.
                Act::Send { bytes, .. } => self.send(bytes),
                Act::Request { key, flow, request } => self.serve(now, &key, flow, &request),
                Act::Response { id, response } => self.answered(now, id, response),
                Act::Failed { id, why: Failure::Timeout } => {
                    self.unanswered(now, id, Outcome::Timeout);
                }
                Act::Failed { id, why: Failure::Transport } => {
                    self.unanswered(now, id, Outcome::Transport);
                }
                // No INVITE is ever under way here.
                Act::Cancel { request, .. } => self.answer_stateless(&request, 481),
                Act::Ack { .. } | Act::AckMissing { .. } | Act::Ended { .. } => {}
            }
        }
    }

    fn stream(&mut self, now: Now, octets: &[u8]) {
        let mut framer = self.framer.take().unwrap_or_default();
        framer.push(octets);
        while let Some(frame) = framer.next() {
            match frame {
                Frame::Message(octets) => self.message(now, octets),
                Frame::KeepAlive => self.send(Bytes::from_static(b"\r\n")),
                // The framer yields nothing more; the caller will see the silence and reconnect.
                Frame::Broken(..) => {}
            }
        }
        self.framer = Some(framer).filter(|framer| !framer.is_empty());
        // Over TCP a transaction ends with its answer, and no timer comes to tidy up.
        self.tidy();
    }

    fn message(&mut self, now: Now, octets: Bytes) {
        let flow = self.config.flow;
        let mut acts = Vec::new();
        match sip::read(octets) {
            Ok(Message::Response(response)) => {
                if let Some(transactions) = &mut self.transactions {
                    transactions.response(now, flow, response, &mut acts);
                }
            }
            Ok(Message::Request(request)) => {
                self.transactions().request(now, flow, request, &mut acts);
            }
            Err(Unreadable::Answerable { request, fault }) => {
                self.answer_stateless(&request, fault.status);
            }
            Err(Unreadable::Garbage) => {}
        }
        self.perform(now, acts);
    }

    /// Gives back what an idle agent does not need.
    fn tidy(&mut self) {
        if self.under_way.is_empty() {
            // An emptied map keeps room for eleven.
            self.under_way = BTreeMap::new();
            self.busy = HashMap::new();
            self.wishes = Vec::new();
        }
        if self.transactions.as_ref().is_some_and(|t| t.open() == 0) {
            self.transactions = None;
            if let Some(mut ids) = self.ids.take() {
                self.seed = next_seed(&mut ids);
            }
        }
    }
}

/// A seed that nobody can tell from the ids that were made before.
fn next_seed(ids: &mut Ids) -> [u8; 32] {
    let mut seed = [0; 32];
    for chunk in seed.chunks_exact_mut(8) {
        chunk.copy_from_slice(&ids.number().to_be_bytes());
    }
    seed
}
