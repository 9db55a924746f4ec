//! The order of snapshots, from newest to oldest: one rule for listings, `latest` and retention.
//! Pure.
//!
//! The times come from clocks, and a clock may be wrong. A snapshot of a clock that was ahead must
//! not be the newest for years, so snapshots dated in the future are sorted as the oldest. When all
//! snapshots are, the present clock is as doubtful as the one that dated them, and their times
//! decide.

use super::model::Snapshot;
use crate::id::SnapshotId;

/// A snapshot is dated in the future when its time is more than this ahead, in milliseconds: clocks
/// of different machines differ a little.
pub const FUTURE_TOLERANCE_MS: i64 = 5 * 60 * 1000;

/// True when the time is in the future at the time `now_ms`, both in milliseconds since
/// 1970-01-01T00:00:00Z.
pub fn is_future(created_at_ms: i64, now_ms: i64) -> bool {
    created_at_ms > now_ms.saturating_add(FUTURE_TOLERANCE_MS)
}

/// Sort key, the most significant part first; the greatest is the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recency {
    /// It is not dated in the future.
    pub is_current: bool,
    created_at_ms: i64,
    /// Orders those of the same millisecond: the one that was committed later is the newer.
    sequence: u64,
    /// Orders two that were committed at the same time: arbitrary, but always the same.
    id: SnapshotId,
}

impl Recency {
    /// The key of a snapshot with these values, at the time `now_ms`.
    pub fn new((created_at_ms, sequence, id): (i64, u64, SnapshotId), now_ms: i64) -> Self {
        Self {
            is_current: !is_future(created_at_ms, now_ms),
            created_at_ms,
            sequence,
            id,
        }
    }

    /// The key of a snapshot, at the time `now_ms`.
    pub fn of(snapshot: &Snapshot, now_ms: i64) -> Self {
        Self::new((snapshot.created_at_ms, snapshot.sequence, snapshot.id), now_ms)
    }
}

/// Sorts the newest first, and those dated in the future last.
pub fn sort_newest_first(snapshots: &mut [Snapshot], now_ms: i64) {
    snapshots.sort_by_cached_key(|snapshot| std::cmp::Reverse(Recency::of(snapshot, now_ms)));
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    fn snapshot(created_at_ms: i64, sequence: u64, id: u8) -> Snapshot {
        Snapshot {
            created_at_ms,
            sequence,
            id: SnapshotId([id; 16]),
            ..sample()
        }
    }

    fn sorted(mut list: Vec<Snapshot>, now_ms: i64) -> Vec<u8> {
        sort_newest_first(&mut list, now_ms);
        list.iter().map(|snapshot| snapshot.id.0[0]).collect()
    }

    #[test]
    fn ties_are_ordered_by_sequence_and_then_by_id() {
        let list = vec![
            snapshot(5, 0, 9),
            snapshot(9, 0, 1),
            snapshot(5, 7, 2),
            snapshot(5, 7, 3),
            snapshot(5, 8, 0),
            snapshot(-1, 99, 4),
        ];
        assert_eq!(sorted(list, 100), [1, 0, 3, 2, 9, 4]);
    }

    #[test]
    fn snapshots_dated_in_the_future_come_last_and_a_little_ahead_is_not_the_future() {
        let now = 1_000_000;
        let ahead = now + FUTURE_TOLERANCE_MS;
        let list = || {
            vec![
                snapshot(ahead + 2, 1, 1),
                snapshot(ahead + 1, 2, 2),
                snapshot(ahead, 3, 3),
                snapshot(now, 4, 4),
            ]
        };
        assert_eq!(sorted(list(), now), [3, 4, 1, 2]);
        assert_eq!(sorted(list(), now + 2), [1, 2, 3, 4]);
        assert_eq!(
            sorted(list(), i64::MIN),
            [1, 2, 3, 4],
            "all are, so their own times decide"
        );
        assert_eq!(sorted(list(), i64::MAX), [1, 2, 3, 4]);
    }
}
