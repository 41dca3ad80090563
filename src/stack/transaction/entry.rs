//! What the tables hold: a machine, its flow, and which event of the machine each input is.

use bytes::Bytes;

use super::ClientId;
use super::client::{self, Client};
use super::client_invite::{self, ClientInvite};
use super::key;
use super::server::{self, Server};
use super::server_invite::{self, ServerInvite};
use super::timing::Effect;
use crate::base::now::Mono;
use crate::stack::transport::{Flow, Protocol};
use crate::syntax::sip::{Message, Name, Request, Response, read};

/// A client transaction.
#[derive(Debug)]
pub(super) struct ClientEntry {
    pub id: ClientId,
    pub flow: Flow,
    pub machine: ClientMachine,
}

#[derive(Debug)]
pub(super) enum ClientMachine {
    Invite(Box<ClientInvite>),
    Other(Client),
}

pub(super) enum ClientInput {
    Response(Response),
    TransportError,
    Fire,
}

/// A server transaction. Great numbers are kept for their final answer alone: what only an open
/// one needs is boxed.
#[derive(Debug)]
pub(super) struct ServerEntry {
    pub flow: Flow,
    pub machine: ServerMachine,
    pub open: Option<Box<Open>>,
    /// How much of the octets of all completed ones is its answer.
    pub kept: usize,
}

/// What is needed until the final answer.
#[derive(Debug)]
pub(super) struct Open {
    /// For the 100.
    pub request: Request,
    /// Its name in the table of merged requests.
    pub merged: Option<u128>,
}

#[derive(Debug)]
pub(super) enum ServerMachine {
    Invite(Box<ServerInvite>),
    Other(Server),
}

pub(super) enum ServerInput {
    Again,
    Ack(Request),
    Respond(u16, Bytes),
    TransportError,
    Fire,
}

impl ClientEntry {
    /// Gives the machine its event; hands back the response, for the effect that delivers it.
    pub(super) fn on(
        &mut self,
        now: Mono,
        input: ClientInput,
        out: &mut Vec<Effect>,
    ) -> Option<Response> {
        match (&mut self.machine, input) {
            (ClientMachine::Invite(machine), ClientInput::Response(response)) => {
                let event = match response.status {
                    0..=199 => client_invite::Event::Provisional,
                    200..=299 => client_invite::Event::Success,
                    _ => client_invite::Event::Refusal(&response),
                };
                machine.on(now, event, out);
                return Some(response);
            }
            (ClientMachine::Other(machine), ClientInput::Response(response)) => {
                let event = match response.status {
                    0..=199 => client::Event::Provisional,
                    _ => client::Event::Final,
                };
                machine.on(now, event, out);
                return Some(response);
            }
            (ClientMachine::Invite(machine), ClientInput::TransportError) => {
                machine.on(now, client_invite::Event::TransportError, out);
            }
            (ClientMachine::Other(machine), ClientInput::TransportError) => {
                machine.on(now, client::Event::TransportError, out);
            }
            (ClientMachine::Invite(machine), ClientInput::Fire) => machine.fire(now, out),
            (ClientMachine::Other(machine), ClientInput::Fire) => machine.fire(now, out),
        }
        None
    }
}

impl ClientMachine {
    pub(super) fn is_terminated(&self) -> bool {
        match self {
            ClientMachine::Invite(machine) => machine.is_terminated(),
            ClientMachine::Other(machine) => machine.is_terminated(),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        match self {
            ClientMachine::Invite(machine) => machine.next_deadline(),
            ClientMachine::Other(machine) => machine.next_deadline(),
        }
    }
}

impl ServerEntry {
    /// Gives the machine its event; hands back the ACK, for the effect that delivers it.
    pub(super) fn on(
        &mut self,
        now: Mono,
        input: ServerInput,
        out: &mut Vec<Effect>,
    ) -> Option<Request> {
        let reliable = reliable(self.flow);
        match (&mut self.machine, input) {
            (ServerMachine::Invite(machine), ServerInput::Ack(ack)) => {
                machine.on(now, server_invite::Event::Ack, out);
                return Some(ack);
            }
            (ServerMachine::Invite(machine), ServerInput::Again) => {
                machine.on(now, server_invite::Event::Invite, out);
            }
            (ServerMachine::Invite(machine), ServerInput::Respond(status, bytes)) => {
                machine.on(now, server_invite::Event::Respond(status, bytes), out);
            }
            (ServerMachine::Invite(machine), ServerInput::TransportError) => {
                machine.on(now, server_invite::Event::TransportError, out);
            }
            (ServerMachine::Invite(machine), ServerInput::Fire) => machine.fire(now, out),
            (ServerMachine::Other(machine), ServerInput::Again) => {
                machine.on(now, reliable, server::Event::Request, out);
            }
            (ServerMachine::Other(machine), ServerInput::Respond(status, bytes)) => {
                machine.on(now, reliable, server::Event::Respond(status, bytes), out);
            }
            (ServerMachine::Other(machine), ServerInput::Fire) => {
                machine.fire(now, reliable, out);
            }
            (ServerMachine::Other(_), ServerInput::Ack(_) | ServerInput::TransportError) => {}
        }
        None
    }

    /// Whether an ACK with the name of this INVITE is for it. With an old branch its To tag is
    /// that of the refusal (RFC 3261 §17.2.3).
    pub(super) fn acknowledged_by(&self, ack: &Request) -> bool {
        let ServerMachine::Invite(machine) = &self.machine else { return false };
        match machine.refusal() {
            Some(refusal) if key::has_classic_branch(ack) => {
                let Ok(Message::Response(refusal)) = read(refusal.clone()) else { return false };
                key::tag(&refusal.headers, Name::To) == key::tag(&ack.headers, Name::To)
            }
            _ => true,
        }
    }

    /// Whether a 100 will be due at that moment.
    pub(super) fn awaits_trying_at(&self, at: Mono) -> bool {
        match &self.machine {
            ServerMachine::Other(machine) => {
                machine.awaits_trying() && machine.next_deadline() == Some(at)
            }
            ServerMachine::Invite(_) => false,
        }
    }
}

impl ServerMachine {
    pub(super) fn is_open(&self) -> bool {
        match self {
            ServerMachine::Invite(machine) => machine.is_open(),
            ServerMachine::Other(machine) => machine.is_open(),
        }
    }

    pub(super) fn is_terminated(&self) -> bool {
        match self {
            ServerMachine::Invite(machine) => machine.is_terminated(),
            ServerMachine::Other(machine) => machine.is_terminated(),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Mono> {
        match self {
            ServerMachine::Invite(machine) => machine.next_deadline(),
            ServerMachine::Other(machine) => machine.next_deadline(),
        }
    }
}

pub(super) fn reliable(flow: Flow) -> bool {
    match flow.protocol {
        Protocol::Udp => false,
        Protocol::Tcp => true,
    }
}
