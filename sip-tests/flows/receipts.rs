//! Dispositions (M7, M8 of the use case; RFC 5438): the first delivered and the first displayed,
//! once, to a sender who asked.

use bytes::Bytes;
use cpmd::syntax::cpim::Wanted;
use cpmd::syntax::imdn::{Disposition, Imdn};
use cpmd::syntax::sip::{Name, answer};
use cpmd::ua::Receipts;

use crate::sim::{Ask, World, mins, secs};

const ASKING: Wanted =
    Wanted { positive_delivery: true, negative_delivery: true, display: true, processing: false };

/// M7, b10: three devices take it and say so; the sender hears *delivered* once.
#[test]
fn the_first_delivered_is_told_once() {
    let mut w = World::new(40);
    let devices = ["alice/phone", "alice/tablet", "alice/laptop"].map(|name| w.cpm(name));
    let bob = w.cpm("bob/pda");
    w.all_register();
    let since = w.rows.len();
    let sent = w.sends_cpim(bob, "alice", "hi", ASKING);
    w.after(secs(10));
    assert_eq!(w.receipts(bob, &sent), [Disposition::Delivered]);
    let lanes = ["bob/pda", "cpmd", "alice/phone", "alice/tablet", "alice/laptop", "disk"];
    w.expect_ladder("delivered-is-told-once", since, &lanes);
    for device in devices {
        assert_eq!(w.texts(device), ["hi"]);
    }
}

/// M8: read on one, told once, whoever reads it later.
#[test]
fn the_first_displayed_is_told_once() {
    let mut w = World::new(41);
    let [phone, tablet] = ["alice/phone", "alice/tablet"].map(|name| w.cpm(name));
    let bob = w.cpm("bob/pda");
    w.all_register();
    let sent = w.sends_cpim(bob, "alice", "hi", ASKING);
    w.after(mins(5));
    for device in [tablet, phone] {
        assert!(w.does(device, |a, now| a.displayed(now, &sent.message_id)));
        w.after(secs(5));
    }
    assert_eq!(w.receipts(bob, &sent), [Disposition::Delivered, Disposition::Displayed]);
    w.crashes_and_restarts();
    w.after(mins(2));
    assert_eq!(w.receipts(bob, &sent).len(), 2);
    w.is_idle();
}

/// RFC 5438 §7.2: who did not ask gets no receipt.
#[test]
fn a_sender_who_did_not_ask_gets_no_receipt() {
    let mut w = World::new(42);
    let phone = w.device("alice/phone", |c| c.receipts = Receipts::DeliveredAndDisplayed);
    let (bob, old) = (w.cpm("bob/pda"), w.phone("bob/baresip"));
    w.all_register();
    let first = w.sends_cpim(bob, "alice", "hi", Wanted::default());
    w.sends(old, "alice", "ho");
    w.after(mins(1));
    assert_eq!(w.texts(phone).len(), 2);
    assert_eq!(w.receipts(bob, &first), []);
    assert_eq!(w.requests(old).len(), 0);
}

/// All devices of the sender that can read receipts get them; a receipt that waits for a device
/// that is off reaches it later.
#[test]
fn receipts_reach_every_cpm_device_of_the_sender() {
    let mut w = World::new(43);
    let _phone = w.cpm("alice/phone");
    let [pda, laptop] = ["bob/pda", "bob/laptop"].map(|name| w.cpm(name));
    let baresip = w.phone("bob/baresip");
    w.all_register();
    w.off(laptop);
    let sent = w.sends_cpim(pda, "alice", "hi", ASKING);
    w.after(mins(1));
    w.on(laptop);
    w.after(secs(10));
    assert_eq!(w.receipts(pda, &sent), [Disposition::Delivered]);
    assert_eq!(w.receipts(laptop, &sent), [Disposition::Delivered]);
    assert_eq!(w.requests(baresip).len(), 0);
}

/// Rules: linphone sends receipts nobody asked for, bare, naming the Call-ID of our leg, sometimes
/// deflated. They are read, end at the server, and nobody is told who did not ask.
#[test]
fn receipts_that_nobody_asked_for_end_at_the_server() {
    let mut w = World::new(44);
    let linphone = w.raw("alice/linphone");
    let bob = w.cpm("bob/pda");
    w.registers(bob);
    let contact = format!("<sip:alice@{}>", w.devices[linphone.0].addr);
    w.asks(linphone, &Ask::register("alice", &contact));
    w.sends(bob, "alice", "hi");
    let (_, request) = w.requests(linphone).remove(0);
    w.says(linphone, answer(&request, 200, "OK", Some("phone")).finish(b""));
    let document = receipt(&w, request.call_id().unwrap_or_default(), Disposition::Delivered);
    let deflated = deflate(&document);
    let plain = Ask::text("alice", "bob", "r1").body("message/imdn+xml", &document);
    let zipped = Ask::text("alice", "bob", "r2")
        .body("message/imdn+xml", &deflated)
        .header("Content-Encoding", "deflate");
    assert_eq!(w.asks(linphone, &plain).status, 200);
    assert_eq!(w.asks(linphone, &zipped).status, 200);
    w.after(secs(10));
    assert_eq!(w.requests(bob).len(), 0, "nobody is told");
}

