//! The filter of a segment: which ids it certainly does not hold. One page decides about one id.

use super::format::{BLOCK_LEN, BLOCKS_PER_PAGE, Page, fence_of};
use crate::id::ChunkId;

/// The bits of the filter that stand for one id: page, block and six bits in it (Putze, Sanders,
/// Singler, *Cache-, Hash- and Space-Efficient Bloom Filters*, 2007). Pages are in the order of
/// ids, so a writer holds one page at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// Page within the filter section.
    pub page: u64,
    block: usize,
    bits: u64,
}

impl Probe {
    /// The bits for `id` in a filter of `pages` pages.
    pub fn new(id: &ChunkId, pages: u64) -> Self {
        let page = ((u128::from(fence_of(id)) * u128::from(pages)) >> 64) as u64;
        let words = id.0.as_chunks::<4>().0;
        let block = (u64::from(u32::from_be_bytes(words[2])) * BLOCKS_PER_PAGE) >> 32;
        let [low, high] = [words[3], words[4]].map(|word| u64::from(u32::from_le_bytes(word)));
        Self {
            page,
            block: block as usize * BLOCK_LEN,
            bits: low | high << 32,
        }
    }

    fn positions(self) -> impl Iterator<Item = (usize, u8)> {
        (0..6).map(move |n| {
            let bit = (self.bits >> (9 * n)) & 511;
            (self.block + (bit >> 3) as usize, 1u8 << (bit & 7))
        })
    }

    /// Adds the id to its page.
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
