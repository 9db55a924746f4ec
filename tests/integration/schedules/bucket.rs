//! The engine under the deterministic scheduler on object storage: machines that share a bucket,
//! and take turns at every request.
//!
//! No lock keeps them apart. Each machine has its own guess about the leases of the others: with
//! `ZERO` it takes every one of them for abandoned, with `PATIENT` for one of a session that lives.
//! A wrong guess may cost an ingest its work (`ERR_CONFLICT`), and never data.

use super::explore::{Explored, explore, explore_seeded};
use super::lossy::{Lossy, Network};
use super::turns::{Decision, Plan, TurnStorage, Turns};
use super::{Act, Outcome, is_deep};
use crate::crash::harness::{check_all, check_verify};
use crate::crash::world::*;
use crate::support::{Flavor, open};
use containerarchive::entropy::SeededEntropy;
use containerarchive::error::Error;
use containerarchive::id::SnapshotId;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, PruneOptions};
use containerarchive::repo::{self, InitOptions, Repository, SeededBug};
use containerarchive::storage::RemoteStorage;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use std::sync::Arc;
use std::time::Duration;

const ZERO: Duration = Duration::ZERO;
const PATIENT: Duration = Duration::from_secs(5400);

/// Machines that work at once.
struct Scenario {
    /// Unique: locks of the machines are kept in the process, by it.
    name: &'static str,
    /// The sources whose snapshots exist at the start.
    before: Vec<usize>,
    /// The acts of the machines, each with its guess.
    acts: Vec<(Act, Duration)>,
}

/// A scenario that is ready to run.
struct Stage<'a> {
    scenario: &'a Scenario,
    flavor: Flavor,
    bucket: InMemory,
    before: Vec<Ack>,
    bug: Option<SeededBug>,
}

fn prune(removed: &[usize]) -> Act {
    Act::Prune {
        removed: removed.to_vec(),
        force: false,
        hasty: false,
    }
}

/// The storage of a machine. Each needs its own name.
fn machine(bucket: &Arc<dyn ObjectStore>, name: &str, expiry: Duration, seed: u64) -> RemoteStorage {
    let entropy = Arc::new(SeededEntropy::new(seed ^ 0xd15c));
    RemoteStorage::of_store(Arc::clone(bucket), "shop", name, expiry, entropy)
}

/// A machine that works alone, before the others or after them.
fn alone(
    bucket: &Arc<dyn ObjectStore>,
    scenario: &Scenario,
    flavor: Flavor,
    seed: u64,
) -> Result<Arc<Repository>, Error> {
    let name = format!("{}, alone with {seed}", scenario.name);
    open(hands(machine(bucket, &name, ZERO, seed), seed).environment, flavor)
}

impl<'a> Stage<'a> {
    fn new(scenario: &'a Scenario, flavor: Flavor, bug: Option<SeededBug>) -> Self {
        let memory = Arc::new(InMemory::new());
        let bucket: Arc<dyn ObjectStore> = Arc::clone(&memory) as _;
        let storage = machine(&bucket, &format!("{}, first", scenario.name), ZERO, 1);
        let options = InitOptions {
            parity: None,
            ..flavor.small()
        };
        repo::init(hands(storage, 1).environment, flavor.secret().as_ref(), &options).unwrap();
        let repo = alone(&bucket, scenario, flavor, 2).unwrap();
        let before = scenario.before.iter();
        let before = before.map(|number| (ingest_source(&repo, *number).unwrap().id, *number));
        Self {
            scenario,
            flavor,
            before: before.collect(),
            bucket: memory.fork(),
            bug,
        }
    }

    /// Runs a plan. Returns its decisions, and the violation if there is one.
    fn run(&self, plan: &Plan) -> (Vec<Decision>, Option<String>) {
        self.run_on(plan, None)
    }

