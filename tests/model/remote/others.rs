//! Forget, unlock, restore, and the store, which carries out requests late.

use super::rules::{Forgetting, Left, Retries, Rules, request};
use super::state::*;

pub fn step(state: &State, rules: &Rules, out: &mut Out<'_>) {
    forget(state, rules, out);
    carry_out(state, rules, out);
    if rules.unlock {
        unlock(state, out);
    }
    restore(state, rules, out);
    lose_segments(state, rules, out);
}

/// Damage: a segment is lost.
fn lose_segments(state: &State, rules: &Rules, out: &mut Out<'_>) {
    if state.lost_segments >= rules.lost_segments {
        return;
    }
    for segment in segments_in(state.segments) {
        let mut next = *state;
        next.lost_segments += 1;
        next.segments &= !(1 << segment);
        tell(out, Who::Store, "loses segment", Some(segment), next);
    }
}

fn tell(out: &mut Out<'_>, who: Who, what: &'static str, number: Option<usize>, next: State) {
    let number = number.map(|number| number as u8);
    out(Label { who, what, number }, next);
}

/// A record, then the DELETE of the manifest (A10), which anyone may repeat.
fn forget(state: &State, rules: &Rules, out: &mut Out<'_>) {
    for snapshot in (0..SNAPSHOTS).filter(|snapshot| has(rules.forget, *snapshot)) {
        let may_lose = rules.late_kinds & request::RECORD != 0 && rules.forgetting == Forgetting::Record;
        if state.is_listed(snapshot) && (may_lose || !has(state.forgotten, snapshot)) {
            let mut next = *state;
            next.forgotten |= 1 << snapshot;
            if may_lose && state.flight.sent < rules.late && !has(state.flight.records, snapshot) {
                let mut lost = next;
                lost.flight.sent += 1;
                lost.flight.records |= 1 << snapshot;
                if rules.not_awaited & request::RECORD != 0 {
                    lost.snapshots[snapshot] = 0;
                }
                let what = "forgets, PUT without an answer of the record of";
                tell(out, Who::User, what, Some(snapshot), lost);
            }
            let what = match rules.forgetting {
                Forgetting::Delete => {
                    next.snapshots[snapshot] = 0;
                    "forgets, DELETE of manifest"
                }
                Forgetting::Record => {
                    next.records |= 1 << snapshot;
                    "forgets, PUT of the record of"
                }
                Forgetting::Overwrite => {
                    next.snapshots[snapshot] = TOMBSTONE;
                    if snapshot >= FIRST {
                        next.revoked |= 1 << (snapshot - FIRST);
                    }
                    "forgets, PUT of a tombstone over manifest"
                }
            };
            tell(out, Who::User, what, Some(snapshot), next);
        }
        let is_recorded = rules.forgetting == Forgetting::Record && state.has_record(snapshot);
        if is_recorded && state.snapshots[snapshot] & MANIFEST != 0 {
            let mut next = *state;
            next.snapshots[snapshot] = 0;
            tell(out, Who::User, "forgets, DELETE of manifest", Some(snapshot), next);
        }
    }
}

/// Requests in flight of one kind: takes one out, and returns the state before it is carried out.
macro_rules! late {
    ($state:ident, $out:ident, $set:ident, $count:expr, $what:literal, |$next:ident, $i:ident| $done:expr) => {
        for $i in (0..$count).filter(|i| $state.flight.$set >> i & 1 == 1) {
            let mut $next = *$state;
            $next.flight.$set &= !(1 << $i);
            $done;
            tell($out, Who::Store, concat!("carries out late: ", $what), Some($i), $next);
        }
    };
}

fn carry_out(state: &State, rules: &Rules, out: &mut Out<'_>) {
    late!(
        state,
        out,
        manifests,
        WRITERS,
        "PUT of the manifest, writer",
        |next, i| { put_manifest(&mut next, i, rules) }
    );
    late!(
        state,
        out,
        tombstones,
        WRITERS,
        "PUT of a tombstone, writer",
        |next, i| { put_tombstone(&mut next, i, rules) }
    );
    late!(state, out, leases, WRITERS, "PUT of the lease, writer", |next, i| {
        next.leases |= 1 << i
    });
    late!(state, out, packs, PACKS, "PUT of pack", |next, i| next.packs |= 1 << i);
    late!(state, out, segments, SEGMENTS, "PUT of segment", |next, i| next
        .segments |=
        1 << i);
    late!(state, out, marks, MARKS, "PUT of mark", |next, i| next.marks |= 1 << i);
    late!(state, out, mark_deletes, MARKS, "DELETE of mark", |next, i| next
        .marks &=
        !(1 << i));
    late!(state, out, records, SNAPSHOTS, "PUT of the record of", |next, i| {
        next.records |= 1 << i
    });
    late!(state, out, swept, PACKS, "PUT of .swept with pack", |next, i| next
        .swept |=
        1 << i);
    for mark in (0..MARKS).filter(|mark| state.flight.waits[*mark] != 0) {
        let mut next = *state;
        next.flight.waits[mark] = 0;
        put_wait(&mut next, mark, state.flight.waits[mark]);
        tell(
            out,
            Who::Store,
            "carries out late: PUT of .wait of mark",
            Some(mark),
            next,
        );
    }
    late!(state, out, segment_deletes, SEGMENTS, "DELETE of segment", |next, i| {
        next.segments &= !(1 << i)
    });
    late!(
        state,
        out,
        lease_deletes,
        WRITERS,
        "DELETE of the lease, writer",
        |next, i| next.leases &= !(1 << i)
    );
    late!(state, out, pack_deletes, PACKS, "DELETE of pack", |next, i| next
        .packs &=
        !(1 << i));
}

