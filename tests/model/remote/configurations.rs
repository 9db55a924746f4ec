//! The configurations of the model of object stores in which nothing may be lost. In the names, W
//! is a writer, P a prune, C a compaction, G a merge of marks, and "late2" stands for two requests
//! without an answer.

use super::rules::{Blocking, Forgetting, Left, Liveness, Retries, Rules, Start, TornIndex, request};

/// Configurations of the protocol.
pub fn sound() -> Vec<Rules> {
    [
        no_lock(),
        no_lock_with_writers(),
        late(),
        late_with_one_writer(),
        late_with_two_writers_or_prunes(),
        readers(),
        torn_index(),
        variants(),
        own_pack(),
        own_pack_and_two_prunes(),
        three(),
        needless(),
    ]
    .concat()
}

/// No lock and no lost answer, with writers.
fn no_lock_with_writers() -> Vec<Rules> {
    let k = |name| Rules {
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            want: [2, 0],
            liveness: Liveness::Always,
            forget: 0b1111,
            ..k("1W 1P, every state")
        },
        Rules {
            want: [2, 0],
            start: Start::SharedAndTwice,
            compactors: 2,
            rewrite: true,
            ..k("1W 1P rewrite 2C")
        },
        Rules {
            want: [3, 0],
            start: Start::Two,
            pruners: 0,
            compactors: 2,
            liveness: Liveness::Always,
            forget: 0b1111,
            ..k("1W 2C, every state")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            rewrite: true,
            ..k("1W 2P rewrite")
        },
        Rules {
            want: [3, 0],
            start: Start::SharedAndTwice,
            pruners: 2,
            rewrite: true,
            ..k("1W 2P rewrite duplicates")
        },
        Rules {
            want: [1, 0],
            start: Start::Twice,
            pruners: 2,
            compactors: 1,
            rewrite: true,
            forget: 0b1,
            ..k("1W 2P rewrite 1C duplicates")
        },
        Rules {
            want: [2, 3],
            liveness: Liveness::Always,
            ..k("2W 1P")
        },
        Rules {
            want: [2, 1],
            start: Start::Two,
            compactors: 1,
            rewrite: true,
            ..k("2W 1P rewrite 1C")
        },
        Rules {
            want: [2, 0],
            start: Start::SharedAndTwice,
            compactors: 2,
            rewrite: true,
            ..k("list not carried, 1W 1P rewrite 2C")
        }
        .leave_out(&[Left::CarriedNames]),
        Rules {
            want: [1, 1],
            start: Start::One,
            pruners: 2,
            forget: 0b1,
            guess: false,
            quits: false,
            liveness: Liveness::Unchecked,
            ..k("marks last, 2W 2P")
        },
    ]
}

/// No lock and no lost answer, without writers.
fn no_lock() -> Vec<Rules> {
    let k = |name| Rules {
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            start: Start::SharedAndTwice,
            pruners: 0,
            compactors: 2,
            liveness: Liveness::Always,
            ..k("2C, every state")
        },
        Rules {
            start: Start::SharedAndTwice,
            compactors: 2,
            rewrite: true,
            liveness: Liveness::Always,
            ..k("1P rewrite 2C, every state")
        },
        Rules {
            start: Start::SharedAndTwice,
            pruners: 2,
            rewrite: true,
            liveness: Liveness::Always,
            ..k("2P rewrite, every state")
        },
        Rules {
            start: Start::SharedAndTwice,
            pruners: 2,
            compactors: 1,
            rewrite: true,
            ..k("2P rewrite 1C")
        },
        Rules {
            start: Start::Two,
            pruners: 2,
            compactors: 1,
            rewrite: true,
            forget: 0b10,
            ..k("2P rewrite 1C repack")
        },
        Rules {
            start: Start::Twice,
            pruners: 2,
            compactors: 2,
            rewrite: true,
            forget: 0b1,
            ..k("2P rewrite 2C")
        },
        Rules {
            start: Start::SharedAndTwice,
            pruners: 2,
            compactors: 1,
            rewrite: true,
            ..k("list not carried, 2P rewrite 1C")
        }
        .leave_out(&[Left::CarriedNames]),
    ]
}

