//! The table: copies, merged requests, bounds.

use super::*;
use crate::base::now::Unix;
use crate::stack::transport::Protocol;
use crate::syntax::sip::{Message, Name, Writer, read};

fn at(ms: u64) -> Now {
    Now { mono: Mono(ms * 1000), unix: Unix(ms) }
}

fn udp(host: u8) -> Flow {
    let peer = format!("192.0.2.{host}:5070").parse().unwrap();
    Flow { protocol: Protocol::Udp, listener: 0, peer, connection: 0 }
}

fn tcp(connection: u64) -> Flow {
    let peer = "192.0.2.1:49152".parse().unwrap();
    Flow { protocol: Protocol::Tcp, listener: 1, peer, connection }
}

fn parse(octets: String) -> Message {
    read(Bytes::from(octets)).unwrap_or_else(|e| panic!("{e:?}"))
}

/// A request from 192.0.2.1:5070; `more` are header lines.
fn request_with(method: &str, branch: &str, to_tag: &str, uri: &str) -> Request {
    let octets = format!(
        "{method} {uri} SIP/2.0\r\n\
         Via: SIP/2.0/UDP ua.a.example:5070;branch={branch};rport=5070;received=192.0.2.1\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@a.example>;tag=a\r\n\
         To: <sip:bob@b.example>{to_tag}\r\nCall-ID: call\r\nCSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n"
    );
    match parse(octets) {
        Message::Request(request) => request,
        Message::Response(_) => panic!("a request"),
    }
}

fn request(method: &str, branch: &str) -> Request {
    request_with(method, branch, "", "sip:bob@b.example")
}

