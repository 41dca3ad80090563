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
