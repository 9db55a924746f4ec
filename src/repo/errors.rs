//! Errors of the rooms below, put into words of the whole.

use crate::error::Error;
use crate::{index, lock, snapshot};

impl From<index::Error> for Error {
    fn from(error: index::Error) -> Self {
        match error {
            index::Error::Storage(error) => error.into(),
            index::Error::NoEntropy => Self::NoEntropy,
            index::Error::Damaged { segment, reason } => Self::IndexCorrupt {
                segment,
                reason: reason.to_string(),
            },
            other => Self::Internal {
                reason: other.to_string(),
            },
        }
    }
}

impl From<lock::Error> for Error {
    fn from(error: lock::Error) -> Self {
        match error {
            lock::Error::Storage(error) => error.into(),
            lock::Error::Damaged { key, reason } => Self::KillListCorrupt {
                path: key,
                reason: reason.to_owned(),
            },
            lock::Error::UnsupportedVersion { key, version } => Self::UnsupportedFormat {
                what: format!("version {version} of {key}"),
            },
            lock::Error::Invalid { reason } => Self::Internal {
                reason: reason.to_owned(),
            },
        }
    }
}

/// For writing; where a snapshot is read, the caller knows which one and says so.
impl From<snapshot::Error> for Error {
    fn from(error: snapshot::Error) -> Self {
        match error {
            snapshot::Error::Entropy => Self::NoEntropy,
            snapshot::Error::Invalid { reason } => Self::InvalidArgument {
                reason: reason.to_owned(),
            },
            other => Self::Internal {
                reason: other.to_string(),
            },
        }
    }
}

impl From<snapshot::retention::PolicyError> for Error {
    fn from(error: snapshot::retention::PolicyError) -> Self {
        Self::InvalidPolicy { reason: error.reason }
    }
}
