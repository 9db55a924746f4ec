//! Repositories on object storage, in the in-memory store of `object_store`: the whole life of one
//! between several machines, and requests that fail, lose their answer or arrive late.

use crate::support::*;
use async_trait::async_trait;
use containerarchive::Error;
use containerarchive::entropy::OsEntropy;
use containerarchive::id::SnapshotId;
use containerarchive::layout;
use containerarchive::lock::{Lease, lease};
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{
    self, CopyOptions, IngestOptions, KeyOptions, MirrorOptions, PruneOptions, ReaderItems, RepairOptions,
    RestoreOptions, VerifyLevel, VerifyOptions,
};
use containerarchive::repo::{self, InitOptions, Repository};
use containerarchive::snapshot::{Snapshot, SnapshotFilter};
use containerarchive::storage::{MemoryStorage, RemoteStorage, Storage, put_bytes};
use futures_util::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};
use sha2::Digest;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENT: Duration = Duration::from_secs(5400);

/// The storage of one more machine.
fn machine(store: Arc<dyn ObjectStore>, expiry: Duration) -> Arc<dyn Storage> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let name = format!("machine {}", NUMBER.fetch_add(1, Ordering::Relaxed));
    Arc::new(RemoteStorage::of_store(
        store,
        "backups/shop",
        &name,
        expiry,
        Arc::new(OsEntropy),
    ))
}

fn options(flavor: Flavor) -> InitOptions {
    InitOptions {
        parity: None,
        ..flavor.small()
    }
}

fn init_on(storage: Arc<dyn Storage>, flavor: Flavor) -> Result<Arc<Repository>, Error> {
    repo::init(environment(storage, 1), flavor.secret().as_ref(), &options(flavor)).map(Arc::new)
}

fn open_on(store: &Arc<dyn ObjectStore>, flavor: Flavor, expiry: Duration) -> Arc<Repository> {
    static SEED: AtomicUsize = AtomicUsize::new(100);
    let seed = SEED.fetch_add(1, Ordering::Relaxed) as u64;
    open(environment(machine(Arc::clone(store), expiry), seed), flavor).unwrap()
}

fn exclusive_prune() -> PruneOptions {
    PruneOptions {
        exclusive: true,
        ..PruneOptions::keep_all()
    }
}

fn assert_clean(repo: &Arc<Repository>, what: &str) {
    let options = VerifyOptions {
        level: VerifyLevel::Full,
        subset: None,
    };
    let report = ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap();
    assert!(report.problems.is_empty(), "{what}: {report:?}");
}

#[test]
fn machines_share_a_repository_on_object_storage() {
    for flavor in flavors() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let first = init_on(machine(Arc::clone(&store), PATIENT), flavor).unwrap();
        assert_eq!(first.config().parity, None);
        let again = init_on(machine(Arc::clone(&store), PATIENT), flavor);
        assert_eq!(again.err().unwrap().code(), "ERR_REPO_EXISTS");
        let shared = random_bytes(1, 200_000);
        let one = ingest(&first, &shared).unwrap();
        let second = open_on(&store, flavor, PATIENT);
        let other = [&shared[..150_000], &random_bytes(2, 50_000)].concat();
        let two = ingest(&second, &other).unwrap();
        assert!(
            two.reused_chunks > 50,
            "the chunks of the other machine are found: {two:?}"
        );
        for (snapshot, data) in [(&one, &shared), (&two, &other)] {
            assert!(restore(&first, &snapshot.id.to_hex(), None).unwrap() == *data);
            assert!(restore(&second, &snapshot.id.to_hex(), None).unwrap() == *data);
        }
        assert_clean(&second, "two snapshots");

        ops::forget(&first, &[one.id]).unwrap();
        let report = ops::prune(&first, &PruneOptions::keep_all(), &NullMonitor).unwrap();
        assert!(report.freed_bytes > 0, "{report:?}");
        let third = open_on(&store, flavor, PATIENT);
        assert_eq!(
            ops::list_snapshots(&third, &SnapshotFilter::default()).unwrap().len(),
            1
        );
        assert!(restore(&second, &two.id.to_hex(), None).unwrap() == other);
        assert_clean(&third, "after a prune");
        ops::reindex(&third, &NullMonitor).unwrap();
        assert!(restore(&open_on(&store, flavor, PATIENT), &two.id.to_hex(), None).unwrap() == other);
    }
}

