//! Keys, which are relative paths with `/` between names, and random names.

use super::{Error, Result};
use crate::entropy::{Entropy, random};
use crate::id::to_hex;
use std::io;

/// Refuses keys that could leave the root or be missing in listings: empty, absolute, with a part
/// that is empty or starts with a dot, or with a backslash or NUL.
pub(super) fn check_key(op: &'static str, key: &str) -> Result<()> {
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.');
    if key.split('/').any(bad_part) || key.contains(['\\', '\0']) {
        return Err(Error::from_io(op, key, io::ErrorKind::InvalidInput.into()));
    }
    Ok(())
}

/// Returns the folder of a key; empty for the root.
pub(super) fn folder_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Whether a file is in the list of [`Storage::create_folders`](super::Storage::create_folders):
/// its key, or its folder with a slash at the end.
pub(super) fn is_allowed(key: &str, allowed: &[&str]) -> bool {
    let within = |folder: &str| folder.strip_suffix('/').is_some_and(|folder| folder == folder_of(key));
    allowed.iter().any(|allowed| *allowed == key || within(allowed))
}

/// Joins a folder, which may be the root, and a name.
pub(super) fn join(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        _ => format!("{folder}/{name}"),
    }
}

/// Returns `N` random bytes as hex digits, for a name.
pub(super) fn random_hex<const N: usize>(entropy: &dyn Entropy) -> io::Result<String> {
    random::<N>(entropy)
        .map(|bytes| to_hex(&bytes))
        .map_err(|_| io::Error::other("the system returned no random bytes"))
}
