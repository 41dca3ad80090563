//! The rules of the house, checked by reading the source: floors, who may call whom, what must not
//! be written where, sizes, and a map that is in step. docs/STYLE.md says why.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// One Rust file.
struct File {
    /// `src/service/tu.rs`.
    path: String,
    /// All of it.
    text: String,
    /// Without comments, and without the tests at its end.
    code: String,
}

impl File {
    /// `service` for `src/service/tu.rs`; empty for files that belong to no floor.
    fn floor(&self) -> &str {
        let rest = self.path.strip_prefix("src/").unwrap_or_default();
        rest.split_once('/').map_or("", |(floor, _)| floor)
    }

    fn is_test(&self) -> bool {
        !self.path.starts_with("src/")
            || self.path.ends_with("/tests.rs")
            || self.path.contains("/tests/")
            || TEST_FILES.contains(&self.path.as_str())
    }
}

/// Files of the program that are compiled for tests alone and are not called so.
const TEST_FILES: &[&str] = &["src/stack/transaction/table.rs", "src/syntax/sip/wall.rs"];

/// Which floors a floor may use.
const FLOORS: &[(&str, &[&str])] = &[
    ("base", &["base"]),
    ("syntax", &["base", "syntax"]),
    ("stack", &["base", "syntax", "stack"]),
    ("service", &["base", "syntax", "stack", "service"]),
    ("node", &["base", "syntax", "stack", "service", "node"]),
    ("ua", &["base", "syntax", "stack", "ua"]),
];

/// Which packages a floor may use, beside what the floors below it may.
const PACKAGES: &[(&str, &[&str])] = &[
    ("base", &["bytes", "serde", "hmac", "md5", "sha2", "rand_chacha"]),
    ("syntax", &["bytes", "nom", "memchr", "quick_xml", "flate2", "smallvec", "thiserror"]),
    ("stack", &["bytes", "smallvec"]),
    ("service", &["bytes", "serde", "postcard", "crc32fast", "thiserror", "subtle"]),
    ("node", &["bytes"]),
    ("ua", &["bytes", "memchr"]),
];

/// What only the shell may name.
const SHELL_ALONE: &[&str] = &[
    "tokio",
    "async",
    "await",
    "std::thread",
    "std::fs",
    "std::process",
    "std::env",
    "UdpSocket",
    "TcpStream",
    "TcpListener",
    "Instant",
    "SystemTime",
    "Mutex",
    "RwLock",
    "println",
    "eprintln",
];

/// Which service may call which. What goes the other way goes as an act through the node. `tu` is
/// the contract: everybody uses it, and it names the rooms whose tables it holds.
const SERVICES: &[(&str, &[&str])] = &[
    ("account", &["record"]),
    (
        "delivery",
        &["disposition", "feature", "form", "lane", "location", "log", "passage", "record"],
    ),
    ("digest", &["account", "record"]),
    ("disposition", &["account", "feature", "log", "mailbox", "passage", "policy", "record"]),
    ("feature", &[]),
    ("form", &["feature", "location", "record"]),
    ("lane", &["form", "record"]),
    ("location", &["feature", "record"]),
    ("mailbox", &["lane", "record"]),
    ("log", &["record"]),
    ("message", &["delivery", "disposition", "feature", "log", "mailbox", "policy", "record"]),
    ("passage", &["record"]),
    ("policy", &[]),
    ("record", &[]),
    ("registrar", &["location", "log", "policy", "record"]),
];

#[test]
fn a_floor_uses_only_the_floors_below_it() {
    let mut wrong = Vec::new();
    for file in program().iter().filter(|f| !f.is_test()) {
        let Some((_, allowed)) = FLOORS.iter().find(|(floor, _)| *floor == file.floor()) else {
            continue;
        };
        for used in after(&file.code, "crate::") {
            let is_floor = FLOORS.iter().any(|(f, _)| *f == used) || used == "shell";
            if is_floor && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", file.path));
            }
        }
    }
    none(&wrong);
}