/// Lost answers and late requests, with writers and two processes of a kind.
fn late_with_two_writers_or_prunes() -> Vec<Rules> {
    let k = |name| Rules {
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            want: [2, 3],
            late: 1,
            ..k("2W 1P late1")
        },
        Rules {
            want: [2, 3],
            late: 2,
            late_kinds: request::MANIFEST | request::TOMBSTONE,
            forget: 0b1111,
            ..k("2W 1P late2 manifest tombstone")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            late: 1,
            ..k("1W 2P late1")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            late: 1,
            late_kinds: request::MANIFEST | request::TOMBSTONE | request::LEASE,
            forget: 0b110,
            ..k("1W 2P late1 manifest tombstone")
        },
        Rules {
            want: [1, 0],
            start: Start::Twice,
            pruners: 2,
            late: 1,
            forget: 0b1,
            ..k("1W 2P late1 duplicates")
        },
    ]
}

/// Lost answers and late requests, with a writer.
fn late_with_one_writer() -> Vec<Rules> {
    let k = |name| Rules {
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            want: [2, 0],
            late: 1,
            liveness: Liveness::Always,
            forget: 0b1111,
            ..k("1W 1P late1, every state")
        },
        Rules {
            want: [2, 0],
            late: 2,
            liveness: Liveness::Always,
            forget: 0b1111,
            ..k("1W 1P late2, every state")
        },
        Rules {
            want: [2, 0],
            late: 3,
            forget: 0b1111,
            ..k("1W 1P late3")
        },
        Rules {
            want: [3, 0],
            start: Start::SharedAndTwice,
            late: 2,
            rewrite: true,
            forget: 0b1111,
            ..k("1W 1P rewrite late2 duplicates")
        },
        Rules {
            want: [3, 0],
            start: Start::Two,
            pruners: 0,
            compactors: 2,
            late: 1,
            forget: 0b11,
            ..k("1W 2C late1")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            compactors: 1,
            rewrite: true,
            late: 2,
            late_kinds: request::DELETE_PACK | request::DELETE_SEGMENT | request::PACK | request::SEGMENT,
            not_awaited: request::DELETE_PACK | request::DELETE_SEGMENT,
            forget: 0b101,
            ..k("DELETE answers not awaited, 1W 1P rewrite 1C late2")
        },
    ]
}

/// Lost answers and late requests, without writers.
fn late() -> Vec<Rules> {
    let k = |name| Rules {
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            start: Start::SharedAndTwice,
            pruners: 0,
            compactors: 2,
            late: 2,
            liveness: Liveness::Always,
            ..k("2C late2, every state")
        },
        Rules {
            start: Start::SharedAndTwice,
            compactors: 2,
            rewrite: true,
            late: 1,
            ..k("1P rewrite 2C late1")
        },
        Rules {
            start: Start::SharedAndTwice,
            compactors: 1,
            rewrite: true,
            late: 2,
            ..k("1P rewrite 1C late2")
        },
        Rules {
            start: Start::SharedAndTwice,
            pruners: 2,
            late: 1,
            liveness: Liveness::Always,
            ..k("2P late1, every state")
        },
        Rules {
            start: Start::SharedAndTwice,
            pruners: 2,
            rewrite: true,
            late: 1,
            ..k("2P rewrite late1")
        },
        Rules {
            start: Start::Shared,
            pruners: 2,
            rewrite: true,
            late: 1,
            ..k("2P rewrite late1 repack")
        },
        Rules {
            start: Start::Twice,
            pruners: 2,
            late: 2,
            late_kinds: request::DELETE_PACK | request::PACK | request::MARK,
            forget: 0b1,
            ..k("2P late2 pack deletes, packs, marks")
        },
        Rules {
            start: Start::SharedAndTwice,
            pruners: 2,
            compactors: 1,
            rewrite: true,
            late: 1,
            late_kinds: request::DELETE_PACK | request::DELETE_SEGMENT,
            not_awaited: request::DELETE_PACK | request::DELETE_SEGMENT,
            ..k("DELETE answers not awaited, 2P rewrite 1C late1")
        },
    ]
}

