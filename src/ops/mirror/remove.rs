//! Deletes what the source no longer has: the manifests first, so that each one that is left has
//! everything that it needs.

use super::listing::{Files, Listing};
use super::{Done, Run};
use crate::error::{Error, Result};
use crate::layout;
use crate::lock;
use crate::snapshot::record::{ForgotReason, ForgotRecord};
use crate::storage::put_bytes;

impl Run<'_> {
    /// Deletes from the mirror what is not in the listing of the source, of which everything was
    /// copied.
    pub(super) fn remove(&self, source: &Listing, done: &mut Done) -> Result<()> {
        let known = Listing::take(self.storage())?;
        self.remove_manifests(source, &known, done)?;
        self.remove_files(&known.segments, &source.segments, &|_| true, done)?;
        self.storage().barrier()?;
        // the shards first: the record of a group is of no use without them
        for suffix in [".par", ".grp"] {
            self.remove_files(&known.parity, &source.parity, &|key| key.ends_with(suffix), done)?;
        }
        for suffix in [".idx", ".pack"] {
            self.remove_files(&known.packs, &source.packs, &|key| key.ends_with(suffix), done)?;
        }
        self.storage().barrier()?;
        // no pack has a copy of their manifests any more
        self.remove_files(&known.records, &source.records, &|_| true, done)?;
        for key in done.report.removed_snapshots.iter().map(layout::forgot_record) {
            if !source.records.contains_key(&key) {
                self.storage().delete(&key)?;
            }
        }
        if !source.keys.is_empty() {
            self.remove_files(&known.key_copies, &source.key_copies, &|_| true, done)?;
            self.storage().barrier()?;
            self.remove_files(&known.keys, &source.keys, &|_| true, done)?;
        }
        self.storage().barrier()?;
        Ok(())
    }

    /// Deletes forgotten snapshots as a forget does: the record first, so that the copy of the
    /// manifest is not mistaken for that of a lost one. A process that mirrors this mirror lists it
    /// under the commit lock.
    fn remove_manifests(&self, source: &Listing, known: &Listing, done: &mut Done) -> Result<()> {
        let kept = source.snapshots();
        let ours = known.snapshots();
        let gone: Vec<_> = ours.difference(&kept).copied().collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.target.check(self.repo)?;
        for id in &gone {
            let record = ForgotRecord {
                id: *id,
                reason: ForgotReason::Forgotten,
                at_ms: self.repo.now_ms(),
            };
            put_bytes(self.storage(), &layout::forgot_record(id), &record.encode()?)?;
        }
        self.storage().include_in_barrier(layout::RECORDS);
        self.storage().barrier()?;
        if !self.monitor.begin_commit() {
            return Err(Error::Cancelled);
        }
        let guard = lock::commit_exclusive(self.storage(), self.repo.lock_wait())?;
        let _guard = guard.ok_or_else(|| Error::RepositoryLocked {
            lock: layout::COMMIT_LOCK.to_owned(),
            holders: Vec::new(),
        })?;
        for id in gone {
            let key = layout::snapshot(&id);
            self.storage().delete(&key)?;
            done.report.removed_snapshots.push(id);
            done.report.removed_files += 1;
            done.report.removed_bytes += known.manifests.get(&key).copied().unwrap_or(0);
        }
        self.storage().barrier()?;
        self.monitor.end_commit();
        Ok(())
    }

    fn remove_files(&self, known: &Files, kept: &Files, wanted: &dyn Fn(&str) -> bool, done: &mut Done) -> Result<()> {
        for (key, len) in known.iter().filter(|(key, _)| !kept.contains_key(*key) && wanted(key)) {
            self.check_running()?;
            self.target.check(self.repo)?;
            self.storage().delete(key)?;
            done.report.removed_files += 1;
            done.report.removed_bytes += len;
        }
        Ok(())
    }
}
