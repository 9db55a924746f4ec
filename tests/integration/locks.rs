//! Leases, the commit lock and kill lists during an ingest.
//!
//! A snapshot is published completely or not at all, whatever a concurrent prune does. Most of
//! these tests run no prune: they take its lock and publish its kill lists at the critical moments.

use crate::support::faults::*;
use crate::support::*;
use containerarchive::id::{PackId, SnapshotId};
use containerarchive::lock::{self, KillList, KillListId, lease};
use containerarchive::monitor::{Monitor, NullMonitor, Progress};
use containerarchive::ops::{self, IngestOptions, PruneOptions, ReaderItems, VerifyLevel, VerifyOptions};
use containerarchive::repo::{self, OpenOptions, Repository};
use containerarchive::snapshot::{Snapshot, SnapshotFilter};
use containerarchive::storage::{ErrorKind, FaultyStorage, MemoryStorage, Storage, put_bytes};
use containerarchive::{Error, Result, layout};
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn ingest_from(repo: &Arc<Repository>, source: impl Read + Send) -> Result<Snapshot> {
    let mut items = ReaderItems::one("data", "test", source);
    ops::ingest(repo, &mut items, &IngestOptions::default(), &NullMonitor)
}

fn hooked<F: FnMut()>(data: &[u8], at: usize, hook: F) -> HookedSource<'_, F> {
    HookedSource {
        data,
        at,
        hook: Some(hook),
        given: 0,
    }
}

/// Returns all packs, of data and of list nodes.
fn packs(storage: &dyn Storage) -> Vec<PackId> {
    let files = storage.list(layout::DATA).unwrap();
    files
        .iter()
        .filter_map(|file| layout::id_of(&file.key, ".pack").map(PackId))
        .collect()
}

fn condemn(storage: &dyn Storage, repo: &Repository, number: u8, packs: Vec<PackId>, hint: bool) -> KillList {
    let list = KillList {
        id: KillListId([number; 16]),
        repo: repo.config().id,
        hint,
        packs,
        sessions: Vec::new(),
    };
    put_bytes(storage, &list.id.key(), &list.encode(repo.seal().as_ref()).unwrap()).unwrap();
    list
}

fn patient(storage: Arc<dyn Storage>, flavor: Flavor, lock_wait: Duration) -> Arc<Repository> {
    let options = OpenOptions {
        lock_wait,
        ..OpenOptions::default()
    };
    Arc::new(repo::open(environment(storage, 4), flavor.secret().as_ref(), &options).unwrap())
}

fn listed(repo: &Arc<Repository>) -> usize {
    ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap().len()
}

/// Checks that every listed snapshot restores.
fn all_listed_restore(storage: Arc<dyn Storage>, flavor: Flavor) {
    let repo = open(environment(storage, 77), flavor).unwrap();
    for snapshot in ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap() {
        let bytes = restore(&repo, &snapshot.id.to_hex(), None).unwrap();
        assert_eq!(bytes.len() as u64, snapshot.original_size);
    }
}

#[test]
fn a_lease_is_held_while_an_ingest_runs_and_deleted_after_it() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (repo, storage) = memory_repo(flavor);
        let data = random_bytes(1, 100_000);
        let seen = Mutex::new(Vec::new());
        let list = || *seen.lock().unwrap() = lease::list(storage.as_ref()).unwrap();
        let snapshot = ingest_from(&repo, hooked(&data, 50_000, list)).unwrap();
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen.len(), 1);
        assert_eq!(
            (seen[0].session, seen[0].held, seen[0].operation.as_deref()),
            (snapshot.id, true, Some("ingest"))
        );
        assert_eq!(lease::list(storage.as_ref()).unwrap(), []);
        // also after an ingest that failed
        let fails = std::io::Error::other("no more");
        let mut fails = Some(fails);
        struct Ends<F>(F);
        impl<F: FnMut() -> std::io::Result<usize>> Read for Ends<F> {
            fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
                (self.0)()
            }
        }
        ingest_from(&repo, Ends(|| fails.take().map_or(Ok(0), Err))).unwrap_err();
        assert_eq!(lease::list(storage.as_ref()).unwrap(), []);
    }
}