/// Readers.
fn readers() -> Vec<Rules> {
    let k = |name| Rules {
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            start: Start::SharedAndTwice,
            pruners: 2,
            compactors: 1,
            rewrite: true,
            reader: Retries::WhileNew,
            liveness: Liveness::Unchecked,
            ..k("reader until stable, 2P rewrite 1C")
        },
        Rules {
            start: Start::SharedAndTwice,
            compactors: 1,
            rewrite: true,
            reader: Retries::WhileNew,
            late: 1,
            liveness: Liveness::Unchecked,
            ..k("reader until stable, 1P rewrite 1C late1")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            reader: Retries::WhileNew,
            liveness: Liveness::Unchecked,
            guess: false,
            ..k("reader until stable, 1W 2P")
        },
        Rules {
            want: [2, 0],
            reader: Retries::WhileNew,
            reads: 2,
            late: 1,
            liveness: Liveness::Unchecked,
            ..k("reader of a new snapshot, 1W 1P late1")
        },
    ]
}

/// An index of two pages.
fn torn_index() -> Vec<Rules> {
    let k = |name| Rules {
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            start: Start::Two,
            pruners: 2,
            compactors: 1,
            rewrite: true,
            liveness: Liveness::Unchecked,
            torn: TornIndex::AsOneInstant,
            ..k("torn index listing, 2P rewrite 1C")
        },
        Rules {
            start: Start::Twice,
            pruners: 2,
            compactors: 2,
            liveness: Liveness::Unchecked,
            forget: 0b0,
            torn: TornIndex::KeepPlan,
            ..k("torn index listing, entries of the plan kept, 2P 2C")
        },
        Rules {
            start: Start::Twice,
            pruners: 2,
            compactors: 2,
            liveness: Liveness::Unchecked,
            forget: 0b0,
            torn: TornIndex::ReadContents,
            ..k("torn index listing, contents of condemned packs read, 2P 2C")
        },
        Rules {
            start: Start::Twice,
            pruners: 2,
            compactors: 2,
            liveness: Liveness::Unchecked,
            forget: 0b0,
            torn: TornIndex::ListTwice,
            ..k("torn index listing, listed until twice the same, 2P 2C")
        },
        Rules {
            want: [1, 0],
            start: Start::Twice,
            pruners: 2,
            compactors: 1,
            liveness: Liveness::Unchecked,
            forget: 0b1,
            guess: false,
            quits: false,
            torn: TornIndex::ReadContents,
            ..k("torn index, contents of condemned packs read, 1W 2P 1C")
        },
        Rules {
            start: Start::SharedAndTwice,
            want: [2, 0],
            compactors: 1,
            rewrite: true,
            liveness: Liveness::Unchecked,
            torn: TornIndex::AsOneInstant,
            ..k("torn index listing, 1W 1P rewrite 1C")
        },
        Rules {
            start: Start::Two,
            compactors: 2,
            liveness: Liveness::Unchecked,
            forget: 0b0,
            torn: TornIndex::AsOneInstant,
            ..k("a stop at a live chunk without an entry, torn index listing, 1P 2C")
        },
    ]
}

