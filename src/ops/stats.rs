//! Statistics of a repository, counted from manifests, the index, and lengths of files.
//!
//! No pack is read. Manifests are read one at a time, the index is walked in order of id; memory is
//! 40 bytes per pack for its pack table, and the listing of one folder. While writers or a prune
//! are active, the counts belong to no single moment. Entries of a damaged segment are recovered
//! from the packs; if one of several segments is lost, its entries are not counted, which verify
//! reports.

use super::snapshots::{list_ids, load};
use crate::catalog::snapshots;
use crate::error::{Error, Result};
use crate::id::{GroupId, PackId};
use crate::index::{self, EntrySource};
use crate::layout;
use crate::monitor::Monitor;
use crate::pack::KIND_DATA;
use crate::parity::Shape;
use crate::repo::Repository;
use crate::storage::{ConditionalPut, ErrorKind};
use std::collections::{BTreeSet, HashSet};

/// How often a walk of the index starts over, because a segment was merged away or found to be
/// damaged.
const MAX_ROUNDS: usize = 16;
/// Entries between two checks for cancellation.
const ENTRIES_PER_STEP: u64 = 4096;

/// Statistics of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stats {
    /// Number of snapshots that can be listed.
    pub snapshots: u64,
    /// Number of their items.
    pub items: u64,
    /// Length of all their items in bytes: the size of a restore of every snapshot.
    pub original_bytes: u64,
    /// Number of distinct data chunks in the index, including those that no snapshot needs any
    /// more.
    pub chunks: u64,
    /// Their length before compression in bytes, each counted once.
    pub unique_bytes: u64,
    /// Their stored length in bytes, each counted once.
    pub stored_bytes: u64,
    /// Number of packs in the folder.
    pub packs: u64,
    /// Lengths of all files by type.
    pub bytes: StoredBytes,
    /// Parity; `None` if the repository has none.
    pub parity: Option<ParityStats>,
    /// The service; `None` in a folder.
    pub object_storage: Option<ObjectStorageStats>,
}

/// What is known of an object storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectStorageStats {
    /// Whether it keeps objects from being overwritten; `None` when it was not asked, because the
    /// handle may not write.
    pub conditional_put: Option<ConditionalPut>,
}

/// Lengths of files in bytes, by type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoredBytes {
    /// Packs with data chunks, and those that the index does not name (yet).
    pub data_packs: u64,
    /// Packs with list nodes and copies of manifests.
    pub meta_packs: u64,
    /// The `.idx` files.
    pub pack_indexes: u64,
    /// Parity groups.
    pub parity: u64,
    /// Segments of the global index.
    pub index: u64,
    /// Manifests.
    pub snapshots: u64,
    /// Key files and their second copies.
    pub keys: u64,
    /// Files that a repair moved to the quarantine.
    pub quarantine: u64,
    /// Settings, locks, records, kill lists and the reserve.
    pub other: u64,
}

impl StoredBytes {
    /// The sum of all.
    pub fn total(&self) -> u64 {
        [
            self.data_packs,
            self.meta_packs,
            self.pack_indexes,
            self.parity,
            self.index,
            self.snapshots,
            self.keys,
            self.quarantine,
            self.other,
        ]
        .into_iter()
        .fold(0, u64::saturating_add)
    }
}

/// Statistics of parity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParityStats {
    /// Packs in a full group, and shards per group.
    pub shape: Shape,
    /// Number of groups in the folder.
    pub groups: u64,
    /// Their length in bytes.
    pub bytes: u64,
    /// Length of the packs that they protect, in bytes.
    pub pack_bytes: u64,
}

impl ParityStats {
    /// Length of parity relative to the packs that it protects; `None` without packs. At best 1/20
    /// in the default shape.
    pub fn ratio(&self) -> Option<f64> {
        ratio(self.bytes, self.pack_bytes)
    }
}

impl Stats {
    /// Average use of the stored chunks: [`Self::original_bytes`] over [`Self::unique_bytes`].
    /// `None` without chunks.
    pub fn dedup_ratio(&self) -> Option<f64> {
        ratio(self.original_bytes, self.unique_bytes)
    }

    /// Length of the chunks over their stored length. `None` without chunks.
    pub fn compression_ratio(&self) -> Option<f64> {
        ratio(self.unique_bytes, self.stored_bytes)
    }
}

fn ratio(over: u64, under: u64) -> Option<f64> {
    (under > 0).then(|| over as f64 / under as f64)
}

/// Collects the statistics. A damaged manifest is left out, with a warning that names it.
///
/// # Errors
/// `UnsupportedFormat` when a newer version wrote a manifest, `Storage`, `Cancelled`, `Closed`.
pub fn stats(repo: &Repository, monitor: &dyn Monitor) -> Result<Stats> {
    repo.check_running(monitor)?;
    let count = || {
        let mut stats = Stats::default();
        count_snapshots(repo, monitor, &mut stats)?;
        let meta_packs = count_chunks(repo, monitor, &mut stats)?;
        count_files(repo, &meta_packs, &mut stats)?;
        stats.object_storage = object_storage(repo)?;
        Ok(stats)
    };
    repo.unless_replaced(count())
}

