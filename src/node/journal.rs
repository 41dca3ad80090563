//! The node's side of the log: replay at start, and what becomes of each batch.

use std::time::Duration;

use bytes::Bytes;

use super::{Asked, Effect, Node, Reply, SWEEP};
use crate::base::limits;
use crate::base::log::{Append, Outcome, Position};
use crate::base::now::Now;
use crate::service::log::submit_lazily;
use crate::service::mailbox::Item;
use crate::service::record::{
    Damage, DebtMoved, Debtor, DeviceNo, Direction, EntryNo, Record, decode,
};
use crate::service::tu::{Act, Note, Then, Timer, UserIx, store_unavailable};
use crate::service::{message, registrar};

/// After a start, so many device queues begin in a second.
const RESUMED_PER_SECOND: u64 = 1000;

impl Node {
    /// Folds one batch of a user's log, in the order of the log.
    ///
    /// # Errors
    /// [`Damage`], if a record cannot be read.
    pub fn replay(
        &mut self,
        now: Now,
        user: &str,
        first: Position,
        value: &Bytes,
    ) -> Result<(), Damage> {
        let records = decode(value)?;
        let ix = self.tables.find_or_make(user);
        let user = self.tables.user_mut(ix);
        let mut at = first;
        for record in &records {
            user.apply(now, at, record);
            user.log.replayed(at);
            at.seq += 1;
        }
        Ok(())
    }

    /// The whole log has been folded: timers are set, and what was under way goes on.
    pub fn replayed(&mut self, now: Now) {
        let mut resumed: u64 = 0;
        for ix in self.users() {
            let mailbox = &mut self.tables.user_mut(ix).mailbox;
            let open: Vec<EntryNo> = mailbox.items().map(|(no, _)| no).collect();
            for no in &open {
                if let Some(item) = mailbox.item_mut(*no) {
                    (item.replayed, item.stored) = (true, true);
                }
            }
            self.adopt_orphans(now, ix);
            for no in open {
                message::offer_again(&mut self.tables, ix, no, &mut self.out);
            }
            let lanes: Vec<DeviceNo> = self.tables.user(ix).mailbox.lanes.keys().copied().collect();
            for device in lanes {
                let wait = Duration::from_micros(resumed * 1_000_000 / RESUMED_PER_SECOND);
                self.timers.set(Timer::Lane(ix, device), now.mono.after(wait));
                resumed += 1;
            }
        }
        self.timers.set(Timer::Sweep, now.mono.after(SWEEP));
        self.settle(now);
        // One user at a time: acts of all users would stand in the queue, whose room is kept.
        for ix in self.users() {
            registrar::watch(&self.tables, ix, &mut self.out);
            crate::service::mailbox::watch_expiry(&self.tables, ix, &mut self.out);
            self.settle(now);
        }
    }

    /// A crash may fall between the end of a phone's registration and the passing on of what it was
    /// owed.
    fn adopt_orphans(&mut self, now: Now, ix: UserIx) {
        let user = self.tables.user(ix);
        let gone: Vec<DeviceNo> = user
            .mailbox
            .items()
            .flat_map(|(_, item)| item.open.iter())
            .filter_map(|d| match d {
                Debtor::Device(no) if user.location.device(*no).is_none() => Some(*no),
                _ => None,
            })
            .collect();
        for device in gone {
            let (t, out) = (&mut self.tables, &mut self.out);
            crate::service::delivery::device_down(t, now, ix, device, out);
        }
    }

    /// What became of a batch.
    pub(super) fn outcome(&mut self, now: Now, ticket: u64, outcome: Outcome) {
        let Some(Asked::Append(ix)) = self.tickets.remove(&ticket) else { return };
        self.tables.under_way -= 1;
        let log = &mut self.tables.user_mut(ix).log;
        log.with_store -= 1;
        match outcome {
            Outcome::Failed => return self.store_broken(),
            Outcome::Stored(stored) if !log.uncertain => {
                log.in_flight.pop_front();
                log.stored = Some(stored);
                log.retries = 0;
                let ready = log.ready(stored.position().seq);
                for then in ready {
                    self.then(now, ix, then, stored);
                    self.settle(now);
                }
                return;
            }
            Outcome::Stored(_) | Outcome::Conflict | Outcome::Unknown => log.uncertain = true,
        }
        // Later batches of this user cannot be believed before the log has been read; wait for all
        // their outcomes first. New ones wait too.
        if log.with_store == 0
            && let Some(first) = log.in_flight.front()
        {
            let from = first.position;
            self.ask_tail(ix, from);
        }
    }

    /// Gives a batch to the store, unless the log has to be read first: then it goes out after
    /// that, with the others.
    pub(super) fn append(&mut self, ix: UserIx, append: Append) {
        let log = &mut self.tables.user_mut(ix).log;
        if log.uncertain {
            return;
        }
        log.with_store += 1;
        self.tables.under_way += 1;
        self.tickets.insert(append.ticket, Asked::Append(ix));
        self.effects.push(Effect::Append(append));
    }

