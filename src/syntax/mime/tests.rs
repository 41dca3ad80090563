//! Bodies as clients write them.

use super::*;

/// `count` damaged copies of the seeds: octets flipped, cut out, doubled, cut off; always the same.
pub(crate) fn mutations(seeds: &[&[u8]], count: usize) -> impl Iterator<Item = Vec<u8>> {
    let seeds: Vec<Vec<u8>> = seeds.iter().map(|s| s.to_vec()).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % (below.max(1) as u64)).unwrap()
    };
    (0..count).map(move |_| {
        const HOSTILE: &[u8] = b"\r\n\0\"\\<>:;=-&./ \xff\xc3";
        let mut octets = seeds[next(seeds.len())].clone();
        for _ in 0..=next(4) {
            let at = next(octets.len() + 1);
            match next(5) {
                0 if at < octets.len() => octets[at] = u8::try_from(next(256)).unwrap(),
                1 => octets.insert(at, HOSTILE[next(HOSTILE.len())]),
                2 => octets.truncate(at),
                3 => drop(octets.drain(at..(at + next(20)).min(octets.len()))),
                _ => {
                    let piece = octets[at..(at + next(60)).min(octets.len())].to_vec();
                    let to = next(octets.len() + 1);
                    octets.splice(to..to, piece);
                }
            }
        }
        octets
    })
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[test]
fn rfc2045_5_1_type_and_parameter_names_are_case_blind_and_quotes_are_not_the_value() {
    fn check(value: &str, expected: Option<(&str, &[(&str, &str)])>) {
        let read = MediaType::parse(value.as_bytes());
        let Some((essence, params)) = expected else {
            assert_eq!(read, Err(MimeFault::MediaType), "{value}");
            return;
        };
        let read = read.expect(value);
        assert!(read.is(&essence.to_ascii_uppercase()), "{value}");
        assert_eq!(read.essence(), essence, "{value}");
        for (name, text) in params {
            assert_eq!(read.param(name), Some(*text), "{value} {name}");
        }
        assert_eq!(MediaType::parse(read.to_string().as_bytes()).unwrap(), read, "{value}");
    }
    check("Message/CPIM", Some(("message/cpim", &[])));
    check(" text/plain ;charset=UTF-8", Some(("text/plain", &[("Charset", "UTF-8")])));
    check("text/plain; charset = \"utf-8\" ", Some(("text/plain", &[("charset", "utf-8")])));
    check(
        "multipart/mixed;boundary=\"a;b \\\"c\"",
        Some(("multipart/mixed", &[("boundary", "a;b \"c")])),
    );
    check(
        "multipart/mixed;boundary=----=_Part_0",
        Some(("multipart/mixed", &[("boundary", "----=_Part_0")])),
    );
    check("multipart/mixed;\r\n boundary=x", Some(("multipart/mixed", &[("boundary", "x")])));
    check(
        "application/vnd.gsma.rcs-ft-http+xml",
        Some(("application/vnd.gsma.rcs-ft-http+xml", &[])),
    );
    check("text/plain;;flag;charset=x", Some(("text/plain", &[("charset", "x")])));
    for bad in
        ["", "text", "/", "text/", "te xt/plain", "a/b/c", "text/plain;x=\"open", "text/pl\0ain"]
    {
        check(bad, None);
    }
}

#[test]
fn rfc2046_5_1_1_a_boundary_is_at_most_70_characters() {
    let of = |n: usize| {
        let value = format!("multipart/mixed;boundary={}", "b".repeat(n));
        MediaType::parse(value.as_bytes()).unwrap().boundary().is_some()
    };
    assert!(of(1) && of(70) && !of(0) && !of(71));
    let longest = "b".repeat(71);
    assert_eq!(parts(&longest, &bytes("--b\r\n\r\n--b--")), Err(MimeFault::Boundary));
    assert_eq!(parts("", &bytes("--\r\n\r\n----")), Err(MimeFault::Boundary));
}

