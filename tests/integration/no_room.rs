//! File systems without a free inode, and disks on which another process takes the space that a
//! prune frees.
//!
//! Disks without free bytes are in `disk_full`.

use crate::support::faults::{Files, codes, files_of, memory_of, watched};
use crate::support::*;
use containerarchive::entropy::SeededEntropy;
use containerarchive::id::{PackId, SnapshotId};
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, IngestOptions, PruneOptions, PruneReport, ReaderItems, VerifyLevel, VerifyOptions};
use containerarchive::repo::{Environment, Repository};
use containerarchive::snapshot::retention::{Keep, RetentionPolicy};
use containerarchive::snapshot::{Snapshot, SnapshotFilter};
use containerarchive::storage::simfs::SimFs;
use containerarchive::storage::{ErrorKind, FaultyStorage, LocalStorage, put_bytes};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn on(disk: &SimFs, seed: u64) -> Environment {
    let storage = LocalStorage::new(Arc::new(disk.clone()), Arc::new(SeededEntropy::new(seed)));
    environment(Arc::new(storage), seed + 1)
}

/// Ingests day `n` of a history in which every day shares data with the previous one.
fn ingest_day(repo: &Arc<Repository>, n: u64) -> containerarchive::Result<Snapshot> {
    let mut data = random_bytes(1, 30_000);
    data.extend(random_bytes(2 + n / 3, 20_000));
    data.extend(random_bytes(1000 + n, 9_000));
    let options = IngestOptions {
        created_at_ms: Some(1_700_000_000_000 + n as i64 * 86_400_000),
        ..IngestOptions::default()
    };
    let mut items = ReaderItems::one("data", "test", &data[..]);
    ops::ingest(repo, &mut items, &options, &NullMonitor)
}

fn keep_last(repo: &Arc<Repository>, count: u32) -> containerarchive::Result<PruneReport> {
    let options = PruneOptions::new(RetentionPolicy {
        keep_last: Keep::Count(count),
        ..RetentionPolicy::default()
    });
    ops::prune(repo, &options, &NullMonitor)
}

fn problems(repo: &Arc<Repository>) -> Vec<ops::Problem> {
    let options = VerifyOptions {
        level: VerifyLevel::Full,
        subset: None,
    };
    ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap().problems
}

fn listed(repo: &Arc<Repository>) -> Vec<SnapshotId> {
    let snapshots = ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap();
    snapshots.iter().map(|snapshot| snapshot.id).collect()
}

/// Returns the number of existing files of the reserve.
fn reserve(repo: &Repository) -> usize {
    let files = repo.storage().list("").unwrap();
    files.iter().filter(|file| layout::is_reserve(&file.key)).count()
}

/// The number of files in a complete reserve of this version.
const RESERVE_COUNT: usize = 1 + layout::RESERVE_FILES as usize;

/// A repository on a disk without a free inode: its ingests used them until one failed, and other
/// processes took the rest.
fn without_inodes(inodes: u64, flavor: Flavor) -> (SimFs, Arc<Repository>, Vec<SnapshotId>) {
    let disk = SimFs::new();
    disk.set_free_inodes(Some(inodes));
    let repo = init(on(&disk, 1), flavor).unwrap();
    assert_eq!(reserve(&repo), RESERVE_COUNT);
    let mut days = Vec::new();
    loop {
        match ingest_day(&repo, days.len() as u64) {
            Ok(snapshot) => days.push(snapshot.id),
            Err(error) => {
                assert_eq!(error.code(), "ERR_NO_SPACE");
                break;
            }
        }
        assert!(days.len() < 100, "the disk is never full");
    }
    disk.set_free_inodes(Some(0));
    (disk, repo, days)
}

