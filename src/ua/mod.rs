//! The reference CPM user agent, without socket and clock: octets and time come in, octets and
//! events go out. The simulator's devices, `cpmd demo` and the load generator are built on it.
//!
//! ```text
//!   register, send_*, displayed ─┐                         ┌─ AgentAct::Send(octets)
//!   receive(octets), fire(now) ──┴─▶ Agent ─▶ drain(out) ──┴─ AgentAct::Event(what happened)
//! ```
//!
//! One agent is one device of one account. It keeps nothing without a bound (base/limits.rs), and
//! little at all while it is idle: a load generator holds 100,000 of them.

mod agent;
mod config;
mod content;
pub mod digest;
mod inbox;
mod incoming;
mod message;
mod outgoing;
mod register;

#[cfg(test)]
mod tests;

pub use agent::Agent;
pub use config::{
    AgentAct, AgentConfig, AgentEvent, Answers, Binding, Kind, MessageRef, Phase, Receipts,
    Registration,
};
pub use inbox::{Counts, LINE_FORM_MARK, Received};
