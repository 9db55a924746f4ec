//! Concurrent operations, in this process or another one, give no false alarm and leave nothing
//! unprotected.

use crate::support::faults::*;
use crate::support::*;
use containerarchive::Error;
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, IngestOptions, PruneOptions, ReaderItems, VerifyLevel, VerifyOptions, VerifyReport};
use containerarchive::repo::Repository;
use containerarchive::snapshot::Snapshot;
use containerarchive::storage::{MemoryStorage, Storage, put_bytes};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Ingests data, and calls `act` when 90 of 100 bytes have been read.
fn ingest_and(repo: &Arc<Repository>, data: &[u8], act: impl FnMut() + Send) -> Result<Snapshot, Error> {
    let source = HookedSource {
        data,
        at: data.len() / 10 * 9,
        hook: Some(act),
        given: 0,
    };
    let mut items = ReaderItems::one("data", "test", source);
    ops::ingest(repo, &mut items, &IngestOptions::default(), &NullMonitor)
}

fn verify(repo: &Arc<Repository>, level: VerifyLevel) -> VerifyReport {
    let options = VerifyOptions { level, subset: None };
    ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap()
}

fn planned(repo: &Arc<Repository>) -> Result<(), Error> {
    let dry = PruneOptions {
        dry_run: true,
        ..PruneOptions::keep_all()
    };
    ops::prune(repo, &dry, &NullMonitor).map(drop)
}

/// A prune that ignores a session deletes some of its packs; a retry reuses the rest of what the
/// session stored.
#[test]
fn a_retry_after_a_forced_unlock_and_a_prune_is_protected() {
    for (flavor, unlocks, len) in [(Flavor::plain(), true, 5_000_000), (Flavor::sealed(), false, 3_000_000)] {
        let (repo, storage) = memory_repo(flavor);
        ingest(&repo, &random_bytes(1, 100_000)).unwrap();
        let other = open(environment(storage.clone(), 2), flavor).unwrap();
        let data = random_bytes(2, len);
        let interrupted = ingest_and(&repo, &data, || {
            if unlocks {
                assert_eq!(ops::unlock(&other, true).unwrap().len(), 1);
            }
            let force = PruneOptions {
                force: !unlocks,
                ..PruneOptions::keep_all()
            };
            let report = ops::prune(&other, &force, &NullMonitor).unwrap();
            assert!(report.removed_packs > 0, "{report:?}");
        });
        assert_eq!(code(interrupted), "ERR_CONFLICT");
        let again = ingest(&repo, &data).unwrap();
        let report = verify(&other, VerifyLevel::Full);
        assert!(report.problems.is_empty(), "{report:?}");
        let files = files_of(storage.as_ref());
        for key in files.keys().filter(|key| key.ends_with(".pack")) {
            let fresh = open(environment(memory_of(&with(&files, key, None)), 50), flavor).unwrap();
            let got = restore(&fresh, &again.id.to_hex(), None);
            assert!(got.is_ok_and(|bytes| bytes == data), "without {key}");
        }
    }
}

#[test]
fn a_reader_with_a_stale_index_lists_it_again_before_reporting_it_lost() {
    let flavor = Flavor::plain();
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let writer = init(environment(storage.clone(), 1), flavor).unwrap();
    ingest(&writer, &random_bytes(9, 900_000)).unwrap();
    let (watched, monitor) = watched(storage.clone(), 2);
    let reader = open(watched, flavor).unwrap();
    let data = random_bytes(3, 40_000);
    let id = ingest(&writer, &data).unwrap().id.to_hex();
    let third = open(environment(storage.clone(), 3), flavor).unwrap();
    ingest_and(&third, &random_bytes(4, 5_000_000), || {
        let segments = || storage.list(layout::INDEX).unwrap();
        let before = segments();
        assert!(restore(&reader, &id, None).unwrap() == data);
        assert_eq!(segments(), before);
        // a reader that really misses an entry leaves the packs of the running session alone
        assert_eq!(code(restore(&reader, "00000000", None)), "ERR_SNAPSHOT_NOT_FOUND");
        reader.index_unnamed_packs().unwrap();
        assert_eq!(segments(), before);
    })
    .unwrap();
    assert_eq!(codes(&monitor), [""; 0]);
}

