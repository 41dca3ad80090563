//! A disk that keeps what was synced, forgets the rest in a crash, and can be slow, unsure or
//! broken. One group of batches is written at a time, as the committer does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use cpmd::base::limits;
use cpmd::base::log::{Append, Outcome, Position, Stored};
use cpmd::node::Input;
use cpmd::service::record::{BindingPut, DeviceNo, Direction, Record, decode, encode};
use cpmd::service::tu::Content;

use super::Dice;

/// One batch as it is kept.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Where its first record stands.
    pub first: Position,
    /// How many records the value holds.
    pub count: u32,
    /// The records.
    pub value: Bytes,
}

enum Job {
    Append(Append),
    Tail { ticket: u64, user: Arc<str>, from: Position },
    Fetch { ticket: u64, user: Arc<str>, at: Content },
}

/// The disk. Times are in microseconds of the world's clock, chances per mille.
pub struct Disk {
    /// How long a group takes, least and greatest.
    pub delay: (u64, u64),
    /// How often it cannot say whether a batch was written.
    pub unknown: u64,
    /// The next group fails, and with it the store.
    pub fails: bool,
    /// No group can be written until there is room again.
    pub is_full: bool,
    /// Nothing completes until it is let go.
    pub is_held: bool,
    logs: BTreeMap<Arc<str>, Vec<Batch>>,
    blobs: BTreeMap<String, Bytes>,
    waiting: VecDeque<Job>,
    group: Vec<Job>,
    done_at: Option<u64>,
    broken: bool,
    /// What the batches on it say.
    pub facts: Facts,
}

/// The fold of what is on disk, as far as promises are measured by it.
#[derive(Default, Debug)]
pub struct Facts {
    /// `(user, sent, from, to, message id, fingerprint)` of every entry.
    pub entries: BTreeSet<(String, bool, String, String, String, u128)>,
    /// Registered devices by account.
    pub bindings: BTreeMap<String, BTreeMap<DeviceNo, BindingPut>>,
    /// Devices by account that are known, registered or not: their instances.
    pub instances: BTreeMap<String, BTreeMap<DeviceNo, String>>,
}

impl Default for Disk {
    fn default() -> Self {
        Disk {
            delay: (3000, 3000),
            unknown: 0,
            fails: false,
            is_full: false,
            is_held: false,
            logs: BTreeMap::new(),
            blobs: BTreeMap::new(),
            waiting: VecDeque::new(),
            group: Vec::new(),
            done_at: None,
            broken: false,
            facts: Facts::default(),
        }
    }
}

impl Disk {
    /// Takes a batch.
    pub fn append(&mut self, now: u64, dice: &mut Dice, append: Append) {
        let records = decode(&append.value).expect("a batch reads back");
        assert_eq!(records.len(), append.count as usize, "a batch holds what it counts");
        assert!(!records.is_empty(), "a batch is never empty");
        assert!(
            append.value.len() <= limits::VALUE_OCTETS_MAX,
            "a value of {} octets is more than the store takes",
            append.value.len()
        );
        self.waiting.push_back(Job::Append(append));
        self.begin(now, dice);
    }

    /// Takes a question about the end of a log.
    pub fn tail(&mut self, now: u64, dice: &mut Dice, ticket: u64, user: Arc<str>, from: Position) {
        self.waiting.push_back(Job::Tail { ticket, user, from });
        self.begin(now, dice);
    }

    /// Takes a question about content.
    pub fn fetch(&mut self, now: u64, dice: &mut Dice, ticket: u64, user: Arc<str>, at: Content) {
        self.waiting.push_back(Job::Fetch { ticket, user, at });
        self.begin(now, dice);
    }

    /// When the group under way is done.
    pub fn due(&self) -> Option<u64> {
        self.done_at.filter(|_| !self.is_held)
    }

    /// Whether nothing is under way.
    pub fn is_quiet(&self) -> bool {
        self.group.is_empty() && self.waiting.is_empty()
    }

    /// Ends the group under way; what the node hears of it.
    pub fn complete(&mut self, now: u64, dice: &mut Dice) -> Vec<Input> {
        self.done_at = None;
        let writes = self.group.iter().any(|job| matches!(job, Job::Append(_)));
        let mut answers = Vec::new();
        for job in std::mem::take(&mut self.group) {
            answers.push(self.finish(dice, job));
        }
        if (self.fails || self.is_full) && writes {
            (self.fails, self.broken) = (false, true);
        }
        self.begin(now, dice);
        answers
    }

    /// Power is gone: of what was under way the first `survives` jobs may be found written.
    pub fn crash(&mut self, survives: usize) {
        let mut jobs: Vec<Job> = std::mem::take(&mut self.group);
        jobs.extend(std::mem::take(&mut self.waiting));
        for job in jobs.into_iter().take(survives) {
            if let Job::Append(append) = job {
                self.write(&append);
            }
        }
        self.done_at = None;
        self.broken = false;
        self.fails = false;
    }

