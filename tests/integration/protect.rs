//! What an ingest does with the parity groups of earlier ones.

use crate::support::*;
use containerarchive::layout;
use containerarchive::monitor::TestMonitor;
use containerarchive::storage::{ErrorKind, FaultyStorage, RecordingStorage, Storage};
use std::collections::BTreeSet;
use std::sync::Arc;

fn listed(storage: &dyn Storage, folder: &str, end: &str) -> BTreeSet<String> {
    let entries = storage.list(folder).unwrap().into_iter();
    entries
        .map(|entry| entry.key)
        .filter(|key| key.ends_with(end))
        .collect()
}

#[test]
fn replaced_parity_that_cannot_be_deleted_is_a_warning_and_goes_later() {
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
        // by the same handle, and it takes the leftover along
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
fn what_an_ingest_reads_of_parity_does_not_grow_with_the_repository() {
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
    // the head of the group that the one before published; and, every other time, the tail that grows: its record and shard
    assert_eq!(reads[1..20], reads[191..], "{reads:?}");
    assert!(reads.iter().all(|reads| *reads <= 4), "{reads:?}");
    // a new handle reads the front of each once
    drop(repo);
    let repo = open(environment(recording.clone(), 10), Flavor::plain()).unwrap();
    recording.clear();
    ingest(&repo, &random_bytes(5000, 3000)).unwrap();
    assert!(read(&recording) <= groups + 4, "{}", read(&recording));
}