/// Other ways to honour marks and to forget.
fn variants() -> Vec<Rules> {
    let k = |name| Rules {
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            want: [2, 0],
            blocking: Blocking::Unseen,
            late: 2,
            forget: 0b1111,
            liveness: Liveness::Always,
            ..k("marksSeen file, 1W 1P late2")
        },
        Rules {
            want: [2, 3],
            blocking: Blocking::Unseen,
            liveness: Liveness::Always,
            ..k("marksSeen file, 2W 1P")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            blocking: Blocking::Unseen,
            ..k("marksSeen file, 1W 2P")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            blocking: Blocking::Recorded,
            ..k("mark records its blockers, 1W 2P")
        },
        Rules {
            want: [2, 2],
            start: Start::One,
            pruners: 2,
            blocking: Blocking::Recorded,
            guess: false,
            forget: 0b1,
            ..k("mark records its blockers, 2W 2P, no guess")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            blocking: Blocking::Recorded,
            late: 1,
            late_kinds: request::MANIFEST | request::TOMBSTONE | request::MARK,
            ..k("mark records its blockers, 1W 2P late1 mark/man/tomb")
        },
        Rules {
            want: [2, 0],
            forgetting: Forgetting::Overwrite,
            late: 2,
            forget: 0b1111,
            liveness: Liveness::Always,
            ..k("forget overwrites with a tombstone, 1W 1P late2")
        },
    ]
}

/// A writer that always stores a pack of its own, and two prunes.
fn own_pack_and_two_prunes() -> Vec<Rules> {
    let k = |name| Rules {
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            want: [3, 0],
            start: Start::One,
            pruners: 2,
            liveness: Liveness::Always,
            forget: 0b1111,
            ..k("own pack, 1W 2P, every state")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            pruners: 2,
            late: 1,
            forget: 0b101,
            ..k("own pack, 1W 2P late1")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            pruners: 2,
            late: 1,
            late_kinds: request::PACK | request::DELETE_PACK,
            forget: 0b101,
            ..k("own pack, 1W 2P late1 packs")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            pruners: 2,
            compactors: 1,
            rewrite: true,
            forget: 0b101,
            guess: false,
            ..k("own pack, 1W 2P rewrite 1C")
        },
        Rules {
            want: [3, 2],
            start: Start::One,
            pruners: 2,
            forget: 0b1,
            quits: false,
            ..k("own pack, 2W 2P")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            pruners: 2,
            blocking: Blocking::Recorded,
            forget: 0b101,
            ..k("own pack, mark records its blockers, 1W 2P")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            pruners: 2,
            blocking: Blocking::Recorded,
            late: 1,
            late_kinds: request::MANIFEST | request::TOMBSTONE | request::MARK | request::DELETE_LEASE,
            forget: 0b101,
            ..k("own pack, mark records its blockers, 1W 2P late1")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            pruners: 2,
            reader: Retries::WhileNew,
            reads: 2,
            forget: 0b1,
            liveness: Liveness::Unchecked,
            quits: false,
            ..k("own pack, reader of the new snapshot, 1W 2P")
        },
        Rules {
            want: [3, 2],
            start: Start::One,
            pruners: 2,
            rewrite: true,
            late: 1,
            forget: 0b101,
            ..k("own pack, 2W 2P rewrite late1")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            pruners: 2,
            compactors: 1,
            rewrite: true,
            late: 2,
            forget: 0b101,
            ..k("own pack, 1W 2P rewrite 1C late2")
        },
    ]
}

/// A writer that always stores a pack of its own.
fn own_pack() -> Vec<Rules> {
    let k = |name| Rules {
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            want: [3, 0],
            start: Start::One,
            late: 2,
            liveness: Liveness::Always,
            forget: 0b1111,
            ..k("own pack, 1W 1P late2, every state")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            late: 3,
            forget: 0b101,
            ..k("own pack, 1W 1P late3")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            late: 2,
            forget: 0b1111,
            unlock: true,
            liveness: Liveness::Always,
            ..k("own pack, 1W 1P late2 unlock")
        },
        Rules {
            want: [3, 2],
            start: Start::One,
            late: 1,
            forget: 0b101,
            unlock: true,
            ..k("own pack, 2W 1P late1 unlock")
        },
        Rules {
            want: [3, 2],
            start: Start::One,
            late: 1,
            forget: 0b1111,
            ..k("own pack, 2W 1P late1")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            compactors: 2,
            rewrite: true,
            late: 1,
            forget: 0b101,
            ..k("own pack, 1W 1P rewrite 2C late1")
        },
        Rules {
            want: [3, 2],
            start: Start::One,
            compactors: 1,
            rewrite: true,
            forget: 0b101,
            ..k("own pack, 2W 1P rewrite 1C")
        },
        Rules {
            want: [3, 0],
            start: Start::One,
            forgetting: Forgetting::Overwrite,
            late: 2,
            forget: 0b1111,
            liveness: Liveness::Always,
            ..k("own pack, forget overwrites, 1W 1P late2")
        },
    ]
}

