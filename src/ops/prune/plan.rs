//! The plan of a prune: the state of each pack, the needed chunks, and the copy of each needed
//! chunk that is kept.
//!
//! One copy of each needed chunk is *canonical*, preferably one in a pack that stays anyway. A pack
//! that may be changed and has neither a canonical copy nor a needed copy of a manifest is deleted;
//! [`actions`] chooses the actions for the others.
//!
//! The plan changes nothing in the repository. Whether a pack may be deleted is decided again under
//! the commit lock ([`super::decide`]); [`Done`] records the results.

use super::actions;
use super::choice::Chosen;
use super::packs::{Action, PackState, Presence, Writer};
use super::report::Sums;
use super::survey::Survey;
use super::work::Work;
use crate::catalog::entries::all_entries;
use crate::catalog::marks::{Copy, Marker, Marks, for_each_id};
use crate::catalog::{copies, snapshots};
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::index::{EntrySource, MergeSource};
use crate::layout;
use crate::pack::{KIND_DATA, PackEntry, is_foreign};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// How often planning starts over after the index was found to be incomplete or damaged, and was
/// repaired.
const ROUNDS: usize = 4;

/// The plan of one run.
pub(super) struct Plan {
    pub source: MergeSource,
    pub marks: Marks,
    /// By ordinal in `source`, followed by the packs that no segment names.
    pub packs: Vec<PackState>,
    /// Snapshots that lost their manifest; the chunks that they need are kept.
    lost: BTreeSet<SnapshotId>,
    /// Snapshots whose manifest copies are not kept.
    over: HashSet<SnapshotId>,
    /// Packs that may be deleted now; the other unneeded packs are left for later.
    released: HashSet<PackId>,
}

/// Results of executing a plan.
#[derive(Default)]
pub(super) struct Done {
    /// Condemned packs, once decided, except those that could not be deleted.
    pub condemned: Option<BTreeSet<PackId>>,
    /// Condemned packs that could not be deleted.
    pub blocked: HashSet<PackId>,
}

impl Done {
    /// Records condemned packs that could not be deleted.
    pub(super) fn keep_blocked(&mut self, blocked: HashSet<PackId>) {
        if let Some(condemned) = &mut self.condemned {
            condemned.retain(|pack| !blocked.contains(pack));
        }
        self.blocked = blocked;
    }
}

impl Plan {
    /// Packs that are to be deleted, now or later.
    pub(super) fn deletable(&self) -> impl Iterator<Item = &PackState> {
        self.packs.iter().filter(|pack| pack.action != Action::Keep)
    }

    /// The deletable packs that may be deleted now.
    pub(super) fn releasable(&self) -> BTreeSet<PackId> {
        let deletable = self.deletable().map(|pack| pack.id);
        deletable.filter(|pack| self.released.contains(pack)).collect()
    }

    /// The deletable packs that have to wait for active sessions.
    pub(super) fn pending(&self) -> BTreeSet<PackId> {
        let deletable = self.deletable().map(|pack| pack.id);
        deletable.filter(|pack| !self.released.contains(pack)).collect()
    }

    /// Whether the pack may be deleted now, as far as other sessions are concerned.
    pub(super) fn is_released(&self, pack: &PackId) -> bool {
        self.released.contains(pack)
    }

    /// Leaves the packs that are not in `packs` for later.
    pub(super) fn release_only(&mut self, packs: &HashSet<PackId>) {
        self.released.retain(|pack| packs.contains(pack));
    }

    /// Records which of the deletable packs may be deleted now.
    pub(super) fn release(&mut self, packs: &BTreeSet<PackId>) {
        self.released = packs.iter().copied().collect();
    }

    /// Packs that the index names, that do not exist, and that no snapshot needs: their session was
    /// ignored, and published them after they were deleted.
    pub(super) fn stale(&self) -> HashSet<PackId> {
        let stale = self
            .packs
            .iter()
            .filter(|pack| pack.presence == Presence::Absent && !pack.is_needed());
        stale.map(|pack| pack.id).collect()
    }

    /// Changes every rewrite to keep, so that the plan needs no space.
    pub(super) fn keep_partly_used(&mut self) {
        for pack in self.packs.iter_mut().filter(|pack| pack.action == Action::Rewrite) {
            pack.action = Action::Keep;
        }
    }

