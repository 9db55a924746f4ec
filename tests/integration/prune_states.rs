//! Prune with damaged packs and with dead or running sessions: it deletes no last intact copy, and
//! dry runs report what a prune does.

use crate::support::faults::{
    Files, HookedMonitor, HookedSource, HookedStorage, code, codes, files_of, memory_of, watched, with,
};
use crate::support::*;
use containerarchive::id::{PackId, SnapshotId};
use containerarchive::layout;
use containerarchive::lock::{KillList, KillListId, Lease, lease};
use containerarchive::monitor::{Monitor, NullMonitor};
use containerarchive::ops::{self, IngestOptions, PruneOptions, PruneReport, ReaderItems};
use containerarchive::pack::PackHeader;
use containerarchive::repo::{InitOptions, ParityParams, Repository};
use containerarchive::snapshot::Snapshot;
use containerarchive::snapshot::retention::{Keep, RetentionPolicy};
use containerarchive::storage::{ErrorKind, FaultyStorage, MemoryStorage, Storage, put_bytes};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const HOUR_MS: i64 = 3_600_000;
const LONG_AGO: &str = "2026-01-01T00:00:00.000Z";

fn ingest_at(repo: &Arc<Repository>, source: impl std::io::Read + Send, hour: i64) -> Snapshot {
    let mut items = ReaderItems::one("data", "test", source);
    let options = IngestOptions {
        created_at_ms: Some(1_700_000_000_000 + hour * HOUR_MS),
        ..IngestOptions::default()
    };
    ops::ingest(repo, &mut items, &options, &NullMonitor).unwrap()
}

fn prune(repo: &Arc<Repository>, options: &PruneOptions) -> PruneReport {
    ops::prune(repo, options, &NullMonitor).unwrap()
}

fn dry(options: &PruneOptions) -> PruneOptions {
    PruneOptions {
        dry_run: true,
        ..options.clone()
    }
}

/// A repository without parity, where each copy counts: two concurrent sessions store `shared`,
/// each followed by data of its own.
fn stored_twice(shared: &[u8], own: [&[u8]; 2]) -> (Arc<MemoryStorage>, [SnapshotId; 2]) {
    let storage = Arc::new(MemoryStorage::new());
    let options = InitOptions {
        parity: Some(None),
        ..Flavor::plain().small()
    };
    let repo = Arc::new(containerarchive::repo::init(environment(storage.clone(), 1), None, &options).unwrap());
    let other = open(environment(storage.clone(), 7), Flavor::plain()).unwrap();
    let [one, two] = own.map(|own| [shared, own].concat());
    let second = Mutex::new(None);
    let source = HookedSource {
        data: &one,
        at: 0,
        hook: Some(|| *second.lock().unwrap() = Some(ingest_at(&other, &two[..], 1))),
        given: 0,
    };
    let first = ingest_at(&repo, source, 0);
    let second = second.into_inner().unwrap().unwrap();
    assert!(first.reused_chunks == 0 && second.reused_chunks == 0);
    (storage, [first.id, second.id])
}

/// Returns the packs with at least `len` bytes.
fn long_packs(files: &Files, len: usize) -> Vec<String> {
    let packs = files.iter().filter(|(key, _)| key.ends_with(".pack"));
    let long = packs.filter(|(_, bytes)| bytes.len() >= len);
    long.map(|(key, _)| key.clone()).collect()
}

