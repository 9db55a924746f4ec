//! The configurations of the model of object stores without one rule, in which a loss must be
//! found.

use super::rules::{Blocking, Forgetting, Left, Liveness, Retries, Rules, Start, TornIndex, request};

/// Each rule left out.
pub fn broken() -> Vec<Rules> {
    [sessions(), decisions(), names(), merges(), answers(), others()].concat()
}

/// A2 to A4, and that marks that wait are continued.
fn sessions() -> Vec<Rules> {
    let k = Rules::new;
    vec![
        Rules {
            want: [2, 0],
            loses: Some("data lost"),
            ..k("A2: reads before its lease")
        }
        .leave_out(&[Left::LeaseFirst]),
        Rules {
            want: [2, 0],
            not_awaited: request::LEASE,
            late: 1,
            late_kinds: request::LEASE,
            loses: Some("data lost"),
            ..k("A2: continues before the lease PUT is answered")
        },
        Rules {
            want: [2, 0],
            blocking: Blocking::Ignored,
            loses: Some("data lost"),
            ..k("A3: live leases ignored")
        },
        Rules {
            want: [2, 0],
            loses: Some("data lost"),
            ..k("A4: stale lease deleted without tombstone")
        }
        .leave_out(&[Left::Tombstone]),
        Rules {
            want: [2, 0],
            pruners: 2,
            loses: Some("data lost"),
            ..k("A4: lease deleted before the tombstone")
        }
        .leave_out(&[Left::TombstoneFirst]),
        Rules {
            want: [2, 0],
            not_awaited: request::TOMBSTONE,
            late: 1,
            late_kinds: request::TOMBSTONE,
            loses: Some("data lost"),
            ..k("A4: continues before the tombstone PUT is answered")
        },
        Rules {
            want: [2, 0],
            unlock: true,
            loses: Some("data lost"),
            ..k("A4: no tombstone, unlock")
        }
        .leave_out(&[Left::Tombstone]),
        Rules {
            want: [2, 2],
            pruners: 2,
            blocking: Blocking::Recorded,
            right: true,
            reach: true,
            liveness: Liveness::Unchecked,
            loses: Some("reached"),
            ..k("reach: .wait lets a prune continue while a later session is live, guess right")
        },
    ]
}

/// A1 and A5.
fn decisions() -> Vec<Rules> {
    let k = Rules::new;
    vec![
        Rules {
            want: [1, 1],
            start: Start::One,
            pruners: 2,
            forget: 0b1,
            guess: false,
            quits: false,
            liveness: Liveness::Unchecked,
            loses: Some("data lost"),
            large: true,
            ..k("A1: marks before segments at P4, 2W 2P")
        }
        .leave_out(&[Left::MarksLast]),
        Rules {
            want: [2, 0],
            loses: Some("data lost"),
            ..k("A5: snapshots not re-listed")
        }
        .leave_out(&[Left::SnapshotsAgain]),
        Rules {
            want: [1, 0],
            start: Start::Twice,
            pruners: 2,
            forget: 0b1,
            loses: Some("data lost"),
            ..k("A5: no copy check at P4, packs spared, 1W 2P")
        }
        .leave_out(&[Left::CopyCheck]),
        Rules {
            want: [2, 0],
            pruners: 2,
            quits: false,
            guess: false,
            liveness: Liveness::Unchecked,
            loses: Some("data lost"),
            ..k("A5: segments not re-listed, 1W 2P, no guess")
        }
        .leave_out(&[Left::SegmentsAgain]),
        Rules {
            want: [3, 0],
            pruners: 2,
            forget: 0b1111,
            loses: Some("data lost"),
            large: true,
            ..k("A5: segments not re-listed (marks are), packs spared by guess, 1W 2P init 2")
        }
        .leave_out(&[Left::SegmentsAgain]),
        Rules {
            want: [3, 0],
            pruners: 2,
            forget: 0b1111,
            right: true,
            loses: Some("data lost"),
            large: true,
            ..k("A5: segments not re-listed, packs spared, guess always right, 1W 2P init 2")
        }
        .leave_out(&[Left::SegmentsAgain]),
        Rules {
            want: [3, 0],
            pruners: 2,
            forget: 0b1111,
            right: true,
            loses: Some("data lost"),
            large: true,
            ..k("A5: segments not re-listed, packs not spared, guess always right, 1W 2P init 2")
        }
        .leave_out(&[Left::SegmentsAgain, Left::Sparing]),
        Rules {
            want: [3, 0],
            start: Start::One,
            pruners: 2,
            forget: 0b1111,
            loses: Some("data lost"),
            ..k("A5: no copy check, packs not spared, 1W 2P")
        }
        .leave_out(&[Left::Sparing, Left::CopyCheck]),
    ]
}

