//! Breadth-first search of all reachable states, so that the path to a violation is a shortest one.

use super::rules::{Flush, Rules};
use super::state::*;
use super::{others, pruner, writer};
use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher};

/// Longest prune of a quiet repository, in steps.
const LONGEST_PRUNE: usize = 200;

pub struct Found {
    pub states: usize,
    pub steps: u64,
    pub quiet: usize,
    /// All reachable states were explored.
    pub complete: bool,
    /// The violation that was found, and the path to it.
    pub violation: Option<(String, Vec<String>)>,
}

fn next(state: &State, rules: &Rules, out: &mut Out<'_>) {
    (0..WRITERS).for_each(|i| writer::step(state, i, rules, out));
    (0..PRUNERS).for_each(|i| pruner::step(state, i, rules, out));
    others::step(state, rules, out);
}

/// Hashes represent states: with some millions of states, a collision of 64-bit hashes is
/// practically excluded.
#[derive(Default, Clone)]
struct Fast;

struct FastHasher(u64);

impl BuildHasher for Fast {
    type Hasher = FastHasher;

    fn build_hasher(&self) -> FastHasher {
        FastHasher(7)
    }
}

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        let hash = (self.0 ^ (self.0 >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let hash = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ (hash >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        self.0 = hash ^ (hash >> 27);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }

    fn write_isize(&mut self, word: isize) {
        self.write_u64(word as u64);
    }
}

pub fn explore(rules: &Rules, most: usize) -> Found {
    let mut seen: HashSet<u64> = HashSet::new();
    let mut states = vec![rules.initial()];
    let mut parents = vec![0u32];
    seen.insert(Fast.hash_one(states[0]));
    let mut found = Found {
        states: 0,
        steps: 0,
        quiet: 0,
        complete: true,
        violation: None,
    };
    let mut at = 0;
    while at < states.len() {
        let state = states[at];
        let mut violation = state.violation();
        if violation.is_none() && state.is_quiet() {
            found.quiet += 1;
            violation = left_over(&state, rules);
        }
        if let Some(violation) = violation {
            found.violation = Some((
                violation,
                way_to(at, &states, &parents, |state, out| next(state, rules, out)),
            ));
            break;
        }
        if states.len() >= most {
            found.complete = false;
            break;
        }
        next(&state, rules, &mut |_, new| {
            found.steps += 1;
            if seen.insert(Fast.hash_one(new)) {
                states.push(new);
                parents.push(at as u32);
            }
        });
        at += 1;
    }
    found.states = states.len();
    found
}

/// The labels of the steps on the path to a state, from the state before each and all its steps.
pub fn way_to<S: PartialEq, L: ToString>(
    mut at: usize,
    states: &[S],
    parents: &[u32],
    next: impl Fn(&S, &mut dyn FnMut(L, S)),
) -> Vec<String> {
    let mut way = Vec::new();
    while at != 0 {
        let parent = parents[at] as usize;
        let mut step = None;
        next(&states[parent], &mut |label, new| {
            if new == states[at] {
                step.get_or_insert(label);
            }
        });
        way.extend(step.map(|label| label.to_string()));
        at = parent;
    }
    way.reverse();
    way
}

/// Checks that undisturbed prunes of a quiet state leave exactly the packs that are needed.
fn left_over(state: &State, rules: &Rules) -> Option<String> {
    let alone = Rules {
        crashes: 0,
        forget: 0,
        flush: Flush::UnderLock,
        ..rules.clone()
    };
    let mut state = State {
        compactor: Compactor::default(),
        reader: Reader::default(),
        crashes: 0,
        ..*state
    };
    for _ in 0..rules.runs {
        state.pruners[0] = Pruner {
            at: At::Next(Prune::TakeMaint),
            ..Pruner::default()
        };
        for round in 0.. {
            if !state.pruners[0].at.is_running() {
                break;
            }
            let mut after = None;
            pruner::step(&state, 0, &alone, &mut |_, new| {
                after.get_or_insert(new);
            });
            match after {
                Some(after) if round < LONGEST_PRUNE => state = after,
                _ => return Some("liveness: a prune of a quiet repository does not end".to_owned()),
            }
            if let Some(violation) = state.violation() {
                return Some(format!("{violation}, after a quiet prune"));
            }
        }
        match state.pruners[0].at {
            // the model is too small to decide
            At::Bound => return None,
            At::Failed if state.pack_count as usize >= PACKS - 1 => return None,
            At::Failed => return Some("liveness: a quiet prune stops".to_owned()),
            _ => {}
        }
    }
    let live = state.live_chunks(0xff);
    let dead = members(state.packs).find(|pack| state.content[*pack] & !live != 0 || state.content[*pack] & live == 0);
    dead.map(|pack| format!("liveness: {} quiet prunes do not delete pack {pack}", rules.runs))
}
