//! What must be true: the ledger of promises that were made, and the invariants that are checked
//! after each step (docs/ARCHITECTURE.md, the simulator). A broken one panics; the world prints
//! its seed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use cpmd::base::hash::fingerprint;
use cpmd::service::tu::Note;
use cpmd::syntax::cpim::Cpim;
use cpmd::syntax::mime::{MediaType, first_text};
use cpmd::syntax::sip::{Contact, Method, Name, Request, Response, contacts};
use cpmd::ua::{AgentEvent, Kind, LINE_FORM_MARK, Received};

use super::device::Dev;
use super::disk::Facts;

/// 64*T1: nobody waits longer for the answer to a request that is no INVITE.
const PATIENCE: u64 = 32_000_000;

/// What is known of one device.
pub struct Party {
    name: String,
    aor: String,
    kind: Kind,
    instance: Option<String>,
}

struct Open {
    at: u64,
    /// The connection that it came on; 0 for UDP.
    connection: u64,
    request: Request,
    status: Option<u16>,
}

/// A message that the server has promised to deliver.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Account of the sender.
    pub from: String,
    /// Account of the recipient.
    pub to: String,
    /// Its id.
    pub message_id: String,
    /// Its words.
    pub text: String,
    /// Devices that were known when it came and can be told from others.
    pub owed: Vec<Dev>,
    /// Devices that it has been owed to as a copy.
    pub copies: Vec<Dev>,
    /// The device that sent it.
    pub source: Option<Dev>,
    /// It may expire, so nothing is certain.
    pub expires: bool,
    promised: bool,
}

type MessageKey = (String, String, String, u128);
type Contacts = Vec<Contact>;

/// The ledger.
#[derive(Default)]
pub struct Model {
    parties: Vec<Party>,
    open: BTreeMap<(String, String), Open>,
    order: VecDeque<(u64, (String, String))>,
    messages: BTreeMap<MessageKey, Accepted>,
    shown: BTreeMap<(Dev, String), u32>,
    copied: BTreeMap<(Dev, String), u32>,
    receipts: BTreeMap<(Dev, String, String), u32>,
    may_repeat: BTreeMap<String, u32>,
    /// How often a device was switched off after it had shown this: of what it answered then it
    /// knows nothing, so a repeat of the same request is shown again.
    forgot: BTreeMap<(Dev, String), u32>,
    /// Texts that were sent as more than one message.
    ambiguous: BTreeSet<String>,
    /// When the disk was last held: answers to what came before that may wait.
    pub held: Option<u64>,
}

impl Model {
    /// A device joins; they are numbered as they come.
    pub fn party(&mut self, name: &str, aor: &str, kind: Kind, instance: Option<String>) {
        self.parties.push(Party { name: name.into(), aor: aor.into(), kind, instance });
    }

    /// The server starts anew: it owes no answer to what it heard before.
    pub fn restarted(&mut self) {
        self.open.clear();
        self.order.clear();
    }

    /// A connection is gone: no answer can come on it.
    pub fn disconnected(&mut self, connection: u64) {
        self.open.retain(|_, open| open.connection != connection);
    }

    /// A request reached the server.
    pub fn arrived(
        &mut self,
        at: u64,
        (source, connection): (Option<Dev>, u64),
        request: &Request,
        facts: &Facts,
    ) {
        if request.method == Method::Ack || request.check().is_err() {
            return;
        }
        let Some(key) =
            transaction(request.via().ok().as_ref().and_then(|v| v.branch()), request.cseq().ok())
        else {
            return;
        };
        if !self.open.contains_key(&key) {
            self.order.push_back((at, key.clone()));
            self.open.insert(key, Open { at, connection, request: request.clone(), status: None });
        }
        if request.method == Method::Message
            && let Some((key, text)) = message(request)
        {
            self.note_message(key, text, source, request, facts);
        }
    }

