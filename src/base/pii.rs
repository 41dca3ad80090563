//! What belongs to people prints redacted.

use std::fmt;

/// A value whose text (an address, a number, a message) must not reach logs.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Pii<T>(pub T);

impl<T> fmt::Debug for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl<T> fmt::Display for Pii<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}
