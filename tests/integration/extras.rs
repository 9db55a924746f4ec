//! Extras of items, also of kinds that this version does not know: every operation treats their
//! chunks as needed, and no count includes them.

use crate::support::{Flavor, environment, flavors, ingest, init, memory_repo, open, random_bytes, restore};
use containerarchive::Result;
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::ingest::ingest_with_extra;
use containerarchive::ops::{
    self, CopyOptions, IngestOptions, ItemSpec, MirrorOptions, PruneOptions, ReaderItems, VerifyLevel, VerifyOptions,
    VerifyReport,
};
use containerarchive::repo::read::{ReadScratch, get_chunk, get_node};
use containerarchive::repo::{Environment, Repository};
use containerarchive::snapshot::{ListWalker, ListedChunk, Snapshot, SnapshotFilter};
use containerarchive::storage::{MemoryStorage, Storage};
use std::io::Read;
use std::sync::Arc;

const KIND: &str = "later-2";

/// Chunks of an extra, 600 of them, so that its list has several nodes.
fn pages() -> Vec<Vec<u8>> {
    (0..600).map(|n| random_bytes(1000 + n, 200)).collect()
}

fn ingest_both(repo: &Arc<Repository>, data: &[u8]) -> Snapshot {
    let item = (ItemSpec::new("data", "test"), Box::new(data) as Box<dyn Read + Send>);
    let pages = pages();
    let pages: Vec<&[u8]> = pages.iter().map(Vec::as_slice).collect();
    let mut items = ReaderItems::new(vec![item]);
    ingest_with_extra(
        repo,
        &mut items,
        &IngestOptions::default(),
        (KIND, &pages),
        &NullMonitor,
    )
    .unwrap()
}

/// The chunks of the extra of the only item.
fn chunks(repo: &Repository, snapshot: &Snapshot) -> Result<Vec<ListedChunk>> {
    let item = &snapshot.items[0];
    let mut walker = ListWalker::new(&item.extra_of(KIND).unwrap().as_item(item), 0)?;
    let (mut scratch, mut chunks) = (ReadScratch::default(), Vec::new());
    while let Some(chunk) = walker.next_chunk(&mut |id| get_node(repo, id, &mut scratch))? {
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// The bytes of the extra.
fn read(repo: &Repository, snapshot: &Snapshot) -> Result<Vec<u8>> {
    let (mut all, mut out, mut scratch) = (Vec::new(), Vec::new(), ReadScratch::default());
    for chunk in chunks(repo, snapshot)? {
        get_chunk(repo, &chunk.id, &mut scratch, &mut out)?;
        all.extend_from_slice(&out);
    }
    Ok(all)
}

fn verify(repo: &Arc<Repository>) -> VerifyReport {
    let options = VerifyOptions {
        level: VerifyLevel::Full,
        subset: None,
    };
    ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap()
}

fn snapshots(repo: &Repository) -> Vec<Snapshot> {
    ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap()
}

#[test]
fn counts_of_a_snapshot_are_the_same_with_and_without_an_extra() {
    let data = random_bytes(1, 50_000);
    let with = ingest_both(&memory_repo(Flavor::plain()).0, &data);
    let without = ingest(&memory_repo(Flavor::plain()).0, &data).unwrap();
    let counts = |snapshot: &Snapshot| {
        let item = &snapshot.items[0];
        let sums = (snapshot.original_size, snapshot.stored_size, snapshot.chunk_count);
        (
            sums,
            snapshot.new_chunks,
            snapshot.reused_chunks,
            item.size,
            item.chunk_count,
        )
    };
    assert_eq!(counts(&with), counts(&without));
    assert_eq!(with.items[0].content, without.items[0].content);
    assert!(without.items[0].extra.is_empty());
}

#[test]
fn a_prune_keeps_the_chunks_of_extras_and_deletes_them_with_their_snapshot() {
    for flavor in flavors() {
        let (repo, _) = memory_repo(flavor);
        let data = random_bytes(2, 50_000);
        let gone = ingest(&repo, &random_bytes(3, 100_000)).unwrap();
        let kept = ingest_both(&repo, &data);
        ops::forget(&repo, &[gone.id]).unwrap();
        let options = PruneOptions {
            max_unused: 0.0,
            ..PruneOptions::keep_all()
        };
        ops::prune(&repo, &options, &NullMonitor).unwrap();
        let report = verify(&repo);
        assert!(report.ok(), "{:?}", report.problems);
        assert_eq!(read(&repo, &kept).unwrap(), pages().concat());
        let before = ops::stats(&repo, &NullMonitor).unwrap().chunks;
        assert_eq!(before, kept.chunk_count + 600);

        let next = ingest(&repo, &data).unwrap();
        ops::forget(&repo, &[kept.id]).unwrap();
        ops::prune(&repo, &options, &NullMonitor).unwrap();
        let after = ops::stats(&repo, &NullMonitor).unwrap().chunks;
        assert_eq!(after, next.chunk_count);
    }
}

#[test]
fn verify_and_repair_report_an_item_whose_extra_has_lost_chunks() {
    for flavor in flavors() {
        let (repo, storage) = memory_repo(flavor);
        let data = random_bytes(4, 150_000);
        // its chunks are in packs of their own
        ingest(&repo, &data).unwrap();
        let snapshot = ingest_both(&repo, &data);
        let lost = chunks(&repo, &snapshot).unwrap()[300].id;
        let pack = repo.locate_published(&lost).unwrap()[0].pack;
        for file in storage.list(layout::PARITY).unwrap() {
            storage.delete(&file.key).unwrap();
        }
        storage.delete(&layout::pack(&pack)).unwrap();
        drop(repo);

        let repo = open(environment(storage, 8), flavor).unwrap();
        let hit = (snapshot.id, "data".to_owned());
        let problems = verify(&repo).problems;
        assert!(
            problems.iter().any(|problem| problem.items == [hit.clone()]),
            "{problems:?}"
        );
        assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data);

        let report = ops::repair(&repo, &NullMonitor).unwrap();
        assert!(report.lost_chunks > 0);
        let [damaged] = &report.damaged_snapshots[..] else {
            panic!("{:?}", report.damaged_snapshots)
        };
        assert_eq!(damaged.id, snapshot.id);
        assert_eq!((damaged.items.len(), &damaged.items[0].missing), (1, &Vec::new()));
        assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data);
    }
}

