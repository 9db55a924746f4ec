//! A model of growing and shrinking parity groups: files with unique ids that name the files they
//! supersede, and only the holder of the maintenance lock supersedes. `repo::protect` grows groups,
//! `repo::dissolve` shrinks them.
//!
//! In each state every committed pack is in a live group, and no live group has a deleted pack as a
//! member. If writers know all groups, every committed pack is in exactly one. With `hints`, a
//! writer knows those that have a mark, and any marks may be lost: it grows any group that exists,
//! also a superseded one whose successor it does not know.

use std::collections::HashSet;

const FILES: usize = 14;
/// Packs 0 and 1 are to be deleted, 2 is needed; 3 and 4 are those of the writers.
const FIRST_WRITTEN: usize = 3;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Actor {
    /// The next step; `OVER` when there is none.
    at: u8,
    file: u8,
    members: u8,
    grows: bool,
    /// The superseded files that the process knows.
    superseded: u16,
}

const OVER: u8 = 200;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct State {
    packs: u8,
    committed: u8,
    files: u16,
    file_count: u8,
    members: [u8; FILES],
    supersedes: [u16; FILES],
    /// The holder of the maintenance lock: writer `i` as `i + 1`, prune `i` as `i + 11`.
    maint: u8,
    crashes: u8,
    writers: [Actor; 2],
    prunes: [Actor; 2],
}

#[derive(Clone)]
struct Rules {
    name: &'static str,
    lock: bool,
    carry: bool,
    /// Writers know only some of the groups.
    hints: bool,
    /// A writer grows a group only when its members exist.
    checks_members: bool,
    writers: usize,
    prunes: usize,
    crashes: u8,
    broken: bool,
}

impl State {
    fn new(rules: &Rules) -> Self {
        let mut state = Self {
            packs: 0b111,
            committed: 0b100,
            ..Self::default()
        };
        state.add_file(0b111, 0);
        for i in 0..2 {
            state.writers[i].at = if i < rules.writers { 0 } else { OVER };
            state.prunes[i].at = if i < rules.prunes { 0 } else { OVER };
        }
        state
    }

    fn live(&self) -> u16 {
        let there = (0..FILES).filter(|file| self.files >> file & 1 == 1);
        self.files & !there.fold(0, |all, file| all | self.supersedes[file])
    }

    fn live_files(&self) -> impl DoubleEndedIterator<Item = usize> {
        let live = self.live();
        (0..FILES).filter(move |file| live >> file & 1 == 1)
    }

    fn add_file(&mut self, members: u8, supersedes: u16) -> bool {
        let file = self.file_count as usize;
        if file >= FILES {
            return false;
        }
        self.file_count += 1;
        self.files |= 1 << file;
        self.members[file] = members;
        self.supersedes[file] = supersedes;
        true
    }

    fn has_members_of(&self, file: usize) -> bool {
        self.members[file] & !self.packs == 0
    }

    fn violation(&self, hints: bool) -> Option<String> {
        for pack in 0..8 {
            let groups = self
                .live_files()
                .filter(|file| self.members[*file] >> pack & 1 == 1)
                .count();
            if self.committed >> pack & 1 == 1 && (groups == 0 || groups > 1 && !hints) {
                return Some(format!("committed pack {pack} is in {groups} live groups"));
            }
        }
        let gone = self.live_files().find(|file| !self.has_members_of(*file));
        gone.map(|file| format!("live group {file} has a deleted pack as a member"))
    }
}

/// Calls `out` with each state after one step of any process.
fn next(state: &State, rules: &Rules, out: &mut dyn FnMut(State)) {
    for i in 0..2 {
        if state.writers[i].at != OVER {
            if state.crashes < rules.crashes && state.writers[i].at > 0 {
                let mut crashed = *state;
                crashed.crashes += 1;
                end(&mut crashed, i, true, OVER);
                out(crashed);
            }
            write(state, i, rules, out);
        }
        if state.prunes[i].at != OVER {
            if state.crashes < rules.crashes && state.prunes[i].at > 0 {
                let mut crashed = *state;
                crashed.crashes += 1;
                // the next prune continues with its kill list
                end(&mut crashed, i, false, 0);
                out(crashed);
            }
            prune(state, i, rules, out);
        }
    }
}

fn end(state: &mut State, i: usize, writer: bool, at: u8) {
    let (actors, holder) = match writer {
        true => (&mut state.writers, i as u8 + 1),
        false => (&mut state.prunes, i as u8 + 11),
    };
    actors[i] = Actor { at, ..Actor::default() };
    if state.maint == holder {
        state.maint = 0;
    }
}