    /// Everything on disk, in the order of replay.
    pub fn all(&self) -> Vec<(Arc<str>, Batch)> {
        let of = |(user, log): (&Arc<str>, &Vec<Batch>)| {
            let user = user.clone();
            log.iter().map(move |b| (user.clone(), b.clone())).collect::<Vec<_>>()
        };
        self.logs.iter().flat_map(of).collect()
    }

    /// Batches of one user.
    pub fn batches(&self, user: &str) -> usize {
        self.logs.get(user).map_or(0, Vec::len)
    }

    /// Puts a batch of records there, as if it had been written in an earlier life.
    pub fn plant(&mut self, user: &str, records: &[Record]) {
        let next = self.logs.get(user).and_then(|log| log.last());
        let next = next.map_or(1, |b| b.first.seq + u64::from(b.count));
        let append = Append {
            ticket: 0,
            user: user.into(),
            position: Position { epoch: 1, seq: next },
            count: u32::try_from(records.len()).expect("few records"),
            value: encode(records),
            blobs: Vec::new(),
        };
        assert!(self.write(&append), "it stands at the end of the log");
    }

    /// Files.
    pub fn blobs(&self) -> usize {
        self.blobs.len()
    }

    fn begin(&mut self, now: u64, dice: &mut Dice) {
        if self.done_at.is_none() && !self.waiting.is_empty() {
            self.group.extend(self.waiting.drain(..));
            self.done_at = Some(now + dice.between(self.delay.0, self.delay.1));
        }
    }

    fn finish(&mut self, dice: &mut Dice, job: Job) -> Input {
        match job {
            Job::Append(append) => {
                let ticket = append.ticket;
                Input::Outcome { ticket, outcome: self.outcome(dice, &append) }
            }
            Job::Tail { ticket, user, from } => {
                let log = self.logs.get(&user).map(Vec::as_slice).unwrap_or_default();
                let batches = log
                    .iter()
                    .filter(|b| b.first.seq + u64::from(b.count) > from.seq)
                    .map(|b| (b.first, b.count, b.value.clone()))
                    .collect();
                Input::Tail { ticket, batches: Some(batches).filter(|_| !self.broken) }
            }
            Job::Fetch { ticket, user, at } => {
                Input::Fetched { ticket, octets: self.content(&user, &at) }
            }
        }
    }

    fn outcome(&mut self, dice: &mut Dice, append: &Append) -> Outcome {
        if self.broken {
            return Outcome::Failed;
        }
        if self.fails || self.is_full {
            // The write or the sync failed: what it was to cover may be there or not.
            if dice.chance(500) {
                self.write(append);
            }
            return Outcome::Failed;
        }
        if dice.chance(self.unknown) {
            if dice.chance(500) {
                self.write(append);
            }
            return Outcome::Unknown;
        }
        if self.write(append) {
            Outcome::Stored(Stored::after_sync(append.last()))
        } else {
            Outcome::Conflict
        }
    }

    fn write(&mut self, append: &Append) -> bool {
        let log = self.logs.entry(append.user.clone()).or_default();
        let next = log.last().map_or(1, |b| b.first.seq + u64::from(b.count));
        if append.position.seq != next {
            return false;
        }
        for blob in &append.blobs {
            self.blobs.insert(blob.name.clone(), blob.octets.clone());
        }
        let (first, count, value) = (append.position, append.count, append.value.clone());
        self.facts.fold(&append.user, &value);
        log.push(Batch { first, count, value });
        true
    }

    fn content(&self, user: &str, at: &Content) -> Option<Bytes> {
        let position = match at {
            Content::Blob(name) => return self.blobs.get(name).cloned(),
            Content::Record(position) => *position,
        };
        let log = self.logs.get(user)?;
        let holds = |b: &&Batch| {
            b.first.seq <= position.seq && position.seq < b.first.seq + u64::from(b.count)
        };
        let batch = log.iter().find(holds)?;
        let at = usize::try_from(position.seq - batch.first.seq).ok()?;
        match decode(&batch.value).ok()?.into_iter().nth(at)? {
            Record::Body(octets) => Some(octets),
            _ => None,
        }
    }
}

impl Facts {
    fn fold(&mut self, user: &str, value: &Bytes) {
        for record in decode(value).expect("a batch reads back") {
            match record {
                Record::EntryPut(e) => {
                    let sent = e.direction == Direction::Sent;
                    let names = [&e.from, &e.to, &e.message_id].map(|name| name.to_string());
                    let [from, to, message_id] = names;
                    let entry = (user.into(), sent, from, to, message_id, e.fingerprint);
                    self.entries.insert(entry);
                }
                Record::BindingPut(put) => {
                    if let Some(instance) = &put.instance {
                        let known = self.instances.entry(user.into()).or_default();
                        known.insert(put.device, instance.clone());
                    }
                    self.bindings.entry(user.into()).or_default().insert(put.device, put);
                }
                Record::BindingGone(gone) => {
                    self.bindings.entry(user.into()).or_default().remove(&gone.device);
                }
                Record::DeviceGone(device) => {
                    self.instances.entry(user.into()).or_default().remove(&device);
                }
                _ => {}
            }
        }
    }
}
