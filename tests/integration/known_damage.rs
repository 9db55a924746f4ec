//! Damage that a handle knows: no new snapshot reuses it, whichever operation found it, and a prune
//! keeps the intact copy.

use crate::support::faults::{files_of, memory_of, with};
use crate::support::*;
use containerarchive::buffer::BufferPool;
use containerarchive::id::PackId;
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::prune::PruneOptions;
use containerarchive::ops::verify::{VerifyLevel, VerifyOptions, VerifyReport};
use containerarchive::ops::{self, IngestOptions, ItemSpec, ItemStream};
use containerarchive::pack::{ChunkLocation, KIND_DATA, PackHeader, PackWriter};
use containerarchive::repo::{InitOptions, OpenOptions, Repository};
use containerarchive::storage::{MemoryStorage, Storage, put_bytes};
use containerarchive::{Result, repo};
use std::sync::Arc;

const FLAVORS: [fn() -> Flavor; 2] = [Flavor::plain, Flavor::sealed];

/// A repository with `data`, with a flipped byte in each of its data packs; with parity if
/// `parity`.
fn damaged(flavor: Flavor, data: &[u8], parity: bool) -> (Arc<MemoryStorage>, Vec<(String, Vec<u8>)>) {
    let storage = Arc::new(MemoryStorage::new());
    let options = InitOptions {
        parity: if parity { flavor.small().parity } else { Some(None) },
        ..flavor.small()
    };
    let repo = repo::init(environment(storage.clone(), 1), flavor.secret().as_ref(), &options);
    ingest(&Arc::new(repo.unwrap()), data).unwrap();
    let files = files_of(storage.as_ref());
    let long = |key: &String| key.ends_with(".pack") && files[key].len() > 20_000;
    let packs: Vec<(String, Vec<u8>)> = files
        .keys()
        .filter(|key| long(key))
        .map(|key| (key.clone(), files[key].clone()))
        .collect();
    let hit = if parity { &packs[..1] } else { &packs[..] };
    let mut now = files.clone();
    for (key, bytes) in hit {
        let mut bytes = bytes.clone();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        now = with(&now, key, Some(bytes));
    }
    (memory_of(&now), hit.to_vec())
}

fn handle(storage: &Arc<MemoryStorage>, flavor: Flavor, seed: u64) -> Arc<Repository> {
    open(environment(storage.clone(), seed), flavor).unwrap()
}

fn verify(repo: &Arc<Repository>, level: VerifyLevel) -> VerifyReport {
    let options = VerifyOptions { level, subset: None };
    ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap()
}

fn latest(repo: &Arc<Repository>) -> String {
    ops::get_snapshot(repo, "latest").unwrap().id.to_hex()
}

#[test]
fn chunks_of_a_pack_found_damaged_by_verify_or_restore_are_stored_again() {
    let data = random_bytes(5, 200_000);
    for flavor in FLAVORS.map(|flavor| flavor()) {
        for level in [None, Some(VerifyLevel::Standard), Some(VerifyLevel::Full)] {
            let (storage, _) = damaged(flavor, &data, false);
            let repo = handle(&storage, flavor, 2);
            match level {
                None => assert!(restore(&repo, &latest(&repo), None).is_err()),
                Some(level) => assert!(!verify(&repo, level).ok()),
            }
            let again = ingest(&repo, &data).unwrap();
            assert!(again.new_chunks > 0, "{flavor:?} {level:?}");
            for reader in [repo, handle(&storage, flavor, 3)] {
                assert!(
                    restore(&reader, &again.id.to_hex(), None).unwrap() == data,
                    "{flavor:?} {level:?}"
                );
            }
        }
    }
}

#[test]
fn a_pack_that_parity_covers_is_healed_before_reuse_unless_healing_is_off() {
    let data = random_bytes(6, 200_000);
    for flavor in FLAVORS.map(|flavor| flavor()) {
        for heal in [true, false] {
            let (storage, hit) = damaged(flavor, &data, true);
            let options = OpenOptions {
                heal,
                ..OpenOptions::default()
            };
            let repo = repo::open(environment(storage.clone(), 2), flavor.secret().as_ref(), &options);
            let repo = Arc::new(repo.unwrap());
            assert!(!verify(&repo, VerifyLevel::Standard).ok());
            let again = ingest(&repo, &data).unwrap();
            assert_eq!(again.new_chunks == 0, heal);
            let [(key, bytes)] = &hit[..] else { panic!() };
            assert_eq!(storage.get(key, u64::MAX).unwrap() == *bytes, heal);
            assert!(restore(&repo, &again.id.to_hex(), None).unwrap() == data);
        }
    }
}

#[test]
fn a_pack_repaired_after_its_damage_was_found_is_reused() {
    let data = random_bytes(7, 200_000);
    let flavor = Flavor::plain();
    let (storage, hit) = damaged(flavor, &data, false);
    let repo = handle(&storage, flavor, 2);
    assert!(!verify(&repo, VerifyLevel::Standard).ok());
    for (key, bytes) in &hit {
        storage.delete(key).unwrap();
        put_bytes(storage.as_ref(), key, bytes).unwrap();
    }
    assert_eq!(ingest(&repo, &data).unwrap().new_chunks, 0);
}

/// All of `data`, followed by a call of `then`.
struct Then<'a> {
    data: &'a [u8],
    begun: bool,
    then: Option<Box<dyn FnOnce() + 'a>>,
}

