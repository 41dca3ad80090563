//! The devices of the world: a user agent behind a wire, or a raw peer that says what a story
//! wants said.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use cpmd::base::now::Now;
use cpmd::stack::transport::{Flow, Protocol};
use cpmd::syntax::sip::{Message, Method, Name, Writer, read};
use cpmd::ua::digest::{Challenge, Digest};
use cpmd::ua::{Agent, AgentConfig, AgentEvent, Answers, Kind, Receipts};

use bytes::Bytes;

use super::net::Wire;

/// Which device.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Dev(pub usize);

/// Our end of every wire.
pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
/// The listeners of the server, in the order of their numbers.
pub const UDP: u16 = 0;
/// The TCP listener.
pub const TCP: u16 = 1;

/// One device and its wire.
pub struct Device {
    /// `alice/phone`.
    pub name: String,
    /// `sip:alice@a.example`.
    pub aor: String,
    /// What it is told to know.
    pub password: String,
    /// Its own address.
    pub addr: SocketAddr,
    /// What carries its messages.
    pub protocol: Protocol,
    /// The agent; a raw peer has none.
    pub agent: Option<Agent>,
    /// The way to the server.
    pub wire: Wire,
    /// Whether it is switched on.
    pub is_on: bool,
    /// Its connection, if it has one.
    pub connection: Option<u64>,
    /// What its agent told, and when.
    pub events: Vec<(u64, AgentEvent)>,
    /// Every message that reached it, and when.
    pub heard: Vec<(u64, Message)>,
    /// Connections that the server closed.
    pub closed: usize,
}

/// The domain of a user: b.example for bob, a.example for everybody else.
pub fn aor(user: &str) -> String {
    let domain = if user == "bob" { "b.example" } else { "a.example" };
    if user.contains('@') { format!("sip:{user}") } else { format!("sip:{user}@{domain}") }
}

/// The password of a user.
pub fn password(user: &str) -> String {
    format!("secret of {user}")
}

/// What the agent of the `index`-th device called `name` is told, to be changed by the story.
pub fn config(name: &str, index: usize) -> AgentConfig {
    let user = name.split('/').next().unwrap_or(name);
    let bare = user.split('@').next().unwrap_or(user);
    let addr = address(index);
    AgentConfig {
        aor: aor(user),
        user: bare.to_owned(),
        password: password(bare),
        device: name.to_owned(),
        instance: Some(format!("urn:uuid:00000000-0000-4000-8000-{index:012}")),
        kind: Kind::Cpm,
        flow: server(Protocol::Udp),
        contact: addr,
        expires: 3600,
        accepts: vec!["*/*".to_owned()],
        receipts: Receipts::Delivered,
        answers: Answers::Ok200,
    }
}

/// The way to the server.
pub fn server(protocol: Protocol) -> Flow {
    let listener = if protocol == Protocol::Tcp { TCP } else { UDP };
    Flow { protocol, listener, peer: SocketAddr::new(SERVER, 5060), connection: 0 }
}

fn address(index: usize) -> SocketAddr {
    let low = u8::try_from(index % 250 + 1).expect("below 251");
    let high = u8::try_from(index / 250).expect("few devices");
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), 5060)
}

impl Device {
    /// A device that is on and has said nothing.
    pub fn new(config: AgentConfig, is_raw: bool, seed: [u8; 32]) -> Device {
        Device {
            name: config.device.clone(),
            aor: config.aor.clone(),
            password: config.password.clone(),
            addr: config.contact,
            protocol: config.flow.protocol,
            wire: Wire::default(),
            is_on: true,
            connection: None,
            events: Vec::new(),
            heard: Vec::new(),
            closed: 0,
            agent: (!is_raw).then(|| Agent::new(config, seed)),
        }
    }

    /// A whole message reaches the device.
    pub fn receive(&mut self, now: Now, octets: &Bytes) {
        self.heard.extend(read(octets.clone()).ok().map(|m| (now.mono.0, m)));
        if let Some(agent) = &mut self.agent {
            agent.receive(now, octets.clone());
        }
    }

