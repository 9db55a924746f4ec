//! Prune and forget through the public API: what is kept restores, what is not needed is deleted,
//! and dry runs report what a prune does.

use crate::support::faults::{HookedMonitor, HookedSource, HookedStorage, code, files_of, memory_of};
use crate::support::*;
use containerarchive::Error;
use containerarchive::id::{PackId, SnapshotId};
use containerarchive::layout;
use containerarchive::lock::{KillList, KillListId};
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{
    self, IngestOptions, PruneOptions, PruneReport, ReaderItems, VerifyLevel, VerifyOptions, VerifyReport,
};
use containerarchive::repo::{InitOptions, ParityParams, Repository};
use containerarchive::snapshot::retention::{Keep, RetentionPolicy};
use containerarchive::snapshot::{Snapshot, SnapshotFilter};
use containerarchive::storage::{ErrorKind, FaultyStorage, MemoryStorage, Storage, put_bytes};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

fn keep_last(count: u32) -> PruneOptions {
    PruneOptions::new(RetentionPolicy {
        keep_last: Keep::Count(count),
        ..RetentionPolicy::default()
    })
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

fn verify(repo: &Arc<Repository>, level: VerifyLevel) -> VerifyReport {
    let options = VerifyOptions { level, subset: None };
    ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap()
}

/// Checks everything that must hold after any prune: a full verify without problems or notes, and
/// no leftovers.
fn assert_sound(repo: &Arc<Repository>) {
    let report = verify(repo, VerifyLevel::Full);
    assert!(report.problems.is_empty() && report.notes.is_empty(), "{report:?}");
    let storage = repo.storage();
    assert!(storage.list(layout::MARKS).unwrap().is_empty());
    let packs = storage.list(layout::DATA).unwrap();
    let of = |ending: &str| -> BTreeSet<PackId> {
        packs
            .iter()
            .filter_map(|file| layout::id_of(&file.key, ending))
            .map(PackId)
            .collect()
    };
    assert_eq!(of(".pack"), of(".idx"));
    // the index names exactly the existing packs
    let named: BTreeSet<PackId> = repo.index().packs().unwrap().into_keys().collect();
    assert_eq!(named, of(".pack"));
}

fn stored_bytes(repo: &Repository) -> u64 {
    let source = repo.index().all_entries().unwrap();
    use containerarchive::index::EntrySource;
    source
        .scan()
        .map(|entry| u64::from(entry.unwrap().entry.payload_len))
        .sum()
}

fn new_repo(flavor: Flavor) -> (Arc<MemoryStorage>, Arc<Repository>) {
    let storage = Arc::new(MemoryStorage::new());
    let repo = init(environment(storage.clone(), 1), flavor).unwrap();
    (storage, repo)
}

/// Ingests with an explicit time, since snapshots of the same millisecond have no order.
fn ingest_at(repo: &Arc<Repository>, data: &[u8], hour: i64) -> Snapshot {
    let mut items = ReaderItems::one("data", "test", data);
    let options = IngestOptions {
        created_at_ms: Some(1_700_000_000_000 + hour * 3_600_000),
        ..IngestOptions::default()
    };
    ops::ingest(repo, &mut items, &options, &NullMonitor).unwrap()
}

/// Day `n` of a history: half of the data stays, a part changes every day.
fn day(n: u64) -> Vec<u8> {
    let mut data = random_bytes(1, 200_000);
    for part in 0..10u64 {
        let changed = random_bytes(1000 + n * 10 + part, 3_000);
        let at = (part as usize * 17_000 + n as usize * 4_000) % 190_000;
        data[at..at + 3_000].copy_from_slice(&changed);
    }
    data
}

#[test]
fn prune_keeps_what_snapshots_need_and_deletes_the_rest() {
    for flavor in flavors() {
        let (_, repo) = new_repo(flavor);
        let days: Vec<_> = (0..8).map(|n| (ingest_at(&repo, &day(n), n as i64).id, n)).collect();
        let before = stored_bytes(&repo);
        let options = PruneOptions {
            max_unused: 0.0,
            ..keep_last(3)
        };
        let planned = prune(&repo, &dry(&options));
        assert_eq!(stored_bytes(&repo), before);
        let done = prune(&repo, &options);
        assert_eq!(done.removed.len(), 5);
        let mut as_planned = planned;
        assert!(std::mem::replace(&mut as_planned.dry_run, false));
        assert_eq!(done, as_planned, "the dry run and the prune differ");
        assert!(done.freed_bytes > 0 && done.rewritten_packs > 0);
        assert_eq!(stored_bytes(&repo), before - done.freed_bytes);
        for (id, n) in &days[..5] {
            assert!(
                matches!(restore(&repo, &id.to_hex(), None), Err(Error::SnapshotNotFound { .. })),
                "{n}"
            );
        }
        for (id, n) in &days[5..] {
            assert!(restore(&repo, &id.to_hex(), None).unwrap() == day(*n));
        }
        assert_sound(&repo);
        // nothing is left to do
        let again = prune(&repo, &options);
        assert_eq!(
            (again.removed_packs, again.rewritten_packs, again.freed_bytes),
            (0, 0, 0)
        );
        // and every indexed chunk is needed by a snapshot
        let live: BTreeSet<_> = needed_chunks(&repo);
        assert_eq!(indexed_chunks(&repo), live);
        // the handle still ingests after its prune
        let next = ingest(&repo, &day(9)).unwrap();
        assert!(restore(&repo, &next.id.to_hex(), None).unwrap() == day(9));
    }
}

fn needed_chunks(repo: &Repository) -> BTreeSet<containerarchive::id::ChunkId> {
    use containerarchive::snapshot::ListWalker;
    let mut needed = BTreeSet::new();
    for snapshot in ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap() {
        for item in &snapshot.items {
            let mut walker = ListWalker::new(item, 0).unwrap();
            let mut scratch = containerarchive::repo::read::ReadScratch::default();
            let nodes = std::cell::RefCell::new(&mut needed);
            let mut fetch = |id: &containerarchive::id::ChunkId| {
                nodes.borrow_mut().insert(*id);
                containerarchive::repo::read::get_node(repo, id, &mut scratch)
            };
            while let Some(chunk) = walker.next_chunk::<Error>(&mut fetch).unwrap() {
                nodes.borrow_mut().insert(chunk.id);
            }
        }
    }
    needed
}

fn indexed_chunks(repo: &Repository) -> BTreeSet<containerarchive::id::ChunkId> {
    use containerarchive::index::EntrySource;
    let source = repo.index().all_entries().unwrap();
    source.scan().map(|entry| entry.unwrap().entry.id).collect()
}

/// Returns the stored bytes of each chunk.
fn stored_forms(repo: &Repository) -> BTreeMap<containerarchive::id::ChunkId, Vec<u8>> {
    let stored = |id: &containerarchive::id::ChunkId| {
        let location = repo.locate_published(id).unwrap().remove(0);
        let mut bytes = vec![0; location.entry.payload_len as usize];
        let key = layout::pack(&location.pack);
        repo.storage()
            .get_range(&key, location.entry.offset.into(), &mut bytes)
            .unwrap();
        bytes
    };
    indexed_chunks(repo).iter().map(|id| (*id, stored(id))).collect()
}

/// Needs more chunks than are marked in one scan of the index, in more packs than are rewritten per
/// scan.
#[test]
fn prune_keeps_exactly_the_needed_chunks_in_their_stored_form() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (_, repo) = new_repo(flavor);
        let data = [1, 2].map(|seed| random_bytes(seed, 3_000_000));
        // needed and unneeded pieces alternate in every pack
        let both = data[0].chunks(40_000).zip(data[1].chunks(40_000));
        let mixed: Vec<u8> = both.flat_map(|(one, two)| [one, two].concat()).collect();
        let old = ingest(&repo, &mixed).unwrap();
        let kept = ingest(&repo, &data[0]).unwrap();
        ops::forget(&repo, &[old.id]).unwrap();
        let before = stored_forms(&repo);
        let all = PruneOptions {
            max_unused: 0.0,
            ..PruneOptions::keep_all()
        };
        let done = prune(&repo, &all);
        assert!(done.rewritten_packs > 40, "{done:?}");
        assert_eq!(indexed_chunks(&repo), needed_chunks(&repo));
        assert!(needed_chunks(&repo).len() > 2000);
        // copied in stored form, not sealed again
        for (id, bytes) in stored_forms(&repo) {
            assert!(before[&id] == bytes, "{id}");
        }
        assert!(restore(&repo, &kept.id.to_hex(), None).unwrap() == data[0]);
        assert_sound(&repo);
    }
}

