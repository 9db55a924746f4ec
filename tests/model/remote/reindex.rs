//! A reindex: list packs, list segments, read the contents of the packs that no segment names, and
//! PUT a segment of them. It reads no marks: an entry in a marked pack never counts.

use super::rules::{Left, Rules, request};
use super::state::*;

pub fn step(state: &State, rules: &Rules, out: &mut Out<'_>) {
    let Some(at) = state.reindexer.at.next() else { return };
    let mut turn = Turn {
        state,
        rules,
        i: 0,
        who: Who::Reindexer,
        out,
    };
    let mut next = *state;
    let me = &mut next.reindexer;
    match at {
        Reindex::ListPacks => {
            me.packs = state.packs;
            me.at = At::Next(Reindex::ListSegments);
            turn.tell(next, "lists packs", None);
        }
        Reindex::ListSegments => {
            let entries = state.entries();
            me.packs &= state.packs & !packs_of(entries, 0) & !packs_of(entries, 1);
            me.at = At::Next(Reindex::Put);
            if me.packs == 0 {
                *me = ended();
            }
            turn.tell(next, "lists segments, reads packs that none names", None);
        }
        Reindex::Put => put(&mut turn),
    }
}

fn ended() -> Reindexer {
    Reindexer {
        at: At::Done,
        segment: NONE,
        ..Reindexer::default()
    }
}

fn put(turn: &mut Turn<'_, '_>) {
    let (state, rules) = (turn.state, turn.rules);
    let me = state.reindexer;
    let mut next = *state;
    let entries = members(me.packs).fold(0, |all, pack| all | entries_of(pack, state.content[pack]));
    let name = match me.segment {
        NONE => next.name_segment(rules, entries, 0),
        segment => Some(segment),
    };
    let Some(segment) = name else {
        next.reindexer = ended();
        return turn.tell(next, "is at the limit of the model", None);
    };
    next.reindexer.segment = segment;
    if turn.may_lose(request::SEGMENT) && state.flight.segments >> segment & 1 == 0 {
        let mut lost = next;
        lost.flight.sent += 1;
        lost.flight.segments |= 1 << segment;
        turn.tell(lost, "PUT of a segment without an answer", None);
    }
    next.segments |= 1 << segment;
    if rules.lacks(Left::ReindexKeepsMarks) {
        let of_packs = members(state.marks).filter(|mark| state.condemns[*mark] & me.packs != 0);
        next.marks &= !of_packs.fold(0, |all, mark| all | 1 << mark);
    }
    next.reindexer = ended();
    turn.tell(next, "PUT of a segment of unnamed packs", None);
}

/// Runs a reindex to its end.
pub fn run(state: &mut State, rules: &Rules) {
    state.reindexer = Reindexer {
        at: At::Next(Reindex::ListPacks),
        segment: NONE,
        ..Reindexer::default()
    };
    while state.reindexer.at.is_running() {
        let mut after = None;
        step(state, rules, &mut |_, new| {
            after.get_or_insert(new);
        });
        match after {
            Some(after) => *state = after,
            None => return,
        }
    }
}
