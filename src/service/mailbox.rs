//! What a user's devices are owed: entries, debts, and which keys have been seen. The fold of the
//! log; sending is in `delivery.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use crate::base::hash::{fingerprint, sha256_hex};
use crate::base::limits;
use crate::base::log::{Blob, Position, Stored};
use crate::base::now::{Mono, Now, Unix};
use crate::service::lane::Lane;
use crate::service::record::{
    BodyAt, Class, Closed, DebtClosed, DebtMoved, Debtor, DeviceNo, Direction, Disposed,
    Disposition, EntryNo, EntryPut, Forwarded, Record,
};
use crate::service::tu::{Act, Content, Held, Out, Tables, Timer, UserIx};

/// The messages of one user that still matter to somebody.
#[derive(Debug, Default)]
pub struct Mailbox {
    // Boxed, as the lanes are: a node has room for eleven, and most users have one or none.
    items: BTreeMap<EntryNo, Box<Item>>,
    /// When each item that can expire does so.
    expiring: BTreeSet<(Mono, EntryNo)>,
    /// Entries that a device or the other side has yet to take.
    waiting: BTreeSet<EntryNo>,
    /// Entries owed to whichever device comes next.
    unclaimed: BTreeSet<EntryNo>,
    /// What was taken before, by key.
    seen: HashMap<u128, Seen>,
    /// One queue per device that is owed something.
    pub lanes: BTreeMap<DeviceNo, Box<Lane>>,
    /// Senders that wait for the other side.
    pub pending: BTreeMap<EntryNo, Pending>,
    last: EntryNo,
}

/// One entry that still matters.
#[derive(Debug)]
pub struct Item {
    /// What it is.
    pub entry: Arc<EntryPut>,
    /// Its content, while it is being delivered.
    pub octets: Option<Bytes>,
    /// Where its content stands.
    pub at: Option<Content>,
    /// Who is owed it.
    pub open: Vec<Debtor>,
    /// Devices that were owed it at any time: none of them is given it twice.
    pub had: Vec<DeviceNo>,
    /// A device has it.
    pub delivered: bool,
    /// The user saw it.
    pub displayed: bool,
    /// The sender was told that it failed.
    pub failed: bool,
    /// The other side has not answered yet.
    pub forward: bool,
    /// When it expires.
    pub expires: Mono,
    /// It is on disk: before that no device may see it.
    pub stored: bool,
    /// Whether it was there before the last start: a request for it may have been sent already.
    pub replayed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    fingerprint: u128,
    no: EntryNo,
    device: Option<DeviceNo>,
    until: Unix,
}

/// A sender that waits for the other side.
#[derive(Debug)]
pub struct Pending {
    /// The 202 that will leave.
    pub held: Held,
    /// Those of further tries of the same message (bounded by the sender's pace): they end as the
    /// first one does.
    pub retries: Vec<Held>,
    /// The proof for it, once the sentbox entry is on disk.
    pub stored: Option<Stored>,
}

impl Pending {
    /// All that wait, the first one first.
    pub fn tries(self) -> impl Iterator<Item = Held> {
        std::iter::once(self.held).chain(self.retries)
    }
}

/// What is known of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    /// Never seen.
    New,
    /// The same message: nothing is to be done again.
    Same(EntryNo),
    /// The same id with other content: another message, worth a note.
    Other,
}

impl Mailbox {
    /// The number the next entry gets.
    #[must_use]
    pub fn next(&self) -> EntryNo {
        self.last + 1
    }

    /// The entry, if it still matters.
    #[must_use]
    pub fn item(&self, no: EntryNo) -> Option<&Item> {
        self.items.get(&no).map(Box::as_ref)
    }

    /// The entry, to change what is not durable.
    pub fn item_mut(&mut self, no: EntryNo) -> Option<&mut Item> {
        self.items.get_mut(&no).map(Box::as_mut)
    }