    /// The pack, of those in `copies`, with the canonical copy of a needed chunk.
    pub(super) fn canonical(&self, copies: &[Copy]) -> Option<u32> {
        let rank = |ordinal: u32| self.packs.get(ordinal as usize).map(PackState::rank);
        let best = copies.iter().map(|(ordinal, _)| *ordinal);
        best.max_by_key(|ordinal| (rank(*ordinal), std::cmp::Reverse(*ordinal)))
    }

    /// Whether a copy of the manifest of this snapshot is kept when the pack that contains it is
    /// rewritten.
    pub(super) fn must_keep_copy(&self, id: &SnapshotId) -> bool {
        !self.over.contains(id)
    }

    /// Returns those of `records` that are no longer needed: no remaining pack contains a copy of
    /// their manifests.
    pub(super) fn without_copies(&self, done: &Done, mut records: BTreeSet<SnapshotId>) -> BTreeSet<SnapshotId> {
        if self.packs.iter().any(|pack| pack.presence == Presence::PutSince) {
            // written since the packs were listed, and may contain the copy of a snapshot that was
            // removed right after
            return BTreeSet::new();
        }
        // the other copies may have been copied into new packs
        records.retain(|id| !self.must_keep_copy(id));
        let none = BTreeSet::new();
        let condemned = done.condemned.as_ref().unwrap_or(&none);
        for pack in self
            .packs
            .iter()
            .filter(|pack| pack.is_listed() && !condemned.contains(&pack.id))
        {
            if pack.writer == Writer::Unknown {
                // its content is unknown
                return BTreeSet::new();
            }
            pack.copies.iter().for_each(|id| {
                records.remove(id);
            });
        }
        records
    }

    /// The space that was or will be freed.
    pub(super) fn sums(&self, done: &Done) -> Sums {
        let deleted = done.condemned.clone().unwrap_or_else(|| self.releasable());
        let pending = self.pending();
        let mut sums = Sums::default();
        for pack in self.deletable() {
            let copied = match pack.action {
                Action::Rewrite => pack.canonical,
                _ => 0,
            };
            let is_rewritten = u64::from(pack.action == Action::Rewrite);
            if deleted.contains(&pack.id) {
                sums.removed_packs += 1 - is_rewritten;
                sums.rewritten_packs += is_rewritten;
                sums.freed_bytes += pack.total.saturating_sub(copied);
            } else if pending.contains(&pack.id) || done.blocked.contains(&pack.id) {
                sums.rewritten_packs += is_rewritten;
                if pending.contains(&pack.id) {
                    sums.pending_bytes += pack.total.saturating_sub(copied);
                }
                sums.copied_ahead.packs += is_rewritten;
                sums.copied_ahead.bytes += copied;
            }
        }
        sums
    }
}

/// Makes the plan. Repairs the index when it turns out to be incomplete.
pub(super) fn make(work: &mut Work<'_>, survey: &Survey, chosen: &Chosen) -> Result<Plan> {
    let mut rounds = 0;
    loop {
        rounds += 1;
        match make_once(work, survey, chosen) {
            Err(Error::IndexCorrupt { segment, .. }) if rounds < ROUNDS => {
                work.repo.set_segment_aside(segment)?;
            }
            // a dry run starts over first
            Err(Error::ChunkMissing { .. })
                if rounds < ROUNDS && !work.options.dry_run && work.repo.check_writable().is_ok() =>
            {
                // a pack may list a chunk that the index has lost
                rounds = ROUNDS - 1;
                work.repo.index_unnamed_packs()?;
            }
            other => return other,
        }
    }
}

fn make_once(work: &mut Work<'_>, survey: &Survey, chosen: &Chosen) -> Result<Plan> {
    let source = all_entries(work.repo)?;
    let packs = states(work, survey, &source)?;
    let mut plan = Plan {
        source,
        marks: Marks::default(),
        packs,
        lost: BTreeSet::new(),
        over: HashSet::new(),
        released: HashSet::new(),
    };
    read_packs(work, survey, &mut plan)?;
    mark(work, survey, chosen, &mut plan)?;
    weigh(&mut plan)?;
    let named = plan.source.packs().len();
    actions::choose(work, &mut plan.packs, named);
    let ready = survey.ready();
    let free = survey.held.is_empty();
    let is_released = |pack: &&PackState| free || ready.contains(&pack.id);
    plan.released = plan.deletable().filter(is_released).map(|pack| pack.id).collect();
    Ok(plan)
}

