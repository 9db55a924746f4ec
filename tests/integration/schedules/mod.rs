//! The engine under a deterministic scheduler: two or three processes on one simulated disk, which
//! take turns at every storage call.
//!
//! The following holds after each schedule, for half of them with a power cut at the end: Every
//! promised snapshot is listed and restores to the bytes of its source. A full verify finds no
//! problem, and a prune that keeps everything leaves nothing unneeded. Forgotten snapshots are not
//! listed. No reader sees wrong bytes, there is no deadlock and no warning, and no process fails,
//! except where stated below.

mod bucket;
mod explore;
mod lossy;
mod turns;

use crate::crash::harness::{check_all, check_verify, copy, prepared, prune_clears_up};
use crate::crash::world::*;
use crate::support::Flavor;
use containerarchive::error::Error;
use containerarchive::id::SnapshotId;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, PruneOptions};
use containerarchive::repo::{self, OpenOptions, Repository, SeededBug};
use containerarchive::storage::simfs::{LossModel, SimFs};
use explore::{Explored, explore, explore_seeded};
use std::sync::Arc;
use std::time::{Duration, Instant};
use turns::{Decision, Plan, TurnStorage, Turns};

/// The operation of a process.
#[derive(Debug, Clone)]
enum Act {
    Ingest(Vec<usize>),
    /// Forgets the snapshots of these sources, then prunes.
    Prune {
        removed: Vec<usize>,
        force: bool,
        /// Does not wait for locks, and may find them taken.
        hasty: bool,
    },
    Forget(Vec<usize>),
    /// Restores the snapshot of this source.
    Restore(usize),
    Reindex,
    /// Like `Ingest`, with a handle that was opened before another process pruned.
    StaleIngest(Vec<usize>),
}

/// Processes that run concurrently.
struct Scenario {
    name: &'static str,
    /// The sources whose snapshots exist at the start.
    before: Vec<usize>,
    /// The sources of these that are pruned after all handles are open and before the processes
    /// start.
    pruned: Vec<usize>,
    acts: Vec<Act>,
}

/// The results of a process.
#[derive(Default)]
struct Outcome {
    promised: Vec<Ack>,
    forgotten: Vec<SnapshotId>,
    violation: Option<String>,
}

/// A scenario that is ready to run.
struct Stage<'a> {
    scenario: &'a Scenario,
    flavor: Flavor,
    disk: SimFs,
    before: Vec<Ack>,
    bug: Option<SeededBug>,
}

fn prune(removed: &[usize]) -> Act {
    Act::Prune {
        removed: removed.to_vec(),
        force: true,
        hasty: false,
    }
}

fn is_deep() -> bool {
    std::env::var_os("CONTAINERARCHIVE_DEEP").is_some()
}

impl Act {
    fn options(&self) -> OpenOptions {
        let hasty = matches!(self, Self::Prune { hasty: true, .. });
        OpenOptions {
            // the length does not matter, only whether it waits
            lock_wait: if hasty {
                Duration::ZERO
            } else {
                Duration::from_secs(3600)
            },
            ..OpenOptions::default()
        }
    }

    fn perform(&self, repo: &Arc<Repository>, before: &[Ack]) -> Outcome {
        let ids_of = |numbers: &[usize]| -> Vec<SnapshotId> {
            before
                .iter()
                .filter(|ack| numbers.contains(&ack.1))
                .map(|ack| ack.0)
                .collect()
        };
        let mut outcome = Outcome::default();
        let done: Result<(), Error> = match self {
            Self::Ingest(numbers) | Self::StaleIngest(numbers) => numbers.iter().try_for_each(|number| {
                let snapshot = ingest_source(repo, *number)?;
                outcome.promised.push((snapshot.id, *number));
                Ok(())
            }),
            Self::Prune { removed, force, .. } => {
                let options = PruneOptions {
                    max_unused: 0.0,
                    force: *force,
                    ..PruneOptions::keep_all()
                };
                forget(repo, &ids_of(removed), &mut outcome)
                    .and_then(|()| ops::prune(repo, &options, &NullMonitor).map(|_| ()))
            }
            Self::Forget(numbers) => forget(repo, &ids_of(numbers), &mut outcome),
            Self::Restore(number) => {
                let id = ids_of(&[*number])[0].to_hex();
                ops::get_snapshot(repo, &id).map(|snapshot| {
                    outcome.violation = compare(repo, &snapshot).err();
                })
            }
            Self::Reindex => ops::reindex(repo, &NullMonitor),
        };
        let allowed = match &done {
            Ok(()) => true,
            Err(Error::Conflict) => matches!(self, Self::Ingest(_) | Self::StaleIngest(_)),
            // on object storage, where a wrong guess about a lease costs a session its work
            Err(Error::LeaseRemoved) => {
                repo.storage().is_remote() && matches!(self, Self::Ingest(_) | Self::StaleIngest(_))
            }
            Err(Error::RepositoryLocked { .. }) => matches!(self, Self::Prune { hasty: true, .. }),
            Err(_) => false,
        };
        if !allowed {
            outcome.violation = Some(format!("{self:?} failed: {}", done.err().unwrap()));
        }
        outcome
    }
}

