//! The ordered header section: ranges over one buffer, values parsed only when asked for.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::grammar::elements;
use super::name::Name;
use crate::base::limits;

/// One header line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// Which header.
    pub name: Name,
    /// The name as it was written.
    pub spelled: &'a [u8],
    /// The value without the blanks around it; may be any octets but control characters.
    pub value: &'a [u8],
}

/// All headers of a message in their order. Cloning copies two pointers.
#[derive(Clone)]
pub struct Headers {
    head: Bytes,
    entries: Arc<[Entry]>,
}

/// Where one header stands in the head.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) name: Name,
    pub(super) start: u16,
    pub(super) name_octets: u16,
    pub(super) value: u16,
    pub(super) value_octets: u16,
}

// The stamp of the transport adds at most a received address and a port to a full head.
const _: () = assert!(limits::HEADER_SECTION_OCTETS_MAX + 1024 < u16::MAX as usize);

impl Default for Headers {
    fn default() -> Headers {
        Headers { head: Bytes::new(), entries: Arc::new([]) }
    }
}

impl Headers {
    pub(super) fn new(head: Bytes, entries: &[Entry]) -> Headers {
        Headers { head, entries: entries.into() }
    }

    /// How many header lines there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All lines in order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.entries.iter().map(|entry| Field {
            name: entry.name,
            spelled: self.cut(entry.start, entry.name_octets),
            value: self.cut(entry.value, entry.value_octets),
        })
    }

    /// The value of the first line of that name.
    #[must_use]
    pub fn get(&self, name: Name) -> Option<&[u8]> {
        self.all(name).next()
    }

    /// The values of all lines of that name, one per line.
    pub fn all(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        let mine = self.entries.iter().filter(move |entry| entry.name == name);
        mine.map(|entry| self.cut(entry.value, entry.value_octets))
    }

    /// The elements of a list header, over all its lines (RFC 3261 §7.3.1): cut at commas outside
    /// quotes and `<>`, without blanks around, empty ones left out.
    pub fn list(&self, name: Name) -> impl Iterator<Item = &[u8]> {
        self.all(name).flat_map(elements)
    }

    /// The value of the first line, if it is UTF-8.
    #[must_use]
    pub fn text(&self, name: Name) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    /// The value of the first line with this spelling, in any case; also for names we know.
    #[must_use]
    pub fn other(&self, spelled: &str) -> Option<&[u8]> {
        let mine = |f: &Field<'_>| f.spelled.eq_ignore_ascii_case(spelled.as_bytes());
        self.iter().find(mine).map(|field| field.value)
    }

    /// The same headers with `old` octets at `at` in the head replaced; `at` must be the start of
    /// the value of entry `index`.
    pub(super) fn with_start_of_value(&self, index: usize, old: usize, new: &[u8]) -> Headers {
        let mut entries = self.entries.to_vec();
        let Some(at) = entries.get(index).map(|entry| usize::from(entry.value)) else {
            return self.clone();
        };
        let (before, after) = (self.head.get(..at), self.head.get(at + old..));
        let (Some(before), Some(after)) = (before, after) else { return self.clone() };
        let head = [before, new, after].concat();
        let moved =
            |from: u16| u16::try_from((usize::from(from) + new.len()).checked_sub(old)?).ok();
        for (i, entry) in entries.iter_mut().enumerate() {
            let shifted = if i == index {
                moved(entry.value_octets).map(|octets| entry.value_octets = octets)
            } else if usize::from(entry.start) > at {
                moved(entry.start).zip(moved(entry.value)).map(|(start, value)| {
                    entry.start = start;
                    entry.value = value;
                })
            } else {
                Some(())
            };
            if shifted.is_none() {
                return self.clone();
            }
        }
        Headers { head: head.into(), entries: entries.into() }
    }

    /// The place of the first line of that name.
    pub(super) fn position(&self, name: Name) -> Option<usize> {
        self.entries.iter().position(|entry| entry.name == name)
    }

    fn cut(&self, start: u16, octets: u16) -> &[u8] {
        let start = usize::from(start);
        self.head.get(start..start + usize::from(octets)).unwrap_or_default()
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |o| String::from_utf8_lossy(o).into_owned();
        f.debug_map().entries(self.iter().map(|h| (text(h.spelled), text(h.value)))).finish()
    }
}
