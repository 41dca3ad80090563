//! Who was promised what, and who got it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cpmd::syntax::imdn::Disposition;

use super::catalogue::{self, Made, Shape, Shown};
use super::device::Showing;

/// The account that sends.
pub const BOB: &str = "sip:bob@b.example";
/// The account that receives.
pub const ALICE: &str = "sip:alice@a.example";
/// What is remembered of each kind of failure.
const NAMED_FAILURES: usize = 20;

/// What is not as it was promised: how often, and the first ones in words.
#[derive(Default)]
pub struct Faults {
    /// How often.
    pub count: u64,
    /// The first ones.
    pub first: Vec<String>,
}

impl Faults {
    /// One more.
    pub fn add(&mut self, what: String) {
        self.count += 1;
        if self.first.len() < NAMED_FAILURES {
            self.first.push(what);
        }
    }
}

/// One message.
pub struct Sent {
    /// The device that sends it.
    pub device: usize,
    /// What it is.
    pub shape: Shape,
    /// Its sender has a 2xx.
    pub acknowledged: bool,
    /// Devices that have it, one bit each.
    got: u32,
    /// Devices that have the receipt for it.
    receipts: u32,
}

/// Everything that was sent.
pub struct Ledger {
    seed: u64,
    /// By number.
    pub sent: Vec<Sent>,
    /// Names of all devices.
    pub names: Vec<&'static str>,
    /// Devices of Alice.
    pub alice: u32,
    /// CPM devices of Bob.
    pub bob_cpm: u32,
    /// Plain devices.
    pub plain: u32,
    /// Devices that take large requests.
    pub tcp: u32,
    /// What was acknowledged and is owed still: messages and devices.
    pub missing: u64,
    /// Receipts that are owed still.
    pub receipts_missing: u64,
    /// Messages with a 2xx.
    pub acknowledged: u64,
    /// Messages that a device has.
    pub delivered: u64,
    /// What came in another form than it may, or with other octets.
    pub altered: Faults,
    /// What a CPM device has shown twice.
    pub doubled: Faults,
    /// Copies that came to the device that had sent the message.
    pub own_copies: u64,
    /// Legs that a plain phone has answered: how often in which life.
    legs: BTreeMap<String, Vec<(u32, u32)>>,
    /// Legs by plain device and message.
    leg_of: BTreeMap<(usize, usize), BTreeSet<String>>,
}

impl Ledger {
    /// Nothing sent yet.
    pub fn new(seed: u64) -> Ledger {
        Ledger {
            seed,
            sent: Vec::new(),
            names: Vec::new(),
            alice: 0,
            bob_cpm: 0,
            plain: 0,
            tcp: 0,
            missing: 0,
            receipts_missing: 0,
            acknowledged: 0,
            delivered: 0,
            altered: Faults::default(),
            doubled: Faults::default(),
            own_copies: 0,
            legs: BTreeMap::new(),
            leg_of: BTreeMap::new(),
        }
    }

    /// A new message of `device`; its number.
    pub fn send(&mut self, device: usize, shape: Shape) -> usize {
        self.sent.push(Sent { device, shape, acknowledged: false, got: 0, receipts: 0 });
        self.sent.len() - 1
    }

    /// What message `n` is.
    pub fn made(&self, n: usize) -> Option<Made> {
        let sent = self.sent.get(n)?;
        Some(catalogue::make(self.seed, n, sent.shape, BOB, ALICE))
    }

    /// The devices that message `n` is owed to.
    pub fn owed(&self, n: usize) -> u32 {
        self.alice | self.bob_cpm & !(1 << self.sent[n].device)
    }

    /// The devices that are owed a receipt for message `n`.
    fn receipts_owed(&self, n: usize) -> u32 {
        if matches!(self.sent[n].shape, Shape::Cpim(_, true)) { self.bob_cpm } else { 0 }
    }

    /// The sender of message `n` has a 2xx.
    pub fn acknowledge(&mut self, n: usize) {
        let (owed, receipts) = (self.owed(n), self.receipts_owed(n));
        let sent = &mut self.sent[n];
        if !std::mem::replace(&mut sent.acknowledged, true) {
            self.acknowledged += 1;
            self.missing += u64::from((owed & !sent.got).count_ones());
            self.receipts_missing += u64::from((receipts & !sent.receipts).count_ones());
        }
    }

    /// A CPM device shows a message (or a copy of one) for the first time, as it thinks.
    pub fn shown(&mut self, device: usize, content_type: &str, body: &Bytes) {
        let Some(n) = self.recognised(device, content_type, body) else { return };
        if self.sent[n].device == device {
            self.own_copies += 1;
            return;
        }
        if !self.got(device, n) {
            self.doubled.add(format!("{} has shown message {n} twice", self.names[device]));
        }
    }

