//! What the four machines share: the effects that they ask for and the clock arithmetic of
//! RFC 3261 §17 (T1, T2, 64*T1). No state.

use std::time::Duration;

use bytes::Bytes;

use super::Failure;
use crate::base::limits::T1;
use crate::base::now::Mono;

/// The life of timers B, F, H, J, L and M (RFC 3261 table 4, RFC 6026 §7).
pub(super) const T1_64: Duration = T1.saturating_mul(64);

/// What a machine asks of the table that holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// Pass these octets to the transport.
    Send(Bytes),
    /// Pass the message of this event to the transaction user.
    Deliver,
    /// Tell the transaction user that no final response will come.
    Fail(Failure),
    /// Answer in this event's place with a 100: the transaction user is slow.
    Trying,
    /// Tell the transaction user that no ACK will come.
    AckMissing,
}

/// A message that is sent again at growing intervals.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Resend {
    /// When it is due.
    pub at: Mono,
    interval: Duration,
}

impl Resend {
    /// Timer A, E or G as it starts: T1 over UDP; a reliable transport repeats nothing.
    pub(super) fn first(now: Mono, reliable: bool) -> Option<Resend> {
        (!reliable).then(|| Resend::every(now, T1))
    }

    /// A repetition after `interval`.
    pub(super) fn every(now: Mono, interval: Duration) -> Resend {
        Resend { at: now.after(interval), interval }
    }

    /// The interval doubles, up to `max`. It counts from `now`, so that a process that was
    /// stopped for a while sends one copy when it wakes, not all that it missed.
    pub(super) fn again(self, now: Mono, max: Duration) -> Resend {
        Resend::every(now, self.interval.saturating_mul(2).min(max))
    }
}

/// Whether an optional repetition is due.
pub(super) fn due(resend: Option<Resend>, now: Mono) -> bool {
    resend.is_some_and(|r| r.at <= now)
}

/// The earlier of a repetition and an end.
pub(super) fn earlier(resend: Option<Resend>, end: Mono) -> Option<Mono> {
    Some(resend.map_or(end, |r| r.at.min(end)))
}
