//! Disposition notifications (RFC 5438 §11): message/imdn+xml, plain or compressed.

use std::io::Read as _;

use bytes::Bytes;
use flate2::{Decompress, FlushDecompress, Status, read::GzDecoder};
use quick_xml::escape::escape;
use quick_xml::events::Event;
use quick_xml::reader::Reader;

use crate::base::limits;

const NAMESPACE: &str = "urn:ietf:params:xml:ns:imdn";

/// Why a document is no notification that we would act on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ImdnFault {
    /// More than `limits::IMDN_OCTETS_MAX` octets, compressed or not.
    #[error("notification too large")]
    TooLarge,
    /// Elements nested deeper than `limits::IMDN_DEPTH_MAX`.
    #[error("notification nested too deep")]
    TooDeep,
    /// Not UTF-8.
    #[error("notification is not UTF-8")]
    Charset,
    /// A document type, or an entity other than the five of XML.
    #[error("notification with a document type or entities")]
    Entities,
    /// Not well-formed XML, or cut short.
    #[error("notification is not well-formed")]
    Malformed,
    /// No `<imdn>` with a message-id and a status that we know.
    #[error("notification without message-id or status")]
    Incomplete,
    /// Content-Encoding that is neither zlib, deflate nor gzip, or cut short.
    #[error("notification cannot be inflated")]
    Compression,
}

/// What became of a message (RFC 5438 §11.1): which notification, which status in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Disposition {
    /// It arrived.
    Delivered,
    /// It could not arrive.
    DeliveryFailed,
    /// The recipient does not tell whether it arrived.
    DeliveryForbidden,
    /// Whether it arrived is not known.
    DeliveryError,
    /// It was shown.
    Displayed,
    /// The recipient does not tell whether it was shown.
    DisplayForbidden,
    /// Whether it was shown is not known.
    DisplayError,
    /// A server dealt with it.
    Processed,
    /// A server keeps it for later.
    Stored,
    /// A server does not tell what it did.
    ProcessingForbidden,
    /// What a server did is not known.
    ProcessingError,
}

/// One notification about one message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Imdn {
    /// imdn.Message-ID of the message it is about (for linphone: the Call-ID of the leg).
    pub message_id: String,
    /// When that message was sent or received, as written; may be empty.
    pub datetime: String,
    /// Who it was sent to in the end.
    pub recipient_uri: Option<String>,
    /// Who the sender had addressed.
    pub original_recipient_uri: Option<String>,
    /// What became of it.
    pub status: Disposition,
}

impl Disposition {
    /// The element of the notification and the element of its status.
    #[must_use]
    pub fn elements(self) -> (&'static str, &'static str) {
        let at = Self::TABLE.iter().find(|row| row.2 == self);
        at.map_or(("", ""), |row| (row.0, row.1))
    }

    const TABLE: [(&'static str, &'static str, Disposition); 11] = [
        ("delivery-notification", "delivered", Disposition::Delivered),
        ("delivery-notification", "failed", Disposition::DeliveryFailed),
        ("delivery-notification", "forbidden", Disposition::DeliveryForbidden),
        ("delivery-notification", "error", Disposition::DeliveryError),
        ("display-notification", "displayed", Disposition::Displayed),
        ("display-notification", "forbidden", Disposition::DisplayForbidden),
        ("display-notification", "error", Disposition::DisplayError),
        ("processing-notification", "processed", Disposition::Processed),
        ("processing-notification", "stored", Disposition::Stored),
        ("processing-notification", "forbidden", Disposition::ProcessingForbidden),
        ("processing-notification", "error", Disposition::ProcessingError),
    ];

    fn of(notification: &str, status: &str) -> Option<Disposition> {
        Self::TABLE.iter().find(|row| row.0 == notification && row.1 == status).map(|row| row.2)
    }
}

impl Imdn {
    /// Reads a document. Elements count by their local names: prefixes and namespaces are not
    /// checked, because clients leave them out. Each status found gives one notification, so an
    /// aggregate gives several; elements that we do not know are passed over.
    ///
    /// # Errors
    /// Too large, too deep, not UTF-8, not well-formed, with a document type or foreign entities,
    /// or without one complete notification.
    pub fn read(xml: &[u8]) -> Result<Vec<Imdn>, ImdnFault> {
        if xml.len() > limits::IMDN_OCTETS_MAX {
            return Err(ImdnFault::TooLarge);
        }
        let text = str::from_utf8(xml).map_err(|_| ImdnFault::Charset)?;
        let mut reader = Reader::from_str(text.trim_start_matches('\u{feff}').trim_start());
        let mut scan = Scan::default();
        loop {
            match reader.read_event().map_err(|_| ImdnFault::Malformed)? {
                Event::Start(tag) => scan.open(tag.local_name().as_ref())?,
                Event::Empty(tag) => {
                    scan.open(tag.local_name().as_ref())?;
                    scan.close();
                }
                Event::End(_) => scan.close(),
                Event::Text(text) => scan.text.push_str(&text),
                Event::CData(text) => scan.text.push_str(&text),
                Event::GeneralRef(entity) => {
                    let coded = entity.resolve_char_ref().map_err(|_| ImdnFault::Malformed)?;
                    scan.text.push(coded.or_else(|| named(&entity)).ok_or(ImdnFault::Entities)?);
                }
                Event::DocType(_) => return Err(ImdnFault::Entities),
                Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
                Event::Eof => break,
            }
        }
        if !scan.path.is_empty() {
            return Err(ImdnFault::Malformed);
        }
        if scan.found.is_empty() { Err(ImdnFault::Incomplete) } else { Ok(scan.found) }
    }

