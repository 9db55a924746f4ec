//! A prune decides what to delete (P4), deletes it (P5) and rewrites the index (P6).

use super::marks::{self, Progress};
use super::pages;
use super::rules::{Left, TornIndex, request};
use super::state::*;

/// P4. With A1 left out in one of two ways, the listings are in another order.
pub fn snapshots_again(turn: &mut Turn<'_, '_>) {
    let (state, rules) = (turn.state, turn.rules);
    let mut next = *state;
    let me = &mut next.pruners[turn.i];
    if me.kill == 0 {
        return turn.finish(next, "P4: others block, ends", At::Done);
    }
    if me.is_repair && rules.lacks(Left::RepairDecides) {
        me.left = me.kill;
        return turn.at_once(next, Prune::DeletePacks);
    }
    if rules.lacks(Left::SnapshotsAgain) {
        me.live = 0;
        return turn.at_once(next, Prune::SegmentsAgain);
    }
    if rules.lacks(Left::SnapshotsFirst) {
        me.entries = state.entries();
        return turn.next(next, "P4: lists segments", Prune::SegmentsAgain);
    }
    let then = if rules.torn == TornIndex::No {
        Prune::SegmentsAgain
    } else {
        Prune::Page { stage: 0, again: true }
    };
    pages::list_snapshots(turn, "P4: lists snapshots", then);
}

pub fn segments_again(turn: &mut Turn<'_, '_>) {
    let (state, rules) = (turn.state, turn.rules);
    let mut next = *state;
    let kept = turn.pruner().entries;
    let me = &mut next.pruners[turn.i];
    if rules.lacks(Left::CopyCheck) || rules.lacks(Left::SegmentsAgain) {
        return turn.at_once(next, Prune::MarksAgain);
    }
    if rules.lacks(Left::SnapshotsFirst) {
        me.live = state.live_chunks();
        return turn.next(next, "P4: lists snapshots", Prune::MarksAgain);
    }
    if rules.lacks(Left::MarksLast) {
        me.marked = state.marked();
        return turn.next(next, "P4: lists marks", Prune::MarksAgain);
    }
    me.entries = pages::entries(turn);
    if rules.torn == TornIndex::KeepPlan {
        me.entries |= kept;
    }
    if rules.torn != TornIndex::No {
        me.inputs = 0;
    }
    turn.next(next, "P4: lists segments", Prune::MarksAgain);
}

/// P4: lists marks, and spares every pack that holds a live chunk without an entry in an unmarked
/// pack.
pub fn marks_again(turn: &mut Turn<'_, '_>) {
    let (state, rules) = (turn.state, turn.rules);
    let me = *turn.pruner();
    if rules.lacks(Left::MarksLast) {
        return decide(turn, state.entries(), me.marked);
    }
    marks::list(state, rules, me.listing, |progress| match progress {
        Progress::Continues(listing, what) => {
            let mut next = *state;
            next.pruners[turn.i].listing = listing;
            turn.tell(next, what, None);
        }
        Progress::Ends(marked) => decide(turn, me.entries, marked),
    });
}

fn decide(turn: &mut Turn<'_, '_>, entries: Entries, marked: Set) {
    let (state, rules) = (turn.state, turn.rules);
    let me = *turn.pruner();
    let marks_first = rules.lacks(Left::MarksLast);
    let lost = if rules.lacks(Left::MarkedDoNotCount) {
        me.kill
    } else {
        marked
    };
    let mut kill = me.kill;
    let mut stops = false;
    for chunk in members(me.live).filter(|_| !rules.lacks(Left::CopyCheck)) {
        let all = packs_of(entries, chunk);
        if all & !lost == 0 {
            kill &= !all;
            if rules.torn == TornIndex::ReadContents || rules.reads_contents {
                let holders = (0..PACKS).filter(|pack| has(state.content[*pack], chunk));
                kill &= !holders.fold(0, |all, pack| all | 1 << pack);
            }
        }
        stops |= all == 0 && !rules.lacks(Left::Stop);
    }
    let mut next = *state;
    if stops {
        return turn.finish(next, "P4: stops, a live chunk has no entry", At::Failed);
    }
    if kill == 0 {
        return turn.finish(next, "P4: has nothing left to delete", At::Done);
    }
    let after = &mut next.pruners[turn.i];
    after.listing = Listing::default();
    (after.kill, after.left) = (kill, kill);
    (after.live, after.entries, after.marked) = (0, 0, 0);
    (after.blockers, after.targets) = (0, 0);
    let keeps = [Left::DeferredMarksStay, Left::MarksStay, Left::SweptIsDecided];
    if !keeps.into_iter().any(|rule| rules.lacks(rule)) {
        after.mark = NONE;
    }
    let what = if marks_first {
        "P4: lists segments, decides"
    } else {
        "P4: lists marks, decides"
    };
    turn.next(next, what, Prune::DeletePacks);
}

