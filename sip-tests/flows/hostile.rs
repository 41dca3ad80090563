//! What was tried against the server and must not work: each story is named after what happened.

use bytes::Bytes;
use cpmd::node::{Question, Reply};
use cpmd::service::account::credentials;
use cpmd::syntax::cpim::Wanted;
use cpmd::syntax::sip::{Method, Name};
use cpmd::ua::Answers;

use crate::sim::device::{self, password};
use crate::sim::{Ask, World, mins, secs};

/// One message that upset the phone silenced it for a week (rules: 30 s at most).
#[test]
fn a_message_that_a_phone_cannot_bear_does_not_silence_it() {
    let mut w = World::new(301);
    let (phone, bob) = (w.phone("alice/baresip"), w.cpm("bob/pda"));
    w.all_register();
    w.answers(phone, Answers::Status(500));
    w.sends(bob, "alice", "poison");
    w.after(secs(40));
    // It still cannot bear the first one: the answers change with what is asked.
    w.sends(bob, "alice", "good");
    let tried = |w: &World, text: &str| {
        w.requests(phone).iter().filter(|(_, r)| r.body == text.as_bytes()).count()
    };
    w.until("the one behind it is tried", |w| tried(w, "good") > 0);
    assert!(tried(&w, "poison") > 1);
    w.answers(phone, Answers::Ok200);
    w.after(mins(10));
    let mut texts = w.texts(phone);
    texts.sort_unstable();
    assert_eq!(texts, ["good", "poison"]);
}

/// The same instance twice in one REGISTER became two devices, and messages came twice.
#[test]
fn one_device_named_twice_in_a_request_is_one_device() {
    let mut w = World::new(302);
    let raw = w.raw("alice/raw");
    let twice = "<sip:alice@127.0.0.1:7001>;+sip.instance=\"<urn:uuid:1>\", \
                 <sip:alice@127.0.0.1:7001>;+sip.instance=\"<urn:uuid:1>\";q=0.5";
    let ok = w.asks(raw, &Ask::register("alice", twice).call("twice"));
    assert_eq!(ok.status, 200);
    assert_eq!(ok.headers.all(cpmd::syntax::sip::Name::Contact).count(), 1);
}

/// An older REGISTER that comes late must not bring back a device that left (RFC 3261 §10.3).
#[test]
fn a_late_registration_does_not_undo_leaving() {
    let mut w = World::new(303);
    let raw = w.raw("alice/raw");
    let here = "<sip:alice@127.0.0.1:7001>;+sip.instance=\"<urn:uuid:1>\"";
    let register = |cseq: u32| Ask::register("alice", here).call("r").cseq(cseq);
    assert_eq!(w.asks(raw, &register(1)).status, 200);
    assert_eq!(w.asks(raw, &register(9).header("Expires", "0")).status, 200);
    assert_eq!(w.asks(raw, &register(5)).status, 500);
    w.crashes_and_restarts();
    assert_eq!(w.asks(raw, &register(7)).status, 500, "also after a restart");
    assert_eq!(w.asks(raw, &register(20)).status, 200);
}

/// The same CSeq once more changed what was registered (RFC 3261 §10.3 step 7).
#[test]
fn the_same_cseq_changes_nothing() {
    let mut w = World::new(304);
    let raw = w.raw("alice/raw");
    let here = "<sip:alice@127.0.0.1:7001>;+sip.instance=\"<urn:uuid:1>\"";
    let register = |cseq: u32| Ask::register("alice", here).call("r").cseq(cseq);
    assert_eq!(w.asks(raw, &register(3)).status, 200);
    // The credentials go with the number behind: the same one both times.
    assert_eq!(w.asks(raw, &register(3)).status, 200, "a repeat");
    assert_eq!(w.asks(raw, &register(3).header("Expires", "0")).status, 500);
    assert_eq!(w.counts().bindings, 1);
    assert_eq!(w.asks(raw, &register(5).header("Expires", "0")).status, 200);
    assert_eq!(w.counts().bindings, 0);
}

/// A message acknowledged for an account that is then removed: its sender hears of it, and who
/// has the name next gets the same text when it is sent again.
#[test]
fn removing_an_account_tells_those_who_wrote_to_it() {
    let mut w = World::new(305);
    let bob = w.phone("bob/baresip");
    w.registers(bob);
    let eve = "sip:eve@a.example";
    let put = |new| Question::AccountPut {
        aor: eve.into(),
        credentials: credentials(eve, &password("eve"), false),
        new,
    };
    assert_eq!(w.operator(put(true)), Reply::Done);
    let sent = w.sends(bob, "eve", "hello");
    w.settle();
    assert_eq!(w.status(bob, &sent), Some(202));
    assert_eq!(w.operator(Question::AccountRemove { aor: eve.into() }), Reply::Done);
    w.after(secs(5));
    assert_eq!(w.texts(bob).len(), 1, "one line that says so");
    assert!(w.texts(bob)[0].contains("not delivered"));
    assert_eq!(w.operator(put(true)), Reply::Done);
    w.after(secs(5));
    assert_eq!(w.counts().waiting, 0, "nothing of the old account's is owed to the new one");
}

