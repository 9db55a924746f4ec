//! Manifests, from the copies in meta packs.
//!
//! A copy is used only when nothing says that the snapshot must not come back (a record), when nobody is committing it just
//! now (its session is at work), and when its bytes are a manifest of that snapshot. One that is gone comes back only if
//! everything it needs is there: what an interrupted ingest or a prune left behind is no snapshot.

use super::files::{Found, put_right, read};
use super::loss::{Survey, is_lost};
use super::packs::Inventory;
use super::{DamagedSnapshot, Work};
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::pack::{ChunkLocation, KIND_MANIFEST_COPY};
use crate::repo::read::{ReadScratch, read_at};
use crate::repo::{Repository, find_any_index};
use crate::snapshot::copy::{CopyPart, join_from};
use crate::snapshot::{MAX_MANIFEST_LEN, Snapshot};
use crate::storage::{self, ErrorKind};
use std::collections::{BTreeMap, BTreeSet};

/// Where the parts of copies lie, for each snapshot that needs them.
type Copies = BTreeMap<SnapshotId, Vec<ChunkLocation>>;

/// Puts lost and damaged manifests right from their copies. Returns the snapshots that cannot be listed any more: their
/// manifests are beyond repair, or are lost together with something that they need.
pub(super) fn restore_lost(work: &mut Work<'_>, inventory: &Inventory) -> Result<Vec<DamagedSnapshot>> {
    let storage = work.repo.storage();
    let (whole, damaged) = judge_manifests(work)?;
    let forgotten = forgotten(work)?;
    let copies = find_copies(work, inventory, &|id| whole.contains(id) || forgotten.contains(id))?;
    let mut survey = Survey::new(work.repo);
    let mut gone = Vec::new();
    // restored, or left to somebody else
    let mut settled: BTreeSet<SnapshotId> = BTreeSet::new();
    // whoever holds the commit lock for so long is frozen, and is waited for once
    let mut stuck: Option<Error> = None;
    let mut left = Vec::new();
    for (id, places) in copies {
        work.advance(0)?;
        let Some((bytes, snapshot)) = best_copy(work, &id, &places)? else {
            continue;
        };
        let found = damaged.get(&id).unwrap_or(&Found::Missing);
        if *found == Found::Missing {
            let items = survey.damaged_items(&snapshot)?;
            if let Some(error) = survey.unreadable.take() {
                // whether it comes back is for the repair to say that can read what it needs
                left.push(error);
                continue;
            }
            if !items.is_empty() {
                gone.push(DamagedSnapshot { id, items });
                continue;
            }
        }
        settled.insert(id);
        if stuck.is_some() {
            continue;
        }
        // alone, so that nobody forgets it or commits it just then
        let _alone = match work.repo.commit_exclusive(work.monitor) {
            Err(error @ Error::RepositoryLocked { .. }) => {
                stuck = Some(error);
                continue;
            }
            other => other?,
        };
        if is_out_of_date(work.repo, &id, found)? {
            continue;
        }
        put_right(storage, &layout::snapshot(&id), &bytes, found)?;
        work.report.manifests_restored += 1;
    }
    if let Some(error) = stuck {
        let message = format!("Lost or damaged manifests are left to the next repair: {error}");
        work.repo.warn("WARN_NOT_REPAIRED", message);
    }
    for (id, found) in damaged.iter().filter(|(id, _)| !settled.contains(id)) {
        if let Found::Unreadable(error) = found {
            left.push(error.clone());
            continue;
        }
        if !inventory.unread.is_empty() {
            // its copy may be in a pack that could not be read
            continue;
        }
        storage.quarantine(&layout::snapshot(id))?;
        if !forgotten.contains(id) {
            let items = Vec::new();
            gone.push(DamagedSnapshot { id: *id, items });
        }
    }
    if work.report.manifests_restored > 0 || !damaged.is_empty() {
        storage.barrier()?;
    }
    left.into_iter().try_for_each(|error| work.leave(error))?;
    Ok(gone)
}

/// Whether somebody has forgotten or committed the snapshot since the folders were listed, or is about to. In this order: a
/// session leaves its record before its lease goes.
fn is_out_of_date(repo: &Repository, id: &SnapshotId, found: &Found) -> Result<bool> {
    let is_there = |key: &str| match repo.storage().size(key) {
        // what is no file is none
        Err(error) if error.kind == ErrorKind::NotADirectory => Ok(false),
        found => Ok::<bool, Error>(found?.is_some()),
    };
    Ok(is_there(&layout::lease(id))?
        || is_there(&layout::forgot_record(id))?
        || is_there(&layout::snapshot(id))? != (*found != Found::Missing))
}