#[test]
fn prune_that_allows_all_waste_copies_nothing() {
    assert_eq!(PruneOptions::keep_all().max_unused, 0.05);
    let (_, repo) = new_repo(Flavor::plain());
    let ids: Vec<SnapshotId> = (0..40)
        .map(|n| ingest(&repo, &random_bytes(n, 2_000)).unwrap().id)
        .collect();
    ops::forget(&repo, &ids[..10]).unwrap();
    let all_waste = PruneOptions {
        max_unused: 1.0,
        ..PruneOptions::keep_all()
    };
    let done = prune(&repo, &all_waste);
    assert!(done.rewritten_packs == 0 && done.removed_packs >= 10, "{done:?}");
    assert_sound(&repo);
}

#[test]
fn forgotten_snapshots_disappear_at_once_and_their_data_with_the_next_prune() {
    let (_, repo) = new_repo(Flavor::sealed());
    let one = ingest(&repo, &random_bytes(1, 150_000)).unwrap();
    let two = ingest(&repo, &random_bytes(2, 150_000)).unwrap();
    assert_eq!(ops::forget(&repo, &[one.id]).unwrap(), [one.id]);
    let unknown = [two.id, SnapshotId([7; 16])];
    assert_eq!(code(ops::forget(&repo, &unknown)), "ERR_SNAPSHOT_NOT_FOUND");
    assert_eq!(ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap().len(), 1);
    // a repair does not bring it back
    ops::repair(&repo, &NullMonitor).unwrap();
    assert_eq!(ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap().len(), 1);
    let freed = prune(&repo, &PruneOptions::keep_all());
    assert_eq!(freed.removed, []);
    assert!(freed.freed_bytes >= one.stored_size);
    // the record is deleted, since no copy of the manifest is left
    assert_eq!(repo.storage().list(layout::RECORDS).unwrap(), []);
    ops::repair(&repo, &NullMonitor).unwrap();
    assert_eq!(ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap().len(), 1);
    assert_sound(&repo);
}