pub fn delete_packs(turn: &mut Turn<'_, '_>) {
    let (state, i) = (turn.state, turn.i);
    let left = turn.pruner().left;
    let pack = left.trailing_zeros() as usize;
    let mut next = *state;
    let advance = |state: &mut State| {
        let me = &mut state.pruners[i];
        me.left &= left - 1;
        me.at = At::Next(if me.left == 0 {
            Prune::PutSwept
        } else {
            Prune::DeletePacks
        });
    };
    if turn.may_lose(request::DELETE_PACK) && !has(state.flight.pack_deletes, pack) {
        let mut lost = next;
        lost.flight.sent += 1;
        lost.flight.pack_deletes |= 1 << pack;
        if turn.ignores_answer(request::DELETE_PACK) {
            advance(&mut lost);
        }
        turn.tell(lost, "P5: DELETE without an answer, pack", Some(pack));
    }
    next.packs &= !(1 << pack);
    advance(&mut next);
    turn.tell(next, "P5: DELETE of pack", Some(pack));
}

pub fn put_swept(turn: &mut Turn<'_, '_>) {
    let rules = turn.rules;
    let me = *turn.pruner();
    let state = turn.state;
    let mut next = *state;
    let swept = match rules.lacks(Left::SweptIsDecided) {
        true => me.kill | state.condemns[me.mark as usize],
        false => me.kill,
    };
    if turn.may_lose(request::SWEPT) && state.flight.swept & swept != swept {
        let mut lost = next;
        lost.flight.sent += 1;
        lost.flight.swept |= swept;
        let what = "P5: PUT of .swept without an answer";
        match (turn.ignores_answer(request::SWEPT), rules.rewrite) {
            (false, _) => turn.tell(lost, what, None),
            (true, true) => turn.next(lost, what, Prune::ReadIndex),
            (true, false) => turn.finish(lost, what, At::Done),
        }
    }
    next.swept |= swept;
    if rules.lacks(Left::DeferredMarksStay) || rules.lacks(Left::MarksStay) {
        next.marks &= !(1 << me.mark);
    }
    if rules.rewrite {
        turn.next(next, "P5: PUT of .swept", Prune::ReadIndex);
    } else {
        turn.finish(next, "P5: PUT of .swept, ends", At::Done);
    }
}

/// P6.
pub fn rewrite(turn: &mut Turn<'_, '_>, at: Prune) {
    let (state, rules, i) = (turn.state, turn.rules, turn.i);
    let me = *turn.pruner();
    let mut next = *state;
    match at {
        Prune::ReadIndex => {
            let after = &mut next.pruners[i];
            after.inputs = match rules.lacks(Left::CarriedNames) {
                true => state.view(state.segments).0,
                false => state.segments,
            };
            after.entries = without(state.entries(), me.kill);
            (after.kill, after.mark) = (0, NONE);
            turn.next(next, "P6: lists segments", Prune::PutIndex);
        }
        Prune::PutIndex => {
            let name = match me.segment {
                NONE => next.name_segment(rules, me.entries, me.inputs),
                segment => Some(segment),
            };
            let Some(segment) = name else {
                return turn.finish(next, "is at the limit of the model", At::Bound);
            };
            next.pruners[i].segment = segment;
            if turn.may_lose(request::SEGMENT) && state.flight.segments >> segment & 1 == 0 {
                let mut lost = next;
                lost.flight.sent += 1;
                lost.flight.segments |= 1 << segment;
                if turn.ignores_answer(request::SEGMENT) {
                    lost.pruners[i].at = At::Next(Prune::DeleteSegments);
                }
                turn.tell(lost, "P6: PUT of the rewritten index without an answer", None);
            }
            next.segments |= 1 << segment;
            (next.pruners[i].entries, next.pruners[i].segment) = (0, NONE);
            turn.next(next, "P6: PUT of the rewritten index", Prune::DeleteSegments);
        }
        _ => delete_segments(turn),
    }
}

fn delete_segments(turn: &mut Turn<'_, '_>) {
    let (state, i) = (turn.state, turn.i);
    let inputs = turn.pruner().inputs;
    if inputs == 0 {
        return turn.finish(*state, "P6: is done", At::Done);
    }
    let segment = inputs.trailing_zeros() as usize;
    let mut next = *state;
    if turn.may_lose(request::DELETE_SEGMENT) && state.flight.segment_deletes >> segment & 1 == 0 {
        let mut lost = next;
        lost.flight.sent += 1;
        lost.flight.segment_deletes |= 1 << segment;
        if turn.ignores_answer(request::DELETE_SEGMENT) {
            lost.pruners[i].inputs &= inputs - 1;
        }
        turn.tell(lost, "P6: DELETE without an answer, segment", Some(segment));
    }
    next.segments &= !(1 << segment);
    next.pruners[i].inputs &= inputs - 1;
    if next.pruners[i].inputs == 0 {
        next.pruners[i] = Pruner::new(At::Done);
    }
    turn.tell(next, "P6: DELETE of segment", Some(segment));
}
