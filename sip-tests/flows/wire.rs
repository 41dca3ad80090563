//! What comes in that is not meant for us, or not well made (RFC 3261 §8.2, §18.3), and clocks.

use cpmd::syntax::sip::{Message, Method, Name};

use crate::sim::{Ask, Rule, World, mins, secs};

/// RFC 3261 §8.2, RFC 6665 §4.1.3: what is not served is refused with the code that says why.
#[test]
fn requests_that_are_not_served_are_refused_by_name() {
    let mut w = World::new(80);
    let raw = w.raw("alice/raw");
    let other = |name: &str| Method::Other(name.into());
    let home = "sip:alice@a.example";
    for (method, status, header) in [
        (Method::Subscribe, 489, None),
        (Method::Invite, 405, Some(Name::Allow)),
        (Method::Refer, 405, Some(Name::Allow)),
        (other("DANCE"), 501, Some(Name::Allow)),
        (Method::Bye, 481, None),
        (Method::Notify, 481, None),
        (Method::Options, 200, Some(Name::Accept)),
    ] {
        let ask = Ask::new(method.clone(), "alice", home);
        let answer = w.asks_once(raw, &ask.call(method.as_str())).expect("an answer");
        assert_eq!(answer.status, status, "{method}");
        assert!(header.is_none_or(|name| answer.headers.get(name).is_some()), "{method}");
    }
    w.after(secs(60));
    w.is_idle();
}

/// RFC 3261 §8.2.2: scheme, extensions, hops.
#[test]
fn requests_that_ask_for_what_we_have_not_are_refused() {
    let mut w = World::new(81);
    let raw = w.raw("alice/raw");
    let _bob = w.cpm("bob/pda");
    let text = |id: &str| Ask::text("alice", "bob", "hi").call(id);
    let mut tel = text("tel");
    tel.uri = "tel:+15551234567".into();
    assert_eq!(w.asks(raw, &tel).status, 416);
    let required = w.asks(raw, &text("req").header("Require", "teleport, path"));
    assert_eq!(required.status, 420);
    assert_eq!(required.headers.text(Name::Unsupported), Some("teleport"));
    let mut tired = text("hops");
    tired.hops = 0;
    assert_eq!(w.asks(raw, &tired).status, 483);
    assert_eq!(w.asks(raw, &text("in a dialog").call("dialog")).status, 202);
    let mut dialog = text("inside");
    dialog.to.push_str(";tag=somebody");
    assert_eq!(w.asks(raw, &dialog).status, 481);
}

/// RFC 3261 §8.2.6.2, §19.3: an answer keeps the tag of To, and where there is none it gets one of
/// its own, random, but the same for the same request; our requests have one in From.
#[test]
fn tags_are_random_and_stay() {
    let mut w = World::new(92);
    let (raw, phone) = (w.raw("alice/raw"), w.cpm("bob/pda"));
    w.registers(phone);
    let options = |id: &str| Ask::new(Method::Options, "alice", "sip:a.example").call(id);
    let mut tags = Vec::new();
    for ask in [options("one"), options("two"), Ask::text("alice", "bob", "refused, then taken")] {
        let answer = w.asks_once(raw, &ask).expect("an answer");
        tags.extend(answer.to().expect("To").tag().map(str::to_owned));
    }
    tags.extend(
        w.asks(raw, &Ask::text("alice", "bob", "hi")).to().expect("To").tag().map(str::to_owned),
    );
    let (_, request) = w.requests(phone).pop().expect("it went on");
    tags.extend(request.from().expect("From").tag().map(str::to_owned));
    assert_eq!(tags.len(), 5);
    assert!(tags.iter().all(|tag| tag.len() >= 8), "32 random bits at least: {tags:?}");
    tags.sort_unstable();
    tags.dedup();
    assert_eq!(tags.len(), 5, "each its own");
    // The same request again, of which nothing was kept: the same answer.
    let octets = options("again").write(&w.devices[raw.0], "z9hG4bKagain", None);
    let heard = w.devices[raw.0].heard.len();
    w.says(raw, &octets);
    w.says(raw, &octets);
    let answers = w.devices[raw.0].heard[heard..].iter().filter_map(|(_, m)| match m {
        Message::Response(r) => Some(r.to().expect("To").tag().map(str::to_owned)),
        Message::Request(_) => None,
    });
    let answers: Vec<_> = answers.collect();
    assert!(answers.len() == 2 && answers[0].is_some() && answers[0] == answers[1], "{answers:?}");
    let mut inside = options("inside");
    inside.to.push_str(";tag=theirs");
    let kept = w.asks_once(raw, &inside).expect("an answer");
    assert_eq!(kept.to().expect("To").tag(), Some("theirs"));
}

