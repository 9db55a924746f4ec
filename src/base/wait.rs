//! Waiting for the locks of other processes and operations, with checks during the wait.
//!
//! A wait may take as long as `lockWaitMs`. It is split into slices; between them the waiting
//! operation checks whether the handle was closed or the operation is to stop.

use super::Base;
use crate::clock::format_time;
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::lock::lease::{INGEST, PRUNE, REPAIR};
use crate::lock::{self, CommitLock, Lease, LeaseInfo, MaintLock, lease};
use crate::monitor::Monitor;
use crate::storage::Storage;
use std::time::Duration;

/// Longest time without such a check.
const SLICE: Duration = Duration::from_millis(50);

/// The maintenance lock and the lease of its holder.
#[must_use = "dropping it lets others maintain"]
pub struct Maintenance {
    // dropped before the lock, so that the next holder sees no lease of this one
    lease: Option<Lease>,
    _lock: MaintLock,
}

impl Maintenance {
    /// Ends the lease and keeps the lock: on a full disk the operation may need the space and the
    /// inode of the lease.
    pub fn give_way(&mut self) {
        self.lease = None;
    }
}

/// Many times the duration of a commit.
const SOON: Duration = Duration::from_secs(1);

type Take<L> = fn(&dyn Storage, Duration) -> std::result::Result<Option<L>, lock::Error>;

impl Base {
    /// Takes the commit lock together with other writers. `RepositoryLocked` when another operation
    /// held it exclusively, as a prune does for moments, for longer than the lock wait.
    pub fn commit_shared(&self, monitor: &dyn Monitor) -> Result<CommitLock> {
        self.wait_for(
            layout::COMMIT_LOCK,
            lock::commit_shared,
            |holder| matches!(holder, PRUNE | REPAIR),
            monitor,
        )
    }

    /// Takes the commit lock exclusively.
    pub fn commit_exclusive(&self, monitor: &dyn Monitor) -> Result<CommitLock> {
        self.wait_for(
            layout::COMMIT_LOCK,
            lock::commit_exclusive,
            |holder| holder == INGEST,
            monitor,
        )
    }

    /// The same with a short wait, for a caller that can do without: commits take milliseconds, and
    /// a process that is frozen in one is not waited for.
    pub fn commit_exclusive_soon(&self) -> Option<CommitLock> {
        lock::commit_exclusive(self.storage(), self.lock_wait.min(SOON))
            .ok()
            .flatten()
    }

    /// [`commit_shared`](Self::commit_shared) with a short wait: a prune holds the lock exclusively
    /// for milliseconds.
    pub fn commit_shared_soon(&self) -> Option<CommitLock> {
        lock::commit_shared(self.storage(), self.lock_wait.min(SOON))
            .ok()
            .flatten()
    }

    /// Takes the maintenance lock, which ingests hold only for moments.
    pub fn maint(&self, monitor: &dyn Monitor) -> Result<MaintLock> {
        self.wait_for(layout::MAINT_LOCK, lock::maint, |holder| holder != INGEST, monitor)
    }

    /// The same for an operation that others may have to wait for: its lease contains the name of
    /// the operation, for their errors. If a full disk has no room for a lease, it works without
    /// one.
    pub fn maintain(&self, operation: &str, monitor: &dyn Monitor) -> Result<Maintenance> {
        let lock = self.maint(monitor)?;
        let session = SnapshotId(random(self.entropy())?);
        let lease = Lease::take(self.storage(), session, operation, format_time(self.now_ms()));
        Ok(Maintenance {
            lease: lease.ok(),
            _lock: lock,
        })
    }

    fn wait_for<L>(&self, name: &str, take: Take<L>, may_hold: fn(&str) -> bool, monitor: &dyn Monitor) -> Result<L> {
        let take = |wait| Ok(take(self.storage(), wait)?);
        let taken = in_slices(self.lock_wait, take, &|| self.check_running(monitor))?;
        taken.ok_or_else(|| Error::RepositoryLocked {
            lock: name.to_owned(),
            holders: self.holders(may_hold),
        })
    }

    /// The possible holders of a lock, according to the leases, for example
    /// `prune since 2026-11-23T01:45:00.000Z`. Changes of keys, forgets and forced unlocks have no
    /// lease.
    fn holders(&self, may_hold: fn(&str) -> bool) -> Vec<String> {
        let leases = lease::list(self.storage()).unwrap_or_default().into_iter();
        let may_hold = |lease: &LeaseInfo| lease.operation.as_deref().is_some_and(may_hold);
        leases
            .filter(|lease| lease.held && may_hold(lease))
            .map(|lease| lease.describe())
            .collect()
    }
}

/// Calls `take` with slices of `wait` until it returns a value, `wait` is over or `check` fails.
pub(super) fn in_slices<L>(
    wait: Duration,
    take: impl Fn(Duration) -> Result<Option<L>>,
    check: &dyn Fn() -> Result<()>,
) -> Result<Option<L>> {
    let mut left = wait;
    loop {
        check()?;
        let slice = left.min(SLICE);
        if let Some(taken) = take(slice)? {
            return Ok(Some(taken));
        }
        left -= slice;
        if left.is_zero() {
            return Ok(None);
        }
    }
}
