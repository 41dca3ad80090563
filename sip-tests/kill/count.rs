//! The countings: the lists of bindings after each restart, and now and then a halt, in which
//! everybody gets what he is owed, the server is killed, and the store is read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::audit::{self, Wanted};
use super::device::{Device, Promise};
use super::fate::Fate;
use super::rig::{BOBS, OBSERVERS, PHONES, Phase, Rig};

/// After this long without an end, a halt is counted as it is.
const HALT_MAX: Duration = Duration::from_secs(100);
/// After the last message has arrived, this long nothing more may come.
const SETTLE: Duration = Duration::from_millis(600);

impl Rig {
    pub(super) fn ask_for_lists(&mut self) {
        let now = self.now();
        for at in OBSERVERS {
            // What was asked of the life before is forgotten, and its answer too.
            self.devices[at].agent.restart();
            let serials = self.devices[PHONES].iter().map(|d| d.serial).collect();
            self.asked_lists[at] = Some(serials);
            self.devices[at].agent.fetch(now);
            let noticed = self.devices[at].flush(now);
            self.noticed(at, noticed);
        }
    }

    /// What a 200 has promised before the list was asked for, and nothing has changed since.
    pub(super) fn compare_lists(&mut self, at: usize, listed: &BTreeMap<String, String>) {
        let Some(serials) = self.asked_lists[at].take() else { return };
        let account = &self.devices[at].agent.config().aor;
        for phone in PHONES {
            let device = &self.devices[phone];
            if device.serial != serials[phone] || device.agent.config().aor != *account {
                continue;
            }
            let found = listed.get(device.instance());
            let good = match promised(device) {
                None => continue,
                Some(None) => found.is_none(),
                Some(Some(address)) => found.is_some_and(|c| c.contains(&address)),
            };
            self.compared += 1;
            if !good {
                let what = format!(
                    "life {}: {} was promised {:?}, the list has {found:?}",
                    self.server.life, device.name, device.promise
                );
                self.claims.registrations.add(what);
            }
        }
    }

    pub(super) fn halt(&mut self, since: Instant, quiet: Option<Instant>) {
        let now = Instant::now();
        for at in BOBS {
            let out = &self.outgoing[at];
            let due = out.next.is_none_or(|next| next <= now);
            if out.under_way.is_some() && !out.asked && due && self.devices[at].can_send() {
                self.send(at);
            }
        }
        let devices = &self.devices[PHONES];
        let there = |d: &Device| matches!(promised(d), Some(Some(_))) && d.can_send();
        let done = self.server.ready
            && self.outgoing.iter().all(|o| o.under_way.is_none())
            && devices.iter().all(there)
            && self.ledger.missing + self.ledger.receipts_missing == 0;
        let quiet = if done { quiet.or(Some(now)) } else { None };
        self.phase = Phase::Halt { since, quiet };
        if quiet.is_some_and(|at| now - at >= SETTLE) || now - since >= HALT_MAX {
            if self.done == 0 && self.ledger.sent.is_empty() {
                // Only the beginning: everybody is registered.
                self.phase = Phase::Load;
                self.fate = Fate::Later(Duration::from_millis(400));
                return;
            }
            for (n, _) in self.outgoing.iter().filter_map(|o| o.under_way) {
                self.claims.unanswered.add(format!("message {n} got no final answer"));
            }
            self.kill();
            self.phase = Phase::Halt { since: now + HALT_MAX, quiet: None };
        }
    }

    /// The server is down and everybody has what he was owed: the store must say the same.
    pub(super) fn audit(&mut self) {
        let (sound, said) = self.server.store_check();
        if !sound {
            self.claims.store.add(format!("cpmd store check: {said}"));
        }
        let bindings = self.devices[PHONES]
            .iter()
            .filter_map(|d| Some((d.instance().to_owned(), promised(d)?)))
            .collect();
        let found = audit::audit(&self.server.data, &Wanted { ledger: &self.ledger, bindings });
        for (to, from) in [
            (&mut self.claims.store, &found.faults),
            (&mut self.claims.registrations, &found.registrations),
        ] {
            to.count += from.count;
            to.first.extend(from.first.iter().map(|f| format!("after kill {}: {f}", self.done)));
        }
        self.found = found;
    }
}

/// Where a device must be bound; inside, `None` if nowhere; outside, if nothing is promised.
fn promised(device: &Device) -> Option<Option<String>> {
    match device.promise {
        Promise::Open => None,
        Promise::Gone => Some(None),
        Promise::Bound(at, until) => (until > Instant::now()).then(|| Some(at.to_string())),
    }
}
