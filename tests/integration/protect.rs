//! The changes of an ingest to the parity groups of earlier ingests.

use crate::support::faults::{Files, files_of, memory_of};
use crate::support::*;
use containerarchive::id::GroupId;
use containerarchive::layout;
use containerarchive::lock::try_maint;
use containerarchive::monitor::{NullMonitor, TestMonitor};
use containerarchive::ops;
use containerarchive::parity::{mark, read_record, rebuild_pack};
use containerarchive::repo::{self, InitOptions, ParityParams, Repository};
use containerarchive::storage::{ErrorKind, FaultyStorage, MemoryStorage, RecordingStorage, Storage, put_bytes};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

fn listed(storage: &dyn Storage, folder: &str, end: &str) -> BTreeSet<String> {
    let entries = storage.list(folder).unwrap().into_iter();
    entries
        .map(|entry| entry.key)
        .filter(|key| key.ends_with(end))
        .collect()
}

#[test]
fn replaced_parity_that_cannot_be_deleted_is_a_warning_and_is_deleted_later() {
    for kind in [ErrorKind::Io, ErrorKind::PermissionDenied] {
        let (repo, memory) = memory_repo(Flavor::plain());
        ingest(&repo, &random_bytes(1, 3000)).unwrap();
        drop(repo);
        let old = listed(&*memory, layout::PARITY, ".par");
        let faulty = Arc::new(FaultyStorage::new(Arc::clone(&memory)));
        faulty.fail_when(
            |op, key| op == "delete" && key.starts_with(layout::PARITY) && key.ends_with(".grp"),
            kind,
        );
        let monitor = Arc::new(TestMonitor::default());
        let mut environment = environment(faulty.clone(), 8);
        environment.monitor = Arc::clone(&monitor) as _;
        let repo = open(environment, Flavor::plain()).unwrap();
        let second = ingest(&repo, &random_bytes(2, 3000)).unwrap();
        let codes: Vec<_> = monitor.warnings().iter().map(|warning| warning.code).collect();
        assert_eq!(codes, ["WARN_PARITY_LEFTOVER"]);
        assert_eq!(listed(&*memory, layout::PARITY, ".grp").len(), 2);
        assert_eq!(
            restore(&repo, &second.id.to_hex(), None).unwrap(),
            random_bytes(2, 3000)
        );
        // the next ingest of the same handle also deletes the leftover
        faulty.heal();
        ingest(&repo, &random_bytes(3, 3000)).unwrap();
        assert_eq!(monitor.warnings().len(), 1);
        let now = listed(&*memory, layout::PARITY, ".grp");
        assert_eq!(now.len(), listed(&*memory, layout::PARITY, ".par").len());
        assert!(old.iter().all(|key| !now.contains(&key.replace(".0.par", ".grp"))));
    }
}

#[test]
fn parity_that_cannot_be_made_durable_fails_the_ingest_and_replaces_nothing() {
    let (repo, memory) = memory_repo(Flavor::plain());
    ingest(&repo, &random_bytes(1, 3000)).unwrap();
    drop(repo);
    let old = listed(&*memory, layout::PARITY, "");
    // the first barrier of an ingest is for the config, the next ones are for packs and parity
    for barrier in 0..3 {
        let recording = Arc::new(RecordingStorage::new(Arc::clone(&memory)));
        let faulty = Arc::new(FaultyStorage::new(recording.clone()));
        let repo = open(environment(faulty.clone(), 20 + barrier), Flavor::plain()).unwrap();
        let barriers = recording.clone();
        faulty.fail_when(
            move |op, _| {
                op == "barrier"
                    && barriers.calls().iter().filter(|(op, _)| *op == "barrier").count() >= barrier as usize
            },
            ErrorKind::Io,
        );
        assert!(ingest(&repo, &random_bytes(2, 3000)).is_err());
        assert!(
            old.is_subset(&listed(&*memory, layout::PARITY, "")),
            "barrier {barrier}"
        );
        assert_eq!(listed(&*memory, layout::SNAPSHOTS, "").len(), 1);
    }
}

#[test]
fn a_group_that_lacks_a_member_is_not_grown() {
    let (repo, storage) = memory_repo(Flavor::plain());
    ingest(&repo, &random_bytes(1, 3000)).unwrap();
    let old = listed(&*storage, layout::PARITY, "");
    let pack = listed(&*storage, layout::DATA, ".pack").pop_first().unwrap();
    storage.delete(&pack).unwrap();
    let second = ingest(&repo, &random_bytes(2, 3000)).unwrap();
    assert!(old.is_subset(&listed(&*storage, layout::PARITY, "")));
    let first = listed(&*storage, layout::SNAPSHOTS, "");
    assert_eq!(first.len(), 2);
    for snapshot in first {
        let id = snapshot
            .rsplit('/')
            .next()
            .unwrap()
            .strip_suffix(".json")
            .unwrap()
            .to_owned();
        let seed = if id == second.id.to_hex() { 2 } else { 1 };
        assert_eq!(restore(&repo, &id, None).unwrap(), random_bytes(seed, 3000));
    }
}