#[test]
fn rfc2046_5_1_1_delimiters_own_the_line_end_before_them() {
    fn check(body: &str, expected: Result<&[(&str, &str)], MimeFault>) {
        let read = parts("b", &bytes(body)).map(|parts| {
            let both = |p: Part| (p.media_type().to_string(), p.body);
            parts.into_iter().map(both).collect::<Vec<_>>()
        });
        let expected = expected.map(|parts| {
            parts.iter().map(|(kind, text)| ((*kind).to_owned(), bytes(text))).collect::<Vec<_>>()
        });
        assert_eq!(read, expected, "{body:?}");
    }
    let two: &[_] = &[("a/x", "one"), ("a/y", "two\r\n")];
    check(
        "--b\r\nContent-Type: a/x\r\n\r\none\r\n--b\r\nContent-type:a/y\r\n\r\ntwo\r\n\r\n--b--\r\n",
        Ok(two),
    );
    // Preamble, epilogue, and blanks behind the delimiter.
    check(
        "hello\r\n--b \t\r\nContent-Type: a/x\r\n\r\none\r\n--b--  \r\nbye\r\n--b\r\n\r\nno",
        Ok(&two[..1]),
    );
    // A bare LF ends a line.
    check("--b\nContent-Type: a/x\n\none\n--b--\n", Ok(&two[..1]));
    // No headers; no content; neither.
    check("--b\r\n\r\nplain\r\n--b--", Ok(&[("text/plain", "plain")]));
    check("--b\r\nContent-Type: a/x\r\n\r\n--b--", Ok(&[("a/x", "")]));
    check("--b\r\nContent-Type: a/x\r\n--b--", Ok(&[("a/x", "")]));
    check("--b\r\n--b--", Ok(&[("text/plain", "")]));
    // The end is missing.
    check("--b\r\n\r\ncut", Ok(&[("text/plain", "cut")]));
    check("--b\r\n\r\none\r\n--b\r\n", Ok(&[("text/plain", "one")]));
    // A longer boundary, or one inside a line, is text.
    check("--b\r\n\r\n--bb\r\nx --b\r\n--b--", Ok(&[("text/plain", "--bb\r\nx --b")]));
    // A folded header is one header.
    check("--b\r\nContent-Type: a/x;\r\n\tp=1\r\n\r\none\r\n--b--", Ok(&[("a/x;p=1", "one")]));
    check("", Err(MimeFault::NoParts));
    check("no delimiter", Err(MimeFault::NoParts));
    check("--b--", Err(MimeFault::NoParts));
    check("--b\r\nno header\r\n\r\n--b--", Err(MimeFault::Header));
    check("--b\r\n folded first\r\n\r\n--b--", Err(MimeFault::Header));
    check("--b\r\n: x\r\n\r\n--b--", Err(MimeFault::Header));
}

#[test]
fn parts_and_header_lines_are_counted() {
    let many = |n: usize| parts("b", &Bytes::from("--b\r\n\r\nx\r\n".repeat(n) + "--b--"));
    assert_eq!(many(limits::MULTIPART_PARTS_MAX).unwrap().len(), limits::MULTIPART_PARTS_MAX);
    assert_eq!(many(limits::MULTIPART_PARTS_MAX + 1), Err(MimeFault::TooManyParts));
    let lines = "a: b\r\n".repeat(limits::HEADERS_MAX + 1);
    let body = Bytes::from(format!("--b\r\n{lines}\r\nx\r\n--b--"));
    assert_eq!(parts("b", &body), Err(MimeFault::TooManyHeaders));
}

#[test]
fn parts_share_the_octets_of_the_body() {
    let body = bytes("--b\r\nContent-Type: a/x\r\n\r\none\r\n--b--");
    let part = parts("b", &body).unwrap().remove(0);
    let inside = |b: &Bytes| body.as_ptr_range().contains(&b.as_ptr());
    assert!(inside(&part.body) && inside(&part.headers[0].0) && inside(&part.headers[0].1));
}

#[test]
fn a_mebibyte_of_near_delimiters_is_one_pass() {
    for line in ["\n", "--b", "--b\r", "--bx\n", "-", "--b--x\r\n", "--b\n", " \n"] {
        let body = Bytes::from(line.repeat(1024 * 1024 / line.len()));
        let read = parts("b", &body);
        assert!(matches!(
            read,
            Err(MimeFault::NoParts | MimeFault::TooManyParts | MimeFault::Header)
        ));
        assert_eq!(first_text(b"multipart/mixed;boundary=b", &body), None);
    }
}

fn nested(depth: usize) -> String {
    (0..depth).fold("Content-Type: text/plain\r\n\r\ndeep".to_owned(), |inner, i| {
        format!("Content-Type: multipart/mixed;boundary=b{i}\r\n\r\n--b{i}\r\n{inner}\r\n--b{i}--")
    })
}

