//! FastCDC, variant v2020 with normalisation level 3 (Xia et al., *The Design of Fast
//! Content-Defined Chunking for Data Deduplication Based Storage Systems*, IEEE TPDS 2020), with
//! the cut loop of the crate `fastcdc`.
//!
//! Golden vectors in the tests pin the cut points, so that a faster loop with the same cut points
//! can replace that of the crate.

use super::{ChunkerParams, InvalidParams};
use ::fastcdc::v2020::{Normalization, cut_gear, get_gear_with_seed, select_masks};
use std::sync::Arc;
use zeroize::Zeroize;

/// Entries of a gear table, one for each value of a byte.
const ENTRIES: usize = 256;

/// The table of the rolling hash, and the same shifted left by one bit. It is wiped on drop,
/// because a keyed table is secret: it allows to recognise known data by the chunk lengths.
pub struct Gear {
    gear: Box<[u64; ENTRIES]>,
    gear_ls: Box<[u64; ENTRIES]>,
}

impl Gear {
    /// Length in bytes of the key of [`keyed`](Self::keyed).
    pub const KEY_LEN: usize = ENTRIES * 8;

    /// Returns the public table of the crate, for plain repositories.
    pub fn default_table() -> Self {
        let (table, _) = get_gear_with_seed(0);
        Self::build(|at| table.get(at).copied().unwrap_or_default())
    }

    /// Makes a secret table for encrypted repositories: 256 little-endian u64 (format.md §4.2).
    pub fn keyed(key: &[u8; Self::KEY_LEN]) -> Self {
        let (words, _) = key.as_chunks::<8>();
        Self::build(|at| words.get(at).map_or(0, |word| u64::from_le_bytes(*word)))
    }

    fn build(entry: impl Fn(usize) -> u64) -> Self {
        // boxed before they are filled, so that no copy stays on the stack
        let mut table = Self {
            gear: Box::new([0; ENTRIES]),
            gear_ls: Box::new([0; ENTRIES]),
        };
        for (at, (gear, gear_ls)) in table.gear.iter_mut().zip(table.gear_ls.iter_mut()).enumerate() {
            *gear = entry(at);
            *gear_ls = *gear << 1;
        }
        table
    }
}

impl Drop for Gear {
    fn drop(&mut self) {
        self.gear.zeroize();
        self.gear_ls.zeroize();
    }
}

/// Finds cut points. It keeps no state between calls, so one cutter serves all streams of a
/// repository, from any thread.
#[derive(Clone)]
pub struct Cutter {
    min: usize,
    avg: usize,
    max: usize,
    mask_s: u64,
    mask_l: u64,
    gear: Arc<Gear>,
}

impl Cutter {
    /// Makes a cutter; `params` must pass [`ChunkerParams::validate`].
    pub fn new(params: ChunkerParams, gear: Arc<Gear>) -> Result<Self, InvalidParams> {
        params.validate()?;
        let size = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        let (min, avg, max) = (size(params.min), size(params.avg), size(params.max));
        let (mask_s, mask_l) = select_masks(avg, Normalization::Level3);
        Ok(Self {
            min,
            avg,
            max,
            mask_s,
            mask_l,
            gear,
        })
    }

    /// Returns the length in bytes of the first chunk of `source`, which begins where the last
    /// chunk ended.
    ///
    /// Returns `None` when more bytes are needed: `source` is empty, or has fewer than `max` bytes
    /// and is not `at_end` of its stream (the cut point may still depend on what follows).
    /// Otherwise the length is at least 1 and at most `max`.
    pub fn cut(&self, source: &[u8], at_end: bool) -> Option<usize> {
        if source.is_empty() || (source.len() < self.max && !at_end) {
            return None;
        }
        let (s, l) = (self.mask_s, self.mask_l);
        let (gear, gear_ls) = (self.gear.gear.as_slice(), self.gear.gear_ls.as_slice());
        let (_, len) = cut_gear(
            source,
            self.min,
            self.avg,
            self.max,
            s,
            l,
            s << 1,
            l << 1,
            gear,
            gear_ls,
        );
        Some(len)
    }

    /// Returns the largest length of a chunk in bytes: a source of this many bytes always has a cut
    /// point.
    pub fn max(&self) -> usize {
        self.max
    }
}
