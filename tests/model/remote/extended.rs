//! Configurations of what an engine needs beyond the steps of the protocol: long ingests, sessions
//! that continue as another one, and merges of marks, records and tombstones.

use super::rules::{Blocking, Early, Left, Liveness, MarkListing, Refresh, Rules, Start, request};

/// Configurations that must hold.
pub fn sound() -> Vec<Rules> {
    [
        long_ingests(),
        sessions(),
        mark_merges(),
        record_merges(),
        late_hints(),
        reindexes(),
        repairs(),
        pages(),
    ]
    .concat()
}

/// Configurations without one rule.
pub fn broken() -> Vec<Rules> {
    [
        without_ingest_rules(),
        without_growth_rules(),
        without_hint_rules(),
        without_repair_rules(),
    ]
    .concat()
}

/// An ingest that lists again before it looks up its second chunk.
fn long_ingests() -> Vec<Rules> {
    let k = |name| Rules {
        want: [3, 0],
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            refresh: Refresh::MarksThenSegments,
            late: 1,
            liveness: Liveness::Always,
            ..k("a refresh lists marks, then segments, 1W 1P late1, every state")
        },
        Rules {
            refresh: Refresh::SegmentsThenMarks,
            pruners: 2,
            ..k("a refresh lists segments, then marks, 1W 2P")
        },
        Rules {
            refresh: Refresh::MarksThenSegments,
            start: Start::One,
            pruners: 2,
            forget: 0b101,
            ..k("a refresh lists marks, then segments, 1W 2P")
        },
        Rules {
            refresh: Refresh::Segments,
            late: 2,
            forget: 0b1111,
            ..k("a refresh lists only segments, 1W 1P late2")
        },
        Rules {
            refresh: Refresh::Segments,
            start: Start::SharedAndTwice,
            pruners: 2,
            ..k("a refresh lists only segments, 1W 2P duplicates")
        },
        Rules {
            want: [3, 1],
            refresh: Refresh::Segments,
            start: Start::One,
            forget: 0b101,
            ..k("a refresh lists only segments, 2W 1P")
        },
        Rules {
            refresh: Refresh::Segments,
            compactors: 1,
            rewrite: true,
            ..k("a refresh lists only segments, 1W 1P rewrite 1C")
        },
    ]
}

/// Segments from before the lease, and revoked sessions that continue.
fn sessions() -> Vec<Rules> {
    let k = |name| Rules {
        want: [3, 0],
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            early: Early::Segments,
            late: 2,
            forget: 0b1111,
            ..k("segments from before the lease, 1W 1P late2")
        },
        Rules {
            early: Early::Segments,
            pruners: 2,
            compactors: 1,
            rewrite: true,
            quits: false,
            ..k("segments from before the lease, 1W 2P rewrite 1C")
        },
        Rules {
            want: [3, 2],
            early: Early::Segments,
            start: Start::One,
            forget: 0b101,
            ..k("segments from before the lease, 2W 1P")
        },
        Rules {
            restarts: true,
            late: 1,
            forget: 0b1111,
            ..k("a revoked session continues as another one, 1W 1P late1")
        },
        Rules {
            restarts: true,
            start: Start::One,
            pruners: 2,
            forget: 0b101,
            ..k("a revoked session continues as another one, 1W 2P")
        },
        Rules {
            restarts: true,
            refresh: Refresh::Segments,
            start: Start::One,
            unlock: true,
            forget: 0b101,
            ..k("a revoked session with a refresh continues as another one, 1W 1P unlock")
        },
    ]
}

fn without_ingest_rules() -> Vec<Rules> {
    let k = |name| Rules {
        want: [3, 0],
        loses: Some("data lost"),
        ..Rules::new(name)
    };
    vec![
        Rules {
            early: Early::Marks,
            ..k("A2: marks from before the lease")
        },
        Rules {
            refresh: Refresh::MarksThenSegments,
            ..k("A7: marks do not count after a refresh")
        }
        .leave_out(&[Left::RefreshHonoursMarks]),
        Rules {
            restarts: true,
            pruners: 2,
            ..k("A2: a revoked session continues as another one without listing the marks again")
        }
        .leave_out(&[Left::NewSessionListsAgain]),
        Rules {
            late: 1,
            late_kinds: request::LEASE,
            not_awaited: request::LEASE,
            refresh: Refresh::Segments,
            ..k("A12: a long ingest does not await its lease")
        },
    ]
}

