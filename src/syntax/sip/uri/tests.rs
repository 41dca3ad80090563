//! Tables of URIs.

use super::*;

fn uri(spelled: &str) -> Uri {
    Uri::parse(spelled.as_bytes()).unwrap_or_else(|fault| panic!("{spelled}: {fault}"))
}

#[test]
fn what_is_read_is_written_back() {
    let check = |spelled: &str, parts: (Option<&str>, &str, Option<u16>, &str)| {
        let u = uri(spelled);
        let host = u.host.to_string();
        let params = u.params.to_string();
        assert_eq!((u.user.as_deref(), host.as_str(), u.port, params.as_str()), parts, "{spelled}");
        assert_eq!(u.to_string(), spelled);
        assert!(uri(&u.to_string()).same_as(&u));
    };
    check("sip:a.example", (None, "a.example", None, ""));
    check("sip:alice@a.example", (Some("alice"), "a.example", None, ""));
    check("sip:alice:secret@a.example:5070", (Some("alice"), "a.example", Some(5070), ""));
    check("sip:alice@127.0.0.1;lr;x=y", (Some("alice"), "127.0.0.1", None, ";lr;x=y"));
    check("sips:+1-555@gw.example;user=phone", (Some("+1-555"), "gw.example", None, ";user=phone"));
    check("sip:a?b;c=d,e@h.example", (Some("a?b;c=d,e"), "h.example", None, ""));
    check("sip:%61lice@A.Example", (Some("%61lice"), "A.Example", None, ""));
    check("sip:[::1]:1;maddr=[::2]", (None, "[::1]", Some(1), ";maddr=[::2]"));
    check("sip:my_container.local", (None, "my_container.local", None, ""));
    check("sip:a.example.", (None, "a.example.", None, ""));
    check("sip:alice@h?Replaces=a%40b&x=y", (Some("alice"), "h", None, ""));
    check("tel:+1-201-555-0123;ext=5", (Some("+1-201-555-0123"), "", None, ";ext=5"));
    check("tel:*31#", (Some("*31#"), "", None, ""));
    check("im:alice@a.example?x", (Some("alice@a.example?x"), "", None, ""));
    check("cid:4711@a.example", (Some("4711@a.example"), "", None, ""));
}

#[test]
fn what_is_no_uri_is_refused() {
    let long = format!("sip:{}", "a".repeat(limits::URI_OCTETS_MAX));
    let check = |spelled: &[u8], status| {
        let text = String::from_utf8_lossy(spelled);
        assert_eq!(Uri::parse(spelled).map_err(|f| f.status).err(), Some(status), "{text}");
    };
    check(long.as_bytes(), 414);
    for spelled in [
        "",
        "sip",
        "sip:",
        ":a@h",
        "1x:a",
        "s p:a",
        "sip:@h",
        "sip:a@",
        "sip:a@:5060",
        "sip:a@h:",
        "sip:a@h:65536",
        "sip:a@h:+1",
        "sip:a@h:5 060",
        "sip:a b@h",
        "sip:a@h h",
        "sip:a@b@h",
        "sip:a@h;",
        "sip:a@h;;x",
        "sip:a@h;=x",
        "sip:a@h;x=",
        "sip:a@h;x=1;X=2",
        "sip:a@h%2",
        "sip:%zz@h",
        "sip:a%",
        "<sip:a@h>",
        "sip:a\"b@h",
        "sip:a@h..b",
        "sip:a@.h",
        "sip:a@256.1.1.1",
        "sip:a@1.2.3",
        "sip:a@[::1",
        "sip:a@::1",
        "sip:a@[1.2.3.4]",
        "sip:a@[::1]x",
        "sip:a@h/b",
        "tel:",
        "tel:+",
        "tel:abx",
        "tel:+1 2",
        "tel:+1;;x",
        "sip:\u{fc}@h",
        "sip:a@h\u{fc}",
        "sip:a\r\n@h",
        "sip:a\0@h",
        "sip:a@h\t",
    ] {
        check(spelled.as_bytes(), 400);
    }
    check(b"sip:\xff@h", 400);
}

