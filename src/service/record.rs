//! What the log is made of: record kinds, their versions, and the frame around each.
//!
//! A batch value is a row of frames, one per record:
//! `kind u8, version u8, length u32 LE, payload, CRC-32 LE of all before it`.
//! A payload is postcard, except that of [`Record::Body`], which is the octets themselves. A kind
//! is never reused; a changed payload gets a new version and the old one stays readable.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::base::now::Unix;
use crate::stack::transport::{Flow, Protocol};

/// Number of a device within its account; never reused.
pub type DeviceNo = u32;
/// Number of an entry within its account; never reused.
pub type EntryNo = u64;

/// One durable change of one user's environment.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    /// The account exists with these credentials (operator).
    AccountPut(AccountPut),
    /// The account was removed (operator).
    AccountGone,
    /// A device registered.
    BindingPut(BindingPut),
    /// A device is no longer registered.
    BindingGone(BindingGone),
    /// A device was forgotten, with all that it was owed.
    DeviceGone(DeviceNo),
    /// A message, receipt or notice came in or was sent.
    EntryPut(Arc<EntryPut>),
    /// The content of the entry in the record before.
    Body(Bytes),
    /// A device is owed an entry no longer.
    DebtClosed(DebtClosed),
    /// A debt passed from one debtor to another.
    DebtMoved(DebtMoved),
    /// The other side took the entry, or refused it, with this status.
    Forwarded(Forwarded),
    /// The first device received it, or the user saw it, or nobody ever will.
    Disposed(Disposed),
}

/// Credentials: the hashes of RFC 7616, never the password.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct AccountPut {
    /// MD5 of `user:realm:password`, hex.
    pub ha1_md5: String,
    /// SHA-256 of the same, hex.
    pub ha1_sha256: String,
    /// Whether only SHA-256 is offered to this account.
    pub sha256_only: bool,
}

/// One device and where it is reached.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BindingPut {
    /// Which device.
    pub device: DeviceNo,
    /// `+sip.instance` without quotes and angle brackets, if it has one (RFC 5626).
    pub instance: Option<String>,
    /// The Contact URI as written.
    pub contact: String,
    /// The other Contact parameters, as written, `expires` left out: `;a=b;c`.
    pub params: String,
    /// Where the REGISTER came from.
    pub flow: StoredFlow,
    /// Call-ID of the registration (RFC 3261 §10.3).
    pub call_id: String,
    /// Its CSeq when this was written.
    pub cseq: u32,
    /// Path values in order (RFC 3327).
    pub path: Vec<String>,
    /// Until when the binding holds at the latest if no more is heard: the lease.
    pub lease: Unix,
    /// When the device was last heard.
    pub seen: Unix,
}

/// A device is no longer registered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BindingGone {
    /// Which device.
    pub device: DeviceNo,
    /// Call-ID and CSeq of the REGISTER that removed it: an older one that comes late must not
    /// bring it back. Nothing, if it ran out.
    pub by: Option<(String, u32)>,
}

/// A [`Flow`] as it is kept on disk.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StoredFlow {
    /// Whether it was a TCP connection.
    pub tcp: bool,
    /// Which listener, by its address.
    pub listener: u16,
    /// The other end.
    pub peer: std::net::SocketAddr,
}

impl From<Flow> for StoredFlow {
    fn from(flow: Flow) -> Self {
        StoredFlow { tcp: flow.protocol == Protocol::Tcp, listener: flow.listener, peer: flow.peer }
    }
}

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Class {
    /// A message from a person.
    Message,
    /// A disposition notification for an earlier message (RFC 5438).
    Receipt,
    /// A line from the system to the user.
    Notice,
}

/// Which side of the entry this user is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Direction {
    /// It came for this user.
    Received,
    /// This user sent it.
    Sent,
}

/// Where the content is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum BodyAt {
    /// In the record after this one.
    Record,
    /// In the blob of this name.
    Blob(String),
}

/// Who can be owed an entry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Debtor {
    /// One device.
    Device(DeviceNo),
    /// Whichever device registers next.
    Account,
}

impl Debtor {
    /// The device, if it is one.
    #[must_use]
    pub fn device(&self) -> Option<DeviceNo> {
        match self {
            Debtor::Device(no) => Some(*no),
            Debtor::Account => None,
        }
    }
}

/// What a message asked to be told (RFC 5438 §7.1.1.1).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Asked {
    /// `positive-delivery`.
    pub delivered: bool,
    /// `negative-delivery`.
    pub failed: bool,
    /// `display`.
    pub displayed: bool,
}

