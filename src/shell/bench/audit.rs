//! What is really there: the operator's counts while the server runs, and every record of its
//! store after it was stopped.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;

use crate::service::record::{self, Class, Closed, Direction, Record};
use crate::shell::store;

/// What a store holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Found {
    /// Registrations written.
    pub(super) bindings: u64,
    /// Users with at least one of them.
    pub(super) registered: u64,
    /// Messages in sentboxes.
    pub(super) sent: u64,
    /// Messages in mailboxes.
    pub(super) received: u64,
    /// Debts to devices that were closed because the device has the message.
    pub(super) delivered: u64,
    /// What is damaged.
    pub(super) damage: Option<String>,
}

/// One number that must come out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Check {
    pub(super) what: &'static str,
    pub(super) found: u64,
    /// At least and at most: they differ where operations ended without an answer.
    pub(super) expected: (u64, u64),
}

impl Check {
    /// `found` must be `expected`.
    pub(super) fn exact(what: &'static str, found: u64, expected: u64) -> Check {
        Check { what, found, expected: (expected, expected) }
    }

    /// Whether it came out.
    pub(super) fn holds(&self) -> bool {
        (self.expected.0..=self.expected.1).contains(&self.found)
    }

    /// `bindings: 10 of 10`.
    pub(super) fn text(&self) -> String {
        let Check { what, found, expected: (least, most) } = self;
        if least == most {
            format!("{what}: {found} of {most}")
        } else {
            format!("{what}: {found} of {least} to {most}")
        }
    }
}

/// Reads the whole store of a server that was stopped.
pub(super) fn count(data: &Path) -> Result<Found, String> {
    let mut found = Found::default();
    let mut registered: BTreeSet<String> = BTreeSet::new();
    let report = store::check(
        data,
        &mut |user, _, _, value| {
            let records = record::decode(&Bytes::copy_from_slice(value))
                .map_err(|damage| damage.to_string())?;
            for record in &records {
                if matches!(record, Record::BindingPut(_)) && !registered.contains(user) {
                    registered.insert(user.to_owned());
                }
                found.add(record);
            }
            Ok(Vec::new())
        },
        &mut |_, _| (),
        &mut |_, _| (),
    )
    .map_err(|error| error.to_string())?;
    found.registered = registered.len() as u64;
    if !report.sound() {
        let first = report.findings.iter().find(|f| f.loss).map(|f| f.what.clone());
        found.damage = Some(first.unwrap_or_else(|| "the store is damaged".to_owned()));
    }
    Ok(found)
}

impl Found {
    fn add(&mut self, record: &Record) {
        match record {
            Record::BindingPut(_) => self.bindings += 1,
            Record::EntryPut(entry) if entry.class == Class::Message => match entry.direction {
                Direction::Sent => self.sent += 1,
                Direction::Received => self.received += 1,
            },
            Record::DebtClosed(closed) if closed.how == Closed::Delivered => self.delivered += 1,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::record::{BindingGone, DebtClosed, Debtor};

    #[test]
    fn what_must_come_out() {
        let exact = Check::exact("bindings", 9, 10);
        assert!(!exact.holds());
        assert_eq!(exact.text(), "bindings: 9 of 10");
        let range = Check { what: "messages", found: 11, expected: (10, 12) };
        assert!(range.holds());
        assert_eq!(range.text(), "messages: 11 of 10 to 12");
    }

    #[test]
    fn records_are_counted_by_what_they_promise() {
        let mut found = Found::default();
        for how in [Closed::Delivered, Closed::Expired, Closed::Delivered] {
            let closed = DebtClosed { no: 1, debtor: Debtor::Device(1), how };
            found.add(&Record::DebtClosed(closed));
        }
        found.add(&Record::BindingGone(BindingGone { device: 1, by: None }));
        assert_eq!(found, Found { delivered: 2, ..Found::default() });
    }
}
