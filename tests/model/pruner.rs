//! A prune: `ops::prune` (`survey`, `plan`, `rewrite`, `decide`, `sweep`).

use super::rules::{Flush, Rules};
use super::state::*;

/// One step of a pruner: the state before it and the receiver of the states after it.
struct Step<'a, 'o> {
    state: &'a State,
    i: usize,
    rules: &'a Rules,
    out: &'a mut Out<'o>,
}

pub fn step(state: &State, i: usize, rules: &Rules, out: &mut Out<'_>) {
    let Some(at) = state.pruners[i].at.next() else { return };
    let mut step = Step { state, i, rules, out };
    if state.crashes < rules.crashes && at != Prune::TakeMaint {
        step.crash();
    }
    match at {
        Prune::TakeMaint if !rules.maint => step.at_once(Prune::FinishOld),
        Prune::TakeMaint => {
            if state.maint == 0 {
                let mut next = *state;
                next.maint = i as u8 + 1;
                step.go(next, "takes the maintenance lock", Prune::FinishOld);
            }
        }
        Prune::FinishOld | Prune::ListToFinish | Prune::SpareOld | Prune::DeleteOld => step.finish_old(at),
        Prune::ListPacks | Prune::ListLeases | Prune::ListSnapshots | Prune::ListKills | Prune::HalfOfIndex => {
            step.survey(at);
        }
        Prune::Plan => step.plan(),
        Prune::PutCopies | Prune::PutSegment => step.copy_out(at),
        Prune::LockCommit | Prune::Relist => step.lock(at),
        Prune::Decide => step.decide(),
        Prune::UnlockCommit => {
            let mut next = *state;
            next.commit_exclusive = 0;
            if rules.kill_list_early {
                next.lists &= !(1 << state.pruners[i].list);
            }
            step.go(next, "releases the commit lock", Prune::Delete);
        }
        Prune::Delete | Prune::ReadIndex | Prune::PutIndex | Prune::DropSegments => step.sweep(at),
    }
}

impl Step<'_, '_> {
    fn me(&self) -> &Pruner {
        &self.state.pruners[self.i]
    }

    fn tell(&mut self, next: State, what: &'static str, number: Option<usize>) {
        let label = Label {
            who: Who::Pruner(self.i),
            what,
            number: number.map(|number| number as u8),
        };
        (self.out)(label, next);
    }

    fn go(&mut self, mut next: State, what: &'static str, to: Prune) {
        next.pruners[self.i].at = At::Next(to);
        self.tell(next, what, None);
    }

    /// Ends the prune and releases its locks.
    fn end(&mut self, mut next: State, what: &'static str, at: At<Prune>) {
        next.pruners[self.i] = Pruner {
            at,
            ..Pruner::default()
        };
        free_locks(&mut next, self.i);
        self.tell(next, what, None);
    }

    /// Continues without a step that others could see.
    fn at_once(&mut self, to: Prune) {
        let mut next = *self.state;
        next.pruners[self.i].at = At::Next(to);
        step(&next, self.i, self.rules, self.out);
    }

    fn crash(&mut self) {
        let mut next = *self.state;
        next.crashes += 1;
        self.end(next, "crashes", At::Dead);
    }

    /// P2: the holder of the maintenance lock finishes the existing kill lists, except for packs
    /// that snapshots need.
    fn finish_old(&mut self, at: Prune) {
        let state = self.state;
        let mut next = *state;
        let me = &mut next.pruners[self.i];
        match at {
            Prune::FinishOld => {
                let Some(list) = members(state.lists).next() else {
                    return self.at_once(Prune::ListPacks);
                };
                me.list = list as u8;
                me.finishing = true;
                me.kill = state.listed[list];
                me.at = At::Next(if self.rules.spare_needed {
                    Prune::ListToFinish
                } else {
                    Prune::DeleteOld
                });
                step(&next, self.i, self.rules, self.out);
            }
            Prune::ListToFinish => {
                let is_free = state.commit_exclusive == 0 && state.commit_shared == 0;
                if self.rules.finish_under_lock && self.rules.shared_lock && !is_free {
                    return;
                }
                me.needed = state.live_chunks(0xff);
                if self.rules.flush != Flush::Never {
                    next.volatile = 0;
                }
                self.go(next, "lists snapshots, to finish an old kill list", Prune::SpareOld);
            }
            Prune::SpareOld => {
                let entries = state.entries();
                for chunk in members(me.needed) {
                    let all = packs_of(entries, chunk);
                    if all & state.packs & !state.condemned() == 0 {
                        me.kill &= !all;
                    }
                }
                (me.needed, me.entries) = (0, 0);
                self.go(next, "spares packs that snapshots need", Prune::DeleteOld);
            }
            _ => match members(self.me().kill & state.packs).next() {
                Some(pack) => {
                    next.packs &= !(1 << pack);
                    self.tell(next, "finishes an old kill list: deletes pack", Some(pack));
                }
                None => self.at_once(Prune::ReadIndex),
            },
        }
    }

