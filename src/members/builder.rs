//! Writes the stream: leaves while the sorted entries arrive, then the inner pages level by level,
//! then the tail.

use super::entry::Entry;
use super::error::Error;
use super::key::Key;
use super::page::{Child, INNER, LEAF, encode_inner};
use super::tail::Tail;

/// Most global headers of a tar that gets an index. Programs write one, or none.
pub const MAX_GLOBALS: usize = 256;
/// Most bytes of the pages above the leaves, which are kept until the end: 256 MiB of usual leaves
/// have 1 MiB of them.
const MAX_INNER_BYTES: usize = 64 << 20;

/// Gets each page.
pub(super) type Sink<'s, E> = dyn FnMut(&[u8]) -> Result<(), E> + 's;

/// The pages of a stream.
pub(super) struct Pages<'s, 'f, E> {
    sink: &'s mut Sink<'f, E>,
    position: u64,
    leaves: Vec<Child>,
    inner_bytes: usize,
    /// The open leaf: its entries, their number, the first one and the last header offset.
    body: Vec<u8>,
    count: u64,
    first: Option<(Key, u64)>,
    before: u64,
    members: u64,
}

impl<'s, 'f, E: From<Error>> Pages<'s, 'f, E> {
    pub(super) fn new(sink: &'s mut Sink<'f, E>) -> Self {
        Self {
            sink,
            position: 0,
            leaves: Vec::new(),
            inner_bytes: 0,
            body: Vec::new(),
            count: 0,
            first: None,
            before: 0,
            members: 0,
        }
    }

    /// Number of entries.
    pub(super) fn members(&self) -> u64 {
        self.members
    }

    /// Adds the next entry; `false` when the pages above the leaves become too long.
    pub(super) fn push(&mut self, entry: &Entry) -> Result<bool, E> {
        let offset = entry.member.header_offset;
        if self.first.is_none() {
            self.first = Some((entry.key.clone(), offset));
            self.before = offset;
        }
        entry.encode(self.before, &mut self.body);
        self.before = offset;
        self.count += 1;
        self.members += 1;
        if LEAF.ends(self.body.len(), self.count, &entry.key) {
            self.close_leaf()?;
        }
        Ok(self.inner_bytes <= MAX_INNER_BYTES)
    }

    fn close_leaf(&mut self) -> Result<(), E> {
        let Some((key, base)) = self.first.take() else {
            return Ok(());
        };
        let mut page = vec![0];
        super::entry::push(&mut page, self.count);
        page.append(&mut self.body);
        let members = std::mem::take(&mut self.count);
        self.inner_bytes += key.as_bytes().len() + size_of::<Child>();
        let child = self.write(&page, key, base, members)?;
        self.leaves.push(child);
        Ok(())
    }

    fn write(&mut self, page: &[u8], key: Key, base: u64, members: u64) -> Result<Child, E> {
        (self.sink)(page)?;
        let position = self.position;
        self.position += page.len() as u64;
        Ok(Child {
            key,
            base,
            position,
            // at most MAX_PAGE_LEN
            len: page.len() as u32,
            members,
        })
    }

    /// Ends the stream, which has at least one entry. `tail` has what is known of the tar.
    pub(super) fn finish(mut self, tail: impl FnOnce(Child, u8) -> Tail) -> Result<(), E> {
        self.close_leaf()?;
        let (mut pages, mut level) = (std::mem::take(&mut self.leaves), 0);
        while pages.len() > 1 {
            level += 1;
            let mut above = Vec::new();
            let (mut from, mut len) = (0, 0);
            for at in 0..pages.len() {
                len += pages[at].key.as_bytes().len() + 12;
                let count = (at + 1 - from) as u64;
                if at + 1 == pages.len() || INNER.ends(len, count, &pages[at].key) {
                    let children = &pages[from..=at];
                    let page = encode_inner(level, children);
                    let members = children.iter().map(|child| child.members).sum();
                    let (key, base) = (children[0].key.clone(), children[0].base);
                    above.push(self.write(&page, key, base, members)?);
                    (from, len) = (at + 1, 0);
                }
            }
            pages = above;
        }
        let Some(root) = pages.pop() else {
            return Err(Error::Damaged {
                reason: "a member index has no members",
            }
            .into());
        };
        (self.sink)(&tail(root, level).encode())
    }
}