fn forget(repo: &Arc<Repository>, ids: &[SnapshotId], outcome: &mut Outcome) -> Result<(), Error> {
    if !ids.is_empty() {
        outcome.forgotten = ops::forget(repo, ids)?;
    }
    Ok(())
}

impl<'a> Stage<'a> {
    fn new(scenario: &'a Scenario, flavor: Flavor, bug: Option<SeededBug>) -> Self {
        let (disk, promised) = prepared(flavor, &scenario.before);
        Self {
            scenario,
            flavor,
            disk,
            before: promised.snapshots,
            bug,
        }
    }

    /// Runs a plan. Returns its decisions, and the violation if there is one.
    fn run(&self, plan: &Plan) -> (Vec<Decision>, Option<String>) {
        let disk = copy(&self.disk);
        let turns = Turns::new(plan.clone(), self.scenario.acts.len());
        let mut handles = Vec::new();
        let mut monitors = Vec::new();
        for (me, act) in self.scenario.acts.iter().enumerate() {
            let seed = 100 + me as u64;
            let storage = TurnStorage {
                inner: Arc::new(store(&disk, seed)),
                turns: Arc::clone(&turns),
                me,
            };
            let hands = hands(storage, seed);
            monitors.push(Arc::clone(&hands.monitor));
            let opened = repo::open(hands.environment, self.flavor.secret().as_ref(), &act.options());
            let handle = Arc::new(opened.unwrap());
            if let Some(bug) = self.bug {
                handle.seed_bug(bug);
            }
            handles.push(handle);
        }
        let mut forgotten = self.prune_behind_their_backs(&disk);
        turns.start();
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let work = handles.iter().zip(&self.scenario.acts).enumerate();
            let threads: Vec<_> = work
                .map(|(me, (handle, act))| {
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
        let warning = monitors.iter().flat_map(|monitor| monitor.warnings()).next();
        if let Some(warning) = warning {
            return (decisions, Some(format!("{}: {}", warning.code, warning.message)));
        }
        if deadlocked {
            return (decisions, Some("deadlock".to_owned()));
        }
        let mut promised = self.before.clone();
        for outcome in outcomes {
            if outcome.violation.is_some() {
                return (decisions, outcome.violation);
            }
            promised.extend(outcome.promised);
            forgotten.extend(outcome.forgotten);
        }
        promised.retain(|ack| !forgotten.contains(&ack.0));
        let power_cut = decisions.len() % 2 == 0;
        let model = if power_cut {
            LossModel::NothingUnsynced
        } else {
            LossModel::Everything
        };
        let violation = self.check(&disk.after_power_loss(&model), &promised, &forgotten).err();
        (decisions, violation.map(|violation| format!("{violation} ({model:?})")))
    }

    fn prune_behind_their_backs(&self, disk: &SimFs) -> Vec<SnapshotId> {
        if self.scenario.pruned.is_empty() {
            return Vec::new();
        }
        let other = open_on(disk, self.flavor, 50).unwrap();
        let act = prune(&self.scenario.pruned);
        let outcome = act.perform(&other, &self.before);
        assert_eq!(outcome.violation, None);
        outcome.forgotten
    }

    fn check(&self, image: &SimFs, promised: &[Ack], forgotten: &[SnapshotId]) -> Result<(), String> {
        let repo = open_on(image, self.flavor, 1000).map_err(|error| format!("open: {error}"))?;
        let listed = check_all(&repo)?;
        if let Some((id, number)) = promised.iter().find(|ack| !listed.contains(ack)) {
            return Err(format!("promise: snapshot {id} of source {number} is missing"));
        }
        if let Some(id) = forgotten.iter().find(|id| listed.iter().any(|ack| ack.0 == **id)) {
            return Err(format!("snapshot {id} was forgotten but is listed"));
        }
        if self.bug.is_some() {
            // a search for lost data does not need the other checks
            return Ok(());
        }
        check_verify(&repo).map_err(|problem| format!("verify: {problem}"))?;
        prune_clears_up(&repo).map_err(|problem| format!("prune: {problem}"))
    }
}

#[expect(clippy::print_stdout, reason = "the record of a run contains what was tried")]
fn say(stage: &Stage<'_>, how: &str, explored: &Explored, start: Instant) {
    println!(
        "schedules: {} ({how}): {} runs, with 0, 1, 2 preemptions {:?}, up to {} decisions, {:.1} s",
        stage.scenario.name,
        explored.runs,
        explored.levels,
        explored.longest,
        start.elapsed().as_secs_f64()
    );
}

/// Runs a scenario under its schedules of at most two preemptions (an evenly chosen part of them at
/// the default size), and under seeded ones.
fn try_out(scenario: &Scenario) {
    let flavors = if is_deep() {
        vec![Flavor::plain(), Flavor::sealed()]
    } else {
        vec![Flavor::plain()]
    };
    let (limit, seeds) = if is_deep() { (usize::MAX, 12_500) } else { (50, 40) };
    for flavor in flavors {
        let stage = Stage::new(scenario, flavor, None);
        let run = |plan: &Plan| stage.run(plan);
        let start = Instant::now();
        let few = explore(limit, false, &run);
        say(&stage, "few preemptions", &few, start);
        let start = Instant::now();
        let seeded = explore_seeded(0..seeds, &run);
        say(&stage, "seeded", &seeded, start);
        let violations = [few.violations, seeded.violations].concat();
        let shown: Vec<&String> = violations.iter().take(5).collect();
        assert!(shown.is_empty(), "{} violations: {shown:#?}", violations.len());
    }
}

/// The pack of `PAIR` has the chunks of `SMALL` and `SMALL + 1`. It is pruned while one of them is
/// ingested again.
fn ingest_concurrent_with_prune() -> Scenario {
    Scenario {
        name: "ingest concurrent with prune",
        before: vec![PAIR, SMALL, SMALL + 2],
        pruned: vec![],
        acts: vec![Act::Ingest(vec![SMALL + 1]), prune(&[PAIR])],
    }
}

#[test]
fn an_ingest_concurrent_with_a_prune_of_the_packs_it_reuses() {
    try_out(&ingest_concurrent_with_prune());
}

#[test]
fn an_ingest_concurrent_with_a_prune_that_respects_its_lease() {
    let respects_lease = Act::Prune {
        removed: vec![PAIR],
        force: false,
        hasty: false,
    };
    try_out(&Scenario {
        name: "ingest concurrent with prune that respects leases",
        acts: vec![Act::Ingest(vec![SMALL + 1]), respects_lease],
        ..ingest_concurrent_with_prune()
    });
}

#[test]
fn two_ingests_concurrent_with_a_prune() {
    try_out(&Scenario {
        name: "two ingests concurrent with prune",
        before: vec![PAIR, SMALL + 2],
        pruned: vec![],
        acts: vec![Act::Ingest(vec![SMALL + 1]), Act::Ingest(vec![PAIR]), prune(&[PAIR])],
    });
}

#[test]
fn two_concurrent_prunes() {
    let hasty = Act::Prune {
        removed: vec![],
        force: true,
        hasty: true,
    };
    try_out(&Scenario {
        name: "two prunes",
        before: vec![PAIR, SMALL, SMALL + 2],
        pruned: vec![],
        acts: vec![prune(&[PAIR]), hasty],
    });
}

#[test]
fn a_restore_concurrent_with_two_consecutive_prunes() {
    try_out(&Scenario {
        name: "restore concurrent with two prunes",
        before: vec![PAIR, SMALL, SMALL + 1, SMALL + 2],
        pruned: vec![],
        acts: vec![Act::Restore(SMALL), prune(&[PAIR]), prune(&[SMALL + 1, SMALL + 2])],
    });
}

#[test]
fn a_reindex_concurrent_with_a_prune_and_merges() {
    try_out(&Scenario {
        name: "reindex and merging ingests concurrent with prune",
        before: vec![PAIR, SMALL],
        pruned: vec![],
        acts: vec![Act::Ingest(vec![SMALL + 3, SMALL + 4]), prune(&[PAIR]), Act::Reindex],
    });
}

#[test]
fn a_reindex_concurrent_with_a_prune() {
    try_out(&Scenario {
        name: "reindex concurrent with prune",
        before: vec![PAIR, SMALL],
        pruned: vec![],
        acts: vec![prune(&[PAIR]), Act::Reindex],
    });
}

#[test]
fn a_reindex_concurrent_with_ingests_that_merge() {
    try_out(&Scenario {
        name: "reindex concurrent with merging ingests",
        before: vec![PAIR, SMALL],
        pruned: vec![],
        acts: vec![Act::Ingest(vec![SMALL + 3, SMALL + 4]), Act::Reindex],
    });
}

#[test]
fn a_forget_concurrent_with_a_prune() {
    try_out(&Scenario {
        name: "forget concurrent with prune",
        before: vec![PAIR, SMALL, SMALL + 2],
        pruned: vec![],
        acts: vec![Act::Forget(vec![SMALL + 2]), prune(&[PAIR])],
    });
}

#[test]
fn a_handle_older_than_a_prune_concurrent_with_another_prune() {
    try_out(&Scenario {
        name: "stale handle concurrent with prune",
        before: vec![PAIR, SMALL, SMALL + 2],
        pruned: vec![PAIR],
        acts: vec![Act::StaleIngest(vec![PAIR]), prune(&[SMALL])],
    });
}

#[test]
fn schedules_detect_each_seeded_bug_that_needs_concurrency() {
    let scenario = ingest_concurrent_with_prune();
    for bug in [
        SeededBug::NoCommitCheck,
        SeededBug::CheckOutsideLock,
        SeededBug::NoLastListing,
        SeededBug::KillListFirst,
    ] {
        let stage = Stage::new(&scenario, Flavor::plain(), Some(bug));
        let explored = explore(2000, true, &|plan| stage.run(plan));
        let seen = explored.violations.last().map_or("", String::as_str);
        println!("seeded bug {bug:?}, after {} schedules: {seen}", explored.runs);
        assert!(seen.starts_with("whole:"), "{bug:?}: {seen:?}");
    }
}