    /// The same, with connections that lose requests and answers by this seed.
    fn run_on(&self, plan: &Plan, losses: Option<u64>) -> (Vec<Decision>, Option<String>) {
        let network = Network::new(self.bucket.fork());
        let bucket = network.store();
        let turns = Turns::new(plan.clone(), self.scenario.acts.len());
        let mut handles = Vec::new();
        for (me, (act, expiry)) in self.scenario.acts.iter().enumerate() {
            let seed = 100 + me as u64;
            let connection: Arc<dyn ObjectStore> = match losses {
                Some(losses) => Arc::new(Lossy::new(&network, losses.wrapping_mul(8) + me as u64)),
                None => network.store(),
            };
            let name = format!("{}, {me}", self.scenario.name);
            let storage = TurnStorage {
                inner: Arc::new(machine(&connection, &name, *expiry, seed)),
                turns: Arc::clone(&turns),
                me,
            };
            let environment = hands(storage, seed).environment;
            let handle = match repo::open(environment, self.flavor.secret().as_ref(), &act.options()) {
                Ok(handle) => handle,
                Err(error) => return (Vec::new(), Some(format!("open: {error}"))),
            };
            if let Some(bug) = self.bug {
                handle.seed_bug(bug);
            }
            handles.push(Arc::new(handle));
        }
        turns.start();
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let work = handles.iter().zip(&self.scenario.acts).enumerate();
            let threads: Vec<_> = work
                .map(|(me, (handle, (act, _)))| {
                    let turns = &turns;
                    scope.spawn(move || {
                        let _part = turns.enter(me);
                        act.perform(handle, &self.before)
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let (decisions, deadlocked) = turns.stop();
        drop(handles);
        if deadlocked {
            return (decisions, Some("deadlock".to_owned()));
        }
        network.settle();
        let (mut promised, mut forgotten) = (self.before.clone(), Vec::new());
        let all_believed = self.scenario.acts.iter().all(|(_, expiry)| *expiry == PATIENT);
        for (outcome, (act, _)) in outcomes.into_iter().zip(&self.scenario.acts) {
            if losses.is_some() {
                // what had no answer may have been done
                if let Act::Prune { removed, .. } = act {
                    promised.retain(|ack| !removed.contains(&ack.1) || !self.before.contains(ack));
                }
            } else if outcome.violation.is_some() {
                return (decisions, outcome.violation);
            }
            if let Act::Ingest(numbers) = act
                && all_believed
                && losses.is_none()
                && self.bug.is_none()
                && outcome.promised.len() < numbers.len()
            {
                return (
                    decisions,
                    Some(format!("{act:?} was revoked, and every lease was believed")),
                );
            }
            promised.extend(outcome.promised);
            forgotten.extend(outcome.forgotten);
        }
        promised.retain(|ack| !forgotten.contains(&ack.0));
        let violation = self.check(&bucket, &promised, &forgotten).err();
        (decisions, violation)
    }

    fn check(&self, bucket: &Arc<dyn ObjectStore>, promised: &[Ack], forgotten: &[SnapshotId]) -> Result<(), String> {
        let repo = alone(bucket, self.scenario, self.flavor, 1000).map_err(|error| format!("open: {error}"))?;
        let listed = check_all(&repo)?;
        if let Some((id, number)) = promised.iter().find(|ack| !listed.contains(ack)) {
            return Err(format!("promise: snapshot {id} of source {number} is missing"));
        }
        if let Some(id) = forgotten.iter().find(|id| listed.iter().any(|ack| ack.0 == **id)) {
            return Err(format!("snapshot {id} was forgotten but is listed"));
        }
        if self.bug.is_some() {
            return Ok(());
        }
        check_verify(&repo).map_err(|problem| format!("verify: {problem}"))?;
        let options = PruneOptions {
            max_unused: 0.0,
            ..PruneOptions::keep_all()
        };
        let failed = |error: Error| format!("prune: {error}");
        ops::prune(&repo, &options, &NullMonitor).map_err(failed)?;
        if check_all(&repo)? != listed {
            return Err("prune: snapshots are missing".to_owned());
        }
        let again = ops::prune(&repo, &options, &NullMonitor).map_err(failed)?;
        if (
            again.removed_packs,
            again.rewritten_packs,
            again.freed_bytes,
            again.pending_bytes,
        ) != (0, 0, 0, 0)
        {
            return Err(format!("prune: a second one finds more to do: {again:?}"));
        }
        check_verify(&repo).map_err(|problem| format!("verify after prune: {problem}"))
    }
}

#[expect(clippy::print_stdout, reason = "the record of a run contains what was tried")]
fn say(scenario: &Scenario, how: &str, explored: &Explored) {
    println!(
        "bucket: {} ({how}): {} runs, with 0, 1, 2 preemptions {:?}, up to {} decisions",
        scenario.name, explored.runs, explored.levels, explored.longest
    );
}

fn try_out(scenario: &Scenario) {
    let flavors = match is_deep() {
        true => vec![Flavor::plain(), Flavor::sealed()],
        false => vec![Flavor::plain()],
    };
    let (limit, seeds) = if is_deep() { (usize::MAX, 12_500) } else { (60, 40) };
    for flavor in flavors {
        let stage = Stage::new(scenario, flavor, None);
        let run = |plan: &Plan| stage.run(plan);
        let few = explore(limit, false, &run);
        say(scenario, "few preemptions", &few);
        let seeded = explore_seeded(0..seeds, &run);
        say(scenario, "seeded", &seeded);
        let violations = [few.violations, seeded.violations].concat();
        let shown: Vec<&String> = violations.iter().take(5).collect();
        assert!(shown.is_empty(), "{} violations: {shown:#?}", violations.len());
    }
}

/// The pack of `PAIR` has the chunks of `SMALL` and `SMALL + 1`. It is pruned while one of them is
/// ingested again.
fn ingest_and_prune(name: &'static str, guess: Duration) -> Scenario {
    Scenario {
        name,
        before: vec![PAIR, SMALL, SMALL + 2],
        acts: vec![(Act::Ingest(vec![SMALL + 1]), PATIENT), (prune(&[PAIR]), guess)],
    }
}

#[test]
fn a_prune_that_believes_no_lease_revokes_sessions_and_loses_no_data() {
    try_out(&ingest_and_prune("bucket: ingest and prune, stale", ZERO));
}

#[test]
fn a_prune_that_believes_every_lease_leaves_the_packs_of_its_mark_to_the_next() {
    let patient = ingest_and_prune("bucket: ingest and prune, live", PATIENT);
    try_out(&patient);
}

#[test]
fn two_ingests_and_two_prunes_in_one_bucket() {
    try_out(&Scenario {
        name: "bucket: two ingests and two prunes",
        before: vec![PAIR, SMALL, SMALL + 2, SMALL + 3],
        acts: vec![
            (Act::Ingest(vec![SMALL + 1]), PATIENT),
            (Act::Ingest(vec![PAIR]), ZERO),
            (prune(&[PAIR]), ZERO),
            (prune(&[SMALL + 3]), PATIENT),
        ],
    });
}

#[test]
fn two_prunes_of_the_same_packs_in_one_bucket() {
    try_out(&Scenario {
        name: "bucket: two prunes",
        before: vec![PAIR, SMALL, SMALL + 2],
        acts: vec![(prune(&[PAIR]), ZERO), (prune(&[]), ZERO)],
    });
}

#[test]
fn a_restore_next_to_two_prunes_in_one_bucket() {
    try_out(&Scenario {
        name: "bucket: restore and two prunes",
        before: vec![PAIR, SMALL, SMALL + 1, SMALL + 2],
        acts: vec![
            (Act::Restore(SMALL), ZERO),
            (prune(&[PAIR]), ZERO),
            (prune(&[SMALL + 1, SMALL + 2]), ZERO),
        ],
    });
}

#[test]
fn a_reindex_and_merging_ingests_next_to_a_prune_in_one_bucket() {
    try_out(&Scenario {
        name: "bucket: reindex, ingests and prune",
        before: vec![PAIR, SMALL],
        acts: vec![
            (Act::Ingest(vec![SMALL + 3, SMALL + 4]), PATIENT),
            (prune(&[PAIR]), PATIENT),
            (Act::Reindex, ZERO),
        ],
    });
}

#[test]
fn lost_answers_and_late_requests_lose_no_data_in_any_of_these_schedules() {
    let scenario = Scenario {
        name: "bucket: losses",
        before: vec![PAIR, SMALL, SMALL + 2, SMALL + 3],
        acts: vec![
            (Act::Ingest(vec![SMALL + 1, SMALL + 4]), PATIENT),
            (Act::Ingest(vec![PAIR]), ZERO),
            (prune(&[PAIR]), ZERO),
            (prune(&[SMALL + 3]), PATIENT),
        ],
    };
    let stage = Stage::new(&scenario, Flavor::plain(), None);
    let seeds = if is_deep() { 20_000 } else { 120 };
    let mut violations = Vec::new();
    for seed in 0..seeds {
        let (_, violation) = stage.run_on(&Plan::Seeded(seed), Some(seed));
        violations.extend(violation.map(|violation| format!("seed {seed}: {violation}")));
    }
    let shown: Vec<&String> = violations.iter().take(5).collect();
    assert!(shown.is_empty(), "{} violations: {shown:#?}", violations.len());
}

#[test]
fn each_rule_of_the_bucket_that_is_left_out_loses_data() {
    for (bug, guess) in [
        (SeededBug::NoTombstone, ZERO),
        (SeededBug::NoBlocking, PATIENT),
        (SeededBug::MarksUnread, ZERO),
        (SeededBug::NoLastListing, ZERO),
    ] {
        let scenario = ingest_and_prune("bucket: hunt", guess);
        let stage = Stage::new(&scenario, Flavor::plain(), Some(bug));
        let explored = explore(4000, true, &|plan| stage.run(plan));
        let seen = explored.violations.last().map_or("", String::as_str);
        println!("seeded bug {bug:?}, after {} schedules: {seen}", explored.runs);
        assert!(seen.starts_with("whole:"), "{bug:?}: {seen:?}");
    }
}
