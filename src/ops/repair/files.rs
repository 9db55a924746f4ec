//! One file: what is there, and putting something right in its place.

use crate::error::Result;
use crate::storage::{ErrorKind, Storage, put_bytes};

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

/// Reads a small file.
pub(super) fn read(storage: &dyn Storage, key: &str, max_len: u64) -> Result<Found> {
    match storage.get(key, max_len) {
        Ok(bytes) => Ok(Found::Bytes(bytes)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Found::Missing),
        Err(error) if error.kind.is_damage() => Ok(Found::Unreadable),
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
