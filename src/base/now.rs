//! Time as an argument: monotonic for protocol timers, wall clock for what outlives the process.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

/// Microseconds on the process's monotonic clock. RFC timers run on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mono(pub u64);

/// Milliseconds since 1970 (UTC). Expiries that outlive the process are kept in it.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Unix(pub u64);

/// The moment at which an input is handled; the first argument of every handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic, for timers and leases inside the process.
    pub mono: Mono,
    /// Wall clock, for what is written to the log.
    pub unix: Unix,
}

impl Mono {
    /// This moment plus `d`, saturating.
    #[must_use]
    pub fn after(self, d: Duration) -> Mono {
        Mono(self.0.saturating_add(u64::try_from(d.as_micros()).unwrap_or(u64::MAX)))
    }

    /// Time since `earlier`, zero if that lies in the future.
    #[must_use]
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Unix {
    /// This moment plus `d`, saturating.
    #[must_use]
    pub fn after(self, d: Duration) -> Unix {
        Unix(self.0.saturating_add(u64::try_from(d.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Time until `later`, zero if that is past.
    #[must_use]
    pub fn until(self, later: Unix) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0 / 1000
    }
}

/// What is due when: one moment per key, ordered, with the key as the reason of the wake-up.
#[derive(Debug)]
pub struct Deadlines<K> {
    order: BTreeSet<(Mono, K)>,
    of: HashMap<K, Mono>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Deadlines { order: BTreeSet::new(), of: HashMap::new() }
    }
}

impl<K: Ord + Hash + Clone> Deadlines<K> {
    /// Sets the moment of `key`, replacing an earlier one.
    pub fn set(&mut self, key: K, at: Mono) {
        if let Some(old) = self.of.insert(key.clone(), at) {
            if old == at {
                return;
            }
            self.order.remove(&(old, key.clone()));
        }
        self.order.insert((at, key));
    }

    /// Forgets `key`.
    pub fn stop(&mut self, key: &K) {
        if let Some(at) = self.of.remove(key) {
            self.order.remove(&(at, key.clone()));
        }
    }

    /// The earliest moment and what it is for.
    #[must_use]
    pub fn next(&self) -> Option<(Mono, &K)> {
        self.order.first().map(|(at, key)| (*at, key))
    }

    /// Takes one key that is due at `now`, earliest first.
    pub fn pop_due(&mut self, now: Mono) -> Option<K> {
        if self.order.first()?.0 > now {
            return None;
        }
        let (_, key) = self.order.pop_first()?;
        self.of.remove(&key);
        Some(key)
    }

    /// How many keys wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_moment_and_the_earliest_comes_first() {
        let mut d = Deadlines::default();
        d.set("B", Mono(20));
        d.set("A", Mono(30));
        d.set("A", Mono(10));
        assert_eq!(d.next(), Some((Mono(10), &"A")));
        assert_eq!(d.pop_due(Mono(15)), Some("A"));
        assert_eq!(d.pop_due(Mono(15)), None);
        d.stop(&"B");
        assert!(d.is_empty());
    }
}
