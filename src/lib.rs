//! `cpmd`, a Converged IP Messaging server: the floor plan. A floor uses only floors below it
//! (docs/ARCHITECTURE.md; checked by sip-tests/tidy.rs).

/// Knows nothing: time, ids, limits, hashes, the words of the log.
pub mod base {
    pub mod hash;
    pub mod ids;
    pub mod limits;
    pub mod log;
    pub mod now;
    pub mod pii;
}

/// Octets to values and back; no state, no time.
pub mod syntax {
    pub mod cpim;
    pub mod imdn;
    pub mod mime;
    pub mod sip;
}

/// The machines of the RFCs: time comes in, effects go out.
pub mod stack {
    pub mod transaction;
    pub mod transport;
}

/// What CPM means.
pub mod service {
    pub mod account;
    pub mod delivery;
    pub mod digest;
    pub mod disposition;
    pub mod feature;
    pub mod form;
    pub mod lane;
    pub mod location;
    pub mod log;
    pub mod mailbox;
    pub mod message;
    pub mod passage;
    pub mod policy;
    pub mod record;
    pub mod registrar;
    pub mod tu;
}

pub mod node;

/// The only floor that waits, reads clocks, opens files and sockets.
pub mod shell {
    pub mod bench;
    pub mod cli;
    pub mod client;
    pub mod config;
    pub mod crash;
    pub mod demo;
    mod heap;
    pub mod listen;
    pub mod log;
    pub mod operator;
    pub mod run;
    pub mod scratch;
    pub mod store;
    pub mod trace;
}

/// The reference CPM user agent: the demo, the load generator, the simulator's devices.
pub mod ua;
