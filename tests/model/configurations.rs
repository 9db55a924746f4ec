//! The configurations that are explored.

use super::rules::{Check, Flush, Retries, Rules, Start};

/// Configurations that must hold.
pub fn sound() -> Vec<Rules> {
    [protocol(), under_stress(), copied_lists(), as_the_engine(), large()].concat()
}

fn protocol() -> Vec<Rules> {
    let k = Rules::new;
    vec![
        Rules {
            want: [2, 3],
            ..k("2 writers, 1 prune")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            ..k("1 writer, 2 prunes")
        },
        Rules {
            want: [2, 3],
            start: Start::SharedAndTwice,
            ..k("2 writers, 1 prune, a chunk twice")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            compaction: true,
            start: Start::SharedAndTwice,
            crashes: 0,
            ..k("1 writer, 2 prunes, merge")
        },
        Rules {
            want: [2, 3],
            spare: true,
            honour: true,
            ..k("2 writers, 1 prune that honours leases")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            reader: Retries::WhileNew,
            ..k("1 writer, 2 prunes, reader")
        },
        Rules {
            want: [1, 0],
            pruners: 2,
            reader: Retries::WhileNew,
            ..k("1 writer of stored chunks, 2 prunes, reader")
        },
    ]
}

fn under_stress() -> Vec<Rules> {
    let k = Rules::new;
    vec![
        Rules {
            want: [2, 3],
            crashes: 3,
            ..k("2 writers, 1 prune, 3 crashes")
        },
        Rules {
            want: [3, 0],
            pruners: 2,
            crashes: 3,
            ..k("1 writer, 2 prunes, 3 crashes")
        },
        Rules {
            want: [3, 0],
            start: Start::Two,
            compaction: true,
            torn: true,
            guard: false,
            ..k("torn listing of the index, merge")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            look_for_packs: false,
            ..k("copies in deleted packs, supersede lists carried over")
        },
        Rules {
            want: [3, 0],
            pruners: 2,
            crashes: 2,
            forget: 15,
            ..k("forget of every snapshot, 1 writer, 2 prunes")
        },
        Rules {
            want: [2, 3],
            crashes: 2,
            forget: 15,
            ..k("forget of every snapshot, 2 writers, 1 prune")
        },
        Rules {
            want: [2, 3],
            power_cuts: 2,
            crashes: 0,
            forget: 15,
            ..k("power cuts, 2 writers, 1 prune")
        },
        Rules {
            want: [3, 0],
            pruners: 2,
            power_cuts: 1,
            forget: 15,
            ..k("power cuts, 1 writer, 2 prunes")
        },
        Rules {
            want: [2, 3],
            crashes: 2,
            runs: 1,
            ..k("one quiet prune suffices, 2 writers")
        },
        Rules {
            want: [3, 0],
            pruners: 2,
            crashes: 2,
            runs: 1,
            start: Start::SharedAndTwice,
            ..k("one quiet prune suffices, 2 prunes")
        },
        Rules {
            want: [1, 0],
            pruners: 2,
            start: Start::Twice,
            ..k("1 writer, 2 prunes, one chunk twice")
        },
    ]
}

/// Configurations in which a kill list appears that names packs which snapshots need.
fn copied_lists() -> Vec<Rules> {
    let k = |name| Rules {
        copied_list: 1,
        ..Rules::new(name)
    };
    vec![
        Rules {
            want: [2, 0],
            crashes: 2,
            ..k("a copied kill list, 1 writer, 1 prune")
        },
        Rules {
            want: [2, 3],
            ..k("a copied kill list, 2 writers, 1 prune")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            start: Start::SharedAndTwice,
            ..k("a copied kill list, 2 prunes, a chunk twice")
        },
        Rules {
            want: [2, 0],
            copied_list: 0b11,
            start: Start::SharedAndTwice,
            crashes: 2,
            ..k("a copied kill list of every copy, a chunk twice")
        },
        Rules {
            want: [2, 0],
            pruners: 2,
            only_new: true,
            store_again: false,
            flush: Flush::BeforeLock,
            ..k("a copied kill list, as the engine")
        },
        Rules {
            want: [3, 0],
            power_cuts: 1,
            crashes: 0,
            forget: 15,
            ..k("a copied kill list, forget and a power cut")
        },
        Rules {
            want: [1, 0],
            start: Start::One,
            forget: 1,
            crashes: 2,
            ..k("a copied kill list, a writer of the forgotten chunk")
        },
        Rules {
            want: [2, 0],
            compaction: true,
            reader: Retries::WhileNew,
            forget: 0b10,
            ..k("a copied kill list, merge, reader")
        },
    ]
}

