//! CPIM as clients write it.

use super::*;
use crate::base::now::Unix;
use crate::syntax::mime::tests::mutations;

const RCSJTA: &[u8] = include_bytes!("../../../fixtures/cpim/rcsjta-first-message.cpim");
const RECEIPT: &[u8] = include_bytes!("../../../fixtures/cpim/rcsjta-displayed.cpim");
const RUST_RCS: &[u8] = include_bytes!("../../../fixtures/cpim/rust-rcs-base64.cpim");
const LARGE: &[u8] = include_bytes!("../../../fixtures/cpim/rust-rcs-large-headers.cpim");
const OUTER: &[u8] = include_bytes!("../../../fixtures/cpim/outer-headers-lf.cpim");

fn read(octets: impl AsRef<[u8]>) -> Result<Cpim, CpimFault> {
    Cpim::read(&Bytes::copy_from_slice(octets.as_ref()))
}

fn identity_of(display: Option<&str>, uri: &str) -> Identity {
    Identity { display: display.map(str::to_owned), uri: uri.to_owned() }
}

#[test]
fn rcsjta_writes_anonymous_identities_and_asks_for_two_notifications() {
    let cpim = read(RCSJTA).unwrap();
    assert!(cpim.from().unwrap().is_anonymous() && cpim.to().unwrap().is_anonymous());
    assert_eq!(cpim.message_id(), Some("5f0c2b9e417d4a86b3d1c6e9027a58f4"));
    assert_eq!(cpim.date_time(), Some("2025-03-09T07:41:16.000Z"));
    assert_eq!(cpim.dispositions().to_string(), "positive-delivery, display");
    assert_eq!(cpim.content_type().param("charset"), Some("utf-8"));
    assert_eq!(cpim.content(), "Träume süß, bis morgen");
    let receipt = read(RECEIPT).unwrap();
    assert!(!receipt.dispositions().any());
    assert!(receipt.content_type().is("message/imdn+xml"));
    assert_eq!(receipt.content_header("content-disposition"), Some(&b"notification"[..]));
    assert!(receipt.content().starts_with(b"<?xml"));
}

#[test]
fn rust_rcs_asks_for_nothing_and_its_content_stays_base64() {
    let cpim = read(RUST_RCS).unwrap();
    assert_eq!(cpim.from(), Some(&Identity::of("sip:+4915550001@a.example")));
    assert_eq!(cpim.to(), Some(Identity::of("tel:+4915550002")));
    assert_eq!(cpim.dispositions(), Wanted::default());
    let oma = "http://www.openmobilealliance.org/cpm/";
    assert_eq!(cpim.header(oma, "Payload-Type"), Some(&b"text/plain"[..]));
    assert!(RUST_RCS.ends_with(cpim.content()));
    let large = read(LARGE).unwrap();
    assert_eq!(large.message_id(), Some("77d0f3aa-11c9-4a0b-8a51-6f1f39ad5c02"));
    assert!(large.content().is_empty() && large.content_headers().is_empty());
}

#[test]
fn rfc3862_2_the_mime_headers_of_the_message_may_stand_first_and_prefixes_are_only_names() {
    let cpim = read(OUTER).unwrap();
    let pooh = identity_of(Some("Winnie \"P\""), "im:pooh@wood.example");
    assert_eq!(cpim.from(), Some(&pooh));
    assert_eq!(cpim.to(), Some(identity_of(Some("Owl the Wise"), "im:owl@wood.example")));
    assert_eq!(cpim.subject().as_deref(), Some("honey\nand more"));
    let french = cpim.all(CORE, "Subject").nth(1).unwrap();
    assert_eq!((&french.params[..], &french.value[..]), (&b";lang=fr"[..], &b"du miel"[..]));
    assert_eq!(cpim.message_id(), Some("34jk324j"));
    assert_eq!(cpim.dispositions().to_string(), "negative-delivery, display");
    assert_eq!(cpim.requires().collect::<Vec<_>>(), ["receipt.Message-ID", "Mood"]);
    assert_eq!(cpim.header("mid:features@wood.example", "Mood"), Some(&b"hungry"[..]));
    assert_eq!(cpim.headers().len(), 11);
    assert_eq!(cpim.content(), "<body>\nAny honey left?\n</body>\n");
}

#[test]
fn rfc3862_2_4_what_follows_the_message_headers_is_mime_headers_and_content() {
    fn check(tail: &str, kind: &str, content: &str) {
        let cpim = read(format!("From: <sip:a@b>\r\n{tail}")).expect(tail);
        assert_eq!(cpim.content_type().to_string(), kind, "{tail:?}");
        assert_eq!(cpim.content(), content, "{tail:?}");
    }
    check("\r\nContent-Type: a/b\r\n\r\nx\r\n\r\n", "a/b", "x\r\n\r\n");
    check("\nContent-type: a/b;c=d\n\nx", "a/b;c=d", "x");
    check("\r\nContent-type: a/b\r\n\r\n", "a/b", "");
    check("\r\nContent-type: a/b\r\n", "a/b", "");
    check("\r\nContent-type: a/b", "a/b", "");
    check("\r\nContent-Length: 99\r\n\r\nshort", "text/plain", "short");
    check("\r\n\r\nhello", "text/plain", "hello");
    check("\r\nhello", "text/plain", "hello");
    check("\r\nnote: hello", "text/plain", "note: hello");
    check("\r\nContent-Type: junk\r\n\r\nx", "text/plain", "x");
    check("\r\n", "text/plain", "");
    check("", "text/plain", "");
}

