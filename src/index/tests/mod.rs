//! Tests of the room as a whole. Crafted ids cover the cases that hashes never give.

mod damage;
mod merging;
mod writing;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::testing::{GeneratedSource, Trial, lookup_trial};
use super::*;
use crate::crypto::{self, SecretKey};
use crate::entropy::{OsEntropy, SeededEntropy};
use crate::id::{ChunkId, PackId, RepoId, SegmentId};
use crate::layout;
use crate::pack::{ChunkLocation, PackEntry};
use crate::storage::{self, ErrorKind, LocalStorage, MemoryStorage, Storage};

const CACHE: usize = 1 << 20;

fn plain() -> Arc<SegmentContext> {
    Arc::new(SegmentContext {
        repo: RepoId([7; 16]),
        seal: SegmentSeal::Plain,
    })
}

fn sealed() -> Arc<SegmentContext> {
    let epochs = vec![
        EpochKey {
            epoch: 1,
            key: SecretKey::new([1; 32]),
        },
        EpochKey {
            epoch: 2,
            key: SecretKey::new([2; 32]),
        },
    ];
    let seal = SegmentSeal::Sealed {
        epochs,
        hedge: SecretKey::new([3; 32]),
    };
    Arc::new(SegmentContext {
        repo: RepoId([7; 16]),
        seal,
    })
}

fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new())
}

fn load(storage: &Arc<dyn Storage>, context: &Arc<SegmentContext>) -> GlobalIndex {
    let (index, broken) = GlobalIndex::load(Arc::clone(storage), Arc::clone(context), CACHE).unwrap();
    assert!(broken.is_empty(), "{broken:?}");
    index
}

fn entropy(seed: u64) -> SeededEntropy {
    SeededEntropy::new(seed)
}

/// An id that begins with `prefix`; the rest is derived from `rest`.
fn id(prefix: u64, rest: u64) -> ChunkId {
    let mut bytes = crypto::sha256(&[&rest.to_le_bytes()]);
    bytes[..8].copy_from_slice(&prefix.to_be_bytes());
    ChunkId(bytes)
}

fn hashed(number: u64) -> ChunkId {
    ChunkId(crypto::sha256(&[b"chunk", &number.to_le_bytes()]))
}

fn located(id: ChunkId, pack: u8) -> (ChunkLocation, u64) {
    let offset = 96 + u32::from(pack) * 1000;
    let entry = PackEntry {
        id,
        offset,
        payload_len: 500,
        raw_len: 900,
        codec: 1,
        kind: pack & 1,
    };
    (
        ChunkLocation {
            pack: PackId([pack; 32]),
            entry,
        },
        8_000_000 + u64::from(pack),
    )
}

fn packs_of(index: &GlobalIndex, id: &ChunkId) -> Vec<u8> {
    let mut packs: Vec<u8> = index.locate(id).unwrap().iter().map(|found| found.pack.0[0]).collect();
    packs.sort_unstable();
    packs
}

fn many(count: u64) -> Vec<(ChunkLocation, u64)> {
    (0..count).map(|n| located(hashed(n), (n % 200) as u8)).collect()
}

fn segment_files(storage: &Arc<dyn Storage>) -> Vec<(String, Vec<u8>)> {
    let list = storage.list(layout::INDEX).unwrap();
    list.into_iter()
        .map(|entry| (entry.key.clone(), storage.get(&entry.key, 1 << 30).unwrap()))
        .collect()
}

#[test]
fn published_entries_are_found_by_this_and_the_next_handle() {
    for context in [plain(), sealed()] {
        let storage = memory();
        let index = load(&storage, &context);
        assert_eq!(index.publish(&entropy(1), Vec::new()).unwrap(), None);
        index.publish(&entropy(1), many(3000)).unwrap().unwrap();
        for index in [index, load(&storage, &context)] {
            for (wanted, _) in many(3000) {
                assert_eq!(index.locate(&wanted.entry.id).unwrap(), [wanted]);
            }
            for absent in 3000..6000 {
                assert_eq!(index.locate(&hashed(absent)).unwrap(), []);
            }
            assert_eq!(index.packs().unwrap().len(), 200);
            assert_eq!(index.packs().unwrap()[&PackId([9; 32])], 8_000_009);
            assert!(index.contains_pack(&PackId([199; 32])).unwrap());
            assert!(!index.contains_pack(&PackId([200; 32])).unwrap());
            assert_eq!(index.live_segments()[0].entries, 3000);
            let ids: Vec<ChunkId> = (2990..3010).map(hashed).collect();
            let batch = index.locate_batch(&ids).unwrap();
            for (id, found) in ids.iter().zip(batch) {
                assert_eq!(found, index.locate(id).unwrap());
            }
        }
    }
}

