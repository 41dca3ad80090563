//! Seeded mistakes, each with the line, the key and the words that explain it.

use std::io;
use std::path::Path;

use super::*;

fn env(name: &str) -> Option<String> {
    match name {
        "DATA" => Some("/srv/cpmd".to_owned()),
        "BOB" => Some("rain-77".to_owned()),
        _ => None,
    }
}

fn file(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/pw/alice") => Ok("river-4821\nsecond line\n".to_owned()),
        Some("/pw/empty") => Ok("\n".to_owned()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    }
}

fn read(text: &str) -> Reading {
    Config::read(text, &env, &file)
}

#[test]
fn the_default_text_has_no_mistakes_and_says_what_the_defaults_are() {
    let reading = read(default_text());
    assert_eq!(reading.mistakes, []);
    assert_eq!(reading.warnings, []);
    let config = reading.config.unwrap();
    let short = "[[domain]]\nname = \"a.example\"\naliases = [\"127.0.0.1\"]\n\
                 [[account]]\nuri = \"sip:alice@a.example\"\npassword = \"secret\"\n";
    assert_eq!(Some(config), read(short).config);
}

#[test]
fn what_is_commented_out_in_the_default_text_is_accepted_too() {
    let text: String = default_text()
        .lines()
        .filter(|line| !line.contains("password_file"))
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") || rest.starts_with("[[") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let reading = read(&text);
    assert_eq!(reading.mistakes, []);
    let keys: Vec<&str> = reading.warnings.iter().map(|w| w.key.as_str()).collect();
    assert_eq!(keys, ["listen.msrp", "listen.http", "account.credit", "peer"]);
    assert_eq!(reading.config.unwrap().accounts[0].algorithms, [Algorithm::Sha256]);
}

#[test]
fn every_key_arrives() {
    let config = read(
        r#"
        data = "${DATA}/store"
        [[domain]]
        name = "A.Example"
        aliases = ["127.0.0.1", "[::1]", "Phones.A.example"]
        [[domain]]
        name = "b.example"
        [listen]
        sip = ["udp:0.0.0.0:5060", "tcp:[::1]:5070"]
        [[account]]
        uri = "sip:alice@A.example"
        password_file = "/pw/alice"
        algorithms = ["SHA-256", "MD5"]
        [[account]]
        uri = "sip:bob@b.example"
        password = "$${${BOB}"
        [auth]
        algorithms = ["SHA-256"]
        [delivery]
        udp_bytes_max = 65_000
        [limits]
        messages_per_second = 3
        messages_burst = 4
        "#,
    )
    .config
    .unwrap();
    assert_eq!(config.data, Path::new("/srv/cpmd/store"));
    assert_eq!(config.domains[0].name, "a.example");
    assert_eq!(config.domains[0].aliases, ["127.0.0.1", "::1", "phones.a.example"]);
    assert_eq!(config.sip[0], (Protocol::Udp, "0.0.0.0:5060".parse().unwrap()));
    assert_eq!(config.sip[1], (Protocol::Tcp, "[::1]:5070".parse().unwrap()));
    assert_eq!(config.accounts[0].uri, "sip:alice@a.example");
    assert_eq!(config.accounts[0].password.0, "river-4821");
    assert_eq!(config.accounts[0].algorithms, [Algorithm::Sha256, Algorithm::Md5]);
    assert_eq!(config.accounts[1].password.0, "${rain-77");
    assert_eq!(config.algorithms, [Algorithm::Sha256]);
    assert_eq!(
        (config.udp_bytes_max, config.messages_per_second, config.messages_burst),
        (65_000, 3, 4)
    );
    assert!(!format!("{config:?}").contains("river"), "passwords do not print");
}

/// (lines put below a good start, line that is to blame, key, part of what, part of fix)
const SEEDED: &[(&str, usize, &str, &str, &str)] = &[
    ("[listen]\nspi = []", 2, "listen.spi", "unknown", "write `sip`"),
    ("[lsten]\nsip = []", 1, "lsten", "unknown", "write `listen`"),
    ("[auth]\nudp_bytes_max = 9", 2, "auth.udp_bytes_max", "unknown", "below [delivery]"),
    ("[auth]\ndata = 'x'", 2, "auth.data", "unknown", "top of the file"),
    ("[auth]\ncolour = 1", 2, "auth.colour", "unknown", "known here: algorithms"),
    ("[listen]\nsip = 'udp:127.0.0.1:5060'", 2, "listen.sip", "a text, not a list", "sip = ["),
    ("[listen]\nsip = [5060]", 2, "listen.sip", "a number", "udp:127.0.0.1:5060"),
    ("[listen]\nsip = []", 2, "listen.sip", "is empty", "udp:127.0.0.1:5060"),
    (
        "[listen]\nsip = ['127.0.0.1:5060']",
        2,
        "listen.sip",
        "does not say",
        "\"udp:127.0.0.1:5060\"",
    ),
    (
        "[listen]\nsip = ['upd:127.0.0.1:5060']",
        2,
        "listen.sip",
        "unknown transport",
        "\"udp:127.0.0.1:5060\"",
    ),
    ("[listen]\nsip = ['udp:127.0.0.1']", 2, "listen.sip", "no port", "\"udp:127.0.0.1:5060\""),
    ("[listen]\nsip = ['tcp:::1:5070']", 2, "listen.sip", "brackets", "\"tcp:[::1]:5070\""),
    ("[listen]\nsip = ['tcp:[::1]']", 2, "listen.sip", "no port", "\"tcp:[::1]:5060\""),
    (
        "[listen]\nsip = ['udp:localhost:5061']",
        2,
        "listen.sip",
        "not an IP",
        "\"udp:127.0.0.1:5061\"",
    ),
    (
        "[listen]\nsip = ['udp:127.0.0.1:99999']",
        2,
        "listen.sip",
        "not an IP",
        "\"udp:127.0.0.1:5060\"",
    ),
    (
        "[listen]\nsip = [\n'udp:127.0.0.1:1',\n'tls:127.0.0.1:5061']",
        4,
        "listen.sip",
        "not in this version",
        "\"tcp:127.0.0.1:5061\"",
    ),
    (
        "[listen]\nsip = ['wss:127.0.0.1:443', 'udp:127.0.0.1:5060']",
        2,
        "listen.sip",
        "not in this version",
        "remove it",
    ),
    (
        "[listen]\nsip = ['udp:127.0.0.1:5060', 'udp:127.0.0.1:5060']",
        2,
        "listen.sip",
        "same address",
        "change its port",
    ),
    (
        "[listen]\nsip = ['udp:127.0.0.1:5060', 'udp:0.0.0.0:5060']",
        2,
        "listen.sip",
        "same address",
        "change its port",
    ),
    ("[[listen]]\nsip = []", 1, "listen", "one such table", "write [listen]"),
    ("listen = 3", 1, "listen", "a number", "write [listen]"),
    (
        "[[domain]]\nname = 'c.example'\naliases = ['127.0.0.1']",
        3,
        "domain.aliases",
        "already means a.example",
        "one place",
    ),
    ("[[domain]]\nname = 'A.example'", 2, "domain.name", "already means", "one place"),
    ("[[domain]]\nname = 'sip:c.example'", 2, "domain.name", "not a host", "\"c.example\""),
    ("[[domain]]\naliases = []", 1, "domain.name", "missing", "name = "),
    (
        "[[account]]\nuri = 'sip:bob@elsewhere.org'\npassword = 'x'",
        2,
        "account.uri",
        "home domain",
        "add [[domain]]",
    ),
    (
        "[[account]]\nuri = 'sip:bob@a.exmple'\npassword = 'x'",
        2,
        "account.uri",
        "home domain",
        "sip:bob@a.example",
    ),
    (
        "[[account]]\nuri = 'sip:bob@127.0.0.1'\npassword = 'x'",
        2,
        "account.uri",
        "home domain",
        "sip:bob@a.example",
    ),
    (
        "[[account]]\nuri = 'bob@a.example'\npassword = 'x'",
        2,
        "account.uri",
        "scheme",
        "\"sip:bob@a.example\"",
    ),
    (
        "[[account]]\nuri = 'sip:a.example'\npassword = 'x'",
        2,
        "account.uri",
        "no user",
        "sip:user@domain",
    ),
    (
        "[[account]]\nuri = 'sip:b ob@a.example'\npassword = 'x'",
        2,
        "account.uri",
        "cannot type",
        "letters",
    ),
    (
        "[[account]]\nuri = 'sip:pull@a.example'\npassword = 'x'",
        2,
        "account.uri",
        "reserved",
        "another",
    ),
    (
        "[[account]]\nuri = 'sip:alice@a.example'\npassword = 'x'",
        2,
        "account.uri",
        "there already",
        "remove",
    ),
    ("[[account]]\npassword = 'x'", 1, "account.uri", "missing", "sip:alice@a.example"),
    ("[[account]]\nuri = 'sip:bob@a.example'", 1, "account.password", "missing", "password_file"),
    (
        "[[account]]\nuri = 'sip:bob@a.example'\npassword = ''",
        3,
        "account.password",
        "empty",
        "choose",
    ),
    (
        "[[account]]\nuri = 'sip:bob@a.example'\npassword = 'x'\npassword_file = 'y'",
        4,
        "account.password_file",
        "beside",
        "remove one",
    ),
    (
        "[[account]]\nuri = 'sip:bob@a.example'\npassword_file = '/pw/none'",
        3,
        "account.password_file",
        "not found",
        "readable",
    ),
    (
        "[[account]]\nuri = 'sip:bob@a.example'\npassword_file = '/pw/empty'",
        3,
        "account.password_file",
        "empty",
        "choose",
    ),
    (
        "[[account]]\nuri = 'sip:bob@a.example'\npassword = '${NONE}'",
        3,
        "account.password",
        "NONE is not set",
        "export NONE=",
    ),
    (
        "[[account]]\nuri = 'sip:bob@a.example'\npassword = '${BOB'",
        3,
        "account.password",
        "without `}`",
        "$${",
    ),
    (
        "[[account]]\nuri = 'sip:bob@a.example'\npasword = 'x'",
        3,
        "account.pasword",
        "unknown",
        "write `password`",
    ),
    (
        "[[account]]\nuri = 'sip:bob@a.example'\npassword = 'x'\ncredit = 'much'",
        4,
        "account.credit",
        "a text",
        "a number",
    ),
    (
        "[listen]\nsip = ['udp:192.0.2.1:5060']\n[[account]]\nuri = 'sip:bob@a.example'\npassword = 'bob'",
        5,
        "account.password",
        "everybody knows",
        "another password",
    ),
    ("[auth]\nalgorithms = ['md5']", 2, "auth.algorithms", "spelled", "\"MD5\""),
    (
        "[auth]\nalgorithms = ['SHA-512-256']",
        2,
        "auth.algorithms",
        "not in this version",
        "SHA-256",
    ),
    ("[auth]\nalgorithms = []", 2, "auth.algorithms", "empty", "MD5"),
    ("[delivery]\nudp_bytes_max = 70000", 2, "delivery.udp_bytes_max", "out of range", "65000"),
    ("[limits]\nmessages_burst = 0", 2, "limits.messages_burst", "out of range", "from 1"),
    ("[limits]\nmessages_burst = 1.5", 2, "limits.messages_burst", "a number", "from 1"),
    ("[[acount]]\nuri = 'x'", 1, "acount", "unknown", "write `account`"),
    ("[[peer]]\ntrusted = 'yes'", 2, "peer.trusted", "a text", "trusted = true"),
    ("[listen]\nsip = [", 2, "", "", "TOML"),
];

#[test]
fn every_seeded_mistake_is_explained() {
    let start = "[[domain]]\nname = \"a.example\"\naliases = [\"127.0.0.1\"]\n\
                 [[account]]\nuri = \"sip:alice@a.example\"\npassword = \"river-4821\"\n";
    let lines = start.lines().count();
    for (text, line, key, what, fix) in SEEDED {
        // Keys of the top must stand above the tables.
        let (text, line) = if text.starts_with('[') {
            (format!("{start}{text}\n"), lines + line)
        } else {
            (format!("{text}\n{start}"), *line)
        };
        let reading = read(&text);
        assert!(reading.config.is_none(), "accepted: {text}");
        assert!(
            reading.mistakes.iter().any(|mistake| mistake.line == line
                && mistake.key == *key
                && mistake.what.contains(what)
                && mistake.fix.contains(fix)),
            "{text}\nline {line}, {key}: {what}; {fix}\nbut {:#?}",
            reading.mistakes
        );
        assert!(reading.mistakes.len() == 1 || key.is_empty(), "{text}\n{:#?}", reading.mistakes);
    }
}

#[test]
fn all_mistakes_come_in_one_run_and_in_order() {
    let reading = read(
        "datta = 'x'\n[listen]\nsip = ['udp:x']\n[[account]]\nuri = 'x'\n[auth]\nalgorithms = 1\n",
    );
    let found: Vec<_> = reading.mistakes.iter().map(|m| (m.line, m.key.as_str())).collect();
    assert_eq!(
        found,
        [
            (0, "domain"),
            (1, "datta"),
            (3, "listen.sip"),
            (4, "account.password"),
            (5, "account.uri"),
            (7, "auth.algorithms"),
        ]
    );
    assert_eq!(reading.mistakes[1].to_string(), "line 1: datta: unknown key; write `data`");
}

#[test]
fn a_file_with_mistakes_still_says_where_the_data_is() {
    let reading = read("data = '/srv/x'\nnonsense = 1\n");
    assert!(reading.config.is_none());
    assert_eq!(reading.data.as_deref(), Some(Path::new("/srv/x")));
}

#[test]
fn dev_has_two_domains_and_three_accounts_on_loopback() {
    let config = Config::dev("x".into()).with_port(0);
    assert_eq!(config.domains.len(), 2);
    assert_eq!(config.accounts.len(), 3);
    assert!(config.sip.iter().all(|(_, address)| address.ip().is_loopback()));
    assert!(config.sip.iter().all(|(_, address)| address.port() == 0));
}
