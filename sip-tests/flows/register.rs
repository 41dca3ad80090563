//! Registration (R1 of the use case; RFC 3261 §10, RFC 5626).

use cpmd::node::{Question, Reply};
use cpmd::syntax::sip::{Message, Name};

use crate::sim::device::password;
use crate::sim::{Ask, Dev, Way, World, mins, secs};

/// R1, flow (a): REGISTER, challenge, credentials, the binding on disk, and only then 200.
#[test]
fn a_phone_registers() {
    let mut w = World::new(1);
    let phone = w.cpm("alice/phone");
    w.registers(phone);
    assert!(w.is_registered(phone));
    w.expect_ladder("register", 0, &["alice/phone", "cpmd", "disk"]);
    w.after(secs(60));
    w.is_idle();
}

/// The rule over everything: no 2xx before the store. A crash before it: the phone is not told.
#[test]
fn a_crash_before_the_store_leaves_no_binding_and_no_200() {
    let mut w = World::new(2);
    let phone = w.cpm("alice/phone");
    w.disk.is_held = true;
    w.registers(phone);
    assert!(!w.is_registered(phone));
    w.crashes_and_restarts();
    w.disk.is_held = false;
    w.after(secs(2));
    // It repeats its request, is told that its nonce is stale, and registers all the same.
    assert!(w.is_registered(phone));
    assert_eq!(w.bindings(phone).len(), 1);
}

/// A crash after the store, the 200 lost: the binding is there, and there is one of it.
#[test]
fn a_crash_after_the_store_keeps_the_binding() {
    let mut w = World::new(3);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    w.registers(bob);
    w.loses(phone, Way::Down, "200", 1);
    w.does(phone, |a, now| a.register(now));
    w.until("the binding is on disk", |w| w.disk.batches("sip:alice@a.example") == 1);
    w.settle();
    w.crashes_and_restarts();
    w.sends(bob, "alice", "are you there?");
    assert_eq!(w.texts(phone), ["are you there?"]);
    w.after(secs(40));
    assert_eq!(w.bindings(phone).len(), 1);
}

/// RFC 3261 §22.4: a wrong password and an unknown user get the same answers, so that nobody can
/// find out who has an account.
#[test]
fn a_wrong_password_and_an_unknown_user_look_the_same() {
    let mut w = World::new(4);
    let wrong = w.device("alice/phone", |c| c.password = "guess".into());
    let nobody = w.cpm("nobody/phone");
    w.registers(wrong);
    w.registers(nobody);
    let said = |w: &World, dev: Dev| -> Vec<(u16, usize)> {
        let heard = w.devices[dev.0].heard.iter();
        let answer = |m: &Message| match m {
            Message::Response(r) => (r.status, r.headers.len()),
            Message::Request(_) => (0, 0),
        };
        heard.map(|(_, m)| answer(m)).collect()
    };
    assert_eq!(said(&w, wrong), said(&w, nobody));
    assert_eq!(said(&w, wrong).iter().map(|s| s.0).collect::<Vec<_>>(), [401, 401]);
    assert_eq!(w.register_failure(wrong), Some(401));
    assert_eq!(w.disk.batches("sip:alice@a.example"), 0, "nothing is kept");
}

/// RFC 3261 §10.2.8: 423 names the least, and the phone takes it.
#[test]
fn an_interval_too_brief_is_answered_with_the_least() {
    let mut w = World::new(5);
    let phone = w.device("alice/phone", |c| c.expires = 20);
    w.registers(phone);
    assert!(w.is_registered(phone));
    let refused = w.devices[phone.0].heard.iter().find_map(|(_, m)| match m {
        Message::Response(r) if r.status == 423 => r.headers.text(Name::MinExpires),
        _ => None,
    });
    assert_eq!(refused, Some("60"));
    assert_eq!(w.bindings(phone)[0].expires, 60);
}

