//! Damaged packs and chunks: the chunks that are lost with them, the snapshots and items that are
//! affected, and whether parity can rebuild them.

use super::manifests::Manifests;
use super::packs::{Bad, Packs, is_condemned, is_rebuildable_with, misplaced_packs};
use super::parity::{is_relied_on, session_of};
use super::{Problem, Run, UNREADABLE, VerifyLevel};
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::index::EntrySource;
use crate::layout;
use crate::pack::{ChunkLocation, PackEntry, read_index, read_index_from_pack};
use crate::parity::Groups;
use crate::repo::read::ReadScratch;
use crate::storage::FailedRead;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Damage numbers below a node of a list, in ascending order.
pub(super) type Walked = Arc<Vec<u32>>;

/// A problem whose affected snapshots are not yet known.
struct Pending {
    problem: Problem,
    /// It is a problem only if it affects a snapshot; otherwise a leftover.
    if_hit: bool,
}

/// Most missing chunks that are reported individually. The others are one problem, so that a list
/// that names a million of them does not exhaust the memory.
const MAX_MISSING: u64 = 10_000;

/// All damage to packs and chunks.
#[derive(Default)]
pub(super) struct Damage {
    pending: Vec<Pending>,
    /// Number of missing chunks so far.
    missing: u64,
    /// The number of the problem that represents those beyond [`MAX_MISSING`].
    more_missing: Option<u32>,
    /// For each lost chunk, the numbers (in `pending`) of the damage that causes the loss. Chunks
    /// with a good copy are not included.
    lost: HashMap<ChunkId, Vec<u32>>,
    /// The damage number of each bad pack.
    packs: HashMap<PackId, u32>,
}

impl Damage {
    /// Adds a chunk that does not decode although the bytes of its pack are right: it was written
    /// that way.
    pub fn add_bad_chunk(&mut self, pack: PackId, chunk: ChunkId, reason: &str) {
        let number = self.add(chunk_problem(Some(pack), chunk, reason), false);
        self.lost.entry(chunk).or_default().push(number);
    }

    /// Adds a chunk that is not in the index, or that cannot be read at its location.
    pub fn add_missing_chunk(&mut self, chunk: ChunkId, text: String, code: &'static str) -> u32 {
        self.missing += 1;
        let number = match self.more_missing {
            Some(number) => number,
            None if self.missing <= MAX_MISSING => self.add(
                Problem {
                    chunk: Some(chunk),
                    text,
                    ..Problem::new(code)
                },
                false,
            ),
            None => {
                let text =
                    format!("More than {MAX_MISSING} chunks are missing; the others are not reported individually");
                let number = self.add(
                    Problem {
                        text,
                        ..Problem::new("ERR_CHUNK_MISSING")
                    },
                    false,
                );
                *self.more_missing.insert(number)
            }
        };
        self.lost.entry(chunk).or_default().push(number);
        number
    }

    fn add(&mut self, problem: Problem, if_hit: bool) -> u32 {
        self.pending.push(Pending { problem, if_hit });
        (self.pending.len() - 1) as u32
    }

    /// The numbers of the damage that causes the loss of the chunk.
    pub fn of(&self, chunk: &ChunkId) -> &[u32] {
        self.lost.get(chunk).map_or(&[], Vec::as_slice)
    }

