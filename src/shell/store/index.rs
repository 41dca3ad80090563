//! Where each user's batches are: kept in memory, built when the log is read, added to by commits.
//!
//! 16 octets for each value in which a user has batches, and about as much again for room to grow
//! in users who write; some 250 octets for each user.

use std::collections::HashMap;
use std::sync::Arc;

use smallvec::{SmallVec, smallvec};

use super::{Tally, follows};
use crate::base::log::Position;

/// All users' places.
#[derive(Default)]
pub(super) struct Index {
    users: HashMap<Arc<str>, Box<Lives>>,
    /// The last number that is taken.
    pub(super) number: u64,
    /// What the log holds.
    pub(super) tally: Tally,
}

/// The epochs of a user, nearly always one. Boxed, because a table that grows is copied, and has
/// room for more than it holds.
type Lives = SmallVec<[Life; 1]>;

/// One epoch of a user.
struct Life {
    epoch: u32,
    /// Number of the last record.
    last: u64,
    /// By number of the first record of the user in a value: (that, number of the value).
    places: SmallVec<[(u64, u64); 1]>,
}

/// Consecutive records of a user in one value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    /// Number of the value.
    pub(super) number: u64,
    /// The first record.
    pub(super) first: Position,
    /// Number of the last record.
    pub(super) last: u64,
}

impl Index {
    /// The last record of `user`.
    pub(super) fn head(&self, user: &str) -> Option<Position> {
        self.users.get(user).and_then(|lives| head(lives))
    }

    /// Adds a batch to the value whose number `place` gives, if it follows the last one of its
    /// user; `false`, and `place` is not asked, if it does not.
    pub(super) fn take(
        &mut self,
        user: impl AsRef<str> + Into<Arc<str>>,
        first: Position,
        count: u32,
        place: impl FnOnce() -> u64,
    ) -> bool {
        let lives = match self.users.get_mut(user.as_ref()) {
            Some(lives) => lives,
            None if follows(None, first) => self.users.entry(user.into()).or_default(),
            None => return false,
        };
        if !follows(head(lives), first) {
            return false;
        }
        let number = place();
        let last = first.seq.saturating_add(u64::from(count)).saturating_sub(1);
        match lives.last_mut().filter(|life| life.epoch == first.epoch) {
            Some(life) => {
                life.last = last;
                if life.places.last().is_none_or(|(_, there)| *there != number) {
                    life.places.push((first.seq, number));
                }
            }
            None => {
                let places = smallvec![(first.seq, number)];
                lives.push(Life { epoch: first.epoch, last, places });
            }
        }
        self.number = number;
        self.tally.batches += 1;
        self.tally.records += u64::from(count);
        true
    }

    /// The places of `user` in order, from the one that holds `from` or else the next one on.
    pub(super) fn stretches(&self, user: &str, from: Position) -> impl Iterator<Item = Stretch> {
        let lives = self.users.get(user).map_or(&[][..], |lives| lives.as_slice());
        let start = lives.partition_point(|life| (life.epoch, life.last) < (from.epoch, from.seq));
        lives.get(start..).unwrap_or_default().iter().flat_map(move |life| {
            let start = match life.epoch == from.epoch {
                true => life.places.partition_point(|(seq, _)| *seq <= from.seq).saturating_sub(1),
                false => 0,
            };
            let places = life.places.get(start..).unwrap_or_default();
            let ends = places.iter().skip(1).map(|(seq, _)| seq.saturating_sub(1));
            places.iter().zip(ends.chain([life.last])).map(|(&(seq, number), last)| {
                let first = Position { epoch: life.epoch, seq };
                Stretch { number, first, last }
            })
        })
    }
}

fn head(lives: &[Life]) -> Option<Position> {
    lives.last().map(|life| Position { epoch: life.epoch, seq: life.last })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_taken() {
        let at = |epoch, seq| Position { epoch, seq };
        let mut index = Index::default();
        let mut take = |first, count, number| index.take("u", first, count, || number);
        assert!(!take(at(1, 2), 1, 1), "starts at 1");
        assert!(take(at(1, 1), 3, 1) && take(at(1, 4), 2, 1), "two batches in one value");
        assert!(!take(at(1, 5), 1, 2) && !take(at(1, 7), 1, 2) && !take(at(2, 2), 1, 2));
        assert!(take(at(1, 6), 1, 4) && take(at(3, 1), 1, 4) && take(at(3, 2), 1, 9));
        assert!(!take(at(2, 1), 1, 9), "epochs go up");
        assert_eq!((index.head("u"), index.head("v")), (Some(at(3, 2)), None));
        assert_eq!((index.number, index.tally), (9, Tally { batches: 5, records: 8 }));

        let found = |from| -> Vec<(u64, Position, u64)> {
            index.stretches("u", from).map(|s| (s.number, s.first, s.last)).collect()
        };
        let all = [(1, at(1, 1), 5), (4, at(1, 6), 6), (4, at(3, 1), 1), (9, at(3, 2), 2)];
        assert_eq!(found(at(0, 7)), all);
        assert_eq!(found(at(1, 5)), all);
        assert_eq!(found(at(1, 6)), all[1..]);
        assert_eq!(found(at(1, 7)), all[2..]);
        assert_eq!(found(at(2, 1)), all[2..]);
        assert_eq!(found(at(3, 2)), all[3..]);
        assert_eq!(found(at(3, 3)), []);
        assert_eq!(index.stretches("v", at(1, 1)).count(), 0);
    }
}