    fn note_message(
        &mut self,
        key: MessageKey,
        text: String,
        source: Option<Dev>,
        request: &Request,
        facts: &Facts,
    ) {
        if self.messages.contains_key(&key) {
            return;
        }
        if self.messages.values().any(|m| m.text == text) {
            self.ambiguous.insert(text.clone());
        }
        let (from, to, message_id, _) = key.clone();
        let known = |account: &str| -> Vec<Dev> {
            let there = facts.instances.get(account);
            let is = |p: &Party| {
                let named = p.instance.as_ref();
                p.aor == account
                    && named.is_some_and(|i| there.is_some_and(|t| t.values().any(|v| v == i)))
            };
            let devices = self.parties.iter().enumerate().filter(|(_, p)| is(p));
            devices.map(|(i, _)| Dev(i)).collect()
        };
        let owed = if from == to { Vec::new() } else { known(&to) };
        let cpm = |d: &Dev| self.parties[d.0].kind == Kind::Cpm;
        let copies =
            if from == to { Vec::new() } else { known(&from).into_iter().filter(cpm).collect() };
        let expires = request.headers.get(Name::Expires).is_some();
        let promised = false;
        let accepted =
            Accepted { from, to, message_id, text, owed, copies, source, expires, promised };
        self.messages.insert(key, accepted);
    }

    /// The server sends an answer.
    pub fn answered(&mut self, response: &Response, facts: &Facts) {
        let via = response.via().ok();
        let Some(key) = transaction(via.as_ref().and_then(|v| v.branch()), response.cseq().ok())
        else {
            return;
        };
        if response.status < 200 {
            return;
        }
        let Some(open) = self.open.get_mut(&key) else { return };
        if let Some(before) = open.status {
            let challenged = before == 401 || response.status == 401;
            assert!(
                before == response.status || challenged,
                "one request, two final answers: {before} and {} to {key:?}",
                response.status
            );
        }
        let first = open.status.replace(response.status).is_none();
        if first && response.status < 300 {
            let request = open.request.clone();
            match request.method {
                Method::Message => self.promised(&request, facts),
                Method::Register => registered(&request, facts),
                _ => {}
            }
        }
    }

    fn promised(&mut self, request: &Request, facts: &Facts) {
        let Some((key, _)) = message(request) else { return };
        let (from, to, id, print) = key.clone();
        let entry = (from.clone(), true, from, to, id, print);
        assert!(
            facts.entries.contains(&entry),
            "a 2xx left before the message was on disk: {entry:?}"
        );
        if let Some(message) = self.messages.get_mut(&key) {
            message.promised = true;
        }
    }

    /// A device was switched off and on.
    pub fn switched(&mut self, dev: Dev) {
        for key in self.shown.keys().filter(|(of, _)| *of == dev) {
            *self.forgot.entry(key.clone()).or_default() += 1;
        }
    }

    /// Something happened on a device.
    pub fn event(&mut self, dev: Dev, event: &AgentEvent) {
        let party = &self.parties[dev.0];
        match event {
            AgentEvent::Received(received) => {
                let name = self.name_of(received);
                let shown = self.shown.entry((dev, name.clone())).or_default();
                *shown += 1;
                let shown = *shown;
                let repeats = self.may_repeat.get(&received.call_id).copied().unwrap_or(0);
                let forgot = self.forgot.get(&(dev, name.clone())).copied().unwrap_or(0);
                let allowed = if party.kind == Kind::Cpm { 1 } else { 1 + repeats + forgot };
                assert!(
                    shown <= allowed || self.ambiguous.contains(&name),
                    "{} shows {name:?} for the {shown}th time, allowed are {allowed}",
                    party.name
                );
            }
            AgentEvent::Copy(received) => {
                assert_eq!(party.kind, Kind::Cpm, "{} got a copy", party.name);
                let name = self.name_of(received);
                let copied = self.copied.entry((dev, name.clone())).or_default();
                *copied += 1;
                assert_eq!(*copied, 1, "{} shows a copy of {name:?} again", party.name);
            }
            AgentEvent::Receipt { message_id, disposition } => {
                let key = (dev, message_id.clone(), format!("{disposition:?}"));
                let count = self.receipts.entry(key.clone()).or_default();
                *count += 1;
                assert_eq!(*count, 1, "{} was told twice: {key:?}", party.name);
            }
            _ => {}
        }
    }

    /// The server noted something.
    pub fn note(&mut self, note: &Note) {
        if let Note::MayRepeat { call_id } = note {
            *self.may_repeat.entry(call_id.clone()).or_default() += 1;
        }
    }

    /// How often a device has shown this.
    pub fn shown(&self, dev: Dev, text: &str) -> u32 {
        self.shown.get(&(dev, text.to_owned())).copied().unwrap_or(0)
    }

