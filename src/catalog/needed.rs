//! Packs in kill lists that a listed snapshot needs all the same.
//!
//! The lists that this engine leaves behind name none: what they condemn was needed by no snapshot
//! that was there. But a folder may have been copied during a prune by a tool that deletes nothing,
//! so that an unfinished list is stored next to snapshots which the prune had removed. So a list
//! says what may be deleted, and the snapshots say what must not.
//!
//! The cost is a walk of all lists of all snapshots and one of the index for each batch of ids (see
//! [`super::marks`]), and only where there is a list.

use super::copies;
use super::entries::all_entries;
use super::marks::{Marker, for_each_id};
use super::snapshots::load;
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::index::{EntrySource, MergeSource};
use crate::lock::KillLists;
use crate::monitor::Monitor;
use crate::pack::KIND_DATA;
use crate::repo::Repository;
use crate::storage::Verdict;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What is needed of the packs in kill lists.
#[derive(Debug, Default)]
pub struct Needed {
    /// Packs with a chunk that a snapshot needs and of which no good copy is elsewhere, absent ones
    /// too: parity may give them back.
    pub for_chunks: HashSet<PackId>,
    /// Packs with the copy of a manifest that is listed.
    pub for_manifests: HashSet<PackId>,
}

impl Needed {
    /// All of these packs.
    pub fn packs(&self) -> HashSet<PackId> {
        self.for_chunks.union(&self.for_manifests).copied().collect()
    }

    /// All packs in the lists.
    pub fn all(lists: &KillLists) -> Self {
        Self {
            for_chunks: lists.listed().copied().collect(),
            for_manifests: HashSet::new(),
        }
    }
}

/// Finds the packs in `lists` that the snapshots `ids` need: those with a chunk of which there is
/// no copy in a pack that is there, as long as it should be, and in no list; and those with the
/// copy of a manifest.
///
/// Packs that no segment names may hold what the index lacks. `maintains`: the caller holds the
/// maintenance lock, and they are published then; otherwise all of them count as needed, and a
/// damaged segment is an error.
///
/// # Errors
/// `ManifestCorrupt`, `UnsupportedFormat`, `ChunkMissing`, `ChunkCorrupt`, `PackMissing`,
/// `PackCorrupt`, `IndexCorrupt` when it cannot be known what a snapshot needs; then nothing may be
/// deleted. `Storage` when something could not be read this time.
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
    let survey = Survey::take(repo, lists)?;
    match survey.find(repo, entries()?, ids, monitor)? {
        Found::Whole(needed) => Ok(needed),
        Found::Lacking { unnamed, .. } if maintains && !unnamed.is_empty() => {
            repo.name_listed(&unnamed)?;
            repo.storage().barrier()?;
            Ok(survey.find(repo, entries()?, ids, monitor)?.or_unnamed())
        }
        lacking @ Found::Lacking { .. } => Ok(lacking.or_unnamed()),
    }
}

/// Whether an error says that a snapshot, or the index, is damaged or incomplete, and not that
/// something failed this time.
pub fn is_unknowable(error: &Error) -> bool {
    match error {
        Error::ManifestCorrupt { .. }
        | Error::UnsupportedFormat { .. }
        | Error::ChunkMissing { .. }
        | Error::ChunkCorrupt { .. }
        | Error::PackMissing { .. }
        | Error::PackCorrupt { .. }
        | Error::IndexCorrupt { .. }
        | Error::ParityCorrupt { .. } => true,
        Error::Storage { source } => source.kind.verdict() == Verdict::Wrong,
        _ => false,
    }
}

enum Found {
    Whole(Needed),
    /// A chunk is in no segment. It may be in one of the packs that no segment names.
    Lacking {
        needed: Needed,
        unnamed: HashSet<PackId>,
    },
}

impl Found {
    /// Where the index lacks something, every pack counts that no segment names.
    fn or_unnamed(self) -> Needed {
        match self {
            Self::Whole(needed) => needed,
            Self::Lacking { mut needed, unnamed } => {
                needed.for_chunks.extend(unnamed);
                needed
            }
        }
    }
}

/// Which packs there are, and which of them are in lists.
struct Survey<'l> {
    lists: &'l KillLists,
    /// Packs in the folder and their lengths in bytes.
    packs: BTreeMap<PackId, u64>,
    /// Packs in lists that are there.
    listed: BTreeSet<PackId>,
}

impl<'l> Survey<'l> {
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
        for id in ids {
            repo.check_running(monitor)?;
            // none: it was forgotten since it was listed
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
        for_each_id(&source, &mut |place, _, copies| {
            let is_needed = marks.is_set(place) && !copies.iter().any(|(ordinal, _)| is_good(*ordinal));
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
            return Ok(Found::Whole(needed));
        }
        let named: HashSet<&PackId> = packs.iter().map(|(pack, _)| pack).collect();
        let unnamed = self.listed.iter().filter(|pack| !named.contains(pack));
        Ok(Found::Lacking {
            needed,
            unnamed: unnamed.copied().collect(),
        })
    }

    /// The packs in lists with the copy of a listed manifest that no other pack has: a prune carries
    /// copies into new packs before it condemns the old ones. Packs with data chunks hold none.
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
