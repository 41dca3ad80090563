//! The store as the loop sees it: opening with replay into a node, batches, questions.

use std::io::IsTerminal;
use std::path::Path;

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use super::world::Happening;
use crate::base::log::{Append, Outcome, Position};
use crate::base::now::Now;
use crate::node::{Input, Node};
use crate::service::record::{Record, decode};
use crate::service::tu::Content;
use crate::shell::crash;
use crate::shell::operator::Written;
use crate::shell::store::{Committer, Engine, Handle, SledEngine};

/// A store that is open and has been replayed into a node.
pub(super) struct Journal {
    committer: Option<Committer>,
    handle: Handle,
    happen: mpsc::UnboundedSender<Happening>,
    /// Which life of the store: answers of an earlier one are stale.
    life: u64,
}

impl Journal {
    /// Opens the store in `data` and folds it into the node that `make` builds from its secret.
    pub(super) fn open(
        data: &Path,
        life: u64,
        now: Now,
        make: impl FnOnce(crate::base::hash::Secret) -> Node,
        happen: mpsc::UnboundedSender<Happening>,
    ) -> Result<(Journal, Node), String> {
        let engine = SledEngine::open(data).map_err(|e| e.to_string())?;
        let mut node = make(engine.secret());
        let bar = progress_bar();
        engine
            .replay(
                &mut |user, first, _count, value| {
                    crash::point("replay");
                    node.replay(now, user, first, &Bytes::copy_from_slice(value))
                        .map_err(|damage| damage.to_string())
                },
                &mut |done, total| {
                    bar.set_length(total);
                    bar.set_position(done);
                },
            )
            .map_err(|e| e.to_string())?;
        bar.finish_and_clear();
        node.replayed(now);
        let report = happen.clone();
        let committer = Committer::start(
            Box::new(engine),
            Box::new(move |outcomes| {
                // The loop has ended: nobody is left to tell.
                drop(report.send(Happening::Outcomes(life, outcomes)));
            }),
        )
        .map_err(|e| format!("cannot start the store's thread: {e}"))?;
        let handle = committer.handle();
        Ok((Journal { committer: Some(committer), handle, happen, life }, node))
    }

    /// Hands over a batch.
    pub(super) fn append(&self, append: Append) {
        let ticket = append.ticket;
        if let Err(refused) = self.handle.append(append) {
            tracing::error!(%refused, "the store took no batch");
            let outcomes = vec![(ticket, Outcome::Failed)];
            drop(self.happen.send(Happening::Outcomes(self.life, outcomes)));
        }
    }

    /// Reads content.
    pub(super) fn fetch(&self, ticket: u64, user: std::sync::Arc<str>, at: Content) {
        let unread = Input::Fetched { ticket, octets: None };
        self.ask(unread, move |engine| {
            let octets = match at {
                Content::Blob(name) => engine.blob(&name).map_err(|e| e.to_string()),
                Content::Record(position) => body(engine, &user, position),
            };
            let octets = octets.map_err(|why| tracing::error!(%why, "content cannot be read"));
            Input::Fetched { ticket, octets: octets.ok() }
        });
    }

    /// Reads the end of a user's log.
    pub(super) fn tail(&self, ticket: u64, user: std::sync::Arc<str>, from: Position) {
        let unread = Input::Tail { ticket, batches: None };
        self.ask(unread, move |engine| {
            let batches = engine
                .tail(&user, from)
                .map(|batches| batches.into_iter().map(|b| (b.first, b.count, b.value)).collect());
            Input::Tail { ticket, batches: batches.ok() }
        });
    }

    /// What was written since the store was opened.
    pub(super) fn written(&self) -> Written {
        let counters = self.handle.counters();
        Written {
            groups: counters.groups(),
            batches: counters.batches(),
            records: counters.records(),
            syncs: counters.syncs(),
        }
    }

    /// Ends the store's thread and closes the store.
    pub(super) fn close(&mut self) {
        if let Some(committer) = self.committer.take() {
            drop(committer.stop());
        }
    }

    fn ask(&self, unread: Input, question: impl FnOnce(&dyn Engine) -> Input + Send + 'static) {
        let (happen, life) = (self.happen.clone(), self.life);
        let asked = self.handle.ask(move |engine| {
            drop(happen.send(Happening::Input(life, question(engine))));
        });
        if asked.is_err() {
            drop(self.happen.send(Happening::Input(self.life, unread)));
        }
    }
}

/// The octets of the [`Record::Body`] at `position`.
fn body(engine: &dyn Engine, user: &str, position: Position) -> Result<Bytes, String> {
    let batch = engine
        .read(user, position)
        .map_err(|e| e.to_string())?
        .ok_or_else(|| format!("record {} is missing", position.seq))?;
    let records = decode(&batch.value).map_err(|e| e.to_string())?;
    let at = usize::try_from(position.seq - batch.first.seq).unwrap_or(usize::MAX);
    match records.into_iter().nth(at) {
        Some(Record::Body(octets)) => Ok(octets),
        _ => Err(format!("record {} is no content", position.seq)),
    }
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    let style =
        ProgressStyle::with_template("reading the log {bar:40} {pos}/{len} {per_sec} {eta}");
    if let Ok(style) = style {
        bar.set_style(style);
    }
    bar
}
