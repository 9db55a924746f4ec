//! Which segments are live, merging them, and merges by other processes at the same time.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::*;
use crate::storage::{Created, Entry, LockGuard, LockMode, put_bytes};

#[test]
fn superseded_segments_are_not_live() {
    let (storage, context) = (memory(), plain());
    let write = |seed, superseded: &[SegmentId], number| {
        let source = MemorySource::new(vec![located(hashed(number), seed as u8)]);
        write_segment(&*storage, &context, &entropy(seed), superseded, &source).unwrap()
    };
    let first = write(1, &[], 1);
    let second = write(2, &[], 2);
    let third = write(3, &[first, SegmentId([9; 16])], 3);
    let index = load(&storage, &context);
    let live: HashSet<SegmentId> = index.live_segments().iter().map(|stats| stats.id).collect();
    assert_eq!(live, HashSet::from([second, third]));
    assert!(packs_of(&index, &hashed(1)).is_empty());
    let fourth = write(4, &[second, third], 4);
    assert!(index.refresh().unwrap().is_empty());
    assert_eq!(index.live_segments()[0].id, fourth);
    // a segment that names itself is live: only another one can supersede it
    assert_eq!(packs_of(&index, &hashed(4)), [4]);
}

#[test]
fn a_merge_keeps_every_pair_and_drops_only_named_packs() {
    for context in [plain(), sealed()] {
        let (storage, random) = (memory(), entropy(3));
        let index = load(&storage, &context);
        for pack in 0..6u8 {
            let entries = (0..400)
                .map(|n| located(hashed(n + u64::from(pack) * 100), pack))
                .collect();
            index.publish(&random, entries).unwrap();
        }
        let ids: Vec<SegmentId> = index.live_segments().iter().map(|stats| stats.id).collect();
        let before: Vec<Vec<u8>> = (0..1000).map(|n| packs_of(&index, &hashed(n))).collect();
        let merged = index.merge(&random, &ids, &HashSet::new()).unwrap().unwrap();
        assert_eq!(segment_files(&storage).len(), 1);
        for index in [&index, &load(&storage, &context)] {
            for (n, packs) in (0..).zip(&before) {
                assert_eq!(packs_of(index, &hashed(n)), *packs);
            }
        }
        assert!(
            index.merge(&random, &ids, &HashSet::new()).unwrap().is_none(),
            "deleted"
        );

        let drop = HashSet::from([PackId([2; 32]), PackId([77; 32])]);
        index.merge(&random, &[merged], &drop).unwrap().unwrap();
        assert!(!index.contains_pack(&PackId([2; 32])).unwrap());
        for (n, packs) in (0..).zip(&before) {
            let left: Vec<u8> = packs.iter().copied().filter(|pack| *pack != 2).collect();
            assert_eq!(packs_of(&index, &hashed(n)), left);
        }
    }
}

#[test]
fn dropping_every_pack_leaves_a_valid_empty_segment() {
    let (storage, context, random) = (memory(), sealed(), entropy(3));
    let index = load(&storage, &context);
    let id = index.publish(&random, vec![located(hashed(1), 1)]).unwrap().unwrap();
    index
        .merge(&random, &[id], &HashSet::from([PackId([1; 32])]))
        .unwrap()
        .unwrap();
    let index = load(&storage, &context);
    assert!(packs_of(&index, &hashed(1)).is_empty() && index.packs().unwrap().is_empty());
    assert_eq!(index.all_entries().unwrap().scan().count(), 0);
}

#[test]
fn an_interrupted_deletion_is_finished_by_the_next_merge() {
    let (storage, context, random) = (memory(), plain(), entropy(3));
    let index = load(&storage, &context);
    let first = index.publish(&random, many(10)).unwrap().unwrap();
    let old = segment_files(&storage);
    let second = index
        .merge(&random, &[first], &HashSet::from([PackId([3; 32])]))
        .unwrap()
        .unwrap();
    // the old file was not deleted before the crash
    put_bytes(&*storage, &old[0].0, &old[0].1).unwrap();
    let index = load(&storage, &context);
    assert!(packs_of(&index, &hashed(3)).is_empty(), "superseded segments stay out");
    let third = index.merge(&random, &[second], &HashSet::new()).unwrap().unwrap();
    assert_eq!(segment_files(&storage).len(), 1);
    let segment = Segment::open(&storage, &context, &Arc::new(PageCache::new(CACHE)), third).unwrap();
    assert_eq!(
        segment.superseded(),
        [first, second],
        "oldest first, the leftover included"
    );
}