#[test]
fn a_prune_that_finds_a_damaged_copy_keeps_the_other_one() {
    let shared = random_bytes(1, 30_000);
    let (storage, _) = stored_twice(&shared, [&random_bytes(2, 3_000), &random_bytes(3, 14_000)]);
    let repo = open(environment(storage.clone(), 8), Flavor::plain()).unwrap();
    // and data that is copied without an error, in a separate pack
    let more = random_bytes(4, 9_000);
    ingest_at(&repo, &[&more[..], &random_bytes(5, 9_000)].concat()[..], 4);
    let wanted = [&shared[..], &more].concat();
    let kept = ingest_at(&repo, &wanted[..], 5);
    let files = files_of(storage.as_ref());
    let packs = long_packs(&files, 30_000);
    assert_eq!(packs.len(), 2);
    let remove_all_waste = PruneOptions {
        max_unused: 0.0,
        ..PruneOptions::new(RetentionPolicy {
            keep_last: Keep::Count(1),
            ..RetentionPolicy::default()
        })
    };
    let mut warned = 0;
    for key in &packs {
        for (at, is_full) in [
            (100, false),
            (5_000, false),
            (15_000, false),
            (100, true),
            (15_000, true),
        ] {
            let mut bytes = files[key].clone();
            bytes[at] ^= 1;
            let storage = Arc::new(FaultyStorage::new(memory_of(&with(&files, key, Some(bytes)))));
            if is_full {
                // for the packs that the prune would write
                let copies = |op: &str, key: &str| op == "put_new" && key.starts_with(layout::DATA);
                storage.fail_when(copies, ErrorKind::NoSpace);
            }
            let (environment, monitor) = watched(storage.clone(), 9);
            let repo = open(environment, Flavor::plain()).unwrap();
            prune(&repo, &remove_all_waste);
            storage.heal();
            warned += usize::from(codes(&monitor).contains(&"WARN_PACK_NOT_REWRITTEN"));
            assert!(
                restore(&repo, &kept.id.to_hex(), None).unwrap() == wanted,
                "{key} {at} {is_full}"
            );
            assert_eq!(ops::repair(&repo, &NullMonitor).unwrap().lost_chunks, 0);
            assert!(
                restore(&repo, &kept.id.to_hex(), None).unwrap() == wanted,
                "{key} {at} {is_full}"
            );
        }
    }
    assert!(warned > 0);
}

/// An ingest that begins at any moment of a prune reuses the intact copy; the other one is
/// truncated.
#[test]
fn a_truncated_copy_does_not_replace_an_intact_one() {
    let shared = random_bytes(1, 30_000);
    let (storage, both) = stored_twice(&shared, [&[], &[]]);
    let repo = open(environment(storage.clone(), 8), Flavor::plain()).unwrap();
    ingest_at(&repo, &b"something else"[..], 5);
    ops::forget(&repo, &both).unwrap();
    let files = files_of(storage.as_ref());
    let mut reused = 0;
    for key in long_packs(&files, 25_000) {
        for moment in 1.. {
            let cut = files[&key][..10_000].to_vec();
            let storage = memory_of(&with(&files, &key, Some(cut)));
            let repo = open(environment(storage.clone(), 20), Flavor::plain()).unwrap();
            let other = open(environment(storage.clone(), 30), Flavor::plain()).unwrap();
            let snapshot = Arc::new(Mutex::new(None));
            let (put, data) = (Arc::clone(&snapshot), shared.clone());
            let ingests = HookedMonitor::new(moment, move || {
                *put.lock().unwrap() = Some(ingest_at(&other, &data[..], 9));
            });
            ops::prune(&repo, &PruneOptions::keep_all(), &ingests).unwrap();
            let Some(snapshot) = snapshot.lock().unwrap().take() else {
                break;
            };
            reused += snapshot.reused_chunks;
            let got = restore(&repo, &snapshot.id.to_hex(), None);
            assert!(got.unwrap() == shared, "{key}, moment {moment}");
        }
    }
    assert!(reused > 0);
}

/// Checks that a dry run and the prune report the same. Returns the report.
fn planned_and_done(storage: &Arc<MemoryStorage>) -> PruneReport {
    let repo = open(environment(storage.clone(), 40), Flavor::plain()).unwrap();
    let everything = PruneOptions::keep_all();
    let planned = prune(&repo, &dry(&everything));
    let done = prune(&repo, &everything);
    let mut as_planned = done.clone();
    as_planned.dry_run = true;
    assert_eq!(planned, as_planned);
    done
}

fn new_repo() -> (Arc<MemoryStorage>, Arc<Repository>) {
    let storage = Arc::new(MemoryStorage::new());
    let repo = init(environment(storage.clone(), 1), Flavor::plain()).unwrap();
    (storage, repo)
}

#[test]
fn a_plan_treats_a_dead_session_as_abandoned() {
    let (storage, repo) = new_repo();
    ingest_at(&repo, &random_bytes(1, 100_000)[..], 0);
    let killed = ingest_at(&repo, &random_bytes(2, 100_000)[..], 1);
    // as a process leaves it that is killed right before it writes its manifest
    storage.delete(&layout::snapshot(&killed.id)).unwrap();
    let lease = Lease::take(storage.as_ref(), killed.id, lease::INGEST, LONG_AGO.to_owned()).unwrap();
    lease.leave();
    let done = planned_and_done(&storage);
    assert!(done.freed_bytes > 100_000 && done.warnings.is_empty(), "{done:?}");
}