#[test]
fn a_lease_removed_by_force_ends_its_ingest_and_damages_no_snapshot() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (repo, storage) = memory_repo(flavor);
        let data = random_bytes(1, 100_000);
        let remove = || {
            let leases = lease::list(storage.as_ref()).unwrap();
            lease::remove_all(storage.as_ref(), &leases).unwrap();
        };
        let error = ingest_from(&repo, hooked(&data, 50_000, remove)).unwrap_err();
        assert!(matches!(error, Error::LeaseRemoved) && error.retryable(), "{error}");
        assert_eq!(error.code(), "ERR_CONFLICT");
        let snapshot = ingest(&repo, &data).unwrap();
        assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data);
    }
}

/// In the middle of the stream, right before the copies of the manifest are written, and right
/// before the manifest is.
#[test]
fn an_ingest_unlocked_by_force_leaves_no_snapshot_and_nothing_reported_lost() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        for at in 0..3 {
            let (first, storage) = memory_repo(flavor);
            let data = random_bytes(1, 100_000);
            let unlock = {
                let first = Arc::clone(&first);
                move || assert_eq!(ops::unlock(&first, true).unwrap().len(), 1)
            };
            let late = unlock.clone();
            let (in_stream, commits) = (at == 0, AtomicUsize::new(0));
            let hooked_storage = HookedStorage::new(storage.clone(), move |op, key| {
                if op == "lock" && key == layout::COMMIT_LOCK && commits.fetch_add(1, Ordering::Relaxed) + 1 == at {
                    late();
                }
            });
            let repo = open(environment(Arc::new(hooked_storage), 5), flavor).unwrap();
            let early = || {
                if in_stream {
                    unlock()
                }
            };
            let error = ingest_from(&repo, hooked(&data, 50_000, early)).unwrap_err();
            assert!(matches!(error, Error::LeaseRemoved), "{at}: {error}");
            assert_eq!(lease::list(storage.as_ref()).unwrap(), []);
            assert_eq!(storage.list(layout::RECORDS).unwrap().len(), 1);

            let fresh = open(environment(storage.clone(), 6), flavor).unwrap();
            let options = VerifyOptions {
                level: VerifyLevel::Full,
                subset: None,
            };
            let report = ops::verify(&fresh, &options, &NullMonitor, &mut |_| {}).unwrap();
            assert!(report.ok(), "{at}: {:?}", report.problems);
            assert_eq!(ops::repair(&fresh, &NullMonitor).unwrap().manifests_restored, 0);
            let again = ingest(&fresh, &data).unwrap();
            assert!(restore(&fresh, &again.id.to_hex(), None).unwrap() == data);
            ops::prune(&fresh, &PruneOptions::keep_all(), &NullMonitor).unwrap();
            // the record stays as long as a pack with the copy exists
            assert!(at == 2 || storage.list(layout::RECORDS).unwrap().is_empty(), "{at}");
            assert_eq!(listed(&fresh), 1);
        }
    }
}

#[test]
fn an_ingest_stores_nothing_after_its_abandoned_record() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        // the manifest, or a file that is written right before it
        for failing in [layout::SNAPSHOTS, layout::INDEX, layout::PARITY] {
            let (first, storage) = memory_repo(flavor);
            ingest(&first, &random_bytes(3, 40_000)).unwrap();
            let faulty = Arc::new(FaultyStorage::new(storage.clone()));
            let is_part = move |key: &str| {
                key.starts_with(failing) && key.rsplit_once('/').is_some_and(|(folder, _)| folder == failing)
            };
            faulty.fail_when(move |op, key| op == "put_new" && is_part(key), ErrorKind::Io);
            let puts = Arc::new(Mutex::new(Vec::new()));
            let seen = Arc::clone(&puts);
            let hooked_storage = HookedStorage::new(faulty, move |op, key| {
                if op == "put_new" {
                    seen.lock().unwrap().push(key.to_owned());
                }
            });
            let repo = open(environment(Arc::new(hooked_storage), 5), flavor).unwrap();
            ingest(&repo, &random_bytes(1, 100_000)).unwrap_err();
            let puts = puts.lock().unwrap();
            let record = puts.iter().position(|key| key.starts_with(layout::RECORDS)).unwrap();
            assert_eq!(record + 1, puts.len(), "{failing}: {puts:?}");
            let report = ops::verify(
                &first,
                &VerifyOptions {
                    level: VerifyLevel::Full,
                    subset: None,
                },
                &NullMonitor,
                &mut |_| {},
            );
            assert!(report.unwrap().ok());
            assert_eq!(ops::repair(&first, &NullMonitor).unwrap().manifests_restored, 0);
        }
    }
}

