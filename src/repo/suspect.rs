//! Packs that a read of this handle found damaged, so that no new snapshot relies on them.
//!
//! A restore and a verify note the damage that they find. Before a session reuses a chunk of such a
//! pack, the pack is read again: if the hash of its bytes matches its id now (after a repair, or
//! because a read failed once), it is used like any other; otherwise it is healed from parity if
//! that is possible at once; otherwise its chunks are stored again. Nothing is concluded from a
//! note alone, so a wrong one costs a read.

use super::Repository;
use super::read::{ReadScratch, read_at};
use crate::crypto::sha256;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::layout;
use crate::lock::try_maint;
use crate::pack::ChunkLocation;
use crate::storage::ErrorKind;
use crate::sync::lock;
use std::collections::{BTreeMap, BTreeSet};

/// The damage that is known of one suspect pack.
#[derive(Default)]
struct Suspect {
    /// A later read has found the bytes of the pack correct; then only `chunks` are damaged, and
    /// were written so.
    intact: bool,
    /// Chunks that did not decode.
    chunks: BTreeSet<ChunkId>,
}

/// All suspect packs of a handle.
#[derive(Default)]
pub(super) struct Suspects(BTreeMap<PackId, Suspect>);

impl Suspects {
    fn needs_recheck(&self, pack: &PackId) -> bool {
        self.0.get(pack).is_some_and(|suspect| !suspect.intact)
    }
}

impl Repository {
    /// Notes that a read found this pack damaged, or one chunk of it.
    pub fn note_suspect(&self, pack: PackId, chunk: Option<ChunkId>) {
        let mut degraded = self.degraded.lock(self);
        let suspect = degraded.suspects.0.entry(pack).or_default();
        suspect.intact = false;
        suspect.chunks.extend(chunk);
    }

    /// Notes the pack of a read at `location` that failed, if the error is about these bytes and
    /// not about the whole store. A bad sector may be readable next time: the recheck finds out.
    pub(super) fn note_failed_read(&self, location: &ChunkLocation, error: &Error) {
        match error {
            Error::ChunkCorrupt { chunk, .. } => self.note_suspect(location.pack, Some(*chunk)),
            Error::PackCorrupt { .. } => self.note_suspect(location.pack, None),
            Error::Unreadable { source } if source.kind == ErrorKind::Io => self.note_suspect(location.pack, None),
            _ => {}
        }
    }

    /// True when a read found the pack damaged, and no later one found it intact.
    pub fn is_suspect(&self, pack: &PackId) -> bool {
        self.degraded.lock(self).suspects.needs_recheck(pack)
    }

    /// True when a read found this chunk damaged in a pack whose bytes match its id.
    pub(super) fn is_bad_chunk(&self, location: &ChunkLocation) -> bool {
        let degraded = self.degraded.lock(self);
        let suspect = degraded.suspects.0.get(&location.pack);
        suspect.is_some_and(|suspect| suspect.chunks.contains(&location.entry.id))
    }

    /// Whether new snapshots may rely on an existing pack. A suspect one is read again, and healed
    /// if that is possible at once.
    pub(super) fn may_rely_on(&self, pack: &PackId) -> Result<bool> {
        if !self.is_suspect(pack) {
            return Ok(true);
        }
        let _one_at_a_time = lock(&self.recheck);
        if !self.is_suspect(pack) {
            return Ok(true);
        }
        let intact = match self.storage().get(&layout::pack(pack), self.config().longest_pack()) {
            Ok(bytes) => sha256(&[&bytes]) == pack.0,
            Err(error) if error.kind == ErrorKind::NotFound => {
                // quarantined or pruned
                self.degraded.lock(self).suspects.0.remove(pack);
                return Ok(false);
            }
            // no snapshot may rely on what cannot be read now
            Err(_) => false,
        };
        if !intact && !self.heal_at_once(pack)? {
            return Ok(false);
        }
        self.note_whole(pack);
        Ok(true)
    }

    /// Heals a pack from parity; `false` when that cannot be done, or when another process
    /// maintains the repository.
    fn heal_at_once(&self, pack: &PackId) -> Result<bool> {
        self.check_open()?;
        if !self.may_heal() || self.parity_shape().is_none() || self.check_writable().is_err() {
            return Ok(false);
        }
        let Some(_maint) = try_maint(self.storage())? else {
            return Ok(false);
        };
        Ok(self.heal_and_tell(pack))
    }

    /// Notes that the bytes of a pack match its id. Chunks in it that were found damaged are read
    /// again.
    pub(super) fn note_whole(&self, pack: &PackId) {
        let Some(noted) = self.degraded.lock(self).suspects.0.remove(pack) else {
            return;
        };
        let (mut scratch, mut out) = (ReadScratch::default(), Vec::new());
        let mut reads = |chunk: &ChunkId| {
            let locations = self.locate(chunk).unwrap_or_default();
            let location = locations.iter().find(|location| location.pack == *pack);
            location.is_none_or(|location| read_at(self, location, &mut scratch, &mut out).is_ok())
        };
        let chunks: BTreeSet<ChunkId> = noted.chunks.into_iter().filter(|chunk| !reads(chunk)).collect();
        if !chunks.is_empty() {
            let suspect = Suspect { intact: true, chunks };
            self.degraded.lock(self).suspects.0.insert(*pack, suspect);
        }
    }
}
