//! What an agent is told, and what it tells.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use super::inbox::Received;
use crate::base::now::Mono;
use crate::stack::transport::Flow;
use crate::syntax::imdn::Disposition;

/// How a device behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Kind {
    /// A CPM client: registers the CPM service, knows CPIM and IMDN, shows each message once.
    #[default]
    Cpm,
    /// A softphone of the baresip kind: no services, no receipts, and every request that is not a
    /// retransmission inside a transaction is shown, even if it was shown before.
    Plain,
}

/// Which receipts a device gives by itself to those who ask for them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Receipts {
    /// None. `Agent::displayed` still sends one: there the user says so.
    None,
    /// Delivered, when the message arrives.
    #[default]
    Delivered,
    /// Delivered, and at once displayed: a user who always looks.
    DeliveredAndDisplayed,
}

/// What a device answers to MESSAGE.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Answers {
    /// 200, unless the content is of a type that it does not take.
    #[default]
    Ok200,
    /// Nothing at all, to no request: a device that hangs.
    Silent,
    /// This status, 200 to 699. A message answered with 2xx is shown.
    Status(u16),
}

/// What one device is and where its server is.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// Address of record: `sip:alice@a.example`.
    pub aor: String,
    /// User name for digest.
    pub user: String,
    /// Password for digest.
    pub password: String,
    /// Label for people: `phone`.
    pub device: String,
    /// What `+sip.instance` says, without the angle brackets: `urn:uuid:...`.
    pub instance: Option<String>,
    /// How it behaves.
    pub kind: Kind,
    /// The way to the server: protocol and the server's address.
    pub flow: Flow,
    /// The device's own address, for Contact and Via.
    pub contact: SocketAddr,
    /// Registration wished for, in seconds.
    pub expires: u32,
    /// Media types taken, `type/subtype` in any case, or `*/*`; others get 415 and Accept.
    pub accepts: Vec<String>,
    /// Receipts given unprompted.
    pub receipts: Receipts,
    /// What MESSAGE is answered with.
    pub answers: Answers,
}

/// One message that was sent.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageRef {
    /// Counts up from 1 within the agent.
    pub number: u64,
    /// What receipts will name: `imdn.Message-ID`, or the Call-ID where there is no CPIM.
    pub message_id: Arc<str>,
}

/// One Contact in the registrar's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Binding {
    /// The URI as the registrar wrote it.
    pub contact: String,
    /// Its `+sip.instance` without the angle brackets.
    pub instance: Option<String>,
    /// Seconds that are left; 0 where the registrar did not say.
    pub expires: u32,
}

/// Where the registration stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Phase {
    /// Not registered, and nobody asked.
    #[default]
    Idle,
    /// A REGISTER waits for its answer and no earlier registration is known.
    Registering,
    /// Registered; a refresh may be under way.
    Registered,
    /// The last REGISTER ended with this status (408 without answer, 503 without transport).
    Failed(u16),
}

/// The agent's view of its registration.
#[derive(Clone, Debug, Default)]
pub struct Registration {
    /// Where it stands.
    pub phase: Phase,
    /// Bindings of the account in the last answer.
    pub bindings: usize,
    /// Seconds granted to this device.
    pub expires: u32,
    /// When the agent refreshes by itself.
    pub refresh: Option<Mono>,
}

/// What the agent wants done or known; in order.
#[derive(Clone, Debug)]
pub enum AgentAct {
    /// Send these octets to the server: one datagram, or the next octets of the stream.
    Send(Bytes),
    /// Something happened.
    Event(AgentEvent),
}

/// Something that a user or a test would notice.
#[derive(Clone, Debug)]
pub enum AgentEvent {
    /// The registrar answered 2xx to a registration, a refresh or a fetch.
    Registered {
        /// All bindings of the account.
        bindings: Vec<Binding>,
        /// Seconds granted to this device; 0 where a fetch shows that it is not bound.
        expires: u32,
    },
    /// A REGISTER failed for good: its status, 408 without an answer, 503 without transport.
    RegisterFailed {
        /// The status.
        status: u16,
    },
    /// The registrar answered 2xx to the removal of this device's binding, or of all.
    Unregistered,
    /// A MESSAGE got its final answer, good or bad.
    Sent {
        /// Which one.
        message: MessageRef,
        /// The status, 200 to 699.
        status: u16,
    },
    /// A MESSAGE got no final answer.
    SendFailed {
        /// Which one.
        message: MessageRef,
        /// Whether time ran out; otherwise it could not be sent.
        timeout: bool,
    },
    /// A message that the user sees now.
    Received(Received),
    /// A receipt (RFC 5438) for a message that this account sent.
    Receipt {
        /// The message.
        message_id: String,
        /// What became of it.
        disposition: Disposition,
    },
    /// A message that another device of this account sent (`Message-Direction: sent`).
    Copy(Received),
}