fn put_wait(state: &mut State, mark: usize, sessions: Set) {
    if state.waits[mark] == NONE {
        state.waits[mark] = sessions;
    }
}

fn put_manifest(state: &mut State, writer: usize, rules: &Rules) {
    if state.snapshots[FIRST + writer] == 0 || rules.lacks(Left::ManifestIfAbsent) {
        state.snapshots[FIRST + writer] = MANIFEST | rules.wanted(writer);
    }
}

fn put_tombstone(state: &mut State, writer: usize, rules: &Rules) {
    if state.snapshots[FIRST + writer] == 0 || rules.lacks(Left::TombstoneIfAbsent) {
        state.snapshots[FIRST + writer] = TOMBSTONE;
        state.revoked |= 1 << writer;
    }
}

/// Returns the state with every request in flight dropped, or carried out: DELETEs first, and
/// manifests before tombstones.
pub fn settle(state: &State, rules: &Rules, carry_out: bool) -> State {
    let mut settled = *state;
    let flight = &state.flight;
    if carry_out {
        settled.segments &= !flight.segment_deletes;
        settled.packs &= !flight.pack_deletes;
        settled.leases &= !flight.lease_deletes;
        settled.leases |= flight.leases;
        settled.packs |= flight.packs;
        settled.segments |= flight.segments;
        settled.marks &= !flight.mark_deletes;
        settled.marks |= flight.marks;
        settled.swept |= flight.swept;
        settled.records |= flight.records;
        for mark in (0..MARKS).filter(|mark| flight.waits[*mark] != 0) {
            put_wait(&mut settled, mark, flight.waits[mark]);
        }
        for writer in (0..WRITERS).filter(|writer| state.snapshots[FIRST + writer] == 0) {
            if has(flight.manifests, writer) {
                settled.snapshots[FIRST + writer] = MANIFEST | rules.wanted(writer);
            } else if has(flight.tombstones, writer) {
                settled.snapshots[FIRST + writer] = TOMBSTONE;
                settled.revoked |= 1 << writer;
            }
        }
    }
    settled.flight = InFlight {
        sent: flight.sent,
        ..InFlight::default()
    };
    settled
}

/// A forced unlock: a tombstone, then the DELETE of the lease.
fn unlock(state: &State, out: &mut Out<'_>) {
    for writer in 0..WRITERS {
        let mut next = *state;
        next.unlocks[writer] += 1;
        match state.unlocks[writer] {
            0 if has(state.leases, writer) => {
                if state.snapshots[FIRST + writer] == 0 {
                    next.snapshots[FIRST + writer] = TOMBSTONE;
                    next.revoked |= 1 << writer;
                }
                tell(
                    out,
                    Who::User,
                    "unlocks, PUT of a tombstone, writer",
                    Some(writer),
                    next,
                );
            }
            1 => {
                next.leases &= !(1 << writer);
                tell(
                    out,
                    Who::User,
                    "unlocks, DELETE of the lease, writer",
                    Some(writer),
                    next,
                );
            }
            _ => {}
        }
    }
}

/// Restores one chunk: tries its locations in any order, and lists again as long as that shows a
/// new one (A8).
fn restore(state: &State, rules: &Rules, out: &mut Out<'_>) {
    let Some(at) = state.reader.at.next() else { return };
    let mut next = *state;
    if at == Read::List {
        if state.is_listed(rules.reads) {
            next.reader.entries = state.entries();
            next.reader.at = At::Next(Read::Try);
            tell(out, Who::Reader, "lists the index", None, next);
        }
        return;
    }
    let reader = state.reader;
    let chunk = match rules.reads {
        0 => 0,
        snapshot => rules.wanted(snapshot - FIRST).trailing_zeros() as usize,
    };
    let untried = packs_of(reader.entries, chunk) & !reader.tried;
    for pack in members(untried) {
        let mut next = *state;
        if has(state.packs, pack) {
            next.reader = Reader {
                at: At::Done,
                ..Reader::default()
            };
            tell(out, Who::Reader, "reads its chunk from pack", Some(pack), next);
        } else {
            next.reader.tried |= 1 << pack;
            tell(out, Who::Reader, "does not find pack", Some(pack), next);
        }
    }
    if untried != 0 {
        return;
    }
    let until_stable = rules.reader == Retries::WhileNew;
    if until_stable || matches!(rules.reader, Retries::AtMost(count) if reader.listings < count) {
        next.reader.listings = (reader.listings + 1).min(2);
        next.reader.entries = state.entries();
        next.reader_failed = until_stable && packs_of(next.reader.entries, chunk) & !reader.tried == 0;
    } else {
        next.reader_failed = true;
    }
    if next.reader_failed {
        next.reader.at = At::Failed;
    }
    let what = if next.reader_failed {
        "FAILS"
    } else {
        "lists the index again"
    };
    tell(out, Who::Reader, what, None, next);
}