#[test]
fn rfc3862_4_6_an_ns_header_holds_for_the_headers_after_it() {
    fn check(headers: &str, id: Option<&str>) {
        assert_eq!(read(headers).expect(headers).message_id(), id, "{headers:?}");
    }
    let ns = "NS: imdn <urn:ietf:params:imdn>\r\n";
    check(&format!("{ns}imdn.Message-ID: 1\r\n"), Some("1"));
    check("NS: i <urn:ietf:params:imdn>\r\ni.Message-ID: 1\r\n", Some("1"));
    check("NS: <urn:ietf:params:imdn>\r\nMessage-ID: 1\r\n", Some("1"));
    check("imdn.Message-ID: 1\r\n", Some("1"));
    check("i.Message-ID: 1\r\nNS: i <urn:ietf:params:imdn>\r\n", None);
    check("NS: imdn <urn:other>\r\nimdn.Message-ID: 1\r\n", None);
    check(&format!("NS: imdn <urn:other>\r\n{ns}imdn.Message-ID: 1\r\n"), Some("1"));
    check("Message-ID: 1\r\n", None);
    // §2.2: case counts.
    check("imdn.Message-Id: 1\r\n", None);
    check("imdn.message-id: 1\r\nIMDN.Message-ID: 2\r\n", None);
    check("imdn.Message-ID: \r\n", None);
}

#[test]
fn rfc3862_4_1_an_address_is_a_formal_name_and_a_uri() {
    fn check(value: &str, expected: Option<(Option<&str>, &str)>) {
        let message = read(format!("From: {value}\r\n"));
        let expected = expected.map(|(display, uri)| identity_of(display, uri));
        match &message {
            Ok(cpim) => assert_eq!(cpim.from(), expected.as_ref(), "{value:?}"),
            Err(fault) => {
                assert_eq!((*fault, expected), (CpimFault::Malformed("From"), None), "{value:?}");
            }
        }
    }
    check("<sip:a@b>", Some((None, "sip:a@b")));
    check("sip:a@b", Some((None, "sip:a@b")));
    check("A B <sip:a@b;x=y>", Some((Some("A B"), "sip:a@b;x=y")));
    check("\"A \\\\ <x> \\\"B\\\"\" <im:a@b>", Some((Some("A \\ <x> \"B\""), "im:a@b")));
    check("\"\\u00fc\\u20ac\\q\\ud800\" <im:a@b>", Some((Some("ü€\\q\\ud800"), "im:a@b")));
    check("\"\"<im:a@b>", Some((None, "im:a@b")));
    check("Jürgen <tel:+1>", Some((Some("Jürgen"), "tel:+1")));
    for bad in [
        "",
        "<>",
        "<sip:a@b",
        "a@b",
        "<sip:a@b> <sip:c@d>",
        "\"A <sip:a@b>",
        "A sip:a@b",
        "<sip:a b>",
    ] {
        check(bad, None);
    }
}

#[test]
fn a_message_with_two_senders_or_two_ids_is_refused() {
    fn check(headers: &str, fault: CpimFault) {
        assert_eq!(read(headers), Err(fault), "{headers:?}");
    }
    let from = CpimFault::Ambiguous("From");
    check("From: <sip:a@b>\r\nFrom: <sip:c@d>\r\n", from);
    check("From: <sip:a@b>\r\nfrom: <sip:c@d>\r\n", from);
    check("FROM: <sip:a@b>\r\n", from);
    check("NS: <urn:other>\r\nFrom: <sip:a@b>\r\n", from);
    check(&format!("NS: c <{CORE}>\r\nc.From: <sip:a@b>\r\nFrom: <sip:c@d>\r\n"), from);
    check("imdn.Message-ID: 1\r\nimdn.Message-ID: 2\r\n", CpimFault::Ambiguous("Message-ID"));
    check("NS: imdn urn:x\r\n", CpimFault::Malformed("NS"));
    // RFC 3862 §2.2: one header per line, no folding, no control characters.
    check("no colon\r\n", CpimFault::Line);
    check("Subject: a\r\n b\r\n", CpimFault::Line);
    check("Subject: a\rFrom: <sip:a@b>\r\n", CpimFault::Line);
    check("Sub ject: a\r\n", CpimFault::Line);
    check(": a\r\n", CpimFault::Line);
    check(&"A: b\r\n".repeat(limits::HEADERS_MAX + 1), CpimFault::TooLarge);
    let long = "x".repeat(limits::HEADER_SECTION_OCTETS_MAX);
    check(&format!("Subject: {long}\r\n"), CpimFault::TooLarge);
}

