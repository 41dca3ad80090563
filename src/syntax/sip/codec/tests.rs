//! Limits and unfolding; `rsip` as an oracle where it is right.

use super::super::{Params, Uri, Via};
use super::*;
use rsip::headers::ToTypedHeader;
use rsip::message::HeadersExt;

const CUT: &str = "the input is readable";

const REGISTER: &str = "REGISTER sip:a.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport\r\n\
    Max-Forwards: 70\r\n\
    From: \"Alice\" <sip:alice@a.example>;tag=1\r\n\
    To: <sip:alice@a.example>\r\n\
    Call-ID: x@192.0.2.1\r\n\
    CSeq: 1 REGISTER\r\n\
    Contact: <sip:alice@192.0.2.1:5060>;expires=3600\r\n\
    Content-Length: 0\r\n\r\n";

/// Inputs on which rsip was measured to be right: long names, ASCII, CRLF, known methods, host
/// names and IPv4, one value per line.
const ORACLE: &[&str] = &[
    REGISTER,
    "INVITE sips:bob@b.example:5061;transport=tcp SIP/2.0\r\n\
     Via: SIP/2.0/TCP p1.a.example:5062;branch=z9hG4bKa;received=192.0.2.7\r\n\
     Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKb\r\n\
     Max-Forwards: 1\r\n\
     From: Alice <sip:alice@a.example>;tag=88\r\n\
     To: <sip:bob@b.example>;tag=99\r\n\
     Call-ID: 1j9FpLxk3uxtm8tn@a.example\r\n\
     CSeq: 4711 INVITE\r\n\
     Subject: lunch: at noon, or later\r\n\
     Content-Type: application/sdp\r\n\
     Content-Length: 5\r\n\r\nv=0\r\n",
    "MESSAGE sip:bob@b.example SIP/2.0\r\n\
     Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK5\r\n\
     From: <sip:alice@a.example>;tag=5\r\n\
     To: <sip:bob@b.example>\r\n\
     Call-ID: m\r\n\
     CSeq: 5 MESSAGE\r\n\
     Content-Type: text/plain\r\n\
     Content-Length: 2\r\n\r\nhi",
    "SIP/2.0 200 OK\r\n\
     Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK5;received=192.0.2.1\r\n\
     From: <sip:alice@a.example>;tag=5\r\n\
     To: <sip:bob@b.example>;tag=6\r\n\
     Call-ID: m\r\n\
     CSeq: 5 MESSAGE\r\n\
     Content-Length: 0\r\n\r\n",
];

fn lines(headers: &Headers) -> Vec<String> {
    let text = |octets| String::from_utf8_lossy(octets).into_owned();
    headers.iter().map(|h| format!("{}: {}", text(h.spelled), text(h.value))).collect()
}

fn same_via(ours: &Via, theirs: &rsip::typed::Via) {
    assert_eq!(ours.transport, theirs.transport.to_string());
    assert_eq!(ours.host.to_string(), theirs.uri.host().to_string());
    assert_eq!(ours.port.map(|p| p.to_string()), theirs.uri.port().map(ToString::to_string));
    assert_eq!(ours.branch(), theirs.branch().map(|b| b.value()));
    assert_eq!(Ok(ours.received()), theirs.received());
}

