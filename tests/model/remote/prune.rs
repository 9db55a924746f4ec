//! A prune of an object store: its survey and plan (P1). The other steps are in `condemn` (P2, P3)
//! and `sweep` (P4 to P6).

use super::marks::{self, Progress};
use super::rules::{Blocking, Left, Rules, TornIndex, request};
use super::state::*;
use super::{condemn, pages, sweep};

pub fn step(state: &State, i: usize, rules: &Rules, out: &mut Out<'_>) {
    let Some(at) = state.pruners[i].at.next() else { return };
    let mut turn = Turn {
        state,
        rules,
        i,
        who: Who::Pruner(i),
        out,
    };
    match at {
        Prune::ListPacks | Prune::ListLeases | Prune::ListSnapshots | Prune::ListMarks => survey(&mut turn, at),
        Prune::Page { stage, again } => pages::list(&mut turn, stage, again),
        Prune::Plan => plan(&mut turn),
        Prune::PutCopies => put_copies(&mut turn),
        Prune::PutSegment => put_segment(&mut turn),
        Prune::PutMark => condemn::put_mark(&mut turn),
        Prune::Leases => condemn::look_at_leases(&mut turn),
        Prune::PutTombstone => condemn::put_tombstone(&mut turn),
        Prune::DeleteLease => condemn::delete_lease(&mut turn),
        Prune::PutWait => condemn::put_wait(&mut turn),
        Prune::SnapshotsAgain => sweep::snapshots_again(&mut turn),
        Prune::SegmentsAgain => sweep::segments_again(&mut turn),
        Prune::MarksAgain => sweep::marks_again(&mut turn),
        Prune::DeletePacks => sweep::delete_packs(&mut turn),
        Prune::PutSwept => sweep::put_swept(&mut turn),
        Prune::ReadIndex | Prune::PutIndex | Prune::DeleteSegments => sweep::rewrite(&mut turn, at),
    }
}

impl Turn<'_, '_> {
    pub fn pruner(&self) -> &Pruner {
        &self.state.pruners[self.i]
    }

    pub fn next(&mut self, mut next: State, what: &'static str, to: Prune) {
        next.pruners[self.i].at = At::Next(to);
        self.tell(next, what, None);
    }

    pub fn finish(&mut self, mut next: State, what: &'static str, at: At<Prune>) {
        next.pruners[self.i] = Pruner::new(at);
        self.tell(next, what, None);
    }

    /// Continues without a step that others could see.
    pub fn at_once(&mut self, mut next: State, to: Prune) {
        next.pruners[self.i].at = At::Next(to);
        step(&next, self.i, self.rules, self.out);
    }
}

fn survey(turn: &mut Turn<'_, '_>, at: Prune) {
    let (state, rules) = (turn.state, turn.rules);
    let mut next = *state;
    let me = &mut next.pruners[turn.i];
    match at {
        Prune::ListPacks => {
            me.packs = state.packs;
            turn.next(next, "P1: lists packs", Prune::ListLeases);
        }
        Prune::ListLeases => guess_live(turn),
        Prune::ListSnapshots => pages::list_snapshots(turn, "P1: lists snapshots", Prune::ListMarks),
        _ => marks::list(state, rules, me.listing, |progress| match progress {
            Progress::Continues(listing, what) => {
                let mut next = *state;
                next.pruners[turn.i].listing = listing;
                turn.tell(next, what, None);
            }
            Progress::Ends(marked) => use_marks(turn, marked),
        }),
    }
}

fn use_marks(turn: &mut Turn<'_, '_>, marked: Set) {
    let (state, rules) = (turn.state, turn.rules);
    let mut next = *state;
    let me = &mut next.pruners[turn.i];
    me.listing = Listing::default();
    me.marked = marked;
    if rules.blocking == Blocking::Recorded {
        me.marks = state.marks;
    }
    let then = if rules.torn == TornIndex::No {
        Prune::Plan
    } else {
        Prune::Page { stage: 0, again: false }
    };
    turn.next(next, "P1: lists marks", then);
}

/// Returns whether the sessions in `believed` are exactly the live ones among `listed`.
pub fn is_right(state: &State, listed: Set, believed: Set) -> bool {
    members(listed)
        .filter(|session| *session < WRITERS)
        .all(|session| has(believed, session) == state.writers[session].at.is_running())
}

/// Calls `tell` with every set of the leases in `listed` that a process may believe live.
pub fn beliefs(state: &State, rules: &Rules, listed: Set, mut tell: impl FnMut(Set)) {
    subsets(if rules.guess { listed } else { 0 }, |believed| {
        if !rules.right || is_right(state, listed, believed) {
            tell(believed);
        }
    });
}

fn guess_live(turn: &mut Turn<'_, '_>) {
    let (state, rules, i) = (turn.state, turn.rules, turn.i);
    beliefs(state, rules, state.leases, |believed| {
        let mut next = *state;
        if !rules.lacks(Left::Sparing) {
            let owned = (0..PACKS).filter(|pack| {
                let session = state.owner[*pack].wrapping_sub(WRITTEN) as usize;
                session < WRITERS && has(believed, session)
            });
            next.pruners[i].spared = owned.fold(0, |all, pack| all | 1 << pack);
        }
        turn.next(next, sessions("P1: lists leases", believed), Prune::ListSnapshots);
    });
}

