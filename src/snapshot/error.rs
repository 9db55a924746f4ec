//! Why a snapshot, or a part of one, could not be decoded or encoded.

use std::fmt;

use crate::bytes::TooShort;

/// Why a snapshot could not be decoded or encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The bytes do not follow the format: altered, cut off, or written wrongly.
    Damaged {
        /// The rule that they break.
        reason: &'static str,
    },
    /// Written by a later version, and cannot be read by this one.
    UnsupportedVersion(u64),
    /// Sealed with a key epoch for which the caller has no key.
    Key {
        /// The epoch.
        epoch: u32,
    },
    /// The caller tries to encode something that the format does not allow.
    Invalid {
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// The system gave no random bytes.
    Entropy,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // the caller states what is damaged
            Self::Damaged { reason } => f.write_str(reason),
            Self::UnsupportedVersion(version) => write!(f, "Version {version} is not supported"),
            Self::Key { epoch } => write!(f, "Sealed with key epoch {epoch}, for which there is no key"),
            Self::Invalid { reason } => write!(f, "Cannot be written: {reason}"),
            Self::Entropy => f.write_str("The system gave no random bytes"),
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

/// Shorthand for the most frequent result of the checks.
pub(super) fn damaged<T>(reason: &'static str) -> Result<T, Error> {
    Err(Error::Damaged { reason })
}
