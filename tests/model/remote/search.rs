//! Breadth-first search of all reachable states, so that the way to a violation is a shortest one;
//! and random walks, which go deeper and prove less.

use super::rules::{Forgetting, Liveness, Rules};
use super::state::*;
use super::{compaction, condemn, marks, others, prune, records, reindex, writer};
use crate::search::way_to;
use std::collections::HashSet;
use std::hash::{BuildHasher, Hasher};

/// Longest prune of a quiet repository, in steps.
const LONGEST_PRUNE: usize = 200;
/// More than the steps that are possible in one state.
const SUCCESSORS: usize = 1000;
/// Longest random walk, in steps.
const LONGEST_WALK: usize = 300;

pub struct Found {
    pub states: usize,
    pub steps: u64,
    /// States in which a quiet prune was run, and those where the model is too small to.
    pub quiet: usize,
    pub skipped: usize,
    /// All reachable states were explored.
    pub complete: bool,
    /// The violation that was found, and the way to it.
    pub violation: Option<(String, Vec<String>)>,
}

impl Found {
    fn nothing() -> Self {
        Self {
            states: 0,
            steps: 0,
            quiet: 0,
            skipped: 0,
            complete: false,
            violation: None,
        }
    }

    /// Checks a state, and counts it.
    fn check(&mut self, state: &State, rules: &Rules, is_due: bool) -> Option<String> {
        self.states += 1;
        let violation = state.violation(rules);
        if violation.is_some() || !is_due {
            return violation;
        }
        match left_over(state, rules) {
            Ok(true) => self.quiet += 1,
            Ok(false) => self.skipped += 1,
            Err(violation) => return Some(violation),
        }
        None
    }
}

fn next(state: &State, rules: &Rules, out: &mut Out<'_>) {
    (0..WRITERS).for_each(|i| writer::step(state, i, rules, out));
    (0..PRUNERS).for_each(|i| prune::step(state, i, rules, out));
    (0..COMPACTORS).for_each(|i| compaction::step(state, i, rules, out));
    (0..MERGERS).for_each(|i| marks::step(state, i, rules, out));
    records::step(state, rules, out);
    reindex::step(state, rules, out);
    others::step(state, rules, out);
}

/// Hashes represent states: with some millions of states, a collision of 64-bit hashes is
/// practically excluded. All writes of a state have the same lengths up to a tag that precedes
/// them, so bytes are packed into words.
#[derive(Default, Clone)]
struct Fast;

struct FastHasher {
    hash: u64,
    word: u64,
    bytes: u32,
}

impl BuildHasher for Fast {
    type Hasher = FastHasher;

    fn build_hasher(&self) -> FastHasher {
        FastHasher {
            hash: 7,
            word: 0,
            bytes: 0,
        }
    }
}

impl FastHasher {
    fn mix(hash: u64, word: u64) -> u64 {
        let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ (hash >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash ^ (hash >> 27)
    }
}

impl Hasher for FastHasher {
    fn finish(&self) -> u64 {
        let hash = Self::mix(self.hash, self.word ^ u64::from(self.bytes) << 56);
        let hash = (hash ^ (hash >> 29)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u8(*byte));
    }

    #[inline]
    fn write_u8(&mut self, byte: u8) {
        self.word = self.word << 8 | u64::from(byte);
        self.bytes += 1;
        if self.bytes == 8 {
            self.hash = Self::mix(self.hash, self.word);
            (self.word, self.bytes) = (0, 0);
        }
    }

    #[inline]
    fn write_u16(&mut self, word: u16) {
        self.write_u8((word >> 8) as u8);
        self.write_u8(word as u8);
    }

    /// The lengths of arrays never differ.
    fn write_usize(&mut self, _: usize) {}

    /// The tag of an enum.
    fn write_isize(&mut self, tag: isize) {
        self.write_u8(tag as u8);
    }
}

/// Hashes that are already hashed.
#[derive(Default, Clone)]
struct Same;

struct SameHasher(u64);

impl BuildHasher for Same {
    type Hasher = SameHasher;

    fn build_hasher(&self) -> SameHasher {
        SameHasher(0)
    }
}

impl Hasher for SameHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, word: u64) {
        self.0 = word;
    }
}

