//! The mark of a mirror: `mirror.json` in the root of a copy that `mirror_to` made, and its ledger,
//! the list of the snapshots that it has copied (`docs/format.md` §11.5).
//!
//! A repository and its mirror have the same id. Two folders of one id that are both written to
//! would each have snapshots that the other lacks, so a marked folder is never written to, except
//! by the next mirroring. A mark that cannot be decoded is a mark too.

use super::{Base, Environment};
use crate::error::{Error, Result};
use crate::id::{RepoId, SnapshotId};
use crate::lock::lease;
use crate::storage::{ErrorKind, LockMode, Storage, judge, put_bytes};
use crate::{checked_json, layout};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// Longest mark or ledger that is read, in bytes.
const MAX_LEN: u64 = 256 << 20;
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct MarkJson {
    version: u32,
    repository: String,
}

#[derive(Serialize, Deserialize)]
struct LedgerJson {
    version: u32,
    snapshots: Vec<String>,
}

/// True when the folder is marked as a mirror.
pub fn is_mirror(storage: &dyn Storage) -> Result<bool> {
    match storage.size(layout::MIRROR) {
        Ok(len) => Ok(len.is_some()),
        // something has the name of the mark
        Err(error) if error.kind == ErrorKind::NotADirectory => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Marks the folder, whose storage is given, as a mirror of `repo`. Durable when this returns.
pub fn mark_mirror(storage: &dyn Storage, repo: &RepoId) -> Result<()> {
    let json = MarkJson {
        version: VERSION,
        repository: repo.to_hex(),
    };
    put_bytes(storage, layout::MIRROR, &encode(&json)?)?;
    storage.include_in_barrier("");
    storage.barrier()?;
    Ok(())
}

/// The repository that the mark names; `None` when it cannot be decoded.
pub fn marked_repository(storage: &dyn Storage) -> Result<Option<RepoId>> {
    let mark: Option<MarkJson> = read(storage, layout::MIRROR)?;
    let known = mark.filter(|mark| mark.version == VERSION);
    Ok(known.and_then(|mark| RepoId::from_hex(&mark.repository)))
}

/// The snapshots that the ledger names. Two ledgers are left by an interrupted change.
pub fn read_ledger(storage: &dyn Storage) -> Result<BTreeSet<SnapshotId>> {
    let mut all = BTreeSet::new();
    for key in layout::MIRROR_LEDGERS {
        let ledger: Option<LedgerJson> = read(storage, key)?;
        let snapshots = ledger.map(|ledger| ledger.snapshots).unwrap_or_default();
        all.extend(snapshots.iter().filter_map(|id| SnapshotId::from_hex(id)));
    }
    Ok(all)
}

/// Replaces the ledger. At every instant one of the two files has at least the snapshots that were
/// in the old ledger and are in the folder. Durable when this returns.
pub fn write_ledger(storage: &dyn Storage, snapshots: &BTreeSet<SnapshotId>) -> Result<()> {
    let json = LedgerJson {
        version: VERSION,
        snapshots: snapshots.iter().map(SnapshotId::to_hex).collect(),
    };
    let [one, two] = layout::MIRROR_LEDGERS;
    let (old, new) = match storage.size(one)? {
        Some(_) => (one, two),
        None => (two, one),
    };
    // left by an interrupted change, before any snapshot was added because of it
    storage.delete(new)?;
    put_bytes(storage, new, &encode(&json)?)?;
    storage.include_in_barrier("");
    storage.barrier()?;
    storage.delete(old)?;
    storage.barrier()?;
    Ok(())
}

/// Removes the mark, so that the folder is a repository of its own. Nothing is done where there is
/// none. `RepositoryLocked` while a mirroring is running.
pub(super) fn promote(env: &Environment) -> Result<()> {
    let storage = env.storage.as_ref();
    if !is_mirror(storage)? {
        return Ok(());
    }
    let locked = || Error::RepositoryLocked {
        lock: layout::MAINT_LOCK.to_owned(),
        holders: vec!["mirror".to_owned()],
    };
    let _guard = storage
        .lock(layout::MAINT_LOCK, LockMode::Exclusive, Duration::ZERO)?
        .ok_or_else(locked)?;
    // the lock of a bucket excludes no other machine
    if storage.is_remote() && lease::list(storage)?.iter().any(|lease| lease.held) {
        return Err(locked());
    }
    for key in layout::MIRROR_LEDGERS.into_iter().chain([layout::MIRROR]) {
        storage.delete(key)?;
    }
    storage.include_in_barrier("");
    storage.barrier()?;
    Ok(())
}

impl Base {
    /// `Mirror` when the folder is marked as a mirror.
    pub(super) fn check_no_mirror(&self) -> Result<()> {
        refuse_mirror(&self.env)
    }
}

/// `Mirror` when the folder is marked as a mirror.
pub(super) fn refuse_mirror(env: &Environment) -> Result<()> {
    match is_mirror(env.storage.as_ref())? {
        true => Err(Error::Mirror { path: env.path.clone() }),
        false => Ok(()),
    }
}

fn encode<T: Serialize>(json: &T) -> Result<Vec<u8>> {
    let body = serde_json::to_string(json).map_err(|error| Error::Internal {
        reason: format!("the mark of a mirror cannot be encoded: {error}"),
    })?;
    Ok(checked_json::finish(body).into_bytes())
}

/// `None` when the file is missing or damaged.
fn read<T: for<'a> Deserialize<'a>>(storage: &dyn Storage, key: &str) -> Result<Option<T>> {
    let Ok(bytes) = judge(storage.get(key, MAX_LEN))? else {
        return Ok(None);
    };
    Ok(checked_json::verify(&bytes).and_then(|text| serde_json::from_str(text).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn a_mark_has_its_golden_text_and_names_its_repository() {
        let storage = MemoryStorage::new();
        assert!(!is_mirror(&storage).unwrap());
        mark_mirror(&storage, &RepoId([0xab; 16])).unwrap();
        assert!(is_mirror(&storage).unwrap());
        assert_eq!(marked_repository(&storage).unwrap(), Some(RepoId([0xab; 16])));
        let text = format!(r#"{{"version":1,"repository":"{}","checksum":""#, "ab".repeat(16));
        let bytes = storage.get(layout::MIRROR, MAX_LEN).unwrap();
        assert!(bytes.starts_with(text.as_bytes()));
    }

    #[test]
    fn a_damaged_mark_is_a_mark() {
        let storage = MemoryStorage::new();
        put_bytes(&storage, layout::MIRROR, b"").unwrap();
        assert!(is_mirror(&storage).unwrap());
        assert_eq!(marked_repository(&storage).unwrap(), None);
    }

    #[test]
    fn a_ledger_is_replaced_and_two_of_them_are_read_together() {
        let storage = MemoryStorage::new();
        let ids = |range: std::ops::Range<u8>| range.map(|n| SnapshotId([n; 16])).collect::<BTreeSet<_>>();
        assert_eq!(read_ledger(&storage).unwrap(), ids(0..0));
        for most in 1..5 {
            write_ledger(&storage, &ids(0..most)).unwrap();
            assert_eq!(read_ledger(&storage).unwrap(), ids(0..most));
            assert_eq!(storage.list("").unwrap().len(), 1);
        }
        let [one, two] = layout::MIRROR_LEDGERS;
        let free = if storage.size(one).unwrap().is_some() { two } else { one };
        let json = LedgerJson {
            version: VERSION,
            snapshots: vec![SnapshotId([9; 16]).to_hex()],
        };
        put_bytes(&storage, free, &encode(&json).unwrap()).unwrap();
        assert_eq!(read_ledger(&storage).unwrap().len(), 5);
        write_ledger(&storage, &ids(0..2)).unwrap();
        assert_eq!(read_ledger(&storage).unwrap(), ids(0..2));
    }
}
