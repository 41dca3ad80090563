//! The queue of one device: what it is owed in order, what is on its way, what rests and until
//! when. Sending is in `delivery.rs`.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::limits;
use crate::base::now::Mono;
use crate::service::form::Form;
use crate::service::record::EntryNo;
use crate::stack::transaction::ClientId;
use crate::stack::transport::Flow;

/// The queue of one device.
#[derive(Debug, Default)]
pub struct Lane {
    queue: BTreeSet<EntryNo>,
    /// The one that is on its way.
    pub current: Option<Current>,
    /// Those that did not go through at once.
    pub tries: BTreeMap<EntryNo, Try>,
    /// The device did not answer: nothing is sent to it before this.
    pub rest_until: Option<Mono>,
    /// How often in a row it did not.
    pub failures: u32,
}

/// An entry on its way to the device.
#[derive(Debug)]
pub struct Current {
    /// Which.
    pub no: EntryNo,
    /// In which form.
    pub form: Form,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// `None` while the content is being read.
    pub client: Option<ClientId>,
    /// Where it was sent.
    pub flow: Option<Flow>,
    /// Whether the request went out on a connection that was there before.
    pub reused: bool,
}

/// An entry that did not go through at once.
#[derive(Clone, Copy, Debug)]
pub struct Try {
    /// Place of the form to try next.
    pub form: usize,
    /// Attempts made with it.
    pub attempts: u32,
    /// Not before this.
    pub again: Mono,
    /// When it was tried first.
    pub since: Mono,
    /// A request for it may have reached the device although nothing was heard.
    pub unsure: bool,
}

impl Try {
    /// To be tried now.
    #[must_use]
    pub fn new(now: Mono) -> Try {
        Try { form: 0, attempts: 0, again: now, since: now, unsure: false }
    }
}

impl Lane {
    /// One more entry is owed.
    pub fn owe(&mut self, no: EntryNo) {
        self.queue.insert(no);
    }

    /// An entry is owed no longer.
    pub fn clear(&mut self, no: EntryNo) {
        self.queue.remove(&no);
        self.tries.remove(&no);
        if self.current.as_ref().is_some_and(|c| c.no == no) {
            self.current = None;
        }
    }

    /// Whether nothing is owed and nothing under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.current.is_none()
    }

    /// Whether neither the device nor this entry rests.
    #[must_use]
    pub fn is_ready_for(&self, no: EntryNo, now: Mono) -> bool {
        let device = self.rest_until.is_none_or(|at| at <= now);
        device && self.tries.get(&no).is_none_or(|t| t.again <= now)
    }

    /// Ends all rest: the device was heard.
    pub fn wake(&mut self, now: Mono) {
        self.rest_until = None;
        self.failures = 0;
        for tried in self.tries.values_mut() {
            tried.again = now;
            // It may take today what it refused yesterday.
            tried.form = 0;
        }
    }

    /// The device has moved while a request was on its way to where it was: it is sent again to
    /// where it is, as another attempt.
    pub fn abandon_unless_on(&mut self, flow: Option<Flow>, now: Mono) {
        if let Some(gone) = self.current.take_if(|c| c.client.is_some() && c.flow != flow) {
            let tried = self.tries.entry(gone.no).or_insert(Try::new(now));
            tried.attempts = tried.attempts.max(gone.attempt);
            tried.unsure = true;
        }
    }

    /// The next entry to send.
    ///
    /// # Errors
    /// When to look again, if nothing can be sent now.
    pub fn next(&self, now: Mono) -> Result<EntryNo, Option<Mono>> {
        let mut look_again: Option<Mono> = None;
        for no in &self.queue {
            let Some(tried) = self.tries.get(no).filter(|t| t.again > now) else {
                return Ok(*no);
            };
            let lets_pass = tried.since.after(limits::RETRY_HOLDS_QUEUE);
            let soonest = if lets_pass > now { tried.again.min(lets_pass) } else { tried.again };
            look_again = Some(look_again.map_or(soonest, |at| at.min(soonest)));
            if lets_pass > now {
                break;
            }
        }
        Err(look_again)
    }
}