#[test]
fn rfc3339_5_6_moments_are_written_in_utc_with_milliseconds() {
    fn check(millis: u64, text: &str) {
        assert_eq!(rfc3339(Unix(millis)), text);
    }
    check(0, "1970-01-01T00:00:00.000Z");
    check(1_455_195_649_007, "2016-02-11T13:00:49.007Z");
    check(951_782_400_000, "2000-02-29T00:00:00.000Z");
    check(951_868_799_999, "2000-02-29T23:59:59.999Z");
    check(951_868_800_000, "2000-03-01T00:00:00.000Z");
    check(1_709_251_199_000, "2024-02-29T23:59:59.000Z");
    check(1_735_689_599_999, "2024-12-31T23:59:59.999Z");
    check(1_735_689_600_000, "2025-01-01T00:00:00.000Z");
    check(4_107_542_400_000, "2100-03-01T00:00:00.000Z");
    check(253_402_300_799_999, "9999-12-31T23:59:59.999Z");
    check(u64::MAX, "9999-12-31T23:59:59.999Z");
}

#[test]
fn what_is_written_is_read_back_and_nothing_starts_a_line_of_its_own() {
    let from = identity_of(Some("A\r\nFrom: <sip:x@y> \"\\ ü"), "sip:a@b>\r\nTo: <sip:x@y");
    let wanted = Wanted { positive_delivery: true, processing: true, ..Wanted::default() };
    let content = b"\0\r\n\r\nany octets\xff";
    let octets = CpimWriter::new(&from, &Identity::of(ANONYMOUS), Unix(0))
        .message_id("id\r\nFrom: <sip:x@y>")
        .wanted(wanted)
        .subject("two\nlines \\n \"\u{1}\u{85}")
        .namespace("cpm", "urn:x>\r\nFrom: <y")
        .header("cpm.Payload\r\n: Type", "a\r\nb")
        .content_type("a/b\r\n\r\nInjected: 1")
        .content_disposition("notification\r\nX: y")
        .finish(content);
    let cpim = Cpim::read(&octets).unwrap();
    let read = cpim.from().unwrap();
    assert_eq!(read.display, from.display);
    assert_eq!(read.uri, "sip:a@bTo:sip:x@y");
    assert_eq!(cpim.message_id(), Some("id\\r\\nFrom: <sip:x@y>"));
    assert_eq!(cpim.dispositions(), wanted);
    assert_eq!(cpim.subject().as_deref(), Some("two\nlines \\n \"\u{1}\u{85}"));
    assert_eq!(cpim.header("urn:xFrom:y", "PayloadType"), Some(&b"a\\r\\nb"[..]));
    assert_eq!(cpim.content_headers().len(), 3);
    assert_eq!(cpim.content_header("Content-Length"), Some(&b"16"[..]));
    assert_eq!(cpim.content().as_ref(), content);
}

#[test]
fn a_plain_text_is_wrapped_as_other_clients_write_it() {
    let (alice, bob) = (Identity::of("sip:alice@a.example"), Identity::of("sip:bob@a.example"));
    let octets = CpimWriter::new(&alice, &bob, Unix(1_455_195_649_000))
        .message_id("m1")
        .wanted(Wanted { display: true, ..Wanted::default() })
        .finish(b"Hello");
    let expected = "From: <sip:alice@a.example>\r\nTo: <sip:bob@a.example>\r\n\
        DateTime: 2016-02-11T13:00:49.000Z\r\nNS: imdn <urn:ietf:params:imdn>\r\n\
        imdn.Message-ID: m1\r\nimdn.Disposition-Notification: display\r\n\r\n\
        Content-Type: text/plain;charset=UTF-8\r\nContent-Length: 5\r\n\r\nHello";
    assert_eq!(octets, expected);
}

#[test]
fn no_octets_make_it_panic() {
    for octets in mutations(&[RCSJTA, RECEIPT, RUST_RCS, LARGE, OUTER], 20_000) {
        let body = Bytes::from(octets);
        let Ok(cpim) = Cpim::read(&body) else { continue };
        let _ = (cpim.to(), cpim.date_time(), cpim.subject(), cpim.message_id());
        let _ = (cpim.dispositions(), cpim.content_type(), cpim.requires().count());
        assert!(body.ends_with(cpim.content()));
        let from = cpim.from().cloned().unwrap_or_else(|| Identity::of(ANONYMOUS));
        let subject = cpim.subject().unwrap_or_default();
        let copy = CpimWriter::new(&from, &from, Unix(1)).subject(&subject).finish(cpim.content());
        let copy = Cpim::read(&copy).unwrap();
        assert_eq!((copy.from(), copy.content()), (Some(&from), cpim.content()));
        assert_eq!(copy.subject().unwrap_or_default(), subject);
    }
}
