//! List nodes: the content-defined tree of the chunk ids of an item (`docs/format.md` §7), built
//! from left to right, and decoded.
//!
//! The end of a node depends on the ids alone, so two lists that differ at one position share all
//! nodes but the few near it. Invariants: the builder holds at most one unfinished node for each
//! level, and every node that it emits decodes to the entries that were added. Ids and storage of
//! nodes are left to the caller; a tree is read by [`super::list_reader`].

use super::error::{Error, damaged};
use super::model::{INLINE_PER_ITEM, ItemContent, MAX_RAW_LEN, MAX_SIZE};
use crate::bytes::{ByteReader, ByteWriter, TooShort};
use crate::id::ChunkId;

/// Highest level of a node.
pub const MAX_LEVEL: u8 = 7;
/// Longest node, in bytes.
pub const MAX_NODE_LEN: usize = HEADER_LEN + LEAF.max as usize * LEAF.entry_len;

const MAGIC: [u8; 4] = *b"CALN";
const NODE_VERSION: u8 = 1;
/// Magic, version, level, length of an entry, number of entries, zeros.
const HEADER_LEN: usize = MAGIC.len() + 1 + 1 + 2 + 4 + 4;

/// The limits of one kind of node.
struct Shape {
    entry_len: usize,
    /// A node has at least this many entries (except the last of its level) …
    min: u32,
    /// … then ends after an id whose last two bytes are zero under this mask …
    mask: u16,
    /// … and has at most this many.
    max: u32,
}

/// id ‖ u32 raw_len
const LEAF: Shape = Shape {
    entry_len: ChunkId::LEN + 4,
    min: 128,
    mask: 511,
    max: 2048,
};
/// id ‖ u64 bytes ‖ u32 chunks
const INNER: Shape = Shape {
    entry_len: ChunkId::LEN + SUMS_LEN,
    min: 64,
    mask: 255,
    max: 1024,
};

/// u64 bytes ‖ u32 chunks
const SUMS_LEN: usize = 8 + 4;

impl Shape {
    fn of(level: u8) -> &'static Self {
        if level == 0 { &LEAF } else { &INNER }
    }
}

/// Stores an encoded node and returns its id.
pub type NodeSink<'a, E> = dyn FnMut(&[u8]) -> Result<ChunkId, E> + 'a;

/// Builds the tree of one item, chunk by chunk. It must not be used after an error.
pub struct ListBuilder {
    levels: Vec<Level>,
    size: u64,
    chunk_count: u32,
}

/// The unfinished node of one level.
struct Level {
    number: u8,
    /// Space for the header, then the entries.
    node: Vec<u8>,
    count: u32,
    size: u64,
    chunk_count: u32,
    /// Number of finished nodes of this level; `last` is the id of the last one.
    finished: u64,
    last: ChunkId,
}

impl Default for ListBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ListBuilder {
    /// An empty list.
    pub fn new() -> Self {
        Self {
            levels: vec![Level::new(0)],
            size: 0,
            chunk_count: 0,
        }
    }

    /// Bytes of all chunks so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Chunks so far.
    pub fn chunk_count(&self) -> u64 {
        u64::from(self.chunk_count)
    }

    /// Appends a chunk of `raw_len` bytes. Each node that becomes complete is passed to `sink`,
    /// children before their parents; none is while the list could still be kept inline. Fails with
    /// `Invalid` when the length is out of range or the list exceeds the counts of the format, else
    /// only when `sink` fails.
    pub fn push<E: From<Error>>(&mut self, id: ChunkId, raw_len: u32, sink: &mut NodeSink<'_, E>) -> Result<(), E> {
        if raw_len == 0 || raw_len > MAX_RAW_LEN {
            return Err(Error::Invalid {
                reason: "a chunk's length is out of range",
            }
            .into());
        }
        let too_long = Error::Invalid {
            reason: "an item has too many chunks or bytes",
        };
        let size = self
            .size
            .checked_add(u64::from(raw_len))
            .filter(|size| *size <= MAX_SIZE);
        self.size = size.ok_or_else(|| too_long.clone())?;
        self.chunk_count = self.chunk_count.checked_add(1).ok_or(too_long)?;

        let mut complete = self.levels[0].append(&id, &raw_len.to_le_bytes(), u64::from(raw_len), 1);
        let mut level = 0;
        while complete {
            complete = self.close_node(level, sink)?;
            level += 1;
        }
        Ok(())
    }