/// A prune deletes records under the exclusive lock, after it has found that no copy exists.
#[test]
fn the_record_of_a_dead_session_waits_for_the_commit_lock() {
    let (repo, storage) = memory_repo(Flavor::plain());
    ingest_from(&repo, hooked(&random_bytes(1, 100_000), 50_000, || {})).unwrap();
    let dead = SnapshotId([5; 16]);
    let lease = lease::Lease::take(storage.as_ref(), dead, lease::INGEST, "2026-11-23T01:45:00.000Z".into());
    lease.unwrap().leave();
    let impatient = patient(storage.clone(), Flavor::plain(), Duration::from_millis(10));
    let deciding = lock::commit_exclusive(storage.as_ref(), Duration::ZERO)
        .unwrap()
        .unwrap();
    assert_eq!(ops::unlock(&impatient, false).unwrap(), []);
    assert_eq!(storage.list(layout::RECORDS).unwrap(), []);
    assert_eq!(lease::list(storage.as_ref()).unwrap().len(), 1);
    drop(deciding);
    assert_eq!(ops::unlock(&impatient, false).unwrap(), [dead]);
    assert_eq!(storage.list(layout::RECORDS).unwrap().len(), 1);
}

/// Runs a prune on another handle at the first progress report, when the operation holds its lock.
struct ConcurrentPrune {
    other: Arc<Repository>,
    refusal: Mutex<Option<Error>>,
}

impl Monitor for ConcurrentPrune {
    fn progress(&self, _: &Progress) {
        let mut refusal = self.refusal.lock().unwrap();
        if refusal.is_none() {
            *refusal = ops::prune(&self.other, &PruneOptions::keep_all(), &NullMonitor).err();
        }
    }
}

#[test]
fn the_error_after_waiting_for_a_repair_names_the_repair() {
    let (repo, storage) = memory_repo(Flavor::plain());
    ingest(&repo, &random_bytes(1, 100_000)).unwrap();
    let monitor = ConcurrentPrune {
        other: patient(storage.clone(), Flavor::plain(), Duration::from_millis(10)),
        refusal: Mutex::default(),
    };
    assert_eq!(ops::repair(&repo, &monitor).unwrap().locks_removed, 0);
    let Some(Error::RepositoryLocked { lock, holders }) = monitor.refusal.into_inner().unwrap() else {
        panic!("the prune was not refused");
    };
    assert_eq!(lock, layout::MAINT_LOCK);
    assert!(
        holders.len() == 1 && holders[0].starts_with("repair since 20"),
        "{holders:?}"
    );
    assert_eq!(lease::list(storage.as_ref()).unwrap(), []);
}

#[test]
fn a_repair_during_a_stuck_commit_leaves_manifests_to_the_next_repair() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (first, storage) = memory_repo(flavor);
        let data = random_bytes(1, 50_000);
        let ids = [0, 1].map(|_| ingest(&first, &data).unwrap().id);
        drop(first);
        storage.delete(&layout::snapshot(&ids[0])).unwrap();
        storage.delete(&layout::snapshot(&ids[1])).unwrap();
        put_bytes(storage.as_ref(), &layout::snapshot(&ids[1]), b"damaged").unwrap();
        let stuck = lock::commit_shared(storage.as_ref(), Duration::ZERO).unwrap().unwrap();
        let repair = || {
            let (environment, monitor) = watched(storage.clone(), 7);
            let options = OpenOptions {
                lock_wait: Duration::from_millis(5),
                ..OpenOptions::default()
            };
            let repo = Arc::new(repo::open(environment, flavor.secret().as_ref(), &options).unwrap());
            (ops::repair(&repo, &NullMonitor).unwrap(), codes(&monitor))
        };
        let (report, warnings) = repair();
        assert_eq!((report.manifests_restored, warnings), (0, vec!["WARN_NOT_REPAIRED"]));
        assert_eq!((report.quarantined, report.damaged_snapshots), (Vec::new(), Vec::new()));
        drop(stuck);
        let (report, warnings) = repair();
        assert_eq!((report.manifests_restored, warnings.len()), (2, 0));
        let repo = open(environment(storage.clone(), 8), flavor).unwrap();
        for id in ids {
            assert!(restore(&repo, &id.to_hex(), None).unwrap() == data);
        }
    }
}

