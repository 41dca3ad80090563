//! Real phones, without a screen: Debian's baresip and linphone. Alice has one of each and a
//! device of SIPp, Bob has one of each; they are at home in two domains, and the server is
//! everybody's outbound proxy.
//!
//! Everything is on 127.0.0.1, so no network namespace is needed. What each phone must be told to
//! get that far is in `baresip.conf` and `linphone.rc`.

mod baresip;
mod linphone;

use std::collections::BTreeMap;

use crate::Scenario;
use crate::lab::Lab;
use crate::registrar::bindings;
use crate::server::{ALICE, Account, BOB, Traced};
use crate::sipp::{Device, Model, say};
use crate::wait;
use baresip::Baresip;
use linphone::Linphone;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    ("phones-messages-both-ways", both_ways),
    ("phones-off-while-bob-writes", off_while_bob_writes),
    ("phones-off-over-a-kill", off_over_a_kill),
    ("phones-on-over-kills", on_over_kills),
    ("linphone-receipt-nobody-asked-for", receipt),
    ("baresip-subscription-489", subscription),
];

/// Everybody, registered.
struct Phones {
    alice: Pair,
    bob: Pair,
    sipp: Device,
}

/// The two phones of one person.
struct Pair {
    baresip: Baresip,
    linphone: Linphone,
}

impl Pair {
    fn on(lab: &Lab, account: Account, peer: Account) -> Result<Pair, String> {
        let mut pair = Pair {
            baresip: Baresip::new(lab, account, peer)?,
            linphone: Linphone::new(lab, account, peer)?,
        };
        pair.baresip.on()?;
        pair.linphone.on()?;
        Ok(pair)
    }

    /// Waits until both have shown exactly these texts, in this order.
    fn show(&self, texts: &[&str]) -> Result<(), String> {
        shows("baresip", texts, || self.baresip.shown())?;
        shows("linphone", texts, || self.linphone.shown())
    }
}

impl Phones {
    fn on(lab: &Lab) -> Result<Phones, String> {
        let alice = Pair::on(lab, ALICE, BOB)?;
        let bob = Pair::on(lab, BOB, ALICE)?;
        let sipp = Model::plain(ALICE, "alice-sipp").up(&lab.udp())?;
        bindings(&lab.udp(), ALICE, 3)?;
        bindings(&lab.udp(), BOB, 2)?;
        Ok(Phones { alice, bob, sipp })
    }

    fn alice_has(&self, texts: &[&str]) -> Result<(), String> {
        self.alice.show(texts)?;
        self.sipp.has(texts)
    }
}

/// From each phone to all phones of the other side, one after the other.
fn both_ways(lab: &mut Lab) -> Result<(), String> {
    let mut phones = Phones::on(lab)?;
    phones.bob.baresip.say("from Bob's baresip")?;
    phones.alice_has(&["from Bob's baresip"])?;
    phones.bob.linphone.say("from Bob's linphone: grüße")?;
    phones.alice_has(&["from Bob's baresip", "from Bob's linphone: grüße"])?;
    let mut said: Vec<&str> = Vec::new();
    for (nr, text) in ["from baresip", "from linphone", "from SIPp"].into_iter().enumerate() {
        match nr {
            0 => phones.alice.baresip.say(text)?,
            1 => phones.alice.linphone.say(text)?,
            _ => say(&lab.udp(), ALICE, BOB, text)?,
        }
        said.push(text);
        phones.bob.show(&said)?;
    }
    // And nothing came to the others.
    phones.alice_has(&["from Bob's baresip", "from Bob's linphone: grüße"])
}

/// First Alice's baresip is off, then her linphone.
fn off_while_bob_writes(lab: &mut Lab) -> Result<(), String> {
    let mut phones = Phones::on(lab)?;
    phones.alice.baresip.off()?;
    phones.bob.linphone.say("one")?;
    phones.bob.linphone.say("two")?;
    phones.sipp.has(&["one", "two"])?;
    shows("linphone", &["one", "two"], || phones.alice.linphone.shown())?;
    phones.alice.baresip.on()?;
    phones.alice_has(&["one", "two"])?;
    phones.alice.linphone.off()?;
    phones.bob.baresip.say("three")?;
    phones.bob.baresip.say("four")?;
    phones.sipp.has(&["one", "two", "three", "four"])?;
    phones.alice.linphone.on()?;
    phones.alice_has(&["one", "two", "three", "four"])
}

