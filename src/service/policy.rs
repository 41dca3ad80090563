//! May they: the pace of an account. Other rights join this chain as they come.

use std::time::Duration;

use crate::base::now::Mono;
use crate::service::tu::Refusal;
use crate::syntax::sip::Name;

/// A token bucket: so many a second in the long run, so many at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    /// Thousandths of a token that are missing from a full bucket.
    missing: u64,
    at: Mono,
}

impl Bucket {
    /// Takes one token, or says how long until there is one.
    ///
    /// # Errors
    /// The time until the next token.
    pub fn take(&mut self, now: Mono, per_second: u32, burst: u32) -> Result<(), Duration> {
        let passed = now.since(self.at).as_millis().min(u128::from(u32::MAX));
        #[expect(clippy::cast_possible_truncation, reason = "bounded by u32::MAX milliseconds")]
        let refilled = passed as u64 * u64::from(per_second);
        self.missing = self.missing.saturating_sub(refilled);
        self.at = now;
        if self.missing + 1000 > u64::from(burst) * 1000 {
            let short = self.missing + 1000 - u64::from(burst) * 1000;
            return Err(Duration::from_millis(short.div_ceil(u64::from(per_second.max(1)))));
        }
        self.missing += 1000;
        Ok(())
    }
}

/// Too many at once; how long to wait stands in Retry-After.
#[must_use]
pub fn too_fast(wait: Duration) -> Refusal {
    let seconds = wait.as_secs() + 1;
    Refusal::of(480, "Sending too fast").with(Name::RetryAfter, seconds.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_pace() {
        let mut bucket = Bucket::default();
        let now = Mono(0);
        for _ in 0..50 {
            assert_eq!(bucket.take(now, 10, 50), Ok(()));
        }
        assert_eq!(bucket.take(now, 10, 50), Err(Duration::from_millis(100)));
        let later = now.after(Duration::from_millis(100));
        assert_eq!(bucket.take(later, 10, 50), Ok(()));
        assert!(bucket.take(later, 10, 50).is_err());
    }
}
