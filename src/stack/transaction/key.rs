//! What names a transaction: the fields of RFC 3261 §17.1.3 and §17.2.3, hashed with a secret of
//! the process, so that nobody outside can aim two requests at one name and a look-up copies
//! nothing.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::base::ids::BRANCH_COOKIE;
use crate::syntax::sip::scan::{param, sent_by};
use crate::syntax::sip::{Headers, Method, Name, Request};

/// The name of one server transaction. Valid in the process that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerKey(u128);

impl ServerKey {
    /// Comes after every other key.
    pub(super) const LAST: ServerKey = ServerKey(u128::MAX);

    /// A name for tests of the bounds.
    #[cfg(test)]
    pub(super) fn numbered(number: u128) -> ServerKey {
        ServerKey(number)
    }

    /// Our To tag: nobody can guess it (RFC 3261 §19.3), and every copy of one request gets the
    /// same, also where nothing was kept of it (§8.2.7).
    #[must_use]
    pub fn tag(self) -> String {
        format!("{:016x}", self.0 >> 64)
    }
}

/// Makes names. The octets are gathered in one buffer and hashed in one pass.
#[derive(Debug)]
pub(super) struct Namer {
    seed: u64,
    buffer: Vec<u8>,
}

impl Namer {
    pub(super) fn new(seed: u64) -> Namer {
        Namer { seed, buffer: Vec::with_capacity(256) }
    }

    /// The server transaction that a request belongs to; an ACK has the name of its INVITE.
    pub(super) fn server(&mut self, request: &Request) -> ServerKey {
        let method = match &request.method {
            Method::Ack => &Method::Invite,
            other => other,
        };
        self.server_as(request, method)
    }

    /// The INVITE transaction that a CANCEL is about (RFC 3261 §9.2).
    pub(super) fn cancelled(&mut self, cancel: &Request) -> ServerKey {
        self.server_as(cancel, &Method::Invite)
    }

    fn server_as(&mut self, request: &Request, method: &Method) -> ServerKey {
        let via = request.headers.list(Name::Via).next().unwrap_or_default();
        let branch = param(via, b"branch").unwrap_or_default();
        if is_classic(branch) {
            return self.classic(request, via, method);
        }
        // §17.2.3: branch, sent-by and method MUST be equal; host names ignore case.
        self.start(b'S').part(branch).part_blind(sent_by(via)).part(method.as_str().as_bytes());
        ServerKey(self.end())
    }

    /// §17.2.3 for clients of RFC 2543: Request-URI, tags, Call-ID, CSeq and topmost Via are
    /// equal. The To tag of an ACK is that of the answer, so INVITE and ACK leave it out here.
    fn classic(&mut self, request: &Request, via: &[u8], method: &Method) -> ServerKey {
        let headers = &request.headers;
        let to_tag = if *method == Method::Invite { None } else { tag(headers, Name::To) };
        self.start(b'C')
            .part(&request.uri)
            .part(to_tag.unwrap_or_default())
            .part(tag(headers, Name::From).unwrap_or_default())
            .part(headers.get(Name::CallId).unwrap_or_default())
            .part(cseq_number(headers))
            .part(method.as_str().as_bytes())
            .part(via);
        ServerKey(self.end())
    }

    /// The client transaction of a branch of ours (RFC 3261 §17.1.3: branch and CSeq method).
    pub(super) fn client(&mut self, branch: &[u8], method: &Method) -> u128 {
        self.start(b'A').part(branch).part(method.as_str().as_bytes());
        self.end()
    }

    /// What copies of one request have in common that came by different ways (RFC 3261
    /// §8.2.2.2: From tag, Call-ID, CSeq); `None` for a request inside a dialog.
    pub(super) fn merged(&mut self, request: &Request) -> Option<u128> {
        let headers = &request.headers;
        if tag(headers, Name::To).is_some() {
            return None;
        }
        self.start(b'M')
            .part(tag(headers, Name::From)?)
            .part(headers.get(Name::CallId)?)
            .part(cseq_number(headers))
            .part(request.method.as_str().as_bytes());
        Some(self.end())
    }

    fn start(&mut self, kind: u8) -> &mut Namer {
        self.buffer.clear();
        self.buffer.push(kind);
        self
    }

    fn part(&mut self, octets: &[u8]) -> &mut Namer {
        self.buffer.extend_from_slice(&(octets.len() as u64).to_le_bytes());
        self.buffer.extend_from_slice(octets);
        self
    }

    fn part_blind(&mut self, octets: &[u8]) -> &mut Namer {
        self.part(octets);
        let from = self.buffer.len() - octets.len();
        if let Some(written) = self.buffer.get_mut(from..) {
            written.make_ascii_lowercase();
        }
        self
    }

    fn end(&mut self) -> u128 {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        hasher.write(&self.buffer);
        let high = hasher.finish();
        hasher.write_u64(self.seed);
        u128::from(high) << 64 | u128::from(hasher.finish())
    }
}

/// The branch of the topmost Via and whether there are more Vias.
pub(super) fn branch_of_response(headers: &Headers) -> Option<(&[u8], bool)> {
    let mut vias = headers.list(Name::Via);
    let branch = param(vias.next()?, b"branch")?;
    Some((branch, vias.next().is_some()))
}

/// Whether a request is named in the old way.
pub(super) fn has_classic_branch(request: &Request) -> bool {
    let via = request.headers.list(Name::Via).next().unwrap_or_default();
    is_classic(param(via, b"branch").unwrap_or_default())
}

/// The tag of From or To.
pub(super) fn tag(headers: &Headers, name: Name) -> Option<&[u8]> {
    param(headers.get(name)?, b"tag")
}

fn is_classic(branch: &[u8]) -> bool {
    !branch.starts_with(BRANCH_COOKIE.as_bytes()) || branch.len() == BRANCH_COOKIE.len()
}

fn cseq_number(headers: &Headers) -> &[u8] {
    let value = headers.get(Name::CSeq).unwrap_or_default();
    let digits = value.iter().take_while(|o| o.is_ascii_digit()).count();
    value.get(..digits).unwrap_or_default()
}

/// Maps by names that are hashes already.
pub(super) type Map<K, V> = HashMap<K, V, BuildHasherDefault<Hashed>>;

/// Takes the low half of a name as its hash.
#[derive(Default)]
pub(super) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for o in octets {
            self.0 = self.0.rotate_left(8) ^ u64::from(*o);
        }
    }

    fn write_u128(&mut self, name: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is wanted")]
        let low = name as u64;
        self.0 = low;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_depend_on_the_seed_and_on_where_parts_end() {
        let mut one = Namer::new(1);
        let name = one.client(b"z9hG4bKab", &Method::Message);
        assert_eq!(name, Namer::new(1).client(b"z9hG4bKab", &Method::Message));
        assert_ne!(name, Namer::new(2).client(b"z9hG4bKab", &Method::Message));
        assert_ne!(name, one.client(b"z9hG4bKab", &Method::Invite));
        assert_ne!(name, one.client(b"z9hG4bKa", &Method::Message));
    }
}
