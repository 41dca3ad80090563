//! Each state × event of it.

use super::*;
use crate::stack::transaction::table::{check, ms, name, outcome, silence};

const INVITE: &[u8] = b"INVITE sip:bob@b.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1;rport, SIP/2.0/UDP 192.0.2.8\r\n\
    Route: <sip:p1.example;lr>\r\n\
    Route: <sip:p2.example;lr>\r\n\
    Max-Forwards: 69\r\n\
    From: <sip:alice@a.example>;tag=a\r\n\
    To: <sip:bob@b.example>\r\n\
    Call-ID: call\r\n\
    CSeq: 7 INVITE\r\n\
    Content-Length: 0\r\n\r\n";

fn busy() -> Response {
    let octets: &[u8] = b"SIP/2.0 486 Busy Here\r\n\
        Via: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1\r\n\
        From: <sip:alice@a.example>;tag=a\r\n\
        To: <sip:bob@b.example>;tag=b\r\n\
        Call-ID: call\r\n\
        CSeq: 7 INVITE\r\n\
        Content-Length: 0\r\n\r\n";
    match read(Bytes::from_static(octets)) {
        Ok(Message::Response(response)) => response,
        _ => panic!("a response"),
    }
}

fn start(reliable: bool) -> ClientInvite {
    ClientInvite::start(ms(0), reliable, Bytes::from_static(INVITE), &mut Vec::new())
}

fn event<'a>(word: &str, busy: &'a Response) -> Event<'a> {
    match word {
        "1xx" => Event::Provisional,
        "2xx" => Event::Success,
        "3xx" => Event::Refusal(busy),
        "A" => Event::Timer(Timer::A),
        "B" => Event::Timer(Timer::B),
        "D" => Event::Timer(Timer::D),
        "M" => Event::Timer(Timer::M),
        _ => Event::TransportError,
    }
}

const EVENTS: [&str; 8] = ["1xx", "2xx", "3xx", "A", "B", "D", "M", "error"];

fn after(reliable: bool, words: &[&str]) -> ClientInvite {
    let (mut machine, busy) = (start(reliable), busy());
    for word in words {
        machine.on(ms(0), event(word, &busy), &mut Vec::new());
    }
    machine
}

fn road(state: &str) -> &'static [&'static str] {
    match state {
        "Calling" => &[],
        "Proceeding" => &["1xx"],
        "Completed" => &["1xx", "3xx"],
        "Accepted" => &["1xx", "2xx"],
        _ => &["error"],
    }
}

#[test]
fn every_state_and_event() {
    let table = "
        Calling     1xx   | Proceeding deliver          | Proceeding deliver
        Calling     2xx   | Accepted deliver            | Accepted deliver
        Calling     3xx   | Completed deliver send(ACK) | Terminated deliver send(ACK)
        Calling     A     | Calling send(INVITE)        | Calling
        Calling     B     | Terminated fail(Timeout)    | Terminated fail(Timeout)
        Calling     D     | Calling                     | Calling
        Calling     M     | Calling                     | Calling
        Calling     error | Terminated fail(Transport)  | Terminated fail(Transport)
        Proceeding  1xx   | Proceeding deliver          | Proceeding deliver
        Proceeding  2xx   | Accepted deliver            | Accepted deliver
        Proceeding  3xx   | Completed deliver send(ACK) | Terminated deliver send(ACK)
        Proceeding  A     | Proceeding                  | Proceeding
        Proceeding  B     | Proceeding                  | Proceeding
        Proceeding  D     | Proceeding                  | Proceeding
        Proceeding  M     | Proceeding                  | Proceeding
        Proceeding  error | Terminated fail(Transport)  | Terminated fail(Transport)
        Completed   1xx   | Completed                   | unreachable
        Completed   2xx   | Completed                   | unreachable
        Completed   3xx   | Completed send(ACK)         | unreachable
        Completed   A     | Completed                   | unreachable
        Completed   B     | Completed                   | unreachable
        Completed   D     | Terminated                  | unreachable
        Completed   M     | Completed                   | unreachable
        Completed   error | Terminated                  | unreachable
        Accepted    1xx   | Accepted                    | Accepted
        Accepted    2xx   | Accepted deliver            | Accepted deliver
        Accepted    3xx   | Accepted                    | Accepted
        Accepted    A     | Accepted                    | Accepted
        Accepted    B     | Accepted                    | Accepted
        Accepted    D     | Accepted                    | Accepted
        Accepted    M     | Terminated                  | Terminated
        Accepted    error | Accepted                    | Accepted
        Terminated  1xx   | Terminated                  | Terminated
        Terminated  2xx   | Terminated                  | Terminated
        Terminated  3xx   | Terminated                  | Terminated
        Terminated  A     | Terminated                  | Terminated
        Terminated  B     | Terminated                  | Terminated
        Terminated  D     | Terminated                  | Terminated
        Terminated  M     | Terminated                  | Terminated
        Terminated  error | Terminated                  | Terminated
    ";
    let states = ["Calling", "Proceeding", "Completed", "Accepted", "Terminated"];
    check(table, &states, &EVENTS, |state, word, reliable| {
        let mut machine = after(reliable, road(state));
        if name(&machine.state) != state {
            return "unreachable".to_owned();
        }
        let mut effects = Vec::new();
        machine.on(ms(0), event(word, &busy()), &mut effects);
        outcome(&machine.state, &effects)
    });
}