/// Asks the service, if this handle may write.
fn object_storage(repo: &Repository) -> Result<Option<ObjectStorageStats>> {
    let storage = repo.storage();
    if !storage.is_remote() {
        return Ok(None);
    }
    let conditional_put = match repo.check_writable() {
        Ok(()) => Some(storage.probe_conditional_put()?),
        Err(_) => storage.conditional_put(),
    };
    Ok(Some(ObjectStorageStats { conditional_put }))
}

fn count_snapshots(repo: &Repository, monitor: &dyn Monitor, stats: &mut Stats) -> Result<()> {
    for id in snapshots::to_show(repo, &list_ids(repo)?) {
        repo.check_running(monitor)?;
        match load(repo, id) {
            Ok(snapshot) => {
                stats.snapshots += 1;
                stats.items += snapshot.items.len() as u64;
                stats.original_bytes = stats.original_bytes.saturating_add(snapshot.original_size);
            }
            Err(Error::SnapshotNotFound { .. }) => {} // forgotten since it was listed
            Err(error @ Error::ManifestCorrupt { .. }) => repo.warn("WARN_MANIFEST_CORRUPT", error.to_string()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Counts the chunks of data, and returns the packs in which the index has none.
fn count_chunks(repo: &Repository, monitor: &dyn Monitor, stats: &mut Stats) -> Result<HashSet<PackId>> {
    repo.refresh_index()?;
    repo.index_unnamed_packs_if_empty()?;
    let mut rounds = 0;
    loop {
        rounds += 1;
        match walk(repo, monitor) {
            Ok(walked) => {
                (stats.chunks, stats.unique_bytes, stats.stored_bytes) = walked.counts;
                return Ok(walked.meta_packs);
            }
            Err(Stop::Index(index::Error::Damaged { segment, .. })) if rounds < MAX_ROUNDS => {
                repo.set_segment_aside(segment)?;
            }
            // merged away in the meantime
            Err(Stop::Index(index::Error::Storage(error)))
                if rounds < MAX_ROUNDS && error.kind == ErrorKind::NotFound =>
            {
                repo.refresh_index()?;
            }
            Err(Stop::Index(error)) => return Err(error.into()),
            Err(Stop::Ended(error)) => return Err(error),
        }
    }
}

struct Walked {
    /// Chunks, their length, their stored length.
    counts: (u64, u64, u64),
    /// Packs that the index names without data chunks: they contain list nodes and copies.
    meta_packs: HashSet<PackId>,
}

/// Why a walk ended early.
enum Stop {
    Index(index::Error),
    Ended(Error),
}

impl From<index::Error> for Stop {
    fn from(error: index::Error) -> Self {
        Self::Index(error)
    }
}

fn walk(repo: &Repository, monitor: &dyn Monitor) -> std::result::Result<Walked, Stop> {
    let source = repo.index().all_entries()?;
    let (mut chunks, mut raw, mut stored) = (0u64, 0u64, 0u64);
    let mut holds_data = vec![false; source.packs().len()];
    let mut last = None;
    for (number, found) in (0u64..).zip(source.scan()) {
        if number % ENTRIES_PER_STEP == 0 {
            repo.check_running(monitor).map_err(Stop::Ended)?;
        }
        let found = found?;
        if found.entry.kind != KIND_DATA {
            continue;
        }
        if let Some(holds_data) = holds_data.get_mut(found.pack as usize) {
            *holds_data = true;
        }
        // the same chunk may be in several packs
        if last.replace(found.entry.id) != Some(found.entry.id) {
            chunks += 1;
            raw = raw.saturating_add(u64::from(found.entry.raw_len));
            stored = stored.saturating_add(u64::from(found.entry.payload_len));
        }
    }
    let named = source.packs().iter().zip(holds_data);
    Ok(Walked {
        counts: (chunks, raw, stored),
        meta_packs: named.filter(|(_, data)| !data).map(|((pack, _), _)| *pack).collect(),
    })
}

fn count_files(repo: &Repository, meta_packs: &HashSet<PackId>, stats: &mut Stats) -> Result<()> {
    let bytes = &mut stats.bytes;
    let mut groups: BTreeSet<GroupId> = BTreeSet::new();
    for folder in layout::FOLDERS.into_iter().chain([""]) {
        for file in repo.storage().list(folder)? {
            let pack = layout::id_of(&file.key, ".pack").map(PackId);
            let kind = match (folder, pack) {
                (layout::DATA, Some(pack)) => {
                    stats.packs += 1;
                    match meta_packs.contains(&pack) {
                        true => &mut bytes.meta_packs,
                        false => &mut bytes.data_packs,
                    }
                }
                (layout::DATA, None) => &mut bytes.pack_indexes,
                (layout::PARITY, _) => {
                    let name = file.key.rsplit('/').next().and_then(|name| name.split('.').next());
                    groups.extend(name.and_then(GroupId::from_hex));
                    &mut bytes.parity
                }
                (layout::INDEX, _) => &mut bytes.index,
                (layout::SNAPSHOTS, _) => &mut bytes.snapshots,
                (layout::KEYS | layout::KEY_COPIES, _) => &mut bytes.keys,
                (layout::QUARANTINE, _) => &mut bytes.quarantine,
                _ => &mut bytes.other,
            };
            *kind = kind.saturating_add(file.len);
        }
    }
    stats.parity = repo.parity_shape().map(|shape| ParityStats {
        shape,
        groups: groups.len() as u64,
        bytes: bytes.parity,
        pack_bytes: bytes.data_packs.saturating_add(bytes.meta_packs),
    });
    Ok(())
}