/// The files that are kept in a folder.
fn kept_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let shelves = std::fs::read_dir(folder).unwrap().map(|shelf| shelf.unwrap().path());
    let files = shelves
        .filter(|shelf| shelf.is_dir())
        .flat_map(|shelf| std::fs::read_dir(shelf).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn wrong_bytes_that_were_kept_are_requested_again() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let process = || -> Arc<dyn Storage> {
            let storage = RemoteStorage::of_store(Arc::clone(&store), "x", "machine", PATIENT, Arc::new(OsEntropy));
            Arc::new(storage.with_requests_ahead().keeping_in(folder.path().to_owned()))
        };
        let repo = init_on(process(), flavor).unwrap();
        let data = random_bytes(1, 200_000);
        let one = ingest(&repo, &data).unwrap();
        let two = ingest(&repo, &random_bytes(2, 100_000)).unwrap();
        drop(repo);
        let ids = |seed| {
            let repo = open(environment(process(), seed), flavor).unwrap();
            let listed = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap();
            assert!(restore(&repo, &one.id.to_hex(), None).unwrap() == data);
            listed.into_iter().map(|snapshot| snapshot.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(50), [two.id, one.id]);
        let kept = kept_files(folder.path());
        assert!(kept.len() >= 3, "two manifests and a segment: {}", kept.len());
        for file in &kept {
            let len = std::fs::read(file).unwrap().len() - 32;
            let wrong = vec![b'x'; len];
            std::fs::write(file, [&wrong[..], &sha2::Sha256::digest(&wrong)].concat()).unwrap();
        }
        assert_eq!(ids(51), [two.id, one.id]);
        for file in kept_files(folder.path()) {
            std::fs::write(file, b"damaged").unwrap();
        }
        assert_eq!(ids(52), [two.id, one.id]);
        std::fs::remove_dir_all(folder.path()).unwrap();
        assert_eq!(ids(53), [two.id, one.id]);
    }
}

#[test]
fn requests_side_by_side_find_and_store_the_same() {
    for (number, flavor) in flavors().into_iter().enumerate() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let name = format!("side by side, {number}");
        let storage = RemoteStorage::of_store(Arc::clone(&store), "backups/shop", &name, PATIENT, Arc::new(OsEntropy));
        let storage: Arc<dyn Storage> = Arc::new(storage.with_requests_ahead());
        let repo = repo::init(
            threaded_environment(storage, 1, 3),
            flavor.secret().as_ref(),
            &options(flavor),
        );
        let repo = Arc::new(repo.unwrap());
        let first = random_bytes(20, 3_000_000);
        let mut all = vec![(ingest(&repo, &first).unwrap(), first.clone())];
        assert!(repo.list_packs().unwrap().len() > 5, "more packs than are sent at once");
        // more manifests than are announced at once, each with chunks of several packs
        for number in 0..70 {
            let from = number * 20_000;
            let data = [&first[from..from + 60_000], &random_bytes(21 + number as u64, 5_000)].concat();
            all.push((ingest(&repo, &data).unwrap(), data));
        }
        let other = open_on(&store, flavor, PATIENT);
        let ids = |repo: &Arc<Repository>| {
            let listed = ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap();
            listed.into_iter().map(|snapshot| snapshot.id).collect::<Vec<_>>()
        };
        let newest_first: Vec<_> = all.iter().rev().map(|(snapshot, _)| snapshot.id).collect();
        assert_eq!(ids(&repo), newest_first);
        assert_eq!(ids(&other), newest_first);
        for (snapshot, data) in all.iter().step_by(10) {
            assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data);
            assert!(restore(&other, &snapshot.id.to_hex(), None).unwrap() == *data);
        }
        let id = all[0].0.id.to_hex();
        let range = RestoreOptions {
            item: None,
            range: Some((1_000_001, Some(2_345_678))),
        };
        assert!(restore_with(&repo, &id, &range).unwrap() == first[1_000_001..2_345_678]);
        let forgotten: Vec<_> = all[..40].iter().map(|(snapshot, _)| snapshot.id).collect();
        ops::forget(&repo, &forgotten).unwrap();
        ops::prune(&repo, &exclusive_prune(), &NullMonitor).unwrap();
        assert_eq!(ids(&other).len(), 31);
        for (snapshot, data) in &all[40..] {
            assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data);
        }
        assert_clean(&repo, "side by side");
        assert_clean(&other, "one after the other");
    }
}

#[test]
fn parity_is_refused_on_object_storage() {
    let flavor = Flavor::plain();
    let storage = machine(Arc::new(InMemory::new()), PATIENT);
    let refused = repo::init(environment(storage, 1), None, &flavor.small())
        .err()
        .unwrap();
    assert_eq!(refused.code(), "ERR_INVALID_ARGUMENT");
}

