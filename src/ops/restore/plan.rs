//! Selects the items of a snapshot, and the bytes of them, that a restore returns.

use crate::error::{Error, Result};
use crate::ops::snapshots::get_snapshot;
use crate::repo::Repository;
use crate::snapshot::Snapshot;

/// Options of a restore.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// One item by name; default all, one after the other in manifest order.
    pub item: Option<String>,
    /// First byte and end (exclusive; default: the end of the data) of the wanted range.
    pub range: Option<(u64, Option<u64>)>,
}

/// The data that a restore will return.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Indices of its items, in order.
    pub(super) items: Vec<usize>,
    pub(super) start: u64,
    pub(super) end: u64,
}

impl RestorePlan {
    /// Number of bytes that the restore will return.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }

    /// Number of chunks of the wanted items.
    pub fn chunk_count(&self) -> u64 {
        let counts = self.items.iter().map(|&number| self.snapshot.items[number].chunk_count);
        counts.fold(0, u64::saturating_add)
    }
}

/// All items of a snapshot, completely.
pub(in crate::ops) fn plan_of(snapshot: Snapshot) -> RestorePlan {
    RestorePlan {
        items: (0..snapshot.items.len()).collect(),
        start: 0,
        end: snapshot.items.iter().map(|item| item.size).sum(),
        snapshot,
    }
}

/// A range of one item, by its position in the snapshot. The range must be in it.
pub(in crate::ops) fn plan_of_range(snapshot: Snapshot, item: usize, start: u64, end: u64) -> RestorePlan {
    RestorePlan {
        snapshot,
        items: vec![item],
        start,
        end,
    }
}

/// Finds the snapshot and checks the options against it. `id` is a complete id, `latest`, or an
/// unambiguous prefix.
///
/// # Errors
/// `SnapshotNotFound`, `SnapshotAmbiguous`, `ItemNotFound`, `Range`, `ManifestCorrupt`, `Storage`.
pub fn plan_restore(repo: &Repository, id: &str, options: &RestoreOptions) -> Result<RestorePlan> {
    let snapshot = get_snapshot(repo, id)?;
    let items = match &options.item {
        None => (0..snapshot.items.len()).collect(),
        Some(name) => {
            let number = snapshot.items.iter().position(|item| item.name == *name);
            vec![number.ok_or_else(|| Error::ItemNotFound {
                snapshot: snapshot.id,
                item: name.clone(),
            })?]
        }
    };
    let size = items.iter().map(|&number| snapshot.items[number].size).sum();
    let (start, end) = options
        .range
        .map_or((0, size), |(start, end)| (start, end.unwrap_or(size)));
    if start > end || end > size {
        return Err(Error::Range { start, end, size });
    }
    Ok(RestorePlan {
        snapshot,
        items,
        start,
        end,
    })
}
