//! The INVITE client transaction (RFC 3261 §17.1.1, with the Accepted state of RFC 6026 §7.2).
//!
//! ```text
//!          start: send the INVITE
//!                    │
//!      A: send ┌─▶ Calling ── B, transport error: fail ───────────▶ Terminated
//!              └─────┤ │ │                                             ▲
//!                1xx │ │ └─ 300-699: ACK ──────────┐                   │ D, transport error
//!                    ▼ └─ 2xx ─────────────┐       ▼                   │
//!       1xx   ┌─▶ Proceeding ── 300-699: ACK ─▶ Completed ─────────────┤
//!             └──────┘  │                  │    300-699: ACK again     │
//!                       └─ 2xx ────────────┴─▶ Accepted ── M ──────────┘
//!                                              2xx: deliver
//!
//!   every response is delivered, except those in Completed and 1xx, 3xx-6xx in Accepted
//! ```
//!
//! A 2xx is acknowledged by the transaction user, whose ACK is no part of this transaction.

use bytes::Bytes;

use super::Failure;
use super::timing::{Effect, Resend, T1_64, due, earlier};
use crate::base::limits::TIMER_D;
use crate::base::now::Mono;
use crate::syntax::sip::{Message, Method, Name, Response, Writer, read};

/// What can happen to the transaction.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// A 1xx response.
    Provisional,
    /// A 2xx response.
    Success,
    /// A 300 to 699 response.
    Refusal(&'a Response),
    /// A timer of the machine.
    Timer(Timer),
    /// The transport could not send, or the connection is gone.
    TransportError,
}

/// The timers of figure 5 and of RFC 6026.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Timer {
    /// Send the INVITE again (UDP).
    A,
    /// Nobody has answered.
    B,
    /// Retransmitted refusals have died out.
    D,
    /// Retransmitted and forked 2xx have died out.
    M,
}

/// One transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ClientInvite {
    reliable: bool,
    state: State,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum State {
    Calling { request: Bytes, a: Option<Resend>, b: Mono },
    Proceeding { request: Bytes },
    Completed { ack: Option<Bytes>, d: Mono },
    Accepted { m: Mono },
    Terminated,
}

impl ClientInvite {
    /// Sends the INVITE and waits.
    pub(super) fn start(
        now: Mono,
        reliable: bool,
        request: Bytes,
        out: &mut Vec<Effect>,
    ) -> ClientInvite {
        out.push(Effect::Send(request.clone()));
        // §17.1.1.2: A MUST start with T1 if unreliable; B MUST start with 64*T1 for any transport.
        let a = Resend::first(now, reliable);
        ClientInvite { reliable, state: State::Calling { request, a, b: now.after(T1_64) } }
    }

    /// Takes one event.
    pub(super) fn on(&mut self, now: Mono, event: Event<'_>, out: &mut Vec<Effect>) {
        self.state = match std::mem::replace(&mut self.state, State::Terminated) {
            State::Calling { request, a, b } => self.calling(now, event, request, a, b, out),
            State::Proceeding { request } => self.proceeding(now, event, request, out),
            State::Completed { ack, d } => completed(event, ack, d, out),
            State::Accepted { m } => accepted(event, m, out),
            State::Terminated => State::Terminated,
        };
    }

    /// Runs the timers that are due.
    pub(super) fn fire(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let timer = match &self.state {
            State::Calling { b, .. } if *b <= now => Timer::B,
            State::Calling { a, .. } if due(*a, now) => Timer::A,
            State::Completed { d, .. } if *d <= now => Timer::D,
            State::Accepted { m } if *m <= now => Timer::M,
            _ => return,
        };
        self.on(now, Event::Timer(timer), out);
    }