#[test]
fn prune_of_all_but_one_empty_snapshot_leaves_almost_nothing() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (_, repo) = new_repo(flavor);
        for n in 0..6 {
            ingest_at(&repo, &random_bytes(n, 300_000), n as i64);
        }
        let empty = ingest_at(&repo, b"", 6);
        let done = prune(&repo, &keep_last(1));
        assert_eq!(done.kept.iter().map(|kept| kept.id).collect::<Vec<_>>(), [empty.id]);
        assert_eq!(stored_bytes(&repo), 0);
        assert_sound(&repo);
        assert_eq!(restore(&repo, &empty.id.to_hex(), None).unwrap(), b"");
        let next = ingest(&repo, &random_bytes(3, 300_000)).unwrap();
        assert!(next.new_chunks > 0);
        assert!(restore(&repo, &next.id.to_hex(), None).unwrap() == random_bytes(3, 300_000));
    }
}

#[test]
fn prune_combines_small_packs_of_many_small_snapshots() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (_, repo) = new_repo(flavor);
        let all: Vec<SnapshotId> = (0..40)
            .map(|n| ingest(&repo, &random_bytes(n, 2_000)).unwrap().id)
            .collect();
        let before = repo.storage().list(layout::DATA).unwrap().len();
        let done = prune(&repo, &PruneOptions::keep_all());
        assert!(done.rewritten_packs >= 60, "{}", done.rewritten_packs);
        assert_eq!(done.freed_bytes, 0);
        let after = repo.storage().list(layout::DATA).unwrap().len();
        assert!(after * 8 < before, "{before} files became {after}");
        for (n, id) in (0..).zip(&all) {
            assert!(restore(&repo, &id.to_hex(), None).unwrap() == random_bytes(n, 2_000));
        }
        assert_sound(&repo);
        // every manifest can still be rebuilt from its copy
        for id in &all {
            repo.storage().delete(&layout::snapshot(id)).unwrap();
        }
        assert_eq!(ops::repair(&repo, &NullMonitor).unwrap().manifests_restored, 40);
        // verify reports each missing file of the new parity groups, and repair rebuilds it with
        // the same bytes
        for file in repo.storage().list(layout::PARITY).unwrap() {
            let bytes = repo.storage().get(&file.key, u64::MAX).unwrap();
            repo.storage().delete(&file.key).unwrap();
            assert!(!verify(&repo, VerifyLevel::Quick).ok(), "{}", file.key);
            ops::repair(&repo, &NullMonitor).unwrap();
            assert!(
                repo.storage().get(&file.key, u64::MAX).unwrap() == bytes,
                "{}",
                file.key
            );
        }
        // each of the new packs is protected
        let report = verify(&repo, VerifyLevel::Full);
        assert!(
            report.problems.is_empty() && report.notes.is_empty(),
            "{:?}",
            report.notes
        );
    }
}

