//! Random histories compared with a model: a map from snapshots to bytes.
//!
//! The steps are the operations of users and the faults they meet: ingests of changed data, prunes,
//! repairs, damage, power cuts in the middle of any operation, clocks that jump, full disks, two
//! handles. After each step the repository lists exactly the snapshots of the model, and they
//! restore. A failing history is shrunk to a short one.

use crate::support::*;
use containerarchive::Result;
use containerarchive::clock::FixedClock;
use containerarchive::entropy::SeededEntropy;
use containerarchive::id::SnapshotId;
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, PruneOptions, VerifyLevel, VerifyOptions};
use containerarchive::repo::{Environment, Repository};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::snapshot::retention::{Keep, RetentionPolicy};
use containerarchive::storage::LocalStorage;
use containerarchive::storage::simfs::SimFs;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const START_MS: i64 = 1_795_398_300_000;
const YEAR_MS: i64 = 31_557_600_000;

/// The items of a snapshot.
type Items = Vec<(String, Arc<Vec<u8>>)>;

/// One change of earlier data: a number of bytes at a position (both as shares of 65,536 of the
/// data) is replaced by other bytes.
#[derive(Debug, Clone)]
struct Edit {
    at: u16,
    removed: u16,
    inserted: u16,
    seed: u64,
}

/// The data of one ingest: each item is an earlier one (counted from the last) with edits, or new.
#[derive(Debug, Clone)]
struct Wish {
    items: Vec<(usize, Vec<Edit>)>,
}

/// An operation that changes the repository, during which the power may be cut.
#[derive(Debug, Clone)]
enum Op {
    Ingest(Wish),
    Forget { which: usize },
    Prune { keep: u32, max_unused: f64, force: bool },
    Repair,
    Reindex,
}

#[derive(Debug, Clone)]
enum Step {
    /// By the first or the second handle.
    Do {
        op: Op,
        second: bool,
    },
    /// The power is cut at this call, or after the operation at the latest; `model` selects what is
    /// lost.
    Crash {
        op: Op,
        at: u64,
        model: usize,
    },
    /// One file is damaged; every snapshot restores; one more operation is tried; then the file is
    /// repaired.
    Damage {
        file: usize,
        how: u8,
        then: Option<Op>,
    },
    /// Both handles are closed and opened again.
    Reopen,
    Clock {
        years: i64,
    },
    /// This much space is free, or unlimited space.
    Space(Option<u32>),
    Verify {
        level: u8,
        second: bool,
    },
    RestoreItem {
        which: usize,
        second: bool,
    },
}

/// The reference: the data of every ingest, by number.
#[derive(Debug, Clone, Default)]
struct Model {
    asked: BTreeMap<usize, Items>,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => wish().prop_map(Op::Ingest),
        2 => any::<usize>().prop_map(|which| Op::Forget { which }),
        4 => (1u32..5, prop_oneof![Just(0.0), Just(0.05), Just(0.5)], any::<bool>())
            .prop_map(|(keep, max_unused, force)| Op::Prune { keep, max_unused, force }),
        1 => Just(Op::Repair),
        1 => Just(Op::Reindex),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    let edit = (any::<u16>(), 0u16..9_000, 0u16..20_000, 0u64..1000).prop_map(|(at, removed, inserted, seed)| Edit {
        at,
        removed,
        inserted,
        seed,
    });
    let item = (0usize..6, prop::collection::vec(edit, 0..4));
    prop_oneof![
        3 => prop::collection::vec(item.clone(), 1..2),
        1 => prop::collection::vec(item, 0..5),
    ]
    .prop_map(|items| Wish { items })
}

impl ReferenceStateMachine for Model {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        prop_oneof![
            8 => (op(), any::<bool>()).prop_map(|(op, second)| Step::Do { op, second }),
            4 => (op(), 0u64..120, 0usize..64).prop_map(|(op, at, model)| Step::Crash { op, at, model }),
            2 => (any::<usize>(), 0u8..4, prop::option::of(op())).prop_map(|(file, how, then)| Step::Damage { file, how, then }),
            1 => Just(Step::Reopen),
            1 => (-50i64..51).prop_map(|years| Step::Clock { years }),
            1 => prop::option::of(0u32..300_000).prop_map(Step::Space),
            1 => (0u8..3, any::<bool>()).prop_map(|(level, second)| Step::Verify { level, second }),
            1 => (any::<usize>(), any::<bool>()).prop_map(|(which, second)| Step::RestoreItem { which, second }),
        ]
        .boxed()
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        let op = match step {
            Step::Do { op, .. } | Step::Crash { op, .. } => Some(op),
            Step::Damage { then, .. } => then.as_ref(),
            _ => None,
        };
        if let Some(Op::Ingest(wish)) = op {
            let items = wish.items.iter().enumerate();
            let items = items.map(|(number, (back, edits))| (format!("item {number}"), state.edited(*back, edits)));
            let items = items.collect();
            state.asked.insert(state.asked.len(), items);
        }
        state
    }
}

