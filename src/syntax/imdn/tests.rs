//! Receipts as clients write them.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

use super::*;
use crate::syntax::cpim::Cpim;
use crate::syntax::mime::tests::mutations;

const LINPHONE: &[u8] = include_bytes!("../../../fixtures/cpim/linphone-delivered.imdn.zlib");
const RCSJTA: &[u8] = include_bytes!("../../../fixtures/cpim/rcsjta-displayed.cpim");

fn document(inner: &str) -> String {
    format!("<imdn xmlns='{NAMESPACE}'><message-id>m</message-id>{inner}</imdn>")
}

fn imdn(message_id: &str, status: Disposition) -> Imdn {
    Imdn {
        message_id: message_id.to_owned(),
        datetime: String::new(),
        recipient_uri: None,
        original_recipient_uri: None,
        status,
    }
}

#[test]
fn receipts_of_linphone_and_rcsjta_are_read() {
    let linphone = Imdn::read(&inflate(LINPHONE).unwrap()).unwrap();
    let datetime = "2025-03-09T08:05:44Z".to_owned();
    assert_eq!(linphone, [Imdn { datetime, ..imdn("x7Tq0mWv2A", Disposition::Delivered) }]);
    let cpim = Cpim::read(&Bytes::from_static(RCSJTA)).unwrap();
    let rcsjta = Imdn::read(cpim.content()).unwrap();
    assert_eq!(rcsjta.len(), 1);
    assert_eq!(rcsjta[0].message_id, "5f0c2b9e417d4a86b3d1c6e9027a58f4");
    assert_eq!(rcsjta[0].status, Disposition::Displayed);
}

#[test]
fn rfc5438_11_1_each_notification_has_its_own_statuses() {
    for (notification, status, disposition) in Disposition::TABLE {
        let xml =
            document(&format!("<{notification}><status><{status}/></status></{notification}>"));
        assert_eq!(Imdn::read(xml.as_bytes()).unwrap(), [imdn("m", disposition)], "{xml}");
        assert_eq!(disposition.elements(), (notification, status));
    }
    for (notification, status) in
        [("display-notification", "delivered"), ("delivery-notification", "read"), ("x", "error")]
    {
        let xml =
            document(&format!("<{notification}><status><{status}/></status></{notification}>"));
        assert_eq!(Imdn::read(xml.as_bytes()), Err(ImdnFault::Incomplete), "{xml}");
    }
}

#[test]
fn documents_as_clients_write_them() {
    const SHOWN: &str =
        "<display-notification><status><displayed/></status></display-notification>";
    const DONE: &str =
        "<delivery-notification><status><delivered></delivered></status></delivery-notification>";
    fn check(xml: &str, expected: Result<&[(&str, Disposition)], ImdnFault>) {
        let read = Imdn::read(xml.as_bytes())
            .map(|all| all.into_iter().map(|i| (i.message_id, i.status)).collect::<Vec<_>>());
        let expected = expected
            .map(|all| all.iter().map(|(id, s)| ((*id).to_owned(), *s)).collect::<Vec<_>>());
        assert_eq!(read, expected, "{xml}");
    }
    let shown: &[_] = &[("m", Disposition::Displayed)];
    check(&document(SHOWN), Ok(shown));
    check(&format!("\u{feff} \r\n<?xml version='1.0'?>{}\r\n", document(SHOWN)), Ok(shown));
    // Prefixes, declared or not; no namespace at all.
    check(
        "<i:imdn xmlns:i='urn:ietf:params:xml:ns:imdn'><i:message-id>m</i:message-id><i:display-notification><i:status><i:displayed/></i:status></i:display-notification></i:imdn>",
        Ok(shown),
    );
    check(&format!("<imdn><message-id> m\n</message-id><am:x y = 'z'/>{SHOWN}</imdn>"), Ok(shown));
    // Entities, CDATA, comments, processing instructions.
    check(
        &format!(
            "<imdn><message-id>a&amp;&#x42;<![CDATA[<c>]]><!-- no --><?no?></message-id>{SHOWN}</imdn>"
        ),
        Ok(&[("a&B<c>", Disposition::Displayed)]),
    );
    // Both statuses in one, an aggregate of two, and the same one twice.
    check(&document(&format!("{DONE}{SHOWN}")), Ok(&[("m", Disposition::Delivered), shown[0]]));
    check(&format!("{0}<imdn>{SHOWN}</imdn>{0}", document(SHOWN)), Ok(&[shown[0], shown[0]]));
    check(&document(&SHOWN.repeat(3)), Ok(shown));
    // RFC 5438 §7: nothing to match, nothing to tell.
    check("<imdn></imdn>", Err(ImdnFault::Incomplete));
    check(&format!("<imdn>{SHOWN}</imdn>"), Err(ImdnFault::Incomplete));
    check("", Err(ImdnFault::Incomplete));
    check("text", Err(ImdnFault::Incomplete));
    check(
        &document("<display-notification><displayed/></display-notification>"),
        Err(ImdnFault::Incomplete),
    );
    // Not XML that we read.
    check("<!DOCTYPE imdn [<!ENTITY a 'b'>]><imdn/>", Err(ImdnFault::Entities));
    check(&document("<x>&a;</x>"), Err(ImdnFault::Entities));
    check(&document("<x>&#0;</x>"), Err(ImdnFault::Malformed));
    check(&document("<x>"), Err(ImdnFault::Malformed));
    check("<imdn><message-id>m</message-id>", Err(ImdnFault::Malformed));
    check("<imdn", Err(ImdnFault::Malformed));
    let deep = |n: usize| document(&format!("{}{}{SHOWN}", "<x>".repeat(n), "</x>".repeat(n)));
    check(&deep(limits::IMDN_DEPTH_MAX - 1), Ok(shown));
    check(&deep(limits::IMDN_DEPTH_MAX), Err(ImdnFault::TooDeep));
    check(&" ".repeat(limits::IMDN_OCTETS_MAX + 1), Err(ImdnFault::TooLarge));
    assert_eq!(Imdn::read(b"<imdn>\xff</imdn>"), Err(ImdnFault::Charset));
}