/// A6 to A8.
fn names() -> Vec<Rules> {
    let k = Rules::new;
    vec![
        Rules {
            start: Start::Two,
            want: [2, 0],
            pruners: 1,
            compactors: 1,
            late: 1,
            late_kinds: request::DELETE_SEGMENT,
            liveness: Liveness::Unchecked,
            forget: 0b1111,
            loses: Some("lost in the index"),
            ..k("A6: segment names reused, 1W 1C late1")
        }
        .leave_out(&[Left::FreshSegmentNames]),
        Rules {
            start: Start::One,
            want: [1, 0],
            pruners: 1,
            forget: 0b1,
            loses: Some("data lost"),
            ..k("A6: pack names reused (name = hash of the chunks)")
        }
        .leave_out(&[Left::FreshPackNames]),
        Rules {
            start: Start::One,
            want: [1, 0],
            pruners: 1,
            forget: 0b1,
            late: 1,
            late_kinds: request::DELETE_PACK,
            loses: Some("data lost"),
            ..k("A6: pack names reused, late DELETE")
        }
        .leave_out(&[Left::FreshPackNames]),
        Rules {
            want: [2, 0],
            pruners: 2,
            loses: Some("data lost"),
            ..k("A7: marks dropped after the sweep")
        }
        .leave_out(&[Left::MarksStay]),
        Rules {
            want: [2, 0],
            pruners: 2,
            loses: Some("data lost"),
            ..k("A7: marks withdrawn when deferred")
        }
        .leave_out(&[Left::DeferredMarksStay]),
        Rules {
            want: [2, 0],
            loses: Some("data lost"),
            ..k("A7: writer does not read marks")
        }
        .leave_out(&[Left::WritersReadMarks]),
        Rules {
            reader: Retries::AtMost(0),
            liveness: Liveness::Unchecked,
            loses: Some("reader"),
            ..k("A8: reader without retry")
        },
        Rules {
            pruners: 2,
            reader: Retries::AtMost(1),
            liveness: Liveness::Unchecked,
            loses: Some("reader"),
            ..k("A8: reader one retry, 2P")
        },
    ]
}

/// A9.
fn merges() -> Vec<Rules> {
    let k = Rules::new;
    vec![
        Rules {
            start: Start::Twice,
            compactors: 1,
            forget: 0b0,
            loses: Some("lost in the index"),
            ..k("A9: merge drops duplicates")
        }
        .leave_out(&[Left::MergeKeepsDuplicates]),
        Rules {
            start: Start::Twice,
            want: [1, 0],
            pruners: 2,
            compactors: 1,
            forget: 0b1,
            loses: Some("lost in the index"),
            ..k("A9: merge drops entries of marked packs")
        }
        .leave_out(&[Left::MergeKeepsMarked]),
        Rules {
            start: Start::Twice,
            pruners: 2,
            loses: Some("data lost"),
            ..k("A9: copies in marked packs count, 2P")
        }
        .leave_out(&[Left::MarkedDoNotCount]),
        Rules {
            want: [2, 0],
            loses: Some("revocation"),
            ..k("A9: manifest PUT overwrites")
        }
        .leave_out(&[Left::ManifestIfAbsent]),
        Rules {
            want: [2, 0],
            loses: Some("durability: acknowledged"),
            ..k("A9: tombstone PUT overwrites")
        }
        .leave_out(&[Left::TombstoneIfAbsent]),
    ]
}