#[test]
fn a_floor_uses_only_its_packages() {
    let packages = dependencies();
    let mut wrong = Vec::new();
    for file in program().iter().filter(|f| !f.is_test()) {
        let Some((_, allowed)) = PACKAGES.iter().find(|(floor, _)| *floor == file.floor()) else {
            continue;
        };
        for package in packages.iter().filter(|p| !allowed.contains(&p.as_str())) {
            if names(&file.code, package, "::") {
                wrong.push(format!("{} uses {package}", file.path));
            }
        }
    }
    none(&wrong);
}

#[test]
fn only_the_shell_waits_and_touches_the_world() {
    let mut wrong = Vec::new();
    for file in program().iter().filter(|f| !f.is_test()) {
        if file.floor() == "shell" || file.path == "src/main.rs" {
            continue;
        }
        for word in SHELL_ALONE.iter().filter(|word| names(&file.code, word, "")) {
            wrong.push(format!("{} names {word}", file.path));
        }
    }
    none(&wrong);
}

#[test]
fn packages_behind_a_wall_stay_there() {
    let mut wrong = Vec::new();
    for file in program() {
        let in_wall =
            file.path.starts_with("src/syntax/sip/codec") || file.path == "src/syntax/sip/wall.rs";
        if names(&file.code, "rsip", "::") && !in_wall {
            wrong.push(format!("{} names rsip", file.path));
        }
        if names(&file.code, "sled", "::") && file.path != "src/shell/store/sled.rs" {
            let own = file.path.starts_with("src/shell/store/") && file.code.contains("mod sled");
            if !own {
                wrong.push(format!("{} names sled", file.path));
            }
        }
    }
    none(&wrong);
}

#[test]
fn the_token_of_the_store_is_made_where_something_was_stored() {
    let minted = ["src/node/journal.rs", "src/service/log.rs", "src/base/log.rs"];
    let mut wrong = Vec::new();
    for file in program() {
        let store =
            file.path.starts_with("src/shell/store/") || file.path == "sip-tests/sim/disk.rs";
        let word = ["after", "sync"].join("_");
        if names(&file.code, &word, "") && !store && !minted.contains(&file.path.as_str()) {
            wrong.push(file.path);
        }
    }
    none(&wrong);
}

#[test]
fn services_call_one_way() {
    let mut wrong = Vec::new();
    let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in program().iter().filter(|f| f.floor() == "service" && !f.is_test()) {
        let name = file.path.trim_start_matches("src/service/").trim_end_matches(".rs").to_owned();
        let name = name.split('/').next().unwrap_or_default().to_owned();
        let others = after(&file.code, "crate::service::").into_iter();
        let others = others.chain(after(&file.code, "super::")).filter(|other| *other != name);
        used.entry(name.clone()).or_default().extend(others);
    }
    for (name, others) in &used {
        if name == "tu" {
            continue;
        }
        let Some((_, allowed)) = SERVICES.iter().find(|(service, _)| service == name) else {
            wrong.push(format!("{name} is not in the list: say whom it may call"));
            continue;
        };
        for other in others.iter().filter(|o| *o != "tu" && !allowed.contains(&o.as_str())) {
            wrong.push(format!("{name} calls {other}"));
        }
        for other in allowed.iter().filter(|o| !others.contains(**o)) {
            wrong.push(format!("{name} may call {other} and does not: take it off the list"));
        }
    }
    none(&wrong);
    // Nobody is called by those it calls.
    let mut rest: BTreeMap<&str, Vec<&str>> =
        SERVICES.iter().map(|(name, others)| (*name, others.to_vec())).collect();
    while let Some(leaf) = rest.iter().find(|(_, o)| o.is_empty()).map(|(name, _)| *name) {
        rest.remove(leaf);
        rest.values_mut().for_each(|others| others.retain(|o| *o != leaf));
    }
    assert!(rest.is_empty(), "these call each other in a circle: {rest:?}");
}

#[test]
fn nothing_depends_on_the_order_of_a_hash_map() {
    let mut wrong = Vec::new();
    for file in program().iter().filter(|f| !f.is_test()) {
        for name in declared(&file.code, &["HashMap<", "HashSet<", "Map<"]) {
            let looks = [".iter()", ".iter_mut()", ".keys()", ".values()", ".values_mut()"];
            let takes = [".into_iter()", ".into_keys()", ".into_values()", ".drain("];
            for how in looks.iter().chain(&takes) {
                let call = format!("{name}{how}");
                for (number, line) in lines_with(&file.code, &call) {
                    if !excused(&file.code, number, "disallowed_methods") {
                        wrong.push(format!("{}:{number}: {}", file.path, line.trim()));
                    }
                }
            }
        }
    }
    none(&wrong);
}

