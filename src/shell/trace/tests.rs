//! What a look shows, and what it never shows.

use super::*;

const REGISTER: &str = "REGISTER sip:a.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 127.0.0.1:41000;branch=z9hG4bKa;rport\r\n\
    From: \"Alice\" <sip:alice@a.example>;tag=1\r\n\
    To: <sip:alice@a.example>\r\n\
    Call-ID: reg-1@phone\r\n\
    CSeq: 2 REGISTER\r\n\
    Max-Forwards: 70\r\n\
    Contact: <sip:alice-phone@127.0.0.1:41000;pn-prid=PLANTED>\r\n\
    Authorization: Digest username=\"alice\", nonce=\"PLANTED\", response=\"PLANTED\"\r\n\
    Content-Length: 0\r\n\r\n";

const MESSAGE: &str = "MESSAGE sip:bob:PLANTED@b.example;pn-prid=PLANTED?Subject=PLANTED SIP/2.0\r\n\
    v: SIP/2.0/TCP 127.0.0.1:41000;branch=z9hG4bKb;rport\r\n\
    f: <sip:alice:PLANTED@a.example>;tag=1\r\n\
    t: <sip:bob@b.example;token=PLANTED>\r\n\
    i: msg-1\r\n\
    CSeq: 3 MESSAGE\r\n\
    Max-Forwards: 70\r\n\
    proxy-authorization  : Digest response=\"PLANTED\"\r\n\
    Subject: PLANTED\r\n\
    X-Secret: PLANTED\r\n\
    c: text/plain\r\n\
    l: 12\r\n\r\n\
    PLANTED body";

const CHALLENGE: &str = "SIP/2.0 401 Unauthorized\r\n\
    Via: SIP/2.0/UDP 127.0.0.1:41000;branch=z9hG4bKa\r\n\
    From: <sip:alice@a.example>;tag=1\r\n\
    To: <sip:alice@a.example>;tag=2\r\n\
    Call-ID: reg-1@phone\r\n\
    CSeq: 1 REGISTER\r\n\
    WWW-Authenticate: Digest realm=\"a.example\", nonce=\"PLANTED\"\r\n\
    Authentication-Info: nextnonce=\"PLANTED\"\r\n\
    Content-Length: 0\r\n\r\n";

const UNREADABLE: &str = "MESSAGE sip:bob@b.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 127.0.0.1:41000;branch=z9hG4bKc\r\n\
    From: sip:alice@a.example;tag=1\r\n\
    To: <sip:bob@b.example>\r\n\
    Call-ID: bad-1\r\n\
    CSeq: 4 MESSAGE\r\n\
    Authorization: PLANTED\r\n\
    Content-Length: 99999\r\n\r\n\
    PLANTED";

fn ring(messages: &[(Direction, &str)]) -> TraceRing {
    let mut ring = TraceRing::default();
    for (at, (direction, text)) in messages.iter().enumerate() {
        push(&mut ring, at as u64, *direction, text.as_bytes().to_vec(), 41000);
    }
    ring
}

fn push(ring: &mut TraceRing, at: u64, direction: Direction, octets: Vec<u8>, port: u16) {
    let here = SocketAddr::from(([127, 0, 0, 1], 5060));
    let there = SocketAddr::from(([127, 0, 0, 1], port));
    ring.push(Unix(at), direction, Protocol::Udp, here, there, octets.into());
}

fn all() -> TraceRing {
    ring(&[
        (Direction::In, REGISTER),
        (Direction::Out, CHALLENGE),
        (Direction::In, MESSAGE),
        (Direction::In, UNREADABLE),
        (Direction::In, "\r\n\r\n"),
        (Direction::In, "PLANTED \u{1b}[2J"),
    ])
}

fn numbers(ring: &TraceRing, account: Option<&str>, call: Option<&str>) -> Vec<u64> {
    let filter = Filter { account: account.map(str::to_owned), call: call.map(str::to_owned) };
    ring.since(0, &filter, 100).0.iter().map(|line| line.number).collect()
}