#[test]
fn marks_that_are_lost_or_wrong_cost_no_protection() {
    for case in ["right", "lost", "stale", "of all groups"] {
        let (repo, storage) = memory_repo(Flavor::plain());
        ingest(&repo, &random_bytes(1, 150_000)).unwrap();
        ingest(&repo, &random_bytes(2, 3000)).unwrap();
        let groups: Vec<GroupId> = repo.parity_groups().unwrap().live().map(|head| head.id).collect();
        match case {
            "lost" => listed(&*storage, layout::TAILS, "")
                .iter()
                .for_each(|key| storage.delete(key).unwrap()),
            "stale" => mark(&*storage, &GroupId([9; 16])).unwrap(),
            "of all groups" => groups.iter().for_each(|group| mark(&*storage, group).unwrap()),
            _ => {}
        }
        drop(repo);
        let repo = open(environment(Arc::clone(&storage), 8), Flavor::plain()).unwrap();
        for seed in 3..8 {
            ingest(&repo, &random_bytes(seed, 3000)).unwrap();
        }
        let members = assert_protected(&repo, case);
        // and the marks are right again
        let not_full = members.iter().filter(|members| **members < 4).count();
        assert!(not_full <= 2, "{case}: {members:?}");
        assert!(listed(&*storage, layout::TAILS, "").len() <= 2, "{case}");
    }
}

#[test]
fn marks_that_cannot_be_read_or_put_are_a_warning_and_cost_no_protection() {
    for (calls, kind) in [
        (&["list"][..], ErrorKind::Io),
        (&["list", "put_new", "delete"], ErrorKind::PermissionDenied),
        (&["list", "put_new"], ErrorKind::NotADirectory),
        (&["put_new"], ErrorKind::ReadOnly),
        (&["put_new"], ErrorKind::NoSpace),
        (&["delete"], ErrorKind::Io),
    ] {
        let what = format!("{calls:?} {kind:?}");
        let (repo, memory) = memory_repo(Flavor::plain());
        ingest(&repo, &random_bytes(1, 3000)).unwrap();
        drop(repo);
        let faulty = Arc::new(FaultyStorage::new(Arc::clone(&memory)));
        let fails = |op: &str, key: &str| calls.contains(&op) && key.starts_with(layout::TAILS);
        faulty.fail_when(fails, kind);
        let monitor = Arc::new(TestMonitor::default());
        let mut environment = environment(faulty.clone(), 8);
        environment.monitor = Arc::clone(&monitor) as _;
        let repo = open(environment, Flavor::plain()).unwrap();
        for seed in 2..6 {
            let warned = monitor.warnings().len();
            ingest(&repo, &random_bytes(seed, 3000)).unwrap();
            let warnings = monitor.warnings();
            // a full disk is reported by the files that must be stored
            let expected = usize::from(kind != ErrorKind::NoSpace && calls != ["delete"]);
            assert_eq!(warnings.len() - warned, expected, "{what}: {warnings:?}");
            assert!(warnings.iter().all(|warning| warning.code == "WARN_PARITY_NOT_MARKED"));
        }
        assert_protected(&repo, &what);
        faulty.heal();
        for seed in 6..9 {
            ingest(&repo, &random_bytes(seed, 3000)).unwrap();
        }
        // a prune marks what an ingest could not
        ops::prune(&repo, &ops::PruneOptions::keep_all(), &NullMonitor).unwrap();
        for seed in 9..15 {
            ingest(&repo, &random_bytes(seed, 3000)).unwrap();
        }
        let members = assert_protected(&repo, &what);
        let not_full = members.iter().filter(|members| **members < 4).count();
        assert!(not_full <= 4, "{what}: {members:?}");
    }
}