/// Marks are merged while others list them.
fn mark_merges() -> Vec<Rules> {
    let k = |name| Rules {
        start: Start::Two,
        want: [2, 0],
        swept: 0b10,
        mergers: 1,
        mark_listing: MarkListing::TwoPages,
        forget: 0b101,
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            pruners: 0,
            mergers: 2,
            late: 2,
            late_kinds: request::MARK | request::DELETE_MARK | request::MANIFEST,
            liveness: Liveness::Always,
            ..k("merges of marks, two pages, 1W 2G late2, every state")
        },
        Rules {
            mark_listing: MarkListing::WithGets,
            ..k("merges of marks, one page with GETs, 1W 1P 1G")
        },
        Rules {
            ..k("merges of marks, two pages, 1W 1P 1G")
        },
        Rules {
            mergers: 2,
            quits: false,
            ..k("merges of marks, two pages, 1W 1P 2G")
        },
        Rules {
            late: 1,
            late_kinds: request::MARK | request::DELETE_MARK,
            ..k("merges of marks, two pages, 1W 1P 1G late1 marks")
        },
        Rules {
            start: Start::Shared,
            want: [2, 0],
            swept: 0,
            pruners: 2,
            forget: 0b10,
            quits: false,
            guess: false,
            ..k("merges of marks of two prunes, two pages, 1W 2P 1G")
        },
        Rules {
            start: Start::Twice,
            want: [1, 0],
            swept: 0,
            pruners: 2,
            forget: 0b1,
            blocking: Blocking::Recorded,
            mark_listing: MarkListing::WithGets,
            quits: false,
            ..k("merges of marks that record their blockers, 1W 2P 1G")
        },
        Rules {
            start: Start::Twice,
            want: [0, 0],
            swept: 0,
            pruners: 2,
            mergers: 2,
            forget: 0b1,
            late: 1,
            late_kinds: request::MARK | request::DELETE_MARK | request::DELETE_PACK,
            ..k("merges of marks of two prunes of duplicates, two pages, 2P 2G late1")
        },
    ]
}

/// Forgotten records, and tombstones, are merged.
fn record_merges() -> Vec<Rules> {
    let k = |name| Rules {
        want: [2, 0],
        gathers: true,
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            late: 1,
            forget: 0b1111,
            ..k("a merge of forgotten records, 1W 1P late1")
        },
        Rules {
            gathers_tombstones: true,
            late: 2,
            late_kinds: request::MANIFEST | request::TOMBSTONE,
            forget: 0b1111,
            ..k("a merge of records and tombstones, 1W 1P late2 manifest tombstone")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            gathers_tombstones: true,
            pruners: 2,
            forget: 0b1,
            quits: false,
            ..k("a merge of records and tombstones, 1W 2P")
        },
    ]
}

fn without_growth_rules() -> Vec<Rules> {
    let k = |name| Rules {
        start: Start::Two,
        want: [2, 0],
        pruners: 0,
        swept: 0b10,
        mergers: 1,
        forget: 0,
        mark_listing: MarkListing::WithGets,
        loses: Some("data lost"),
        ..Rules::new(name)
    };
    let records = |name| Rules {
        want: [2, 0],
        gathers: true,
        forget: 0b1111,
        late: 1,
        late_kinds: request::MANIFEST,
        ..Rules::new(name)
    };
    vec![
        Rules {
            mark_listing: MarkListing::AtOnce,
            ..k("growth: marks are deleted before the merged one exists")
        }
        .leave_out(&[Left::MergedMarkFirst]),
        Rules {
            late: 1,
            late_kinds: request::MARK,
            not_awaited: request::MARK,
            mark_listing: MarkListing::AtOnce,
            ..k("growth: the PUT of the merged mark is not awaited")
        },
        k("growth: a mark that is missing after it was listed is ignored").leave_out(&[Left::ListMarksAgain]),
        Rules {
            mark_listing: MarkListing::TwoPages,
            ..k("growth: merged marks have random names, two pages")
        }
        .leave_out(&[Left::MergedMarkSortsLast]),
        Rules {
            loses: Some("forgotten"),
            ..records("growth: forgotten records are deleted before the merged one exists")
        }
        .leave_out(&[Left::MergedRecordFirst]),
        Rules {
            gathers_tombstones: true,
            loses: Some("revocation"),
            ..records("growth: tombstones are deleted")
        }
        .leave_out(&[Left::RecordOfTombstones, Left::CommitChecksRevoked]),
        Rules {
            gathers_tombstones: true,
            loses: Some("acknowledged"),
            ..records("growth: tombstones are merged into a record that commits do not list")
        }
        .leave_out(&[Left::CommitChecksRevoked]),
    ]
}

