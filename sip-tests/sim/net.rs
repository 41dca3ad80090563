//! Wires as rules: delay, loss, repeats, overtaking, cut, held. One wire per device.

use bytes::Bytes;

use super::Dice;

/// Which way something goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// From the device to the server.
    Up,
    /// From the server to the device.
    Down,
}

/// What a wire does to each datagram; chances are per mille.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    /// Least and greatest delay, in milliseconds.
    pub delay: (u64, u64),
    /// Lost.
    pub drop: u64,
    /// Delivered twice.
    pub duplicate: u64,
    /// Held back so long that later ones overtake it.
    pub reorder: u64,
}

impl Default for Rule {
    fn default() -> Self {
        Rule { delay: (10, 10), drop: 0, duplicate: 0, reorder: 0 }
    }
}

/// The wire between one device and the server.
#[derive(Debug, Default)]
pub struct Wire {
    /// Towards the server.
    pub up: Rule,
    /// Towards the device.
    pub down: Rule,
    /// Nothing passes, connections break.
    pub is_cut: bool,
    /// Datagrams wait until the wire is released.
    pub is_held: bool,
    /// Streams are cut into pieces at random places.
    pub crumbles: bool,
    kept: Vec<(Way, Bytes)>,
    losing: Vec<(Way, String, u32)>,
}

/// What becomes of one datagram.
pub enum Fate {
    /// It arrives after each of these delays, in microseconds; never, if there are none.
    Arrives(Vec<u64>),
    /// It waits for the release of the wire.
    Kept,
}

impl Wire {
    /// The next `count` messages whose start line holds `what` are lost.
    pub fn loses(&mut self, way: Way, what: &str, count: u32) {
        self.losing.push((way, what.to_owned(), count));
    }

    /// Decides about one datagram.
    pub fn fate(&mut self, dice: &mut Dice, way: Way, octets: &Bytes) -> Fate {
        if self.is_cut || self.is_doomed(way, octets) {
            return Fate::Arrives(Vec::new());
        }
        if self.is_held {
            self.kept.push((way, octets.clone()));
            return Fate::Kept;
        }
        let rule = self.rule(way);
        if dice.chance(rule.drop) {
            return Fate::Arrives(Vec::new());
        }
        let mut delays = vec![self.delay(dice, way)];
        if dice.chance(rule.duplicate) {
            delays.push(self.delay(dice, way) + dice.between(0, 50_000));
        }
        if dice.chance(rule.reorder) {
            delays[0] += dice.between(1, 500_000);
        }
        Fate::Arrives(delays)
    }

    /// How long something takes on this wire, in microseconds.
    pub fn delay(&self, dice: &mut Dice, way: Way) -> u64 {
        let (least, most) = self.rule(way).delay;
        dice.between(least * 1000, most * 1000)
    }

    /// Lets everything pass again; what was held goes on in order.
    pub fn release(&mut self) -> Vec<(Way, Bytes)> {
        self.is_held = false;
        std::mem::take(&mut self.kept)
    }

    fn rule(&self, way: Way) -> Rule {
        if way == Way::Up { self.up } else { self.down }
    }

    fn is_doomed(&mut self, way: Way, octets: &Bytes) -> bool {
        let line = octets.split(|o| *o == b'\r').next().unwrap_or_default();
        let line = String::from_utf8_lossy(line);
        let doomed = |(w, what, left): &&mut (Way, String, u32)| {
            *w == way && *left > 0 && line.contains(what.as_str())
        };
        match self.losing.iter_mut().find(doomed) {
            Some((_, _, left)) => {
                *left -= 1;
                true
            }
            None => false,
        }
    }
}