/// The states of the packs in the index, then of those that it does not name.
fn states(work: &Work<'_>, survey: &Survey, source: &MergeSource) -> Result<Vec<PackState>> {
    let hinted = survey.avoided();
    let mut named = HashSet::new();
    let mut states = Vec::with_capacity(source.packs().len());
    for (id, len) in source.packs() {
        named.insert(*id);
        let (presence, found) = match survey.packs.get(id) {
            Some(found) => (Presence::Listed, Some(*found)),
            None => match work.repo.storage().size(&layout::pack(id))? {
                Some(found) => (Presence::PutSince, Some(found)),
                None => (Presence::Absent, None),
            },
        };
        let mut state = PackState::new(*id, *len, presence);
        state.condemned = survey.condemned.contains(id);
        state.good = found == Some(*len) && !state.condemned;
        state.hinted = hinted.contains(id);
        state.marked = survey.marked.contains(id);
        state.suspect = work.repo.is_suspect(id);
        states.push(state);
    }
    for (id, len) in survey.packs.iter().filter(|(id, _)| !named.contains(*id)) {
        let mut state = PackState::new(*id, *len, Presence::Listed);
        state.condemned = survey.condemned.contains(id);
        state.hinted = hinted.contains(id);
        state.marked = survey.marked.contains(id);
        states.push(state);
    }
    for_each_id(source, &mut |_, _, copies| {
        for (ordinal, entry) in copies {
            if let Some(state) = states.get_mut(*ordinal as usize) {
                state.total += u64::from(entry.payload_len);
                state.has_data |= entry.kind == KIND_DATA;
            }
        }
        Ok(())
    })?;
    Ok(states)
}

/// Reads the packs for which the index does not have all facts.
fn read_packs(work: &Work<'_>, survey: &Survey, plan: &mut Plan) -> Result<()> {
    let manifests: HashSet<SnapshotId> = survey.snapshots.iter().map(|snapshot| snapshot.id).collect();
    let is_known = |session: &SnapshotId| {
        manifests.contains(session) || survey.records.contains(session) || survey.revoked.contains(session)
    };
    let named = plan.source.packs().len();
    for (ordinal, state) in plan.packs.iter_mut().enumerate() {
        if !state.is_listed() || (ordinal < named && state.has_data && survey.held.is_empty()) {
            continue;
        }
        if state.condemned {
            state.writer = Writer::Unknown;
            continue;
        }
        match copies::read(work.repo, work.monitor, &state.id, &is_known)? {
            Some(content) => {
                state.writer = match survey.held.contains(&content.session) {
                    true => Writer::AtWork(content.session),
                    false => Writer::Ended(content.session),
                };
                state.copies = content.copies;
                if ordinal >= named {
                    state.total = content.stored;
                }
            }
            // damaged: a repair fixes it or sets it aside
            None => {
                state.writer = match is_foreign(work.repo.storage(), &work.repo.config().id, &state.id) {
                    true => Writer::Foreign,
                    false => Writer::Unknown,
                };
            }
        }
    }
    Ok(())
}