/// The same phone's *displayed* is issued anew for the sender who asked, with his Message-ID.
#[test]
fn a_receipt_for_our_leg_is_issued_anew_for_the_senders_message() {
    let mut w = World::new(45);
    let linphone = w.raw("alice/linphone");
    let bob = w.cpm("bob/pda");
    w.registers(bob);
    let contact = format!("<sip:alice@{}>", w.devices[linphone.0].addr);
    w.asks(linphone, &Ask::register("alice", &contact));
    let sent = w.sends_cpim(bob, "alice", "hi", ASKING);
    let (_, request) = w.requests(linphone).remove(0);
    w.says(linphone, answer(&request, 200, "OK", Some("phone")).finish(b""));
    w.after(secs(1));
    assert_eq!(w.receipts(bob, &sent), [Disposition::Delivered]);
    let document = receipt(&w, request.call_id().unwrap_or_default(), Disposition::Displayed);
    let ask = Ask::text("alice", "bob", "r").body("message/imdn+xml", &document);
    assert_eq!(w.asks(linphone, &ask).status, 200);
    w.after(secs(1));
    assert_eq!(w.receipts(bob, &sent), [Disposition::Delivered, Disposition::Displayed]);
}

/// A plain phone asked for receipts in a CPIM and takes none: its refusal ends the matter, and its
/// queue is not held up for a week.
#[test]
fn a_receipt_that_the_asking_phone_cannot_read_is_not_owed_for_ever() {
    let mut w = World::new(48);
    let _alice = w.cpm("alice/phone");
    let old = w.phone("bob/baresip");
    w.all_register();
    w.sends_cpim(old, "alice", "hi", ASKING);
    w.after(mins(2));
    assert_eq!(w.counts().waiting, 0);
    assert!(w.texts(old).is_empty());
    w.is_idle();
}

/// A document that does not read is 400, and an encoding nobody knows is 415 with what we know.
#[test]
fn a_receipt_that_does_not_read_is_refused() {
    let mut w = World::new(46);
    let raw = w.raw("alice/raw");
    let _bob = w.cpm("bob/pda");
    let bad = Ask::text("alice", "bob", "r1").body("message/imdn+xml", "<imdn>");
    assert_eq!(w.asks(raw, &bad).status, 400);
    let odd = Ask::text("alice", "bob", "r2")
        .body("message/imdn+xml", "x")
        .header("Content-Encoding", "compress");
    let refused = w.asks(raw, &odd);
    assert_eq!(refused.status, 415);
    assert!(refused.headers.text(Name::AcceptEncoding).is_some_and(|e| e.contains("deflate")));
}

/// A crash at any moment between the device's answer and the receipt: the sender hears it once.
#[test]
fn a_crash_on_the_way_of_a_receipt_neither_loses_nor_doubles_it() {
    for moment in 0..40 {
        let mut w = World::new(4700 + moment);
        let phone = w.cpm("alice/phone");
        let bob = w.cpm("bob/pda");
        w.all_register();
        let sent = w.does(bob, |a, now| a.send_cpim(now, "sip:alice@a.example", "hi", ASKING));
        for _ in 0..moment {
            let soon = w.time() + 1_000_000;
            w.step(soon);
        }
        w.crash(usize::try_from(moment % 3).expect("small"));
        w.start();
        w.after(mins(2));
        assert_eq!(w.texts(phone), ["hi"], "crash at step {moment}");
        assert_eq!(w.receipts(bob, &sent), [Disposition::Delivered], "crash at step {moment}");
    }
}

fn receipt(w: &World, message_id: &str, status: Disposition) -> Bytes {
    let document = Imdn {
        message_id: message_id.to_owned(),
        datetime: cpmd::syntax::cpim::rfc3339(w.now().unix),
        recipient_uri: Some("sip:alice@a.example".into()),
        original_recipient_uri: None,
        status,
    };
    document.write()
}

/// zlib, as linphone sends it.
fn deflate(octets: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(octets).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
