//! The path of a repository may contain nothing, another repository, or the same repository in
//! another directory: after a disk was unmounted or swapped, a directory was moved and recreated,
//! or a copy replaced it.

use crate::support::faults::{HookedSource, code};
use crate::support::*;
use containerarchive::entropy::SeededEntropy;
use containerarchive::id::{RepoId, SnapshotId};
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{
    self, IngestOptions, PruneOptions, ReaderItems, RestoreOptions, VerifyLevel, VerifyOptions,
};
use containerarchive::repo::{Environment, OpenOptions, Repository};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::storage::LocalStorage;
use containerarchive::{Error, Result, layout};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

const FLAVORS: [fn() -> Flavor; 2] = [Flavor::plain, Flavor::sealed];

fn at(folder: &Path, seed: u64) -> Environment {
    let storage = LocalStorage::open_path(folder, Arc::new(SeededEntropy::new(seed ^ 0xab))).unwrap();
    environment(Arc::new(storage), seed)
}

/// Creates a repository with two snapshots, and closes it.
fn make(folder: &Path, flavor: Flavor, seed: u64) -> (RepoId, Vec<SnapshotId>) {
    let repo = init(at(folder, seed), flavor).unwrap();
    let ids = [1, 2].map(|part| ingest(&repo, &random_bytes(seed * 10 + part, 90_000)).unwrap().id);
    (repo.config().id, ids.to_vec())
}

/// Returns every file below a directory, with its bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let key = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.insert(key, fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match path.is_dir() {
            true => copy(&path, &target),
            false => drop(fs::copy(&path, &target).unwrap()),
        }
    }
}

fn verify(repo: &Arc<Repository>, level: VerifyLevel) -> Result<ops::VerifyReport> {
    let options = VerifyOptions { level, subset: None };
    ops::verify(repo, &options, &NullMonitor, &mut |_| {})
}

fn assert_snapshots_restore(folder: &Path, flavor: Flavor, ids: &[SnapshotId]) {
    let repo = open(at(folder, 99), flavor).unwrap();
    for id in ids {
        restore(&repo, &id.to_hex(), None).unwrap();
    }
    let report = verify(&repo, VerifyLevel::Full).unwrap();
    assert!(report.ok(), "{:?}", report.problems);
}

/// Runs every call of a handle. Returns the names and the results.
fn every_call(repo: &Arc<Repository>, own: &SnapshotId) -> Vec<(&'static str, &'static str)> {
    let id = own.to_hex();
    let policy = || PruneOptions::keep_all();
    let dry_run = || PruneOptions {
        dry_run: true,
        ..PruneOptions::keep_all()
    };
    vec![
        ("ingest", code(ingest(repo, &random_bytes(77, 50_000)))),
        ("restore", code(restore_with(repo, &id, &RestoreOptions::default()))),
        ("list", code(ops::list_snapshots(repo, &SnapshotFilter::default()))),
        ("get", code(ops::get_snapshot(repo, &id))),
        ("get by prefix", code(ops::get_snapshot(repo, &id[..8]))),
        ("latest", code(ops::latest_snapshot(repo, &SnapshotFilter::default()))),
        ("stats", code(ops::stats(repo, &NullMonitor))),
        ("locks", code(ops::locks(repo))),
        ("verify", code(verify(repo, VerifyLevel::Quick))),
        ("verify full", code(verify(repo, VerifyLevel::Full))),
        ("plan", code(ops::prune(repo, &dry_run(), &NullMonitor))),
        ("prune", code(ops::prune(repo, &policy(), &NullMonitor))),
        ("forget", code(ops::forget(repo, &[*own]))),
        ("unlock", code(ops::unlock(repo, false))),
        ("unlock by force", code(ops::unlock(repo, true))),
        ("reindex", code(ops::reindex(repo, &NullMonitor))),
        ("repair", code(ops::repair(repo, &NullMonitor))),
        ("keys", code(ops::list_keys(repo))),
    ]
}

/// In a plain repository, listing the keys reads nothing, so it does not fail.
fn assert_all(calls: &[(&str, &str)], expected: &str, flavor: Flavor) {
    let asked = calls.iter().filter(|(call, _)| flavor.encrypted || *call != "keys");
    let other: Vec<_> = asked.filter(|(_, code)| *code != expected).collect();
    assert!(other.is_empty(), "expected {expected} of each: {other:?}");
}

