//! Delivery to the devices of the recipient (M6, M7 of the use case; RFC 3428).

use bytes::Bytes;
use cpmd::syntax::cpim::{Cpim, CpimWriter, Identity, Wanted};
use cpmd::syntax::imdn::Disposition;
use cpmd::syntax::sip::{Name, answer, reason_phrase};
use cpmd::ua::{Answers, MessageRef};

use crate::sim::{Ask, Dev, Way, World, device, mins, ms, secs};

/// M3, M6, flow (b): a message to three devices is one entry, three debts, three requests.
#[test]
fn a_message_reaches_three_devices() {
    let mut w = World::new(10);
    let devices = ["alice/phone", "alice/tablet", "alice/laptop"].map(|name| w.cpm(name));
    let bob = w.cpm("bob/pda");
    w.all_register();
    let since = w.rows.len();
    let hi = w.sends(bob, "alice", "hi");
    assert_eq!(w.status(bob, &hi), Some(202));
    for device in devices {
        assert_eq!(w.texts(device), ["hi"]);
    }
    let lanes = ["bob/pda", "cpmd", "alice/phone", "alice/tablet", "alice/laptop", "disk"];
    w.expect_ladder("message-to-three-devices", since, &lanes);
    w.after(secs(60));
    w.is_idle();
}

/// M7: a device that is off gets the message when it comes back.
#[test]
fn a_tablet_that_was_off_gets_the_message_when_it_comes_back() {
    let mut w = World::new(11);
    let (phone, tablet) = (w.cpm("alice/phone"), w.cpm("alice/tablet"));
    let bob = w.cpm("bob/pda");
    w.all_register();
    w.off(tablet);
    w.sends(bob, "alice", "hi");
    w.after(mins(10));
    assert_eq!((w.texts(phone).len(), w.texts(tablet).len()), (1, 0));
    let since = w.rows.len();
    w.on(tablet);
    w.expect_ladder("a-tablet-comes-back", since, &["cpmd", "alice/tablet", "disk"]);
    assert_eq!(w.texts(tablet), ["hi"]);
    assert_eq!(w.texts(phone), ["hi"]);
}

/// Rules: a CPM device gets what a plain phone wrote wrapped in CPIM with its id, and a plain phone
/// gets what a CPM client wrote as the text inside.
#[test]
fn each_device_gets_the_form_that_it_takes() {
    let mut w = World::new(12);
    let (phone, baresip) = (w.cpm("alice/phone"), w.phone("alice/baresip"));
    let (bob, old) = (w.cpm("bob/pda"), w.phone("bob/baresip"));
    w.all_register();
    let sent = w.sends_cpim(bob, "alice", "from a client", Wanted::default());
    w.sends(old, "alice", "from a phone");
    assert_eq!(w.texts(phone), ["from a client", "from a phone"]);
    assert_eq!(w.texts(baresip), ["from a client", "from a phone"]);
    let types =
        |dev| -> Vec<String> { w.received(dev).into_iter().map(|r| r.content_type).collect() };
    assert_eq!(types(phone), ["message/cpim", "message/cpim"]);
    assert!(types(baresip).iter().all(|t| t.starts_with("text/plain")));
    let ids: Vec<_> = w.received(phone).into_iter().filter_map(|r| r.message_id).collect();
    assert_eq!(ids[0], *sent.message_id, "CPIM octets never change on the way");
    assert_eq!(ids.len(), 2);
}

