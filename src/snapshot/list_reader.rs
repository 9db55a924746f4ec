//! Walks the chunks of an item in order, from any byte on.
//!
//! Inline lists and trees look the same from outside. Always true: at most one node per level is in memory; a position is
//! reached by reading at most `level + 1` nodes; a node that is not exactly of the level and the sums that its parent (or
//! the item) says is refused, so a walk that ends has given exactly the item's bytes. Fetching nodes, and checking that
//! their bytes belong to their ids, is left to the caller.

use super::error::{Error, damaged};
use super::list::{MAX_LEVEL, Node, decode_node};
use super::model::{ItemContent, SnapshotItem};
use crate::id::ChunkId;

/// One chunk of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedChunk {
    /// Its name.
    pub id: ChunkId,
    /// Its length in bytes.
    pub raw_len: u32,
    /// Where it begins in the item.
    pub offset: u64,
}

/// A position in an item's list.
pub struct ListWalker {
    /// What was not read yet: the root, until the first step.
    root: Option<Expected>,
    /// The nodes from the root down to the position.
    path: Vec<Visit>,
    /// Chunks that end at or before this byte are passed over.
    start: u64,
}

/// What a node must be, by the word of its parent.
#[derive(Clone, Copy)]
struct Expected {
    id: ChunkId,
    level: u8,
    size: u64,
    chunk_count: u64,
}

/// A node and how far it was walked.
struct Visit {
    node: Node,
    next: usize,
    /// Where the bytes of entry `next` begin in the item.
    offset: u64,
}

impl ListWalker {
    /// Stands before the chunk that holds byte `start` of `item`; behind the end if `start` is not below its size. Reads
    /// nothing yet. Fails with `Damaged` when the list cannot be that of an item of this size.
    pub fn new(item: &SnapshotItem, start: u64) -> Result<Self, Error> {
        let mut walker = Self {
            root: None,
            path: Vec::new(),
            start,
        };
        match &item.content {
            ItemContent::Inline(chunks) => {
                let mut size = 0u64;
                for (_, raw_len) in chunks {
                    size = size.saturating_add(u64::from(*raw_len));
                }
                if size != item.size || chunks.len() as u64 != item.chunk_count {
                    return damaged("the chunks of an item do not add up");
                }
                if start < item.size {
                    walker.enter(Node::Leaf(chunks.clone()), 0);
                }
            }
            ItemContent::List { root, level } => {
                if *level > MAX_LEVEL {
                    return damaged("a list tree is too deep");
                }
                if start < item.size {
                    let (size, chunk_count) = (item.size, item.chunk_count);
                    walker.root = Some(Expected {
                        id: *root,
                        level: *level,
                        size,
                        chunk_count,
                    });
                }
            }
        }
        Ok(walker)
    }

    /// The next chunk, or `None` behind the last one. `fetch` reads a list node by its id. After an error the walker stands
    /// where it stood, so a caller may try again.
    pub fn next_chunk<E: From<Error>>(
        &mut self,
        fetch: &mut dyn FnMut(&ChunkId) -> Result<Vec<u8>, E>,
    ) -> Result<Option<ListedChunk>, E> {
        loop {
            let Some(visit) = self.path.last_mut() else {
                let Some(root) = self.root else { return Ok(None) };
                let node = load(&root, fetch)?;
                self.root = None;
                self.enter(node, 0);
                continue;
            };
            let offset = visit.offset;
            match &visit.node {
                Node::Leaf(entries) => {
                    if let Some((id, raw_len)) = entries.get(visit.next).copied() {
                        visit.next += 1;
                        visit.offset = offset.saturating_add(u64::from(raw_len));
                        return Ok(Some(ListedChunk { id, raw_len, offset }));
                    }
                }
                Node::Inner { level, entries } => {
                    if let Some(entry) = entries.get(visit.next).copied() {
                        let (level, chunk_count) = (level - 1, u64::from(entry.chunk_count));
                        let node = load(
                            &Expected {
                                id: entry.id,
                                level,
                                size: entry.size,
                                chunk_count,
                            },
                            fetch,
                        )?;
                        visit.next += 1;
                        visit.offset = offset.saturating_add(entry.size);
                        self.enter(node, offset);
                        continue;
                    }
                }
            }
            self.path.pop();
        }
    }

    /// Goes into a node whose bytes begin at `offset`, to its first entry that is not wholly before the start.
    fn enter(&mut self, node: Node, mut offset: u64) {
        let mut next = 0;
        let mut pass = |len: u64| {
            // no overflow: the node's sum was checked against its parent's
            let end = offset.saturating_add(len);
            let passed = end <= self.start;
            if passed {
                offset = end;
                next += 1;
            }
            passed
        };
        match &node {
            Node::Leaf(entries) => {
                let _ = entries.iter().all(|(_, raw_len)| pass(u64::from(*raw_len)));
            }
            Node::Inner { entries, .. } => {
                let _ = entries.iter().all(|entry| pass(entry.size));
            }
        }
        self.path.push(Visit { node, next, offset });
    }
}

/// Reads a node and holds it against what its parent says.
fn load<E: From<Error>>(expected: &Expected, fetch: &mut dyn FnMut(&ChunkId) -> Result<Vec<u8>, E>) -> Result<Node, E> {
    let node = decode_node(&fetch(&expected.id)?, expected.level)?;
    if node.level() != expected.level {
        return Err(Error::Damaged {
            reason: "a list node is not of the level that its parent says",
        }
        .into());
    }
    if node.size() != expected.size || node.chunk_count() != expected.chunk_count {
        return Err(Error::Damaged {
            reason: "the sums of a list node are not what its parent says",
        }
        .into());
    }
    Ok(node)
}