    /// Every request has its answer in time.
    pub fn check_answers(&mut self, now: u64) {
        while let Some((at, key)) = self.order.front() {
            if at + PATIENCE > now {
                return;
            }
            let answered = self.open.get(key).is_none_or(|o| o.status.is_some());
            assert!(
                answered || self.held.is_some_and(|held| *at <= held),
                "no answer in 32 s to {key:?} of {at}"
            );
            let old = self.open.remove(key).map(|o| o.at);
            debug_assert!(old.is_none_or(|at| at <= now));
            self.order.pop_front();
        }
    }

    /// After the faults have stopped and time has passed: what was promised and is not there.
    pub fn missing(&self, came_back: &BTreeSet<Dev>) -> Vec<String> {
        let mut missing = Vec::new();
        for m in self.messages.values().filter(|m| m.promised && !m.expires) {
            let name = &m.text;
            for dev in m.owed.iter().filter(|d| came_back.contains(d)) {
                if self.shown(*dev, name) == 0 {
                    missing.push(format!("{} never showed {name:?}", self.parties[dev.0].name));
                }
            }
            let mine = |d: &Dev| self.parties[d.0].aor == m.to;
            let anybody = came_back.iter().any(|d| mine(d) && self.shown(*d, name) > 0);
            let somebody_there = came_back.iter().any(mine);
            if !anybody && somebody_there && m.owed.is_empty() && m.from != m.to {
                missing.push(format!("nobody at {} showed {name:?}", m.to));
            }
            for dev in m.copies.iter().filter(|d| came_back.contains(d)) {
                let there = self.copied.get(&(*dev, name.clone())).copied().unwrap_or(0);
                if there == 0 && m.source != Some(*dev) {
                    missing.push(format!("{} has no copy of {name:?}", self.parties[dev.0].name));
                }
            }
        }
        missing
    }

    /// The words of the message that a device shows, also where it shows a line about it.
    fn name_of(&self, received: &Received) -> String {
        let text = received.text.clone().unwrap_or_default();
        let id = match (&received.message_id, text.split(LINE_FORM_MARK).nth(1)) {
            (Some(id), _) => id.as_str(),
            (None, Some(id)) if received.line_form => id.trim_end_matches(']'),
            _ => return text,
        };
        let found = self.messages.values().find(|m| m.message_id == id);
        found.map_or(text, |m| m.text.clone())
    }
}

fn registered(request: &Request, facts: &Facts) {
    let Some(account) = request.to().ok().and_then(|to| to.uri.aor()) else { return };
    let listed: Contacts = contacts(&request.headers).unwrap_or_default();
    let header = request.expires().ok().flatten();
    let bound = facts.bindings.get(&account);
    for contact in listed {
        let Contact::Addr(addr) = contact else {
            let left = bound.map_or(0, BTreeMap::len);
            assert_eq!(left, 0, "Contact: * was answered before the removal was on disk");
            continue;
        };
        let removed = addr.expires().map_or(header == Some(0), |e| e == Ok(0));
        let uri = addr.uri.to_string();
        let there = bound.is_some_and(|b| b.values().any(|put| put.contact == uri));
        assert_eq!(there, !removed, "a REGISTER was answered before it was on disk: {uri}");
    }
}

fn transaction(
    branch: Option<&str>,
    cseq: Option<cpmd::syntax::sip::CSeq>,
) -> Option<(String, String)> {
    Some((branch?.to_owned(), cseq?.method.to_string()))
}

/// What makes a message this one, and its words; `None` for receipts.
fn message(request: &Request) -> Option<(MessageKey, String)> {
    let content_type = request.headers.get(Name::ContentType).unwrap_or_default();
    let media = MediaType::parse(content_type).ok();
    let is = |what: &str| media.as_ref().is_some_and(|m| m.is(what));
    if is("message/imdn+xml") {
        return None;
    }
    let cpim = if is("message/cpim") { Cpim::read(&request.body).ok() } else { None };
    if cpim.as_ref().is_some_and(|c| c.content_type().is("message/imdn+xml")) {
        return None;
    }
    let named = cpim.as_ref().and_then(Cpim::message_id).map(str::to_owned);
    let id = match named {
        Some(id) => id,
        None => request.call_id().ok()?.to_owned(),
    };
    let from = request.from().ok()?.uri.aor()?;
    let to = request.target().ok()?.aor()?;
    let print = fingerprint(&[content_type, &request.body]);
    let text = first_text(content_type, &request.body).unwrap_or_default();
    Some(((from, to, id, print), text))
}