/// Rules, forms and answers: baresip says 415 with Accept: text/plain to CPIM; the next form goes
/// out at once, and the next message does not ask again.
#[test]
fn a_phone_that_takes_text_alone_is_asked_once() {
    let mut w = World::new(13);
    let (baresip, bob) = (w.phone("alice/baresip"), w.cpm("bob/pda"));
    w.all_register();
    let since = w.rows.len();
    w.sends_cpim(bob, "alice", "one", Wanted::default());
    w.sends_cpim(bob, "alice", "two", Wanted::default());
    let lanes = ["bob/pda", "cpmd", "alice/baresip"];
    w.expect_ladder("a-phone-takes-text-alone", since, &lanes);
    assert_eq!(w.texts(baresip), ["one", "two"]);
    let types: Vec<String> = w
        .requests(baresip)
        .iter()
        .map(|(_, r)| r.headers.text(Name::ContentType).unwrap_or_default().to_owned())
        .collect();
    assert_eq!(types.len(), 3, "{types:?}");
    assert_eq!(types[0], "message/cpim");
    // Each form is its own request: the CSeq rises within the Call-ID.
    let requests = w.requests(baresip);
    let cseq = |i: usize| requests[i].1.cseq().map(|c| c.number).unwrap_or_default();
    assert!(cseq(1) > cseq(0));
    assert_eq!(requests[0].1.call_id().ok(), requests[1].1.call_id().ok());
}

/// Rules: linphone says 488 to every CPIM form, without saying what it takes.
#[test]
fn a_phone_that_says_488_to_cpim_gets_the_text() {
    let mut w = World::new(14);
    let linphone = w.raw("alice/linphone");
    let bob = w.cpm("bob/pda");
    w.registers(bob);
    let contact = format!("<sip:alice@{}>", w.devices[linphone.0].addr);
    assert_eq!(w.asks(linphone, &Ask::register("alice", &contact)).status, 200);
    for text in ["one", "two"] {
        w.sends_cpim(bob, "alice", text, Wanted::default());
        answers_cpim_with(&mut w, linphone, 488);
    }
    let types: Vec<String> = w
        .requests(linphone)
        .iter()
        .map(|(_, r)| r.headers.text(Name::ContentType).unwrap_or_default().to_owned())
        .collect();
    assert_eq!(types[0], "message/cpim");
    assert!(types[1..].iter().all(|t| t.starts_with("text/plain")), "{types:?}");
    assert_eq!(types.len(), 3);
    w.after(secs(60));
    w.is_idle();
}

/// The raw phone answers what has come: CPIM with `status`, everything else with 200.
fn answers_cpim_with(w: &mut World, dev: Dev, status: u16) {
    let mut done = 0;
    loop {
        let heard = w.requests(dev);
        let mut answered = false;
        for (_, request) in heard.iter().skip(done) {
            let cpim = request.headers.text(Name::ContentType) == Some("message/cpim");
            let status = if cpim { status } else { 200 };
            let reply = answer(request, status, reason_phrase(status), Some("phone")).finish(b"");
            w.says(dev, reply);
            answered = true;
        }
        done = heard.len();
        if !answered {
            return;
        }
    }
}

/// Rules: only 6xx or expiry closes a debt. 603 does, and the sender who asked hears it.
#[test]
fn a_phone_that_declines_is_not_asked_again() {
    let mut w = World::new(15);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    w.answers(phone, Answers::Status(603));
    let wanted = Wanted { negative_delivery: true, ..Wanted::default() };
    let sent = w.sends_cpim(bob, "alice", "hi", wanted);
    w.after(mins(30));
    assert_eq!(w.requests(phone).len(), 1);
    assert_eq!(w.receipts(bob, &sent), [Disposition::DeliveryFailed]);
    w.answers(phone, Answers::Ok200);
    w.on(phone);
    assert_eq!(w.texts(phone).len(), 0, "the debt is closed");
    w.after(secs(60));
    w.is_idle();
}

/// Rules: a device that is busy (480) or silent rests, longer each time; its queue keeps its
/// order; a registration ends all rest.
#[test]
fn a_busy_phone_rests_and_gets_everything_in_order() {
    let mut w = World::new(16);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    w.answers(phone, Answers::Status(480));
    let texts: Vec<String> = (1..=5).map(|i| format!("number {i}")).collect();
    for text in &texts {
        w.sends(bob, "alice", text);
    }
    w.after(mins(2));
    let tried = w.requests(phone).len();
    assert!((4..=9).contains(&tried), "2, 4, 8 … seconds: {tried}");
    w.answers(phone, Answers::Ok200);
    w.does(phone, |a, now| a.register(now));
    w.after(secs(5));
    assert_eq!(w.texts(phone), texts);
}