#[test]
fn a_lost_index_file_is_repaired_where_no_other_process_writes() {
    let flavor = Flavor::sealed();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let repo = init_on(machine(Arc::clone(&store), PATIENT), flavor).unwrap();
    let data = random_bytes(3, 300_000);
    let snapshot = ingest(&repo, &data).unwrap();
    let storage = repo.storage();
    for folder in [layout::INDEX, layout::SNAPSHOTS] {
        for entry in storage.list(folder).unwrap() {
            storage.delete(&entry.key).unwrap();
        }
    }
    let other = open_on(&store, flavor, PATIENT);
    let refused = ops::repair(&other, &NullMonitor).unwrap_err();
    assert_eq!(refused.code(), "ERR_EXCLUSIVE_REQUIRED");
    let report = ops::repair_with(&other, &RepairOptions { exclusive: true }, &NullMonitor).unwrap();
    assert_eq!((report.manifests_restored, report.lost_chunks), (1, 0));
    assert!(restore(&other, &snapshot.id.to_hex(), None).unwrap() == data);
    assert_clean(&other, "repaired");
}

#[test]
fn machines_that_write_at_once_lose_nothing() {
    let flavor = Flavor::plain();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    init_on(machine(Arc::clone(&store), PATIENT), flavor).unwrap();
    let made: Vec<_> = std::thread::scope(|scope| {
        let write = |who: u64| {
            let repo = open_on(&store, flavor, PATIENT);
            // enough snapshots that segments are merged while the others write
            (0..12)
                .map(|round| {
                    let data = [random_bytes(round, 20_000), random_bytes(1000 * who + round, 20_000)].concat();
                    (ingest(&repo, &data).unwrap().id, data)
                })
                .collect::<Vec<_>>()
        };
        let threads: Vec<_> = (1..=4).map(|who| scope.spawn(move || write(who))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let reader = open_on(&store, flavor, PATIENT);
    assert_eq!(made.len(), 48);
    for (id, data) in &made {
        assert!(restore(&reader, &id.to_hex(), None).unwrap() == *data, "{id}");
    }
    assert_clean(&reader, "48 snapshots");
    ops::prune(&reader, &exclusive_prune(), &NullMonitor).unwrap();
    assert_clean(&open_on(&store, flavor, PATIENT), "48 snapshots, pruned");
}

#[test]
fn a_machine_that_writes_delays_a_part_of_a_prune_until_its_lease_expires() {
    let flavor = Flavor::sealed();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let repo = init_on(machine(Arc::clone(&store), PATIENT), flavor).unwrap();
    let kept = ingest(&repo, &random_bytes(5, 50_000)).unwrap();
    let gone = ingest(&repo, &random_bytes(6, 50_000)).unwrap();
    ops::forget(&repo, &[gone.id]).unwrap();
    let session = containerarchive::id::SnapshotId([7; 16]);
    let key = layout::lease(&session);
    let lease = repo.storage().lease(&key, b"of a session").unwrap();
    let other = open_on(&store, flavor, PATIENT);
    assert_eq!(
        other.storage().lease_held(&key).unwrap(),
        Some(true),
        "its clock is the store's"
    );
    let delayed = ops::prune(&other, &PruneOptions::keep_all(), &NullMonitor).unwrap();
    assert_eq!((delayed.removed_packs, delayed.freed_bytes), (0, 0), "{delayed:?}");
    assert!(delayed.pending_bytes > 0, "{delayed:?}");
    // a session that began later stores the data again, and delays nothing
    let again = ingest(&other, &random_bytes(6, 50_000)).unwrap();
    assert!(again.new_chunks > 0, "{again:?}");
    let later_key = layout::lease(&containerarchive::id::SnapshotId([8; 16]));
    let _later_lease = repo.storage().lease(&later_key, b"of a later session").unwrap();
    // the owner of the first one is killed: its lease is renewed no more
    lease.leave();
    drop(lease);
    assert_eq!(other.storage().lease_held(&key).unwrap(), Some(true));
    let revoked = ops::unlock(&open_on(&store, flavor, PATIENT), false).unwrap();
    assert_eq!(revoked, []);
    other.storage().delete(&key).unwrap();
    let report = ops::prune(&other, &PruneOptions::keep_all(), &NullMonitor).unwrap();
    assert!(report.removed_packs > 0 && report.pending_bytes == 0, "{report:?}");
    for (snapshot, seed) in [(&kept, 5), (&again, 6)] {
        assert!(restore(&other, &snapshot.id.to_hex(), None).unwrap() == random_bytes(seed, 50_000));
    }
    assert_clean(&other, "pruned");
}

#[test]
fn a_session_that_is_taken_for_dead_is_revoked_and_can_be_repeated() {
    for flavor in flavors() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let repo = init_on(machine(Arc::clone(&store), PATIENT), flavor).unwrap();
        let first = ingest(&repo, &random_bytes(1, 50_000)).unwrap();
        let hasty = open_on(&store, flavor, Duration::ZERO);
        let data = [random_bytes(1, 50_000), random_bytes(2, 50_000)].concat();
        let source = Interrupted {
            data: &data,
            at: 0,
            interrupt: Some(Box::new(|| {
                let revoked = ops::unlock(&hasty, false).unwrap();
                assert_eq!(revoked.len(), 1);
                ops::forget(&hasty, &[first.id]).unwrap();
                ops::prune(&hasty, &PruneOptions::keep_all(), &NullMonitor).unwrap();
            })),
        };
        let refused = ingest_from(&repo, source).unwrap_err();
        assert_eq!((refused.code(), refused.retryable()), ("ERR_CONFLICT", true));
        assert_eq!(ops::list_snapshots(&hasty, &SnapshotFilter::default()).unwrap(), []);
        assert_clean(&hasty, "a revoked session");
        let again = ingest(&repo, &data).unwrap();
        assert!(restore(&hasty, &again.id.to_hex(), None).unwrap() == data);
        ops::prune(&hasty, &PruneOptions::keep_all(), &NullMonitor).unwrap();
        assert!(restore(&hasty, &again.id.to_hex(), None).unwrap() == data);
        assert_clean(&hasty, "after the retry");
    }
}

#[test]
fn marks_are_merged_and_their_packs_stay_avoided() {
    let flavor = Flavor::sealed();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let repo = init_on(machine(Arc::clone(&store), PATIENT), flavor).unwrap();
    let kept = ingest(&repo, &random_bytes(1, 20_000)).unwrap();
    let mut condemned = 0;
    for round in 0..40 {
        let gone = ingest(&repo, &random_bytes(100 + round, 5_000)).unwrap();
        ops::forget(&repo, &[gone.id]).unwrap();
        condemned += ops::prune(&repo, &sweeping(), &NullMonitor).unwrap().removed_packs;
        let marks = repo.marks().unwrap();
        // at most four of each of three levels
        assert!(marks.marks().len() <= 12, "{} marks", marks.marks().len());
        assert!(marks.packs().len() as u64 >= condemned && marks.marks().iter().all(|mark| !mark.is_open()));
    }
    assert!(condemned >= 40);
    let again = ingest(&open_on(&store, flavor, PATIENT), &random_bytes(100, 5_000)).unwrap();
    assert!(again.new_chunks > 0, "{again:?}");
    for (snapshot, bytes) in [(&kept, random_bytes(1, 20_000)), (&again, random_bytes(100, 5_000))] {
        assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == bytes);
    }
    assert_clean(&repo, "many prunes");
}

/// A source during which something happens.
struct Interrupted<'a> {
    data: &'a [u8],
    at: usize,
    interrupt: Option<Box<dyn FnOnce() + Send + 'a>>,
}

