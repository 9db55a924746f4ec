//! The choice of segments to merge, and the streaming merge of their entries.
//!
//! A merge keeps every (id, pack) pair: a second copy of a chunk is used when the first pack is
//! damaged or condemned. Only packs that the caller names (those of a kill list that is being
//! finished) lose their entries. Memory: 40 bytes a pack for the merged table, and 4 bytes a pack
//! and 256 KiB for each input.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::sync::Arc;

use super::error::Error;
use super::format::SegmentEntry;
use super::segment::{Segment, SegmentScan, SegmentStats};
use super::source::{EntryScan, EntrySource};
use crate::id::{ChunkId, PackId, SegmentId};

/// A segment is not merged while it holds at least this many times as many entries as all smaller
/// ones together. So there are at most `1 + log4(all / smallest)` segments.
const RATIO: u128 = 3;

/// The segments that a geometric merge joins: the fewest of the smallest, so that every segment
/// then holds at least three times as many entries as all smaller ones together. Empty when that is
/// the case already. `segments` are ids with numbers of entries.
pub fn plan_merge(segments: &[(SegmentId, u64)]) -> Vec<SegmentId> {
    let mut sorted: Vec<(u64, SegmentId)> = segments.iter().map(|(id, entries)| (*entries, *id)).collect();
    sorted.sort_unstable();
    let mut smaller = 0u128;
    let mut join = 0;
    for (at, (entries, _)) in sorted.iter().enumerate() {
        // a segment without entries (its packs hold only copies) counts as one entry, so that such
        // segments are merged too
        let weight = u128::from(*entries).max(1);
        if weight < smaller * RATIO {
            join = at + 1;
        }
        smaller += weight;
    }
    sorted.into_iter().take(join).map(|(_, id)| id).collect()
}

/// The same when at most `most_bytes` bytes may be read: the largest segments are left out, as if
/// they did not exist, until the merge of the others is small enough. So a segment that is too
/// large to be merged does not prevent the merge of small ones.
pub fn plan_merge_within(segments: &[SegmentStats], most_bytes: u64) -> Vec<SegmentId> {
    let mut rest: Vec<&SegmentStats> = segments.iter().collect();
    rest.sort_unstable_by_key(|segment| (segment.entries, segment.id));
    loop {
        let sizes: Vec<(SegmentId, u64)> = rest.iter().map(|segment| (segment.id, segment.entries)).collect();
        let due = plan_merge(&sizes);
        // the smallest are due
        let bytes: u64 = rest.iter().take(due.len()).map(|segment| segment.bytes).sum();
        if bytes <= most_bytes {
            return due;
        }
        rest.pop();
    }
}

/// All entries of several segments in one order, without those of dropped packs.
pub struct MergeSource {
    packs: Vec<(PackId, u64)>,
    inputs: Vec<Input>,
}

struct Input {
    segment: Arc<Segment>,
    /// Ordinal in the input → ordinal in the merged table; `DROPPED` for packs to leave out.
    ordinals: Vec<u32>,
}

const DROPPED: u32 = u32::MAX;

impl MergeSource {
    /// Reads the pack tables. Of equal (id, pack) pairs, the one in the earlier segment is used.
    pub fn new(segments: Vec<Arc<Segment>>, drop_packs: &HashSet<PackId>) -> Result<Self, Error> {
        let mut packs = Vec::new();
        for segment in &segments {
            segment.for_each_pack(&mut |pack, len| {
                if !drop_packs.contains(&pack) {
                    packs.push((pack, len));
                }
            })?;
            // after each input, so that shared packs do not accumulate; stable, so that the earlier
            // row is kept
            packs.sort_by_key(|(pack, _)| *pack);
            packs.dedup_by_key(|(pack, _)| *pack);
        }
        // ordinals are below u32::MAX, so DROPPED is none of them
        if packs.len() >= DROPPED as usize {
            return Err(Error::Writer("too many packs for one segment"));
        }
        let mut inputs = Vec::with_capacity(segments.len());
        for segment in segments {
            let mut ordinals = Vec::new();
            segment.for_each_pack(&mut |pack, _| {
                let found = packs.binary_search_by_key(&pack, |(pack, _)| *pack);
                ordinals.push(found.map_or(DROPPED, |at| at as u32));
            })?;
            inputs.push(Input { segment, ordinals });
        }
        Ok(Self { packs, inputs })
    }
}

impl EntrySource for MergeSource {
    fn packs(&self) -> &[(PackId, u64)] {
        &self.packs
    }

    fn scan(&self) -> EntryScan<'_> {
        let lanes = self.inputs.iter().map(|input| Lane {
            scan: input.segment.scan(),
            ordinals: &input.ordinals,
        });
        Box::new(MergeScan {
            lanes: lanes.collect(),
            heads: BinaryHeap::new(),
            started: false,
            failed: false,
        })
    }
}

/// One input of a walk. Both pack tables are sorted, so translating the ordinals keeps the order of
/// a lane.
struct Lane<'s> {
    scan: SegmentScan<'s>,
    ordinals: &'s [u32],
}

