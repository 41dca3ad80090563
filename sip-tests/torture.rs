//! Hard messages (fixtures/sip/torture) through the reader, the framer and the writer: what RFC
//! 3261, RFC 4475 and RFC 5118 say about them, that nothing panics, and that no octet is lost.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may give up")]

use bytes::Bytes;
use cpmd::syntax::sip::{
    Contact, Frame, Framer, Message, Name, NameAddr, Request, Unreadable, Writer, answer, contacts,
    read, stamp,
};

/// What becomes of a fixture.
enum Want {
    /// A request that passes `check`.
    Good,
    /// A request that is read, and refused by `check` with this.
    Checked(u16, &'static str),
    /// A request that is answered without being read to its end.
    Refused(u16, &'static str),
    /// A response with this status.
    Response(u16),
    /// Dropped silently.
    Garbage,
}

use Want::{Checked, Garbage, Good, Refused};

const TABLE: &[(&str, Want)] = &[
    ("plain-message", Good),
    // RFC 3261 §7.3: names in any case and short, folding, blanks where they may stand.
    ("compact-forms", Good),
    ("folded-headers", Good),
    ("folded-start-line", Refused(400, "Malformed Request-Line")),
    ("blanks-before-colon", Good),
    ("tab-in-value", Good),
    ("empty-values", Good),
    ("escaped-quotes-in-display", Good),
    ("comma-in-unquoted-display", Good),
    ("no-blank-behind-display", Good),
    ("latin1-in-values", Good),
    ("utf8-in-values", Good),
    ("odd-call-id", Good),
    // RFC 3261 §7.1: the start line.
    ("wide-token-method", Good),
    ("lower-case-method", Good),
    ("method-is-no-token", Refused(400, "Malformed Request-Line")),
    ("two-blanks-in-request-line", Refused(400, "Malformed Request-Line")),
    ("blank-behind-version", Refused(400, "Malformed Request-Line")),
    ("blank-in-target", Refused(400, "Malformed Request-Line")),
    ("no-target", Refused(400, "Malformed Request-Line")),
    ("version-seven", Refused(505, "Version Not Supported")),
    ("version-in-lower-case", Good),
    ("http-request", Garbage),
    ("malformed-ack", Garbage),
    ("leading-empty-lines", Good),
    // RFC 3261 §7: lines end with CRLF; anything else is how one message hides in another.
    ("line-feeds-only", Refused(400, "Line does not end with CRLF")),
    ("one-bare-line-feed", Refused(400, "Line does not end with CRLF")),
    ("bare-carriage-return", Refused(400, "Control character in the headers")),
    ("no-empty-line", Refused(400, "No empty line behind the headers")),
    ("cut-in-a-header", Refused(400, "No empty line behind the headers")),
    ("line-without-colon", Refused(400, "Header line without a colon")),
    ("empty-header-name", Refused(400, "Malformed header name")),
    ("blank-in-header-name", Refused(400, "Malformed header name")),
    ("nul-in-header-name", Refused(400, "Malformed header name")),
    ("bell-before-colon", Refused(400, "Malformed header name")),
    ("latin1-in-header-name", Refused(400, "Malformed header name")),
    ("nul-in-value", Refused(400, "Control character in the headers")),
    ("delete-in-value", Refused(400, "Control character in the headers")),
    // RFC 4475 §3.1.1.1 takes these for well-formed; we refuse every control character.
    ("escaped-control-in-quotes", Refused(400, "Control character in the headers")),
    // RFC 3261 §19.1, RFC 3966, RFC 5627.
    ("unknown-scheme", Good),
    ("tel-target", Good),
    ("urn-service-sos", Good),
    ("gruu-target", Good),
    ("semicolon-in-user", Good),
    ("escaped-nul-in-user", Good),
    ("headers-in-target", Good),
    ("bad-escape-in-target", Checked(400, "Malformed Request-URI")),
    ("angle-brackets-in-request-line", Checked(400, "Malformed Request-URI")),
    ("two-at-in-target", Checked(400, "Malformed Request-URI")),
    // RFC 5118.
    ("ipv6-everywhere", Good),
    ("ipv6-received-in-brackets", Good),
    ("ipv6-port-inside-brackets", Good),
    ("ipv6-without-brackets", Checked(400, "Malformed Request-URI")),
    ("ipv6-three-colons", Checked(400, "Malformed Request-URI")),
    // Bodies and Content-Length (RFC 3261 §18.3, §20.14).
    ("binary-body", Good),
    ("multipart-with-binary-part", Good),
    ("content-length-smaller-than-body", Good),
    ("content-length-leading-zeros", Good),
    ("content-length-missing", Good),
    ("content-length-larger-than-body", Refused(400, "Content-Length exceeds the body")),
    ("content-length-huge", Refused(400, "Content-Length exceeds the body")),
    ("content-length-negative", Refused(400, "Malformed Content-Length header")),
    ("content-length-plus", Refused(400, "Malformed Content-Length header")),
    ("content-length-overflows", Refused(400, "Malformed Content-Length header")),
    ("content-length-hexadecimal", Refused(400, "Malformed Content-Length header")),
    ("content-length-list", Refused(400, "Malformed Content-Length header")),
    ("content-length-empty", Refused(400, "Malformed Content-Length header")),
    ("content-length-twice-different", Refused(400, "Repeated Content-Length header")),
    ("content-length-twice-same", Refused(400, "Repeated Content-Length header")),
    // RFC 3261 §8.1.1: what every request carries, once.
    ("no-via", Checked(400, "Missing Via header")),
    ("no-from", Checked(400, "Missing From header")),
    ("no-to", Checked(400, "Missing To header")),
    ("no-call-id", Checked(400, "Missing Call-ID header")),
    ("no-cseq", Checked(400, "Missing CSeq header")),
    ("no-max-forwards", Good),
    ("double-from", Checked(400, "Repeated From header")),
    ("double-to-compact", Checked(400, "Repeated To header")),
    ("double-call-id", Checked(400, "Repeated Call-ID header")),
    ("double-cseq", Checked(400, "Repeated CSeq header")),
    ("double-max-forwards", Checked(400, "Repeated Max-Forwards header")),
    ("double-tag", Checked(400, "Malformed From header")),
    ("cseq-beyond-31-bits", Checked(400, "Malformed CSeq header")),
    ("cseq-beyond-64-bits", Checked(400, "Malformed CSeq header")),
    ("cseq-names-another-method", Checked(400, "CSeq names another method")),
    ("cseq-without-method", Checked(400, "Malformed CSeq header")),
    ("cseq-leading-zeros", Good),
    ("max-forwards-too-large", Checked(400, "Malformed Max-Forwards header")),
    ("blank-in-call-id", Checked(400, "Malformed Call-ID header")),
    ("unbalanced-quote", Checked(400, "Malformed To header")),
    ("unbalanced-angle", Checked(400, "Malformed To header")),
    ("question-mark-without-angles", Good),
    ("contact-star-and-list", Good),
    ("via-separators-without-params", Checked(400, "Malformed Via header")),
    ("via-port-too-large", Checked(400, "Malformed Via header")),
    ("via-unknown-transport", Good),
    ("via-odd-branch", Good),
    ("via-list-and-lines", Good),
    // RFC 3261 §7.2.
    ("response-without-reason", Want::Response(200)),
    ("response-without-blank", Want::Response(180)),
    ("response-with-own-reason", Want::Response(480)),
    ("response-status-too-large", Garbage),
    ("response-status-too-small", Garbage),
    ("response-other-version", Garbage),
    ("response-short-body", Garbage),
];

fn folder() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sip/torture")
}

fn load(name: &str) -> Bytes {
    let path = folder().join(format!("{name}.sip"));
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).into()
}

