//! Lists, adds, changes and removes the keys of an encrypted repository.
//!
//! Every key opens the same secrets, so none of these operations touches a chunk, and removing a
//! key is no revocation (`docs/threat-model.md`). Invariants at every instant and after a crash at
//! any point (`docs/invariants.md`, Keys): at least one passphrase works, the old one or the new
//! one; a key whose addition returned works; a key whose removal returned never works again, and no
//! repair restores it; the last key stays.
//!
//! All changes are made under the maintenance lock, which a repair holds too. The slow part,
//! deriving the new key, is done before the lock is taken. A key file is created before its copy
//! and deleted after it, so a copy without a key file always means that the key file was lost.

use crate::crypto::KdfParams;
use crate::error::{Error, Result};
use crate::id::KeyId;
use crate::layout;
use crate::lock::MaintLock;
use crate::monitor::{Monitor, NullMonitor};
use crate::repo::{KeyInfo, KeyNames, MAX_KEYS, Repository, Secret, key_names};
use crate::storage::{Created, put_bytes};
use std::collections::BTreeMap;

/// Longest label in bytes of UTF-8.
const MAX_LABEL_LEN: usize = 4096;

/// Options of a new key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyOptions {
    /// Cost of the derivation from a passphrase; default 64 MiB, 3 passes, 4 lanes. Never copied
    /// from an older key.
    pub kdf: KdfParams,
    /// An informational name; it is stored unencrypted.
    pub label: Option<String>,
}

/// All intact keys, the oldest first; empty for a plain repository.
///
/// # Errors
/// `Storage`, `Permission`, `Closed`.
pub fn list_keys(repo: &Repository) -> Result<Vec<KeyInfo>> {
    repo.check_open()?;
    if repo.seal().keys().is_none() {
        return Ok(Vec::new());
    }
    repo.unless_replaced(repo.read_keys())
}

/// Adds a key: afterwards `secret` opens the repository too. After an error the key may exist
/// nevertheless.
///
/// # Errors
/// `NotEncrypted`, `InvalidArgument` (costs, label), `TooManyKeys`, `RepositoryLocked`, `ReadOnly`,
/// `LocksUnsupported`, `NoMemory`, `NoThreads`, `NoSpace`, `Permission`, `Storage`, `Cancelled`
/// (the key does not exist then), `Closed`.
pub fn add_key(repo: &Repository, secret: &Secret, options: &KeyOptions, monitor: &dyn Monitor) -> Result<KeyInfo> {
    check(repo, options)?;
    let (info, bytes) = repo.make_key(secret, &options.kdf, options.label.as_deref(), monitor)?;
    let _maint = lock(repo, monitor)?;
    // one slot is kept free for a change, during which both the old and the new key exist
    check_room(&key_names(repo.storage())?, MAX_KEYS - 1)?;
    begin_commit(monitor)?;
    publish(repo, &info, &bytes)?;
    Ok(info)
}

/// Replaces a key with a new one, by default the key that this handle was opened with. The new key
/// is durable before the old one is deleted. Without a label the new key takes that of the old one.
/// After an error both may exist.
///
/// # Errors
/// Those of [`add_key`], and `KeyNotFound`.
pub fn change_key(
    repo: &Repository,
    replaced: Option<&KeyId>,
    secret: &Secret,
    options: &KeyOptions,
    monitor: &dyn Monitor,
) -> Result<KeyInfo> {
    check(repo, options)?;
    let old = match replaced.copied().or_else(|| repo.current_key()) {
        Some(old) => old,
        None => return Err(Error::NotEncrypted),
    };
    let label = match &options.label {
        Some(label) => Some(label.clone()),
        None => repo.read_key(&old)?.and_then(|info| info.label),
    };
    let (info, bytes) = repo.make_key(secret, &options.kdf, label.as_deref(), monitor)?;
    let _maint = lock(repo, monitor)?;
    let names = key_names(repo.storage())?;
    if !names.contains_key(&old) {
        return Err(not_found(&old));
    }
    check_room(&names, MAX_KEYS)?;
    begin_commit(monitor)?;
    publish(repo, &info, &bytes)?;
    withdraw(repo, &old)?;
    // only now: if it were set before a withdrawal that fails, the next try would not remove the
    // old key
    let current = repo.current_key() == Some(old);
    if current {
        repo.set_current_key(info.id);
    }
    Ok(KeyInfo { current, ..info })
}