/// RFC 3261 §10.2.2 and §10.3: `Contact: *` with Expires: 0 removes all, once that is on disk, and
/// anything else with a star is 400.
#[test]
fn a_star_removes_all_bindings() {
    let mut w = World::new(6);
    let (phone, tablet) = (w.cpm("alice/phone"), w.cpm("alice/tablet"));
    w.all_register();
    let raw = w.raw("alice/raw");
    for ask in [
        Ask::register("alice", "*"),
        Ask::register("alice", "*").header("Expires", "60"),
        Ask::register("alice", "*, <sip:alice@10.0.0.1>").header("Expires", "0"),
    ] {
        assert_eq!(w.asks(raw, &ask.call("star")).status, 400);
    }
    w.does(phone, |a, now| a.unregister_all(now));
    w.settle();
    w.does(tablet, |a, now| a.fetch(now));
    w.settle();
    assert_eq!(w.bindings(tablet).len(), 0);
    w.crashes_and_restarts();
    assert_eq!(w.counts().bindings, 0);
}

/// RFC 3261 §10.2.3: a REGISTER without Contact lists what there is.
#[test]
fn a_fetch_lists_the_bindings_of_all_devices() {
    let mut w = World::new(7);
    let (phone, tablet) = (w.cpm("alice/phone"), w.phone("alice/baresip"));
    w.all_register();
    w.after(secs(600));
    let before = w.disk.batches("sip:alice@a.example");
    w.does(phone, |a, now| a.fetch(now));
    w.settle();
    let listed = w.bindings(phone);
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|b| b.expires <= 3000), "what is left: {listed:?}");
    assert!(w.is_registered(tablet));
    assert_eq!(w.disk.batches("sip:alice@a.example"), before, "a list writes nothing");
}

/// RFC 3261 §10.3 step 7: with the same Call-ID a lower CSeq changes nothing.
#[test]
fn an_old_register_that_comes_late_changes_nothing() {
    let mut w = World::new(8);
    let raw = w.raw("alice/raw");
    let here = "<sip:alice@10.0.0.1:5060>";
    let there = "<sip:alice@10.0.0.1:5060;x=y>";
    let ok = w.asks(raw, &Ask::register("alice", here).call("r").cseq(10));
    assert_eq!(ok.status, 200);
    let late = w.asks(raw, &Ask::register("alice", here).call("r").cseq(3).header("Expires", "0"));
    assert_eq!(late.status, 500);
    assert_eq!(w.counts().bindings, 1);
    // Another Call-ID is another registration: its order is its own.
    let other = Ask::register("alice", here).call("s").cseq(1).header("Expires", "0");
    assert_eq!(w.asks(raw, &other).status, 200);
    assert_eq!(w.counts().bindings, 0);
    assert_eq!(w.asks(raw, &Ask::register("alice", there).call("s").cseq(2)).status, 200);
}

/// RFC 3261 §10.3: a binding that is not refreshed runs out, also across a restart.
#[test]
fn a_phone_that_vanishes_is_no_longer_registered_when_its_time_is_over() {
    let mut w = World::new(9);
    let phone = w.cpm("alice/phone");
    w.registers(phone);
    w.off(phone);
    w.after(mins(59));
    assert_eq!(w.counts().bindings, 1);
    w.after(mins(2));
    assert_eq!(w.counts().bindings, 0);
    w.crashes_and_restarts();
    assert_eq!(w.counts().bindings, 0);
    w.is_idle();
}

/// A refresh within the lease on disk writes nothing (rules: the lease is three times the expiry),
/// and a restart still finds the phone.
#[test]
fn a_refresh_within_the_lease_writes_nothing() {
    let mut w = World::new(101);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    w.after(mins(50));
    assert_eq!(w.disk.batches("sip:alice@a.example"), 1);
    w.after(mins(60 * 3));
    assert!(w.disk.batches("sip:alice@a.example") <= 3, "about every second hour");
    w.crashes_and_restarts();
    w.sends(bob, "alice", "still there?");
    assert_eq!(w.texts(phone), ["still there?"]);
}

/// R1: each of three devices hears of the others, and of its own.
#[test]
fn three_devices_of_one_account_register() {
    let mut w = World::new(102);
    let devices = [w.cpm("alice/phone"), w.cpm_tcp("alice/tablet"), w.phone("alice/baresip")];
    w.all_register();
    assert_eq!(w.bindings(devices[2]).len(), 3);
    assert_eq!(w.counts().bindings, 3);
}

