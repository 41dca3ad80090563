//! From a TOML document to a [`Config`]: what each key means and what is wrong with it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use toml::de::DeTable;

use crate::base::limits;
use crate::base::pii::Pii;
use crate::service::account::check_name;
use crate::syntax::sip::Uri;

use super::listen::listeners;
use super::mistake::nearest;
use super::table::{At, Notes, Section};
use super::{Algorithm, Config, ConfigAccount, DATA_DEFAULT, DEV_PASSWORD, Domain, Reading};

const TOP: &[&str] = &["data", "domain", "listen", "peer", "account", "auth", "delivery", "limits"];
const DOMAIN: &[&str] = &["name", "aliases"];
const LISTEN: &[&str] = &["sip", "msrp", "http"];
const PEER: &[&str] = &["domain", "address", "trusted", "secret"];
const ACCOUNT: &[&str] = &["uri", "password", "password_file", "credit", "algorithms"];
const AUTH: &[&str] = &["algorithms"];
const DELIVERY: &[&str] = &["udp_bytes_max"];
const LIMITS: &[&str] = &["messages_per_second", "messages_burst"];
const ALL: &[(&str, &[&str])] = &[
    ("", TOP),
    ("domain", DOMAIN),
    ("listen", LISTEN),
    ("account", ACCOUNT),
    ("peer", PEER),
    ("auth", AUTH),
    ("delivery", DELIVERY),
    ("limits", LIMITS),
];

/// Passwords that stand in examples, ours and other people's.
const EXAMPLE_PASSWORDS: &[&str] =
    &[DEV_PASSWORD, "password", "passwd", "changeme", "change-me", "example", "1234", "12345"];

type File<'a> = &'a dyn Fn(&Path) -> std::io::Result<String>;

pub(super) fn read(text: &str, env: &dyn Fn(&str) -> Option<String>, file: File<'_>) -> Reading {
    let mut notes = Notes::new(text, env);
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let line = error.span().map_or(1, |span| notes.line(&span));
        notes.mistake(line, "", error.message(), "correct the TOML of this line");
    }
    let top = Section::top(document.get_ref());
    notes.unknown(&top, TOP, ALL);
    let data = data(&mut notes, &top);
    let domains = domains(&mut notes, &top);
    let listen = notes.table(&top, "listen");
    notes.unknown(&listen, LISTEN, ALL);
    let sip = listeners(&mut notes, &listen);
    peers(&mut notes, &top);
    let open = sip.iter().any(|(_, address)| !address.ip().is_loopback());
    let accounts = accounts(&mut notes, &top, &domains, open, file);

    let auth = notes.table(&top, "auth");
    notes.unknown(&auth, AUTH, ALL);
    let algorithms = algorithms(&mut notes, &auth).unwrap_or_else(|| vec![Algorithm::Md5]);
    let delivery = notes.table(&top, "delivery");
    notes.unknown(&delivery, DELIVERY, ALL);
    let udp_bytes_max = notes.number(&delivery, "udp_bytes_max", 200..=65_000);
    let rates = notes.table(&top, "limits");
    notes.unknown(&rates, LIMITS, ALL);
    let per_second = notes.number(&rates, "messages_per_second", 1..=1_000_000);
    let burst = notes.number(&rates, "messages_burst", 1..=1_000_000);

    let Notes { mut mistakes, mut warnings, .. } = notes;
    mistakes.sort_by_key(|mistake| mistake.line);
    warnings.sort_by_key(|warning| warning.line);
    let config = mistakes.is_empty().then(|| Config {
        data: data.clone().unwrap_or_else(|| PathBuf::from(DATA_DEFAULT)),
        domains,
        sip,
        accounts,
        algorithms,
        udp_bytes_max: udp_bytes_max
            .and_then(|octets| usize::try_from(octets).ok())
            .unwrap_or(limits::UDP_REQUEST_OCTETS_MAX),
        messages_per_second: per_second.unwrap_or(limits::MESSAGES_PER_SECOND),
        messages_burst: burst.unwrap_or(limits::MESSAGES_BURST),
    });
    Reading { config, data, mistakes, warnings }
}

fn data(notes: &mut Notes<'_>, top: &Section<'_>) -> Option<PathBuf> {
    if !top.has("data") {
        return Some(PathBuf::from(DATA_DEFAULT));
    }
    let data = notes.text(top, "data", DATA_DEFAULT)?;
    if data.value.is_empty() {
        let fix = format!("write data = \"{DATA_DEFAULT}\"");
        notes.mistake(data.line, "data", "is empty", fix);
        return None;
    }
    Some(PathBuf::from(data.value))
}

