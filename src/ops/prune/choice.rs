//! What the caller wants, which snapshots that keeps, and what comes out.

use super::Work;
use super::plan::Plan;
use super::survey::Survey;
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::snapshot::retention::{Candidate, Keep, RetentionPolicy, Rules};
use std::collections::{BTreeMap, HashSet};

pub use crate::snapshot::retention::SnapshotChoice;

/// The reason for which a snapshot is kept that the policy was not asked about.
const NOT_ASKED: &str = "filter";
/// What [`PruneOptions::max_unused`] is when nothing is said.
const DEFAULT_MAX_UNUSED: f64 = 0.05;

/// What to remove, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct PruneOptions {
    /// Which snapshots are kept.
    pub policy: RetentionPolicy,
    /// The policy is asked only about snapshots that have all these tags, with these values. The others are kept.
    pub tags: BTreeMap<String, String>,
    /// Tell what would be done, and do nothing.
    pub dry_run: bool,
    /// Share of the stored bytes that may be waste in packs that are partly needed, from 0 (every such pack is rewritten)
    /// to 1 (none is). 0.05 by default.
    pub max_unused: f64,
    /// Sweep what live ingests may rely on too. They then fail cleanly, or commit a whole snapshot.
    pub force: bool,
    /// Wait for the sessions that delay a part of the sweep, and sweep that too.
    pub wait: bool,
}

impl PruneOptions {
    /// The defaults with this policy.
    pub fn new(policy: RetentionPolicy) -> Self {
        Self {
            policy,
            tags: BTreeMap::new(),
            dry_run: false,
            max_unused: DEFAULT_MAX_UNUSED,
            force: false,
            wait: false,
        }
    }

    /// Keeps every snapshot, so that only what no snapshot needs goes.
    pub fn keep_all() -> Self {
        Self::new(RetentionPolicy {
            keep_last: Keep::All,
            ..RetentionPolicy::default()
        })
    }

    /// The same, and no further snapshot is removed: the policy was asked once.
    pub(super) fn sweep_only(&self) -> Self {
        Self {
            policy: Self::keep_all().policy,
            tags: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// Refuses what cannot be meant.
    pub(super) fn check(&self) -> Result<()> {
        self.rules()?;
        if !(0.0..=1.0).contains(&self.max_unused) {
            return Err(Error::InvalidArgument {
                reason: format!("maxUnused must be from 0 to 1, not {}", self.max_unused),
            });
        }
        Ok(())
    }

    fn rules(&self) -> Result<Rules> {
        Ok(Rules::new(&self.policy)?)
    }
}

/// What a prune has done, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneReport {
    /// Snapshots that were removed, newest first.
    pub removed: Vec<SnapshotChoice>,
    /// Snapshots that were kept, newest first, with the reasons.
    pub kept: Vec<SnapshotChoice>,
    /// Packs that were deleted because nothing in them was needed; with those that an earlier prune, cut short, had left.
    pub removed_packs: u64,
    /// Packs out of which everything needed was copied into others. They were deleted, or will be with `pending_bytes`.
    pub rewritten_packs: u64,
    /// Bytes of stored chunks that left the disk.
    pub freed_bytes: u64,
    /// Bytes of stored chunks that will leave it with a later prune: live ingests may still rely on them.
    pub pending_bytes: u64,
    /// Nothing was done.
    pub dry_run: bool,
    /// The time zone of the calendar rules.
    pub time_zone: String,
    /// What the caller should look at.
    pub warnings: Vec<String>,
    /// Packs that are kept and that no parity group protects, sorted: a full disk had no room for their parity. Empty
    /// unless a warning says so.
    pub unprotected: Vec<PackId>,
    /// Of packs that are pending: what of them is stored in others already, in bytes and in whole packs.
    copied_ahead: Deleted,
}

/// Packs that are deleted, and the bytes of the chunks that were stored in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Deleted {
    pub packs: u64,
    pub bytes: u64,
}