#[test]
fn a_prune_without_free_inodes_frees_some_at_the_first_attempt() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        for inodes in 60..68 {
            // a repository of an earlier version has one file in the reserve
            for is_old in [false, true] {
                let what = format!("{inodes} inodes, {flavor:?}, old: {is_old}");
                let (disk, repo, days) = without_inodes(inodes, flavor);
                if is_old {
                    for number in 1..=layout::RESERVE_FILES {
                        repo.storage().delete(&layout::reserve_file(number)).unwrap();
                    }
                    disk.set_free_inodes(Some(0));
                }
                drop(repo);
                let repo = open(on(&disk, 10), flavor).unwrap();
                let report = keep_last(&repo, 1).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(report.removed.len(), days.len() - 1, "{what}");
                assert!(report.removed_packs > 0, "{what}: {report:?}");
                assert_eq!(listed(&repo), days[days.len() - 1..], "{what}");
                assert_eq!(problems(&repo), [], "{what}");
                assert_eq!(reserve(&repo), RESERVE_COUNT, "{what}: the reserve was not recreated");
                let next = ingest_day(&repo, 50).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(!restore(&repo, &next.id.to_hex(), None).unwrap().is_empty());
            }
        }
    }
}

#[test]
fn a_forget_without_free_inodes_or_space_uses_the_reserve() {
    for bytes in [None, Some(0)] {
        let (disk, repo, days) = without_inodes(70, Flavor::plain());
        disk.set_free_bytes(bytes);
        let (newest, others) = days.split_last().unwrap();
        assert_eq!(ops::forget(&repo, others).unwrap(), others);
        assert_eq!(listed(&repo), [*newest]);
        assert!(reserve(&repo) > 0, "freed inodes are reserved again");
        let swept = ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).unwrap();
        assert!(swept.removed_packs > 0, "{swept:?}");
        assert_eq!(problems(&repo), []);
    }
}

#[test]
fn an_unlock_without_free_inodes_removes_more_leases_than_the_reserve_has_files() {
    for force in [false, true] {
        let disk = SimFs::new();
        let repo = init(on(&disk, 1), Flavor::plain()).unwrap();
        let sessions: Vec<SnapshotId> = (1..=12).map(|n| SnapshotId([n; 16])).collect();
        for session in &sessions {
            put_bytes(repo.storage(), &layout::lease(session), b"of a session that was killed").unwrap();
        }
        disk.set_free_inodes(Some(0));
        if force {
            // all records are written before the first lease is deleted, under one commit lock
            disk.set_free_inodes(Some(5));
        }
        assert_eq!(ops::unlock(&repo, force).unwrap(), sessions, "force: {force}");
        assert_eq!(ops::locks(&repo).unwrap(), []);
    }
}

#[test]
fn a_repair_without_free_inodes_uses_the_reserve() {
    let (disk, repo, days) = without_inodes(70, Flavor::plain());
    let lost = repo.storage().list(layout::SNAPSHOTS).unwrap().remove(0).key;
    drop(repo);
    disk.damage(&lost, None).unwrap();
    disk.set_free_inodes(Some(0));
    let repo = open(on(&disk, 10), Flavor::plain()).unwrap();
    let report = ops::repair(&repo, &NullMonitor).unwrap();
    assert_eq!(report.manifests_restored, 1, "{report:?}");
    assert_eq!(listed(&repo).len(), days.len());
}

#[test]
fn a_reindex_without_free_inodes_gives_up_its_lease_and_uses_the_reserve() {
    // if one inode is free, the lease takes it
    for free in [0, 1] {
        let (disk, repo, days) = without_inodes(70, Flavor::plain());
        disk.set_free_inodes(Some(free));
        ops::reindex(&repo, &NullMonitor).unwrap_or_else(|error| panic!("{free}: {error}"));
        assert_eq!(problems(&repo), []);
        assert_eq!(listed(&repo).len(), days.len());
    }
}

