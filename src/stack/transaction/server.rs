//! The non-INVITE server transaction (RFC 3261 §17.2.2, with RFC 4320 §4).
//!
//! ```text
//!          start     E: a 100 is due
//!            │     ┌──┐
//!         Trying ──┴──┘
//!            │ │ └── 200-699 from TU: send ────────▶ Completed ── J ──▶ Terminated
//!            │ └──── F, 408 from TU ──────────────────────────────────────▲
//!       100: │                                      request: send again   │
//!       send ▼                                                            │
//!        Proceeding ──── 200-699 from TU: send ────▶ Completed            │
//!        request:   └─── F, 408 from TU ──────────────────────────────────┘
//!        send again
//! ```
//!
//! E and F are the client's: when E has grown to T2 the client repeats so slowly that a 100 does
//! no harm, and when F has fired over there nobody waits for an answer any longer.
//! A transport error moves nothing, though §17.2.4 would forget the transaction: an answer that
//! was forgotten would make the next copy of the request look new.

use std::time::Duration;

use bytes::Bytes;

use super::timing::{Effect, T1_64};
use crate::base::limits::{T1, T2};
use crate::base::now::Mono;

/// What can happen to the transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// The request again.
    Request,
    /// The transaction user answers.
    Respond(u16, Bytes),
    /// A timer of the machine.
    Timer(Timer),
}

/// The timers of figure 8 and of RFC 4320.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    /// The client has slowed down to T2: a 100 is due.
    E,
    /// The client has given up.
    F,
    /// Copies of the request have died out.
    J,
}

/// One transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Server {
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Trying { e: Option<Mono>, f: Mono },
    Proceeding { f: Mono, response: Bytes },
    Completed { j: Mono, response: Bytes },
    Terminated,
}

impl Server {
    /// The request is here and its user has been told.
    pub(super) fn start(now: Mono) -> Server {
        Server { state: State::Trying { e: Some(now.after(E_AT_T2)), f: now.after(T1_64) } }
    }

    /// Takes one event; `reliable` says what the request came over.
    pub(super) fn on(&mut self, now: Mono, reliable: bool, event: Event, out: &mut Vec<Effect>) {
        self.state = match std::mem::replace(&mut self.state, State::Terminated) {
            State::Trying { e, f } => trying(now, reliable, event, e, f, out),
            State::Proceeding { f, response } => proceeding(now, reliable, event, f, response, out),
            State::Completed { j, response } => completed(event, j, response, out),
            State::Terminated => State::Terminated,
        };
    }

    /// Runs the timers that are due.
    pub(super) fn fire(&mut self, now: Mono, reliable: bool, out: &mut Vec<Effect>) {
        let timer = match &self.state {
            State::Trying { f, .. } | State::Proceeding { f, .. } if *f <= now => Timer::F,
            State::Trying { e: Some(e), .. } if *e <= now => Timer::E,
            State::Completed { j, .. } if *j <= now => Timer::J,
            _ => return,
        };
        self.on(now, reliable, Event::Timer(timer), out);
    }

    /// When `fire` is wanted next.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        match &self.state {
            State::Trying { e: Some(at), .. }
            | State::Trying { f: at, .. }
            | State::Proceeding { f: at, .. }
            | State::Completed { j: at, .. } => Some(*at),
            State::Terminated => None,
        }
    }

    /// Whether the next deadline is the one for a 100.
    pub(super) fn awaits_trying(&self) -> bool {
        matches!(self.state, State::Trying { e: Some(_), .. })
    }

    /// Whether a final answer is still owed.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Trying { .. } | State::Proceeding { .. })
    }

    /// How many octets are kept for copies of an answered request.
    pub(super) fn kept(&self) -> usize {
        match &self.state {
            State::Completed { response, .. } => response.len(),
            State::Trying { .. } | State::Proceeding { .. } | State::Terminated => 0,
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }
}

/// §17.2.2: a copy of the request in Trying is discarded.
fn trying(
    now: Mono,
    reliable: bool,
    event: Event,
    e: Option<Mono>,
    f: Mono,
    out: &mut Vec<Effect>,
) -> State {
    match event {
        // RFC 4320 §4.1: once the client's E is at T2 a 100 MUST be sent, over any transport.
        Event::Timer(Timer::E) if e.is_some() => {
            out.push(Effect::Trying);
            State::Trying { e: None, f }
        }
        // RFC 4320 §4.1: over an unreliable transport the 100 MUST NOT be sent before that.
        Event::Respond(100, response) if reliable || e.is_none() => {
            out.push(Effect::Send(response.clone()));
            State::Proceeding { f, response }
        }
        Event::Respond(status @ 200.., response) => answer(now, reliable, status, response, out),
        Event::Timer(Timer::F) => State::Terminated,
        // RFC 4320 §4.1: a provisional response MUST NOT be other than 100.
        Event::Respond(..) | Event::Request | Event::Timer(Timer::E | Timer::J) => {
            State::Trying { e, f }
        }
    }
}

/// §17.2.2: a copy of the request in Proceeding MUST be answered with the 100.
fn proceeding(
    now: Mono,
    reliable: bool,
    event: Event,
    f: Mono,
    response: Bytes,
    out: &mut Vec<Effect>,
) -> State {
    match event {
        Event::Request => out.push(Effect::Send(response.clone())),
        Event::Respond(status @ 200.., last) => return answer(now, reliable, status, last, out),
        Event::Timer(Timer::F) => return State::Terminated,
        Event::Respond(..) | Event::Timer(Timer::E | Timer::J) => {}
    }
    State::Proceeding { f, response }
}

fn answer(now: Mono, reliable: bool, status: u16, response: Bytes, out: &mut Vec<Effect>) -> State {
    // RFC 4320 §4.2: a 408 MUST NOT be sent; it could only arrive after the client's F.
    if status == 408 {
        return State::Terminated;
    }
    out.push(Effect::Send(response.clone()));
    // §17.2.2: J is 64*T1 over unreliable transports and zero over reliable ones.
    if reliable { State::Terminated } else { State::Completed { j: now.after(T1_64), response } }
}

/// §17.2.2: in Completed a copy MUST be answered again, and the user's other answers are dropped.
fn completed(event: Event, j: Mono, response: Bytes, out: &mut Vec<Effect>) -> State {
    match event {
        Event::Timer(Timer::J) => return State::Terminated,
        Event::Request => out.push(Effect::Send(response.clone())),
        Event::Respond(..) | Event::Timer(Timer::E | Timer::F) => {}
    }
    State::Completed { j, response }
}

/// How long it takes the client's Timer E to reach T2: T1 + 2*T1 + 4*T1 (RFC 4320 §4.1).
pub(super) const E_AT_T2: Duration = T1.saturating_mul(7);
const _: () = assert!(T1.as_millis() * 8 == T2.as_millis(), "E_AT_T2 is written for T2 = 8*T1");

#[cfg(test)]
mod tests;
