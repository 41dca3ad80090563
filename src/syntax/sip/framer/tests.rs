//! Streams cut anywhere, and streams that cannot be cut.

use super::*;

const BODY: &str = "OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/TCP h\r\nl: 4\r\n\r\nab\r\n";

fn frames(stream: &[u8]) -> Vec<Frame> {
    let mut framer = Framer::new();
    framer.push(stream);
    std::iter::from_fn(|| framer.next()).collect()
}

fn message(text: &str) -> Frame {
    Frame::Message(Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn streams_are_cut() {
    let check =
        |stream: &str, want: &[Frame]| assert_eq!(frames(stream.as_bytes()), want, "{stream}");
    check("", &[]);
    check("\r\n", &[]);
    check("\r\n\r\n", &[Frame::KeepAlive]);
    check("\r\n\r\n\r\n\r\n\r\n", &[Frame::KeepAlive, Frame::KeepAlive]);
    check(BODY, &[message(BODY)]);
    check(&BODY[..BODY.len() - 1], &[]);
    check(
        &format!("\r\n{BODY}{BODY}\r\n\r\n{BODY}"),
        &[message(BODY), message(BODY), Frame::KeepAlive, message(BODY)],
    );
    let folded = BODY.replace("l: 4", "l:\r\n 4");
    check(&folded, &[message(&folded)]);
}

#[test]
fn a_stream_that_cannot_be_cut_is_broken() {
    let check = |stream: &str, status: u16, reason: &str, answerable: bool| {
        let mut framer = Framer::new();
        framer.push(stream.as_bytes());
        let Some(Frame::Broken(fault, head)) = framer.next() else { panic!("{stream}") };
        assert_eq!((fault.status, &*fault.reason, head.is_some()), (status, reason, answerable));
        framer.push(BODY.as_bytes());
        assert_eq!(framer.next(), None, "nothing comes behind the break");
    };
    check(&BODY.replace("l: 4\r\n", ""), 400, "Missing Content-Length header", true);
    check(&BODY.replace("l: 4", "l: -4"), 400, "Malformed Content-Length header", true);
    check(&BODY.replace("l: 4", "l: 4\r\nl: 4"), 400, "Repeated Content-Length header", true);
    check(&BODY.replace("l: 4", "l: 262145"), 413, "Request Entity Too Large", true);
    check(
        &BODY.replace("l: 4", "l: 99999999999999999999"),
        400,
        "Malformed Content-Length header",
        true,
    );
    check(
        "SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP h\r\n\r\n",
        400,
        "Missing Content-Length header",
        false,
    );
    check("GET / HTTP/1.1\r\n\r\n", 400, "Missing Content-Length header", false);
    let endless =
        format!("OPTIONS sip:h SIP/2.0\r\nVia: SIP/2.0/TCP h\r\n{}", "X: y\r\n".repeat(3000));
    check(&endless, 513, "Message Too Large", true);
    check(&"x".repeat(20_000), 513, "Message Too Large", false);
}

#[test]
fn what_waits_is_bounded() {
    let mut framer = Framer::new();
    for _ in 0..PENDING_MAX / BODY.len() + 2 {
        framer.push(BODY.as_bytes());
    }
    assert!(framer.buffer.len() <= PENDING_MAX);
    let all: Vec<Frame> = std::iter::from_fn(|| framer.next()).collect();
    assert_eq!(all.len(), PENDING_MAX / BODY.len() + 1);
    assert!(matches!(all.last(), Some(Frame::Broken(fault, None)) if fault.status == 513));
}
