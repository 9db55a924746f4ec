//! The bytes of a segment (`docs/format.md` §9): sections, header and footer page, entries, fences
//! and filter.
//!
//! Pure: no I/O and no keys. Each encode is next to its decode. Every count is checked with checked
//! arithmetic before anything is derived from it, and a [`Layout`] exists only for counts that fit
//! into a file.

use super::error::Damage;
use crate::bytes::{ByteReader, ByteWriter, TooShort};
use crate::crypto::{self, TAG_LEN};
use crate::id::{ChunkId, PackId, RepoId, SegmentId};
use crate::pack::PackEntry;
pub use crate::pack::format::ENTRY_LEN;
use crate::pack::format::{MAX_U24, decode_entry, encode_entry};

/// Length of a page in bytes.
pub const PAGE_LEN: usize = 4096;
/// Length of a page without its tag, in bytes.
pub const CONTENT_LEN: usize = PAGE_LEN - TAG_LEN;
/// Entries on a data page.
pub const ENTRIES_PER_PAGE: usize = CONTENT_LEN / ENTRY_LEN;
/// Length of a value on a fence or top page, in bytes.
pub const FENCE_LEN: usize = 8;
/// Values on a fence or top page.
pub const FENCES_PER_PAGE: usize = CONTENT_LEN / FENCE_LEN;
/// Length of a row of the pack section in bytes.
pub const PACK_LEN: usize = PackId::LEN + 8;
/// Packs on a pack page.
pub const PACKS_PER_PAGE: usize = CONTENT_LEN / PACK_LEN;
/// Segment ids on a superseded page.
pub const IDS_PER_PAGE: usize = CONTENT_LEN / SegmentId::LEN;

const MAGIC: &[u8; 8] = b"CASEG001";
const END_MAGIC: &[u8; 8] = b"CASEGEND";
const HEADER_DOMAIN: &str = "containerarchive/segment/v1";
/// The only version of segments.
pub const VERSION: u32 = 1;
const FLAG_SEALED: u32 = 1;

/// Length of a block of the filter in bytes: one cache line.
pub const BLOCK_LEN: usize = 64;
/// Blocks on a filter page; the rest of its content stays zero.
pub const BLOCKS_PER_PAGE: u64 = (CONTENT_LEN / BLOCK_LEN) as u64;
/// Bits for each entry: with six of them set per id, 0.44 % of absent ids look present.
const BITS_PER_ENTRY: u64 = 12;
const BITS_PER_PAGE: u64 = BLOCKS_PER_PAGE * BLOCK_LEN as u64 * 8;

/// How many pages a filter of so many entries has, at least one; `None` when they cannot be
/// counted.
fn filter_pages(entries: u64) -> Option<u64> {
    Some(entries.checked_mul(BITS_PER_ENTRY)?.div_ceil(BITS_PER_PAGE).max(1))
}

/// A whole page: content and tag.
pub type Page = [u8; PAGE_LEN];

/// The contents of a page. The number is the section number of the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Section {
    /// Page 0.
    Header = 0,
    /// Entries sorted by (id, pack ordinal).
    Data = 1,
    /// First id prefix of every data page.
    Fence = 2,
    /// First value of every fence page.
    Top = 3,
    /// Bloom filter.
    Filter = 4,
    /// Pack ids and lengths, sorted.
    Pack = 5,
    /// Segments that this one supersedes.
    Superseded = 6,
    /// The last page.
    Footer = 7,
}

impl Section {
    /// All sections in the order of the file.
    pub const ALL: [Self; 8] = [
        Self::Header,
        Self::Data,
        Self::Fence,
        Self::Top,
        Self::Filter,
        Self::Pack,
        Self::Superseded,
        Self::Footer,
    ];
}

/// The pages of a segment, which follow from three counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Entries in the data section.
    pub entries: u64,
    /// Rows of the pack section.
    pub packs: u64,
    /// Ids in the superseded section.
    pub superseded: u64,
    pages: [u64; 8],
}

