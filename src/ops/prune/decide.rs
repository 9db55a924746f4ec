//! Decides, under the exclusive commit lock, which of the apparently unneeded packs may be deleted.
//!
//! Snapshots that were committed since the listing are read before the lock is taken, as long as
//! there are new ones, so that little remains to be read under it. A pack that one of them needs,
//! and that no other pack can replace, is removed from the candidates. Sessions that started since
//! may reuse every pack that no hint told them to avoid: none of these packs is deleted before the
//! sessions have ended.

use super::packs::Writer;
use super::plan::{Done, Plan};
use super::survey::Survey;
use super::work::Work;
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

/// Rounds of listing new snapshots before the lock is taken regardless.
const ROUNDS: usize = 20;

/// Decides, and publishes the kill list before the lock is released; `None` when no pack may be
/// deleted. Packs that have to wait for other sessions are left for a later prune in a hint.
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
    repo.check_same_folder(work.folder)?;
    if repo.has_bug(SeededBug::NoLastListing) {
        // as if no snapshot could have been committed since
        deciding.known.extend(repo.list_manifests()?);
    }
    deciding.read_new(work)?;
    let held = held_now(work)?;
    if !held.is_subset(&survey.held) {
        plan.release_only(&survey.ready());
        deciding.candidates.retain(|pack| plan.is_released(pack));
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
    /// Packs that may still be deleted.
    candidates: BTreeSet<PackId>,
    /// Candidates whose session is known, by session.
    sessions: HashMap<SnapshotId, Vec<PackId>>,
    /// Snapshots that were taken into account.
    known: HashSet<SnapshotId>,
    condemned_before: HashSet<PackId>,
    /// Lengths of the packs that the index names, in bytes.
    lens: HashMap<PackId, u64>,
    /// Packs that were looked up, with the lengths of those that exist.
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
            // includes the snapshots that were to be forgotten: a manifest that reappears belongs
            // to another snapshot
            known: survey.snapshots.iter().map(|snapshot| snapshot.id).collect(),
            condemned_before: survey.condemned.clone(),
            lens: HashMap::new(),
            found: HashMap::new(),
            nodes: HashSet::new(),
        }
    }

    /// Takes the snapshots into account that were committed since; returns their number.
    fn read_new(&mut self, work: &Work<'_>) -> Result<usize> {
        // first the snapshots, then the segments: every chunk of a listed snapshot is in a segment
        // at that point
        let mut ids = work.repo.list_manifests()?;
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

    /// Ensures that a chunk keeps a copy in a pack that exists, has the right length, and stays; if
    /// it has none, all packs that contain it stay. A truncated pack may still contain the chunk,
    /// and counts when there is no other.
    fn rescue(&mut self, work: &Work<'_>, chunk: &ChunkId) -> Result<()> {
        // a copy in a pack that was found damaged counts only when there is no other
        let mut locations = work.repo.locate_published(chunk)?;
        if locations.is_empty() {
            locations = work.repo.locate(chunk)?;
        }
        let (mut full_length, mut existing) = (Vec::new(), Vec::new());
        for location in &locations {
            let pack = location.pack;
            let found = match self.found.get(&pack) {
                Some(found) => *found,
                None => work.repo.storage().size(&layout::pack(&pack))?,
            };
            self.found.insert(pack, found);
            if found.is_none() || self.condemned_before.contains(&pack) {
                continue;
            }
            existing.push(pack);
            if found == self.lens.get(&pack).copied() {
                full_length.push(pack);
            }
        }
        if existing.is_empty() {
            return Err(Error::ChunkMissing { chunk: *chunk });
        }
        let counted = if full_length.is_empty() { existing } else { full_length };
        // the writer may know that a copy is bad that no other process has read
        let stays = |pack: &PackId| !self.candidates.contains(pack) && work.proven.contains(pack);
        if !counted.iter().any(stays) {
            counted.iter().for_each(|pack| {
                self.candidates.remove(pack);
            });
        }
        Ok(())
    }
}

/// Active sessions. Empty when the caller wants them ignored.
fn held_now(work: &Work<'_>) -> Result<HashSet<SnapshotId>> {
    match work.options.force {
        true => Ok(HashSet::new()),
        false => work.writers(),
    }
}

/// Publishes a hint: new sessions must not use the packs that a later prune will sweep, once the
/// current sessions have ended.
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
