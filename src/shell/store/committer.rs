//! The one thread that owns the engine: it takes what has come in since the last sync, commits it
//! as one group, and then answers what was asked.
//!
//! Replay comes before: open the engine, replay it, then give it away here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{Engine, StoreError, validate};
use crate::base::limits::{APPENDS_WAITING_MAX, GROUP_GATHER, GROUP_MAX, GROUP_OCTETS_MAX};
use crate::base::log::{Append, Outcome};
use crate::shell::crash;

/// Takes the outcomes of a group, by ticket. Runs on the store's thread: it passes them on.
pub type Report = Box<dyn Fn(Vec<(u64, Outcome)>) + Send>;

type Question = Box<dyn FnOnce(&dyn Engine) + Send>;

enum Job {
    Append(Append),
    Ask(Question),
    /// Only wakes the thread.
    Stop,
}

/// Why a job was not taken. No outcome will come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refused {
    /// `APPENDS_WAITING_MAX` jobs wait: answer 503.
    #[error("the store is behind: try again later")]
    Full,
    /// The thread has ended.
    #[error("the store is closed")]
    Closed,
    /// The batch breaks a bound of the store.
    #[error("{0}")]
    Invalid(&'static str),
}

/// Figures of the thread, for the metrics.
#[derive(Debug, Default)]
pub struct Counters {
    groups: AtomicU64,
    batches: AtomicU64,
    records: AtomicU64,
    conflicts: AtomicU64,
    syncs: AtomicU64,
    largest: AtomicU64,
    questions: AtomicU64,
    failed: AtomicBool,
}

impl Counters {
    /// Groups that were committed.
    pub fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// Batches that were stored.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Records in them.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Batches that were refused because their place was taken.
    pub fn conflicts(&self) -> u64 {
        self.conflicts.load(Ordering::Relaxed)
    }

    /// Syncs since the engine was opened.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// Batches in the largest group.
    pub fn largest_group(&self) -> u64 {
        self.largest.load(Ordering::Relaxed)
    }

    /// Questions that were answered.
    pub fn questions(&self) -> u64 {
        self.questions.load(Ordering::Relaxed)
    }

    /// Whether a commit has failed: nothing is stored any more until the store is opened again.
    pub fn failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// The way to the thread; cheap to clone, never waits.
#[derive(Clone)]
pub struct Handle {
    jobs: mpsc::Sender<Job>,
    counters: Arc<Counters>,
}

impl Handle {
    /// Hands over a batch; its outcome comes through the report function.
    ///
    /// # Errors
    /// [`Refused`]: it was not taken.
    pub fn append(&self, append: Append) -> Result<(), Refused> {
        match validate(&append) {
            Err(StoreError::Refused(why)) => Err(Refused::Invalid(why)),
            _ => self.send(Job::Append(append)),
        }
    }

    /// Has `question` run on the store's thread, after the group that is under way. It sees all
    /// batches whose append came before it. It must not wait for anything.
    ///
    /// # Errors
    /// [`Refused`]: it was not taken and will not run.
    pub fn ask(&self, question: impl FnOnce(&dyn Engine) + Send + 'static) -> Result<(), Refused> {
        self.send(Job::Ask(Box::new(question)))
    }

    /// The figures.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Jobs that wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.jobs.max_capacity() - self.jobs.capacity()
    }

    fn send(&self, job: Job) -> Result<(), Refused> {
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Full,
            TrySendError::Closed(_) => Refused::Closed,
        })
    }
}

/// The running thread.
pub struct Committer {
    handle: Handle,
    closing: Arc<AtomicBool>,
    thread: JoinHandle<Box<dyn Engine>>,
}

