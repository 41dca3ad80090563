//! What happens at the bounds of one account: a mailbox that is full, too many devices, and
//! devices that nobody has seen for long (base/limits.rs).

use std::sync::Arc;

use bytes::Bytes;
use cpmd::base::limits;
use cpmd::service::record::{EntryNo, EntryPut, Record, decode};
use cpmd::service::tu::Note;
use cpmd::syntax::cpim::Wanted;
use cpmd::syntax::imdn::Disposition;
use cpmd::syntax::sip::{Name, Response};

use crate::sim::{Ask, Dev, World, device, mins, secs};

const DAY: u64 = 24 * 60;

/// Alice's tablet is off, and as many messages wait for it as may; her laptop has them all.
fn with_a_full_mailbox(seed: u64) -> World {
    let mut w = World::new(seed);
    let tablet = w.cpm("alice/tablet");
    let bob = w.cpm("bob/pda");
    w.all_register();
    w.off(tablet);
    w.sends(bob, "alice", "number 1");
    // The others came while nobody looked: they are on the disk like the first.
    let alice = device::aor("alice");
    let batches = w.disk.all().into_iter().filter(|(user, _)| **user == *alice);
    let records = batches.flat_map(|(_, batch)| decode(&batch.value).expect("it reads back"));
    let first = records.into_iter().find_map(|record| match record {
        Record::EntryPut(entry) => Some(entry),
        _ => None,
    });
    let first = first.expect("one message waits");
    w.crash(0);
    for no in first.no + 1..first.no + limits::OPEN_MESSAGES_MAX as EntryNo {
        let message_id = format!("{}-{no}", first.message_id).into();
        let entry = Arc::new(EntryPut { no, message_id, ..EntryPut::clone(&first) });
        let text = Bytes::from(format!("number {no}"));
        w.disk.plant(&alice, &[Record::EntryPut(entry), Record::Body(text)]);
    }
    w.start();
    w
}

fn retry_after(answer: &Response) -> Option<&str> {
    answer.headers.text(Name::RetryAfter)
}

/// A full mailbox: who writes to it is told when to try again, everybody else goes on as before,
/// and as soon as a device takes something there is room.
#[test]
fn a_full_mailbox_refuses_and_nobody_else_suffers() {
    let mut w = with_a_full_mailbox(400);
    let (tablet, bob) = (Dev(0), Dev(1));
    let (raw, carol) = (w.raw("bob/raw"), w.cpm("carol/phone"));
    w.registers(carol);
    assert_eq!(w.counts().waiting, limits::OPEN_MESSAGES_MAX);
    let late = Ask::text("bob", "alice", "one too many");
    let full = w.asks(raw, &late);
    assert_eq!((full.status, &*full.reason), (480, &b"Mailbox full"[..]));
    assert_eq!(retry_after(&full), Some("600"));
    w.sends(bob, "carol", "you are there");
    assert_eq!(w.texts(carol), ["you are there"]);
    w.crashes_and_restarts();
    assert_eq!(w.asks(raw, &late.clone().cseq(11)).status, 480, "also after a restart");
    w.switched_on(tablet);
    w.until("the tablet takes one", |w| !w.texts(tablet).is_empty());
    assert_eq!(w.asks(raw, &late.cseq(21)).status, 202, "the same again is a new try");
}

/// What the bound was found not to hold for: a user with a full mailbox sends, and the device that
/// was off was owed a copy of everything; and receipts for what she sent were thrown away. While a
/// mailbox is full, both go to the devices that keep up.
#[test]
fn who_has_a_full_mailbox_sends_and_gets_receipts() {
    let mut w = with_a_full_mailbox(401);
    let bob = Dev(1);
    let (laptop, desk) = (w.cpm("alice/laptop"), w.cpm("alice/desk"));
    w.registers(laptop);
    w.registers(desk);
    let wanted = Wanted { positive_delivery: true, ..Wanted::default() };
    let sent = w.sends_cpim(laptop, "bob", "too much to read", wanted);
    w.after(secs(5));
    assert_eq!(w.status(laptop, &sent), Some(202));
    assert_eq!(w.texts(bob), ["too much to read"]);
    assert_eq!(w.receipts(laptop, &sent), [Disposition::Delivered]);
    assert_eq!(w.copies(desk).len(), 1);
    assert_eq!(w.counts().waiting, limits::OPEN_MESSAGES_MAX, "the tablet is owed nothing more");
}

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