impl FromIterator<u64> for Deleted {
    /// From the bytes in each pack.
    fn from_iter<I: IntoIterator<Item = u64>>(packs: I) -> Self {
        packs.into_iter().fold(Self::default(), |sum, bytes| Self {
            packs: sum.packs + 1,
            bytes: sum.bytes + bytes,
        })
    }
}

impl PruneReport {
    /// Counts in what was deleted besides.
    pub(super) fn count(&mut self, deleted: Deleted) {
        self.removed_packs += deleted.packs;
        self.freed_bytes += deleted.bytes;
    }

    /// Counts in what was deleted by a later run that failed then.
    pub(super) fn add_deleted(&mut self, later: &Self) {
        self.removed.extend_from_slice(&later.removed);
        self.removed_packs += later.removed_packs.saturating_sub(self.copied_ahead.packs);
        self.rewritten_packs += later.rewritten_packs;
        self.freed_bytes += later.freed_bytes.saturating_sub(self.copied_ahead.bytes);
    }

    /// Counts in a later run of the same prune.
    pub(super) fn add(&mut self, later: Self) {
        self.add_deleted(&later);
        if self.time_zone.is_empty() {
            // the first one that went through; those after it only sweep
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

/// What the policy decided.
pub(super) struct Chosen {
    kept: Vec<SnapshotChoice>,
    pub(super) removed: Vec<SnapshotChoice>,
    time_zone: String,
    dry_run: bool,
}

impl Chosen {
    pub(super) fn kept_ids(&self) -> HashSet<SnapshotId> {
        self.kept.iter().map(|choice| choice.id).collect()
    }

    pub(super) fn removed_ids(&self) -> Vec<SnapshotId> {
        self.removed.iter().map(|choice| choice.id).collect()
    }

    pub(super) fn report(&self, plan: &Plan, work: &Work<'_>) -> PruneReport {
        let sums = plan.sums();
        let mut report = PruneReport {
            removed: self.removed.clone(),
            kept: self.kept.clone(),
            removed_packs: sums.removed_packs,
            rewritten_packs: sums.rewritten_packs,
            freed_bytes: sums.freed_bytes,
            pending_bytes: sums.pending_bytes,
            dry_run: self.dry_run,
            time_zone: self.time_zone.clone(),
            warnings: work.warnings.clone(),
            unprotected: work.unprotected.clone(),
            copied_ahead: sums.copied_ahead,
        };
        report.count(work.finished);
        report
    }
}

/// Asks the policy about the snapshots.
pub(super) fn choose(work: &mut Work<'_>, survey: &Survey) -> Result<Chosen> {
    let rules = work.options.rules()?;
    let asked: Vec<Candidate<'_>> = (survey.snapshots.iter())
        .filter(|snapshot| (work.options.tags.iter()).all(|(tag, value)| snapshot.tags.get(tag) == Some(value)))
        .map(|snapshot| Candidate {
            id: snapshot.id,
            created_at_ms: snapshot.created_at_ms,
            sequence: snapshot.sequence,
            tags: &snapshot.tags,
        })
        .collect();
    let decided = rules.plan(&asked, work.repo.now_ms());
    let mut choices: BTreeMap<SnapshotId, SnapshotChoice> = BTreeMap::new();
    choices.extend(decided.choices.into_iter().map(|choice| (choice.id, choice)));
    let (mut kept, mut removed) = (Vec::new(), Vec::new());
    for snapshot in &survey.snapshots {
        let not_asked = || SnapshotChoice {
            id: snapshot.id,
            created_at_ms: snapshot.created_at_ms,
            group: BTreeMap::new(),
            reasons: vec![NOT_ASKED.to_owned()],
        };
        let choice = choices.remove(&snapshot.id).unwrap_or_else(not_asked);
        match choice.is_kept() {
            true => kept.push(choice),
            false => removed.push(choice),
        }
    }
    // one that only sweeps keeps everything, and has nobody's policy to warn of
    if !work.sweeps {
        work.warnings.extend(decided.warnings);
    }
    Ok(Chosen {
        kept,
        removed,
        time_zone: decided.time_zone,
        dry_run: work.options.dry_run,
    })
}