/// A repository whose prune replaces parity groups that lose some of their packs.
fn history() -> Files {
    let (repo, storage) = memory_repo(Flavor::plain());
    for n in 0..6 {
        let mut data = random_bytes(1, 100_000);
        for part in 0..5 {
            let at = part * 20_000 + 2_000 * n as usize;
            data.splice(at..at + 2_000, random_bytes(100 * (n + 1) + part as u64, 2_000));
        }
        data.extend(random_bytes(10_000 + n, 30_000));
        let options = IngestOptions {
            created_at_ms: Some(1_700_000_000_000 + n as i64 * 86_400_000),
            ..IngestOptions::default()
        };
        ops::ingest(
            &repo,
            &mut ReaderItems::one("data", "test", &data[..]),
            &options,
            &NullMonitor,
        )
        .unwrap();
    }
    drop(repo);
    files_of(storage.as_ref())
}

#[test]
fn a_successful_prune_has_protected_what_it_keeps_or_names_what_is_unprotected() {
    let files = history();
    let (mut met, mut named, mut protected) = (0, 0, 0);
    for max_unused in [0.0, 1.0] {
        for (first, fails) in (0..10).flat_map(|first| [1, 2, 3, usize::MAX].map(|fails| (first, fails))) {
            let what = format!("from parity file {first}, {fails} times, maxUnused {max_unused}");
            let faulty = Arc::new(FaultyStorage::new(memory_of(&files)));
            let (environment, monitor) = watched(faulty.clone(), 50);
            let repo = open(environment, Flavor::plain()).unwrap();
            let puts = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&puts);
            let takes_space = move |op: &'static str, key: &str| {
                let is_parity = key.ends_with(".par") || key.ends_with(".grp");
                op == "put_new" && is_parity && {
                    let number = count.fetch_add(1, Ordering::SeqCst);
                    number >= first && number - first < fails
                }
            };
            faulty.fail_when(takes_space, ErrorKind::NoSpace);
            let mut options = PruneOptions::new(RetentionPolicy {
                keep_last: Keep::Count(1),
                ..RetentionPolicy::default()
            });
            options.max_unused = max_unused;
            let warnings = || {
                codes(&monitor)
                    .iter()
                    .filter(|code| **code == "WARN_PACKS_UNPROTECTED")
                    .count()
            };
            // the second prune finds what a first one has left that failed
            for _ in 0..2 {
                let before = warnings();
                let outcome = ops::prune(&repo, &options, &NullMonitor);
                // a shard without its `.grp` protects, but verify reports the incomplete group
                let mut incomplete = false;
                let bare: BTreeSet<PackId> = problems(&repo)
                    .into_iter()
                    .inspect(|problem| {
                        let codes = ["ERR_PACK_UNPROTECTED", "ERR_PARITY_CORRUPT"];
                        assert!(codes.contains(&problem.code), "{what}: {problem:?}");
                        incomplete |= problem.code == codes[1];
                    })
                    .filter_map(|problem| problem.pack)
                    .collect();
                match outcome {
                    Ok(report) => {
                        let reported: BTreeSet<PackId> = report.unprotected.iter().copied().collect();
                        assert!(
                            bare.is_subset(&reported),
                            "{what}: {bare:?} have no parity, but the report names {reported:?}"
                        );
                        assert!(
                            !incomplete || !reported.is_empty(),
                            "{what}: a group is incomplete, but no pack is named"
                        );
                        let warned = warnings() > before;
                        assert_eq!(warned, !reported.is_empty(), "{what}");
                        assert_eq!(
                            report.warnings.iter().any(|text| text.contains("no complete parity")),
                            warned,
                            "{what}"
                        );
                        named += usize::from(warned);
                        protected += usize::from(!warned && puts.load(Ordering::SeqCst) > first + 1);
                    }
                    Err(error) => assert_eq!(error.code(), "ERR_NO_SPACE", "{what}"),
                }
            }
            met += usize::from(puts.load(Ordering::SeqCst) > first);
            faulty.heal();
            let after = ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).unwrap();
            assert_eq!(after.unprotected, [], "{what}");
            assert_eq!(problems(&repo), [], "{what}: after another prune");
        }
    }
    assert!(
        met > 20 && named > 0 && protected > 0,
        "{met} ran out of space, {named} named packs, {protected} protected them"
    );
}
