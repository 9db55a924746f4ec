//! P4: decides again which of the condemned packs may be deleted.
//!
//! A pack with a chunk that a snapshot needs is spared, unless the index names a good copy of the
//! chunk in a pack that is in no mark. The contents of the condemned packs are taken from the packs
//! themselves: the segment that names them may have been lost (rule A15).

use super::super::plan::Plan;
use super::super::survey::Survey;
use super::super::work::Work;
use crate::catalog::entries::all_entries;
use crate::catalog::marks::{for_each_id, walk};
use crate::catalog::snapshots;
use crate::crypto::sha256;
use crate::error::Result;
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::index::EntrySource;
use crate::layout;
use crate::lock::Marks;
use crate::pack::{KIND_LIST, index_read};
use crate::repo::read::ReadScratch;
use crate::repo::{SeededBug, find_any_index};
use crate::snapshot::Snapshot;
use crate::storage::{announced, judge};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What the condemned packs contain.
#[derive(Default)]
struct Contents {
    /// The packs with each chunk.
    chunks: HashMap<ChunkId, Vec<PackId>>,
    /// The packs of each session.
    sessions: HashMap<SnapshotId, Vec<PackId>>,
}

/// Returns those of the condemned packs that no snapshot needs. The sessions that may rely on one
/// of them without having seen its mark are settled.
pub(super) fn decide(
    work: &Work<'_>,
    survey: &Survey,
    plan: &Plan,
    mut condemned: BTreeSet<PackId>,
) -> Result<BTreeSet<PackId>> {
    let repo = work.repo;
    let contents = read_contents(work, survey, plan, &mut condemned)?;
    let packs = repo.list_packs()?;
    // first the snapshots, then the segments, so that these name every chunk of a snapshot
    let manifests = match repo.has_bug(SeededBug::NoLastListing) {
        true => survey.snapshots.iter().map(|snapshot| snapshot.id).collect(),
        false => repo.list_manifests()?,
    };
    repo.refresh_index()?;
    let mut needed = needed_of_plan(plan, &contents)?;
    for id in manifests.iter().filter(|id| !survey.has_manifest(id)) {
        // none: it was revoked, or forgotten since
        if let Some(snapshot) = snapshots::load(repo, id)? {
            // its meta pack, with the copy of its manifest
            for pack in contents.sessions.get(id).into_iter().flatten() {
                condemned.remove(pack);
            }
            add_needed(work, &snapshot, &contents, &mut needed)?;
        }
    }
    let source = all_entries(repo)?;
    // the marks last (rule A1): an entry in a pack that is in none of them stays
    let marks = repo.marks()?;
    let mut homes = Homes {
        work,
        marks: &marks,
        packs: &packs,
        read: HashMap::new(),
    };
    for_each_id(&source, &mut |_, id, copies| {
        let named = copies
            .iter()
            .filter_map(|(ordinal, _)| source.packs().get(*ordinal as usize));
        if needed.contains(id) && homes.include(named)? {
            needed.remove(id);
        }
        Ok(())
    })?;
    for pack in needed.iter().filter_map(|id| contents.chunks.get(id)).flatten() {
        condemned.remove(pack);
    }
    Ok(condemned)
}

/// The packs in which a copy of a needed chunk counts.
struct Homes<'a> {
    work: &'a Work<'a>,
    marks: &'a Marks,
    packs: &'a BTreeMap<PackId, u64>,
    /// Packs that were read to find out whether they are intact.
    read: HashMap<PackId, bool>,
}

impl Homes<'_> {
    /// Whether one of these packs, with their lengths in the index, is in no mark, exists with its
    /// length, and is known to be intact: a copy that was not read replaces none.
    fn include<'p>(&mut self, named: impl Iterator<Item = &'p (PackId, u64)>) -> Result<bool> {
        let stays = |(pack, len): &&(PackId, u64)| !self.marks.is_marked(pack) && self.packs.get(pack) == Some(len);
        let stay: Vec<(PackId, u64)> = named.filter(stays).copied().collect();
        if stay.iter().any(|(pack, _)| self.work.proven.contains(pack)) {
            return Ok(true);
        }
        for (pack, len) in stay {
            if self.is_intact(pack, len)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_intact(&mut self, pack: PackId, len: u64) -> Result<bool> {
        if let Some(intact) = self.read.get(&pack) {
            return Ok(*intact);
        }
        self.work.check_running()?;
        let bytes = judge(self.work.repo.storage().get(&layout::pack(&pack), len))?;
        let intact = bytes.is_ok_and(|bytes| sha256(&[&bytes]) == pack.0);
        if !intact {
            self.work.repo.note_suspect(pack, None);
        }
        self.read.insert(pack, intact);
        Ok(intact)
    }
}

/// Reads what the condemned packs contain. One of which that cannot be found out is spared.
fn read_contents(work: &Work<'_>, survey: &Survey, plan: &Plan, condemned: &mut BTreeSet<PackId>) -> Result<Contents> {
    let mut contents = Contents::default();
    let (there, absent): (Vec<PackId>, Vec<PackId>) =
        condemned.iter().partition(|pack| survey.packs.contains_key(*pack));
    for pack in announced(work.repo.storage(), &there, index_read) {
        work.check_running()?;
        let Some(index) = find_any_index(work.repo, pack)? else {
            condemned.remove(pack);
            continue;
        };
        contents.sessions.entry(index.header.session).or_default().push(*pack);
        for entry in index.entries.iter().filter(|entry| entry.kind <= KIND_LIST) {
            contents.chunks.entry(entry.id).or_default().push(*pack);
        }
    }
    // no file of these was listed: a prune that was deleting them was interrupted
    let absent: HashSet<PackId> = absent.into_iter().collect();
    if absent.is_empty() {
        return Ok(contents);
    }
    let packs = plan.source.packs();
    for_each_id(&plan.source, &mut |_, id, copies| {
        let named = copies.iter().filter_map(|(ordinal, _)| packs.get(*ordinal as usize));
        for (pack, _) in named.filter(|(pack, _)| absent.contains(pack)) {
            contents.chunks.entry(*id).or_default().push(*pack);
        }
        Ok(())
    })?;
    Ok(contents)
}

/// The chunks of the condemned packs that the snapshots of the plan need.
fn needed_of_plan(plan: &Plan, contents: &Contents) -> Result<HashSet<ChunkId>> {
    let mut needed = HashSet::new();
    for_each_id(&plan.source, &mut |position, id, _| {
        if plan.marks.is_set(position) && contents.chunks.contains_key(id) {
            needed.insert(*id);
        }
        Ok(())
    })?;
    Ok(needed)
}

/// Adds those that a snapshot needs which was committed since.
fn add_needed(work: &Work<'_>, snapshot: &Snapshot, contents: &Contents, needed: &mut HashSet<ChunkId>) -> Result<()> {
    let (mut nodes, mut scratch) = (HashSet::new(), ReadScratch::default());
    walk(work.repo, snapshot, &mut nodes, &mut scratch, &mut |chunk| {
        if contents.chunks.contains_key(chunk) {
            needed.insert(*chunk);
        }
        Ok(())
    })
}
