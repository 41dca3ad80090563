//! The disk as it can be: slow, unsure, broken, and gone in the middle of something.

use cpmd::service::tu::Note;
use cpmd::syntax::sip::Name;

use crate::sim::{Ask, World, mins, ms, secs};

/// The store breaks: who waits and who comes is told 503 with Retry-After; it is opened again, and
/// life goes on with everything that was promised.
#[test]
fn a_broken_store_says_503_and_comes_back() {
    let mut w = World::new(60);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    let raw = w.raw("bob/raw");
    w.all_register();
    w.off(phone);
    w.sends(bob, "alice", "promised before");
    w.disk.fails = true;
    let broken = w.asks(raw, &Ask::text("bob", "alice", "lost"));
    assert_eq!(broken.status, 503);
    assert!(broken.headers.get(Name::RetryAfter).is_some());
    w.after(secs(2));
    assert_eq!(w.reopened, 1);
    assert_eq!(w.asks(raw, &Ask::text("bob", "alice", "again")).status, 202);
    w.on(phone);
    w.after(secs(40));
    let texts = w.texts(phone);
    assert!(texts.contains(&"promised before".into()) && texts.contains(&"again".into()));
}

/// The disk is full: whatever would have to be kept is refused with 503 and Retry-After, for as
/// long as it takes; what was acknowledged stays, and when there is room it goes on, by itself or
/// after a restart. (So does sled on a full file system: it says so at the write, cannot be opened
/// again before there is room, and keeps what was synced.)
#[test]
fn a_full_disk_refuses_loses_nothing_and_goes_on() {
    let mut w = World::new(67);
    let (phone, tablet, bob) = (w.cpm("alice/phone"), w.cpm("alice/tablet"), w.cpm("bob/pda"));
    let raw = w.raw("bob/raw");
    w.registers(phone);
    w.registers(bob);
    w.off(phone);
    w.sends(bob, "alice", "promised before");
    w.disk.is_full = true;
    for i in 0..20 {
        let refused = w.asks(raw, &Ask::text("bob", "alice", &format!("no room for {i}")));
        assert_eq!(refused.status, 503);
        assert_eq!(refused.headers.text(Name::RetryAfter), Some("10"));
        w.after(secs(30));
    }
    w.registers(tablet);
    assert_eq!(w.register_failure(tablet), Some(503));
    // What needs no room is answered, unless it waits for something that found none.
    let list = |user| Ask::register(user, "").call("list");
    assert_eq!(w.asks(raw, &list("bob")).status, 503);
    let carol = w.raw("carol/raw");
    assert_eq!(w.asks(carol, &list("carol")).status, 200);
    assert_eq!(w.reopened, 0, "it cannot be opened before there is room");
    w.disk.is_full = false;
    w.after(secs(10));
    assert_eq!(w.reopened, 1);
    assert_eq!(w.asks(raw, &Ask::text("bob", "alice", "room again")).status, 202);
    w.disk.is_full = true;
    assert_eq!(w.asks(raw, &Ask::text("bob", "alice", "full again")).status, 503);
    w.crash(0);
    w.disk.is_full = false;
    w.start();
    w.on(phone);
    w.after(secs(40));
    let texts = w.texts(phone);
    let shown = |text: &str| texts.iter().filter(|t| *t == text).count();
    assert_eq!((shown("promised before"), shown("room again")), (1, 1), "{texts:?}");
}

/// rules.md: `Stored | Conflict | Unknown`. After Unknown the log is read; what is there is
/// promised, what is not is written again, at the same place.
#[test]
fn a_disk_that_does_not_know_is_asked() {
    for seed in 600..640 {
        let mut w = World::new(seed);
        let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
        w.all_register();
        w.disk.unknown = 300;
        for i in 0..5 {
            w.starts_sending(bob, "alice", &format!("number {i}"));
            w.does(phone, |a, now| a.register(now));
            w.after(ms(5));
        }
        w.after(mins(2));
        let mut texts = w.texts(phone);
        texts.sort();
        assert_eq!(texts.len(), 5, "seed {seed}: {texts:?}");
    }
}

