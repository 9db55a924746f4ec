//! Walks over the members in the order of their paths. At most one page of each level is in memory.

use super::entry::Entry;
use super::error::{Error, damaged};
use super::fetch::{Fetch, load};
use super::key::Key;
use super::page::{Child, Page};

/// A position between two members.
#[derive(Debug, Clone)]
pub struct Cursor {
    root: Child,
    root_level: u8,
    /// From the root down: a page, and the position in it; of an inner page that of the page that
    /// comes next.
    path: Vec<(Page, usize)>,
    is_started: bool,
    /// The last member of the last leaf that was read: pages of a damaged index may overlap.
    last: Option<(Key, u64)>,
}

impl Cursor {
    pub(super) fn new(root: Child, root_level: u8) -> Self {
        Self {
            root,
            root_level,
            path: Vec::new(),
            is_started: false,
            last: None,
        }
    }

    /// The next member, without going past it; `None` at the end. A cursor
    /// must not be used after an error.
    pub fn peek<E: From<Error>>(&mut self, fetch: &mut Fetch<'_, E>) -> Result<Option<&Entry>, E> {
        self.settle(fetch)?;
        Ok(match self.path.last() {
            Some((Page::Leaf(entries), at)) => entries.get(*at),
            _ => None,
        })
    }

    /// The next member.
    pub fn next<E: From<Error>>(&mut self, fetch: &mut Fetch<'_, E>) -> Result<Option<Entry>, E> {
        let entry = self.peek(fetch)?.cloned();
        if entry.is_some()
            && let Some((_, at)) = self.path.last_mut()
        {
            *at += 1;
        }
        Ok(entry)
    }

    /// Goes on to the first member whose key is not less than this one; never back.
    pub fn seek<E: From<Error>>(&mut self, key: &Key, fetch: &mut Fetch<'_, E>) -> Result<(), E> {
        self.start(fetch)?;
        // a page whose next sibling begins before the key is left, and all below it
        let is_left = |(page, at): &(Page, usize)| match page {
            Page::Inner(children) => children.get(*at).is_some_and(|child| child.key < *key),
            Page::Leaf(_) => false,
        };
        if let Some(depth) = self.path.iter().position(is_left) {
            self.path.truncate(depth + 1);
            while let Some((Page::Inner(children), at)) = self.path.last_mut() {
                // the last page that begins before the key may have it
                let before = children.partition_point(|child| child.key < *key).saturating_sub(1);
                *at = (*at).max(before);
                self.descend(fetch)?;
            }
        }
        if let Some((Page::Leaf(entries), at)) = self.path.last_mut() {
            *at = (*at).max(entries.partition_point(|entry| entry.key < *key));
        }
        Ok(())
    }

    fn start<E: From<Error>>(&mut self, fetch: &mut Fetch<'_, E>) -> Result<(), E> {
        if !self.is_started {
            let page = load(&self.root, self.root_level, true, fetch)?;
            self.path.push((page, 0));
            self.is_started = true;
        }
        Ok(())
    }

    /// Goes down until a leaf with another member is reached, or the end.
    fn settle<E: From<Error>>(&mut self, fetch: &mut Fetch<'_, E>) -> Result<(), E> {
        self.start(fetch)?;
        while let Some((page, at)) = self.path.last() {
            match page {
                Page::Leaf(entries) if *at < entries.len() => return Ok(()),
                Page::Inner(children) if *at < children.len() => self.descend(fetch)?,
                _ => drop(self.path.pop()),
            }
        }
        Ok(())
    }

    /// Enters the next page below the last one of the path.
    fn descend<E: From<Error>>(&mut self, fetch: &mut Fetch<'_, E>) -> Result<(), E> {
        let level = self.root_level.saturating_sub(self.path.len() as u8);
        if let Some((Page::Inner(children), at)) = self.path.last_mut()
            && let Some(child) = children.get(*at)
        {
            let page = load(child, level, false, fetch)?;
            *at += 1;
            if let Page::Leaf(entries) = &page {
                let place = |entry: &Entry| (entry.key.clone(), entry.member.header_offset);
                let first = entries.first().map(place);
                if self.last.is_some() && first <= self.last {
                    return Ok(damaged("the pages of a member index overlap")?);
                }
                self.last = entries.last().map(place);
            }
            self.path.push((page, 0));
        }
        Ok(())
    }
}