    fn ask_tail(&mut self, ix: UserIx, from: Position) {
        let ticket = self.tables.ticket();
        self.tickets.insert(ticket, Asked::Tail(ix));
        let user = self.tables.user(ix).aor.clone();
        self.effects.push(Effect::Tail { ticket, user, from });
    }

    /// The end of a log has been read: what is there is stored, what is not is written again, at
    /// the same place.
    pub(super) fn tail(
        &mut self,
        now: Now,
        ticket: u64,
        batches: Option<Vec<(Position, u32, Bytes)>>,
    ) {
        let Some(Asked::Tail(ix)) = self.tickets.remove(&ticket) else { return };
        let log = &mut self.tables.user_mut(ix).log;
        log.retries += 1;
        let Some(batches) = batches.filter(|_| log.retries <= limits::STORE_RETRIES) else {
            return self.store_broken();
        };
        // Batches that waited while the tail was read are not in it either.
        let mut found = batches.into_iter();
        let mut again = Vec::new();
        for append in &log.in_flight {
            match found.next() {
                Some((at, _, value)) if at == append.position && value == append.value => {}
                Some(_) => return self.another_writer(),
                None => again.push(append.clone()),
            }
        }
        if found.next().is_some() {
            return self.another_writer();
        }
        log.uncertain = false;
        let stored = log.in_flight.len() - again.len();
        let done: Vec<_> = log.in_flight.drain(..stored).collect();
        log.in_flight.clear();
        for mut append in again {
            append.ticket = self.tables.ticket();
            self.tables.user_mut(ix).log.in_flight.push_back(append.clone());
            self.out.push_back(Act::Append(ix, append));
        }
        if let Some(last) = done.last() {
            let stored = crate::base::log::Stored::after_sync(last.last());
            let log = &mut self.tables.user_mut(ix).log;
            log.stored = Some(stored);
            for then in log.ready(stored.position().seq) {
                self.then(now, ix, then, stored);
                self.settle(now);
            }
        }
    }

    fn another_writer(&mut self) {
        let what = "somebody else wrote to the log of a user of ours";
        self.effects.push(Effect::Note(Note::StoreTrouble { what }));
        self.store_broken();
    }

    /// Nothing is promised any more: who waits is told so, and the shell opens the store anew.
    fn store_broken(&mut self) {
        if !self.tables.store_works {
            return;
        }
        self.tables.store_works = false;
        let refusal = store_unavailable();
        for ix in self.users() {
            let user = self.tables.user_mut(ix);
            for then in user.log.give_up() {
                match then {
                    Then::Answer(held) => {
                        self.out.push_back(Act::Answer(held.refuse(&refusal)));
                    }
                    Then::Operator(id) => {
                        let why = "the store broke meanwhile: look whether it was done".to_owned();
                        self.effects.push(Effect::Reply { id, reply: Reply::No(why) });
                    }
                    _ => {}
                }
            }
            for (_, pending) in std::mem::take(&mut user.mailbox.pending) {
                let refused = pending.tries().map(|held| Act::Answer(held.refuse(&refusal)));
                self.out.extend(refused);
            }
        }
        self.effects.push(Effect::StoreBroken);
    }

    /// Forgets devices long unseen, with notice, and keys whose time is over.
    pub(super) fn sweep(&mut self, now: Now) {
        self.timers.set(Timer::Sweep, now.mono.after(SWEEP));
        for ix in self.users() {
            self.tables.user_mut(ix).mailbox.sweep(now.unix);
            let unseen: Vec<DeviceNo> = self
                .tables
                .user(ix)
                .location
                .devices()
                .filter(|d| {
                    d.binding.is_none() && d.seen.until(now.unix) >= limits::DEVICE_FORGOTTEN
                })
                .map(|d| d.no)
                .collect();
            for device in unseen {
                self.out.push_back(Act::Note(Note::DeviceForgotten { device }));
                self.forget(now, ix, device);
            }
        }
    }

    /// Nobody owes the device anything more. A message that it alone was to have, and that no other
    /// has, falls to the account: whichever device comes next takes it.
    fn forget(&mut self, now: Now, ix: UserIx, device: DeviceNo) {
        let from = Debtor::Device(device);
        let alone = |item: &Item| !item.delivered && item.open == [from];
        let mailbox = &self.tables.user(ix).mailbox;
        let moved = mailbox
            .items()
            .filter(|(_, item)| item.entry.direction == Direction::Received && alone(item))
            .map(|(no, _)| Record::DebtMoved(DebtMoved { no, from, to: Debtor::Account }));
        let mut records: Vec<Record> = moved.collect();
        records.push(Record::DeviceGone(device));
        submit_lazily(&mut self.tables, now, ix, records, &mut self.out);
    }

    pub(super) fn users(&self) -> Vec<UserIx> {
        #[expect(clippy::cast_possible_truncation, reason = "users are counted in 32 bits")]
        let count = self.tables.users.len() as u32;
        (0..count).map(UserIx).collect()
    }
}