impl Model {
    /// Returns the data of `back` ingests ago with edits, or new data if there were fewer ingests.
    fn edited(&self, back: usize, edits: &[Edit]) -> Arc<Vec<u8>> {
        let earlier = self
            .asked
            .len()
            .checked_sub(back + 1)
            .and_then(|number| self.asked[&number].first());
        let mut data = match earlier {
            Some((_, data)) => data.to_vec(),
            None => random_bytes(self.asked.len() as u64, 40_000),
        };
        for edit in edits {
            let at = data.len() * usize::from(edit.at) / 65_536;
            let end = data.len().min(at + usize::from(edit.removed));
            data.splice(at..end, random_bytes(edit.seed, edit.inserted.into()));
        }
        data.truncate(120_000);
        Arc::new(data)
    }

    fn newest(&self) -> &Items {
        self.asked.values().last().unwrap()
    }
}

/// The repository, and what it must contain.
struct Machine {
    disk: SimFs,
    flavor: Flavor,
    clock: Arc<FixedClock>,
    handles: [Option<Arc<Repository>>; 2],
    /// The seed of the next process; each process has another one.
    seed: Cell<u64>,
    promised: BTreeMap<SnapshotId, Items>,
}

/// The result of an operation.
enum OpResult {
    /// It succeeded.
    Done,
    /// It failed with this code and changed nothing.
    Refused(&'static str),
}

impl Machine {
    fn environment(&self) -> Environment {
        let seed = self.seed.get() + 2;
        self.seed.set(seed);
        let entropy = Arc::new(SeededEntropy::new(seed));
        let storage = LocalStorage::new(Arc::new(self.disk.clone()), entropy);
        Environment {
            clock: Arc::clone(&self.clock) as Arc<_>,
            ..environment(Arc::new(storage), seed + 1)
        }
    }

    fn handle(&mut self, second: bool) -> Arc<Repository> {
        let environment = self.environment();
        let handle = &mut self.handles[usize::from(second)];
        let open = || open(environment, self.flavor).unwrap_or_else(|error| panic!("it does not open: {error}"));
        Arc::clone(handle.get_or_insert_with(open))
    }

    fn listed(&self, repo: &Repository) -> BTreeSet<SnapshotId> {
        let listed = ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap();
        listed.iter().map(|snapshot| snapshot.id).collect()
    }

    fn id(&self, which: usize) -> Option<SnapshotId> {
        self.promised.keys().nth(which % self.promised.len().max(1)).copied()
    }

    /// Performs the operation, and updates the model by its result.
    fn perform(&mut self, repo: &Arc<Repository>, op: &Op, newest: Option<&Items>) -> OpResult {
        let has_manifest = |id: &SnapshotId| matches!(repo.storage().size(&layout::snapshot(id)), Ok(Some(_)));
        let lacks_manifest = !self.promised.keys().all(has_manifest);
        let result: Result<()> = match op {
            Op::Ingest(_) => {
                let items = newest.unwrap();
                let readers: Vec<(&str, &[u8])> = items.iter().map(|(name, data)| (name.as_str(), &data[..])).collect();
                ingest_items(repo, &readers).map(|snapshot| {
                    self.promised.insert(snapshot.id, items.clone());
                })
            }
            Op::Forget { which } => match self.id(*which) {
                None => Ok(()),
                Some(id) => ops::forget(repo, &[id]).map(|forgotten| {
                    assert_eq!(forgotten, [id]);
                    self.promised.remove(&id);
                }),
            },
            Op::Prune { .. } => {
                let options = prune_options(op);
                ops::prune(repo, &options, &NullMonitor).map(|report| {
                    let known = report.removed.len() + report.kept.len();
                    // a snapshot whose manifest is lost is unknown, and is kept
                    assert_eq!(known, self.promised.len() - usize::from(lacks_manifest));
                    assert!(report.kept.len() >= known.min(1));
                    for choice in report.removed {
                        assert!(self.promised.remove(&choice.id).is_some());
                    }
                })
            }
            Op::Repair => ops::repair(repo, &NullMonitor).map(drop),
            Op::Reindex => ops::reindex(repo, &NullMonitor),
        };
        match result {
            Ok(()) => OpResult::Done,
            Err(error) => OpResult::Refused(error.code()),
        }
    }

