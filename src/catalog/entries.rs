//! The entries of the index, for operations that inspect the whole repository.
//!
//! **Damaged segments.** A walk that finds a damaged segment sets it aside and restarts without it.
//! [`all_entries`] first rebuilds its entries from the packs; the other functions leave it out, for
//! callers that rebuild the index themselves. A segment that cannot be read is no evidence of
//! anything: it is tried once more, then left out as long as that is so, and nothing may be
//! concluded from its absence ([`unreadable_segments`]).

use crate::error::{Error, Result};
use crate::id::{PackId, SegmentId};
use crate::index::{self, EntrySource, MergeSource};
use crate::layout;
use crate::pack::PackEntry;
use crate::repo::Repository;
use std::collections::{HashMap, HashSet};

/// Most damaged segments that one call rebuilds.
const MAX_REBUILT: usize = 16;
/// Most restarts of a walk after it found a damaged segment.
const MAX_DAMAGED: usize = 1024;

/// All entries of the index, as a source that does not change. A damaged segment is rebuilt first.
pub fn all_entries(repo: &Repository) -> Result<MergeSource> {
    for _ in 0..MAX_REBUILT {
        match repo.index().all_entries() {
            Err(error @ index::Error::Damaged { segment, .. }) => {
                repo.index().set_aside(segment, error);
                repo.index_unnamed_packs()?;
            }
            other => return Ok(other?),
        }
    }
    Ok(repo.index().all_entries()?)
}

/// All packs that live segments name, with their lengths. A segment that is found to be damaged, or
/// cannot be read, is left out.
pub fn named_packs(repo: &Repository) -> Result<HashMap<PackId, u64>> {
    without_damaged(repo, || repo.index().readable_packs())
}

/// Walks all entries of all live segments, each (id, pack) once, in order. `make` starts a walk; it
/// is called again when a segment was found to be damaged and left out.
pub fn walk_index<T>(
    repo: &Repository,
    make: impl Fn(&[(PackId, u64)]) -> T,
    each: impl Fn(&mut T, &PackId, &PackEntry),
) -> Result<T> {
    without_damaged(repo, || {
        let source = repo.index().readable_entries()?;
        let mut walk = make(source.packs());
        let mut last = None;
        for found in source.scan() {
            let found = found?;
            let key = (found.entry.id, found.pack);
            let pack = source.packs().get(found.pack as usize);
            if let Some((pack, _)) = pack.filter(|_| last != Some(key)) {
                each(&mut walk, pack, &found.entry);
            }
            last = Some(key);
        }
        Ok(walk)
    })
}

/// The entries of `packs` in the index.
pub fn entries_of(repo: &Repository, packs: &HashSet<PackId>) -> Result<HashMap<PackId, Vec<PackEntry>>> {
    if packs.is_empty() {
        return Ok(HashMap::new());
    }
    walk_index(
        repo,
        |_| HashMap::<PackId, Vec<PackEntry>>::new(),
        |found, pack, entry| {
            if packs.contains(pack) {
                found.entry(*pack).or_default().push(*entry);
            }
        },
    )
}

/// Calls `action`, and repeats it without each segment that it finds damaged, or cannot read the
/// second time.
fn without_damaged<T>(repo: &Repository, action: impl Fn() -> std::result::Result<T, index::Error>) -> Result<T> {
    let mut failed = None;
    for _ in 0..MAX_DAMAGED {
        match action() {
            Err(error @ index::Error::Damaged { segment, .. }) => repo.index().set_aside(segment, error),
            Err(index::Error::Unreadable { segment, .. }) if failed != Some(segment) => failed = Some(segment),
            Err(error @ index::Error::Unreadable { segment, .. }) => repo.index().set_aside(segment, error),
            other => return Ok(other?),
        }
    }
    Ok(action()?)
}

/// The segments that are left out because they cannot be read.
pub fn unreadable_segments(repo: &Repository) -> Vec<SegmentId> {
    let broken = repo.index().broken_segments().into_iter();
    broken
        .filter(|segment| segment.error.is_unreadable())
        .map(|segment| segment.id)
        .collect()
}

/// The error for the segments that cannot be read.
pub fn unreadable_index(repo: &Repository) -> Error {
    match repo.index().check_read() {
        Err(error) => error.into(),
        Ok(()) => Error::Conflict,
    }
}

/// Moves damaged segments to the quarantine, once all their entries are in other segments. `true`
/// when there were any.
pub fn set_damaged_aside(repo: &Repository) -> Result<bool> {
    let broken = repo.index().broken_segments();
    let damaged = broken
        .iter()
        .filter(|segment| matches!(segment.error, index::Error::Damaged { .. }));
    let damaged: Vec<SegmentId> = damaged.map(|segment| segment.id).collect();
    if !damaged.is_empty() {
        repo.storage().barrier()?;
    }
    for segment in &damaged {
        repo.storage().quarantine(&layout::segment(segment))?;
    }
    Ok(!damaged.is_empty())
}
