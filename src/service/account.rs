//! Home domains and the accounts in them: who can be served at all.

use crate::base::hash::{md5_joined, sha256_joined};
use crate::base::limits;
use crate::service::record::AccountPut;
use crate::syntax::sip::{Host, Uri};

/// One home domain and the other names by which phones may call it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Domain {
    /// Its name, lower case; the realm of its accounts.
    pub name: String,
    /// Host names or addresses that mean the same domain, lower case.
    pub aliases: Vec<String>,
}

/// All home domains.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Domains(pub Vec<Domain>);

impl Domains {
    /// The name of the home domain that `host` means, if it means one.
    #[must_use]
    pub fn home(&self, host: &str) -> Option<&str> {
        let is = |name: &String| name.eq_ignore_ascii_case(host);
        self.0.iter().find(|d| is(&d.name) || d.aliases.iter().any(is)).map(|d| d.name.as_str())
    }

    /// The address of record that `uri` means, with the domain's own name in place of an alias:
    /// `sip:user@domain`. `None` if the domain is not ours or no user is named.
    #[must_use]
    pub fn aor(&self, uri: &Uri) -> Option<String> {
        if !uri.scheme.is_sip() {
            return None;
        }
        let home = match &uri.host {
            Host::Name(name) => self.home(name.strip_suffix('.').unwrap_or(name))?,
            address => self.home(&address.to_string())?,
        };
        uri.aor_at(home)
    }
}

/// The user part and the domain of an address of record.
#[must_use]
pub fn split(aor: &str) -> (&str, &str) {
    let bare = aor.strip_prefix("sip:").unwrap_or(aor);
    bare.rsplit_once('@').unwrap_or((bare, ""))
}

/// Whether a new account may have this user part: RFC 3261 §25.1 `user` without escapes, an address
/// that people can type on a phone.
///
/// # Errors
/// What is wrong with it, and what to do.
pub fn check_name(user: &str) -> Result<(), (String, &'static str)> {
    let typable = |octet: u8| octet.is_ascii_alphanumeric() || b"-_.!~*'()&=+$".contains(&octet);
    let fix = "use letters, digits, and - _ . +, 64 at most";
    if user.len() > limits::ACCOUNT_NAME_OCTETS_MAX {
        return Err((format!("has a user part of {} octets", user.len()), fix));
    }
    if user.is_empty() || !user.bytes().all(typable) {
        return Err((format!("has a user part `{user}` that phones cannot type"), fix));
    }
    // RFC 3261 has no such name; in CPM use it is the service that moves a session here.
    if user == "pull" {
        return Err(("is a reserved name".to_owned(), "choose another user"));
    }
    Ok(())
}

/// What is kept of a password: the hashes that digest needs (RFC 7616 §3.4.2).
#[must_use]
pub fn credentials(aor: &str, password: &str, sha256_only: bool) -> AccountPut {
    let (user, realm) = split(aor);
    let a1 = [user, realm, password];
    AccountPut { ha1_md5: md5_joined(&a1), ha1_sha256: sha256_joined(&a1), sha256_only }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn homes() -> Domains {
        Domains(vec![
            Domain { name: "a.example".into(), aliases: vec!["127.0.0.1".into()] },
            Domain { name: "b.example".into(), aliases: vec![] },
        ])
    }

    #[test]
    fn an_alias_means_the_domain() {
        for (uri, aor) in [
            ("sip:alice@127.0.0.1:5060;transport=udp", Some("sip:alice@a.example")),
            ("sip:alice@A.EXAMPLE", Some("sip:alice@a.example")),
            ("sips:bob@b.example", Some("sip:bob@b.example")),
            ("sip:bob@c.example", None),
            ("sip:a.example", None),
            ("tel:+15551234567", None),
        ] {
            let read = Uri::parse(uri.as_bytes()).expect("a URI");
            assert_eq!(homes().aor(&read).as_deref(), aor, "{uri}");
        }
    }

    #[test]
    fn the_realm_is_the_domain() {
        let kept = credentials("sip:alice@a.example", "secret", false);
        assert_eq!(kept.ha1_md5, md5_joined(&["alice", "a.example", "secret"]));
    }
}