#[test]
fn a_handle_does_not_touch_another_repository_that_replaces_its_own() {
    for flavor in FLAVORS.map(|flavor| flavor()) {
        let temp = tempfile::tempdir().unwrap();
        let [disk_a, disk_b, mount] = ["a", "b", "mount"].map(|name| temp.path().join(name));
        let (_, of_a) = make(&mount, flavor, 1);
        let (_, of_b) = make(&disk_b, flavor, 2);
        let handle = open(at(&mount, 3), flavor).unwrap();
        ingest(&handle, b"before").unwrap();
        fs::rename(&mount, &disk_a).unwrap();
        fs::rename(&disk_b, &mount).unwrap();
        let before = files(&mount);

        assert_all(&every_call(&handle, &of_a[0]), "ERR_REPO_CHANGED", flavor);
        assert!(files(&mount) == before, "the other repository was changed");
        let error = ingest(&handle, b"x").unwrap_err();
        assert!(!error.retryable());
        assert_snapshots_restore(&mount, flavor, &of_b);

        // the right disk again
        fs::rename(&mount, &disk_b).unwrap();
        fs::rename(&disk_a, &mount).unwrap();
        let after = ingest(&handle, &random_bytes(5, 40_000)).unwrap();
        assert_snapshots_restore(&mount, flavor, &[of_a[0], of_a[1], after.id]);
    }
}

#[test]
fn a_missing_or_unmounted_directory_is_not_an_empty_repository() {
    for flavor in FLAVORS.map(|flavor| flavor()) {
        for empty_folder in [false, true] {
            let temp = tempfile::tempdir().unwrap();
            let [mount, elsewhere] = ["mount", "elsewhere"].map(|name| temp.path().join(name));
            let (_, ids) = make(&mount, flavor, 1);
            let handle = open(at(&mount, 3), flavor).unwrap();
            fs::rename(&mount, &elsewhere).unwrap();
            if empty_folder {
                fs::create_dir(&mount).unwrap();
            }
            assert_all(&every_call(&handle, &ids[0]), "ERR_REPO_NOT_FOUND", flavor);
            assert_eq!(mount.exists(), empty_folder);
            assert!(!empty_folder || files(&mount).is_empty());
            if empty_folder {
                fs::remove_dir(&mount).unwrap();
            }
            fs::rename(&elsewhere, &mount).unwrap();
            assert_eq!(
                ops::list_snapshots(&handle, &SnapshotFilter::default()).unwrap().len(),
                2
            );
            assert_snapshots_restore(&mount, flavor, &ids);
        }
    }
}

/// Runs an ingest, and a hook that changes the directory during it.
fn ingest_during(repo: &Arc<Repository>, seed: u64, hook: impl FnMut() + Send) -> Result<ops::IngestOptions> {
    let data = random_bytes(seed, 400_000);
    let source = HookedSource {
        data: &data,
        at: 200_000,
        hook: Some(hook),
        given: 0,
    };
    let mut items = ReaderItems::one("data", "test", source);
    ops::ingest(repo, &mut items, &IngestOptions::default(), &NullMonitor).map(|_| IngestOptions::default())
}

#[test]
fn a_running_ingest_fails_when_another_repository_replaces_its_own() {
    for flavor in FLAVORS.map(|flavor| flavor()) {
        let temp = tempfile::tempdir().unwrap();
        let [disk_a, disk_b, mount] = ["a", "b", "mount"].map(|name| temp.path().join(name));
        let (_, of_a) = make(&mount, flavor, 1);
        let (_, of_b) = make(&disk_b, flavor, 2);
        let handle = open(at(&mount, 3), flavor).unwrap();
        let before = files(&disk_b);
        let swapped = ingest_during(&handle, 4, || {
            fs::rename(&mount, &disk_a).unwrap();
            fs::rename(&disk_b, &mount).unwrap();
        });
        let error = swapped.unwrap_err();
        assert_eq!((error.code(), error.retryable()), ("ERR_REPO_CHANGED", false));
        assert!(files(&mount) == before, "the other repository was changed");
        assert_snapshots_restore(&mount, flavor, &of_b);
        assert_snapshots_restore(&disk_a, flavor, &of_a);
    }
}

#[test]
fn a_copy_that_replaces_the_repository_is_served_and_a_running_ingest_must_be_retried() {
    for flavor in FLAVORS.map(|flavor| flavor()) {
        let temp = tempfile::tempdir().unwrap();
        let [disk_a, clone, mount] = ["a", "clone", "mount"].map(|name| temp.path().join(name));
        let (_, mut ids) = make(&mount, flavor, 1);
        copy(&mount, &clone);
        let handle = open(at(&mount, 3), flavor).unwrap();
        // the copy contains neither this snapshot nor its data
        let data = random_bytes(8, 60_000);
        let only_there = ingest(&handle, &data).unwrap().id;
        let ended = ingest_during(&handle, 4, || {
            fs::rename(&mount, &disk_a).unwrap();
            fs::rename(&clone, &mount).unwrap();
        });
        let error = ended.unwrap_err();
        assert_eq!((error.code(), error.retryable()), ("ERR_REPO_CHANGED", true));
        assert_eq!(
            code(ops::get_snapshot(&handle, &only_there.to_hex())),
            "ERR_SNAPSHOT_NOT_FOUND"
        );
        // chunks that only the old directory has are not treated as stored
        let again = ingest(&handle, &data).unwrap();
        assert_eq!(again.reused_chunks, 0);
        ids.push(again.id);
        assert_snapshots_restore(&mount, flavor, &ids);
    }
}