impl ItemStream for Then<'_> {
    fn next_item(&mut self) -> Result<Option<ItemSpec>> {
        Ok((!std::mem::replace(&mut self.begun, true)).then(|| ItemSpec::new("data", "test")))
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let (now, later) = self.data.split_at(self.data.len().min(out.len()));
        out[..now.len()].copy_from_slice(now);
        self.data = later;
        if now.is_empty()
            && let Some(then) = self.then.take()
        {
            then();
        }
        Ok(now.len())
    }
}

#[test]
fn damage_found_in_a_pack_that_a_running_ingest_reuses_is_healed_or_fails_the_commit() {
    let data = random_bytes(8, 200_000);
    for flavor in FLAVORS.map(|flavor| flavor()) {
        for parity in [false, true] {
            let (storage, _) = damaged(flavor, &data, parity);
            let repo = handle(&storage, flavor, 2);
            let mut source = Then {
                // longer than a batch of a small handle, so that repeated chunks have been looked
                // up before `then`
                data: &data,
                begun: false,
                then: Some(Box::new(|| assert!(!verify(&repo, VerifyLevel::Standard).ok()))),
            };
            let outcome = ops::ingest(&repo, &mut source, &IngestOptions::default(), &NullMonitor);
            match (parity, outcome) {
                (true, outcome) => assert_eq!(outcome.unwrap().new_chunks, 0),
                // chunks that were reused before `then` are stored again by a retry, later ones by
                // this ingest
                (false, Ok(snapshot)) => assert!(snapshot.new_chunks > 0),
                (false, Err(error)) => assert_eq!(error.code(), "ERR_CONFLICT"),
            }
            let again = ingest(&repo, &data).unwrap();
            assert!(restore(&repo, &again.id.to_hex(), None).unwrap() == data);
            for snapshot in ops::list_snapshots(&repo, &Default::default()).unwrap() {
                let restored = restore(&repo, &snapshot.id.to_hex(), None);
                assert!(restored.unwrap() == data);
            }
        }
    }
}

/// The pack has the right hash, so no check of the complete pack finds the damage.
#[test]
fn a_chunk_that_was_written_with_wrong_bytes_is_stored_again() {
    let (repo, storage) = memory_repo(Flavor::plain());
    let data = random_bytes(9, 200);
    let id = repo.seal().chunk_id(KIND_DATA, &data);
    let header = PackHeader {
        sealed: false,
        meta: false,
        repo: repo.config().id,
        session: containerarchive::id::SnapshotId([1; 16]),
        nonce: [2; 16],
        epoch: 0,
    };
    let mut pack = PackWriter::create(BufferPool::new(1 << 20).take(65_536).unwrap(), header).unwrap();
    let mut wrong = data.clone();
    wrong[100] ^= 1;
    assert!(pack.append(id, data.len() as u32, 0, KIND_DATA, &wrong));
    let pack = PackWriter::finish_all(vec![pack], repo.seal().as_ref())
        .unwrap()
        .remove(0);
    let len = pack.bytes.filled().len() as u64;
    put_bytes(storage.as_ref(), &layout::pack(&pack.id), pack.bytes.filled()).unwrap();
    put_bytes(storage.as_ref(), &layout::pack_index(&pack.id), &pack.index).unwrap();
    let location = ChunkLocation {
        pack: pack.id,
        entry: pack.entries[0],
    };
    repo.publish_segment(vec![(location, len)]).unwrap();
    let first = ingest(&repo, &data).unwrap();
    assert_eq!(first.reused_chunks, 1, "the damage is not known yet");
    assert!(restore(&repo, &first.id.to_hex(), None).is_err());
    let second = ingest(&repo, &data).unwrap();
    assert_eq!(second.new_chunks, 1);
    assert!(restore(&repo, &second.id.to_hex(), None).unwrap() == data);
}

/// The handle that stored the chunks again knows which copy is intact; the one that prunes has read
/// neither.
#[test]
fn a_prune_by_another_handle_keeps_the_copies_that_replaced_damaged_chunks() {
    let data = random_bytes(10, 100_000);
    for flavor in FLAVORS.map(|flavor| flavor()) {
        for seed in 0..8 {
            let (storage, _) = damaged(flavor, &data, false);
            let repo = handle(&storage, flavor, 20 + seed);
            assert!(!verify(&repo, VerifyLevel::Standard).ok());
            let again = ingest(&repo, &data).unwrap().id.to_hex();
            let other = handle(&storage, flavor, 40 + seed);
            for _ in 0..2 {
                ops::prune(&other, &PruneOptions::keep_all(), &NullMonitor).unwrap();
                assert!(
                    restore(&handle(&storage, flavor, 60), &again, None).unwrap() == data,
                    "seed {seed}"
                );
            }
            // the handle that knows the damage deletes the damaged packs if another pack has every
            // chunk
            ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).unwrap();
            assert!(
                restore(&handle(&storage, flavor, 61), &again, None).unwrap() == data,
                "seed {seed}"
            );
            let suspect = |key: &str| layout::id_of(key, ".pack").is_some_and(|id| repo.is_suspect(&PackId(id)));
            let files = files_of(storage.as_ref());
            assert!(!files.keys().any(|key| suspect(key)), "seed {seed}");
        }
    }
}
