//! Kill lists, `config.json`, key files and records: small files with a second copy, or where none is needed.

use super::Left;
use super::files::{Found, put_right, read};
use crate::base::{Config, MAX_CONFIG_LEN};
use crate::crypto::{Error as CryptoError, KeyFile, MAX_KEY_FILE_LEN};
use crate::error::{Error, Result};
use crate::id::{KeyId, SnapshotId};
use crate::layout;
use crate::lock::{KillListId, KillLists};
use crate::repo::Repository;
use crate::snapshot;
use crate::snapshot::record::{ForgotReason, ForgotRecord, MAX_RECORD_LEN};
use crate::storage::{self, Verdict};
use std::collections::BTreeSet;

/// Reads the kill lists; damaged ones go to the quarantine. That is safe under the maintenance lock: nobody is deleting
/// packs, and what was condemned and not deleted yet is only garbage, which the next prune finds again.
pub(super) fn kill_lists(repo: &Repository) -> Result<KillLists> {
    loop {
        match repo.kill_lists() {
            Err(Error::KillListCorrupt { path, .. }) => repo.storage().quarantine(&path)?,
            Err(Error::Storage { source })
                if source.kind.verdict() == Verdict::Wrong && KillListId::from_key(&source.path).is_some() =>
            {
                repo.storage().quarantine(&source.path)?;
            }
            other => return other,
        }
    }
}

/// Puts `config.json` right. The handle has opened with its bytes, so they are proven: by checksum, and in a sealed
/// repository by their MAC. One that cannot be read stays: there may be another by now.
pub(super) fn config(repo: &Repository, left: &mut Left) -> Result<bool> {
    let found = read(repo.storage(), layout::CONFIG, MAX_CONFIG_LEN)?;
    if let Found::Unreadable(error) = found {
        left.note(repo, error);
        return Ok(false);
    }
    if found.bytes() == Some(repo.config_bytes()) {
        return Ok(false);
    }
    if found
        .bytes()
        .and_then(|bytes| Config::decode(bytes).ok())
        .is_some_and(|config| config.id != repo.config().id)
    {
        // not damaged: the folder is another one since this repair began
        repo.check_place()?;
    }
    put_right(repo.storage(), layout::CONFIG, repo.config_bytes(), &found)?;
    Ok(true)
}

/// Writes damaged records of forgotten snapshots again. That they exist is what counts; what they said is for people.
pub(super) fn records(repo: &Repository, left: &mut Left) -> Result<()> {
    for file in repo.storage().list(layout::RECORDS)? {
        let Some(id) = layout::id_of(&file.key, ".forgot").map(SnapshotId) else {
            continue;
        };
        let found = read(repo.storage(), &file.key, MAX_RECORD_LEN)?;
        if let Found::Unreadable(error) = found {
            left.note(repo, error);
            continue;
        }
        let decoded = found.bytes().map(|bytes| ForgotRecord::decode(bytes, &id));
        if found == Found::Missing || matches!(decoded, Some(Ok(_) | Err(snapshot::Error::UnsupportedVersion(_)))) {
            continue;
        }
        let record = ForgotRecord {
            id,
            reason: ForgotReason::Forgotten,
            at_ms: repo.now_ms(),
        };
        put_right(repo.storage(), &file.key, &record.encode()?, &found)?;
    }
    Ok(())
}

/// A key file as it lies there.
enum KeyState {
    Whole(Vec<u8>),
    /// Written by a later version, or of another repository: left alone.
    Unknown,
    Damaged(Found),
    /// Left alone, whatever the other file says: the key file is all that opens a repository.
    Unreadable(storage::Error),
}

/// Puts key files right from their copies, and the copies from the key files. A key that is removed loses its copy first,
/// so a copy without a key file is a key file that was lost.
pub(super) fn keys(repo: &Repository, left: &mut Left) -> Result<u64> {
    if repo.seal().keys().is_none() {
        return Ok(0);
    }
    let storage = repo.storage();
    let mut ids = BTreeSet::new();
    for folder in [layout::KEYS, layout::KEY_COPIES] {
        let files = storage.list(folder)?;
        ids.extend(
            files
                .iter()
                .filter_map(|file| layout::id_of(&file.key, ".json"))
                .map(KeyId),
        );
    }
    let mut written = 0;
    for id in ids {
        let (key, copy_key) = (layout::key(&id), layout::key_copy(&id));
        match (look_at(repo, &id, &key)?, look_at(repo, &id, &copy_key)?) {
            (KeyState::Unreadable(error), _) | (_, KeyState::Unreadable(error)) => left.note(repo, error),
            (KeyState::Unknown, _) | (_, KeyState::Unknown) => {}
            (KeyState::Whole(bytes), KeyState::Whole(copy)) if bytes == copy => {}
            (KeyState::Whole(bytes), KeyState::Whole(copy)) => {
                put_right(storage, &copy_key, &bytes, &Found::Bytes(copy))?;
                written += 1;
            }
            (KeyState::Whole(bytes), KeyState::Damaged(found)) => {
                put_right(storage, &copy_key, &bytes, &found)?;
                written += 1;
            }
            (KeyState::Damaged(found), KeyState::Whole(bytes)) => {
                put_right(storage, &key, &bytes, &found)?;
                written += 1;
            }
            (KeyState::Damaged(_), KeyState::Damaged(_)) => {
                storage.quarantine(&key)?;
                storage.quarantine(&copy_key)?;
            }
        }
    }
    Ok(written)
}

fn look_at(repo: &Repository, id: &KeyId, key: &str) -> Result<KeyState> {
    let bytes = match read(repo.storage(), key, MAX_KEY_FILE_LEN as u64)? {
        Found::Bytes(bytes) => bytes,
        Found::Unreadable(error) => return Ok(KeyState::Unreadable(error)),
        found => return Ok(KeyState::Damaged(found)),
    };
    Ok(match KeyFile::decode(&bytes) {
        Ok(file) if file.repo == repo.config().id && file.id == *id => KeyState::Whole(bytes),
        Ok(file) if file.repo != repo.config().id && file.id == *id => KeyState::Unknown,
        Err(CryptoError::Unsupported) => KeyState::Unknown,
        Ok(_) | Err(_) => KeyState::Damaged(Found::Bytes(bytes)),
    })
}
