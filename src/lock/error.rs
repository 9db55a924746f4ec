//! Why a lock, lease or kill list could not be taken, read or written.

use std::fmt;

use crate::storage::{self, FailedRead};

/// Why a lock, lease or kill list could not be had.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The storage failed.
    Storage(storage::Error),
    /// A file does not follow the format.
    Damaged {
        /// Which file.
        key: String,
        /// The rule that it breaks.
        reason: &'static str,
    },
    /// A file was written by a later version and cannot be read by this one.
    UnsupportedVersion {
        /// Which file.
        key: String,
        /// The version in the file.
        version: u32,
    },
    /// The caller tries to write something that the format does not allow.
    Invalid {
        /// The rule that it breaks.
        reason: &'static str,
    },
}

impl FailedRead for Error {
    fn unreadable(&self) -> Option<&storage::Error> {
        match self {
            Self::Storage(error) => error.unreadable(),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::Damaged { key, reason } => write!(f, "{key} is damaged: {reason}"),
            Self::UnsupportedVersion { key, version } => {
                write!(f, "{key} has version {version}, which is not supported")
            }
            Self::Invalid { reason } => write!(f, "Cannot be written: {reason}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(error) => Some(error),
            _ => None,
        }
    }
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        Self::Storage(error)
    }
}
