//! Conversions of the errors of lower rooms into [`Error`].

use crate::error::Error;
use crate::parity::{self, Damage, Refusal};
use crate::{buffer, crypto, executor, index, lock, snapshot};

impl From<index::Error> for Error {
    fn from(error: index::Error) -> Self {
        match error {
            index::Error::Storage(error) | index::Error::Unreadable { source: error, .. } => error.into(),
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

/// The error of a key derivation that is not about the key or the key file: the same call may
/// succeed later, or was cancelled. `None` for every other error.
pub(super) fn of_derivation(error: crypto::Error) -> Option<Error> {
    Some(match error {
        crypto::Error::NoMemory => Error::NoMemory,
        crypto::Error::NoThreads => Error::NoThreads,
        crypto::Error::NoEntropy => Error::NoEntropy,
        crypto::Error::Unwanted => Error::Cancelled,
        _ => return None,
    })
}

impl From<buffer::NoMemory> for Error {
    fn from(_: buffer::NoMemory) -> Self {
        Self::NoMemory
    }
}

impl From<executor::NoThreads> for Error {
    fn from(_: executor::NoThreads) -> Self {
        Self::NoThreads
    }
}

impl From<parity::Error> for Error {
    fn from(error: parity::Error) -> Self {
        match error {
            parity::Error::Storage(error) => error.into(),
            parity::Error::NoEntropy => Self::NoEntropy,
            parity::Error::Refused(Refusal::NoMemory) => Self::NoMemory,
            parity::Error::Damaged {
                group,
                reason: Damage::Unsupported,
            } => Self::UnsupportedFormat {
                what: format!("the version of parity group {group}"),
            },
            parity::Error::Damaged { group, reason } => Self::ParityCorrupt {
                group,
                reason: reason.to_string(),
            },
            parity::Error::Lost(lost) => match (lost.unreadable.clone(), lost.pack) {
                (Some(unreadable), _) => unreadable.into(),
                (None, Some(pack)) => Self::PackCorrupt {
                    pack,
                    reason: parity::Error::Lost(lost).to_string(),
                },
                (None, None) => Self::ParityCorrupt {
                    group: lost.group,
                    reason: "more is damaged than its packs can rebuild".to_owned(),
                },
            },
            // packs or groups that cannot be combined: the caller that combined them has a bug
            parity::Error::Refused(_) => Self::Internal {
                reason: error.to_string(),
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

/// For writes; a caller that reads a snapshot knows its id, and creates the error itself.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{GroupId, PackId, SnapshotId};
    use crate::parity::Lost;
    use crate::storage::{self, ErrorKind};

    #[test]
    fn parity_errors_have_their_own_codes_and_only_a_bug_is_internal() {
        let group = GroupId([1; 16]);
        let damaged = |reason| parity::Error::Damaged { group, reason };
        let lost = |pack| {
            parity::Error::Lost(Box::new(Lost {
                group,
                pack,
                rows: vec![0..3, 5..6],
                first_row: 0,
                bytes: Vec::new(),
                unreadable: None,
            }))
        };
        let no_space = storage::Error::new(ErrorKind::NoSpace, "put", "x");
        for (error, code) in [
            (damaged(Damage::Record), "ERR_PARITY_CORRUPT"),
            (damaged(Damage::Missing), "ERR_PARITY_CORRUPT"),
            (damaged(Damage::Unsupported), "ERR_UNSUPPORTED_FORMAT"),
            (lost(Some(PackId([2; 32]))), "ERR_PACK_CORRUPT"),
            (lost(None), "ERR_PARITY_CORRUPT"),
            (parity::Error::Storage(no_space), "ERR_NO_SPACE"),
            (parity::Error::Refused(Refusal::NoMemory), "ERR_NO_MEMORY"),
            (parity::Error::NoEntropy, "ERR_NO_ENTROPY"),
            (parity::Error::Refused(Refusal::Duplicate), "ERR_INTERNAL"),
        ] {
            assert_eq!(Error::from(error).code(), code);
        }
        let text = Error::from(lost(Some(PackId([2; 32])))).to_string();
        assert!(text.contains("4 rows"), "{text}");
    }

    #[test]
    fn the_text_of_a_damaged_manifest_states_once_that_it_is_damaged() {
        let error = Error::ManifestCorrupt {
            snapshot: SnapshotId([7; 16]),
            reason: snapshot::Error::Damaged {
                reason: "the bytes end too early",
            }
            .to_string(),
        };
        let expected = format!(
            "The manifest of snapshot {} is damaged: the bytes end too early",
            "07".repeat(16)
        );
        assert_eq!(error.to_string(), expected);
    }
}
