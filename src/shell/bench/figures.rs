//! The arithmetic of a measurement: percentiles, and a schedule of arrivals.

use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Times that were taken.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Latencies {
    /// Microseconds.
    taken: Vec<u32>,
}

impl Latencies {
    /// One more.
    pub(super) fn add(&mut self, time: Duration) {
        self.taken.push(u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
    }

    /// How many.
    pub(super) fn len(&self) -> usize {
        self.taken.len()
    }

    /// For each of `per_mille` the smallest time that so many thousandths do not exceed, in
    /// milliseconds; 0 where nothing was taken.
    pub(super) fn percentiles<const N: usize>(mut self, per_mille: [usize; N]) -> [f64; N] {
        self.taken.sort_unstable();
        per_mille.map(|p| {
            let rank = (self.taken.len() * p).div_ceil(1000);
            let micros = self.taken.get(rank.saturating_sub(1)).copied().unwrap_or(0);
            f64::from(micros) / 1000.0
        })
    }
}

/// When operations begin that come independently of each other, `rate` per second on average
/// (a Poisson process): the same for the same seed, without end.
pub(super) struct Arrivals {
    rng: ChaCha12Rng,
    rate: f64,
    at: f64,
}

impl Arrivals {
    pub(super) fn new(seed: u64, rate: f64) -> Arrivals {
        Arrivals { rng: ChaCha12Rng::seed_from_u64(seed), rate: rate.max(0.001), at: 0.0 }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        // 53 bits, never zero: its logarithm is finite.
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let uniform = ((self.rng.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
        self.at -= uniform.ln() / self.rate;
        Some(Duration::from_secs_f64(self.at))
    }
}

/// `part / whole`, and 0 of nothing.
pub(super) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// A count as a number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark stay far below 2^53")]
pub(super) fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_taken() {
        let mut latencies = Latencies::default();
        for micros in (1..=1000).rev() {
            latencies.add(Duration::from_micros(micros * 1000));
        }
        assert_eq!(latencies.len(), 1000);
        assert_eq!(latencies.percentiles([0, 500, 990, 1000]), [1.0, 500.0, 990.0, 1000.0]);
        let mut one = Latencies::default();
        one.add(Duration::from_micros(1500));
        assert_eq!(one.percentiles([1, 500, 999]), [1.5; 3]);
        assert_eq!(Latencies::default().percentiles([500]), [0.0]);
    }

    #[test]
    fn arrivals_repeat_with_their_seed_and_keep_the_rate() {
        let take = |seed| Arrivals::new(seed, 1000.0).take(10_000).collect::<Vec<_>>();
        let (one, two, other) = (take(1), take(1), take(2));
        assert_eq!(one, two);
        assert_ne!(one, other);
        assert!(one.is_sorted());
        let last = one[9_999].as_secs_f64();
        assert!((9.5..10.5).contains(&last), "10,000 arrivals took {last} s");
        // Independent arrivals: as many gaps above the mean as e^-1 says.
        let long = one.windows(2).filter(|w| w[1] - w[0] > Duration::from_millis(1)).count();
        assert!((3_400..3_950).contains(&long), "{long}");
    }
}
