//! The tar of a part of a tar: ranges of its bytes, as they are.
//!
//! The headers and data of each member below a path are passed through, in their order, so every
//! attribute stays as it was written, also those that this room does not know. Global headers are
//! passed too, as they apply to what follows.
//!
//! One thing cannot be passed: a hard link to a member outside of the part. The first such link
//! becomes the file itself, with a header made here and the data of that member; further links to
//! the same member become links to the first. A link whose member is missing is reported.

use super::BLOCK_LEN;
use super::member::{Content, Kind, Member};
use super::path::parts;
use super::write::header;
use std::collections::HashMap;

/// A piece of the new archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Bytes of the archive that is read.
    Range {
        /// Where they begin.
        offset: u64,
        /// Their number.
        len: u64,
    },
    /// Other bytes.
    Bytes(Vec<u8>),
}

/// What became of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is not below the path.
    Outside,
    /// Its headers and data are passed through.
    Passed,
    /// It was a hard link to a member outside, and is now that member.
    Copied,
    /// It was a hard link to a member outside, and is now one to an earlier copy of that member.
    Relinked,
    /// It was a hard link to a member outside that is missing or cannot be copied. It is left out.
    Lost,
}

/// Collects the ranges of the members below a path.
///
/// Memory: the paths of links that were copied, and the parts, in which adjacent ranges are joined.
#[derive(Debug)]
pub struct Subtree {
    path: Vec<Vec<u8>>,
    /// Length of the archive that is read; padding may be missing at its end.
    len: u64,
    globals: Vec<(u64, u64)>,
    /// Global headers that were passed.
    passed_globals: usize,
    /// Of members outside, by the offset of their header: the path of their copy.
    copies: HashMap<u64, Vec<u8>>,
    /// The same by the names of the path.
    copied: HashMap<Vec<u8>, u64>,
    parts: Vec<Part>,
}

impl Subtree {
    /// Begins the archive of what is below `path`, or at it; an empty path is everything. `len` is
    /// the length of the archive that is read, and `globals` are its global headers in order, from
    /// one offset to another.
    pub fn new(path: &[u8], len: u64, globals: Vec<(u64, u64)>) -> Self {
        Self {
            path: parts(path).map(<[u8]>::to_vec).collect(),
            len,
            globals,
            passed_globals: 0,
            copies: HashMap::new(),
            copied: HashMap::new(),
            parts: Vec::new(),
        }
    }

    /// Whether a path is the one of this part, or below it.
    pub fn contains(&self, path: &[u8]) -> bool {
        let mut names = parts(path);
        self.path.iter().all(|name| names.next() == Some(name))
    }

    /// Adds the next member in the order of the archive. `find` returns the last member with a path
    /// whose header is before an offset; it is only called for hard links that lead out of the
    /// part. Members whose data are not there completely must be left out by the caller.
    pub fn add(&mut self, member: &Member, find: &mut dyn FnMut(&[u8], u64) -> Option<Member>) -> Added {
        if !self.contains(&member.path) {
            return Added::Outside;
        }
        let names = joined(&member.path);
        let added = match member.kind {
            Kind::HardLink if !self.contains(&member.link) => {
                let Some(target) = resolve(member, find) else {
                    return Added::Lost;
                };
                self.copy(member, target)
            }
            _ => {
                self.pass_globals(member);
                self.range(member.header_offset, member.end());
                Added::Passed
            }
        };
        // what has this name now is another file
        if added != Added::Copied
            && added != Added::Lost
            && let Some(offset) = self.copied.remove(&names)
        {
            self.copies.remove(&offset);
        }
        added
    }

    /// Ends the archive with its two blocks of zeros, and returns its parts.
    pub fn finish(mut self) -> Vec<Part> {
        self.bytes(vec![0; 2 * BLOCK_LEN]);
        self.parts
    }

    /// A hard link to a member outside.
    fn copy(&mut self, link: &Member, target: Member) -> Added {
        let has_globals = !self.globals.is_empty();
        if let Some(first) = self.copies.get(&target.header_offset) {
            let made = Member {
                link: first.clone(),
                ..link.clone()
            };
            let made = header(&made, has_globals);
            self.pass_globals(link);
            self.bytes(made);
            return Added::Relinked;
        }
        if target.content == Content::SparseWithoutMap || matches!(target.kind, Kind::Other(_) | Kind::Directory) {
            return Added::Lost;
        }
        let made = Member {
            path: link.path.clone(),
            ..target
        };
        self.pass_globals(link);
        self.bytes(header(&made, has_globals));
        self.range(made.data_offset, made.end());
        if let Some(before) = self.copied.insert(joined(&link.path), made.header_offset) {
            self.copies.remove(&before);
        }
        self.copies.insert(made.header_offset, made.path);
        Added::Copied
    }

    /// Passes the global headers before a member. Those between the headers of a member are part of
    /// it when it is passed itself.
    fn pass_globals(&mut self, member: &Member) {
        while let Some((offset, end)) = self.globals.get(self.passed_globals).copied() {
            if offset >= member.data_offset {
                break;
            }
            self.passed_globals += 1;
            if end <= member.header_offset || member.kind == Kind::HardLink {
                self.range(offset, end);
            }
        }
    }

    /// Adds a range of whole blocks; what the archive does not have of it is padding.
    fn range(&mut self, offset: u64, end: u64) {
        let there = end.min(self.len).max(offset);
        if there > offset {
            let len = there - offset;
            match self.parts.last_mut() {
                Some(Part::Range {
                    offset: from,
                    len: before,
                }) if *from + *before == offset => *before += len,
                _ => self.parts.push(Part::Range { offset, len }),
            }
        }
        // less than a block, as the data are there
        let missing = usize::try_from(end - there).unwrap_or(0).min(BLOCK_LEN - 1);
        if missing > 0 {
            self.bytes(vec![0; missing]);
        }
    }

    fn bytes(&mut self, bytes: Vec<u8>) {
        match self.parts.last_mut() {
            Some(Part::Bytes(before)) => before.extend_from_slice(&bytes),
            _ => self.parts.push(Part::Bytes(bytes)),
        }
    }
}

/// The member that a hard link names, through links of links. Each is before the other, so this
/// ends.
fn resolve(link: &Member, find: &mut dyn FnMut(&[u8], u64) -> Option<Member>) -> Option<Member> {
    let mut found = find(&link.link, link.header_offset)?;
    let mut before = link.header_offset;
    while found.kind == Kind::HardLink && found.header_offset < before {
        before = found.header_offset;
        found = find(&found.link, before)?;
    }
    (found.kind != Kind::HardLink).then_some(found)
}

/// A path without what means nothing in it.
fn joined(path: &[u8]) -> Vec<u8> {
    parts(path).collect::<Vec<_>>().join(&b'/')
}