#[test]
fn a_repair_rebuilds_chunks_of_extras_from_parity() {
    for flavor in flavors() {
        let (repo, storage) = memory_repo(flavor);
        let snapshot = ingest_both(&repo, &random_bytes(5, 90_000));
        let chunk = chunks(&repo, &snapshot).unwrap()[0].id;
        let pack = repo.locate_published(&chunk).unwrap()[0].pack;
        storage.delete(&layout::pack(&pack)).unwrap();
        drop(repo);
        let repo = open(environment(storage, 8), flavor).unwrap();
        let report = ops::repair(&repo, &NullMonitor).unwrap();
        assert_eq!((report.lost_chunks, report.damaged_snapshots.len()), (0, 0));
        assert_eq!(read(&repo, &snapshot).unwrap(), pages().concat());
        assert!(verify(&repo).ok());
    }
}

#[test]
fn a_copy_has_the_extras_of_its_original() {
    for (from, to) in flavors()
        .into_iter()
        .flat_map(|from| flavors().into_iter().map(move |to| (from, to)))
    {
        let (source, _) = memory_repo(from);
        let target = init(environment(Arc::new(MemoryStorage::new()), 70), to).unwrap();
        let data = random_bytes(6, 50_000);
        let first = ingest_both(&source, &data);
        let changed = [data.as_slice(), b"and more"].concat();
        let second = ingest_both(&source, &changed);
        let copied = ops::copy_to(&source, &target, &CopyOptions::default(), &NullMonitor).unwrap();
        assert_eq!((copied.copied.len(), copied.failed.len()), (2, 0));
        for copy in snapshots(&target) {
            let original = if copy.original_size == first.original_size {
                &first
            } else {
                &second
            };
            assert_eq!(copy.items[0].extra.len(), 1);
            assert_eq!(
                (copy.chunk_count, copy.original_size),
                (original.chunk_count, original.original_size)
            );
            assert_eq!(copy.new_chunks + copy.reused_chunks, copy.chunk_count);
            assert_eq!(read(&target, &copy).unwrap(), pages().concat());
        }
        let report = verify(&target);
        assert!(report.ok(), "{:?}", report.problems);
        let before = ops::stats(&target, &NullMonitor).unwrap().chunks;
        assert_eq!(before, ops::stats(&source, &NullMonitor).unwrap().chunks);
    }
}

#[test]
fn a_mirror_has_extras_and_holds_back_a_snapshot_whose_extra_is_lost() {
    for flavor in flavors() {
        let (repo, storage) = memory_repo(flavor);
        let data = random_bytes(7, 150_000);
        ingest(&repo, &data).unwrap();
        let mirror: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let environment_of = |storage: &Arc<dyn Storage>| Environment {
            path: "mirror".to_owned(),
            ..environment(Arc::clone(storage), 99)
        };
        let run = |repo: &Arc<Repository>, mirror: &Arc<dyn Storage>| {
            ops::mirror_to(repo, &environment_of(mirror), &MirrorOptions::default(), &NullMonitor)
        };
        let snapshot = ingest_both(&repo, &data);
        run(&repo, &mirror).unwrap();
        let opened = open(environment_of(&mirror), flavor).unwrap();
        assert_eq!(read(&opened, &snapshot).unwrap(), pages().concat());
        assert!(verify(&opened).ok());

        let chunk = chunks(&repo, &snapshot).unwrap()[0].id;
        let pack = repo.locate_published(&chunk).unwrap()[0].pack;
        for file in storage.list(layout::PARITY).unwrap() {
            storage.delete(&file.key).unwrap();
        }
        storage.delete(&layout::pack(&pack)).unwrap();
        drop(repo);
        let repo = open(environment(storage, 8), flavor).unwrap();
        let other: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        assert!(run(&repo, &other).is_err());
        let opened = open(environment_of(&other), flavor).unwrap();
        assert_eq!(snapshots(&opened).len(), 1);
    }
}
