//! The global index as operations use it: lookups, refreshes, additions, merges when they are due,
//! and the rebuild of lost or damaged parts from the packs. The index is derived data, so none of
//! this needs manual work.

use super::Repository;
use super::protect::protect_packs;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId, SegmentId, SnapshotId};
use crate::index::{self, BrokenSegment, MemorySource, plan_merge_within};
use crate::layout;
use crate::lock::{KillLists, try_maint};
use crate::pack::{ChunkLocation, PackIndex, ReadError, index_read, read_index, read_index_from_pack};
use crate::parity::Groups;
use crate::storage::{self, FailedRead, announced, judge};
use crate::sync::lock;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::Ordering;

/// Most entries that a rebuild holds in memory before it publishes them (about 100 bytes each).
pub const REBUILD_RUN: usize = 1 << 18;
/// Largest merge, in bytes of its inputs, that an ingest does at its end; larger segments stay as
/// they are.
const INLINE_MERGE_BYTES: u64 = 128 << 20;
/// Fewer segments than this are not merged after an ingest to object storage: they are read at once
/// when a handle is opened, and each merge is six requests, one after the other.
const MANY_SEGMENTS: usize = 8;
/// Most newly found damaged segments that one call tolerates.
const REBUILD_ROUNDS: usize = 16;

/// Locations of chunks that no published segment names; only this handle knows them.
pub(super) type Overlay = HashMap<ChunkId, Vec<ChunkLocation>>;

impl Repository {
    /// The global index: chunk id to locations, for all packs.
    pub fn index(&self) -> &index::GlobalIndex {
        let mut folder = lock(&self.index_folder);
        let now = self.generation();
        if *folder != now {
            self.global_index.forget();
            *folder = now;
        }
        &self.global_index
    }

    /// The locations of a chunk that a segment names: in packs that were intact and protected when
    /// it was published, so new snapshots may rely on them. A segment that is found to be damaged
    /// is rebuilt by the call; one that cannot be read is left out as long as that is so.
    pub fn locate_published(&self, id: &ChunkId) -> Result<Vec<ChunkLocation>> {
        self.with_index(|index| index.locate(id))
    }

    /// [`locate_published`](Self::locate_published) for many chunks, in the order of `ids`.
    pub fn locate_published_batch(&self, ids: &[ChunkId]) -> Result<Vec<Vec<ChunkLocation>>> {
        self.with_index(|index| index.locate_batch(ids))
    }

    /// All known locations of a chunk, for reading: also those in packs that are damaged, or that
    /// could not be published.
    pub fn locate(&self, id: &ChunkId) -> Result<Vec<ChunkLocation>> {
        let mut locations = self.locate_published(id)?;
        if let Some(found) = self.overlay.lock(self).get(id) {
            locations.extend(found);
        }
        Ok(locations)
    }

    /// All packs that segments name, with their lengths in bytes. A segment that is found to be
    /// damaged is rebuilt by the call.
    pub fn packs_of_index(&self) -> Result<HashMap<PackId, u64>> {
        self.with_index(index::GlobalIndex::packs)
    }

    /// Lists the segments again.
    pub fn refresh_index(&self) -> Result<()> {
        let broken = self.index().refresh()?;
        if broken.is_empty() {
            Ok(())
        } else {
            index_unnamed_packs(self, &broken).map(drop)
        }
    }

    /// Publishes a segment of newly written chunks, each with the length of its pack.
    pub fn publish_segment(&self, chunks: Vec<(ChunkLocation, u64)>) -> Result<()> {
        self.index().publish(self.entropy(), chunks)?;
        Ok(())
    }

    /// Adds to the index what packs contain and no segment names: publishes it, or keeps it in
    /// memory where it cannot be written. For a reader that misses a chunk. Returns the first read
    /// that failed, if one did: what is still missing then may exist all the same.
    pub fn index_unnamed_packs(&self) -> Result<Option<Error>> {
        index_unnamed_packs(self, &[])
    }

    /// Publishes the contents of those packs that are in kill lists, that snapshots may need and
    /// that no segment names. The caller holds the maintenance lock: the packs stay until it has
    /// decided about them. Packs that cannot be read are left out.
    pub fn index_listed_packs(&self, packs: &HashSet<PackId>) -> Result<()> {
        let mut sorted: Vec<&PackId> = packs.iter().collect();
        sorted.sort_unstable();
        let mut run: Vec<(ChunkLocation, u64)> = Vec::new();
        for pack in sorted {
            if let Some(index) = find_any_index(self, pack)? {
                let entries = index.entries.iter();
                run.extend(entries.map(|&entry| (ChunkLocation { pack: *pack, entry }, index.pack_len)));
            }
            if run.len() >= REBUILD_RUN {
                self.publish_segment(std::mem::take(&mut run))?;
            }
        }
        self.publish_segment(run)
    }

