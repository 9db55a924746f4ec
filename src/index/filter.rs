//! The filter of a segment: which ids it certainly does not hold. One page answers for one id.

use super::format::{Page, bytes_at, fence_of, u64_at};
use crate::id::ChunkId;

/// Length of a block in bytes: one cache line.
const BLOCK_LEN: usize = 64;
/// Blocks on a page; the 48 bytes behind them stay zero.
const BLOCKS_PER_PAGE: u64 = 63;
/// Bits for each entry: with six of them set per id, 0.44 % of absent ids look present.
const BITS_PER_ENTRY: u64 = 12;
const BITS_PER_PAGE: u64 = BLOCKS_PER_PAGE * BLOCK_LEN as u64 * 8;

/// How many pages a filter of so many entries has, at least one; `None` when they cannot be counted.
pub fn pages_for(entries: u64) -> Option<u64> {
    Some(entries.checked_mul(BITS_PER_ENTRY)?.div_ceil(BITS_PER_PAGE).max(1))
}

/// Where the filter keeps an id: page, block and six bits (Putze, Sanders, Singler, *Cache-, Hash- and Space-Efficient
/// Bloom Filters*, 2007). Pages follow the order of ids, so a writer has one page in memory at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Page within the filter section.
    pub page: u64,
    block: usize,
    bits: u64,
}

impl Probe {
    /// Where a filter of `pages` pages keeps `id`.
    pub fn new(id: &ChunkId, pages: u64) -> Self {
        let page = ((u128::from(fence_of(id)) * u128::from(pages)) >> 64) as u64;
        let block = (u64::from(u32::from_be_bytes(bytes_at(&id.0, 8))) * BLOCKS_PER_PAGE) >> 32;
        Self {
            page,
            block: block as usize * BLOCK_LEN,
            bits: u64_at(&id.0, 12),
        }
    }

    fn positions(self) -> impl Iterator<Item = (usize, u8)> {
        (0..6).map(move |n| {
            let bit = (self.bits >> (9 * n)) & 511;
            (self.block + (bit >> 3) as usize, 1u8 << (bit & 7))
        })
    }

    /// Remembers the id in its page.
    pub fn set(self, page: &mut Page) {
        for (byte, mask) in self.positions() {
            page[byte] |= mask;
        }
    }

    /// False when the id is certainly absent.
    pub fn may_contain(self, page: &Page) -> bool {
        self.positions().all(|(byte, mask)| page[byte] & mask != 0)
    }
}
