//! Waiting for the locks of others, and listening all the while.
//!
//! A wait may take as long as `lockWaitMs` says. It is cut into slices, and between them whoever waits hears that the handle
//! was closed or that the operation is to stop.

use super::Base;
use crate::clock::format_time;
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::lock::lease::{INGEST, PRUNE, REPAIR};
use crate::lock::{self, CommitLock, Lease, MaintLock, lease};
use crate::monitor::Monitor;
use crate::storage::Storage;
use std::time::Duration;

/// Longest time in which nobody is listened to.
const SLICE: Duration = Duration::from_millis(50);

/// The maintenance lock and the lease of whoever holds it.
#[must_use = "dropping it lets others maintain"]
pub struct Maintenance {
    // dropped before the lock, so that whoever gets that sees no lease of this one
    lease: Option<Lease>,
    _lock: MaintLock,
}

impl Maintenance {
    /// Ends the lease and keeps the lock: on a full disk the space and the inode of the lease may be what is missing.
    pub fn give_way(&mut self) {
        self.lease = None;
    }
}

/// Many times what a commit takes.
const SOON: Duration = Duration::from_secs(1);

type Take<L> = fn(&dyn Storage, Duration) -> std::result::Result<Option<L>, lock::Error>;

impl Base {
    /// Takes the commit lock together with other writers. `RepositoryLocked` when somebody held it alone, as a prune does for
    /// moments, for longer than the lock wait.
    pub fn commit_shared(&self, monitor: &dyn Monitor) -> Result<CommitLock> {
        self.wait_for(
            layout::COMMIT_LOCK,
            lock::commit_shared,
            |holder| matches!(holder, PRUNE | REPAIR),
            monitor,
        )
    }

    /// Takes the commit lock alone.
    pub fn commit_exclusive(&self, monitor: &dyn Monitor) -> Result<CommitLock> {
        self.wait_for(
            layout::COMMIT_LOCK,
            lock::commit_exclusive,
            |holder| holder == INGEST,
            monitor,
        )
    }

    /// The same if it can be had soon: commits take milliseconds, and who is frozen in one is not waited for.
    pub fn commit_exclusive_soon(&self) -> Option<CommitLock> {
        lock::commit_exclusive(self.storage(), self.lock_wait.min(SOON))
            .ok()
            .flatten()
    }

    /// [`commit_shared`](Self::commit_shared) if it can be had soon: a prune holds it alone for milliseconds.
    pub fn commit_shared_soon(&self) -> Option<CommitLock> {
        lock::commit_shared(self.storage(), self.lock_wait.min(SOON))
            .ok()
            .flatten()
    }

    /// Takes the maintenance lock, which ingests hold for moments only.
    pub fn maint(&self, monitor: &dyn Monitor) -> Result<MaintLock> {
        self.wait_for(layout::MAINT_LOCK, lock::maint, |holder| holder != INGEST, monitor)
    }

    /// The same for an operation that others may have to wait for: a lease tells them its name. Where none can be had, on a full
    /// disk, it works without one.
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

    /// Who may hold a lock, as far as leases tell: `prune since 2026-11-23T01:45:00.000Z`. Changes of keys, forgets and forced
    /// unlocks have none.
    fn holders(&self, may_hold: fn(&str) -> bool) -> Vec<String> {
        let leases = lease::list(self.storage()).unwrap_or_default().into_iter();
        let held = leases.filter(|lease| lease.held);
        let told = held.filter_map(|lease| Some((lease.operation?, lease.started_at?)));
        told.filter(|(operation, _)| may_hold(operation))
            .map(|(operation, started_at)| format!("{operation} since {started_at}"))
            .collect()
    }
}

/// Calls `take` with a part of `wait` again and again until it gives something, `wait` is over or `check` fails.
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