#[test]
fn a_lost_config_alone_is_damage_and_the_handle_keeps_working() {
    for flavor in FLAVORS.map(|flavor| flavor()) {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("repo");
        let (_, ids) = make(&folder, flavor, 1);
        let handle = open(at(&folder, 3), flavor).unwrap();
        for damage in [None, Some("not JSON")] {
            let config = folder.join(layout::CONFIG);
            match damage {
                None => fs::remove_file(&config).unwrap(),
                Some(text) => fs::write(&config, text).unwrap(),
            }
            restore(&handle, &ids[0].to_hex(), None).unwrap();
            ingest(&handle, b"more").unwrap();
            assert!(!verify(&handle, VerifyLevel::Quick).unwrap().ok());
            let opened = open(at(&folder, 4), flavor).unwrap();
            restore(&opened, &ids[1].to_hex(), None).unwrap();
            assert!(ops::repair(&handle, &NullMonitor).unwrap().config_repaired);
            assert!(verify(&handle, VerifyLevel::Quick).unwrap().ok());
        }
        // moved to a directory that this handle has not seen: the packs contain the id of the
        // repository
        fs::remove_file(folder.join(layout::CONFIG)).unwrap();
        copy(&folder, &temp.path().join("moved"));
        fs::remove_dir_all(&folder).unwrap();
        fs::rename(temp.path().join("moved"), &folder).unwrap();
        restore(&handle, &ids[0].to_hex(), None).unwrap();
    }
}

#[test]
fn every_call_leaves_files_of_another_repository_alone() {
    for (own, other) in [
        (Flavor::plain(), Flavor::plain()),
        (Flavor::sealed(), Flavor::sealed()),
        (Flavor::plain(), Flavor::sealed()),
        (Flavor::sealed(), Flavor::plain()),
    ] {
        let temp = tempfile::tempdir().unwrap();
        let [folder, stray] = ["own", "stray"].map(|name| temp.path().join(name));
        let (id, mut ids) = make(&folder, own, 1);
        make(&stray, other, 2);
        // files that a careless copy brings along; manifests and records do not contain the id of
        // their repository
        let strays: Vec<String> = files(&stray)
            .into_keys()
            .filter(|key| {
                [layout::DATA, layout::PARITY, layout::INDEX, layout::KEYS]
                    .iter()
                    .any(|at| key.starts_with(at))
            })
            .filter(|key| !key.ends_with(".forgot"))
            .collect();
        assert!(strays.len() > 8, "{strays:?}");
        for key in &strays {
            assert!(!folder.join(key).exists());
            fs::copy(stray.join(key), folder.join(key)).unwrap();
        }
        let repo = open(at(&folder, 3), own).unwrap();
        assert_eq!(repo.config().id, id);
        ids.push(ingest(&repo, &random_bytes(9, 70_000)).unwrap().id);
        let report = verify(&repo, VerifyLevel::Full).unwrap();
        assert!(report.ok(), "{own:?} {other:?} {:?}", report.problems);
        assert!(report.notes.iter().any(|note| note.code == "NOTE_FOREIGN_FILE"));
        ops::reindex(&repo, &NullMonitor).unwrap();
        ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).unwrap();
        let repaired = ops::repair(&repo, &NullMonitor).unwrap();
        assert_eq!(repaired.quarantined, Vec::<String>::new(), "{own:?} {other:?}");
        ops::forget(&repo, &ids[..1]).unwrap();
        ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).unwrap();
        for key in &strays {
            assert!(
                fs::read(folder.join(key)).ok() == fs::read(stray.join(key)).ok(),
                "{own:?} {other:?} {key}"
            );
        }
        assert_snapshots_restore(&folder, own, &ids[1..]);
    }
}

#[test]
fn open_with_an_expected_id_refuses_any_other_repository() {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("repo");
    let (id, _) = make(&folder, Flavor::plain(), 1);
    let open_as = |id| {
        let options = OpenOptions {
            repository_id: Some(id),
            ..OpenOptions::default()
        };
        containerarchive::repo::open(at(&folder, 3), None, &options)
    };
    open_as(id).unwrap();
    match open_as(RepoId([9; 16])) {
        Err(Error::RepositoryChanged { expected, found, .. }) => {
            assert_eq!((expected, found), (RepoId([9; 16]), Some(id)));
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
}