#[test]
fn a_commit_lock_held_too_long_fails_the_commit_and_a_retry_reuses_the_chunks() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (repo, storage) = memory_repo(flavor);
        drop(repo);
        let data = random_bytes(1, 300_000);
        let held = lock::commit_exclusive(storage.as_ref(), Duration::ZERO)
            .unwrap()
            .unwrap();
        let impatient = patient(Arc::clone(&storage), flavor, Duration::from_millis(10));
        let error = ingest(&impatient, &data).unwrap_err();
        assert_eq!((error.code(), error.retryable()), ("ERR_REPO_LOCKED", true));
        assert_eq!(listed(&impatient), 0);
        drop(held);
        let retry = ingest(&impatient, &data).unwrap();
        assert_eq!((retry.new_chunks, listed(&impatient)), (0, 1));
        assert!(restore(&impatient, &retry.id.to_hex(), None).unwrap() == data);
        // writers do not block each other
        let shared = lock::commit_shared(storage.as_ref(), Duration::ZERO).unwrap().unwrap();
        ingest(&impatient, b"concurrent").unwrap();
        drop(shared);
    }
}

#[test]
fn a_commit_waits_while_a_prune_decides_and_continues_after_it() {
    let flavor = Flavor::sealed();
    let (repo, storage) = memory_repo(flavor);
    drop(repo);
    // released at the second attempt to lock, as by another process
    let held = lock::commit_exclusive(storage.as_ref(), Duration::ZERO).unwrap();
    let held = Arc::new(Mutex::new(held));
    let free = {
        let (held, storage) = (Arc::clone(&held), Arc::clone(&storage));
        HookedStorage::new(storage, move |op, key| {
            if op == "lock" && key == layout::COMMIT_LOCK {
                held.lock().unwrap().take();
            }
        })
    };
    let repo = patient(Arc::new(free), flavor, Duration::from_secs(600));
    let snapshot = ingest(&repo, b"patience").unwrap();
    assert!(held.lock().unwrap().is_none());
    assert_eq!(restore(&repo, &snapshot.id.to_hex(), None).unwrap(), b"patience");
}

#[test]
fn a_condemned_pack_is_not_reused_and_its_chunks_are_stored_again() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        for hint in [false, true] {
            let (repo, storage) = memory_repo(flavor);
            let data = random_bytes(1, 100_000);
            let first = ingest(&repo, &data).unwrap();
            let condemned = packs(storage.as_ref());
            let list = condemn(storage.as_ref(), &repo, 1, condemned.clone(), hint);
            let second = ingest(&repo, &data).unwrap();
            assert_eq!(second.new_chunks, first.new_chunks, "hint {hint}");
            // the prune deletes what it condemned
            for pack in condemned {
                storage.delete(&layout::pack(&pack)).unwrap();
                storage.delete(&layout::pack_index(&pack)).unwrap();
            }
            storage.delete(&list.id.key()).unwrap();
            assert!(restore(&repo, &second.id.to_hex(), None).unwrap() == data);
            let third = ingest(&repo, &data).unwrap();
            assert_eq!(third.new_chunks, 0);
            all_listed_restore(storage, flavor);
        }
    }
}

#[test]
fn a_pack_condemned_while_the_source_is_read_fails_the_ingest_cleanly() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        // condemned, and already deleted or not yet
        for delete in [false, true] {
            let (repo, storage) = memory_repo(flavor);
            let data = random_bytes(1, 3_000_000);
            let first = ingest(&repo, &data).unwrap();
            let condemned = packs(storage.as_ref());
            let prune = || {
                storage.delete(&layout::snapshot(&first.id)).unwrap();
                condemn(storage.as_ref(), &repo, 1, condemned.clone(), false);
                for pack in condemned.iter().filter(|_| delete) {
                    storage.delete(&layout::pack(pack)).unwrap();
                    storage.delete(&layout::pack_index(pack)).unwrap();
                }
            };
            // nearly all chunks have been looked up and reused at this point
            let result = ingest_from(&repo, hooked(&data, 2_900_000, prune));
            match result {
                Err(error) => assert_eq!((error.code(), error.retryable()), ("ERR_CONFLICT", true)),
                Ok(snapshot) => assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data),
            }
            assert!(listed(&repo) <= 1);
            // a retry is enough
            let again = ingest(&repo, &data).unwrap();
            for pack in &condemned {
                storage.delete(&layout::pack(pack)).unwrap();
                storage.delete(&layout::pack_index(pack)).unwrap();
            }
            assert!(restore(&repo, &again.id.to_hex(), None).unwrap() == data);
            all_listed_restore(storage, flavor);
        }
    }
}