/// Rules: one message in back-off holds the ones behind it 30 s at most.
#[test]
fn a_message_that_is_refused_holds_the_others_for_half_a_minute() {
    let mut w = World::new(17);
    let (raw, bob) = (w.raw("alice/raw"), w.cpm("bob/pda"));
    w.registers(bob);
    let contact = format!("<sip:alice@{}>", w.devices[raw.0].addr);
    assert_eq!(w.asks(raw, &Ask::register("alice", &contact)).status, 200);
    let began = w.time();
    w.sends(bob, "alice", "the one it cannot take");
    w.sends(bob, "alice", "the next");
    let mut done = 0;
    let mut came = None;
    for _ in 0..300 {
        let heard = w.requests(raw);
        for (_, request) in heard.iter().skip(done) {
            let next = request.body.ends_with(b"the next");
            let status = if next { 200 } else { 404 };
            if next {
                came = came.or(Some(w.time()));
            }
            let reply = answer(request, status, reason_phrase(status), Some("phone")).finish(b"");
            w.says(raw, reply);
        }
        done = heard.len();
        w.after(ms(500));
    }
    let waited = (came.expect("it came") - began) / 1_000_000;
    assert!((28..=32).contains(&waited), "after {waited} s");
}

/// M7: a message that no device took in its time is told to the sender: a plain one gets a line.
#[test]
fn a_message_that_expires_is_told_to_a_plain_sender_in_words() {
    let mut w = World::new(18);
    let (phone, bob) = (w.cpm("alice/phone"), w.phone("bob/baresip"));
    w.all_register();
    w.off(phone);
    let to = device::aor("alice");
    let body = Bytes::from_static(b"soon too late");
    let sent =
        w.does(bob, |a, now| a.send_body(now, &to, "text/plain", body, &[("Expires", "600")]));
    w.settle();
    assert_eq!(w.status(bob, &sent), Some(202));
    w.after(mins(9));
    assert_eq!(w.texts(bob).len(), 0);
    w.after(mins(2));
    let told = w.texts(bob);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("alice@a.example") && told[0].contains("not delivered"), "{told:?}");
    w.on(phone);
    w.after(mins(2));
    assert_eq!(w.texts(phone).len(), 0, "it has expired");
    w.is_idle();
}

/// The same for a CPM sender that asked: an IMDN `failed`, once, on the device that asked.
#[test]
fn a_message_that_expires_is_told_to_a_client_that_asked_as_a_receipt() {
    let mut w = World::new(19);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    w.off(phone);
    let (from, to) = (Identity::of(&device::aor("bob")), Identity::of(&device::aor("alice")));
    let wanted = Wanted { negative_delivery: true, positive_delivery: true, ..Wanted::default() };
    let body = CpimWriter::new(&from, &to, w.now().unix)
        .message_id("soon-too-late")
        .wanted(wanted)
        .finish(b"soon too late");
    let to = device::aor("alice");
    w.does(bob, |a, now| a.send_body(now, &to, "message/cpim", body, &[("Expires", "600")]));
    w.crashes_and_restarts();
    w.after(mins(11));
    let named = MessageRef { number: 1, message_id: "soon-too-late".into() };
    assert_eq!(w.receipts(bob, &named), [Disposition::DeliveryFailed]);
    assert_eq!(w.texts(bob).len(), 0, "no line for those who read receipts");
}

