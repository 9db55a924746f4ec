//! Leases and leftovers: which sessions are writing, and the cleanup after processes that have
//! exited.

use super::{Base, Protocol};
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::lock::{LeaseInfo, lease};
use crate::snapshot::record::{ForgotReason, ForgotRecord};
use crate::storage::{Storage, put_bytes};
use std::collections::HashSet;

/// `RepositoryLocked` while a lease is held, other than that of the session `except`.
pub fn refuse_holders(storage: &dyn Storage, except: Option<SnapshotId>) -> Result<()> {
    refuse_those(storage, &|lease| Some(lease.session) != except)
}

/// `RepositoryLocked` while a lease is held of an operation that replaces files by the promise to
/// be alone.
pub fn refuse_repairs(storage: &dyn Storage) -> Result<()> {
    refuse_those(storage, &LeaseInfo::needs_to_be_alone)
}

fn refuse_those(storage: &dyn Storage, is_refused: &dyn Fn(&LeaseInfo) -> bool) -> Result<()> {
    let leases = lease::list(storage)?.into_iter();
    let held = leases.filter(|lease| lease.held && is_refused(lease));
    let holders: Vec<String> = held.map(|lease| lease.describe()).collect();
    match holders.is_empty() {
        true => Ok(()),
        false => Err(Error::RepositoryLocked {
            lock: format!("leases in {}", layout::LOCKS),
            holders,
        }),
    }
}

impl Base {
    /// The sessions that are writing, without those of maintenance, which write no pack with their
    /// id.
    pub fn writers(&self) -> Result<HashSet<SnapshotId>> {
        let leases = lease::list(self.storage())?.into_iter();
        let writers = leases.filter(|lease| lease.held && lease.may_leave_copies());
        Ok(writers.map(|lease| lease.session).collect())
    }

    /// Before an operation that deletes. A folder needs nothing: locks exclude other processes. On
    /// object storage the caller must have promised that no other process uses the repository, and
    /// no lease may contradict that.
    ///
    /// # Errors
    /// `ExclusiveRequired`; `RepositoryLocked` with the sessions that seem to be alive.
    pub fn check_exclusive(&self, is_promised: bool) -> Result<()> {
        if !self.storage().is_remote() {
            return Ok(());
        }
        if !is_promised {
            return Err(Error::ExclusiveRequired);
        }
        refuse_holders(self.storage(), None)
    }

    /// Removes the leftovers of processes that have exited: stale leases, and if there were any,
    /// half-written files too. Nothing depends on it, so a failure is ignored.
    pub fn clean_leftovers(&self) {
        if self.remove_stale_leases().is_ok_and(|sessions| !sessions.is_empty()) {
            self.clean_half_written();
        }
    }

    /// Removes the half-written files whose writer has exited.
    pub fn clean_half_written(&self) {
        for folder in layout::FOLDERS.into_iter().chain([""]) {
            let _ = self.storage().clean_temporary(folder);
        }
    }

    /// Removes the leases whose owner has exited and returns their sessions, sorted. A session that
    /// ended without a manifest may have stored a copy of one, so a durable record is put that it
    /// was abandoned: without the record, the copy would look like that of a lost snapshot. On
    /// object storage, where the owner may be alive, a tombstone says so to it too.
    pub fn remove_stale_leases(&self) -> Result<Vec<SnapshotId>> {
        let mut removed = Vec::new();
        self.remove_stale_leases_into(&mut removed)?;
        removed.sort_unstable();
        Ok(removed)
    }

    /// The same, and adds the removed sessions to `removed`, also when it fails.
    pub fn remove_stale_leases_into(&self, removed: &mut Vec<SnapshotId>) -> Result<()> {
        let mut stale = lease::list(self.storage())?;
        stale.retain(|lease| !lease.held);
        // records are put and deleted only under the commit lock; without it the leases stay for
        // the next call
        let needs_records = stale.iter().any(LeaseInfo::may_leave_copies);
        let guard = needs_records.then(|| self.commit_shared_soon()).flatten();
        if needs_records && guard.is_none() {
            stale.retain(|lease| !lease.may_leave_copies());
        }
        match self.end_stale(&stale, removed) {
            Err(Error::NoSpace { .. }) => {}
            other => return other,
        }
        // one at a time, those that need no record first: each frees the space that the next record
        // takes
        stale.sort_by_key(LeaseInfo::may_leave_copies);
        stale
            .iter()
            .try_for_each(|lease| self.end_stale(std::slice::from_ref(lease), removed))
    }

    fn end_stale(&self, stale: &[LeaseInfo], removed: &mut Vec<SnapshotId>) -> Result<()> {
        if !stale.is_empty() && self.protocol()? == Protocol::Marks {
            for lease in stale {
                self.end_session(lease)?;
                removed.push(lease.session);
            }
            return Ok(());
        }
        self.leave_abandoned_records(stale)?;
        for lease in stale {
            self.storage().delete(&layout::lease(&lease.session))?;
            removed.push(lease.session);
        }
        Ok(())
    }

    /// The abandoned sessions of stale leases: those for which
    /// [`remove_stale_leases`](Self::remove_stale_leases) would put a record.
    pub fn abandoned_sessions(&self) -> Result<Vec<SnapshotId>> {
        let mut stale = lease::list(self.storage())?;
        stale.retain(|lease| !lease.held);
        self.without_manifest(&stale)
    }

    /// The sessions of those leases that may have left the copy of a manifest, and have no
    /// manifest.
    fn without_manifest(&self, leases: &[LeaseInfo]) -> Result<Vec<SnapshotId>> {
        let mut without = Vec::new();
        for lease in leases.iter().filter(|lease| lease.may_leave_copies()) {
            if self.storage().size(&layout::snapshot(&lease.session))?.is_none() {
                without.push(lease.session);
            }
        }
        Ok(without)
    }

    /// Puts durable records that the sessions of these leases were abandoned, except those that
    /// have a manifest.
    pub fn leave_abandoned_records(&self, leases: &[LeaseInfo]) -> Result<()> {
        let storage = self.storage();
        if !leases.iter().any(LeaseInfo::may_leave_copies) {
            return Ok(());
        }
        for session in self.without_manifest(leases)? {
            self.put_record(session, ForgotReason::Abandoned)?;
        }
        // makes the manifests of the other sessions durable too
        storage.include_in_barrier(layout::SNAPSHOTS);
        Ok(storage.barrier()?)
    }
    /// Puts the record of a session or snapshot. It is not durable yet.
    pub fn put_record(&self, id: SnapshotId, reason: ForgotReason) -> Result<()> {
        let record = ForgotRecord {
            id,
            reason,
            at_ms: self.now_ms(),
        };
        put_bytes(self.storage(), &layout::forgot_record(&id), &record.encode()?)?;
        Ok(())
    }
}
