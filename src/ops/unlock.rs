//! Removing leases. They are hints (`docs/invariants.md`): a writer that is hit fails cleanly or commits a whole snapshot.

use crate::error::Result;
use crate::id::SnapshotId;
use crate::lock::lease;
use crate::repo::Repository;

/// Removes the leases whose owner is gone; with `force` those of live sessions too. Returns their sessions, sorted.
///
/// # Errors
/// `ReadOnly`, `LocksUnsupported`, `Storage`, `Closed`.
pub fn unlock(repo: &Repository, force: bool) -> Result<Vec<SnapshotId>> {
    repo.check_open()?;
    repo.check_writable()?;
    match force {
        true => Ok(lease::remove_all(repo.storage())?),
        false => repo.remove_stale_leases(),
    }
}
