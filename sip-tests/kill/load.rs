//! What Bob's devices send: each has one message under way, and tries it until it is answered.

use std::time::{Duration, Instant};

use super::catalogue::Shape;
use super::fate::Fate;
use super::ledger::ALICE;
use super::rig::{AGAIN, BOBS, Rig};

impl Rig {
    pub(super) fn load(&mut self) {
        let instant = Instant::now();
        for at in BOBS {
            let out = &self.outgoing[at];
            let due = out.next.is_none_or(|next| next <= instant);
            if due && !out.asked && self.devices[at].can_send() {
                self.send(at);
            }
        }
    }

    /// Sends the message under way once more, or a new one.
    pub(super) fn send(&mut self, at: usize) {
        let shape = self.shape(at);
        let (n, tries) = match self.outgoing[at].under_way {
            Some((n, tries)) => (n, tries + 1),
            None => (self.ledger.send(at, shape), 1),
        };
        let Some(made) = self.ledger.made(n) else { return };
        // A plain message is known again by its Call-ID, a CPIM message by the id inside.
        let call_id = match self.ledger.sent[n].shape {
            Shape::Cpim(..) => format!("{}-{tries}@bob", made.message_id),
            _ => made.message_id,
        };
        let now = self.now();
        let device = &mut self.devices[at];
        let sent = device.agent.send_as(now, &call_id, ALICE, made.content_type, made.body, &[]);
        let out = &mut self.outgoing[at];
        (out.under_way, out.number, out.asked) = (Some((n, tries)), sent.number, true);
        let noticed = device.flush(now);
        self.noticed(at, noticed);
    }

    pub(super) fn shape(&mut self, at: usize) -> Shape {
        let dice = &mut self.dice;
        let kind = dice.below(100);
        if self.devices[at].is_tcp() {
            let blobs = if matches!(self.fate, Fate::Point("blob-renamed", _)) { 50 } else { 4 };
            if dice.percent(blobs) {
                let len = dice.between(62_000, 100_000) as usize;
                return if kind < 50 { Shape::Octets(len) } else { Shape::Text(len) };
            }
            if dice.percent(5) {
                let len = dice.between(1500, 61_000) as usize;
                return if kind < 50 { Shape::Octets(len) } else { Shape::Text(len) };
            }
        }
        match kind {
            _ if !self.devices[at].is_cpm() => Shape::Text(dice.between(20, 350) as usize),
            0..20 => Shape::Cpim(dice.between(20, 300) as usize, true),
            20..35 => Shape::Cpim(dice.between(20, 300) as usize, false),
            35..43 => Shape::Octets(dice.between(20, 250) as usize),
            _ => Shape::Text(dice.between(20, 350) as usize),
        }
    }

    pub(super) fn answered(&mut self, at: usize, number: u64, status: u16) {
        let out = &mut self.outgoing[at];
        if out.number != number {
            return;
        }
        out.asked = false;
        let Some((n, _)) = out.under_way else { return };
        let pause = 2 * 1000 * BOBS.len() as u64 / self.options.rate.max(1);
        let mut wait = Duration::from_millis(self.dice.below(pause));
        match status {
            200..300 => {
                out.under_way = None;
                self.ledger.acknowledge(n);
            }
            // No answer, a nonce of a life before the last, a store that is being opened again.
            401 | 408 | 503 => wait = AGAIN,
            _ => {
                let name = self.devices[at].name;
                self.claims.refused.add(format!("{name}: message {n} got {status}"));
                wait = AGAIN;
            }
        }
        self.outgoing[at].next = Some(Instant::now() + wait);
    }
}
