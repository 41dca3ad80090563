//! The names of one message on its way to one device: Call-ID = f(message, device), branch =
//! f(attempt). After a restart they come out the same, so we retransmit and never send anew.

use std::fmt::Write;

use crate::base::hash::{Secret, hex, push_hex};
use crate::base::ids::{BRANCH_COOKIE, Partition};
use crate::service::record::{DeviceNo, EntryNo};

/// What a Call-ID or branch of ours takes, about.
const ID_OCTETS: usize = 32;

/// The names of one message on its way to one device.
pub struct Passage {
    /// Call-ID = f(message, device).
    pub call_id: String,
    /// Our From tag.
    pub tag: String,
}

impl Passage {
    /// The names for entry `no` of the user `aor` on its way to `device`.
    #[must_use]
    pub fn new(
        key: &Secret,
        partition: Partition,
        aor: &str,
        no: EntryNo,
        device: DeviceNo,
    ) -> Passage {
        let mac = key.mac(&[b"leg", aor.as_bytes(), &no.to_le_bytes(), &device.to_le_bytes()]);
        let mut call_id = String::with_capacity(ID_OCTETS);
        #[expect(clippy::expect_used, reason = "a String takes everything")]
        write!(call_id, "{partition}-{no:x}.{device:x}.").expect("a String");
        push_hex(&mut call_id, &mac[..8]);
        Passage { call_id, tag: hex(&mac[8..]) }
    }

    /// The branch of the request with this CSeq number (RFC 3261 §8.1.1.7).
    #[must_use]
    pub fn branch(&self, key: &Secret, cseq: u32) -> String {
        let mac = key.mac(&[b"branch", self.call_id.as_bytes(), &cseq.to_le_bytes()]);
        let mut branch = String::with_capacity(ID_OCTETS);
        branch.push_str(BRANCH_COOKIE);
        branch.push_str(self.call_id.get(..3).unwrap_or_default());
        push_hex(&mut branch, &mac[..8]);
        branch
    }

    /// The entry and device that a Call-ID of ours was made for, if it was made for this user.
    #[must_use]
    pub fn read(
        key: &Secret,
        partition: Partition,
        aor: &str,
        call_id: &str,
    ) -> Option<(EntryNo, DeviceNo)> {
        let (_, rest) = call_id.split_once('-')?;
        let mut parts = rest.split('.');
        let no = EntryNo::from_str_radix(parts.next()?, 16).ok()?;
        let device = DeviceNo::from_str_radix(parts.next()?, 16).ok()?;
        let made = Passage::new(key, partition, aor, no, device);
        (made.call_id == call_id).then_some((no, device))
    }
}
