//! Growth of marks: listings that take several requests, and merges. A mark is never undone, so
//! the packs that marks name are a union, and a merged mark need not state which ones it replaces.
//!
//! A merge: G1, list marks; G2, PUT a mark with the packs of all listed ones under a name that
//! sorts after theirs, and wait for the answer; G3, DELETE them.

use super::rules::{Left, MarkListing, Rules, request};
use super::state::*;

/// How a listing of marks continues.
pub enum Progress {
    Continues(Listing, &'static str),
    /// The packs that the listed marks name.
    Ends(Set),
}

/// Stages: 0, the only or the first page; 1, the second one; 2, a GET of each name.
pub fn list(state: &State, rules: &Rules, listing: Listing, mut tell: impl FnMut(Progress)) {
    let paged = rules.mark_listing == MarkListing::TwoPages;
    let page = |listing: &Listing, is_high: bool| {
        let listed = members(state.marks).filter(|mark| (state.mark_levels[*mark] >= listing.cut) == is_high);
        listed.fold(0, |all, mark| all | 1 << mark)
    };
    match listing.stage {
        _ if rules.mark_listing == MarkListing::AtOnce => tell(Progress::Ends(state.marked())),
        0 if paged => {
            for cut in [1, 2] {
                for is_reversed in [false, true] {
                    if is_reversed && !rules.lacks(Left::MergedMarkSortsLast) {
                        continue;
                    }
                    let mut first = Listing {
                        stage: 1,
                        cut,
                        is_reversed,
                        ..listing
                    };
                    first.names = page(&first, is_reversed);
                    tell(Progress::Continues(first, "lists one page of marks"));
                }
            }
        }
        0 => {
            let names = state.marks;
            tell(Progress::Continues(
                Listing {
                    stage: 2,
                    names,
                    ..listing
                },
                "lists the names of marks",
            ));
        }
        1 => {
            let names = listing.names | page(&listing, !listing.is_reversed);
            let listing = Listing {
                stage: 2,
                names,
                cut: 0,
                is_reversed: false,
            };
            tell(Progress::Continues(listing, "lists the other page of marks"));
        }
        _ if listing.names & !state.marks != 0 && !rules.lacks(Left::ListMarksAgain) => {
            tell(Progress::Continues(
                Listing::default(),
                "finds a mark missing, lists marks again",
            ));
        }
        _ => tell(Progress::Ends(state.named_by(listing.names & state.marks))),
    }
}

/// A merge of marks.
pub fn step(state: &State, i: usize, rules: &Rules, out: &mut Out<'_>) {
    let Some(at) = state.mergers[i].at.next() else { return };
    let mut turn = Turn {
        state,
        rules,
        i,
        who: Who::Merger(i),
        out,
    };
    let me = state.mergers[i];
    let mut next = *state;
    match at {
        Gather::List => {
            if state.marks.count_ones() < 2 {
                return;
            }
            next.mergers[i].inputs = state.marks;
            if rules.lacks(Left::MergedMarkFirst) {
                // it has to know what to put before it deletes
                if !name_merged(&mut next, i) {
                    return;
                }
                next.mergers[i].at = At::Next(Gather::Delete);
            } else {
                next.mergers[i].at = At::Next(Gather::Put);
            }
            turn.tell(next, "G1: lists marks", None);
        }
        Gather::Put => {
            if me.mark == NONE && !name_merged(&mut next, i) {
                next.mergers[i] = ended();
                return turn.tell(next, "is at the limit of the model", None);
            }
            let mark = next.mergers[i].mark as usize;
            if turn.may_lose(request::MARK) && !has(state.flight.marks, mark) {
                let mut lost = next;
                lost.flight.sent += 1;
                lost.flight.marks |= 1 << mark;
                if turn.ignores_answer(request::MARK) {
                    lost.mergers[i].at = At::Next(Gather::Delete);
                    lost.mergers[i].mark = NONE;
                }
                turn.tell(lost, "G2: PUT of the merged mark without an answer", None);
            }
            next.marks |= 1 << mark;
            next.mergers[i].mark = NONE;
            next.mergers[i].at = At::Next(Gather::Delete);
            if rules.lacks(Left::MergedMarkFirst) {
                next.mergers[i] = ended();
            }
            turn.tell(next, "G2: PUT of the merged mark", None);
        }
        Gather::Delete => delete(&mut turn),
    }
}

fn ended() -> Merger {
    Merger {
        at: At::Done,
        mark: NONE,
        ..Merger::default()
    }
}

/// Draws the name of the merged mark, which sorts after those of its inputs.
fn name_merged(state: &mut State, i: usize) -> bool {
    let inputs = state.mergers[i].inputs;
    let level = members(inputs).map(|mark| state.mark_levels[mark]).max().unwrap_or(0) + 1;
    let Some(mark) = state.name_mark(state.named_by(inputs)) else {
        return false;
    };
    state.mark_levels[mark as usize] = level;
    state.mergers[i].mark = mark;
    true
}

/// G3.
fn delete(turn: &mut Turn<'_, '_>) {
    let (state, i) = (turn.state, turn.i);
    let inputs = state.mergers[i].inputs;
    let mark = inputs.trailing_zeros() as usize;
    let mut next = *state;
    if turn.may_lose(request::DELETE_MARK) && !has(state.flight.mark_deletes, mark) {
        let mut lost = next;
        lost.flight.sent += 1;
        lost.flight.mark_deletes |= 1 << mark;
        turn.tell(lost, "G3: DELETE without an answer, mark", Some(mark));
    }
    next.marks &= !(1 << mark);
    next.mergers[i].inputs &= inputs - 1;
    if next.mergers[i].inputs == 0 {
        if turn.rules.lacks(Left::MergedMarkFirst) {
            next.mergers[i].at = At::Next(Gather::Put);
        } else {
            next.mergers[i] = ended();
        }
    }
    turn.tell(next, "G3: DELETE of mark", Some(mark));
}