#[test]
fn rsip_agrees_where_it_is_right() {
    for text in ORACLE {
        let ours = read(Bytes::from_static(text.as_bytes())).expect(CUT);
        let theirs = rsip::SipMessage::try_from(text.as_bytes()).expect(CUT);
        let (headers, via, from, to, cseq) = match (&ours, &theirs) {
            (Message::Request(o), rsip::SipMessage::Request(t)) => {
                assert_eq!(o.method.as_str(), t.method.to_string());
                // It respells the transport, so the text differs where the URI does not.
                let their_uri = Uri::parse(t.uri.to_string().as_bytes()).expect(CUT);
                assert!(o.target().expect(CUT).same_as(&their_uri), "{their_uri}");
                assert_eq!(o.body, t.body);
                (&o.headers, o.via(), o.from(), o.to(), o.cseq())
            }
            (Message::Response(o), rsip::SipMessage::Response(t)) => {
                assert_eq!(o.status, t.status_code.code());
                assert_eq!(o.body, t.body);
                (&o.headers, o.via(), o.from(), o.to(), o.cseq())
            }
            _ => panic!("one of them took a request for a response"),
        };
        let listed: Vec<String> = match &theirs {
            rsip::SipMessage::Request(t) => t.headers.iter().map(ToString::to_string).collect(),
            rsip::SipMessage::Response(t) => t.headers.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(lines(headers), listed);
        same_via(&via.expect(CUT), &theirs.via_header().expect(CUT).typed().expect(CUT));
        let their_from = theirs.from_header().expect(CUT).typed().expect(CUT);
        assert_eq!(from.as_ref().expect(CUT).tag(), their_from.tag().map(|t| t.value()));
        assert_eq!(from.expect(CUT).uri.to_string(), their_from.uri.to_string());
        let their_to = theirs.to_header().expect(CUT).typed().expect(CUT);
        assert_eq!(to.expect(CUT).tag(), their_to.tag().map(|t| t.value()));
        let their_cseq = theirs.cseq_header().expect(CUT).typed().expect(CUT);
        let cseq = cseq.expect(CUT);
        assert_eq!(
            (cseq.number, cseq.method.as_str()),
            (their_cseq.seq, &*their_cseq.method.to_string())
        );
    }
}

#[test]
fn rsip_reads_what_we_write() {
    let Ok(Message::Request(r)) = read(Bytes::from_static(REGISTER.as_bytes())) else {
        panic!("unreadable");
    };
    let answer = super::super::answer(&r, 200, "", Some("t2")).finish(b"x");
    let theirs = rsip::Response::try_from(&answer[..]).expect(CUT);
    assert_eq!(
        theirs.to_header().expect(CUT).typed().expect(CUT).tag().map(|t| t.value()),
        Some("t2")
    );
    assert_eq!((theirs.status_code.code(), &theirs.body[..]), (200, &b"x"[..]));
}

/// A head that is too much in one way is refused with 513, or 414 for the Request-URI.
#[test]
fn limits_are_refusals() {
    let long = |n: usize| "x".repeat(n);
    let check = |octets: String, want: Option<u16>| {
        let size = octets.len();
        let got = match read(Bytes::from(octets)) {
            Ok(_) => None,
            Err(Unreadable::Answerable { fault, request }) => {
                assert!(request.via().is_ok());
                Some(fault.status)
            }
            Err(Unreadable::Garbage) => Some(0),
        };
        assert_eq!(got, want, "{size} octets");
    };
    let more =
        |lines: String| REGISTER.replace("Content-Length", &format!("{lines}Content-Length"));
    check(REGISTER.into(), None);
    check(more(format!("X: {}\r\n", long(limits::HEADER_OCTETS_MAX - 3))), None);
    check(more(format!("X: {}\r\n", long(limits::HEADER_OCTETS_MAX - 2))), Some(513));
    check(more("X: y\r\n".repeat(limits::HEADERS_MAX - 8)), None);
    check(more("X: y\r\n".repeat(limits::HEADERS_MAX - 7)), Some(513));
    check(more(format!("X: {}\r\n", long(4000)).repeat(5)), Some(513));
    check(REGISTER.replace("sip:a.example SIP", &format!("sip:{} SIP", long(1020))), None);
    check(REGISTER.replace("sip:a.example SIP", &format!("sip:{} SIP", long(1021))), Some(414));
    let fat = |n: usize| {
        let head = REGISTER.replace("Length: 0", &format!("Length: {n}"));
        format!("{head}{}", long(n))
    };
    check(fat(limits::BODY_OCTETS_MAX), None);
    check(fat(limits::BODY_OCTETS_MAX + 1), Some(413));
}

#[test]
fn unfolding_keeps_length_and_body() {
    let check = |from: &[u8], want: &[u8]| assert_eq!(&unfold(from)[..], want);
    check(b"A\r\nB: 1\r\n 2\r\n\r\n\r\n body", b"A\r\nB: 1   2\r\n\r\n\r\n body");
    check(b"A\nB: 1\n\t2\n\n\n body", b"A\nB: 1 \t2\n\n\n body");
    check(b"A\r\n \r\nB: 1\r\n\r\n", b"A   \r\nB: 1\r\n\r\n");
    check(b"\n x\n", b"  x\n");
    check(b"", b"");
}

#[test]
fn a_limit_holds_for_parameters() {
    let many = |n: usize| (0..n).map(|i| format!(";p{i}")).collect::<String>();
    let ok = |n| Uri::parse(format!("sip:h{}", many(n)).as_bytes()).is_ok();
    assert!(ok(limits::PARAMS_MAX));
    assert!(!ok(limits::PARAMS_MAX + 1));
    assert!(Params::of_header(b";a;A").is_err());
}