/// RFC 3261 §19.1.4, with the examples' shapes, and RFC 3966 §5.
#[test]
fn equality() {
    let check = |a: &str, b: &str, want: bool| {
        assert_eq!(uri(a).same_as(&uri(b)), want, "{a} {b}");
        assert_eq!(uri(b).same_as(&uri(a)), want, "{b} {a}");
    };
    check("sip:%61lice@a.example;transport=TCP", "sip:alice@A.EXAMPLE;Transport=tcp", true);
    check("sip:carol@c.example", "sip:carol@c.example;newparam=5", true);
    check("sip:carol@c.example;security=on", "sip:carol@c.example;newparam=5", true);
    check("sip:carol@c.example;security=on", "sip:carol@c.example;security=off", false);
    check(
        "sip:h;transport=tcp;method=REGISTER?to=a%40b",
        "sip:h;method=REGISTER;transport=tcp?to=a%40b",
        true,
    );
    check("sip:a@h?subject=x%20y&priority=u", "sip:a@h?priority=u&Subject=x%20y", true);
    check("sip:a@h?subject=x", "sip:a@h", false);
    check("sip:a@h?subject=x", "sip:a@h?subject=y", false);
    check("sip:ALICE@h", "sip:alice@h", false);
    check("sip:bob@h", "sip:bob@h:5060", false);
    check("sip:bob@h", "sip:bob@h;transport=udp", false);
    check("sip:bob@h:6000;transport=tcp", "sip:bob@h:6000", false);
    check("sip:bob@h", "sip:bob@h;user=phone", false);
    check("sip:bob@h", "sip:bob@h;ttl=1", false);
    check("sip:bob@h", "sip:bob@h;maddr=1.2.3.4", false);
    check("sip:bob@h;lr", "sip:bob@h;lr=on", false);
    check("sip:bob@h", "sips:bob@h", false);
    check("sip:bob:pw@h", "sip:bob@h", false);
    check("sip:bob@h", "sip:h", false);
    check("sip:a%3bb@h", "sip:a%3Bb@h", true);
    check("sip:a%3Bb@h", "sip:a;b@h", false);
    check("sip:[2001:DB8:0::1]", "sip:[2001:db8::1]", true);
    check("sip:[::ffff:1.2.3.4]", "sip:1.2.3.4", false);
    check("tel:+1-555-0123", "tel:+1(555)0123", true);
    check("tel:+15550123", "tel:15550123", false);
    check("tel:911;phone-context=A", "tel:911;phone-context=a", true);
    check("tel:911;phone-context=a", "tel:911", false);
    check("URN:service:sos", "urn:service:sos", true);
    check("urn:service:sos", "urn:service:SOS", false);
}

#[test]
fn address_of_record() {
    let check = |spelled: &str, want: Option<&str>| {
        assert_eq!(uri(spelled).aor().as_deref(), want, "{spelled}");
    };
    check("sip:alice@a.example", Some("sip:alice@a.example"));
    check("sips:alice:pw@A.Example.:5061;transport=tcp?x=y", Some("sip:alice@a.example"));
    check("sip:%61l%69ce@a.example", Some("sip:alice@a.example"));
    check("sip:Alice@a.example", Some("sip:Alice@a.example"));
    check("sip:a%3bb%2f@a.example", Some("sip:a%3Bb%2F@a.example"));
    check("sip:a%00%ff@a.example", Some("sip:a%00%FF@a.example"));
    check("sip:a%25%34%31@a.example", Some("sip:a%2541@a.example"));
    check("sip:a@[2001:DB8::1]:5060", Some("sip:a@[2001:db8::1]"));
    check("sip:alice@a.example;gr=urn:uuid:1", Some("sip:alice@a.example"));
    check("sip:a.example", None);
    check("tel:+1-201-555(0123)", Some("tel:+12015550123"));
    check("tel:+1.201;ext=1", Some("tel:+1201"));
    check("tel:7-0A;phone-context=A.example", Some("tel:70a;phone-context=a.example"));
    check("urn:service:sos", None);
}

#[test]
fn hosts() {
    let check = |spelled: &str, want: bool| {
        assert_eq!(Host::parse(spelled.as_bytes()).is_some(), want, "{spelled}");
    };
    for good in ["a", "a-b.c", "1.2.3.4", "[::]", "3com.example", "a.", "xn--bcher-kva.example"] {
        check(good, true);
    }
    for bad in ["", ".", "1", "a.1", "[1.2.3.4]", "[]", "a b", "a:1", "[::1%eth0]", "01.2.3.4"] {
        check(bad, false);
    }
    assert_eq!(Host::Name("A.b".into()), Host::Name("a.B".into()));
}