    /// Its connection is gone.
    pub fn disconnected(&mut self, now: Now) {
        self.connection = None;
        self.closed += 1;
        if let Some(agent) = &mut self.agent {
            agent.disconnected(now);
        }
    }
}

/// A request that a raw peer makes: everything in it can be made wrong.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Method.
    pub method: Method,
    /// Request-URI.
    pub uri: String,
    /// From, without its tag.
    pub from: String,
    /// To, with a tag if there is one.
    pub to: String,
    /// Call-ID.
    pub call_id: String,
    /// CSeq number.
    pub cseq: u32,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Bytes,
    /// Names of headers to leave out.
    pub without: Vec<Name>,
    /// Max-Forwards.
    pub hops: u32,
}

impl Ask {
    /// A request of `user` to `uri`.
    pub fn new(method: Method, user: &str, uri: &str) -> Ask {
        Ask {
            call_id: format!("{method}-{user}-{}", uri.len()),
            method,
            uri: uri.to_owned(),
            from: format!("<{}>", aor(user)),
            to: format!("<{uri}>"),
            cseq: 1,
            headers: Vec::new(),
            body: Bytes::new(),
            without: Vec::new(),
            hops: 70,
        }
    }

    /// A text from one user to another.
    pub fn text(from: &str, to: &str, text: &str) -> Ask {
        let mut ask =
            Ask::new(Method::Message, from, &aor(to)).header("Content-Type", "text/plain");
        ask.call_id = format!("text-{}", text.replace(' ', "-"));
        ask.body = Bytes::copy_from_slice(text.as_bytes());
        ask
    }

    /// A registration of `user` with this Contact value.
    pub fn register(user: &str, contact: &str) -> Ask {
        let own = aor(user);
        let domain = own.split('@').nth(1).unwrap_or_default();
        let mut ask = Ask::new(Method::Register, user, &format!("sip:{domain}"));
        ask.to = format!("<{own}>");
        if !contact.is_empty() {
            ask.headers.push(("Contact".into(), contact.into()));
        }
        ask
    }

    /// The same with one more header.
    pub fn header(mut self, name: &str, value: &str) -> Ask {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same under another Call-ID.
    pub fn call(mut self, call_id: &str) -> Ask {
        self.call_id = call_id.to_owned();
        self
    }

    /// The same with another CSeq.
    pub fn cseq(mut self, cseq: u32) -> Ask {
        self.cseq = cseq;
        self
    }

    /// The same with a body of this type.
    pub fn body(mut self, content_type: &str, body: impl AsRef<[u8]>) -> Ask {
        self.headers.retain(|(name, _)| name != "Content-Type");
        self.body = Bytes::copy_from_slice(body.as_ref());
        self.header("Content-Type", content_type)
    }

    /// The same without a header.
    pub fn without(mut self, name: Name) -> Ask {
        self.without.push(name);
        self
    }

    /// On the wire.
    pub fn write(&self, from: &Device, branch: &str, digest: Option<&mut Digest>) -> Bytes {
        let mut w = Writer::request(&self.method, self.uri.as_bytes());
        let transport = from.protocol.as_str();
        let mut put = |name: Name, value: String| {
            if !self.without.contains(&name) {
                w.header(name, value);
            }
        };
        put(Name::Via, format!("SIP/2.0/{transport} {};branch={branch};rport", from.addr));
        put(Name::MaxForwards, self.hops.to_string());
        put(Name::From, format!("{};tag=raw", self.from));
        put(Name::To, self.to.clone());
        put(Name::CallId, self.call_id.clone());
        put(Name::CSeq, format!("{} {}", self.cseq, self.method));
        if let Some(digest) = digest {
            put(Name::Authorization, digest.answer(self.method.as_str(), &self.uri));
        }
        for (name, value) in &self.headers {
            w.named(name.as_bytes(), value);
        }
        w.finish(&self.body)
    }

    /// Credentials for a challenge.
    pub fn credentials(user: &str, password: &str, challenge: &Challenge) -> Digest {
        Digest::new(challenge, user, password, "raw-cnonce".to_owned())
    }
}
