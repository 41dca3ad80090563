//! Typed access to a TOML document that notes every mistake and goes on.

use std::ops::{Range, RangeInclusive};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::mistake::{Mistake, nearest};

/// A value and the line on which it stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct At<T> {
    /// From 1.
    pub(super) line: usize,
    /// The value.
    pub(super) value: T,
}

/// One table of the document.
#[derive(Clone, Copy)]
pub(super) struct Section<'t> {
    /// Its name; empty for the top.
    pub(super) name: &'static str,
    /// The line on which it starts.
    pub(super) line: usize,
    table: Option<&'t DeTable<'t>>,
}

/// Collects what is wrong.
pub(super) struct Notes<'a> {
    /// Octet at which each line starts.
    starts: Vec<usize>,
    env: &'a dyn Fn(&str) -> Option<String>,
    /// What must be mended.
    pub(super) mistakes: Vec<Mistake>,
    /// What does nothing.
    pub(super) warnings: Vec<Mistake>,
}

impl<'t> Section<'t> {
    /// The top of a document.
    pub(super) fn top(table: &'t DeTable<'t>) -> Section<'t> {
        Section { name: "", line: 1, table: Some(table) }
    }

    /// `table.key`.
    pub(super) fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// Whether `key` is there, of whatever type.
    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether `key` is missing, and no unknown key stands there that was meant to be it: one
    /// mistake is told once.
    pub(super) fn lacks(&self, key: &str, known: &[&'static str]) -> bool {
        let names = self.table.into_iter().flat_map(|table| table.keys());
        let mut unknown = names.filter(|name| !known.contains(&name.get_ref().as_ref()));
        let meant = unknown.any(|name| nearest(name.get_ref(), known.iter().copied()) == Some(key));
        !self.has(key) && !meant
    }

    fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.table.and_then(|table| table.get(key))
    }
}

impl<'a> Notes<'a> {
    /// For this text.
    pub(super) fn new(text: &str, env: &'a dyn Fn(&str) -> Option<String>) -> Notes<'a> {
        let ends = text.bytes().enumerate().filter(|(_, octet)| *octet == b'\n');
        let starts = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Notes { starts, env, mistakes: Vec::new(), warnings: Vec::new() }
    }

    /// Notes a mistake.
    pub(super) fn mistake(
        &mut self,
        line: usize,
        key: impl Into<String>,
        what: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.mistakes.push(Mistake { line, key: key.into(), what: what.into(), fix: fix.into() });
    }

    /// Warns of a key that is accepted and does nothing yet.
    pub(super) fn ignored(&mut self, section: &Section<'_>, key: &str) {
        if let Some(value) = section.get(key) {
            self.warnings.push(Mistake {
                line: self.line(&value.span()),
                key: section.path(key),
                what: "not in this version".to_owned(),
                fix: "ignored".to_owned(),
            });
        }
    }

    /// The line of an octet range, from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.starts.partition_point(|start| *start <= span.start)
    }

    /// Notes each key of `section` that is not in `known`; `all` are the keys of every table, as
    /// (table, keys), to find the table where a misplaced one belongs.
    pub(super) fn unknown(
        &mut self,
        section: &Section<'_>,
        known: &[&'static str],
        all: &[(&'static str, &[&'static str])],
    ) {
        let Some(table) = section.table else { return };
        for (key, _) in table.iter() {
            let name: &str = key.get_ref();
            if known.contains(&name) {
                continue;
            }
            let near = nearest(name, known.iter().copied());
            let home = all.iter().find(|(_, keys)| keys.contains(&name));
            let fix = match (near, home) {
                (Some(near), _) => format!("write `{near}`"),
                (None, Some(("", _))) => {
                    format!("move `{name}` to the top of the file, above the first [table]")
                }
                (None, Some((table, _))) => format!("move `{name}` below [{table}]"),
                (None, None) => format!("remove it; known here: {}", known.join(", ")),
            };
            self.mistake(self.line(&key.span()), section.path(name), "unknown key", fix);
        }
    }

    /// The table `key` of the top; an empty one where it is absent or something else.
    pub(super) fn table<'t>(&mut self, top: &Section<'t>, key: &'static str) -> Section<'t> {
        let none = Section { name: key, line: 0, table: None };
        let Some(value) = top.get(key) else { return none };
        let line = self.line(&value.span());
        match value.get_ref() {
            DeValue::Table(table) => Section { name: key, line, table: Some(table) },
            DeValue::Array(_) => {
                self.mistake(line, key, "there is one such table", format!("write [{key}]"));
                none
            }
            other => {
                let what = format!("is {}, not a table", kind(other));
                self.mistake(line, key, what, format!("write [{key}] and its keys below it"));
                none
            }
        }
    }