#[test]
fn leftovers_of_an_interrupted_prune_are_planned_and_counted() {
    let (storage, repo) = new_repo();
    let forgotten = ingest_at(&repo, &random_bytes(1, 600_000)[..], 0);
    let packs: BTreeSet<PackId> = repo.index().packs().unwrap().into_keys().collect();
    let one = random_bytes(2, 400_000);
    let mut two = one.clone();
    for number in 0..4 {
        let at = 30_000 + number * 100_000;
        two[at..at + 5_000].copy_from_slice(&random_bytes(50 + number as u64, 5_000));
    }
    let old = ingest_at(&repo, &one[..], 1);
    ingest_at(&repo, &two[..], 2);
    ops::forget(&repo, &[forgotten.id, old.id]).unwrap();
    let list = KillList {
        id: KillListId([1; 16]),
        repo: repo.config().id,
        hint: false,
        packs: packs.iter().copied().collect(),
        sessions: vec![],
    };
    put_bytes(
        storage.as_ref(),
        &list.id.key(),
        &list.encode(repo.seal().as_ref()).unwrap(),
    )
    .unwrap();
    let done = planned_and_done(&storage);
    assert!(done.freed_bytes > 600_000 && done.rewritten_packs > 0, "{done:?}");
}

#[test]
fn a_plan_during_a_prune_counts_what_that_prune_does_not_delay() {
    let (storage, repo) = new_repo();
    let forgotten = ingest_at(&repo, &random_bytes(1, 600_000)[..], 0);
    ingest_at(&repo, &random_bytes(2, 6_000)[..], 0);
    ops::forget(&repo, &[forgotten.id]).unwrap();
    let lease = Lease::take(storage.as_ref(), SnapshotId([9; 16]), lease::PRUNE, LONG_AGO.to_owned());
    let done = planned_and_done(&storage);
    assert!(done.freed_bytes > 600_000 && done.pending_bytes == 0, "{done:?}");
    lease.unwrap().leave();
    repo.remove_stale_leases().unwrap();
    let record = layout::forgot_record(&SnapshotId([9; 16]));
    assert_eq!(storage.size(&record).unwrap(), None);
}

/// Cancels the operation after it has checked for cancellation many times.
struct Impatient(AtomicUsize);

impl Monitor for Impatient {
    fn is_cancelled(&self) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed) > 500
    }
}

/// The session that blocks the prune ends just when another one begins.
#[test]
fn a_prune_waits_only_for_sessions_that_block_it() {
    let (storage, repo) = new_repo();
    // snapshots of two services, one of them dated in the future
    for (number, service) in ["db", "web", "db", "web", "db"].into_iter().enumerate() {
        let mut items = ReaderItems::one(
            "data",
            "test",
            std::io::Cursor::new(random_bytes(number as u64, 400_000)),
        );
        let options = IngestOptions {
            tags: [("service".to_owned(), service.to_owned())].into(),
            created_at_ms: Some([0, 0, 1_000_000_000_000, 1_000_000_000_000, 4_000_000_000_000][number]),
            ..IngestOptions::default()
        };
        ops::ingest(&repo, &mut items, &options, &NullMonitor).unwrap();
    }
    let begins = |storage: &MemoryStorage, number| {
        Lease::take(storage, SnapshotId([number; 16]), lease::INGEST, LONG_AGO.to_owned()).unwrap()
    };
    let at_work = Arc::new(Mutex::new(Some(begins(&storage, 7))));
    let hinted = AtomicBool::new(false);
    let (inner, swapped) = (storage.clone(), Arc::clone(&at_work));
    let hooked = HookedStorage::new(storage.clone(), move |op, key| {
        hinted.fetch_or(op == "put_new" && key.starts_with(layout::MARKS), Ordering::SeqCst);
        if op == "list" && key == layout::LOCKS && hinted.swap(false, Ordering::SeqCst) {
            *swapped.lock().unwrap() = Some(begins(&inner, 8));
        }
    });
    let repo = open(environment(Arc::new(hooked), 3), Flavor::plain()).unwrap();
    let waits = PruneOptions {
        wait: true,
        ..PruneOptions::new(RetentionPolicy {
            keep_last: Keep::Count(1),
            group_by: vec!["service".to_owned()],
            ..RetentionPolicy::default()
        })
    };
    let done = ops::prune(&repo, &waits, &Impatient(AtomicUsize::new(0))).unwrap();
    assert!(done.freed_bytes > 600_000 && done.pending_bytes == 0, "{done:?}");
    // each warning is reported once, and none comes from the sweep only
    assert!(
        done.warnings.len() == 1 && done.warnings[0].contains("future"),
        "{:?}",
        done.warnings
    );
    assert_eq!((done.removed.len(), done.kept.len()), (2, 3));
    assert_eq!(at_work.lock().unwrap().as_ref().unwrap().session(), SnapshotId([8; 16]));
}