/// Everything of Alice is off at the 202, the server is killed, then they come back.
fn off_over_a_kill(lab: &mut Lab) -> Result<(), String> {
    let mut alice = Pair::on(lab, ALICE, BOB)?;
    alice.baresip.off()?;
    alice.linphone.off()?;
    for text in ["one", "two", "three"] {
        say(&lab.udp(), BOB, ALICE, text)?;
        lab.server.crash_and_return()?;
    }
    alice.baresip.on()?;
    alice.linphone.on()?;
    alice.show(&["one", "two", "three"])
}

/// The server is killed right after each 202, with the phones on: the delivery may not have begun,
/// be under way, or be done and not yet on disk. Nothing is lost. linphone drops repeats; baresip
/// cannot tell them, and the server names in its log each one that may be shown again.
fn on_over_kills(lab: &mut Lab) -> Result<(), String> {
    let alice = Pair::on(lab, ALICE, BOB)?;
    let texts: Vec<String> = (1..=8).map(|nr| format!("message {nr}")).collect();
    for text in &texts {
        say(&lab.udp(), BOB, ALICE, text)?;
        lab.server.crash_and_return()?;
    }
    say(&lab.udp(), BOB, ALICE, "the last one")?;
    let mut all: Vec<&str> = texts.iter().map(String::as_str).collect();
    all.push("the last one");
    shows("linphone", &all, || alice.linphone.shown())?;
    // baresip registered first: it is device 0 in the Call-IDs of the legs.
    let log = lab.server.log();
    let named = |line: &&str| line.contains("may show") && line.contains(".0.");
    let told = log.lines().filter(named).count();
    let again = wait::until("all texts on baresip", wait::PATIENT, || {
        let seen = alice.baresip.shown();
        let counts = counted(&seen);
        let missing = all.iter().any(|text| !counts.contains_key(*text));
        Ok((!missing).then(|| counts.values().map(|times| times - 1).sum::<usize>()))
    })?;
    if again <= told {
        println!("       baresip showed {again} of {} messages again, {told} named", all.len());
        return Ok(());
    }
    Err(format!("baresip showed {again} again, and the log names {told}"))
}

/// linphone sends a compressed receipt that nobody asked for: it gets 200, and nobody is bothered.
fn receipt(lab: &mut Lab) -> Result<(), String> {
    let mut phones = Phones::on(lab)?;
    phones.bob.baresip.say("one")?;
    phones.alice_has(&["one"])?;
    let read = |lines: &[Traced]| {
        let ok = |receipt: &&Traced| {
            let is = |line: &&Traced| line.start.starts_with("200") && line.answers(receipt);
            receipt.direction == "in" && receipt.is_imdn() && lines.iter().any(|l| is(&l))
        };
        lines.iter().filter(ok).count()
    };
    wait::until("the 200 for linphone's receipt", wait::SOON, || {
        Ok((read(&lab.server.trace()?) > 0).then_some(()))
    })?;
    // Something later has come through, so the receipt would have come as well.
    phones.alice.baresip.say("two")?;
    phones.bob.show(&["two"])?;
    let passed_on = lab.server.trace()?.into_iter().find(|l| l.direction == "out" && l.is_imdn());
    passed_on.map_or(Ok(()), |line| Err(format!("a receipt was passed on: {line:?}")))
}

/// baresip subscribes to message-summary when it has registered.
fn subscription(lab: &mut Lab) -> Result<(), String> {
    let mut baresip = Baresip::new(lab, ALICE, BOB)?;
    baresip.on()?;
    wait::until("baresip's word on its subscription", wait::SOON, || {
        let output = baresip.output();
        let closed = output.lines().find(|line| line.contains("mwi: subscription"));
        Ok(closed.filter(|line| line.contains("(489")).map(drop))
    })?;
    bindings(&lab.udp(), ALICE, 1)?;
    say(&lab.udp(), BOB, ALICE, "still there?")?;
    shows("baresip", &["still there?"], || baresip.shown())?;
    baresip.say("yes")
}

fn shows(phone: &str, texts: &[&str], look: impl Fn() -> Vec<String>) -> Result<(), String> {
    let mut seen = Vec::new();
    let came = wait::until("texts", wait::PATIENT, || {
        seen = look();
        Ok((seen.len() >= texts.len()).then_some(()))
    });
    if came.is_ok() && seen == texts {
        return Ok(());
    }
    Err(format!("{phone} shows {seen:?}, expected {texts:?}"))
}

fn counted(texts: &[String]) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    for text in texts {
        *counts.entry(text.as_str()).or_insert(0) += 1;
    }
    counts
}