fn quiet(mut machine: ClientInvite) -> Vec<(u64, String)> {
    silence(&mut machine, ClientInvite::next_deadline, ClientInvite::fire)
}

#[test]
fn repetitions_of_the_invite_double_without_a_ceiling() {
    let mut rows: Vec<(u64, String)> =
        [500, 1500, 3500, 7500, 15500, 31500].map(|t| (t, "send(INVITE)".to_owned())).to_vec();
    rows.push((32000, "fail(Timeout)".to_owned()));
    assert_eq!(quiet(start(false)), rows);
    assert_eq!(quiet(start(true)), rows[6..]);
}

#[test]
fn how_long_each_state_lasts() {
    assert_eq!(quiet(after(false, &["1xx"])), [], "as long as it rings");
    assert_eq!(quiet(after(false, &["3xx"])), [(32000, String::new())], "timer D");
    assert_eq!(quiet(after(true, &["3xx"])), []);
    for reliable in [false, true] {
        assert_eq!(quiet(after(reliable, &["2xx"])), [(32000, String::new())], "timer M");
    }
}

#[test]
fn the_ack_of_a_refusal_is_made_from_the_invite_and_the_response() {
    let ack = ack(&Bytes::from_static(INVITE), &busy()).unwrap();
    let Ok(Message::Request(ack)) = read(ack) else { panic!("a request") };
    ack.check().unwrap();
    assert_eq!(ack.method, Method::Ack);
    assert_eq!(ack.uri, "sip:bob@b.example");
    let vias: Vec<&[u8]> = ack.headers.list(Name::Via).collect();
    assert_eq!(vias, [b"SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bK1;rport"]);
    let routes: Vec<&[u8]> = ack.headers.list(Name::Route).collect();
    assert_eq!(routes, [b"<sip:p1.example;lr>", b"<sip:p2.example;lr>"]);
    assert_eq!(ack.headers.text(Name::From), Some("<sip:alice@a.example>;tag=a"));
    assert_eq!(ack.headers.text(Name::To), Some("<sip:bob@b.example>;tag=b"));
    assert_eq!(ack.headers.text(Name::CallId), Some("call"));
    assert_eq!(ack.headers.text(Name::CSeq), Some("7 ACK"));
}

#[test]
fn the_road_to_a_state_does_not_matter() {
    for (road, detour) in [
        (&["3xx"][..], &["1xx", "1xx", "3xx", "3xx"][..]),
        (&["2xx"], &["A", "1xx", "2xx", "2xx", "3xx"]),
        (&["1xx"], &["A", "1xx", "1xx"]),
    ] {
        let (one, other) = (after(false, road), after(false, detour));
        assert_eq!(one, other);
        for word in EVENTS {
            let (mut one, mut other, busy) = (one.clone(), other.clone(), busy());
            let (mut a, mut b) = (Vec::new(), Vec::new());
            one.on(ms(1), event(word, &busy), &mut a);
            other.on(ms(1), event(word, &busy), &mut b);
            assert_eq!((one, a), (other, b));
        }
    }
}
