//! The snapshots that the options of a prune keep.

use super::report::{PruneReport, Sums};
use super::survey::Survey;
use super::work::Work;
use crate::error::Result;
use crate::id::SnapshotId;
use crate::snapshot::retention::{Candidate, SnapshotChoice};
use std::collections::{BTreeMap, HashSet};

/// The reason for keeping a snapshot that the policy was not applied to.
const NOT_ASKED: &str = "filter";

/// The decisions of the policy.
pub(super) struct Chosen {
    pub(super) kept: Vec<SnapshotChoice>,
    pub(super) removed: Vec<SnapshotChoice>,
    pub(super) time_zone: String,
    pub(super) dry_run: bool,
}

impl Chosen {
    pub(super) fn kept_ids(&self) -> HashSet<SnapshotId> {
        self.kept.iter().map(|choice| choice.id).collect()
    }

    pub(super) fn removed_ids(&self) -> Vec<SnapshotId> {
        self.removed.iter().map(|choice| choice.id).collect()
    }

    /// The report of a run with these decisions.
    pub(super) fn report(&self, sums: Sums, work: &Work<'_>) -> PruneReport {
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

/// Applies the policy to the snapshots.
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
    // a run that only sweeps keeps everything, and has no policy of the caller to warn about
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