/// A phone without an instance comes back under another Contact (rules: baresip at each start):
/// what it was owed falls to the account, and the next device takes it.
#[test]
fn a_phone_that_comes_back_under_another_name_gets_what_it_was_owed() {
    let mut w = World::new(103);
    let phone = w.phone("alice/baresip");
    let bob = w.cpm("bob/pda");
    w.all_register();
    w.off(phone);
    w.sends(bob, "alice", "one");
    w.after(mins(61));
    w.sends(bob, "alice", "two");
    assert_eq!(w.counts().bindings, 1, "only bob is there");
    let again = w.device("alice/baresip", |c| {
        c.instance = None;
        c.kind = cpmd::ua::Kind::Plain;
    });
    w.registers(again);
    assert_eq!(w.texts(again), ["one", "two"]);
    w.after(secs(60));
    w.is_idle();
}

/// The bounds of the registrar (base/limits.rs): ten bindings of one account, then 403.
#[test]
fn an_eleventh_binding_is_refused() {
    let mut w = World::new(104);
    let devices: Vec<Dev> = (0..11).map(|i| w.cpm(&format!("alice/device{i}"))).collect();
    w.all_register();
    assert_eq!(w.register_failure(devices[10]), Some(403));
    assert_eq!(w.counts().bindings, 10);
}

/// The operator makes an account while the server runs; it survives a crash, and its end does too.
#[test]
fn an_account_is_made_and_removed_while_the_server_runs() {
    let mut w = World::new(105);
    let dora = w.cpm("nobody/phone");
    let aor = "sip:nobody@a.example";
    let credentials = cpmd::service::account::credentials(aor, &password("nobody"), false);
    let put = |new| Question::AccountPut { aor: aor.into(), credentials: credentials.clone(), new };
    assert!(matches!(w.operator(put(false)), Reply::No(_)), "there is nobody to change");
    assert_eq!(w.operator(put(true)), Reply::Done);
    assert!(matches!(w.operator(put(true)), Reply::No(_)), "there is one already");
    w.crashes_and_restarts();
    w.registers(dora);
    assert!(w.is_registered(dora));
    assert_eq!(w.operator(Question::AccountRemove { aor: aor.into() }), Reply::Done);
    w.crashes_and_restarts();
    w.does(dora, |a, _| a.restart());
    w.registers(dora);
    assert_eq!(w.register_failure(dora), Some(401));
    assert_eq!(w.counts().bindings, 0);
}

/// An account of 1005 letters was made. A name that no phone can type, or that is so long that the
/// store would not take its log, is refused by name, and so is the one that CPM reserves.
#[test]
fn an_account_that_nobody_could_use_is_not_made() {
    let mut w = World::new(107);
    let put = |name: &str| {
        let aor = format!("sip:{name}@a.example");
        let credentials = cpmd::service::account::credentials(&aor, "secret", false);
        Question::AccountPut { aor, credentials, new: true }
    };
    let (long, longest) = ("n".repeat(65), "n".repeat(64));
    for (name, said) in [
        (&*long, "has a user part of 65 octets: use letters, digits, and - _ . +, 64 at most"),
        (&*"n".repeat(1005), "has a user part of 1005 octets"),
        ("ali%20ce", "that phones cannot type"),
        ("pull", "is a reserved name"),
    ] {
        let reply = w.operator(put(name));
        assert!(matches!(&reply, Reply::No(why) if why.contains(said)), "{name}: {reply:?}");
    }
    assert_eq!(w.operator(put(&longest)), Reply::Done);
    assert_eq!(w.counts().accounts, 1);
}

/// Ten contacts behind a long path are refused or fit the store; they do not break it.
#[test]
fn contacts_behind_a_long_path_do_not_break_the_store() {
    let mut w = World::new(106);
    let raw = w.raw_tcp("alice/raw");
    let contacts: Vec<String> =
        (1..=9).map(|i| format!("<sip:alice@10.9.0.{i}>;note={}", "n".repeat(300))).collect();
    let with = |hops: usize| {
        let path = format!("<sip:edge.example;lr;cookie={}>", "c".repeat(500));
        let ask = Ask::register("alice", &contacts.join(", ")).call(&format!("hops-{hops}"));
        (0..hops).fold(ask, |ask, _| ask.header("Path", &path))
    };
    assert_eq!(w.asks(raw, &with(20)).status, 400);
    assert_eq!(w.asks(raw, &with(7)).status, 200);
    assert_eq!(w.counts().bindings, 9);
}
