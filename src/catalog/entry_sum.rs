//! Comparison of two sets of pack entries, without keeping either in memory.

use crate::pack::PackEntry;
use crate::pack::format::{ENTRY_LEN, encode_entry};
use std::collections::HashSet;

/// A sum over entries that does not depend on their order: equal sums mean equal entries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EntrySum {
    entries: u64,
    sum: u128,
}

impl EntrySum {
    /// Adds an entry: XXH3-128 of all its fields; the sum wraps.
    pub fn add(&mut self, entry: &PackEntry) {
        let mut bytes = [0; ENTRY_LEN];
        encode_entry(entry, 0, &mut bytes);
        self.entries += 1;
        self.sum = self.sum.wrapping_add(xxhash_rust::xxh3::xxh3_128(&bytes));
    }

    /// The sum of the entries of a pack that the index contains: each pair of chunk and pack once,
    /// the first one.
    pub fn of_indexed(entries: &[PackEntry]) -> Self {
        let mut sum = Self::default();
        let mut seen = HashSet::new();
        for entry in entries {
            if entry.is_indexed() && seen.insert(entry.id) {
                sum.add(entry);
            }
        }
        sum
    }

    /// Number of entries in the sum.
    pub fn entries(&self) -> u64 {
        self.entries
    }
}
