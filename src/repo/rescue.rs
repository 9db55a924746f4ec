//! Chunks that a repair stores: those copied unchanged out of a pack that cannot be repaired, and
//! those rebuilt from other data.
//!
//! The caller has checked each chunk against its id. A stored chunk is bound to its content and not
//! to its location, so it can be copied within one key epoch. As everywhere, packs come first, then
//! their parity, then the segment.

use super::Repository;
use super::pack_sink::PackSink;
use crate::base::ChunkMeta;
use crate::entropy::random;
use crate::error::Result;
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::lock::MaintLock;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The open packs that saved chunks are appended to.
pub struct Rescue {
    repo: Arc<Repository>,
    sink: PackSink,
}

impl Rescue {
    /// Starts a rescue. Writes nothing before the first chunk is added.
    pub fn start(repo: &Arc<Repository>) -> Result<Self> {
        let session = SnapshotId(random(repo.entropy())?);
        Ok(Self {
            repo: Arc::clone(repo),
            sink: PackSink::new(Arc::clone(repo), session, 0),
        })
    }

    /// [`start`](Self::start) for the holder of the maintenance lock: the new packs may join
    /// existing parity groups.
    pub fn start_maintaining(repo: &Arc<Repository>, _maint: &MaintLock) -> Result<Self> {
        let mut rescue = Self::start(repo)?;
        rescue.sink.hold_maint();
        Ok(rescue)
    }

    /// Adds a stored chunk as it was stored in its pack.
    pub fn copy(&self, meta: &ChunkMeta, stored: &[u8]) -> Result<()> {
        self.sink.append(meta, stored)
    }

    /// Adds a stored chunk of another key epoch, given the encoded chunk that was sealed in it.
    pub fn seal_again(&self, meta: &ChunkMeta, encoded: &[u8]) -> Result<()> {
        let mut sealed = Vec::new();
        self.repo
            .seal()
            .seal_chunk(meta, encoded, None, self.repo.entropy(), &mut sealed)?;
        self.sink.append(meta, &sealed)
    }

    /// Adds a chunk that is made of the bytes it must have.
    pub fn add(&self, id: &ChunkId, kind: u8, raw: &[u8]) -> Result<()> {
        let levels = (self.repo.config().compression, None);
        self.repo.with_worker(|worker| {
            let (meta, stored) = worker.prepare(&self.repo, levels, (id, kind, raw), None)?;
            self.sink.append(&meta, stored)
        })
    }

    /// Writes the rest, protects and publishes everything, and waits until it is durable. Returns
    /// the new packs with their lengths.
    pub fn finish(self) -> Result<BTreeMap<PackId, u64>> {
        self.sink.flush_data()?;
        self.sink.flush_meta()?;
        self.sink.protect_rest()?;
        let written = self.sink.take_written();
        let packs = written
            .chunks
            .iter()
            .map(|(location, len)| (location.pack, *len))
            .collect();
        self.repo.publish_segment(written.chunks)?;
        self.sink.wait_for_indexes()?;
        self.repo.storage().barrier()?;
        Ok(packs)
    }
}