impl Layout {
    /// The layout for these counts; `None` when a file cannot hold them, or ordinals do not fit
    /// into 32 bits.
    pub fn for_counts(entries: u64, packs: u64, superseded: u64) -> Option<Self> {
        u32::try_from(packs).ok()?;
        let data = entries.div_ceil(ENTRIES_PER_PAGE as u64);
        let fence = data.div_ceil(FENCES_PER_PAGE as u64);
        let top = fence.div_ceil(FENCES_PER_PAGE as u64);
        let filter = filter_pages(entries)?;
        let pack = packs.div_ceil(PACKS_PER_PAGE as u64);
        let superseded_pages = superseded.div_ceil(IDS_PER_PAGE as u64);
        let pages = [1, data, fence, top, filter, pack, superseded_pages, 1];
        let total = pages.iter().try_fold(0u64, |sum, count| sum.checked_add(*count))?;
        total.checked_mul(PAGE_LEN as u64)?;
        Some(Self {
            entries,
            packs,
            superseded,
            pages,
        })
    }

    /// Number of pages of a section.
    pub fn pages(&self, section: Section) -> u64 {
        self.pages[section as usize]
    }

    /// Number of the first page of a section in the file.
    pub fn start(&self, section: Section) -> u64 {
        self.pages[..section as usize].iter().sum()
    }

    /// Number of pages in the file.
    pub fn total_pages(&self) -> u64 {
        self.pages.iter().sum()
    }

    /// Length of the file in bytes.
    pub fn file_len(&self) -> u64 {
        self.total_pages() * PAGE_LEN as u64
    }

    /// The section of page `page` of the file, and the number of the page in that section; `None`
    /// past the end.
    pub fn section_of(&self, page: u64) -> Option<(Section, u64)> {
        let mut rest = page;
        for section in Section::ALL {
            let count = self.pages(section);
            if rest < count {
                return Some((section, rest));
            }
            rest -= count;
        }
        None
    }
}

/// The fields of the header page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// True in an encrypted repository.
    pub sealed: bool,
    /// Repository it belongs to.
    pub repo: RepoId,
    /// Its id.
    pub segment: SegmentId,
    /// Salt of the key of this segment; zero in plain repositories.
    pub salt: [u8; 32],
    /// Key epoch, 0 in plain repositories.
    pub epoch: u32,
}

/// Why a header page was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHeader {
    /// The magic, the checksum or the flags are wrong.
    Damaged,
    /// A later version.
    Version(u32),
}

impl From<TooShort> for BadHeader {
    fn from(_: TooShort) -> Self {
        Self::Damaged
    }
}

impl Header {
    /// Encodes the header page, tag included.
    pub fn encode(&self, page: &mut Page) {
        page.fill(0);
        let (content, tag) = page.split_at_mut(CONTENT_LEN);
        ByteWriter::new(content)
            .bytes(MAGIC)
            .u32(VERSION)
            .u32(if self.sealed { FLAG_SEALED } else { 0 })
            .bytes(&self.repo.0)
            .bytes(&self.segment.0)
            .bytes(&self.salt)
            .u32(self.epoch);
        tag.copy_from_slice(&crypto::tag16(HEADER_DOMAIN, &[content]));
    }

    /// Decodes a header page. The checksum is checked before the version, so that a flipped bit is
    /// not mistaken for a later version.
    pub fn decode(page: &Page) -> Result<Self, BadHeader> {
        let (content, tag) = page.split_last_chunk::<TAG_LEN>().ok_or(TooShort)?;
        let mut reader = ByteReader::new(content);
        if crypto::tag16(HEADER_DOMAIN, &[content]) != *tag || reader.array()? != *MAGIC {
            return Err(BadHeader::Damaged);
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        let flags = reader.u32()?;
        if flags & !FLAG_SEALED != 0 {
            return Err(BadHeader::Damaged);
        }
        Ok(Self {
            sealed: flags & FLAG_SEALED != 0,
            repo: RepoId(reader.array()?),
            segment: SegmentId(reader.array()?),
            salt: reader.array()?,
            epoch: reader.u32()?,
        })
    }
}

/// The sections whose pages the footer counts, in its order.
const COUNTED: [Section; 6] = [
    Section::Data,
    Section::Fence,
    Section::Top,
    Section::Filter,
    Section::Pack,
    Section::Superseded,
];

/// The fields of the footer page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Counts and page numbers.
    pub layout: Layout,
    /// Smallest id, zero when empty.
    pub first: ChunkId,
    /// Greatest id, zero when empty.
    pub last: ChunkId,
}

