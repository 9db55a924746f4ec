//! Stats: what they count, and which files they read.

use crate::support::faults::*;
use crate::support::*;
use containerarchive::layout;
use containerarchive::monitor::{Monitor, NullMonitor};
use containerarchive::ops::{self, Stats};
use containerarchive::repo::{self, InitOptions, Repository};
use containerarchive::storage::{MemoryStorage, RecordingStorage, Storage};
use std::sync::Arc;

fn stats(repo: &Arc<Repository>) -> Stats {
    ops::stats(repo, &NullMonitor).unwrap()
}

/// Returns the sum of the lengths of these files.
fn len_of(files: &Files, of: impl Fn(&str) -> bool) -> u64 {
    files
        .iter()
        .filter(|(key, _)| of(key))
        .map(|(_, bytes)| bytes.len() as u64)
        .sum()
}

#[test]
fn stats_of_an_empty_repository_report_no_data_and_its_size_on_disk() {
    for flavor in flavors() {
        let (repo, storage) = memory_repo(flavor);
        let stats = stats(&repo);
        assert_eq!((stats.snapshots, stats.items, stats.chunks, stats.packs), (0, 0, 0, 0));
        assert_eq!((stats.dedup_ratio(), stats.compression_ratio()), (None, None));
        let files = files_of(storage.as_ref());
        assert_eq!(stats.bytes.total(), len_of(&files, |_| true));
        assert_eq!(stats.bytes.keys > 0, flavor.encrypted);
        assert_eq!(stats.parity.unwrap().ratio(), None);
    }
}

#[test]
fn stats_count_everything_once_and_each_file_under_its_kind() {
    for flavor in flavors() {
        let (repo, storage) = memory_repo(flavor);
        let text = text_bytes(1, 60_000);
        let noise = random_bytes(2, 30_000);
        let first = ingest_items(&repo, &[("text", &text), ("noise", &noise)]).unwrap();
        // no new data, only list nodes and copies
        let second = ingest_items(&repo, &[("text", &text), ("again", &text), ("noise", &noise)]).unwrap();
        let found = stats(&repo);
        assert_eq!((found.snapshots, found.items), (2, 5));
        assert_eq!(found.original_bytes, first.original_size + second.original_size);
        assert_eq!(found.chunks, first.new_chunks + second.new_chunks);
        assert_eq!(found.unique_bytes, 90_000);
        assert_eq!(found.stored_bytes, first.stored_size + second.stored_size);
        assert_eq!(found.dedup_ratio(), Some(240_000.0 / 90_000.0));
        let compresses = flavor.compression != containerarchive::codec::Compression::None;
        assert_eq!(found.compression_ratio().unwrap() > 1.5, compresses);

        let files = files_of(storage.as_ref());
        let is_meta = |key: &str| files[key][12] & 2 != 0;
        let bytes = found.bytes;
        assert_eq!(
            bytes.data_packs,
            len_of(&files, |key| key.ends_with(".pack") && !is_meta(key))
        );
        assert_eq!(
            bytes.meta_packs,
            len_of(&files, |key| key.ends_with(".pack") && is_meta(key))
        );
        assert!(bytes.meta_packs > 0);
        assert_eq!(bytes.pack_indexes, len_of(&files, |key| key.ends_with(".idx")));
        assert_eq!(
            bytes.parity,
            len_of(&files, |key| key.ends_with(".par") || key.ends_with(".grp"))
        );
        assert_eq!(bytes.index, len_of(&files, |key| key.ends_with(".seg")));
        assert_eq!(bytes.snapshots, len_of(&files, |key| key.starts_with("snapshots/")));
        let keys = |key: &str| key.starts_with("keys/") || key.starts_with(layout::KEY_COPIES);
        assert_eq!(bytes.keys, len_of(&files, keys));
        assert_eq!(bytes.total(), len_of(&files, |_| true));
        assert_eq!(
            found.packs,
            files.keys().filter(|key| key.ends_with(".pack")).count() as u64
        );
        let parity = found.parity.unwrap();
        assert_eq!(
            (parity.shape.data, parity.shape.parity, parity.bytes),
            (4, 1, bytes.parity)
        );
        assert_eq!(
            parity.groups,
            files.keys().filter(|key| key.ends_with(".grp")).count() as u64
        );
        let packs = bytes.data_packs + bytes.meta_packs;
        assert_eq!(parity.ratio(), Some(bytes.parity as f64 / packs as f64));
    }
}

#[test]
fn stats_read_no_pack_and_no_pack_index() {
    let known = Known::new(Flavor::sealed());
    let recording = Arc::new(RecordingStorage::new(memory_of(&known.files)));
    let repo = open(environment(recording.clone(), 4), known.flavor).unwrap();
    recording.clear();
    stats(&repo);
    let read = recording.calls().into_iter();
    let read: Vec<_> = read
        .filter(|(op, key)| op.starts_with("get") && key.starts_with("packs/"))
        .collect();
    assert_eq!(read, []);
}

#[test]
fn stats_without_parity_report_none_and_count_duplicate_chunks_once() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let options = InitOptions {
        parity: Some(None),
        ..Flavor::plain().small()
    };
    let repo = Arc::new(repo::init(environment(storage, 1), None, &options).unwrap());
    for _ in 0..5 {
        ingest(&repo, &random_bytes(1, 20_000)).unwrap();
    }
    let found = stats(&repo);
    assert_eq!((found.parity, found.bytes.parity), (None, 0));
    assert_eq!(
        (found.snapshots, found.unique_bytes, found.original_bytes),
        (5, 20_000, 100_000)
    );
    // a chunk that is stored twice counts once
    let known = Known::new(Flavor::plain());
    let whole = stats(&known.open(&known.files).0.unwrap());
    let mut files = known.files.clone();
    files.retain(|key, _| !key.ends_with(".seg"));
    let again = stats(&known.open(&files).0.unwrap());
    assert_eq!((whole.chunks, whole.unique_bytes), (again.chunks, again.unique_bytes));
}

#[test]
fn stats_of_a_damaged_repository_keep_the_counts_that_remain_readable() {
    for known in [Known::new(Flavor::plain()), Known::new(Flavor::sealed())] {
        let whole = stats(&known.open(&known.files).0.unwrap());
        for key in known.keys(layout::INDEX, ".seg") {
            let pages = known.files[&key].len() / 4096;
            for page in 0..pages {
                let mut bytes = known.files[&key].clone();
                bytes[page * 4096 + 100] ^= 1;
                let files = with(&known.files, &key, Some(bytes));
                let found = stats(&known.open(&files).0.unwrap());
                let counts = |stats: &Stats| (stats.chunks, stats.unique_bytes, stats.stored_bytes, stats.packs);
                assert_eq!(counts(&found), counts(&whole), "{key} page {page}");
            }
        }
        let manifest = layout::snapshot(&known.snapshots[0].0.id);
        let (repo, _, monitor) = known.open(&with(&known.files, &manifest, Some(b"{}".to_vec())));
        assert_eq!(stats(&repo.unwrap()).snapshots, 2);
        assert_eq!(codes(&monitor), ["WARN_MANIFEST_CORRUPT"]);
    }
}

#[test]
fn stats_end_when_cancelled_or_when_the_handle_is_closed() {
    struct Stop;
    impl Monitor for Stop {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let known = Known::new(Flavor::plain());
    let repo = known.open(&known.files).0.unwrap();
    assert_eq!(ops::stats(&repo, &Stop).unwrap_err().code(), "ABORT_ERR");
    repo.close();
    assert_eq!(ops::stats(&repo, &NullMonitor).unwrap_err().code(), "ERR_CLOSED");
}
