//! A compaction of the index: C1 to C3.

use super::rules::{Left, Rules, request};
use super::state::*;

pub fn step(state: &State, i: usize, rules: &Rules, out: &mut Out<'_>) {
    let Some(at) = state.compactors[i].at.next() else {
        return;
    };
    let mut turn = Turn {
        state,
        rules,
        i,
        who: Who::Compactor(i),
        out,
    };
    match at {
        Compact::List => list(&mut turn),
        Compact::Put => put(&mut turn),
        Compact::Delete => delete(&mut turn),
    }
}

/// C1.
fn list(turn: &mut Turn<'_, '_>) {
    let (state, rules, i) = (turn.state, turn.rules, turn.i);
    let (live, entries) = state.view(state.segments);
    if live.count_ones() < 2 {
        return;
    }
    let mut next = *state;
    let me = &mut next.compactors[i];
    me.inputs = if rules.lacks(Left::CarriedNames) {
        live
    } else {
        state.segments
    };
    let dropped = if rules.lacks(Left::MergeKeepsMarked) {
        state.swept | state.marked()
    } else {
        state.swept
    };
    me.entries = without(entries, dropped);
    me.at = At::Next(if rules.lacks(Left::MergedFirst) {
        Compact::Delete
    } else {
        Compact::Put
    });
    if !rules.lacks(Left::MergeKeepsDuplicates) {
        return turn.tell(next, "C1: lists segments", None);
    }
    let all = me.entries;
    for pack in members(packs_of(all, 0)) {
        next.compactors[i].entries = (all & 0xff00) | entry(0, pack);
        turn.tell(next, "C1: lists segments, keeps one entry per chunk, pack", Some(pack));
    }
}

/// C2.
fn put(turn: &mut Turn<'_, '_>) {
    let (state, rules, i) = (turn.state, turn.rules, turn.i);
    let me = state.compactors[i];
    let mut next = *state;
    let name = match me.segment {
        NONE => next.name_segment(rules, me.entries, me.inputs),
        segment => Some(segment),
    };
    let Some(segment) = name else {
        next.compactors[i] = Compactor::new(At::Done);
        return turn.tell(next, "is at the limit of the model", None);
    };
    next.compactors[i].segment = segment;
    if rules.lacks(Left::FixedSegments) && me.segment != NONE {
        next.supersedes[segment as usize] |= state.segments;
        next.named[segment as usize] |= state.entries();
    }
    if turn.may_lose(request::SEGMENT) && state.flight.segments >> segment & 1 == 0 {
        let mut lost = next;
        lost.flight.sent += 1;
        lost.flight.segments |= 1 << segment;
        if turn.ignores_answer(request::SEGMENT) {
            let after = &mut lost.compactors[i];
            after.at = At::Next(Compact::Delete);
            (after.entries, after.segment) = (0, NONE);
        }
        turn.tell(lost, "C2: PUT of the merged segment without an answer", None);
    }
    next.segments |= 1 << segment;
    let after = &mut next.compactors[i];
    (after.entries, after.segment) = (0, NONE);
    after.at = if rules.lacks(Left::MergedFirst) {
        At::Done
    } else {
        At::Next(Compact::Delete)
    };
    turn.tell(next, "C2: PUT of the merged segment", None);
}

/// C3.
fn delete(turn: &mut Turn<'_, '_>) {
    let (state, i) = (turn.state, turn.i);
    let inputs = state.compactors[i].inputs;
    let segment = inputs.trailing_zeros() as usize;
    let mut next = *state;
    if turn.may_lose(request::DELETE_SEGMENT) && state.flight.segment_deletes >> segment & 1 == 0 {
        let mut lost = next;
        lost.flight.sent += 1;
        lost.flight.segment_deletes |= 1 << segment;
        if turn.ignores_answer(request::DELETE_SEGMENT) {
            lost.compactors[i].inputs &= inputs - 1;
            if lost.compactors[i].inputs == 0 {
                lost.compactors[i] = Compactor::new(At::Done);
            }
        }
        turn.tell(lost, "C3: DELETE without an answer, segment", Some(segment));
    }
    next.segments &= !(1 << segment);
    next.compactors[i].inputs &= inputs - 1;
    if next.compactors[i].inputs == 0 {
        if turn.rules.lacks(Left::MergedFirst) {
            next.compactors[i].at = At::Next(Compact::Put);
        } else {
            next.compactors[i] = Compactor::new(At::Done);
        }
    }
    turn.tell(next, "C3: DELETE of segment", Some(segment));
}
