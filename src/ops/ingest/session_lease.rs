//! The lease of an ingest, and its end.

use crate::clock::format_time;
use crate::error::Result;
use crate::id::SnapshotId;
use crate::layout;
use crate::lock::{Lease, lease};
use crate::repo::Repository;

/// The lease of an ingest. It is durable before any other file of its session: a copy of a manifest
/// without manifest, record and lease indicates a lost snapshot. A lease that was removed by force
/// is never recreated: the ingest fails.
pub(super) struct SessionLease {
    lease: Option<Lease>,
}

impl SessionLease {
    pub(super) fn take(repo: &Repository, id: SnapshotId) -> Result<Self> {
        let storage = repo.storage();
        let started_at = format_time(repo.now_ms());
        let lease = Lease::take(storage, id, lease::INGEST, started_at)?;
        storage.include_in_barrier(layout::LOCKS);
        storage.barrier()?;
        Ok(Self { lease: Some(lease) })
    }

    /// Ends it like a killed process: an existing lease file stays.
    pub(super) fn leave(mut self) {
        if let Some(lease) = self.lease.take() {
            lease.leave();
        }
    }
}

impl Drop for SessionLease {
    fn drop(&mut self) {
        // a panic may leave the copy of a manifest: the process that finds the lease of a dead
        // session writes the record
        if std::thread::panicking()
            && let Some(lease) = self.lease.take()
        {
            lease.leave();
        }
    }
}
