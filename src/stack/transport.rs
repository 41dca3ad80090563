//! Flows, framing, `received` and `rport`, and where answers go (RFC 3261 §18, RFC 3581,
//! keep-alives of RFC 5626 §4.4.1). Octets come in, whole messages go out; sockets are elsewhere.

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::base::hash::fingerprint;
use crate::base::limits::CONNECTIONS_MAX;
use crate::syntax::sip::scan::{param, sent_by};
use crate::syntax::sip::{
    Fault, Frame, Framer, Host, Message, Method, Name, Request, Response, Unreadable, answer, read,
    stamp,
};

/// What carries a message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// Datagrams: unreliable.
    Udp,
    /// Connections: reliable.
    Tcp,
}

impl Protocol {
    /// As it stands in a Via (RFC 3261 §18.1.1).
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Udp => "UDP",
            Protocol::Tcp => "TCP",
        }
    }
}

/// A way to a peer: a socket of ours and an address, or one connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Flow {
    /// What carries it.
    pub protocol: Protocol,
    /// Which socket of ours.
    pub listener: u16,
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// Which connection; 0 for UDP.
    pub connection: u64,
}

/// A socket of ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The `listener` of its flows.
    pub id: u16,
    /// What it listens for.
    pub protocol: Protocol,
    /// Where it is bound; its port stands in our Vias.
    pub local: SocketAddr,
    /// The host that our Vias name.
    pub host: String,
}

/// What came in.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// A request that holds all that RFC 3261 §8.1.1 demands, with `received` and `rport` filled.
    Request(Request),
    /// A response to a request of ours.
    Response(Response),
    /// Octets to send back on the same flow: a refusal of a malformed request, or a keep-alive.
    Answer(Bytes),
    /// The connection is of no more use: close it.
    Close,
}

/// The listeners, and the unfinished message of every connection.
#[derive(Debug, Default)]
pub struct Transport {
    listeners: Vec<Listener>,
    connections: HashMap<Flow, Framer>,
}

impl Transport {
    /// A transport with these listeners and no connection.
    #[must_use]
    pub fn new(listeners: Vec<Listener>) -> Transport {
        Transport { listeners, connections: HashMap::new() }
    }

    /// The listeners, in the order in which they were given.
    #[must_use]
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// A connection exists from now on, accepted or made. Beyond `CONNECTIONS_MAX` it is not
    /// taken, and its first octets are met with `Close`.
    pub fn opened(&mut self, flow: Flow) {
        if self.connections.len() < CONNECTIONS_MAX {
            self.connections.insert(flow, Framer::default());
        }
    }

    /// A connection is gone.
    pub fn closed(&mut self, flow: Flow) {
        self.connections.remove(&flow);
    }

    /// Takes one datagram, or the next octets of a connection however they are cut.
    pub fn receive(&mut self, flow: Flow, bytes: Bytes, out: &mut Vec<Arrival>) {
        match flow.protocol {
            Protocol::Udp => {
                // Garbage and keep-alives without meaning come in datagrams: silence.
                let _known = arrival(&self.listeners, flow, bytes, out);
            }
            Protocol::Tcp => {
                let usable = match self.connections.get_mut(&flow) {
                    Some(framer) => frames(&self.listeners, framer, flow, &bytes, out),
                    None => false,
                };
                if !usable {
                    self.connections.remove(&flow);
                    out.push(Arrival::Close);
                }
            }
        }
    }
}

impl Listener {
    /// `host:port` as our Vias have it.
    #[must_use]
    pub fn sent_by(&self) -> String {
        let port = self.local.port();
        if self.host.contains(':') && !self.host.starts_with('[') {
            format!("[{}]:{port}", self.host)
        } else {
            format!("{}:{port}", self.host)
        }
    }
}

/// Where the answers to a request go (RFC 3261 §18.2.2, RFC 3581 §4): back on the connection;
/// over UDP to the source if the client asked for it with `rport`, else to the source address and
/// the port that its Via names.
///
/// `maddr` is not followed: whoever can send one datagram could aim our answers at others.
#[must_use]
pub fn reply_flow(request: &Request, arrived: Flow) -> Flow {
    if arrived.protocol == Protocol::Tcp {
        return arrived;
    }
    let top = request.headers.list(Name::Via).next().unwrap_or_default();
    if param(top, b"rport").is_some() {
        return arrived;
    }
    match request.via() {
        Ok(via) if via.rport().is_none() => {
            let port = via.port.filter(|port| *port != 0).unwrap_or(SIP_PORT);
            Flow { peer: SocketAddr::new(arrived.peer.ip(), port), ..arrived }
        }
        _ => arrived,
    }
}

