//! Waiting for the locks of others, and listening all the while.
//!
//! A wait may take as long as `lockWaitMs` says. It is cut into slices, and between them whoever waits hears that the handle
//! was closed or that the operation is to stop.

use super::Repository;
use crate::error::{Error, Result};
use crate::layout;
use crate::lock::{self, CommitLock, MaintLock, lease};
use crate::monitor::Monitor;
use crate::storage::Storage;
use std::time::Duration;

/// Longest time in which nobody is listened to.
const SLICE: Duration = Duration::from_millis(50);

type Take<L> = fn(&dyn Storage, Duration) -> std::result::Result<Option<L>, lock::Error>;

impl Repository {
    /// Takes the commit lock together with other writers. `RepositoryLocked` when a prune held it for longer than the lock
    /// wait.
    pub fn commit_shared(&self, monitor: &dyn Monitor) -> Result<CommitLock> {
        self.wait_for(layout::COMMIT_LOCK, lock::commit_shared, monitor)
    }

    /// Takes the commit lock alone.
    pub fn commit_exclusive(&self, monitor: &dyn Monitor) -> Result<CommitLock> {
        self.wait_for(layout::COMMIT_LOCK, lock::commit_exclusive, monitor)
    }

    /// Takes the maintenance lock.
    pub fn maint(&self, monitor: &dyn Monitor) -> Result<MaintLock> {
        self.wait_for(layout::MAINT_LOCK, lock::maint, monitor)
    }

    fn wait_for<L>(&self, name: &str, take: Take<L>, monitor: &dyn Monitor) -> Result<L> {
        let mut left = self.lock_wait;
        loop {
            self.check_running(monitor)?;
            let slice = left.min(SLICE);
            if let Some(lock) = take(self.storage(), slice)? {
                return Ok(lock);
            }
            left -= slice;
            if left.is_zero() {
                return Err(Error::RepositoryLocked {
                    lock: name.to_owned(),
                    holders: self.holders(name),
                });
            }
        }
    }

    /// Who may hold that lock, as far as leases tell: `prune since 2026-11-23T01:45:00.000Z`. Ingests hold the maintenance
    /// lock for moments only, and a repair has no lease.
    fn holders(&self, name: &str) -> Vec<String> {
        let leases = lease::list(self.storage()).unwrap_or_default().into_iter();
        let held = leases.filter(|lease| lease.held);
        let told = held.filter_map(|lease| Some((lease.operation?, lease.started_at?)));
        told.filter(|(operation, _)| name != layout::MAINT_LOCK || operation != "ingest")
            .map(|(operation, started_at)| format!("{operation} since {started_at}"))
            .collect()
    }
}
