//! Many concurrent writers and readers: on one handle, and on several handles of one real
//! directory.

use crate::support::*;
use containerarchive::entropy::OsEntropy;
use containerarchive::executor::PoolExecutor;
use containerarchive::lock;
use containerarchive::lock::lease;
use containerarchive::ops;
use containerarchive::repo::{Environment, Repository};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::storage::{LocalStorage, MemoryStorage, Storage};
use containerarchive::{Error, layout};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

fn real(path: &Path, threads: usize) -> Environment {
    let storage = LocalStorage::open_path(path, Arc::new(OsEntropy)).unwrap();
    Environment {
        entropy: Arc::new(OsEntropy),
        executor: Arc::new(PoolExecutor::new(threads).unwrap()),
        ..environment(Arc::new(storage), 1)
    }
}

fn all_restore(repo: &Arc<Repository>, expected: &[Vec<u8>]) {
    let snapshots = ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap();
    assert_eq!(snapshots.len(), expected.len());
    for snapshot in snapshots {
        let bytes = restore(repo, &snapshot.id.to_hex(), None).unwrap();
        assert!(
            expected.contains(&bytes),
            "snapshot {} contains data that was never stored",
            snapshot.id
        );
    }
}

/// Data of which all writers share half.
fn data_of(writer: u64, round: u64) -> Vec<u8> {
    [
        random_bytes(1, 150_000),
        random_bytes(100 + writer * 10 + round, 100_000),
    ]
    .concat()
}

/// Counts down when dropped, also after a panic, so that no thread waits forever.
struct CountDown<'a>(&'a AtomicUsize);

impl Drop for CountDown<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[test]
fn several_concurrent_ingests_on_one_handle() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let storage = Arc::new(MemoryStorage::new());
        let repo = init(threaded_environment(storage.clone(), 1, 2), flavor).unwrap();
        let gate = Barrier::new(6);
        std::thread::scope(|scope| {
            for writer in 0..6 {
                let (repo, gate) = (&repo, &gate);
                scope.spawn(move || {
                    gate.wait();
                    for round in 0..3 {
                        let data = data_of(writer, round);
                        let snapshot = ingest(repo, &data).unwrap();
                        assert_eq!(snapshot.reused_chunks + snapshot.new_chunks, snapshot.chunk_count);
                        assert!(restore(repo, &snapshot.id.to_hex(), None).unwrap() == data);
                    }
                });
            }
        });
        let expected: Vec<Vec<u8>> = (0..6)
            .flat_map(|writer| (0..3).map(move |round| data_of(writer, round)))
            .collect();
        all_restore(&repo, &expected);
        all_restore(&open(environment(storage.clone(), 2), flavor).unwrap(), &expected);
        // each writer reuses what the others have stored
        assert_eq!(ingest(&repo, &data_of(0, 0)).unwrap().new_chunks, 0);
        assert_eq!(lease::list(storage.as_ref()).unwrap(), []);
    }
}

#[test]
fn several_handles_write_and_read_one_real_directory() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let dir = tempfile::tempdir().unwrap();
        drop(init(real(dir.path(), 1), flavor).unwrap());
        let (gate, writing) = (Barrier::new(5), AtomicUsize::new(4));
        std::thread::scope(|scope| {
            for writer in 0..4 {
                let (gate, writing) = (&gate, &writing);
                let repo = open(real(dir.path(), 1), flavor).unwrap();
                scope.spawn(move || {
                    let _done = CountDown(writing);
                    gate.wait();
                    for round in 0..4 {
                        let data = data_of(writer, round);
                        let snapshot = ingest(&repo, &data).unwrap();
                        assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data);
                    }
                });
            }
            // a reader that was opened at the start sees only complete snapshots, also while
            // segments are merged
            let repo = open(real(dir.path(), 1), flavor).unwrap();
            gate.wait();
            while writing.load(Ordering::SeqCst) > 0 {
                for snapshot in ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap() {
                    let bytes = restore(&repo, &snapshot.id.to_hex(), None).unwrap();
                    assert_eq!(bytes.len() as u64, snapshot.original_size);
                }
            }
        });
        let repo = open(real(dir.path(), 2), flavor).unwrap();
        let expected: Vec<Vec<u8>> = (0..4)
            .flat_map(|writer| (0..4).map(move |round| data_of(writer, round)))
            .collect();
        all_restore(&repo, &expected);
        // geometric merging keeps the number of segments small
        assert!(repo.index().live_segments().len() <= 8);
        assert_eq!(ingest(&repo, &data_of(3, 3)).unwrap().new_chunks, 0);
    }
}

