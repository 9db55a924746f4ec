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
    repo.unless_replaced(lease::list(repo.storage()).map_err(Into::into))
}

/// Removes the leases whose owner is gone; with `force` those of live sessions too. Returns their sessions, sorted.
///
/// # Errors
/// `ReadOnly`, `LocksUnsupported`, `NoSpace`, `Storage`, `Closed`.
pub fn unlock(repo: &Repository, force: bool) -> Result<Vec<SnapshotId>> {
    repo.check_open()?;
    repo.check_writable()?;
    if !force {
        repo.check_place()?;
        let mut removed = Vec::new();
        repo.with_reserve(|| repo.remove_stale_leases_into(&mut removed))?;
        removed.sort_unstable();
        return Ok(removed);
    }
    repo.begin_writing()?;
    // nobody commits just then: a record must not come to stand beside a manifest, nor a lease go when the record has
    let _alone = repo.commit_exclusive_soon();
    // without its lease, a session would leave the copy of a manifest that looks lost. It fails when it finds its lease gone;
    // one that is frozen in its commit may not, and a prune takes that record away
    let leases = lease::list(repo.storage())?;
    repo.with_reserve(|| repo.leave_abandoned_records(&leases))?;
    // these alone: one that has come since has no record
    Ok(lease::remove_all(repo.storage(), &leases)?)
}
