//! The sender's side (M1 to M4 of the use case; RFC 3428 §4 and §7): who may send, what a 202
//! means, retries, copies.

use cpmd::node::{Question, Reply};
use cpmd::service::tu::Note;
use cpmd::syntax::cpim::{CpimWriter, Identity, Wanted};
use cpmd::syntax::sip::Name;

use crate::sim::{Ask, Way, World, device, mins, ms, secs};

const ASKING: Wanted =
    Wanted { positive_delivery: true, negative_delivery: true, display: true, ..NONE };
const NONE: Wanted = Wanted {
    positive_delivery: false,
    negative_delivery: false,
    display: false,
    processing: false,
};

/// The rule over everything: no 202 before the message is on disk, here and on the other side.
#[test]
fn no_202_before_the_store() {
    let mut w = World::new(20);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    w.disk.is_held = true;
    let hi = w.sends(bob, "alice", "hi");
    w.after(secs(20));
    assert_eq!(w.status(bob, &hi), None);
    assert_eq!(w.texts(phone).len(), 0, "nobody sees what is not on disk");
    w.disk.is_held = false;
    w.after(secs(1));
    assert_eq!(w.status(bob, &hi), Some(202));
    assert_eq!(w.texts(phone), ["hi"]);
}

/// After the 202 the server is killed: nothing is lost, and a CPM device shows it once.
#[test]
fn a_restart_between_202_and_delivery_loses_nothing() {
    let mut w = World::new(21);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    w.hold(phone);
    let since = w.rows.len();
    let hi = w.sends(bob, "alice", "hi");
    assert_eq!(w.status(bob, &hi), Some(202));
    w.crashes_and_restarts();
    w.release(phone);
    w.after(secs(10));
    assert_eq!(w.texts(phone), ["hi"]);
    let lanes = ["bob/pda", "cpmd", "alice/phone", "disk"];
    w.expect_ladder("restart-between-202-and-delivery", since, &lanes);
    w.after(mins(2));
    w.is_idle();
}

/// Rules: after a restart we retransmit and never send anew: same Call-ID, CSeq and branch.
#[test]
fn after_a_restart_the_same_request_goes_out_again() {
    let mut w = World::new(22);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    w.loses(phone, Way::Up, "200", 99);
    w.sends(bob, "alice", "hi");
    w.crashes_and_restarts();
    w.after(secs(5));
    let sent: Vec<_> = w.requests(phone).into_iter().map(|(_, r)| r).collect();
    assert!(sent.len() > 2, "before and after the restart");
    for r in &sent {
        let same = |name| r.headers.get(name) == sent[0].headers.get(name);
        assert!(same(Name::CallId) && same(Name::CSeq) && same(Name::From));
        let branch = |r: &cpmd::syntax::sip::Request| {
            r.via().ok().and_then(|v| v.branch().map(str::to_owned))
        };
        assert_eq!(branch(r), branch(&sent[0]));
    }
    assert_eq!(w.texts(phone), ["hi"]);
}

/// A phone that cannot tell repeats shows one twice only when the kill fell between its answer
/// and our record, and the log says which.
#[test]
fn a_kill_between_answer_and_record_may_show_a_plain_phone_the_message_twice() {
    let mut w = World::new(23);
    let (phone, bob) = (w.phone("alice/baresip"), w.cpm("bob/pda"));
    w.all_register();
    w.starts_sending(bob, "alice", "hi");
    w.until("the phone has it", |w| !w.texts(phone).is_empty());
    w.disk.is_held = true;
    w.settle();
    // The phone has answered; it is switched off and on, so that it knows of no transaction.
    w.crashes_and_restarts();
    w.disk.is_held = false;
    w.does(phone, |a, _| a.restart());
    w.after(secs(10));
    assert_eq!(w.texts(phone), ["hi", "hi"]);
    let named = w.notes.iter().filter(|n| matches!(n, Note::MayRepeat { .. })).count();
    assert_eq!(named, 1);
    // And never again.
    w.crashes_and_restarts();
    w.after(mins(5));
    assert_eq!(w.texts(phone).len(), 2);
}

/// The 202 is lost and the sender tries again with the same Call-ID: one message.
#[test]
fn a_retry_with_the_same_call_id_is_stored_once() {
    let mut w = World::new(24);
    let phone = w.cpm("alice/phone");
    w.registers(phone);
    let raw = w.raw("bob/raw");
    let ask = Ask::text("bob", "alice", "hi");
    assert_eq!(w.asks(raw, &ask).status, 202);
    let stored = w.disk.facts.entries.len();
    w.crashes_and_restarts();
    assert_eq!(w.asks(raw, &ask.clone().cseq(7)).status, 202);
    assert_eq!(w.disk.facts.entries.len(), stored);
    assert_eq!(w.texts(phone), ["hi"]);
}

