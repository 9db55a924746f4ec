//! Writes one segment from a source to `index/<id>.seg`, one page at a time.
//!
//! The storage gets the file as a stream, so that a segment of gigabytes needs no more memory than
//! its pack table and 8 bytes for each data page. There are three walks over the source: the first
//! counts (all sections follow from the counts) and hashes what will be sealed, the second makes
//! the data pages, the third the filter. If the second gives other entries than the first has
//! hashed, nothing is published: the salt of the key depends on that hash, so that even a random
//! generator that repeats itself (on a cloned machine) cannot seal two different pages with one key
//! and nonce.

use std::io::{self, Read};

use super::error::Error;
use super::filter::Probe;
use super::format::{
    CONTENT_LEN, ENTRIES_PER_PAGE, ENTRY_LEN, FENCE_LEN, FENCES_PER_PAGE, Footer, Header, IDS_PER_PAGE, Layout,
    PACK_LEN, PACKS_PER_PAGE, PAGE_LEN, Page, Section, encode_pack, fence_of,
};
use super::seal::{PageSeal, SegmentContext, SegmentSeal};
use super::source::{EntryScan, EntrySource};
use crate::crypto;
use crate::entropy::{self, Entropy};
use crate::id::{ChunkId, PackId, SegmentId};
use crate::layout;
use crate::storage::{Created, Storage};

/// Ids that a writer tries before it fails: two taken 128-bit ids in a row mean a broken random
/// generator.
const ID_ROUNDS: usize = 3;

/// Writes and publishes a segment with the entries of `source` that supersedes `superseded`. It is
/// durable after the next barrier of the storage.
pub fn write_segment(
    storage: &dyn Storage,
    context: &SegmentContext,
    entropy: &dyn Entropy,
    superseded: &[SegmentId],
    source: &dyn EntrySource,
) -> Result<SegmentId, Error> {
    let plan = Plan::make(source, superseded)?;
    for _ in 0..ID_ROUNDS {
        let header = plan.header(context, entropy)?;
        let seal = PageSeal::for_header(context, &header).map_err(|_| Error::Writer("no key for the newest epoch"))?;
        let mut stream = SegmentStream::new(&plan, source, superseded, header, seal);
        let put = storage.put_new(&layout::segment(&header.segment), plan.layout.file_len(), &mut stream);
        if let Some(failure) = stream.failure.take() {
            return Err(failure);
        }
        match put? {
            Created::Created => return Ok(header.segment),
            Created::Exists => {}
        }
    }
    Err(Error::Writer("every random id was taken"))
}

/// Result of the first walk.
struct Plan {
    layout: Layout,
    first: ChunkId,
    last: ChunkId,
    /// Hash chain over the data pages.
    data_hash: [u8; 32],
    /// Hash of all that is sealed: data pages, pack table, superseded ids.
    content_hash: [u8; 32],
}

impl Plan {
    fn make(source: &dyn EntrySource, superseded: &[SegmentId]) -> Result<Self, Error> {
        let packs = source.packs();
        if !packs.is_sorted_by(|left, right| left.0 < right.0) {
            return Err(Error::Writer("the packs are out of order"));
        }
        let mut page = [0; PAGE_LEN];
        let mut pager = DataPager::new(source);
        while pager.next_page(&mut page)?.is_some() {}
        let DataPager {
            entries,
            hash: data_hash,
            first,
            previous,
            ..
        } = pager;
        let layout = Layout::for_counts(entries, packs.len() as u64, superseded.len() as u64);

        let mut content_hash = data_hash;
        for rows in packs.chunks(PACKS_PER_PAGE) {
            fill_packs(rows, &mut page);
            content_hash = crypto::sha256(&[&content_hash, &page]);
        }
        for rows in superseded.chunks(IDS_PER_PAGE) {
            fill_ids(rows, &mut page);
            content_hash = crypto::sha256(&[&content_hash, &page]);
        }
        let zero = ChunkId([0; 32]);
        Ok(Self {
            layout: layout.ok_or(Error::Writer("too many entries for one segment"))?,
            first: first.unwrap_or(zero),
            last: previous.map_or(zero, |(id, _)| id),
            data_hash,
            content_hash,
        })
    }