    /// P3: lists what exists. The order of the listings matters.
    fn survey(&mut self, at: Prune) {
        let state = self.state;
        let mut next = *state;
        let me = &mut next.pruners[self.i];
        match at {
            Prune::ListPacks => {
                me.packs = state.packs;
                self.go(next, "lists packs", Prune::ListLeases);
            }
            Prune::ListLeases => {
                let is_held = |owner: u8| {
                    let writer = owner.wrapping_sub(WRITTEN) as usize;
                    writer < WRITERS && state.leases[writer] == Lease::Held
                };
                if self.rules.spare {
                    let spared = (0..PACKS).filter(|pack| is_held(state.owner[*pack]));
                    me.spared = spared.fold(0, |all, pack| all | 1 << pack);
                }
                me.defers = self.rules.honour && state.leases.contains(&Lease::Held);
                self.go(next, "lists leases", Prune::ListSnapshots);
            }
            Prune::ListSnapshots => {
                me.live = state.live_chunks(0xff);
                let there = (0..SNAPSHOTS).filter(|snapshot| state.has_manifest(*snapshot));
                // otherwise it makes no difference
                me.known = if self.rules.only_new {
                    there.fold(0, |all, snapshot| all | 1 << snapshot)
                } else {
                    0
                };
                self.go(next, "lists snapshots", Prune::ListKills);
            }
            Prune::ListKills => {
                me.condemned = state.condemned();
                let then = if self.rules.torn {
                    Prune::HalfOfIndex
                } else {
                    Prune::Plan
                };
                self.go(next, "reads the kill lists", then);
            }
            _ => {
                let second = members(state.segments).filter(|segment| *segment >= 2);
                for segment in second {
                    me.entries |= state.named[segment];
                    me.copies |= state.supersedes[segment];
                }
                self.go(next, "lists half of the index", Prune::Plan);
            }
        }
    }

    /// Returns the entries of the index as listed for the plan.
    fn listed_entries(&self) -> Entries {
        if !self.rules.torn {
            return self.state.entries();
        }
        let first = members(self.state.segments & !self.me().copies).filter(|segment| *segment < 2);
        first.fold(self.me().entries, |all, segment| all | self.state.named[segment])
    }

    /// P4: chooses the canonical copy of each needed chunk. The first prune prefers low numbers and
    /// the second one high numbers, so that the two disagree.
    fn plan(&mut self) {
        let state = self.state;
        let me = *self.me();
        let entries = self.listed_entries();
        let (mut keep, mut copies) = (0, 0);
        for chunk in members(me.live) {
            let all = packs_of(entries, chunk) & me.packs;
            let good = all & !me.condemned;
            let mut candidates: Vec<usize> = members(good).collect();
            if self.i == 1 {
                candidates.reverse();
            }
            let full = candidates.iter().find(|pack| state.content[**pack] & !me.live == 0);
            match (full, candidates.first()) {
                (Some(pack), _) => keep |= 1 << pack,
                (None, Some(pack)) if has(me.spared, *pack) => keep |= 1 << pack,
                (None, Some(_)) => copies |= 1 << chunk,
                (None, None) if all & state.packs != 0 => copies |= 1 << chunk,
                (None, None) if self.rules.guard => {
                    return self.end(*state, "stops: a chunk is not in the index", At::Failed);
                }
                (None, None) => {}
            }
        }
        let targets = me.packs & !keep & !me.spared;
        let mut next = *state;
        let after = &mut next.pruners[self.i];
        (after.entries, after.targets, after.copies) = (entries, targets, copies);
        if targets == 0 || me.defers {
            return self.end(next, "has nothing to do, or defers it", At::Done);
        }
        let then = if copies != 0 {
            Prune::PutCopies
        } else {
            Prune::LockCommit
        };
        self.go(next, "loads segments, plans", then);
    }

    fn copy_out(&mut self, at: Prune) {
        let mut next = *self.state;
        let owner = COPIES + self.i as u8;
        let copies = self.me().copies;
        if at == Prune::PutCopies {
            return match next.add_pack(copies, owner) {
                Some(_) => self.go(next, "puts a pack of copies", Prune::PutSegment),
                None => self.end(next, "is at the limit of the model", At::Bound),
            };
        }
        let own = members(self.state.packs)
            .rev()
            .find(|pack| self.state.owner[*pack] == owner);
        let entries = own.map(|pack| entries_of(pack, copies));
        match entries {
            Some(entries) if next.add_segment(entries, 0) => {
                next.pruners[self.i].entries |= entries;
                self.go(next, "puts a segment of the copies", Prune::LockCommit);
            }
            _ => self.end(*self.state, "is at the limit of the model", At::Bound),
        }
    }

