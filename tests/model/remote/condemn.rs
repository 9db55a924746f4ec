//! A prune publishes its mark (P2) and settles the sessions that may have listed before it (P3).

use super::pages;
use super::prune::{beliefs, sessions};
use super::rules::{Blocking, Left, request};
use super::state::*;

/// P2. With `.wait`, it may continue a mark of an earlier prune instead.
pub fn put_mark(turn: &mut Turn<'_, '_>) {
    let (state, i) = (turn.state, turn.i);
    let me = *turn.pruner();
    if me.mark == NONE && turn.rules.blocking == Blocking::Recorded {
        let listed = (0..MARKS).filter(|mark| has(me.marks, *mark));
        for mark in listed.filter(|mark| state.condemns[*mark] & me.targets != 0) {
            let mut next = *state;
            let after = &mut next.pruners[i];
            after.mark = mark as u8;
            after.targets &= state.condemns[mark];
            (after.continues, after.marks) = (true, 0);
            after.at = At::Next(Prune::Leases);
            turn.tell(next, CONTINUES, Some(mark));
        }
    }
    let mut next = *state;
    let name = match me.mark {
        NONE => next.name_mark(me.targets),
        mark => Some(mark),
    };
    let Some(mark) = name else {
        return turn.finish(next, "is at the limit of the model", At::Bound);
    };
    next.pruners[i].mark = mark;
    if turn.may_lose(request::MARK) && !has(state.flight.marks, mark as usize) {
        let mut lost = next;
        lost.flight.sent += 1;
        lost.flight.marks |= 1 << mark;
        if turn.ignores_answer(request::MARK) {
            lost.pruners[i].at = At::Next(Prune::Leases);
            lost.pruners[i].marks = 0;
        }
        turn.tell(lost, "P2: PUT of its mark without an answer", Some(mark as usize));
    }
    next.marks |= 1 << mark;
    next.pruners[i].marks = 0;
    if me.is_repair && turn.rules.lacks(Left::RepairSettlesSessions) {
        next.pruners[i].kill = me.targets;
        return turn.next(next, "P2: PUT of its mark", Prune::SnapshotsAgain);
    }
    turn.next(next, "P2: PUT of its mark", Prune::Leases);
}

pub const CONTINUES: &str = "P2: continues mark";

/// P3: each listed session blocks, or is to be revoked.
pub fn look_at_leases(turn: &mut Turn<'_, '_>) {
    let (state, rules, i) = (turn.state, turn.rules, turn.i);
    let me = *turn.pruner();
    let Some(leases) = pages::list_leases(turn) else { return };
    let recorded = rules.blocking == Blocking::Recorded;
    let waits = state.waits[me.mark as usize];
    let listed = if recorded && me.continues && waits != NONE {
        leases & waits
    } else {
        leases
    };
    beliefs(state, rules, listed, |believed| {
        let mut next = *state;
        let (mut kill, mut revoke) = (me.targets, 0);
        for session in members(listed).filter(|session| *session < WRITERS) {
            let seen = match rules.blocking {
                Blocking::Unseen => state.named_by(state.marks_seen[session]),
                Blocking::Ignored => 0xff,
                _ => 0,
            };
            if has(believed, session) {
                kill &= seen;
            } else if me.targets & !seen != 0 || !state.writers[session].at.is_running() {
                revoke |= 1 << session;
            }
        }
        let after = &mut next.pruners[i];
        after.listing = Listing::default();
        (after.kill, after.revoke) = (kill, revoke);
        after.blockers = match recorded {
            _ if rules.reach && me.continues => leases & !listed,
            true => believed,
            false => 0,
        };
        let waits_early = rules.lacks(Left::WaitAfterTombstones) && recorded && believed != 0;
        if (kill != 0 || revoke != 0) && !waits_early {
            let then = match revoke {
                0 => Prune::SnapshotsAgain,
                _ if rules.lacks(Left::TombstoneFirst) => Prune::DeleteLease,
                _ => Prune::PutTombstone,
            };
            return turn.next(next, sessions("P3", believed), then);
        }
        if rules.lacks(Left::DeferredMarksStay) {
            next.marks &= !(1 << me.mark);
        }
        if recorded && !me.continues {
            turn.next(next, sessions("P3", believed), Prune::PutWait);
        } else {
            turn.finish(next, "P3: lists leases, is blocked and ends", At::Done);
        }
    });
}

