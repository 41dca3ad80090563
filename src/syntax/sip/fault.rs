//! Why a message cannot be read, in the words of the answer to it.

use std::borrow::Cow;

use super::name::Name;

/// Why something cannot be read, as the answer to give: status and reason phrase.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{status} {reason}")]
pub struct Fault {
    /// The SIP status, 400 to 699.
    pub status: u16,
    /// What is wrong; names the header. Never repeats what came in.
    pub reason: Cow<'static, str>,
}

impl Fault {
    /// A fault with a fixed reason.
    #[must_use]
    pub const fn new(status: u16, reason: &'static str) -> Fault {
        Fault { status, reason: Cow::Borrowed(reason) }
    }

    /// 400, `Malformed … header`.
    #[must_use]
    pub fn malformed(name: Name) -> Fault {
        Fault { status: 400, reason: Cow::Owned(format!("Malformed {} header", name.as_str())) }
    }

    /// 400, `Missing … header`.
    #[must_use]
    pub fn missing(name: Name) -> Fault {
        Fault { status: 400, reason: Cow::Owned(format!("Missing {} header", name.as_str())) }
    }

    /// 400, `Repeated … header`.
    #[must_use]
    pub fn repeated(name: Name) -> Fault {
        Fault { status: 400, reason: Cow::Owned(format!("Repeated {} header", name.as_str())) }
    }
}