#[test]
fn open_handles_find_chunks_that_other_handles_stored() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let flavor = Flavor::sealed();
    let one = init(environment(Arc::clone(&storage), 1), flavor).unwrap();
    let two = open(environment(storage, 2), flavor).unwrap();
    for round in 0..12 {
        let data = random_bytes(round, 50_000);
        let (writer, reader) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let snapshot = ingest(writer, &data).unwrap();
        assert!(restore(reader, &snapshot.id.to_hex(), None).unwrap() == data);
        assert_eq!(ingest(reader, &data).unwrap().new_chunks, 0, "round {round}");
    }
}

#[test]
fn a_reader_continues_while_segments_are_merged() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let writer = init(environment(Arc::clone(&storage), 1), flavor).unwrap();
        let data: Vec<Vec<u8>> = (0..6).map(|seed| random_bytes(seed, 80_000)).collect();
        let held = lock::try_maint(storage.as_ref()).unwrap();
        let ids: Vec<String> = data
            .iter()
            .map(|data| ingest(&writer, data).unwrap().id.to_hex())
            .collect();
        let reader = open(environment(Arc::clone(&storage), 2), flavor).unwrap();
        // the reader knows many segments; now they are merged into one, and their files are deleted
        assert_eq!(reader.index().live_segments().len(), 6);
        drop(held);
        ingest(&writer, b"and merge").unwrap();
        assert!(writer.index().live_segments().len() <= 2);
        for (id, data) in ids.iter().zip(&data) {
            assert!(restore(&reader, id, None).unwrap() == *data, "{flavor:?}");
        }
    }
}

#[test]
fn a_restore_continues_while_its_handle_ingests_and_merges() {
    let flavor = Flavor::sealed();
    let (repo, _) = memory_repo(flavor);
    let data = random_bytes(1, 400_000);
    let id = ingest(&repo, &data).unwrap().id.to_hex();
    let plan = ops::plan_restore(&repo, &id, &ops::RestoreOptions::default()).unwrap();
    let (mut out, mut round) = (Vec::new(), 0);
    ops::restore(&repo, &plan, &containerarchive::monitor::NullMonitor, &mut |bytes| {
        out.extend_from_slice(bytes);
        round += 1;
        if round % 50 == 0 {
            ingest(&repo, &random_bytes(round, 20_000))?;
        }
        Ok::<(), Error>(())
    })
    .unwrap();
    assert!(out == data);
}

#[test]
fn closing_a_handle_ends_its_operations_and_damages_nothing() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let storage = Arc::new(MemoryStorage::new());
        let repo = init(threaded_environment(storage.clone(), 2, 2), flavor).unwrap();
        let data = random_bytes(1, 2_000_000);
        let kept = ingest(&repo, &data).unwrap();
        let begun = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let ingesting = scope.spawn(|| {
                for seed in 10.. {
                    begun.store(true, Ordering::SeqCst);
                    if let Err(error) = ingest(&repo, &random_bytes(seed, 2_000_000)) {
                        return error;
                    }
                }
                unreachable!()
            });
            while !begun.load(Ordering::SeqCst) {
                std::thread::yield_now();
            }
            repo.close();
            assert_eq!(ingesting.join().unwrap().code(), "ERR_CLOSED");
        });
        assert_eq!(
            restore(&repo, &kept.id.to_hex(), None).unwrap_err().code(),
            "ERR_CLOSED"
        );
        let fresh = open(environment(storage.clone(), 2), flavor).unwrap();
        for snapshot in ops::list_snapshots(&fresh, &SnapshotFilter::default()).unwrap() {
            assert_eq!(restore(&fresh, &snapshot.id.to_hex(), None).unwrap().len(), 2_000_000);
        }
        assert_eq!(lease::list(storage.as_ref()).unwrap(), []);
        let free = lock::commit_exclusive(storage.as_ref(), Duration::ZERO).unwrap();
        assert!(free.is_some(), "{} is still held", layout::COMMIT_LOCK);
    }
}
