//! The decision, under the exclusive commit lock: which of the packs that nobody seemed to need may go.
//!
//! Snapshots that came since they were listed are read before the lock is taken, as long as there are new ones, so that
//! little is left to read under it. A pack that one of them needs, and no other pack can stand in for, is taken off the list.
//! Sessions that began since may reuse anything that they were not told to avoid: of that, nothing goes before they are gone.

use super::Work;
use super::packs::Writer;
use super::plan::{Done, Plan};
use super::survey::Survey;
use crate::catalog::marks::walk;
use crate::catalog::snapshots;
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::layout;
use crate::lock::KillList;
use crate::lock::kill_list::KillListId;
use crate::repo::SeededBug;
use crate::repo::read::ReadScratch;
use std::collections::{BTreeSet, HashMap, HashSet};

/// Times that new snapshots are looked for before the lock is taken all the same.
const ROUNDS: usize = 20;

/// Decides, and publishes the kill list before the lock is released; `None` when nothing may go. What has to wait for
/// others is left for a later prune in a hint.
pub(super) fn decide(
    work: &mut Work<'_>,
    survey: &Survey,
    plan: &mut Plan,
    done: &mut Done,
) -> Result<Option<KillList>> {
    let mut deciding = Deciding::new(survey, plan);
    if deciding.candidates.is_empty() {
        hint(work, survey, plan, &held_now(work)?)?;
        done.condemned = Some(BTreeSet::new());
        return Ok(None);
    }
    for _ in 0..ROUNDS {
        if deciding.read_new(work)? == 0 {
            break;
        }
    }
    let repo = work.repo;
    let guard = repo.commit_exclusive(work.monitor)?;
    repo.check_same_place(work.folder)?;
    if repo.has_bug(SeededBug::NoLastListing) {
        // as if nothing could have come since
        deciding.known.extend(snapshots::ids(repo)?);
    }
    deciding.read_new(work)?;
    let held = held_now(work)?;
    if !held.is_subset(&survey.held) {
        plan.release_only(&survey.ready());
        deciding.candidates.retain(|pack| plan.may_go(pack));
    }
    hint(work, survey, plan, &held)?;
    let condemned = deciding.candidates;
    let list = KillList {
        id: KillListId(random(repo.entropy())?),
        repo: repo.config().id,
        hint: false,
        packs: condemned.iter().copied().collect(),
        sessions: Vec::new(),
    };
    if !condemned.is_empty() {
        list.publish(repo.storage(), repo.seal().as_ref())?;
    }
    drop(guard);
    done.condemned = Some(condemned);
    Ok((!list.packs.is_empty()).then_some(list))
}

struct Deciding {
    /// Packs that may still go.
    candidates: BTreeSet<PackId>,
    /// Packs of these that say who wrote them.
    sessions: HashMap<SnapshotId, Vec<PackId>>,
    /// Snapshots that were taken into account.
    known: HashSet<SnapshotId>,
    condemned_before: HashSet<PackId>,
    /// Lengths of the packs that the index names, in bytes.
    lens: HashMap<PackId, u64>,
    /// Packs looked for, and the lengths of those that are there.
    found: HashMap<PackId, Option<u64>>,
    nodes: HashSet<ChunkId>,
}

impl Deciding {
    fn new(survey: &Survey, plan: &Plan) -> Self {
        let mut sessions: HashMap<SnapshotId, Vec<PackId>> = HashMap::new();
        for pack in plan.deletable() {
            if let Writer::Ended(session) | Writer::AtWork(session) = pack.writer {
                sessions.entry(session).or_default().push(pack.id);
            }
        }
        Self {
            candidates: plan.releasable(),
            sessions,
            // also those that were to be forgotten: if somebody has put one back, it is another one
            known: survey.snapshots.iter().map(|snapshot| snapshot.id).collect(),
            condemned_before: survey.condemned.clone(),
            lens: HashMap::new(),
            found: HashMap::new(),
            nodes: HashSet::new(),
        }
    }

    /// Takes the snapshots into account that came since; how many these were.
    fn read_new(&mut self, work: &Work<'_>) -> Result<usize> {
        // first the snapshots, then the segments: every chunk of a snapshot is in a segment by then
        let mut ids = snapshots::ids(work.repo)?;
        work.repo.refresh_index()?;
        ids.retain(|id| !self.known.contains(id));
        if ids.is_empty() {
            return Ok(0);
        }
        self.lens = work.repo.packs_of_index()?;
        for id in &ids {
            if let Some(snapshot) = snapshots::load(work.repo, id)? {
                // its meta pack, with the copy of its manifest
                for pack in self.sessions.remove(id).unwrap_or_default() {
                    self.candidates.remove(&pack);
                }
                let mut nodes = std::mem::take(&mut self.nodes);
                let mut scratch = ReadScratch::default();
                let walked = walk(work.repo, &snapshot, &mut nodes, &mut scratch, &mut |chunk| {
                    self.rescue(work, chunk)
                });
                self.nodes = nodes;
                walked?;
            }
            self.known.insert(*id);
        }
        Ok(ids.len())
    }

    /// A chunk needs a copy in a pack that is there, as long as it should be, and stays; if it has none, the packs that have
    /// it stay. One that was cut off may still have the chunk, and counts when there is no other.
    fn rescue(&mut self, work: &Work<'_>, chunk: &ChunkId) -> Result<()> {
        // one that was found damaged counts only when there is no other
        let mut places = work.repo.locate_published(chunk)?;
        if places.is_empty() {
            places = work.repo.locate(chunk)?;
        }
        let (mut whole, mut there) = (Vec::new(), Vec::new());
        for place in &places {
            let pack = place.pack;
            let found = match self.found.get(&pack) {
                Some(found) => *found,
                None => work.repo.storage().size(&layout::pack(&pack))?,
            };
            self.found.insert(pack, found);
            if found.is_none() || self.condemned_before.contains(&pack) {
                continue;
            }
            there.push(pack);
            if found == self.lens.get(&pack).copied() {
                whole.push(pack);
            }
        }
        if there.is_empty() {
            return Err(Error::ChunkMissing { chunk: *chunk });
        }
        let counted = if whole.is_empty() { there } else { whole };
        // its writer may know that a copy is bad which nobody else has read
        let stays = |pack: &PackId| !self.candidates.contains(pack) && work.proven.contains(pack);
        if !counted.iter().any(stays) {
            counted.iter().for_each(|pack| {
                self.candidates.remove(pack);
            });
        }
        Ok(())
    }
}

/// Sessions that are at work. None when the caller wants them ignored.
fn held_now(work: &Work<'_>) -> Result<HashSet<SnapshotId>> {
    match work.options.force {
        true => Ok(HashSet::new()),
        false => work.writers(),
    }
}

/// Tells new sessions not to use the packs that a later prune will sweep, once the sessions of now are gone.
fn hint(work: &Work<'_>, survey: &Survey, plan: &Plan, held: &HashSet<SnapshotId>) -> Result<()> {
    let hinted = survey.hinted();
    let packs: Vec<PackId> = plan
        .pending()
        .into_iter()
        .filter(|pack| !hinted.contains(pack))
        .collect();
    if packs.is_empty() {
        return Ok(());
    }
    let mut sessions: Vec<SnapshotId> = held.iter().copied().collect();
    sessions.sort_unstable();
    let list = KillList {
        id: KillListId(random(work.repo.entropy())?),
        repo: work.repo.config().id,
        hint: true,
        packs,
        sessions,
    };
    list.publish(work.repo.storage(), work.repo.seal().as_ref())?;
    Ok(())
}