#[test]
fn a_sealed_segment_reveals_no_id() {
    let storage = memory();
    load(&storage, &sealed()).publish(&entropy(1), many(100)).unwrap();
    let (_, bytes) = segment_files(&storage).remove(0);
    for (shown, _) in many(100) {
        assert!(!bytes.windows(8).any(|window| window == &shown.entry.id.0[..8]));
        // packs 0 and 7 look like unused space and like the repository id
        let shows_pack = bytes.windows(8).any(|window| window == &shown.pack.0[..8]);
        assert!(!shows_pack || [0, 7].contains(&shown.pack.0[0]));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn look_ups_agree_with_a_map(
        batches in prop::collection::vec(prop::collection::vec((0u64..4, 0u64..300, 0u8..20), 1..400), 1..5),
        encrypted: bool,
        merge: bool,
    ) {
        let context = if encrypted { sealed() } else { plain() };
        let storage = memory();
        let index = load(&storage, &context);
        let random = entropy(5);
        let mut oracle: BTreeMap<ChunkId, BTreeMap<u8, ChunkLocation>> = BTreeMap::new();
        for batch in batches {
            let mut entries = Vec::new();
            for (prefix, rest, pack) in batch {
                let (found, len) = located(id(prefix, rest), pack);
                oracle.entry(found.entry.id).or_default().insert(pack, found);
                entries.push((found, len));
            }
            index.publish(&random, entries).unwrap();
        }
        if merge {
            let ids: Vec<SegmentId> = index.live_segments().iter().map(|stats| stats.id).collect();
            index.merge(&random, &ids, &HashSet::new()).unwrap();
            prop_assert_eq!(index.live_segments().len(), 1);
        }
        for (prefix, rest) in (0..4).flat_map(|prefix| (0..300).map(move |rest| (prefix, rest))) {
            let id = id(prefix, rest);
            let mut found = index.locate(&id).unwrap();
            found.sort_by_key(|found| found.pack);
            let wanted: Vec<ChunkLocation> = oracle.get(&id).into_iter().flat_map(|packs| packs.values().copied()).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}

#[test]
fn a_chunk_in_many_packs_is_found_in_all_of_them() {
    let (storage, context) = (memory(), plain());
    let index = load(&storage, &context);
    let mut entries: Vec<(ChunkLocation, u64)> = (0..=255).map(|pack| located(hashed(0), pack)).collect();
    entries.extend(many(500));
    entries.extend(many(500));
    index.publish(&entropy(1), entries).unwrap();
    assert_eq!(packs_of(&index, &hashed(0)), (0..=255).collect::<Vec<u8>>());
    assert_eq!(packs_of(&index, &hashed(1)), [1]);
    assert_eq!(
        index.live_segments()[0].entries,
        255 + 500,
        "exact repetitions are dropped"
    );
}

#[test]
fn equal_prefixes_may_span_data_and_fence_pages() {
    for context in [plain(), sealed()] {
        let storage = memory();
        let index = load(&storage, &context);
        // runs of 1000 equal prefixes; the fence page ends at data page 510, inside run 43
        let entries = (0..50_000)
            .map(|n| located(id(n / 1000 * 7, n), (n % 50) as u8))
            .collect();
        index.publish(&entropy(1), entries).unwrap();
        for n in (0..50_000).filter(|n| n % 7 == 0 || n / 1000 == 43) {
            assert_eq!(packs_of(&index, &id(n / 1000 * 7, n)), [(n % 50) as u8], "{n}");
            assert!(packs_of(&index, &id(n / 1000 * 7 + 1, n)).is_empty());
        }
    }
}

#[test]
fn the_filter_admits_less_than_one_absent_id_in_a_hundred() {
    let (storage, context) = (memory(), plain());
    let source = GeneratedSource::new(11, 50_000);
    write_segment(&*storage, &context, &entropy(1), &[], &source).unwrap();
    let index = GlobalIndex::load(storage, context, 32 << 20).unwrap().0;
    let pages = format::Layout::for_counts(50_000, 1, 0)
        .unwrap()
        .pages(format::Section::Filter);
    assert!(index.page_reads().filter <= pages);
    let mut filter: Vec<format::Page> = vec![[0; format::PAGE_LEN]; pages as usize];
    for entry in source.scan() {
        let probe = filter::Probe::new(&entry.unwrap().entry.id, pages);
        probe.set(&mut filter[probe.page as usize]);
    }
    let admitted = (0..100_000)
        .map(|n| filter::Probe::new(&source.absent_id(n), pages))
        .filter(|probe| probe.may_contain(&filter[probe.page as usize]))
        .count();
    assert!((1..1000).contains(&admitted), "{admitted} of 100,000");
    assert!((0..100_000).all(|n| index.locate(&source.absent_id(n)).unwrap().is_empty()));
}

fn check(trial: Trial) {
    assert_eq!((trial.hits, trial.misses), (500, 500));
    assert!(trial.reads.fence + trial.reads.data <= 2 * trial.hits, "{trial:?}");
    // an id that is the first of its page (1 in 85) needs one more read: the page before may hold
    // it too
    assert!(
        trial.most_for_a_hit <= 3 && trial.hits_over_two <= trial.hits / 30,
        "{trial:?}"
    );
    assert!(trial.reads_for_misses <= trial.misses / 20, "{trial:?}");
}

#[test]
fn a_thousand_look_ups_among_a_hundred_thousand_read_few_pages() {
    for context in [plain(), sealed()] {
        let source = GeneratedSource::new(21, 100_000);
        check(lookup_trial(&memory(), &context, &entropy(1), &source, CACHE, 1000).unwrap());
    }
}

/// Resident memory of this process in bytes.
#[cfg(target_os = "linux")]
#[allow(clippy::disallowed_methods, reason = "reads the kernel's figures, no repository")]
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[cfg(target_os = "linux")]
#[test]
#[ignore = "writes 500 MB"]
fn slow_ten_million_entries_need_less_than_64_mib_of_memory() {
    for context in [plain(), sealed()] {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("repository");
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open_path(&root, Arc::new(OsEntropy)).unwrap());
        storage.create_folders(&layout::FOLDERS, &[]).unwrap();
        let before = resident_bytes();
        let source = GeneratedSource::new(31, 10_000_000);
        let trial = lookup_trial(&storage, &context, &OsEntropy, &source, DEFAULT_CACHE_BYTES, 1000).unwrap();
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 64 << 20, "grew by {grown} bytes");
        check(trial);
    }
}
