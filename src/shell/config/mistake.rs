//! What is wrong in a configuration, told so that the reader knows what to type.

use std::fmt;

use serde::Serialize;

/// One mistake (or one warning) in a configuration file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mistake {
    /// Line in the file, from 1; 0 where no line is to blame.
    pub line: usize,
    /// The key, with its table in front: `listen.sip`.
    pub key: String,
    /// What is wrong.
    pub what: String,
    /// What to type.
    pub fix: String,
}

impl fmt::Display for Mistake {
    /// `line 3: listen.spi: unknown key; write `sip``
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}; {}", self.what, self.fix)
    }
}

/// The name in `valid` that `word` was probably meant to be: at most a third of it mistyped.
#[must_use]
pub fn nearest<'a>(word: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_ascii_lowercase();
    valid
        .into_iter()
        .map(|name| (distance(&word, name), name))
        .filter(|(d, name)| *d <= (name.chars().count().max(3) / 3).min(3))
        .min_by_key(|(d, _)| *d)
        .map(|(_, name)| name)
}

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let cell = |row: &[usize], at: usize| row.get(at).copied().unwrap_or(usize::MAX / 2);
    // Three rows of the table: a swap looks two rows back.
    let mut older: Vec<usize> = Vec::new();
    let mut old: Vec<usize> = (0..=b.len()).collect();
    let mut above = None;
    for (i, x) in a.chars().take(64).enumerate() {
        let mut row = vec![i + 1];
        let mut before = None;
        for (j, y) in b.iter().copied().enumerate() {
            let changed = cell(&old, j) + usize::from(x != y);
            let mut best = changed.min(cell(&old, j + 1) + 1).min(cell(&row, j) + 1);
            if above == Some(y) && before == Some(x) {
                best = best.min(cell(&older, j.saturating_sub(1)) + 1);
            }
            row.push(best);
            before = Some(y);
        }
        older = std::mem::replace(&mut old, row);
        above = Some(x);
    }
    old.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_the_one_that_was_meant() {
        let keys = ["uri", "password", "password_file", "credit", "algorithms"];
        for (typed, meant) in [
            ("pasword", Some("password")),
            ("Password", Some("password")),
            ("passwrod", Some("password")),
            ("passwordfile", Some("password_file")),
            ("url", Some("uri")),
            ("algorithm", Some("algorithms")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, keys), meant, "{typed}");
        }
    }

    #[test]
    fn distances() {
        for (a, b, d) in
            [("", "abc", 3), ("abc", "abc", 0), ("ab", "ba", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(a, b), d, "{a} {b}");
        }
    }
}
