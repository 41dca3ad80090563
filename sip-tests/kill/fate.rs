//! How the lives of the server end.

use std::time::{Duration, Instant};

use super::catalogue::Dice;

/// The named points (src/shell/crash.rs), each as often as it comes in eight named deaths, and up
/// to which passage.
const POINTS: &[(&str, usize, u64)] = &[
    // A group of batches is on disk, and nobody was told.
    ("stored", 2, 150),
    // A sender has its 2xx, and no device has the message.
    ("answered-not-sent", 2, 40),
    // A device's 200 has come in, and nothing of it is recorded.
    ("device-answered", 2, 120),
    // A file of content has its name, and no record mentions it.
    ("blob-renamed", 1, 3),
    // A part of the log is read.
    ("replay", 1, 0),
];
/// A point that was not reached by then is given up, and the server killed.
const POINT_WAIT: Duration = Duration::from_secs(4);

/// How one life ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It is not killed.
    Lives,
    /// SIGKILL so long after it was started, ready or not.
    Starting(Duration),
    /// SIGKILL so long after it was ready.
    Later(Duration),
    /// By itself, when it passes this point for the nth time.
    Point(&'static str, u64),
}

/// The fates of a run, one after the other: every other one is a named point, in a new order for
/// each eight.
pub struct Fates {
    dice: Dice,
    drawn: u64,
    points: Vec<(&'static str, u64)>,
}

impl Fates {
    /// Those of this seed.
    pub fn new(seed: u64) -> Fates {
        Fates { dice: Dice::new(seed, 2), drawn: 0, points: Vec::new() }
    }

    /// The next one; `batches` is about how many the log holds.
    pub fn draw(&mut self, batches: u64) -> Fate {
        self.drawn += 1;
        let dice = &mut self.dice;
        if self.drawn.is_multiple_of(2) {
            return match dice.below(100) {
                0..16 => Fate::Starting(Duration::from_millis(dice.below(120))),
                _ => Fate::Later(Duration::from_millis(dice.between(2, 1500))),
            };
        }
        if self.points.is_empty() {
            let each = POINTS.iter().flat_map(|p| std::iter::repeat_n((p.0, p.2), p.1));
            self.points = each.collect();
        }
        let at = dice.below(self.points.len() as u64) as usize;
        let (name, most) = self.points.swap_remove(at);
        let most = if most == 0 { batches.max(1) } else { most };
        Fate::Point(name, dice.between(1, most + 1))
    }
}

impl Fate {
    /// What the server is told.
    pub fn arm(&self) -> Option<(&'static str, u64)> {
        match self {
            Fate::Point(name, nth) => Some((name, *nth)),
            _ => None,
        }
    }

    /// When it is killed from outside, if it still lives.
    pub fn kill_at(&self, spawned: Instant, ready: Option<Instant>) -> Option<Instant> {
        match self {
            Fate::Lives => None,
            Fate::Starting(after) => Some(spawned + *after),
            Fate::Later(after) => Some(ready? + *after),
            Fate::Point("replay", _) => Some(ready? + Duration::from_millis(200)),
            Fate::Point(..) => Some(ready? + POINT_WAIT),
        }
    }

    /// Under which name the kill is counted. `by_itself`: the server has reached its point.
    pub fn name(&self, by_itself: bool) -> &'static str {
        match self {
            Fate::Lives => "at rest",
            Fate::Starting(_) => "while starting",
            Fate::Point(name, _) if by_itself => name,
            Fate::Later(_) | Fate::Point(..) => "at random",
        }
    }
}
