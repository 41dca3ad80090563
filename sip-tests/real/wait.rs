//! The one place that looks at a clock and waits: what is driven here are other processes, which
//! can only be watched from outside.

#![expect(clippy::disallowed_methods, reason = "the processes under test run in real time")]

use std::time::{Duration, Instant};

/// How long anything that should happen soon may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// How long a phone may take to find out by itself that it must register or send again.
pub const PATIENT: Duration = Duration::from_secs(75);

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks until there is something to see.
///
/// # Errors
/// What the look itself says, or that `what` did not come in time.
pub fn until<T>(
    what: &str,
    at_most: Duration,
    mut look: impl FnMut() -> Result<Option<T>, String>,
) -> Result<T, String> {
    let begin = Instant::now();
    loop {
        if let Some(seen) = look()? {
            return Ok(seen);
        }
        if begin.elapsed() > at_most {
            return Err(format!("{what}: not within {} s", at_most.as_secs()));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Measures how long something takes.
pub struct Watch(Instant);

impl Watch {
    /// Starts now.
    pub fn start() -> Watch {
        Watch(Instant::now())
    }

    /// Milliseconds since the start.
    pub fn ms(&self) -> u128 {
        self.0.elapsed().as_millis()
    }
}