fn domains(notes: &mut Notes<'_>, top: &Section<'_>) -> Vec<Domain> {
    let sections = notes.tables(top, "domain");
    if sections.is_empty() && top.lacks("domain", TOP) {
        let fix = "write [[domain]] and below it name = \"a.example\"";
        notes.mistake(0, "domain", "no home domain", fix);
    }
    // Each name with the domain it means and its line.
    let mut taken: Vec<(String, String, usize)> = Vec::new();
    let mut domains = Vec::new();
    for section in sections {
        notes.unknown(&section, DOMAIN, ALL);
        let aliases = notes.texts(&section, "aliases", "127.0.0.1");
        let Some(name) = notes.text(&section, "name", "a.example") else {
            if section.lacks("name", DOMAIN) {
                let fix = "write name = \"a.example\"";
                notes.mistake(section.line, "domain.name", "is missing", fix);
            }
            continue;
        };
        let Some(name) = host_of(notes, "domain.name", name) else { continue };
        let mut hosts = Vec::new();
        if claim(notes, &mut taken, "domain.name", &name, &name.value) {
            for alias in aliases.into_iter().flat_map(|list| list.value) {
                let Some(alias) = host_of(notes, "domain.aliases", alias) else { continue };
                if claim(notes, &mut taken, "domain.aliases", &alias, &name.value) {
                    hosts.push(alias.value);
                }
            }
        }
        domains.push(Domain { name: name.value, aliases: hosts });
    }
    domains
}

/// Takes a host for a domain; false where it is taken already.
fn claim(
    notes: &mut Notes<'_>,
    taken: &mut Vec<(String, String, usize)>,
    key: &str,
    host: &At<String>,
    domain: &str,
) -> bool {
    if let Some((_, owner, line)) = taken.iter().find(|(name, ..)| *name == host.value) {
        let what = format!("`{}` already means {owner} (line {line})", host.value);
        notes.mistake(host.line, key, what, "write it in one place only");
        return false;
    }
    taken.push((host.value.clone(), domain.to_owned(), host.line));
    true
}

/// A host as we compare it: lower-case name, or an IP address without brackets.
fn host_of(notes: &mut Notes<'_>, key: &str, text: At<String>) -> Option<At<String>> {
    let At { line, value } = text;
    let bare = value.strip_prefix('[').and_then(|v| v.strip_suffix(']')).unwrap_or(&value);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Some(At { line, value: address.to_string() });
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if value.len() <= 253 && value.split('.').all(label) {
        return Some(At { line, value: value.to_ascii_lowercase() });
    }
    let name = value.rsplit(['@', '/']).next().unwrap_or_default();
    let name = name.split(':').find(|part| *part != "sip").unwrap_or_default();
    let fix = if !name.is_empty() && name != value && name.split('.').all(label) {
        format!("write \"{name}\"")
    } else {
        "write a name like \"a.example\" or an IP address".to_owned()
    };
    notes.mistake(line, key, format!("`{value}` is not a host"), fix);
    None
}

fn peers(notes: &mut Notes<'_>, top: &Section<'_>) {
    for section in notes.tables(top, "peer") {
        notes.unknown(&section, PEER, ALL);
        notes.text(&section, "domain", "b.example");
        notes.text(&section, "address", "sip:127.0.0.1:5070;transport=tcp");
        notes.text(&section, "secret", "between a and b");
        notes.truth(&section, "trusted");
    }
    notes.ignored(top, "peer");
}

/// The algorithms of `section`, if it names any.
fn algorithms(notes: &mut Notes<'_>, section: &Section<'_>) -> Option<Vec<Algorithm>> {
    let key = section.path("algorithms");
    let texts = notes.texts(section, "algorithms", "MD5")?;
    if texts.value.is_empty() {
        notes.mistake(texts.line, &key, "is empty", "write algorithms = [\"MD5\"]");
    }
    let mut found = Vec::new();
    for text in texts.value {
        let name = text.value.to_ascii_uppercase().replace('_', "-");
        let algorithm = match name.as_str() {
            "MD5" => Some(Algorithm::Md5),
            "SHA-256" | "SHA256" => Some(Algorithm::Sha256),
            _ => None,
        };
        let wrong = match algorithm {
            None => Some(("is not in this version", "write \"MD5\" or \"SHA-256\"".to_owned())),
            Some(known) if known.as_str() != text.value => {
                Some(("is not how it is spelled", format!("write \"{known}\"")))
            }
            Some(known) if found.contains(&known) => {
                Some(("is there twice", "remove one of them".to_owned()))
            }
            Some(known) => {
                found.push(known);
                None
            }
        };
        if let Some((what, fix)) = wrong {
            notes.mistake(text.line, &key, format!("`{}` {what}", text.value), fix);
        }
    }
    Some(found)
}

