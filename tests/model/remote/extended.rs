//! Configurations of what an engine needs beyond the steps of the protocol: long ingests, and
//! sessions that continue as another one.

use super::rules::{Early, Left, Liveness, Refresh, Rules, Start, request};

/// Configurations that must hold.
pub fn sound() -> Vec<Rules> {
    [long_ingests(), sessions()].concat()
}

/// Configurations without one rule.
pub fn broken() -> Vec<Rules> {
    without_ingest_rules()
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