#[test]
fn a_group_is_marked_although_a_later_one_of_the_same_ingest_cannot_be_published() {
    let options = InitOptions {
        pack_size: Some(1 << 20),
        ..Flavor::plain().small()
    };
    let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    drop(repo::init(environment(Arc::clone(&memory), 7), None, &options).unwrap());
    // packs of two size classes
    let data = random_bytes(1, 900_000);
    let mut interrupted = 0;
    for call in 0.. {
        let copy = memory_of(&files_of(&*memory));
        let puts = AtomicUsize::new(0);
        let faulty = Arc::new(FaultyStorage::new(copy.clone()));
        let is_put =
            |op: &str, key: &str| op == "put_new" && key.starts_with(layout::PARITY) && !key.starts_with(layout::TAILS);
        faulty.fail_when(
            move |op, key| is_put(op, key) && puts.fetch_add(1, Ordering::SeqCst) == call,
            ErrorKind::Io,
        );
        let repo = open(environment(faulty, 8), Flavor::plain()).unwrap();
        let outcome = ingest(&repo, &data);
        let groups = repo.parity_groups().unwrap();
        for head in groups.live().filter(|head| head.members.len() < 4) {
            // one whose `.grp` could not be put was not published
            if copy.size(&layout::group(&head.id)).unwrap().is_some() {
                assert!(copy.size(&layout::tail_mark(&head.id)).unwrap().is_some(), "put {call}");
            }
        }
        if outcome.is_ok() {
            break;
        }
        interrupted += usize::from(groups.live().next().is_some());
    }
    assert!(interrupted > 0);
}

#[test]
fn parity_reads_of_an_ingest_do_not_grow_with_the_repository() {
    let (repo, memory) = memory_repo(Flavor::plain());
    drop(repo);
    let recording = Arc::new(RecordingStorage::new(memory));
    let read = |recording: &RecordingStorage| {
        let calls = recording.calls().into_iter();
        calls
            .filter(|(op, key)| op.starts_with("get") && key.starts_with(layout::PARITY))
            .count()
    };
    let repo = open(environment(recording.clone(), 9), Flavor::plain()).unwrap();
    let reads: Vec<usize> = (1..=210)
        .map(|number| {
            recording.clear();
            ingest(&repo, &random_bytes(number, 3000)).unwrap();
            read(&recording)
        })
        .collect();
    let groups = listed(&*recording, layout::PARITY, ".grp").len();
    assert!(groups > 100, "{groups}");
    assert_eq!(reads[9], reads[199], "commits number 10 and 200");
    // the front of the group that the previous ingest published; and every second time the record
    // and shard of the tail that grows
    assert_eq!(reads[1..20], reads[191..], "{reads:?}");
    assert!(reads.iter().all(|reads| *reads <= 4), "{reads:?}");
    // a new handle reads no more
    drop(repo);
    let repo = open(environment(recording.clone(), 10), Flavor::plain()).unwrap();
    recording.clear();
    ingest(&repo, &random_bytes(5000, 3000)).unwrap();
    assert_eq!(read(&recording), reads[208]);
}

/// Checks that every pack is in a group, no file is left over, and each pack alone can be lost.
/// Returns the number of packs of each group.
fn assert_protected(repo: &Repository, what: &str) -> Vec<usize> {
    let storage = repo.storage();
    let groups = repo.parity_groups().unwrap();
    assert!(groups.problems().is_empty(), "{what}: {:?}", groups.problems());
    assert!(
        groups.superseded().is_empty() && groups.incomplete().is_empty(),
        "{what}"
    );
    for key in listed(storage, layout::DATA, ".pack") {
        let pack = containerarchive::id::PackId(layout::id_of(&key, ".pack").unwrap());
        let head = groups
            .group_of(&pack)
            .unwrap_or_else(|| panic!("{what}: {pack} is in no group"));
        let bytes = storage.get(&key, u64::MAX).unwrap();
        storage.delete(&key).unwrap();
        let record = read_record(storage, &head.id).unwrap();
        let rebuilt = rebuild_pack(storage, &record, &pack);
        assert!(rebuilt.is_ok_and(|rebuilt| rebuilt == bytes), "{what}: {pack}");
        put_bytes(storage, &key, &bytes).unwrap();
    }
    groups.live().map(|head| head.members.len()).collect()
}

/// Ingests each of `sizes` on top of `files`, and then each on top of that, `depth` times.
fn ingest_patterns(files: &Files, sizes: &[usize], depth: u64, done: &str, tried: &mut usize) {
    if depth == 0 {
        return;
    }
    for (number, size) in (1..).zip(sizes) {
        let storage = memory_of(files);
        let seed = depth * 10 + number;
        let repo = open(environment(storage.clone(), 100 + seed), Flavor::plain()).unwrap();
        let data = random_bytes(seed, *size);
        let snapshot = ingest(&repo, &data).unwrap();
        let what = format!("{done} {size}");
        let members = assert_protected(&repo, &what);
        let shape = repo.parity_shape().unwrap();
        assert!(
            members.iter().all(|members| *members <= usize::from(shape.data)),
            "{what}"
        );
        assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data, "{what}");
        *tried += 1;
        ingest_patterns(&files_of(storage.as_ref()), sizes, depth - 1, &what, tried);
    }
}