    /// All entries that still matter, oldest first.
    pub fn items(&self) -> impl Iterator<Item = (EntryNo, &Item)> {
        self.items.iter().map(|(no, item)| (*no, &**item))
    }

    /// How many entries wait for somebody.
    #[must_use]
    pub fn open(&self) -> usize {
        self.waiting.len()
    }

    /// Whether so many wait that no message is taken any more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.open() >= limits::OPEN_MESSAGES_MAX
    }

    /// Whether a device may be owed a copy or a receipt: in a full mailbox only one that nothing
    /// waits for, so that the bound holds but for one entry for each device.
    #[must_use]
    pub fn has_room_for(&self, device: DeviceNo) -> bool {
        !self.is_full() || !self.lanes.contains_key(&device)
    }

    /// When the first entry expires.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Mono> {
        self.expiring.first().map(|(at, _)| *at)
    }

    /// The entries that have expired.
    #[must_use]
    pub fn expired(&self, now: Mono) -> Vec<EntryNo> {
        self.expiring.iter().take_while(|(at, _)| *at <= now).map(|(_, no)| *no).collect()
    }

    /// Entries owed to whichever device comes next, if that is this one.
    #[must_use]
    pub fn unclaimed_by(&self, device: DeviceNo) -> Vec<EntryNo> {
        let had = |no: &EntryNo| self.items.get(no).is_some_and(|i| i.had.contains(&device));
        self.unclaimed.iter().copied().filter(|no| !had(no)).collect()
    }

    /// Whether this message was taken before.
    #[must_use]
    pub fn known(&self, entry: &EntryPut) -> Known {
        let id = key(entry.direction, &entry.from, &entry.to, &entry.message_id);
        match self.seen.get(&id) {
            None => Known::New,
            Some(seen) if seen.fingerprint == entry.fingerprint => Known::Same(seen.no),
            Some(_) => match self.seen.get(&other(id, entry.fingerprint)) {
                Some(seen) => Known::Same(seen.no),
                None => Known::Other,
            },
        }
    }

    /// The entry with this Message-ID between these two, and the device it came from.
    #[must_use]
    pub fn by_message_id(
        &self,
        direction: Direction,
        from: &str,
        to: &str,
        message_id: &str,
    ) -> Option<(EntryNo, Option<DeviceNo>)> {
        self.seen.get(&key(direction, from, to, message_id)).map(|s| (s.no, s.device))
    }

    /// Drops keys whose time is over.
    pub fn sweep(&mut self, now: Unix) {
        self.seen.retain(|_, seen| seen.until > now);
    }

    /// Whether nothing of a user's past needs memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    // --- the fold -----------------------------------------------------------------------------

    /// Folds a new entry.
    pub fn put(&mut self, now: Now, entry: &Arc<EntryPut>) {
        let no = entry.no;
        self.last = self.last.max(no);
        let id = key(entry.direction, &entry.from, &entry.to, &entry.message_id);
        let seen = Seen {
            fingerprint: entry.fingerprint,
            no,
            device: entry.device,
            until: entry.expires.after(limits::SEEN_AFTER_EXPIRY),
        };
        let slot = match self.seen.get(&id) {
            Some(old) if old.fingerprint != entry.fingerprint => other(id, entry.fingerprint),
            _ => id,
        };
        self.seen.insert(slot, seen);
        let item = Item {
            octets: None,
            at: match &entry.body {
                BodyAt::Blob(name) => Some(Content::Blob(name.clone())),
                BodyAt::Record => None,
            },
            had: entry.owed.iter().filter_map(Debtor::device).collect(),
            open: entry.owed.clone(),
            delivered: false,
            displayed: false,
            failed: false,
            forward: entry.forward.is_some(),
            expires: now.mono.after(now.unix.until(entry.expires)),
            stored: false,
            replayed: false,
            entry: entry.clone(),
        };
        for debtor in &item.open {
            match debtor {
                Debtor::Device(device) => self.lanes.entry(*device).or_default().owe(no),
                Debtor::Account => {
                    self.unclaimed.insert(no);
                }
            }
        }
        if item.entry.direction == Direction::Received {
            self.forget_failed(&item.entry);
        }
        self.expiring.insert((item.expires, no));
        self.items.insert(no, Box::new(item));
        self.count(no);
    }

    /// Word came that a message of this user failed: the same again is a new try, not a repeat.
    fn forget_failed(&mut self, word: &EntryPut) {
        let about = word.about.as_deref().unwrap_or_default();
        if let Some(failed) = about.strip_prefix("failed ") {
            self.seen.remove(&key(Direction::Sent, &word.to, &word.from, failed));
        }
    }

    /// Keeps the count of entries that wait for a device.
    fn count(&mut self, no: EntryNo) {
        if self.items.get(&no).is_some_and(|item| !item.open.is_empty() || item.forward) {
            self.waiting.insert(no);
        } else {
            self.waiting.remove(&no);
        }
    }

    /// Folds where the content of the last entry stands.
    pub fn body(&mut self, at: Position, _octets: &Bytes) {
        if let Some(item) = self.items.get_mut(&self.last) {
            item.at = Some(Content::Record(at));
        }
    }

    /// Folds the end of a debt.
    pub fn closed(&mut self, closed: &DebtClosed) {
        if let Some(item) = self.items.get_mut(&closed.no) {
            item.open.retain(|d| *d != closed.debtor);
            item.delivered |= closed.how == Closed::Delivered;
        }
        self.count(closed.no);
        self.release(closed.no, closed.debtor);
        self.prune(closed.no);
    }

    /// Folds a debt that passed on.
    pub fn moved(&mut self, moved: &DebtMoved) {
        self.release(moved.no, moved.from);
        let Some(item) = self.items.get_mut(&moved.no) else { return };
        item.open.retain(|d| *d != moved.from);
        if moved.to == Debtor::Account {
            // Only devices whose numbers end pass on what they are owed.
            item.had.retain(|d| Some(*d) != moved.from.device());
        }
        if item.open.contains(&moved.to) {
            return;
        }
        item.open.push(moved.to);
        match moved.to {
            Debtor::Device(device) => {
                item.had.push(device);
                self.lanes.entry(device).or_default().owe(moved.no);
            }
            Debtor::Account => {
                self.unclaimed.insert(moved.no);
            }
        }
    }

    /// Folds the other side's answer.
    pub fn forwarded(&mut self, done: &Forwarded) {
        if let Some(item) = self.items.get_mut(&done.no) {
            item.forward = false;
            if done.status >= 300 {
                // The sender was told no: the same again is a new try, not a repeat.
                let entry = &item.entry;
                let id = key(entry.direction, &entry.from, &entry.to, &entry.message_id);
                for id in [id, other(id, entry.fingerprint)] {
                    if self.seen.get(&id).is_some_and(|seen| seen.no == done.no) {
                        self.seen.remove(&id);
                    }
                }
            }
        }
        self.count(done.no);
        self.prune(done.no);
    }

    /// Folds a disposition.
    pub fn disposed(&mut self, disposed: &Disposed) {
        if let Some(item) = self.items.get_mut(&disposed.no) {
            match disposed.what {
                Disposition::Delivered => item.delivered = true,
                Disposition::Displayed => item.displayed = true,
                Disposition::Failed => item.failed = true,
            }
        }
        self.prune(disposed.no);
    }

    /// Folds that a device is forgotten: nobody owes it anything.
    pub fn forget(&mut self, device: DeviceNo) {
        self.lanes.remove(&device);
        let debtor = Debtor::Device(device);
        let owed: Vec<EntryNo> = self
            .items
            .iter()
            .filter(|(_, item)| item.open.contains(&debtor))
            .map(|(no, _)| *no)
            .collect();
        for no in owed {
            if let Some(item) = self.items.get_mut(&no) {
                item.open.retain(|d| *d != debtor);
            }
            self.count(no);
            self.prune(no);
        }
    }

    /// Folds the end of the account: nobody is owed anything, and whoever has the name next gets
    /// nothing of this one's. What is on its way to others goes on.
    pub fn close(&mut self) {
        let gone: Vec<EntryNo> =
            self.items.iter().filter(|(_, item)| !item.forward).map(|(no, _)| *no).collect();
        for no in gone {
            self.drop_expired(no);
        }
        for item in self.items.values_mut() {
            item.open.clear();
        }
        self.unclaimed.clear();
        self.lanes.clear();
        self.seen.clear();
    }

    fn release(&mut self, no: EntryNo, debtor: Debtor) {
        match debtor {
            Debtor::Device(device) => {
                if let Some(lane) = self.lanes.get_mut(&device) {
                    lane.clear(no);
                    if lane.is_idle() {
                        self.lanes.remove(&device);
                    }
                }
            }
            Debtor::Account => {
                self.unclaimed.remove(&no);
            }
        }
    }

    /// Drops an entry from memory that matters to nobody any more. Its record stays.
    fn prune(&mut self, no: EntryNo) {
        let Some(item) = self.items.get(&no) else { return };
        let received = item.entry.direction == Direction::Received;
        let message = item.entry.class == Class::Message;
        let awaits_display =
            received && message && item.entry.asked.displayed && !item.displayed && !item.failed;
        // Nobody has it and nobody was told: whoever closed the last debt tells the sender next.
        let awaits_failure = received && message && !item.delivered && !item.failed;
        if item.open.is_empty() && !item.forward && !awaits_display && !awaits_failure {
            self.expiring.remove(&(item.expires, no));
            self.items.remove(&no);
            self.waiting.remove(&no);
        }
    }

    /// Drops an entry that has expired.
    pub fn drop_expired(&mut self, no: EntryNo) {
        if let Some(item) = self.items.remove(&no) {
            self.expiring.remove(&(item.expires, no));
            self.waiting.remove(&no);
        }
    }
}