/// The `.idx` of a pack appears at any moment while verify checks the pack.
#[test]
fn a_pack_index_that_was_just_written_is_not_reported_missing() {
    let flavor = Flavor::plain();
    let (repo, storage) = memory_repo(flavor);
    ingest(&repo, &random_bytes(1, 50_000)).unwrap();
    let writer = open(environment(storage.clone(), 3), flavor).unwrap();
    let mut met = 0;
    ingest_and(&writer, &random_bytes(4, 5_000_000), || {
        let named = repo.index().packs().unwrap();
        let named: Vec<String> = named.keys().map(layout::pack_index).collect();
        let mut keys = storage.list(layout::DATA).unwrap().into_iter().map(|file| file.key);
        let key = keys.find(|key| key.ends_with(".idx") && !named.contains(key)).unwrap();
        let bytes = storage.get(&key, 1 << 20).unwrap();
        for moment in 0..6 {
            storage.delete(&key).unwrap();
            let calls = AtomicUsize::new(0);
            let (inner, own, content) = (storage.clone(), key.clone(), bytes.clone());
            let hooked = HookedStorage::new(storage.clone(), move |_, at| {
                if at == own && calls.fetch_add(1, Ordering::SeqCst) == moment {
                    put_bytes(inner.as_ref(), &own, &content).unwrap();
                }
            });
            let verifier = open(environment(Arc::new(hooked), 60 + moment as u64), flavor).unwrap();
            let report = verify(&verifier, VerifyLevel::Quick);
            assert!(report.problems.is_empty(), "{moment}: {report:?}");
            met += usize::from(storage.size(&key).unwrap().is_some());
            put_bytes(storage.as_ref(), &key, &bytes).unwrap();
        }
    })
    .unwrap();
    assert!(met > 1);
}

/// Segments are merged, or a prune runs, at any moment of a dry run.
#[test]
fn a_dry_run_continues_while_other_processes_merge_and_prune() {
    type Act = fn(&Arc<Repository>);
    let merges: Act = |other| {
        for seed in 50..53 {
            ingest(other, &random_bytes(seed, 60_000)).unwrap();
        }
    };
    let prunes: Act = |other| {
        let all_waste = PruneOptions {
            max_unused: 0.0,
            ..PruneOptions::keep_all()
        };
        ops::prune(other, &all_waste, &NullMonitor).unwrap();
    };
    let (repo, storage) = memory_repo(Flavor::plain());
    let shared = random_bytes(70, 30_000);
    let mut ids = Vec::new();
    for seed in 0..4 {
        let data = [&shared[..], &random_bytes(seed, 100_000 >> (2 * seed))].concat();
        ids.push(ingest(&repo, &data).unwrap().id);
    }
    ops::forget(&repo, &ids[..2]).unwrap();
    let files = files_of(storage.as_ref());
    for act in [merges, prunes] {
        let mut moment = 0;
        loop {
            let memory = memory_of(&files);
            let calls = Arc::new(AtomicUsize::new(0));
            let (inner, counted) = (memory.clone(), Arc::clone(&calls));
            let hooked = HookedStorage::new(memory, move |_, _| {
                if counted.fetch_add(1, Ordering::SeqCst) == moment {
                    act(&open(environment(inner.clone(), 77), Flavor::plain()).unwrap());
                }
            });
            let (watched, monitor) = watched(Arc::new(hooked), 3);
            let repo = open(watched, Flavor::plain()).unwrap();
            planned(&repo).unwrap();
            assert_eq!(codes(&monitor), [""; 0], "moment {moment}");
            moment += 1;
            if calls.load(Ordering::SeqCst) < moment {
                break;
            }
        }
        assert!(moment > 50);
    }
}