/// One message, receipt or notice in a user's environment. Its long fields are shared: the record,
/// the mailbox and the other side's entry hold the same octets.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EntryPut {
    /// Its number in this user's environment.
    pub no: EntryNo,
    /// What it is.
    pub class: Class,
    /// Which side this user is on.
    pub direction: Direction,
    /// Address of record of the sender.
    pub from: Arc<str>,
    /// The sender's From value as written, without its tag.
    pub from_value: Bytes,
    /// Address of record of the recipient.
    pub to: Arc<str>,
    /// imdn.Message-ID, or the Call-ID of a plain sender.
    pub message_id: Arc<str>,
    /// Fingerprint of content type and content: the same id with another one is another message.
    pub fingerprint: u128,
    /// Header lines that travel from end to end, octets kept: `Name: value\r\n…`.
    pub headers: Bytes,
    /// Content-Type as written; empty if there was none.
    pub content_type: Bytes,
    /// Octets of the content.
    pub size: u32,
    /// Where the content is.
    pub body: BodyAt,
    /// When we took it.
    pub taken: Unix,
    /// When it is given up.
    pub expires: Unix,
    /// The DateTime of its CPIM, as written: receipts carry it (RFC 5438 §7.2.1.1).
    pub date: Option<String>,
    /// Receipts asked for.
    pub asked: Asked,
    /// Who is owed it in this user's environment.
    pub owed: Vec<Debtor>,
    /// The user it is still to be handed to.
    pub forward: Option<Arc<str>>,
    /// The sender's device it came from, where that is known.
    pub device: Option<DeviceNo>,
    /// For receipts and notices: what they say and of which message, `delivered ID`, `displayed ID`
    /// or `failed ID`.
    pub about: Option<String>,
}

/// How a debt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Closed {
    /// The device answered 2xx.
    Delivered,
    /// The device refused it for good (6xx).
    Refused(u16),
    /// The message expired.
    Expired,
}

/// A device is owed an entry no longer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DebtClosed {
    /// Which entry.
    pub no: EntryNo,
    /// Who was owed it.
    pub debtor: Debtor,
    /// Why it ended.
    pub how: Closed,
}

/// A debt passed on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DebtMoved {
    /// Which entry.
    pub no: EntryNo,
    /// Who was owed it.
    pub from: Debtor,
    /// Who is owed it now.
    pub to: Debtor,
}

/// The other side answered.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Forwarded {
    /// Which entry.
    pub no: EntryNo,
    /// 202, or the final refusal.
    pub status: u16,
}

/// What a disposition says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Disposition {
    /// A device has it.
    Delivered,
    /// The user saw it.
    Displayed,
    /// No device will ever have it.
    Failed,
}

/// The first disposition of its kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Disposed {
    /// Which entry.
    pub no: EntryNo,
    /// What happened.
    pub what: Disposition,
    /// When.
    pub at: Unix,
}

/// Why a batch could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// It ends within a frame.
    #[error("a record is cut short")]
    Short,
    /// A checksum does not match.
    #[error("a record's checksum does not match")]
    Checksum,
    /// A kind or version this program does not know: written by a newer one.
    #[error("record kind {0} version {1} is unknown: the data was written by a newer cpmd")]
    Unknown(u8, u8),
    /// The payload does not decode.
    #[error("record kind {0} does not decode")]
    Payload(u8),
}

const FRAME_OCTETS: usize = 1 + 1 + 4 + 4;
/// What most payloads take that are no entries.
const SMALL_PAYLOAD_OCTETS: usize = 24;
/// What an entry takes as a rule, its frame and that of its content included.
const ENTRY_OCTETS: usize = 640;

/// Frames `records` as one batch value.
#[must_use]
pub fn encode(records: &[Record]) -> Bytes {
    let mut out = BytesMut::new();
    encode_into(&mut out, records);
    out.freeze()
}

/// Appends `records` to a batch value.
pub fn encode_into(out: &mut BytesMut, records: &[Record]) {
    for record in records {
        match record {
            Record::AccountPut(r) => put(out, 1, r),
            Record::AccountGone => put(out, 2, &()),
            Record::BindingPut(r) => put(out, 3, r),
            Record::BindingGone(r) => put(out, 4, r),
            Record::DeviceGone(r) => put(out, 5, r),
            Record::EntryPut(r) => {
                // One allocation in place of several on the way to it.
                out.reserve(ENTRY_OCTETS + r.size as usize);
                put(out, 6, r);
            }
            Record::Body(octets) => frame(out, 7, |out| out.extend_from_slice(octets)),
            Record::DebtClosed(r) => put(out, 8, r),
            Record::DebtMoved(r) => put(out, 9, r),
            Record::Forwarded(r) => put(out, 10, r),
            Record::Disposed(r) => put(out, 11, r),
        }
    }
}

