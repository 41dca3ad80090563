//! Random life from one seed: devices register, send, sleep and come back, wires lose, repeat and
//! reorder, the server is killed, the disk is slow and unsure. Then the faults stop, and what was
//! promised must be there.
//!
//! `SWARM_SEEDS=5000 cargo test swarm` runs more seeds, `SIM_SEED=n cargo test swarm` one.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cpmd::syntax::cpim::Wanted;
use cpmd::ua::{Answers, Kind};

use crate::sim::{Dev, Rule, World, mins, ms, secs};

/// Seeds that failed once; they are run for ever.
const KNOWN: &str = include_str!("../fixtures/seeds.txt");
/// How many seeds a run tries where nobody says otherwise.
const SEEDS: u64 = 200;
/// What happens in one life.
const DEEDS: u64 = 60;

#[test]
fn random_lives_keep_every_promise() {
    match number("SIM_SEED") {
        Some(seed) => live(seed),
        None => live_all(0),
    }
}

/// The other half, on another thread.
#[test]
fn other_random_lives_keep_every_promise() {
    if number("SIM_SEED").is_none() {
        live_all(1);
    }
}

fn live_all(half: u64) {
    let known = KNOWN.lines().filter_map(|line| line.split('#').next()?.trim().parse().ok());
    let fresh = 1..=number("SWARM_SEEDS").unwrap_or(SEEDS);
    let mut failed: Vec<u64> = Vec::new();
    for seed in known.chain(fresh).filter(|seed: &u64| seed % 2 == half) {
        if catch_unwind(AssertUnwindSafe(|| live(seed))).is_err() {
            eprintln!("SIM_SEED={seed} cargo test swarm");
            failed.push(seed);
        }
        if failed.len() >= 10 {
            break;
        }
    }
    assert!(failed.is_empty(), "seeds that failed, for fixtures/seeds.txt: {failed:?}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// One life.
fn live(seed: u64) {
    let mut life = Life::begin(seed);
    for deed in 0..DEEDS {
        life.deed(deed);
    }
    life.heal();
}

struct Life {
    w: World,
    devices: Vec<Dev>,
}

impl Life {
    fn begin(seed: u64) -> Life {
        let mut w = World::with(seed, |s| s.messages_burst = 1000);
        let names = ["alice/phone", "alice/tablet", "alice/laptop", "bob/pda", "bob/laptop"];
        let mut devices: Vec<Dev> = Vec::new();
        for name in names {
            let tcp = w.dice.chance(400);
            devices.push(if tcp { w.cpm_tcp(name) } else { w.cpm(name) });
        }
        devices.push(w.phone("bob/baresip"));
        devices.push(w.phone("carol/baresip"));
        // A phone that is known again, and takes neither CPIM nor much else.
        devices.push(w.device("carol/linphone", |c| {
            c.kind = Kind::Plain;
            c.accepts = vec!["text/plain".into()];
        }));
        for dev in &devices {
            let rule = Rule {
                delay: (1, w.dice.between(1, 200)),
                drop: w.dice.between(0, 200),
                duplicate: w.dice.between(0, 100),
                reorder: w.dice.between(0, 100),
            };
            let wire = &mut w.devices[dev.0].wire;
            (wire.up, wire.down, wire.crumbles) = (rule, rule, true);
        }
        w.disk.delay = (500, 20_000);
        w.disk.unknown = w.dice.between(0, 30);
        Life { w, devices }
    }

    fn any(&mut self) -> Dev {
        let at = self.w.dice.between(0, self.devices.len() as u64 - 1);
        self.devices[usize::try_from(at).expect("few devices")]
    }

    fn deed(&mut self, number: u64) {
        let dev = self.any();
        let w = &mut self.w;
        let on = w.devices[dev.0].is_on;
        match w.dice.between(0, 99) {
            0..25 if on => w.does(dev, |a, now| a.register(now)),
            0..25 => w.switched_on(dev),
            25..60 if on => {
                let to = ["alice", "bob", "carol"];
                let to = to[usize::try_from(w.dice.between(0, 2)).expect("small")];
                let text = format!("message {number} of {}", w.seed);
                let plain = w.devices[dev.0].name.ends_with("phone") && w.dice.chance(200)
                    || w.devices[dev.0].name.contains("baresip")
                    || w.devices[dev.0].name.contains("linphone")
                    || w.dice.chance(300);
                if plain {
                    w.starts_sending(dev, to, &text);
                } else {
                    let wanted =
                        Wanted { positive_delivery: true, display: true, ..Wanted::default() };
                    let to = crate::sim::device::aor(to);
                    w.does(dev, |a, now| a.send_cpim(now, &to, &text, wanted));
                }
            }
            60..66 if on => w.off(dev),
            66..70 => {
                let cut = w.devices[dev.0].wire.is_cut;
                if cut { w.mend(dev) } else { w.cut(dev) }
            }
            70..73 => w.resets(dev),
            73..77 if on => w.does(dev, |a, now| a.unregister(now)),
            77..80 if on => {
                let statuses = [480, 486, 404, 400, 488, 413, 500, 503, 408, 481];
                let status = statuses[usize::try_from(w.dice.between(0, 9)).expect("small")];
                let answers = [Answers::Ok200, Answers::Silent, Answers::Status(status)];
                let answers = answers[usize::try_from(w.dice.between(0, 2)).expect("small")];
                w.answers(dev, answers);
            }
            80..84 => {
                let survives = usize::try_from(w.dice.between(0, 4)).expect("small");
                w.crash(survives);
                let down = w.dice.between(0, 3000);
                w.after(ms(down));
                w.start();
            }
            84..86 => w.disk.fails = true,
            86..90 if on => {
                let ids: Vec<String> =
                    w.received(dev).into_iter().filter_map(|r| r.message_id).collect();
                if let Some(id) = ids.last() {
                    w.does(dev, |a, now| a.displayed(now, id));
                }
            }
            90..92 => {
                let hour = if w.dice.chance(500) { 3600 } else { -3600 };
                w.step_clock(hour);
            }
            92..94 => {
                let held = w.disk.is_held;
                w.disk.is_held = !held;
            }
            _ => {}
        }
        let pause = match self.w.dice.between(0, 9) {
            0..6 => ms(self.w.dice.between(0, 300)),
            6..9 => ms(self.w.dice.between(300, 5000)),
            _ => secs(self.w.dice.between(5, 90)),
        };
        self.w.after(pause);
    }

    /// The faults stop. All that was promised comes within an hour, and then nothing moves.
    fn heal(&mut self) {
        let w = &mut self.w;
        (w.disk.unknown, w.disk.fails, w.disk.is_held) = (0, false, false);
        for dev in &self.devices {
            let wire = &mut w.devices[dev.0].wire;
            (wire.up, wire.down) = (Rule::default(), Rule::default());
            w.mend(*dev);
            w.answers(*dev, Answers::Ok200);
        }
        w.after(secs(40));
        for dev in &self.devices {
            if w.devices[dev.0].is_on {
                w.does(*dev, |a, now| a.register(now));
            } else {
                w.switched_on(*dev);
            }
            w.after(secs(1));
        }
        w.after(mins(20));
        let present: BTreeSet<Dev> = w.present();
        if let Some(dev) = self.devices.iter().find(|d| !present.contains(d)) {
            let name = &w.devices[dev.0].name;
            panic!("{name} could not register at {}:\n{}", w.time(), w.tail(name, 20));
        }
        let missing = w.model.missing(&present);
        assert!(missing.is_empty(), "promised and not delivered: {missing:#?}");
        w.is_idle();
    }
}