    /// [`index_unnamed_packs`](Self::index_unnamed_packs) if there is no segment at all, so that a
    /// writer does not store twice what the packs contain.
    pub fn index_unnamed_packs_if_empty(&self) -> Result<()> {
        if self.index().live_segments().is_empty() {
            index_unnamed_packs(self, &[])?;
        }
        Ok(())
    }

    /// Leaves a damaged segment out from now on and rebuilds its entries from the packs.
    pub fn set_segment_aside(&self, segment: SegmentId) -> Result<()> {
        let reason = index::Damage::Contents;
        let error = index::Error::Damaged { segment, reason };
        self.index().set_aside(segment, error.clone());
        index_unnamed_packs(self, &[BrokenSegment { id: segment, error }]).map(drop)
    }

    /// Removes packs from the index: the segments that name them are replaced. The caller holds the
    /// maintenance lock.
    pub fn drop_from_index(&self, packs: &HashSet<PackId>) -> Result<()> {
        self.refresh_index()?;
        let naming = self.with_index(|index| index.segments_naming(packs))?;
        if !naming.is_empty() {
            self.with_index(|index| index.merge(self.entropy(), &naming, packs))?;
        }
        Ok(())
    }

    /// Merges segments when the geometric rule asks for it, no other process maintains the
    /// repository, and the merge is short. No data depends on it, so a failure is a warning.
    pub fn merge_index_if_due(&self) {
        let plan = || plan_merge_within(&self.index().live_segments(), INLINE_MERGE_BYTES);
        let merge = || -> Result<()> {
            if plan().is_empty() || self.storage().is_remote() && self.index().live_segments().len() < MANY_SEGMENTS {
                return Ok(());
            }
            let Some(_maint) = try_maint(self.storage())? else {
                return Ok(());
            };
            self.refresh_index()?;
            let due = plan();
            if !due.is_empty() {
                self.index().merge(self.entropy(), &due, &HashSet::new())?;
            }
            Ok(())
        };
        if let Err(error) = merge() {
            self.warn(
                "WARN_INDEX_NOT_MERGED",
                format!("Index segments could not be merged: {error}"),
            );
        }
    }

    /// Calls `action`, and repeats it after each damaged segment that it finds.
    fn with_index<T>(&self, action: impl Fn(&index::GlobalIndex) -> std::result::Result<T, index::Error>) -> Result<T> {
        for _ in 0..REBUILD_ROUNDS {
            match action(self.index()) {
                Err(error @ index::Error::Damaged { segment, .. }) => {
                    self.index().set_aside(segment, error.clone());
                    index_unnamed_packs(self, &[BrokenSegment { id: segment, error }])?;
                }
                other => return Ok(other?),
            }
        }
        Ok(action(self.index())?)
    }
}

