//! The newest snapshot: one rule for `latest`, listings and prune, and the `sequence` that orders
//! snapshots with the same time.

use crate::support::faults::{codes, watched};
use crate::support::*;
use containerarchive::clock::FixedClock;
use containerarchive::entropy::SeededEntropy;
use containerarchive::id::SnapshotId;
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, IngestOptions, PruneOptions, ReaderItems};
use containerarchive::repo::Repository;
use containerarchive::snapshot::order::FUTURE_TOLERANCE_MS;
use containerarchive::snapshot::retention::{Keep, RetentionPolicy};
use containerarchive::snapshot::{Snapshot, SnapshotFilter};
use containerarchive::storage::{LocalStorage, MemoryStorage, RecordingStorage, Storage, put_bytes};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// The time of the clock of the tests.
const NOW_MS: i64 = 1_795_398_300_000;

fn ingest_at(repo: &Arc<Repository>, created_at_ms: Option<i64>, data: &[u8]) -> Snapshot {
    let options = IngestOptions {
        created_at_ms,
        ..IngestOptions::default()
    };
    let mut items = ReaderItems::one("data", "test", data);
    ops::ingest(repo, &mut items, &options, &NullMonitor).unwrap()
}

fn keep_last_one() -> PruneOptions {
    PruneOptions::new(RetentionPolicy {
        keep_last: Keep::Count(1),
        ..RetentionPolicy::default()
    })
}

/// Returns the newest snapshot, and checks that all operations agree on it.
fn newest(repo: &Arc<Repository>) -> SnapshotId {
    let latest = ops::latest_snapshot(repo, &SnapshotFilter::default())
        .unwrap()
        .unwrap()
        .id;
    assert_eq!(ops::get_snapshot(repo, "latest").unwrap().id, latest);
    assert_eq!(
        ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap()[0].id,
        latest
    );
    let options = PruneOptions {
        dry_run: true,
        ..keep_last_one()
    };
    let plan = ops::prune(repo, &options, &NullMonitor).unwrap();
    let named = |reasons: &[String]| reasons.iter().any(|reason| reason == "newest");
    let named: Vec<SnapshotId> = (plan.kept.iter().filter(|choice| named(&choice.reasons)))
        .map(|choice| choice.id)
        .collect();
    assert_eq!(named, [latest]);
    latest
}

#[test]
fn a_snapshot_dated_in_the_future_is_not_the_newest_and_a_warning_reports_it() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        init(environment(Arc::clone(&storage), 1), flavor).unwrap();
        let (environment, monitor) = watched(Arc::clone(&storage), 2);
        let repo = open(environment, flavor).unwrap();
        ingest_at(&repo, Some(NOW_MS - 1), b"yesterday");
        let today = ingest_at(&repo, Some(NOW_MS + FUTURE_TOLERANCE_MS), b"today").id;
        assert_eq!(newest(&repo), today);
        assert!(codes(&monitor).is_empty());
        ingest_at(
            &repo,
            Some(NOW_MS + FUTURE_TOLERANCE_MS + 1),
            b"the day of the wrong clock",
        );
        assert_eq!(newest(&repo), today);
        assert_eq!(codes(&monitor), ["WARN_FUTURE_SNAPSHOTS"; 2]);
        assert_eq!(restore(&repo, "latest", None).unwrap(), b"today");
        let report = ops::prune(&repo, &keep_last_one(), &NullMonitor).unwrap();
        assert_eq!((report.kept.len(), report.removed.len()), (2, 1));
        assert_eq!(newest(&repo), today);
    }
}

#[test]
fn if_all_snapshots_are_dated_in_the_future_the_newest_is_used_with_a_warning() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    init(environment(Arc::clone(&storage), 1), Flavor::plain()).unwrap();
    let (mut environment, monitor) = watched(Arc::clone(&storage), 2);
    // a machine that started without a clock
    environment.clock = Arc::new(FixedClock::new(0));
    let repo = open(environment, Flavor::plain()).unwrap();
    let ids = [3, 9, 5].map(|days| ingest_at(&repo, Some(NOW_MS + days * 86_400_000), b"x").id);
    assert_eq!(newest(&repo), ids[1]);
    assert_eq!(codes(&monitor), ["WARN_FUTURE_SNAPSHOTS"; 2]);
    let listed = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap();
    let listed: Vec<SnapshotId> = listed.iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(listed, [ids[1], ids[2], ids[0]]);
}