/// Late and lost `.swept`, `.wait` and forgotten records.
fn late_hints() -> Vec<Rules> {
    let k = |name| Rules {
        want: [2, 0],
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            late: 2,
            late_kinds: request::RECORD | request::MANIFEST | request::TOMBSTONE,
            forget: 0b1111,
            ..k("late forgotten records, 1W 1P late2 record manifest tombstone")
        },
        Rules {
            want: [0, 0],
            start: Start::SharedAndTwice,
            compactors: 1,
            rewrite: true,
            late: 2,
            late_kinds: request::SWEPT | request::SEGMENT | request::DELETE_PACK,
            not_awaited: request::SWEPT | request::DELETE_PACK,
            liveness: Liveness::Always,
            ..k("late .swept, not awaited, 1P rewrite 1C late2, every state")
        },
        Rules {
            start: Start::Twice,
            want: [1, 0],
            forget: 0b1,
            compactors: 1,
            late: 1,
            late_kinds: request::SWEPT,
            not_awaited: request::SWEPT,
            ..k("late .swept, not awaited, 1W 1P 1C late1")
        },
        Rules {
            want: [0, 0],
            start: Start::Twice,
            forget: 0b1,
            pruners: 2,
            compactors: 1,
            late: 1,
            late_kinds: request::SWEPT | request::PACK,
            not_awaited: request::SWEPT,
            ..k("late .swept, not awaited, 2P 1C late1")
        },
        Rules {
            pruners: 2,
            blocking: Blocking::Recorded,
            late: 1,
            late_kinds: request::WAIT,
            ..k("late .wait, 1W 2P late1")
        },
        Rules {
            want: [2, 2],
            pruners: 2,
            blocking: Blocking::Recorded,
            late: 1,
            late_kinds: request::WAIT,
            right: true,
            quits: false,
            ..k("late .wait, 2W 2P late1, guess right")
        },
        Rules {
            want: [1, 1],
            start: Start::One,
            forget: 0b1,
            pruners: 2,
            blocking: Blocking::Recorded,
            liveness: Liveness::Unchecked,
            quits: false,
            ..k(".wait is put after the tombstones, 2W 2P")
        },
    ]
}

fn without_hint_rules() -> Vec<Rules> {
    let k = |name| Rules {
        want: [2, 0],
        ..Rules::new(name)
    };
    vec![
        Rules {
            late: 2,
            late_kinds: request::RECORD | request::MANIFEST,
            not_awaited: request::RECORD,
            forget: 0b1111,
            loses: Some("forgotten"),
            ..k("A12: the manifest is deleted before its forgotten record is answered")
        },
        Rules {
            want: [1, 0],
            start: Start::Two,
            forget: 0b11,
            compactors: 1,
            quits: false,
            loses: Some("lost in the index"),
            ..k("A9: .swept names every pack of the mark")
        }
        .leave_out(&[Left::SweptIsDecided]),
        Rules {
            want: [1, 1],
            start: Start::One,
            forget: 0b1,
            pruners: 2,
            blocking: Blocking::Recorded,
            liveness: Liveness::Unchecked,
            loses: Some("data lost"),
            quits: false,
            large: true,
            ..k("A12: .wait is put before the tombstones")
        }
        .leave_out(&[Left::WaitAfterTombstones]),
    ]
}

/// Segments for packs that none names, also for condemned ones, and after a segment was lost.
fn reindexes() -> Vec<Rules> {
    let k = |name| Rules {
        want: [3, 0],
        reindexes: true,
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            start: Start::One,
            late: 1,
            forget: 0b101,
            liveness: Liveness::Always,
            ..k("reindex, 1W 1P late1, every state")
        },
        Rules {
            start: Start::One,
            pruners: 2,
            forget: 0b101,
            ..k("reindex, 1W 2P")
        },
        Rules {
            want: [0, 0],
            start: Start::Twice,
            unnamed: 0b10,
            pruners: 2,
            rewrite: true,
            late: 2,
            late_kinds: request::PACK | request::DELETE_PACK | request::SEGMENT,
            forget: 0b1,
            ..k("reindex of a pack that is condemned, 2P rewrite late2")
        },
        Rules {
            want: [1, 0],
            start: Start::Twice,
            unnamed: 0b10,
            pruners: 2,
            forget: 0b1,
            ..k("reindex of a pack that is condemned, 1W 2P")
        },
        Rules {
            want: [0, 0],
            start: Start::SharedAndTwice,
            unnamed: 0b10,
            compactors: 1,
            rewrite: true,
            pruners: 2,
            ..k("reindex of a pack that is condemned, 2P rewrite 1C")
        },
        Rules {
            want: [2, 0],
            lost_segments: 1,
            reads_contents: true,
            liveness: Liveness::Always,
            ..k("a lost segment, contents of condemned packs read, reindex, 1W 1P, every state")
        },
        Rules {
            want: [0, 0],
            start: Start::Twice,
            lost_segments: 2,
            reads_contents: true,
            pruners: 2,
            forget: 0,
            ..k("two lost segments, contents of condemned packs read, reindex, 2P")
        },
        Rules {
            want: [1, 0],
            start: Start::Twice,
            lost_segments: 1,
            reads_contents: true,
            pruners: 2,
            forget: 0b1,
            quits: false,
            ..k("a lost segment, contents of condemned packs read, reindex, 1W 2P")
        },
        Rules {
            want: [0, 0],
            start: Start::Two,
            lost_segments: 1,
            reads_contents: true,
            compactors: 1,
            rewrite: true,
            ..k("a lost segment, contents of condemned packs read, reindex, 1P rewrite 1C")
        },
        Rules {
            want: [2, 0],
            lost_segments: 1,
            reads_contents: true,
            ..k("a lost segment, contents of condemned packs read, no stop, 1W 1P")
        }
        .leave_out(&[Left::Stop]),
    ]
}