    /// A header with a fresh id and salt = `HMAC(hedge, 32 random bytes ‖ content hash)`.
    fn header(&self, context: &SegmentContext, entropy: &dyn Entropy) -> Result<Header, Error> {
        let segment = SegmentId(entropy::random(entropy)?);
        let (sealed, epoch, salt) = match &context.seal {
            SegmentSeal::Plain => (false, 0, [0; 32]),
            SegmentSeal::Sealed { epochs, hedge } => {
                let newest = epochs.last().ok_or(Error::Writer("no key for the newest epoch"))?;
                let random: [u8; 32] = entropy::random(entropy)?;
                (true, newest.epoch, hedge.hmac(&[&random, &self.content_hash]))
            }
        };
        Ok(Header {
            sealed,
            repo: context.repo,
            segment,
            salt,
            epoch,
        })
    }
}

/// Makes data pages from one walk, dropping repeated (id, pack) pairs.
struct DataPager<'s> {
    scan: EntryScan<'s>,
    packs: u64,
    previous: Option<(ChunkId, u32)>,
    first: Option<ChunkId>,
    entries: u64,
    hash: [u8; 32],
}

impl<'s> DataPager<'s> {
    fn new(source: &'s dyn EntrySource) -> Self {
        let packs = source.packs().len() as u64;
        Self {
            scan: source.scan(),
            packs,
            previous: None,
            first: None,
            entries: 0,
            hash: [0; 32],
        }
    }

    /// Fills the content of the next data page and returns its fence value; `None` past the last
    /// entry.
    fn next_page(&mut self, page: &mut Page) -> Result<Option<u64>, Error> {
        page.fill(0);
        let mut fence = None;
        let mut row = 0;
        while row < ENTRIES_PER_PAGE {
            let Some(found) = self.scan.next().transpose()? else {
                break;
            };
            let key = found.sort_key();
            if self.previous == Some(key) {
                continue;
            }
            if self.previous > Some(key) {
                return Err(Error::Writer("the entries are out of order"));
            }
            if u64::from(found.pack) >= self.packs {
                return Err(Error::Writer("an entry names no pack"));
            }
            found
                .encode(&mut page.as_chunks_mut::<ENTRY_LEN>().0[row])
                .ok_or(Error::Writer("an entry does not fit the format"))?;
            self.previous = Some(key);
            self.first.get_or_insert(found.entry.id);
            fence.get_or_insert(fence_of(&found.entry.id));
            self.entries += 1;
            row += 1;
        }
        if fence.is_some() {
            self.hash = crypto::sha256(&[&self.hash, &page[..CONTENT_LEN]]);
        }
        Ok(fence)
    }
}

/// Makes filter pages from one walk. Page order is id order, so only one page is in memory.
struct FilterPager<'s> {
    scan: EntryScan<'s>,
    pages: u64,
    pending: Option<Probe>,
}

impl<'s> FilterPager<'s> {
    fn new(source: &'s dyn EntrySource, pages: u64) -> Self {
        Self {
            scan: source.scan(),
            pages,
            pending: None,
        }
    }

    fn fill(&mut self, index: u64, page: &mut Page) -> Result<(), Error> {
        loop {
            let probe = match self.pending.take() {
                Some(probe) => probe,
                None => match self.scan.next().transpose()? {
                    Some(found) => Probe::new(&found.entry.id, self.pages),
                    None => return Ok(()),
                },
            };
            if probe.page > index {
                self.pending = Some(probe);
                return Ok(());
            }
            if probe.page < index {
                return Err(Error::Writer("the entries are out of order"));
            }
            probe.set(page);
        }
    }
}

/// The file as a reader: makes each page when it is read.
struct SegmentStream<'s> {
    plan: &'s Plan,
    source: &'s dyn EntrySource,
    superseded: &'s [SegmentId],
    header: Header,
    seal: PageSeal,
    data: Option<DataPager<'s>>,
    filter: Option<FilterPager<'s>>,
    /// First id prefix of each data page so far.
    fences: Vec<u64>,
    next: u64,
    page: Box<Page>,
    at: usize,
    failure: Option<Error>,
}