    /// True when no chunk is lost, so that nothing can be affected.
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty()
    }

    /// Records that an item is affected.
    pub fn hit(&mut self, walked: &Walked, snapshot: SnapshotId, item: &str) {
        for number in walked.iter() {
            if let Some(pending) = self.pending.get_mut(*number as usize) {
                let problem = &mut pending.problem;
                if problem.snapshots.last() != Some(&snapshot) {
                    problem.snapshots.push(snapshot);
                }
                // the chunks of an item and of its extras come one after the other
                if !problem
                    .items
                    .last()
                    .is_some_and(|(of, name)| *of == snapshot && name == item)
                {
                    problem.items.push((snapshot, item.to_owned()));
                }
            }
        }
    }

    /// Determines which chunks of the bad packs cannot be read and exist nowhere else.
    pub fn find_chunks(&mut self, run: &Run<'_>, packs: &Packs) -> Result<()> {
        let bad: Vec<(PackId, Bad)> = packs
            .table
            .iter()
            .filter_map(|(pack, facts)| Some((*pack, facts.bad.clone()?)))
            .collect();
        if bad.is_empty() && self.lost.is_empty() {
            return Ok(());
        }
        let mut unknown: HashSet<PackId> = HashSet::new();
        for (pack, bad) in &bad {
            run.check_running()?;
            let number = self.add_pack(pack, bad);
            match entries_of(run, pack) {
                Some(entries) => self.add_entries(run, *pack, bad, number, &entries)?,
                None => {
                    unknown.insert(*pack);
                }
            }
        }
        if !unknown.is_empty() {
            for (pack, entries) in entries_from_index(run, &unknown)? {
                if let (Some((_, bad)), Some(number)) = (bad.iter().find(|(id, _)| *id == pack), self.packs.get(&pack))
                {
                    self.add_entries(run, pack, bad, *number, &entries)?;
                }
            }
        }
        self.drop_chunks_with_copies(run, packs)
    }

    /// Adds all bad packs, where their contents cannot be determined.
    pub fn add_packs(&mut self, packs: &Packs) {
        for (pack, facts) in &packs.table {
            if let Some(bad) = &facts.bad {
                self.add_pack(pack, bad);
            }
        }
    }

    fn add_pack(&mut self, pack: &PackId, bad: &Bad) -> u32 {
        let (code, text, if_hit) = match bad {
            Bad::Missing { committed } => ("ERR_PACK_MISSING", format!("Pack {pack} is missing"), !committed),
            Bad::Corrupt(reason) => ("ERR_PACK_CORRUPT", format!("Pack {pack} is damaged: {reason}"), false),
            Bad::Unreadable(error) => (UNREADABLE, format!("Pack {pack} could not be read: {error}"), false),
        };
        let problem = Problem {
            pack: Some(*pack),
            path: Some(layout::pack(pack)),
            text,
            ..Problem::new(code)
        };
        let number = self.add(problem, if_hit);
        self.packs.insert(*pack, number);
        number
    }

    /// Tries to read every chunk of a bad pack.
    fn add_entries(
        &mut self,
        run: &Run<'_>,
        pack: PackId,
        bad: &Bad,
        number: u32,
        entries: &[PackEntry],
    ) -> Result<()> {
        let (mut scratch, mut out) = (ReadScratch::default(), Vec::new());
        for &entry in entries {
            run.check_running()?;
            let location = ChunkLocation { pack, entry };
            let missing = matches!(bad, Bad::Missing { .. });
            let failed = match missing {
                true => Some(None),
                false => run
                    .noted(run.read_chunk(&location, &mut scratch, &mut out))
                    .err()
                    .map(Some),
            };
            let Some(failed) = failed else { continue };
            let mut numbers = vec![number];
            let is_damage = |error: &Error| error.unreadable().is_none() && run.options.level == VerifyLevel::Full;
            if let Some(error) = failed.filter(is_damage) {
                numbers.push(self.add(
                    Problem {
                        text: error.to_string(),
                        ..chunk_problem(Some(pack), entry.id, "")
                    },
                    false,
                ));
            }
            self.lost.entry(entry.id).or_default().extend(numbers);
        }
        Ok(())
    }

    /// Removes the chunks that can be read from another pack.
    fn drop_chunks_with_copies(&mut self, run: &Run<'_>, packs: &Packs) -> Result<()> {
        let mut lost = std::mem::take(&mut self.lost);
        let mut stop = Ok(());
        lost.retain(|chunk, numbers| {
            if stop.is_err() {
                return true;
            }
            stop = run.check_running();
            let locations = run.noted(run.repo.locate(chunk)).unwrap_or_default();
            !locations.iter().any(|location| {
                let known_bad = numbers.iter().any(|number| {
                    let pending = self.pending.get(*number as usize);
                    pending.is_some_and(|pending| pending.problem.pack == Some(location.pack))
                });
                !known_bad && packs.exists(run, &location.pack)
            })
        });
        self.lost = lost;
        stop
    }

    /// Determines what can be rebuilt, and reports everything.
    pub fn report(
        self,
        run: &mut Run<'_>,
        packs: &Packs,
        groups: Option<&Groups>,
        manifests: &Manifests,
    ) -> Result<()> {
        let mut healable: HashMap<PackId, bool> = HashMap::new();
        let mut misplaced: Option<HashSet<PackId>> = None;
        for Pending { mut problem, if_hit } in self.pending {
            run.check_running()?;
            let had_hits = !problem.snapshots.is_empty();
            drop_forgotten_snapshots(run, &mut problem);
            if let Some(pack) = problem.pack {
                let facts = packs.table.get(&pack);
                let missing = problem.code == "ERR_PACK_MISSING";
                if missing && (run.is_there(&layout::pack(&pack)) || is_condemned(run, &pack)) {
                    continue;
                }
                let is_leftover = || {
                    let session = groups.and_then(|groups| session_of(run, groups, &pack));
                    !session.is_some_and(|session| run.is_there(&layout::snapshot(&session)))
                };
                let known = facts.is_some_and(|facts| facts.session.is_some());
                // without it, parity protects packs that snapshots need less well
                let relied_on = || groups.is_some_and(|groups| is_relied_on(run, groups, packs, manifests, &pack));
                if if_hit && problem.snapshots.is_empty() && (known || is_leftover()) && !relied_on() {
                    let text = format!("{}, and no snapshot needs it", problem.text);
                    run.note("NOTE_PACK_LEFTOVER", Some(pack), problem.path, text);
                    continue;
                }
                if self.packs.contains_key(&pack) {
                    problem.healable = *healable.entry(pack).or_insert_with(|| {
                        groups.is_some_and(|groups| is_rebuildable_with(run, groups, &pack))
                            || misplaced
                                .get_or_insert_with(|| misplaced_packs(run, packs))
                                .contains(&pack)
                    });
                }
            } else if had_hits && problem.snapshots.is_empty() {
                // its snapshots were forgotten, and the chunk pruned, during this run
                continue;
            }
            run.found(problem);
        }
        Ok(())
    }
}

