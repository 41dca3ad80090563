//! The client's half of digest authentication (RFC 7616, RFC 8760, RFC 3261 §22): reads
//! challenges, picks one, and answers it for as many requests as its nonce lives.

use crate::base::hash::{md5_hex, sha256_hex};
use crate::syntax::sip::{AuthParams, Headers, Name};

/// A hash that we can answer with. The later in this list, the stronger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Algorithm {
    /// `MD5`, which every phone knows, and what an absent parameter means.
    Md5,
    /// `SHA-256` (RFC 8760).
    Sha256,
}

impl Algorithm {
    /// The algorithm with this name in a challenge; `None` for one that we cannot compute.
    #[must_use]
    pub fn of(token: &str) -> Option<Algorithm> {
        if token.eq_ignore_ascii_case("MD5") {
            Some(Algorithm::Md5)
        } else if token.eq_ignore_ascii_case("SHA-256") {
            Some(Algorithm::Sha256)
        } else {
            None
        }
    }

    /// Its name in a header.
    #[must_use]
    pub fn token(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Sha256 => "SHA-256",
        }
    }

    fn hash(self, octets: &[u8]) -> String {
        match self {
            Algorithm::Md5 => md5_hex(octets),
            Algorithm::Sha256 => sha256_hex(octets),
        }
    }
}

/// One challenge of a 401 or 407 that we can answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Challenge {
    /// Whose password is asked for, unquoted.
    pub realm: String,
    /// The server's nonce, unquoted.
    pub nonce: String,
    /// To be sent back as it is.
    pub opaque: Option<String>,
    /// The hash to use.
    pub algorithm: Algorithm,
    /// Whether the server named an algorithm at all; then the answer names it too.
    pub named: bool,
    /// Whether `qop=auth` is offered; without it the answer has the form of RFC 2069.
    pub qop: bool,
    /// The password was right, only the nonce is too old (RFC 7616 §3.3).
    pub stale: bool,
}

impl Challenge {
    /// Reads one value of WWW-Authenticate or Proxy-Authenticate. `None` when it is not digest,
    /// cannot be read, or asks for an algorithm or a quality of protection that we do not know.
    #[must_use]
    pub fn read(value: &[u8]) -> Option<Challenge> {
        let read = AuthParams::parse(value).ok()?;
        if !read.scheme.eq_ignore_ascii_case("Digest") {
            return None;
        }
        let param = |name: &str| read.params.value(name).map(|v| v.to_string());
        let algorithm = param("algorithm");
        let qop = param("qop");
        let offers_auth =
            |list: &str| list.split(',').any(|q| q.trim().eq_ignore_ascii_case("auth"));
        if qop.as_deref().is_some_and(|list| !offers_auth(list)) {
            return None;
        }
        Some(Challenge {
            realm: param("realm")?,
            nonce: param("nonce")?,
            opaque: param("opaque"),
            algorithm: algorithm.as_deref().map_or(Some(Algorithm::Md5), Algorithm::of)?,
            named: algorithm.is_some(),
            qop: qop.is_some(),
            stale: param("stale").is_some_and(|s| s.eq_ignore_ascii_case("true")),
        })
    }

    /// The strongest challenge among the lines `name` of an answer; with `md5_only` only MD5 is
    /// looked at, as older phones do. Among equals the first wins (RFC 8760 §2.4).
    #[must_use]
    pub fn strongest(headers: &Headers, name: Name, md5_only: bool) -> Option<Challenge> {
        let mut best: Option<Challenge> = None;
        for challenge in headers.all(name).filter_map(Challenge::read) {
            if md5_only && challenge.algorithm != Algorithm::Md5 {
                continue;
            }
            if best.as_ref().is_none_or(|b| challenge.algorithm > b.algorithm) {
                best = Some(challenge);
            }
        }
        best
    }
}

/// Credentials for one challenge, good for many requests: the nonce count goes up with each.
#[derive(Clone, Debug)]
pub struct Digest {
    algorithm: Algorithm,
    qop: bool,
    nonce: String,
    cnonce: String,
    ha1: Ha1,
    /// The parameters that stay the same, ready to be written.
    fixed: String,
    count: u32,
}

/// H(user:realm:password): as good as the password, so never printed.
#[derive(Clone)]
struct Ha1(String);

impl std::fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ha1(..)")
    }
}

impl Digest {
    /// Credentials of `user` for `challenge`. `cnonce` is fresh and random.
    #[must_use]
    pub fn new(challenge: &Challenge, user: &str, password: &str, cnonce: String) -> Digest {
        let realm = &challenge.realm;
        let ha1 = challenge.algorithm.hash(format!("{user}:{realm}:{password}").as_bytes());
        let mut fixed = format!("Digest username={}, realm={}", quoted(user), quoted(realm));
        if challenge.named {
            push(&mut fixed, "algorithm", challenge.algorithm.token());
        }
        if let Some(opaque) = &challenge.opaque {
            push(&mut fixed, "opaque", &quoted(opaque));
        }
        Digest {
            algorithm: challenge.algorithm,
            qop: challenge.qop,
            nonce: challenge.nonce.clone(),
            cnonce,
            ha1: Ha1(ha1),
            fixed,
            count: 0,
        }
    }

