//! What the user has seen: the last messages, and what keeps a CPM client from showing one twice
//! or giving one receipt twice (RFC 5438 §7.2.1).

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::base::hash::fingerprint;
use crate::base::limits::{UA_INBOX_MAX, UA_SEEN_MAX};

/// How a reference to a message on the server starts in the one-line form that phones get which
/// take nothing better: `Alice: a photo [cpm:...]`.
pub const LINE_FORM_MARK: &str = "[cpm:";

/// One message as the user sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Call-ID of the request that brought it.
    pub call_id: String,
    /// CSeq number of that request.
    pub cseq: u32,
    /// URI of From.
    pub from: String,
    /// URI of To.
    pub to: String,
    /// `imdn.Message-ID`, where the message came as CPIM.
    pub message_id: Option<String>,
    /// Content-Type of the request, parameters included; empty when there was none.
    pub content_type: String,
    /// The body of the request, untouched.
    pub body: Bytes,
    /// The words, where the content is text: that of the CPIM message, or of the request itself.
    pub text: Option<String>,
    /// Whether it is one line of text with a reference, in place of content that we do not take.
    pub line_form: bool,
    /// How often the user has seen it by now.
    pub shown: u32,
}

/// Totals since the agent was made; they go on where the inbox forgets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Different messages for this user.
    pub received: u64,
    /// Messages that came again in another transaction.
    pub repeated: u64,
    /// How often anything was shown.
    pub shown: u64,
    /// Receipts that came.
    pub receipts: u64,
    /// Copies of what other devices of the account sent.
    pub copies: u64,
    /// Receipts that were given.
    pub given: u64,
}

/// A sender's wish for receipts, and which of them were given.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Where receipts go.
    pub to: String,
    /// The message they name.
    pub message_id: String,
    /// Wants to know of delivery, and was not told yet.
    pub delivered: bool,
    /// Wants to know of display, and was not told yet.
    pub displayed: bool,
}

/// Messages, newest last, and the memory of what was seen.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    shown: Vec<Received>,
    /// Of each message in `shown`, its identity.
    keys: Vec<u128>,
    seen: HashMap<u128, u64>,
    asked: VecDeque<(u128, Option<Box<Asked>>)>,
    first: u64,
    pub counts: Counts,
}

/// What makes two requests the same message: sender and Message-ID, and without one the Call-ID
/// together with the content.
pub(super) fn identity(message: &Received) -> u128 {
    match &message.message_id {
        Some(id) => fingerprint(&[message.from.as_bytes(), id.as_bytes()]),
        None => fingerprint(&[b"", message.call_id.as_bytes(), &message.body]),
    }
}

impl Inbox {
    /// The last messages, oldest first.
    pub fn messages(&self) -> &[Received] {
        let from = self.shown.len().saturating_sub(UA_INBOX_MAX);
        self.shown.get(from..).unwrap_or(&[])
    }

    /// Notes a message, and the receipts asked for. `false`: it was here before.
    pub fn first_time(&mut self, key: u128, asked: Option<Box<Asked>>) -> bool {
        if self.seen.contains_key(&key) {
            return false;
        }
        if self.asked.len() >= UA_SEEN_MAX
            && let Some((old, _)) = self.asked.pop_front()
        {
            self.seen.remove(&old);
            self.first += 1;
        }
        self.seen.insert(key, self.first + self.asked.len() as u64);
        self.asked.push_back((key, asked));
        true
    }

    /// What the sender of the message `key` still waits for.
    pub fn asked(&mut self, key: u128) -> Option<&mut Asked> {
        let place = usize::try_from(self.seen.get(&key)?.checked_sub(self.first)?).ok()?;
        self.asked.get_mut(place)?.1.as_deref_mut()
    }

    /// The same by Message-ID; of several senders' messages the newest.
    pub fn asked_by_id(&mut self, message_id: &str) -> Option<&mut Asked> {
        self.asked
            .iter_mut()
            .rev()
            .filter_map(|(_, asked)| asked.as_deref_mut())
            .find(|asked| asked.message_id == message_id)
    }

    /// Shows a new message.
    pub fn show(&mut self, key: u128, message: Received) {
        // The oldest half goes at once, so that dropping costs next to nothing per message.
        if self.shown.len() >= 2 * UA_INBOX_MAX {
            self.shown.drain(..UA_INBOX_MAX);
            self.keys.drain(..UA_INBOX_MAX);
        }
        self.counts.shown += u64::from(message.shown);
        self.shown.push(message);
        self.keys.push(key);
    }

    /// Shows a message once more; what it is now. `None` when the inbox has forgotten it.
    pub fn show_again(&mut self, key: u128) -> Option<Received> {
        let place = self.keys.iter().rposition(|k| *k == key)?;
        let message = self.shown.get_mut(place)?;
        message.shown += 1;
        self.counts.shown += 1;
        Some(message.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(n: usize) -> Received {
        Received {
            call_id: format!("call-{n}"),
            cseq: 1,
            from: "sip:alice@a.example".into(),
            to: "sip:bob@b.example".into(),
            message_id: Some(format!("m{n}")),
            content_type: "text/plain".into(),
            body: Bytes::from_static(b"hi"),
            text: Some("hi".into()),
            line_form: false,
            shown: 1,
        }
    }

    #[test]
    fn old_messages_go_and_the_count_stays() {
        let mut inbox = Inbox::default();
        let many = 3 * UA_SEEN_MAX;
        for n in 0..many {
            let m = message(n);
            let asked = Asked {
                to: m.from.clone(),
                message_id: format!("m{n}"),
                delivered: true,
                displayed: false,
            };
            assert!(inbox.first_time(identity(&m), Some(Box::new(asked))));
            inbox.show(identity(&m), m);
        }
        assert_eq!(inbox.messages().len(), UA_INBOX_MAX);
        assert_eq!(inbox.messages().last(), Some(&message(many - 1)));
        assert_eq!(inbox.counts.shown, many as u64);
        assert_eq!((inbox.seen.len(), inbox.asked.len()), (UA_SEEN_MAX, UA_SEEN_MAX));
        let newest = identity(&message(many - 1));
        assert!(!inbox.first_time(newest, None));
        assert_eq!(
            inbox.asked(newest).map(|a| a.message_id.clone()),
            Some(format!("m{}", many - 1))
        );
        assert!(inbox.asked(identity(&message(0))).is_none());
        assert!(inbox.asked_by_id(&format!("m{}", many - 2)).is_some());
        assert_eq!(inbox.show_again(newest).map(|m| m.shown), Some(2));
    }

    #[test]
    fn sameness() {
        let one = message(1);
        let by_id = Received { call_id: "other".into(), ..one.clone() };
        let other_sender = Received { from: "sip:eve@a.example".into(), ..one.clone() };
        let bare = Received { message_id: None, ..one.clone() };
        let bare_retry = Received { cseq: 2, ..bare.clone() };
        let bare_other = Received { body: Bytes::from_static(b"ho"), ..bare.clone() };
        for (a, b, same) in [
            (&one, &by_id, true),
            (&one, &other_sender, false),
            (&one, &bare, false),
            (&bare, &bare_retry, true),
            (&bare, &bare_other, false),
        ] {
            assert_eq!(identity(a) == identity(b), same, "{a:?} {b:?}");
        }
    }
}
