//! Forget (`ops::forget`), merge (`Repository::merge_index_if_due`), restore (`ops::restore`,
//! `repo::read`), and power cuts.

use super::rules::{Retries, Rules};
use super::state::*;

pub fn step(state: &State, rules: &Rules, out: &mut Out<'_>) {
    forget(state, rules, out);
    copy_list(state, rules, out);
    power_cut(state, rules, out);
    merge(state, rules, out);
    restore(state, rules, out);
}

fn tell(out: &mut Out<'_>, who: Who, what: &'static str, number: Option<usize>, next: State) {
    let number = number.map(|number| number as u8);
    out(Label { who, what, number }, next);
}

/// A forget, at any time and without a lock. (The engine takes the commit lock shared, which allows
/// less.)
fn forget(state: &State, rules: &Rules, out: &mut Out<'_>) {
    for snapshot in (0..SNAPSHOTS).filter(|snapshot| has(rules.forget, *snapshot) && state.has_manifest(*snapshot)) {
        let mut next = *state;
        next.snapshots[snapshot] = 0;
        next.forgotten |= 1 << snapshot;
        if rules.power_cuts > 0 {
            next.volatile |= 1 << snapshot;
        }
        tell(out, Who::User, "forgets snapshot", Some(snapshot), next);
    }
}

/// Ends every process and undoes deletions of manifests that were not flushed.
fn power_cut(state: &State, rules: &Rules, out: &mut Out<'_>) {
    if state.power_cuts >= rules.power_cuts {
        return;
    }
    let mut next = *state;
    next.power_cuts += 1;
    for (writer, lease) in next.writers.iter_mut().zip(&mut next.leases) {
        if writer.at.is_running() {
            *writer = Writer {
                at: At::Dead,
                relied: [NONE; CHUNKS],
                ..Writer::default()
            };
            if *lease != Lease::None {
                *lease = Lease::Left;
            }
        }
    }
    for pruner in next.pruners.iter_mut().filter(|pruner| pruner.at.is_running()) {
        *pruner = Pruner {
            at: At::Dead,
            ..Pruner::default()
        };
    }
    next.compactor = Compactor::default();
    next.reader = Reader::default();
    (next.commit_shared, next.commit_exclusive, next.maint) = (0, 0, 0);
    for snapshot in members(state.volatile) {
        let needs = if snapshot < 2 {
            1 << snapshot
        } else {
            rules.want[snapshot - 2]
        };
        next.snapshots[snapshot] = MANIFEST | needs;
        next.forgotten &= !(1 << snapshot);
    }
    next.volatile = 0;
    tell(
        out,
        Who::Host,
        "loses power: deletions that were not flushed are undone",
        None,
        next,
    );
}

/// A tool that copies a folder, and deletes nothing in its target, adds the kill list of a prune
/// that ran in its source.
fn copy_list(state: &State, rules: &Rules, out: &mut Out<'_>) {
    if rules.copied_list == 0 || state.copied {
        return;
    }
    let Some(list) = (0..LISTS).find(|list| !has(state.lists, *list)) else {
        return;
    };
    let mut next = *state;
    next.copied = true;
    next.lists |= 1 << list;
    next.listed[list] = rules.copied_list;
    tell(out, Who::User, "copies a kill list into the folder", None, next);
}

/// A merge under the maintenance lock, which it takes only if it is free; it leaves kill lists to
/// the next prune.
fn merge(state: &State, rules: &Rules, out: &mut Out<'_>) {
    let Some(at) = state.compactor.at.next() else { return };
    let mut next = *state;
    match at {
        Merge::Read => {
            let live = state.live_segments();
            if live.count_ones() < 2 || (rules.maint && state.maint != 0) {
                return;
            }
            if rules.maint {
                next.maint = COMPACTOR;
            }
            next.compactor = Compactor {
                at: At::Next(Merge::Put),
                inputs: live,
                entries: state.entries(),
            };
            tell(out, Who::Compactor, "reads segments", None, next);
        }
        Merge::Put => {
            if next.add_segment(state.compactor.entries, state.compactor.inputs) {
                next.compactor.at = At::Next(Merge::Drop);
                tell(out, Who::Compactor, "puts the merged segment", None, next);
            }
        }
        Merge::Drop => match members(state.compactor.inputs & state.segments).next() {
            Some(segment) => {
                next.segments &= !(1 << segment);
                tell(out, Who::Compactor, "deletes a superseded segment", None, next);
            }
            None => {
                end_merge(&mut next, At::Done);
                tell(out, Who::Compactor, "is done", None, next);
            }
        },
    }
    if state.crashes < rules.crashes && at != Merge::Read {
        let mut next = *state;
        next.crashes += 1;
        end_merge(&mut next, At::Dead);
        tell(out, Who::Compactor, "crashes", None, next);
    }
}

fn end_merge(state: &mut State, at: At<Merge>) {
    state.compactor = Compactor {
        at,
        ..Compactor::default()
    };
    if state.maint == COMPACTOR {
        state.maint = 0;
    }
}

/// Tries the locations of its chunk in any order, and lists again as long as that shows a new one.
fn restore(state: &State, rules: &Rules, out: &mut Out<'_>) {
    let Some(at) = state.reader.at.next() else { return };
    let mut next = *state;
    if at == Read::List {
        if state.has_manifest(0) {
            next.reader.entries = state.entries();
            next.reader.at = At::Next(Read::Try);
            tell(out, Who::Reader, "lists the index", None, next);
        }
        return;
    }
    let reader = state.reader;
    let untried = packs_of(reader.entries, 0) & !reader.tried;
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
    let may_list = match rules.reader {
        Retries::WhileNew => true,
        Retries::AtMost(count) => reader.listings < count,
        Retries::NoReader => false,
    };
    if may_list {
        next.reader.listings = (reader.listings + 1).min(2);
        next.reader.entries = state.entries();
        next.reader_failed = rules.reader == Retries::WhileNew && packs_of(next.reader.entries, 0) & !reader.tried == 0;
    } else {
        next.reader_failed = true;
    }
    let what = if next.reader_failed {
        "FAILS"
    } else {
        "lists the index again"
    };
    tell(out, Who::Reader, what, None, next);
}