    /// Ends the list. A list without chunks, or with at most [`INLINE_PER_ITEM`] if
    /// `inline_allowed`, is returned as its chunks, and no node is made. Else the nodes that are
    /// still open are passed to `sink`, the root last.
    pub fn finish<E: From<Error>>(
        mut self,
        inline_allowed: bool,
        sink: &mut NodeSink<'_, E>,
    ) -> Result<ItemContent, E> {
        if self.chunk_count == 0 || (inline_allowed && self.chunk_count as usize <= INLINE_PER_ITEM) {
            // no leaf ends before LEAF.min entries, so the first one holds all entries
            let entries = &self.levels[0].node[HEADER_LEN..];
            let chunks = entries.chunks_exact(LEAF.entry_len).map(leaf_entry);
            return Ok(ItemContent::Inline(
                chunks.collect::<Result<_, _>>().map_err(Error::from)?,
            ));
        }
        let mut level = 0;
        loop {
            if self.levels[level].count > 0 {
                // a parent that this completes is closed in the next round: it is the last of its
                // level anyway
                self.close_node(level, sink)?;
            }
            let done = &self.levels[level];
            if done.finished == 1 {
                return Ok(ItemContent::List {
                    root: done.last,
                    level: done.number,
                });
            }
            level += 1;
        }
    }

    /// Passes the open node of `level` to the sink and adds it one level up. True when that
    /// completes the parent.
    fn close_node<E: From<Error>>(&mut self, level: usize, sink: &mut NodeSink<'_, E>) -> Result<bool, E> {
        if self.levels.len() == level + 1 {
            let number = self.levels[level].number + 1;
            if number > MAX_LEVEL + 1 {
                // cannot happen while chunks are counted in 32 bits: six levels hold 2^32 of them
                return Err(Error::Invalid {
                    reason: "a list tree is too deep",
                }
                .into());
            }
            self.levels.push(Level::new(number));
        }
        let node = &mut self.levels[level];
        node.write_header();
        let id = sink(&node.node)?;
        let (size, chunk_count) = (node.size, node.chunk_count);
        node.restart(id);

        let mut sums = [0; SUMS_LEN];
        ByteWriter::new(&mut sums).u64(size).u32(chunk_count);
        Ok(self.levels[level + 1].append(&id, &sums, size, chunk_count))
    }
}

impl Level {
    fn new(number: u8) -> Self {
        let node = vec![0; HEADER_LEN];
        Self {
            number,
            node,
            count: 0,
            size: 0,
            chunk_count: 0,
            finished: 0,
            last: ChunkId([0; 32]),
        }
    }

    /// Adds an entry. True when the node ends with it.
    fn append(&mut self, id: &ChunkId, rest: &[u8], size: u64, chunk_count: u32) -> bool {
        let shape = Shape::of(self.number);
        self.node.extend_from_slice(&id.0);
        self.node.extend_from_slice(rest);
        self.count += 1;
        // no overflow: `push` has checked the sums of the whole list
        self.size += size;
        self.chunk_count += chunk_count;
        let marks_end = u16::from_le_bytes([id.0[30], id.0[31]]) & shape.mask == 0;
        self.count >= shape.max || (self.count >= shape.min && marks_end)
    }

    fn write_header(&mut self) {
        let entry_len = Shape::of(self.number).entry_len as u16;
        ByteWriter::new(&mut self.node)
            .bytes(&MAGIC)
            .bytes(&[NODE_VERSION, self.number])
            .bytes(&entry_len.to_le_bytes())
            .u32(self.count);
    }

    fn restart(&mut self, id: ChunkId) {
        self.node.truncate(HEADER_LEN);
        (self.count, self.size, self.chunk_count) = (0, 0, 0);
        self.finished += 1;
        self.last = id;
    }
}

