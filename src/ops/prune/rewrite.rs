//! Copies the needed chunks out of packs that are to be deleted.
//!
//! A pack is read completely and checked against its id, so the copied chunks are exactly those
//! that were stored; stored chunks are bound to their content and not to their location, so they
//! are copied unchanged. A damaged pack stays where it is: a repair can use it. So does every pack
//! in the index that contains another copy of a chunk whose canonical copy is in the damaged pack:
//! that copy may be the last good one. When this returns, the new packs are protected, named by a
//! segment and durable.

use super::packs::Action;
use super::plan::Plan;
use super::work::Work;
use crate::base::{decode_stored, meta_of};
use crate::catalog::marks::for_each_id;
use crate::crypto::sha256;
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::lock::MaintLock;
use crate::pack::{KIND_CONFIG_COPY, KIND_LIST, KIND_MANIFEST_COPY, PackEntry, TrailerSeal, open_parts, parts_of};
use crate::repo::SeededBug;
use crate::repo::read::ReadScratch;
use crate::repo::rescue::Rescue;
use crate::snapshot::copy::CopyPart;
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Bytes of packs whose needed chunks are looked up in one walk of the index, so that memory is
/// bounded: a few bytes for each chunk in that many bytes.
#[cfg(not(any(test, feature = "testing")))]
const AT_ONCE: u64 = 64 << 30;
/// Small, so that tests reach a second walk.
#[cfg(any(test, feature = "testing"))]
const AT_ONCE: u64 = 1 << 20;

/// Copies the needed chunks, and records the packs that cannot be read: see [`keep_with_copies`].
pub(super) fn copy_out(work: &mut Work<'_>, maint: &MaintLock, plan: &Plan) -> Result<()> {
    let packs = plan.packs.iter().enumerate();
    let sources = packs.filter(|(_, state)| state.action == Action::Rewrite);
    let sources: Vec<(usize, u64)> = sources.map(|(ordinal, state)| (ordinal, state.len)).collect();
    if sources.is_empty() {
        return Ok(());
    }
    let total: u64 = sources.iter().map(|(_, len)| len).sum();
    let mut done = 0;
    let mut copying = Copying {
        rescue: Rescue::start_maintaining(work.repo, maint)?,
        config_copied: false,
        scratch: ReadScratch::default(),
    };
    let mut rest = &sources[..];
    while !rest.is_empty() {
        let mut bytes = 0;
        let fits = |(_, len): &&(usize, u64)| {
            bytes += len;
            bytes <= AT_ONCE
        };
        let (some, others) = rest.split_at(rest.iter().take_while(fits).count().max(1));
        rest = others;
        for (ordinal, offsets) in &wanted(plan, some)? {
            work.check_running()?;
            let Some(state) = plan.packs.get(*ordinal) else {
                continue;
            };
            let (pack, len) = (state.id, state.len);
            let wanted = Wanted { offsets, plan };
            if !copying.copy(work, &pack, len, &wanted)? {
                leave_damaged(work, pack);
            }
            if work.repo.has_bug(SeededBug::OldPackFirst) {
                work.repo.storage().delete(&layout::pack(&pack))?;
            }
            done += len;
            work.progress(done, total);
        }
    }
    let new = copying.rescue.finish()?;
    work.proven.extend(new.into_keys());
    Ok(())
}

/// Reads the packs with remaining copies of chunks whose other copies are deleted: where a chunk
/// was stored again because its first pack is damaged, only the handle that stored it knows which
/// copy is the good one. Damaged packs are recorded: see [`keep_with_copies`].
pub(super) fn prove_remaining_copies(work: &mut Work<'_>, plan: &Plan) -> Result<()> {
    if plan.deletable().next().is_none() {
        return Ok(());
    }
    let is_deleted = |ordinal: u32| {
        plan.packs
            .get(ordinal as usize)
            .is_some_and(|pack| pack.action != Action::Keep)
    };
    let mut remaining: BTreeSet<u32> = BTreeSet::new();
    for_each_id(&plan.source, &mut |position, _, copies| {
        if copies.len() > 1
            && plan.marks.is_set(position)
            && let Some(canonical) = plan.canonical(copies).filter(|canonical| !is_deleted(*canonical))
            && copies.iter().any(|(ordinal, _)| is_deleted(*ordinal))
        {
            remaining.insert(canonical);
        }
        Ok(())
    })?;
    for state in remaining.iter().filter_map(|ordinal| plan.packs.get(*ordinal as usize)) {
        work.check_running()?;
        match work.repo.storage().get(&layout::pack(&state.id), state.len) {
            Ok(bytes) if sha256(&[&bytes]) == state.id.0 => {
                work.proven.insert(state.id);
            }
            Err(error) if !error.kind.is_erasure() => return Err(error.into()),
            _ => leave_damaged(work, state.id),
        }
    }
    Ok(())
}

fn leave_damaged(work: &mut Work<'_>, pack: PackId) {
    work.warn(
        "WARN_PACK_NOT_REWRITTEN",
        format!("Pack {pack} is damaged or unreadable and was left as it is; run repair(), then prune again"),
    );
    work.repo.note_suspect(pack, None);
    work.damaged.insert(pack);
}