#[test]
fn nothing_panics_on_purpose() {
    let mut wrong = Vec::new();
    let ways = [".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "unimplemented!("];
    for file in program().iter().filter(|f| !f.is_test()) {
        for way in ways {
            for (number, line) in lines_with(&file.code, way) {
                if !excused(&file.code, number, "clippy::") {
                    wrong.push(format!("{}:{number}: {}", file.path, line.trim()));
                }
            }
        }
    }
    none(&wrong);
}

#[test]
fn every_file_says_what_it_is_and_can_be_read_at_once() {
    let mut wrong = Vec::new();
    for file in program() {
        if !file.text.starts_with("//!") {
            wrong.push(format!("{} does not begin with what it is", file.path));
        }
        let lines = file.text.lines().count();
        if lines > 700 {
            wrong.push(format!("{} has {lines} lines", file.path));
        }
        for (number, line) in file.text.lines().enumerate() {
            let table = line.trim_start().starts_with("//! |");
            let words = line.contains('"');
            if line.chars().count() > 100 && !table && !words {
                wrong.push(format!("{}:{} is wider than 100", file.path, number + 1));
            }
        }
    }
    none(&wrong);
}

#[test]
fn every_file_belongs_to_the_program_and_is_on_the_map() {
    let files = program();
    let mut wrong = Vec::new();
    let map = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap_or_default();
    for file in &files {
        let stem = file.path.trim_end_matches("/mod.rs").trim_end_matches(".rs");
        let name = stem.rsplit('/').next().unwrap_or_default();
        let crate_root = ["lib", "main"].contains(&name) || root_of_a_test(&file.path);
        let named = |f: &File| names(&f.text, &format!("mod {name}"), "");
        if !crate_root && !files.iter().any(named) {
            wrong.push(format!("{} belongs to nothing", file.path));
        }
        if !map.is_empty() && !map.contains(&format!("`{}`", file.path)) {
            wrong.push(format!("{} is not in docs/ARCHITECTURE.md", file.path));
        }
    }
    for (place, _) in map.match_indices("| `") {
        let path = map[place + 3..].split('`').next().unwrap_or_default();
        if path.ends_with(".rs") && !files.iter().any(|f| f.path == path) {
            wrong.push(format!("docs/ARCHITECTURE.md names {path}, which is not there"));
        }
    }
    none(&wrong);
}

#[test]
fn every_limit_is_used() {
    let files = program();
    let limits = files.iter().find(|f| f.path == "src/base/limits.rs").expect("the limits");
    let mut wrong = Vec::new();
    for line in limits.text.lines() {
        let Some(rest) = line.strip_prefix("pub const ") else { continue };
        let name = rest.split(':').next().unwrap_or_default();
        let users = files.iter().filter(|f| f.path != limits.path && !f.is_test());
        let own = limits.code.matches(name).count() > 1;
        if !own && !users.into_iter().any(|f| names(&f.code, name, "")) {
            wrong.push(format!("{name} bounds nothing"));
        }
    }
    none(&wrong);
}

#[test]
fn the_tree_speaks_of_the_program_alone() {
    // Written in two halves, so that this file does not find itself.
    let words = [
        ("/wor", "k/"),
        ("/tmp/", "bash"),
        ("anth", "ropic"),
        ("clau", "de"),
        ("open", "ai"),
        ("chat", "gpt"),
        ("language ", "model"),
        ("sub", "agent"),
        ("as an ", "assistant"),
        ("this ", "session of work"),
    ];
    let mut wrong = Vec::new();
    let mut all = Vec::new();
    for place in ["src", "sip-tests", "docs", "fixtures"] {
        walk(&root().join(place), &mut all);
    }
    for file in ["README.md", "Cargo.toml", ".clippy.toml", ".rustfmt.toml", ".gitignore"] {
        all.push(root().join(file));
    }
    for path in all {
        let Ok(octets) = fs::read(&path) else { continue };
        let text = String::from_utf8_lossy(&octets).to_lowercase();
        for (front, back) in words {
            if text.contains(&format!("{front}{back}")) {
                wrong.push(format!("{} says {front}…", path.display()));
            }
        }
    }
    none(&wrong);
}

// --- reading ----------------------------------------------------------------------------------

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file of the program and its tests.
fn program() -> Vec<File> {
    let mut paths = Vec::new();
    for place in ["src", "sip-tests"] {
        walk(&root().join(place), &mut paths);
    }
    let mut files = Vec::new();
    for path in paths.iter().filter(|p| p.extension().is_some_and(|e| e == "rs")) {
        let text = fs::read_to_string(path).expect("a file of ours reads");
        let path = path.strip_prefix(root()).expect("below the root").display().to_string();
        let code = code(&text);
        files.push(File { path, text, code });
    }
    assert!(files.len() > 50, "the program is somewhere else");
    files
}

fn walk(place: &Path, to: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(place) else { return };
    let mut entries: Vec<PathBuf> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            walk(&path, to);
        } else {
            to.push(path);
        }
    }
}

