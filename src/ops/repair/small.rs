//! Repairs kill lists, `config.json`, key files and records: small files that have a second copy,
//! or need none.

use super::Left;
use super::files::{Found, read, write_repaired};
use crate::base::{Config, MAX_CONFIG_LEN};
use crate::catalog::snapshots::has_manifest;
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

/// Reads the kill lists and moves damaged ones to the quarantine. That is safe under the
/// maintenance lock: no process is deleting packs, and condemned packs that are not deleted yet are
/// only garbage, which the next prune finds again. Marks are read with them: on object storage the
/// caller has promised that no other process runs.
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

/// Repairs `config.json`. The handle was opened with its bytes, so they are proven: by their
/// checksum, and in a sealed repository by their MAC. An unreadable file is left alone: it may be a
/// newer one.
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
        // not damaged: the folder was replaced since this repair began
        repo.check_folder()?;
    }
    write_repaired(repo.storage(), layout::CONFIG, repo.config_bytes(), &found)?;
    Ok(true)
}

/// Rewrites damaged records of forgotten snapshots. Only their existence counts; their contents are
/// informational.
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
            // on object storage, the other reason hides a manifest that is there
            reason: match repo.storage().is_remote() && has_manifest(repo, &id)? {
                true => ForgotReason::Abandoned,
                false => ForgotReason::Forgotten,
            },
            at_ms: repo.now_ms(),
        };
        write_repaired(repo.storage(), &file.key, &record.encode()?, &found)?;
    }
    Ok(())
}

/// State of a key file.
enum KeyState {
    Intact(Vec<u8>),
    /// Written by a later version, or belongs to another repository: left alone.
    Unknown,
    Damaged(Found),
    /// Left alone, whatever the other file contains: the key file is all that opens a repository.
    Unreadable(storage::Error),
}

/// Repairs key files from their copies, and the copies from the key files. Removing a key deletes
/// its copy first, so a copy without a key file means that the key file was lost.
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
        match (inspect(repo, &id, &key)?, inspect(repo, &id, &copy_key)?) {
            (KeyState::Unreadable(error), _) | (_, KeyState::Unreadable(error)) => left.note(repo, error),
            (KeyState::Unknown, _) | (_, KeyState::Unknown) => {}
            (KeyState::Intact(bytes), KeyState::Intact(copy)) if bytes == copy => {}
            (KeyState::Intact(bytes), KeyState::Intact(copy)) => {
                write_repaired(storage, &copy_key, &bytes, &Found::Bytes(copy))?;
                written += 1;
            }
            (KeyState::Intact(bytes), KeyState::Damaged(found)) => {
                write_repaired(storage, &copy_key, &bytes, &found)?;
                written += 1;
            }
            (KeyState::Damaged(found), KeyState::Intact(bytes)) => {
                write_repaired(storage, &key, &bytes, &found)?;
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

fn inspect(repo: &Repository, id: &KeyId, key: &str) -> Result<KeyState> {
    let bytes = match read(repo.storage(), key, MAX_KEY_FILE_LEN as u64)? {
        Found::Bytes(bytes) => bytes,
        Found::Unreadable(error) => return Ok(KeyState::Unreadable(error)),
        found => return Ok(KeyState::Damaged(found)),
    };
    Ok(match KeyFile::decode(&bytes) {
        Ok(file) if file.repo == repo.config().id && file.id == *id => KeyState::Intact(bytes),
        Ok(file) if file.repo != repo.config().id && file.id == *id => KeyState::Unknown,
        Err(CryptoError::Unsupported) => KeyState::Unknown,
        Ok(_) | Err(_) => KeyState::Damaged(Found::Bytes(bytes)),
    })
}
