//! Damage of all kinds: what is rebuilt, what is lost, and that each changed byte is detected.

use super::*;
use crate::storage::ErrorKind;

#[test]
fn packs_damaged_at_different_rows_are_all_rebuilt() {
    let (storage, record, packs) = stored(shape(5, 1), &[30_000, 9000, 30_001, 4096, 1], 1);
    flip(&storage, &layout::pack(&packs[0].0), 0);
    flip(&storage, &layout::pack(&packs[1].0), 8999);
    flip(&storage, &layout::pack(&packs[2].0), 4096);
    flip(&storage, &layout::pack(&packs[2].0), 30_000);
    for (id, bytes) in &packs {
        assert_eq!(&rebuild_pack(&storage, &record, id).unwrap(), bytes);
    }
    assert_eq!(damaged_rows(&storage, &record, &packs[2].0).unwrap(), [1..2, 7..8]);
    assert_eq!(damaged_rows(&storage, &record, &packs[3].0).unwrap(), []);
    let rows = rebuild_rows(&storage, &record, &packs[2].0, 6..8).unwrap();
    assert_eq!(rows, packs[2].1[6 * 4096..]);
    assert!(rebuild_rows(&storage, &record, &packs[2].0, 3..3).unwrap().is_empty());
}

#[test]
fn only_a_row_that_is_bad_in_two_packs_is_lost() {
    let (storage, record, packs) = stored(shape(20, 1), &[20_000, 20_000, 20_000], 2);
    for (pack, at) in [(0, 4096), (1, 8191), (0, 12_288), (1, 0)] {
        flip(&storage, &layout::pack(&packs[pack].0), at);
    }
    for (id, bytes) in &packs[..2] {
        let lost = lost(rebuild_pack(&storage, &record, id));
        assert_eq!((lost.rows, lost.pack, lost.first_row), (vec![1..2], Some(*id), 0));
        assert_eq!(lost.bytes.len(), bytes.len());
        assert_eq!(lost.bytes[..4096], bytes[..4096]);
        assert_eq!(lost.bytes[8192..], bytes[8192..]);
    }
    assert_eq!(rebuild_pack(&storage, &record, &packs[2].0).unwrap(), packs[2].1);
    assert_eq!(
        rebuild_rows(&storage, &record, &packs[0].0, 2..5).unwrap(),
        packs[0].1[8192..]
    );
    let lost = lost(rebuild_rows(&storage, &record, &packs[0].0, 1..3));
    assert_eq!((lost.rows, lost.first_row), (vec![1..2], 1));
    assert_eq!(lost.bytes[4096..], packs[0].1[8192..12_288]);
}

#[test]
fn with_two_shards_any_two_lost_files_are_rebuilt() {
    let lens = [10_000, 4096, 1, 20_000];
    for a in 0..6usize {
        for b in 0..a {
            let (storage, record, packs) = stored(shape(4, 2), &lens, 3);
            let key = |at: usize| match at {
                4.. => layout::shard(&record.head.id, at as u8 - 4),
                _ => layout::pack(&packs[at].0),
            };
            let before = [key(a), key(b)].map(|key| file(&storage, &key));
            storage.delete(&key(a)).unwrap();
            storage.delete(&key(b)).unwrap();
            let rebuilt = [a, b].map(|at| match at {
                4.. => rebuild_file(&storage, &record, Part::Shard(at as u8 - 4)).unwrap(),
                _ => rebuild_pack(&storage, &record, &packs[at].0).unwrap(),
            });
            assert!(rebuilt == before, "{a} and {b}");
        }
    }
}

#[test]
fn a_short_file_loses_only_its_end_and_a_failing_sector_only_its_row() {
    let (storage, record, packs) = stored(shape(3, 1), &[40_000, 40_000, 40_000], 4);
    let keys: Vec<String> = packs.iter().map(|(id, _)| layout::pack(id)).collect();
    overwrite(&storage, &keys[0], &packs[0].1[..20_000]);
    flip(&storage, &keys[1], 100);
    assert_eq!(damaged_rows(&storage, &record, &packs[0].0).unwrap(), [4..10]);
    let bad = Sectors {
        inner: storage,
        bad: (keys[2].clone(), 2 * 4096 + 17),
    };
    assert_eq!(damaged_rows(&bad, &record, &packs[2].0).unwrap(), [2..3]);
    for (id, bytes) in &packs {
        assert_eq!(&rebuild_pack(&bad, &record, id).unwrap(), bytes);
    }
}