#[test]
fn after_every_pattern_of_small_ingests_any_single_pack_can_be_lost() {
    for (data, parity) in [(2, 1), (3, 1), (4, 1), (3, 2)] {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let options = InitOptions {
            parity: Some(Some(ParityParams { data, parity })),
            ..Flavor::plain().small()
        };
        drop(repo::init(environment(Arc::clone(&storage), 7), None, &options).unwrap());
        // one, two and four packs, one of them with lists and copies
        let mut tried = 0;
        let done = format!("{data}+{parity}:");
        ingest_patterns(&files_of(&*storage), &[1_000, 60_000, 150_000], 4, &done, &mut tried);
        assert_eq!(tried, 3 + 9 + 27 + 81);
    }
}

#[test]
fn a_concurrent_writer_creates_its_own_parity_group_and_the_next_writer_merges_it() {
    let (repo, storage) = memory_repo(Flavor::plain());
    ingest(&repo, &random_bytes(1, 3000)).unwrap();
    assert_eq!(assert_protected(&repo, "first"), [2]);
    let other = open(environment(Arc::clone(&storage), 8), Flavor::plain()).unwrap();
    let held = try_maint(&*storage).unwrap().unwrap();
    ingest(&other, &random_bytes(2, 3000)).unwrap();
    drop(held);
    assert_eq!(assert_protected(&repo, "another at work"), [2, 2]);
    // with a handle that knows only the first group
    ingest(&repo, &random_bytes(3, 3000)).unwrap();
    let mut members = assert_protected(&repo, "merged");
    members.sort_unstable();
    assert_eq!(members, [2, 4]);
}

#[test]
fn two_writers_that_grow_the_same_groups_leave_no_pack_unprotected() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let first = init(threaded_environment(Arc::clone(&storage), 1, 2), flavor).unwrap();
        let data = |writer: u64, round: u64| random_bytes(writer * 100 + round, 2_000 + 20_000 * (round as usize % 3));
        let snapshots = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    let storage = Arc::clone(&storage);
                    scope.spawn(move || {
                        // every second round with a new handle
                        let mut repo = open(environment(Arc::clone(&storage), 50 + writer), flavor).unwrap();
                        (0..12)
                            .map(|round| {
                                if round % 2 == 1 {
                                    let seed = 1000 * (writer + 1) + round;
                                    repo = open(environment(Arc::clone(&storage), seed), flavor).unwrap();
                                }
                                (ingest(&repo, &data(writer, round)).unwrap().id.to_hex(), writer, round)
                            })
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            writers
                .into_iter()
                .flat_map(|writer| writer.join().unwrap())
                .collect::<Vec<_>>()
        });
        // the next ingest deletes what the two have left of each other's groups
        ingest(&first, &random_bytes(9, 1000)).unwrap();
        let members = assert_protected(&first, "two writers");
        let packs = listed(&*storage, layout::DATA, ".pack").len();
        assert_eq!(
            members.iter().sum::<usize>(),
            packs,
            "each pack in one group: {members:?}"
        );
        for (id, writer, round) in snapshots {
            assert!(restore(&first, &id, None).unwrap() == data(writer, round));
        }
    }
}

#[test]
fn no_snapshot_reuses_damaged_packs_of_a_failed_ingest() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        drop(init(environment(Arc::clone(&storage), 1), flavor).unwrap());
        let data = random_bytes(4, 60_000);
        // no space for parity, so nothing protects its packs
        let faulty = Arc::new(FaultyStorage::new(Arc::clone(&storage)));
        let no_parity =
            |op: &str, key: &str| op == "put_new" && key.starts_with(layout::PARITY) && !key.contains("records");
        faulty.fail_when(no_parity, ErrorKind::NoSpace);
        let full = open(environment(faulty, 2), flavor).unwrap();
        assert!(ingest(&full, &data).is_err());
        let packs = listed(&*storage, layout::DATA, ".pack");
        assert!(!packs.is_empty());
        for key in &packs {
            let mut bytes = storage.get(key, 1 << 24).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            storage.delete(key).unwrap();
            put_bytes(storage.as_ref(), key, &bytes).unwrap();
        }
        let repo = open(environment(Arc::clone(&storage), 3), flavor).unwrap();
        let snapshot = ingest(&repo, &data).unwrap();
        for repo in [repo, open(environment(Arc::clone(&storage), 4), flavor).unwrap()] {
            assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data);
        }
    }
}
