//! Leases and what they leave: which sessions are at work, and the removal of what processes that
//! have exited left behind.

use super::Base;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::lock::{LeaseInfo, lease};
use crate::snapshot::record::{ForgotReason, ForgotRecord};
use crate::storage::put_bytes;
use std::collections::HashSet;

impl Base {
    /// The sessions that are at work; those of maintenance, which give their ids to no pack, left out.
    pub fn writers(&self) -> Result<HashSet<SnapshotId>> {
        let leases = lease::list(self.storage())?.into_iter();
        let writers = leases.filter(|lease| lease.held && lease.may_leave_copies());
        Ok(writers.map(|lease| lease.session).collect())
    }

    /// Removes what dead processes left behind: stale leases, and when there were any, half-written files too. Nothing
    /// depends on it, so a failure means nothing.
    pub fn clean_leftovers(&self) {
        if self.remove_stale_leases().is_ok_and(|sessions| !sessions.is_empty()) {
            self.clean_half_written();
        }
    }

    /// Removes the half-written files whose writer is gone.
    pub fn clean_half_written(&self) {
        for folder in layout::FOLDERS.into_iter().chain([""]) {
            let _ = self.storage().clean_temporary(folder);
        }
    }

    /// Removes the leases whose owner is gone and returns their sessions, sorted. One that ended without a manifest may have
    /// stored the copy of one, so it leaves a durable record that its snapshot was given up: else the copy would look like
    /// that of a lost snapshot.
    pub fn remove_stale_leases(&self) -> Result<Vec<SnapshotId>> {
        let mut removed = Vec::new();
        self.remove_stale_leases_into(&mut removed)?;
        removed.sort_unstable();
        Ok(removed)
    }

    /// The same, and adds to `removed` what was removed also when it fails.
    pub fn remove_stale_leases_into(&self, removed: &mut Vec<SnapshotId>) -> Result<()> {
        let mut stale = lease::list(self.storage())?;
        stale.retain(|lease| !lease.held);
        // records come and go under the commit lock only; without it the leases stay for the next call
        let needs_records = stale.iter().any(LeaseInfo::may_leave_copies);
        let guard = needs_records.then(|| self.commit_shared_soon()).flatten();
        if needs_records && guard.is_none() {
            stale.retain(|lease| !lease.may_leave_copies());
        }
        match self.end_stale(&stale, removed) {
            Err(Error::NoSpace { .. }) => {}
            other => return other,
        }
        // one at a time, those that need no record first: each gives back what the next record takes
        stale.sort_by_key(LeaseInfo::may_leave_copies);
        stale
            .iter()
            .try_for_each(|lease| self.end_stale(std::slice::from_ref(lease), removed))
    }

    fn end_stale(&self, stale: &[LeaseInfo], removed: &mut Vec<SnapshotId>) -> Result<()> {
        self.leave_abandoned_records(stale)?;
        for lease in stale {
            self.storage().delete(&layout::lease(&lease.session))?;
            removed.push(lease.session);
        }
        Ok(())
    }

    /// The sessions of stale leases that came to nothing: those for which [`remove_stale_leases`](Self::remove_stale_leases)
    /// would leave a record.
    pub fn abandoned_sessions(&self) -> Result<Vec<SnapshotId>> {
        let mut stale = lease::list(self.storage())?;
        stale.retain(|lease| !lease.held);
        self.without_manifest(&stale)
    }

    /// Of the sessions of these leases, those that may leave the copy of a manifest and have none.
    fn without_manifest(&self, leases: &[LeaseInfo]) -> Result<Vec<SnapshotId>> {
        let mut without = Vec::new();
        for lease in leases.iter().filter(|lease| lease.may_leave_copies()) {
            if self.storage().size(&layout::snapshot(&lease.session))?.is_none() {
                without.push(lease.session);
            }
        }
        Ok(without)
    }

    /// Leaves durable records that the sessions of these leases came to nothing, those left out that have a manifest.
    pub fn leave_abandoned_records(&self, leases: &[LeaseInfo]) -> Result<()> {
        let storage = self.storage();
        if !leases.iter().any(LeaseInfo::may_leave_copies) {
            return Ok(());
        }
        for session in self.without_manifest(leases)? {
            let record = ForgotRecord {
                id: session,
                reason: ForgotReason::Abandoned,
                at_ms: self.now_ms(),
            };
            put_bytes(storage, &layout::forgot_record(&session), &record.encode()?)?;
        }
        // and the manifests of those that have one
        storage.include_in_barrier(layout::SNAPSHOTS);
        Ok(storage.barrier()?)
    }
}