#[test]
fn a_copy_of_the_chunks_in_another_pack_saves_a_commit_whose_pack_was_condemned() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (repo, storage) = memory_repo(flavor);
        let data = random_bytes(1, 500_000);
        ingest(&repo, &data).unwrap();
        let condemned = packs(storage.as_ref());
        // a prune that rewrites: it condemns packs while another session stores the same chunks
        // again
        let prune = || {
            let list = condemn(storage.as_ref(), &repo, 1, condemned.clone(), true);
            let other = open(environment(Arc::clone(&storage), 31), flavor).unwrap();
            assert!(ingest(&other, &data).unwrap().new_chunks > 0);
            storage.delete(&list.id.key()).unwrap();
            condemn(storage.as_ref(), &repo, 2, condemned.clone(), false);
            for pack in &condemned {
                storage.delete(&layout::pack(pack)).unwrap();
                storage.delete(&layout::pack_index(pack)).unwrap();
            }
        };
        let snapshot = ingest_from(&repo, hooked(&data, data.len(), prune)).unwrap();
        assert_eq!(snapshot.new_chunks, 0);
        assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data);
        let fresh = open(environment(Arc::clone(&storage), 32), flavor).unwrap();
        assert!(restore(&fresh, &snapshot.id.to_hex(), None).unwrap() == data);
    }
}

/// Deletes a pack before call number `at` of an ingest, and condemns it first as a prune does, for
/// every `at`.
#[test]
fn a_pack_that_vanishes_at_any_moment_never_leaves_a_broken_snapshot() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (repo, storage) = memory_repo(flavor);
        let data = random_bytes(1, 60_000);
        let first = ingest(&repo, &data).unwrap();
        let repo_id = repo.config().id;
        let seal = Arc::clone(repo.seal());
        drop(repo);
        storage.delete(&layout::snapshot(&first.id)).unwrap();
        let base = files_of(storage.as_ref());
        let condemned = packs(storage.as_ref());
        let (mut committed, mut conflicts, mut calls) = (0, 0, 1);
        let mut at = 0;
        while at < calls {
            let memory = memory_of(&base);
            let made = Arc::new(AtomicUsize::new(0));
            let done = Arc::new(AtomicBool::new(false));
            let hook = {
                let (memory, condemned, made, done) = (memory.clone(), condemned.clone(), made.clone(), done.clone());
                let seal = Arc::clone(&seal);
                move |_: &'static str, _: &str| {
                    if made.fetch_add(1, Ordering::SeqCst) < at || done.load(Ordering::SeqCst) {
                        return;
                    }
                    // a prune decides under the exclusive lock, and condemns only packs that no
                    // manifest needs
                    let Some(decides) = lock::commit_exclusive(memory.as_ref(), Duration::ZERO).unwrap() else {
                        return;
                    };
                    done.store(true, Ordering::SeqCst);
                    if !memory.list(layout::SNAPSHOTS).unwrap().is_empty() {
                        return;
                    }
                    let list = KillList {
                        id: KillListId([9; 16]),
                        repo: repo_id,
                        hint: false,
                        packs: condemned.clone(),
                        sessions: Vec::new(),
                    };
                    put_bytes(memory.as_ref(), &list.id.key(), &list.encode(seal.as_ref()).unwrap()).unwrap();
                    drop(decides);
                    for pack in &condemned {
                        memory.delete(&layout::pack(pack)).unwrap();
                        memory.delete(&layout::pack_index(pack)).unwrap();
                    }
                    memory.delete(&list.id.key()).unwrap();
                }
            };
            let repo = open(environment(memory.clone(), 3), flavor).unwrap();
            drop(repo);
            let repo = open(
                environment(Arc::new(HookedStorage::new(memory.clone(), hook)), 3),
                flavor,
            );
            match repo.and_then(|repo| ingest(&repo, &data)) {
                Ok(_) => committed += 1,
                Err(error) => {
                    assert_eq!(error.code(), "ERR_CONFLICT", "call {at}: {error}");
                    conflicts += 1;
                }
            }
            all_listed_restore(memory.clone(), flavor);
            let repo = open(environment(memory, 5), flavor).unwrap();
            let again = ingest(&repo, &data).unwrap();
            assert!(restore(&repo, &again.id.to_hex(), None).unwrap() == data, "call {at}");
            calls = calls.max(made.load(Ordering::SeqCst));
            at += 1;
        }
        assert!(
            committed > 0 && conflicts > 0,
            "{committed} committed, {conflicts} conflicts, {calls} calls"
        );
    }
}

