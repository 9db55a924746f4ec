//! One file: what is there, and putting something right in its place.

use crate::error::Result;
use crate::storage::{self, ErrorKind, Storage, put_bytes};

/// What lies under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Nothing.
    Missing,
    /// Something that cannot be read: a bad sector, too long, no regular file.
    Unreadable,
}

impl Found {
    /// The bytes, if they were read.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Missing | Self::Unreadable => None,
        }
    }
}

/// Tells damage of one file from trouble with the whole store (not allowed, no space, a flush that failed).
pub(super) fn is_damage(error: &storage::Error) -> bool {
    matches!(
        error.kind,
        ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::UnexpectedEnd | ErrorKind::TooLarge | ErrorKind::Io
    )
}

/// Reads a small file.
pub(super) fn read(storage: &dyn Storage, key: &str, max_len: u64) -> Result<Found> {
    match storage.get(key, max_len) {
        Ok(bytes) => Ok(Found::Bytes(bytes)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Found::Missing),
        Err(error) if is_damage(&error) => Ok(Found::Unreadable),
        Err(error) => Err(error.into()),
    }
}

/// Puts proven bytes under a key, and keeps what lay there.
pub(super) fn put_right(storage: &dyn Storage, key: &str, bytes: &[u8], found: &Found) -> Result<()> {
    match found {
        // somebody else may have put the very same file meanwhile
        Found::Missing => match put_bytes(storage, key, bytes) {
            Ok(_) => {}
            // a folder, which no listing shows
            Err(error) if error.kind == ErrorKind::NotADirectory => storage.replace_damaged(key, bytes)?,
            Err(error) => return Err(error.into()),
        },
        Found::Bytes(_) | Found::Unreadable => storage.replace_damaged(key, bytes)?,
    }
    Ok(())
}
