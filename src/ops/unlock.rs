//! Listing and removing leases. They are hints (`docs/invariants.md`): a writer that is hit fails cleanly or commits a whole snapshot.

use crate::error::Result;
use crate::id::SnapshotId;
use crate::lock::{LeaseInfo, lease};
use crate::repo::Repository;

/// The leases there are: who is writing, what, and since when; with those that dead processes left.
///
/// # Errors
/// `Storage`, `Closed`.
pub fn locks(repo: &Repository) -> Result<Vec<LeaseInfo>> {
    repo.check_open()?;
    Ok(lease::list(repo.storage())?)
}

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
