//! `cpmd store`: the data directory of a server that does not run.

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use bytes::Bytes;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use super::{Where, complain, finish, not_yet, say};
use crate::service::record::{self, BodyAt, Record};
use crate::shell::store;

#[derive(Subcommand, Debug)]
pub(super) enum StoreCommand {
    /// Read everything and say what is damaged
    #[command(after_help = "Example: cpmd store check --data cpmd-data")]
    Check {
        #[command(flatten)]
        place: Where,
    },
    /// Copy the store (not in this version)
    #[command(hide = true, disable_help_flag = true)]
    Backup {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _rest: Vec<std::ffi::OsString>,
    },
    /// Put a copy back (not in this version)
    #[command(hide = true, disable_help_flag = true)]
    Restore {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _rest: Vec<std::ffi::OsString>,
    },
}

pub(super) fn run(command: StoreCommand) -> ExitCode {
    match command {
        StoreCommand::Check { place } => match place.data().and_then(|data| check(&data)) {
            Ok(report) => tell(&report),
            Err(error) => finish(Err(error)),
        },
        StoreCommand::Backup { .. } => not_yet("cpmd store backup"),
        StoreCommand::Restore { .. } => not_yet("cpmd store restore"),
    }
}

/// Reads the whole store. The error says why it cannot be opened and what to do.
fn check(data: &Path) -> Result<store::Report, String> {
    let (copied, mut read) = (Progress::new("copying"), Progress::new("checking"));
    let report = store::check(
        data,
        &mut |_, _, count, value| mentions(count, value),
        &mut |done, total| {
            copied.on_terminal(done, total);
            if done == total {
                copied.finish();
            }
        },
        &mut |done, total| read.at(done, total),
    );
    copied.finish();
    read.finish();
    report.map_err(|error| error.to_string())
}

/// The blobs that a batch mentions.
fn mentions(count: u32, value: &[u8]) -> Result<Vec<String>, String> {
    let records =
        record::decode(&Bytes::copy_from_slice(value)).map_err(|damage| damage.to_string())?;
    if u32::try_from(records.len()) != Ok(count) {
        return Err(format!("it holds {} records and should hold {count}", records.len()));
    }
    let blob = |record: &Record| match record {
        Record::EntryPut(entry) => match &entry.body {
            BodyAt::Blob(name) => Some(name.clone()),
            BodyAt::Record => None,
        },
        _ => None,
    };
    Ok(records.iter().filter_map(blob).collect())
}

/// Each finding on standard error; what was read on standard output.
fn tell(report: &store::Report) -> ExitCode {
    for finding in &report.findings {
        let kind = if finding.loss { "" } else { "note: " };
        complain(format_args!("{kind}{}: {}", finding.what, finding.advice));
    }
    if report.unlisted > 0 {
        complain(format_args!("and {} more like these", report.unlisted));
    }
    let verdict = if report.sound() { "the store is sound" } else { "the store is damaged" };
    let shown = say(&format!(
        "{verdict}: {} users, {} octets of records, {} files\n",
        report.users, report.octets, report.blobs
    ));
    if report.sound() { shown } else { ExitCode::FAILURE }
}

/// A bar on a terminal, a line for each tenth elsewhere; on standard error.
struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    tenth: u64,
}

impl Progress {
    fn new(what: &'static str) -> Progress {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = "{msg} [{bar:40}] {human_pos}/{human_len} {per_sec} {eta}";
            let bar = ProgressBar::new(0).with_message(what);
            match ProgressStyle::with_template(style) {
                Ok(style) => bar.with_style(style.progress_chars("=> ")),
                Err(_) => bar,
            }
        });
        Progress { bar, what, tenth: 0 }
    }

    fn at(&mut self, done: u64, total: u64) {
        if self.on_terminal(done, total) {
            return;
        }
        let tenth = done.saturating_mul(10).checked_div(total).unwrap_or(10).min(10);
        if tenth > self.tenth {
            self.tenth = tenth;
            complain(format!("{}: {}% ({done} of {total})", self.what, tenth * 10));
        }
    }

    /// The bar, if there is one.
    fn on_terminal(&self, done: u64, total: u64) -> bool {
        let Some(bar) = &self.bar else { return false };
        bar.set_length(total);
        bar.set_position(done);
        true
    }

    fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::log::{Append, Outcome, Position};
    use crate::shell::store::{Engine, SledEngine};

    fn batch(user: &str, count: u32, value: Bytes) -> Append {
        Append {
            ticket: 1,
            user: user.into(),
            position: Position { epoch: 0, seq: 1 },
            count,
            value,
            blobs: Vec::new(),
        }
    }

    #[test]
    fn a_store_is_read_and_its_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let absent = check(dir.path()).unwrap_err();
        assert!(!absent.is_empty() && !absent.contains('\n'), "{absent}");

        let good = record::encode(&[Record::AccountGone, Record::Body(Bytes::from_static(b"x"))]);
        let group =
            [batch("sip:a@a.example", 2, good.clone()), batch("sip:b@a.example", 3, good.clone())];
        let mut engine = SledEngine::open(dir.path()).unwrap();
        let outcomes = engine.commit(&group).unwrap();
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Stored(_))));
        drop(engine);

        let report = check(dir.path()).unwrap();
        assert_eq!(report.users, 2);
        assert_eq!(report.findings.len(), 1, "{report:?}");
        let what = &report.findings[0].what;
        assert!(what.contains("sip:b@a.example") && what.contains("should hold 3"), "{what}");
        assert!(!report.sound());
    }
}
