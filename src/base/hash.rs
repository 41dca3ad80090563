//! Hashes by purpose: fingerprints of content, keyed ids that only we can make, digest's H().

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// A secret from which ids and nonces are made. Never printed.
#[derive(Clone)]
pub struct Secret(Hmac<Sha256>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// Wraps 32 octets from a CSPRNG.
    #[must_use]
    pub fn new(octets: [u8; 32]) -> Secret {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        Secret(Hmac::new_from_slice(&octets).expect("any length"))
    }

    /// The first 16 octets of HMAC-SHA256 over the parts, each preceded by its length.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> [u8; 16] {
        // The key has been hashed in already: a copy of that state costs less than doing it again.
        let mut mac = self.0.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        first16(&mac.finalize().into_bytes())
    }
}

/// The first 16 octets of SHA-256 over the parts, each preceded by its length.
#[must_use]
pub fn fingerprint(parts: &[&[u8]]) -> u128 {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    u128::from_le_bytes(first16(&sha.finalize()))
}

/// SHA-256 of `octets` as 64 lower-case hex digits.
#[must_use]
pub fn sha256_hex(octets: &[u8]) -> String {
    hex(&Sha256::digest(octets))
}

/// SHA-256 of `parts` joined by colons, as 64 lower-case hex digits (RFC 7616,
/// `algorithm=SHA-256`).
#[must_use]
pub fn sha256_joined(parts: &[&str]) -> String {
    joined::<Sha256>(parts)
}

/// MD5 of `octets` as 32 lower-case hex digits (RFC 7616, `algorithm=MD5`).
#[must_use]
pub fn md5_hex(octets: &[u8]) -> String {
    hex(&md5::Md5::digest(octets))
}

/// MD5 of `parts` joined by colons, as 32 lower-case hex digits (RFC 7616, `algorithm=MD5`).
#[must_use]
pub fn md5_joined(parts: &[&str]) -> String {
    joined::<md5::Md5>(parts)
}

fn joined<H: Digest>(parts: &[&str]) -> String {
    let mut hash = H::new();
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            hash.update(b":");
        }
        hash.update(part);
    }
    hex(&hash.finalize())
}

/// Lower-case hex of `octets`.
#[must_use]
pub fn hex(octets: &[u8]) -> String {
    let mut out = String::with_capacity(octets.len() * 2);
    push_hex(&mut out, octets);
    out
}

/// Appends lower-case hex of `octets`.
pub fn push_hex(out: &mut String, octets: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for o in octets {
        out.push(char::from(DIGITS[usize::from(o >> 4)]));
        out.push(char::from(DIGITS[usize::from(o & 15)]));
    }
}

fn first16(octets: &[u8]) -> [u8; 16] {
    let mut out = [0; 16];
    out.copy_from_slice(&octets[..16]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(md5_hex(b"abc"), "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(md5_joined(&["a", "", "c"]), md5_hex(b"a::c"));
        assert!(sha256_hex(b"abc").starts_with("ba7816bf8f01cfea"));
        assert_eq!(sha256_joined(&["a", "b"]), sha256_hex(b"a:b"));
        assert_ne!(fingerprint(&[b"ab", b"c"]), fingerprint(&[b"a", b"bc"]));
        let secret = Secret::new([7; 32]);
        assert_ne!(secret.mac(&[b"a"]), Secret::new([8; 32]).mac(&[b"a"]));
        assert_eq!(format!("{secret:?}"), "Secret(..)");
    }
}
