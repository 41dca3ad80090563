//! CPIM messages that we make ourselves: unwrapped texts for CPM devices, receipts, notices.

use bytes::Bytes;

use super::{IMDN, Identity, Wanted};
use crate::base::now::Unix;

/// Builds a message around any content. Nothing that is put in can start a line of its own: line
/// ends and other control characters are escaped (RFC 3862 §2.3), dropped, or made blanks.
#[derive(Clone, Debug)]
pub struct CpimWriter {
    head: String,
    imdn: bool,
    content_type: Option<String>,
    content_head: String,
}

impl CpimWriter {
    /// A message with From, To and DateTime (UTC, milliseconds).
    #[must_use]
    pub fn new(from: &Identity, to: &Identity, at: Unix) -> CpimWriter {
        let head = format!(
            "From: {}\r\nTo: {}\r\nDateTime: {}\r\n",
            address(from),
            address(to),
            rfc3339(at)
        );
        CpimWriter { head, imdn: false, content_type: None, content_head: String::new() }
    }

    /// Adds imdn.Message-ID (RFC 5438 §6.3).
    #[must_use]
    pub fn message_id(self, id: &str) -> CpimWriter {
        self.imdn_header("Message-ID", id)
    }

    /// Adds imdn.Disposition-Notification, if anything is asked for (RFC 5438 §6.2).
    #[must_use]
    pub fn wanted(self, wanted: Wanted) -> CpimWriter {
        if wanted.any() {
            self.imdn_header("Disposition-Notification", &wanted.to_string())
        } else {
            self
        }
    }

    /// Adds Subject, every character of which survives.
    #[must_use]
    pub fn subject(mut self, text: &str) -> CpimWriter {
        put(&mut self.head, "Subject", &escape(text));
        self
    }

    /// Binds `prefix` to `uri` for the headers that follow.
    #[must_use]
    pub fn namespace(mut self, prefix: &str, uri: &str) -> CpimWriter {
        let value = format!("{} <{}>", name_only(prefix), uri_only(uri));
        put(&mut self.head, "NS", &value);
        self
    }

    /// Adds a message header, prefix included in `name`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> CpimWriter {
        put(&mut self.head, &name_only(name), &escape_controls(value));
        self
    }

    /// Says what the content is; `text/plain;charset=UTF-8` where this is not called.
    #[must_use]
    pub fn content_type(mut self, value: &str) -> CpimWriter {
        self.content_type = Some(value.to_owned());
        self
    }

    /// Adds Content-Disposition; `notification` marks a receipt (RFC 5438 §7.2.1.1).
    #[must_use]
    pub fn content_disposition(self, value: &str) -> CpimWriter {
        self.content_header("Content-Disposition", value)
    }

    /// Adds a MIME header of the content.
    #[must_use]
    pub fn content_header(mut self, name: &str, value: &str) -> CpimWriter {
        put(&mut self.content_head, &name_only(name), &blank_controls(value));
        self
    }

    /// The message around `content`, which is copied octet for octet and may be empty.
    #[must_use]
    pub fn finish(self, content: &[u8]) -> Bytes {
        let kind = self.content_type.as_deref().unwrap_or("text/plain;charset=UTF-8");
        let mut out = self.head;
        out.push_str("\r\n");
        put(&mut out, "Content-Type", &blank_controls(kind));
        out.push_str(&self.content_head);
        put(&mut out, "Content-Length", &content.len().to_string());
        out.push_str("\r\n");
        let mut out = out.into_bytes();
        out.extend_from_slice(content);
        Bytes::from(out)
    }

    fn imdn_header(mut self, name: &str, value: &str) -> CpimWriter {
        if !std::mem::replace(&mut self.imdn, true) {
            self = self.namespace("imdn", IMDN);
        }
        self.header(&format!("imdn.{name}"), value)
    }
}

/// RFC 3339 in UTC with milliseconds: `2016-02-11T13:00:49.000Z`. Moments after the year 9999,
/// which RFC 3339 cannot write, become its last millisecond.
#[must_use]
pub fn rfc3339(at: Unix) -> String {
    const LAST: u64 = 253_402_300_799_999;
    let millis = at.0.min(LAST);
    let (days, rest) = (millis / 86_400_000, millis % 86_400_000);
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1000 % 60,
        rest % 1000
    )
}

/// Year, month and day of the Gregorian calendar, `days` after 1970-01-01. Years are counted from
/// March, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    let since_0000 = days + 719_468;
    let (era, in_era) = (since_0000 / 146_097, since_0000 % 146_097);
    let leaps = in_era / 1460 - in_era / 36_524 + in_era / 146_096;
    let year_of_era = (in_era - leaps.min(in_era)) / 365;
    let in_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * in_year + 2) / 153;
    let day = in_year - (153 * from_march + 2) / 5 + 1;
    let (month, carry) = if from_march < 10 { (from_march + 3, 0) } else { (from_march - 9, 1) };
    (era * 400 + year_of_era + carry, month, day)
}

fn put(out: &mut String, name: &str, value: &str) {
    out.push_str(name);
    out.push_str(": ");
    out.push_str(value.trim_matches(' '));
    out.push_str("\r\n");
}

fn address(identity: &Identity) -> String {
    match &identity.display {
        Some(name) => format!("\"{}\" <{}>", escape(name), uri_only(&identity.uri)),
        None => format!("<{}>", uri_only(&identity.uri)),
    }
}

/// Escapes so that a reader gets every character back.
fn escape(text: &str) -> String {
    escape_controls(&text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn escape_controls(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\r' => out.push_str("\\r"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

fn blank_controls(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn name_only(name: &str) -> String {
    name.chars().filter(|c| c.is_ascii_graphic() && *c != ':').collect()
}

fn uri_only(uri: &str) -> String {
    uri.chars().filter(|c| !c.is_control() && !matches!(c, ' ' | '<' | '>' | '"')).collect()
}