fn chunk_problem(pack: Option<PackId>, chunk: ChunkId, reason: &str) -> Problem {
    let location = pack.map_or(String::new(), |pack| format!(" in pack {pack}"));
    Problem {
        pack,
        chunk: Some(chunk),
        text: format!("Chunk {chunk}{location} is damaged: {reason}"),
        ..Problem::new("ERR_CHUNK_CORRUPT")
    }
}

/// Removes the snapshots that were forgotten in the meantime.
fn drop_forgotten_snapshots(run: &Run<'_>, problem: &mut Problem) {
    problem
        .snapshots
        .retain(|snapshot| run.is_there(&layout::snapshot(snapshot)));
    let left: HashSet<SnapshotId> = problem.snapshots.iter().copied().collect();
    problem.items.retain(|(snapshot, _)| left.contains(snapshot));
}

/// The entries of a bad pack, from its `.idx` or from what is left of the pack.
fn entries_of(run: &Run<'_>, pack: &PackId) -> Option<Vec<PackEntry>> {
    let (storage, id, seal) = (run.storage(), &run.repo.config().id, run.repo.seal().as_ref());
    let index = run.noted(read_index(storage, id, seal, pack));
    let index = index.or_else(|_| run.noted(read_index_from_pack(storage, id, seal, pack)));
    index.ok().map(|index| index.entries)
}

/// The entries that the live segments contain for packs of which nothing else is left.
fn entries_from_index(run: &Run<'_>, wanted: &HashSet<PackId>) -> Result<BTreeMap<PackId, Vec<PackEntry>>> {
    let mut found: BTreeMap<PackId, Vec<PackEntry>> = BTreeMap::new();
    let Ok(entries) = run.noted(run.repo.index().all_entries()) else {
        return Ok(found);
    };
    for (number, entry) in (0u64..).zip(entries.scan()) {
        if number % 4096 == 0 {
            run.check_running()?;
        }
        let Ok(entry) = run.noted(entry) else { break };
        if let Some((pack, _)) = entries.packs().get(entry.pack as usize)
            && wanted.contains(pack)
        {
            found.entry(*pack).or_default().push(entry.entry);
        }
    }
    Ok(found)
}