/// Three days whose packs are in one parity group: the snapshots, and the packs with the data of
/// each day.
fn three_days_in_one_group() -> (Arc<MemoryStorage>, [(SnapshotId, Vec<String>); 3]) {
    let storage = Arc::new(MemoryStorage::new());
    let options = InitOptions {
        parity: Some(Some(ParityParams { data: 20, parity: 1 })),
        ..Flavor::plain().small()
    };
    let repo = containerarchive::repo::init(environment(storage.clone(), 1), None, &options);
    let repo = Arc::new(repo.unwrap());
    let mut seen = BTreeSet::new();
    let days = [1, 2, 3].map(|day| {
        let id = ingest_at(&repo, &random_bytes(day, 20_000)[..], day as i64).id;
        let mut packs = long_packs(&files_of(storage.as_ref()), 15_000);
        packs.retain(|key| seen.insert(key.clone()));
        (id, packs)
    });
    (storage, days)
}

/// The same, with the first two days forgotten.
fn two_forgotten_days_in_one_group() -> (Arc<MemoryStorage>, SnapshotId, [Vec<String>; 3]) {
    let (storage, [first, second, (kept, last)]) = three_days_in_one_group();
    let repo = open(environment(storage.clone(), 3), Flavor::plain()).unwrap();
    ops::forget(&repo, &[first.0, second.0]).unwrap();
    (storage, kept, [first.1, second.1, last])
}

/// The lost pack contains only the copy of a manifest, which no operation needs while the manifest
/// exists.
#[test]
fn a_lost_pack_that_parity_can_rebuild_survives_prunes_before_its_repair() {
    let (storage, [first, second, (kept, data)]) = three_days_in_one_group();
    let repo = open(environment(storage.clone(), 3), Flavor::plain()).unwrap();
    let files = files_of(storage.as_ref());
    let is_meta = |key: &&String| {
        let header = files[*key].first_chunk().map(PackHeader::decode);
        key.ends_with(".pack") && !data.contains(key) && matches!(header, Some(Ok(header)) if header.session == kept)
    };
    let lost: Vec<&String> = files.keys().filter(is_meta).collect();
    let [lost] = lost[..] else { panic!("{lost:?}") };
    storage.delete(lost).unwrap();
    storage.delete(&lost.replace(".pack", ".idx")).unwrap();
    for day in [first.0, second.0] {
        ops::forget(&repo, &[day]).unwrap();
        assert!(prune(&repo, &PruneOptions::keep_all()).removed_packs > 0);
    }
    assert_eq!(ops::repair(&repo, &NullMonitor).unwrap().packs_repaired, 1);
    assert!(files_of(storage.as_ref())[lost] == files[lost]);
}

#[test]
fn a_prune_without_free_descriptors_removes_no_protection() {
    let (storage, kept, [_, _, packs]) = two_forgotten_days_in_one_group();

    // most packs of the group are deleted, so the prune writes new parity for those that stay
    let faulty = Arc::new(FaultyStorage::new(storage.clone()));
    let hurt = open(environment(faulty.clone(), 5), Flavor::plain()).unwrap();
    let new = packs.clone();
    let unreadable = move |op: &str, key: &str| op.starts_with("get") && new.iter().any(|pack| pack == key);
    faulty.fail_when(unreadable, ErrorKind::Unavailable);
    let failed = ops::prune(&hurt, &PruneOptions::keep_all(), &NullMonitor);
    assert_eq!(code(failed), "ERR_UNREADABLE");
    #[cfg(unix)]
    {
        let too_many = std::io::Error::from(rustix::io::Errno::MFILE);
        assert_eq!(
            containerarchive::storage::Error::from_io("open", "x", too_many).kind,
            ErrorKind::Unavailable
        );
    }

    let whole = files_of(storage.as_ref());
    for finish in [false, true] {
        let storage = memory_of(&whole);
        let repo = open(environment(storage.clone(), 6), Flavor::plain()).unwrap();
        if finish {
            assert!(prune(&repo, &PruneOptions::keep_all()).removed_packs > 0);
        }
        for pack in &packs {
            storage.delete(pack).unwrap();
            assert_eq!(ops::repair(&repo, &NullMonitor).unwrap().packs_repaired, 1);
        }
        let restored = restore(&repo, &kept.to_hex(), None).unwrap();
        assert!(!packs.is_empty() && restored == random_bytes(3, 20_000));
    }
}