#[test]
fn parity_still_heals_any_pack_after_a_prune_removed_members_of_groups() {
    for (data, parity) in [(4, 1), (5, 2)] {
        for flavor in [Flavor::plain(), Flavor::sealed()] {
            let options = InitOptions {
                parity: Some(Some(ParityParams { data, parity })),
                ..flavor.small()
            };
            let storage = Arc::new(MemoryStorage::new());
            let repo = containerarchive::repo::init(environment(storage, 1), flavor.secret().as_ref(), &options);
            let repo = Arc::new(repo.unwrap());
            let days: Vec<_> = (0..6).map(|n| ingest(&repo, &day(n)).unwrap().id).collect();
            ops::forget(&repo, &[days[0], days[2], days[3]]).unwrap();
            prune(
                &repo,
                &PruneOptions {
                    max_unused: 0.0,
                    ..PruneOptions::keep_all()
                },
            );
            assert_sound(&repo);
            let storage = repo.storage();
            for file in storage
                .list(layout::DATA)
                .unwrap()
                .iter()
                .filter(|file| file.key.ends_with(".pack"))
            {
                let bytes = storage.get(&file.key, u64::MAX).unwrap();
                storage.delete(&file.key).unwrap();
                assert_eq!(
                    ops::repair(&repo, &NullMonitor).unwrap().packs_repaired,
                    1,
                    "{}",
                    file.key
                );
                assert!(storage.get(&file.key, u64::MAX).unwrap() == bytes);
            }
        }
    }
}

#[test]
fn a_second_prune_finds_no_more_waste_than_is_allowed() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        for max_unused in [0.02, 0.1, 0.2, 0.3, 0.5] {
            let (_, repo) = new_repo(flavor);
            (0..8).for_each(|n| drop(ingest_at(&repo, &day(n), n as i64)));
            let options = PruneOptions {
                max_unused,
                ..keep_last(2)
            };
            prune(&repo, &options);
            let again = prune(&repo, &options);
            assert_eq!((again.rewritten_packs, again.freed_bytes), (0, 0), "{max_unused}");
        }
    }
}