impl Footer {
    /// Encodes the content of the footer page, without the tag.
    pub fn encode(&self, page: &mut Page) {
        page.fill(0);
        let mut writer = ByteWriter::new(page);
        writer
            .bytes(END_MAGIC)
            .u64(self.layout.total_pages())
            .u64(self.layout.entries);
        for section in COUNTED {
            writer.u64(self.layout.pages(section));
        }
        writer
            .u64(self.layout.packs)
            .u64(self.layout.superseded)
            .bytes(&self.first.0)
            .bytes(&self.last.0);
    }

    /// Decodes a footer page whose tag was checked, of a file of `file_pages` pages. Every count
    /// must follow from the others.
    pub fn decode(page: &Page, file_pages: u64) -> Result<Self, Damage> {
        let mut reader = ByteReader::new(page);
        if reader.array()? != *END_MAGIC {
            return Err(Damage::Footer);
        }
        let total_pages = reader.u64()?;
        let entries = reader.u64()?;
        let mut counts = [0; COUNTED.len()];
        for count in &mut counts {
            *count = reader.u64()?;
        }
        let (packs, superseded) = (reader.u64()?, reader.u64()?);
        let layout = Layout::for_counts(entries, packs, superseded).ok_or(Damage::Footer)?;
        if counts != COUNTED.map(|section| layout.pages(section)) || total_pages != layout.total_pages() {
            return Err(Damage::Footer);
        }
        if layout.total_pages() != file_pages {
            return Err(Damage::Length);
        }
        let footer = Self {
            layout,
            first: ChunkId(reader.array()?),
            last: ChunkId(reader.array()?),
        };
        let zero = ChunkId([0; 32]);
        let empty_but_named = layout.entries == 0 && (footer.first != zero || footer.last != zero);
        if empty_but_named || footer.first > footer.last {
            return Err(Damage::Footer);
        }
        Ok(footer)
    }
}

/// One entry of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Ordinal of the pack: its row in the pack table of the segment or source.
    pub pack: u32,
    /// The entry of the chunk in the pack's trailer.
    pub entry: PackEntry,
}

impl SegmentEntry {
    /// The order of entries in a segment. Entries with equal keys are the same (id, pack) pair.
    pub fn sort_key(&self) -> (ChunkId, u32) {
        (self.entry.id, self.pack)
    }

    /// Encodes the entry; `None` when a field does not fit the format.
    pub fn encode(&self, out: &mut [u8; ENTRY_LEN]) -> Option<()> {
        let entry = &self.entry;
        let fits = entry.payload_len <= MAX_U24 && (1..=MAX_U24).contains(&entry.raw_len) && entry.is_indexed();
        fits.then(|| encode_entry(entry, self.pack, out))
    }

    /// Decodes an entry; `None` for one that no writer makes. `packs` is the number of rows of the
    /// pack table.
    pub fn decode(bytes: &[u8; ENTRY_LEN], packs: u64) -> Option<Self> {
        let (entry, pack) = decode_entry(bytes).ok()?;
        let fits = u64::from(pack) < packs && entry.raw_len > 0 && entry.is_indexed();
        fits.then_some(Self { pack, entry })
    }
}

/// Encodes a row of the pack section: id of a pack and its length in bytes.
pub fn encode_pack((pack, len): &(PackId, u64), out: &mut [u8; PACK_LEN]) {
    ByteWriter::new(out).bytes(&pack.0).u64(*len);
}

/// Decodes a row of the pack section.
pub fn decode_pack(bytes: &[u8; PACK_LEN]) -> Result<(PackId, u64), TooShort> {
    let mut reader = ByteReader::new(bytes);
    Ok((PackId(reader.array()?), reader.u64()?))
}

