//! The lease of an ingest, and how it ends.

use crate::clock::format_time;
use crate::error::Result;
use crate::id::SnapshotId;
use crate::layout;
use crate::lock::{Lease, lease};
use crate::repo::Repository;

/// The lease of an ingest. It is durable before anything of its session is: the copy of a manifest, without manifest,
/// record and lease, is that of a lost snapshot. Removed by force, it never comes back: the ingest fails.
pub(super) struct Presence {
    lease: Option<Lease>,
}

impl Presence {
    pub(super) fn take(repo: &Repository, id: SnapshotId) -> Result<Self> {
        let storage = repo.storage();
        let started_at = format_time(repo.now_ms());
        let lease = Lease::take(storage, id, lease::INGEST, started_at)?;
        storage.include_in_barrier(layout::LOCKS);
        storage.barrier()?;
        Ok(Self { lease: Some(lease) })
    }

    /// Ends it as a killed process would: a file that is still there stays.
    pub(super) fn leave(mut self) {
        if let Some(lease) = self.lease.take() {
            lease.leave();
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // a panic may leave the copy of a manifest: whoever finds the lease of a dead session leaves the record
        if std::thread::panicking()
            && let Some(lease) = self.lease.take()
        {
            lease.leave();
        }
    }
}
