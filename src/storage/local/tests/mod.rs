//! The local store on the simulated and the real disk.

mod failures;
mod power;

use super::*;
use crate::entropy::SeededEntropy;
use crate::storage::simfs::{LossModel, SimFs};
use crate::storage::{conformance, put_bytes};

const FOLDERS: [&str; 4] = ["a", "b", "locks", "quarantine"];

fn on(disk: &SimFs) -> LocalStorage {
    LocalStorage::new(
        Arc::new(disk.clone()),
        Arc::new(SeededEntropy::new(disk.mutating_calls())),
    )
}

/// A disk with the folders of a repository, durable, and a store on it.
fn ready() -> (SimFs, LocalStorage) {
    let disk = SimFs::new();
    let store = on(&disk);
    assert!(store.create_folders(&FOLDERS, &[]).unwrap());
    (disk, store)
}

fn kind_of<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind)
}

fn temps(disk: &SimFs) -> usize {
    disk.snapshot_files()
        .keys()
        .filter(|path| path.contains(".tmp-"))
        .count()
}

#[test]
fn a_folder_passes_the_conformance_tests() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    conformance::run(|| {
        count.set(count.get() + 1);
        let root = dir.path().join(format!("new/{}", count.get()));
        Arc::new(LocalStorage::open_path(&root, Arc::new(SeededEntropy::new(1))).unwrap())
    });
}

#[test]
fn a_simulated_disk_passes_the_conformance_tests() {
    conformance::run(|| Arc::new(on(&SimFs::new())));
    conformance::run(|| Arc::new(on(&SimFs::without_root(3))));
    conformance::run(|| {
        let disk = SimFs::new();
        disk.know_files_by_path();
        Arc::new(on(&disk))
    });
}

#[test]
fn many_handles_putting_one_key_create_it_once() {
    let dir = tempfile::tempdir().unwrap();
    let open = |seed| LocalStorage::open_path(dir.path(), Arc::new(SeededEntropy::new(seed))).unwrap();
    open(0).create_folders(&FOLDERS, &[]).unwrap();
    for round in 0..25 {
        let key = format!("a/{round}");
        let created: usize = std::thread::scope(|scope| {
            let (open, key) = (&open, &key);
            let put = move |seed| usize::from(put_bytes(&open(seed), key, &[7; 100_000]).unwrap() == Created::Created);
            let threads: Vec<_> = (0..8).map(|seed| scope.spawn(move || put(seed))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(created, 1);
    }
    assert_eq!(
        std::fs::read_dir(dir.path().join("a")).unwrap().count(),
        25,
        "no temporary file is left"
    );
}

#[test]
fn a_put_makes_these_calls_and_no_others() {
    let (disk, store) = ready();
    let start = disk.log().len();
    put_bytes(&store, "a/k", &[1; (1 << 20) + 1]).unwrap();
    put_bytes(&store, "a/empty", b"").unwrap();
    put_bytes(&store, "b/k", b"1").unwrap();
    put_bytes(&store, "b/k", b"1").unwrap();
    store.barrier().unwrap();
    store.barrier().unwrap();
    let names: Vec<_> = disk.log()[start..].iter().map(|(op, _)| *op).collect();
    let long = ["create", "write", "write", "fsync", "rename"];
    let empty = ["create", "fsync", "rename"];
    let short = ["create", "write", "fsync", "rename"];
    assert_eq!(names, [&long[..], &empty, &short, &["fsync_dir", "fsync_dir"]].concat());
}

#[test]
fn reading_changes_nothing() {
    let (disk, store) = ready();
    for key in ["a/k", "locks/commit", "locks/dead.json"] {
        put_bytes(&store, key, b"1").unwrap();
    }
    let before = disk.mutating_calls();
    store.get("a/k", 1).unwrap();
    store.get_range("a/k", 0, &mut [0]).unwrap();
    store.size("a/k").unwrap();
    store.list("a").unwrap();
    store.lease_held("locks/dead.json").unwrap();
    store.probe_locks("locks/commit").unwrap();
    drop(store.lock("locks/commit", LockMode::Exclusive, Duration::ZERO).unwrap());
    assert_eq!(disk.mutating_calls(), before);
}