    /// The tables `[[key]]` of the top.
    pub(super) fn tables<'t>(&mut self, top: &Section<'t>, key: &'static str) -> Vec<Section<'t>> {
        let Some(value) = top.get(key) else { return Vec::new() };
        let fix = format!("write [[{key}]] and its keys below it, once for each");
        let line = self.line(&value.span());
        let DeValue::Array(items) = value.get_ref() else {
            self.mistake(line, key, format!("is {}, not a list", kind(value.get_ref())), fix);
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items.iter() {
            let line = self.line(&item.span());
            match item.get_ref() {
                DeValue::Table(table) => {
                    tables.push(Section { name: key, line, table: Some(table) });
                }
                other => {
                    let what = format!("holds {}, not a table", kind(other));
                    self.mistake(line, key, what, fix.clone());
                }
            }
        }
        tables
    }

    /// A text with its `${NAME}` filled in; `like` is an example.
    pub(super) fn text(
        &mut self,
        section: &Section<'_>,
        key: &str,
        like: &str,
    ) -> Option<At<String>> {
        let value = section.get(key)?;
        self.one_text(section, key, value, &format!("{key} = \"{like}\""))
    }

    /// A list of texts; `like` is an example of one.
    pub(super) fn texts(
        &mut self,
        section: &Section<'_>,
        key: &str,
        like: &str,
    ) -> Option<At<Vec<At<String>>>> {
        let value = section.get(key)?;
        let line = self.line(&value.span());
        let example = format!("{key} = [\"{like}\"]");
        let DeValue::Array(items) = value.get_ref() else {
            let example = match value.get_ref() {
                DeValue::String(text) => format!("{key} = [\"{text}\"]"),
                _ => example,
            };
            let what = format!("is {}, not a list", kind(value.get_ref()));
            self.mistake(line, section.path(key), what, format!("write {example}"));
            return None;
        };
        let texts: Vec<At<String>> =
            items.iter().filter_map(|item| self.one_text(section, key, item, &example)).collect();
        if texts.is_empty() && !items.is_empty() {
            return None;
        }
        Some(At { line, value: texts })
    }

    /// A whole number within `range`.
    pub(super) fn number(
        &mut self,
        section: &Section<'_>,
        key: &str,
        range: RangeInclusive<u32>,
    ) -> Option<u32> {
        let value = section.get(key)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => {
                u32::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
            }
            _ => None,
        };
        if let Some(number) = number.filter(|number| range.contains(number)) {
            return Some(number);
        }
        let what = match value.get_ref() {
            DeValue::Integer(number) => format!("{} is out of range", number.as_str()),
            other => format!("is {}, not a number", kind(other)),
        };
        let fix = format!("write a number from {} to {}", range.start(), range.end());
        self.mistake(self.line(&value.span()), section.path(key), what, fix);
        None
    }

    /// Checks that `key`, if there, is `true` or `false`.
    pub(super) fn truth(&mut self, section: &Section<'_>, key: &str) {
        if let Some(value) = section.get(key)
            && !matches!(value.get_ref(), DeValue::Boolean(_))
        {
            let what = format!("is {}", kind(value.get_ref()));
            let fix = format!("write {key} = true or {key} = false");
            self.mistake(self.line(&value.span()), section.path(key), what, fix);
        }
    }

    fn one_text(
        &mut self,
        section: &Section<'_>,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        example: &str,
    ) -> Option<At<String>> {
        let line = self.line(&value.span());
        let DeValue::String(text) = value.get_ref() else {
            let what = format!("is {}, not a text in quotes", kind(value.get_ref()));
            self.mistake(line, section.path(key), what, format!("write {example}"));
            return None;
        };
        match fill(text, self.env) {
            Ok(value) => Some(At { line, value }),
            Err((what, fix)) => {
                self.mistake(line, section.path(key), what, fix);
                None
            }
        }
    }
}

/// Fills in `${NAME}`; `$${` is a plain `${`. The error is (what, fix).
fn fill(text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, (String, String)> {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = after;
            continue;
        }
        filled.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            return Err((
                "`${` without `}`".to_owned(),
                "write ${NAME}, or $${ for a plain ${".to_owned(),
            ));
        };
        let Some(value) = env(name) else {
            return Err((
                format!("the environment variable {name} is not set"),
                format!("set it before the start: export {name}=..."),
            ));
        };
        filled.push_str(&value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in() {
        let env = |name: &str| (name == "A").then(|| "x${A}".to_owned());
        assert_eq!(fill("1${A}2", &env).as_deref(), Ok("1x${A}2"));
        assert_eq!(fill("$${A}${A}", &env).as_deref(), Ok("${A}x${A}"));
        assert_eq!(fill("5 $ and {}", &env).as_deref(), Ok("5 $ and {}"));
        assert!(fill("${B}", &env).is_err());
        assert!(fill("${A", &env).is_err());
    }
}
