//! How commit groups are spelled in an engine of keys and values.
//!
//! Key: `G`, number (8). Numbers count from 1 and leave none out. A group is one value, or, where
//! it is larger than a value may be, several under consecutive numbers, written all or none.
//!
//! Value: format (1), part (4), parts (4), batches (4), CRC-32 (4) over key and all before it; then
//! the batches. Part and parts say how many values the group has and which of them this is.
//!
//! Batch: length of the user's name (2), epoch (4), seq (8), count (4), length (4), user, payload,
//! CRC-32 (4) over key and all before it in the batch: a batch in a foreign value is found out.
//!
//! Numbers are big-endian. Keys that start with `M` are the store's own.
//!
//! Nothing outside of a value knows more of it than its number and whose batches it holds. So what
//! must be deleted for good can be: write the value anew under its key with blank records in
//! place of the ones to delete, of any length, with places and counts as they were.

use crate::base::limits::VALUE_OCTETS_MAX;
use crate::base::log::{Append, Position};

/// Format of a value.
const FORMAT: u8 = 1;
const GROUP: u8 = b'G';
const META: u8 = b'M';
const HEAD_OCTETS: usize = 17;
const BATCH_HEAD_OCTETS: usize = 22;
const CRC_OCTETS: usize = 4;

/// The key of a value of batches.
pub(super) type Key = [u8; 9];

/// The key of value `number`.
pub(super) fn key(number: u64) -> Key {
    let mut key = [GROUP; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The number in a key; `None` if it is no key that we wrote.
pub(super) fn read_key(key: &[u8]) -> Option<u64> {
    let (&kind, number) = key.split_first()?;
    (kind == GROUP).then_some(u64::from_be_bytes(number.try_into().ok()?))
}

/// The key of one of the store's own values.
pub(super) fn meta(name: &str) -> Vec<u8> {
    let mut key = vec![META];
    key.extend_from_slice(name.as_bytes());
    key
}

/// Whether `key` is that of one of the store's own values.
pub(super) fn is_meta(key: &[u8]) -> bool {
    key.first() == Some(&META)
}

/// The value to keep under a key of [`meta`].
pub(super) fn seal(key: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(payload.len() + 1 + CRC_OCTETS);
    value.push(FORMAT);
    value.extend_from_slice(payload);
    let crc = checksum(&keyed(key), &value);
    value.extend_from_slice(&crc.to_be_bytes());
    value
}

/// What [`seal`] has kept, or what is wrong with it.
pub(super) fn open<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], String> {
    known_format(sealed(&keyed(key), value)?)
}

/// The values of one group, while it is written. Used again for the next one.
#[derive(Default)]
pub(super) struct Writer {
    first: u64,
    octets: Vec<u8>,
    /// Where each value starts, and how many batches it holds.
    values: Vec<(usize, u32)>,
    keyed: crc32fast::Hasher,
}

impl Writer {
    /// Starts a group whose first value has the number `first`.
    pub(super) fn begin(&mut self, first: u64) {
        self.first = first;
        self.octets.clear();
        self.values.clear();
    }

    /// Adds a batch; says the number of the value that it went to.
    pub(super) fn push(&mut self, append: &Append) -> u64 {
        let size = BATCH_HEAD_OCTETS + append.user.len() + append.value.len() + CRC_OCTETS;
        let full = |start: usize| self.octets.len() - start + size > VALUE_OCTETS_MAX;
        if self.values.last().is_none_or(|(start, _)| full(*start)) {
            self.values.push((self.octets.len(), 0));
            self.octets.extend_from_slice(&[0; HEAD_OCTETS]);
            self.keyed = keyed(&key(self.first + self.values.len() as u64 - 1));
        }
        if let Some((_, batches)) = self.values.last_mut() {
            *batches += 1;
        }
        let start = self.octets.len();
        // The engine has refused what does not fit; a wrong length would not open again.
        let length = |octets: usize| u32::try_from(octets).unwrap_or(u32::MAX);
        let user = u16::try_from(append.user.len()).unwrap_or(u16::MAX);
        self.octets.extend_from_slice(&user.to_be_bytes());
        self.octets.extend_from_slice(&append.position.epoch.to_be_bytes());
        self.octets.extend_from_slice(&append.position.seq.to_be_bytes());
        self.octets.extend_from_slice(&append.count.to_be_bytes());
        self.octets.extend_from_slice(&length(append.value.len()).to_be_bytes());
        self.octets.extend_from_slice(append.user.as_bytes());
        self.octets.extend_from_slice(&append.value);
        let crc = checksum(&self.keyed, self.octets.get(start..).unwrap_or_default());
        self.octets.extend_from_slice(&crc.to_be_bytes());
        self.first + self.values.len() as u64 - 1
    }

    /// Gives the keys and values of the group.
    pub(super) fn finish(&mut self, mut put: impl FnMut(&[u8], &[u8])) {
        let parts = u32::try_from(self.values.len()).unwrap_or(u32::MAX);
        let mut rest = self.octets.as_mut_slice();
        let ends = self.values.iter().skip(1).map(|(start, _)| *start).chain([usize::MAX]);
        for ((part, (start, batches)), end) in (0u32..).zip(&self.values).zip(ends) {
            let length = end.min(start + rest.len()) - start;
            let (value, after) = rest.split_at_mut(length);
            rest = after;
            let key = key(self.first + u64::from(part));
            if let Some(head) = value.first_chunk_mut() {
                *head = write_head(&key, part, parts, *batches);
            }
            put(&key, value);
        }
    }
}

/// One value of batches, while it is read: an iterator over its batches, damaged ones too.
pub(super) struct Value<'a> {
    /// Which of the values of its group this is, from 0.
    pub(super) part: u32,
    /// How many values its group has.
    pub(super) parts: u32,
    left: u32,
    rest: &'a [u8],
    keyed: crc32fast::Hasher,
}

