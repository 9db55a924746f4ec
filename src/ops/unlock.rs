//! Lists and removes leases. They are hints (`docs/invariants.md`): a writer whose lease is removed
//! fails cleanly or commits a complete snapshot.

use crate::base::Protocol;
use crate::error::Result;
use crate::id::SnapshotId;
use crate::lock::{LeaseInfo, lease};
use crate::repo::Repository;

/// Returns all leases: the session, its operation and its start time, including those that dead
/// processes left over.
///
/// # Errors
/// `Storage`, `Closed`.
pub fn locks(repo: &Repository) -> Result<Vec<LeaseInfo>> {
    repo.check_open()?;
    repo.unless_replaced(lease::list(repo.storage()).map_err(Into::into))
}

/// Removes the leases whose owner has exited; with `force` those of live sessions too. Returns
/// their sessions, sorted.
///
/// # Errors
/// `ReadOnly`, `LocksUnsupported`, `NoSpace`, `Storage`, `Closed`.
pub fn unlock(repo: &Repository, force: bool) -> Result<Vec<SnapshotId>> {
    repo.check_open()?;
    repo.check_writable()?;
    if !force {
        repo.check_folder()?;
        let mut removed = Vec::new();
        repo.with_reserve(|| repo.remove_stale_leases_into(&mut removed))?;
        removed.sort_unstable();
        return Ok(removed);
    }
    repo.begin_writing()?;
    if repo.protocol()? == Protocol::Marks {
        let leases = lease::list(repo.storage())?;
        leases.iter().try_for_each(|lease| repo.end_session(lease))?;
        return Ok(leases.into_iter().map(|lease| lease.session).collect());
    }
    // no process commits while this is held: no record is written next to an existing manifest, and
    // no lease is deleted after its record was deleted
    let _exclusive = repo.commit_exclusive_soon();
    // without its lease, the session's copy of a manifest would look like that of a lost snapshot.
    // The session fails when it finds its lease missing; one that is frozen in its commit may not
    // fail, and a prune deletes that record
    let leases = lease::list(repo.storage())?;
    repo.with_reserve(|| repo.leave_abandoned_records(&leases))?;
    // only these: a lease that was taken since has no record
    Ok(lease::remove_all(repo.storage(), &leases)?)
}
