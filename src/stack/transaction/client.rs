//! The non-INVITE client transaction (RFC 3261 §17.1.2).
//!
//! ```text
//!          start: send the request
//!                    │
//!      E: send ┌─▶ Trying ── F, transport error: fail ──────────▶ Terminated
//!              └─────┤ │                                               ▲
//!                1xx │ │ 200-699                                       │ F, transport
//!                    ▼ └────────────────────────────┐                  │ error: fail
//!   E: send   ┌─▶ Proceeding ── 200-699 ──▶ Completed ── K ──▶ Terminated
//!   1xx       └──────┘  └──────────────────────────────────────────────┘
//!
//!   every response that moves the machine, and every 1xx, is delivered
//! ```

use bytes::Bytes;

use super::Failure;
use super::timing::{Effect, Resend, T1_64, due, earlier};
use crate::base::limits::{T2, T4};
use crate::base::now::Mono;

/// What can happen to the transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Event {
    /// A 1xx response.
    Provisional,
    /// A 200 to 699 response.
    Final,
    /// A timer of the machine.
    Timer(Timer),
    /// The transport could not send, or the connection is gone.
    TransportError,
}

/// The timers of figure 6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    /// Send the request again (UDP).
    E,
    /// The transaction has failed.
    F,
    /// Retransmitted responses have died out.
    K,
}

/// One transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Client {
    reliable: bool,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Trying(Open),
    Proceeding(Open),
    Completed { k: Mono },
    Terminated,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Open {
    request: Bytes,
    e: Option<Resend>,
    f: Mono,
}

impl Client {
    /// Sends the request and waits.
    pub(super) fn start(
        now: Mono,
        reliable: bool,
        request: Bytes,
        out: &mut Vec<Effect>,
    ) -> Client {
        out.push(Effect::Send(request.clone()));
        // §17.1.2.2: F MUST be started with 64*T1; E MUST be started with T1 if unreliable.
        let open = Open { request, e: Resend::first(now, reliable), f: now.after(T1_64) };
        Client { reliable, state: State::Trying(open) }
    }

    /// Takes one event.
    pub(super) fn on(&mut self, now: Mono, event: Event, out: &mut Vec<Effect>) {
        self.state = match std::mem::replace(&mut self.state, State::Terminated) {
            State::Trying(open) => self.trying(now, event, open, out),
            State::Proceeding(open) => self.proceeding(now, event, open, out),
            State::Completed { k } => completed(event, k),
            State::Terminated => State::Terminated,
        };
    }

    /// Runs the timers that are due.
    pub(super) fn fire(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let timer = match &self.state {
            State::Trying(o) | State::Proceeding(o) if o.f <= now => Timer::F,
            State::Trying(o) | State::Proceeding(o) if due(o.e, now) => Timer::E,
            State::Completed { k } if *k <= now => Timer::K,
            _ => return,
        };
        self.on(now, Event::Timer(timer), out);
    }

    /// When `fire` is wanted next.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        match &self.state {
            State::Trying(o) | State::Proceeding(o) => earlier(o.e, o.f),
            State::Completed { k } => Some(*k),
            State::Terminated => None,
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }

    /// Whether it only absorbs copies of its final response.
    pub(super) fn is_completed(&self) -> bool {
        matches!(self.state, State::Completed { .. })
    }

    fn trying(&self, now: Mono, event: Event, mut open: Open, out: &mut Vec<Effect>) -> State {
        match event {
            Event::Provisional => {
                out.push(Effect::Deliver);
                State::Proceeding(open)
            }
            Event::Timer(Timer::E) => {
                // §17.1.2.2: E is reset with MIN(2*E, T2).
                resend(&mut open, out, |e| e.again(now, T2));
                State::Trying(open)
            }
            _ => self.open(now, event, out).unwrap_or(State::Trying(open)),
        }
    }

    fn proceeding(&self, now: Mono, event: Event, mut open: Open, out: &mut Vec<Effect>) -> State {
        match event {
            Event::Provisional => {
                out.push(Effect::Deliver);
                State::Proceeding(open)
            }
            Event::Timer(Timer::E) => {
                // §17.1.2.2: in Proceeding, E MUST be reset with T2.
                resend(&mut open, out, |_| Resend::every(now, T2));
                State::Proceeding(open)
            }
            _ => self.open(now, event, out).unwrap_or(State::Proceeding(open)),
        }
    }

    /// What Trying and Proceeding have in common; `None` leaves the state as it is.
    fn open(&self, now: Mono, event: Event, out: &mut Vec<Effect>) -> Option<State> {
        match event {
            Event::Final => {
                out.push(Effect::Deliver);
                // §17.1.2.2: K is T4 over unreliable transports and zero over reliable ones.
                Some(if self.reliable {
                    State::Terminated
                } else {
                    State::Completed { k: now.after(T4) }
                })
            }
            Event::Timer(Timer::F) => {
                out.push(Effect::Fail(Failure::Timeout));
                Some(State::Terminated)
            }
            Event::TransportError => {
                // §17.1.4: the transaction user is told, and the machine goes to Terminated.
                out.push(Effect::Fail(Failure::Transport));
                Some(State::Terminated)
            }
            Event::Provisional | Event::Timer(_) => None,
        }
    }
}

/// §17.1.2.2: any response in Completed is dropped; nothing is sent that the transport could fail.
fn completed(event: Event, k: Mono) -> State {
    match event {
        Event::Timer(Timer::K) => State::Terminated,
        _ => State::Completed { k },
    }
}

fn resend(open: &mut Open, out: &mut Vec<Effect>, next: impl FnOnce(Resend) -> Resend) {
    if let Some(e) = open.e {
        out.push(Effect::Send(open.request.clone()));
        open.e = Some(next(e));
    }
}

#[cfg(test)]
mod tests;
