//! The INVITE server transaction (RFC 3261 §17.2.1, with the Accepted state of RFC 6026 §7.1).
//!
//! ```text
//!          start
//!            │                      G: send ┌──┐
//!       Proceeding ── 300-699 from TU: send ┴▶ Completed ── H, transport error: ACK missing ─┐
//!            │ │ ▲  │                       INVITE: send again                               │
//!            │ └─┘  │                           │ ACK                                        ▼
//!            │ 1xx  │ INVITE:                   ▼                                       Terminated
//!            │ from │ send 1xx              Confirmed ── I ──────────────────────────────────▲
//!            │ TU,  │ again                 INVITE, ACK: nothing                             │
//!            │ 100  ▼                                                                        │
//!            └───── 2xx from TU: send ────▶ Accepted ── L ───────────────────────────────────┘
//!                                           ACK: deliver; 2xx from TU: send; INVITE: nothing
//! ```
//!
//! A transport error in Proceeding moves nothing: the transaction user still has to answer, and
//! until then a copy of the INVITE must not look new. In Accepted it moves nothing either
//! (RFC 6026 §7.1): the 2xx belongs to the transaction user.

use std::time::Duration;

use bytes::Bytes;

use super::timing::{Effect, Resend, T1_64, due, earlier};
use crate::base::limits::{T2, T4};
use crate::base::now::Mono;

/// What can happen to the transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// The INVITE again.
    Invite,
    /// An ACK of this transaction.
    Ack,
    /// The transaction user answers.
    Respond(u16, Bytes),
    /// A timer of the machine.
    Timer(Timer),
    /// The transport could not send, or the connection is gone.
    TransportError,
}

/// The timers of figure 7 and of RFC 6026.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    /// The transaction user is slow: a 100 is due (no letter in the RFC).
    Trying,
    /// Send the refusal again (UDP).
    G,
    /// No ACK has come.
    H,
    /// Repeated ACKs have died out.
    I,
    /// Repeated INVITEs and the ACK of the 2xx have died out.
    L,
}

/// One transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ServerInvite {
    reliable: bool,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Proceeding { trying: Option<Mono>, response: Option<Bytes> },
    Completed { response: Bytes, g: Option<Resend>, h: Mono },
    Confirmed { i: Mono },
    Accepted { l: Mono },
    Terminated,
}

impl ServerInvite {
    /// The INVITE is here and its user has been told.
    pub(super) fn start(now: Mono, reliable: bool) -> ServerInvite {
        let trying = Some(now.after(TRYING_AFTER));
        ServerInvite { reliable, state: State::Proceeding { trying, response: None } }
    }

    /// Takes one event.
    pub(super) fn on(&mut self, now: Mono, event: Event, out: &mut Vec<Effect>) {
        self.state = match std::mem::replace(&mut self.state, State::Terminated) {
            State::Proceeding { trying, response } => {
                self.proceeding(now, event, trying, response, out)
            }
            State::Completed { response, g, h } => self.completed(now, event, response, g, h, out),
            State::Confirmed { i } => confirmed(event, i),
            State::Accepted { l } => accepted(event, l, out),
            State::Terminated => State::Terminated,
        };
    }

    /// Runs the timers that are due.
    pub(super) fn fire(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let timer = match &self.state {
            State::Proceeding { trying: Some(at), .. } if *at <= now => Timer::Trying,
            State::Completed { h, .. } if *h <= now => Timer::H,
            State::Completed { g, .. } if due(*g, now) => Timer::G,
            State::Confirmed { i } if *i <= now => Timer::I,
            State::Accepted { l } if *l <= now => Timer::L,
            _ => return,
        };
        self.on(now, Event::Timer(timer), out);
    }

    /// When `fire` is wanted next.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        match &self.state {
            State::Proceeding { trying, .. } => *trying,
            State::Completed { g, h, .. } => earlier(*g, *h),
            State::Confirmed { i: at } | State::Accepted { l: at } => Some(*at),
            State::Terminated => None,
        }
    }

    /// Whether a final answer is still owed.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Proceeding { .. })
    }

    /// Whether nothing is left to do.
    pub(super) fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }

    /// The refusal that waits for its ACK.
    pub(super) fn refusal(&self) -> Option<&Bytes> {
        match &self.state {
            State::Completed { response, .. } => Some(response),
            _ => None,
        }
    }

    fn proceeding(
        &self,
        now: Mono,
        event: Event,
        trying: Option<Mono>,
        response: Option<Bytes>,
        out: &mut Vec<Effect>,
    ) -> State {
        match event {
            // §17.2.1: without an answer of the user within 200 ms a 100 MUST go out.
            Event::Timer(Timer::Trying) if trying.is_some() => {
                out.push(Effect::Trying);
                State::Proceeding { trying: None, response }
            }
            // §17.2.1: a copy MUST be answered with the most recent provisional response.
            Event::Invite => {
                out.extend(response.clone().map(Effect::Send));
                State::Proceeding { trying, response }
            }
            Event::Respond(status, answer) => self.answer(now, status, answer, out),
            _ => State::Proceeding { trying, response },
        }
    }

    fn answer(&self, now: Mono, status: u16, response: Bytes, out: &mut Vec<Effect>) -> State {
        out.push(Effect::Send(response.clone()));
        match status {
            0..=199 => State::Proceeding { trying: None, response: Some(response) },
            // RFC 6026 §7.1: L is 64*T1 over every transport; the user repeats the 2xx, not we.
            200..=299 => State::Accepted { l: now.after(T1_64) },
            // §17.2.1: G starts with T1 if unreliable; H MUST be 64*T1 over every transport.
            _ => State::Completed {
                response,
                g: Resend::first(now, self.reliable),
                h: now.after(T1_64),
            },
        }
    }

    fn completed(
        &self,
        now: Mono,
        event: Event,
        response: Bytes,
        g: Option<Resend>,
        h: Mono,
        out: &mut Vec<Effect>,
    ) -> State {
        match event {
            Event::Invite => {
                out.push(Effect::Send(response.clone()));
                State::Completed { response, g, h }
            }
            Event::Timer(Timer::G) => {
                if g.is_some() {
                    out.push(Effect::Send(response.clone()));
                }
                // §17.2.1: G is reset with MIN(2*G, T2).
                let g = g.map(|g| g.again(now, T2));
                State::Completed { response, g, h }
            }
            // §17.2.1: I is T4 over unreliable transports and zero over reliable ones.
            Event::Ack if self.reliable => State::Terminated,
            Event::Ack => State::Confirmed { i: now.after(T4) },
            Event::Timer(Timer::H) | Event::TransportError => {
                out.push(Effect::AckMissing);
                State::Terminated
            }
            Event::Respond(..) | Event::Timer(_) => State::Completed { response, g, h },
        }
    }
}

/// §17.2.1: Confirmed only absorbs what is still on its way.
fn confirmed(event: Event, i: Mono) -> State {
    match event {
        Event::Timer(Timer::I) => State::Terminated,
        _ => State::Confirmed { i },
    }
}

fn accepted(event: Event, l: Mono, out: &mut Vec<Effect>) -> State {
    match event {
        // RFC 6026 §7.1: the ACK MUST be passed up, a 2xx MUST be sent, an INVITE is absorbed.
        Event::Ack => out.push(Effect::Deliver),
        Event::Respond(200..=299, response) => out.push(Effect::Send(response)),
        Event::Timer(Timer::L) => return State::Terminated,
        _ => {}
    }
    State::Accepted { l }
}

/// How long the transaction user may be silent before a 100 goes out (RFC 3261 §17.2.1).
const TRYING_AFTER: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests;