/// Rules: the same key with another body is a new message, and logged.
#[test]
fn the_same_call_id_with_another_body_is_another_message() {
    let mut w = World::new(25);
    let phone = w.cpm("alice/phone");
    w.registers(phone);
    let raw = w.raw("bob/raw");
    assert_eq!(w.asks(raw, &Ask::text("bob", "alice", "one").call("x")).status, 202);
    assert_eq!(w.asks(raw, &Ask::text("bob", "alice", "two").call("x").cseq(5)).status, 202);
    let other = |n: &Note| matches!(n, Note::SameIdOtherBody { message_id } if message_id == "x");
    assert!(w.notes.iter().any(other));
    assert_eq!(w.requests(phone).len(), 2, "both went out");
}

/// M3: the sender's domain and the recipient's are two; each keeps its own.
#[test]
fn a_message_passes_between_two_domains() {
    let mut w = World::new(26);
    let (alice, bob) = (w.cpm("alice/phone"), w.cpm_tcp("bob/pda"));
    w.all_register();
    w.sends(bob, "alice", "from b to a");
    w.sends(alice, "bob", "from a to b");
    assert_eq!(w.texts(alice), ["from b to a"]);
    assert_eq!(w.texts(bob), ["from a to b"]);
    assert!(w.disk.batches("sip:alice@a.example") > 0 && w.disk.batches("sip:bob@b.example") > 0);
}

/// M2: who sends is who has proven it, whatever the headers say: From, P-Preferred-Identity and
/// the From inside CPIM. Nothing is stored.
#[test]
fn a_forged_sender_is_refused() {
    let mut w = World::new(27);
    let (phone, eve) = (w.cpm("alice/phone"), w.raw("eve/raw"));
    let _bob = w.cpm("bob/pda");
    w.registers(phone);
    let text = || Ask::text("eve", "alice", "I am bob");
    let cpim = |from: &str| {
        let (from, to) = (Identity::of(from), Identity::of("sip:alice@a.example"));
        CpimWriter::new(&from, &to, w.now().unix).message_id("m").finish(b"I am bob")
    };
    let (bobs, own) = (cpim("sip:bob@b.example"), cpim("sip:eve@a.example"));
    let anonymous = cpim("sip:anonymous@anonymous.invalid");
    let forged = [
        text().header("P-Preferred-Identity", "<sip:bob@b.example>"),
        text().body("message/cpim", bobs),
    ];
    for ask in forged {
        assert_eq!(w.asks(eve, &ask.call("forged")).status, 403);
    }
    // With bob's From it is bob's password that is asked for, and eve has none.
    let mut as_bob = text();
    as_bob.from = "<sip:bob@b.example>".into();
    assert_eq!(w.asks(eve, &as_bob).status, 401);
    let mut stranger = text();
    stranger.from = "<sip:bob@elsewhere.example>".into();
    assert_eq!(w.asks(eve, &stranger).status, 403);
    assert_eq!(w.disk.facts.entries.len(), 0);
    assert_eq!(w.asks(eve, &text().body("message/cpim", own).call("a")).status, 202);
    assert_eq!(w.asks(eve, &text().body("message/cpim", anonymous).call("b")).status, 202);
}

/// Nobody there: 404 at once, nothing stored, and the domain that is not ours the same.
#[test]
fn a_message_to_nobody_is_refused() {
    let mut w = World::new(28);
    let bob = w.cpm("bob/pda");
    w.registers(bob);
    for to in ["zoe", "zoe@elsewhere.example"] {
        let sent = w.sends(bob, to, "hello?");
        assert_eq!(w.status(bob, &sent), Some(404));
    }
    assert_eq!(w.disk.facts.entries.len(), 0);
}

/// M2: more than the account's pace is 480 with Retry-After, and later it goes on.
#[test]
fn a_sender_that_is_too_fast_is_told_when_to_try_again() {
    let mut w = World::with(29, |s| (s.messages_burst, s.messages_per_second) = (3, 1));
    let (phone, raw) = (w.cpm("alice/phone"), w.raw("bob/raw"));
    w.registers(phone);
    let mut statuses = Vec::new();
    for i in 0..5 {
        let answer = w.asks(raw, &Ask::text("bob", "alice", &format!("text {i}")));
        if answer.status == 480 {
            assert_eq!(answer.headers.text(Name::RetryAfter), Some("1"));
        }
        statuses.push(answer.status);
    }
    assert_eq!(statuses, [202, 202, 202, 480, 480]);
    w.after(secs(2));
    assert_eq!(w.asks(raw, &Ask::text("bob", "alice", "text 4")).status, 202);
}

/// M4: the sender's other CPM devices get a copy with the same Message-ID; plain phones nothing.
#[test]
fn the_senders_other_devices_get_a_copy() {
    let mut w = World::new(30);
    let alice = w.cpm("alice/phone");
    let [pda, laptop] = ["bob/pda", "bob/laptop"].map(|name| w.cpm(name));
    let baresip = w.phone("bob/baresip");
    w.all_register();
    let sent = w.sends_cpim(pda, "alice", "see you", ASKING);
    assert_eq!(w.texts(alice), ["see you"]);
    let copies = w.copies(laptop);
    assert_eq!(copies.len(), 1);
    assert_eq!(copies[0].message_id.as_deref(), Some(&*sent.message_id));
    assert_eq!(copies[0].text.as_deref(), Some("see you"));
    assert_eq!((w.copies(pda).len(), w.requests(baresip).len()), (0, 0));
    // A device that was off gets its copy later.
    w.off(laptop);
    w.sends(pda, "alice", "again");
    w.after(mins(1));
    w.on(laptop);
    w.after(secs(5));
    assert_eq!(w.copies(laptop).len(), 2);
    assert_eq!(w.texts(laptop).len(), 0, "a copy is no message of somebody else");
}