    /// The value of Authorization or Proxy-Authorization for one more request; `nc` goes up by
    /// one. `uri` is the Request-URI as written in the start line.
    pub fn answer(&mut self, method: &str, uri: &str) -> String {
        self.count = self.count.saturating_add(1);
        let ha2 = self.algorithm.hash([method, ":", uri].concat().as_bytes());
        let (ha1, nonce, cnonce, count) = (&self.ha1.0, &self.nonce, &self.cnonce, self.count);
        let mut value = String::with_capacity(self.fixed.len() + nonce.len() + uri.len() + 220);
        value.push_str(&self.fixed);
        push(&mut value, "nonce", &quoted(nonce));
        push(&mut value, "uri", &quoted(uri));
        let response = if self.qop {
            let count = format!("{count:08x}");
            push(&mut value, "qop", "auth");
            push(&mut value, "nc", &count);
            push(&mut value, "cnonce", &quoted(cnonce));
            [ha1, ":", nonce, ":", &count, ":", cnonce, ":auth:", &ha2].concat()
        } else {
            [ha1, ":", nonce, ":", &ha2].concat()
        };
        push(&mut value, "response", &quoted(&self.algorithm.hash(response.as_bytes())));
        value
    }

    /// Goes on with the nonce that the server named in Authentication-Info (RFC 7616 §3.5).
    pub fn renew(&mut self, nonce: &str) {
        if self.nonce != nonce {
            self.nonce = nonce.to_string();
            self.count = 0;
        }
    }

    /// How often the nonce was used.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The hash in use.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

fn push(to: &mut String, name: &str, value: &str) {
    to.push_str(", ");
    to.push_str(name);
    to.push('=');
    to.push_str(value);
}

fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: &str = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v";
    const CNONCE: &str = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ";

    fn challenge(rest: &str) -> Option<Challenge> {
        let value = format!("Digest realm=\"http-auth@example.org\", nonce=\"{NONCE}\"{rest}");
        Challenge::read(value.as_bytes())
    }

    fn response_of(value: &str) -> &str {
        value.split("response=\"").nth(1).and_then(|v| v.split('"').next()).expect("a response")
    }

    #[test]
    fn the_examples_of_rfc_7616_come_out_as_printed() {
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let rest = format!(
                ", qop=\"auth, auth-int\", algorithm={algorithm}, \
                 opaque=\"FQhe/qaU925kfnzjev0ciny7QMkPqMAFRtzCUYo5tdS\""
            );
            let challenge = challenge(&rest).expect("readable");
            let mut digest =
                Digest::new(&challenge, "Mufasa", "Circle of Life", CNONCE.to_string());
            let value = digest.answer("GET", "/dir/index.html");
            assert_eq!(response_of(&value), response, "{algorithm}");
            assert!(value.contains(", nc=00000001, "), "{value}");
            assert!(value.contains(&format!("algorithm={algorithm}")), "{value}");
            assert!(value.contains("opaque=\"FQhe/qaU925kfnzjev0ciny7QMkPqMAFRtzCUYo5tdS\""));
        }
    }

    #[test]
    fn each_use_counts_up_and_a_new_nonce_counts_from_one() {
        let challenge = challenge(", qop=\"auth\"").expect("readable");
        let mut digest = Digest::new(&challenge, "Mufasa", "Circle of Life", CNONCE.to_string());
        let first = digest.answer("GET", "/");
        let second = digest.answer("GET", "/");
        assert!(second.contains("nc=00000002"));
        assert_ne!(response_of(&first), response_of(&second));
        assert!(!second.contains("algorithm"), "none was named");
        digest.renew("another");
        assert!(digest.answer("GET", "/").contains("nc=00000001"));
        assert!(!format!("{digest:?}").contains(&digest.ha1.0));
    }

    #[test]
    fn without_qop_the_old_form_is_used() {
        let challenge = challenge("").expect("readable");
        let mut digest = Digest::new(&challenge, "a\"b", "p", CNONCE.to_string());
        let value = digest.answer("REGISTER", "sip:a.example");
        assert!(!value.contains("nc=") && !value.contains("cnonce"));
        assert!(value.contains("username=\"a\\\"b\""));
        let ha1 = md5_hex(b"a\"b:http-auth@example.org:p");
        let ha2 = md5_hex(b"REGISTER:sip:a.example");
        let expected = md5_hex(format!("{ha1}:{NONCE}:{ha2}").as_bytes());
        assert_eq!(response_of(&value), expected);
    }

    #[test]
    fn what_we_cannot_answer_is_no_challenge() {
        for (rest, readable) in [
            (", algorithm=SHA-512-256", false),
            (", algorithm=MD5-sess", false),
            (", qop=\"auth-int\"", false),
            (", algorithm=md5, qop=auth, stale=TRUE", true),
        ] {
            assert_eq!(challenge(rest).is_some(), readable, "{rest}");
        }
        assert!(Challenge::read(b"Basic realm=\"x\"").is_none());
        assert!(challenge(", stale=TRUE").expect("readable").stale);
    }
}
