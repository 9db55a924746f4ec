//! Rebuilds the global index from the pack indexes.
//!
//! The rebuild streams: entries are published in runs of bounded size, each as a segment, and the
//! last run supersedes all previous segments. So the index is complete at every instant, and a
//! crash only leaves duplicate entries, which is harmless. Ingests continue concurrently: the
//! segments that they publish in the meantime are kept. Memory: one run, and about 100 bytes for
//! each pack.

use crate::catalog::entries::{entries_of, named_packs, set_damaged_aside, unreadable_index, unreadable_segments};
use crate::catalog::needed::spare_needed_or_all;
use crate::error::{Error, Result};
use crate::id::{PackId, SegmentId};
use crate::index::MemorySource;
use crate::layout;
use crate::lock::{KillLists, lease};
use crate::monitor::Monitor;
use crate::pack::ChunkLocation;
use crate::repo::{REBUILD_RUN, Repository, dissolve, find_any_index, protect_packs, read_any_index};
use crate::storage::FailedRead;
use std::collections::HashSet;

/// Rebuilds the global index.
///
/// # Errors
/// `RepositoryLocked` when another process maintains the repository for longer than the lock wait,
/// `ReadOnly`, `LocksUnsupported`, `KillListCorrupt`, `NoSpace`, `Unreadable` (a pack that no
/// segment names, or a segment whose entries cannot be recovered from the packs), `Storage`,
/// `Cancelled`, `Closed`. After any of them the index contains no fewer entries than before.
pub fn reindex(repo: &Repository, monitor: &dyn Monitor) -> Result<()> {
    repo.check_running(monitor)?;
    repo.begin_writing()?;
    let mut maintenance = repo.maintain(lease::REINDEX, monitor)?;
    repo.check_folder()?;
    repo.storage().forget_cached();
    let run = || -> Result<()> {
        let kill_lists = spare_needed_or_all(repo, repo.kill_lists()?, monitor)?;
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

/// [`reindex`] under the maintenance lock that the caller holds.
pub(super) fn rebuild(repo: &Repository, kill_lists: &KillLists, monitor: &dyn Monitor) -> Result<()> {
    rebuild_in_runs(repo, kill_lists, monitor, REBUILD_RUN)
}

fn rebuild_in_runs(repo: &Repository, kill_lists: &KillLists, monitor: &dyn Monitor, run_len: usize) -> Result<()> {
    repo.refresh_index()?;
    // first the segments, then the packs: the packs that the segments name existed before, and
    // segments that are published later stay
    let old: Vec<SegmentId> = repo.index().live_segments().iter().map(|segment| segment.id).collect();
    let named = named_packs(repo)?;
    let packs = repo.list_packs_and_indexes()?;
    let fresh = packs.iter().filter(|pack| !named.contains_key(pack)).copied().collect();
    let fresh: HashSet<PackId> = publishable(repo, fresh)?.into_iter().collect();
    let mut runs = Runs::new(repo, run_len);
    // packs whose file is missing but which parity can rebuild: only the old index records that
    // they are needed
    let lost = named
        .keys()
        .filter(|pack| !packs.contains(pack) && !kill_lists.is_condemned(pack));
    let mut unread = dissolve::within_parity(repo, &lost.copied().collect(), monitor)?;
    let (mut failed, mut passed_over) = (None, false);
    for pack in packs.iter().copied() {
        repo.check_running(monitor)?;
        if kill_lists.is_condemned(&pack) {
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
            // its chunks may still be good: the entries of the old index are all that is left
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
        // the entries of unreadable segments are recovered only if every pack is in the new index,
        // and no parity group has a member without a file
        let groups = repo.parity_groups()?;
        groups.check_read()?;
        if failed.is_some()
            || passed_over
            || !groups
                .packs()
                .all(|pack| packs.contains(pack) || kill_lists.is_condemned(pack))
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

/// The entries that are not published yet, and the published segments.
struct Runs<'a> {
    repo: &'a Repository,
    run: Vec<(ChunkLocation, u64)>,
    /// Number of entries at which a run is published.
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

    /// Publishes the last run, which supersedes `old`, and merges all runs.
    fn supersede(mut self, old: &[SegmentId]) -> Result<()> {
        let (index, entropy) = (self.repo.index(), self.repo.entropy());
        if !old.is_empty() || !self.run.is_empty() {
            let source = MemorySource::new(std::mem::take(&mut self.run));
            self.segments.push(index.supersede(entropy, &source, old)?);
        }
        // not while a segment is unreadable: a later merge does it
        if self.segments.len() > 1 && index.check_read().is_ok() {
            index.merge(entropy, &self.segments, &HashSet::new())?;
        }
        Ok(())
    }
}

/// Returns those of `packs`, which no segment names, that no session is writing, and that are
/// intact and protected.
pub(super) fn publishable(repo: &Repository, packs: Vec<PackId>) -> Result<Vec<PackId>> {
    // listed after the packs: a session that has ended since has published its packs itself
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
    fn entries_are_published_in_runs_and_merged_into_one_segment() {
        let storage = Arc::new(RecordingStorage::new(Arc::new(MemoryStorage::new())));
        let environment = Environment {
            storage: storage.clone(),
            path: "memory".to_owned(),
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
        // about 350 entries in packs of about 55: three runs of two packs, a last one, and the
        // merged segment
        assert!(puts >= 4, "{puts} segments");
        assert_eq!(count(&repo), entries);
        assert_eq!(repo.storage().list(layout::INDEX).unwrap().len(), 1);
    }
}
