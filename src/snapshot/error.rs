//! Why a snapshot, or a part of one, could not be decoded or encoded.

use std::fmt;

use crate::bytes::TooShort;

/// Why a snapshot could not be decoded or encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not what the format says: altered, cut, or written wrongly.
    Damaged {
        /// What was found.
        reason: &'static str,
    },
    /// Written by a later version; this code does not know how to read it.
    UnsupportedVersion(u64),
    /// Sealed with a key epoch that the caller has no key for.
    Key {
        /// The epoch that is named.
        epoch: u32,
    },
    /// The caller wants to encode something that the format cannot hold.
    Invalid {
        /// Which rule it breaks.
        reason: &'static str,
    },
    /// The system had no randomness to give.
    Entropy,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { reason } => write!(f, "Damaged: {reason}"),
            Self::UnsupportedVersion(version) => write!(f, "Version {version} is not supported"),
            Self::Key { epoch } => write!(f, "Sealed with key epoch {epoch}, which is not at hand"),
            Self::Invalid { reason } => write!(f, "Cannot be written: {reason}"),
            Self::Entropy => f.write_str("The system has no randomness to give"),
        }
    }
}

impl std::error::Error for Error {}

impl From<TooShort> for Error {
    fn from(_: TooShort) -> Self {
        Self::Damaged {
            reason: "the bytes end too early",
        }
    }
}

/// Shorthand for what the checks of this room return most.
pub(super) fn damaged<T>(reason: &'static str) -> Result<T, Error> {
    Err(Error::Damaged { reason })
}