    /// Returns the snapshots that an interrupted operation may have removed.
    fn may_go(&mut self, op: &Op) -> BTreeSet<SnapshotId> {
        match op {
            Op::Forget { which } => self.id(*which).into_iter().collect(),
            Op::Prune { .. } => {
                let dry = PruneOptions {
                    dry_run: true,
                    ..prune_options(op)
                };
                let report = ops::prune(&self.handle(false), &dry, &NullMonitor).unwrap();
                report.removed.iter().map(|choice| choice.id).collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Updates the model after an interrupted operation: its snapshot may exist, complete, and the
    /// snapshots that it was to remove may be deleted.
    fn adopt(&mut self, may_go: &BTreeSet<SnapshotId>, may_come: Option<&Items>) {
        let repo = self.handle(false);
        let listed = self.listed(&repo);
        self.promised
            .retain(|id, _| listed.contains(id) || !may_go.contains(id));
        let new: Vec<SnapshotId> = listed
            .iter()
            .filter(|id| !self.promised.contains_key(id))
            .copied()
            .collect();
        if let (&[id], Some(items)) = (&new[..], may_come) {
            self.promised.insert(id, items.clone());
        }
    }

    fn crash(&mut self, op: &Op, newest: Option<&Items>, (at, model): (u64, usize)) {
        let may_go = self.may_go(op);
        // without space for another group, a crash removes protection until a repair
        let may_be_bare = matches!(op, Op::Prune { .. }) && self.disk.free_bytes().is_some();
        let repo = self.handle(false);
        self.disk.crash_at(self.disk.mutating_calls() + at);
        self.perform(&repo, op, newest);
        self.disk.power_off();
        drop(repo);
        self.handles = [None, None];
        let models = self.disk.loss_models(4);
        self.disk = self.disk.after_power_loss(&models[model % models.len()]);
        self.disk.set_free_bytes(None);
        self.adopt(&may_go, newest.filter(|_| matches!(op, Op::Ingest(_))));
        if may_be_bare {
            let report = ops::repair(&self.handle(false), &NullMonitor).unwrap();
            assert_eq!(report.lost_chunks, 0, "{report:?}");
        }
    }

    fn damage(&mut self, (file, how): (usize, u8), then: Option<&Op>, newest: Option<&Items>) {
        self.disk.set_free_bytes(None);
        let can_heal = |key: &str| {
            let folders = [layout::DATA, layout::PARITY, layout::INDEX, layout::SNAPSHOTS];
            folders.iter().any(|folder| key.starts_with(&format!("{folder}/")))
                && !key.contains("/.tmp-")
                && !key.ends_with(".kill")
                && !key.ends_with(".tail")
                // a forget has no second copy: without its record, a repair brings the snapshot
                // back
                && !key.ends_with(".forgot")
        };
        let mut files: Vec<(String, Vec<u8>)> = (self.disk.snapshot_files().into_iter())
            .filter(|(key, bytes)| can_heal(key) && !bytes.is_empty())
            .collect();
        // where a power cut has left the lease of a committed session, a lost manifest looks like
        // one that was never written
        let leases = self.handle(false).storage().list(layout::LOCKS).unwrap();
        let has_lease = |key: &str| {
            let name = key.rsplit('/').next();
            leases.iter().any(|lease| lease.key.rsplit('/').next() == name)
        };
        // and where it has left a record, like the manifest of a forgotten snapshot
        let records = self.handle(false).storage().list(layout::RECORDS).unwrap();
        let names: Vec<String> = records
            .iter()
            .map(|record| record.key.replace(".forgot", ".json"))
            .collect();
        let has_record = |key: &str| {
            names
                .iter()
                .any(|name| name.rsplit('/').next() == key.rsplit('/').next())
        };
        files.retain(|(key, _)| !key.starts_with(layout::SNAPSHOTS) || !(has_lease(key) || has_record(key)));
        let Some((key, bytes)) = files.get(file % files.len().max(1)) else {
            return;
        };
        let is_manifest = key.starts_with(layout::SNAPSHOTS);
        let mut bytes = bytes.clone();
        let middle = bytes.len() / 2;
        match how {
            0 => bytes.clear(),
            1 => bytes[middle] ^= 4,
            2 => bytes.truncate(middle),
            _ => bytes.fill(0),
        }
        self.disk.damage(key, (how > 0).then_some(bytes)).unwrap();
        let repo = self.handle(false);
        if !is_manifest {
            self.restore_all(&repo);
        }
        if let Some(op) = then {
            // an error loses nothing; the checks below show that a prune does not treat a lost
            // manifest as a forgotten snapshot
            self.perform(&repo, op, newest);
        }
        ops::repair(&repo, &NullMonitor).unwrap_or_else(|error| panic!("{key}: repair: {error}"));
        self.verify(&repo, VerifyLevel::Full, &format!("repaired after damage to {key}"));
    }

    fn restore_all(&self, repo: &Arc<Repository>) {
        for (id, items) in &self.promised {
            let all: Vec<u8> = items.iter().flat_map(|(_, data)| data.iter().copied()).collect();
            let restored = restore(repo, &id.to_hex(), None).unwrap_or_else(|error| panic!("LOST {id}: {error}"));
            assert!(restored == all, "LOST {id}: wrong bytes");
        }
    }

    fn verify(&self, repo: &Arc<Repository>, level: VerifyLevel, when: &str) {
        let options = VerifyOptions { level, subset: None };
        let report = ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap();
        assert!(report.ok(), "{when}: {:?}", report.problems);
    }
}

fn prune_options(op: &Op) -> PruneOptions {
    let Op::Prune {
        keep,
        max_unused,
        force,
    } = op
    else {
        panic!("no prune")
    };
    PruneOptions {
        max_unused: *max_unused,
        force: *force,
        ..PruneOptions::new(RetentionPolicy {
            keep_last: Keep::Count(*keep),
            ..RetentionPolicy::default()
        })
    }
}

struct Histories;

impl StateMachineTest for Histories {
    type SystemUnderTest = Machine;
    type Reference = Model;

    fn init_test(_: &Model) -> Machine {
        let mut machine = Machine {
            disk: SimFs::new(),
            flavor: Flavor::sealed(),
            clock: Arc::new(FixedClock::new(START_MS)),
            handles: [None, None],
            seed: Cell::new(0),
            promised: BTreeMap::new(),
        };
        machine.handles[0] = Some(init(machine.environment(), machine.flavor).unwrap());
        machine
    }

    fn apply(mut machine: Machine, model: &Model, step: Step) -> Machine {
        let tick = machine.clock.as_ref();
        tick.set(containerarchive::clock::Clock::now_ms(tick) + 60_000);
        let newest = model.asked.values().last().map(|_| model.newest());
        match &step {
            Step::Do { op, second } => {
                let repo = machine.handle(*second);
                let full = machine.disk.free_bytes().is_some();
                let had_reserve = matches!(repo.storage().size(layout::RESERVE), Ok(Some(_)));
                let may_go = machine.may_go(op);
                if let OpResult::Refused(code) = machine.perform(&repo, op, newest) {
                    assert!(full && code == "ERR_NO_SPACE", "{op:?}: {code}");
                    assert!(
                        !(had_reserve && matches!(op, Op::Prune { .. })),
                        "the prune failed although there was a reserve"
                    );
                    machine.adopt(&may_go, None);
                }
            }
            Step::Crash { op, at, model } => machine.crash(op, newest, (*at, *model)),
            Step::Damage { file, how, then } => machine.damage((*file, *how), then.as_ref(), newest),
            Step::Reopen => machine.handles = [None, None],
            Step::Clock { years } => {
                let clock = machine.clock.as_ref();
                clock.set(containerarchive::clock::Clock::now_ms(clock) + years * YEAR_MS);
            }
            Step::Space(free) => machine.disk.set_free_bytes(free.map(u64::from)),
            Step::Verify { level, second } => {
                let level = [VerifyLevel::Quick, VerifyLevel::Standard, VerifyLevel::Full][usize::from(*level)];
                let repo = machine.handle(*second);
                machine.verify(&repo, level, "during the history");
            }
            Step::RestoreItem { which, second } => {
                let repo = machine.handle(*second);
                if let Some((id, items)) = machine.id(*which).map(|id| (id, &machine.promised[&id]))
                    && let Some((name, data)) = items.get(which % items.len().max(1))
                {
                    assert!(restore(&repo, &id.to_hex(), Some(name)).unwrap() == **data);
                }
            }
        }
        let repo = machine.handle(false);
        let promised: BTreeSet<SnapshotId> = machine.promised.keys().copied().collect();
        assert_eq!(machine.listed(&repo), promised);
        machine.restore_all(&repo);
        machine
    }

    fn teardown(mut machine: Machine, _: Model) {
        machine.disk.set_free_bytes(None);
        // no manual step is needed: after one prune, verify finds no problem
        machine.handles = [None, None];
        let repo = machine.handle(true);
        ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).unwrap();
        machine.restore_all(&repo);
        machine.verify(&repo, VerifyLevel::Full, "at the end");
    }
}

/// Returns `PROPTEST_RNG_SEED`, for other histories.
fn asked_seed() -> Option<u64> {
    std::env::var("PROPTEST_RNG_SEED").ok()?.parse().ok()
}

fn config() -> Config {
    let deep = std::env::var_os("CONTAINERARCHIVE_DEEP").is_some();
    Config {
        cases: if deep { 400 } else { 10 },
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(asked_seed().unwrap_or(1)),
        max_shrink_iters: 200,
        ..Config::default()
    }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn random_histories_lose_no_committed_snapshot(sequential 5..40 => Histories);
}