/// A damaged pack is replaced by a new one, and condemned.
fn repairs() -> Vec<Rules> {
    let k = |name| Rules {
        want: [2, 0],
        pruners: 1,
        repairs: 1,
        damaged: 1,
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            late: 2,
            forget: 0b1111,
            ..k("repair, 1W late2")
        },
        Rules {
            want: [3, 0],
            start: Start::Two,
            liveness: Liveness::Always,
            ..k("repair, 1W, every state")
        },
        Rules {
            pruners: 2,
            ..k("repair, 1W 1P")
        },
        Rules {
            want: [1, 0],
            start: Start::Twice,
            pruners: 2,
            forget: 0b1,
            late: 1,
            late_kinds: request::PACK | request::DELETE_PACK | request::SEGMENT | request::MARK,
            ..k("repair of a pack with a copy, 1W 1P late1")
        },
        Rules {
            want: [0, 0],
            pruners: 3,
            ..k("repair, 2P")
        },
        Rules {
            want: [0, 0],
            pruners: 3,
            repairs: 2,
            late: 1,
            ..k("two repairs, 1P late1")
        },
        Rules {
            want: [0, 0],
            start: Start::SharedAndTwice,
            pruners: 2,
            compactors: 1,
            rewrite: true,
            reindexes: true,
            ..k("repair, reindex, 1P rewrite 1C")
        },
        Rules {
            start: Start::One,
            want: [1, 0],
            forget: 0b1,
            pruners: 2,
            blocking: Blocking::Recorded,
            ..k("repair, marks record their blockers, 1W 1P")
        },
    ]
}

fn without_repair_rules() -> Vec<Rules> {
    let k = |name| Rules {
        loses: Some("data lost"),
        ..Rules::new(name)
    };
    vec![
        Rules {
            want: [1, 0],
            start: Start::Twice,
            unnamed: 0b10,
            reindexes: true,
            pruners: 2,
            forget: 0b1,
            ..k("reindex: a condemned pack loses its mark")
        }
        .leave_out(&[Left::ReindexKeepsMarks]),
        Rules {
            want: [1, 0],
            start: Start::One,
            forget: 0b1,
            pruners: 2,
            repairs: 1,
            damaged: 1,
            quits: false,
            ..k("repair: sessions are not settled, 1W 1P")
        }
        .leave_out(&[Left::RepairSettlesSessions]),
        Rules {
            pruners: 2,
            repairs: 1,
            damaged: 1,
            ..k("repair: the damaged pack is deleted without a decision, 1P")
        }
        .leave_out(&[Left::RepairDecides]),
        Rules {
            lost_segments: 1,
            reindexes: true,
            ..k("no stop at a live chunk without an entry, after a segment was lost, 1P")
        }
        .leave_out(&[Left::Stop]),
        Rules {
            start: Start::Twice,
            lost_segments: 1,
            pruners: 2,
            forget: 0,
            ..k("A15: contents of condemned packs are not read, a segment was lost, 2P")
        },
    ]
}

/// Listings of snapshots, leases and segments that take two pages.
fn pages() -> Vec<Rules> {
    let k = |name| Rules {
        pages: true,
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            want: [3, 0],
            start: Start::Two,
            compactors: 1,
            rewrite: true,
            forget: 0b111,
            ..k("listings of two pages, 1W 1P rewrite 1C")
        },
        Rules {
            want: [2, 3],
            forget: 0b1110,
            ..k("listings of two pages, 2W 1P")
        },
        Rules {
            want: [1, 1],
            start: Start::One,
            late: 1,
            forget: 0b101,
            ..k("listings of two pages, 2W 1P late1")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            quits: false,
            ..k("listings of two pages, 1W 2P")
        },
        Rules {
            want: [1, 1],
            start: Start::One,
            forget: 0b1,
            pruners: 2,
            blocking: Blocking::Recorded,
            quits: false,
            guess: false,
            ..k("listings of two pages, marks record their blockers, 2W 2P")
        },
    ]
}
