//! The report of a prune.

use crate::id::PackId;
use crate::snapshot::retention::SnapshotChoice;

/// Results of a prune, or with `dry_run` what it would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Snapshots that were removed, newest first.
    pub removed: Vec<SnapshotChoice>,
    /// Snapshots that were kept, newest first, with the reasons.
    pub kept: Vec<SnapshotChoice>,
    /// Packs that were deleted because nothing in them was needed, including those that an earlier,
    /// interrupted prune had left over.
    pub removed_packs: u64,
    /// Packs whose needed chunks were copied into other packs. They were deleted, or will be with
    /// `pending_bytes`.
    pub rewritten_packs: u64,
    /// Bytes of stored chunks that were deleted.
    pub freed_bytes: u64,
    /// Bytes of stored chunks that a later prune will delete: live ingests may still rely on them.
    pub pending_bytes: u64,
    /// True for a dry run: nothing was changed.
    pub dry_run: bool,
    /// The time zone of the calendar rules.
    pub time_zone: String,
    /// Warnings for the caller.
    pub warnings: Vec<String>,
    /// Kept packs that no parity group protects, sorted: a full disk had no space for their parity.
    /// A warning reports them as well.
    pub unprotected: Vec<PackId>,
    /// The part of pending packs that is already stored in other packs, in bytes and in complete
    /// packs.
    pub(super) copied_ahead: Deleted,
}

/// Deleted packs, and the bytes of the chunks that were stored in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Deleted {
    pub packs: u64,
    pub bytes: u64,
}

impl FromIterator<u64> for Deleted {
    /// Sums up the bytes in each pack.
    fn from_iter<I: IntoIterator<Item = u64>>(packs: I) -> Self {
        packs.into_iter().fold(Self::default(), |sum, bytes| Self {
            packs: sum.packs + 1,
            bytes: sum.bytes + bytes,
        })
    }
}

impl PruneReport {
    /// Adds packs that were deleted in addition.
    pub(super) fn count(&mut self, deleted: Deleted) {
        self.removed_packs += deleted.packs;
        self.freed_bytes += deleted.bytes;
    }

    /// Adds the deletions of a later run that failed.
    pub(super) fn add_deleted(&mut self, later: &Self) {
        self.removed.extend_from_slice(&later.removed);
        self.removed_packs += later.removed_packs.saturating_sub(self.copied_ahead.packs);
        self.rewritten_packs += later.rewritten_packs;
        self.freed_bytes += later.freed_bytes.saturating_sub(self.copied_ahead.bytes);
    }

    /// Adds the results of a later run of the same prune.
    pub(super) fn add(&mut self, later: Self) {
        self.add_deleted(&later);
        if self.time_zone.is_empty() {
            // the first run that succeeded; later runs only sweep
            self.kept = later.kept;
            self.time_zone = later.time_zone;
        }
        self.pending_bytes = later.pending_bytes;
        self.unprotected = later.unprotected;
        self.copied_ahead = later.copied_ahead;
        for warning in later.warnings {
            if !self.warnings.contains(&warning) {
                self.warnings.push(warning);
            }
        }
    }
}

/// The figures of a report.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sums {
    pub removed_packs: u64,
    pub rewritten_packs: u64,
    pub freed_bytes: u64,
    pub pending_bytes: u64,
    /// Bytes and packs that were copied out of packs that still exist.
    pub copied_ahead: Deleted,
}
