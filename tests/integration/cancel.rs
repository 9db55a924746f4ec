//! Cancellation: every long operation ends when it is cancelled, at each cancellation point, also
//! while it waits for a lock that is never released. It leaves nothing half done that is visible,
//! and the next operation works.

use crate::support::*;
use containerarchive::monitor::{Monitor, NullMonitor};
use containerarchive::ops::{
    self, IngestOptions, KeyOptions, PruneOptions, ReaderItems, RestoreOptions, VerifyLevel, VerifyOptions,
};
use containerarchive::repo::{self, Environment, OpenOptions, Repository};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::snapshot::retention::{Keep, RetentionPolicy};
use containerarchive::storage::{MemoryStorage, Storage};
use containerarchive::{Error, Result, layout, lock};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const FULL: VerifyOptions = VerifyOptions {
    level: VerifyLevel::Full,
    subset: None,
};
/// Longer than any test takes.
const NO_TIMEOUT: Duration = Duration::from_secs(86_400);

/// Cancels from a given check on.
struct StopAt {
    asked: AtomicUsize,
    at: usize,
}

impl StopAt {
    fn new(at: usize) -> Self {
        Self {
            asked: AtomicUsize::new(0),
            at,
        }
    }
}

impl Monitor for StopAt {
    fn is_cancelled(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed) >= self.at
    }
}

type Operation = fn(&Arc<Repository>, &dyn Monitor) -> Result<()>;

fn ingest_more(repo: &Arc<Repository>, monitor: &dyn Monitor) -> Result<()> {
    let data = random_bytes(77, 90_000);
    let mut items = ReaderItems::one("data", "x", &data[..]);
    ops::ingest(repo, &mut items, &IngestOptions::default(), monitor).map(|_| ())
}

fn prune_some(repo: &Arc<Repository>, monitor: &dyn Monitor) -> Result<()> {
    let policy = RetentionPolicy {
        keep_last: Keep::Count(1),
        ..RetentionPolicy::default()
    };
    ops::prune(repo, &PruneOptions::new(policy), monitor).map(|_| ())
}

fn repair_all(repo: &Arc<Repository>, monitor: &dyn Monitor) -> Result<()> {
    ops::repair(repo, monitor).map(|_| ())
}

fn reindex_all(repo: &Arc<Repository>, monitor: &dyn Monitor) -> Result<()> {
    ops::reindex(repo, monitor)
}

fn verify_all(repo: &Arc<Repository>, monitor: &dyn Monitor) -> Result<()> {
    ops::verify(repo, &FULL, monitor, &mut |_| {}).map(|_| ())
}

fn restore_newest(repo: &Arc<Repository>, monitor: &dyn Monitor) -> Result<()> {
    let plan = ops::plan_restore(repo, "latest", &RestoreOptions::default())?;
    ops::restore(repo, &plan, monitor, &mut |_| Ok(()))
}

/// Creates a repository of three snapshots; with a lost pack that parity can rebuild, if
/// `with_loss`.
fn prepared(flavor: Flavor, with_loss: bool) -> (Arc<MemoryStorage>, Vec<Vec<u8>>) {
    let storage = Arc::new(MemoryStorage::new());
    let repo = init(environment(Arc::clone(&storage) as Arc<dyn Storage>, 7), flavor).unwrap();
    let data: Vec<Vec<u8>> = (0..3).map(|n| random_bytes(n, 100_000)).collect();
    for data in &data {
        ingest(&repo, data).unwrap();
    }
    if with_loss {
        let files = storage.list(layout::DATA).unwrap();
        let pack = files.iter().find(|file| file.key.ends_with(".pack")).unwrap();
        storage.delete(&pack.key).unwrap();
    }
    (storage, data)
}

fn open_without_timeout(storage: &Arc<MemoryStorage>, flavor: Flavor) -> Arc<Repository> {
    let options = OpenOptions {
        lock_wait: NO_TIMEOUT,
        ..OpenOptions::default()
    };
    let environment = environment(Arc::clone(storage) as Arc<dyn Storage>, 9);
    Arc::new(repo::open(environment, flavor.secret().as_ref(), &options).unwrap())
}

/// Checks that all listed snapshots restore to data that was stored.
fn assert_snapshots_restore(repo: &Arc<Repository>, data: &[Vec<u8>]) {
    for snapshot in ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap() {
        let bytes = restore(repo, &snapshot.id.to_hex(), None).unwrap();
        assert!(data.contains(&bytes) || bytes == random_bytes(77, 90_000));
    }
}

#[test]
fn every_operation_stops_at_each_cancellation_point_and_the_next_one_works() {
    let operations: [(&str, Operation); 6] = [
        ("ingest", ingest_more),
        ("prune", prune_some),
        ("repair", repair_all),
        ("reindex", reindex_all),
        ("verify", verify_all),
        ("restore", restore_newest),
    ];
    // each point once, and part of them again in a sealed repository
    for (flavor, step) in [(Flavor::plain(), 1), (Flavor::sealed(), 5)] {
        for (name, operation) in operations {
            let mut stopped = 0;
            for at in (0..).step_by(step) {
                let (storage, data) = prepared(flavor, name != "prune");
                let repo = open_without_timeout(&storage, flavor);
                let before = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap().len();
                let outcome = operation(&repo, &StopAt::new(at));
                match &outcome {
                    Ok(()) => {}
                    Err(Error::Cancelled) => stopped += 1,
                    Err(error) => panic!("{name}, stopped at {at}: {error}"),
                }
                if name == "ingest" && outcome.is_err() {
                    let listed = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap().len();
                    assert_eq!(listed, before, "stopped at {at}");
                }
                // with the same handle, which shows that no lock was kept
                assert_snapshots_restore(&repo, &data);
                ingest(&repo, &data[0]).unwrap();
                ops::repair(&repo, &NullMonitor).unwrap();
                let report = ops::verify(&repo, &FULL, &NullMonitor, &mut |_| {}).unwrap();
                assert!(report.ok(), "{name}, stopped at {at}: {:?}", report.problems);
                if outcome.is_ok() {
                    break;
                }
            }
            assert!(stopped > 1, "{name} checked for cancellation {stopped} times");
        }
    }
}

