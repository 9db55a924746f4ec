//! The chunk lists of the items of a snapshot that is being stored.

use crate::error::Result;
use crate::id::ChunkId;
use crate::repo::Session;
use crate::snapshot::{INLINE_PER_ITEM, ItemContent, ListBuilder};

/// The chunks of an item.
pub(in crate::ops) struct FinishedList {
    /// Bytes of all its chunks.
    pub size: u64,
    /// Number of its chunks.
    pub chunk_count: u64,
    /// The chunks, or their list.
    pub content: ItemContent,
}

/// The chunk lists of the items: the finished ones, and the one that is being built.
pub(in crate::ops) struct Lists {
    done: Vec<FinishedList>,
    current: ListBuilder,
    /// Chunks that may still be listed in the manifest itself.
    inline_left: u64,
}

impl Lists {
    /// No items yet; at most so many chunks may be listed in the manifest itself.
    pub fn new(inline_chunks: u64) -> Self {
        Self {
            done: Vec::new(),
            current: ListBuilder::default(),
            inline_left: inline_chunks,
        }
    }

    /// Adds the next chunk, of item number `item`.
    pub fn push(&mut self, session: &Session, item: usize, id: ChunkId, len: u32) -> Result<()> {
        self.finish_before(session, item)?;
        self.current.push(id, len, &mut |node| session.put_node(node))
    }

    /// Finishes all items before number `item`; items that were skipped have no chunks.
    pub fn finish_before(&mut self, session: &Session, item: usize) -> Result<()> {
        while self.done.len() < item {
            let list = std::mem::take(&mut self.current);
            let (size, chunk_count) = (list.size(), list.chunk_count());
            let inline = chunk_count <= (INLINE_PER_ITEM as u64).min(self.inline_left);
            if inline {
                self.inline_left -= chunk_count;
            }
            let content = list.finish(inline, &mut |node| session.put_node(node))?;
            self.done.push(FinishedList {
                size,
                chunk_count,
                content,
            });
        }
        Ok(())
    }

    /// Number of finished items.
    pub fn finished(&self) -> usize {
        self.done.len()
    }

    /// The finished items.
    pub fn take_finished(&mut self) -> Vec<FinishedList> {
        std::mem::take(&mut self.done)
    }
}