/// Three prunes.
fn three() -> Vec<Rules> {
    let k = |name| Rules {
        check_entries: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            start: Start::SharedAndTwice,
            pruners: 3,
            liveness: Liveness::Always,
            ..k("3P duplicates, every state")
        },
        Rules {
            start: Start::Twice,
            pruners: 3,
            rewrite: true,
            forget: 0b1,
            ..k("3P duplicates rewrite")
        },
        Rules {
            start: Start::Shared,
            pruners: 3,
            ..k("3P repack")
        },
        Rules {
            start: Start::Twice,
            pruners: 3,
            blocking: Blocking::Recorded,
            late: 1,
            late_kinds: request::MARK | request::SEGMENT,
            forget: 0b1,
            ..k("3P blockers late1")
        },
        Rules {
            want: [1, 0],
            start: Start::Twice,
            pruners: 3,
            forget: 0b1,
            quits: false,
            guess: false,
            ..k("1W 3P")
        },
    ]
}

/// Rules that are left out without a loss at this size.
fn needless() -> Vec<Rules> {
    let k = Rules::new;
    vec![
        Rules {
            want: [1, 0],
            start: Start::Twice,
            pruners: 2,
            late: 1,
            late_kinds: request::SEGMENT,
            forget: 0b0,
            ..k("A1: marks before segments at P4, 1W 2P late1")
        }
        .leave_out(&[Left::MarksLast]),
        Rules {
            want: [3, 0],
            start: Start::One,
            forget: 0b1111,
            late: 1,
            ..k("A1: segments before snapshots at P4, 1W 1P")
        }
        .leave_out(&[Left::SnapshotsFirst]),
        Rules {
            want: [3, 0],
            start: Start::One,
            forget: 0b1111,
            pruners: 2,
            ..k("A1: segments before snapshots, no stop, 1W 2P")
        }
        .leave_out(&[Left::SnapshotsFirst, Left::Stop]),
        Rules {
            want: [2, 3],
            start: Start::One,
            late: 1,
            forget: 0b1111,
            ..k("A5: packs of live sessions not spared, 2W 1P")
        }
        .leave_out(&[Left::Sparing]),
        Rules {
            want: [3, 0],
            start: Start::One,
            pruners: 2,
            forget: 0b1111,
            ..k("A5: packs of live sessions not spared, 1W 2P")
        }
        .leave_out(&[Left::Sparing]),
        Rules {
            want: [3, 0],
            start: Start::One,
            pruners: 2,
            forget: 0b1111,
            ..k("A5: segments not re-listed (marks are), packs spared, 1W 2P")
        }
        .leave_out(&[Left::SegmentsAgain]),
        Rules {
            start: Start::SharedAndTwice,
            pruners: 2,
            compactors: 1,
            rewrite: true,
            ..k("A5: segments not re-listed (marks are), packs spared, 2P dup rewrite 1C")
        }
        .leave_out(&[Left::SegmentsAgain]),
        Rules {
            start: Start::Two,
            want: [2, 0],
            pruners: 0,
            compactors: 2,
            liveness: Liveness::Unchecked,
            ..k("A6: segment names reused, 1W 2C")
        }
        .leave_out(&[Left::FreshSegmentNames]),
        Rules {
            start: Start::Two,
            compactors: 2,
            liveness: Liveness::Unchecked,
            forget: 0b0,
            torn: TornIndex::AsOneInstant,
            ..k("no stop at a live chunk without an entry, torn index listing, 1P 2C")
        }
        .leave_out(&[Left::Stop]),
    ]
}