/// A decoded list node. Its level, lengths and sums were checked, its id was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// Level 0: chunk ids and their lengths in bytes.
    Leaf(Vec<(ChunkId, u32)>),
    /// Any other level: nodes of the level below.
    Inner {
        /// At least 1.
        level: u8,
        /// The nodes below, in order.
        entries: Vec<InnerEntry>,
    },
}

/// The entry of an inner node for one node below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InnerEntry {
    /// Id of that node.
    pub id: ChunkId,
    /// Bytes of all chunks below it.
    pub size: u64,
    /// Number of chunks below it.
    pub chunk_count: u32,
}

impl Node {
    /// 0 for a leaf.
    pub fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Inner { level, .. } => *level,
        }
    }

    /// Length of all chunks below it in bytes, at most [`MAX_SIZE`].
    pub fn size(&self) -> u64 {
        match self {
            Self::Leaf(entries) => entries.iter().map(|(_, raw_len)| u64::from(*raw_len)).sum(),
            Self::Inner { entries, .. } => entries.iter().map(|entry| entry.size).sum(),
        }
    }

    /// Number of chunks below it, at most `u32::MAX`.
    pub fn chunk_count(&self) -> u64 {
        match self {
            Self::Leaf(entries) => entries.len() as u64,
            Self::Inner { entries, .. } => entries.iter().map(|entry| u64::from(entry.chunk_count)).sum(),
        }
    }
}

/// Decodes a node of at most `max_level`. Fails with `Damaged` on anything that a [`ListBuilder`]
/// does not write (except for the positions at which nodes end), and with `UnsupportedVersion`.
pub fn decode_node(bytes: &[u8], max_level: u8) -> Result<Node, Error> {
    let Some((header, body)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        return damaged("a list node is too short");
    };
    let mut header = ByteReader::new(header);
    if header.array()? != MAGIC {
        return damaged("a list node has no magic");
    }
    let version = header.u8()?;
    if version != NODE_VERSION {
        return Err(Error::UnsupportedVersion(u64::from(version)));
    }
    let level = header.u8()?;
    if level > max_level || level > MAX_LEVEL {
        return damaged("the level of a list node is too high");
    }
    let shape = Shape::of(level);
    let (entry_len, count) = (header.u16()?, header.u32()?);
    if usize::from(entry_len) != shape.entry_len || header.rest() != [0; 4] {
        return damaged("the header of a list node is wrong");
    }
    // the count is bounded before it is multiplied
    if count == 0 || count > shape.max || body.len() != count as usize * shape.entry_len {
        return damaged("the length of a list node does not match its number of entries");
    }
    if level == 0 {
        let entries: Vec<_> = body
            .chunks_exact(LEAF.entry_len)
            .map(leaf_entry)
            .collect::<Result<_, _>>()?;
        if entries
            .iter()
            .any(|(_, raw_len)| *raw_len == 0 || *raw_len > MAX_RAW_LEN)
        {
            return damaged("a chunk's length in a list node is out of range");
        }
        return Ok(Node::Leaf(entries));
    }
    let entries: Vec<_> = body
        .chunks_exact(INNER.entry_len)
        .map(inner_entry)
        .collect::<Result<_, _>>()?;
    let (mut size, mut chunk_count) = (0u64, 0u32);
    for entry in &entries {
        let sums = (size.checked_add(entry.size), chunk_count.checked_add(entry.chunk_count));
        let (Some(new_size), Some(new_count)) = sums else {
            return damaged("the sums of a list node overflow");
        };
        if entry.chunk_count == 0 || entry.size < u64::from(entry.chunk_count) || new_size > MAX_SIZE {
            return damaged("the sums of a list node are out of range");
        }
        (size, chunk_count) = (new_size, new_count);
    }
    Ok(Node::Inner { level, entries })
}

fn leaf_entry(entry: &[u8]) -> Result<(ChunkId, u32), TooShort> {
    let mut reader = ByteReader::new(entry);
    Ok((ChunkId(reader.array()?), reader.u32()?))
}

fn inner_entry(entry: &[u8]) -> Result<InnerEntry, TooShort> {
    let mut reader = ByteReader::new(entry);
    Ok(InnerEntry {
        id: ChunkId(reader.array()?),
        size: reader.u64()?,
        chunk_count: reader.u32()?,
    })
}