/// RFC 3261 §17.1.4: a sender whose connection breaks tries again, and the message is one.
#[test]
fn a_connection_that_breaks_before_the_202_leaves_one_message() {
    let mut w = World::new(31);
    let phone = w.cpm("alice/phone");
    w.registers(phone);
    let raw = w.raw_tcp("bob/raw");
    let ask = Ask::text("bob", "alice", "hi");
    assert_eq!(w.asks(raw, &ask).status, 202);
    w.resets(raw);
    w.settle();
    assert_eq!(w.asks(raw, &ask.cseq(9)).status, 202);
    assert_eq!(w.texts(phone), ["hi"]);
}

/// RFC 3428 §4: typing indications belong to sessions; the answer says what is taken.
#[test]
fn a_typing_indication_outside_a_session_is_refused() {
    let mut w = World::new(32);
    let raw = w.raw("bob/raw");
    let _alice = w.cpm("alice/phone");
    let ask = Ask::text("bob", "alice", "x").body("application/im-iscomposing+xml", "<a/>");
    let answer = w.asks(raw, &ask);
    assert_eq!(answer.status, 415);
    assert!(answer.headers.text(Name::Accept).is_some_and(|a| a.contains("text/plain")));
}

/// The recipient's account is removed while the message is being written: the refusal comes within
/// the 2 s and is passed on, the sentbox entry has failed, and the same again is a new try.
#[test]
fn a_refusal_of_the_recipients_side_is_passed_on() {
    let mut w = World::new(33);
    let raw = w.raw("bob/raw");
    let aor = "sip:nobody@a.example";
    let credentials = cpmd::service::account::credentials(aor, &device::password("nobody"), false);
    let put =
        || Question::AccountPut { aor: aor.into(), credentials: credentials.clone(), new: true };
    assert_eq!(w.operator(put()), Reply::Done);
    let ask = Ask::text("bob", "nobody", "hi");
    w.disk.delay = (500_000, 500_000);
    w.asks_later(raw, &ask);
    w.after(ms(300));
    w.operator(Question::AccountRemove { aor: aor.into() });
    w.after(secs(5));
    assert_eq!(w.last_status(raw), Some(404));
    assert_eq!(w.operator(put()), Reply::Done);
    let phone = w.cpm("nobody/phone");
    w.registers(phone);
    w.after(secs(5));
    assert_eq!(w.asks(raw, &ask.cseq(20)).status, 202);
    w.after(secs(5));
    assert_eq!(w.texts(phone), ["hi"]);
}

/// A phone tried again while its first try still waited for the recipient's side: it was told 202,
/// and the first one then 404. Both get the same answer, whichever it is.
#[test]
fn a_retry_gets_the_answer_of_the_first_try() {
    for is_removed in [true, false] {
        let mut w = World::new(35);
        let [first, second] = ["bob/raw", "bob/again"].map(|name| w.raw(name));
        let aor = "sip:nobody@a.example";
        let credentials =
            cpmd::service::account::credentials(aor, &device::password("nobody"), false);
        let put = Question::AccountPut { aor: aor.into(), credentials, new: true };
        assert_eq!(w.operator(put), Reply::Done);
        let ask = Ask::text("bob", "nobody", "hi");
        w.disk.delay = (1_500_000, 1_500_000);
        w.asks_later(first, &ask);
        w.after(ms(600));
        w.asks_later(second, &ask.cseq(20));
        w.after(ms(100));
        let heard = [first, second].map(|dev| w.last_status(dev));
        assert_eq!(heard, [Some(401), Some(401)], "both wait");
        if is_removed {
            w.operator(Question::AccountRemove { aor: aor.into() });
        }
        w.after(secs(5));
        let expected = Some(if is_removed { 404 } else { 202 });
        assert_eq!([first, second].map(|dev| w.last_status(dev)), [expected; 2]);
        assert_eq!(w.disk.facts.entries.iter().filter(|e| e.1).count(), 1, "one in the sentbox");
    }
}

/// A note to oneself reaches the other devices, and not the one that wrote it.
#[test]
fn a_message_to_oneself_reaches_the_other_devices() {
    let mut w = World::new(34);
    let [phone, tablet] = ["alice/phone", "alice/tablet"].map(|name| w.cpm(name));
    w.all_register();
    let sent = w.sends(phone, "alice", "buy milk");
    assert_eq!(w.status(phone, &sent), Some(202));
    assert_eq!((w.texts(phone).len(), w.texts(tablet)), (0, vec!["buy milk".to_owned()]));
    assert_eq!(w.copies(tablet).len(), 0);
}