/// The text without comments and without the tests at its end; lines keep their numbers.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let line = if line.trim_start().starts_with("//") { "" } else { line };
        code.push_str(line.split(" // ").next().unwrap_or_default());
        code.push('\n');
    }
    code
}

/// The names that follow `front`: of `crate::{a, b::c}` both `a` and `b`.
fn after(code: &str, front: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    for (place, _) in code.match_indices(front) {
        let before = code[..place].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &code[place + front.len()..];
        match rest.strip_prefix('{') {
            None => {
                found.insert(word(rest));
            }
            Some(list) => {
                let list = list.split("};").next().unwrap_or_default();
                let mut depth = 0;
                for part in list.split(',') {
                    if depth == 0 {
                        found.insert(word(part));
                    }
                    depth += part.matches('{').count();
                    depth -= part.matches('}').count().min(depth);
                }
            }
        }
    }
    found.remove("");
    found
}

/// Whether `word` stands in the code as a word of its own, followed by `tail`.
fn names(code: &str, word: &str, tail: &str) -> bool {
    code.match_indices(word).any(|(place, _)| {
        let before = code[..place].chars().next_back();
        let behind = &code[place + word.len()..];
        let ends = if tail.is_empty() {
            !behind.starts_with(|c: char| c.is_alphanumeric() || c == '_')
        } else {
            behind.starts_with(tail)
        };
        ends && !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '.')
            || (ends && tail.is_empty() && word.len() > 6 && before == Some(':'))
    })
}

/// Names of fields and variables that are declared with one of these types.
fn declared(code: &str, types: &[&str]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in code.lines() {
        let is_map = types.iter().any(|t| {
            line.match_indices(t)
                .any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        });
        let Some((left, _)) = line.split_once(':').filter(|_| is_map) else { continue };
        let name = left.split_whitespace().next_back().unwrap_or_default();
        if !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_') {
            found.insert(format!(".{name}"));
        }
    }
    found
}

fn lines_with<'a>(code: &'a str, what: &str) -> Vec<(usize, &'a str)> {
    let lines = code.lines().enumerate().map(|(i, line)| (i + 1, line));
    lines.filter(|(_, line)| line.contains(what)).collect()
}

/// Whether an `#[expect(…, reason = …)]` stands shortly before the line, or over the whole file.
fn excused(code: &str, number: usize, lint: &str) -> bool {
    let lines: Vec<&str> = code.lines().collect();
    let near = &lines[number.saturating_sub(7)..number];
    let over = lines.iter().filter(|l| l.starts_with("#![")).any(|l| l.contains(lint));
    let marks = ["#[expect(", "#[cfg(test)]", lint];
    over || near.iter().any(|line| marks.iter().any(|mark| line.contains(mark)))
}

fn dependencies() -> Vec<String> {
    let text = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    let list = text.split("[dependencies]").nth(1).unwrap_or_default();
    let list = list.split("\n[").next().unwrap_or_default();
    let names = list.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim());
    let names =
        names.map(|name| if name == "md-5" { "md5".into() } else { name.replace('-', "_") });
    names.filter(|name| !name.is_empty() && !name.starts_with('#')).collect()
}

fn root_of_a_test(path: &str) -> bool {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    manifest.contains(&format!("path = \"{path}\""))
}

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}
