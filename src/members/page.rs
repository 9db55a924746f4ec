//! Pages: leaves with entries, and inner pages with the pages below them.
//!
//! ```text
//! leaf    u8 0 ‖ varint number of entries ‖ entries
//! inner   u8 level ‖ varint position of the first page below ‖ varint number of pages below
//!         for each, in order and one after the other in the stream:
//!         varint length ‖ first key ‖ zigzag first header offset, relative to the page before it ‖
//!         varint length of the page ‖ varint number of its members
//! ```
//!
//! The first offset of a page is relative to what its parent states for it.

use super::entry::{Entry, MAX_ENTRY_LEN, bytes, difference, number, push, push_bytes, push_difference};
use super::error::{Error, damaged};
use super::key::Key;
use crate::bytes::ByteReader;
use crate::tar::MAX_PATH_LEN;

/// Longest page in bytes.
pub const MAX_PAGE_LEN: usize = 1 << 20;
/// Highest level of a page.
pub(super) const MAX_LEVEL: u8 = 26;

/// When a page ends.
pub(super) struct Shape {
    /// It has at least this many bytes and two entries …
    min: usize,
    /// … then ends after a key whose hash begins with this many zero bits …
    zeros: u32,
    /// … or once it has this many bytes.
    max: usize,
}

pub(super) const LEAF: Shape = Shape {
    min: 16 << 10,
    zeros: 8,
    max: 128 << 10,
};
pub(super) const INNER: Shape = Shape {
    min: 4 << 10,
    zeros: 5,
    max: 64 << 10,
};

const _: () = assert!(LEAF.max + MAX_ENTRY_LEN + 32 <= MAX_PAGE_LEN);
const _: () = assert!(INNER.max + 2 * (MAX_PATH_LEN + 64) <= MAX_PAGE_LEN);

impl Shape {
    pub(super) fn ends(&self, len: usize, count: u64, key: &Key) -> bool {
        count >= 2 && (len >= self.max || (len >= self.min && hash(key.as_bytes()).leading_zeros() >= self.zeros))
    }
}

/// FNV-1a, finished as in MurmurHash3, so that its first bits depend on all bytes.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, step);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// A page as its parent, or the tail, describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Child {
    /// The first key in it.
    pub key: Key,
    /// The header offset of that entry.
    pub base: u64,
    /// Its position in the stream.
    pub position: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Members below it.
    pub members: u64,
}

/// A decoded page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Page {
    Leaf(Vec<Entry>),
    Inner(Vec<Child>),
}

/// Writes an inner page of pages that follow each other.
pub(super) fn encode_inner(level: u8, children: &[Child]) -> Vec<u8> {
    let mut page = vec![level];
    push(&mut page, children.first().map_or(0, |child| child.position));
    push(&mut page, children.len() as u64);
    let mut before = children.first().map_or(0, |child| child.base);
    for child in children {
        push_bytes(&mut page, child.key.as_bytes());
        push_difference(&mut page, child.base, before);
        push(&mut page, u64::from(child.len));
        push(&mut page, child.members);
        before = child.base;
    }
    page
}

impl Page {
    /// Decodes a page of `level`, which its parent describes as `expected`. What is below it ends
    /// before it begins. The first key of a root is not stated anywhere.
    pub(super) fn decode(page: &[u8], level: u8, expected: &Child, is_root: bool) -> Result<Self, Error> {
        let mut reader = ByteReader::new(page);
        if reader.u8()? != level {
            return damaged("the level of a page of a member index is wrong");
        }
        let decoded = match level {
            0 => Self::Leaf(leaf(&mut reader, expected, is_root)?),
            _ => Self::Inner(inner(&mut reader, expected, is_root)?),
        };
        match reader.rest().is_empty() {
            true => Ok(decoded),
            false => damaged("a page of a member index is too long"),
        }
    }
}

fn leaf(reader: &mut ByteReader<'_>, expected: &Child, is_root: bool) -> Result<Vec<Entry>, Error> {
    let count = number(reader)?;
    if count != expected.members || count == 0 {
        return damaged("the number of members of a page differs from that in its parent");
    }
    let (mut entries, mut before) = (Vec::<Entry>::new(), expected.base);
    for _ in 0..count {
        let entry = Entry::decode(reader, before)?;
        before = entry.member.header_offset;
        let is_in_order = match entries.last() {
            None => (is_root || entry.key == expected.key) && before == expected.base,
            Some(last) => (&last.key, last.member.header_offset) < (&entry.key, before),
        };
        if !is_in_order {
            return damaged("the members of an index are not in order");
        }
        entries.push(entry);
    }
    Ok(entries)
}

fn inner(reader: &mut ByteReader<'_>, expected: &Child, is_root: bool) -> Result<Vec<Child>, Error> {
    let (mut position, count) = (number(reader)?, number(reader)?);
    let (mut children, mut before, mut members) = (Vec::<Child>::new(), expected.base, 0u64);
    for _ in 0..count {
        let Some(key) = Key::from_bytes(bytes(reader, MAX_PATH_LEN)?) else {
            return damaged("a path in a member index is none");
        };
        let base = difference(reader, before)?;
        let (len, below) = (number(reader)?, number(reader)?);
        let is_in_order = match children.last() {
            None => (is_root || key == expected.key) && base == expected.base,
            Some(last) => (&last.key, last.base) < (&key, base),
        };
        // a page is before its parent, so following pages ends
        let end = position.checked_add(len).filter(|end| *end <= expected.position);
        let (Some(end), true) = (end, is_in_order && len <= MAX_PAGE_LEN as u64 && below > 0) else {
            return damaged("an inner page of a member index is wrong");
        };
        children.push(Child {
            key,
            base,
            position,
            len: len as u32,
            members: below,
        });
        let Some(sum) = members.checked_add(below) else {
            return damaged("the sums of an inner page of a member index overflow");
        };
        members = sum;
        (position, before) = (end, base);
    }
    match members == expected.members && !children.is_empty() {
        true => Ok(children),
        false => damaged("the number of members of a page differs from that in its parent"),
    }
}