/// Adds to the index what packs contain and no live segment names, and replaces the broken
/// segments. Without write permission or the maintenance lock they are not replaced, but left out.
/// Entries that cannot be written are kept in the memory of this handle, so that a full or failing
/// disk does not prevent reads. No segment is replaced if a read failed: the first failure is
/// returned.
pub(super) fn index_unnamed_packs(repo: &Repository, broken: &[BrokenSegment]) -> Result<Option<Error>> {
    let mut writable = repo.check_writable().is_ok();
    let mut run: Vec<(ChunkLocation, u64)> = Vec::new();
    let (mut found, mut unread) = (0usize, false);
    let unnamed = unnamed_packs(repo)?;
    let mut unreadable = unnamed.unreadable;
    let broken = [broken, &unnamed.broken].concat();
    // without a list of the writers, nothing is published
    writable &= unnamed.writers.is_some();
    let writers = unnamed.writers.unwrap_or_default();
    let there: Vec<PackId> = unnamed.there.iter().copied().collect();
    for pack in announced(repo.storage(), &there, index_read) {
        let index = match read_any_index(repo, pack) {
            Ok(index) => index,
            // deleted since it was listed, damaged, or still being written: no snapshot can rely on
            // it. But a pack that could not be read now may be readable later
            Err(error) => {
                // no snapshot relies on a pack in a kill list
                let is_listed = unnamed.kill_lists.is_listed(pack);
                if let Some(source) = error.unreadable().filter(|_| !is_listed) {
                    unreadable.get_or_insert_with(|| source.clone());
                }
                if let Err(source) = through_parity(repo, pack) {
                    unreadable.get_or_insert(source);
                }
                continue;
            }
        };
        let entries = index.entries.iter();
        let locations = entries.map(|&entry| (ChunkLocation { pack: *pack, entry }, index.pack_len));
        if writers.contains(&index.header.session) {
            // its session will name it, or a broken segment does: that segment is not replaced then
            keep(repo, &mut false, locations.collect(), &[]);
            unread = true;
            continue;
        }
        if unnamed.kill_lists.is_listed(pack) {
            // a reader may still find there what a snapshot needs; a prune decides whether the pack
            // stays
            keep(repo, &mut false, locations.collect(), &[]);
            continue;
        }
        found += 1;
        run.extend(locations);
        if run.len() >= REBUILD_RUN {
            keep(repo, &mut writable, std::mem::take(&mut run), &[]);
        }
    }
    for pack in &unnamed.lost {
        if let Err(source) = through_parity(repo, pack) {
            unreadable.get_or_insert(source);
        }
    }
    // the segments that stay may name something that was not read
    unread |= unreadable.is_some() || repo.index().check_read().is_err();
    if found > 0 || !broken.is_empty() {
        repo.index_rebuilt.store(true, Ordering::Relaxed);
    }
    let old: Vec<SegmentId> = broken.iter().map(|segment| segment.id).collect();
    keep(repo, &mut writable, run, if unread { &[] } else { &old });
    for segment in &broken {
        let message = format!(
            "Index segment {} could not be used ({}); its entries were read from {found} packs",
            segment.id, segment.error
        );
        repo.warn("WARN_SEGMENT_REBUILT", message);
    }
    // without a snapshot these packs are only left over from an interrupted ingest
    if broken.is_empty() && found > 0 && !repo.storage().list(layout::SNAPSHOTS)?.is_empty() {
        let message = format!("Index segments are missing; their entries were read from {found} packs");
        repo.warn("WARN_SEGMENT_REBUILT", message);
    }
    Ok(unreadable.map(Error::from))
}

/// Publishes what was found in packs, in place of the segments `old` if this handle may replace
/// them; keeps it in memory when it cannot be written.
fn keep(repo: &Repository, writable: &mut bool, mut run: Vec<(ChunkLocation, u64)>, old: &[SegmentId]) {
    if *writable {
        match publish_or_replace(repo, &run, old) {
            Ok(protected) => run.retain(|(location, _)| !protected.contains(&location.pack)),
            Err(error) => {
                *writable = false;
                let message = format!("The rebuilt index could not be written and is kept in memory: {error}");
                repo.warn("WARN_INDEX_NOT_SAVED", message);
            }
        }
    }
    let mut overlay = repo.overlay.lock(repo);
    for (location, _) in run {
        let known = overlay.entry(location.entry.id).or_default();
        if known.iter().all(|other| other.pack != location.pack) {
            known.push(location);
        }
    }
}

/// Reads the index of a lost or damaged pack from its parity, if that can rebuild the pack. The
/// entries are kept in memory: they can be read, but no new snapshot may rely on them before the
/// pack is repaired.
fn through_parity(repo: &Repository, pack: &PackId) -> std::result::Result<(), storage::Error> {
    let rebuilt = match repo.index_through_parity(pack) {
        Err(Error::NoMemory) => return Err(storage::Error::no_memory(layout::pack(pack))),
        other => judge(other)?,
    };
    if let Some(index) = rebuilt.unwrap_or(None) {
        let entries = index.entries.iter();
        let run = entries.map(|&entry| (ChunkLocation { pack: *pack, entry }, index.pack_len));
        keep(repo, &mut false, run.collect(), &[]);
    }
    Ok(())
}