impl std::io::Read for Interrupted<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.at > self.data.len() / 2
            && let Some(interrupt) = self.interrupt.take()
        {
            interrupt();
        }
        let mut rest = &self.data[self.at..];
        let len = out.len().min(10_000);
        let read = std::io::Read::read(&mut rest, &mut out[..len])?;
        self.at += read;
        Ok(read)
    }
}

fn ingest_from(repo: &Arc<Repository>, source: Interrupted<'_>) -> Result<Snapshot, Error> {
    let mut items = ReaderItems::one("data", "test", source);
    ops::ingest(repo, &mut items, &IngestOptions::default(), &NullMonitor)
}

#[test]
fn a_service_that_ignores_the_condition_of_a_put_needs_the_promise_for_a_prune() {
    let flavor = Flavor::plain();
    let careless = Flaky {
        ignores_conditions: true,
        ..Flaky::of(&Arc::new(InMemory::new()), 0, Fate::Lost, false)
    };
    let store: Arc<dyn ObjectStore> = Arc::new(careless);
    let repo = init_on(machine(Arc::clone(&store), PATIENT), flavor).unwrap();
    let gone = ingest(&repo, &random_bytes(1, 50_000)).unwrap();
    ops::forget(&repo, &[gone.id]).unwrap();
    let refused = ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).unwrap_err();
    assert_eq!((refused.code(), refused.retryable()), ("ERR_EXCLUSIVE_REQUIRED", false));
    let report = ops::prune(&repo, &exclusive_prune(), &NullMonitor).unwrap();
    assert!(report.freed_bytes > 0, "{report:?}");
    assert!(repo.marks().unwrap().marks().is_empty());
}

