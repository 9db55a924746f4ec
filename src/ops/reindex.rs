//! The global index, made again from the pack indexes.
//!
//! It streams: entries go out in runs of bounded size, each a segment, and the last run supersedes everything that was
//! there before. So at every instant the index is whole, and a crash leaves entries twice, which does no harm. Ingests go
//! on beside it: what they publish meanwhile stays. Memory: one run, and about 100 bytes for each pack.

use crate::catalog::entries::{entries_of, named_packs, set_damaged_aside, unreadable_index, unreadable_segments};
use crate::catalog::needed::{is_unknowable, needed};
use crate::catalog::snapshots;
use crate::error::{Error, Result};
use crate::id::{PackId, SegmentId};
use crate::index::MemorySource;
use crate::layout;
use crate::lock::{KillLists, lease};
use crate::monitor::Monitor;
use crate::pack::ChunkLocation;
use crate::repo::{Repository, dissolve, find_any_index, protect_packs, read_any_index};
use crate::storage::FailedRead;
use std::collections::HashSet;

/// Most entries that are held in memory before they are published (about 100 bytes each).
pub(super) const RUN: usize = 1 << 18;
/// Makes the global index again.
///
/// # Errors
/// `RepositoryLocked` when somebody else maintains the repository for longer than the lock wait, `ReadOnly`,
/// `LocksUnsupported`, `KillListCorrupt`, `NoSpace`, `Unreadable` (a pack that no segment names, or a segment where the packs
/// cannot make up for it), `Storage`, `Cancelled`, `Closed`. The index says no less than before after any of them.
pub fn reindex(repo: &Repository, monitor: &dyn Monitor) -> Result<()> {
    repo.check_running(monitor)?;
    repo.begin_writing()?;
    let mut maintenance = repo.maintain(lease::REINDEX, monitor)?;
    repo.check_place()?;
    let run = || -> Result<()> {
        let kill_lists = spare_needed(repo, repo.kill_lists()?, monitor)?;
        rebuild(repo, &kill_lists, monitor)?;
        set_damaged_aside(repo)?;
        Ok(repo.storage().barrier()?)
    };
    match run() {
        Err(Error::NoSpace { .. }) => {
            maintenance.give_way();
            repo.with_reserve(run)
        }
        other => other,
    }
}

/// Takes the packs out of kill lists that snapshots need: their entries stay, or come back. Where
/// it cannot be known what is needed, all of them stay. The caller holds the maintenance lock.
pub(super) fn spare_needed(repo: &Repository, mut lists: KillLists, monitor: &dyn Monitor) -> Result<KillLists> {
    if lists.listed().next().is_none() {
        return Ok(lists);
    }
    let ids = snapshots::ids(repo)?;
    let spared = match needed(repo, &lists, &ids, true, monitor) {
        Ok(needed) => needed.packs(),
        Err(error) if is_unknowable(&error) || error.unreadable().is_some() => lists.listed().copied().collect(),
        Err(error) => return Err(error),
    };
    lists.spare(spared);
    Ok(lists)
}

/// [`reindex`] under the maintenance lock that the caller holds.
pub(super) fn rebuild(repo: &Repository, kill_lists: &KillLists, monitor: &dyn Monitor) -> Result<()> {
    rebuild_in_runs(repo, kill_lists, monitor, RUN)
}

fn rebuild_in_runs(repo: &Repository, kill_lists: &KillLists, monitor: &dyn Monitor, run_len: usize) -> Result<()> {
    repo.refresh_index()?;
    // first the segments, then the packs: whatever these name was there before, and what comes later stays
    let old: Vec<SegmentId> = repo.index().live_segments().iter().map(|segment| segment.id).collect();
    let named = named_packs(repo)?;
    let packs = repo.list_packs_and_indexes()?;
    let fresh = packs.iter().filter(|pack| !named.contains_key(pack)).copied().collect();
    let fresh: HashSet<PackId> = publishable(repo, fresh)?.into_iter().collect();
    let mut runs = Runs::new(repo, run_len);
    // of which there is no file, but parity can give it back: only the old index knows that anybody needs it
    let lost = named
        .keys()
        .filter(|pack| !packs.contains(pack) && !kill_lists.condemned(pack));
    let mut unread = dissolve::within_parity(repo, &lost.copied().collect(), monitor)?;
    let (mut failed, mut passed_over) = (None, false);
    for pack in packs.iter().copied() {
        repo.check_running(monitor)?;
        if kill_lists.condemned(&pack) {
            continue;
        }
        if !(named.contains_key(&pack) || fresh.contains(&pack)) {
            passed_over = true;
            continue;
        }
        match read_any_index(repo, &pack) {
            Ok(index) => runs.add(
                index
                    .entries
                    .iter()
                    .map(|&entry| (ChunkLocation { pack, entry }, index.pack_len)),
            )?,
            // its chunks may be good all the same: what the old index says of it is all there is
            Err(error) => {
                failed = failed.or(error.unreadable().cloned());
                unread.insert(pack);
            }
        }
    }
    for (pack, entries) in entries_of(repo, &unread)? {
        let len = named.get(&pack).copied().unwrap_or_default();
        runs.add(entries.into_iter().map(|entry| (ChunkLocation { pack, entry }, len)))?;
    }
    let left_out = unreadable_segments(repo);
    if !left_out.is_empty() {
        // what they name is known only when every pack is in the new index, and no group knows one of which there is no file
        let groups = repo.parity_groups()?;
        groups.check_read()?;
        if failed.is_some()
            || passed_over
            || !groups
                .packs()
                .all(|pack| packs.contains(pack) || kill_lists.condemned(pack))
        {
            return Err(failed.map_or_else(|| unreadable_index(repo), Error::from));
        }
    }
    let old: Vec<SegmentId> = old.into_iter().filter(|id| !left_out.contains(id)).collect();
    runs.supersede(&old)?;
    if !left_out.is_empty() {
        repo.storage().barrier()?;
    }
    for segment in &left_out {
        repo.storage().quarantine(&layout::segment(segment))?;
    }
    Ok(())
}