/// P3: a mark that sessions block is left to a later prune.
pub fn put_wait(turn: &mut Turn<'_, '_>) {
    let mut next = *turn.state;
    let me = *turn.pruner();
    let mark = me.mark as usize;
    if turn.may_lose(request::WAIT) && next.flight.waits[mark] == 0 {
        let mut lost = next;
        lost.flight.sent += 1;
        lost.flight.waits[mark] = me.blockers;
        turn.tell(lost, "P3: PUT of .wait without an answer", None);
    }
    next.waits[mark] = me.blockers;
    turn.finish(next, "P3: PUT of .wait, ends", At::Done);
}

/// P3: the tombstone is answered before the lease is deleted (A4).
pub fn put_tombstone(turn: &mut Turn<'_, '_>) {
    let (state, rules, i) = (turn.state, turn.rules, turn.i);
    let mut next = *state;
    let revoke = turn.pruner().revoke;
    let session = revoke.trailing_zeros() as usize;
    let key = FIRST + session;
    let mut then = Prune::DeleteLease;
    if rules.lacks(Left::TombstoneFirst) {
        next.pruners[i].revoke &= revoke - 1;
        if next.pruners[i].revoke == 0 {
            then = Prune::SnapshotsAgain;
        }
    }
    if rules.lacks(Left::Tombstone) {
        return turn.at_once(next, then);
    }
    if turn.may_lose(request::TOMBSTONE) && !has(state.flight.tombstones, session) {
        let ignores = turn.ignores_answer(request::TOMBSTONE);
        let mut lost = if ignores { next } else { *state };
        lost.flight.sent += 1;
        lost.flight.tombstones |= 1 << session;
        if ignores {
            lost.pruners[i].at = At::Next(then);
        }
        turn.tell(
            lost,
            "P3: PUT of a tombstone without an answer, writer",
            Some(session + 1),
        );
    }
    let what = match state.snapshots[key] {
        there if there == 0 || rules.lacks(Left::TombstoneIfAbsent) => {
            next.snapshots[key] = TOMBSTONE;
            next.revoked |= 1 << session;
            "P3: PUT of a tombstone: revoked"
        }
        there if there & MANIFEST != 0 => "P3: tombstone exists, a manifest: the session committed",
        _ => "P3: tombstone exists: revoked",
    };
    turn.next(next, what, then);
}

pub fn delete_lease(turn: &mut Turn<'_, '_>) {
    let (state, rules, i) = (turn.state, turn.rules, turn.i);
    let me = *turn.pruner();
    let session = me.revoke.trailing_zeros() as usize;
    let mut next = *state;
    if turn.may_lose(request::DELETE_LEASE) && !has(state.flight.lease_deletes, session) {
        let mut lost = next;
        lost.flight.sent += 1;
        lost.flight.lease_deletes |= 1 << session;
        turn.tell(lost, "P3: DELETE of a lease without an answer", None);
    }
    next.leases &= !(1 << session);
    if rules.lacks(Left::TombstoneFirst) {
        return turn.next(next, "P3: DELETE of the lease, first", Prune::PutTombstone);
    }
    let after = &mut next.pruners[i];
    after.revoke &= me.revoke - 1;
    if after.revoke == 0 && me.kill == 0 {
        if rules.blocking == Blocking::Recorded && !me.continues {
            return turn.next(next, BLOCKED, Prune::PutWait);
        }
        return turn.finish(next, BLOCKED, At::Done);
    }
    let then = if after.revoke != 0 {
        Prune::PutTombstone
    } else {
        Prune::SnapshotsAgain
    };
    turn.next(next, "P3: DELETE of a revoked lease", then);
}

const BLOCKED: &str = "P3: DELETE of a revoked lease; others block";