/// The value in row `row` of a fence or top page.
pub fn fence_at(page: &Page, row: usize) -> u64 {
    u64::from_le_bytes(page.as_chunks::<FENCE_LEN>().0[row])
}

/// The fence value of an id: its first 8 bytes as a big-endian number, so that values sort as ids
/// do.
pub fn fence_of(id: &ChunkId) -> u64 {
    u64::from_be_bytes(id.0.as_chunks().0[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_follows_from_counts() {
        let layout = Layout::for_counts(85 * 510 * 2 + 1, 103, 256).unwrap();
        assert_eq!(layout.pages, [1, 1021, 3, 1, 33, 2, 2, 1]);
        assert_eq!(layout.section_of(0), Some((Section::Header, 0)));
        assert_eq!(layout.section_of(1022), Some((Section::Fence, 0)));
        assert_eq!(layout.section_of(layout.total_pages() - 1), Some((Section::Footer, 0)));
        assert_eq!(layout.section_of(layout.total_pages()), None);
        assert_eq!(Layout::for_counts(0, 0, 0).unwrap().pages, [1, 0, 0, 0, 1, 0, 0, 1]);
    }

    #[test]
    fn impossible_counts_have_no_layout() {
        assert_eq!(Layout::for_counts(u64::MAX, 0, 0), None);
        assert_eq!(Layout::for_counts(u64::MAX / 12, 0, u64::MAX), None);
        assert_eq!(Layout::for_counts(0, u64::from(u32::MAX) + 1, 0), None);
    }

    #[test]
    fn header_and_footer_round_trip() {
        let header = Header {
            sealed: true,
            repo: RepoId([1; 16]),
            segment: SegmentId([2; 16]),
            salt: [3; 32],
            epoch: 9,
        };
        let mut page = [0; PAGE_LEN];
        header.encode(&mut page);
        assert_eq!(Header::decode(&page), Ok(header));
        let layout = Layout::for_counts(200, 3, 1).unwrap();
        let footer = Footer {
            layout,
            first: ChunkId([1; 32]),
            last: ChunkId([2; 32]),
        };
        footer.encode(&mut page);
        assert_eq!(Footer::decode(&page, layout.total_pages()), Ok(footer));
        assert_eq!(Footer::decode(&page, layout.total_pages() + 1), Err(Damage::Length));
    }

    #[test]
    fn decode_distinguishes_a_later_version_from_damage() {
        let header = Header {
            sealed: false,
            repo: RepoId([1; 16]),
            segment: SegmentId([2; 16]),
            salt: [0; 32],
            epoch: 0,
        };
        let mut page = [0; PAGE_LEN];
        header.encode(&mut page);
        page[8] = 2;
        assert_eq!(Header::decode(&page), Err(BadHeader::Damaged));
        let tag = crypto::tag16(HEADER_DOMAIN, &[&page[..CONTENT_LEN]]);
        page[CONTENT_LEN..].copy_from_slice(&tag);
        assert_eq!(Header::decode(&page), Err(BadHeader::Version(2)));
    }

    #[test]
    fn encode_and_decode_refuse_entries_that_do_not_fit() {
        let entry = PackEntry {
            id: ChunkId([5; 32]),
            offset: 96,
            payload_len: 7,
            raw_len: 9,
            codec: 2,
            kind: 1,
        };
        let good = SegmentEntry { pack: 3, entry };
        let mut bytes = [0; ENTRY_LEN];
        good.encode(&mut bytes).unwrap();
        assert_eq!(SegmentEntry::decode(&bytes, 4), Some(good));
        assert_eq!(SegmentEntry::decode(&bytes, 3), None);
        for bad in [
            PackEntry {
                payload_len: 1 << 24,
                ..entry
            },
            PackEntry { raw_len: 0, ..entry },
            PackEntry { codec: 3, ..entry },
            PackEntry { kind: 2, ..entry },
        ] {
            assert_eq!(SegmentEntry { pack: 0, entry: bad }.encode(&mut bytes), None);
        }
    }
}