/// The entries that were not published yet, and the segments that were.
struct Runs<'a> {
    repo: &'a Repository,
    run: Vec<(ChunkLocation, u64)>,
    /// A run that has so many entries is published.
    run_len: usize,
    segments: Vec<SegmentId>,
}

impl<'a> Runs<'a> {
    fn new(repo: &'a Repository, run_len: usize) -> Self {
        Self {
            repo,
            run: Vec::new(),
            run_len,
            segments: Vec::new(),
        }
    }

    fn add(&mut self, entries: impl Iterator<Item = (ChunkLocation, u64)>) -> Result<()> {
        if self.run.len() >= self.run_len {
            let run = std::mem::take(&mut self.run);
            self.segments
                .extend(self.repo.index().publish(self.repo.entropy(), run)?);
        }
        self.run.extend(entries);
        Ok(())
    }

    /// The last run takes the place of `old`, and all runs become as few segments as they should be.
    fn supersede(mut self, old: &[SegmentId]) -> Result<()> {
        let (index, entropy) = (self.repo.index(), self.repo.entropy());
        if !old.is_empty() || !self.run.is_empty() {
            let source = MemorySource::new(std::mem::take(&mut self.run));
            self.segments.push(index.supersede(entropy, &source, old)?);
        }
        // not beside a segment that cannot be read: a later merge does it
        if self.segments.len() > 1 && index.check_read().is_ok() {
            index.merge(entropy, &self.segments, &HashSet::new())?;
        }
        Ok(())
    }
}

/// Of packs that no segment names: those that nobody is writing just now, and that are whole and protected.
pub(super) fn publishable(repo: &Repository, packs: Vec<PackId>) -> Result<Vec<PackId>> {
    // after the packs were listed: whoever has finished since has published its packs itself
    let writers = repo.writers()?;
    let mut idle = Vec::new();
    for pack in packs {
        let index = find_any_index(repo, &pack)?;
        idle.extend(
            index
                .filter(|index| !writers.contains(&index.header.session))
                .map(|_| pack),
        );
    }
    protect_packs(repo, idle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::{Entropy, SeededEntropy};
    use crate::index::EntrySource;
    use crate::monitor::NullMonitor;
    use crate::ops::{IngestOptions, ReaderItems, ingest};
    use crate::repo::{Environment, InitOptions, init};
    use crate::storage::{MemoryStorage, RecordingStorage};
    use std::sync::Arc;

    #[test]
    fn entries_go_out_in_runs_and_become_one_segment() {
        let storage = Arc::new(RecordingStorage::new(Arc::new(MemoryStorage::new())));
        let environment = Environment {
            storage: storage.clone(),
            place: "memory".to_owned(),
            clock: Arc::new(crate::clock::FixedClock::new(0)),
            entropy: Arc::new(SeededEntropy::new(1)),
            executor: Arc::new(crate::executor::InlineExecutor),
            monitor: Arc::new(NullMonitor),
        };
        let options = InitOptions {
            chunking: crate::chunk::ChunkerParams {
                min: 256,
                avg: 1024,
                max: 4096,
            },
            pack_size: Some(65_536),
            ..InitOptions::default()
        };
        let repo = Arc::new(init(environment, None, &options).unwrap());
        let mut data = vec![0; 400_000];
        SeededEntropy::new(2).fill(&mut data).unwrap();
        let mut items = ReaderItems::one("data", "test", &data[..]);
        ingest(&repo, &mut items, &IngestOptions::default(), &NullMonitor).unwrap();
        let count = |repo: &Repository| repo.index().all_entries().unwrap().scan().count();
        let entries = count(&repo);
        let before = storage.calls().len();
        let held = repo.maint(&NullMonitor).unwrap();
        rebuild_in_runs(&repo, &KillLists::default(), &NullMonitor, 100).unwrap();
        drop(held);
        let puts = storage.calls()[before..]
            .iter()
            .filter(|(op, key)| *op == "put_new" && key.ends_with(".seg"))
            .count();
        // about 350 entries in packs of about 55: three runs of two packs, a last one, and the merged segment
        assert!(puts >= 4, "{puts} segments");
        assert_eq!(count(&repo), entries);
        assert_eq!(repo.storage().list(layout::INDEX).unwrap().len(), 1);
    }
}
