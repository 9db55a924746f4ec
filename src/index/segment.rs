//! Reads one segment: open, look-up of an id, walk over all entries.
//!
//! Opening reads header, footer, top and superseded pages, so it costs the same for a thousand
//! entries as for a hundred million (the top section is 8 bytes for 43,350 entries). Look-ups read
//! single pages through the shared cache; walks read runs of pages without it. No page is used
//! before its tag is checked.

use std::sync::Arc;

use super::error::{Damage, Error};
use super::filter::Probe;
use super::format::{
    BadHeader, ENTRIES_PER_PAGE, ENTRY_LEN, FENCE_LEN, FENCES_PER_PAGE, Footer, Header, IDS_PER_PAGE, PACK_LEN,
    PACKS_PER_PAGE, PAGE_LEN, Page, Section, SegmentEntry, decode_pack, fence_at, fence_of,
};
use super::pages::PageCache;
use super::seal::{PageSeal, SegmentContext};
use crate::id::{ChunkId, PackId, RepoId, SegmentId};
use crate::layout;
use crate::pack::ChunkLocation;
use crate::storage::{self, ErrorKind, Storage};

/// Pages that a walk reads at once: 256 KiB.
const RUN_PAGES: u64 = 64;

/// Rows of the pack section from which the total length of the packs is estimated: those of one
/// run.
const SAMPLE_PACKS: u64 = RUN_PAGES * PACKS_PER_PAGE as u64;

/// Size of a live segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentStats {
    /// Which one.
    pub id: SegmentId,
    /// Number of entries.
    pub entries: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
}

/// An open segment. It keeps no file open: a look-up in a segment that was merged in the meantime
/// fails ([`Error::Storage`] with `NotFound`), and the handle lists again.
pub struct Segment {
    id: SegmentId,
    key: String,
    storage: Arc<dyn Storage>,
    cache: Arc<PageCache>,
    seal: PageSeal,
    pub(super) footer: Footer,
    pub(super) top: Vec<u64>,
    superseded: Vec<SegmentId>,
}

/// Checks a segment without the keys of its repository: that its length is possible, and its header
/// is that of this segment and of the repository `repo`.
pub fn check_header(storage: &dyn Storage, repo: &RepoId, id: SegmentId) -> Result<(), Error> {
    let (header, _) = read_header(storage, id)?;
    let reason = Damage::ForeignRepository;
    (header.repo == *repo)
        .then_some(())
        .ok_or(Error::Damaged { segment: id, reason })
}

/// The header of a segment, and the number of pages in its file.
fn read_header(storage: &dyn Storage, id: SegmentId) -> Result<(Header, u64), Error> {
    let damaged = |reason| Error::Damaged { segment: id, reason };
    let key = layout::segment(&id);
    let len = storage
        .size(&key)
        .map_err(|error| Error::from_read(id, (0, PAGE_LEN), error))?
        .ok_or_else(|| storage::Error::new(ErrorKind::NotFound, "size", key.as_str()))?;
    let file_pages = len / PAGE_LEN as u64;
    // there is always a header, a filter and a footer page
    if len % PAGE_LEN as u64 != 0 || file_pages < 3 {
        return Err(damaged(Damage::Length));
    }
    let mut page = [0; PAGE_LEN];
    storage
        .get_range(&key, 0, &mut page)
        .map_err(|error| Error::from_read(id, (0, PAGE_LEN), error))?;
    let header = Header::decode(&page).map_err(|bad| match bad {
        BadHeader::Damaged => damaged(Damage::Header),
        BadHeader::Version(version) => Error::Unsupported { segment: id, version },
    })?;
    // a copied or renamed file
    if header.segment != id {
        return Err(damaged(Damage::Header));
    }
    Ok((header, file_pages))
}

impl Segment {
    /// Opens `index/<id>.seg` and checks everything except the pages that look-ups read later.
    pub fn open(
        storage: &Arc<dyn Storage>,
        context: &SegmentContext,
        cache: &Arc<PageCache>,
        id: SegmentId,
    ) -> Result<Self, Error> {
        let damaged = |reason| Error::Damaged { segment: id, reason };
        let (header, file_pages) = read_header(&**storage, id)?;
        let key = layout::segment(&id);
        let seal = PageSeal::for_header(context, &header).map_err(damaged)?;
        let last = file_pages - 1;
        let mut page = [0; PAGE_LEN];
        storage
            .get_range(&key, last * PAGE_LEN as u64, &mut page)
            .map_err(|error| Error::from_read(id, (last * PAGE_LEN as u64, PAGE_LEN), error))?;
        seal.open(Section::Footer, last, &mut page)
            .ok_or_else(|| damaged(Damage::Page { number: last }))?;
        let footer = Footer::decode(&page, file_pages).map_err(damaged)?;

        let (storage, cache) = (Arc::clone(storage), Arc::clone(cache));
        let mut segment = Self {
            id,
            key,
            storage,
            cache,
            seal,
            footer,
            top: Vec::new(),
            superseded: Vec::new(),
        };
        segment.load_top()?;
        segment.load_superseded()?;
        Ok(segment)
    }