#[test]
fn among_snapshots_with_the_same_time_the_one_committed_last_is_the_newest() {
    for created_at_ms in [None, Some(NOW_MS - 5)] {
        let (repo, storage) = memory_repo(Flavor::plain());
        let other = open(environment(Arc::clone(&storage), 9), Flavor::plain()).unwrap();
        for round in 1..=8u64 {
            let writer = if round % 3 == 0 { &other } else { &repo };
            let made = ingest_at(writer, created_at_ms, &round.to_le_bytes());
            assert_eq!(made.sequence, round);
            let stored = ops::get_snapshot(&repo, &made.id.to_hex()).unwrap();
            assert_eq!(stored, made);
            assert_eq!(newest(&repo), made.id);
        }
        let last = newest(&repo);
        let report = ops::prune(&repo, &keep_last_one(), &NullMonitor).unwrap();
        assert_eq!(report.removed.len(), 7);
        assert_eq!(report.kept[0].id, last);
        // a handle that knows the sequence numbers of forgotten snapshots does not assign them
        // again; another handle may
        assert_eq!(ingest_at(&repo, created_at_ms, b"later").sequence, 9);
    }
}

/// Writes a manifest as another version, or another machine, may have written it.
fn put_manifest(repo: &Repository, like: &Snapshot, number: u64, sequence: u64) -> SnapshotId {
    let mut id = [0u8; 16];
    // in no particular order
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    let snapshot = Snapshot {
        id: SnapshotId(id),
        sequence,
        ..like.clone()
    };
    let bytes = repo.encode_manifest(&snapshot).unwrap();
    put_bytes(repo.storage(), &layout::snapshot(&snapshot.id), &bytes).unwrap();
    snapshot.id
}

#[test]
fn an_ingest_reads_few_of_many_manifests_unless_its_time_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let entropy = Arc::new(SeededEntropy::new(3));
    let local: Arc<dyn Storage> = Arc::new(LocalStorage::open_path(&folder.path().join("repo"), entropy).unwrap());
    let repo = init(environment(Arc::clone(&local), 1), Flavor::plain()).unwrap();
    let like = ingest_at(&repo, None, b"x");
    for number in 2..=200u64 {
        let id = put_manifest(&repo, &like, number, number);
        let path = folder.path().join("repo").join(layout::snapshot(&id));
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(number)).unwrap();
    }
    let first = folder.path().join("repo").join(layout::snapshot(&like.id));
    let file = std::fs::File::options().write(true).open(first).unwrap();
    file.set_modified(UNIX_EPOCH).unwrap();
    let recording = Arc::new(RecordingStorage::new(local));
    let repo = open(environment(recording.clone(), 4), Flavor::plain()).unwrap();
    let ingest = |created_at_ms, data: &[u8]| {
        recording.clear();
        let made = ingest_at(&repo, created_at_ms, data);
        let calls = recording.calls();
        let reads = calls
            .iter()
            .filter(|(op, key)| *op == "get" && key.starts_with("snapshots/"));
        (made.sequence, reads.count())
    };
    assert_eq!(ingest(None, b"1"), (201, 64));
    // its own manifest is known
    assert_eq!(ingest(None, b"2"), (202, 0));
    assert_eq!(ingest(Some(5), b"3"), (203, 202));
    assert_eq!(ingest(Some(5), b"4"), (204, 0));
    assert_eq!(ingest(None, b"5"), (205, 0));
}

#[test]
fn manifests_without_a_sequence_count_as_zero_and_unreadable_ones_are_ignored() {
    let (repo, storage) = memory_repo(Flavor::sealed());
    let like = ingest_at(&repo, None, b"x");
    assert_eq!(like.sequence, 1);
    put_manifest(&repo, &like, 1, 0);
    let highest = put_manifest(&repo, &like, 2, 70);
    put_bytes(
        storage.as_ref(),
        &layout::snapshot(&SnapshotId([7; 16])),
        b"no manifest",
    )
    .unwrap();
    assert_eq!(ingest_at(&repo, Some(1), b"y").sequence, 71);
    // no number is larger than the format allows
    put_manifest(&repo, &like, 3, 1 << 53);
    assert_eq!(ingest_at(&repo, None, b"z").sequence, 1 << 53);
    storage.delete(&layout::snapshot(&highest)).unwrap();
}
