//! Why an index could not be read.

use crate::bytes::TooShort;
use std::fmt;

/// Why an index could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The bytes do not follow the format.
    Damaged {
        /// The rule that they break.
        reason: &'static str,
    },
    /// Written by a later version.
    UnsupportedVersion(u32),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { reason } => f.write_str(reason),
            Self::UnsupportedVersion(version) => write!(f, "Version {version} of a member index is not supported"),
        }
    }
}

impl std::error::Error for Error {}

impl From<TooShort> for Error {
    fn from(_: TooShort) -> Self {
        Self::Damaged {
            reason: "a page of a member index ends too early",
        }
    }
}

/// Shorthand for the most frequent result of the checks.
pub(super) fn damaged<T>(reason: &'static str) -> Result<T, Error> {
    Err(Error::Damaged { reason })
}
