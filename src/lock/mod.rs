//! Locks of a repository: the commit lock, the maintenance lock, leases and kill lists; on object
//! storage, where locks exclude no other process, marks.
//!
//! A writer holds the *commit lock* shared for milliseconds around its commit. A prune holds it
//! exclusively for milliseconds: to list the snapshots before it finishes a *kill list*, to decide
//! and publish its own, and to delete records. A repair holds it for each manifest that it
//! restores, and a forced unlock if it gets it. An operation that supersedes or deletes holds the
//! *maintenance lock* the whole time. A *lease* is a hint that a session is writing.
//!
//! Invariants: the kernel holds the locks, so a process that has exited holds none, and no clock,
//! process id or host name is used. Safety depends on the two locks and the kill lists, never on a
//! lease. The work under a lock and its order are left to the operations.

mod error;
pub mod kill_list;
pub mod lease;
pub mod marks;
mod proof;

use std::time::Duration;

use crate::layout;
use crate::storage::{LockGuard, LockMode, Storage};

pub use error::Error;
pub use kill_list::{FoundList, KillList, KillListId, KillLists};
pub use lease::{Lease, LeaseInfo};
pub use marks::{FoundMark, Mark, MarkId, MarkPart, Marks};
pub use proof::{ListSeal, Proof};

/// The files that locks need; none on object storage.
pub fn lock_files(storage: &dyn Storage) -> &'static [&'static str] {
    match storage.is_remote() {
        true => &[],
        false => &[layout::COMMIT_LOCK, layout::MAINT_LOCK],
    }
}

/// The commit lock, held until this is dropped.
#[must_use = "dropping it releases the lock"]
pub struct CommitLock {
    _guard: Box<dyn LockGuard>,
}

/// The maintenance lock, held until this is dropped. Functions that supersede or delete files take
/// a reference to one.
#[must_use = "dropping it releases the lock"]
pub struct MaintLock {
    _guard: Box<dyn LockGuard>,
}

/// Takes the commit lock shared with other writers, and waits up to `wait` for it. `None` when a
/// prune still holds it then.
pub fn commit_shared(storage: &dyn Storage, wait: Duration) -> Result<Option<CommitLock>, Error> {
    let guard = storage.lock(layout::COMMIT_LOCK, LockMode::Shared, wait)?;
    Ok(guard.map(|_guard| CommitLock { _guard }))
}

/// Takes the commit lock exclusively, and waits up to `wait` for it. `None` when another process or
/// thread still holds it then.
pub fn commit_exclusive(storage: &dyn Storage, wait: Duration) -> Result<Option<CommitLock>, Error> {
    let guard = storage.lock(layout::COMMIT_LOCK, LockMode::Exclusive, wait)?;
    Ok(guard.map(|_guard| CommitLock { _guard }))
}

/// Takes the maintenance lock, and waits up to `wait` for it. `None` when another process or thread
/// still holds it then.
pub fn maint(storage: &dyn Storage, wait: Duration) -> Result<Option<MaintLock>, Error> {
    let guard = storage.lock(layout::MAINT_LOCK, LockMode::Exclusive, wait)?;
    Ok(guard.map(|_guard| MaintLock { _guard }))
}

/// Takes the maintenance lock if it is free.
pub fn try_maint(storage: &dyn Storage) -> Result<Option<MaintLock>, Error> {
    maint(storage, Duration::ZERO)
}

/// The maintenance lock, held shared: no maintenance runs until this is dropped.
#[must_use = "dropping it allows maintenance again"]
pub struct MaintPause {
    _guard: Box<dyn LockGuard>,
}

/// Prevents maintenance while the caller rechecks: what seemed damaged may have been an unfinished
/// change. `None` when maintenance is running.
pub fn pause_maint(storage: &dyn Storage) -> Result<Option<MaintPause>, Error> {
    let guard = storage.lock(layout::MAINT_LOCK, LockMode::Shared, Duration::ZERO)?;
    Ok(guard.map(|_guard| MaintPause { _guard }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MemoryStorage, put_bytes};

    pub(in crate::lock) fn new_storage() -> MemoryStorage {
        let storage = MemoryStorage::new();
        put_bytes(&storage, layout::COMMIT_LOCK, b"").unwrap();
        put_bytes(&storage, layout::MAINT_LOCK, b"").unwrap();
        storage
    }

    #[test]
    fn writers_share_the_commit_lock_and_a_prune_holds_it_exclusively() {
        let (storage, now) = (new_storage(), Duration::ZERO);
        let one = commit_shared(&storage, now).unwrap().unwrap();
        let two = commit_shared(&storage, now).unwrap().unwrap();
        assert!(commit_exclusive(&storage, now).unwrap().is_none());
        drop((one, two));
        let alone = commit_exclusive(&storage, now).unwrap().unwrap();
        assert!(commit_shared(&storage, now).unwrap().is_none());
        assert!(commit_exclusive(&storage, now).unwrap().is_none());
        drop(alone);
        assert!(commit_shared(&storage, now).unwrap().is_some());
    }

    #[test]
    fn the_maintenance_lock_has_one_holder_and_does_not_block_commits() {
        let storage = new_storage();
        let held = try_maint(&storage).unwrap().unwrap();
        assert!(try_maint(&storage).unwrap().is_none());
        assert!(maint(&storage, Duration::ZERO).unwrap().is_none());
        assert!(commit_shared(&storage, Duration::ZERO).unwrap().is_some());
        drop(held);
        assert!(try_maint(&storage).unwrap().is_some());
    }
}