/// A group with damage in two packs, at different positions, can rebuild both, and neither may
/// leave it before.
#[test]
fn a_pack_that_its_damaged_group_cannot_release_stays_and_is_not_counted() {
    let (storage, kept, days) = two_forgotten_days_in_one_group();
    let whole = files_of(storage.as_ref());
    let all = prune(
        &open(environment(memory_of(&whole), 6), Flavor::plain()).unwrap(),
        &PruneOptions::keep_all(),
    );

    let damaged = |files: Files, key: &str, at: usize| {
        let mut bytes = files[key].clone();
        bytes[at] ^= 1;
        with(&files, key, Some(bytes))
    };
    let files = damaged(whole, &days[0][0], 100);
    let files = damaged(files, &days[2][0], 10_000);
    let storage = memory_of(&files);
    let (environment, monitor) = watched(storage.clone(), 6);
    let repo = open(environment, Flavor::plain()).unwrap();
    let first = prune(&repo, &PruneOptions::keep_all());
    assert_eq!(codes(&monitor), ["WARN_PACKS_NOT_DELETED"]);
    assert!(files_of(storage.as_ref()).contains_key(&days[0][0]));

    assert!(ops::repair(&repo, &NullMonitor).unwrap().packs_repaired > 0);
    let restored = restore(&repo, &kept.to_hex(), None).unwrap();
    assert!(restored == random_bytes(3, 20_000));
    let second = prune(&repo, &PruneOptions::keep_all());
    assert!(second.removed_packs > 0);
    assert_eq!(first.removed_packs + second.removed_packs, all.removed_packs);
    assert_eq!(first.freed_bytes + second.freed_bytes, all.freed_bytes);
    assert!(!files_of(storage.as_ref()).contains_key(&days[0][0]));
}

#[test]
fn packs_that_a_full_disk_deletes_late_are_counted_once() {
    let (storage, kept, _) = two_forgotten_days_in_one_group();
    let whole = files_of(storage.as_ref());
    let all = planned_and_done(&memory_of(&whole));
    for failures in 1..=2 {
        let storage = memory_of(&whole);
        let faulty = Arc::new(FaultyStorage::new(storage.clone()));
        let left = AtomicUsize::new(failures);
        let condemned = storage.clone();
        // writing parity for the remaining packs fails: before the old parity is deleted, and in
        // the second case also after it
        let full = move |op: &str, key: &str| {
            let is_parity = op == "put_new" && key.starts_with(layout::PARITY);
            let takes = |left: usize| left.checked_sub(1);
            is_parity
                && !condemned.list(layout::MARKS).unwrap().is_empty()
                && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, takes).is_ok()
        };
        faulty.fail_when(full, ErrorKind::NoSpace);
        let repo = open(environment(faulty.clone(), 6), Flavor::plain()).unwrap();
        let done = prune(&repo, &PruneOptions::keep_all());
        assert_eq!(
            (done.removed_packs, done.freed_bytes),
            (all.removed_packs, all.freed_bytes)
        );
        assert_eq!(done.removed_packs, missing_packs(&whole, &storage), "{failures}");
        assert!(restore(&repo, &kept.to_hex(), None).unwrap() == random_bytes(3, 20_000));
    }
}

/// Returns the number of deleted packs.
fn missing_packs(before: &Files, storage: &Arc<MemoryStorage>) -> u64 {
    let now = files_of(storage.as_ref());
    let missing = before
        .keys()
        .filter(|key| key.ends_with(".pack") && !now.contains_key(*key));
    missing.count() as u64
}

/// Some systems do not let even the owning process read a locked file.
#[test]
fn a_prune_whose_own_lease_cannot_be_read_does_not_wait_for_itself() {
    let (storage, _, _) = two_forgotten_days_in_one_group();
    let all = planned_and_done(&memory_of(&files_of(storage.as_ref())));
    let faulty = Arc::new(FaultyStorage::new(storage));
    let repo = open(environment(faulty.clone(), 6), Flavor::plain()).unwrap();
    let locked = |op: &str, key: &str| op == "get" && key.starts_with(layout::LOCKS);
    faulty.fail_when(locked, ErrorKind::PermissionDenied);
    let waits = PruneOptions {
        wait: true,
        ..PruneOptions::keep_all()
    };
    let done = ops::prune(&repo, &waits, &Impatient(AtomicUsize::new(0))).unwrap();
    assert_eq!((done.freed_bytes, done.pending_bytes), (all.freed_bytes, 0));
}