/// Reads a batch value back.
///
/// # Errors
/// [`Damage`], naming what is wrong with the first frame that cannot be read.
pub fn decode(value: &Bytes) -> Result<Vec<Record>, Damage> {
    let mut records = Vec::new();
    let mut rest = value.clone();
    while !rest.is_empty() {
        let (kind, version) = match rest.get(..2) {
            Some(&[kind, version]) => (kind, version),
            _ => return Err(Damage::Short),
        };
        let len: [u8; 4] = rest.get(2..6).and_then(|l| l.try_into().ok()).ok_or(Damage::Short)?;
        let end = 6usize.checked_add(u32::from_le_bytes(len) as usize).ok_or(Damage::Short)?;
        let crc: [u8; 4] =
            rest.get(end..end + 4).and_then(|c| c.try_into().ok()).ok_or(Damage::Short)?;
        if crc32fast::hash(&rest[..end]) != u32::from_le_bytes(crc) {
            return Err(Damage::Checksum);
        }
        let payload = rest.slice(6..end);
        records.push(read(kind, version, &payload)?);
        rest = rest.slice(end + 4..);
    }
    Ok(records)
}

fn read(kind: u8, version: u8, payload: &Bytes) -> Result<Record, Damage> {
    if version != 1 {
        return Err(Damage::Unknown(kind, version));
    }
    Ok(match kind {
        1 => Record::AccountPut(get(kind, payload)?),
        2 => Record::AccountGone,
        3 => Record::BindingPut(get(kind, payload)?),
        4 => Record::BindingGone(get(kind, payload)?),
        5 => Record::DeviceGone(get(kind, payload)?),
        6 => Record::EntryPut(get(kind, payload)?),
        7 => Record::Body(payload.clone()),
        8 => Record::DebtClosed(get(kind, payload)?),
        9 => Record::DebtMoved(get(kind, payload)?),
        10 => Record::Forwarded(get(kind, payload)?),
        11 => Record::Disposed(get(kind, payload)?),
        _ => return Err(Damage::Unknown(kind, version)),
    })
}

fn get<T: for<'a> Deserialize<'a>>(kind: u8, payload: &[u8]) -> Result<T, Damage> {
    postcard::from_bytes(payload).map_err(|_| Damage::Payload(kind))
}

fn put<T: Serialize>(out: &mut BytesMut, kind: u8, payload: &T) {
    frame(out, kind, |out| {
        #[expect(clippy::expect_used, reason = "plain data into a growing buffer cannot fail")]
        postcard::to_io(payload, out.writer()).expect("plain data");
    });
}

fn frame(out: &mut BytesMut, kind: u8, payload: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.reserve(FRAME_OCTETS + SMALL_PAYLOAD_OCTETS);
    out.extend_from_slice(&[kind, 1, 0, 0, 0, 0]);
    payload(out);
    #[expect(clippy::cast_possible_truncation, reason = "bodies are at most 64 KiB")]
    let len = (out.len() - start - 6) as u32;
    out[start + 2..start + 6].copy_from_slice(&len.to_le_bytes());
    let crc = crc32fast::hash(&out[start..]);
    out.put_u32_le(crc);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Record> {
        vec![
            Record::AccountGone,
            Record::BindingGone(BindingGone { device: 3, by: Some(("c".into(), 7)) }),
            Record::Body(Bytes::from_static(&[0, 255, 13, 10])),
            Record::DebtClosed(DebtClosed {
                no: 9,
                debtor: Debtor::Account,
                how: Closed::Refused(603),
            }),
        ]
    }

    #[test]
    fn what_is_written_reads_back() {
        assert_eq!(decode(&encode(&sample())), Ok(sample()));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let good = encode(&sample());
        for at in 0..good.len() * 8 {
            let mut bad = good.to_vec();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(decode(&Bytes::from(bad)).is_err(), "bit {at}");
        }
    }

    #[test]
    fn any_cut_is_noticed_or_ends_between_records() {
        let good = encode(&sample());
        for at in 0..good.len() {
            if let Ok(records) = decode(&good.slice(..at)) {
                assert!(sample().starts_with(&records));
            }
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut newer = BytesMut::from(&encode(&[Record::AccountGone])[..]);
        newer[1] = 2;
        let len = newer.len() - 4;
        let crc = crc32fast::hash(&newer[..len]);
        newer[len..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(&newer.freeze()), Err(Damage::Unknown(2, 2)));
    }
}