fn request(name: &str) -> Request {
    match read(load(name)) {
        Ok(Message::Request(request)) => request,
        other => panic!("{name}: {other:?}"),
    }
}

fn check(name: &str, want: &Want) {
    let got = read(load(name));
    match (want, &got) {
        (Good, Ok(Message::Request(r))) => assert_eq!(r.check(), Ok(()), "{name}"),
        (Checked(status, reason), Ok(Message::Request(r))) => {
            let fault = r.check().expect_err(name);
            assert_eq!((fault.status, &*fault.reason), (*status, *reason), "{name}");
        }
        (Refused(status, reason), Err(Unreadable::Answerable { request, fault })) => {
            assert_eq!((fault.status, &*fault.reason), (*status, *reason), "{name}");
            assert!(request.via().is_ok(), "{name}: cannot be answered");
            let answer = answer(request, fault.status, &fault.reason, Some("t")).finish(b"");
            assert!(matches!(read(answer), Ok(Message::Response(r)) if r.status == *status));
        }
        (Want::Response(status), Ok(Message::Response(r))) => {
            assert_eq!(r.status, *status, "{name}");
        }
        (Garbage, Err(Unreadable::Garbage)) => {}
        _ => panic!("{name}: {got:?}"),
    }
}

#[test]
fn each_fixture_becomes_what_the_table_says() {
    for (name, want) in TABLE {
        check(name, want);
    }
}

#[test]
fn the_table_and_the_folder_name_the_same_fixtures() {
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .map(|f| f.trim_end_matches(".sip").to_owned())
        .collect();
    let mut rows: Vec<&str> = TABLE.iter().map(|(name, _)| *name).collect();
    files.sort();
    rows.sort();
    assert_eq!(files, rows);
}