#[test]
fn the_text_that_a_person_reads_is_found_however_it_is_wrapped_and_encoded() {
    fn check(kind: &str, body: impl AsRef<[u8]>, expected: Option<&str>) {
        let body = Bytes::copy_from_slice(body.as_ref());
        assert_eq!(first_text(kind.as_bytes(), &body).as_deref(), expected, "{kind} {body:?}");
    }
    fn part(headers: &str, body: &str) -> String {
        format!("--b\r\n{headers}\r\n\r\n{body}\r\n--b--\r\n")
    }
    const MIXED: &str = "multipart/mixed;boundary=b";
    check("text/plain", "grüß", Some("grüß"));
    check("TEXT/PLAIN;charset=ISO-8859-1", b"gr\xfc\xdf", Some("grüß"));
    check("text/plain;charset=us-ascii", "grüß", Some("grüß"));
    check("text/plain;charset=utf-8", b"\xef\xbb\xbfa\xff", Some("a\u{fffd}"));
    check("text/plain;charset=koi8-r", "x", None);
    check("text/plain", " \r\n", None);
    check("text/html", "<p>x", None);
    check("garbage", "x", None);
    // RFC 2045 §6.8: line ends and other foreign characters in base64 are passed over.
    let base64 = "Content-Transfer-Encoding: BASE64\r\nContent-Type: text/plain;charset=utf-8";
    check(MIXED, part(base64, "Z3LD\r\nvMOf"), Some("grüß"));
    check(MIXED, part(base64, "YQ=="), Some("a"));
    check(MIXED, part(base64, "YWI=YWI="), Some("ab"));
    check(MIXED, part(base64, "YWJ"), Some("ab"));
    check(MIXED, part(base64, "Y!W*Jj"), Some("abc"));
    check(MIXED, part(base64, "===="), None);
    // RFC 2045 §6.7: soft line breaks join, blanks at the end of a line go.
    let quoted = "Content-Transfer-Encoding: quoted-printable";
    check(MIXED, part(quoted, "gr=C3=bc=\r\n=C3=9F  \r\nb=3D=ZZ=4"), Some("grüß\r\nb==ZZ=4"));
    check(MIXED, part("Content-Transfer-Encoding: uuencode", "x"), None);
    // The first text that is neither attached nor empty.
    let sdp = "--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n";
    let file = "--b\r\nContent-Disposition: Attachment;filename=a.txt\r\n\r\nfile\r\n";
    check(
        MIXED,
        format!("{sdp}{file}--b\r\n\r\n\r\n{}", part("Content-Type: text/plain", "hi")),
        Some("hi"),
    );
    check(MIXED, sdp, None);
    let cpim = "From: <sip:a@b>\r\n\r\nContent-Type: text/plain\r\n\r\nhi";
    check("message/cpim", cpim, Some("hi"));
    check(MIXED, format!("{sdp}{}", part("Content-Type: message/cpim", cpim)), Some("hi"));
    check("message/cpim", "From: <sip:a@b>\r\n\r\n", None);
    check(
        "message/cpim",
        include_bytes!("../../../fixtures/cpim/rust-rcs-base64.cpim"),
        Some("Der Zug hat 20 Minuten Verspätung."),
    );
    check(
        "message/cpim",
        include_bytes!("../../../fixtures/cpim/rcsjta-first-message.cpim"),
        Some("Träume süß, bis morgen"),
    );
    check("message/cpim", include_bytes!("../../../fixtures/cpim/rcsjta-displayed.cpim"), None);
    // Depth.
    let at = |depth: usize| format!("--o\r\n{}\r\n--o--", nested(depth - 1));
    check("multipart/mixed;boundary=o", at(limits::MULTIPART_DEPTH_MAX), Some("deep"));
    check("multipart/mixed;boundary=o", at(limits::MULTIPART_DEPTH_MAX + 1), None);
}

#[test]
fn rfc3261_20_1_the_most_exact_media_range_decides() {
    fn check(values: &[&str], media_type: &str, expected: bool) {
        let values = values.iter().map(|v| v.as_bytes());
        assert_eq!(accepts(values, media_type), expected, "{media_type}");
    }
    check(&["text/plain"], "text/plain", true);
    check(&["text/plain"], "TEXT/Plain;charset=utf-8", true);
    check(&["text/plain"], "message/cpim", false);
    check(&["application/sdp, text/plain , Message/CPIM"], "message/cpim", true);
    check(&["application/sdp", "text/*"], "text/html", true);
    check(&["text/*"], "message/cpim", false);
    check(&["*/*"], "message/cpim", true);
    check(&["*/*, message/cpim;q=0"], "message/cpim", false);
    check(&["*/*;q=0.0, text/*;q=0, text/plain;q=0.1"], "text/plain", true);
    check(&["text/x;p=\"a,text/plain\""], "text/plain", false);
    check(&["text/plain;p=\"open"], "text/plain", false);
    check(&["junk", ",,", "text/plain"], "text/plain", true);
    check(&[""], "text/plain", false);
    check(&[], "text/plain", false);
    check(&["*/*"], "junk", false);
}

#[test]
fn no_octets_make_it_panic() {
    let multipart = format!("--b\r\n{}\r\n--b--", nested(3));
    let quoted = "--b\r\nContent-Type: text/plain;charset=\"utf-8\"\r\n\
        Content-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=\r\n\r\n--b--";
    let seeds: [&[u8]; 5] = [
        multipart.as_bytes(),
        quoted.as_bytes(),
        b"multipart/mixed;boundary=\"a \\\" b\";x=y, */*;q=0",
        include_bytes!("../../../fixtures/cpim/rust-rcs-base64.cpim"),
        include_bytes!("../../../fixtures/cpim/outer-headers-lf.cpim"),
    ];
    for octets in mutations(&seeds, 20_000) {
        let body = Bytes::from(octets);
        if let Ok(kind) = MediaType::parse(&body) {
            assert!(accepts([body.as_ref(), b"*/*;q=1"], kind.essence()) || body.contains(&b'q'));
            assert_eq!(MediaType::parse(kind.to_string().as_bytes()), Ok(kind));
        }
        for part in parts("b", &body).unwrap_or_default() {
            assert!(part.media_type().top().len() <= body.len().max(4));
        }
        for kind in ["multipart/mixed;boundary=b", "message/cpim", "text/plain;charset=latin1"] {
            let text = first_text(kind.as_bytes(), &body).unwrap_or_default();
            assert!(text.len() <= 3 * body.len());
        }
    }
}
