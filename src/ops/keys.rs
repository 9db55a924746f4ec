//! The keys of an encrypted repository: list, add, change, remove.
//!
//! Every key opens the same secrets, so none of this touches a chunk, and a key that is removed is no revocation
//! (`docs/threat-model.md`). What always holds, at every instant and after a crash at any (`docs/invariants.md`, Keys):
//! somebody's passphrase works, the old one or the new one; a key whose adding returned works; one whose removal
//! returned never works again, and no repair brings it back; the last one stays.
//!
//! All changes are made under the maintenance lock, which a repair holds too. What takes long, deriving the new key, is
//! done before. A key file gets its name before its copy does, and loses it after: so a copy without a key file is never
//! anything else than a key file that was lost.

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

/// What a new key is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyOptions {
    /// Cost of the derivation from a passphrase; default 64 MiB, 3 passes, 4 lanes. Never taken from an older key.
    pub kdf: KdfParams,
    /// A name for people; it is stored in clear.
    pub label: Option<String>,
}

/// All keys that are whole, the oldest first; of a plain repository none.
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

/// Adds a key: from then on `secret` opens the repository too. When it fails the key may be there all the same.
///
/// # Errors
/// `NotEncrypted`, `InvalidArgument` (costs, label), `TooManyKeys`, `RepositoryLocked`, `ReadOnly`,
/// `LocksUnsupported`, `NoMemory`, `NoThreads`, `NoSpace`, `Permission`, `Storage`, `Cancelled` (it
/// is not there then), `Closed`.
pub fn add_key(repo: &Repository, secret: &Secret, options: &KeyOptions, monitor: &dyn Monitor) -> Result<KeyInfo> {
    check(repo, options)?;
    let (info, bytes) = repo.make_key(secret, &options.kdf, options.label.as_deref(), monitor)?;
    let _maint = lock(repo, monitor)?;
    // one place is kept free for the moment in which a change has both
    check_room(&key_names(repo.storage())?, MAX_KEYS - 1)?;
    begin_commit(monitor)?;
    publish(repo, &info, &bytes)?;
    Ok(info)
}

/// Puts a new key in the place of another one, by default of the one that this handle was opened with. The new one is
/// durable before the old one goes. Without a label the new one takes that of the old one. When it fails both may be there.
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
    // only now: were it known before a withdrawal that fails, the next try would leave the old key
    let current = repo.current_key() == Some(old);
    if current {
        repo.set_current_key(info.id);
    }
    Ok(KeyInfo { current, ..info })
}

/// Removes a key: what was its passphrase opens nothing any more. Handles that are open stay so.
///
/// # Errors
/// `KeyNotFound`, `LastKey` when no other whole key would be left, `RepositoryLocked`, `ReadOnly`, `LocksUnsupported`,
/// `Permission`, `Storage`, `Closed`.
pub fn remove_key(repo: &Repository, id: &KeyId) -> Result<()> {
    repo.check_open()?;
    repo.begin_writing()?;
    let _maint = lock(repo, &NullMonitor)?;
    let names = key_names(repo.storage())?;
    // a plain repository has no keys, whatever lies in those folders
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
            reason: format!("label: it must have 1 to {MAX_LABEL_LEN} bytes"),
        }),
        _ => Ok(()),
    }
}

/// From here on nobody else changes keys, and what can be seen of them is durable: a key that was published by a process
/// which was killed before its flush must not be the one that is left, nor one whose removal was not flushed come back.
fn lock(repo: &Repository, monitor: &dyn Monitor) -> Result<MaintLock> {
    let lock = repo.maint(monitor)?;
    repo.check_place()?;
    for folder in [layout::KEYS, layout::KEY_COPIES] {
        repo.storage().include_in_barrier(folder);
    }
    repo.storage().barrier()?;
    Ok(lock)
}

/// From here on the change is made, whoever does not want it any more.
fn begin_commit(monitor: &dyn Monitor) -> Result<()> {
    match monitor.begin_commit() {
        true => Ok(()),
        false => Err(Error::Cancelled),
    }
}

/// One more key must not go beyond what an opening tries.
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

/// The key file, then its copy, each durable before the next step; and a look whether it is what it should be, for the only
/// other key may go next.
fn publish(repo: &Repository, info: &KeyInfo, bytes: &[u8]) -> Result<()> {
    for path in [layout::key(&info.id), layout::key_copy(&info.id)] {
        if put_bytes(repo.storage(), &path, bytes)? == Created::Exists {
            return Err(Error::Internal {
                reason: format!("{path} exists already"),
            });
        }
        repo.storage().barrier()?;
    }
    match repo.read_key(&info.id)? {
        Some(read) if read == *info => Ok(()),
        _ => Err(Error::KeyFileCorrupt {
            path: layout::key(&info.id),
            reason: "it cannot be read back as it was written".to_owned(),
        }),
    }
}

/// The copy, then the key file, each durably gone before the next step: a copy that outlived its key file would be taken for
/// one that was lost.
fn withdraw(repo: &Repository, id: &KeyId) -> Result<()> {
    for path in [layout::key_copy(id), layout::key(id)] {
        repo.storage().delete(&path)?;
        repo.storage().barrier()?;
    }
    Ok(())
}
