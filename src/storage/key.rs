//! Keys: relative paths with `/` between names.

use super::{Error, Result};
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

/// Joins a folder, which may be the root, and a name.
pub(super) fn join(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        _ => format!("{folder}/{name}"),
    }
}