#[test]
fn an_ingest_that_begins_at_any_moment_of_a_prune_succeeds() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        for moment in 1.. {
            let (storage, repo) = new_repo(flavor);
            let (waste, kept) = (random_bytes(1, 100_000), day(1));
            let forgotten = ingest(&repo, &waste).unwrap();
            ingest(&repo, &kept).unwrap();
            ops::forget(&repo, &[forgotten.id]).unwrap();

            // the ingest reuses chunks that no snapshot needs, and waits before its commit until
            // the prune has ended
            let (tell_ready, is_ready) = mpsc::channel();
            let (tell_pruned, is_pruned) = mpsc::channel();
            let waiting = Mutex::new(Some((tell_ready, is_pruned)));
            let hooked = HookedStorage::new(storage, move |op, key| {
                if op == "lock"
                    && key == layout::COMMIT_LOCK
                    && let Some((ready, pruned)) = waiting.lock().unwrap().take()
                {
                    ready.send(()).unwrap();
                    pruned.recv().unwrap();
                }
            });
            let other = open(environment(Arc::new(hooked), 3), flavor).unwrap();
            let again = waste.clone();
            let (tell_thread, thread) = mpsc::channel();
            let monitor = HookedMonitor::new(moment, move || {
                let ingesting = std::thread::spawn(move || ingest(&other, &again));
                tell_thread.send(ingesting).unwrap();
                is_ready.recv().unwrap();
            });
            ops::prune(&repo, &PruneOptions::keep_all(), &monitor).unwrap();
            drop(monitor);
            let Ok(thread) = thread.recv() else {
                assert!(moment > 3, "{moment}");
                break;
            };
            tell_pruned.send(()).unwrap();
            let snapshot = thread.join().unwrap();
            let snapshot = snapshot.unwrap_or_else(|error| panic!("at {moment}: {error}"));
            assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == waste);
            prune(&repo, &PruneOptions::keep_all());
            assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == waste);
            assert_sound(&repo);
        }
    }
}

#[test]
fn prune_writes_a_group_record_again_that_a_power_loss_removed() {
    let (storage, repo) = new_repo(Flavor::plain());
    let all: Vec<_> = (0..5)
        .map(|n| ingest(&repo, &random_bytes(n, 300_000)).unwrap().id)
        .collect();
    let files = files_of(storage.as_ref());
    let records: Vec<&String> = files.keys().filter(|key| key.ends_with(".grp")).collect();
    assert!(records.len() > 3);
    for key in records {
        let storage = memory_of(&files);
        let repo = open(environment(storage.clone(), 2), Flavor::plain()).unwrap();
        storage.delete(key).unwrap();
        ops::forget(&repo, &[all[4]]).unwrap();
        prune(&repo, &PruneOptions::keep_all());
        let report = verify(&repo, VerifyLevel::Full);
        assert!(report.problems.is_empty(), "{key}: {report:?}");
    }
}

#[test]
fn damage_to_a_condemned_pack_is_not_a_problem() {
    let (storage, repo) = new_repo(Flavor::plain());
    let old = ingest(&repo, &random_bytes(1, 60_000)).unwrap();
    let packs: BTreeMap<PackId, u64> = repo.index().packs().unwrap().into_iter().collect();
    ingest(&repo, &random_bytes(2, 60_000)).unwrap();
    ops::forget(&repo, &[old.id]).unwrap();
    // as a prune leaves it that was killed right after its decision
    let list = KillList {
        id: KillListId([1; 16]),
        repo: repo.config().id,
        hint: false,
        packs: packs.keys().copied().collect(),
        sessions: Vec::new(),
    };
    put_bytes(
        storage.as_ref(),
        &list.id.key(),
        &list.encode(repo.seal().as_ref()).unwrap(),
    )
    .unwrap();
    for (pack, len) in packs {
        let key = layout::pack(&pack);
        let mut bytes = storage.get(&key, len).unwrap();
        bytes[100] ^= 1;
        storage.delete(&key).unwrap();
        put_bytes(storage.as_ref(), &key, &bytes[..bytes.len() / 2]).unwrap();
    }
    for level in [VerifyLevel::Quick, VerifyLevel::Standard, VerifyLevel::Full] {
        let report = verify(&repo, level);
        assert!(report.problems.is_empty(), "{level:?}: {report:?}");
    }
    ops::repair(&repo, &NullMonitor).unwrap();
    prune(&repo, &PruneOptions::keep_all());
    assert_sound(&repo);
}