#[test]
fn a_failure_that_is_no_damage_is_an_error_and_not_an_erasure() {
    let (storage, record, packs) = stored(shape(3, 1), &[4000, 4000], 5);
    storage.delete(&layout::pack(&packs[0].0)).unwrap();
    let faulty = FaultyStorage::new(Arc::new(storage));
    let key = layout::pack(&packs[1].0);
    faulty.fail_when(move |_, at| at == key, ErrorKind::PermissionDenied);
    let result = rebuild_pack(&faulty, &record, &packs[0].0);
    assert!(matches!(result, Err(Error::Storage(error)) if error.kind == ErrorKind::PermissionDenied));
}

#[test]
fn the_hash_of_a_rebuilt_pack_must_match_its_id() {
    let storage = MemoryStorage::new();
    let mut packs = packs(&storage, &[5000, 6000], 6);
    packs[0].0 = PackId([9; 32]);
    let group = group_of(shape(3, 1), 0, 1, &packs, &[]);
    publish(&storage, &group).unwrap();
    let lost = lost(rebuild_pack(&storage, &group.record, &packs[0].0));
    assert_eq!((lost.rows, &lost.bytes), (vec![0..2], &packs[0].1));
    assert!(rebuild_rows(&storage, &group.record, &packs[0].0, 0..2).is_ok());
}

#[test]
fn every_flipped_byte_of_a_group_file_is_detected_and_repaired() {
    let (storage, record, _) = stored(shape(3, 2), &[5000, 100], 7);
    for part in [Part::Group, Part::Shard(0), Part::Shard(1)] {
        let key = part.key(&record.head.id);
        let whole = file(&storage, &key);
        assert_eq!(whole.len() as u64, record.head.file_len(part));
        assert!(check_part(&storage, &record, part).unwrap().is_intact());
        // some bytes of each row of the shard, and all bytes around it
        let stripe =
            record.head.shard_offset() as usize..(record.head.shard_offset() + record.head.stripe_len()) as usize;
        let rare = |at: &usize| part == Part::Group || !stripe.contains(at) || at.is_multiple_of(97);
        for at in (0..whole.len()).filter(rare) {
            flip(&storage, &key, at);
            let state = check_part(&storage, &record, part).unwrap();
            assert!(!state.is_intact(), "{part:?} byte {at}");
            if part != Part::Group && stripe.contains(&at) {
                assert_eq!((state.frame, state.rows.len()), (None, 1));
            }
            assert_eq!(read_record(&storage, &record.head.id).unwrap(), record);
            assert!(
                rebuild_file(&storage, &record, part).unwrap() == whole,
                "{part:?} byte {at}"
            );
            overwrite(&storage, &key, &whole);
        }
        for cut in [0, 63, 200, whole.len() - 1] {
            overwrite(&storage, &key, &whole[..cut]);
            assert_eq!(check_part(&storage, &record, part).unwrap().frame, Some(Damage::Length));
            assert!(rebuild_file(&storage, &record, part).unwrap() == whole);
        }
        storage.delete(&key).unwrap();
        assert_eq!(
            check_part(&storage, &record, part).unwrap().frame,
            Some(Damage::Missing)
        );
        assert!(rebuild_file(&storage, &record, part).unwrap() == whole);
        overwrite(&storage, &key, &whole);
    }
}

