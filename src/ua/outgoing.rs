//! Requests on their way out: sent in turn, repeated once with credentials when challenged
//! (RFC 3261 §22.2), one MESSAGE at a time to the same URI (RFC 3428 §8).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::agent::Agent;
use super::config::{AgentEvent, MessageRef};
use super::digest::{Challenge, Digest};
use super::register::Wish;
use crate::base::ids::BRANCH_COOKIE;
use crate::base::limits::UA_REQUESTS_MAX;
use crate::base::now::Now;
use crate::syntax::sip::{AuthParams, Method, Name, Response, Writer};

/// What a request is for, and so who hears of its end.
#[derive(Debug)]
pub(super) enum Purpose {
    Register(Wish),
    Message(MessageRef),
    Receipt,
}

/// A request without what changes from one try to the next: Via, CSeq, credentials.
#[derive(Debug)]
pub(super) struct Draft {
    pub purpose: Purpose,
    pub method: Method,
    pub uri: Arc<str>,
    /// All other header lines, ready to be sent.
    pub lines: Bytes,
    pub body: Bytes,
    /// A challenge was answered with the password already.
    pub answered: bool,
    /// A nonce that had grown too old was replaced already.
    pub renewed: bool,
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum Outcome {
    Answer(Response),
    Timeout,
    Transport,
}

/// Appends one header line, its value in pieces; what would end the line early becomes a blank.
pub(super) fn line(lines: &mut Vec<u8>, name: &str, value: &[&str]) {
    let start = lines.len();
    lines.extend_from_slice(name.as_bytes());
    lines.extend_from_slice(b": ");
    for piece in value {
        lines.extend_from_slice(piece.as_bytes());
    }
    let written = lines.get_mut(start..).unwrap_or_default();
    if memchr::memchr3(b'\r', b'\n', 0, written).is_some() {
        for octet in written.iter_mut().filter(|o| matches!(o, b'\r' | b'\n' | 0)) {
            *octet = b' ';
        }
    }
    lines.extend_from_slice(b"\r\n");
}

impl Agent {
    /// Sends a MESSAGE, or lets it wait until the one before it to the same URI has ended.
    pub(super) fn send_in_turn(&mut self, now: Now, draft: Draft) {
        if self.under_way.len() + self.waiting >= UA_REQUESTS_MAX {
            self.report(draft.purpose, &Outcome::Transport);
            return;
        }
        if let Some(queue) = self.busy.get_mut(&draft.uri) {
            queue.push_back(draft);
            self.waiting += 1;
            return;
        }
        self.busy.insert(Arc::clone(&draft.uri), VecDeque::new());
        self.launch(now, draft);
    }

    /// Sends a request in a new transaction, with the credentials that are known by now.
    pub(super) fn launch(&mut self, now: Now, draft: Draft) {
        self.cseq = self.cseq.wrapping_add(1) & 0x7fff_ffff;
        let branch = format!("{BRANCH_COOKIE}{:016x}", self.ids().number());
        let method = draft.method.as_str();
        let mut writer = Writer::request(&draft.method, draft.uri.as_bytes());
        for piece in [self.fixed.via.as_bytes(), branch.as_bytes(), b";rport\r\n", &draft.lines] {
            writer.raw_lines(piece);
        }
        writer.header(Name::CSeq, format!("{} {method}", self.cseq));
        if let Some(digest) = &mut self.www {
            writer.header(Name::Authorization, digest.answer(method, &draft.uri));
        }
        if let Some(digest) = &mut self.proxy
            && draft.method != Method::Register
        {
            writer.header(Name::ProxyAuthorization, digest.answer(method, &draft.uri));
        }
        let octets = writer.finish(&draft.body);
        self.next_id += 1;
        let (id, flow) = (self.next_id, self.config.flow);
        let mut acts = Vec::new();
        self.transactions().send(now, id, &draft.method, &branch, flow, octets, &mut acts);
        self.under_way.insert(id, draft);
        self.perform(now, acts);
    }

    /// An answer to one of our requests.
    pub(super) fn answered(&mut self, now: Now, id: u64, response: Response) {
        if response.status < 200 {
            return;
        }
        let Some(mut draft) = self.under_way.remove(&id) else { return };
        self.learn_nonce(&response);
        if self.may_repeat(&mut draft, &response) {
            self.launch(now, draft);
        } else {
            self.finish(now, draft, Outcome::Answer(response));
        }
    }

    /// The end of a request that got no answer.
    pub(super) fn unanswered(&mut self, now: Now, id: u64, outcome: Outcome) {
        if let Some(draft) = self.under_way.remove(&id) {
            self.finish(now, draft, outcome);
        }
    }

    fn finish(&mut self, now: Now, draft: Draft, outcome: Outcome) {
        if let Purpose::Register(wish) = draft.purpose {
            return self.register_ended(now, wish, outcome);
        }
        self.report(draft.purpose, &outcome);
        let next = self.busy.get_mut(&draft.uri).and_then(VecDeque::pop_front);
        match next {
            Some(next) => {
                self.waiting = self.waiting.saturating_sub(1);
                self.launch(now, next);
            }
            None => {
                self.busy.remove(&draft.uri);
            }
        }
    }

    fn report(&mut self, purpose: Purpose, outcome: &Outcome) {
        let Purpose::Message(message) = purpose else { return };
        self.event(match outcome {
            Outcome::Answer(response) => AgentEvent::Sent { message, status: response.status },
            Outcome::Timeout => AgentEvent::SendFailed { message, timeout: true },
            Outcome::Transport => AgentEvent::SendFailed { message, timeout: false },
        });
    }

    /// Takes up the challenge of a 401 or 407. A request is repeated once with the password, and
    /// once more only where the server says that nothing but the nonce was wrong.
    fn may_repeat(&mut self, draft: &mut Draft, response: &Response) -> bool {
        let (name, proxy) = match response.status {
            401 => (Name::WwwAuthenticate, false),
            407 => (Name::ProxyAuthenticate, true),
            _ => return false,
        };
        let cnonce = self.ids().tag();
        let slot = if proxy { &mut self.proxy } else { &mut self.www };
        let Some(challenge) = Challenge::strongest(&response.headers, name, self.md5_only) else {
            *slot = None;
            return false;
        };
        let repeat = if challenge.stale && slot.is_some() {
            !std::mem::replace(&mut draft.renewed, true)
        } else {
            !std::mem::replace(&mut draft.answered, true)
        };
        if !repeat {
            // Else the wrong answer would go out with the next request unasked.
            *slot = None;
            return false;
        }
        let (user, password) = (&self.config.user, &self.config.password);
        *slot = Some(Box::new(Digest::new(&challenge, user, password, cnonce)));
        true
    }

    /// Authentication-Info may name the nonce to go on with (RFC 7616 §3.5).
    fn learn_nonce(&mut self, response: &Response) {
        let Some(digest) = &mut self.www else { return };
        let Some(info) = response.headers.get(Name::AuthenticationInfo) else { return };
        // The value is a list of parameters without a scheme in front.
        let list = [b"Digest ", info].concat();
        if let Ok(read) = AuthParams::parse(&list)
            && let Some(nonce) = read.params.value("nextnonce")
        {
            digest.renew(&nonce);
        }
    }
}
