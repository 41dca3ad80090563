//! Answers that are kept for copies of their requests, side by side in blocks. All last equally
//! long, so a block is given back as a whole; one by one they would leave holes among what stays.

use bytes::{Bytes, BytesMut};

use crate::base::limits::ANSWERS_BLOCK_OCTETS;

/// The block that is being filled.
#[derive(Debug, Default)]
pub(super) struct Answers {
    block: BytesMut,
}

impl Answers {
    /// A copy of an answer, beside the one before.
    pub(super) fn keep(&mut self, answer: &[u8]) -> Bytes {
        if self.block.capacity() < answer.len() {
            self.block = BytesMut::with_capacity(ANSWERS_BLOCK_OCTETS.max(answer.len()));
        }
        self.block.extend_from_slice(answer);
        self.block.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_stand_side_by_side_and_large_ones_alone() {
        let mut answers = Answers::default();
        let (one, two) = (answers.keep(b"one"), answers.keep(b"second"));
        assert_eq!((&one[..], &two[..]), (&b"one"[..], &b"second"[..]));
        assert_eq!(one.as_ptr() as usize + one.len(), two.as_ptr() as usize);
        let large = vec![b'x'; ANSWERS_BLOCK_OCTETS + 1];
        assert_eq!(answers.keep(&large), large);
        assert_eq!(&answers.keep(b"last")[..], b"last");
        assert_eq!((&one[..], &two[..]), (&b"one"[..], &b"second"[..]), "as they were");
    }
}