/// Configurations as the engine has them: it does less than the protocol allows, or more than it
/// requires.
fn as_the_engine() -> Vec<Rules> {
    let k = Rules::new;
    vec![
        Rules {
            want: [2, 3],
            only_new: true,
            store_again: false,
            flush: Flush::BeforeLock,
            crashes: 2,
            ..k("as the engine, 2 writers, 1 prune")
        },
        Rules {
            want: [3, 0],
            pruners: 2,
            only_new: true,
            store_again: false,
            flush: Flush::BeforeLock,
            crashes: 2,
            ..k("as the engine, 1 writer, 2 prunes")
        },
        Rules {
            want: [3, 0],
            pruners: 2,
            only_new: true,
            store_again: false,
            flush: Flush::BeforeLock,
            power_cuts: 1,
            ..k("as the engine, power cut")
        },
        Rules {
            want: [2, 0],
            compaction: true,
            only_new: true,
            crashes: 2,
            start: Start::SharedAndTwice,
            store_again: false,
            ..k("as the engine, a merge that finishes no kill list")
        },
        Rules {
            want: [3, 0],
            pruners: 2,
            compaction: true,
            only_new: true,
            crashes: 2,
            store_again: false,
            ..k("as the engine, 2 prunes and a merge that finishes no kill list")
        },
    ]
}

fn large() -> Vec<Rules> {
    let k = Rules::new;
    vec![
        Rules {
            want: [2, 3],
            pruners: 2,
            crashes: 0,
            ..k("2 writers, 2 prunes")
        },
        Rules {
            want: [3, 2],
            pruners: 2,
            start: Start::SharedAndTwice,
            crashes: 2,
            ..k("2 writers, 2 prunes, a chunk twice, 2 crashes")
        },
        Rules {
            want: [3, 2],
            pruners: 2,
            crashes: 2,
            compaction: true,
            ..k("2 writers, 2 prunes, merge, 2 crashes")
        },
    ]
}

/// Configurations without one rule, in which a violation must be found.
pub fn broken() -> Vec<Rules> {
    let k = |name| Rules {
        want: [2, 0],
        broken: true,
        ..Rules::new(name)
    };
    vec![
        Rules {
            check: Check::BeforeLock,
            ..k("R1: the check before the lock")
        },
        Rules {
            check: Check::Never,
            ..k("R1: no check")
        },
        Rules {
            see_kill_lists: false,
            ..k("R1: the check ignores kill lists")
        },
        Rules {
            relist: false,
            ..k("R2: no listing under the lock")
        },
        Rules {
            relist: false,
            only_new: true,
            ..k("R2: no listing under the lock, as the engine")
        },
        Rules {
            shared_lock: false,
            ..k("R2: no commit lock")
        },
        Rules {
            exclusive_lock: false,
            ..k("R2: the prune takes no commit lock")
        },
        Rules {
            kill_list: false,
            ..k("R2: no kill list")
        },
        Rules {
            kill_list_early: true,
            ..k("R4: the kill list is deleted before its packs")
        },
        Rules {
            copied_list: 1,
            spare_needed: false,
            ..k("R2: a kill list that names needed packs is executed")
        },
        Rules {
            want: [1, 0],
            start: Start::One,
            forget: 1,
            copied_list: 1,
            finish_under_lock: false,
            ..k("R2: snapshots are listed without the lock to finish a kill list")
        },
        Rules {
            pruners: 2,
            look_for_packs: false,
            carry: false,
            ..k("R3, R5: copies in deleted packs count, and supersede lists are not carried over")
        },
        Rules {
            want: [2, 0],
            start: Start::One,
            forget: 0,
            relist_segments: false,
            guard: false,
            ..k("R2, R3: segments not listed under the lock, and no stop at a missing entry")
        },
        Rules {
            power_cuts: 1,
            crashes: 0,
            flush: Flush::Never,
            ..k("no flush of snapshots/")
        },
        Rules {
            want: [0, 0],
            pruners: 2,
            reader: Retries::AtMost(0),
            ..k("a reader that does not list again")
        },
    ]
}
