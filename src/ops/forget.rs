//! Removing snapshots by name. Their data goes with the next prune.

use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::monitor::NullMonitor;
use crate::ops::prune::forget_all;
use crate::repo::Repository;

/// Removes these snapshots, and returns those that were there. A snapshot whose manifest is damaged is removed too. All are
/// looked for before any is removed.
///
/// # Errors
/// `SnapshotNotFound` when one of them is not there and nothing was removed, `RepositoryLocked`, `ReadOnly`,
/// `LocksUnsupported`, `NoSpace`, `Storage`, `Closed`.
pub fn forget(repo: &Repository, ids: &[SnapshotId]) -> Result<Vec<SnapshotId>> {
    repo.check_open()?;
    repo.begin_writing()?;
    for id in ids {
        if repo.storage().size(&layout::snapshot(id))?.is_none() {
            return Err(Error::SnapshotNotFound { id: id.to_hex() });
        }
    }
    forget_all(repo, ids, &NullMonitor)
}