    fn lock(&mut self, at: Prune) {
        let mut next = *self.state;
        if at == Prune::LockCommit {
            if self.rules.flush == Flush::BeforeLock {
                next.volatile = 0;
            }
            if !self.rules.shared_lock || !self.rules.exclusive_lock {
                next.pruners[self.i].at = At::Next(Prune::Relist);
                return step(&next, self.i, self.rules, self.out);
            }
            if self.state.commit_exclusive == 0 && self.state.commit_shared == 0 {
                next.commit_exclusive = self.i as u8 + 1;
                self.go(next, "takes the commit lock alone", Prune::Relist);
            }
            return;
        }
        if self.rules.flush == Flush::UnderLock {
            next.volatile = 0;
        }
        let me = &mut next.pruners[self.i];
        if self.rules.relist {
            // with only_new, just the snapshots since the plan, which covers the others
            me.live = self.state.live_chunks(!me.known);
        } else if self.rules.only_new {
            me.live = 0;
        }
        self.go(next, "lists snapshots again", Prune::Decide);
    }

    /// P6: takes packs off the list that have the only copy of a needed chunk.
    fn decide(&mut self) {
        let state = self.state;
        let me = *self.me();
        let entries = match self.rules.relist && self.rules.relist_segments {
            true => state.entries(),
            false => me.entries,
        };
        let lists = if self.rules.relist { state.condemned() } else { 0 };
        let there = if self.rules.look_for_packs { state.packs } else { 0xff };
        let mut targets = me.targets;
        for chunk in members(me.live) {
            let all = packs_of(entries, chunk) & there;
            if all & !(lists | me.targets) == 0 {
                targets &= !all;
            }
            if self.rules.guard && all == 0 {
                return self.end(*state, "stops: a chunk has no entry", At::Failed);
            }
        }
        let mut next = *state;
        next.pruners[self.i].kill = targets;
        if !self.rules.kill_list {
            next.commit_exclusive = 0;
            return self.go(next, "unlocks without a kill list", Prune::Delete);
        }
        if targets == 0 {
            return self.end(next, "has nothing left to condemn", At::Done);
        }
        let Some(list) = (0..LISTS).find(|list| !has(state.lists, *list)) else {
            return self.end(next, "is at the limit of the model", At::Bound);
        };
        next.lists |= 1 << list;
        next.listed[list] = targets;
        next.pruners[self.i].list = list as u8;
        self.go(next, "publishes its kill list", Prune::UnlockCommit);
    }

    /// P8 and P9: deletes the condemned packs and rewrites the index.
    fn sweep(&mut self, at: Prune) {
        let state = self.state;
        let me = *self.me();
        let mut next = *state;
        match at {
            Prune::Delete => match members(me.kill & state.packs).next() {
                Some(pack) => {
                    next.packs &= !(1 << pack);
                    self.tell(next, "deletes pack", Some(pack));
                }
                None => self.at_once(Prune::ReadIndex),
            },
            Prune::ReadIndex => {
                let after = &mut next.pruners[self.i];
                after.targets = if self.rules.carry {
                    state.segments
                } else {
                    state.live_segments()
                };
                after.entries = state.entries() & !entries_in(me.kill);
                self.go(next, "reads the index to rewrite it", Prune::PutIndex);
            }
            Prune::PutIndex => match next.add_segment(me.entries, me.targets) {
                true => self.go(next, "puts an index without the condemned packs", Prune::DropSegments),
                false => self.end(*state, "is at the limit of the model", At::Bound),
            },
            _ => {
                if let Some(segment) = members(me.targets & state.segments).next() {
                    next.segments &= !(1 << segment);
                    return self.tell(next, "deletes a superseded segment", None);
                }
                if !self.rules.kill_list_early {
                    next.lists &= !(1 << me.list);
                }
                if me.finishing {
                    next.pruners[self.i] = Pruner::default();
                    return self.go(next, "removes the old kill list", Prune::FinishOld);
                }
                self.end(next, "removes its kill list, unlocks", At::Done);
            }
        }
    }
}

/// Releases the locks of a pruner that ends or crashes.
pub fn free_locks(state: &mut State, i: usize) {
    let me = i as u8 + 1;
    if state.maint == me {
        state.maint = 0;
    }
    if state.commit_exclusive == me {
        state.commit_exclusive = 0;
    }
}
