//! Generated entries of any number and a look-up trial over them, for tests and benches.

use std::sync::Arc;

use super::{EntryScan, EntrySource, Error, GlobalIndex, PageReads, SegmentContext, SegmentEntry, write_segment};
use crate::entropy::Entropy;
use crate::id::{ChunkId, PackId};
use crate::pack::{ChunkLocation, PackEntry};
use crate::storage::Storage;

/// Chunks in a pack of 8 MiB.
const CHUNKS_PER_PACK: u64 = 32;

/// `count` generated entries, each a function of its number, so that a walk needs no memory but the
/// pack table. Ids are sorted and evenly distributed with a random part, as hashes are.
pub struct GeneratedSource {
    seed: u64,
    count: u64,
    packs: Vec<(PackId, u64)>,
}

impl GeneratedSource {
    /// The same seed and count give the same entries.
    pub fn new(seed: u64, count: u64) -> Self {
        let packs = count.div_ceil(CHUNKS_PER_PACK);
        let packs = (0..packs)
            .map(|n| (PackId(spread(seed ^ 0xacc5, n, packs)), 8 << 20))
            .collect();
        Self { seed, count, packs }
    }

    /// The number of entries.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Entry `number` of the walk.
    pub fn entry(&self, number: u64) -> SegmentEntry {
        let id = ChunkId(spread(self.seed, number, self.count));
        let noise = mix(self.seed ^ mix(number));
        let entry = PackEntry {
            id,
            offset: 96 + (noise as u32 & 0x7f_ffff),
            payload_len: 1 + (noise >> 40) as u32 % 300_000,
            raw_len: 65_536 + (noise >> 32) as u32 % 900_000,
            codec: (noise % 3) as u8,
            kind: u8::from(noise.is_multiple_of(97)),
        };
        SegmentEntry {
            pack: (noise % self.packs.len() as u64) as u32,
            entry,
        }
    }

    /// The location that a look-up of entry `number` must find.
    pub fn location(&self, number: u64) -> ChunkLocation {
        let SegmentEntry { pack, entry } = self.entry(number);
        ChunkLocation {
            pack: self.packs[pack as usize].0,
            entry,
        }
    }

    /// An id that is not among the entries.
    pub fn absent_id(&self, number: u64) -> ChunkId {
        let mut id = spread(self.seed ^ 0xab5e47, mix(number) >> 1, u64::MAX >> 1);
        // the last byte of a present id is never odd
        id[31] |= 1;
        ChunkId(id)
    }
}

impl EntrySource for GeneratedSource {
    fn packs(&self) -> &[(PackId, u64)] {
        &self.packs
    }

    fn scan(&self) -> EntryScan<'_> {
        Box::new((0..self.count).map(|number| Ok(self.entry(number))))
    }
}

/// 32 bytes that increase with `number` (of `count`) and are random otherwise; the last byte is
/// even.
fn spread(seed: u64, number: u64, count: u64) -> [u8; 32] {
    let step = u64::MAX / count;
    let mut out = [0; 32];
    let mut state = mix(seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    out[..8].copy_from_slice(&(number * step + state % step).to_be_bytes());
    for word in out[8..].chunks_exact_mut(8) {
        state = mix(state);
        word.copy_from_slice(&state.to_le_bytes());
    }
    out[31] &= 0xfe;
    out
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Result of [`lookup_trial`].
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Look-ups of present ids; all returned the right location.
    pub hits: u64,
    /// Look-ups of absent ids; none was found.
    pub misses: u64,
    /// Pages read for all of them, from an empty cache.
    pub reads: PageReads,
    /// Greatest number of fence and data pages read by one hit.
    pub most_for_a_hit: u64,
    /// Hits that read more than one fence and one data page (for an id that begins a page, the page
    /// before is read too).
    pub hits_over_two: u64,
    /// Fence, data and pack pages read by misses.
    pub reads_for_misses: u64,
}

/// Writes one segment of `source`, opens the index with an empty cache of `cache_bytes`, and looks
/// up `lookups` ids, half of them absent. Panics on a wrong answer.
pub fn lookup_trial(
    storage: &Arc<dyn Storage>,
    context: &Arc<SegmentContext>,
    entropy: &dyn Entropy,
    source: &GeneratedSource,
    cache_bytes: usize,
    lookups: u64,
) -> Result<Trial, Error> {
    write_segment(&**storage, context, entropy, &[], source)?;
    let (index, broken) = GlobalIndex::load(Arc::clone(storage), Arc::clone(context), cache_bytes)?;
    assert!(broken.is_empty(), "{broken:?}");
    let besides_filter = |reads: PageReads| reads.fence + reads.data;
    let mut trial = Trial {
        hits: 0,
        misses: 0,
        reads: index.page_reads(),
        most_for_a_hit: 0,
        hits_over_two: 0,
        reads_for_misses: 0,
    };
    for number in 0..lookups {
        let before = index.page_reads();
        if number % 2 == 0 {
            let wanted = source.location(mix(number) % source.count());
            assert_eq!(index.locate(&wanted.entry.id)?, [wanted]);
            let cost = besides_filter(index.page_reads()) - besides_filter(before);
            trial.hits += 1;
            trial.most_for_a_hit = trial.most_for_a_hit.max(cost);
            trial.hits_over_two += u64::from(cost > 2);
        } else {
            assert_eq!(index.locate(&source.absent_id(number))?, []);
            let after = index.page_reads();
            trial.misses += 1;
            trial.reads_for_misses += besides_filter(after) - besides_filter(before) + after.pack - before.pack;
        }
    }
    trial.reads = index.page_reads();
    Ok(trial)
}
