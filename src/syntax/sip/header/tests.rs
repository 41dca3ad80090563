//! Tables of header values.

use super::*;
use crate::syntax::sip::{Message, read};

fn refused<T>(read: impl Fn(&[u8]) -> Result<T, Fault>, values: &[&str]) {
    for value in values {
        assert!(read(value.as_bytes()).is_err(), "{value}");
    }
}

#[test]
fn via_values() {
    let check = |value: &str, want: &str| {
        let via = Via::parse(value.as_bytes()).unwrap_or_else(|fault| panic!("{value}: {fault}"));
        assert_eq!(via.to_string(), want);
    };
    check("SIP/2.0/UDP h", "SIP/2.0/UDP h");
    check("sip/2.0/tcp\th:1 ;a", "SIP/2.0/tcp h:1;a");
    check("SIP / 2.0 / TLS-SCTP  [::1] : 5 ; b = \"c;,d\"", "SIP/2.0/TLS-SCTP [::1]:5;b=\"c;,d\"");
    check("SIP/2.0/UDP 1.2.3.4;rport;branch=z9hG4bK", "SIP/2.0/UDP 1.2.3.4;rport;branch=z9hG4bK");
    refused(
        Via::parse,
        &[
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 h",
            "SIP/3.0/UDP h",
            "HTTP/2.0/UDP h",
            "SIP/2.0/UDPh",
            "SIP/2.0/UDP h:",
            "SIP/2.0/UDP h:x",
            "SIP/2.0/UDP h:99999",
            "SIP/2.0/UDP h;",
            "SIP/2.0/UDP h;;a",
            "SIP/2.0/UDP h;a;A",
            "SIP/2.0/UDP h;a=",
            "SIP/2.0/UDP h;a=\"b",
            "SIP/2.0/UDP h x",
            "SIP/2.0/UDP [::1;a",
            "SIP/2.0/UDP ::1",
            "SIP/2.0/UDP sip:h",
            "SIP/2.0/UDP h;a=b c",
            "SIP/2.0/UDP h;a=<b>",
        ],
    );
}

#[test]
fn received_and_rport() {
    let check = |params: &str, received: Option<&str>, rport: Option<Option<u16>>| {
        let via = Via::parse(format!("SIP/2.0/UDP h{params}").as_bytes()).unwrap();
        assert_eq!(via.received(), received.map(|r| r.parse().unwrap()), "{params}");
        assert_eq!(via.rport(), rport, "{params}");
    };
    check("", None, None);
    check(";received=192.0.2.1;rport=5", Some("192.0.2.1"), Some(Some(5)));
    check(";received=2001:db8::9;RPORT", Some("2001:db8::9"), Some(None));
    check(";received=[2001:db8::9];rport=65536", Some("2001:db8::9"), Some(None));
    check(";received=host.example", None, None);
}

#[test]
fn addresses() {
    let check = |value: &str, display: Option<&str>, written: &str| {
        let a = NameAddr::parse(value.as_bytes()).unwrap_or_else(|f| panic!("{value}: {f}"));
        assert_eq!(a.display.as_deref(), display, "{value}");
        assert_eq!(a.to_string(), written);
    };
    check("sip:a@h", None, "<sip:a@h>");
    check("sip:a@h;tag=1", None, "<sip:a@h>;tag=1");
    check("<sip:a@h;x=1>;tag=1", None, "<sip:a@h;x=1>;tag=1");
    check("<sip:a@h?b=c>", None, "<sip:a@h?b=c>");
    check("  A  B <sip:a@h> ", Some("A  B"), "\"A  B\" <sip:a@h>");
    check("A<sip:a@h>", Some("A"), "\"A\" <sip:a@h>");
    check("\"\" <sip:a@h>", Some(""), "\"\" <sip:a@h>");
    check("\"a\\\\\"<sip:a@h>", Some("a\\"), "\"a\\\\\" <sip:a@h>");
    check("\"<sip:x@y>\" <sip:a@h>", Some("<sip:x@y>"), "\"<sip:x@y>\" <sip:a@h>");
    check("Bell, A <sip:a@h>", Some("Bell, A"), "\"Bell, A\" <sip:a@h>");
    check("<tel:+1;ext=2>;x=\"a\\\"b\"", None, "<tel:+1;ext=2>;x=\"a\\\"b\"");
    refused(
        NameAddr::parse,
        &[
            "",
            "<>",
            "<sip:a@h",
            "sip:a@h>",
            "\"a <sip:a@h>",
            "a\"b\" <sip:a@h>",
            "\"a\" sip:a@h",
            "<sip:a@h>;",
            "<sip:a@h>x",
            "<sip:a@h> ;tag=1;tag=2",
            "sip:a@h?b=c",
            "sip:a,b@h",
            "*",
            "<<sip:a@h>>",
            "< sip:a@h>",
            "a",
            "\"a\"",
            "<sip:a@h>;tag=1 2",
        ],
    );
    let latin1 = NameAddr::parse(b"\"J\xf6rg\" <sip:a@h>").unwrap();
    assert_eq!(latin1.display.as_deref(), Some("J\u{fffd}rg"));
}