#[test]
fn an_ingest_whose_packs_a_forced_prune_deleted_fails_and_leaves_no_damage() {
    let (storage, repo) = new_repo(Flavor::plain());
    ingest(&repo, &random_bytes(1, 100_000)).unwrap();
    let other = open(environment(storage.clone(), 2), Flavor::plain()).unwrap();
    let data = random_bytes(2, 5_000_000);
    for unlocked in [false, true] {
        let source = HookedSource {
            data: &data,
            at: 4_500_000,
            hook: Some(|| {
                if unlocked {
                    assert_eq!(ops::unlock(&other, true).unwrap().len(), 1);
                }
                let force = PruneOptions {
                    force: true,
                    ..PruneOptions::keep_all()
                };
                assert!(prune(&other, &force).removed_packs > 0);
            }),
            given: 0,
        };
        let mut items = ReaderItems::one("data", "test", source);
        let result = ops::ingest(&repo, &mut items, &IngestOptions::default(), &NullMonitor);
        assert_eq!(code(result), "ERR_CONFLICT");
        let report = verify(&other, VerifyLevel::Full);
        assert!(report.problems.is_empty(), "{report:?}");
        prune(&other, &PruneOptions::keep_all());
        assert_sound(&other);
    }
}

#[test]
fn a_writer_that_dies_after_a_forced_unlock_leaves_no_snapshot_reported_lost() {
    let (storage, repo) = new_repo(Flavor::plain());
    ingest(&repo, &random_bytes(1, 100_000)).unwrap();
    // before the copy of the manifest is stored, and after it
    for at in [layout::DATA, layout::INDEX] {
        let is_first = AtomicBool::new(true);
        let faulty = Arc::new(FaultyStorage::new(storage.clone()));
        let dies = |op: &str, key: &str| {
            op == "put_new"
                && [layout::SNAPSHOTS, layout::RECORDS]
                    .iter()
                    .any(|folder| key.starts_with(folder))
        };
        faulty.fail_when(dies, ErrorKind::Io);
        let other = Arc::clone(&repo);
        let hooked = HookedStorage::new(faulty, move |op, key| {
            if op == "put_new" && key.starts_with(at) && is_first.swap(false, Ordering::SeqCst) {
                ops::unlock(&other, true).unwrap();
                prune(&other, &PruneOptions::keep_all());
            }
        });
        let dying = open(environment(Arc::new(hooked), 3), Flavor::plain()).unwrap();
        assert!(ingest(&dying, &random_bytes(2, 100_000)).is_err());
        let report = verify(&repo, VerifyLevel::Full);
        assert!(report.problems.is_empty(), "{at}: {report:?}");
        assert_eq!(ops::repair(&repo, &NullMonitor).unwrap().manifests_restored, 0);
        prune(&repo, &PruneOptions::keep_all());
        assert_sound(&repo);
    }
}

