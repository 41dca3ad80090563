//! Messages as SIPp sends and takes them.

use crate::Scenario;
use crate::lab::Lab;
use crate::server::{ALICE, Account, BOB};
use crate::sipp::{Model, Place, Taken, play, say};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    ("message-to-three-devices", three_devices),
    ("deferred-message", deferred),
    ("two-domains-both-ways", two_domains),
    ("message-over-tcp", over_tcp),
    ("message-over-ipv6", over_ipv6),
    ("cpim-unwrapped-after-415", unwrapped),
    ("message-to-nobody-404", nobody),
];

fn three_devices(lab: &mut Lab) -> Result<(), String> {
    let place = lab.udp();
    let mut devices = Vec::new();
    for name in ["laptop", "phone", "tablet"] {
        devices.push(Model::plain(ALICE, name).up(&place)?);
    }
    for text in ["one", "two", "three"] {
        say(&place, BOB, ALICE, text)?;
    }
    devices.iter().try_for_each(|device| device.has(&["one", "two", "three"]))
}

fn deferred(lab: &mut Lab) -> Result<(), String> {
    let place = lab.udp();
    let laptop = Model::plain(ALICE, "laptop").up(&place)?;
    let model = Model::plain(ALICE, "phone");
    let mut phone = model.up(&place)?;
    say(&place, BOB, ALICE, "before")?;
    phone.has(&["before"])?;
    // Its battery is empty: it does not unregister.
    phone.process().kill()?;
    say(&place, BOB, ALICE, "while it is off")?;
    say(&place, BOB, ALICE, "still off")?;
    laptop.has(&["before", "while it is off", "still off"])?;
    let phone = model.up(&place)?;
    phone.has(&["while it is off", "still off"])
}

fn two_domains(lab: &mut Lab) -> Result<(), String> {
    let place = lab.udp();
    let alice = Model::plain(ALICE, "laptop").up(&place)?;
    let bob = Model::plain(BOB, "desk").up(&place)?;
    say(&place, BOB, ALICE, "are you there?")?;
    alice.has(&["are you there?"])?;
    say(&place, ALICE, BOB, "I am")?;
    bob.has(&["I am"])
}

fn over_tcp(lab: &mut Lab) -> Result<(), String> {
    between(&lab.tcp(), &lab.udp())?;
    Ok(())
}

fn over_ipv6(lab: &mut Lab) -> Result<(), String> {
    for place in lab.ipv6()? {
        between(&place, &lab.udp())?;
    }
    Ok(())
}

/// A device here, one there, a message each way.
fn between(here: &Place, there: &Place) -> Result<(), String> {
    let name = format!("laptop-{:?}-{}", here.over, here.server.is_ipv6());
    let alice = Model::plain(ALICE, &name).up(here)?;
    let bob = Model::plain(BOB, &format!("desk-{name}")).up(there)?;
    say(there, BOB, ALICE, "this way")?;
    alice.has(&["this way"])?;
    say(here, ALICE, BOB, "that way")?;
    bob.has(&["that way"])
}

/// A device that knows only text gets the text of a CPIM; the one that takes CPIM gets it whole.
fn unwrapped(lab: &mut Lab) -> Result<(), String> {
    let place = lab.udp();
    let plain = Model { takes: "text-only", ..Model::plain(ALICE, "old") }.up(&place)?;
    let feature = ";+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg\"";
    let cpm = Model { features: feature, ..Model::plain(ALICE, "new") }.up(&place)?;
    let to = ALICE.address();
    play(&place, "cpim", BOB, &[("to", &to), ("id", "one"), ("text", "inside a letter")])?;
    plain.has(&["inside a letter"])?;
    crate::wait::until("the CPIM", crate::wait::SOON, || {
        Ok((!cpm.taken().is_empty()).then_some(()))
    })?;
    match (plain.taken().as_slice(), cpm.taken().as_slice()) {
        ([text], [whole]) if is(text, "text/plain") && is(whole, "message/cpim") => {
            let kept = ["imdn.Message-ID: one", "inside a letter"];
            if kept.iter().all(|line| whole.body.contains(line)) {
                return Ok(());
            }
            Err(format!("the CPIM has changed: {whole:?}"))
        }
        (plain, cpm) => Err(format!("{plain:?} and {cpm:?}")),
    }
}

fn is(taken: &Taken, media: &str) -> bool {
    taken.content_type.starts_with(media)
}

fn nobody(lab: &mut Lab) -> Result<(), String> {
    let stranger = Account { user: "mallory", ..ALICE };
    let to = stranger.address();
    play(&lab.udp(), "nobody", BOB, &[("to", &to), ("text", "hello?")]).map(drop)
}