/// Protects the packs of `run` that are in no parity group yet, publishes their entries, and
/// returns the protected packs. A pack that is left out is damaged beyond its parity: it may be
/// read, but no new snapshot may rely on it.
fn publish_or_replace(repo: &Repository, run: &[(ChunkLocation, u64)], old: &[SegmentId]) -> Result<HashSet<PackId>> {
    let packs: BTreeSet<PackId> = run.iter().map(|(location, _)| location.pack).collect();
    let protected: HashSet<PackId> = protect_packs(repo, packs.into_iter().collect())?.into_iter().collect();
    let run: Vec<_> = run
        .iter()
        .filter(|(location, _)| protected.contains(&location.pack))
        .copied()
        .collect();
    let maint = if old.is_empty() {
        None
    } else {
        try_maint(repo.storage())?
    };
    if maint.is_some() {
        repo.index().supersede(repo.entropy(), &MemorySource::new(run), old)?;
    } else if !run.is_empty() {
        repo.publish_segment(run)?;
    }
    Ok(protected)
}

/// Packs that no live segment names.
#[derive(Default)]
struct Unnamed {
    /// A file of the pack exists, the pack or its `.idx`.
    there: BTreeSet<PackId>,
    /// No file of the pack exists: only a parity group names it.
    lost: BTreeSet<PackId>,
    /// The packs that prunes have condemned.
    kill_lists: KillLists,
    /// Segments that were found to be broken in the process.
    broken: Vec<BrokenSegment>,
    /// The sessions that were writing; `None` if they could not be listed. Listed after the packs
    /// and before the segments, so that a session which is not among them has published what it
    /// wrote, or never will.
    writers: Option<HashSet<SnapshotId>>,
    /// A read that failed, so that more packs may be unnamed, or fewer.
    unreadable: Option<storage::Error>,
}

fn unnamed_packs(repo: &Repository) -> Result<Unnamed> {
    // first the folder, then the segments: a pack that is written in between is named by its own
    // session
    let mut packs = repo.list_packs_and_indexes()?;
    let mut unreadable = None;
    let mut writers = repo.writers().ok();
    let protected = match repo.parity_shape() {
        // without the groups, fewer packs are found
        Some(_) => judge(repo.parity_groups()).and_then(|groups| {
            let groups = groups.unwrap_or_default();
            judge(groups.check_read()).map(|_| groups)
        }),
        None => Ok(Groups::default()),
    };
    let protected = protected.unwrap_or_else(|error| {
        unreadable = Some(error);
        Groups::default()
    });
    let mut lost: BTreeSet<PackId> = protected
        .packs()
        .filter(|pack| !packs.contains(pack))
        .copied()
        .collect();
    if packs.is_empty() && lost.is_empty() {
        return Ok(Unnamed {
            writers,
            unreadable,
            ..Unnamed::default()
        });
    }
    // a damaged kill list does not prevent reads; a writer that wants to rely on a pack reads the
    // lists again
    let kill_lists = repo.kill_lists();
    if let Some(error) = kill_lists.as_ref().err().and_then(FailedRead::unreadable) {
        // the packs that they condemn must not be published
        (unreadable, writers) = (Some(error.clone()), None);
    }
    let kill_lists = kill_lists.unwrap_or_default();
    let broken = repo.index().refresh()?;
    let named = loop {
        match repo.index().readable_packs() {
            Ok(named) => break named,
            Err(error @ (index::Error::Damaged { segment, .. } | index::Error::Unreadable { segment, .. })) => {
                repo.index().set_aside(segment, error);
            }
            Err(error) => return Err(error.into()),
        }
    };
    let is_unnamed = |pack: &PackId| !named.contains_key(pack);
    packs.retain(is_unnamed);
    lost.retain(is_unnamed);
    Ok(Unnamed {
        there: packs,
        lost,
        kill_lists,
        broken,
        writers,
        unreadable,
    })
}

/// The index of a pack: from its `.idx`, or from the pack itself when that is missing, damaged or
/// unreadable. If both fail, a failed read takes precedence over damage.
pub fn read_any_index(repo: &Repository, pack: &PackId) -> std::result::Result<PackIndex, ReadError> {
    let (storage, id, seal) = (repo.storage(), &repo.config().id, repo.seal().as_ref());
    read_index(storage, id, seal, pack).or_else(|first| {
        let own = read_index_from_pack(storage, id, seal, pack);
        own.map_err(|error| if first.unreadable().is_some() { first } else { error })
    })
}

/// The same for a caller that can do without that pack; `None` when it is missing or damaged.
pub fn find_any_index(repo: &Repository, pack: &PackId) -> Result<Option<PackIndex>> {
    Ok(judge(read_any_index(repo, pack))?.ok())
}