/// Names the sessions that are believed live, or that block.
pub fn sessions(what: &'static str, believed: Set) -> &'static str {
    match (what, believed) {
        ("P1: lists leases", 0) => "P1: lists leases, believes none live",
        ("P1: lists leases", 1) => "P1: lists leases, believes that of writer 1 live",
        ("P1: lists leases", 2) => "P1: lists leases, believes that of writer 2 live",
        ("P1: lists leases", _) => "P1: lists leases, believes both live",
        (_, 0) => "P3: lists leases, none blocks",
        (_, 1) => "P3: lists leases, that of writer 1 blocks",
        (_, 2) => "P3: lists leases, that of writer 2 blocks",
        _ => "P3: lists leases, both block",
    }
}

/// One canonical copy in an unmarked pack for each live chunk. The first prune prefers low numbers
/// and the others high ones, so that they disagree.
fn plan(turn: &mut Turn<'_, '_>) {
    let (state, rules) = (turn.state, turn.rules);
    let me = *turn.pruner();
    let entries = pages::entries(turn);
    if me.is_repair {
        return plan_repair(turn);
    }
    let (mut keep, mut copies) = (0, 0);
    let mut stops = false;
    for chunk in members(me.live) {
        let all = packs_of(entries, chunk) & me.packs;
        let good = all & !me.marked;
        let order = |n: usize| if turn.i == 0 { n } else { PACKS - 1 - n };
        let candidates = || (0..PACKS).map(order).filter(|pack| has(good, *pack));
        let full = candidates().find(|pack| state.content[*pack] & !me.live == 0);
        match (full, candidates().next()) {
            (Some(pack), _) => keep |= 1 << pack,
            (None, Some(pack)) if has(me.spared, pack) => keep |= 1 << pack,
            (None, Some(_)) => copies |= 1 << chunk,
            (None, None) if all & state.packs != 0 => copies |= 1 << chunk,
            (None, None) => stops |= !rules.lacks(Left::Stop),
        }
    }
    let mut next = *state;
    let after = &mut next.pruners[turn.i];
    let keeps_entries = rules.torn == TornIndex::KeepPlan || rules.lacks(Left::SegmentsAgain);
    after.entries = if keeps_entries { entries } else { 0 };
    if rules.torn != TornIndex::No {
        after.inputs = 0;
    }
    if stops {
        return turn.finish(next, "P1: stops, a live chunk has no entry", At::Failed);
    }
    let mut targets = me.packs & !keep & !me.spared;
    if rules.lacks(Left::SweptAgain) {
        targets &= !state.swept;
    }
    (after.targets, after.copies) = (targets, copies);
    (after.spared, after.packs, after.marked, after.live) = (0, 0, 0, 0);
    if targets == 0 {
        return turn.finish(next, "P1: has nothing to do", At::Done);
    }
    let then = if copies == 0 { Prune::PutMark } else { Prune::PutCopies };
    turn.next(next, "P1: lists segments, plans", then);
}

/// A repair replaces each damaged pack by a new one with the same chunks, needed or not, which it
/// recovers from parity. Then it continues as a prune that condemns the damaged ones.
fn plan_repair(turn: &mut Turn<'_, '_>) {
    let mut next = *turn.state;
    let me = &mut next.pruners[turn.i];
    me.targets = turn.rules.damaged & me.packs;
    me.copies = members(me.targets).fold(0, |all, pack| all | turn.state.content[pack]);
    (me.spared, me.packs, me.marked, me.live) = (0, 0, 0, 0);
    if me.targets == 0 {
        return turn.finish(next, "finds nothing to repair", At::Done);
    }
    turn.next(next, "P1: reads damaged packs", Prune::PutCopies);
}

fn put_copies(turn: &mut Turn<'_, '_>) {
    let (state, rules, i) = (turn.state, turn.rules, turn.i);
    let me = *turn.pruner();
    let mut next = *state;
    let name = match me.pack {
        NONE => next.name_pack(rules, me.copies, COPIES + i as u8),
        pack => Some(pack),
    };
    let Some(pack) = name else {
        return turn.finish(next, "is at the limit of the model", At::Bound);
    };
    next.pruners[i].pack = pack;
    if turn.may_lose(request::PACK) && !has(state.flight.packs, pack as usize) {
        let mut lost = next;
        lost.flight.sent += 1;
        lost.flight.packs |= 1 << pack;
        if turn.ignores_answer(request::PACK) {
            lost.pruners[i].at = At::Next(Prune::PutSegment);
        }
        turn.tell(lost, "P1: PUT of a pack of copies without an answer", None);
    }
    next.packs |= 1 << pack;
    turn.next(next, "P1: PUT of a pack of copies", Prune::PutSegment);
}

fn put_segment(turn: &mut Turn<'_, '_>) {
    let (state, rules, i) = (turn.state, turn.rules, turn.i);
    let me = *turn.pruner();
    let mut next = *state;
    let entries = entries_of(me.pack as usize, me.copies);
    let name = match me.segment {
        NONE => next.name_segment(rules, entries, 0),
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
            lost.pruners[i].at = At::Next(Prune::PutMark);
            lost.pruners[i].segment = NONE;
        }
        turn.tell(lost, "P1: PUT of the segment of the copies without an answer", None);
    }
    next.segments |= 1 << segment;
    let after = &mut next.pruners[i];
    if rules.lacks(Left::SegmentsAgain) {
        after.entries |= entries;
    }
    (after.segment, after.pack, after.copies) = (NONE, NONE, 0);
    turn.next(next, "P1: PUT of the segment of the copies", Prune::PutMark);
}