fn write(state: &State, i: usize, rules: &Rules, out: &mut dyn FnMut(State)) {
    let own = 1u8 << (FIRST_WRITTEN + i);
    let actor = state.writers[i];
    let mut next = *state;
    next.writers[i].at += 1;
    match actor.at {
        0 => next.packs |= own,
        // takes the lock if it is free, and the newest group with it, or any group with a mark
        1 if !rules.lock || state.maint == 0 => {
            if rules.lock {
                next.maint = i as u8 + 1;
            }
            let grow = |tail: usize, superseded| {
                let mut grown = next;
                let me = &mut grown.writers[i];
                (me.file, me.members, me.grows) = (tail as u8, state.members[tail], true);
                me.superseded = superseded;
                grown
            };
            let all = state.files & !state.live();
            if rules.hints {
                let exists = |file: &usize| state.files >> file & 1 == 1;
                for tail in (0..FILES).filter(exists) {
                    if !rules.checks_members || state.has_members_of(tail) {
                        // it knows those that this group names, or all
                        out(grow(tail, state.files & state.supersedes[tail]));
                        out(grow(tail, all));
                    }
                }
            } else if let Some(tail) = state.live_files().next_back() {
                next = grow(tail, all);
            }
        }
        1 => {}
        2 => {
            let (mut members, mut supersedes) = (own, 0);
            if actor.grows {
                members |= actor.members;
                supersedes = 1 << actor.file;
                if rules.carry {
                    supersedes |= actor.superseded;
                }
            }
            if !next.add_file(members, supersedes) {
                return;
            }
        }
        3 => {
            if actor.grows {
                next.files &= !(1 << actor.file);
            }
            if next.maint == i as u8 + 1 {
                next.maint = 0;
            }
        }
        _ => {
            next.committed |= own;
            end(&mut next, i, true, OVER);
        }
    }
    out(next);
}

fn prune(state: &State, i: usize, rules: &Rules, out: &mut dyn FnMut(State)) {
    let victim = 1u8 << i;
    let actor = state.prunes[i];
    let mut next = *state;
    let me = &mut next.prunes[i];
    match actor.at {
        0 => {
            if rules.lock && state.maint != 0 {
                return;
            }
            me.at = 1;
            if rules.lock {
                next.maint = i as u8 + 11;
            }
        }
        1 => match state.live_files().find(|file| state.members[*file] & victim != 0) {
            Some(file) => {
                (me.at, me.file, me.members) = (2, file as u8, state.members[file]);
                me.superseded = state.files & !state.live();
            }
            None => me.at = 4,
        },
        2 => {
            me.at = 3;
            let carried = if rules.carry { actor.superseded } else { 0 };
            if !next.add_file(actor.members & !victim, 1 << actor.file | carried) {
                return;
            }
        }
        3 => {
            me.at = 1;
            next.files &= !(1 << actor.file);
        }
        _ => {
            next.packs &= !victim;
            end(&mut next, i, false, OVER);
        }
    }
    out(next);
}

fn explore(rules: &Rules) {
    let start = State::new(rules);
    let mut seen = HashSet::from([start]);
    let mut open = vec![start];
    let mut violation = None;
    while let Some(state) = open.pop() {
        assert!((state.file_count as usize) < FILES, "{}: too few files", rules.name);
        violation = state.violation(rules.hints);
        if violation.is_some() {
            break;
        }
        next(&state, rules, &mut |new| {
            if seen.insert(new) {
                open.push(new);
            }
        });
    }
    println!("model: parity: {}: {} states, {violation:?}", rules.name, seen.len());
    assert_eq!(violation.is_some(), rules.broken, "{}: {violation:?}", rules.name);
}

#[test]
fn groups_change_only_under_the_maintenance_lock_and_carry_over_supersede_lists() {
    let usual = Rules {
        name: "2 writers, 2 prunes",
        lock: true,
        carry: true,
        hints: false,
        checks_members: true,
        writers: 2,
        prunes: 2,
        crashes: 1,
        broken: false,
    };
    explore(&usual);
    explore(&Rules {
        name: "2 writers, 2 prunes, 2 crashes",
        crashes: 2,
        ..usual.clone()
    });
    explore(&Rules {
        name: "supersede lists not carried over",
        crashes: 2,
        carry: false,
        broken: true,
        ..usual.clone()
    });
    explore(&Rules {
        name: "marks are hints",
        hints: true,
        ..usual.clone()
    });
    explore(&Rules {
        name: "marks are hints, 2 crashes",
        hints: true,
        crashes: 2,
        ..usual.clone()
    });
    explore(&Rules {
        name: "marks are hints, supersede lists not carried over",
        hints: true,
        carry: false,
        crashes: 2,
        broken: true,
        ..usual.clone()
    });
    explore(&Rules {
        name: "marks are hints, groups grown without a look at their members",
        hints: true,
        checks_members: false,
        crashes: 2,
        broken: true,
        ..usual.clone()
    });
    explore(&Rules {
        name: "groups grown without the lock",
        writers: 1,
        prunes: 1,
        lock: false,
        broken: true,
        ..usual
    });
}
