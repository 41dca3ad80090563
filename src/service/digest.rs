//! Digest authentication, the server's half (RFC 7616, RFC 8760, RFC 3261 §22).
//!
//! A nonce is `time, serial, mac`: it proves itself, so a challenge leaves nothing behind. What is
//! remembered is which counts (`nc`) of a nonce were used, per account: a window, not a mark,
//! because datagrams overtake each other.

use crate::base::hash::{Secret, hex, md5_joined, sha256_joined};
use crate::base::limits;
use crate::base::now::Unix;
use crate::service::record::AccountPut;
use crate::syntax::sip::{AuthParams, Name, Request};
use subtle::ConstantTimeEq;

/// Which hashes are offered to accounts that are not marked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Algorithms {
    /// `MD5`.
    pub md5: bool,
    /// `SHA-256`.
    pub sha256: bool,
}

impl Default for Algorithms {
    /// MD5 alone: common phones fail when another one appears at all.
    fn default() -> Self {
        Algorithms { md5: true, sha256: false }
    }
}

/// What the credentials of a request are worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// They prove the account, and were not used before.
    Proven,
    /// There are none for this realm, or they are wrong.
    Challenge,
    /// They are right but their nonce is not (any longer): ask again with `stale=true`.
    Stale,
}

/// The nonces of one account that have been used.
#[derive(Debug, Default)]
pub struct Nonces {
    /// Most recently used last.
    used: Vec<Used>,
    /// Nonces with serials up to here and not among `used` are spent.
    floor: u32,
}

#[derive(Debug)]
struct Used {
    /// Its serial.
    serial: u32,
    highest: u32,
    /// Bit `i`: the count `highest - i` was seen.
    window: u64,
}

/// The count of credentials without one: no other count of the nonce is taken after it.
const ONCE: u32 = u32::MAX;
/// H(A1) of accounts that do not exist.
const NOBODY: &str = "00000000000000000000000000000000";
const NONCE_DIGITS: usize = 8 + 8 + 32;

/// A nonce for `aor`, fresh at `now`. `serial` makes nonces of one second differ.
#[must_use]
pub fn nonce(boot: &Secret, now: Unix, serial: u32, aor: &str) -> String {
    let time = seconds(now);
    let mac = boot.mac(&[b"nonce", &time.to_be_bytes(), &serial.to_be_bytes(), aor.as_bytes()]);
    format!("{time:08x}{serial:08x}{}", hex(&mac))
}

/// The WWW-Authenticate values for one account, one for each algorithm offered.
pub fn challenges(
    algorithms: Algorithms,
    realm: &str,
    nonce: &str,
    stale: bool,
) -> impl Iterator<Item = String> {
    let stale = if stale { ", stale=true" } else { "" };
    let one = move |name: &str| {
        format!(
            "Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm={name}, qop=\"auth\"{stale}"
        )
    };
    let sha256 = algorithms.sha256.then(|| one("SHA-256"));
    let md5 = algorithms.md5.then(|| one("MD5"));
    sha256.into_iter().chain(md5)
}

/// What is offered to this account.
#[must_use]
pub fn offered(account: Option<&AccountPut>, default: Algorithms) -> Algorithms {
    match account {
        Some(a) if a.sha256_only => Algorithms { md5: false, sha256: true },
        _ => default,
    }
}

/// Judges the Authorization of `request` for the account `aor`.
///
/// The digest is computed for unknown accounts too, so that both take the same time.
pub fn verify(
    boot: &Secret,
    now: Unix,
    request: &Request,
    aor: &str,
    account: Option<&AccountPut>,
    algorithms: Algorithms,
    nonces: &mut Nonces,
) -> Verdict {
    let (user, realm) = super::account::split(aor);
    let Some(auth) = credentials_for(request, realm) else {
        return Verdict::Challenge;
    };
    let right = response_matches(request, &auth, user, account, algorithms);
    if !right || account.is_none() {
        return Verdict::Challenge;
    }
    let Some(serial) = own_nonce(boot, now, &auth.params.value("nonce").unwrap_or_default(), aor)
    else {
        return Verdict::Stale;
    };
    // Without qop no count is covered by the response: such a nonce is good for once.
    let count = match (auth.params.value("qop"), auth.params.value("nc")) {
        (Some(_), Some(nc)) => u32::from_str_radix(&nc, 16).ok().filter(|n| *n > 0),
        (Some(_), None) => None,
        (None, _) => Some(ONCE),
    };
    match count {
        Some(count) if nonces.use_up(serial, count) => Verdict::Proven,
        _ => Verdict::Stale,
    }
}

