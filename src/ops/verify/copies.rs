//! Checks the copies of manifests that belong to no good manifest: those of damaged, lost or
//! forgotten manifests. Only these copies are read.

use super::manifests::Manifests;
use super::packs::{Packs, is_condemned};
use super::{Problem, Run, as_failed_read};
use crate::base::{decode_stored, meta_of};
use crate::error::Result;
use crate::id::SnapshotId;
use crate::layout;
use crate::pack::ChunkLocation;
use crate::repo::read::ReadScratch;
use crate::snapshot::copy::{CopyPart, join_from};
use std::collections::{BTreeMap, BTreeSet};

/// Reports damaged manifests, and copies whose manifest is missing or different.
pub(super) fn check_copies(run: &mut Run<'_>, packs: &Packs, manifests: &Manifests) -> Result<()> {
    let mut intact: BTreeSet<SnapshotId> = BTreeSet::new();
    let mut copies: BTreeMap<SnapshotId, Vec<ChunkLocation>> = BTreeMap::new();
    let mut scratch = ReadScratch::default();
    for (location, session) in &manifests.unmatched {
        run.check_running()?;
        if packs.is_condemned(&location.pack) || is_spared(run, manifests, session) {
            continue;
        }
        if let Some(part) = read_part(run, location, &mut scratch)? {
            copies.entry(part.snapshot).or_default().push(*location);
        }
    }
    for (id, locations) in copies {
        let mut read = |location: &ChunkLocation| {
            run.check_running()?;
            read_part(run, location, &mut scratch)
        };
        let accept = &mut |bytes: &[u8]| run.repo.decode_manifest(&id, bytes).ok().map(drop);
        let copy: Result<Option<()>> = join_from(&id, &locations, &mut read, accept);
        let copy = copy?;
        if copy.is_some() {
            intact.insert(id);
        }
        if manifests.damaged.contains_key(&id) || manifests.unread.contains(&id) {
            continue;
        }
        if manifests.committed.contains(&id) {
            if copy.is_some() && run.is_there(&layout::snapshot(&id)) {
                let reason = "the file differs from its copy in a meta pack";
                found(run, "ERR_MANIFEST_CORRUPT", id, reason, false);
            }
        } else if is_lost(run, packs, &locations, &id)? {
            let reason = "the file is missing, and the snapshot was not forgotten";
            found(run, "ERR_MANIFEST_MISSING", id, reason, copy.is_some());
        }
    }
    for (id, reason) in &manifests.damaged {
        let key = layout::snapshot(id);
        if run.is_there(&key) {
            let healable = intact.contains(id) && !run.is_there(&layout::forgot_record(id));
            found(run, "ERR_MANIFEST_CORRUPT", *id, reason, healable);
        }
    }
    Ok(())
}

fn found(run: &mut Run<'_>, code: &'static str, id: SnapshotId, reason: &str, healable: bool) {
    let path = layout::snapshot(&id);
    run.found(Problem {
        text: format!("The manifest of snapshot {id}: {reason}"),
        path: Some(path),
        snapshots: vec![id],
        healable,
        ..Problem::new(code)
    });
}

/// True when a copy that this session wrote is not checked: it is being written, was abandoned, or
/// its snapshot was forgotten.
fn is_spared(run: &Run<'_>, manifests: &Manifests, session: &SnapshotId) -> bool {
    !manifests.committed.contains(session)
        && (run.is_there(&layout::lease(session)) || run.is_there(&layout::forgot_record(session)))
}

/// True when the manifest of `id` is lost although its copy exists. Checks in the order in which an
/// ingest (publish the manifest, delete the lease), a forget (write the record, delete the
/// manifest) and a prune (delete the pack, delete the record) proceed, so that none of them is
/// mistaken for a loss.
fn is_lost(run: &Run<'_>, packs: &Packs, locations: &[ChunkLocation], id: &SnapshotId) -> Result<bool> {
    run.check_running()?;
    let is_known = || run.is_there(&layout::lease(id)) || run.is_there(&layout::snapshot(id));
    // checked twice: an ingest that is committing when a forced unlock removes its lease may still
    // put its manifest, and a prune then deletes the record of the unlock
    if is_known() || run.is_there(&layout::forgot_record(id)) || is_known() {
        return Ok(false);
    }
    let still_there = locations.iter().any(|location| {
        run.is_there(&layout::pack(&location.pack))
            && packs.is_named(&location.pack)
            && !is_condemned(run, &location.pack)
    });
    Ok(still_there)
}

/// Reads one part of a copy from its pack, or else through parity.
fn read_part(run: &Run<'_>, location: &ChunkLocation, scratch: &mut ReadScratch) -> Result<Option<CopyPart>> {
    let mut bytes = Vec::new();
    if run.noted(run.read_chunk(location, scratch, &mut bytes)).is_err() {
        let mut stored = Vec::new();
        let meta = meta_of(&location.entry);
        let rebuilt = run.repo.read_through_parity(location, &mut stored);
        let read = run
            .noted(rebuilt.map_err(|error| as_failed_read(error, &location.pack)))
            .unwrap_or(false)
            && decode_stored(run.repo.seal(), &meta, &mut stored, &mut scratch.decoder, &mut bytes)?.is_ok();
        if !read {
            return Ok(None);
        }
    }
    Ok(CopyPart::decode(&bytes).ok())
}