/// A store that never knows is broken, and is not asked for ever.
#[test]
fn a_disk_that_never_knows_is_broken() {
    let mut w = World::new(61);
    let bob = w.cpm("bob/pda");
    w.registers(bob);
    w.disk.unknown = 1000;
    for _ in 0..6 {
        w.does(bob, |a, now| a.unregister(now));
        w.does(bob, |a, now| a.register(now));
        w.after(secs(5));
    }
    assert!(w.reopened > 0);
    w.disk.unknown = 0;
    w.after(secs(60));
    w.registers(bob);
    assert!(w.is_registered(bob));
}

/// A crash at every step of a message's way: nothing that was promised is lost, and no CPM device
/// shows it twice.
#[test]
fn a_crash_at_any_step_of_a_message_keeps_the_promise() {
    for step in 0..60 {
        for survives in [0, 1, 9] {
            let mut w = World::new(6200 + step);
            let (phone, tablet) = (w.cpm("alice/phone"), w.cpm_tcp("alice/tablet"));
            let bob = w.cpm("bob/pda");
            w.all_register();
            w.starts_sending(bob, "alice", "hi");
            for _ in 0..step {
                let soon = w.time() + 1_000_000;
                w.step(soon);
            }
            w.crash(survives);
            w.start();
            w.after(mins(2));
            let present = w.present();
            assert_eq!(w.model.missing(&present), Vec::<String>::new(), "crash at step {step}");
            assert_eq!(w.texts(phone), ["hi"], "the sender tried again: step {step}");
            assert_eq!(w.texts(tablet), ["hi"], "crash at step {step}");
        }
    }
}

/// What the kill loop found. A device's queue goes on while a message is not on disk yet, and the
/// server is killed. Had the message left, its number and with it its leg would belong to the next
/// one after the restart, and the device would take that for a repeat: a promise lost.
#[test]
fn nothing_leaves_under_a_number_that_is_not_on_disk() {
    let mut w = World::new(66);
    let (tablet, pda) = (w.cpm("bob/tablet"), w.cpm("bob/pda"));
    let raw = w.raw("bob/raw");
    w.cpm("alice/phone");
    w.all_register();
    w.hold(pda);
    assert_eq!(w.asks(raw, &Ask::text("bob", "alice", "before")).status, 202);
    w.disk.is_held = true;
    w.starts_sending(tablet, "alice", "first");
    w.after(ms(100));
    // The device answers what it had, and its queue goes on.
    w.release(pda);
    w.after(ms(100));
    w.disk.is_held = false;
    w.crash(0);
    w.start();
    assert_eq!(w.asks(raw, &Ask::text("bob", "alice", "second")).status, 202);
    w.after(mins(2));
    let mut copies: Vec<_> = w.copies(pda).into_iter().filter_map(|c| c.text).collect();
    copies.sort();
    assert_eq!(copies, ["before", "first", "second"]);
}

/// A slow disk delays answers and loses none; retransmissions are absorbed.
#[test]
fn a_slow_disk_delays_and_loses_nothing() {
    let mut w = World::new(63);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    w.disk.delay = (3_000_000, 4_000_000);
    let sent = w.sends(bob, "alice", "hi");
    w.after(secs(30));
    assert_eq!(w.status(bob, &sent), Some(202));
    assert_eq!(w.texts(phone), ["hi"]);
    assert!(!w.notes.iter().any(|n| matches!(n, Note::StoreTrouble { .. })));
}

/// Rules: the sender's side waits 2 s for the recipient's side, then says 202: the debt stays.
#[test]
fn a_recipients_side_that_is_slow_does_not_hold_the_202_for_long() {
    let mut w = World::new(64);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    let sent = w.starts_sending(bob, "alice", "hi");
    w.until("the sentbox entry is on disk", |w| w.disk.batches("sip:bob@b.example") == 2);
    w.disk.is_held = true;
    w.after(ms(1900));
    assert_eq!(w.status(bob, &sent), None);
    w.after(ms(300));
    assert_eq!(w.status(bob, &sent), Some(202));
    assert_eq!(w.texts(phone).len(), 0);
    w.crashes_and_restarts();
    w.disk.is_held = false;
    w.after(secs(5));
    assert_eq!(w.texts(phone), ["hi"]);
}
