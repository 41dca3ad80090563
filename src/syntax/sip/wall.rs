//! Every input on which `rsip` 0.4.0 (or one of its peers) was measured to be wrong, with what we
//! make of it. One test per row; these are the reason why the reader is our own.

use bytes::Bytes;

use super::*;

const CUT: &str = "the input is readable";

/// A MESSAGE with these lines behind the usual ones.
fn message(line: &[u8], lines: &[&[u8]], body: &[u8]) -> Vec<u8> {
    let mut octets = line.to_vec();
    octets.extend_from_slice(b"\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nFrom: <sip:a@a.example>;tag=1\r\nTo: <sip:b@b.example>\r\nCall-ID: c1\r\nCSeq: 1 MESSAGE\r\n");
    for line in lines {
        octets.extend_from_slice(line);
        octets.extend_from_slice(b"\r\n");
    }
    octets.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
    octets.extend_from_slice(body);
    octets
}

fn request(octets: &[u8]) -> Request {
    match read(Bytes::copy_from_slice(octets)) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

fn with(line: &str) -> Request {
    request(&message(b"MESSAGE sip:b@b.example SIP/2.0", &[line.as_bytes()], b""))
}

fn to(uri: &str) -> Uri {
    let line = format!("MESSAGE {uri} SIP/2.0");
    request(&message(line.as_bytes(), &[], b"")).target().expect(CUT)
}

/// Octets of the headers and the body survive our writer.
fn rewritten(request: &Request) -> Request {
    let mut writer = Writer::request(&request.method, &request.uri);
    for field in request.headers.iter() {
        writer.named(field.spelled, field.value);
    }
    self::request(&writer.finish(&request.body))
}

fn response(line: &str) -> Response {
    let octets = message(line.as_bytes(), &[], b"");
    match read(Bytes::from(octets)) {
        Ok(Message::Response(response)) => response,
        other => panic!("{other:?}"),
    }
}

fn via(value: &str) -> Via {
    Via::parse(value.as_bytes()).expect(CUT)
}

fn address(value: &str) -> NameAddr {
    NameAddr::parse(value.as_bytes()).expect(CUT)
}

fn auth(value: &str) -> AuthParams {
    AuthParams::parse(value.as_bytes()).expect(CUT)
}

// --- whole messages ---------------------------------------------------------------------------

#[test]
fn compact_names() {
    let r = request(b"MESSAGE sip:b@b.example SIP/2.0\r\nv: SIP/2.0/UDP h.example;branch=z9hG4bK7\r\nf: <sip:a@a.example>;tag=1\r\nt: <sip:b@b.example>\r\ni: c1\r\nCSeq: 1 MESSAGE\r\nl: 2\r\n\r\nhi");
    assert_eq!(r.check(), Ok(()));
    assert_eq!(r.via().expect(CUT).branch(), Some("z9hG4bK7"));
    assert_eq!((r.call_id(), &r.body[..]), (Ok("c1"), &b"hi"[..]));
}

#[test]
fn binary_body() {
    let body = b"\xff\xd8\x00\xfe";
    let r = request(&message(b"MESSAGE sip:b@b.example SIP/2.0", &[], body));
    assert_eq!(&r.body[..], body);
    assert_eq!(&rewritten(&r).body[..], body);
}

#[test]
fn non_utf8_in_a_header_value() {
    let line = b"Subject: gr\xfc\xdfe";
    let r = request(&message(b"MESSAGE sip:b@b.example SIP/2.0", &[line, b"Event: x"], b"body"));
    for r in [&r, &rewritten(&r)] {
        assert_eq!(r.headers.get(Name::Subject), Some(&b"gr\xfc\xdfe"[..]));
        assert_eq!(r.headers.text(Name::Subject), None);
        assert_eq!((r.headers.text(Name::Event), &r.body[..]), (Some("x"), &b"body"[..]));
    }
}

#[test]
fn folded_header() {
    let r = with("Subject: one\r\n two\r\n\tthree");
    assert_eq!(r.headers.get(Name::Subject), Some(&b"one   two  \tthree"[..]));
}

#[test]
fn blank_before_colon() {
    assert_eq!(with("Subject : x").headers.text(Name::Subject), Some("x"));
}

#[test]
fn unknown_method() {
    let r = request(&message(b"FOO sip:b@b.example SIP/2.0", &[], b""));
    assert_eq!(r.method, Method::Other("FOO".into()));
    let answer = answer(&r, 501, "", None).finish(b"");
    assert!(answer.starts_with(b"SIP/2.0 501 Not Implemented\r\n"));
}

#[test]
fn line_feeds_only() {
    let octets: Vec<u8> = message(b"MESSAGE sip:b@b.example SIP/2.0", &[], b"");
    let octets: Vec<u8> = octets.into_iter().filter(|o| *o != b'\r').collect();
    let Err(Unreadable::Answerable { request, fault }) = read(octets.into()) else {
        panic!("RFC 3261 §7: lines MUST be terminated by CRLF");
    };
    assert_eq!((fault.status, request.call_id()), (400, Ok("c1")));
}

#[test]
fn leading_crlf() {
    let octets =
        [b"\r\n\r\n", &message(b"MESSAGE sip:b@b.example SIP/2.0", &[], b"hi")[..]].concat();
    assert_eq!(&request(&octets).body[..], b"hi");
}

#[test]
fn body_longer_than_content_length() {
    let octets =
        [&message(b"MESSAGE sip:b@b.example SIP/2.0", &[], b"hi")[..], b"surplus"].concat();
    assert_eq!(&request(&octets).body[..], b"hi");
}

#[test]
fn own_reason_phrase() {
    assert_eq!(&response("SIP/2.0 480 Gone Fishing").reason[..], b"Gone Fishing");
    assert_eq!(&response("SIP/2.0 404 Nobody here").reason[..], b"Nobody here");
    assert!(Writer::response(486, "").finish(b"").starts_with(b"SIP/2.0 486 Busy Here\r\n"));
}

#[test]
fn no_reason_phrase() {
    let r = response("SIP/2.0 180");
    assert_eq!((r.status, &r.reason[..]), (180, &b""[..]));
}

#[test]
fn asserted_identity_and_path_are_lists() {
    let r = with("P-Asserted-Identity: \"A\" <sip:a@a.example>, <tel:+15551234567>");
    let all: Vec<_> = r.headers.list(Name::PAssertedIdentity).map(NameAddr::parse).collect();
    assert_eq!(all.len(), 2);
    assert_eq!(all[1].as_ref().expect(CUT).uri.aor().as_deref(), Some("tel:+15551234567"));
    let r = with("Path: <sip:p1.example;lr>,<sip:p2.example;lr>");
    assert_eq!(r.headers.list(Name::Path).count(), 2);
}

// --- URIs -------------------------------------------------------------------------------------

#[test]
fn dot_in_the_user() {
    let uri = to("sip:bob.smith@example.com");
    assert_eq!(
        (uri.user.as_deref(), uri.host.to_string().as_str()),
        (Some("bob.smith"), "example.com")
    );
}

#[test]
fn semicolon_in_the_user() {
    let uri = to("sip:user;par=u%40x@h");
    assert_eq!(uri.user.as_deref(), Some("user;par=u%40x"));
    assert!(uri.params.is_empty());
}

#[test]
fn headers_in_the_uri() {
    let uri = to("sip:b@h.example?subject=hi");
    assert_eq!(
        (uri.host.to_string().as_str(), uri.headers.as_deref()),
        ("h.example", Some("subject=hi"))
    );
    assert_eq!(
        to("sip:h?Subject=a&Priority=urgent").headers.as_deref(),
        Some("Subject=a&Priority=urgent")
    );
}

#[test]
fn tel() {
    let uri = to("tel:+15551234567");
    assert_eq!((&uri.scheme, uri.user.as_deref()), (&Scheme::Tel, Some("+15551234567")));
    assert_eq!(uri.to_string(), "tel:+15551234567");
}

#[test]
fn tel_with_phone_context() {
    let uri = to("tel:911;phone-context=x");
    assert_eq!((uri.user.as_deref(), uri.port), (Some("911"), None));
    assert_eq!(uri.param("phone-context"), Some(Some("x")));
}

#[test]
fn urn_service_sos() {
    let uri = to("urn:service:sos");
    assert_eq!(
        (&uri.scheme, uri.user.as_deref()),
        (&Scheme::Other("urn".into()), Some("service:sos"))
    );
    assert_eq!(uri.to_string(), "urn:service:sos");
}

#[test]
fn ipv6_host() {
    let uri = to("sip:alice@[2001:db8::1]");
    assert_eq!((&uri.host, uri.port), (&Host::V6("2001:db8::1".parse().expect(CUT)), None));
}

#[test]
fn ipv6_host_with_port() {
    let uri = to("sip:alice@[2001:db8::1]:5060");
    assert_eq!((uri.host.to_string().as_str(), uri.port), ("[2001:db8::1]", Some(5060)));
    assert_eq!(uri.to_string(), "sip:alice@[2001:db8::1]:5060");
}

#[test]
fn gruu() {
    let urn = "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
    let spelled = format!("sip:alice@example.com;gr={urn}");
    assert_eq!(to(&spelled).gruu(), Some(urn));
    assert_eq!(address(&format!("<{spelled}>;expires=5")).uri.to_string(), spelled);
    assert_eq!(to("sip:tgruu7@example.com;gr").gruu(), Some(""));
}

#[test]
fn unknown_transport_parameter() {
    assert_eq!(to("sip:b@h;transport=foo").param("transport"), Some(Some("foo")));
}

#[test]
fn lr_with_a_value() {
    assert!(to("sip:p.example;lr=on").is_lr());
    assert!(to("sip:p.example;lr").is_lr());
    assert!(!to("sip:lr.example").is_lr());
}

#[test]
fn sips() {
    assert_eq!(to("sips:b@h").scheme, Scheme::Sips);
}

#[test]
fn equality_of_uris() {
    assert!(to("sip:Alice@EXAMPLE.com").same_as(&to("sip:Alice@example.com")));
    assert!(!to("sip:Alice@example.com").same_as(&to("sip:alice@example.com")));
}

// --- addresses --------------------------------------------------------------------------------

#[test]
fn quoted_parameters_of_a_contact() {
    let c = address(
        "<sip:a@h>;+sip.instance=\"<urn:uuid:f81d4fae>\";reg-id=1;+g.3gpp.icsi-ref=\"urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg,urn%3Ax\"",
    );
    assert_eq!(c.instance(), Some("urn:uuid:f81d4fae"));
    assert_eq!(c.params.get("reg-id"), Some(Some("1")));
    let icsi = c.params.value("+g.3gpp.icsi-ref");
    assert_eq!(icsi.as_deref(), Some("urn%3Aurn-7%3A3gpp-service.ims.icsi.oma.cpm.msg,urn%3Ax"));
}

#[test]
fn two_contacts_in_one_header() {
    let r = with("Contact: <sip:a@h1;x=1>;q=0.5, \"b, c\" <sip:a@h2>;+sip.instance=\"<urn:a,b>\"");
    let all = contacts(&r.headers).expect(CUT);
    let [Contact::Addr(first), Contact::Addr(second)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((first.q(), second.display.as_deref()), (Some(500), Some("b, c")));
    assert_eq!(second.instance(), Some("urn:a,b"));
}

#[test]
fn star_contact() {
    let r = with("Contact: *");
    assert!(matches!(contacts(&r.headers).expect(CUT)[..], [Contact::Star]));
}

#[test]
fn quoted_name_with_angle_and_comma() {
    let a = address("\"A, <B>\" <sip:a@h>;tag=1");
    assert_eq!((a.display.as_deref(), a.tag()), (Some("A, <B>"), Some("1")));
    let a = address("\"say \\\"hi\\\" \\\\\" <sip:a@h>");
    assert_eq!(a.display.as_deref(), Some("say \"hi\" \\"));
    assert_eq!(a.to_string(), "\"say \\\"hi\\\" \\\\\" <sip:a@h>");
}

#[test]
fn blanks_around_semicolon_and_equals() {
    assert_eq!(address("<sip:a@h> ; tag = 1 ; x").params.to_string(), ";tag=1;x");
}

#[test]
fn ipv6_in_an_address() {
    assert_eq!(address("<sip:[::1]:5060>;tag=1").uri.port, Some(5060));
}

#[test]
fn mailto_is_no_user() {
    let a = address("<mailto:a@h>");
    assert_eq!((&a.uri.scheme, a.uri.aor()), (&Scheme::Other("mailto".into()), None));
    assert_eq!(a.uri.to_string(), "mailto:a@h");
}

#[test]
fn several_routes_in_one_line() {
    let r = with("Route: <sip:p1;lr>, \"P, 2\" <sip:p2;lr=on>;x=\"a,b\", <sip:p3>");
    let all: Vec<_> = r.headers.list(Name::Route).map(|v| NameAddr::parse(v).expect(CUT)).collect();
    assert_eq!(all.len(), 3);
    assert_eq!((all[1].uri.is_lr(), all[1].params.value("x").as_deref()), (true, Some("a,b")));
}

// --- Via --------------------------------------------------------------------------------------

#[test]
fn two_vias_in_one_line() {
    let r = request(b"MESSAGE sip:b@h SIP/2.0\r\nVia: SIP/2.0/UDP h1;branch=z9hG4bK1, SIP/2.0/TCP h2;branch=z9hG4bK2\r\n\r\n");
    let all: Vec<_> = r.headers.list(Name::Via).map(|v| Via::parse(v).expect(CUT)).collect();
    assert_eq!(
        all.iter().map(Via::branch).collect::<Vec<_>>(),
        [Some("z9hG4bK1"), Some("z9hG4bK2")]
    );
}

#[test]
fn ipv6_sent_by() {
    let v = via("SIP/2.0/UDP [2001:db8::9]:5062;branch=z9hG4bK1");
    assert_eq!((v.host.to_string().as_str(), v.port), ("[2001:db8::9]", Some(5062)));
}

#[test]
fn blanks_in_the_protocol() {
    assert_eq!(via("SIP / 2.0 / UDP h.example : 5060").to_string(), "SIP/2.0/UDP h.example:5060");
}

#[test]
fn unknown_transport_in_via() {
    assert_eq!(via("SIP/2.0/FOO h.example").transport, "FOO");
}

#[test]
fn odd_octets_in_the_branch() {
    assert_eq!(via("SIP/2.0/UDP h;branch=z9hG4bK=+/1;rport").branch(), Some("z9hG4bK=+/1"));
}

#[test]
fn rport_without_value() {
    assert_eq!(via("SIP/2.0/UDP h;rport;branch=z9hG4bK1").rport(), Some(None));
    assert_eq!(via("SIP/2.0/UDP h;branch=z9hG4bK1;rport=9").rport(), Some(Some(9)));
    assert_eq!(via("SIP/2.0/UDP h;branch=z9hG4bK1").rport(), None);
}

// --- credentials ------------------------------------------------------------------------------

#[test]
fn tenth_nonce_count() {
    let a = auth("Digest username=\"a\", nc=0000000a, algorithm=SHA-256");
    assert_eq!(a.params.get("nc"), Some(Some("0000000a")));
    assert_eq!(a.params.get("algorithm"), Some(Some("SHA-256")));
    assert_eq!(auth("Digest algorithm=AKAv1-MD5").params.get("algorithm"), Some(Some("AKAv1-MD5")));
}

#[test]
fn several_qop_in_a_challenge() {
    let a = auth("Digest realm=\"a.example\", qop=\"auth,auth-int\", nonce=\"x==\"");
    assert_eq!(a.params.value("qop").as_deref(), Some("auth,auth-int"));
    assert_eq!(a.params.value("nonce").as_deref(), Some("x=="));
}

#[test]
fn escaped_quote_in_the_username() {
    let spelled = "Digest username=\"a\\\"b\\\\c, d=e\", uri=\"sip:a.example;x=\"";
    let a = auth(spelled);
    assert_eq!(a.params.value("username").as_deref(), Some("a\"b\\c, d=e"));
    assert_eq!(a.to_string(), spelled);
}

#[test]
fn quoted_boundary_of_a_content_type() {
    let value = "multipart/mixed;boundary=\"a b;c\"";
    let r = with(&format!("Content-Type: {value}"));
    assert_eq!(rewritten(&r).headers.text(Name::ContentType), Some(value));
}

// --- limits -----------------------------------------------------------------------------------

#[test]
fn thousands_of_headers_are_refused_in_linear_time() {
    let lines = vec![&b"X: y"[..]; 3200];
    let octets = message(b"MESSAGE sip:b@h SIP/2.0", &lines, b"");
    let Err(Unreadable::Answerable { fault, .. }) = read(octets.into()) else { panic!("read") };
    assert_eq!(fault.status, 513);
}
