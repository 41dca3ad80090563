//! In which form a device gets an entry: CPM devices, plain phones, and what they take.
//!
//! | device | content | forms, in order |
//! |---|---|---|
//! | CPM | message/cpim | original, unwrapped, line |
//! | CPM | anything else | wrapped in CPIM, original, line |
//! | plain | message/cpim, multipart | original, unwrapped, line |
//! | plain | text and anything else | original, line |
//! | any | a receipt | original |
//! | any | a notice | original |
//!
//! A form whose type the device is known to refuse is skipped; so is one that would be too large
//! for the way to the device, until the line is left.

use bytes::Bytes;

use crate::service::feature::Kind;
use crate::service::location::Takes;
use crate::service::record::{Asked, Class, EntryPut};
use crate::syntax::cpim::{Cpim, CpimWriter, Identity, Wanted};
use crate::syntax::mime::{self, MediaType};
use crate::syntax::sip::NameAddr;

/// One way to show an entry to a device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// The octets as they came.
    Original,
    /// The octets as they came, inside a CPIM that we make.
    Wrapped,
    /// The readable text alone.
    Unwrapped,
    /// One line of text that says what came, and a reference.
    Line,
}

/// A body to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body {
    /// Content-Type; empty where there is none.
    pub content_type: Bytes,
    /// The octets.
    pub octets: Bytes,
}

/// How many characters of a text a line shows.
const LINE_PREVIEW_CHARS: usize = 160;

/// The forms for this kind of device and entry, best first.
#[must_use]
pub fn forms(kind: Kind, entry: &EntryPut) -> &'static [Form] {
    if entry.class != Class::Message {
        return &[Form::Original];
    }
    let cpim = mime::is(&entry.content_type, "message/cpim");
    let multipart = mime::is_multipart(&entry.content_type);
    match kind {
        Kind::Cpm if cpim => &[Form::Original, Form::Unwrapped, Form::Line],
        Kind::Cpm => &[Form::Wrapped, Form::Original, Form::Line],
        Kind::Plain if cpim || multipart => &[Form::Original, Form::Unwrapped, Form::Line],
        Kind::Plain => &[Form::Original, Form::Line],
    }
}

/// The entry in this form; `None` if it has no such form.
#[must_use]
pub fn render(form: Form, entry: &EntryPut, octets: &Bytes) -> Option<Body> {
    let text = |text: String| Body {
        content_type: Bytes::from_static(b"text/plain;charset=utf-8"),
        octets: Bytes::from(text),
    };
    match form {
        Form::Original => {
            Some(Body { content_type: entry.content_type.clone(), octets: octets.clone() })
        }
        Form::Wrapped => Some(wrap(entry, octets)),
        Form::Unwrapped => mime::first_text(&entry.content_type, octets).map(text),
        Form::Line => Some(text(line(entry, octets))),
    }
}

/// Whether a device that said this about itself takes this type.
#[must_use]
pub fn takes(takes: Option<&Takes>, content_type: &[u8]) -> bool {
    let Some(takes) = takes else { return true };
    let Ok(media) = MediaType::parse(content_type) else { return true };
    let named = media.essence();
    if takes.refused.iter().any(|r| r == named) {
        return false;
    }
    takes.only.is_empty() || mime::accepts(takes.only.iter().map(String::as_bytes), named)
}

fn wrap(entry: &EntryPut, octets: &Bytes) -> Body {
    let mut from = Identity::of(&entry.from);
    from.display = NameAddr::parse(&entry.from_value).ok().and_then(|n| n.display);
    let mut w = CpimWriter::new(&from, &Identity::of(&entry.to), entry.taken)
        .message_id(&entry.message_id)
        .wanted(wanted(entry.asked));
    w = match std::str::from_utf8(&entry.content_type) {
        Ok(named) if !named.is_empty() => w.content_type(named),
        _ => w.content_type("text/plain"),
    };
    Body { content_type: Bytes::from_static(b"message/cpim"), octets: w.finish(octets) }
}

fn wanted(asked: Asked) -> Wanted {
    Wanted {
        positive_delivery: asked.delivered,
        negative_delivery: asked.failed,
        display: asked.displayed,
        ..Wanted::default()
    }
}

/// `New message from Bob: image/png (4.2 kB) [cpm:id]`, or the beginning of a long text
/// (docs/WIRE.md).
fn line(entry: &EntryPut, octets: &Bytes) -> String {
    let from = NameAddr::parse(&entry.from_value).ok().and_then(|n| n.display);
    let from = from.unwrap_or_else(|| entry.from.to_string());
    let size = human_size(octets.len());
    let about = match mime::first_text(&entry.content_type, octets) {
        Some(text) => {
            let flat: String = text
                .chars()
                .map(|c| if c.is_control() { ' ' } else { c })
                .take(LINE_PREVIEW_CHARS)
                .collect();
            format!("“{}…” ({size})", flat.trim_end())
        }
        None => format!("{} ({size})", inner_type(entry, octets)),
    };
    format!("New message from {from}: {about} [cpm:{}]", entry.message_id)
}

/// What is inside, where a CPIM is only the envelope.
fn inner_type(entry: &EntryPut, octets: &Bytes) -> String {
    let outer = MediaType::parse(&entry.content_type).ok();
    let inner = outer
        .as_ref()
        .filter(|m| m.is("message/cpim"))
        .and_then(|_| Cpim::read(octets).ok())
        .map(|c| c.content_type());
    inner.or(outer).map_or_else(|| "content".to_owned(), |m| m.essence().to_owned())
}

fn human_size(octets: usize) -> String {
    match octets {
        0..1000 => format!("{octets} bytes"),
        1000..1_000_000 => format!("{}.{} kB", octets / 1000, octets % 1000 / 100),
        _ => format!("{}.{} MB", octets / 1_000_000, octets % 1_000_000 / 100_000),
    }
}
