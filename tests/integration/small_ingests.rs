//! A small ingest does the same work in a small and in a large repository.

use crate::support::*;
use containerarchive::layout;
use containerarchive::storage::{MemoryStorage, RecordingStorage, Storage};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The number of calls to the storage by method and folder, and of the names in listings.
type Work = BTreeMap<String, usize>;

/// The work of opening a handle and a first ingest through it, and of the next ingest through the
/// same handle, in a repository of `bytes` bytes, and the number of its parity groups.
fn work(flavor: Flavor, bytes: usize) -> ([Work; 2], usize) {
    let memory: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let data = random_bytes(1, bytes);
    let repo = init(environment(Arc::clone(&memory), 2), flavor).unwrap();
    ingest(&repo, &data).unwrap();
    // each duplicate adds one pack
    let has_room = || {
        let groups = repo.parity_groups().unwrap();
        groups
            .live()
            .any(|head| head.members.len() < usize::from(head.shape.data))
    };
    while has_room() {
        ingest(&repo, &data).unwrap();
    }
    let groups = repo.parity_groups().unwrap().live().count();
    ingest(&repo, &random_bytes(3, 500)).unwrap();
    drop(repo);
    let recording = Arc::new(RecordingStorage::new(Arc::clone(&memory)));
    let mut repo = None;
    let measured = [5, 6].map(|seed| {
        let names = |folder: &str| memory.list(folder).unwrap().len();
        let before: BTreeMap<&str, usize> = layout::FOLDERS.map(|folder| (folder, names(folder))).into();
        recording.clear();
        let repo = repo.get_or_insert_with(|| open(environment(recording.clone(), 4), flavor).unwrap());
        ingest(repo, &random_bytes(seed, 500)).unwrap();
        let mut work = Work::new();
        for (op, key) in recording.calls() {
            let folder = if op == "list" {
                &key[..]
            } else {
                key.rsplit_once('/').map_or("", |(folder, _)| folder)
            };
            *work.entry(format!("{op} {folder}")).or_default() += 1;
            if let Some(names) = before.get(folder).filter(|_| op == "list") {
                *work.entry(format!("names in {folder}")).or_default() += names;
            }
        }
        work
    });
    (measured, groups)
}

#[test]
fn a_small_ingest_does_the_same_work_with_few_and_with_many_parity_groups() {
    // the number of segments grows with the logarithm of the entries; snapshots are not the subject
    let others = |work: Work| -> Work {
        let is_other = |what: &str| !what.ends_with(" index") && !what.ends_with(" snapshots");
        work.into_iter().filter(|(what, _)| is_other(what)).collect()
    };
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (few, few_groups) = work(flavor, 400_000);
        let (many, many_groups) = work(flavor, 12_000_000);
        assert!(many_groups > 15 * few_groups, "{few_groups} and {many_groups} groups");
        assert_eq!(few.map(others), many.map(others));
    }
}