#[test]
fn folded_and_compact_headers_have_their_values() {
    let r = request("folded-headers");
    assert_eq!(r.from().unwrap().display.as_deref(), Some("Alice \"the \\ Caller\""));
    assert_eq!((r.from().unwrap().tag(), r.to().unwrap().tag()), (Some("98z"), Some("2a7")));
    assert_eq!((r.max_forwards(), r.cseq().unwrap().number), (Ok(Some(68)), 9));
    let vias: Vec<_> = r.headers.list(Name::Via).collect();
    assert_eq!(vias.len(), 3);
    assert_eq!(r.via().unwrap().to_string(), "SIP/2.0/UDP 192.0.2.10:5062;branch=390sk");
    assert_eq!(
        r.headers.other("x-unknown"),
        Some(&b"a value that is   folded twice  \tand kept"[..])
    );
    let Contact::Addr(contact) = &contacts(&r.headers).unwrap()[0] else { panic!("star") };
    assert_eq!(
        (contact.q(), contact.params.value("newparam").as_deref()),
        (Some(330), Some("newvalue"))
    );
    assert_eq!(&r.body[..], b"v=0\r\n");

    let r = request("compact-forms");
    let text = |name| r.headers.text(name);
    assert_eq!(text(Name::Subject), Some("short names"));
    assert_eq!((text(Name::Event), text(Name::AllowEvents)), (Some("presence"), Some("dialog")));
    assert_eq!(text(Name::AcceptContact), Some("*;+g.oma.sip-im"));
    assert_eq!(r.headers.list(Name::Supported).collect::<Vec<_>>(), [&b"path"[..], b"gruu"]);
}

#[test]
fn content_length_cuts_the_body() {
    assert_eq!(&request("content-length-smaller-than-body").body[..], b"he");
    assert_eq!(&request("content-length-missing").body[..], b"hello");
    assert!(request("binary-body").body.starts_with(b"\xff\xd8\x00\xfe\r\n\r\n"));
}

#[test]
fn contacts_are_all_or_a_fault() {
    let mut all = contacts(&request("contact-star-and-list").headers).unwrap().into_iter();
    assert!(matches!(all.next(), Some(Contact::Star)));
    let Some(Contact::Addr(second)) = all.next() else { panic!("no second contact") };
    assert_eq!(second.display.as_deref(), Some("A, <B>"));
    assert_eq!(second.instance(), Some("urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"));
    // RFC 3261 §20.10: a question mark needs `<>`.
    let fault = contacts(&request("question-mark-without-angles").headers).expect_err("read");
    assert_eq!(fault.reason, "Malformed Contact header");
}

/// The message with every header written again by our writer, names as spelled.
fn rewrite(message: &Message) -> Bytes {
    let (mut writer, headers, body) = match message {
        Message::Request(r) => (Writer::request(&r.method, &r.uri), &r.headers, &r.body),
        Message::Response(r) => {
            let reason = String::from_utf8_lossy(&r.reason);
            (Writer::response(r.status, &reason), &r.headers, &r.body)
        }
    };
    for field in headers.iter() {
        writer.named(field.spelled, field.value);
    }
    writer.finish(body)
}

type Octets = Vec<u8>;

/// Name and value of every header but Content-Length, which moves, and the body.
fn values(message: &Message) -> (Vec<(Octets, Octets)>, Bytes) {
    let (headers, body) = match message {
        Message::Request(r) => (&r.headers, &r.body),
        Message::Response(r) => (&r.headers, &r.body),
    };
    let own = headers.iter().filter(|field| field.name != Name::ContentLength);
    let own = own.map(|field| (field.spelled.to_vec(), field.value.to_vec())).collect();
    (own, body.clone())
}

#[test]
fn what_is_written_again_keeps_every_value_and_octet() {
    let mut kept = 0;
    for (name, _) in TABLE {
        if let Ok(message) = read(load(name)) {
            let again = read(rewrite(&message)).unwrap_or_else(|e| panic!("{name}: {e:?}"));
            assert_eq!(values(&again), values(&message), "{name}");
            kept += 1;
        }
    }
    assert!(kept > 50);
}