impl Lane<'_> {
    fn next(&mut self) -> Result<Option<SegmentEntry>, Error> {
        while let Some(found) = self.scan.next().transpose()? {
            let pack = self.ordinals.get(found.pack as usize).copied().unwrap_or(DROPPED);
            if pack != DROPPED {
                return Ok(Some(SegmentEntry { pack, ..found }));
            }
        }
        Ok(None)
    }
}

/// The next entry of a lane, ordered by (id, pack), then by lane.
struct Head {
    key: (ChunkId, u32),
    lane: usize,
    entry: SegmentEntry,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.key, self.lane).cmp(&(other.key, other.lane))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

struct MergeScan<'s> {
    lanes: Vec<Lane<'s>>,
    heads: BinaryHeap<Reverse<Head>>,
    started: bool,
    failed: bool,
}

impl MergeScan<'_> {
    fn pull(&mut self, lane: usize) -> Result<(), Error> {
        if let Some(entry) = self.lanes[lane].next()? {
            self.heads.push(Reverse(Head {
                key: entry.sort_key(),
                lane,
                entry,
            }));
        }
        Ok(())
    }

    fn step(&mut self) -> Result<Option<SegmentEntry>, Error> {
        if !self.started {
            self.started = true;
            for lane in 0..self.lanes.len() {
                self.pull(lane)?;
            }
        }
        let Some(Reverse(head)) = self.heads.pop() else {
            return Ok(None);
        };
        self.pull(head.lane)?;
        Ok(Some(head.entry))
    }
}

impl Iterator for MergeScan<'_> {
    type Item = Result<SegmentEntry, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let step = self.step();
        self.failed = step.is_err();
        step.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(sizes: &[u64]) -> Vec<(SegmentId, u64)> {
        sizes
            .iter()
            .enumerate()
            .map(|(n, size)| (SegmentId([n as u8; 16]), *size))
            .collect()
    }

    fn joined(sizes: &[u64]) -> Vec<u8> {
        plan_merge(&named(sizes)).iter().map(|id| id.0[0]).collect()
    }

    #[test]
    fn plan_joins_the_fewest_small_segments() {
        assert!(joined(&[]).is_empty());
        assert!(joined(&[7]).is_empty());
        assert!(joined(&[3, 1]).is_empty());
        assert!(joined(&[100, 20, 5]).is_empty());
        assert_eq!(joined(&[1, 1]), [0, 1]);
        assert_eq!(joined(&[1000, 1, 1]), [1, 2]);
        assert_eq!(joined(&[5, 1, 1]), [1, 2, 0], "joining two would leave 5 < 3 * 2");
        assert_eq!(joined(&[u64::MAX, u64::MAX]), [0, 1]);
    }

    #[test]
    fn a_large_segment_does_not_prevent_the_merge_of_small_ones() {
        let within = |sizes: &[u64], most_bytes: u64| -> Vec<u8> {
            let stats = named(sizes).into_iter().map(|(id, entries)| SegmentStats {
                id,
                entries,
                bytes: entries * 10,
            });
            let due = plan_merge_within(&stats.collect::<Vec<_>>(), most_bytes);
            due.iter().map(|id| id.0[0]).collect()
        };
        assert_eq!(within(&[100, 40, 1, 1], 10_000), [2, 3, 1, 0]);
        assert_eq!(within(&[100, 40, 1, 1], 1_420), [2, 3, 1, 0]);
        assert_eq!(within(&[100, 40, 1, 1], 1_419), [2, 3]);
        // the next one is not joined with the large result of the last merge until the ratio
        // demands it
        assert!(within(&[100, 40, 2], 1_000).is_empty());
        assert!(within(&[100, 100, 100], 1_999).is_empty());
        assert_eq!(within(&[100, 100, 100], 2_000), [0, 1]);
        assert!(within(&[1, 1], 19).is_empty() && within(&[], 0).is_empty());
    }

    #[test]
    fn plan_joins_empty_segments_too() {
        assert!(joined(&[100, 0]).is_empty());
        assert_eq!(joined(&[0, 0]), [0, 1]);
        assert_eq!(joined(&[100, 0, 0, 0]), [1, 2, 3]);
    }

    proptest! {
        #[test]
        fn a_planned_merge_leaves_a_geometric_series(sizes in prop::collection::vec(0u64..10_000, 0..40)) {
            let segments = named(&sizes);
            let plan = plan_merge(&segments);
            prop_assert_ne!(plan.len(), 1);
            let mut row: Vec<u64> =
                segments.iter().filter(|(id, _)| !plan.contains(id)).map(|(_, size)| *size).collect();
            if !plan.is_empty() {
                row.push(segments.iter().filter(|(id, _)| plan.contains(id)).map(|(_, size)| *size).sum());
            }
            row.sort_unstable();
            for at in 0..row.len() {
                prop_assert!(row[at] >= 3 * row[..at].iter().sum::<u64>());
            }
        }
    }
}