/// A12.
fn answers() -> Vec<Rules> {
    let k = Rules::new;
    vec![
        Rules {
            want: [2, 0],
            not_awaited: request::MANIFEST,
            late: 1,
            late_kinds: request::MANIFEST,
            loses: Some("durability: acknowledged"),
            ..k("A12: manifest acknowledged before it is answered")
        },
        Rules {
            want: [2, 0],
            start: Start::One,
            not_awaited: request::PACK,
            late: 1,
            late_kinds: request::PACK,
            loses: Some("data lost"),
            ..k("A12: pack PUT not awaited")
        },
        Rules {
            want: [2, 0],
            start: Start::One,
            not_awaited: request::SEGMENT,
            late: 1,
            late_kinds: request::SEGMENT,
            loses: Some("lost in the index"),
            ..k("A12: segment PUT not awaited")
        },
        Rules {
            want: [2, 0],
            not_awaited: request::MARK,
            late: 1,
            late_kinds: request::MARK,
            loses: Some("data lost"),
            ..k("A12: mark PUT not awaited, 1W 1P")
        },
        Rules {
            start: Start::SharedAndTwice,
            pruners: 0,
            compactors: 1,
            not_awaited: request::SEGMENT,
            late: 1,
            late_kinds: request::SEGMENT,
            loses: Some("lost in the index"),
            ..k("A12: merged segment PUT not awaited, 1C")
        },
        Rules {
            start: Start::SharedAndTwice,
            pruners: 0,
            compactors: 1,
            loses: Some("lost in the index"),
            ..k("A12: old segments deleted before the merged one exists")
        }
        .leave_out(&[Left::MergedFirst]),
    ]
}

/// A10, A11, and A13 to A15.
fn others() -> Vec<Rules> {
    let k = Rules::new;
    vec![
        Rules {
            start: Start::Twice,
            pruners: 2,
            compactors: 1,
            liveness: Liveness::Unchecked,
            forget: 0b0,
            torn: TornIndex::AsOneInstant,
            loses: Some("data lost"),
            ..k("A15: torn index listing, 2P 1C duplicates")
        },
        Rules {
            want: [2, 0],
            forgetting: Forgetting::Delete,
            late: 1,
            late_kinds: request::MANIFEST,
            forget: 0b1111,
            loses: Some("forgotten"),
            ..k("A10: forget deletes the manifest key, late manifest PUT")
        },
        Rules {
            want: [2, 0],
            late: 1,
            late_kinds: request::MANIFEST,
            loses: Some("data lost"),
            ..k("A11: outcome unknown, writer deletes its lease")
        }
        .leave_out(&[Left::UnknownKeepsLease]),
        Rules {
            want: [2, 0],
            start: Start::One,
            late: 1,
            liveness: Liveness::Always,
            loses: Some("does not delete"),
            ..k("A13: swept packs never condemned again (leak)")
        }
        .leave_out(&[Left::SweptAgain]),
        Rules {
            start: Start::SharedAndTwice,
            pruners: 0,
            compactors: 1,
            late: 1,
            late_kinds: request::SEGMENT,
            loses: Some("lost in the index"),
            ..k("A14: merged segment rebuilt under the same name")
        }
        .leave_out(&[Left::FixedSegments]),
        Rules {
            want: [2, 0],
            forgetting: Forgetting::Delete,
            late: 1,
            late_kinds: request::MANIFEST,
            forget: 0b1111,
            may_return: true,
            loses: Some("data lost"),
            ..k("A10: forget deletes the manifest key (its return is no violation)")
        },
    ]
}
