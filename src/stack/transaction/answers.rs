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
