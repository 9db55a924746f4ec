//! Lists the repository in the order of [`crate::catalog`]; the plan reads the index later.

use super::work::Work;
use crate::catalog::needed::needed_before_deletion;
use crate::catalog::snapshots::{self, Found};
use crate::error::Result;
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::lock::{FoundList, FoundMark, KillList, KillLists, Marks, Proof};
use crate::repo::Repository;
use crate::snapshot::Recency;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The part of a snapshot that is kept in memory for all snapshots.
pub(super) struct Brief {
    pub id: SnapshotId,
    pub created_at_ms: i64,
    pub sequence: u64,
    pub tags: BTreeMap<String, String>,
}

/// The state of the repository at the beginning of a prune.
pub(super) struct Survey {
    /// Snapshots that must not be restored by a repair, from their records.
    pub records: BTreeSet<SnapshotId>,
    /// Sessions with a tombstone: copies of their manifests are not needed.
    pub revoked: HashSet<SnapshotId>,
    /// Packs in the folder, with their lengths in bytes.
    pub packs: BTreeMap<PackId, u64>,
    /// Active sessions. Empty when the caller wants them ignored.
    pub held: HashSet<SnapshotId>,
    /// All snapshots, newest first.
    pub snapshots: Vec<Brief>,
    /// Packs that an unfinished prune has condemned but could not delete.
    pub condemned: HashSet<PackId>,
    /// The hints of earlier prunes.
    pub hints: Vec<KillList>,
    /// Lists that are not proven, including hints: they condemn nothing.
    pub unproven: Vec<KillList>,
    /// All lists. Where a prune goes by marks, none of the fields above names their packs.
    pub lists: Vec<KillList>,
    /// Packs in marks, and where a prune goes by marks those in kill lists.
    pub marked: HashSet<PackId>,
    /// Marks that a prune has not finished.
    pub open: Vec<FoundMark>,
    /// Forgotten snapshots whose manifests are there all the same, and count as absent.
    pub returned: Vec<SnapshotId>,
}

impl Survey {
    /// Lists everything except the index. Fails when a manifest cannot be read, because the chunks
    /// that its snapshot needs are then unknown.
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
        let (mut briefs, mut revoked) = (Vec::new(), HashSet::new());
        let mut ids = repo.list_manifest_files()?;
        let returned = repo.forgotten_among(&ids)?;
        ids.retain(|id| !returned.contains(id));
        for id in snapshots::to_load(repo, &ids) {
            work.check_running()?;
            match snapshots::find(repo, id)? {
                Found::Snapshot(snapshot) => briefs.push(Brief {
                    id: *id,
                    created_at_ms: snapshot.created_at_ms,
                    sequence: snapshot.sequence,
                    tags: snapshot.tags,
                }),
                Found::Revoked => drop(revoked.insert(*id)),
                Found::Absent => {}
            }
        }
        if work.options.dry_run {
            // a real prune first writes records for these sessions; a dry run writes nothing
            records.extend(repo.abandoned_sessions()?);
            let ids: Vec<SnapshotId> = briefs.iter().map(|snapshot: &Brief| snapshot.id).collect();
            lists.spare(needed_before_deletion(repo, &lists, &ids, false, work.monitor)?.packs());
        }
        lists.spare(work.spared.clone());
        // last: a mark that is not listed here is not that of a pack which a listed snapshot needs
        let marks = match work.by_marks {
            true => repo.marks()?,
            false => Marks::default(),
        };
        let mut marked = marks.packs().clone();
        let all: Vec<KillList> = of_kind(&lists, &|_| true);
        if work.by_marks {
            marked.extend(all.iter().flat_map(|list| &list.packs));
            lists = KillLists::default();
        }
        let now_ms = repo.now_ms();
        briefs.sort_by_key(|brief| Reverse(Recency::new((brief.created_at_ms, brief.sequence, brief.id), now_ms)));
        Ok(Self {
            records,
            revoked,
            packs,
            held,
            snapshots: briefs,
            condemned: lists.condemned_packs(),
            hints: of_kind(&lists, &|found| found.list.hint && found.proof == Proof::Valid),
            unproven: of_kind(&lists, &|found| found.proof != Proof::Valid),
            lists: all,
            marked,
            open: marks.marks().iter().filter(|mark| mark.is_open()).cloned().collect(),
            returned: returned.into_iter().collect(),
        })
    }

    /// Whether the snapshot exists.
    pub(super) fn has_manifest(&self, id: &SnapshotId) -> bool {
        self.snapshots.iter().any(|snapshot| snapshot.id == *id)
    }

    /// Packs that may be deleted although sessions are writing: a hint of an earlier prune told new
    /// writers to avoid them, and all sessions that were active at that time have ended.
    pub(super) fn ready(&self) -> HashSet<PackId> {
        let over = |hint: &&KillList| !hint.sessions.iter().any(|session| self.held.contains(session));
        let hinted = self.hints.iter().filter(over).flat_map(|hint| &hint.packs);
        let is_over = |session: &SnapshotId| !self.held.contains(session);
        let waits = |mark: &&FoundMark| mark.waits_for.as_ref().is_some_and(|waits| waits.iter().all(is_over));
        let marked = self.open.iter().filter(waits).flat_map(|mark| &mark.packs);
        hinted.chain(marked).copied().collect()
    }

    /// Packs that a hint names.
    pub(super) fn hinted(&self) -> HashSet<PackId> {
        self.hints.iter().flat_map(|hint| &hint.packs).copied().collect()
    }

    /// Packs that new snapshots avoid.
    pub(super) fn avoided(&self) -> HashSet<PackId> {
        let lists = self.hints.iter().chain(&self.unproven);
        let listed = lists.flat_map(|list| &list.packs);
        listed.chain(&self.marked).copied().collect()
    }
}

fn of_kind(lists: &KillLists, is_wanted: &dyn Fn(&FoundList) -> bool) -> Vec<KillList> {
    let wanted = lists.lists().iter().filter(|found| is_wanted(found));
    wanted.map(|found| found.list.clone()).collect()
}

/// The sessions that must end before the packs of the current hints, or marks, may be deleted.
pub(super) fn delaying(repo: &Repository, by_marks: bool) -> Result<HashSet<SnapshotId>> {
    if by_marks {
        let marks = repo.marks()?;
        let open = marks.marks().iter().filter(|mark| mark.is_open());
        return Ok(open
            .filter_map(|mark| mark.waits_for.as_ref())
            .flatten()
            .copied()
            .collect());
    }
    let lists = repo.kill_lists()?;
    let hints = lists.lists().iter().map(|found| &found.list);
    Ok(hints.flat_map(|hint| &hint.sessions).copied().collect())
}