#[test]
fn a_storage_call_that_fails_leaves_no_snapshot_or_a_complete_one() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (repo, storage) = memory_repo(flavor);
        let old = random_bytes(1, 40_000);
        let kept = ingest(&repo, &old).unwrap();
        drop(repo);
        let base = files_of(storage.as_ref());
        let data = [old.clone(), random_bytes(2, 100_000)].concat();
        let calls = {
            let faulty = Arc::new(FaultyStorage::new(memory_of(&base)));
            let repo = open(environment(faulty.clone(), 3), flavor).unwrap();
            let opening = faulty.calls();
            ingest(&repo, &data).unwrap();
            opening..faulty.calls()
        };
        for (number, kind) in calls.flat_map(|number| [ErrorKind::Io, ErrorKind::NoSpace].map(|kind| (number, kind))) {
            let memory = memory_of(&base);
            let faulty = Arc::new(FaultyStorage::new(memory.clone()));
            let repo = open(environment(faulty.clone(), 3), flavor).unwrap();
            faulty.fail_call(number, kind);
            let result = ingest(&repo, &data);
            let expected = ["ERR_STORAGE", "ERR_NO_SPACE", "ERR_UNREADABLE"];
            match &result {
                Ok(snapshot) => assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data),
                Err(error) => assert!(expected.contains(&error.code()), "call {number}: {error}"),
            }
            // the same handle still works, and so does a new one
            for repo in [repo, open(environment(memory.clone(), 5), flavor).unwrap()] {
                assert!(restore(&repo, &kept.id.to_hex(), None).unwrap() == old);
                let again = ingest(&repo, &data).unwrap();
                assert!(
                    restore(&repo, &again.id.to_hex(), None).unwrap() == data,
                    "call {number}"
                );
            }
            // a snapshot that is listed although its ingest failed is complete
            all_listed_restore(memory.clone(), flavor);
            assert_eq!(
                lease::list(memory.as_ref())
                    .unwrap()
                    .iter()
                    .filter(|lease| lease.held)
                    .count(),
                0
            );
        }
    }
}

#[test]
fn a_store_with_permanent_failures_fails_the_ingest_and_keeps_all_snapshots() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let known = Known::new(flavor);
        for folder in [layout::DATA, layout::INDEX, layout::SNAPSHOTS, layout::LOCKS, ""] {
            for kind in [
                ErrorKind::NoSpace,
                ErrorKind::Io,
                ErrorKind::ReadOnly,
                ErrorKind::PermissionDenied,
            ] {
                let memory = memory_of(&known.files);
                let faulty = Arc::new(FaultyStorage::new(memory.clone() as Arc<dyn Storage>));
                let repo = open(environment(faulty.clone(), 3), flavor).unwrap();
                faulty.fail_when(
                    move |op, key| ["put_new", "lease", "barrier"].contains(&op) && key.starts_with(folder),
                    kind,
                );
                let error = ingest(&repo, &random_bytes(8, 200_000)).unwrap_err();
                let expected = match kind {
                    ErrorKind::NoSpace => "ERR_NO_SPACE",
                    ErrorKind::Io => "ERR_STORAGE",
                    _ => "ERR_PERMISSION",
                };
                assert_eq!(error.code(), expected, "{folder}");
                assert_eq!(listed(&repo), 3);
                for (snapshot, data) in &known.snapshots {
                    assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data);
                }
                faulty.heal();
                ingest(&repo, b"works again").unwrap();
            }
        }
    }
}

#[test]
fn locks_of_two_stores_are_independent() {
    // the tests above rely on this: locks belong to one store
    let one = MemoryStorage::new();
    put_bytes(&one, layout::COMMIT_LOCK, b"").unwrap();
    let held = lock::commit_exclusive(&one, Duration::ZERO).unwrap();
    assert!(held.is_some() && lock::commit_shared(&one, Duration::ZERO).unwrap().is_none());
}