fn accounts(
    notes: &mut Notes<'_>,
    top: &Section<'_>,
    domains: &[Domain],
    open: bool,
    file: File<'_>,
) -> Vec<ConfigAccount> {
    let mut accounts: Vec<ConfigAccount> = Vec::new();
    let mut lines: HashMap<String, usize> = HashMap::new();
    for section in notes.tables(top, "account") {
        notes.unknown(&section, ACCOUNT, ALL);
        notes.number(&section, "credit", 0..=u32::MAX);
        notes.ignored(&section, "credit");
        let own = algorithms(notes, &section).unwrap_or_default();
        let password = password(notes, &section, file);
        let Some(uri) = notes.text(&section, "uri", "sip:alice@a.example") else {
            if section.lacks("uri", ACCOUNT) {
                let fix = "write uri = \"sip:alice@a.example\"";
                notes.mistake(section.line, "account.uri", "is missing", fix);
            }
            continue;
        };
        let line = uri.line;
        let uri = match account_uri(&uri.value, domains) {
            Ok(uri) => uri,
            Err((what, fix)) => {
                notes.mistake(line, "account.uri", format!("`{}` {what}", uri.value), fix);
                continue;
            }
        };
        if let Some(first) = lines.get(&uri) {
            let what = format!("`{uri}` is there already (line {first})");
            notes.mistake(line, "account.uri", what, "remove one of them");
            continue;
        }
        let Some(password) = password else { continue };
        lines.insert(uri.clone(), line);
        if open && is_example(&password.value, &uri) {
            notes.mistake(
                password.line,
                "account.password",
                "is an example that everybody knows, and a listener is not on loopback",
                "write another password, or listen on 127.0.0.1 only",
            );
        }
        let password = Pii(password.value);
        accounts.push(ConfigAccount { uri, password, algorithms: own });
    }
    accounts
}

fn is_example(password: &str, uri: &str) -> bool {
    let user = uri.strip_prefix("sip:").and_then(|rest| rest.split('@').next()).unwrap_or_default();
    EXAMPLE_PASSWORDS.contains(&password) || password == user
}

fn password(notes: &mut Notes<'_>, section: &Section<'_>, file: File<'_>) -> Option<At<String>> {
    let here = notes.text(section, "password", "river-4821");
    let path = notes.text(section, "password_file", "/etc/cpmd/alice.password");
    let (key, password) = match (section.has("password"), section.has("password_file")) {
        (true, true) => {
            let line = path.or(here).map_or(section.line, |text| text.line);
            let what = "stands beside password";
            notes.mistake(line, "account.password_file", what, "remove one of the two");
            return None;
        }
        (false, false) => {
            if ["password", "password_file"].iter().all(|key| section.lacks(key, ACCOUNT)) {
                let fix = "write password = \"...\" or password_file = \"FILE\"";
                notes.mistake(section.line, "account.password", "is missing", fix);
            }
            return None;
        }
        (true, false) => ("account.password", here?),
        (false, true) => {
            let At { line, value: path } = path?;
            match file(Path::new(&path)) {
                Ok(text) => {
                    let value = text.lines().next().unwrap_or_default().to_owned();
                    ("account.password_file", At { line, value })
                }
                Err(error) => {
                    let fix = format!("make {path} readable for the user that runs cpmd");
                    notes.mistake(line, "account.password_file", format!("{path}: {error}"), fix);
                    return None;
                }
            }
        }
    };
    if password.value.is_empty() {
        notes.mistake(password.line, key, "is empty", "choose a password");
        return None;
    }
    Some(password)
}

/// `sip:user@domain` as it is kept; the error is (what, fix).
fn account_uri(text: &str, domains: &[Domain]) -> Result<String, (String, String)> {
    let shape = || "write \"sip:user@domain\", with a home domain".to_owned();
    let rest = match text.split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("sip") => rest,
        _ if text.contains('@') && !text.contains(':') => {
            return Err(("has no scheme".to_owned(), format!("write \"sip:{text}\"")));
        }
        _ => return Err(("is not a SIP address".to_owned(), shape())),
    };
    let Some((user, host)) = rest.split_once('@') else {
        return Err(("has no user".to_owned(), shape()));
    };
    check_name(user).map_err(|(what, fix)| (what, fix.to_owned()))?;
    let host = host.to_ascii_lowercase();
    if domains.iter().any(|domain| domain.name == host) {
        // As the rest of the program compares it.
        let uri = Uri::parse(format!("sip:{user}@{host}").as_bytes()).ok();
        return uri
            .and_then(|uri| uri.aor())
            .ok_or_else(|| ("is not a SIP address".to_owned(), shape()));
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let alias = |domain: &&Domain| domain.aliases.iter().any(|alias| alias == bare);
    let near = || nearest(&host, domains.iter().map(|domain| domain.name.as_str()));
    let fix = if let Some(domain) = domains.iter().find(alias) {
        format!("write \"sip:{user}@{}\"", domain.name)
    } else if let Some(name) = near() {
        format!("write \"sip:{user}@{name}\", or add [[domain]] with name = \"{host}\"")
    } else {
        format!("add [[domain]] with name = \"{host}\", or use one of the home domains")
    };
    Err(("is not at a home domain".to_owned(), fix))
}