#[test]
fn of_inits_at_once_one_creates_and_its_key_stays() {
    for _ in 0..20 {
        let flavor = Flavor::sealed();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let created: Vec<bool> = std::thread::scope(|scope| {
            let init = |seed: u64| {
                let environment = environment(machine(Arc::clone(&store), PATIENT), seed);
                match repo::init(environment, flavor.secret().as_ref(), &options(flavor)) {
                    Ok(_) => true,
                    Err(error) if ["ERR_REPO_EXISTS", "ERR_NOT_EMPTY"].contains(&error.code()) => false,
                    Err(error) => panic!("{error}"),
                }
            };
            let threads: Vec<_> = (1..=4).map(|seed| scope.spawn(move || init(seed))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(created.iter().filter(|created| **created).count() <= 1, "{created:?}");
        if created.contains(&true) {
            let repo = open_on(&store, flavor, PATIENT);
            let data = random_bytes(1, 10_000);
            let snapshot = ingest(&repo, &data).unwrap();
            assert!(restore(&open_on(&store, flavor, PATIENT), &snapshot.id.to_hex(), None).unwrap() == data);
        }
    }
}

#[test]
fn of_two_machines_that_remove_the_last_two_keys_one_is_refused() {
    let flavor = Flavor::sealed();
    for _ in 0..20 {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let first = init_on(machine(Arc::clone(&store), PATIENT), flavor).unwrap();
        let added = KeyOptions {
            kdf: flavor.small().kdf,
            ..KeyOptions::default()
        };
        ops::add_key(&first, &passphrase(), &added, &NullMonitor).unwrap();
        let second = open_on(&store, flavor, PATIENT);
        let ids: Vec<_> = ops::list_keys(&first).unwrap().into_iter().map(|key| key.id).collect();
        let remove = |repo: &Arc<Repository>, at: usize| match ops::remove_key(repo, &ids[at]) {
            Ok(()) => true,
            Err(error) if ["ERR_LAST_KEY", "ERR_KEY_NOT_FOUND"].contains(&error.code()) => false,
            Err(error) => panic!("{error}"),
        };
        let removed: Vec<bool> = std::thread::scope(|scope| {
            let one = scope.spawn(|| remove(&first, 0));
            let two = scope.spawn(|| remove(&second, 1));
            vec![one.join().unwrap(), two.join().unwrap()]
        });
        assert_ne!(removed, [true, true]);
        open_on(&store, flavor, PATIENT);
    }
}

#[test]
fn a_prune_refuses_while_a_repair_or_a_mirroring_runs() {
    let flavor = Flavor::plain();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let repo = init_on(machine(Arc::clone(&store), PATIENT), flavor).unwrap();
    ingest(&repo, &random_bytes(1, 50_000)).unwrap();
    let id = SnapshotId([7; 16]);
    for operation in [lease::REPAIR, lease::MIRROR] {
        let other = machine(Arc::clone(&store), PATIENT);
        let held = Lease::take(other.as_ref(), id, operation, "2026-01-01T00:00:00.000Z".to_owned()).unwrap();
        let refused = ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).unwrap_err();
        assert_eq!((refused.code(), refused.retryable()), ("ERR_REPO_LOCKED", true));
        assert_eq!(other.list(layout::LOCKS).unwrap().len(), 1, "that of the prune is gone");
        drop(held);
        ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).unwrap();
    }
}

#[test]
fn a_damaged_tombstone_or_manifest_leaves_no_free_name() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let repo = init_on(machine(Arc::clone(&store), PATIENT), flavor).unwrap();
        let lost = ingest(&repo, &random_bytes(2, 50_000)).unwrap();
        let session = SnapshotId([9; 16]);
        repo.revoke(&session).unwrap();
        let storage = machine(Arc::clone(&store), PATIENT);
        let keys = [layout::snapshot(&session), layout::snapshot(&lost.id)];
        let mut damaged = storage.get(&keys[0], 2000).unwrap();
        *damaged.last_mut().unwrap() ^= 1;
        for (key, bytes) in keys.iter().zip([&damaged[..], b"no manifest"]) {
            storage.delete(key).unwrap();
            put_bytes(storage.as_ref(), key, bytes).unwrap();
        }
        // the copies of manifests are lost too
        for pack in storage.list(layout::DATA).unwrap() {
            storage.delete(&pack.key).unwrap();
        }
        let exclusive = RepairOptions { exclusive: true };
        let repo = open_on(&store, flavor, PATIENT);
        ops::repair_with(&repo, &exclusive, &NullMonitor).unwrap();
        for key in &keys {
            let bytes = storage.get(key, 2000).unwrap();
            assert!(bytes.windows(14).any(|window| window == b"\"revoked\":true"), "{key}");
        }
        assert_eq!(ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap(), []);
    }
}

