//! Parameters: `;name=value` behind URIs and header values, `name=value, …` in credentials.

use std::borrow::Cow;
use std::fmt;

use memchr::memchr2;

use super::grammar::{self, Read, blanks, no, quoted, separator, token, unquote};
use crate::base::limits;

/// Ordered parameters in their own spelling; names are found in any case (RFC 3261 §7.3.1).
#[derive(Clone, Default)]
pub struct Params {
    /// `;name=value` each, without blanks: what is written, and short enough to be searched.
    text: String,
}

impl Params {
    /// No parameters.
    #[must_use]
    pub fn new() -> Params {
        Params::default()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Name and value in order, as spelled.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let mut rest = self.text.as_str();
        std::iter::from_fn(move || {
            let inner = rest.strip_prefix(';')?;
            let end = end_of_one(inner.as_bytes());
            let (one, after) = inner.split_at_checked(end)?;
            rest = after;
            let equal = memchr::memchr(b'=', one.as_bytes());
            let cut = equal.and_then(|at| one.split_at_checked(at));
            Some(cut.map_or((one, None), |(name, value)| (name, value.get(1..))))
        })
    }

    /// The value as spelled (quotes kept); `Some(None)` for a parameter without `=`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Option<&str>> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value without quotes and escapes; `None` also for a parameter without `=`.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).flatten().map(unquote)
    }

    /// Whether the parameter is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Sets a parameter, in its old place if it was there. The value is written as it is given:
    /// a token, or quoted already.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        if !self.has(name) {
            return self.push(name, value);
        }
        let mut new = Params::default();
        for (n, v) in self.iter() {
            new.push(n, if n.eq_ignore_ascii_case(name) { value } else { v });
        }
        *self = new;
    }

    /// Sets a parameter to a quoted string; quotes and backslashes in `value` are escaped.
    pub fn set_quoted(&mut self, name: &str, value: &str) {
        self.set(name, Some(&grammar::quote(value)));
    }

    /// Takes a parameter away, if it is there.
    pub fn remove(&mut self, name: &str) {
        if self.has(name) {
            let mut new = Params::default();
            for (n, v) in self.iter().filter(|(n, _)| !n.eq_ignore_ascii_case(name)) {
                new.push(n, v);
            }
            *self = new;
        }
    }

    /// Room for what is written in so many octets.
    fn for_octets(octets: usize) -> Params {
        Params { text: String::with_capacity(octets) }
    }

    fn push(&mut self, name: &str, value: Option<&str>) {
        self.text.push(';');
        self.text.push_str(name);
        if let Some(value) = value {
            self.text.push('=');
            self.text.push_str(value);
        }
    }

    /// Adds what was read, unless the name is there already (RFC 3261 §7.3.1) or there are too
    /// many.
    fn add_read<'a>(&mut self, at: &'a [u8], name: &[u8], value: Option<&[u8]>) -> Read<'a, ()> {
        let (Ok(name), Ok(value)) =
            (std::str::from_utf8(name), value.map(std::str::from_utf8).transpose())
        else {
            return no(at);
        };
        let mut before = 0;
        for (n, _) in self.iter() {
            before += 1;
            if n.eq_ignore_ascii_case(name) {
                return no(at);
            }
        }
        if before >= limits::PARAMS_MAX {
            return no(at);
        }
        self.push(name, value);
        Ok((at, ()))
    }

    /// `*( SEMI name [ EQUAL value ] )` of a header value, up to the end of the input.
    pub(super) fn of_header(mut i: &[u8]) -> Read<'_, Params> {
        let mut params = Params::for_octets(i.len());
        loop {
            i = blanks(i)?.0;
            if i.is_empty() {
                return Ok((i, params));
            }
            i = separator(b';')(i)?.0;
            i = params.read_one(i, token)?;
        }
    }

    /// `name EQUAL value *( COMMA name EQUAL value )` of credentials, up to the end of the input.
    pub(super) fn of_credentials(mut i: &[u8]) -> Read<'_, Params> {
        let mut params = Params::for_octets(i.len());
        loop {
            i = params.read_one(i, token)?;
            i = blanks(i)?.0;
            if i.is_empty() {
                return Ok((i, params));
            }
            i = separator(b',')(i)?.0;
        }
    }

    /// `*( ";" name [ "=" value ] )` of a URI, where no blank may stand.
    pub(super) fn of_uri(mut i: &[u8]) -> Read<'_, Params> {
        let mut params = Params::for_octets(i.len());
        while let [b';', rest @ ..] = i {
            let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
            let (one, next) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            let (name, value) = match memchr::memchr(b'=', one) {
                Some(at) => (one.get(..at).unwrap_or_default(), one.get(at + 1..)),
                None => (one, None),
            };
            if name.is_empty() || value.is_some_and(<[u8]>::is_empty) {
                return no(i);
            }
            params.add_read(i, name, value)?;
            i = next;
        }
        if i.is_empty() { Ok((i, params)) } else { no(i) }
    }

    fn read_one<'a>(
        &mut self,
        i: &'a [u8],
        name: impl Fn(&'a [u8]) -> Read<'a, &'a [u8]>,
    ) -> Result<&'a [u8], nom::Err<nom::error::Error<&'a [u8]>>> {
        let (rest, name) = name(i)?;
        let (rest, value) = match separator(b'=')(rest) {
            Ok((rest, ())) => {
                let (rest, value) = value(rest)?;
                (rest, Some(value))
            }
            Err(_) => (rest, None),
        };
        self.add_read(i, name, value)?;
        Ok(rest)
    }
}

/// A quoted string, or visible octets up to the next separator. Wider than the grammar's token
/// and host, because phones write `/`, `=` and `:` into branches and tags.
fn value(i: &[u8]) -> Read<'_, &[u8]> {
    if i.first() == Some(&b'"') {
        return quoted(i);
    }
    nom::bytes::complete::take_while1(|o: u8| o > b' ' && o != 0x7f && !b";,\"<>".contains(&o))(i)
}

/// Up to the next semicolon outside quotes.
fn end_of_one(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr2(b';', b'"', text.get(at..).unwrap_or_default()) {
        at += found;
        if text.get(at) == Some(&b';') {
            return at;
        }
        at += 1;
        at += end_of_quoted(text.get(at..).unwrap_or_default());
    }
    text.len()
}

/// Up to behind the quote that closes a string.
fn end_of_quoted(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += found + 1;
        if text.get(at - 1) == Some(&b'"') {
            return at;
        }
        // What follows a backslash means nothing.
        at += 1;
    }
    text.len()
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