fn response(status: u16, method: &str, branch: &str) -> Response {
    let octets = format!(
        "SIP/2.0 {status} x\r\nVia: SIP/2.0/UDP sip.a.example:5060;branch={branch}\r\n\
         From: <sip:alice@a.example>;tag=a\r\nTo: <sip:bob@b.example>;tag=b\r\nCall-ID: call\r\n\
         CSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    );
    match parse(octets) {
        Message::Response(response) => response,
        Message::Request(_) => panic!("a response"),
    }
}

/// One word per act.
fn words(acts: &[Act]) -> Vec<String> {
    let first = |bytes: &Bytes| {
        let line = bytes.split(|o| *o == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).into_owned()
    };
    acts.iter()
        .map(|act| match act {
            Act::Send { flow, bytes } => format!("{} {}", flow.peer, first(bytes)),
            Act::Request { request, .. } => format!("request {}", request.method),
            Act::Ack { .. } => "ack".to_owned(),
            Act::Cancel { invite, .. } => format!("cancel {}", invite.is_some()),
            Act::Response { id, response } => format!("{id} response {}", response.status),
            Act::Failed { id, why } => format!("{id} failed {why:?}"),
            Act::AckMissing { .. } => "ack missing".to_owned(),
            Act::Ended { id } => format!("{id} ended"),
        })
        .collect()
}

/// A table, with what it says in words.
struct Bench(Transactions);

impl Bench {
    fn new() -> Bench {
        Bench(Transactions::new(1))
    }

    fn request(&mut self, ms: u64, flow: Flow, request: Request) -> Vec<String> {
        let mut out = Vec::new();
        self.0.request(at(ms), flow, request, &mut out);
        words(&out)
    }

    /// A new request for which state is made.
    fn accepts(&mut self, ms: u64, flow: Flow, request: Request) -> ServerKey {
        let mut out = Vec::new();
        self.0.request(at(ms), flow, request, &mut out);
        let [Act::Request { key, flow, request } | Act::Cancel { key, flow, request, .. }] =
            &out[..]
        else {
            panic!("{:?}", words(&out))
        };
        assert!(self.0.accept(at(ms), key, *flow, request));
        *key
    }

    fn responds(&mut self, ms: u64, key: ServerKey, status: u16) -> Vec<String> {
        let mut out = Vec::new();
        let text = format!(
            "SIP/2.0 {status} x\r\nVia: SIP/2.0/UDP ua.a.example\r\n\
             To: <sip:bob@b.example>;tag=b\r\nContent-Length: 0\r\n\r\n"
        );
        self.0.respond(at(ms), &key, status, Bytes::from(text), &mut out);
        words(&out)
    }

    fn sends(&mut self, ms: u64, id: ClientId, method: &str, flow: Flow) -> Vec<String> {
        let mut out = Vec::new();
        let branch = format!("z9hG4bK{id}");
        let uri = "sip:bob@b.example";
        let head = request_with(method, &branch, "", uri);
        let mut writer = Writer::request(&head.method, uri.as_bytes());
        for name in [Name::Via, Name::From, Name::To, Name::CallId, Name::CSeq] {
            writer.copy(&head.headers, name);
        }
        let bytes = writer.finish(b"");
        self.0.send(at(ms), id, &head.method, &branch, flow, bytes, &mut out);
        words(&out)
    }

    fn response(&mut self, ms: u64, response: Response) -> Vec<String> {
        let mut out = Vec::new();
        self.0.response(at(ms), udp(9), response, &mut out);
        words(&out)
    }

    fn fails(&mut self, ms: u64, flow: Flow) -> Vec<String> {
        let mut out = Vec::new();
        self.0.transport_failed(at(ms), flow, &mut out);
        words(&out)
    }

    /// Lets time pass up to and including `ms`.
    fn until(&mut self, ms: u64) -> Vec<(u64, String)> {
        let mut seen = Vec::new();
        while let Some(next) = self.0.next_deadline().filter(|next| *next <= at(ms).mono) {
            let mut out = Vec::new();
            self.0.fire(at(next.0 / 1000), &mut out);
            seen.extend(words(&out).into_iter().map(|word| (next.0 / 1000, word)));
        }
        seen
    }

    fn idle(&self) {
        assert_eq!(self.0.open(), 0);
        assert_eq!(self.0.next_deadline(), None);
        assert!(self.0.merged.is_empty() && self.0.flows.is_empty());
        assert!(self.0.completed.is_empty() && self.0.unanswered.is_empty());
    }
}

const NOTHING: [&str; 0] = [];
const B1: &str = "z9hG4bK1";

#[test]
fn a_copy_is_absorbed_and_answered_from_memory() {
    let mut t = Bench::new();
    let key = t.accepts(0, udp(1), request("MESSAGE", B1));
    assert_eq!(t.request(500, udp(1), request("MESSAGE", B1)), NOTHING);
    assert_eq!(t.responds(600, key, 202), ["192.0.2.1:5070 SIP/2.0 202 x"]);
    assert_eq!(t.responds(700, key, 500), NOTHING, "one final answer");
    for ms in [1500, 3500, 32_599] {
        assert_eq!(t.request(ms, udp(1), request("MESSAGE", B1)), ["192.0.2.1:5070 SIP/2.0 202 x"]);
        assert_eq!(t.until(ms), []);
    }
    assert_eq!(t.0.next_deadline(), Some(at(32_600).mono), "timer J");
    t.until(32_600);
    t.idle();
    assert_eq!(t.request(32_601, udp(1), request("MESSAGE", B1)), ["request MESSAGE"]);
}

#[test]
fn without_accept_nothing_is_kept() {
    let mut t = Bench::new();
    let mut out = Vec::new();
    t.0.request(at(0), udp(1), request("REGISTER", B1), &mut out);
    let [Act::Request { key, .. }] = &out[..] else { panic!("{:?}", words(&out)) };
    t.idle();
    assert_eq!(t.responds(0, *key, 401), NOTHING);
    assert_eq!(t.request(0, udp(1), request("REGISTER", B1)), ["request REGISTER"]);
    t.idle();
}

#[test]
fn over_tcp_nothing_is_kept_behind_the_answer() {
    let mut t = Bench::new();
    let key = t.accepts(0, tcp(1), request("REGISTER", B1));
    assert_eq!(t.0.open(), 1);
    assert_eq!(t.responds(0, key, 200), ["192.0.2.1:49152 SIP/2.0 200 x"]);
    t.idle();
}

#[test]
fn what_names_a_server_transaction() {
    let mut t = Bench::new();
    t.accepts(0, udp(1), request("MESSAGE", B1));
    let other = |from: &str, to: &str| {
        let octets = format!(
            "MESSAGE sip:bob@b.example SIP/2.0\r\n\
             Via: SIP/2.0/UDP ua.a.example:5070;branch={B1}\r\nMax-Forwards: 70\r\n\
             From: <sip:alice@a.example>;tag=other\r\nTo: <sip:bob@b.example>\r\n\
             Call-ID: call\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n"
        );
        assert!(octets.contains(from), "{from}");
        match parse(octets.replace(from, to)) {
            Message::Request(request) => request,
            Message::Response(_) => panic!("a request"),
        }
    };
    // RFC 3261 §17.2.3: branch, sent-by and method, and nothing else.
    for (from, to, is_new) in [
        ("ua.a.example:5070", "UA.A.example:5070", false),
        ("tag=other", "tag=a;x=y", false),
        ("ua.a.example:5070", "ua.a.example:5071", true),
        ("ua.a.example:5070", "ub.a.example:5070", true),
        (B1, "z9hG4bK11", true),
        ("MESSAGE", "OPTIONS", true),
    ] {
        let acts = t.request(1, udp(1), other(from, to));
        assert_eq!(acts.len(), usize::from(is_new), "{from} to {to}: {acts:?}");
    }
}

#[test]
fn a_slow_user_is_covered_by_a_late_100() {
    for flow in [udp(1), tcp(1)] {
        let mut t = Bench::new();
        let key = t.accepts(0, flow, request("MESSAGE", B1));
        assert_eq!(t.until(3499), []);
        let hundred = format!("{} SIP/2.0 100 Trying", flow.peer);
        assert_eq!(t.until(3500), [(3500, hundred.clone())]);
        assert_eq!(t.request(7500, flow, request("MESSAGE", B1)), [hundred]);
        let answer = format!("{} SIP/2.0 200 x", flow.peer);
        assert_eq!(t.responds(9000, key, 200), [answer]);
        t.until(50_000);
        t.idle();
    }
}

#[test]
fn a_user_that_never_answers_leaves_nothing_behind() {
    let mut t = Bench::new();
    let key = t.accepts(0, udp(1), request("MESSAGE", B1));
    assert_eq!(t.until(60_000).len(), 1, "the 100");
    t.idle();
    assert_eq!(t.responds(60_000, key, 200), NOTHING);
    let key = t.accepts(60_000, udp(1), request("MESSAGE", B1));
    assert_eq!(t.responds(60_000, key, 408), NOTHING, "RFC 4320 §4.2");
    t.idle();
}

#[test]
fn a_merged_request_is_told_so() {
    let mut t = Bench::new();
    let key = t.accepts(0, udp(1), request("MESSAGE", B1));
    let copy = || request("MESSAGE", "z9hG4bK2");
    assert_eq!(t.request(1, udp(1), copy()), ["192.0.2.1:5070 SIP/2.0 482 Loop Detected"]);
    assert_eq!(t.0.open(), 1, "without state");
    let inside = request_with("MESSAGE", "z9hG4bK3", ";tag=b", "sip:bob@b.example");
    assert_eq!(t.request(2, udp(1), inside), ["request MESSAGE"], "inside a dialog");
    t.responds(3, key, 200);
    assert_eq!(t.request(4, udp(1), copy()), ["request MESSAGE"], "after the answer");
}

#[test]
fn a_refused_invite_is_repeated_until_its_ack() {
    let mut t = Bench::new();
    let key = t.accepts(0, udp(1), request("INVITE", B1));
    assert_eq!(t.until(199), []);
    let hundred = "192.0.2.1:5070 SIP/2.0 100 Trying".to_owned();
    assert_eq!(t.until(200), [(200, hundred.clone())]);
    assert_eq!(t.request(500, udp(1), request("INVITE", B1)), [hundred]);
    let busy = "192.0.2.1:5070 SIP/2.0 486 x".to_owned();
    assert_eq!(t.responds(1000, key, 486), [&busy[..]]);
    assert_eq!(t.request(1001, udp(1), request("INVITE", B1)), [&busy[..]]);
    assert_eq!(t.until(2500), [(1500, busy.clone()), (2500, busy)]);
    assert_eq!(t.request(2600, udp(1), request("ACK", B1)), NOTHING);
    assert_eq!(t.request(2601, udp(1), request("ACK", B1)), NOTHING, "Confirmed absorbs");
    assert_eq!(t.until(7599), []);
    t.until(7600);
    t.idle();
}

#[test]
fn a_refusal_without_ack_is_told() {
    let mut t = Bench::new();
    let key = t.accepts(0, udp(1), request("INVITE", B1));
    t.responds(0, key, 486);
    assert_eq!(t.until(60_000).last(), Some(&(32_000, "ack missing".to_owned())));
    t.idle();
    let key = t.accepts(60_000, tcp(1), request("INVITE", B1));
    t.responds(60_000, key, 486);
    assert_eq!(t.fails(60_001, tcp(1)), ["ack missing"]);
    t.idle();
}

#[test]
fn an_accepted_invite_absorbs_copies_and_delivers_acks() {
    let mut t = Bench::new();
    let key = t.accepts(0, udp(1), request("INVITE", B1));
    assert_eq!(t.responds(0, key, 180).len(), 1);
    assert_eq!(t.responds(100, key, 200), ["192.0.2.1:5070 SIP/2.0 200 x"]);
    assert_eq!(t.request(200, udp(1), request("INVITE", B1)), NOTHING);
    assert_eq!(t.request(201, udp(1), request("ACK", B1)), ["ack"]);
    assert_eq!(t.request(202, udp(1), request("ACK", "z9hG4bKown")), ["ack"], "its own branch");
    assert_eq!(t.responds(600, key, 200).len(), 1, "the user repeats the 2xx");
    assert_eq!(t.fails(601, udp(1)), NOTHING);
    assert_eq!(t.until(40_000), []);
    t.idle();
}

#[test]
fn a_cancel_knows_its_invite() {
    let mut t = Bench::new();
    assert_eq!(t.request(0, udp(1), request("CANCEL", B1)), ["cancel false"]);
    t.accepts(0, udp(1), request("INVITE", B1));
    assert_eq!(t.request(1, udp(1), request("CANCEL", "z9hG4bK2")), ["cancel false"]);
    assert_eq!(t.request(1, udp(1), request("CANCEL", B1)), ["cancel true"]);
    let cancel = t.accepts(1, udp(1), request("CANCEL", B1));
    assert_eq!(t.responds(2, cancel, 200).len(), 1);
    assert_eq!(t.request(3, udp(1), request("CANCEL", B1)), ["192.0.2.1:5070 SIP/2.0 200 x"]);
}

#[test]
fn branches_of_rfc_2543() {
    let uri = "sip:bob@b.example";
    for old in ["1", "z9hG4bK"] {
        let mut t = Bench::new();
        let key = t.accepts(0, udp(1), request("INVITE", old));
        assert_eq!(t.request(1, udp(1), request("INVITE", old)), NOTHING);
        let other = request_with("INVITE", old, "", "sip:carol@b.example");
        assert!(!t.request(1, udp(1), other).is_empty(), "another Request-URI");
        assert_eq!(t.request(1, udp(1), request("CANCEL", old)), ["cancel true"]);
        t.responds(2, key, 486);
        let stray = request_with("ACK", old, ";tag=other", uri);
        assert_eq!(t.request(3, udp(1), stray), ["ack"], "the To tag is not ours");
        assert_eq!(t.request(3, udp(1), request_with("ACK", old, ";tag=b", uri)), NOTHING);
        assert_eq!(t.until(60_000), [], "the ACK was taken");
        t.idle();
    }
}

#[test]
fn a_request_of_ours_from_start_to_end() {
    let mut t = Bench::new();
    let line = "192.0.2.2:5070 MESSAGE sip:bob@b.example SIP/2.0";
    assert_eq!(t.sends(0, 1, "MESSAGE", udp(2)), [line]);
    assert_eq!(t.until(500), [(500, line.to_owned())]);
    assert_eq!(t.response(600, response(100, "MESSAGE", B1)), ["1 response 100"]);
    assert_eq!(t.response(700, response(200, "MESSAGE", B1)), ["1 response 200"]);
    assert_eq!(t.response(701, response(200, "MESSAGE", B1)), NOTHING, "a copy");
    assert_eq!(t.until(5700), [(5700, "1 ended".to_owned())], "timer K");
    t.idle();
    t.sends(6000, 2, "MESSAGE", tcp(1));
    let answer = t.response(6001, response(404, "MESSAGE", "z9hG4bK2"));
    assert_eq!(answer, ["2 response 404", "2 ended"], "no timer K over TCP");
    t.idle();
}

#[test]
fn an_invite_of_ours_is_acknowledged() {
    let mut t = Bench::new();
    t.sends(0, 1, "INVITE", udp(2));
    assert_eq!(t.response(100, response(180, "INVITE", B1)), ["1 response 180"]);
    assert_eq!(t.until(60_000), [], "it may ring for long");
    let ack = "192.0.2.2:5070 ACK sip:bob@b.example SIP/2.0";
    assert_eq!(t.response(60_000, response(486, "INVITE", B1)), ["1 response 486", ack]);
    assert_eq!(t.response(60_001, response(486, "INVITE", B1)), [ack]);
    assert_eq!(t.until(92_000), [(92_000, "1 ended".to_owned())]);
    t.idle();
    t.sends(0, 2, "INVITE", udp(2));
    for ms in [1, 2] {
        let answer = t.response(ms, response(200, "INVITE", "z9hG4bK2"));
        assert_eq!(answer, ["2 response 200"], "every 2xx, RFC 6026 §7.2");
    }
    assert_eq!(t.until(40_000), [(32_001, "2 ended".to_owned())]);
    t.idle();
}

#[test]
fn nobody_answers() {
    for method in ["MESSAGE", "INVITE"] {
        for flow in [udp(2), tcp(1)] {
            let mut t = Bench::new();
            t.sends(0, 1, method, flow);
            let seen = t.until(60_000);
            let end = &seen[seen.len() - 2..];
            let end: Vec<(u64, &str)> = end.iter().map(|(ms, word)| (*ms, &word[..])).collect();
            assert_eq!(end, [(32_000, "1 failed Timeout"), (32_000, "1 ended")]);
            t.idle();
        }
    }
}

#[test]
fn responses_to_nothing_are_dropped() {
    let mut t = Bench::new();
    t.sends(0, 1, "MESSAGE", udp(2));
    assert_eq!(t.response(1, response(200, "MESSAGE", "z9hG4bKother")), NOTHING);
    assert_eq!(t.response(1, response(200, "INVITE", B1)), NOTHING, "another method");
    let two = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP sip.a.example;branch=z9hG4bK1\r\n\
        Via: SIP/2.0/UDP other\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n";
    let Message::Response(two) = parse(two.to_owned()) else { panic!("a response") };
    assert_eq!(t.response(1, two), NOTHING, "RFC 3261 §8.1.3.3");
    assert_eq!(t.response(2, response(200, "MESSAGE", B1)), ["1 response 200"]);
}

#[test]
fn a_failed_flow_fails_what_waits_on_it() {
    let mut t = Bench::new();
    t.sends(0, 1, "MESSAGE", tcp(1));
    t.sends(0, 2, "INVITE", tcp(1));
    t.sends(0, 3, "MESSAGE", tcp(2));
    let mut words = t.fails(1, tcp(1));
    words.sort();
    assert_eq!(words, ["1 ended", "1 failed Transport", "2 ended", "2 failed Transport"]);
    assert_eq!(t.fails(1, tcp(1)), NOTHING);
    assert_eq!(t.0.open(), 1);
    assert_eq!(t.response(2, response(200, "MESSAGE", "z9hG4bK3")), ["3 response 200", "3 ended"]);
    t.idle();
}

#[test]
fn an_answer_outlives_the_failure_of_its_flow() {
    let mut t = Bench::new();
    let key = t.accepts(0, udp(1), request("MESSAGE", B1));
    assert_eq!(t.fails(1, udp(1)), NOTHING);
    t.responds(2, key, 202);
    assert_eq!(t.fails(3, udp(1)), NOTHING);
    assert_eq!(t.request(4, udp(1), request("MESSAGE", B1)), ["192.0.2.1:5070 SIP/2.0 202 x"]);
}

#[test]
fn a_branch_under_way_is_not_started_twice() {
    let mut t = Bench::new();
    t.sends(0, 1, "MESSAGE", udp(2));
    let mut out = Vec::new();
    t.0.send(at(0), 2, &Method::Message, B1, udp(2), Bytes::new(), &mut out);
    assert_eq!(words(&out), ["2 failed Transport", "2 ended"]);
    assert_eq!(t.0.open(), 1);
    let ack = Bytes::from_static(b"ACK");
    out.clear();
    t.0.send(at(0), 3, &Method::Ack, B1, udp(2), ack, &mut out);
    assert_eq!(words(&out), ["192.0.2.2:5070 ACK"], "an ACK is only sent");
    assert_eq!(t.0.open(), 1);
}

#[test]
fn the_tables_are_bounded() {
    let mut t = Transactions::new(1);
    let (mut out, request) = (Vec::new(), request("MESSAGE", B1));
    let key = |n: usize| ServerKey::numbered(n as u128);
    for n in 0..SERVER_TRANSACTIONS_MAX {
        assert!(t.accept(at(0), &key(n), udp(1), &request));
    }
    assert!(!t.accept(at(0), &key(SERVER_TRANSACTIONS_MAX), udp(1), &request), "full");
    assert!(t.accept(at(0), &key(0), udp(1), &request), "but that one is here");
    for n in 0..SERVER_TRANSACTIONS_MAX {
        t.respond(at(1), &key(n), 200, Bytes::new(), &mut out);
    }
    assert_eq!(t.open(), COMPLETED_MAX.min(SERVER_TRANSACTIONS_MAX));
    for n in SERVER_TRANSACTIONS_MAX..SERVER_TRANSACTIONS_MAX + 10 {
        assert!(t.accept(at(2), &key(n), udp(1), &request));
        t.respond(at(2), &key(n), 200, Bytes::new(), &mut out);
        assert!(t.open() <= COMPLETED_MAX, "the oldest gives way");
    }
    assert!(!t.servers.contains_key(&key(9)) && t.servers.contains_key(&key(10)));
    t.fire(at(40_000), &mut out);
    assert_eq!((t.open(), t.next_deadline()), (0, None));
    let room = t.servers.capacity().max(t.completed.capacity()).max(t.merged.capacity());
    assert!(room < 8 * TRANSACTIONS_ROOM, "the room of the rush is given back: {room}");

    out.clear();
    for id in 0..=CLIENT_TRANSACTIONS_MAX as u64 {
        t.send(at(0), id, &Method::Message, &id.to_string(), udp(2), Bytes::new(), &mut out);
    }
    assert_eq!(t.open(), CLIENT_TRANSACTIONS_MAX);
    let last = words(&out[out.len() - 2..]);
    assert_eq!(last, ["262144 failed Transport", "262144 ended"]);
}

#[test]
fn kept_answers_are_bounded_in_octets() {
    let mut t = Transactions::new(1);
    let (mut out, request) = (Vec::new(), request("MESSAGE", B1));
    let key = |n: usize| ServerKey::numbered(n as u128);
    let large = Bytes::from(vec![b'x'; COMPLETED_OCTETS_MAX / 4]);
    for n in 0..6 {
        assert!(t.accept(at(0), &key(n), udp(1), &request));
        t.respond(at(1), &key(n), 200, large.clone(), &mut out);
        t.respond(at(1), &key(n), 200, large.clone(), &mut out);
    }
    assert_eq!((t.open(), t.completed_octets), (4, COMPLETED_OCTETS_MAX));
    assert!(!t.servers.contains_key(&key(1)) && t.servers.contains_key(&key(2)));
    t.fire(at(40_000), &mut out);
    assert_eq!((t.open(), t.completed_octets), (0, 0));
}

#[test]
fn one_history_gives_one_row_of_acts() {
    let history = || {
        let mut t = Bench::new();
        for id in 1..50 {
            t.sends(0, id, "MESSAGE", tcp(1));
            t.sends(0, 100 + id, "MESSAGE", udp(2));
        }
        let mut row = t.fails(1, tcp(1));
        row.extend(t.until(60_000).into_iter().map(|(_, word)| word));
        row
    };
    assert_eq!(history(), history());
}