#[test]
fn machines_do_not_mirror_into_one_bucket_at_once() {
    let flavor = Flavor::plain();
    let (source, _) = memory_repo(flavor);
    ingest(&source, &random_bytes(1, 50_000)).unwrap();
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut target = environment(machine(Arc::clone(&store), PATIENT), 5);
    target.path = "s3://bucket/backups/shop".to_owned();
    ops::mirror_to(&source, &target, &following(), &NullMonitor).unwrap();
    let other = machine(Arc::clone(&store), PATIENT);
    let key = layout::lease(&containerarchive::id::SnapshotId([7; 16]));
    let lease = other.lease(&key, b"of a mirroring").unwrap();
    let refused = ops::mirror_to(&source, &target, &following(), &NullMonitor).unwrap_err();
    assert_eq!((refused.code(), refused.retryable()), ("ERR_REPO_LOCKED", true));
    drop(lease);
    ops::mirror_to(&source, &target, &following(), &NullMonitor).unwrap();
}

/// Options of a mirroring that follows what its source has deleted.
fn following() -> MirrorOptions {
    MirrorOptions {
        delete: true,
        ..MirrorOptions::default()
    }
}

#[test]
fn a_repository_is_mirrored_from_a_folder_into_a_bucket_and_back() {
    for flavor in flavors() {
        // with parity, which the mirror has too
        let (source, _) = memory_repo(flavor);
        let data = random_bytes(1, 150_000);
        let one = ingest(&source, &data).unwrap();
        let two = ingest(&source, &data[1000..]).unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let mut target = environment(machine(Arc::clone(&store), PATIENT), 5);
        target.path = "s3://bucket/backups/shop".to_owned();
        let first = ops::mirror_to(&source, &target, &following(), &NullMonitor).unwrap();
        assert!(first.copied_files > 0, "{first:?}");
        let again = ops::mirror_to(&source, &target, &following(), &NullMonitor).unwrap();
        assert_eq!((again.copied_files, again.copied_bytes), (0, 0), "{again:?}");
        let mirror = open_on(&store, flavor, PATIENT);
        assert!(restore(&mirror, &one.id.to_hex(), None).unwrap() == data);
        assert_clean(&mirror, "the mirror");
        assert!(ingest(&mirror, b"x").is_err(), "a mirror is not written to");

        ops::forget(&source, &[one.id]).unwrap();
        ops::prune(&source, &PruneOptions::keep_all(), &NullMonitor).unwrap();
        ops::mirror_to(&source, &target, &following(), &NullMonitor).unwrap();
        let mirror = open_on(&store, flavor, PATIENT);
        assert_eq!(
            ops::list_snapshots(&mirror, &SnapshotFilter::default()).unwrap().len(),
            1
        );
        assert_clean(&mirror, "the mirror after a prune");

        // the bucket is the source now
        let mut back = environment(Arc::new(MemoryStorage::new()), 6);
        back.path = "back".to_owned();
        ops::mirror_to(&mirror, &back, &MirrorOptions::default(), &NullMonitor).unwrap();
        let restored = open(back, flavor).unwrap();
        assert!(restore(&restored, &two.id.to_hex(), None).unwrap() == data[1000..]);
        assert_clean(&restored, "the mirror of the mirror");
    }
}

#[test]
fn snapshots_are_copied_between_a_folder_and_a_bucket() {
    let (sealed, plain) = (Flavor::sealed(), Flavor::plain());
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let bucket = init_on(machine(Arc::clone(&store), PATIENT), sealed).unwrap();
    let (folder, _) = memory_repo(plain);
    let data = random_bytes(1, 150_000);
    ingest(&folder, &data).unwrap();
    let report = ops::copy_to(&folder, &bucket, &CopyOptions::default(), &NullMonitor).unwrap();
    assert_eq!(report.copied.len(), 1);
    let reader = open_on(&store, sealed, PATIENT);
    assert!(restore(&reader, &report.copied[0].to.to_hex(), None).unwrap() == data);
    let second = ops::copy_to(&folder, &bucket, &CopyOptions::default(), &NullMonitor).unwrap();
    assert_eq!((second.copied.len(), second.stored_bytes), (0, 0));
    assert_clean(&reader, "copied");
}

/// What becomes of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It never reaches the service.
    Lost,
    /// It is carried out, and its answer is lost.
    AnswerLost,
    /// It is carried out when the client has long given up.
    Late,
}

/// A store of which one request has a fate; after that, the connection works again or is cut.
struct Flaky {
    inner: Arc<InMemory>,
    left: AtomicUsize,
    fate: Fate,
    is_cut: bool,
    ignores_conditions: bool,
    late: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
}

impl fmt::Debug for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flaky")
    }
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flaky")
    }
}

fn no_answer() -> object_store::Error {
    object_store::Error::Generic {
        store: "test",
        source: "no answer".into(),
    }
}

