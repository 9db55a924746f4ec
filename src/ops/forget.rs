//! Removes snapshots by id. The next prune deletes their data.

use crate::catalog::snapshots;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::monitor::NullMonitor;
use crate::ops::prune::forget_all;
use crate::repo::Repository;
use crate::snapshot::record::{ForgotReason, ForgotRecord, MAX_RECORD_LEN};
use crate::storage::judge;

/// Removes these snapshots, and returns those that existed. A snapshot whose manifest is damaged is
/// removed too. All are looked up before any is removed. A snapshot that was already forgotten is
/// skipped, as long as its record exists: many snapshots are removed in batches, and a call that
/// failed between two of them can be repeated.
///
/// # Errors
/// `SnapshotNotFound` when one of them does not exist, and nothing was removed; `RepositoryLocked`,
/// `ReadOnly`, `LocksUnsupported`, `NoSpace` (the reserve is used up too), `Storage`, `Closed`:
/// some may have been removed.
pub fn forget(repo: &Repository, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>> {
    repo.check_open()?;
    repo.begin_writing()?;
    for id in ids {
        if !snapshots::has_manifest(repo, id)? && !was_forgotten(repo, id)? {
            return Err(Error::SnapshotNotFound { id: id.to_hex() });
        }
    }
    let mut forgotten = Vec::new();
    repo.with_reserve(|| forget_all(repo, ids, &NullMonitor, &mut forgotten))?;
    Ok(forgotten)
}

fn was_forgotten(repo: &Repository, id: &SnapshotId) -> Result<bool> {
    let bytes = judge(repo.storage().get(&layout::forgot_record(id), MAX_RECORD_LEN))?;
    let record = bytes.ok().and_then(|bytes| ForgotRecord::decode(&bytes, id).ok());
    Ok(record.is_some_and(|record| record.reason == ForgotReason::Forgotten))
}