/// Removes a key: its passphrase no longer opens the repository. Open handles stay open.
///
/// # Errors
/// `KeyNotFound`, `LastKey` when no other intact key would be left, `RepositoryLocked`, `ReadOnly`,
/// `LocksUnsupported`, `Permission`, `Storage`, `Closed`.
pub fn remove_key(repo: &Repository, id: &KeyId) -> Result<()> {
    repo.check_open()?;
    repo.begin_writing()?;
    let _maint = lock(repo, &NullMonitor)?;
    let names = key_names(repo.storage())?;
    // a plain repository has no keys, whatever files are in those folders
    if repo.seal().keys().is_none() || !names.contains_key(id) {
        return Err(not_found(id));
    }
    let mut another = false;
    for other in names.keys().filter(|other| *other != id) {
        another = another || repo.read_key(other)?.is_some();
    }
    if !another {
        return Err(Error::LastKey { id: id.to_hex() });
    }
    withdraw(repo, id)
}

fn check(repo: &Repository, options: &KeyOptions) -> Result<()> {
    repo.check_open()?;
    repo.begin_writing()?;
    if repo.seal().keys().is_none() {
        return Err(Error::NotEncrypted);
    }
    match &options.label {
        Some(label) if label.is_empty() || label.len() > MAX_LABEL_LEN => Err(Error::InvalidArgument {
            reason: format!("label must have 1 to {MAX_LABEL_LEN} bytes"),
        }),
        _ => Ok(()),
    }
}

/// Takes the maintenance lock, so that no other process changes keys, and makes the visible state
/// of the keys durable. Otherwise a key that a process published without a flush before it was
/// killed could be the only one left, or a key whose removal was not flushed could reappear.
fn lock(repo: &Repository, monitor: &dyn Monitor) -> Result<MaintLock> {
    let lock = repo.maint(monitor)?;
    repo.check_folder()?;
    for folder in [layout::KEYS, layout::KEY_COPIES] {
        repo.storage().include_in_barrier(folder);
    }
    repo.storage().barrier()?;
    Ok(lock)
}

/// Starts the part of a change that cannot be cancelled any more.
fn begin_commit(monitor: &dyn Monitor) -> Result<()> {
    match monitor.begin_commit() {
        true => Ok(()),
        false => Err(Error::Cancelled),
    }
}

/// Checks that one more key does not exceed the number of keys that an open tries.
fn check_room(names: &BTreeMap<KeyId, KeyNames>, limit: usize) -> Result<()> {
    if names.len() < limit {
        Ok(())
    } else {
        Err(Error::TooManyKeys { limit })
    }
}

fn not_found(id: &KeyId) -> Error {
    Error::KeyNotFound { id: id.to_hex() }
}

/// Publishes the key file, then its copy, each durable before the next step, and reads the key
/// back, because the only other key may be deleted next.
fn publish(repo: &Repository, info: &KeyInfo, bytes: &[u8]) -> Result<()> {
    for path in [layout::key(&info.id), layout::key_copy(&info.id)] {
        if put_bytes(repo.storage(), &path, bytes)? == Created::Exists {
            return Err(Error::Internal {
                reason: format!("{path} already exists"),
            });
        }
        repo.storage().barrier()?;
    }
    match repo.read_key(&info.id)? {
        Some(read) if read == *info => Ok(()),
        _ => Err(Error::KeyFileCorrupt {
            path: layout::key(&info.id),
            reason: "the file that was just written reads back differently".to_owned(),
        }),
    }
}

/// Deletes the copy, then the key file, each durably before the next step: a copy that outlives its
/// key file would indicate that the key file was lost.
fn withdraw(repo: &Repository, id: &KeyId) -> Result<()> {
    let paths = [layout::key_copy(id), layout::key(id)];
    let kept = match repo.storage().is_remote() {
        true => repo.read_key_file(&paths[1])?.or(repo.read_key_file(&paths[0])?),
        false => None,
    };
    for path in &paths {
        repo.storage().delete(path)?;
        repo.storage().barrier()?;
    }
    // on object storage the lock excludes no other machine, which may have removed the other keys:
    // of two that remove the last ones, the later one finds none left, and puts its own back
    if let Some(bytes) = kept
        && !has_intact_key(repo)?
    {
        for path in &paths {
            put_bytes(repo.storage(), path, &bytes)?;
        }
        return Err(Error::LastKey { id: id.to_hex() });
    }
    Ok(())
}

fn has_intact_key(repo: &Repository) -> Result<bool> {
    for id in key_names(repo.storage())?.keys() {
        if repo.read_key(id)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
