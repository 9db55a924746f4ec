//! Reads an index: its tail, then one page of each level.

use super::cursor::Cursor;
use super::entry::Entry;
use super::error::Error;
use super::fetch::{Fetch, load, read};
use super::key::Key;
use super::page::Page;
use super::tail::{FOOTER_LEN, Tail};

/// An index whose tail was read.
#[derive(Debug, Clone)]
pub struct Index {
    tail: Tail,
}

impl Index {
    /// Opens a stream of `size` bytes.
    pub fn open<E: From<Error>>(size: u64, fetch: &mut Fetch<'_, E>) -> Result<Self, E> {
        let footer_at = size.checked_sub(FOOTER_LEN as u64).ok_or(Error::Damaged {
            reason: "a member index is too short",
        })?;
        let footer = read(fetch, footer_at, FOOTER_LEN)?;
        let footer: &[u8; FOOTER_LEN] = footer.as_slice().try_into().map_err(|_| Error::Damaged {
            reason: "a member index is too short",
        })?;
        let len = Tail::len_of(footer)?;
        let tail_at = size.checked_sub(len as u64).ok_or(Error::Damaged {
            reason: "a member index is too short",
        })?;
        let tail = read(fetch, tail_at, len)?;
        Ok(Self {
            tail: Tail::decode(&tail, size)?,
        })
    }

    /// What is known of the tar as a whole.
    pub fn tail(&self) -> &Tail {
        &self.tail
    }

    /// The last member with this key whose header is before an offset.
    pub fn find<E: From<Error>>(&self, key: &Key, before: u64, fetch: &mut Fetch<'_, E>) -> Result<Option<Entry>, E> {
        let mut at = self.tail.root.clone();
        let mut level = self.tail.root_level;
        let mut is_root = true;
        loop {
            match load(&at, level, is_root, fetch)? {
                Page::Leaf(mut entries) => {
                    let end = entries.partition_point(|entry| (&entry.key, entry.member.header_offset) < (key, before));
                    entries.truncate(end);
                    return Ok(entries.pop().filter(|entry| entry.key == *key));
                }
                Page::Inner(mut children) => {
                    children.truncate(children.partition_point(|child| (&child.key, child.base) < (key, before)));
                    let Some(child) = children.pop() else { return Ok(None) };
                    at = child;
                }
            }
            is_root = false;
            level -= 1;
        }
    }

    /// A cursor before the first member.
    pub fn cursor(&self) -> Cursor {
        Cursor::new(self.tail.root.clone(), self.tail.root_level)
    }
}
