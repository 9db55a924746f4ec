//! The end of the stream: the way to the root, and what is known of the tar as a whole.
//!
//! ```text
//! tail    global headers, each u64 offset ‖ u64 end
//!         0 root position[8]   24 members[8]        48 number of global headers[4]
//!         8 root offset[8]     32 bytes read[8]     52 root length[4]
//!                              40 end or break[8]   56 root level, 57 complete, 58 zero[2]
//!        16 length of tail[8]                       60 version[4]   64 `CATARIDX`[8]
//! ```

use super::error::{Error, damaged};
use super::key::Key;
use super::page::{Child, MAX_LEVEL, MAX_PAGE_LEN};
use crate::bytes::{ByteReader, ByteWriter};

const MAGIC: [u8; 8] = *b"CATARIDX";
const VERSION: u32 = 1;
/// Length of a header of a tar.
const BLOCK_LEN: u64 = 512;
/// Length of the fixed part at the end of the stream.
pub(super) const FOOTER_LEN: usize = 72;

/// What an index states about its tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Number of members.
    pub members: u64,
    /// Length in bytes of the item that was read.
    pub item_len: u64,
    /// The tar has its end, two blocks of zeros.
    pub is_complete: bool,
    /// The offset after that end, or the one at which the tar breaks off.
    pub end: u64,
    /// Its global headers in order, from one offset to another.
    pub globals: Vec<(u64, u64)>,
    pub(super) root: Child,
    pub(super) root_level: u8,
}

impl Tail {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut tail = Vec::new();
        for (offset, end) in &self.globals {
            tail.extend_from_slice(&offset.to_le_bytes());
            tail.extend_from_slice(&end.to_le_bytes());
        }
        let mut footer = [0; FOOTER_LEN];
        ByteWriter::new(&mut footer)
            .u64(self.root.position)
            .u64(self.root.base)
            .u64((tail.len() + FOOTER_LEN) as u64)
            .u64(self.members)
            .u64(self.item_len)
            .u64(self.end)
            .u32(self.globals.len() as u32)
            .u32(self.root.len)
            .bytes(&[self.root_level, u8::from(self.is_complete), 0, 0])
            .u32(VERSION)
            .bytes(&MAGIC);
        tail.extend_from_slice(&footer);
        tail
    }

    /// The length of the tail whose last bytes these are.
    pub(super) fn len_of(footer: &[u8; FOOTER_LEN]) -> Result<usize, Error> {
        let mut reader = ByteReader::new(footer);
        reader.slice(16)?;
        let len = reader.u64()?;
        reader.slice(36)?;
        let version = reader.u32()?;
        if reader.array()? != MAGIC {
            return damaged("a member index has no magic");
        }
        if version != VERSION {
            return Err(Error::UnsupportedVersion(version));
        }
        match usize::try_from(len) {
            Ok(len) if (FOOTER_LEN..=MAX_PAGE_LEN).contains(&len) => Ok(len),
            _ => damaged("the tail of a member index has a wrong length"),
        }
    }

    /// Decodes the tail of a stream of `size` bytes. The root's first key is not in it.
    pub(super) fn decode(tail: &[u8], size: u64) -> Result<Self, Error> {
        let Some((globals, footer)) = tail.split_last_chunk::<FOOTER_LEN>() else {
            return damaged("the tail of a member index has a wrong length");
        };
        let mut reader = ByteReader::new(footer);
        let (position, base, len) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (members, item_len, end) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (global_count, root_len) = (reader.u32()?, reader.u32()?);
        let [root_level, complete, zero, zero_too] = reader.array()?;
        let root_end = position.checked_add(u64::from(root_len));
        if root_end.and_then(|end| end.checked_add(len)) != Some(size) || len != tail.len() as u64 {
            return damaged("the root of a member index is at a wrong position");
        }
        if globals.len() as u64 != u64::from(global_count) * 16
            || root_len as usize > MAX_PAGE_LEN
            || root_level > MAX_LEVEL
            || complete > 1
            || (zero, zero_too) != (0, 0)
            || members == 0
            // each has a header of its own
            || members > item_len / BLOCK_LEN
        {
            return damaged("the tail of a member index is wrong");
        }
        let mut pairs = ByteReader::new(globals);
        let mut globals = Vec::new();
        for _ in 0..global_count {
            globals.push((pairs.u64()?, pairs.u64()?));
        }
        let ends: Vec<u64> = globals.iter().flat_map(|(offset, end)| [*offset, *end]).collect();
        if !ends.is_sorted() || ends.last().is_some_and(|end| *end > item_len) {
            return damaged("the global headers of a member index are not in order");
        }
        Ok(Self {
            members,
            item_len,
            is_complete: complete == 1,
            end,
            globals,
            root: Child {
                key: Key::default(),
                base,
                position,
                len: root_len,
                members,
            },
            root_level,
        })
    }
}
