//! The state of one run of a prune.

use super::options::PruneOptions;
use super::report::{Deleted, PruneReport};
use crate::error::Result;
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::monitor::{Monitor, Progress};
use crate::repo::dissolve::Room;
use crate::repo::{Generation, Repository};
use crate::snapshot::retention::SnapshotChoice;
use std::collections::HashSet;
use std::sync::Arc;

/// State that the steps of a run share.
pub(super) struct Work<'a> {
    pub repo: &'a Arc<Repository>,
    pub options: &'a PruneOptions,
    pub monitor: &'a dyn Monitor,
    /// The session id of this prune; `None` in a dry run. [`Self::writers`] leaves it out, also
    /// when the lease cannot be read, so that its operation is unknown.
    pub own: Option<SnapshotId>,
    /// The folder that the prune works in.
    pub folder: Generation,
    pub warnings: Vec<String>,
    /// The results of the current run, once it has decided.
    pub decided: Option<PruneReport>,
    /// The snapshots that it was removing before that.
    pub removing: Vec<SnapshotChoice>,
    /// The packs that it has deleted for an interrupted prune.
    pub finished: Deleted,
    /// Packs in unfinished kill lists that snapshots need.
    pub spared: HashSet<PackId>,
    /// Packs that could not be read completely, in this or an earlier run.
    pub damaged: HashSet<PackId>,
    /// Packs that the current run has written, or has read and found intact.
    pub proven: HashSet<PackId>,
    /// Packs that are kept and that no parity group protects.
    pub unprotected: Vec<PackId>,
    /// Whether parity may be deleted before its successor is stored: only when no other space can
    /// be freed.
    pub room: Room,
    /// Marks and tombstones keep other processes away, and not locks.
    pub by_marks: bool,
    /// An earlier run has applied the policy, and the current one keeps every snapshot.
    pub sweeps: bool,
}

impl<'a> Work<'a> {
    pub(super) fn new(repo: &'a Arc<Repository>, options: &'a PruneOptions, monitor: &'a dyn Monitor) -> Self {
        Self {
            repo,
            options,
            monitor,
            own: None,
            folder: repo.generation(),
            warnings: Vec::new(),
            decided: None,
            removing: Vec::new(),
            finished: Deleted::default(),
            spared: HashSet::new(),
            damaged: HashSet::new(),
            proven: HashSet::new(),
            unprotected: Vec::new(),
            room: Room::Enough,
            by_marks: super::goes_by_marks(repo),
            sweeps: false,
        }
    }

    /// For a further run of the same prune; `options` keep every snapshot.
    pub(super) fn sweeping(repo: &'a Arc<Repository>, options: &'a PruneOptions, monitor: &'a dyn Monitor) -> Self {
        Self {
            sweeps: true,
            ..Self::new(repo, options, monitor)
        }
    }

    /// The results of a run that failed.
    pub(super) fn interrupted(&mut self) -> Result<PruneReport> {
        // a further run issues the warnings again
        self.warnings.clear();
        let finished = std::mem::take(&mut self.finished);
        if let Some(report) = self.decided.take() {
            return Ok(report);
        }
        let mut report = PruneReport::default();
        report.count(finished);
        for choice in self.removing.drain(..) {
            if self.repo.storage().size(&layout::snapshot(&choice.id))?.is_none() {
                report.removed.push(choice);
            }
        }
        Ok(report)
    }

    /// The sessions of other writers.
    pub(super) fn writers(&self) -> Result<HashSet<SnapshotId>> {
        let mut writers = self.repo.writers()?;
        if let Some(own) = &self.own {
            writers.remove(own);
        }
        Ok(writers)
    }

    pub(super) fn check_running(&self) -> Result<()> {
        self.repo.check_running(self.monitor)
    }

    pub(super) fn warn(&mut self, code: &'static str, message: String) {
        self.repo.warn(code, message.clone());
        self.warnings.push(message);
    }

    /// Reports progress, in bytes of packs from which chunks are copied.
    pub(super) fn progress(&self, done_bytes: u64, total_bytes: u64) {
        self.monitor.progress(&Progress {
            done_bytes,
            total_bytes,
            ..Progress::default()
        });
    }
}
