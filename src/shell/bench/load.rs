//! Offers load and takes the time: a fixed number of operations at once (closed loop), or as many
//! per second whatever becomes of the earlier ones (open loop).
#![expect(clippy::disallowed_methods, reason = "latencies are taken here")]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::figures::{Arrivals, Latencies};
use super::machine::Cpu;
use crate::shell::client::{Device, Pool};
use crate::ua::{Agent, AgentEvent};

/// What one operation is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Work {
    /// A device that was switched off registers: challenge, answer, and the binding is on disk.
    Challenged,
    /// A device refreshes its registration with the nonce it knows.
    Refresh,
    /// A device sends a text of 100 octets to one of these, each with so many devices: done when
    /// it has its 202 and all of them have the text.
    Message { to: Vec<String>, devices: u32 },
}

/// How operations come.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Pace {
    /// So many at once.
    Closed(usize),
    /// So many per second on average, independently of each other.
    Open(f64),
    /// Each device once, so many at once.
    Once(usize),
}

/// What came of it. Rates, times and CPU are of the middle part, counts of all.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Operations that were done, in all.
    pub(super) done: u64,
    /// Operations that were refused or never ended.
    pub(super) failed: u64,
    /// How long the measured part lasted.
    pub(super) measured: Duration,
    /// Operations that ended in it.
    pub(super) counted: u64,
    /// Until the final answer.
    pub(super) answered: Latencies,
    /// Until the last device had it.
    pub(super) delivered: Latencies,
    /// What it cost.
    pub(super) cpu: Cpu,
}

/// One run.
pub(super) struct Load<'a> {
    pool: &'a mut Pool,
    server: u32,
    work: &'a Work,
    /// Those that begin operations, in turn.
    callers: &'a [Device],
    next: usize,
    operation: u64,
    open: HashMap<u64, Open>,
    /// Which operation a device has under way: by device, or by device and number of its message.
    by_device: HashMap<Device, u64>,
    by_message: HashMap<(Device, u64), u64>,
    window: Option<(Instant, Instant)>,
    outcome: Outcome,
}

struct Open {
    due: Instant,
    answered: bool,
    /// Devices that do not have it yet.
    left: u32,
}

/// Timer F and a little more: by then each operation has ended one way or the other.
const GIVE_UP: Duration = Duration::from_secs(35);
/// So many open operations are more than any server clears up again.
const OPEN_MAX: usize = 50_000;
const TEXT_OCTETS: usize = 100;