#[test]
fn waiting_for_a_lock_ends_when_it_is_cancelled() {
    let operations: [(&str, Operation, bool); 5] = [
        ("ingest", ingest_more, false),
        ("prune, at the beginning", prune_some, true),
        ("prune, at its decision", prune_some, false),
        ("repair", repair_all, true),
        ("reindex", reindex_all, true),
    ];
    for (name, operation, maintenance) in operations {
        let (storage, data) = prepared(Flavor::plain(), false);
        let repo = open_without_timeout(&storage, Flavor::plain());
        let other: &dyn Storage = &*storage;
        // also blocks shared locks of writers: a prune cannot decide, an ingest cannot commit
        let maint = maintenance.then(|| lock::try_maint(other).unwrap().unwrap());
        let commit = (!maintenance).then(|| lock::commit_exclusive(other, Duration::ZERO).unwrap().unwrap());
        // the lock is never free, so the operation can only end by cancellation: check 60 is after
        // all its other checks
        let outcome = operation(&repo, &StopAt::new(60));
        assert!(matches!(outcome, Err(Error::Cancelled)), "{name}: {outcome:?}");
        drop((maint, commit));
        assert_snapshots_restore(&repo, &data);
        operation(&repo, &NullMonitor).unwrap();
    }
}

#[test]
fn waiting_for_a_lock_ends_when_the_handle_is_closed() {
    struct CloseAt<'a>(&'a Repository, StopAt);
    impl Monitor for CloseAt<'_> {
        fn is_cancelled(&self) -> bool {
            if self.1.is_cancelled() {
                self.0.close();
            }
            false
        }
    }
    let (storage, _) = prepared(Flavor::plain(), false);
    let repo = open_without_timeout(&storage, Flavor::plain());
    let _held = lock::try_maint(&*storage).unwrap().unwrap();
    let outcome = ops::reindex(&repo, &CloseAt(&repo, StopAt::new(5)));
    assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
}

/// Answers `begin_commit` and counts its calls.
struct Commits {
    may: bool,
    asked: AtomicUsize,
}

impl Commits {
    fn new(may: bool) -> Self {
        Self {
            may,
            asked: AtomicUsize::new(0),
        }
    }
}

impl Monitor for Commits {
    fn begin_commit(&self) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.may
    }
}

#[test]
fn a_visible_change_calls_begin_commit_once_and_changes_nothing_if_refused() {
    let (storage, data) = prepared(Flavor::sealed(), false);
    let repo = open_without_timeout(&storage, Flavor::sealed());
    let operations: [(&str, Operation); 4] = [
        ("ingest", ingest_more),
        ("prune", prune_some),
        ("add a key", |repo, monitor| {
            ops::add_key(repo, &passphrase(), &cheap_key(), monitor).map(drop)
        }),
        ("change the key", |repo, monitor| {
            ops::change_key(repo, None, &passphrase(), &cheap_key(), monitor).map(drop)
        }),
    ];
    for (name, operation) in operations {
        let visible = || {
            let snapshots = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap().len();
            let keys = ops::list_keys(&repo).unwrap();
            (snapshots, keys.iter().map(|key| key.id).collect::<Vec<_>>())
        };
        let before = visible();
        let no = Commits::new(false);
        let outcome = operation(&repo, &no);
        assert!(matches!(outcome, Err(Error::Cancelled)), "{name}: {outcome:?}");
        assert_eq!(visible(), before, "{name}");
        let yes = Commits::new(true);
        operation(&repo, &yes).unwrap();
        assert_ne!(visible(), before, "{name}");
        for asked in [no.asked, yes.asked] {
            assert_eq!(asked.into_inner(), 1, "{name}");
        }
        assert_snapshots_restore(&repo, &data);
    }
}

fn cheap_key() -> KeyOptions {
    KeyOptions {
        kdf: Flavor::sealed().small().kdf,
        label: None,
    }
}

#[test]
fn a_stopped_init_creates_nothing_and_a_stopped_open_changes_nothing() {
    let flavor = Flavor::sealed();
    let stopped = |storage: &Arc<MemoryStorage>| Environment {
        monitor: Arc::new(StopAt::new(0)),
        ..environment(Arc::clone(storage) as Arc<dyn Storage>, 3)
    };
    let storage = Arc::new(MemoryStorage::new());
    let everything = |storage: &MemoryStorage| -> Vec<String> {
        let folders = layout::FOLDERS.into_iter().chain([""]);
        folders
            .flat_map(|folder| storage.list(folder).unwrap_or_default())
            .map(|entry| entry.key)
            .collect()
    };
    let outcome = init(stopped(&storage), flavor).map(drop);
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    assert_eq!(everything(&storage), Vec::<String>::new());

    init(environment(Arc::clone(&storage) as Arc<dyn Storage>, 4), flavor).unwrap();
    let before = everything(&storage);
    let outcome = open(stopped(&storage), flavor).map(drop);
    assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
    assert_eq!(everything(&storage), before);
    open(environment(storage as Arc<dyn Storage>, 5), flavor).unwrap();
}