fn credentials_for(request: &Request, realm: &str) -> Option<AuthParams> {
    request.headers.all(Name::Authorization).filter_map(|value| AuthParams::parse(value).ok()).find(
        |auth| {
            auth.scheme.eq_ignore_ascii_case("Digest")
                && auth.params.value("realm").as_deref() == Some(realm)
        },
    )
}

/// The `uri` parameter is what the phone says it asked for. RFC 7616 §3.4.6 lets a server compare
/// it with the Request-URI; phones behind a proxy, and test tools, name the proxy there, so we do
/// not: a count is used once, so credentials cannot be taken to another request anyway.
///
/// RFC 7616 §3.4.1: response = H(H(A1):nonce:nc:cnonce:qop:H(A2)); without qop,
/// H(H(A1):nonce:H(A2)).
fn response_matches(
    request: &Request,
    auth: &AuthParams,
    user: &str,
    account: Option<&AccountPut>,
    algorithms: Algorithms,
) -> bool {
    let value = |name| auth.params.value(name);
    let (Some(uri), Some(nonce), Some(response)) =
        (value("uri"), value("nonce"), value("response"))
    else {
        return false;
    };
    let algorithm = auth.params.value("algorithm").unwrap_or_else(|| "MD5".into());
    let offered = offered(account, algorithms);
    let (ha1, h): (&str, fn(&[&str]) -> String) = if algorithm.eq_ignore_ascii_case("MD5") {
        if !offered.md5 {
            return false;
        }
        (account.map_or(NOBODY, |a| &a.ha1_md5), md5_joined)
    } else if algorithm.eq_ignore_ascii_case("SHA-256") {
        if !offered.sha256 {
            return false;
        }
        (account.map_or(NOBODY, |a| &a.ha1_sha256), sha256_joined)
    } else {
        return false;
    };
    let ha2 = h(&[request.method.as_str(), &uri]);
    let expected = match auth.params.value("qop") {
        Some(qop) if qop.eq_ignore_ascii_case("auth") => {
            let nc = auth.params.value("nc").unwrap_or_default();
            let cnonce = auth.params.value("cnonce").unwrap_or_default();
            h(&[ha1, &nonce, &nc, &cnonce, &qop, &ha2])
        }
        Some(_) => return false,
        None => h(&[ha1, &nonce, &ha2]),
    };
    let name = auth.params.value("username").unwrap_or_default();
    let right = expected.as_bytes().ct_eq(response.to_ascii_lowercase().as_bytes());
    bool::from(right) && name == user
}

/// The serial of a nonce, if it is ours, of this boot, for this account, and not too old.
fn own_nonce(boot: &Secret, now: Unix, text: &str, aor: &str) -> Option<u32> {
    if text.len() != NONCE_DIGITS || !text.is_ascii() {
        return None;
    }
    let time = u32::from_str_radix(&text[..8], 16).ok()?;
    let serial = u32::from_str_radix(&text[8..16], 16).ok()?;
    let mac = boot.mac(&[b"nonce", &time.to_be_bytes(), &serial.to_be_bytes(), aor.as_bytes()]);
    if !bool::from(hex(&mac).as_bytes().ct_eq(&text.as_bytes()[16..])) {
        return None;
    }
    let age = seconds(now).saturating_sub(time);
    (u64::from(age) <= limits::NONCE_LIFETIME.as_secs()).then_some(serial)
}

#[expect(clippy::cast_possible_truncation, reason = "seconds fit until 2106")]
fn seconds(now: Unix) -> u32 {
    now.seconds() as u32
}

impl Nonces {
    /// Marks `count` of the nonce as used; false if it was used before or is too far
    /// behind to tell.
    fn use_up(&mut self, serial: u32, count: u32) -> bool {
        if let Some(at) = self.used.iter().position(|u| u.serial == serial) {
            let fresh = self.used[at].mark(count);
            let entry = self.used.remove(at);
            self.used.push(entry);
            return fresh;
        }
        if serial <= self.floor {
            return false;
        }
        if self.used.len() >= limits::NONCES_PER_ACCOUNT_MAX {
            let oldest = self.used.remove(0);
            self.floor = self.floor.max(oldest.serial);
        }
        self.used.reserve_exact(1);
        // After credentials that cover no count, no count near it is free either.
        let window = if count == ONCE { u64::MAX } else { 1 };
        self.used.push(Used { serial, highest: count, window });
        true
    }
}

