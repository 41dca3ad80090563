//! The rules that several headers share (RFC 3261 §25.1), over octets.

use std::borrow::Cow;

use nom::bytes::complete::{take_while, take_while1};
use nom::error::{Error, ErrorKind};
use nom::{Err, IResult};

/// A rule's answer: what is left, and what was read.
pub(super) type Read<'a, T> = IResult<&'a [u8], T>;

/// A rule did not match at `at`.
pub(super) fn no<T>(at: &[u8]) -> Read<'_, T> {
    Err(Err::Error(Error::new(at, ErrorKind::Verify)))
}

const fn token_table() -> [bool; 256] {
    let mut table = [false; 256];
    let marks = b"-.!%*_+`'~";
    let mut i = 0;
    while i < 256 {
        table[i] = (i as u8).is_ascii_alphanumeric();
        i += 1;
    }
    i = 0;
    while i < marks.len() {
        table[marks[i] as usize] = true;
        i += 1;
    }
    table
}

static TOKEN: [bool; 256] = token_table();

/// Whether the octet may stand in a token.
pub(super) fn is_token_octet(octet: u8) -> bool {
    TOKEN.get(usize::from(octet)).copied().unwrap_or(false)
}

/// Whether the octets are a token: at least one letter, digit or ``-.!%*_+`'~``.
pub(super) fn is_token(octets: &[u8]) -> bool {
    !octets.is_empty() && octets.iter().all(|&o| is_token_octet(o))
}

/// A blank inside a line; folding has become blanks before any rule runs.
pub(super) fn is_blank(octet: u8) -> bool {
    octet == b' ' || octet == b'\t'
}

/// Whether there is a control character other than HTAB; DEL is one.
pub(super) fn has_control(octets: &[u8]) -> bool {
    count_control(octets) != 0
}

/// How many control characters there are, HTAB apart. Without branches and with a narrow sum per
/// chunk, so that it runs in vectors: every head passes through here.
pub(super) fn count_control(octets: &[u8]) -> usize {
    let one = |o: u8| u8::from((o < b' ') & (o != b'\t')) | u8::from(o == 0x7f);
    octets.chunks(128).map(|c| usize::from(c.iter().fold(0u8, |n, &o| n + one(o)))).sum()
}

/// Without the blanks in front.
pub(super) fn skip_blanks(mut octets: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = octets {
        octets = rest;
    }
    octets
}

/// Without the blanks at both ends.
pub(super) fn trim(octets: &[u8]) -> &[u8] {
    let mut octets = skip_blanks(octets);
    while let [rest @ .., b' ' | b'\t'] = octets {
        octets = rest;
    }
    octets
}

/// Any number of blanks.
pub(super) fn blanks(i: &[u8]) -> Read<'_, &[u8]> {
    take_while(is_blank)(i)
}

/// A token.
pub(super) fn token(i: &[u8]) -> Read<'_, &[u8]> {
    take_while1(is_token_octet)(i)
}

/// One octet with optional blanks on both sides (SEMI, COMMA, SLASH, EQUAL, COLON).
pub(super) fn separator<'a>(octet: u8) -> impl Fn(&'a [u8]) -> Read<'a, ()> {
    move |i: &'a [u8]| {
        let (rest, _) = blanks(i)?;
        match rest {
            [first, rest @ ..] if *first == octet => Ok((blanks(rest)?.0, ())),
            _ => no(i),
        }
    }
}

/// A quoted string, quotes included; a backslash takes the next octet along.
pub(super) fn quoted(i: &[u8]) -> Read<'_, &[u8]> {
    let [b'"', inner @ ..] = i else { return no(i) };
    let mut escaped = false;
    for (at, &octet) in inner.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => {
                let (read, rest) = i.split_at_checked(at + 2).unwrap_or((i, &[]));
                return Ok((rest, read));
            }
            _ => {}
        }
    }
    no(i)
}

/// The text of a quoted string without quotes and backslashes; anything else as it is.
pub(super) fn unquote(spelled: &str) -> Cow<'_, str> {
    let Some(inner) = spelled.strip_prefix('"').and_then(|s| s.strip_suffix('"')) else {
        return Cow::Borrowed(spelled);
    };
    if !inner.contains('\\') {
        return Cow::Borrowed(inner);
    }
    let mut text = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    Cow::Owned(text)
}

/// The text as a quoted string; what a quoted string cannot hold becomes a blank.
pub(super) fn quote(text: &str) -> String {
    let mut spelled = String::with_capacity(text.len() + 2);
    spelled.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => spelled.extend(['\\', c]),
            c if c.is_ascii_control() => spelled.push(' '),
            c => spelled.push(c),
        }
    }
    spelled.push('"');
    spelled
}

/// Decimal digits alone, no sign; `None` when empty, anything else, or too large.
pub(super) fn digits<T: std::str::FromStr>(octets: &[u8]) -> Option<T> {
    if octets.is_empty() || !octets.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(octets).ok()?.parse().ok()
}

/// The values of a comma-separated list: commas inside quotes and `<>` do not count.
pub(super) fn elements(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        loop {
            let line = rest.take()?;
            let cut = comma(line);
            let element = match cut {
                Some(at) => {
                    rest = line.get(at + 1..);
                    line.get(..at).unwrap_or_default()
                }
                None => line,
            };
            let element = trim(element);
            if !element.is_empty() {
                return Some(element);
            }
        }
    })
}

fn comma(line: &[u8]) -> Option<usize> {
    memchr::memchr(b',', line)?;
    let (mut quoted, mut escaped, mut angle) = (false, false, false);
    for (at, &octet) in line.iter().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if !angle => quoted = !quoted,
            _ if quoted => {}
            b'<' => angle = true,
            b'>' => angle = false,
            b',' if !angle => return Some(at),
            _ => {}
        }
    }
    None
}