/// Marks the needed chunks, and records the packs with copies of manifests that must be kept.
fn mark(work: &mut Work<'_>, survey: &Survey, chosen: &Chosen, plan: &mut Plan) -> Result<()> {
    let (kept, removed) = (chosen.kept_ids(), chosen.removed_ids());
    let removed: HashSet<SnapshotId> = removed.into_iter().collect();
    let mut lost: BTreeMap<SnapshotId, Vec<PackId>> = BTreeMap::new();
    for state in &plan.packs {
        for id in &state.copies {
            let is_over = survey.records.contains(id) || survey.revoked.contains(id) || removed.contains(id);
            if !kept.contains(id) && !is_over && !survey.held.contains(id) && !state.is_left_alone() {
                lost.entry(*id).or_default().push(state.id);
            }
        }
    }
    let good = |ordinal: u32| plan.packs.get(ordinal as usize).is_some_and(|pack| pack.good);
    let mut marker = Marker::new(&plan.source, &good);
    let ids = survey.snapshots.iter().map(|snapshot| snapshot.id);
    let ids: Vec<SnapshotId> = ids.filter(|id| kept.contains(id)).collect();
    for id in snapshots::to_load(work.repo, &ids) {
        work.check_running()?;
        // none: it was forgotten since
        if let Some(snapshot) = snapshots::load(work.repo, id)? {
            marker.add(work.repo, work.monitor, &snapshot)?;
        }
    }
    marker.lenient()?;
    let mut found = BTreeSet::new();
    for (id, packs) in &lost {
        if let Some(snapshot) = copies::lost_snapshot(work.repo, id, packs)? {
            marker.add(work.repo, work.monitor, &snapshot)?;
            found.insert(*id);
            if copies::is_lost(work.repo, id)? {
                work.warn(
                    "WARN_MANIFEST_LOST",
                    format!("Snapshot {id} has lost its manifest; its chunks are kept; run repair() to restore it"),
                );
            }
        }
    }
    plan.marks = marker.finish()?;
    plan.lost = found;
    plan.over = survey.records.union(&removed.into_iter().collect()).copied().collect();
    plan.over.extend(&survey.revoked);
    plan.over.retain(|id| !kept.contains(id));
    let keep = |id: &SnapshotId| kept.contains(id) || plan.lost.contains(id) || survey.held.contains(id);
    for ordinal in packs_of_kept_copies(work, plan, &keep)? {
        if let Some(state) = plan.packs.get_mut(ordinal) {
            state.needed_copies = true;
        }
    }
    Ok(())
}

/// The packs whose copies of manifests are kept: as few as contain every part of each copy that
/// `keep` selects. An interrupted prune leaves duplicate copies.
fn packs_of_kept_copies(work: &Work<'_>, plan: &Plan, keep: &dyn Fn(&SnapshotId) -> bool) -> Result<BTreeSet<usize>> {
    let mut holders: BTreeMap<SnapshotId, Vec<usize>> = BTreeMap::new();
    for (ordinal, state) in plan.packs.iter().enumerate() {
        for id in state.copies.iter().filter(|id| keep(id)) {
            holders.entry(*id).or_default().push(ordinal);
        }
    }
    let mut kept = BTreeSet::new();
    for (id, mut ordinals) in holders {
        if let [only] = ordinals[..] {
            kept.insert(only);
            continue;
        }
        // first the packs that stay anyway, then those with most copies, so that old packs whose
        // content was gathered can be deleted
        let rank = |ordinal: &usize| {
            let state = plan.packs.get(*ordinal);
            state.map(|state| {
                (
                    state.is_left_alone(),
                    state.good && !state.hinted,
                    state.copies.len(),
                    state.id,
                )
            })
        };
        ordinals.sort_by_key(|ordinal| std::cmp::Reverse(rank(ordinal)));
        let mut parts = BTreeSet::new();
        for ordinal in ordinals {
            let Some(state) = plan.packs.get(ordinal) else { continue };
            let before = parts.len();
            parts.extend(copies::parts_of_copy(work.repo, &id, &state.id)?);
            if parts.len() > before || state.is_left_alone() {
                kept.insert(ordinal);
            }
        }
    }
    Ok(kept)
}

/// Sums up the needed bytes in each pack, and the bytes whose canonical copy is there.
fn weigh(plan: &mut Plan) -> Result<()> {
    let add = |sums: &mut Vec<u64>, ordinal: u32, entry: &PackEntry| {
        if let Some(sum) = sums.get_mut(ordinal as usize) {
            *sum += u64::from(entry.payload_len);
        }
    };
    let mut live = vec![0; plan.packs.len()];
    for_each_id(&plan.source, &mut |position, _, copies| {
        if plan.marks.is_set(position) {
            copies
                .iter()
                .for_each(|(ordinal, entry)| add(&mut live, *ordinal, entry));
        }
        Ok(())
    })?;
    for (state, live) in plan.packs.iter_mut().zip(live) {
        state.live = live;
    }
    let mut canonical = vec![0; plan.packs.len()];
    for_each_id(&plan.source, &mut |position, _, copies| {
        if plan.marks.is_set(position)
            && let Some(ordinal) = plan.canonical(copies)
            && let Some((_, entry)) = copies.iter().find(|(pack, _)| *pack == ordinal)
        {
            add(&mut canonical, ordinal, entry);
        }
        Ok(())
    })?;
    for (state, canonical) in plan.packs.iter_mut().zip(canonical) {
        state.canonical = canonical;
    }
    Ok(())
}