impl<'a> Value<'a> {
    /// Opens the value under the key of `number`, or says what is wrong with it.
    pub(super) fn open(number: u64, value: &'a [u8]) -> Result<Value<'a>, String> {
        let keyed = keyed(&key(number));
        let (head, rest) = value.split_at_checked(HEAD_OCTETS).ok_or("a value is cut short")?;
        let head = known_format(sealed(&keyed, head)?)?;
        let (part, head) = number_of(head)?;
        let (parts, head) = number_of(head)?;
        let (left, _) = number_of(head)?;
        Ok(Value { part, parts, left, rest, keyed })
    }
}

impl<'a> Iterator for Value<'a> {
    type Item = Result<Framed<'a>, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            let longer = !std::mem::take(&mut self.rest).is_empty();
            return longer.then(|| Err("a value is longer than it says".to_owned()));
        }
        let split = Framed::split(self.rest, &self.keyed);
        if let Some((framed, rest)) = split {
            (self.left, self.rest) = (self.left - 1, rest);
            return Some(Ok(framed));
        }
        let what = format!("the last {} batches of a value are cut short", self.left);
        (self.left, self.rest) = (0, &[]);
        Some(Err(what))
    }
}

/// One batch in a value; nothing in it is certain before [`Framed::checked`].
pub(super) struct Framed<'a> {
    user: &'a [u8],
    first: Position,
    count: u32,
    payload: &'a [u8],
    sealed: &'a [u8],
    keyed: crc32fast::Hasher,
}

impl<'a> Framed<'a> {
    /// Whether it says that it is a batch of `user` in `epoch`.
    pub(super) fn claims(&self, user: &str, epoch: u32) -> bool {
        self.user == user.as_bytes() && self.first.epoch == epoch
    }

    /// User, place of the first record, number of records, and payload, if the checksum agrees.
    pub(super) fn checked(&self) -> Result<(&'a str, Position, u32, &'a [u8]), String> {
        sealed(&self.keyed, self.sealed)?;
        let user = std::str::from_utf8(self.user).map_err(|_| "a user's name cannot be read")?;
        Ok((user, self.first, self.count, self.payload))
    }

    fn split(octets: &'a [u8], keyed: &crc32fast::Hasher) -> Option<(Framed<'a>, &'a [u8])> {
        let (user, rest) = octets.split_first_chunk::<2>()?;
        let (epoch, rest) = rest.split_first_chunk::<4>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let user = usize::from(u16::from_be_bytes(*user));
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (user, rest) = rest.split_at_checked(user)?;
        let (payload, rest) = rest.split_at_checked(length)?;
        let rest = rest.get(CRC_OCTETS..)?;
        let framed = Framed {
            user,
            first: Position { epoch: u32::from_be_bytes(*epoch), seq: u64::from_be_bytes(*seq) },
            count: u32::from_be_bytes(*count),
            payload,
            sealed: octets.get(..octets.len() - rest.len())?,
            keyed: keyed.clone(),
        };
        Some((framed, rest))
    }
}

fn write_head(key: &Key, part: u32, parts: u32, batches: u32) -> [u8; HEAD_OCTETS] {
    let mut head = [FORMAT; HEAD_OCTETS];
    head[1..5].copy_from_slice(&part.to_be_bytes());
    head[5..9].copy_from_slice(&parts.to_be_bytes());
    head[9..13].copy_from_slice(&batches.to_be_bytes());
    let crc = checksum(&keyed(key), &head[..13]);
    head[13..].copy_from_slice(&crc.to_be_bytes());
    head
}

fn number_of(octets: &[u8]) -> Result<(u32, &[u8]), String> {
    let (number, rest) = octets.split_first_chunk().ok_or("a value is cut short")?;
    Ok((u32::from_be_bytes(*number), rest))
}

fn known_format(octets: &[u8]) -> Result<&[u8], String> {
    match octets.split_first() {
        Some((&FORMAT, rest)) => Ok(rest),
        Some((other, _)) => Err(format!("a value has format {other}, not {FORMAT}")),
        None => Err("a value is empty".to_owned()),
    }
}