/// Keeps the packs that could not be copied, and all packs in the index that contain other copies
/// of chunks whose canonical copies are in them.
pub(super) fn keep_with_copies(plan: &mut Plan, damaged: &HashSet<PackId>) -> Result<()> {
    let packs = plan.packs.iter().enumerate();
    let damaged: BTreeSet<usize> = packs
        .filter(|(_, state)| damaged.contains(&state.id))
        .map(|(ordinal, _)| ordinal)
        .collect();
    if damaged.is_empty() {
        return Ok(());
    }
    let is_damaged = |ordinal: u32| damaged.contains(&(ordinal as usize));
    let mut kept = damaged.clone();
    for_each_id(&plan.source, &mut |position, _, copies| {
        if plan.marks.is_set(position) && plan.canonical(copies).is_some_and(is_damaged) {
            kept.extend(copies.iter().map(|(ordinal, _)| *ordinal as usize));
        }
        Ok(())
    })?;
    let manifests = |ordinal: &usize| plan.packs.get(*ordinal).map(|state| &state.copies);
    let manifests: BTreeSet<SnapshotId> = damaged.iter().filter_map(manifests).flatten().copied().collect();
    for (ordinal, state) in plan.packs.iter_mut().enumerate() {
        if kept.contains(&ordinal) || !state.copies.is_disjoint(&manifests) {
            state.action = Action::Keep;
        }
    }
    Ok(())
}

/// For each of these packs, by ordinal, the offsets of the chunks whose canonical copies are in it.
fn wanted(plan: &Plan, sources: &[(usize, u64)]) -> Result<BTreeMap<usize, BTreeSet<u32>>> {
    let empty = sources.iter().map(|(ordinal, _)| (*ordinal, BTreeSet::new()));
    let mut wanted: BTreeMap<usize, BTreeSet<u32>> = empty.collect();
    for_each_id(&plan.source, &mut |position, _, copies| {
        if plan.marks.is_set(position)
            && let Some(ordinal) = plan.canonical(copies)
            && let Some(offsets) = wanted.get_mut(&(ordinal as usize))
            && let Some((_, entry)) = copies.iter().find(|(pack, _)| *pack == ordinal)
        {
            offsets.insert(entry.offset);
        }
        Ok(())
    })?;
    Ok(wanted)
}

/// The needed contents of a pack.
struct Wanted<'a> {
    /// Offsets of the chunks and list nodes whose canonical copies are in the pack.
    offsets: &'a BTreeSet<u32>,
    /// Determines which copies of manifests are kept.
    plan: &'a Plan,
}

struct Copying {
    rescue: Rescue,
    /// One copy of the config among the new packs is enough.
    config_copied: bool,
    scratch: ReadScratch,
}

impl Copying {
    /// Copies the needed chunks out of one pack; `false` when the pack is damaged, in which case
    /// nothing was copied.
    fn copy(&mut self, work: &Work<'_>, pack: &PackId, len: u64, wanted: &Wanted<'_>) -> Result<bool> {
        let repo = work.repo;
        let bytes = match repo.storage().get(&layout::pack(pack), len) {
            Ok(bytes) => bytes,
            // the pack stays, whether it is unreadable or damaged
            Err(error) if error.kind.is_erasure() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let seal = repo.seal();
        let index = match sha256(&[&bytes]) == pack.0 {
            true => parts_of(pack, &bytes).and_then(|parts| open_parts(parts, &repo.config().id, seal.as_ref())),
            false => return Ok(false),
        };
        let Ok(index) = index else {
            return Ok(false);
        };
        for entry in &index.entries {
            let start = entry.offset as usize;
            let stored = bytes.get(start..start.saturating_add(entry.payload_len as usize));
            let stored = stored.ok_or_else(|| Error::PackCorrupt {
                pack: *pack,
                reason: "an entry points past its end".to_owned(),
            })?;
            let is_wanted = match entry.kind {
                0..=KIND_LIST => wanted.offsets.contains(&entry.offset),
                KIND_MANIFEST_COPY => self
                    .snapshot_of(work, entry, stored)?
                    .is_none_or(|id| wanted.plan.must_keep_copy(&id)),
                KIND_CONFIG_COPY => !std::mem::replace(&mut self.config_copied, true),
                // written by a later version: kept
                _ => true,
            };
            if is_wanted {
                self.put(work, entry, stored, index.header.epoch == seal.epoch())?;
            }
        }
        Ok(true)
    }

    /// The snapshot whose manifest this is a part of; `None` when that cannot be determined.
    fn snapshot_of(&mut self, work: &Work<'_>, entry: &PackEntry, stored: &[u8]) -> Result<Option<SnapshotId>> {
        let mut opened = stored.to_vec();
        let mut bytes = Vec::new();
        let seal = work.repo.seal();
        let decoded = decode_stored(
            seal,
            &meta_of(entry),
            &mut opened,
            &mut self.scratch.decoder,
            &mut bytes,
        )?;
        let part = decoded.ok().and_then(|()| CopyPart::decode(&bytes).ok());
        Ok(part.map(|part| part.snapshot))
    }

    fn put(&self, work: &Work<'_>, entry: &PackEntry, stored: &[u8], same_epoch: bool) -> Result<()> {
        let meta = meta_of(entry);
        if same_epoch {
            return self.rescue.copy(&meta, stored);
        }
        let mut opened = stored.to_vec();
        let range = work.repo.seal().open_chunk(&meta, &mut opened);
        match range.and_then(|range| opened.get(range)) {
            Some(encoded) => self.rescue.seal_again(&meta, encoded),
            None => self.rescue.copy(&meta, stored),
        }
    }
}