    /// The document that says this. Characters that XML does not have are left out.
    #[must_use]
    pub fn write(&self) -> Bytes {
        let mut out = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<imdn xmlns=\"{NAMESPACE}\">\r\n"
        );
        let mut leaf = |name: &str, value: &str| {
            let clean: String = value.chars().filter(|c| is_xml(*c)).collect();
            out.push_str(&format!("<{name}>{}</{name}>\r\n", escape(clean.as_str())));
        };
        leaf("message-id", &self.message_id);
        leaf("datetime", &self.datetime);
        if let Some(uri) = &self.recipient_uri {
            leaf("recipient-uri", uri);
        }
        if let Some(uri) = &self.original_recipient_uri {
            leaf("original-recipient-uri", uri);
        }
        let (notification, status) = self.status.elements();
        out.push_str(&format!(
            "<{notification}><status><{status}/></status></{notification}>\r\n</imdn>\r\n"
        ));
        Bytes::from(out)
    }
}

/// Undoes Content-Encoding `deflate` (zlib as RFC 9110 §8.4.1.2 has it, or raw as many send it) and
/// `gzip`; the octets tell which. Octets after the compressed data are not looked at.
///
/// # Errors
/// `TooLarge` beyond `limits::IMDN_OCTETS_MAX`, `Compression` where no form fits.
pub fn inflate(octets: &[u8]) -> Result<Bytes, ImdnFault> {
    if octets.starts_with(&[0x1f, 0x8b]) {
        return gunzip(octets);
    }
    match deflated(octets, true) {
        Err(ImdnFault::Compression) => deflated(octets, false),
        outcome => outcome,
    }
}

/// A walk through the document: where we are, what the open `<imdn>` has said, what is complete.
#[derive(Default)]
struct Scan {
    path: Vec<String>,
    text: String,
    message_id: Option<String>,
    datetime: Option<String>,
    recipient_uri: Option<String>,
    original_recipient_uri: Option<String>,
    statuses: Vec<Disposition>,
    found: Vec<Imdn>,
}

impl Scan {
    fn open(&mut self, name: &str) -> Result<(), ImdnFault> {
        if self.path.len() >= limits::IMDN_DEPTH_MAX {
            return Err(ImdnFault::TooDeep);
        }
        if let [.., notification, status] = self.path.as_slice()
            && status == "status"
        {
            let status = Disposition::of(notification, name);
            self.statuses.extend(status.filter(|status| !self.statuses.contains(status)));
        }
        self.path.push(name.to_owned());
        self.text.clear();
        Ok(())
    }

    fn close(&mut self) {
        let Some(name) = self.path.pop() else { return };
        if name == "imdn" {
            self.complete();
        } else if self.path.last().is_some_and(|parent| parent == "imdn") {
            let slot = match name.as_str() {
                "message-id" => &mut self.message_id,
                "datetime" => &mut self.datetime,
                "recipient-uri" => &mut self.recipient_uri,
                "original-recipient-uri" => &mut self.original_recipient_uri,
                _ => return,
            };
            let value = self.text.trim();
            if slot.is_none() && !value.is_empty() {
                *slot = Some(value.to_owned());
            }
        }
    }

    fn complete(&mut self) {
        let id = self.message_id.take();
        let datetime = self.datetime.take().unwrap_or_default();
        let (recipient, original) = (self.recipient_uri.take(), self.original_recipient_uri.take());
        let statuses = std::mem::take(&mut self.statuses);
        let Some(message_id) = id else { return };
        self.found.extend(statuses.into_iter().map(|status| Imdn {
            message_id: message_id.clone(),
            datetime: datetime.clone(),
            recipient_uri: recipient.clone(),
            original_recipient_uri: original.clone(),
            status,
        }));
    }
}

fn named(entity: &str) -> Option<char> {
    match entity {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => None,
    }
}

fn is_xml(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{fffe}' | '\u{ffff}')
}

fn deflated(octets: &[u8], zlib: bool) -> Result<Bytes, ImdnFault> {
    // One octet more than allowed: a stream that needs it is too large.
    let mut out = Vec::with_capacity(limits::IMDN_OCTETS_MAX + 1);
    let mut state = Decompress::new(zlib);
    let end = state.decompress_vec(octets, &mut out, FlushDecompress::Finish);
    if out.len() > limits::IMDN_OCTETS_MAX {
        return Err(ImdnFault::TooLarge);
    }
    match end {
        Ok(Status::StreamEnd) => Ok(Bytes::from(out)),
        _ => Err(ImdnFault::Compression),
    }
}

fn gunzip(octets: &[u8]) -> Result<Bytes, ImdnFault> {
    let mut out = Vec::new();
    let bound = u64::try_from(limits::IMDN_OCTETS_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let end = GzDecoder::new(octets).take(bound).read_to_end(&mut out);
    if out.len() > limits::IMDN_OCTETS_MAX {
        return Err(ImdnFault::TooLarge);
    }
    end.map(|_| Bytes::from(out)).map_err(|_| ImdnFault::Compression)
}

#[cfg(test)]
mod tests;