/// The octets before the checksum, if it agrees.
fn sealed<'a>(keyed: &crc32fast::Hasher, octets: &'a [u8]) -> Result<&'a [u8], String> {
    let (body, crc) = octets.split_last_chunk::<CRC_OCTETS>().ok_or("a value is cut short")?;
    if u32::from_be_bytes(*crc) != checksum(keyed, body) {
        return Err("a checksum differs".to_owned());
    }
    Ok(body)
}

fn keyed(key: &[u8]) -> crc32fast::Hasher {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc
}

fn checksum(keyed: &crc32fast::Hasher, body: &[u8]) -> u32 {
    let mut crc = keyed.clone();
    crc.update(body);
    crc.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(user: &str, seq: u64, value: Vec<u8>) -> Append {
        let position = Position { epoch: 1, seq };
        let (user, value) = (user.into(), value.into());
        Append { ticket: 0, user, position, count: 1, value, blobs: Vec::new() }
    }

    fn written(first: u64, group: &[Append]) -> Vec<(u64, Vec<u8>)> {
        let mut writer = Writer::default();
        // What an earlier group has left must not matter.
        writer.begin(1);
        writer.push(&batch("left", 1, vec![1; 100]));
        writer.begin(first);
        let numbers: Vec<u64> = group.iter().map(|append| writer.push(append)).collect();
        let mut out = Vec::new();
        writer.finish(|key, value| out.push((read_key(key).unwrap(), value.to_vec())));
        assert!(numbers.is_sorted() && numbers.last() == out.last().map(|(number, _)| number));
        out
    }

    type Read = Vec<(String, Position, u32, Vec<u8>)>;

    fn read(number: u64, value: &[u8]) -> Result<Read, String> {
        let owned = |framed: Result<Framed<'_>, String>| {
            framed?.checked().map(|(user, at, n, value)| (user.to_owned(), at, n, value.to_vec()))
        };
        Value::open(number, value)?.map(owned).collect()
    }

    #[test]
    fn keys_sort_by_number() {
        let keys = [key(1), key(255), key(256), key(u64::MAX)];
        assert!(keys.is_sorted());
        assert_eq!(read_key(&keys[2]), Some(256));
        for bad in [&b""[..], b"G", b"G1234567", b"G123456789", b"L12345678"] {
            assert_eq!(read_key(bad), None);
        }
        assert_eq!(read_key(&meta("12345678")), None);
        assert!(is_meta(&meta("x")) && !is_meta(&key(1)) && !is_meta(b""));
    }

    #[test]
    fn a_group_takes_as_many_values_as_it_needs() {
        let group: Vec<Append> =
            (1..=4).map(|n| batch("u", n, vec![7; VALUE_OCTETS_MAX / 2 - 60])).collect();
        let values = written(8, &group);
        assert_eq!(values.len(), 2);
        for (number, value) in &values {
            assert!(value.len() <= VALUE_OCTETS_MAX);
            let value = Value::open(*number, value).unwrap();
            assert_eq!((u64::from(value.part), value.parts, value.left), (number - 8, 2, 2));
        }
        let largest = batch("u", 1, vec![7; VALUE_OCTETS_MAX]);
        let mixed = [batch("u", 1, vec![]), largest.clone(), largest, batch("u", 1, vec![])];
        let values = written(1, &mixed);
        assert_eq!(values.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(read(2, &values[1].1).unwrap()[0].3.len(), VALUE_OCTETS_MAX);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let group = [batch("sip:a@a.example", 7, b"payload".into()), batch("b", 1, vec![])];
        let values = written(5, &group);
        let (number, good) = &values[0];
        let found = read(*number, good).unwrap();
        let a = ("sip:a@a.example".to_owned(), group[0].position, 1, b"payload".to_vec());
        assert_eq!(found, [a, ("b".to_owned(), group[1].position, 1, vec![])]);
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(read(*number, &bad).is_err(), "bit {bit}");
        }
        for cut in 0..good.len() {
            assert!(read(*number, &good[..cut]).is_err(), "cut {cut}");
        }
        assert!(read(*number, &[good.as_slice(), b"x"].concat()).is_err());
        assert!(read(number + 1, good).is_err(), "under a foreign key");
        let own = seal(&meta("x"), b"own");
        assert_eq!(open(&meta("x"), &own), Ok(&b"own"[..]));
        assert!(open(&meta("y"), &own).is_err());
    }

    #[test]
    fn damage_in_one_batch_leaves_the_others_readable() {
        let group: Vec<Append> = (1..=3).map(|seq| batch("u", seq, vec![9; 50])).collect();
        let mut value = written(1, &group).remove(0).1;
        let middle = value.len() / 2;
        value[middle] ^= 1;
        let whole: Vec<bool> = Value::open(1, &value)
            .unwrap()
            .map(|framed| framed.and_then(|f| f.checked().map(drop)).is_ok())
            .collect();
        assert_eq!(whole, [true, false, true]);
    }
}