#[test]
fn what_is_written_is_read_back() {
    let full = Imdn {
        message_id: "a<b>&\"'".to_owned(),
        datetime: "2016-02-11T13:00:49.000Z".to_owned(),
        recipient_uri: Some("im:bob@example.com?a=b&c=d".to_owned()),
        original_recipient_uri: Some("tel:+1".to_owned()),
        status: Disposition::Stored,
    };
    assert_eq!(Imdn::read(&full.write()).unwrap(), [full]);
    for (.., status) in Disposition::TABLE {
        let plain = imdn("m", status);
        assert_eq!(Imdn::read(&plain.write()).unwrap(), [plain]);
    }
    let odd =
        Imdn { datetime: "x\r\n\0y".to_owned(), ..imdn("i\u{ffff}d", Disposition::Delivered) };
    let read = Imdn::read(&odd.write()).unwrap().remove(0);
    assert_eq!((read.message_id.as_str(), read.datetime.as_str()), ("id", "xy"));
}

fn zlib(octets: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

fn raw(octets: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

fn gzip(octets: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(octets).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn rfc9110_8_4_1_2_deflate_is_zlib_and_often_raw() {
    fn check(pack: fn(&[u8]) -> Vec<u8>) {
        let fits = vec![b'x'; limits::IMDN_OCTETS_MAX];
        for plain in [&b""[..], b"x", b"<imdn/>", &fits] {
            assert_eq!(inflate(&pack(plain)).unwrap(), plain);
        }
        let packed = pack(b"Not much, but enough to be cut short somewhere.");
        for end in 0..packed.len() {
            assert_eq!(inflate(&packed[..end]), Err(ImdnFault::Compression), "{end}");
        }
        assert_eq!(inflate(&pack(&vec![b'x'; fits.len() + 1])), Err(ImdnFault::TooLarge));
        assert_eq!(inflate(&pack(&vec![0; 4 * 1024 * 1024])), Err(ImdnFault::TooLarge));
    }
    check(zlib);
    check(raw);
    check(gzip);
    assert_eq!(inflate(b"<imdn>plain</imdn>"), Err(ImdnFault::Compression));
}

#[test]
fn no_octets_make_it_panic() {
    let full = document(
        "<datetime>x</datetime><i:recipient-uri a=\"b\">&lt;&#65;</i:recipient-uri>\
        <delivery-notification><status><failed/></status><![CDATA[x]]></delivery-notification>",
    );
    let (xml, plain) = (full.as_bytes(), inflate(LINPHONE).unwrap());
    let (raw, gzip) = (raw(xml), gzip(xml));
    for octets in mutations(&[xml, &plain, LINPHONE, &raw, &gzip], 20_000) {
        for read in Imdn::read(&octets).unwrap_or_default() {
            let again = Imdn::read(&read.write());
            assert!(
                again.is_ok_and(|all| all.len() == 1) || read.message_id.contains(char::is_control)
            );
        }
        if let Ok(plain) = inflate(&octets) {
            assert!(plain.len() <= limits::IMDN_OCTETS_MAX);
            Imdn::read(&plain).ok();
        }
    }
}