    /// A plain phone answered a MESSAGE with 2xx: it shows it, whether it has shown it or not.
    pub fn answered(&mut self, device: usize, life: u32, showing: &Showing) {
        let Some(n) = self.recognised(device, &showing.content_type, &showing.body) else { return };
        self.got(device, n);
        self.leg_of.entry((device, n)).or_default().insert(showing.call_id.clone());
        self.legs.entry(showing.call_id.clone()).or_default().push((life, showing.cseq));
    }

    /// A receipt came.
    pub fn receipt(&mut self, device: usize, message_id: &str, what: Disposition) {
        let Some(n) = catalogue::number(message_id).filter(|n| *n < self.sent.len()) else {
            let name = self.names[device];
            return self.altered.add(format!("{name} got a receipt for {message_id}"));
        };
        let owed = self.receipts_owed(n) >> device & 1;
        let sent = &mut self.sent[n];
        if what != Disposition::Delivered || owed == 0 {
            let name = self.names[device];
            return self.altered.add(format!("{name} got a receipt {what:?} for message {n}"));
        }
        if sent.receipts >> device & 1 == 0 {
            sent.receipts |= 1 << device;
            self.receipts_missing -= u64::from(sent.acknowledged);
        }
    }

    /// What an acknowledged message still lacks, in words.
    pub fn lacking(&self) -> Faults {
        let mut out = Faults::default();
        for (n, sent) in self.sent.iter().enumerate().filter(|(_, s)| s.acknowledged) {
            for device in bits(self.owed(n) & !sent.got) {
                out.add(format!("{} lacks message {n}: {:?}", self.names[device], sent.shape));
            }
        }
        out
    }

    /// Receipts that did not come, in words.
    pub fn unreceipted(&self) -> Faults {
        let mut out = Faults::default();
        for (n, sent) in self.sent.iter().enumerate().filter(|(_, s)| s.acknowledged) {
            for device in bits(self.receipts_owed(n) & !sent.receipts) {
                out.add(format!("{} lacks the receipt for message {n}", self.names[device]));
            }
        }
        out
    }

    /// What plain phones have shown twice: how much of it the server had named, repeats inside one
    /// life of the server (retransmissions), and what nobody named.
    pub fn plain_repeats(&self, named: &BTreeSet<String>) -> (u64, u64, Faults) {
        let (mut foretold, mut again, mut unnamed) = (0, 0, Faults::default());
        for (leg, answers) in &self.legs {
            let more = answers.len() as u64 - 1;
            if more == 0 {
            } else if named.contains(leg) {
                foretold += more;
            } else if answers.iter().all(|a| *a == answers[0]) {
                again += more;
            } else {
                unnamed.add(format!("leg {leg} was answered in (life, CSeq) {answers:?}"));
            }
        }
        for ((device, n), legs) in &self.leg_of {
            if legs.len() > 1 {
                let name = self.names[*device];
                unnamed.add(format!("{name} got message {n} on several legs: {legs:?}"));
            }
        }
        (foretold, again, unnamed)
    }

    /// Notes that a device has a message; false if it had it before.
    fn got(&mut self, device: usize, n: usize) -> bool {
        let owed = self.owed(n) >> device & 1 == 1;
        let sent = &mut self.sent[n];
        if sent.got >> device & 1 == 1 {
            return false;
        }
        sent.got |= 1 << device;
        self.delivered += 1;
        self.missing -= u64::from(owed && sent.acknowledged);
        true
    }

    fn recognised(&mut self, device: usize, content_type: &str, body: &Bytes) -> Option<usize> {
        let name = self.names[device];
        match catalogue::recognise(content_type, body, &|n| self.made(n)) {
            Ok((n, Shown::Line)) if !self.may_be_a_line(device, n) => {
                self.altered.add(format!("{name} got message {n} as a line"));
                Some(n)
            }
            Ok((n, _)) => Some(n),
            Err(why) => {
                self.altered.add(format!("{name}: {why}"));
                None
            }
        }
    }

    /// Large content does not go over UDP, and octets not to a phone that takes text alone.
    fn may_be_a_line(&self, device: usize, n: usize) -> bool {
        let (len, octets) = match self.sent[n].shape {
            Shape::Text(len) | Shape::Cpim(len, _) => (len, false),
            Shape::Octets(len) => (len, true),
        };
        let plain = self.plain >> device & 1 == 1;
        let tcp = self.tcp >> device & 1 == 1;
        (len > 500 && !tcp) || (plain && octets)
    }
}

fn bits(mask: u32) -> impl Iterator<Item = usize> {
    (0..32).filter(move |bit| mask >> bit & 1 == 1)
}
