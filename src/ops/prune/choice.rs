//! The options of a prune, and the snapshots that they keep.

use super::Work;
use super::survey::Survey;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::snapshot::retention::{Candidate, Keep, RetentionPolicy, Rules};
use std::collections::{BTreeMap, HashSet};

pub use crate::snapshot::retention::SnapshotChoice;

/// The reason for keeping a snapshot that the policy was not applied to.
const NOT_ASKED: &str = "filter";
/// Default of [`PruneOptions::max_unused`].
const DEFAULT_MAX_UNUSED: f64 = 0.05;

/// Options of a prune.
#[derive(Debug, Clone, PartialEq)]
pub struct PruneOptions {
    /// Which snapshots are kept.
    pub policy: RetentionPolicy,
    /// The policy is applied only to snapshots that have all these tags, with these values. The
    /// others are kept.
    pub tags: BTreeMap<String, String>,
    /// Report what would be done, and change nothing.
    pub dry_run: bool,
    /// Share of the stored bytes that may be waste in packs that are partly needed, from 0 (every
    /// such pack is rewritten) to 1 (none is). 0.05 by default.
    pub max_unused: f64,
    /// Also sweep packs that live ingests may rely on. These ingests then fail cleanly, or commit a
    /// complete snapshot.
    pub force: bool,
    /// Wait for the sessions that delay a part of the sweep, then sweep that part too.
    pub wait: bool,
}

impl PruneOptions {
    /// The default options with this policy.
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

    /// Keeps every snapshot, so that only data that no snapshot needs is deleted.
    pub fn keep_all() -> Self {
        Self::new(RetentionPolicy {
            keep_last: Keep::All,
            ..RetentionPolicy::default()
        })
    }

    /// The same options, but no further snapshot is removed: the policy is applied only once.
    pub(super) fn sweep_only(&self) -> Self {
        Self {
            policy: Self::keep_all().policy,
            tags: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// Rejects invalid options.
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
