//! Agents against a server whose answers are written by hand.

mod messages;
mod registration;
mod stream;

use std::time::Duration;

use bytes::Bytes;

use super::{Agent, AgentAct, AgentConfig, AgentEvent, Answers, Kind, Receipts};
use crate::base::now::{Mono, Now, Unix};
use crate::stack::transport::{Flow, Protocol};

pub(super) fn config(name: &str, kind: Kind, protocol: Protocol) -> AgentConfig {
    AgentConfig {
        aor: format!("sip:{name}@a.example"),
        user: name.into(),
        password: "secret".into(),
        device: "phone".into(),
        instance: Some(format!("urn:uuid:00000000-0000-4000-8000-{name:0>12}")),
        kind,
        flow: Flow {
            protocol,
            listener: 0,
            peer: "192.0.2.1:5060".parse().expect("an address"),
            connection: u64::from(protocol == Protocol::Tcp),
        },
        contact: "192.0.2.7:5071".parse().expect("an address"),
        expires: 600,
        accepts: match kind {
            Kind::Cpm => vec!["text/plain".into(), "message/cpim".into()],
            Kind::Plain => vec!["text/plain".into()],
        },
        receipts: Receipts::Delivered,
        answers: Answers::Ok200,
    }
}

/// An agent, its clock, and what it did.
pub(super) struct Phone {
    pub agent: Agent,
    pub now: Now,
    pub sent: Vec<String>,
    pub events: Vec<AgentEvent>,
}

impl Phone {
    pub fn new(name: &str, kind: Kind) -> Phone {
        Phone::with(config(name, kind, Protocol::Udp))
    }

    pub fn with(config: AgentConfig) -> Phone {
        let now = Now { mono: Mono(1_000_000), unix: Unix(1_455_195_649_000) };
        Phone { agent: Agent::new(config, [7; 32]), now, sent: vec![], events: vec![] }
    }

    /// Does something with the agent; returns what it sent by that.
    pub fn act<T>(&mut self, what: impl FnOnce(&mut Agent, Now) -> T) -> Vec<String> {
        what(&mut self.agent, self.now);
        let (mut acts, before) = (Vec::new(), self.sent.len());
        self.agent.drain(&mut acts);
        for act in acts {
            match act {
                AgentAct::Send(octets) => {
                    self.sent.push(String::from_utf8(octets.to_vec()).expect("text"));
                }
                AgentAct::Event(event) => self.events.push(event),
            }
        }
        self.sent[before..].to_vec()
    }

    /// The same where exactly one message is to be sent.
    pub fn one<T>(&mut self, what: impl FnOnce(&mut Agent, Now) -> T) -> String {
        let sent = self.act(what);
        assert_eq!(sent.len(), 1, "{sent:#?}");
        sent[0].clone()
    }

    pub fn hears(&mut self, octets: &str) -> Vec<String> {
        let octets = Bytes::copy_from_slice(octets.as_bytes());
        self.act(|agent, now| agent.receive(now, octets))
    }

    /// Lets time pass, timer by timer; returns what was sent.
    pub fn wait(&mut self, how_long: Duration) -> Vec<String> {
        let (until, before) = (self.now.mono.after(how_long), self.sent.len());
        while let Some(at) = self.agent.next_deadline().filter(|at| *at <= until) {
            self.step_to(at.max(self.now.mono));
            self.act(Agent::fire);
        }
        self.step_to(until);
        self.sent[before..].to_vec()
    }

    fn step_to(&mut self, at: Mono) {
        self.now.unix = self.now.unix.after(at.since(self.now.mono));
        self.now.mono = at;
    }

    pub fn take_events(&mut self) -> Vec<AgentEvent> {
        std::mem::take(&mut self.events)
    }

    /// Registers against a server that challenges once with `challenge`.
    pub fn register(&mut self, challenge: &str) {
        let first = self.one(Agent::register);
        let second = self.hears(&answer(&first, 401, challenge)).remove(0);
        self.hears(&answer(&second, 200, &granted(&second, 600)));
        assert!(self.agent.is_registered(), "{:?}", self.agent.state());
        self.events.clear();
    }
}

/// The value of the first line with this name.
pub(super) fn header<'a>(message: &'a str, name: &str) -> &'a str {
    let head = message.split("\r\n\r\n").next().unwrap_or_default();
    let line = head.lines().find(|l| l.split(':').next().is_some_and(|n| n == name));
    line.and_then(|l| l.split_once(": ")).map_or("", |(_, value)| value)
}

/// One parameter of Authorization, unquoted.
pub(super) fn credential<'a>(request: &'a str, name: &str) -> &'a str {
    let value = header(request, "Authorization");
    let found = value
        .split(", ")
        .find_map(|p| p.trim_start_matches("Digest ").strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_default().trim_matches('"')
}

/// A response as a server writes it; `more` are further header lines, each with its line end.
pub(super) fn answer(request: &str, status: u16, more: &str) -> String {
    let mut out = format!("SIP/2.0 {status} Whatever\r\n");
    for name in ["Via", "From", "To", "Call-ID", "CSeq"] {
        let tag = if name == "To" { ";tag=server" } else { "" };
        out.push_str(&format!("{name}: {}{tag}\r\n", header(request, name)));
    }
    format!("{out}{more}Content-Length: 0\r\n\r\n")
}

/// The Contact lines of a registrar that grants `expires`, besides another device.
pub(super) fn granted(request: &str, expires: u32) -> String {
    format!(
        "Contact: {};expires={expires}\r\n\
         Contact: <sip:alice@192.0.2.9>;+sip.instance=\"<urn:uuid:other>\";expires=7\r\n",
        header(request, "Contact")
    )
}

pub(super) fn challenge(nonce: &str, more: &str) -> String {
    format!(
        "WWW-Authenticate: Digest realm=\"a.example\", nonce=\"{nonce}\", qop=\"auth\"{more}\r\n"
    )
}

/// A MESSAGE as the server sends it; `n` names the transaction, `call` the Call-ID.
pub(super) fn message(n: u32, call: &str, content_type: &str, body: &str) -> String {
    format!(
        "MESSAGE sip:bob@192.0.2.7:5071 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK{call}{n};rport\r\n\
         Max-Forwards: 69\r\n\
         From: <sip:alice@a.example>;tag=a{n}\r\n\
         To: <sip:bob@a.example>\r\n\
         Call-ID: {call}\r\n\
         CSeq: {n} MESSAGE\r\n\
         Content-Type: {content_type}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A CPIM message of text/plain; `more` are further CPIM header lines.
pub(super) fn cpim(id: &str, more: &str, text: &str) -> String {
    format!(
        "From: <sip:alice@a.example>\r\nTo: <sip:bob@a.example>\r\n\
         DateTime: 2016-02-11T13:00:49.000Z\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
         imdn.Message-ID: {id}\r\n{more}\r\n\
         Content-Type: text/plain;charset=utf-8\r\n\r\n{text}"
    )
}

pub(super) fn status_of(response: &str) -> &str {
    response.split(' ').nth(1).unwrap_or_default()
}

#[test]
fn an_idle_agent_is_small() {
    let mut phone = Phone::new("alice", Kind::Cpm);
    phone.register(&challenge("n1", ""));
    phone.wait(Duration::from_secs(60));
    assert_eq!(phone.agent.open_requests(), 0);
    // The refresh is all it waits for: the transaction table is gone.
    assert_eq!(phone.agent.next_deadline(), phone.agent.state().refresh);
    assert!(size_of::<Agent>() <= 640, "{}", size_of::<Agent>());
}