#[test]
fn forgotten_snapshots_do_not_come_back_with_a_lost_or_damaged_pack() {
    for is_lost in [true, false] {
        let (storage, repo) = new_repo(Flavor::plain());
        let kept = ingest(&repo, &random_bytes(1, 60_000)).unwrap();
        let before: BTreeSet<String> = files_of(storage.as_ref()).into_keys().collect();
        let old = ingest(&repo, &random_bytes(2, 60_000)).unwrap();
        let packs: Vec<String> = (files_of(storage.as_ref()).into_keys())
            .filter(|key| key.ends_with(".pack") && !before.contains(key))
            .collect();
        ops::forget(&repo, &[old.id]).unwrap();
        for key in &packs {
            let (repo, storage) = {
                let storage = memory_of(&files_of(storage.as_ref()));
                (open(environment(storage.clone(), 3), Flavor::plain()).unwrap(), storage)
            };
            let mut bytes = storage.get(key, 1 << 24).unwrap();
            storage.delete(key).unwrap();
            if !is_lost {
                bytes.fill(7);
                put_bytes(storage.as_ref(), key, &bytes).unwrap();
            }
            let all_waste = PruneOptions {
                max_unused: 1.0,
                ..PruneOptions::keep_all()
            };
            prune(&repo, &all_waste);
            ops::repair(&repo, &NullMonitor).unwrap();
            let listed = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap();
            assert_eq!(
                listed.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(),
                [kept.id],
                "{key}"
            );
            let report = verify(&repo, VerifyLevel::Full);
            assert!(report.problems.is_empty(), "{key}: {report:?}");
        }
    }
}

/// A repository with unneeded data in separate packs, in parts of packs, and in many small packs.
fn with_waste(flavor: Flavor) -> Arc<MemoryStorage> {
    let (storage, repo) = new_repo(flavor);
    let half = |number| [day(1), random_bytes(number, 30_000)].concat();
    let forgotten = [random_bytes(1, 60_000), half(2), half(3)].map(|data| ingest(&repo, &data).unwrap().id);
    for number in 4..9 {
        ingest(&repo, &random_bytes(number, 3_000)).unwrap();
    }
    ingest(&repo, &half(9)).unwrap();
    ops::forget(&repo, &forgotten).unwrap();
    storage
}

/// Returns `inner` with a hook that runs `work` before call number `moment`. The calls of `work`
/// itself go to `inner` directly and are not counted.
fn interrupted(
    inner: Arc<dyn Storage>,
    moment: usize,
    work: impl Fn(&str) + Send + Sync + 'static,
) -> Arc<HookedStorage> {
    let calls = AtomicUsize::new(0);
    Arc::new(HookedStorage::new(inner, move |op, key| {
        if calls.fetch_add(1, Ordering::SeqCst) == moment {
            work(&format!("before {op} {key} ({moment})"));
        }
    }))
}

#[test]
fn verify_reports_no_damage_at_any_moment_of_a_prune() {
    let all = PruneOptions {
        max_unused: 0.0,
        ..PruneOptions::keep_all()
    };
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let files = files_of(with_waste(flavor).as_ref());
        for level in [VerifyLevel::Quick, VerifyLevel::Full] {
            for order in 0..2 {
                let met = Arc::new(AtomicBool::new(true));
                for moment in (0..).step_by(3) {
                    if !met.swap(false, Ordering::SeqCst) {
                        assert!(moment > 60, "{moment}");
                        break;
                    }
                    let storage = memory_of(&files);
                    let (quiet, met, options) = (storage.clone(), Arc::clone(&met), all.clone());
                    let other = open(environment(quiet, 2), flavor).unwrap();
                    // a complete prune within the verify, or a complete verify within the prune
                    let hooked = interrupted(storage, moment, move |when| {
                        met.store(true, Ordering::SeqCst);
                        if order == 0 {
                            prune(&other, &options);
                        } else {
                            let report = verify(&other, level);
                            assert!(report.ok(), "{when}: {:?}", report.problems);
                        }
                    });
                    let repo = open(environment(hooked, 3), flavor).unwrap();
                    if order == 0 {
                        let report = verify(&repo, level);
                        assert!(report.ok(), "{moment}: {:?}", report.problems);
                    } else {
                        prune(&repo, &all);
                    }
                }
            }
        }
    }
}