/// Rules: over 1300 bytes nothing goes out over UDP (RFC 3428 §8): the phone gets a line with a
/// reference, the device on TCP gets all of it.
#[test]
fn a_long_text_reaches_a_udp_phone_as_a_line() {
    let mut w = World::new(110);
    let (phone, laptop) = (w.phone("alice/baresip"), w.cpm_tcp("alice/laptop"));
    let bob = w.cpm_tcp("bob/pda");
    w.all_register();
    let long = format!("Once upon a time {}", "there was a long text. ".repeat(100));
    w.sends(bob, "alice", &long);
    assert_eq!(w.texts(laptop), [long.as_str()]);
    let line = w.received(phone);
    assert_eq!(line.len(), 1);
    assert!(line[0].line_form, "{line:?}");
    let text = line[0].text.clone().unwrap_or_default();
    assert!(text.contains("Once upon a time") && text.contains("bob"), "{text}");
    assert!(text.contains("2.3 kB"), "{text}");
}

/// M1: a body of more than 64 KiB over TCP: a file on disk, and the same octets at the other end,
/// also after a restart.
#[test]
fn a_large_body_is_kept_as_a_file_and_arrives_whole() {
    let mut w = World::new(111);
    let (laptop, bob) = (w.cpm_tcp("alice/laptop"), w.cpm_tcp("bob/pda"));
    w.all_register();
    w.off(laptop);
    let picture: Vec<u8> = (0..200_000_u32).map(|i| ((i * 7919) >> 3) as u8).collect();
    let picture = Bytes::from(picture);
    let to = device::aor("alice");
    let sent = w.does(bob, |a, now| a.send_body(now, &to, "image/png", picture.clone(), &[]));
    w.settle();
    assert_eq!(w.status(bob, &sent), Some(202));
    assert_eq!(w.disk.blobs(), 1, "one file for both sides");
    w.crashes_and_restarts();
    w.after(secs(10));
    w.on(laptop);
    w.after(secs(40));
    let received = w.received(laptop);
    assert_eq!(received.len(), 1);
    let cpim = Cpim::read(&received[0].body).expect("wrapped");
    assert!(*cpim.content() == picture, "the same octets");
}

/// Bodies around the bound of a record, with headers of all sizes, all fit the store.
#[test]
fn bodies_of_every_size_fit_the_store() {
    let mut w = World::new(112);
    let (laptop, bob) = (w.cpm_tcp("alice/laptop"), w.cpm_tcp("bob/pda"));
    w.all_register();
    let to = device::aor("alice");
    let header = "s".repeat(1200);
    let subjects: Vec<(&str, &str)> = ["X-A", "X-B", "X-C"].map(|n| (n, header.as_str())).to_vec();
    let sizes = [0, 1, 59 * 1024, 60 * 1024, 60 * 1024 + 1, 64 * 1024, 100_000];
    for size in sizes {
        let body = Bytes::from(vec![b'x'; size]);
        let kind = "application/octet-stream";
        let sent = w.does(bob, |a, now| a.send_body(now, &to, kind, body, &subjects));
        w.settle();
        assert_eq!(w.status(bob, &sent), Some(202), "{size}");
    }
    w.after(secs(60));
    assert_eq!(w.received(laptop).len(), sizes.len());
}

