//! A bounded cache of verified pages, shared by all segments of a handle.
//!
//! Memory stays below the budget whatever the size of the index. Replacement is CLOCK (Corbató
//! 1968): a page that was used since the hand passed it stays for another round. Pages are cached
//! after they were verified and decrypted.

use crate::sync::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::format::{PAGE_LEN, Page, Section};
use crate::id::SegmentId;

/// Default budget of a cache, in bytes.
pub const DEFAULT_CACHE_BYTES: usize = 32 << 20;
/// Locks are split so that look-ups of several threads rarely wait for each other.
const SHARDS: usize = 8;
/// Most bytes that a cached page takes besides its contents: slot, map entry at its lowest load,
/// counters.
const OVERHEAD: usize = 256;

type Key = (SegmentId, u64);

/// Number of pages read from storage, by section.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageReads {
    /// Filter pages.
    pub filter: u64,
    /// Fence pages.
    pub fence: u64,
    /// Data pages.
    pub data: u64,
    /// Pack pages.
    pub pack: u64,
}

/// Verified pages of segments, at most as many as fit into the budget.
pub struct PageCache {
    shards: Vec<Mutex<Shard>>,
    reads: [AtomicU64; 8],
}

#[derive(Default)]
struct Shard {
    slots: Vec<Slot>,
    positions: HashMap<Key, usize>,
    hand: usize,
    capacity: usize,
}

struct Slot {
    key: Key,
    page: Arc<Page>,
    used: bool,
}

impl PageCache {
    /// A cache of at most `bytes` bytes, or of one page in each of its eight parts if that is more.
    pub fn new(bytes: usize) -> Self {
        let capacity = (bytes / (PAGE_LEN + OVERHEAD) / SHARDS).max(1);
        let shards = (0..SHARDS)
            .map(|_| {
                Mutex::new(Shard {
                    capacity,
                    ..Shard::default()
                })
            })
            .collect();
        Self {
            shards,
            reads: Default::default(),
        }
    }

    /// Drops all pages.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let capacity = shard.capacity;
            *shard = Shard {
                capacity,
                ..Shard::default()
            };
        }
    }

    /// Number of pages that were not in the cache and were read.
    pub fn reads(&self) -> PageReads {
        let count = |section: Section| self.reads[section as usize].load(Ordering::Relaxed);
        PageReads {
            filter: count(Section::Filter),
            fence: count(Section::Fence),
            data: count(Section::Data),
            pack: count(Section::Pack),
        }
    }

    /// Returns the page, from the cache or else from `read`. Two threads that miss at the same time
    /// both read it; either result is right.
    pub(super) fn get_or_read<E>(
        &self,
        segment: SegmentId,
        section: Section,
        number: u64,
        read: impl FnOnce() -> Result<Arc<Page>, E>,
    ) -> Result<Arc<Page>, E> {
        let shard = &self.shards[(number as usize) % SHARDS];
        let key = (segment, number);
        if let Some(page) = lock(shard).get(&key) {
            return Ok(page);
        }
        let page = read()?;
        self.reads[section as usize].fetch_add(1, Ordering::Relaxed);
        lock(shard).insert(key, Arc::clone(&page));
        Ok(page)
    }
}

impl Shard {
    fn get(&mut self, key: &Key) -> Option<Arc<Page>> {
        let slot = self.slots.get_mut(*self.positions.get(key)?)?;
        slot.used = true;
        Some(Arc::clone(&slot.page))
    }

    fn insert(&mut self, key: Key, page: Arc<Page>) {
        if self.positions.contains_key(&key) {
            return;
        }
        let slot = Slot { key, page, used: false };
        if self.slots.len() < self.capacity {
            self.positions.insert(key, self.slots.len());
            self.slots.push(slot);
            return;
        }
        // ends after at most two rounds: the first clears every mark
        while self.slots[self.hand].used {
            self.slots[self.hand].used = false;
            self.hand = (self.hand + 1) % self.slots.len();
        }
        self.positions.remove(&self.slots[self.hand].key);
        self.positions.insert(key, self.hand);
        self.slots[self.hand] = slot;
        self.hand = (self.hand + 1) % self.slots.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(cache: &PageCache, number: u64) {
        let page = cache.get_or_read(SegmentId([1; 16]), Section::Data, number, || {
            let mut page = [0; PAGE_LEN];
            page[..8].copy_from_slice(&number.to_le_bytes());
            Ok::<_, ()>(Arc::new(page))
        });
        assert_eq!(page.unwrap()[..8], number.to_le_bytes());
    }

    #[test]
    fn cache_stays_within_its_budget_and_keeps_used_pages() {
        let cache = PageCache::new(SHARDS * 4 * (PAGE_LEN + OVERHEAD));
        for number in 0..1000 {
            read(&cache, number * SHARDS as u64);
            read(&cache, 0);
        }
        assert_eq!(cache.reads().data, 1000, "the hot page was read once");
        for shard in &cache.shards {
            let shard = shard.lock().unwrap();
            assert!(shard.slots.len() <= 4 && shard.positions.len() == shard.slots.len());
        }
    }

    #[test]
    fn cache_without_a_budget_still_works() {
        let cache = PageCache::new(0);
        for number in 0..100 {
            read(&cache, number);
        }
        assert_eq!(cache.reads().data, 100);
    }

    #[test]
    fn a_failed_read_is_not_cached() {
        let cache = PageCache::new(1 << 20);
        let failed = cache.get_or_read(SegmentId([1; 16]), Section::Data, 0, || Err("bad"));
        assert_eq!(failed, Err("bad"));
        assert_eq!(cache.reads().data, 0);
        read(&cache, 0);
    }
}