    /// Reads bytes that could not be read before, only to find out whether that succeeds now.
    pub(super) fn try_range(&self, offset: u64, len: usize) -> Result<(), Error> {
        let read = self.storage.get_range(&self.key, offset, &mut vec![0; len]);
        read.map_err(|error| Error::from_read(self.id, (offset, len), error))
    }

    /// Its id.
    pub fn id(&self) -> SegmentId {
        self.id
    }

    /// Number of entries.
    pub fn entries(&self) -> u64 {
        self.footer.layout.entries
    }

    /// Length of the file in bytes.
    pub fn file_len(&self) -> u64 {
        self.footer.layout.file_len()
    }

    /// Its size.
    pub fn stats(&self) -> SegmentStats {
        SegmentStats {
            id: self.id,
            entries: self.entries(),
            bytes: self.file_len(),
        }
    }

    /// The segments that this one supersedes.
    pub fn superseded(&self) -> &[SegmentId] {
        &self.superseded
    }

    /// Appends every location of `id` in this segment to `out`.
    pub fn locate(&self, id: &ChunkId, out: &mut Vec<ChunkLocation>) -> Result<(), Error> {
        self.find(id, &mut |found| {
            let (pack, _) = self.pack_at(u64::from(found.pack))?;
            out.push(ChunkLocation {
                pack,
                entry: found.entry,
            });
            Ok(())
        })
    }

    /// Calls `each` with every entry of `id`: filter page, top (in memory), one fence page, the
    /// data page.
    fn find(&self, id: &ChunkId, each: &mut dyn FnMut(SegmentEntry) -> Result<(), Error>) -> Result<(), Error> {
        if self.entries() == 0 || *id < self.footer.first || *id > self.footer.last || !self.filter_admits(id)? {
            return Ok(());
        }
        let pages = self.footer.layout.pages(Section::Data);
        let prefix = fence_of(id);
        let mut page = self.first_candidate(prefix)?;
        // entries of one prefix may span pages: continue while the next page begins with it
        while self.collect(page, id, each)? {
            page += 1;
            if page >= pages || self.fence(page)? > prefix {
                break;
            }
        }
        Ok(())
    }

    /// True when the pack section names `pack`.
    pub fn contains_pack(&self, pack: &PackId) -> Result<bool, Error> {
        let (mut low, mut high) = (0, self.footer.layout.packs);
        while low < high {
            let middle = low + (high - low) / 2;
            let (found, _) = self.pack_at(middle)?;
            match found.cmp(pack) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Ok(true),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        Ok(false)
    }

    /// Calls `each` with every row of the pack section in order: pack id and length of the pack in
    /// bytes.
    pub fn for_each_pack(&self, each: &mut dyn FnMut(PackId, u64)) -> Result<(), Error> {
        self.for_first_packs(u64::MAX, each)
    }

    /// The total length of the packs in bytes. Where they are many, it is computed from the first
    /// rows: their ids are hashes, so these are a random sample.
    pub fn estimate_pack_bytes(&self) -> Result<u64, Error> {
        let (mut bytes, mut rows) = (0u128, 0u128);
        self.for_first_packs(SAMPLE_PACKS, &mut |_, len| {
            bytes += u128::from(len);
            rows += 1;
        })?;
        let total = bytes * u128::from(self.footer.layout.packs) / rows.max(1);
        Ok(u64::try_from(total).unwrap_or(u64::MAX))
    }

    fn for_first_packs(&self, most: u64, each: &mut dyn FnMut(PackId, u64)) -> Result<(), Error> {
        let mut left = self.footer.layout.packs.min(most);
        let mut previous = None;
        let mut run = PageRun::new(self, Section::Pack);
        while left > 0
            && let Some(page) = run.next_page()?
        {
            for row in rows::<PACK_LEN>(page, PACKS_PER_PAGE, &mut left) {
                let (pack, len) = decode_pack(row).map_err(|_| self.damaged(Damage::Contents))?;
                if previous >= Some(pack) {
                    return Err(self.damaged(Damage::Contents));
                }
                previous = Some(pack);
                each(pack, len);
            }
        }
        Ok(())
    }

    /// Returns all entries in order.
    pub fn scan(&self) -> SegmentScan<'_> {
        SegmentScan {
            run: PageRun::new(self, Section::Data),
            left: self.entries(),
            row: 0,
            previous: None,
            done: false,
        }
    }

