//! Reindex: the index is rebuilt from the packs whatever is wrong with it, also during ingests and
//! restores, and is complete at every moment.

use crate::support::faults::*;
use crate::support::*;
use containerarchive::entropy::SeededEntropy;
use containerarchive::index::EntrySource;
use containerarchive::lock::{KillList, KillListId};
use containerarchive::monitor::NullMonitor;
use containerarchive::repo::{Repository, read_any_index};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::storage::simfs::{LossModel, SimFs};
use containerarchive::storage::{LocalStorage, MemoryStorage, Storage, put_bytes};
use containerarchive::{layout, ops};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn both() -> [Known; 2] {
    [Known::new(Flavor::plain()), Known::new(Flavor::sealed())]
}

/// Returns all (id, pack) pairs of the index.
fn pairs(repo: &Repository) -> BTreeSet<String> {
    let source = repo.index().all_entries().unwrap();
    let name = |found: containerarchive::index::SegmentEntry| {
        format!("{} {}", found.entry.id, source.packs()[found.pack as usize].0)
    };
    source.scan().map(|found| name(found.unwrap())).collect()
}

fn assert_snapshots_restore(known: &Known, repo: &Arc<Repository>, what: &str) {
    for (snapshot, data) in &known.snapshots {
        assert!(restore(repo, &snapshot.id.to_hex(), None).unwrap() == *data, "{what}");
    }
}

#[test]
fn reindex_leaves_one_segment_with_the_same_entries() {
    for known in both() {
        let (repo, storage, _) = known.open(&known.files);
        let repo = repo.unwrap();
        let before = pairs(&repo);
        for _ in 0..2 {
            ops::reindex(&repo, &NullMonitor).unwrap();
            assert_eq!(pairs(&repo), before);
            assert_eq!(storage.list(layout::INDEX).unwrap().len(), 1);
            assert_snapshots_restore(&known, &repo, "reindexed");
        }
        let (repo, _, monitor) = known.open(&files_of(storage.as_ref()));
        let repo = repo.unwrap();
        assert_eq!(pairs(&repo), before);
        assert_eq!(codes(&monitor), [""; 0]);
        for (_, data) in &known.snapshots {
            assert_eq!(ingest(&repo, data).unwrap().new_chunks, 0);
        }
        // only the index is changed
        let is_segment = |key: &String| key.ends_with(".seg");
        let after = files_of(storage.as_ref());
        assert!(
            known
                .files
                .iter()
                .filter(|(key, _)| !is_segment(key))
                .all(|(key, bytes)| after[key] == *bytes)
        );
        assert_eq!(after.keys().filter(|key| !is_segment(key)).count() + 1, after.len());
    }
}

#[test]
fn reindex_succeeds_with_damaged_lost_and_foreign_segments() {
    for known in both() {
        let segments = known.keys(layout::INDEX, ".seg");
        let (repo, _, _) = known.open(&known.files);
        let expected = pairs(&repo.unwrap());
        let half: Vec<u8> = known.files[&segments[0]][..4096].to_vec();
        for changed in [None, Some(b"garbage".to_vec()), Some(half)] {
            let (repo, storage, _) = known.open(&known.files);
            let repo = repo.unwrap();
            // under an open handle
            for segment in &segments {
                storage.delete(segment).unwrap();
                changed
                    .as_ref()
                    .map(|bytes| put_bytes(storage.as_ref(), segment, bytes).unwrap());
            }
            ops::reindex(&repo, &NullMonitor).unwrap();
            let (repo, _, monitor) = known.open(&files_of(storage.as_ref()));
            let repo = repo.unwrap();
            assert_eq!(pairs(&repo), expected, "{changed:?}");
            assert_snapshots_restore(&known, &repo, "segments");
            assert_eq!(codes(&monitor), [""; 0], "{changed:?}");
        }
    }
}

#[test]
fn reindex_keeps_entries_that_only_the_old_index_has() {
    // neither the .idx nor the trailer of a pack can be read, but its chunks can
    for known in both() {
        let pack = known
            .keys(layout::DATA, ".pack")
            .into_iter()
            .max_by_key(|key| known.files[key].len());
        let pack = pack.unwrap();
        let mut bytes = known.files[&pack].clone();
        let len = bytes.len();
        bytes[len - 1] ^= 1;
        let files = with(
            &with(&known.files, &pack, Some(bytes)),
            &pack.replace(".pack", ".idx"),
            None,
        );
        let (repo, _, _) = known.open(&files);
        let repo = repo.unwrap();
        let before = pairs(&repo);
        ops::reindex(&repo, &NullMonitor).unwrap();
        assert_eq!(pairs(&repo), before);
        assert_snapshots_restore(&known, &repo, "an unreadable trailer");
    }
}

