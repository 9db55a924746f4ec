//! An ingest: `ops::ingest` (lease, W0 to W3), `ops::ingest::commit` (W4 to W7) and
//! `repo::Session` (the packs that it relies on).

use super::rules::{Check, Rules};
use super::state::*;

/// Largest number of rounds of a commit that finds packs missing; the engine has more.
const ROUNDS: u8 = 2;

pub fn step(state: &State, i: usize, rules: &Rules, out: &mut Out<'_>) {
    let Some(at) = state.writers[i].at.next() else { return };
    crash(state, i, rules, out);
    let mut next = *state;
    let mut go = |mut next: State, what, at| {
        next.writers[i].at = at;
        out(
            Label {
                who: Who::Writer(i),
                what,
                number: None,
            },
            next,
        );
    };
    match at {
        Write::Lease => {
            next.leases[i] = Lease::Held;
            go(next, "takes its lease", At::Next(Write::ListKills));
        }
        Write::ListKills => {
            next.writers[i].condemned = state.condemned();
            go(next, "reads the kill lists", At::Next(Write::LoadSegments));
        }
        Write::LoadSegments => {
            next.writers[i].entries = state.entries();
            choose(&next, i, rules, &mut |next, can| {
                let at = if can { At::Next(Write::PutPack) } else { At::Failed };
                go(next, "loads segments, chooses packs to reuse", at);
            });
        }
        Write::PutPack => put_pack(state, i, rules, out),
        Write::PutSegment => {
            let new = members(state.writers[i].new);
            let entries = new
                .map(|chunk| entry(chunk, state.writers[i].relied[chunk] as usize))
                .sum();
            next.writers[i].new = 0;
            if next.add_segment(entries, 0) {
                go(next, "puts a segment", At::Next(Write::CheckUnlocked));
            }
        }
        Write::CheckUnlocked => {
            if rules.check != Check::BeforeLock {
                next.writers[i].at = At::Next(Write::Lock);
                return step(&next, i, rules, out);
            }
            if lost(state, i, rules) == 0 {
                go(next, "checks before the lock", At::Next(Write::Lock));
            } else {
                next.leases[i] = Lease::None;
                go(next, "fails its check", At::Failed);
            }
        }
        Write::Lock => {
            let then = match rules.check {
                Check::UnderLock => Write::Check,
                _ => Write::PutManifest,
            };
            if !rules.shared_lock {
                next.writers[i].at = At::Next(then);
                return step(&next, i, rules, out);
            }
            if state.commit_exclusive == 0 {
                next.commit_shared |= 1 << i;
                go(next, "takes the commit lock shared", At::Next(then));
            }
        }
        Write::Check => check(state, i, rules, &mut go),
        Write::PutManifest => {
            next.snapshots[2 + i] = MANIFEST | rules.want[i];
            next.acknowledged |= 1 << (2 + i);
            go(next, "COMMITS", At::Next(Write::Unlock));
        }
        Write::Unlock => {
            next.commit_shared &= !(1 << i);
            next.leases[i] = Lease::None;
            go(next, "unlocks, removes its lease", At::Done);
        }
    }
}

/// Kernel locks are released, files stay. Before it has a lease, a writer leaves nothing.
fn crash(state: &State, i: usize, rules: &Rules, out: &mut Out<'_>) {
    if state.crashes >= rules.crashes || state.writers[i].at == At::Next(Write::Lease) {
        return;
    }
    let mut next = *state;
    next.crashes += 1;
    next.writers[i] = Writer {
        at: At::Dead,
        relied: [NONE; CHUNKS],
        ..Writer::default()
    };
    if next.leases[i] == Lease::Held {
        next.leases[i] = Lease::Left;
    }
    next.commit_shared &= !(1 << i);
    let label = Label {
        who: Who::Writer(i),
        what: "crashes",
        number: None,
    };
    out(label, next);
}

/// Returns the chunks whose pack is deleted or condemned.
fn lost(state: &State, i: usize, rules: &Rules) -> Set {
    let condemned = if rules.see_kill_lists { state.condemned() } else { 0 };
    let relied = state.writers[i].relied;
    let is_lost = |chunk: &usize| {
        let pack = relied[*chunk] as usize;
        has(condemned, pack) || !has(state.packs, pack)
    };
    members(rules.want[i])
        .filter(is_lost)
        .fold(0, |all, chunk| all | 1 << chunk)
}

/// W6. Lost chunks are looked up in the current index after the lock is released.
fn check(state: &State, i: usize, rules: &Rules, go: &mut dyn FnMut(State, &'static str, At<Write>)) {
    let mut next = *state;
    let lost = lost(state, i, rules);
    if lost == 0 {
        return go(next, "checks under the lock", At::Next(Write::PutManifest));
    }
    next.commit_shared &= !(1 << i);
    if state.writers[i].rounds >= ROUNDS {
        next.leases[i] = Lease::None;
        return go(next, "fails its check, unlocks", At::Failed);
    }
    next.writers[i].rounds += 1;
    for chunk in members(lost) {
        next.writers[i].relied[chunk] = NONE;
    }
    go(
        next,
        "finds a pack missing, unlocks, rechecks",
        At::Next(Write::ListKills),
    );
}

/// Calls `tell` for every choice of a pack for each chunk, among existing packs that are not
/// condemned, with whether the writer can continue with it.
fn choose(state: &State, i: usize, rules: &Rules, tell: &mut dyn FnMut(State, bool)) {
    let writer = &state.writers[i];
    let options = |chunk: usize| -> Vec<u8> {
        if !has(rules.want[i], chunk) {
            return vec![NONE];
        }
        if writer.relied[chunk] != NONE {
            return vec![writer.relied[chunk]];
        }
        let good = packs_of(writer.entries, chunk) & !writer.condemned & state.packs;
        match good {
            0 => vec![NONE],
            _ => members(good).map(|pack| pack as u8).collect(),
        }
    };
    for first in options(0) {
        for second in options(1) {
            let mut next = *state;
            let chosen = &mut next.writers[i];
            chosen.relied = [first, second];
            let missing = members(rules.want[i]).filter(|chunk| chosen.relied[*chunk] == NONE);
            chosen.new = missing.fold(0, |all, chunk| all | 1 << chunk);
            // in a later round the engine no longer has chunks in memory
            let can = rules.store_again || chosen.rounds == 0 || chosen.new == 0;
            if !can {
                next.leases[i] = Lease::None;
            }
            tell(next, can);
        }
    }
}

fn put_pack(state: &State, i: usize, rules: &Rules, out: &mut Out<'_>) {
    let mut next = *state;
    let new = state.writers[i].new;
    if new == 0 {
        next.writers[i].at = At::Next(Write::CheckUnlocked);
        return step(&next, i, rules, out);
    }
    let what = match next.add_pack(new, WRITTEN + i as u8) {
        Some(pack) => {
            members(new).for_each(|chunk| next.writers[i].relied[chunk] = pack);
            next.writers[i].at = At::Next(Write::PutSegment);
            "puts a pack"
        }
        None => {
            next.writers[i].at = At::Failed;
            next.commit_shared &= !(1 << i);
            next.leases[i] = Lease::None;
            "gives up (the model is full)"
        }
    };
    let label = Label {
        who: Who::Writer(i),
        what,
        number: None,
    };
    out(label, next);
}