impl<'s> SegmentStream<'s> {
    fn new(
        plan: &'s Plan,
        source: &'s dyn EntrySource,
        superseded: &'s [SegmentId],
        header: Header,
        seal: PageSeal,
    ) -> Self {
        let (data, filter, failure) = (Some(DataPager::new(source)), None, None);
        let (fences, page) = (Vec::new(), Box::new([0; PAGE_LEN]));
        Self {
            plan,
            source,
            superseded,
            header,
            seal,
            data,
            filter,
            fences,
            next: 0,
            page,
            at: PAGE_LEN,
            failure,
        }
    }

    /// Makes the next page; false past the footer.
    fn advance(&mut self) -> Result<bool, Error> {
        let layout = &self.plan.layout;
        let Some((section, index)) = layout.section_of(self.next) else {
            return Ok(false);
        };
        self.page.fill(0);
        let page = &mut *self.page;
        match section {
            Section::Header => self.header.encode(page),
            Section::Data => self.fill_data(index)?,
            Section::Fence => fill_values(page_of(&self.fences, index, FENCES_PER_PAGE).iter(), page),
            Section::Top => {
                let firsts = self.fences.iter().step_by(FENCES_PER_PAGE);
                fill_values(
                    firsts.skip(index as usize * FENCES_PER_PAGE).take(FENCES_PER_PAGE),
                    page,
                );
            }
            Section::Filter => {
                let pages = layout.pages(Section::Filter);
                let pager = self.filter.get_or_insert_with(|| FilterPager::new(self.source, pages));
                pager.fill(index, page)?;
                if index + 1 == pages {
                    // releases the buffers of the walk
                    self.filter = None;
                }
            }
            Section::Pack => fill_packs(page_of(self.source.packs(), index, PACKS_PER_PAGE), page),
            Section::Superseded => fill_ids(page_of(self.superseded, index, IDS_PER_PAGE), page),
            Section::Footer => Footer {
                layout: *layout,
                first: self.plan.first,
                last: self.plan.last,
            }
            .encode(page),
        }
        if section != Section::Header {
            let sealed = self.seal.seal(section, self.next, &mut self.page);
            sealed.ok_or(Error::Writer("a page could not be sealed"))?;
        }
        self.next += 1;
        self.at = 0;
        Ok(true)
    }

    fn fill_data(&mut self, index: u64) -> Result<(), Error> {
        let changed = Error::Writer("the source changed between two walks");
        let Some(pager) = &mut self.data else {
            return Err(changed);
        };
        match pager.next_page(&mut self.page)? {
            Some(fence) => self.fences.push(fence),
            None => return Err(changed),
        }
        if index + 1 == self.plan.layout.pages(Section::Data) {
            // only repetitions may follow, and the pages must be those that the salt was made from
            let whole = pager.next_page(&mut [0; PAGE_LEN])?.is_none() && pager.hash == self.plan.data_hash;
            self.data = None;
            if !whole {
                return Err(changed);
            }
        }
        Ok(())
    }
}

impl Read for SegmentStream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::Error::other("the segment could not be made"));
        }
        if self.at == PAGE_LEN {
            match self.advance() {
                Ok(true) => {}
                Ok(false) => return Ok(0),
                Err(error) => {
                    let text = error.to_string();
                    self.failure = Some(error);
                    return Err(io::Error::other(text));
                }
            }
        }
        let count = out.len().min(PAGE_LEN - self.at);
        out[..count].copy_from_slice(&self.page[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// The rows of page `index` of a section.
fn page_of<T>(rows: &[T], index: u64, per_page: usize) -> &[T] {
    let start = (index as usize).saturating_mul(per_page).min(rows.len());
    &rows[start..rows.len().min(start + per_page)]
}

fn fill_values<'v>(values: impl Iterator<Item = &'v u64>, page: &mut Page) {
    for (out, value) in page.as_chunks_mut::<FENCE_LEN>().0.iter_mut().zip(values) {
        *out = value.to_le_bytes();
    }
}

fn fill_packs(rows: &[(PackId, u64)], page: &mut Page) {
    page.fill(0);
    for (row, out) in rows.iter().zip(page.as_chunks_mut::<PACK_LEN>().0) {
        encode_pack(row, out);
    }
}

fn fill_ids(rows: &[SegmentId], page: &mut Page) {
    page.fill(0);
    for (row, out) in rows.iter().zip(page.as_chunks_mut::<{ SegmentId::LEN }>().0) {
        *out = row.0;
    }
}
