//! Packs that a read of this handle found damaged, so that no new snapshot relies on them.
//!
//! A restore and a verify note what they found. Before a session reuses a chunk of such a pack, the
//! pack is read again: when its bytes have its name by now (a repair, or a read that failed once),
//! it is as good as any; else it is healed from parity if that can be done at once; else its chunks
//! are stored again. Nothing is concluded from a note alone, so one that was wrong costs a read.

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

/// What is known of one suspect pack.
#[derive(Default)]
struct Suspect {
    /// Its bytes have been found right since; then only `chunks` are bad, and were written so.
    whole: bool,
    /// Chunks that did not decode.
    chunks: BTreeSet<ChunkId>,
}

/// All suspect packs of a handle.
#[derive(Default)]
pub(super) struct Suspects(BTreeMap<PackId, Suspect>);

impl Suspects {
    fn needs_recheck(&self, pack: &PackId) -> bool {
        self.0.get(pack).is_some_and(|suspect| !suspect.whole)
    }
}

impl Repository {
    /// Notes that a read found this pack damaged, or one chunk of it.
    pub fn note_suspect(&self, pack: PackId, chunk: Option<ChunkId>) {
        let mut degraded = self.degraded.lock(self);
        let suspect = degraded.suspects.0.entry(pack).or_default();
        suspect.whole = false;
        suspect.chunks.extend(chunk);
    }

    /// The same after a read at `location` that failed, if the error is about the bytes there and not
    /// about the whole store. A bad sector may read next time: the recheck tells.
    pub(super) fn note_failed_read(&self, location: &ChunkLocation, error: &Error) {
        match error {
            Error::ChunkCorrupt { chunk, .. } => self.note_suspect(location.pack, Some(*chunk)),
            Error::PackCorrupt { .. } => self.note_suspect(location.pack, None),
            Error::Unreadable { source } if source.kind == ErrorKind::Io => self.note_suspect(location.pack, None),
            _ => {}
        }
    }

    /// True when a read found the pack damaged, and no later one found it whole.
    pub fn is_suspect(&self, pack: &PackId) -> bool {
        self.degraded.lock(self).suspects.needs_recheck(pack)
    }

    /// True when a read found this chunk damaged in a pack whose bytes are right.
    pub(super) fn is_bad_chunk(&self, location: &ChunkLocation) -> bool {
        let degraded = self.degraded.lock(self);
        let suspect = degraded.suspects.0.get(&location.pack);
        suspect.is_some_and(|suspect| suspect.chunks.contains(&location.entry.id))
    }

    /// Whether new snapshots may rely on a pack that is there. A suspect one is read again, and
    /// healed where that can be done at once.
    pub(super) fn may_rely_on(&self, pack: &PackId) -> Result<bool> {
        if !self.is_suspect(pack) {
            return Ok(true);
        }
        let _one_at_a_time = lock(&self.recheck);
        if !self.is_suspect(pack) {
            return Ok(true);
        }
        let whole = match self.storage().get(&layout::pack(pack), self.config().longest_pack()) {
            Ok(bytes) => sha256(&[&bytes]) == pack.0,
            Err(error) if error.kind == ErrorKind::NotFound => {
                // quarantined or pruned
                self.degraded.lock(self).suspects.0.remove(pack);
                return Ok(false);
            }
            // what cannot be read now is no ground to rely on
            Err(_) => false,
        };
        if !whole && !self.heal_at_once(pack)? {
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

    /// Takes note that the bytes of a pack have its name. Chunks in it that were found damaged are
    /// read again.
    pub(super) fn note_whole(&self, pack: &PackId) {
        let Some(noted) = self.degraded.lock(self).suspects.0.remove(pack) else {
            return;
        };
        let (mut scratch, mut out) = (ReadScratch::default(), Vec::new());
        let mut reads = |chunk: &ChunkId| {
            let places = self.locate(chunk).unwrap_or_default();
            let place = places.iter().find(|place| place.pack == *pack);
            place.is_none_or(|place| read_at(self, place, &mut scratch, &mut out).is_ok())
        };
        let chunks: BTreeSet<ChunkId> = noted.chunks.into_iter().filter(|chunk| !reads(chunk)).collect();
        if !chunks.is_empty() {
            let suspect = Suspect { whole: true, chunks };
            self.degraded.lock(self).suspects.0.insert(*pack, suspect);
        }
    }
}
