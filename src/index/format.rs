//! The bytes of a segment (`docs/format.md` §9): sections, header and footer page, entries, fences and filter.
//!
//! Only values in, values out: no I/O and no keys. What is encoded here is decoded beside it. Every count is checked with
//! checked arithmetic before anything is derived from it, and a [`Layout`] exists only for counts that fit a file.

use super::error::Damage;
use crate::crypto;
use crate::id::{ChunkId, PackId, RepoId, SegmentId};
use crate::pack::PackEntry;

/// Length of a page in bytes.
pub const PAGE_LEN: usize = 4096;
/// Length of a page without its tag, in bytes.
pub const CONTENT_LEN: usize = 4080;
/// Length of an entry in bytes.
pub const ENTRY_LEN: usize = 48;
/// Entries on a data page.
pub const ENTRIES_PER_PAGE: usize = CONTENT_LEN / ENTRY_LEN;
/// Values on a fence or top page.
pub const FENCES_PER_PAGE: usize = CONTENT_LEN / 8;
/// Length of a row of the pack section in bytes.
pub const PACK_LEN: usize = 40;
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

const MAX_U24: u32 = 0xff_ffff;

/// A whole page: content and tag.
pub type Page = [u8; PAGE_LEN];

/// What a page holds. The number is the section number of the format.
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
    /// Segments that this one replaces.
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

/// Which pages a segment has; follows from three counts.
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
    /// The layout for these counts; `None` when a file cannot hold them or ordinals would not fit 32 bits.
    pub fn for_counts(entries: u64, packs: u64, superseded: u64) -> Option<Self> {
        u32::try_from(packs).ok()?;
        let data = entries.div_ceil(ENTRIES_PER_PAGE as u64);
        let fence = data.div_ceil(FENCES_PER_PAGE as u64);
        let top = fence.div_ceil(FENCES_PER_PAGE as u64);
        let filter = super::filter::pages_for(entries)?;
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

    /// Pages of one section.
    pub fn pages(&self, section: Section) -> u64 {
        self.pages[section as usize]
    }

    /// Number of the first page of a section in the file.
    pub fn start(&self, section: Section) -> u64 {
        self.pages[..section as usize].iter().sum()
    }

    /// Pages in the file.
    pub fn total_pages(&self) -> u64 {
        self.pages.iter().sum()
    }

    /// Length of the file in bytes.
    pub fn file_len(&self) -> u64 {
        self.total_pages() * PAGE_LEN as u64
    }

    /// The section of a page and the page's place in it; `None` behind the end.
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

/// What the header page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// True in an encrypted repository.
    pub sealed: bool,
    /// Repository it belongs to.
    pub repo: RepoId,
    /// Its own id.
    pub segment: SegmentId,
    /// Makes the key of this segment; zero in plain repositories.
    pub salt: [u8; 32],
    /// Key epoch, 0 in plain repositories.
    pub epoch: u32,
}

/// Why a header page was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadHeader {
    /// Bad magic, checksum or flags.
    Damaged,
    /// A later version.
    Version(u32),
}

impl Header {
    /// Writes the header page, tag included.
    pub fn encode(&self, page: &mut Page) {
        page.fill(0);
        page[0..8].copy_from_slice(MAGIC);
        page[8..12].copy_from_slice(&VERSION.to_le_bytes());
        page[12..16].copy_from_slice(&(if self.sealed { FLAG_SEALED } else { 0 }).to_le_bytes());
        page[16..32].copy_from_slice(&self.repo.0);
        page[32..48].copy_from_slice(&self.segment.0);
        page[48..80].copy_from_slice(&self.salt);
        page[80..84].copy_from_slice(&self.epoch.to_le_bytes());
        let tag = crypto::tag16(HEADER_DOMAIN, &[&page[..CONTENT_LEN]]);
        page[CONTENT_LEN..].copy_from_slice(&tag);
    }

    /// Reads a header page. The checksum comes before the version, so that a flipped bit is never taken for a later one.
    pub fn decode(page: &Page) -> Result<Self, BadHeader> {
        let tag = crypto::tag16(HEADER_DOMAIN, &[&page[..CONTENT_LEN]]);
        if page[CONTENT_LEN..] != tag || &page[0..8] != MAGIC {
            return Err(BadHeader::Damaged);
        }
        let version = u32_at(page, 8);
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        let flags = u32_at(page, 12);
        if flags & !FLAG_SEALED != 0 {
            return Err(BadHeader::Damaged);
        }
        Ok(Self {
            sealed: flags & FLAG_SEALED != 0,
            repo: RepoId(bytes_at(page, 16)),
            segment: SegmentId(bytes_at(page, 32)),
            salt: bytes_at(page, 48),
            epoch: u32_at(page, 80),
        })
    }
}

/// What the footer page says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Counts and pages.
    pub layout: Layout,
    /// Smallest id, zero when empty.
    pub first: ChunkId,
    /// Greatest id, zero when empty.
    pub last: ChunkId,
}