/// Everything that anybody asks a message for.
fn touch(message: &Message) {
    let headers = match message {
        Message::Request(r) => {
            drop((r.check(), r.target().map(|uri| (uri.aor(), uri.to_string())), r.expires()));
            let stamped = stamp(r, "[2001:db8::7]:5999".parse().unwrap());
            drop((r.from(), r.to(), r.call_id(), r.cseq()));
            if let Ok(via) = r.via() {
                assert_eq!(stamped.via().unwrap().branch(), via.branch());
                assert_eq!(stamped.headers.len(), r.headers.len());
            }
            let ours = read(answer(&stamped, 200, "", Some("t")).finish(b""));
            assert!(matches!(ours, Ok(Message::Response(_))));
            &r.headers
        }
        Message::Response(r) => {
            drop((r.via(), r.from(), r.to(), r.call_id(), r.cseq()));
            &r.headers
        }
    };
    for value in headers.list(Name::Contact).chain(headers.list(Name::Route)) {
        if let Ok(address) = NameAddr::parse(value) {
            let again = NameAddr::parse(address.to_string().as_bytes()).expect("our own writing");
            assert!(again.uri.same_as(&address.uri), "{address}");
            drop((again.expires(), again.instance().map(str::len), again.q()));
        }
    }
    drop(contacts(headers));
}

fn frames(framer: &mut Framer) -> Vec<Frame> {
    std::iter::from_fn(|| framer.next()).collect()
}

#[test]
fn a_stream_cut_anywhere_gives_the_same_frames() {
    for (name, _) in TABLE {
        let mut stream = b"\r\n\r\n\r\n".to_vec();
        stream.extend_from_slice(&load(name));
        stream.extend_from_slice(b"\r\n");
        stream.extend_from_slice(&load("plain-message"));
        let mut whole = Framer::new();
        whole.push(&stream);
        let want = frames(&mut whole);
        assert_eq!(want.first(), Some(&Frame::KeepAlive), "{name}: {want:?}");
        for cut in 0..=stream.len() {
            let mut framer = Framer::new();
            let mut got = Vec::new();
            for part in [&stream[..cut], &stream[cut..]] {
                framer.push(part);
                got.extend(frames(&mut framer));
            }
            assert_eq!(got, want, "{name} cut at {cut}");
        }
        let mut single = Framer::new();
        let mut got = Vec::new();
        for octet in &stream {
            single.push(&[*octet]);
            got.extend(frames(&mut single));
        }
        assert_eq!(got, want, "{name} octet by octet");
    }
}

struct XorShift(u64);

impl XorShift {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (n.max(1) as u64)).unwrap()
    }
}

const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\r\n ",
    b"\n",
    b"\r",
    b"\0",
    b"\"",
    b"\\",
    b"<",
    b">",
    b",",
    b";",
    b":",
    b"@",
    b"=",
    b"%",
    b"%00",
    b"[",
    b"]",
    b"[::1]",
    b"*",
    b" ",
    b"\t",
    b"\xff",
    b"\x7f",
    b"SIP/2.0",
    b"sip:",
    b"tel:",
    b"Via: SIP/2.0/UDP h;branch=z9hG4bK",
    b"\r\nContent-Length: 3\r\n\r\n",
    b"l:",
    b"\r\nm: *",
    b"999999999999999999999",
    b";lr",
    b";gr=",
    b"\r\n\r\n",
];

#[test]
fn twenty_thousand_mutations_never_panic() {
    let seeds: Vec<Bytes> = TABLE.iter().map(|(name, _)| load(name)).collect();
    let mut dice = XorShift(0x9e37_79b9_7f4a_7c15);
    for _ in 0..20_000 {
        let mut octets = seeds[dice.below(seeds.len())].to_vec();
        for _ in 0..=dice.below(4) {
            let at = dice.below(octets.len() + 1);
            let to = (at + dice.below(24)).min(octets.len());
            match dice.below(5) {
                0 if at < octets.len() => octets[at] = u8::try_from(dice.below(256)).unwrap(),
                1 => drop(octets.drain(at..to)),
                2 => {
                    let piece = octets[at..to].to_vec();
                    drop(octets.splice(at..at, piece));
                }
                3 => octets.truncate(at),
                _ => drop(octets.splice(at..at, PIECES[dice.below(PIECES.len())].iter().copied())),
            }
        }
        match read(Bytes::from(octets.clone())) {
            Ok(message) => {
                touch(&message);
                let again = read(rewrite(&message)).expect("our own writing");
                assert_eq!(values(&again), values(&message));
            }
            Err(Unreadable::Answerable { request, fault }) => {
                let ours = read(answer(&request, fault.status, &fault.reason, None).finish(b""));
                assert!(matches!(ours, Ok(Message::Response(_))), "{ours:?}");
            }
            Err(Unreadable::Garbage) => {}
        }
        let mut framer = Framer::new();
        for part in octets.chunks(1 + dice.below(200)) {
            framer.push(part);
            for frame in frames(&mut framer) {
                if let Frame::Message(message) = frame {
                    drop(read(message));
                }
            }
        }
    }
}