#[test]
fn a_segment_that_another_handle_merged_is_not_an_error() {
    let (storage, context, random) = (memory(), sealed(), entropy(3));
    let ours = load(&storage, &context);
    ours.publish(&random, many(5)).unwrap();
    let theirs = load(&storage, &context);
    for round in 0..3 {
        theirs.publish(&random, vec![located(hashed(100 + round), 9)]).unwrap();
        let ids: Vec<SegmentId> = theirs.live_segments().iter().map(|stats| stats.id).collect();
        theirs.merge(&random, &ids, &HashSet::new()).unwrap().unwrap();
        // pages of the old file may be cached; its pack section is not
        assert_eq!(packs_of(&ours, &hashed(round + 1)), [round as u8 + 1]);
        assert_eq!(ours.packs().unwrap().len(), 6);
    }
    assert_eq!(ours.all_entries().unwrap().scan().filter(Result::is_ok).count(), 8);
}

/// Forwards to a store. While armed, it deletes a segment when that is opened, as if a merge had
/// just ended.
struct Vanishing {
    inner: MemoryStorage,
    armed: AtomicBool,
}

impl Storage for Vanishing {
    fn put_new(&self, key: &str, len: u64, reader: &mut dyn Read) -> storage::Result<Created> {
        self.inner.put_new(key, len, reader)
    }
    fn get(&self, key: &str, max_len: u64) -> storage::Result<Vec<u8>> {
        self.inner.get(key, max_len)
    }
    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> storage::Result<()> {
        self.inner.get_range(key, offset, out)
    }
    fn size(&self, key: &str) -> storage::Result<Option<u64>> {
        if self.armed.swap(false, Ordering::Relaxed) {
            self.inner.delete(key)?;
        }
        self.inner.size(key)
    }
    fn list(&self, prefix: &str) -> storage::Result<Vec<Entry>> {
        self.inner.list(prefix)
    }
    fn delete(&self, key: &str) -> storage::Result<()> {
        self.inner.delete(key)
    }
    fn barrier(&self) -> storage::Result<()> {
        self.inner.barrier()
    }
    fn lease(&self, key: &str, bytes: &[u8]) -> storage::Result<Box<dyn LockGuard>> {
        self.inner.lease(key, bytes)
    }
    fn lease_held(&self, key: &str) -> storage::Result<Option<bool>> {
        self.inner.lease_held(key)
    }
    fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> storage::Result<Option<Box<dyn LockGuard>>> {
        self.inner.lock(key, mode, wait)
    }
    fn probe_locks(&self, key: &str) -> storage::Result<()> {
        self.inner.probe_locks(key)
    }
    fn replace_damaged(&self, key: &str, bytes: &[u8]) -> storage::Result<()> {
        self.inner.replace_damaged(key, bytes)
    }

    fn quarantine(&self, key: &str) -> storage::Result<()> {
        self.inner.quarantine(key)
    }
    fn include_in_barrier(&self, prefix: &str) {
        self.inner.include_in_barrier(prefix);
    }
    fn clean_temporary(&self, prefix: &str) -> storage::Result<u64> {
        self.inner.clean_temporary(prefix)
    }
    fn create_folders(&self, folders: &[&str], allowed: &[&str]) -> storage::Result<bool> {
        self.inner.create_folders(folders, allowed)
    }
}

#[test]
fn a_segment_that_vanishes_between_listing_and_opening_is_listed_again() {
    let vanishing = Arc::new(Vanishing {
        inner: MemoryStorage::new(),
        armed: AtomicBool::new(false),
    });
    let storage: Arc<dyn Storage> = vanishing.clone();
    let index = load(&storage, &plain());
    index.publish(&entropy(1), many(5)).unwrap();
    index.publish(&entropy(2), many(5)).unwrap();
    vanishing.armed.store(true, Ordering::Relaxed);
    assert_eq!(load(&storage, &plain()).live_segments().len(), 1);
}