/// The snapshots whose manifests are whole (or of a later version), and what lies in place of the damaged ones.
fn judge_manifests(work: &Work<'_>) -> Result<(BTreeSet<SnapshotId>, BTreeMap<SnapshotId, Found>)> {
    let storage = work.repo.storage();
    let (mut whole, mut damaged) = (BTreeSet::new(), BTreeMap::new());
    for file in storage.list(layout::SNAPSHOTS)? {
        let Some(id) = layout::id_of(&file.key, ".json").map(SnapshotId) else {
            continue;
        };
        match judge(work, &id)? {
            Judged::Gone => {}
            Judged::Whole => {
                whole.insert(id);
            }
            Judged::Damaged => {
                // what is there is needed no more: only that something is
                damaged.insert(id, Found::Wrong);
            }
            Judged::Unreadable(error) => {
                damaged.insert(id, Found::Unreadable(error));
            }
        }
    }
    Ok((whole, damaged))
}

enum Judged {
    /// It can be used, or is of a later version.
    Whole,
    Damaged,
    /// The device fails to read it.
    Unreadable(storage::Error),
    Gone,
}

/// What a manifest is. One that is damaged is read a second time: a read may fail that did not before.
fn judge(work: &Work<'_>, id: &SnapshotId) -> Result<Judged> {
    let once = || {
        let found = read(work.repo.storage(), &layout::snapshot(id), MAX_MANIFEST_LEN)?;
        Ok::<Judged, Error>(match found {
            Found::Missing => Judged::Gone,
            Found::Wrong => Judged::Damaged,
            Found::Unreadable(error) => Judged::Unreadable(error),
            Found::Bytes(bytes) => match work.repo.decode_manifest(id, &bytes) {
                Err(Error::ManifestCorrupt { .. }) => Judged::Damaged,
                Ok(_) | Err(_) => Judged::Whole,
            },
        })
    };
    match once()? {
        Judged::Damaged => once(),
        other => Ok(other),
    }
}

/// Snapshots that must not come back. That the record is there is what counts.
fn forgotten(work: &Work<'_>) -> Result<BTreeSet<SnapshotId>> {
    let files = work.repo.storage().list(layout::RECORDS)?;
    let id = |key: &str| layout::id_of(key, ".forgot").map(SnapshotId);
    Ok(files.iter().filter_map(|file| id(&file.key)).collect())
}

/// Looks through the meta packs for parts of copies of snapshots that `skip` does not name.
fn find_copies(work: &mut Work<'_>, inventory: &Inventory, skip: &dyn Fn(&SnapshotId) -> bool) -> Result<Copies> {
    let repo = work.repo;
    let mut copies = Copies::new();
    let mut scratch = ReadScratch::default();
    let mut bytes = Vec::new();
    for (pack, _, content) in inventory.contents().filter(|(.., content)| content.meta) {
        // a session gives its id to its snapshot and stores no other copies; saved ones lie in packs of other sessions
        if skip(&content.session) || inventory.writers.contains(&content.session) {
            continue;
        }
        work.advance(0)?;
        let Some(index) = find_any_index(repo, pack)? else {
            continue;
        };
        for entry in index
            .entries
            .into_iter()
            .filter(|entry| entry.kind == KIND_MANIFEST_COPY)
        {
            let place = ChunkLocation { pack: *pack, entry };
            if !read_part(repo, &place, &mut scratch, &mut bytes)? {
                continue;
            }
            match CopyPart::decode(&bytes) {
                Ok(part) if !skip(&part.snapshot) && !inventory.writers.contains(&part.snapshot) => {
                    copies.entry(part.snapshot).or_default().push(place);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(copies)
}

/// The manifest of a snapshot, put together from parts of its copies: proven by its hash and by being one.
fn best_copy(work: &Work<'_>, id: &SnapshotId, places: &[ChunkLocation]) -> Result<Option<(Vec<u8>, Snapshot)>> {
    let repo = work.repo;
    let (mut scratch, mut bytes) = (ReadScratch::default(), Vec::new());
    let mut read = |place: &ChunkLocation| {
        let read = read_part(repo, place, &mut scratch, &mut bytes)?;
        Ok(read.then(|| CopyPart::decode(&bytes).ok()).flatten())
    };
    join_from(id, places, &mut read, &mut |manifest| {
        let decoded = repo.decode_manifest(id, manifest).ok()?;
        Some((manifest.to_vec(), decoded))
    })
}

/// Reads a stored part; `false` when it is not what its pack says.
fn read_part(repo: &Repository, place: &ChunkLocation, scratch: &mut ReadScratch, out: &mut Vec<u8>) -> Result<bool> {
    match read_at(repo, place, scratch, out) {
        Ok(()) => Ok(true),
        Err(error) if is_lost(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