/// Takes the next octets of a connection; false if nothing more can be read from it.
fn frames(
    listeners: &[Listener],
    framer: &mut Framer,
    flow: Flow,
    octets: &[u8],
    out: &mut Vec<Arrival>,
) -> bool {
    framer.push(octets);
    while let Some(frame) = framer.next() {
        match frame {
            Frame::Message(message) => {
                if !arrival(listeners, flow, message, out) {
                    return false;
                }
            }
            // RFC 5626 §4.4.1: a double CRLF MUST be answered with one CRLF.
            Frame::KeepAlive => out.push(Arrival::Answer(Bytes::from_static(b"\r\n"))),
            Frame::Broken(fault, head) => {
                match head.map(read) {
                    Some(Ok(Message::Request(request)))
                    | Some(Err(Unreadable::Answerable { request, .. })) => {
                        refuse(&request, flow, &fault, out);
                    }
                    _ => {}
                }
                return false;
            }
        }
    }
    true
}

/// Takes one whole message; false if its first line does not speak of SIP at all.
fn arrival(listeners: &[Listener], flow: Flow, message: Bytes, out: &mut Vec<Arrival>) -> bool {
    match read(message.clone()) {
        Ok(Message::Request(request)) => match request.check() {
            // RFC 3261 §18.2.1: `received` MUST be added where the source is not the sent-by.
            Ok(()) => out.push(Arrival::Request(stamp(&request, flow.peer))),
            Err(fault) => refuse(&request, flow, &fault, out),
        },
        Ok(Message::Response(response)) => {
            // RFC 3261 §18.1.2: a response whose sent-by is not ours MUST be dropped.
            let via = response.headers.list(Name::Via).next().unwrap_or_default();
            if is_ours(listeners, sent_by(via)) {
                out.push(Arrival::Response(response));
            }
        }
        Err(Unreadable::Answerable { request, fault }) => refuse(&request, flow, &fault, out),
        // A malformed response or ACK is dropped; it says nothing against its connection.
        Err(Unreadable::Garbage) => {
            let line = message.split(|o| *o == b'\n').next().unwrap_or_default();
            return line.windows(4).any(|word| word.eq_ignore_ascii_case(b"SIP/"));
        }
    }
    true
}

/// Answers a malformed request without state, except an ACK, which is never answered (RFC 3261
/// §8.2.7).
fn refuse(request: &Request, flow: Flow, fault: &Fault, out: &mut Vec<Arrival>) {
    if request.method == Method::Ack {
        return;
    }
    let named = [Name::From, Name::CallId, Name::CSeq].map(|n| request.headers.get(n));
    let tag = fingerprint(&named.map(Option::unwrap_or_default));
    let stamped = stamp(request, flow.peer);
    let writer = answer(&stamped, fault.status, &fault.reason, Some(&format!("{tag:032x}")));
    out.push(Arrival::Answer(writer.finish(b"")));
}

fn is_ours(listeners: &[Listener], sent_by: &[u8]) -> bool {
    // Blanks may stand around the colon (RFC 3261 §25.1).
    let tight: Vec<u8>;
    let spelled = if sent_by.iter().any(u8::is_ascii_whitespace) {
        tight = sent_by.iter().copied().filter(|o| !o.is_ascii_whitespace()).collect();
        &tight
    } else {
        sent_by
    };
    let Some((host, port)) = Host::with_port(spelled) else { return false };
    let port = port.unwrap_or(SIP_PORT);
    let is = |own: &str| match &host {
        Host::Name(name) => own.eq_ignore_ascii_case(name),
        Host::V4(v4) => own.parse() == Ok(*v4),
        Host::V6(v6) => own.trim_matches(['[', ']']).parse() == Ok(*v6),
    };
    listeners.iter().any(|l| l.local.port() == port && is(&l.host))
}

/// The port of a sent-by without port (RFC 3261 §18.2.2).
const SIP_PORT: u16 = 5060;

#[cfg(test)]
mod tests;