#[test]
fn a_planted_secret_is_never_shown() {
    let (lines, _) = all().since(0, &Filter::default(), 100);
    let mut ladder = Ladder::new(true);
    for line in &lines {
        let drawn = ladder.draw(line);
        let json = serde_json::to_string(line).unwrap();
        assert!(!drawn.contains("PLANTED"), "{drawn}");
        assert!(!json.contains("PLANTED"), "{json}");
    }
    assert_eq!(lines[0].hidden, ["Authorization: (hidden)"]);
    assert_eq!(lines[1].hidden, ["WWW-Authenticate: (hidden)", "Authentication-Info: (hidden)"]);
    assert_eq!(lines[2].hidden, ["Proxy-Authorization: (hidden)"]);
    assert_eq!(lines[2].start, "MESSAGE sip:bob:(hidden)@b.example;pn-prid=(hidden)?(hidden)");
}

#[test]
fn a_uri_that_is_none_hides_what_is_in_doubt() {
    for uri in [
        "sip:host;pn-prid=PLANTED@x",
        "sip:a:PLANTED@b@c",
        "sip:a;token=PLANTED:PLANTED@c;password=PLANTED;TOKEN =PLANTED",
        "sip:a@b?x=PLANTED@c",
    ] {
        let text =
            MESSAGE.replace("sip:bob:PLANTED@b.example;pn-prid=PLANTED?Subject=PLANTED", uri);
        let ring = ring(&[(Direction::In, &text)]);
        let (lines, _) = ring.since(0, &Filter::default(), 1);
        assert!(!format!("{lines:?}").contains("PLANTED"), "{uri}: {lines:?}");
    }
}

#[test]
fn a_line_says_what_passed() {
    let (lines, next) = all().since(0, &Filter::default(), 100);
    assert_eq!(next, 6);
    let line = &lines[2];
    assert_eq!(line.direction, Some(Direction::In));
    assert_eq!((line.peer.as_str(), line.protocol.as_str()), ("127.0.0.1:41000", "udp"));
    assert_eq!(line.call_id.as_deref(), Some("msg-1"));
    assert_eq!(line.cseq.as_deref(), Some("3 MESSAGE"));
    assert_eq!(line.from.as_deref(), Some("sip:alice:(hidden)@a.example"));
    assert_eq!(line.to.as_deref(), Some("sip:bob@b.example;token=(hidden)"));
    assert_eq!((line.content_type.as_deref(), line.body_octets), (Some("text/plain"), 12));
    assert_eq!(lines[1].start, "401 Unauthorized");
    assert!(lines[3].fault.is_some(), "{:?}", lines[3]);
    assert_eq!(lines[4].start, "(keep-alive)");
    assert_eq!(lines[5].start, "(not SIP)");
}

#[test]
fn filters_choose_by_account_and_by_call() {
    let ring = all();
    for (account, shown) in [
        ("sip:alice@a.example", vec![0, 1, 2, 3]),
        ("alice@A.EXAMPLE", vec![0, 1, 2, 3]),
        ("alice", vec![0, 1, 2, 3]),
        ("sip:bob@b.example", vec![2, 3]),
        ("sip:bob@a.example", vec![]),
        ("alice-phone", vec![0]),
        ("ali", vec![]),
    ] {
        assert_eq!(numbers(&ring, Some(account), None), shown, "{account}");
    }
    assert_eq!(numbers(&ring, None, Some("reg-1@phone")), [0, 1]);
    assert_eq!(numbers(&ring, None, Some("reg-1")), Vec::<u64>::new());
    assert_eq!(numbers(&ring, Some("bob"), Some("reg-1@phone")), Vec::<u64>::new());
}

#[test]
fn a_phone_that_knows_its_domain_by_address_is_found_by_its_account() {
    let text = REGISTER.replace("alice@a.example", "alice@127.0.0.1");
    let ring = ring(&[(Direction::In, &text)]);
    assert_eq!(numbers(&ring, Some("sip:alice@a.example"), None), [0]);
}