/// A note to oneself from the only device was acknowledged and kept by nobody.
#[test]
fn a_note_to_oneself_from_the_only_device_is_kept() {
    let mut w = World::new(306);
    let phone = w.cpm("alice/phone");
    w.registers(phone);
    let sent = w.sends(phone, "alice", "milk");
    w.settle();
    assert_eq!(w.status(phone, &sent), Some(202));
    let laptop = w.cpm("alice/laptop");
    w.registers(laptop);
    w.after(secs(5));
    assert_eq!(w.texts(laptop).len() + w.texts(phone).len(), 1);
}

/// Messages that were delivered, and only not displayed yet, do not fill a mailbox.
#[test]
fn what_was_delivered_does_not_count_as_waiting() {
    let mut w = World::new(307);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    let wanted = Wanted { display: true, ..Wanted::default() };
    w.sends_cpim(bob, "alice", "look", wanted);
    w.after(secs(10));
    assert_eq!(w.texts(phone), ["look"]);
    assert_eq!(w.counts().waiting, 0);
}

/// Identities that are not the sender's do not reach a device in another header, in a part of a
/// multipart body, or by being left out of a CPIM.
#[test]
fn a_forged_identity_has_no_other_way_in() {
    let mut w = World::new(308);
    let (phone, raw) = (w.phone("alice/baresip"), w.raw("bob/raw"));
    w.registers(phone);
    let ask = |call: &str| {
        let to = device::aor("alice");
        Ask::new(Method::Message, "bob", &to).call(call).header("Content-Type", "text/plain")
    };
    let mut forged = ask("headers");
    forged.body = Bytes::from_static(b"hi");
    for (name, value) in [
        ("Remote-Party-ID", "<sip:ceo@a.example>"),
        ("Reply-To", "<sip:ceo@a.example>"),
        ("b", "<sip:ceo@a.example>"),
        ("X-cpm-Flag", "1"),
        ("X-Colour", "red"),
    ] {
        forged = forged.header(name, value);
    }
    assert_eq!(w.asks(raw, &forged).status, 202);
    w.after(secs(2));
    let (_, got) = w.requests(phone).pop().expect("delivered");
    for name in ["Remote-Party-ID", "Reply-To", "b", "X-cpm-Flag"] {
        assert!(got.headers.other(name).is_none(), "{name}");
    }
    assert_eq!(got.headers.other("X-Colour"), Some(&b"red"[..]));

    let cpim = "From: <sip:ceo@a.example>\r\nTo: <sip:alice@a.example>\r\n\r\n\
                Content-Type: text/plain\r\n\r\nPay him";
    let to = device::aor("alice");
    let mut part = Ask::new(Method::Message, "bob", &to).call("part");
    part = part.header("Content-Type", "multipart/mixed;boundary=x");
    part.body = format!("--x\r\nContent-Type: message/cpim\r\n\r\n{cpim}\r\n--x--\r\n").into();
    assert_eq!(w.asks(raw, &part).status, 403);
    let mut nobody = Ask::new(Method::Message, "bob", &to).call("nobody");
    nobody = nobody.header("Content-Type", "message/cpim");
    nobody.body = Bytes::from_static(b"To: <sip:alice@a.example>\r\n\r\n\r\nPay him");
    assert_eq!(w.asks(raw, &nobody).status, 400);
    let mut large =
        ask("large").header("X-Large", &"x".repeat(3900)).header("X-Larger", &"x".repeat(900));
    large.body = Bytes::from_static(b"hi");
    assert_eq!(w.asks(raw, &large).status, 513);
}

/// Two Content-Encoding lines, the first of them harmless: the second one counts too.
#[test]
fn a_second_content_encoding_does_not_slip_through() {
    let mut w = World::new(799);
    let raw = w.raw("alice/raw");
    let _bob = w.cpm("bob/pda");
    w.all_register();
    let ask = Ask::text("alice", "bob", "packed")
        .header("Content-Encoding", "identity")
        .header("Content-Encoding", "gzip");
    let refused = w.asks(raw, &ask);
    assert_eq!(refused.status, 415);
    assert_eq!(refused.headers.text(Name::AcceptEncoding), Some("identity"));
}