#[test]
fn reindex_omits_condemned_packs_unless_a_snapshot_needs_them() {
    let known = Known::new(Flavor::plain());
    let (repo, storage, _) = known.open(&known.files);
    let repo = repo.unwrap();
    let needed = *repo.index().packs().unwrap().keys().min().unwrap();
    let forgotten = ingest(&repo, &random_bytes(99, 20_000)).unwrap();
    let of_forgotten = |pack: &&containerarchive::id::PackId| {
        read_any_index(&repo, pack).is_ok_and(|index| index.header.session == forgotten.id)
    };
    let named = repo.index().packs().unwrap();
    let unneeded = *named.keys().find(of_forgotten).unwrap();
    ops::forget(&repo, &[forgotten.id]).unwrap();
    let mut packs = vec![needed, unneeded];
    packs.sort_unstable();
    let list = KillList {
        id: KillListId([1; 16]),
        repo: repo.config().id,
        hint: false,
        packs,
        sessions: Vec::new(),
    };
    put_bytes(
        storage.as_ref(),
        &list.id.key(),
        &list.encode(repo.seal().as_ref()).unwrap(),
    )
    .unwrap();
    ops::reindex(&repo, &NullMonitor).unwrap();
    let packs = repo.index().packs().unwrap();
    assert!(packs.contains_key(&needed) && !packs.contains_key(&unneeded));
    assert_snapshots_restore(&known, &repo, "a list with a needed pack");
}

#[test]
fn ingests_and_restores_continue_during_a_reindex() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let repo = init(threaded_environment(Arc::clone(&storage), 1, 2), flavor).unwrap();
        let base = random_bytes(1, 200_000);
        let first = ingest(&repo, &base).unwrap();
        let done = AtomicBool::new(false);
        let data = |number: u64| [&base[..50_000], &random_bytes(10 + number, 60_000)].concat();
        std::thread::scope(|scope| {
            let reindexing = scope.spawn(|| {
                let other = open(threaded_environment(Arc::clone(&storage), 2, 2), flavor).unwrap();
                let mut times = 0;
                while !done.load(Ordering::Relaxed) || times == 0 {
                    match ops::reindex(&other, &NullMonitor) {
                        Ok(()) => times += 1,
                        Err(error) => panic!("{error}"),
                    }
                }
            });
            // also after a panic, so that the other thread does not run forever
            let end = SetOnDrop(&done);
            for number in 0..8 {
                let snapshot = ingest(&repo, &data(number)).unwrap();
                assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data(number));
                assert!(restore(&repo, &first.id.to_hex(), None).unwrap() == base);
            }
            drop(end);
            reindexing.join().unwrap();
        });
        let repo = open(environment(storage, 9), flavor).unwrap();
        assert_eq!(ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap().len(), 9);
        for number in 0..8 {
            assert_eq!(ingest(&repo, &data(number)).unwrap().new_chunks, 0);
        }
    }
}

#[test]
fn a_reindex_can_be_interrupted_anywhere() {
    for known in both() {
        let disk = SimFs::new();
        let store = |disk: &SimFs, seed| LocalStorage::new(Arc::new(disk.clone()), Arc::new(SeededEntropy::new(seed)));
        let first = store(&disk, 1);
        first.create_folders(&layout::FOLDERS, &[]).unwrap();
        for (key, bytes) in &known.files {
            put_bytes(&first, key, bytes).unwrap();
        }
        // one segment is lost, so that the reindex has entries to find again
        disk.damage(&known.keys(layout::INDEX, ".seg")[0], None).unwrap();
        disk.sync_all();
        let on = |disk: &SimFs, seed: u64| open(environment(Arc::new(store(disk, seed ^ 99)), seed), known.flavor);
        let reindex = |disk: &SimFs| on(disk, 3).and_then(|repo| ops::reindex(&repo, &NullMonitor));
        let whole = disk.after_power_loss(&LossModel::Everything);
        reindex(&whole).unwrap();
        let expected = pairs(&on(&whole, 4).unwrap());
        for call in 0..=whole.mutating_calls() {
            let crashed = disk.after_power_loss(&LossModel::Everything);
            crashed.crash_at(call);
            let _ = reindex(&crashed);
            crashed.power_off();
            for model in crashed.loss_models(2) {
                let left = crashed.after_power_loss(&model);
                assert_snapshots_restore(&known, &on(&left, 5).unwrap(), &format!("call {call}, {model:?}"));
                let repo = on(&left, 6).unwrap();
                ops::reindex(&repo, &NullMonitor).unwrap();
                assert_eq!(pairs(&repo), expected, "call {call}, {model:?}");
            }
        }
    }
}

#[test]
fn a_pack_that_exists_only_as_parity_stays_in_the_index() {
    for known in both() {
        for key in known.keys(layout::DATA, ".pack") {
            let files = with(&known.files, &key, None);
            let files = with(&files, &key.replace(".pack", ".idx"), None);
            let (repo, storage, _) = known.open(&files);
            let repo = repo.unwrap();
            let before = pairs(&repo);
            ops::reindex(&repo, &NullMonitor).unwrap();
            assert!(pairs(&repo) == before, "{key}");
            assert_eq!(ops::repair(&repo, &NullMonitor).unwrap().packs_repaired, 1);
            assert!(files_of(storage.as_ref())[&key] == known.files[&key]);
        }
    }
}
