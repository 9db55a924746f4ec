//! Packs in kill lists that a listed snapshot needs.
//!
//! A kill list that this engine leaves behind names no pack that a snapshot needs. But a tool that
//! deletes nothing in its target may have copied the folder during a prune: it then has an
//! unfinished kill list next to snapshots that the prune had removed. So a kill list only states
//! what may be deleted; the snapshots decide what must be kept.
//!
//! Cost, only if there is a kill list: one walk of the list trees of all snapshots, and one of the
//! index for each batch of ids (see [`super::marks`]).

use super::copies;
use super::entries::all_entries;
use super::marks::{Marker, for_each_id};
use super::snapshots::{load, to_load};
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::index::{EntrySource, MergeSource};
use crate::lock::KillLists;
use crate::monitor::Monitor;
use crate::pack::KIND_DATA;
use crate::repo::Repository;
use crate::storage::{FailedRead, Verdict};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The packs in kill lists that are needed.
#[derive(Debug, Default)]
pub struct Needed {
    /// Packs with a chunk that a snapshot needs and that has no good copy elsewhere, missing packs
    /// too: parity may rebuild them.
    pub for_chunks: HashSet<PackId>,
    /// Packs with a copy of a listed manifest that no pack outside the kill lists has.
    pub for_manifests: HashSet<PackId>,
}

impl Needed {
    /// All of these packs.
    pub fn packs(&self) -> HashSet<PackId> {
        self.for_chunks.union(&self.for_manifests).copied().collect()
    }

    /// Counts all packs in the lists as needed for their chunks.
    fn all(lists: &KillLists) -> Self {
        Self {
            for_chunks: lists.listed().copied().collect(),
            for_manifests: HashSet::new(),
        }
    }
}

/// Finds the packs in `lists` that the snapshots `ids` need: those with a chunk that has no copy in
/// a pack that exists, has the expected length, and is in no list; and those with a
/// manifest copy that no pack outside the lists has.
///
/// Packs that no segment names may contain chunks that the index lacks. `maintains`: the caller
/// holds the maintenance lock, and they are published then; otherwise all of them count as needed,
/// and a damaged segment is an error.
///
/// # Errors
/// `ManifestCorrupt`, `UnsupportedFormat`, `ChunkMissing`, `ChunkCorrupt`, `PackMissing`,
/// `PackCorrupt`, `IndexCorrupt` when it cannot be known what a snapshot needs; then nothing may be
/// deleted. `Unreadable` or `Storage` when a read failed this time.
pub fn needed(
    repo: &Repository,
    lists: &KillLists,
    ids: &[SnapshotId],
    maintains: bool,
    monitor: &dyn Monitor,
) -> Result<Needed> {
    if maintains {
        repo.refresh_index()?;
    } else {
        repo.index().refresh()?;
    }
    let entries = || match maintains {
        true => all_entries(repo),
        false => Ok(repo.index().all_entries()?),
    };
    let listed = ListedPacks::take(repo, lists)?;
    match listed.find(repo, entries()?, ids, monitor)? {
        Found::Complete(needed) => Ok(needed),
        Found::Incomplete { unnamed, .. } if maintains && !unnamed.is_empty() => {
            repo.index_listed_packs(&unnamed)?;
            repo.storage().barrier()?;
            Ok(listed.find(repo, entries()?, ids, monitor)?.or_unnamed())
        }
        incomplete @ Found::Incomplete { .. } => Ok(incomplete.or_unnamed()),
    }
}

/// Finds the packs in `lists` that the snapshots `ids` need, for a prune, which deletes the others.
/// Returns all packs in the lists where an index entry, a pack or a list node is missing or
/// damaged: the plan, which fails if a kept snapshot needs one of them, then decides about them
/// like about any other pack.
///
/// In contrast to [`spare_needed_or_all`], a failed read or a damaged manifest is an error: no plan
/// can be made then, and nothing may be deleted.
///
/// # Errors
/// Those of [`needed`] that mean this.
pub fn needed_before_deletion(
    repo: &Repository,
    lists: &KillLists,
    ids: &[SnapshotId],
    maintains: bool,
    monitor: &dyn Monitor,
) -> Result<Needed> {
    if lists.listed().next().is_none() {
        return Ok(Needed::default());
    }
    match needed(repo, lists, ids, maintains, monitor) {
        Err(error @ (Error::ManifestCorrupt { .. } | Error::UnsupportedFormat { .. } | Error::Storage { .. })) => {
            Err(error)
        }
        Err(error) if is_unknowable(&error) => Ok(Needed::all(lists)),
        other => other,
    }
}

/// Spares the packs in kill lists that snapshots need, for a repair or reindex, which deletes none:
/// their entries stay, or are restored. The caller holds the maintenance lock.
///
/// In contrast to [`needed_before_deletion`], all packs are spared whenever the needed ones cannot
/// be determined, also after a failed read or for a damaged manifest: nothing is lost by that, and
/// a damaged repository can still be repaired.
pub fn spare_needed_or_all(repo: &Repository, mut lists: KillLists, monitor: &dyn Monitor) -> Result<KillLists> {
    if lists.listed().next().is_none() {
        return Ok(lists);
    }
    let ids = repo.list_manifests()?;
    let needed = match needed(repo, &lists, &ids, true, monitor) {
        Err(error) if is_unknowable(&error) || error.unreadable().is_some() => Needed::all(&lists),
        other => other?,
    };
    lists.spare(needed.packs());
    Ok(lists)
}

