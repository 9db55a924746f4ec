//! What is there, listed in the order of [`crate::catalog`]; the index follows in the plan.

use super::Work;
use crate::catalog::needed::{Needed, is_unknowable, needed};
use crate::catalog::snapshots;
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::lock::{FoundList, KillList, KillLists, Proof};
use crate::repo::Repository;
use crate::snapshot::Recency;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// As much of a snapshot as is held in memory for all of them.
pub(super) struct Brief {
    pub id: SnapshotId,
    pub created_at_ms: i64,
    pub sequence: u64,
    pub tags: BTreeMap<String, String>,
}

/// The repository at the beginning of a prune.
pub(super) struct Survey {
    /// Snapshots that must not come back, by their records.
    pub records: BTreeSet<SnapshotId>,
    /// Packs in the folder and their lengths in bytes.
    pub packs: BTreeMap<PackId, u64>,
    /// Sessions that are at work. Empty when the caller wants them ignored.
    pub held: HashSet<SnapshotId>,
    /// All snapshots, newest first.
    pub snapshots: Vec<Brief>,
    /// Packs that an unfinished prune has condemned and could not delete.
    pub condemned: HashSet<PackId>,
    /// The hints of earlier prunes.
    pub hints: Vec<KillList>,
    /// Lists that are not proven, hints among them: they condemn nothing.
    pub unproven: Vec<KillList>,
}

impl Survey {
    /// Lists everything but the index. A manifest that cannot be read fails it: what its snapshot needs cannot be known.
    pub(super) fn take(work: &Work<'_>) -> Result<Self> {
        let repo = work.repo;
        let storage = repo.storage();
        let records = storage.list(layout::RECORDS)?;
        let records = records.iter().filter_map(|file| layout::id_of(&file.key, ".forgot"));
        let mut records: BTreeSet<SnapshotId> = records.map(SnapshotId).collect();
        let packs = repo.list_packs()?;
        let held = match work.options.force {
            true => HashSet::new(),
            false => work.writers()?,
        };
        let mut lists = repo.kill_lists()?;
        let mut briefs = Vec::new();
        for id in snapshots::ids(repo)? {
            work.check_running()?;
            briefs.extend(snapshots::load(repo, &id)?.map(|snapshot| Brief {
                id,
                created_at_ms: snapshot.created_at_ms,
                sequence: snapshot.sequence,
                tags: snapshot.tags,
            }));
        }
        if work.options.dry_run {
            // a prune begins by leaving them; here nothing is written
            records.extend(repo.abandoned_sessions()?);
            let ids: Vec<SnapshotId> = briefs.iter().map(|snapshot: &Brief| snapshot.id).collect();
            lists.spare(needed_or_all(work, &lists, &ids, false)?.packs());
        }
        lists.spare(work.spared.clone());
        let now_ms = repo.now_ms();
        briefs.sort_by_key(|brief| Reverse(Recency::new((brief.created_at_ms, brief.sequence, brief.id), now_ms)));
        Ok(Self {
            records,
            packs,
            held,
            snapshots: briefs,
            condemned: condemned(&lists),
            hints: of_kind(&lists, &|found| found.list.hint && found.proof == Proof::Valid),
            unproven: of_kind(&lists, &|found| found.proof != Proof::Valid),
        })
    }

    /// Whether the snapshot is there.
    pub(super) fn has_manifest(&self, id: &SnapshotId) -> bool {
        self.snapshots.iter().any(|snapshot| snapshot.id == *id)
    }

    /// Packs that may be deleted though others are writing: an earlier prune told the writers not to use them, and whoever
    /// was writing then is gone.
    pub(super) fn ready(&self) -> HashSet<PackId> {
        let over = |hint: &&KillList| !hint.sessions.iter().any(|session| self.held.contains(session));
        self.hints
            .iter()
            .filter(over)
            .flat_map(|hint| &hint.packs)
            .copied()
            .collect()
    }

    /// Packs that a hint names.
    pub(super) fn hinted(&self) -> HashSet<PackId> {
        self.hints.iter().flat_map(|hint| &hint.packs).copied().collect()
    }

    /// Packs that new snapshots avoid.
    pub(super) fn avoided(&self) -> HashSet<PackId> {
        let lists = self.hints.iter().chain(&self.unproven);
        lists.flat_map(|list| &list.packs).copied().collect()
    }
}

fn condemned(lists: &KillLists) -> HashSet<PackId> {
    let listed = lists.listed().filter(|pack| lists.condemned(pack));
    listed.copied().collect()
}

fn of_kind(lists: &KillLists, is_wanted: &dyn Fn(&FoundList) -> bool) -> Vec<KillList> {
    let wanted = lists.lists().iter().filter(|found| is_wanted(found));
    wanted.map(|found| found.list.clone()).collect()
}

/// What the snapshots `ids` need of the packs in `lists`. All of these where that cannot be known:
/// the plan, which fails then if a snapshot needs it that stays, decides about them as about any
/// other pack.
pub(super) fn needed_or_all(work: &Work<'_>, lists: &KillLists, ids: &[SnapshotId], maintains: bool) -> Result<Needed> {
    if lists.listed().next().is_none() {
        return Ok(Needed::default());
    }
    match needed(work.repo, lists, ids, maintains, work.monitor) {
        // no plan can be made, and nothing may be deleted
        Err(error @ (Error::ManifestCorrupt { .. } | Error::UnsupportedFormat { .. } | Error::Storage { .. })) => {
            Err(error)
        }
        Err(error) if is_unknowable(&error) => Ok(Needed::all(lists)),
        other => other,
    }
}

/// The sessions whose end lets the hints of now become true.
pub(super) fn delaying(repo: &Repository) -> Result<HashSet<SnapshotId>> {
    let lists = repo.kill_lists()?;
    let hints = lists.lists().iter().map(|found| &found.list);
    Ok(hints.flat_map(|hint| &hint.sessions).copied().collect())
}