    pub(super) fn damaged(&self, reason: Damage) -> Error {
        Error::Damaged {
            segment: self.id,
            reason,
        }
    }

    fn load_top(&mut self) -> Result<(), Error> {
        let mut top = Vec::new();
        let mut left = self.footer.layout.pages(Section::Fence);
        let mut run = PageRun::new(self, Section::Top);
        while let Some(page) = run.next_page()? {
            top.extend(rows::<FENCE_LEN>(page, FENCES_PER_PAGE, &mut left).map(|row| u64::from_le_bytes(*row)));
        }
        let first_fits = top.first().is_none_or(|first| *first == fence_of(&self.footer.first));
        if !top.is_sorted() || !first_fits {
            return Err(self.damaged(Damage::Contents));
        }
        self.top = top;
        Ok(())
    }

    fn load_superseded(&mut self) -> Result<(), Error> {
        let mut ids = Vec::new();
        let mut left = self.footer.layout.superseded;
        let mut run = PageRun::new(self, Section::Superseded);
        while let Some(page) = run.next_page()? {
            ids.extend(rows::<{ SegmentId::LEN }>(page, IDS_PER_PAGE, &mut left).map(|row| SegmentId(*row)));
        }
        self.superseded = ids;
        Ok(())
    }

    /// Returns page `index` of a section, through the cache.
    fn page(&self, section: Section, index: u64) -> Result<Arc<Page>, Error> {
        let number = self.footer.layout.start(section) + index;
        self.cache.get_or_read(self.id, section, number, || {
            let mut page = Arc::new([0; PAGE_LEN]);
            let bytes = Arc::make_mut(&mut page);
            let offset = number * PAGE_LEN as u64;
            self.storage
                .get_range(&self.key, offset, bytes)
                .map_err(|error| Error::from_read(self.id, (offset, PAGE_LEN), error))?;
            self.seal
                .open(section, number, bytes)
                .ok_or_else(|| self.damaged(Damage::Page { number }))?;
            Ok(page)
        })
    }

    fn filter_admits(&self, id: &ChunkId) -> Result<bool, Error> {
        let probe = Probe::new(id, self.footer.layout.pages(Section::Filter));
        Ok(probe.may_contain(&*self.page(Section::Filter, probe.page)?))
    }

    /// The first id prefix of a data page. The first value of each fence page is in memory.
    fn fence(&self, data_page: u64) -> Result<u64, Error> {
        let (page, row) = page_and_row(data_page, FENCES_PER_PAGE);
        if row == 0 {
            return usize::try_from(page)
                .ok()
                .and_then(|page| self.top.get(page).copied())
                .ok_or_else(|| self.damaged(Damage::Contents));
        }
        Ok(fence_at(&*self.page(Section::Fence, page)?, row))
    }

