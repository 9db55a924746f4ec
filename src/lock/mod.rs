//! Who may do what right now: the commit lock, the maintenance lock, leases and kill lists.
//!
//! Words: a writer holds the *commit lock* shared for milliseconds around its commit; a prune holds it exclusive for
//! milliseconds, to decide and to publish its *kill list*. Whoever supersedes or deletes holds the *maintenance lock* the
//! whole time. A *lease* is a hint who is writing.
//!
//! Always true: locks belong to the kernel, so a process that is gone holds none, and no clock, process id or host name is
//! looked at. Safety depends on the two locks and the kill lists, never on a lease. What is done under a lock, and in
//! which order, is left to the operations.

mod error;
pub mod kill_list;
pub mod lease;

use std::time::Duration;

use crate::layout;
use crate::storage::{LockGuard, LockMode, Storage};

pub use error::Error;
pub use kill_list::{FoundList, KillList, KillListId, KillLists, ListSeal, Proof};
pub use lease::{Lease, LeaseInfo};

/// The commit lock is held until this is dropped.
#[must_use = "dropping it frees the lock"]
pub struct CommitLock {
    _guard: Box<dyn LockGuard>,
}

/// The maintenance lock is held until this is dropped. Whoever supersedes or deletes files asks for a reference to one.
#[must_use = "dropping it frees the lock"]
pub struct MaintLock {
    _guard: Box<dyn LockGuard>,
}

/// Takes the commit lock together with other writers, waiting up to `wait`. `None`: a prune still held it then.
pub fn commit_shared(storage: &dyn Storage, wait: Duration) -> Result<Option<CommitLock>, Error> {
    let guard = storage.lock(layout::COMMIT_LOCK, LockMode::Shared, wait)?;
    Ok(guard.map(|_guard| CommitLock { _guard }))
}

/// Takes the commit lock alone, waiting up to `wait`. `None`: somebody still held it then.
pub fn commit_exclusive(storage: &dyn Storage, wait: Duration) -> Result<Option<CommitLock>, Error> {
    let guard = storage.lock(layout::COMMIT_LOCK, LockMode::Exclusive, wait)?;
    Ok(guard.map(|_guard| CommitLock { _guard }))
}

/// Takes the maintenance lock, waiting up to `wait`. `None`: somebody still held it then.
pub fn maint(storage: &dyn Storage, wait: Duration) -> Result<Option<MaintLock>, Error> {
    let guard = storage.lock(layout::MAINT_LOCK, LockMode::Exclusive, wait)?;
    Ok(guard.map(|_guard| MaintLock { _guard }))
}

/// Takes the maintenance lock if it is free.
pub fn try_maint(storage: &dyn Storage) -> Result<Option<MaintLock>, Error> {
    maint(storage, Duration::ZERO)
}

/// While this lives, nobody maintains.
#[must_use = "dropping it lets others maintain"]
pub struct MaintPause {
    _guard: Box<dyn LockGuard>,
}

/// Keeps others from maintaining for the moment of a second look: what seemed wrong may have been half done. `None`:
/// somebody is at it.
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
    fn writers_commit_together_and_a_prune_decides_alone() {
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
    fn only_one_holds_the_maintenance_lock_and_commits_go_on_beside_it() {
        let storage = new_storage();
        let held = try_maint(&storage).unwrap().unwrap();
        assert!(try_maint(&storage).unwrap().is_none());
        assert!(maint(&storage, Duration::ZERO).unwrap().is_none());
        assert!(commit_shared(&storage, Duration::ZERO).unwrap().is_some());
        drop(held);
        assert!(try_maint(&storage).unwrap().is_some());
    }
}