/// Random walks.
pub fn walks() -> Vec<Rules> {
    [walks_with_rules(), walks_without_rules()].concat()
}

/// Random walks that find the loss without a rule.
fn walks_without_rules() -> Vec<Rules> {
    let k = |name| Rules {
        pruners: 2,
        compactors: 2,
        rewrite: true,
        late: 3,
        forget: 0b1111,
        unlock: true,
        walks: 250_000,
        ..Rules::new(name)
    };
    vec![
        Rules {
            want: [3, 2],
            start: Start::SharedAndTwice,
            loses: Some("does not delete"),
            large: true,
            ..k("A6 walk: segment names reused")
        }
        .leave_out(&[Left::FreshSegmentNames]),
        Rules {
            want: [3, 2],
            start: Start::SharedAndTwice,
            forgetting: Forgetting::Delete,
            may_return: true,
            loses: Some("forgotten"),
            large: true,
            ..k("A10 walk: forget frees the key (its return is no violation)")
        },
        Rules {
            want: [3, 2],
            start: Start::SharedAndTwice,
            loses: Some("data lost"),
            large: true,
            ..k("A11 walk: outcome unknown, lease deleted")
        }
        .leave_out(&[Left::UnknownKeepsLease]),
        Rules {
            want: [3, 2],
            start: Start::SharedAndTwice,
            loses: Some("does not delete"),
            large: true,
            ..k("A13 walk: swept packs never condemned again")
        }
        .leave_out(&[Left::SweptAgain]),
    ]
}

/// Random walks with everything at once.
fn walks_with_rules() -> Vec<Rules> {
    let k = |name| Rules {
        pruners: 2,
        compactors: 2,
        rewrite: true,
        late: 3,
        forget: 0b1111,
        unlock: true,
        walks: 250_000,
        ..Rules::new(name)
    };
    vec![
        Rules {
            want: [3, 2],
            start: Start::SharedAndTwice,
            check_entries: true,
            ..k("walk: 2W 2P 2C late3 unlock, init 4")
        },
        Rules {
            want: [3, 1],
            start: Start::One,
            check_entries: true,
            ..k("walk: 2W 2P 2C late3 unlock, init 1")
        },
        Rules {
            want: [2, 3],
            start: Start::Two,
            blocking: Blocking::Recorded,
            check_entries: true,
            ..k("walk: 2W 2P 2C late3 unlock, init 5, blockers")
        },
        Rules {
            forget: 0b1110,
            want: [1, 3],
            start: Start::Twice,
            blocking: Blocking::Unseen,
            reader: Retries::WhileNew,
            check_entries: true,
            ..k("walk: 2W 2P 2C late3 unlock, init 3, marksSeen, reader")
        },
        Rules {
            forget: 0b1011,
            unlock: false,
            want: [3, 2],
            start: Start::Shared,
            reader: Retries::WhileNew,
            reads: 2,
            check_entries: true,
            ..k("walk: 2W 2P 2C late3, init 2, reader of a new snapshot")
        },
        Rules {
            walks: 500_000,
            want: [1, 1],
            start: Start::One,
            ..k("A1 walk: marks before segments")
        }
        .leave_out(&[Left::MarksLast]),
        Rules {
            pruners: 3,
            late: 4,
            walks: 500_000,
            want: [1, 3],
            start: Start::Twice,
            check_entries: true,
            ..k("walk: 2W 3P 2C late4 unlock, init 3")
        },
        Rules {
            pruners: 3,
            late: 4,
            walks: 500_000,
            want: [2, 3],
            start: Start::Shared,
            blocking: Blocking::Recorded,
            reader: Retries::WhileNew,
            check_entries: true,
            ..k("walk: 2W 3P 2C late4 unlock, init 2, blockers, reader")
        },
    ]
}
