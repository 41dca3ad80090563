//! Reads the data directory of a server that is down, record by record, and compares it with what
//! was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use cpmd::service::record::{BindingPut, BodyAt, Class, Closed, Debtor, Direction, Record, decode};
use cpmd::shell::store::{Engine, SledEngine};

use super::catalogue;
use super::ledger::{ALICE, BOB, Faults, Ledger};

/// What is to be found.
pub struct Wanted<'a> {
    /// What was sent and acknowledged.
    pub ledger: &'a Ledger,
    /// Instances that must be bound, with their Contact's address; or must not be.
    pub bindings: Vec<(String, Option<String>)>,
}

/// What was found.
#[derive(Default)]
pub struct Found {
    /// Batches in the log.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Messages in sentboxes and mailboxes.
    pub messages: u64,
    /// Content kept as files.
    pub blobs: u64,
    /// What should not be so.
    pub faults: Faults,
    /// Registrations that are not as promised.
    pub registrations: Faults,
}

/// Reads everything in `data`.
pub fn audit(data: &Path, wanted: &Wanted<'_>) -> Found {
    let mut reader = Reader { wanted, found: Found::default(), users: BTreeMap::new() };
    let engine = match SledEngine::open(data) {
        Ok(engine) => engine,
        Err(error) => {
            reader.found.faults.add(format!("the store does not open: {error}"));
            return reader.found;
        }
    };
    let read = engine.replay(
        &mut |user, _, count, value| reader.batch(&engine, user, count, value),
        &mut |_, _| (),
    );
    if let Err(error) = read {
        reader.found.faults.add(format!("the log does not read: {error}"));
    }
    reader.compare();
    reader.found
}

#[derive(Default)]
struct User {
    /// Messages by number, with how often they are there.
    messages: BTreeMap<usize, u32>,
    /// What is owed: entry, debtor.
    open: BTreeSet<(u64, Debtor)>,
    bound: BTreeMap<u32, BindingPut>,
}

struct Reader<'a> {
    wanted: &'a Wanted<'a>,
    found: Found,
    users: BTreeMap<String, User>,
}

impl Reader<'_> {
    fn batch(
        &mut self,
        engine: &SledEngine,
        aor: &str,
        count: u32,
        value: &[u8],
    ) -> Result<(), String> {
        let records = decode(&Bytes::copy_from_slice(value)).map_err(|e| e.to_string())?;
        if records.len() != count as usize {
            return Err(format!("{} records in a batch of {count}", records.len()));
        }
        self.found.batches += 1;
        self.found.records += u64::from(count);
        let mut user = self.users.remove(aor).unwrap_or_default();
        let mut entry = None;
        for record in records {
            match record {
                Record::EntryPut(put) => {
                    user.open.extend(put.owed.iter().map(|debtor| (put.no, *debtor)));
                    if let BodyAt::Blob(name) = &put.body {
                        self.found.blobs += 1;
                        match engine.blob(name) {
                            Ok(octets) => self.entry(aor, &mut user, &put, &octets),
                            Err(error) => self.found.faults.add(error.to_string()),
                        }
                    } else {
                        entry = Some(put);
                    }
                }
                Record::Body(octets) => match entry.take() {
                    Some(put) => self.entry(aor, &mut user, &put, &octets),
                    None => self.found.faults.add("content without an entry".to_owned()),
                },
                Record::DebtClosed(closed) => {
                    if !user.open.remove(&(closed.no, closed.debtor)) {
                        let what = format!("{aor}: {closed:?} was not owed");
                        self.found.faults.add(what);
                    }
                    if closed.how != Closed::Delivered {
                        self.found.faults.add(format!("{aor}: {closed:?}"));
                    }
                }
                Record::DebtMoved(moved) => {
                    user.open.remove(&(moved.no, moved.from));
                    user.open.insert((moved.no, moved.to));
                }
                Record::BindingPut(put) => {
                    user.bound.insert(put.device, put);
                }
                Record::BindingGone(gone) => {
                    user.bound.remove(&gone.device);
                }
                Record::DeviceGone(device) => {
                    user.bound.remove(&device);
                }
                Record::Forwarded(done) if done.status >= 300 => {
                    self.found.faults.add(format!("{aor}: {done:?}"));
                }
                _ => {}
            }
        }
        self.users.insert(aor.to_owned(), user);
        Ok(())
    }

    fn entry(
        &mut self,
        aor: &str,
        user: &mut User,
        put: &cpmd::service::record::EntryPut,
        octets: &Bytes,
    ) {
        let faults = &mut self.found.faults;
        match put.class {
            Class::Receipt => return,
            Class::Notice => return faults.add(format!("{aor}: a notice: {octets:?}")),
            Class::Message => {}
        }
        let side = if aor == BOB { Direction::Sent } else { Direction::Received };
        let made = catalogue::number(&put.message_id)
            .and_then(|n| Some((n, self.wanted.ledger.made(n)?)))
            .filter(|(_, made)| *made.message_id == *put.message_id && put.direction == side);
        let Some((n, made)) = made else {
            return faults.add(format!("{aor}: entry {} was never sent: {put:?}", put.no));
        };
        if made.body != *octets || made.content_type.as_bytes() != put.content_type {
            faults.add(format!("{aor}: message {n} is stored with other octets"));
        }
        self.found.messages += 1;
        *user.messages.entry(n).or_default() += 1;
    }

    fn compare(&mut self) {
        let faults = &mut self.found.faults;
        for aor in [ALICE, BOB] {
            let user = self.users.remove(aor).unwrap_or_default();
            for (n, sent) in self.wanted.ledger.sent.iter().enumerate() {
                let times = user.messages.get(&n).copied().unwrap_or(0);
                if times > 1 || times == 0 && sent.acknowledged {
                    faults.add(format!("{aor}: message {n} is in the store {times} times"));
                }
            }
            for (no, debtor) in &user.open {
                faults.add(format!("{aor}: entry {no} is still owed to {debtor:?}"));
            }
            self.users.insert(aor.to_owned(), user);
        }
        let bound = |instance: &str| {
            let all = self.users.values().flat_map(|u| u.bound.values());
            all.filter(|b| b.instance.as_deref() == Some(instance)).map(|b| &b.contact).next_back()
        };
        for (instance, wanted) in &self.wanted.bindings {
            match (bound(instance), wanted) {
                (Some(contact), Some(address)) if contact.contains(address) => {}
                (None, None) => {}
                (found, _) => {
                    let what = format!("{instance}: {found:?} in the store, not {wanted:?}");
                    self.found.registrations.add(what);
                }
            }
        }
    }
}