    /// The first data page that may hold an id with this prefix: the last one that begins below it,
    /// or page 0.
    fn first_candidate(&self, prefix: u64) -> Result<u64, Error> {
        let pages = self.footer.layout.pages(Section::Data);
        if pages == 1 {
            return Ok(0);
        }
        let fence_page = self.top.partition_point(|first| *first < prefix).saturating_sub(1) as u64;
        let page = self.page(Section::Fence, fence_page)?;
        let base = fence_page * FENCES_PER_PAGE as u64;
        let (mut low, mut high) = (0, (pages - base).min(FENCES_PER_PAGE as u64));
        while low < high {
            let middle = low + (high - low) / 2;
            if fence_at(&page, middle as usize) < prefix {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok((base + low).saturating_sub(1))
    }

    /// Calls `each` with the entries of `id` on one data page. True when the next page may hold
    /// more of them.
    fn collect(
        &self,
        data_page: u64,
        id: &ChunkId,
        each: &mut dyn FnMut(SegmentEntry) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        let page = self.page(Section::Data, data_page)?;
        let mut left = self.entries().saturating_sub(data_page * ENTRIES_PER_PAGE as u64);
        let entries: Vec<&[u8; ENTRY_LEN]> = rows::<ENTRY_LEN>(&page, ENTRIES_PER_PAGE, &mut left).collect();
        let start = entries.partition_point(|entry| entry[..ChunkId::LEN] < id.0[..]);
        for entry in &entries[start..] {
            if entry[..ChunkId::LEN] != id.0[..] {
                return Ok(false);
            }
            let found = SegmentEntry::decode(entry, self.footer.layout.packs);
            each(found.ok_or_else(|| self.damaged(Damage::Contents))?)?;
        }
        Ok(true)
    }

    fn pack_at(&self, ordinal: u64) -> Result<(PackId, u64), Error> {
        let (page, row) = page_and_row(ordinal, PACKS_PER_PAGE);
        let page = self.page(Section::Pack, page)?;
        decode_pack(&page.as_chunks::<PACK_LEN>().0[row]).map_err(|_| self.damaged(Damage::Contents))
    }
}

/// The page of row `index` of a section, and the row on that page.
fn page_and_row(index: u64, per_page: usize) -> (u64, usize) {
    (index / per_page as u64, (index % per_page as u64) as usize)
}

/// The used rows of a page. `left` is the number of rows of the section that are left.
fn rows<'p, const N: usize>(page: &'p Page, per_page: usize, left: &mut u64) -> impl Iterator<Item = &'p [u8; N]> {
    let count = (*left).min(per_page as u64);
    *left -= count;
    page.as_chunks::<N>().0.iter().take(count as usize)
}

/// Reads a section from front to back, many pages at once, without the cache.
pub(super) struct PageRun<'s> {
    segment: &'s Segment,
    section: Section,
    next: u64,
    pages: Vec<Page>,
    at: usize,
}

impl<'s> PageRun<'s> {
    pub(super) fn new(segment: &'s Segment, section: Section) -> Self {
        Self {
            segment,
            section,
            next: 0,
            pages: Vec::new(),
            at: 0,
        }
    }

    pub(super) fn next_page(&mut self) -> Result<Option<&Page>, Error> {
        if self.at == self.pages.len() && !self.read_more()? {
            return Ok(None);
        }
        let page = self.pages.get(self.at);
        self.at += 1;
        Ok(page)
    }

    fn read_more(&mut self) -> Result<bool, Error> {
        let Segment {
            footer,
            storage,
            key,
            id,
            seal,
            ..
        } = self.segment;
        let count = (footer.layout.pages(self.section) - self.next).min(RUN_PAGES);
        if count == 0 {
            return Ok(false);
        }
        let first = footer.layout.start(self.section) + self.next;
        self.at = 0;
        self.pages.resize(count as usize, [0; PAGE_LEN]);
        let (offset, bytes) = (first * PAGE_LEN as u64, self.pages.as_flattened_mut());
        let len = bytes.len();
        storage
            .get_range(key, offset, bytes)
            .map_err(|error| Error::from_read(*id, (offset, len), error))?;
        for (number, page) in (first..).zip(&mut self.pages) {
            seal.open(self.section, number, page)
                .ok_or_else(|| self.segment.damaged(Damage::Page { number }))?;
        }
        self.next += count;
        Ok(true)
    }
}

/// All entries of a segment in order. An error ends the iteration.
pub struct SegmentScan<'s> {
    run: PageRun<'s>,
    left: u64,
    row: usize,
    previous: Option<(ChunkId, u32)>,
    done: bool,
}

impl SegmentScan<'_> {
    fn step(&mut self) -> Result<Option<SegmentEntry>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        let segment = self.run.segment;
        let row = self.row;
        let page = if row == 0 {
            self.run.next_page()?
        } else {
            self.run.pages.get(self.run.at.wrapping_sub(1))
        };
        let entry = page.and_then(|page| {
            let bytes = page.as_chunks::<ENTRY_LEN>().0.get(row)?;
            SegmentEntry::decode(bytes, segment.footer.layout.packs)
        });
        let entry = entry.ok_or_else(|| segment.damaged(Damage::Contents))?;
        // a merge relies on the order: a wrong order would hide entries from look-ups
        if self.previous >= Some(entry.sort_key()) {
            return Err(segment.damaged(Damage::Contents));
        }
        self.previous = Some(entry.sort_key());
        self.row = (row + 1) % ENTRIES_PER_PAGE;
        self.left -= 1;
        Ok(Some(entry))
    }
}

impl Iterator for SegmentScan<'_> {
    type Item = Result<SegmentEntry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let step = self.step();
        self.done = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}