impl Footer {
    /// Writes the content of the footer page; the tag is the sealer's.
    pub fn encode(&self, page: &mut Page) {
        page.fill(0);
        page[0..8].copy_from_slice(END_MAGIC);
        put_u64(page, 8, self.layout.total_pages());
        put_u64(page, 16, self.layout.entries);
        for (at, section) in (24..).step_by(8).zip(&Section::ALL[1..7]) {
            put_u64(page, at, self.layout.pages(*section));
        }
        put_u64(page, 72, self.layout.packs);
        put_u64(page, 80, self.layout.superseded);
        page[88..120].copy_from_slice(&self.first.0);
        page[120..152].copy_from_slice(&self.last.0);
    }

    /// Reads a footer page that was verified, of a file of `file_pages` pages. Every count must follow from the others.
    pub fn decode(page: &Page, file_pages: u64) -> Result<Self, Damage> {
        if &page[0..8] != END_MAGIC {
            return Err(Damage::Footer);
        }
        let layout = Layout::for_counts(u64_at(page, 16), u64_at(page, 72), u64_at(page, 80)).ok_or(Damage::Footer)?;
        for (at, section) in (24..).step_by(8).zip(&Section::ALL[1..7]) {
            if u64_at(page, at) != layout.pages(*section) {
                return Err(Damage::Footer);
            }
        }
        if u64_at(page, 8) != layout.total_pages() {
            return Err(Damage::Footer);
        }
        if layout.total_pages() != file_pages {
            return Err(Damage::Length);
        }
        let footer = Self {
            layout,
            first: ChunkId(bytes_at(page, 88)),
            last: ChunkId(bytes_at(page, 120)),
        };
        let zero = ChunkId([0; 32]);
        let empty_but_named = layout.entries == 0 && (footer.first != zero || footer.last != zero);
        if empty_but_named || footer.first > footer.last {
            return Err(Damage::Footer);
        }
        Ok(footer)
    }
}

/// One entry of a segment. `pack` is an ordinal: the place of the pack in the segment's (or source's) pack table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentEntry {
    /// Place of the pack in the pack table.
    pub pack: u32,
    /// The chunk as the pack's trailer describes it.
    pub entry: PackEntry,
}

impl SegmentEntry {
    /// The order of entries in a segment; two entries with equal keys are the same (id, pack) pair.
    pub fn sort_key(&self) -> (ChunkId, u32) {
        (self.entry.id, self.pack)
    }

    /// Writes 48 bytes; `None` when a field does not fit the format.
    pub fn encode(&self, out: &mut [u8]) -> Option<()> {
        let PackEntry {
            id,
            offset,
            payload_len,
            raw_len,
            codec,
            kind,
        } = self.entry;
        if payload_len > MAX_U24 || raw_len > MAX_U24 || raw_len == 0 || !self.entry.is_indexed() {
            return None;
        }
        out[0..32].copy_from_slice(&id.0);
        out[32..36].copy_from_slice(&self.pack.to_le_bytes());
        out[36..40].copy_from_slice(&offset.to_le_bytes());
        out[40..43].copy_from_slice(&payload_len.to_le_bytes()[..3]);
        out[43..46].copy_from_slice(&raw_len.to_le_bytes()[..3]);
        out[46] = codec;
        out[47] = kind;
        Some(())
    }

    /// Reads 48 bytes; `None` for what no writer makes. `packs` is the length of the pack table.
    pub fn decode(bytes: &[u8], packs: u64) -> Option<Self> {
        let pack = u32_at(bytes, 32);
        let entry = PackEntry {
            id: ChunkId(bytes_at(bytes, 0)),
            offset: u32_at(bytes, 36),
            payload_len: u24_at(bytes, 40),
            raw_len: u24_at(bytes, 43),
            codec: bytes[46],
            kind: bytes[47],
        };
        let fits = u64::from(pack) < packs && entry.raw_len > 0 && entry.is_indexed();
        fits.then_some(Self { pack, entry })
    }
}

/// Writes a row of the pack section.
pub fn encode_pack(pack: &(PackId, u64), out: &mut [u8]) {
    out[..32].copy_from_slice(&pack.0.0);
    out[32..40].copy_from_slice(&pack.1.to_le_bytes());
}

/// Reads a row of the pack section.
pub fn decode_pack(bytes: &[u8]) -> (PackId, u64) {
    (PackId(bytes_at(bytes, 0)), u64_at(bytes, 32))
}

/// What fences hold for an id: its first 8 bytes as a big-endian number, so that numbers sort as ids do.
pub fn fence_of(id: &ChunkId) -> u64 {
    u64::from_be_bytes(bytes_at(&id.0, 0))
}

/// `N` bytes at `at`. Callers pass places inside a page, so the range is always there.
pub fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

/// The little-endian u64 at `at`.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes_at(bytes, at))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes_at(bytes, at))
}

fn u24_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], 0])
}

/// Writes `value` little-endian at `at`.
pub fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_follow_from_counts() {
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
    fn header_and_footer_come_back_as_written() {
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
    fn a_later_version_is_told_apart_from_damage() {
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
    fn entries_that_do_not_fit_are_refused_both_ways() {
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
