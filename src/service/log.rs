//! One user's log as the node knows it: records become batches for the store, and what must wait
//! for the disk waits here. State is what the log folds to: records are folded when submitted.

use std::collections::VecDeque;

use bytes::BytesMut;

use crate::base::limits;
use crate::base::log::{Append, Blob, Position, Stored};
use crate::base::now::{Mono, Now};
use crate::service::record::{Record, encode_into};
use crate::service::tu::{Act, Out, Tables, Then, Timer, UserIx};

/// Where one user's log stands.
#[derive(Debug, Default)]
pub struct Log {
    /// The last place given out.
    pub last: Position,
    /// The last place known to be on disk.
    pub stored: Option<Stored>,
    /// Records that no batch has yet, framed.
    gathered: BytesMut,
    gathered_count: u32,
    /// When they are written at the latest.
    due: Option<Mono>,
    /// What waits for which place.
    waiting: VecDeque<(u64, Then)>,
    /// Batches without an outcome, in order.
    pub in_flight: VecDeque<Append>,
    /// How often uncertain batches were read again.
    pub retries: u32,
    /// An outcome was not `Stored`: the tail must be read before anything is believed.
    pub uncertain: bool,
    /// How many of the batches the store has been given and not answered.
    pub with_store: usize,
}

impl Log {
    /// Notes what replay found.
    pub fn replayed(&mut self, last: Position) {
        self.last = last;
        self.stored = Some(Stored::after_sync(last));
    }

    /// Whether everything that anybody may rely on is on disk.
    #[must_use]
    pub fn is_stored(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Lets `then` wait until everything submitted so far is on disk.
    pub fn wait(&mut self, then: Then) {
        self.waiting.push_back((self.last.seq, then));
    }

    /// Takes all that waits for places up to `seq`.
    pub fn ready(&mut self, seq: u64) -> Vec<Then> {
        let mut ready = Vec::new();
        while self.waiting.front().is_some_and(|(at, _)| *at <= seq) {
            ready.extend(self.waiting.pop_front().map(|(_, then)| then));
        }
        // Most users are idle: they keep no room for what is over.
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        if self.in_flight.is_empty() {
            self.in_flight = VecDeque::new();
        }
        ready
    }

    /// Takes all that waits for anything: the store is broken.
    pub fn give_up(&mut self) -> Vec<Then> {
        self.waiting.drain(..).map(|(_, then)| then).collect()
    }

    /// Where the next record will stand.
    fn next(&self) -> Position {
        let gathered = u64::from(self.gathered_count);
        Position { epoch: self.last.epoch.max(1), seq: self.last.seq + 1 + gathered }
    }
}

/// Folds `records` into the user's state and hands them to the store, together with those that
/// were waiting for company: one batch, or more where one would be too large. An entry and its
/// content are never parted. `then` goes on when all are on disk.
pub fn submit(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    records: &[Record],
    blobs: Vec<Blob>,
    then: impl IntoIterator<Item = Then>,
    out: &mut Out,
) {
    let mut rest = records;
    while !rest.is_empty() {
        let (unit, others) = rest.split_at(unit_len(rest));
        gather(tables, now, ix, unit, out);
        rest = others;
    }
    hand_over(tables, ix, blobs, out);
    let log = &mut tables.user_mut(ix).log;
    then.into_iter().for_each(|then| log.wait(then));
}

/// Folds records into the user's state that nobody waits for: they are written with the user's
/// next batch, or soon.
pub fn submit_lazily(
    tables: &mut Tables,
    now: Now,
    ix: UserIx,
    records: impl IntoIterator<Item = Record>,
    out: &mut Out,
) {
    for record in records {
        // An answer of the other side that is forgotten is asked for again, and nobody notices.
        let harmless = matches!(record, Record::Forwarded(_));
        let wait = if harmless { limits::LAZY_HARMLESS_RECORDS } else { limits::LAZY_RECORDS };
        let at = now.mono.after(wait);
        gather(tables, now, ix, std::slice::from_ref(&record), out);
        let log = &mut tables.user_mut(ix).log;
        if log.due.is_none_or(|due| at < due) {
            log.due = Some(at);
            out.push_back(Act::Timer(Timer::Lazy(ix), Some(at)));
        }
    }
}

/// Writes the records that had no company.
pub fn flush_lazy(tables: &mut Tables, ix: UserIx, out: &mut Out) {
    hand_over(tables, ix, Vec::new(), out);
}

/// Folds records that belong together and adds them to what the next batch will hold; what was
/// there goes first if they do not fit together.
fn gather(tables: &mut Tables, now: Now, ix: UserIx, unit: &[Record], out: &mut Out) {
    let gathered = &mut tables.user_mut(ix).log.gathered;
    let before = gathered.len();
    encode_into(gathered, unit);
    if before > 0 && gathered.len() > limits::VALUE_OCTETS_MAX {
        let framed = gathered.split_off(before);
        hand_over(tables, ix, Vec::new(), out);
        tables.user_mut(ix).log.gathered = framed;
    }
    let user = tables.user_mut(ix);
    for record in unit {
        let at = user.log.next();
        user.apply(now, at, record);
        user.log.gathered_count += 1;
    }
}

/// Hands what was gathered to the store.
fn hand_over(tables: &mut Tables, ix: UserIx, blobs: Vec<Blob>, out: &mut Out) {
    let ticket = tables.ticket();
    let user = tables.user_mut(ix);
    let log = &mut user.log;
    if log.due.take().is_some() {
        out.push_back(Act::Timer(Timer::Lazy(ix), None));
    }
    if log.gathered_count == 0 {
        return;
    }
    let append = Append {
        ticket,
        user: user.aor.clone(),
        position: Position { epoch: log.last.epoch.max(1), seq: log.last.seq + 1 },
        count: std::mem::take(&mut log.gathered_count),
        value: std::mem::take(&mut log.gathered).freeze(),
        blobs,
    };
    log.last = append.last();
    log.in_flight.push_back(append.clone());
    out.push_back(Act::Append(ix, append));
}

/// How many of the records at the front belong together: an entry and its content.
fn unit_len(records: &[Record]) -> usize {
    match records {
        [Record::EntryPut(_), Record::Body(_), ..] => 2,
        _ => 1,
    }
}