impl Committer {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(engine: Box<dyn Engine>, report: Report) -> std::io::Result<Committer> {
        let (jobs, inbox) = mpsc::channel(APPENDS_WAITING_MAX);
        let counters = Arc::new(Counters::default());
        let closing = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            engine,
            report,
            counters: Arc::clone(&counters),
            closing: Arc::clone(&closing),
        };
        let thread = std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || worker.run(inbox))?;
        Ok(Committer { handle: Handle { jobs, counters }, closing, thread })
    }

    /// A way to the thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Does what has been handed over, then gives the engine back; handles refuse from now on.
    /// Waits for the thread. `None` if it has panicked.
    #[must_use]
    pub fn stop(self) -> Option<Box<dyn Engine>> {
        self.closing.store(true, Ordering::SeqCst);
        // When this is refused, the thread is awake and will see the flag, or has ended.
        if let Err(error) = self.handle.send(Job::Stop) {
            tracing::debug!(%error, "the store was not idle when it was stopped");
        }
        self.thread.join().ok()
    }
}

struct Worker {
    engine: Box<dyn Engine>,
    report: Report,
    counters: Arc<Counters>,
    closing: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self, mut inbox: mpsc::Receiver<Job>) -> Box<dyn Engine> {
        let mut jobs = Vec::with_capacity(GROUP_MAX);
        let mut group = Vec::with_capacity(GROUP_MAX);
        let mut last = 0;
        while inbox.blocking_recv_many(&mut jobs, GROUP_MAX) > 0 {
            // A job that comes alone is not held up.
            if jobs.len().max(last) > 1 {
                gather(&mut inbox, &mut jobs);
            }
            last = jobs.len();
            if self.closing.load(Ordering::SeqCst) {
                inbox.close();
            }
            let (mut octets, mut questions) = (0, Vec::new());
            for job in jobs.drain(..) {
                match job {
                    Job::Append(append) => {
                        let size = weight(&append);
                        if octets + size > GROUP_OCTETS_MAX {
                            self.commit(&mut group);
                            octets = 0;
                        }
                        octets += size;
                        group.push(append);
                    }
                    Job::Ask(question) => questions.push(question),
                    Job::Stop => {}
                }
            }
            self.commit(&mut group);
            for question in questions {
                question(&*self.engine);
                self.counters.questions.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.engine
    }

    /// Commits what is in `group`, reports, and leaves it empty.
    fn commit(&mut self, group: &mut Vec<Append>) {
        if group.is_empty() {
            return;
        }
        let outcomes = match self.engine.commit(group) {
            Ok(outcomes) => {
                crash::point("stored");
                outcomes
            }
            Err(error) => {
                tracing::error!(%error, "a group of batches was not stored");
                vec![Outcome::Failed; group.len()]
            }
        };
        self.count(group, &outcomes);
        (self.report)(group.iter().map(|a| a.ticket).zip(outcomes).collect());
        group.clear();
    }

    fn count(&self, group: &[Append], outcomes: &[Outcome]) {
        let (mut batches, mut records, mut conflicts, mut failed) = (0, 0, 0, false);
        for (append, outcome) in group.iter().zip(outcomes) {
            match outcome {
                Outcome::Stored(_) => {
                    batches += 1;
                    records += u64::from(append.count);
                }
                Outcome::Conflict => conflicts += 1,
                Outcome::Unknown | Outcome::Failed => failed = true,
            }
        }
        let c = &*self.counters;
        let add = |counter: &AtomicU64, n: u64| counter.fetch_add(n, Ordering::Relaxed);
        add(&c.groups, 1);
        add(&c.batches, batches);
        add(&c.records, records);
        add(&c.conflicts, conflicts);
        c.failed.fetch_or(failed, Ordering::Relaxed);
        c.largest.fetch_max(group.len() as u64, Ordering::Relaxed);
        c.syncs.store(self.engine.syncs(), Ordering::Relaxed);
    }
}

/// Waits a moment for more. A sync costs more than what it syncs: it wakes every thread of the
/// engine, so that groups three times as large save a third of all that the store takes.
#[expect(clippy::disallowed_methods, reason = "this thread has nothing else to do meanwhile")]
fn gather(inbox: &mut mpsc::Receiver<Job>, jobs: &mut Vec<Job>) {
    std::thread::sleep(GROUP_GATHER);
    while jobs.len() < GROUP_MAX
        && let Ok(job) = inbox.try_recv()
    {
        jobs.push(job);
    }
}

fn weight(append: &Append) -> usize {
    append.value.len() + append.blobs.iter().map(|b| b.octets.len()).sum::<usize>()
}