#[test]
fn looks_go_on_where_the_last_one_ended_and_are_bounded() {
    let ring = all();
    let open = Filter::default();
    let (first, cursor) = ring.since(0, &open, 4);
    assert_eq!((first.len(), cursor), (4, 4));
    let (second, cursor) = ring.since(cursor, &open, 4);
    assert_eq!((second.len(), cursor), (2, 6));
    assert_eq!(ring.since(cursor, &open, 4), (Vec::new(), 6));
    // The server has started anew.
    assert_eq!(ring.since(1000, &open, 1).1, 1);
    // A filter that nothing passes still gets on.
    let nobody = Filter { account: Some("nobody".into()), call: None };
    assert_eq!(ring.since(0, &nobody, 2), (Vec::new(), 2));
}

#[test]
fn the_ring_forgets_the_oldest_by_number_and_by_octets() {
    let mut ring = TraceRing::default();
    for at in 0..limits::TRACE_RING_MAX as u64 + 10 {
        push(&mut ring, at, Direction::In, b"\r\n\r\n".to_vec(), 1);
    }
    assert_eq!(ring.len(), limits::TRACE_RING_MAX);
    assert_eq!(ring.since(0, &Filter::default(), 1).0[0].number, 10);
    for at in 0..3 {
        push(&mut ring, at, Direction::In, vec![b'x'; limits::TRACE_OCTETS_MAX / 2], 1);
    }
    assert_eq!(ring.len(), 2);
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    let text = MESSAGE
        .replace("sip:bob:PLANTED@b.example;pn-prid=PLANTED?Subject=PLANTED", "sip:b\u{1b}[2Job@b")
        .replace("msg-1", "msg\u{202e}1")
        .replace("text/plain", "text/\u{9b}31m");
    let ring = ring(&[(Direction::In, &text)]);
    for line in ring.since(0, &Filter::default(), 1).0 {
        let drawn = Ladder::new(false).draw(&line);
        assert!(!drawn.contains(['\u{1b}', '\u{202e}', '\u{9b}']), "{drawn:?}");
    }
}

#[test]
fn the_ladder_has_cpmd_in_the_middle() {
    let mut ring = TraceRing::default();
    let to_bob = MESSAGE.replace("alice:PLANTED", "alice");
    push(&mut ring, 45_296_007, Direction::In, REGISTER.into(), 41000);
    push(&mut ring, 45_296_008, Direction::Out, CHALLENGE.into(), 41000);
    push(&mut ring, 45_296_009, Direction::Out, to_bob.into(), 5070);
    let mut ladder = Ladder::new(false);
    let lines = ring.since(0, &Filter::default(), 9).0;
    let drawn: String = lines.iter().map(|line| ladder.draw(line)).collect();
    println!("{drawn}");
    let rows: Vec<&str> = drawn.lines().collect();
    let row = |part: &str| *rows.iter().find(|row| row.contains(part)).unwrap();
    assert_eq!(row("REGISTER ─"), "12:34:56.007             │───── REGISTER ───────▶│");
    assert!(row("CSeq 2 REG").contains("sip:a.example · CSeq"), "{}", row("CSeq 2 REG"));
    assert!(row("401").contains("│◀─"), "{}", row("401"));
    assert!(row("MESSAGE ─").ends_with("▶│"), "{}", row("MESSAGE ─"));
    let heads = rows.iter().rfind(|row| row.contains("cpmd")).unwrap();
    let order = ["alice", "cpmd", "bob"].map(|name| heads.find(name).unwrap());
    assert!(order.is_sorted(), "{heads}");
}

#[test]
fn more_peers_than_columns_take_turns() {
    let mut ring = TraceRing::default();
    for port in [1, 2, 3, 4, 5, 1] {
        push(&mut ring, 0, Direction::In, REGISTER.into(), port);
    }
    let mut ladder = Ladder::new(false);
    for line in ring.since(0, &Filter::default(), 9).0 {
        let drawn = ladder.draw(&line);
        assert!(
            drawn.contains(&format!("udp 127.0.0.1:{}", line.peer.rsplit(':').next().unwrap()))
        );
        assert!(drawn.lines().all(|row| row.chars().count() < 140), "{drawn}");
    }
}