impl<'a> Load<'a> {
    /// `callers` begin the operations; there must be some.
    pub(super) fn new(
        pool: &'a mut Pool,
        server: u32,
        work: &'a Work,
        callers: &'a [Device],
    ) -> Load<'a> {
        Load {
            pool,
            server,
            work,
            callers,
            next: 0,
            operation: 0,
            open: HashMap::new(),
            by_device: HashMap::new(),
            by_message: HashMap::new(),
            window: None,
            outcome: Outcome::default(),
        }
    }

    /// Runs for `time` after a time to warm up, and then until every operation has ended.
    pub(super) async fn run(mut self, pace: Pace, time: Duration, seed: u64) -> Outcome {
        let warm = if pace.is_once() { Duration::ZERO } else { (time / 5).min(WARM_UP) };
        let begin = Instant::now();
        let (from, end) = (begin + warm, begin + warm + time);
        let mut arrivals = match pace {
            Pace::Open(rate) => Some(Arrivals::new(seed, rate).map(|at| begin + at).peekable()),
            Pace::Closed(_) | Pace::Once(_) => None,
        };
        let mut marks: [Option<(Instant, Cpu)>; 2] = [None, None];
        self.window = Some((from, end));
        loop {
            let more = self.look();
            let now = Instant::now();
            for (mark, at) in marks.iter_mut().zip([from, end]) {
                if mark.is_none() && (now >= at || self.is_over(pace)) {
                    *mark = Some((now, Cpu::now(self.server)));
                }
            }
            let running = now < end && !self.is_over(pace);
            if !running && (self.open.is_empty() || now >= end + GIVE_UP) {
                break;
            }
            let mut wake = if now < from { from } else { end.max(now + Duration::from_millis(50)) };
            match (&mut arrivals, pace) {
                (Some(arrivals), _) => {
                    while let Some(due) = arrivals.next_if(|due| *due <= now && *due < end) {
                        self.begin(due);
                    }
                    wake = arrivals.peek().map_or(wake, |due| wake.min(*due));
                }
                (None, Pace::Closed(window) | Pace::Once(window)) if running => {
                    while self.open.len() < window && !self.is_over(pace) {
                        if !self.begin(now) {
                            break;
                        }
                    }
                }
                _ => {}
            }
            if !more {
                self.pool.wait(wake).await;
            }
        }
        if let [Some((began, before)), Some((ended, after))] = marks {
            self.outcome.measured = ended - began;
            self.outcome.cpu = after.since(before);
        }
        self.outcome.failed += self.open.len() as u64;
        self.outcome
    }

    /// Takes what has happened.
    fn look(&mut self) -> bool {
        let more = self.pool.turn();
        while let Some((device, event)) = self.pool.take() {
            match event {
                AgentEvent::Registered { .. } => self.registered(device, true),
                AgentEvent::RegisterFailed { .. } => self.registered(device, false),
                AgentEvent::Sent { message, status } => {
                    self.sent(device, message.number, status < 300);
                }
                AgentEvent::SendFailed { message, .. } => self.sent(device, message.number, false),
                AgentEvent::Received(message) => {
                    if let Some(operation) = operation_of(message.text.as_deref()) {
                        self.arrived(operation);
                    }
                }
                _ => {}
            }
        }
        more
    }

    /// Whether each caller has had its turn, where each has only one.
    fn is_over(&self, pace: Pace) -> bool {
        pace.is_once() && self.operation >= self.callers.len() as u64
    }

    /// Begins one operation that was due at `due`; false if no caller is free.
    fn begin(&mut self, due: Instant) -> bool {
        if self.open.len() >= OPEN_MAX {
            self.outcome.failed += 1;
            return false;
        }
        let messages = matches!(self.work, Work::Message { .. });
        let mut free = None;
        for _ in 0..self.callers.len().min(1000) {
            let device = self.callers[self.next % self.callers.len()];
            self.next += 1;
            if messages || !self.by_device.contains_key(&device) {
                free = Some(device);
                break;
            }
        }
        let Some(device) = free else { return false };
        self.operation += 1;
        let operation = self.operation;
        let mut left = 0;
        match self.work {
            Work::Challenged => {
                self.by_device.insert(device, operation);
                self.pool.with(device, |agent, now| {
                    agent.restart();
                    agent.register(now);
                });
            }
            Work::Refresh => {
                self.by_device.insert(device, operation);
                self.pool.with(device, Agent::register);
            }
            Work::Message { to, devices } => {
                left = *devices;
                let text = format!("operation {operation:<width$}", width = TEXT_OCTETS - 10);
                #[expect(clippy::cast_possible_truncation, reason = "a remainder of a length")]
                let to = &to[(operation % to.len() as u64) as usize];
                let sent = self.pool.with(device, |agent, now| agent.send_text(now, to, &text));
                self.by_message.insert((device, sent.number), operation);
            }
        }
        self.open.insert(operation, Open { due, answered: false, left });
        true
    }

    fn registered(&mut self, device: Device, good: bool) {
        if let Some(operation) = self.by_device.remove(&device) {
            self.answered(operation, good);
        }
    }

    fn sent(&mut self, device: Device, number: u64, good: bool) {
        if let Some(operation) = self.by_message.remove(&(device, number)) {
            self.answered(operation, good);
        }
    }

    fn answered(&mut self, operation: u64, good: bool) {
        let Some(open) = self.open.get_mut(&operation) else { return };
        if !good {
            self.open.remove(&operation);
            self.outcome.failed += 1;
            return;
        }
        open.answered = true;
        let due = open.due;
        if self.is_measured(due) {
            self.outcome.answered.add(due.elapsed());
        }
        self.settle(operation);
    }

    fn arrived(&mut self, operation: u64) {
        let Some(open) = self.open.get_mut(&operation) else { return };
        open.left = open.left.saturating_sub(1);
        if open.left == 0 {
            let due = open.due;
            if self.is_measured(due) {
                self.outcome.delivered.add(due.elapsed());
            }
            self.settle(operation);
        }
    }

    /// Ends an operation of which nothing is missing.
    fn settle(&mut self, operation: u64) {
        if self.open.get(&operation).is_some_and(|open| open.answered && open.left == 0) {
            self.open.remove(&operation);
            self.outcome.done += 1;
            self.outcome.counted += u64::from(self.is_measured(Instant::now()));
        }
    }

    fn is_measured(&self, at: Instant) -> bool {
        self.window.is_some_and(|(from, to)| (from..to).contains(&at))
    }
}

impl Pace {
    fn is_once(self) -> bool {
        matches!(self, Pace::Once(_))
    }
}

const WARM_UP: Duration = Duration::from_secs(2);

/// The number that [`Load::begin`] wrote into a text.
fn operation_of(text: Option<&str>) -> Option<u64> {
    text?.strip_prefix("operation ")?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_carry_the_number() {
        assert_eq!(operation_of(Some("operation 42      ")), Some(42));
        for other in [None, Some(""), Some("operation x"), Some("hello")] {
            assert_eq!(operation_of(other), None);
        }
    }
}