impl Flaky {
    fn new(inner: &Arc<InMemory>, at: usize, fate: Fate, is_cut: bool) -> Arc<Self> {
        Arc::new(Self::of(inner, at, fate, is_cut))
    }

    fn of(inner: &Arc<InMemory>, at: usize, fate: Fate, is_cut: bool) -> Self {
        Self {
            inner: Arc::clone(inner),
            left: AtomicUsize::new(at),
            fate,
            is_cut,
            ignores_conditions: false,
            late: Mutex::default(),
        }
    }

    /// The fate of the next request: `None` when it is answered.
    fn next(&self) -> Option<Fate> {
        match self.left.load(Ordering::SeqCst) {
            0 if self.is_cut => Some(Fate::Lost),
            0 => None,
            1 => {
                self.left.store(0, Ordering::SeqCst);
                Some(self.fate)
            }
            left => {
                self.left.store(left - 1, Ordering::SeqCst);
                None
            }
        }
    }

    fn was_reached(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }

    /// Carries out what is late, and returns how much it was.
    async fn arrive(&self) -> usize {
        let late = std::mem::take(&mut *self.late.lock().unwrap());
        let count = late.len();
        for (path, payload, options) in late {
            let _ = self.inner.put_opts(&path, payload, options).await;
        }
        count
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, path: &Path, payload: PutPayload, options: PutOptions) -> object_store::Result<PutResult> {
        match self.next() {
            None if self.ignores_conditions => self.inner.put_opts(path, payload, PutMode::Overwrite.into()).await,
            None => self.inner.put_opts(path, payload, options).await,
            Some(Fate::Lost) => Err(no_answer()),
            Some(Fate::AnswerLost) => {
                let _ = self.inner.put_opts(path, payload, options).await;
                Err(no_answer())
            }
            Some(Fate::Late) => {
                self.late.lock().unwrap().push((path.clone(), payload, options));
                Err(no_answer())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        match self.next() {
            None => self.inner.get_opts(path, options).await,
            Some(_) => Err(no_answer()),
        }
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        use futures_util::StreamExt;
        match self.next() {
            None => self.inner.delete_stream(paths),
            Some(Fate::AnswerLost) => self.inner.delete_stream(paths).map(|_| Err(no_answer())).boxed(),
            Some(_) => futures_util::stream::iter([Err(no_answer())]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        match self.next() {
            None => self.inner.list_with_delimiter(prefix).await,
            Some(_) => Err(no_answer()),
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: object_store::CopyOptions) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn wait<F: Future>(future: F) -> F::Output {
    futures_util::future::FutureExt::now_or_never(future).expect("the in-memory store never waits")
}

/// Options of a prune that leaves nothing that is not needed.
fn sweeping() -> PruneOptions {
    PruneOptions {
        max_unused: 0.0,
        ..PruneOptions::keep_all()
    }
}

/// One ingest of which request `at` has a fate. Returns whether there was such a request.
fn ingest_with_fate(at: usize, fate: Fate, is_cut: bool, flavor: Flavor) -> bool {
    let what = format!("request {at}: {fate:?}, connection cut: {is_cut}");
    let inner = Arc::new(InMemory::new());
    let store: Arc<dyn ObjectStore> = Arc::clone(&inner) as _;
    let healthy = init_on(machine(Arc::clone(&store), PATIENT), flavor).unwrap();
    let before = random_bytes(1, 40_000);
    let first = ingest(&healthy, &before).unwrap();

    let flaky = Flaky::new(&inner, at, fate, is_cut);
    let data = [&before[..20_000], &random_bytes(2, 60_000)].concat();
    let outcome =
        open(environment(machine(Arc::clone(&flaky) as _, PATIENT), 7), flavor).and_then(|repo| ingest(&repo, &data));
    let was_reached = flaky.was_reached();
    if let (false, Err(error)) = (was_reached, &outcome) {
        panic!("{what}: failed without a reason: {error}");
    }

    // a machine that takes every lease for abandoned prunes, and another one continues; then the
    // late requests arrive
    let hasty = open_on(&store, flavor, Duration::ZERO);
    ops::prune(&hasty, &sweeping(), &NullMonitor).unwrap_or_else(|error| panic!("{what}: first prune: {error}"));
    let other = open_on(&store, flavor, PATIENT);
    let third = ingest(&other, &data[..50_000]).unwrap_or_else(|error| panic!("{what}: {error}"));
    wait(flaky.arrive());
    let reader = open_on(&store, flavor, Duration::ZERO);
    let listed = ops::list_snapshots(&reader, &SnapshotFilter::default()).unwrap();
    let has = |id| listed.iter().any(|snapshot| snapshot.id == id);
    assert!(has(first.id) && has(third.id), "{what}");
    if let Ok(snapshot) = &outcome {
        assert!(has(snapshot.id), "{what}: an acknowledged snapshot is missing");
    }
    for snapshot in &listed {
        let bytes = restore(&reader, &snapshot.id.to_hex(), None).unwrap_or_else(|error| panic!("{what}: {error}"));
        let expected = [(first.id, &before[..]), (third.id, &data[..50_000])];
        let expected = expected
            .iter()
            .find(|(id, _)| *id == snapshot.id)
            .map_or(&data[..], |(_, bytes)| bytes);
        assert!(bytes == expected, "{what}");
    }
    assert_clean(&reader, &what);
    ops::prune(&reader, &exclusive_prune(), &NullMonitor).unwrap_or_else(|error| panic!("{what}: prune: {error}"));
    assert_clean(&open_on(&store, flavor, PATIENT), &what);
    was_reached
}

#[test]
fn an_ingest_survives_any_request_that_fails_loses_its_answer_or_is_late() {
    let flavor = Flavor::plain();
    let mut requests = 0;
    while ingest_with_fate(requests + 1, Fate::Lost, true, flavor) {
        requests += 1;
        for (fate, is_cut) in [
            (Fate::Lost, false),
            (Fate::AnswerLost, false),
            (Fate::AnswerLost, true),
            (Fate::Late, false),
            (Fate::Late, true),
        ] {
            ingest_with_fate(requests, fate, is_cut, flavor);
        }
    }
    assert!(requests > 10, "an ingest makes more requests than {requests}");
}

/// One prune of which request `at` has a fate, next to a session that lives. Returns whether there
/// was such a request.
fn prune_with_fate(at: usize, fate: Fate, is_cut: bool, flavor: Flavor) -> bool {
    let what = format!("request {at} of a prune: {fate:?}, connection cut: {is_cut}");
    let inner = Arc::new(InMemory::new());
    let store: Arc<dyn ObjectStore> = Arc::clone(&inner) as _;
    let healthy = init_on(machine(Arc::clone(&store), PATIENT), flavor).unwrap();
    let data = random_bytes(1, 60_000);
    let gone = ingest(&healthy, &data).unwrap();
    // needs a half of the packs of the first one, which are rewritten
    let kept = ingest(&healthy, &[&data[..30_000], &random_bytes(2, 5_000)].concat()).unwrap();
    ops::forget(&healthy, &[gone.id]).unwrap();

    let flaky = Flaky::new(&inner, at, fate, is_cut);
    let outcome = open(environment(machine(Arc::clone(&flaky) as _, Duration::ZERO), 7), flavor)
        .and_then(|repo| ops::prune(&repo, &sweeping(), &NullMonitor));
    let was_reached = flaky.was_reached();
    if let (false, Err(error)) = (was_reached, &outcome) {
        panic!("{what}: failed without a reason: {error}");
    }
    let third = ingest(&healthy, &data).unwrap_or_else(|error| panic!("{what}: {error}"));
    wait(flaky.arrive());
    let reader = open_on(&store, flavor, Duration::ZERO);
    let whole = |when: &str| {
        for (snapshot, bytes) in [
            (&kept, [&data[..30_000], &random_bytes(2, 5_000)].concat()),
            (&third, data.clone()),
        ] {
            let restored = restore(&reader, &snapshot.id.to_hex(), None);
            assert!(
                restored.unwrap_or_else(|error| panic!("{what}, {when}: {error}")) == bytes,
                "{what}, {when}"
            );
        }
        assert_eq!(
            ops::list_snapshots(&reader, &SnapshotFilter::default()).unwrap().len(),
            2,
            "{what}, {when}"
        );
        assert_clean(&reader, &what);
    };
    whole("before the next prune");
    ops::prune(&reader, &sweeping(), &NullMonitor).unwrap_or_else(|error| panic!("{what}: next prune: {error}"));
    whole("after the next prune");
    let last = ops::prune(&reader, &sweeping(), &NullMonitor).unwrap();
    assert_eq!(
        (last.removed_packs, last.rewritten_packs, last.pending_bytes),
        (0, 0, 0),
        "{what}: {last:?}"
    );
    was_reached
}

#[test]
fn a_prune_survives_any_request_that_fails_loses_its_answer_or_is_late() {
    let flavor = Flavor::plain();
    let mut requests = 0;
    while prune_with_fate(requests + 1, Fate::Lost, true, flavor) {
        requests += 1;
        for (fate, is_cut) in [(Fate::AnswerLost, true), (Fate::Late, false), (Fate::Late, true)] {
            prune_with_fate(requests, fate, is_cut, flavor);
        }
    }
    assert!(requests > 20, "a prune makes more requests than {requests}");
}