/// RFC 3261 §21.4.1: 400 names the header that is to blame; §21.5.6: another version is 505.
#[test]
fn a_missing_header_is_named() {
    let mut w = World::new(82);
    let raw = w.raw("alice/raw");
    for (name, said) in [
        (Name::CallId, "Missing Call-ID header"),
        (Name::CSeq, "Missing CSeq header"),
        (Name::From, "Missing From header"),
        (Name::To, "Missing To header"),
    ] {
        let ask = Ask::text("alice", "bob", "hi").without(name);
        let answer = w.asks_once(raw, &ask).expect("an answer");
        assert_eq!((answer.status, &*answer.reason), (400, said.as_bytes()));
    }
    let old = Ask::text("alice", "bob", "hi").write(&w.devices[raw.0], "z9hG4bKold", None);
    let old = String::from_utf8_lossy(&old).replacen("SIP/2.0\r\n", "SIP/3.0\r\n", 1);
    w.says(raw, old);
    let (_, last) = w.devices[raw.0].heard.last().expect("an answer");
    assert!(matches!(last, Message::Response(r) if r.status == 505));
}

/// Octets that are no SIP close the connection they came on, and no other.
#[test]
fn garbage_closes_its_own_connection_only() {
    let mut w = World::new(83);
    let (evil, tablet) = (w.raw_tcp("eve/raw"), w.cpm_tcp("alice/tablet"));
    let bob = w.cpm("bob/pda");
    w.registers(tablet);
    w.registers(bob);
    w.says(evil, "GET / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(w.devices[evil.0].closed, 1);
    w.says(evil, vec![0xff; 100_000]);
    assert_eq!(w.devices[evil.0].closed, 2);
    w.sends(bob, "alice", "hi");
    assert_eq!(w.texts(tablet), ["hi"]);
    assert_eq!(w.devices[tablet.0].closed, 0);
}

/// A phone says in the middle of a message that nothing more comes: the half is nobody's, nothing
/// is kept or answered, and the whole message on another connection is one message.
#[test]
fn a_connection_that_ends_in_the_middle_of_a_message_leaves_nothing() {
    let mut w = World::new(90);
    let (phone, raw) = (w.cpm("alice/phone"), w.raw_tcp("bob/raw"));
    w.registers(phone);
    let ask = Ask::text("bob", "alice", "all of it");
    let challenged = w.asks_once(raw, &ask).expect("a challenge");
    let mut digest = w.digest(raw, &challenged);
    let again = ask.cseq(2);
    let whole = again.write(&w.devices[raw.0], "z9hG4bKhalf", Some(&mut digest));
    let (heard, stored) = (w.devices[raw.0].heard.len(), w.disk.facts.entries.len());
    for end in [1, 100, whole.len() - 1] {
        w.says(raw, &whole[..end]);
        w.half_closes(raw);
        w.after(secs(40));
        assert_eq!(w.devices[raw.0].heard.len(), heard, "{end} octets");
    }
    assert_eq!((w.disk.facts.entries.len(), w.texts(phone).len()), (stored, 0));
    w.says(raw, whole);
    assert_eq!(w.last_status(raw), Some(202));
    assert_eq!(w.texts(phone), ["all of it"]);
    w.after(secs(60));
    w.is_idle();
}

/// A phone closes its half behind a message, before the answer: the message was taken, and when the
/// phone tries again because it heard nothing, it is still one message. What the phone is owed
/// reaches it on a connection that the server opens.
#[test]
fn a_connection_that_ends_behind_a_message_takes_nothing_back() {
    let mut w = World::new(91);
    let (phone, pda) = (w.cpm("alice/phone"), w.cpm_tcp("bob/pda"));
    w.all_register();
    let raw = w.raw_tcp("bob/raw");
    let ask = Ask::text("bob", "alice", "hi");
    w.asks_later(raw, &ask);
    w.half_closes(raw);
    w.after(secs(40));
    assert_eq!(w.last_status(raw), Some(401), "the answer had no way");
    assert_eq!(w.texts(phone), ["hi"]);
    assert_eq!(w.asks(raw, &ask.cseq(20)).status, 202);
    w.half_closes(pda);
    w.after(secs(1));
    w.sends(phone, "bob", "still there?");
    assert_eq!(w.texts(pda), ["still there?"]);
    assert_eq!(w.texts(phone), ["hi"]);
    assert!(w.is_registered(pda));
}

/// Datagrams that are no SIP are dropped in silence.
#[test]
fn garbage_in_a_datagram_is_dropped() {
    let mut w = World::new(84);
    let evil = w.raw("eve/raw");
    for octets in [&b"\0\0\0\0"[..], b"hello", b"\r\n\r\n", b"", &[0xff; 1400]] {
        w.says(evil, octets);
    }
    assert_eq!(w.devices[evil.0].heard.len(), 0);
}

/// RFC 5626 §4.4.1: a double CRLF on a connection is answered, and messages cut anywhere are read.
#[test]
fn a_stream_in_crumbs_is_read() {
    let mut w = World::new(85);
    let tablet = w.cpm_tcp("alice/tablet");
    w.devices[tablet.0].wire.crumbles = true;
    let bob = w.cpm_tcp("bob/pda");
    w.devices[bob.0].wire.crumbles = true;
    w.all_register();
    let long = "word ".repeat(3000);
    w.sends(bob, "alice", &long);
    w.after(secs(5));
    assert_eq!(w.texts(tablet), [long]);
}

/// RFC 3261 §17: loss, repeats and overtaking on every wire; each message is shown once.
#[test]
fn bad_wires_lose_nothing() {
    let mut w = World::new(86);
    let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
    let bad = Rule { delay: (5, 200), drop: 300, duplicate: 200, reorder: 200 };
    w.all_register();
    for dev in [phone, bob] {
        (w.devices[dev.0].wire.up, w.devices[dev.0].wire.down) = (bad, bad);
    }
    for i in 0..10 {
        w.sends(bob, "alice", &format!("number {i}"));
        w.after(secs(5));
    }
    w.after(mins(10));
    let mut texts = w.texts(phone);
    texts.sort();
    assert_eq!(texts.len(), 10);
}

/// Rules: what runs goes on when the wall clock is set, an hour forth or back: registrations,
/// nonces, retries and expiries, also across a restart.
#[test]
fn a_clock_that_is_set_disturbs_nobody() {
    for hour in [3600, -3600] {
        let mut w = World::new(87);
        let (phone, bob) = (w.cpm("alice/phone"), w.cpm("bob/pda"));
        w.all_register();
        w.off(phone);
        w.sends(bob, "alice", "before");
        w.step_clock(hour);
        w.sends(bob, "alice", "after");
        w.after(mins(5));
        assert_eq!(w.counts().bindings, 2, "{hour}");
        w.on(phone);
        w.after(secs(60));
        assert_eq!(w.texts(phone), ["before", "after"], "{hour}");
        assert!(w.is_registered(phone));
        w.step_clock(-hour);
        w.crashes_and_restarts();
        assert_eq!(w.counts().bindings, 2, "{hour}");
        w.sends(bob, "alice", "after the restart");
        w.after(mins(2));
        assert_eq!(w.texts(phone).last().map(String::as_str), Some("after the restart"));
    }
}

/// RFC 7616 §5.4: credentials that somebody overheard are good for nothing: each count is used
/// once, and a nonce of the life before is stale.
#[test]
fn credentials_are_good_once() {
    let mut w = World::new(88);
    let raw = w.raw("alice/raw");
    let _bob = w.cpm("bob/pda");
    let ask = Ask::text("alice", "bob", "hi");
    let challenged = w.asks_once(raw, &ask).expect("an answer");
    let octets = |branch: &str, w: &World| {
        // The same credentials each time: the digest is made anew with the same count.
        let mut digest = w.digest(raw, &challenged);
        ask.clone().cseq(2).write(&w.devices[raw.0], branch, Some(&mut digest))
    };
    let first = octets("z9hG4bKone", &w);
    w.says(raw, first);
    assert_eq!(w.last_status(raw), Some(202));
    let second = octets("z9hG4bKtwo", &w);
    w.says(raw, second);
    assert_eq!(w.last_status(raw), Some(401));
    w.crashes_and_restarts();
    let third = octets("z9hG4bKthree", &w);
    w.says(raw, third);
    assert_eq!(w.last_status(raw), Some(401));
    let stale = w.devices[raw.0].heard.iter().rev().find_map(|(_, m)| match m {
        Message::Response(r) => r.headers.text(Name::WwwAuthenticate),
        Message::Request(_) => None,
    });
    assert!(stale.is_some_and(|s| s.contains("stale=true")), "{stale:?}");
}

/// RFC 8760: with SHA-256 alone a client that knows it registers, and an old phone does not.
#[test]
fn sha_256_is_spoken_where_it_is_wanted() {
    let only = cpmd::service::digest::Algorithms { md5: false, sha256: true };
    let mut w = World::with(89, |s| s.algorithms = only);
    let (new, old) = (w.cpm("alice/phone"), w.phone("alice/baresip"));
    w.does(old, |a, _| a.set_md5_only(true));
    w.all_register();
    assert!(w.is_registered(new));
    assert_eq!(w.register_failure(old), Some(401));
}