#[test]
fn the_record_is_read_from_any_intact_copy() {
    let (storage, record, _) = stored(shape(3, 2), &[5000, 100], 8);
    let id = record.head.id;
    storage.delete(&layout::group(&id)).unwrap();
    storage.delete(&layout::shard(&id, 0)).unwrap();
    let key = layout::shard(&id, 1);
    flip(&storage, &key, 10); // the first prefix
    assert_eq!(read_record(&storage, &id).unwrap(), record);
    flip(&storage, &key, 64 + 90); // the first record: the last prefix and record are left
    assert_eq!(read_record(&storage, &id).unwrap(), record);
    let len = file(&storage, &key).len();
    flip(&storage, &key, len - 64 - 40);
    let error = read_record(&storage, &id).unwrap_err();
    assert!(
        matches!(
            error,
            Error::Damaged {
                reason: Damage::Contents | Damage::Record,
                ..
            }
        ),
        "{error}"
    );
    assert!(matches!(
        read_record(&storage, &GroupId([3; 16])),
        Err(Error::Damaged {
            reason: Damage::Missing,
            ..
        })
    ));
}

#[test]
fn decode_refuses_a_record_or_prefix_with_any_byte_flipped() {
    let (_, record, _) = stored(shape(3, 2), &[5000, 100], 9);
    let bytes = record.encode();
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 0x10;
        assert!(GroupRecord::decode(&bad).is_err(), "byte {at}");
        assert!(GroupRecord::decode(&bytes[..at]).is_err());
    }
    let prefix = record.head.prefix(Part::Shard(1)).encode();
    for at in 0..prefix.len() {
        let mut bad = prefix;
        bad[at] ^= 0x10;
        assert!(format::Prefix::decode(&bad).is_err(), "byte {at}");
    }
}

#[test]
fn several_stripes_are_rebuilt_across_their_borders() {
    let len = 300 * 4096 + 5;
    let (storage, record, packs) = stored(shape(3, 1), &[len, len - 4096 * 2, len], 10);
    storage.delete(&layout::pack(&packs[0].0)).unwrap();
    assert!(rebuild_pack(&storage, &record, &packs[0].0).unwrap() == packs[0].1);
    let rows = rebuild_rows(&storage, &record, &packs[0].0, 250..301).unwrap();
    assert!(rows == packs[0].1[250 * 4096..]);
    flip(&storage, &layout::pack(&packs[1].0), 256 * 4096);
    assert_eq!(lost(rebuild_pack(&storage, &record, &packs[0].0)).rows, [256..257]);
}

/// A store with one failing sector.
struct Sectors {
    inner: MemoryStorage,
    bad: (String, u64),
}

impl Storage for Sectors {
    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> storage::Result<()> {
        let (bad_key, at) = &self.bad;
        if key == bad_key && (offset..offset + out.len() as u64).contains(at) {
            return Err(storage::Error::new(ErrorKind::Io, "get", key));
        }
        self.inner.get_range(key, offset, out)
    }

    fn put_new(&self, key: &str, len: u64, reader: &mut dyn std::io::Read) -> storage::Result<storage::Created> {
        self.inner.put_new(key, len, reader)
    }

    fn get(&self, key: &str, max_len: u64) -> storage::Result<Vec<u8>> {
        self.inner.get(key, max_len)
    }

    fn size(&self, key: &str) -> storage::Result<Option<u64>> {
        self.inner.size(key)
    }

    fn list(&self, prefix: &str) -> storage::Result<Vec<storage::Entry>> {
        self.inner.list(prefix)
    }

    fn delete(&self, key: &str) -> storage::Result<()> {
        self.inner.delete(key)
    }

    fn barrier(&self) -> storage::Result<()> {
        self.inner.barrier()
    }

    fn lease(&self, key: &str, bytes: &[u8]) -> storage::Result<Box<dyn storage::LockGuard>> {
        self.inner.lease(key, bytes)
    }

    fn lease_held(&self, key: &str) -> storage::Result<Option<bool>> {
        self.inner.lease_held(key)
    }

    fn lock(
        &self,
        key: &str,
        mode: storage::LockMode,
        wait: std::time::Duration,
    ) -> storage::Result<Option<Box<dyn storage::LockGuard>>> {
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

    fn create_folders(&self, folders: &[&str], allowed: &[&str]) -> storage::Result<bool> {
        self.inner.create_folders(folders, allowed)
    }
}