    /// When `fire` is wanted next.
    pub(super) fn next_deadline(&self) -> Option<Mono> {
        match &self.state {
            State::Calling { a, b, .. } => earlier(*a, *b),
            State::Completed { d: at, .. } | State::Accepted { m: at } => Some(*at),
            State::Proceeding { .. } | State::Terminated => None,
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_terminated(&self) -> bool {
        self.state == State::Terminated
    }

    fn calling(
        &self,
        now: Mono,
        event: Event<'_>,
        request: Bytes,
        a: Option<Resend>,
        b: Mono,
        out: &mut Vec<Effect>,
    ) -> State {
        match event {
            Event::Timer(Timer::A) => {
                if a.is_some() {
                    out.push(Effect::Send(request.clone()));
                }
                // §17.1.1.2: the intervals double, without a ceiling, while in Calling.
                let a = a.map(|a| a.again(now, T1_64));
                State::Calling { request, a, b }
            }
            Event::Timer(Timer::B) => {
                out.push(Effect::Fail(Failure::Timeout));
                State::Terminated
            }
            Event::TransportError => {
                // §17.1.4: the transaction user is told, and the machine goes to Terminated.
                out.push(Effect::Fail(Failure::Transport));
                State::Terminated
            }
            Event::Timer(Timer::D | Timer::M) => State::Calling { request, a, b },
            Event::Provisional | Event::Success | Event::Refusal(_) => {
                self.answered(now, event, request, out)
            }
        }
    }

    /// §17.1.1.2: once a 1xx is here the INVITE is not sent again, and B no longer runs.
    fn proceeding(
        &self,
        now: Mono,
        event: Event<'_>,
        request: Bytes,
        out: &mut Vec<Effect>,
    ) -> State {
        match event {
            Event::Timer(_) => State::Proceeding { request },
            Event::TransportError => {
                out.push(Effect::Fail(Failure::Transport));
                State::Terminated
            }
            Event::Provisional | Event::Success | Event::Refusal(_) => {
                self.answered(now, event, request, out)
            }
        }
    }

    /// A response in Calling or Proceeding.
    fn answered(
        &self,
        now: Mono,
        event: Event<'_>,
        request: Bytes,
        out: &mut Vec<Effect>,
    ) -> State {
        out.push(Effect::Deliver);
        match event {
            // RFC 6026 §7.2: M is 64*T1 over every transport.
            Event::Success => State::Accepted { m: now.after(T1_64) },
            Event::Refusal(response) => {
                // §17.1.1.2: the machine MUST make the ACK for 300 to 699 itself.
                let ack = ack(&request, response);
                out.extend(ack.clone().map(Effect::Send));
                // §17.1.1.2: D is at least 32 s over unreliable transports, else zero.
                if self.reliable {
                    State::Terminated
                } else {
                    State::Completed { ack, d: now.after(TIMER_D) }
                }
            }
            _ => State::Proceeding { request },
        }
    }
}

/// The transaction user has its final response: whatever fails here is told to nobody.
fn completed(event: Event<'_>, ack: Option<Bytes>, d: Mono, out: &mut Vec<Effect>) -> State {
    match event {
        // §17.1.1.2: a repeated refusal MUST make the ACK go out again, and is not passed up.
        Event::Refusal(_) => {
            out.extend(ack.clone().map(Effect::Send));
            State::Completed { ack, d }
        }
        Event::Timer(Timer::D) | Event::TransportError => State::Terminated,
        _ => State::Completed { ack, d },
    }
}

fn accepted(event: Event<'_>, m: Mono, out: &mut Vec<Effect>) -> State {
    match event {
        // RFC 6026 §7.2: every further 2xx MUST be passed to the transaction user.
        Event::Success => {
            out.push(Effect::Deliver);
            State::Accepted { m }
        }
        Event::Timer(Timer::M) => State::Terminated,
        _ => State::Accepted { m },
    }
}

/// The ACK of a refusal (RFC 3261 §17.1.1.3): Request-URI, topmost Via, Route, From, Call-ID and
/// CSeq number of the INVITE, To of the response. `None` only if the INVITE is not readable.
fn ack(request: &Bytes, response: &Response) -> Option<Bytes> {
    let Ok(Message::Request(invite)) = read(request.clone()) else { return None };
    let mut w = Writer::request(&Method::Ack, &invite.uri);
    w.header(Name::Via, invite.headers.list(Name::Via).next()?);
    w.copy(&invite.headers, Name::Route);
    w.header(Name::MaxForwards, "70");
    w.copy(&invite.headers, Name::From);
    w.header(Name::To, response.headers.get(Name::To)?);
    w.copy(&invite.headers, Name::CallId);
    w.header(Name::CSeq, format!("{} ACK", invite.cseq().ok()?.number));
    Some(w.finish(b""))
}

#[cfg(test)]
mod tests;
