//! What happens at the bounds of one account: too many devices, and devices that nobody has seen
//! for long (base/limits.rs).

use cpmd::service::tu::Note;

use crate::sim::{Ask, World, mins, secs};

const DAY: u64 = 24 * 60;

/// Twenty devices of one account, known or registered; the one after them is refused by name, and
/// the others still come and go. One that nobody has seen for 30 days makes room.
#[test]
fn a_device_too_many_is_told_so_until_one_is_forgotten() {
    let mut w = World::new(402);
    let raw = w.raw("alice/raw");
    let register = |n: u32, cseq: u32| {
        let contact = format!("<sip:alice@10.8.0.{n}>;+sip.instance=\"<urn:uuid:{n}>\"");
        Ask::register("alice", &contact).call(&format!("device-{n}")).cseq(cseq)
    };
    for n in 1..=20 {
        assert_eq!(w.asks(raw, &register(n, 1)).status, 200, "{n}");
        assert_eq!(w.asks(raw, &register(n, 11).header("Expires", "0")).status, 200, "{n}");
    }
    let refused = w.asks(raw, &register(21, 1));
    assert_eq!((refused.status, &*refused.reason), (403, &b"Too many devices"[..]));
    let nameless = w.asks(raw, &Ask::register("alice", "<sip:alice@10.8.0.99>").call("nameless"));
    assert_eq!(nameless.status, 403, "a phone without an instance is a device too");
    w.crashes_and_restarts();
    w.after(mins(20 * DAY));
    for n in 2..=20 {
        assert_eq!(w.asks(raw, &register(n, 21)).status, 200, "{n}");
        assert_eq!(w.asks(raw, &register(n, 31).header("Expires", "0")).status, 200, "{n}");
    }
    assert_eq!(w.asks(raw, &register(21, 11)).status, 403);
    w.after(mins(10 * DAY + 61));
    assert_eq!(w.asks(raw, &register(21, 21)).status, 200, "the first one is forgotten");
    assert_eq!(w.asks(raw, &register(1, 41)).status, 403, "and would be a new one now");
}

/// Rules: a device unseen for 30 days is forgotten, with notice. Nobody owes it anything any more,
/// also after a restart; when it comes back it is a new one.
#[test]
fn a_device_unseen_for_a_month_is_forgotten_with_what_it_was_owed() {
    let mut w = World::new(403);
    let (phone, tablet, bob) = (w.cpm("alice/phone"), w.cpm("alice/tablet"), w.cpm("bob/pda"));
    w.all_register();
    w.off(tablet);
    w.after(mins(29 * DAY));
    w.sends(bob, "alice", "rather late");
    assert_eq!(w.texts(phone), ["rather late"]);
    assert_eq!(w.counts().waiting, 1, "the tablet may still come");
    w.after(mins(DAY + 61));
    let forgotten = w.notes.iter().filter(|n| matches!(n, Note::DeviceForgotten { .. })).count();
    assert_eq!((forgotten, w.counts().waiting), (1, 0));
    w.crashes_and_restarts();
    assert_eq!(w.counts().waiting, 0);
    w.on(tablet);
    w.sends(bob, "alice", "welcome back");
    w.after(mins(2));
    assert_eq!(w.texts(tablet), ["welcome back"]);
    assert_eq!(w.texts(phone), ["rather late", "welcome back"]);
}

/// What happened: the only device was forgotten, and with it a message of the day before, which
/// had six days to live; the device that came next got nothing. Now the last debt of a message
/// falls to the account.
#[test]
fn a_message_outlives_the_only_device_that_was_owed_it() {
    let mut w = World::new(404);
    let (old, older, bob) = (w.cpm("alice/old"), w.cpm("alice/older"), w.cpm("bob/pda"));
    w.all_register();
    w.off(old);
    w.off(older);
    w.after(mins(29 * DAY));
    let sent = w.sends(bob, "alice", "are you there?");
    assert_eq!(w.status(bob, &sent), Some(202));
    w.after(mins(DAY + 61));
    let forgotten = w.notes.iter().filter(|n| matches!(n, Note::DeviceForgotten { .. })).count();
    assert_eq!((forgotten, w.counts().waiting), (2, 1));
    w.crashes_and_restarts();
    let new = w.cpm("alice/new");
    w.registers(new);
    w.after(secs(5));
    assert_eq!(w.texts(new), ["are you there?"]);
    assert_eq!(w.counts().waiting, 0);
}
