//! What is stamped, copied, and cannot be smuggled.

use bytes::Bytes;

use super::*;
use crate::syntax::sip::{Message, read};

fn request(top: &str, more: &str) -> Request {
    let text = format!(
        "MESSAGE sip:b@h SIP/2.0\r\n{top}From: <sip:a@h>;tag=1\r\nt : <sip:b@h>\r\nCall-ID: c\r\n\
         CSeq: 1 MESSAGE\r\n{more}\r\nbody"
    );
    match read(Bytes::from(text)) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

/// RFC 3261 §18.2.1 and RFC 3581 §4.
#[test]
fn the_transport_stamps_the_topmost_via() {
    let check = |via: &str, peer: &str, want: &str| {
        let before =
            request(&format!("X: 1\r\nv:  {via} \r\nVia: SIP/2.0/UDP last\r\n"), "Y: 2\r\n");
        let after = stamp(&before, peer.parse().unwrap());
        let lines = |r: &Request| {
            r.headers.iter().map(|f| (f.spelled.to_vec(), f.value.to_vec())).collect::<Vec<_>>()
        };
        let mut wanted = lines(&before);
        wanted[1].1 = want.as_bytes().to_vec();
        assert_eq!(lines(&after), wanted, "{via}");
        assert_eq!((after.uri, after.body), (before.uri, before.body));
    };
    let peer = "192.0.2.1:9";
    check("SIP/2.0/UDP 192.0.2.1:9;branch=b", peer, "SIP/2.0/UDP 192.0.2.1:9;branch=b");
    check("SIP/2.0/UDP 192.0.2.1", peer, "SIP/2.0/UDP 192.0.2.1");
    check("SIP/2.0/UDP h", peer, "SIP/2.0/UDP h;received=192.0.2.1");
    check("SIP/2.0/UDP 10.0.0.1;x", peer, "SIP/2.0/UDP 10.0.0.1;x;received=192.0.2.1");
    check(
        "SIP/2.0/UDP 192.0.2.1;rport;b=c",
        peer,
        "SIP/2.0/UDP 192.0.2.1;rport=9;b=c;received=192.0.2.1",
    );
    check("SIP/2.0/UDP h;received=6.6.6.6", peer, "SIP/2.0/UDP h;received=192.0.2.1");
    check("SIP/2.0/UDP 192.0.2.1;received=6.6.6.6", peer, "SIP/2.0/UDP 192.0.2.1");
    check(
        "SIP/2.0/UDP h;a , SIP/2.0/UDP i",
        peer,
        "SIP/2.0/UDP h;a;received=192.0.2.1 , SIP/2.0/UDP i",
    );
    check(",, SIP/2.0/UDP h", peer, "SIP/2.0/UDP h;received=192.0.2.1");
    check("SIP/2.0/UDP h", "[2001:db8::1]:9", "SIP/2.0/UDP h;received=2001:db8::1");
    check("SIP/2.0/UDP 192.0.2.1", "[::ffff:192.0.2.1]:9", "SIP/2.0/UDP 192.0.2.1");
    check("SIP/2.0/UDP [2001:DB8::1];x", "[2001:db8::1]:9", "SIP/2.0/UDP [2001:DB8::1];x");
    check("no via at all", peer, "no via at all");
}

/// RFC 3261 §8.2.6.2.
#[test]
fn an_answer_carries_what_belongs_to_the_request() {
    let vias = "Via: SIP/2.0/UDP h1, SIP/2.0/UDP h2\r\nRoute: <sip:r>\r\nv: SIP/2.0/UDP h3\r\n";
    let check = |req: &Request, tag: Option<&str>, to: &str| {
        let want = format!(
            "SIP/2.0 404 Not Found\r\nVia: SIP/2.0/UDP h1, SIP/2.0/UDP h2\r\nVia: SIP/2.0/UDP h3\r\n\
             From: <sip:a@h>;tag=1\r\nTo: {to}\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let got = answer(req, 404, "", tag).finish(b"");
        assert_eq!(String::from_utf8_lossy(&got), want);
    };
    let mut req = request(vias, "");
    check(&req, Some("x"), "<sip:b@h>;tag=x");
    check(&req, None, "<sip:b@h>");
    let text = b"M sip:h SIP/2.0\r\nVia: SIP/2.0/UDP h1, SIP/2.0/UDP h2\r\nVia: SIP/2.0/UDP h3\r\nFrom: <sip:a@h>;tag=1\r\nTo: \"tag\" <sip:b@h;tag=u>;tag=y\r\nCall-ID: c\r\nCSeq: 1 MESSAGE\r\n\r\n";
    if let Ok(Message::Request(r)) = read(Bytes::from_static(text)) {
        req = r;
    }
    check(&req, Some("x"), "\"tag\" <sip:b@h;tag=u>;tag=y");
}

#[test]
fn nothing_in_a_value_begins_a_line() {
    let mut writer =
        Writer::request(&Method::Other("A B\r\nC".into()), b"sip:x\r\nEvil: 1 SIP/2.0");
    writer.header(Name::Subject, "a\r\nEvil: 1\r\n\r\nb\0\tc");
    writer.named(b"X-Bad\r\nEvil", "1").named(b"X-Good", b"\xff\x7f").named(b"", "x");
    writer.header(Name::ContentLength, "5").named(b"l", "5").header(Name::Other, "x");
    let want = b"A_B__C sip:x__Evil:_1_SIP/2.0 SIP/2.0\r\nSubject: a  Evil: 1    b \tc\r\nX-Good: \xff \r\nContent-Length: 2\r\n\r\nhi";
    assert_eq!(&writer.finish(b"hi")[..], want);
    let response = Writer::response(200, "fine\r\nEvil: 1").finish(b"");
    assert_eq!(&response[..], b"SIP/2.0 200 fine  Evil: 1\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn lines_are_copied_with_their_octets() {
    let req = request("", "Path: <sip:p1>, <sip:p2>\r\npath: <sip:p3>\r\n");
    let mut writer = Writer::request(&Method::Message, b"sip:x");
    writer.copy(&req.headers, Name::Path).copy(&req.headers, Name::Route).raw_lines(b"Z: 9\r\n");
    let want = "MESSAGE sip:x SIP/2.0\r\nPath: <sip:p1>, <sip:p2>\r\nPath: <sip:p3>\r\nZ: 9\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&writer.finish(b"")), want);
}
