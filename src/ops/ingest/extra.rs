//! Stores an extra of an item: a stream whose chunks are given as they are cut.

use crate::error::Result;
use crate::id::ChunkId;
use crate::repo::Session;
use crate::snapshot::{Error as ListError, Extra, ItemContent, ListBuilder};

/// Bytes that are collected for one call of the session.
const BATCH: usize = 1 << 20;

/// Where an extra is stored.
pub(in crate::ops) trait ExtraStore {
    /// Stores chunks; returns their ids.
    fn put_chunks(&self, chunks: &[&[u8]]) -> Result<Vec<ChunkId>>;
    /// Stores a node of the list of chunks; returns its id.
    fn put_node(&self, node: &[u8]) -> Result<ChunkId>;
}

impl ExtraStore for Session {
    fn put_chunks(&self, chunks: &[&[u8]]) -> Result<Vec<ChunkId>> {
        self.put_extra(chunks)
    }

    fn put_node(&self, node: &[u8]) -> Result<ChunkId> {
        Session::put_node(self, node)
    }
}

/// The writer of one extra.
pub(in crate::ops) struct ExtraWriter<'a> {
    store: &'a dyn ExtraStore,
    list: ListBuilder,
    batch: Vec<Vec<u8>>,
    batch_bytes: usize,
    largest: usize,
}

impl<'a> ExtraWriter<'a> {
    /// An empty extra. `largest`: bytes of the longest chunk of the repository.
    pub fn new(store: &'a dyn ExtraStore, largest: u32) -> Self {
        Self {
            store,
            list: ListBuilder::new(),
            batch: Vec::new(),
            batch_bytes: 0,
            largest: largest.max(1) as usize,
        }
    }

    /// Appends a chunk. One that is longer than the chunks of the repository is cut.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        for chunk in bytes.chunks(self.largest) {
            self.batch_bytes += chunk.len();
            self.batch.push(chunk.to_vec());
        }
        match self.batch_bytes >= BATCH {
            true => self.flush(),
            false => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<()> {
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let chunks: Vec<&[u8]> = batch.iter().map(Vec::as_slice).collect();
        if chunks.is_empty() {
            return Ok(());
        }
        let ids = self.store.put_chunks(&chunks)?;
        for (id, chunk) in ids.into_iter().zip(&batch) {
            // shorter than a chunk of the repository
            let len = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            self.list.push(id, len, &mut |node| self.store.put_node(node))?;
        }
        Ok(())
    }

    /// Ends the extra; it must not be empty.
    pub fn finish(mut self, kind: &str) -> Result<Extra> {
        self.flush()?;
        let (size, chunk_count) = (self.list.size(), self.list.chunk_count());
        match self.list.finish(false, &mut |node| self.store.put_node(node))? {
            ItemContent::List { root, level } => Ok(Extra {
                kind: kind.to_owned(),
                root,
                level,
                size,
                chunk_count,
            }),
            ItemContent::Inline(_) => Err(ListError::Invalid {
                reason: "an extra is empty",
            }
            .into()),
        }
    }
}