/// The records of an entry, and the file that a large content becomes.
pub fn with_content(mut entry: EntryPut, octets: &Bytes) -> (Vec<Record>, Vec<Blob>) {
    #[expect(clippy::cast_possible_truncation, reason = "bodies are bounded far below 4 GiB")]
    let size = octets.len() as u32;
    entry.size = size;
    if octets.len() + octets_beside(&entry) > limits::INLINE_BODY_OCTETS_MAX {
        let blob = Blob { name: sha256_hex(octets), octets: octets.clone() };
        entry.body = BodyAt::Blob(blob.name.clone());
        return (vec![Record::EntryPut(Arc::new(entry))], vec![blob]);
    }
    entry.body = BodyAt::Record;
    (vec![Record::EntryPut(Arc::new(entry)), Record::Body(octets.clone())], Vec::new())
}

/// What the record of an entry adds to its content, about.
fn octets_beside(entry: &EntryPut) -> usize {
    let lines = entry.headers.len() + entry.from_value.len() + entry.content_type.len();
    let names = entry.from.len() + 2 * entry.to.len() + entry.message_id.len();
    let written = [&entry.about, &entry.date].into_iter().flatten().map(String::len).sum::<usize>();
    lines + names + written
}

/// Sets the timer for the first entry that will expire.
pub fn watch_expiry(tables: &Tables, ix: UserIx, out: &mut Out) {
    out.push_back(Act::Timer(Timer::Expiry(ix), tables.user(ix).mailbox.next_expiry()));
}

/// Incoming key = (sender, recipient, Message-ID), for each direction.
fn key(direction: Direction, from: &str, to: &str, message_id: &str) -> u128 {
    let side: &[u8] = if direction == Direction::Sent { b"s" } else { b"r" };
    fingerprint(&[side, from.as_bytes(), to.as_bytes(), message_id.as_bytes()])
}

/// The key of a message whose id was used before for other content.
fn other(id: u128, content: u128) -> u128 {
    fingerprint(&[b"other", &id.to_le_bytes(), &content.to_le_bytes()])
}