#[test]
fn a_forget_of_many_lets_other_processes_commit_in_between() {
    let (storage, repo) = new_repo(Flavor::plain());
    let ids: Vec<SnapshotId> = (0..150).map(|hour| ingest_at(&repo, b"same", hour).id).collect();
    let (removed, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, longest) = (Arc::clone(&removed), Arc::clone(&most));
    let counted = HookedStorage::new(storage, move |op, key| match op {
        "lock" if key == layout::COMMIT_LOCK => now.store(0, Ordering::SeqCst),
        "delete" if key.starts_with(layout::SNAPSHOTS) => {
            longest.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        }
        _ => {}
    });
    let other = open(environment(Arc::new(counted), 2), Flavor::plain()).unwrap();
    assert_eq!(ops::forget(&other, &ids[1..]).unwrap().len(), 149);
    // the number of deletes while the lock is held once
    assert_eq!(most.load(Ordering::SeqCst), 64);
    let left = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap();
    assert_eq!(left.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), ids[..1]);
}

/// Everything that the snapshot needs is there except the copy of its own manifest.
#[test]
fn an_ingest_without_new_data_notices_that_a_prune_deleted_its_manifest_copy() {
    let (storage, repo) = new_repo(Flavor::plain());
    let kept = ingest(&repo, &random_bytes(1, 100_000)).unwrap();
    let (commits, other) = (AtomicUsize::new(0), Arc::clone(&repo));
    let hooked = HookedStorage::new(storage, move |op, key| {
        // the first request is for the copy of the manifest
        if op == "lock" && key == layout::COMMIT_LOCK && commits.fetch_add(1, Ordering::SeqCst) == 1 {
            assert_eq!(ops::unlock(&other, true).unwrap().len(), 1);
            assert!(prune(&other, &PruneOptions::keep_all()).removed_packs > 0);
        }
    });
    let writer = open(environment(Arc::new(hooked), 3), Flavor::plain()).unwrap();
    let failed = ingest(&writer, &random_bytes(1, 100_000));
    assert_eq!(code(failed), "ERR_CONFLICT");
    let again = ingest(&writer, &random_bytes(1, 100_000)).unwrap();
    prune(&repo, &PruneOptions::keep_all());
    assert_sound(&repo);
    // each manifest has a copy
    for id in [kept.id, again.id] {
        let key = layout::snapshot(&id);
        let manifest = repo.storage().get(&key, 1 << 20).unwrap();
        repo.storage().delete(&key).unwrap();
        assert_eq!(ops::repair(&repo, &NullMonitor).unwrap().manifests_restored, 1);
        assert!(repo.storage().get(&key, 1 << 20).unwrap() == manifest);
    }
}

#[test]
fn a_forget_that_failed_halfway_can_be_retried() {
    let (storage, repo) = new_repo(Flavor::plain());
    let ids: Vec<SnapshotId> = (0..100).map(|hour| ingest_at(&repo, b"same", hour).id).collect();
    let faulty = Arc::new(FaultyStorage::new(storage));
    let other = open(environment(faulty.clone(), 2), Flavor::plain()).unwrap();
    let locks = AtomicUsize::new(0);
    let second = move |op: &str, key: &str| {
        op == "lock" && key == layout::COMMIT_LOCK && locks.fetch_add(1, Ordering::SeqCst) == 1
    };
    faulty.fail_when(second, ErrorKind::Io);
    assert_eq!(code(ops::forget(&other, &ids[1..])), "ERR_STORAGE");
    assert_eq!(ops::forget(&other, &ids[1..]).unwrap().len(), 35);
    let left = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap();
    assert_eq!(left.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), ids[..1]);
    assert_eq!(ops::forget(&other, &ids[1..]).unwrap(), []);
    // a session without a snapshot has nothing to forget
    let typo = [SnapshotId([9; 16]), ids[0]];
    assert_eq!(code(ops::forget(&other, &typo)), "ERR_SNAPSHOT_NOT_FOUND");
    prune(&repo, &PruneOptions::keep_all());
    assert_eq!(code(ops::forget(&other, &ids[1..])), "ERR_SNAPSHOT_NOT_FOUND");
}
