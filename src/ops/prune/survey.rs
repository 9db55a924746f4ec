//! What is there, listed in the order that makes it safe to judge by: records, packs, leases, snapshots, and the index
//! last. A session that wrote one of the packs and holds no lease has either put its manifest by then, or never will.

use super::Work;
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::lock::{KillList, KillLists};
use crate::repo::Repository;
use crate::snapshot::{MAX_MANIFEST_LEN, Recency, Snapshot};
use crate::storage::ErrorKind;
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
}

impl Survey {
    /// Lists everything but the index. A manifest that cannot be read fails it: what its snapshot needs cannot be known.
    pub(super) fn take(work: &Work<'_>) -> Result<Self> {
        let repo = work.repo;
        let storage = repo.storage();
        let records = storage.list(layout::RECORDS)?;
        let records = records.iter().filter_map(|file| layout::id_of(&file.key, ".forgot"));
        let mut records: BTreeSet<SnapshotId> = records.map(SnapshotId).collect();
        let packs = storage.list(layout::DATA)?;
        let packs = packs
            .iter()
            .filter_map(|file| Some((PackId(layout::id_of(&file.key, ".pack")?), file.len)));
        let packs = packs.collect();
        let held = match work.options.force {
            true => HashSet::new(),
            false => work.writers()?,
        };
        let lists = KillLists::load_all(storage)?;
        let mut snapshots = Vec::new();
        for id in snapshot_ids(repo)? {
            work.check_running()?;
            snapshots.extend(load(repo, &id)?.map(|snapshot| Brief {
                id,
                created_at_ms: snapshot.created_at_ms,
                sequence: snapshot.sequence,
                tags: snapshot.tags,
            }));
        }
        if work.options.dry_run {
            // a prune begins by leaving them; here nothing is written
            records.extend(repo.abandoned_sessions()?);
        }
        let now_ms = repo.now_ms();
        snapshots.sort_by_key(|brief| Reverse(Recency::new((brief.created_at_ms, brief.sequence, brief.id), now_ms)));
        Ok(Self {
            records,
            packs,
            held,
            snapshots,
            condemned: condemned(&lists),
            hints: lists.lists().iter().filter(|list| list.hint).cloned().collect(),
        })
    }

    /// Whether the snapshot is there.
    pub(super) fn has_manifest(&self, id: &SnapshotId) -> bool {
        self.snapshots.iter().any(|snapshot| snapshot.id == *id)
    }

    /// Packs that may be deleted though others are writing: an earlier prune told the writers not to use them, and whoever
    /// was writing then is gone.
    pub(super) fn ripe(&self) -> HashSet<PackId> {
        let over = |hint: &&KillList| !hint.sessions.iter().any(|session| self.held.contains(session));
        self.hints
            .iter()
            .filter(over)
            .flat_map(|hint| &hint.packs)
            .copied()
            .collect()
    }

    /// Packs that new snapshots avoid.
    pub(super) fn hinted(&self) -> HashSet<PackId> {
        self.hints.iter().flat_map(|hint| &hint.packs).copied().collect()
    }
}

fn condemned(lists: &KillLists) -> HashSet<PackId> {
    let kills = lists.lists().iter().filter(|list| !list.hint);
    kills.flat_map(|list| &list.packs).copied().collect()
}

/// The sessions whose end lets the hints of now become true.
pub(super) fn delaying(repo: &Repository) -> Result<HashSet<SnapshotId>> {
    let lists = KillLists::load_all(repo.storage())?;
    let hints = lists.lists().iter().filter(|list| list.hint);
    Ok(hints.flat_map(|hint| &hint.sessions).copied().collect())
}

/// The names of all manifests.
pub(super) fn snapshot_ids(repo: &Repository) -> Result<Vec<SnapshotId>> {
    let files = repo.storage().list(layout::SNAPSHOTS)?;
    let id = |key: &str| layout::id_of(key, ".json").map(SnapshotId);
    Ok(files.iter().filter_map(|file| id(&file.key)).collect())
}

/// A snapshot; `None` when it was forgotten since it was listed.
pub(super) fn load(repo: &Repository, id: &SnapshotId) -> Result<Option<Snapshot>> {
    match repo.storage().get(&layout::snapshot(id), MAX_MANIFEST_LEN) {
        Ok(bytes) => Ok(Some(repo.decode_manifest(id, &bytes)?)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind == ErrorKind::TooLarge => Err(Error::ManifestCorrupt {
            snapshot: *id,
            reason: "it is too long".to_owned(),
        }),
        Err(error) => Err(error.into()),
    }
}
