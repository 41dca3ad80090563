//! REGISTER from the device's side (RFC 3261 §10.2): one at a time, refreshed when four fifths of
//! the granted time are over.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::agent::Agent;
use super::config::{AgentEvent, Binding, Phase};
use super::outgoing::{Draft, Outcome, Purpose, line};
use crate::base::limits::{EXPIRES_MAX, UA_REGISTER_RETRY};
use crate::base::now::Now;
use crate::syntax::sip::{Contact, Method, Name, Response, contacts};

/// What a REGISTER is to achieve.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Wish {
    Bind,
    Unbind,
    UnbindAll,
    Fetch,
}

impl Agent {
    /// Registers this device, or refreshes its registration. From then on the agent refreshes by
    /// itself until `unregister`, `unregister_all` or `restart`.
    pub fn register(&mut self, now: Now) {
        self.wish(now, Wish::Bind);
    }

    /// Removes the binding of this device (RFC 3261 §10.2.2).
    pub fn unregister(&mut self, now: Now) {
        self.registration.refresh = None;
        self.wish(now, Wish::Unbind);
    }

    /// Removes all bindings of the account: `Contact: *` (RFC 3261 §10.2.2).
    pub fn unregister_all(&mut self, now: Now) {
        self.registration.refresh = None;
        self.wish(now, Wish::UnbindAll);
    }

    /// Asks for the bindings of the account (RFC 3261 §10.2.3); the answer is
    /// `AgentEvent::Registered`, and the registration stays as it is.
    pub fn fetch(&mut self, now: Now) {
        self.wish(now, Wish::Fetch);
    }

    /// A REGISTER waits for the one before it to end (RFC 3261 §10.2); the same wish waits once.
    fn wish(&mut self, now: Now, wish: Wish) {
        if self.registering {
            self.wishes.retain(|w| *w != wish);
            self.wishes.push(wish);
            return;
        }
        self.registering = true;
        if wish == Wish::Bind && self.registration.phase != Phase::Registered {
            self.registration.phase = Phase::Registering;
        }
        let draft = Draft {
            purpose: Purpose::Register(wish),
            method: Method::Register,
            uri: Arc::clone(&self.fixed.registrar),
            lines: self.register_lines(wish),
            body: Bytes::new(),
            answered: false,
            renewed: false,
        };
        self.launch(now, draft);
    }

    fn register_lines(&self, wish: Wish) -> Bytes {
        let mut lines = Vec::with_capacity(512);
        lines.extend_from_slice(&self.fixed.register);
        match wish {
            Wish::Bind => {
                line(&mut lines, "Contact", &[&self.fixed.contact]);
                line(&mut lines, "Expires", &[&self.expires.to_string()]);
            }
            Wish::Unbind => {
                line(&mut lines, "Contact", &[&self.fixed.contact, ";expires=0"]);
                line(&mut lines, "Expires", &["0"]);
            }
            Wish::UnbindAll => {
                line(&mut lines, "Contact", &["*"]);
                line(&mut lines, "Expires", &["0"]);
            }
            Wish::Fetch => {}
        }
        Bytes::from(lines)
    }

    /// The end of a REGISTER.
    pub(super) fn register_ended(&mut self, now: Now, wish: Wish, outcome: Outcome) {
        self.registering = false;
        match outcome {
            Outcome::Answer(response) if (200..300).contains(&response.status) => {
                self.register_granted(now, wish, &response);
            }
            Outcome::Answer(response) => {
                if response.status == 423 && wish == Wish::Bind && self.raise_expires(&response) {
                    return self.wish(now, wish);
                }
                let wait = seconds_of(&response, Name::RetryAfter);
                self.register_failed(now, wish, response.status, wait);
            }
            // RFC 3261 §8.1.3.1: as if these answers had come.
            Outcome::Timeout => self.register_failed(now, wish, 408, None),
            Outcome::Transport => self.register_failed(now, wish, 503, None),
        }
        if !self.wishes.is_empty() {
            let next = self.wishes.remove(0);
            self.wish(now, next);
        }
    }

    fn register_granted(&mut self, now: Now, wish: Wish, response: &Response) {
        if matches!(wish, Wish::Unbind | Wish::UnbindAll) {
            self.registration = super::config::Registration::default();
            return self.event(AgentEvent::Unregistered);
        }
        let fallback = seconds_of(response, Name::Expires);
        let (bindings, own) = self.read_bindings(response, fallback.unwrap_or(0));
        self.registration.bindings = bindings.len();
        if wish == Wish::Fetch {
            return self.event(AgentEvent::Registered { bindings, expires: own.unwrap_or(0) });
        }
        let expires = own.or(fallback).unwrap_or(self.expires);
        self.registration.phase = Phase::Registered;
        self.registration.expires = expires;
        let fifth = Duration::from_secs(u64::from(expires)) / 5;
        // Granted nothing: asking again at once would only ask for ever.
        self.registration.refresh = (expires > 0).then(|| now.mono.after(fifth * 4));
        self.event(AgentEvent::Registered { bindings, expires });
    }

    /// The bindings of the answer, and the seconds granted to our own.
    fn read_bindings(&self, response: &Response, fallback: u32) -> (Vec<Binding>, Option<u32>) {
        let mut own = None;
        let mut bindings = Vec::new();
        for contact in contacts(&response.headers).unwrap_or_default() {
            let Contact::Addr(addr) = contact else { continue };
            let expires = addr.expires().and_then(Result::ok).unwrap_or(fallback);
            let instance = addr.instance().map(str::to_string);
            let contact = addr.uri.to_string();
            let ours = match (&instance, &self.config.instance) {
                (Some(theirs), Some(ours)) => theirs == ours,
                _ => bare(&contact) == bare(&self.fixed.contact),
            };
            if ours {
                own = Some(expires);
            }
            bindings.push(Binding { contact, instance, expires });
        }
        (bindings, own)
    }

    /// Takes over the registrar's minimum (RFC 3261 §10.2.8). `false`: it would change nothing.
    fn raise_expires(&mut self, response: &Response) -> bool {
        let least = seconds_of(response, Name::MinExpires).unwrap_or(0);
        let raise = least > self.expires && u64::from(least) <= 12 * EXPIRES_MAX.as_secs();
        if raise {
            self.expires = least;
        }
        raise
    }

    fn register_failed(&mut self, now: Now, wish: Wish, status: u16, wait: Option<u32>) {
        if wish == Wish::Bind {
            // Only a refresh is tried again unasked, and not where asking again cannot help.
            let refresh = self.registration.expires > 0;
            let passing = matches!(status, 408 | 480 | 500..=599);
            let pause =
                wait.map_or(UA_REGISTER_RETRY, |s| Duration::from_secs(u64::from(s.max(1))));
            self.registration.refresh = (refresh && passing).then(|| now.mono.after(pause));
            self.registration.phase = Phase::Failed(status);
        }
        self.event(AgentEvent::RegisterFailed { status });
    }
}

/// The number at the front of a header value (Retry-After may have a comment behind it).
fn seconds_of(response: &Response, name: Name) -> Option<u32> {
    let digits = response.headers.text(name)?.trim();
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end)?.parse().ok()
}

/// A Contact URI without brackets and parameters.
fn bare(contact: &str) -> &str {
    contact.trim_start_matches('<').split([';', '>']).next().unwrap_or_default()
}