/// A device that changes its address while a message is on its way gets it at the new one.
#[test]
fn a_device_that_moves_gets_what_was_on_its_way() {
    let mut w = World::new(113);
    let (phone, bob) = (w.cpm_tcp("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    // The old connection is dead, and nobody knows.
    w.off(phone);
    w.sends(bob, "alice", "hi");
    w.after(secs(3));
    w.on(phone);
    w.after(secs(2));
    assert_eq!(w.texts(phone), ["hi"]);
}

/// RFC 3327 §5.4: the Path of a registration is the Route to the device, in its order; the request
/// goes where the registration came from. Also after a restart.
#[test]
fn a_device_behind_proxies_is_reached_by_their_route() {
    let mut w = World::new(118);
    let (edge, bob) = (w.raw("alice/edge"), w.cpm("bob/pda"));
    w.registers(bob);
    let (near, far) = ("<sip:edge.example;lr>", "<sip:inner.example;lr;cookie=\"a,b\">");
    let register = Ask::register("alice", "<sip:alice@10.77.0.1>").header("Supported", "path");
    let ok = w.asks(edge, &register.header("Path", near).header("Path", far));
    assert_eq!(ok.status, 200);
    let listed = |headers: &cpmd::syntax::sip::Headers, name| -> Vec<String> {
        headers.list(name).map(|v| String::from_utf8_lossy(v).into_owned()).collect()
    };
    assert_eq!(listed(&ok.headers, Name::Path), [near, far], "who registered is told");
    w.sends(bob, "alice", "hi");
    w.crashes_and_restarts();
    w.after(secs(1));
    let requests = w.requests(edge);
    assert!(requests.len() > 1, "before and after the restart");
    for (_, request) in requests {
        assert_eq!(listed(&request.headers, Name::Route), [near, far]);
        assert_eq!(request.uri.as_ref(), b"sip:alice@10.77.0.1");
    }
}

/// RFC 5626 §4.3: a device behind a broken connection is reached again by opening one to it.
#[test]
fn a_device_whose_connection_broke_is_called_back() {
    let mut w = World::new(114);
    let (phone, bob) = (w.cpm_tcp("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    w.resets(phone);
    w.settle();
    w.sends(bob, "alice", "hi");
    assert_eq!(w.texts(phone), ["hi"]);
    w.crashes_and_restarts();
    w.sends(bob, "alice", "after a restart");
    w.after(secs(40));
    assert_eq!(w.texts(phone), ["hi", "after a restart"]);
}

/// A device that refuses every form keeps its debt, and is asked again when it has rested (rules:
/// only 6xx or expiry closes a debt).
#[test]
fn a_device_that_refused_everything_is_asked_again() {
    let mut w = World::new(115);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    w.all_register();
    w.answers(phone, Answers::Status(488));
    w.sends(bob, "alice", "hi");
    w.after(mins(1));
    assert_eq!(w.requests(phone).len(), 2, "wrapped, and as it came");
    w.answers(phone, Answers::Ok200);
    w.after(mins(6));
    assert_eq!(w.texts(phone), ["hi"]);
}

/// A phone without an instance unregisters while a message is on its way to it, and answers: that
/// was the delivery, and the next phone is not given it.
#[test]
fn a_phone_that_leaves_while_a_message_is_on_its_way_gets_it_once() {
    let mut w = World::new(116);
    let (phone, bob) = (w.phone("alice/baresip"), w.cpm("bob/pda"));
    w.all_register();
    w.loses(phone, Way::Up, "200", 1);
    w.starts_sending(bob, "alice", "hi");
    w.until("the phone has it", |w| !w.texts(phone).is_empty());
    w.does(phone, |a, now| a.unregister(now));
    w.settle();
    assert_eq!(w.counts().bindings, 1);
    // The server asks once more, and this time the answer arrives.
    w.after(secs(2));
    w.registers(phone);
    w.after(secs(60));
    assert_eq!(w.texts(phone), ["hi"]);
}

/// A phone that leaves while its registration is still being written takes nothing with it.
#[test]
fn a_phone_that_leaves_at_once_takes_nothing_with_it() {
    let mut w = World::new(117);
    let (phone, bob) = (w.phone("alice/baresip"), w.cpm("bob/pda"));
    w.registers(bob);
    w.sends(bob, "alice", "hi");
    w.disk.is_held = true;
    w.does(phone, |a, now| a.register(now));
    w.does(phone, |a, now| a.unregister(now));
    w.after(secs(5));
    w.disk.is_held = false;
    w.after(secs(5));
    let other = w.phone("alice/other");
    w.registers(other);
    w.after(secs(5));
    let shown = w.texts(phone).len() + w.texts(other).len();
    assert_eq!(shown, 1);
}