pub fn explore(rules: &Rules, most: usize) -> Found {
    let mut seen: HashSet<u64, Same> = HashSet::default();
    // reserved, since a vector that grows by doubling needs half as much memory again
    let mut states = Vec::with_capacity(most + SUCCESSORS);
    let mut parents = Vec::with_capacity(most + SUCCESSORS);
    states.push(rules.initial());
    parents.push(0u32);
    seen.insert(Fast.hash_one(states[0]));
    let mut found = Found::nothing();
    found.complete = true;
    let mut at = 0;
    while at < states.len() {
        let state = states[at];
        let is_due = match rules.liveness {
            Liveness::Unchecked => false,
            Liveness::Quiet => state.is_quiet(),
            Liveness::Always => true,
        };
        if let Some(violation) = found.check(&state, rules, is_due) {
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
    found
}

/// A process tends to continue for a while, and the others sleep.
pub fn walk(rules: &Rules, walks: usize) -> Found {
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut draw = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        ((seed >> 11) % below as u64) as usize
    };
    let mut found = Found::nothing();
    let initial = rules.initial();
    for _ in 0..walks {
        let (mut state, mut way, mut last) = (initial, Vec::<Label>::new(), None);
        let persistence = draw(9);
        while way.len() <= LONGEST_WALK {
            let is_due = rules.liveness != Liveness::Unchecked && (state.is_quiet() || draw(16) == 0);
            if let Some(violation) = found.check(&state, rules, is_due) {
                found.violation = Some((violation, way.iter().map(Label::to_string).collect()));
                return found;
            }
            let mut steps = Vec::new();
            next(&state, rules, &mut |label, new| steps.push((label, new)));
            found.steps += steps.len() as u64;
            if steps.is_empty() {
                break;
            }
            let continues = draw(9) < persistence && steps.iter().any(|(label, _)| Some(label.who) == last);
            if !continues {
                let mut actors: Vec<Who> = steps.iter().map(|(label, _)| label.who).collect();
                actors.dedup();
                last = Some(actors[draw(actors.len())]);
            }
            steps.retain(|(label, _)| Some(label.who) == last);
            let (label, new) = steps.swap_remove(draw(steps.len()));
            way.push(label);
            state = new;
        }
    }
    found
}

/// Checks that an undisturbed prune leaves exactly the packs that are needed, in the state with all
/// requests in flight dropped, and with all carried out. `false`: the model is too small to decide.
fn left_over(state: &State, rules: &Rules) -> Result<bool, String> {
    let flight = InFlight {
        sent: state.flight.sent,
        ..InFlight::default()
    };
    if state.flight == flight {
        return prune_alone(*state, rules);
    }
    let dropped = prune_alone(others::settle(state, rules, false), rules)
        .map_err(|violation| format!("{violation}, with requests in flight dropped"))?;
    let carried_out = prune_alone(others::settle(state, rules, true), rules)
        .map_err(|violation| format!("{violation}, with requests in flight carried out"))?;
    Ok(dropped && carried_out)
}

fn prune_alone(mut state: State, rules: &Rules) -> Result<bool, String> {
    let alone = Rules {
        late: 0,
        guess: false,
        right: false,
        ..rules.clone()
    };
    state.writers = [Writer::ended(At::Failed); WRITERS];
    state.compactors = [Compactor::new(At::Off); COMPACTORS];
    state.pruners = [Pruner::new(At::Off); PRUNERS];
    state.reader.at = At::Off;
    if rules.lost_segments > 0 {
        reindex::run(&mut state, &alone);
    }
    let prune = Pruner::new(At::Next(Prune::ListPacks));
    if rules.damaged != 0 {
        let repair = Pruner {
            is_repair: true,
            ..prune
        };
        run(&mut state, repair, &alone, rules)?;
        if state.pruners[0].at == At::Bound {
            return Ok(false);
        }
    }
    run(&mut state, prune, &alone, rules)?;
    match state.pruners[0].at {
        At::Bound => return Ok(false),
        At::Failed => return Err("liveness: a quiet prune stops".to_owned()),
        _ => {}
    }
    if state.packs & rules.damaged != 0 {
        return Err("liveness: a quiet repair and prune leave a damaged pack".to_owned());
    }
    let live = state.live_chunks();
    let dead = members(state.packs).find(|pack| state.content[*pack] & !live != 0 || state.content[*pack] & live == 0);
    dead.map_or(Ok(true), |pack| {
        Err(format!("liveness: a quiet prune does not delete pack {pack}"))
    })
}

/// Runs a prune to its end, with the first of the possible steps.
fn run(state: &mut State, pruner: Pruner, alone: &Rules, rules: &Rules) -> Result<(), String> {
    state.pruners[0] = pruner;
    for _ in 0..LONGEST_PRUNE {
        if !state.pruners[0].at.is_running() {
            return Ok(());
        }
        let mut after = None;
        prune::step(state, 0, alone, &mut |label, new| {
            if label.what != condemn::CONTINUES {
                after.get_or_insert(new);
            }
        });
        *state = after.ok_or("liveness: a quiet prune is blocked")?;
        if let Some(violation) = state.violation(rules) {
            return Err(format!("{violation}, after a quiet prune"));
        }
    }
    Err("liveness: a quiet prune does not end".to_owned())
}

impl State {
    /// Returns whether no process is in the middle of an operation.
    fn is_quiet(&self) -> bool {
        self.writers.iter().all(|writer| !writer.at.is_running())
            && self.pruners.iter().all(|pruner| !pruner.at.is_running())
            && self
                .compactors
                .iter()
                .all(|compactor| matches!(compactor.at.next(), None | Some(Compact::List)))
            && matches!(self.reader.at.next(), None | Some(Read::List))
            && matches!(self.gatherer.at.next(), None | Some(Gather::List))
            && matches!(self.reindexer.at.next(), None | Some(Reindex::ListPacks))
            && self
                .mergers
                .iter()
                .all(|merger| matches!(merger.at.next(), None | Some(Gather::List)))
    }

    /// Returns the invariant that this state breaks, if any.
    fn violation(&self, rules: &Rules) -> Option<String> {
        let entries = self.entries();
        (0..SNAPSHOTS)
            .find_map(|snapshot| self.snapshot_violation(snapshot, entries, rules))
            .or_else(|| self.entry_violation(entries, rules))
            .or_else(|| {
                let revived = (0..WRITERS).find(|writer| {
                    let is_there = self.snapshots[FIRST + writer] & MANIFEST != 0;
                    is_there && has(self.revoked & !self.revoked_records, *writer)
                });
                revived.map(|writer| {
                    format!(
                        "revocation: the revoked session of writer {} has a manifest",
                        writer + 1
                    )
                })
            })
            .or_else(|| {
                let failed = self.reader_failed && !has(self.forgotten, rules.reads);
                failed.then(|| "reader: a restore of a committed snapshot failed".to_owned())
            })
    }

    fn snapshot_violation(&self, snapshot: usize, entries: Entries, rules: &Rules) -> Option<String> {
        let key = self.snapshots[snapshot];
        let is_forgotten = has(self.forgotten, snapshot);
        if self.is_listed(snapshot) {
            for chunk in members(key & 3) {
                if packs_of(entries, chunk) & self.packs == 0 {
                    let hidden = members(self.packs).any(|pack| has(self.content[pack], chunk));
                    if hidden && self.lost_segments > 0 {
                        continue;
                    }
                    let how = if hidden { "lost in the index" } else { "data lost" };
                    let who = if is_forgotten {
                        "snapshot that was forgotten, "
                    } else {
                        "snapshot "
                    };
                    return Some(format!("completeness: {who}{snapshot}, lacks chunk {chunk} ({how})"));
                }
            }
        }
        if has(self.acknowledged, snapshot) && !is_forgotten && key & MANIFEST == 0 {
            if snapshot < FIRST || !has(self.flight.manifests, snapshot - FIRST) {
                return Some(format!("durability: acknowledged snapshot {snapshot} is missing"));
            }
            if key & TOMBSTONE != 0 {
                return Some(format!("durability: acknowledged snapshot {snapshot} is a tombstone"));
            }
        }
        let is_revoked = snapshot >= FIRST && has(self.revoked_records, snapshot - FIRST);
        if has(self.acknowledged, snapshot) && !is_forgotten && is_revoked {
            return Some(format!("durability: acknowledged snapshot {snapshot} is revoked"));
        }
        let may_return = rules.forgetting == Forgetting::Record || rules.may_return;
        (is_forgotten && key & MANIFEST != 0 && !may_return)
            .then(|| format!("durability: forgotten snapshot {snapshot} is back"))
    }

    fn entry_violation(&self, entries: Entries, rules: &Rules) -> Option<String> {
        if rules.check_entries {
            let known = self.packs | self.marked() | self.flight.pack_deletes;
            let listed = packs_of(entries, 0) | packs_of(entries, 1);
            if let Some(pack) = members(listed & !known).next() {
                return Some(format!("index: pack {pack} is listed, neither there nor marked"));
            }
        }
        let is_executed = |pruner: &Pruner| {
            let at_work = pruner.at == At::Next(Prune::SnapshotsAgain) && pruner.continues && pruner.kill != 0;
            at_work && (0..WRITERS).any(|writer| has(pruner.blockers, writer) && self.writers[writer].at.is_running())
        };
        (rules.reach && self.pruners.iter().any(is_executed))
            .then(|| "reached: a continued mark is executed while a later session is live".to_owned())
    }
}
