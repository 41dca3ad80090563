//! Random names that we mint: tags, Message-IDs, secrets. They come from a CSPRNG whose seed is
//! drawn by the shell (or fixed by a test). The ids of our legs are in service/passage.rs; they
//! carry the partition of the user they serve.

use std::fmt;

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::hash::{Secret, fingerprint, hex, push_hex};

/// How many partitions there are; fixed for ever, because ids on the wire carry the number.
pub const PARTITIONS: u16 = 4096;

/// The share of the users that one user belongs to, `0..4096`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Partition(pub u16);

impl Partition {
    /// The partition of the user with this address of record.
    #[must_use]
    pub fn of(aor: &str) -> Partition {
        #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 4096")]
        Partition((fingerprint(&[aor.as_bytes()]) % u128::from(PARTITIONS)) as u16)
    }
}

/// Three hex digits, as they stand at the front of our ids.
impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03x}", self.0)
    }
}

/// The magic cookie that starts every branch (RFC 3261 §8.1.1.7).
pub const BRANCH_COOKIE: &str = "z9hG4bK";

/// The source of all random names.
#[derive(Debug)]
pub struct Ids {
    rng: ChaCha12Rng,
}

impl Ids {
    /// A source that starts from `seed`: 32 octets of entropy, or a fixed number in tests.
    #[must_use]
    pub fn new(seed: [u8; 32]) -> Ids {
        Ids { rng: ChaCha12Rng::from_seed(seed) }
    }

    /// 32 fresh octets, for a secret.
    pub fn secret(&mut self) -> Secret {
        let mut octets = [0; 32];
        self.rng.fill_bytes(&mut octets);
        Secret::new(octets)
    }

    /// 64 random bits.
    pub fn number(&mut self) -> u64 {
        self.rng.next_u64()
    }

    /// A From or To tag: 16 hex digits (RFC 3261 §19.3 asks for 32 bits of randomness).
    pub fn tag(&mut self) -> String {
        hex(&self.number().to_be_bytes())
    }

    /// A random UUID (RFC 9562 version 4): Message-ID, Conversation-ID, Contribution-ID.
    pub fn uuid(&mut self) -> String {
        let mut o = [0u8; 16];
        self.rng.fill_bytes(&mut o);
        o[6] = (o[6] & 0x0f) | 0x40;
        o[8] = (o[8] & 0x3f) | 0x80;
        let mut out = String::with_capacity(36);
        for (at, part) in [&o[..4], &o[4..6], &o[6..8], &o[8..10], &o[10..]].iter().enumerate() {
            if at > 0 {
                out.push('-');
            }
            push_hex(&mut out, part);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_gives_one_row_of_names() {
        let (mut a, mut b) = (Ids::new([1; 32]), Ids::new([1; 32]));
        assert_eq!(a.tag(), b.tag());
        assert_eq!(a.uuid().len(), 36);
        assert!(Partition::of("sip:alice@a.example").0 < PARTITIONS);
    }
}
