//! Reads one file and writes its repaired bytes.

use crate::error::Result;
use crate::storage::{self, ErrorKind, Storage, Verdict, put_bytes};

/// Result of reading a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The key does not exist.
    Missing,
    /// The file is wrong: too long, no regular file, or damaged.
    Wrong,
    /// The device repeatedly fails to read the file. Its bytes may be good.
    Unreadable(storage::Error),
}

impl Found {
    /// The bytes, if they were read.
    pub(super) fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Missing | Self::Wrong | Self::Unreadable(_) => None,
        }
    }
}

/// Reads a small file, a second time if the device fails to read it. An error that concerns more
/// than this file ends the repair.
pub(super) fn read(storage: &dyn Storage, key: &str, max_len: u64) -> Result<Found> {
    let once = || match storage.get(key, max_len) {
        Ok(bytes) => Ok(Found::Bytes(bytes)),
        Err(error) => match error.kind.verdict() {
            Verdict::Missing => Ok(Found::Missing),
            Verdict::Wrong => Ok(Found::Wrong),
            Verdict::Unreadable if error.kind.is_erasure() => Ok(Found::Unreadable(error)),
            Verdict::Unreadable => Err(error.into()),
        },
    };
    match once()? {
        Found::Unreadable(_) => once(),
        found => Ok(found),
    }
}

/// Writes proven bytes to a key, and keeps the previous file. A file that could not be read may
/// only be replaced by exactly the bytes that it must have.
pub(super) fn write_repaired(storage: &dyn Storage, key: &str, bytes: &[u8], found: &Found) -> Result<()> {
    match found {
        // another process may have written the identical file in the meantime
        Found::Missing => match put_bytes(storage, key, bytes) {
            Ok(_) => {}
            // a folder, which no listing shows
            Err(error) if error.kind == ErrorKind::NotADirectory => storage.replace_damaged(key, bytes)?,
            Err(error) => return Err(error.into()),
        },
        Found::Bytes(_) | Found::Wrong | Found::Unreadable(_) => storage.replace_damaged(key, bytes)?,
    }
    Ok(())
}