#[test]
fn parameters_of_a_contact() {
    let contact = |params: &str| NameAddr::parse(format!("<sip:a@h>{params}").as_bytes()).unwrap();
    let q = |spelled: &str| contact(&format!(";q={spelled}")).q();
    assert_eq!(
        (q("1"), q("0.5"), q("0.05"), q("1.000")),
        (Some(1000), Some(500), Some(50), Some(1000))
    );
    assert_eq!(
        (q("0."), q("1.001"), q("2"), q("0.1234"), q("-1"), q(".5")),
        (Some(0), None, None, None, None, None)
    );
    assert_eq!(contact("").expires(), None);
    assert_eq!(contact(";expires=0").expires(), Some(Ok(0)));
    assert_eq!(contact(";Expires=4294967295").expires(), Some(Ok(u32::MAX)));
    for bad in [";expires", ";expires=4294967296", ";expires=-1", ";expires=\"5\"", ";expires=5s"] {
        assert!(matches!(contact(bad).expires(), Some(Err(_))), "{bad}");
    }
    assert_eq!(contact(";+sip.instance=\"<urn:x>\"").instance(), Some("urn:x"));
    assert_eq!(contact(";+SIP.Instance=\"urn:x\"").instance(), Some("urn:x"));
    assert_eq!(contact(";+sip.instance").instance(), None);
}

#[test]
fn parameters_are_set_and_removed() {
    let mut params = NameAddr::parse(b"<sip:a@h>;a=1;B;c=\"x;\\\"y\"").unwrap().params;
    assert_eq!(
        params.iter().collect::<Vec<_>>(),
        [("a", Some("1")), ("B", None), ("c", Some("\"x;\\\"y\""))]
    );
    params.set("b", Some("2"));
    params.set("d", None);
    params.remove("A");
    params.set_quoted("e", "f\"g\\\r\nh");
    assert_eq!(params.to_string(), ";B=2;c=\"x;\\\"y\";d;e=\"f\\\"g\\\\  h\"");
    assert_eq!(params.value("C").as_deref(), Some("x;\"y"));
    assert_eq!((params.len(), params.has("a"), params.get("D")), (4, false, Some(None)));
}

#[test]
fn cseq_values() {
    let check = |value: &str, number: u32, method: Method| {
        assert_eq!(CSeq::parse(value.as_bytes()).unwrap(), CSeq { number, method }, "{value}");
    };
    check("0 INVITE", 0, Method::Invite);
    check("2147483647 \t message", 2_147_483_647, Method::Other("message".into()));
    check("0009 ACK", 9, Method::Ack);
    refused(
        CSeq::parse,
        &[
            "",
            "1",
            "INVITE",
            "1INVITE",
            "-1 INVITE",
            "+1 INVITE",
            "2147483648 ACK",
            "1 A B",
            "1 A,B",
        ],
    );
}

#[test]
fn credentials() {
    let check = |value: &str, written: &str| {
        let auth = AuthParams::parse(value.as_bytes()).unwrap_or_else(|f| panic!("{value}: {f}"));
        assert_eq!(auth.to_string(), written);
    };
    check("Digest realm=\"a\"", "Digest realm=\"a\"");
    check("Digest  a = b ,c=\"d, e=f\",  g", "Digest a=b, c=\"d, e=f\", g");
    check("Bearer x=1", "Bearer x=1");
    refused(
        AuthParams::parse,
        &[
            "",
            "Digest",
            "Digest ",
            "Digest a=1,",
            "Digest a=1,,b=2",
            "Digest a=1,A=2",
            "Digest a=\"b",
            "Digest =1",
        ],
    );
}

#[test]
fn list_headers_are_cut_outside_quotes_and_angles() {
    let head = b"MESSAGE sip:h SIP/2.0\r\nSupported: a ,, b\r\nk: c\r\nContact: \"x,\\\",\" <sip:a,b@h>;p=\"1,2\" , sip:c@h\r\n\r\n";
    let Ok(Message::Request(r)) = read(bytes::Bytes::from_static(head)) else {
        panic!("unreadable")
    };
    let list = |name| r.headers.list(name).map(String::from_utf8_lossy).collect::<Vec<_>>();
    assert_eq!(list(Name::Supported), ["a", "b", "c"]);
    assert_eq!(list(Name::Contact), ["\"x,\\\",\" <sip:a,b@h>;p=\"1,2\"", "sip:c@h"]);
    assert_eq!(r.headers.all(Name::Supported).count(), 2);
    assert_eq!(r.headers.other("K"), Some(&b"c"[..]));
    assert_eq!(r.headers.other("nothing"), None);
}

#[test]
fn every_name_is_found_by_each_spelling() {
    let check = |spelled: &str, want: Name| {
        assert_eq!(Name::of(spelled.as_bytes()), want, "{spelled}");
        assert_eq!(Name::of(spelled.to_ascii_uppercase().as_bytes()), want);
        assert_eq!(Name::of(spelled.to_ascii_lowercase().as_bytes()), want);
    };
    for name in [Name::Via, Name::PAssertedIdentity, Name::InReplyToContributionId, Name::CSeq] {
        check(name.as_str(), name);
    }
    for (compact, name) in [
        ("v", Name::Via),
        ("f", Name::From),
        ("t", Name::To),
        ("i", Name::CallId),
        ("m", Name::Contact),
        ("c", Name::ContentType),
        ("l", Name::ContentLength),
        ("e", Name::ContentEncoding),
        ("k", Name::Supported),
        ("u", Name::AllowEvents),
        ("a", Name::AcceptContact),
        ("j", Name::RejectContact),
        ("o", Name::Event),
        ("s", Name::Subject),
    ] {
        check(compact, name);
    }
    for unknown in ["", "z", "Vi", "Viaa", "Call_ID", "X-Call-ID"] {
        check(unknown, Name::Other);
    }
}