impl Used {
    fn mark(&mut self, count: u32) -> bool {
        if count > self.highest {
            let by = count - self.highest;
            self.window = if by < 64 { self.window << by | 1 } else { 1 };
            self.highest = count;
            return true;
        }
        let back = self.highest - count;
        if back >= 64 || self.window >> back & 1 == 1 {
            return false;
        }
        self.window |= 1 << back;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::hash::{md5_hex, sha256_hex};
    use crate::service::account::credentials;
    use crate::syntax::sip::{Message, read};

    const AOR: &str = "sip:alice@a.example";

    struct Case {
        boot: Secret,
        nonces: Nonces,
        algorithms: Algorithms,
        sha256_only: bool,
    }

    fn case() -> Case {
        Case {
            boot: Secret::new([1; 32]),
            nonces: Nonces::default(),
            algorithms: Algorithms::default(),
            sha256_only: false,
        }
    }

    impl Case {
        fn ask(
            &mut self,
            now: u64,
            nonce: &str,
            nc: u32,
            password: &str,
            algorithm: &str,
        ) -> Verdict {
            let h = if algorithm == "MD5" { md5_joined } else { sha256_joined };
            let ha1 = h(&["alice", "a.example", password]);
            let ha2 = h(&["REGISTER", "sip:a.example"]);
            let response = h(&[&ha1, nonce, &format!("{nc:08x}"), "c", "auth", &ha2]);
            self.judge(
                now,
                &format!(
                    "username=\"alice\", realm=\"a.example\", nonce=\"{nonce}\", \
                     uri=\"sip:a.example\", response=\"{response}\", qop=auth, nc={nc:08x}, \
                     cnonce=\"c\", algorithm={algorithm}"
                ),
            )
        }

        fn judge(&mut self, now: u64, params: &str) -> Verdict {
            let text = format!(
                "REGISTER sip:a.example SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\
                 From: <sip:alice@a.example>;tag=1\r\nTo: <sip:alice@a.example>\r\nCall-ID: 1\r\n\
                 CSeq: 1 REGISTER\r\nAuthorization: Digest {params}\r\nContent-Length: 0\r\n\r\n"
            );
            let Ok(Message::Request(request)) = read(text.into()) else { panic!("unreadable") };
            let kept = credentials(AOR, "secret", self.sha256_only);
            let (boot, at) = (self.boot.clone(), Unix(now * 1000));
            verify(&boot, at, &request, AOR, Some(&kept), self.algorithms, &mut self.nonces)
        }

        fn nonce(&self, at: u64, serial: u32) -> String {
            nonce(&self.boot, Unix(at * 1000), serial, AOR)
        }
    }

    #[test]
    fn right_wrong_and_replayed() {
        let mut c = case();
        let n = c.nonce(1000, 1);
        assert_eq!(c.ask(1001, &n, 1, "secret", "MD5"), Verdict::Proven);
        assert_eq!(c.ask(1001, &n, 1, "secret", "MD5"), Verdict::Stale, "the same count again");
        assert_eq!(c.ask(1001, &n, 3, "secret", "MD5"), Verdict::Proven);
        assert_eq!(c.ask(1001, &n, 2, "secret", "MD5"), Verdict::Proven, "overtaken, not replayed");
        assert_eq!(c.ask(1001, &n, 2, "secret", "MD5"), Verdict::Stale);
        assert_eq!(c.ask(1001, &n, 4, "wrong", "MD5"), Verdict::Challenge);
    }

    /// A fresh nonce without qop, the right password, `name` as written, and the response for
    /// `hashed` where the header says `named`.
    fn named(c: &mut Case, serial: u32, name: &str, hashed: &str, named: &str) -> Verdict {
        let nonce = c.nonce(1000, serial);
        let (ha1, ha2) = (md5_hex(b"alice:a.example:secret"), format!("REGISTER:{hashed}"));
        let response = md5_hex(format!("{ha1}:{nonce}:{}", md5_hex(ha2.as_bytes())).as_bytes());
        c.judge(
            1001,
            &format!(
                "{name}realm=\"a.example\", nonce=\"{nonce}\", uri=\"{named}\", \
                 response=\"{response}\""
            ),
        )
    }

    #[test]
    fn rfc7616_3_4_4_the_username_is_the_user_of_the_account_in_clear() {
        let hashed = sha256_hex(b"alice:a.example");
        let userhash = format!("username=\"{hashed}\", userhash=true, ");
        let mut c = case();
        for (serial, (name, verdict)) in (1..).zip([
            ("username=\"alice\", ", Verdict::Proven),
            ("username=\"al\\ice\", ", Verdict::Proven),
            ("username=\"Alice\", ", Verdict::Challenge),
            ("username=\"alice@a.example\", ", Verdict::Challenge),
            ("username=\"carol\", ", Verdict::Challenge),
            ("username*=UTF-8''alice, ", Verdict::Challenge),
            (&userhash, Verdict::Challenge),
            ("", Verdict::Challenge),
        ]) {
            assert_eq!(
                named(&mut c, serial, name, "sip:a.example", "sip:a.example"),
                verdict,
                "{name}"
            );
        }
    }

    #[test]
    fn rfc7616_3_4_6_the_uri_is_hashed_and_may_be_another_than_the_request_uri() {
        let mut c = case();
        let alice = "username=\"alice\", ";
        let (own, proxy) = ("sip:a.example", "sip:proxy.example;lr");
        for (serial, (hashed, told, verdict)) in (1..).zip([
            (own, own, Verdict::Proven),
            (proxy, proxy, Verdict::Proven),
            (proxy, own, Verdict::Challenge),
            (own, proxy, Verdict::Challenge),
            ("", "", Verdict::Proven),
        ]) {
            assert_eq!(named(&mut c, serial, alice, hashed, told), verdict, "{hashed} {told}");
        }
    }

    #[test]
    fn the_tenth_count_is_hexadecimal() {
        let mut c = case();
        let n = c.nonce(1000, 1);
        for nc in 1..=40 {
            assert_eq!(c.ask(1001, &n, nc, "secret", "MD5"), Verdict::Proven, "{nc}");
        }
    }

    #[test]
    fn a_nonce_of_another_boot_or_age_is_stale() {
        let mut c = case();
        let n = c.nonce(1000, 1);
        assert_eq!(c.ask(1000 + 3601, &n, 1, "secret", "MD5"), Verdict::Stale);
        c.boot = Secret::new([2; 32]);
        assert_eq!(c.ask(1001, &n, 1, "secret", "MD5"), Verdict::Stale);
    }

    #[test]
    fn nonces_pushed_out_of_memory_cannot_be_replayed() {
        let mut c = case();
        let first = c.nonce(1000, 1);
        assert_eq!(c.ask(1001, &first, 1, "secret", "MD5"), Verdict::Proven);
        for serial in 2..=limits::NONCES_PER_ACCOUNT_MAX as u32 + 1 {
            let n = c.nonce(1000, serial);
            assert_eq!(c.ask(1001, &n, 1, "secret", "MD5"), Verdict::Proven);
        }
        assert_eq!(c.ask(1001, &first, 1, "secret", "MD5"), Verdict::Stale);
    }

    #[test]
    fn credentials_without_qop_are_good_for_once_whatever_count_is_added() {
        let mut nonces = Nonces::default();
        assert!(nonces.use_up(1, ONCE));
        for count in [1, 2, ONCE - 1, ONCE] {
            assert!(!nonces.use_up(1, count), "{count}");
        }
        assert!(nonces.use_up(2, 1), "and a nonce that was counted");
        assert!(nonces.use_up(2, ONCE), "may end so");
    }

    #[test]
    fn a_clock_that_steps_back_locks_nobody_out() {
        let mut c = case();
        for serial in 1..=20 {
            let n = c.nonce(10_000, serial);
            assert_eq!(c.ask(10_001, &n, 1, "secret", "MD5"), Verdict::Proven);
        }
        let n = c.nonce(6_400, 21);
        assert_eq!(c.ask(6_401, &n, 1, "secret", "MD5"), Verdict::Proven);
    }

    #[test]
    fn an_account_marked_sha256_never_falls_back() {
        let mut c = case();
        c.sha256_only = true;
        let n = c.nonce(1000, 1);
        assert_eq!(c.ask(1001, &n, 1, "secret", "MD5"), Verdict::Challenge);
        assert_eq!(c.ask(1001, &n, 1, "secret", "SHA-256"), Verdict::Proven);
        let kept = credentials(AOR, "secret", true);
        let offers = challenges(offered(Some(&kept), c.algorithms), "a.example", &n, false);
        assert!(offers.into_iter().all(|o| o.contains("SHA-256")));
    }
}
