//! What earlier versions wrote must open for ever: `fixtures/data/` keeps the log of a small life,
//! one batch a line (`user seq hex`), as the version of that name wrote it. Nothing there is ever
//! changed; a new record version adds a file. `UPDATE_DATA=1` writes a file that is missing.

#![expect(clippy::unwrap_used, reason = "a test may give up")]

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use cpmd::base::hash::{Secret, hex};
use cpmd::base::log::Position;
use cpmd::base::now::{Mono, Now, Unix};
use cpmd::node::Node;
use cpmd::service::account::{Domain, Domains, credentials};
use cpmd::service::digest::Algorithms;
use cpmd::service::record::{
    Asked, BindingGone, BindingPut, BodyAt, Class, Closed, DebtClosed, DebtMoved, Debtor,
    Direction, Disposed, Disposition, EntryPut, Forwarded, Record, StoredFlow, decode, encode,
};
use cpmd::service::tu::Settings;

const BEGAN: u64 = 1_790_000_000_000;

fn entry(no: u64, direction: Direction) -> EntryPut {
    EntryPut {
        no,
        class: Class::Message,
        direction,
        from: "sip:bob@b.example".into(),
        from_value: b"\"Bob\" <sip:bob@b.example>"[..].into(),
        to: "sip:alice@a.example".into(),
        message_id: format!("message-{no}").into(),
        fingerprint: 7 + u128::from(no),
        headers: b"Subject: Holidays\r\n"[..].into(),
        content_type: b"text/plain"[..].into(),
        size: 5,
        body: BodyAt::Record,
        taken: Unix(BEGAN),
        expires: Unix(BEGAN + 604_800_000),
        date: Some("2026-11-22T18:00:00Z".into()),
        asked: Asked { delivered: true, failed: true, displayed: true },
        owed: vec![],
        forward: None,
        device: None,
        about: None,
    }
}

/// A small life with every kind of record in it.
fn life() -> Vec<(&'static str, Vec<Record>)> {
    let (alice, bob) = ("sip:alice@a.example", "sip:bob@b.example");
    let phone = BindingPut {
        device: 0,
        instance: Some("urn:uuid:00000000-0000-4000-8000-000000000001".into()),
        contact: "sip:alice@127.0.0.1:7001".into(),
        params: ";+g.oma.sip-im".into(),
        flow: StoredFlow { tcp: false, listener: 0, peer: "127.0.0.1:7001".parse().unwrap() },
        call_id: "registration".into(),
        cseq: 2,
        path: vec!["<sip:edge.example;lr>".into()],
        lease: Unix(BEGAN + 10_800_000),
        seen: Unix(BEGAN),
    };
    let laptop = BindingPut { device: 1, instance: None, ..phone.clone() };
    let spare = BindingPut { device: 2, ..phone.clone() };
    let sent = EntryPut { forward: Some(alice.into()), ..entry(1, Direction::Sent) };
    let owed = vec![Debtor::Device(0), Debtor::Device(1)];
    let first = EntryPut { owed: owed.clone(), ..entry(1, Direction::Received) };
    let large = EntryPut {
        owed: vec![Debtor::Device(0)],
        body: BodyAt::Blob("0".repeat(64)),
        size: 100_000,
        ..entry(2, Direction::Received)
    };
    let (one, two) = (Debtor::Device(0), Debtor::Device(1));
    let close = |no, debtor, how| Record::DebtClosed(DebtClosed { no, debtor, how });
    let body = || Record::Body(Bytes::from_static(b"Hello"));
    let what = Disposition::Delivered;
    vec![
        (alice, vec![Record::AccountPut(credentials(alice, "secret", false))]),
        (bob, vec![Record::AccountPut(credentials(bob, "secret", true))]),
        ("sip:carol@a.example", vec![Record::AccountGone]),
        (alice, vec![Record::BindingPut(phone), Record::BindingPut(laptop)]),
        (alice, vec![Record::BindingPut(spare), Record::DeviceGone(2)]),
        (bob, vec![Record::EntryPut(Arc::new(sent)), body()]),
        (alice, vec![Record::EntryPut(Arc::new(first)), body()]),
        (bob, vec![Record::Forwarded(Forwarded { no: 1, status: 202 })]),
        (alice, vec![close(1, one, Closed::Delivered)]),
        (alice, vec![Record::Disposed(Disposed { no: 1, what, at: Unix(BEGAN + 1) })]),
        (
            alice,
            vec![Record::BindingGone(BindingGone {
                device: 1,
                by: Some(("registration".into(), 3)),
            })],
        ),
        (alice, vec![Record::DebtMoved(DebtMoved { no: 1, from: two, to: Debtor::Account })]),
        (alice, vec![Record::EntryPut(Arc::new(large))]),
    ]
}

fn written(life: &[(&str, Vec<Record>)]) -> String {
    let mut text = String::new();
    let mut seqs = std::collections::BTreeMap::new();
    for (user, records) in life {
        let seq = seqs.entry(*user).or_insert(1u64);
        writeln!(text, "{user} {seq} {}", hex(&encode(records))).unwrap();
        *seq += records.len() as u64;
    }
    text
}

fn unhex(text: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn node() -> Node {
    let domain = |name: &str| Domain { name: name.into(), aliases: vec![] };
    let settings = Settings {
        domains: Domains(vec![domain("a.example"), domain("b.example")]),
        algorithms: Algorithms::default(),
        udp_bytes_max: 1300,
        messages_per_second: 10,
        messages_burst: 50,
    };
    Node::new(settings, vec![], [1; 32], Secret::new([2; 32]))
}

#[test]
fn data_of_the_first_message_opens_for_ever() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/data/first-message.log");
    if std::env::var_os("UPDATE_DATA").is_some() && !std::path::Path::new(path).exists() {
        std::fs::write(path, written(&life())).unwrap();
    }
    let text = std::fs::read_to_string(path).expect("fixtures/data/first-message.log");
    let mut expected = life().into_iter();
    let mut node = node();
    let now = Now { mono: Mono(0), unix: Unix(BEGAN + 1000) };
    for line in text.lines() {
        let mut words = line.split(' ');
        let (user, seq) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        let value = unhex(words.next().unwrap());
        let (whose, records) = expected.next().expect("no more batches than were written");
        assert_eq!((user, decode(&value)), (whose, Ok(records)));
        node.replay(now, user, Position { epoch: 1, seq }, &value).unwrap();
    }
    assert!(expected.next().is_none(), "no batch is missing");
    node.replayed(now);
    let alice = node.tables().user(node.tables().find("sip:alice@a.example").unwrap());
    assert_eq!(alice.location.devices().count(), 1, "the phone; the laptop had no instance");
    assert_eq!(alice.mailbox.unclaimed_by(9), [1], "what the laptop was owed falls to the account");
    assert_eq!(alice.mailbox.open(), 2);
    let carol = node.tables().find("sip:carol@a.example").unwrap();
    assert!(node.tables().user(carol).account.is_none());
}

#[test]
fn every_kind_of_record_is_kept_as_a_sample() {
    let mut kinds: Vec<u8> = Vec::new();
    for (_, records) in life() {
        kinds.extend(records.iter().map(|r| encode(std::slice::from_ref(r))[0]));
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds, (1..=11).collect::<Vec<u8>>());
}
