//! Checks a whole segment: every page is read, its tag is checked, and the sections are compared
//! with each other.
//!
//! A page with a right tag is as it was written. The checks beyond the tags are that look-ups find
//! every entry: the fences and the top hold the first prefix of each data page, the filter admits
//! each id, the footer names the first and the last id. Whether the entries are right about the
//! packs is left to the caller.

use super::error::{Damage, Error};
use super::filter::Probe;
use super::format::{ENTRIES_PER_PAGE, FENCES_PER_PAGE, PAGE_LEN, Page, Section, fence_at, fence_of};
use super::segment::{PageRun, Segment};
use crate::id::ChunkId;

/// Entries between two calls of `go_on`: 64 pages.
const ENTRIES_PER_STEP: u64 = 64 * ENTRIES_PER_PAGE as u64;

impl Segment {
    /// Checks all of it; see [`GlobalIndex::check_segment`](super::GlobalIndex::check_segment).
    pub(super) fn check(&self, go_on: &mut dyn FnMut() -> bool) -> Result<bool, Error> {
        self.for_each_pack(&mut |_, _| {})?;
        let (mut fences, mut filter) = (Fences::new(self), Filter::new(self));
        let (mut first, mut last) = (ChunkId([0; 32]), ChunkId([0; 32]));
        for (number, entry) in (0u64..).zip(self.scan()) {
            let id = entry?.entry.id;
            if number % ENTRIES_PER_STEP == 0 && !go_on() {
                return Ok(false);
            }
            if number == 0 {
                first = id;
            }
            last = id;
            if number % ENTRIES_PER_PAGE as u64 == 0 && fences.next()? != Some(fence_of(&id)) {
                return Err(self.damaged(Damage::Contents));
            }
            if !filter.admits(&id)? {
                return Err(self.damaged(Damage::Contents));
            }
        }
        // pages that a look-up would read and no entry leads to
        while filter.run.next_page()?.is_some() {}
        if fences.next()?.is_some() || (first, last) != (self.footer.first, self.footer.last) {
            return Err(self.damaged(Damage::Contents));
        }
        Ok(true)
    }
}

/// The fence section, one value after the other.
struct Fences<'s> {
    segment: &'s Segment,
    run: PageRun<'s>,
    page: Page,
    at: u64,
    left: u64,
}

impl<'s> Fences<'s> {
    fn new(segment: &'s Segment) -> Self {
        Self {
            segment,
            run: PageRun::new(segment, Section::Fence),
            page: [0; PAGE_LEN],
            at: 0,
            left: segment.footer.layout.pages(Section::Data),
        }
    }

    /// The first id prefix of the next data page, from its fence.
    fn next(&mut self) -> Result<Option<u64>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let row = (self.at % FENCES_PER_PAGE as u64) as usize;
        if row == 0 {
            let Some(page) = self.run.next_page()? else {
                return Err(self.segment.damaged(Damage::Contents));
            };
            self.page = *page;
            let number = (self.at / FENCES_PER_PAGE as u64) as usize;
            if self.segment.top.get(number) != Some(&fence_at(&self.page, 0)) {
                return Err(self.segment.damaged(Damage::Contents));
            }
        }
        self.at += 1;
        Ok(Some(fence_at(&self.page, row)))
    }
}

/// The filter section; its pages follow the order of ids.
struct Filter<'s> {
    run: PageRun<'s>,
    pages: u64,
    /// Number of pages read so far; `page` is the last of them.
    read: u64,
    page: Page,
}

impl<'s> Filter<'s> {
    fn new(segment: &'s Segment) -> Self {
        Self {
            run: PageRun::new(segment, Section::Filter),
            pages: segment.footer.layout.pages(Section::Filter),
            read: 0,
            page: [0; PAGE_LEN],
        }
    }

    fn admits(&mut self, id: &ChunkId) -> Result<bool, Error> {
        let probe = Probe::new(id, self.pages);
        while self.read <= probe.page {
            let Some(page) = self.run.next_page()? else {
                return Ok(false);
            };
            self.page = *page;
            self.read += 1;
        }
        Ok(probe.may_contain(&self.page))
    }
}