/// Whether an error means that a snapshot, or the index, is damaged or incomplete, and not that a
/// call failed this time.
fn is_unknowable(error: &Error) -> bool {
    match error {
        error if error.is_loss_of_chunks() => true,
        Error::ManifestCorrupt { .. }
        | Error::UnsupportedFormat { .. }
        | Error::IndexCorrupt { .. }
        | Error::ParityCorrupt { .. } => true,
        Error::Storage { source } => source.kind.verdict() == Verdict::Wrong,
        _ => false,
    }
}

enum Found {
    Complete(Needed),
    /// A chunk is in no segment. It may be in one of the packs that no segment names.
    Incomplete {
        needed: Needed,
        unnamed: HashSet<PackId>,
    },
}

impl Found {
    /// If the index is incomplete, every pack counts that no segment names.
    fn or_unnamed(self) -> Needed {
        match self {
            Self::Complete(needed) => needed,
            Self::Incomplete { mut needed, unnamed } => {
                needed.for_chunks.extend(unnamed);
                needed
            }
        }
    }
}

/// The existing packs, and those of them that are in lists.
struct ListedPacks<'l> {
    lists: &'l KillLists,
    /// Packs in the folder and their lengths in bytes.
    packs: BTreeMap<PackId, u64>,
    /// Existing packs that are in lists.
    listed: BTreeSet<PackId>,
}

impl<'l> ListedPacks<'l> {
    fn take(repo: &Repository, lists: &'l KillLists) -> Result<Self> {
        let packs = repo.list_packs()?;
        let listed = lists
            .listed()
            .filter(|pack| packs.contains_key(pack))
            .copied()
            .collect();
        Ok(Self { lists, packs, listed })
    }

    fn find(&self, repo: &Repository, source: MergeSource, ids: &[SnapshotId], monitor: &dyn Monitor) -> Result<Found> {
        let mut marker = Marker::noting(&source);
        for id in to_load(repo, ids) {
            repo.check_running(monitor)?;
            // `None`: it was forgotten since it was listed
            if let Some(snapshot) = load(repo, id)? {
                marker.add(repo, monitor, &snapshot)?;
            }
        }
        let (marks, lacks) = marker.finish_noting()?;
        let packs = source.packs();
        let good: Vec<bool> = packs
            .iter()
            .map(|(pack, len)| self.packs.get(pack) == Some(len) && !self.lists.is_listed(pack))
            .collect();
        let is_good = |ordinal: u32| good.get(ordinal as usize).copied().unwrap_or_default();
        let mut needed = Needed::default();
        let mut has_data: HashSet<PackId> = HashSet::new();
        for_each_id(&source, &mut |position, _, copies| {
            let is_needed = marks.is_set(position) && !copies.iter().any(|(ordinal, _)| is_good(*ordinal));
            for (ordinal, entry) in copies {
                let Some((pack, _)) = packs.get(*ordinal as usize) else {
                    continue;
                };
                if is_needed && self.lists.is_listed(pack) {
                    needed.for_chunks.insert(*pack);
                }
                if entry.kind == KIND_DATA {
                    has_data.insert(*pack);
                }
            }
            Ok(())
        })?;
        needed.for_manifests = self.with_copies(repo, ids, &has_data, monitor)?;
        if !lacks {
            return Ok(Found::Complete(needed));
        }
        let named: HashSet<&PackId> = packs.iter().map(|(pack, _)| pack).collect();
        let unnamed = self.listed.iter().filter(|pack| !named.contains(pack));
        Ok(Found::Incomplete {
            needed,
            unnamed: unnamed.copied().collect(),
        })
    }

    /// The packs in lists with the copy of a listed manifest that no other pack has: a prune copies
    /// it into a new pack before it condemns the old one. Packs with data chunks contain no copies.
    fn with_copies(
        &self,
        repo: &Repository,
        ids: &[SnapshotId],
        has_data: &HashSet<PackId>,
        monitor: &dyn Monitor,
    ) -> Result<HashSet<PackId>> {
        let ids: HashSet<&SnapshotId> = ids.iter().collect();
        let copies_in = |pack: &PackId| -> Result<Vec<SnapshotId>> {
            let content = copies::read(repo, monitor, pack, &|session| ids.contains(session))?;
            let copies = content.into_iter().flat_map(|content| content.copies);
            Ok(copies.filter(|id| ids.contains(id)).collect())
        };
        let mut listed: Vec<(PackId, Vec<SnapshotId>)> = Vec::new();
        for pack in self.listed.iter().filter(|pack| !has_data.contains(pack)) {
            listed.push((*pack, copies_in(pack)?));
        }
        let mut only_there: HashSet<SnapshotId> = listed.iter().flat_map(|(_, copies)| copies).copied().collect();
        let others = self.packs.keys().filter(|pack| !self.listed.contains(pack));
        for pack in others.filter(|pack| !has_data.contains(pack)) {
            if only_there.is_empty() {
                break;
            }
            for id in copies_in(pack)? {
                only_there.remove(&id);
            }
        }
        listed.retain(|(_, copies)| copies.iter().any(|id| only_there.contains(id)));
        let found = listed.into_iter().map(|(pack, _)| pack).collect();
        Ok(found)
    }
}
