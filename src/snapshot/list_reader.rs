//! Walks over the chunks of an item in order, from any byte on.
//!
//! Inline lists and trees have the same interface. Invariants: at most one node for each level is
//! in memory; a position is reached by reading at most `level + 1` nodes; a node whose level or
//! sums differ from those in its parent (or in the item) is refused, so a walk that ends without an
//! error has returned all chunks of the item. Fetching nodes, and checking their bytes against
//! their ids, is left to the caller.

use super::error::{Error, damaged};
use super::list::{MAX_LEVEL, Node, decode_node};
use super::model::{ItemContent, SnapshotItem};
use crate::id::ChunkId;

/// One chunk of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedChunk {
    /// Its id.
    pub id: ChunkId,
    /// Its length in bytes.
    pub raw_len: u32,
    /// Its offset in the item, in bytes.
    pub offset: u64,
}

/// A position in an item's list.
pub struct ListWalker {
    /// The root, until it is read by the first step.
    root: Option<Expected>,
    /// The nodes from the root down to the position.
    path: Vec<Visit>,
    /// Chunks that end at or before this byte are skipped.
    start: u64,
}

/// The values of a node that its parent states.
#[derive(Clone, Copy)]
struct Expected {
    id: ChunkId,
    level: u8,
    size: u64,
    chunk_count: u64,
}

/// A node and the position in it.
struct Visit {
    node: Node,
    next: usize,
    /// Offset of entry `next` in the item, in bytes.
    offset: u64,
}

impl ListWalker {
    /// A walker before the chunk that contains byte `start` of `item`, or past the end if `start`
    /// is not below its size. Reads nothing yet. Fails with `Damaged` when the list cannot be that
    /// of an item of this size.
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
                    return damaged("the sizes of the chunks of an item do not match its size or count");
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

    /// Returns the next chunk, or `None` past the last one. `fetch` reads a list node by its id. An
    /// error leaves the walker where it is, so the caller may try again.
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

    /// Enters a node that begins at `offset` of the item, at its first entry that ends after the
    /// start.
    fn enter(&mut self, node: Node, mut offset: u64) {
        let mut next = 0;
        let mut pass = |len: u64| {
            // no overflow: the sum of the node was checked against its parent
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

/// Reads a node and checks it against its parent.
fn load<E: From<Error>>(expected: &Expected, fetch: &mut dyn FnMut(&ChunkId) -> Result<Vec<u8>, E>) -> Result<Node, E> {
    let node = decode_node(&fetch(&expected.id)?, expected.level)?;
    if node.level() != expected.level {
        return Err(Error::Damaged {
            reason: "the level of a list node differs from that in its parent",
        }
        .into());
    }
    if node.size() != expected.size || node.chunk_count() != expected.chunk_count {
        return Err(Error::Damaged {
            reason: "the sums of a list node differ from those in its parent",
        }
        .into());
    }
    Ok(node)
}
