//! Damaged, foreign and swapped bytes are detected and never give a wrong location.

use super::*;
use crate::storage::put_bytes;

#[test]
fn every_flipped_byte_is_detected_and_never_gives_a_wrong_location() {
    for context in [plain(), sealed()] {
        let storage = memory();
        let superseded = [SegmentId([1; 16])];
        let source = MemorySource::new(many(100));
        write_segment(&*storage, &context, &entropy(1), &superseded, &source).unwrap();
        let (key, good) = segment_files(&storage).remove(0);
        let wanted_entries = many(100);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            storage.delete(&key).unwrap();
            put_bytes(&*storage, &key, &bad).unwrap();
            let (index, broken) = GlobalIndex::load(Arc::clone(&storage), Arc::clone(&context), CACHE).unwrap();
            let mut noticed = broken
                .iter()
                .any(|broken| matches!(broken.error, Error::Damaged { .. }));
            // first and last entries reach all pages of this small segment
            for (wanted, _) in &wanted_entries {
                match index.locate(&wanted.entry.id) {
                    Ok(found) => assert!(found == [*wanted] || noticed && found.is_empty(), "byte {at}"),
                    Err(Error::Damaged { .. }) => noticed = true,
                    Err(other) => panic!("byte {at}: {other}"),
                }
                if noticed {
                    break;
                }
            }
            assert!(noticed, "byte {at} of {}", good.len());
        }
    }
}

#[test]
fn a_truncated_or_longer_file_is_refused() {
    for context in [plain(), sealed()] {
        let storage = memory();
        load(&storage, &context).publish(&entropy(1), many(1000)).unwrap();
        let (key, good) = segment_files(&storage).remove(0);
        let mut lengths: Vec<usize> = (0..good.len()).step_by(format::PAGE_LEN).collect();
        lengths.extend([
            1,
            4095,
            good.len() - 1,
            good.len() + 1,
            good.len() + 4096,
            good.len() * 2,
        ]);
        for len in lengths {
            let mut bad = good.clone();
            bad.extend_from_slice(&good);
            bad.truncate(len.min(good.len() * 2));
            storage.delete(&key).unwrap();
            put_bytes(&*storage, &key, &bad).unwrap();
            let (index, broken) = GlobalIndex::load(Arc::clone(&storage), Arc::clone(&context), CACHE).unwrap();
            assert_eq!((broken.len(), index.live_segments().len()), (1, 0), "{len}");
        }
    }
}

#[test]
fn foreign_segments_and_moved_pages_are_refused() {
    let storage = memory();
    load(&storage, &plain()).publish(&entropy(1), many(1000)).unwrap();
    let damage_with = |context: SegmentContext| {
        let (_, broken) = GlobalIndex::load(Arc::clone(&storage), Arc::new(context), CACHE).unwrap();
        match broken[0].error {
            Error::Damaged { reason, .. } => reason,
            ref other => panic!("{other}"),
        }
    };
    let seal = SegmentSeal::Sealed {
        epochs: Vec::new(),
        hedge: SecretKey::new([1; 32]),
    };
    assert_eq!(
        damage_with(SegmentContext {
            repo: RepoId([7; 16]),
            seal
        }),
        Damage::SealMismatch
    );
    // left out, and not damaged
    let other = SegmentContext {
        repo: RepoId([8; 16]),
        seal: SegmentSeal::Plain,
    };
    let (index, broken) = GlobalIndex::load(Arc::clone(&storage), Arc::new(other), CACHE).unwrap();
    assert!(broken.is_empty() && index.live_segments().is_empty());
    assert_eq!(index.foreign_segments().len(), 1);

    let (key, good) = segment_files(&storage).remove(0);
    storage.delete(&key).unwrap();
    put_bytes(&*storage, &layout::segment(&SegmentId([3; 16])), &good).unwrap();
    assert_eq!(
        damage_with(SegmentContext {
            repo: RepoId([7; 16]),
            seal: SegmentSeal::Plain
        }),
        Damage::Header
    );

    for context in [plain(), sealed()] {
        let storage = memory();
        load(&storage, &context).publish(&entropy(1), many(1000)).unwrap();
        let (key, mut bytes) = segment_files(&storage).remove(0);
        let (left, right) = bytes.split_at_mut(2 * format::PAGE_LEN);
        left[format::PAGE_LEN..].swap_with_slice(&mut right[..format::PAGE_LEN]);
        storage.delete(&key).unwrap();
        put_bytes(&*storage, &key, &bytes).unwrap();
        let index = load(&storage, &context);
        let lost = (0..1000).filter(|n| index.locate(&hashed(*n)).is_err()).count();
        assert!(lost > 100, "ids on the swapped pages");
    }
}

#[test]
fn an_unknown_epoch_is_damage_and_an_old_one_can_be_read() {
    let storage = memory();
    load(&storage, &sealed()).publish(&entropy(1), many(10)).unwrap();
    let with = |epochs: &[u32]| {
        let key = |epoch: &u32| EpochKey {
            epoch: *epoch,
            key: SecretKey::new([*epoch as u8; 32]),
        };
        let seal = SegmentSeal::Sealed {
            epochs: epochs.iter().map(key).collect(),
            hedge: SecretKey::new([9; 32]),
        };
        Arc::new(SegmentContext {
            repo: RepoId([7; 16]),
            seal,
        })
    };
    assert_eq!(packs_of(&load(&storage, &with(&[1, 2, 3])), &hashed(4)), [4]);
    let (_, broken) = GlobalIndex::load(Arc::clone(&storage), with(&[1, 3]), CACHE).unwrap();
    assert!(matches!(
        broken[0].error,
        Error::Damaged {
            reason: Damage::UnknownEpoch,
            ..
        }
    ));
}

#[test]
fn a_broken_segment_is_left_out_reported_once_and_can_be_replaced() {
    let (storage, context, random) = (memory(), plain(), entropy(3));
    let index = load(&storage, &context);
    let bad = index.publish(&random, many(1000)).unwrap().unwrap();
    index.publish(&random, vec![located(hashed(5000), 1)]).unwrap().unwrap();
    // damage the pages of data, not header or footer
    let key = layout::segment(&bad);
    let mut bytes = storage.get(&key, 1 << 30).unwrap();
    bytes[5000] ^= 1;
    storage.delete(&key).unwrap();
    put_bytes(&*storage, &key, &bytes).unwrap();

    let index = load(&storage, &context);
    let error = (0..1000).find_map(|n| index.locate(&hashed(n)).err()).unwrap();
    assert!(matches!(error, Error::Damaged { segment, reason: Damage::Page { number: 1 } } if segment == bad));
    assert!(
        index.all_entries().unwrap().scan().any(|entry| entry.is_err()),
        "a walk detects it too"
    );
    index.set_aside(bad, error);
    assert!(packs_of(&index, &hashed(1)).is_empty());
    assert_eq!(packs_of(&index, &hashed(5000)), [1]);
    assert!(index.refresh().unwrap().is_empty());
    assert_eq!(index.broken_segments()[0].id, bad);

    index
        .supersede(&random, &MemorySource::new(many(1000)), &[bad])
        .unwrap();
    assert!(index.broken_segments().is_empty());
    assert_eq!(storage.size(&key).unwrap(), None);
    assert_eq!(packs_of(&load(&storage, &context), &hashed(1)), [1]);
}

#[test]
fn a_segment_that_cannot_be_read_is_left_out_until_it_can_be_read() {
    for context in [plain(), sealed()] {
        let inside = memory();
        load(&inside, &context).publish(&entropy(1), many(3000)).unwrap();
        let (_, bytes) = segment_files(&inside).remove(0);
        let faulty = Arc::new(crate::storage::FaultyStorage::new(inside));
        let storage: Arc<dyn Storage> = faulty.clone();
        let read = |index: &GlobalIndex| {
            (0..3000)
                .filter(|n| index.locate(&hashed(*n)).unwrap().len() == 1)
                .count()
        };

        // from the beginning
        faulty.fail_when(|op, _| op == "get_range", ErrorKind::Io);
        let (index, broken) = GlobalIndex::load(storage.clone(), context.clone(), 0).unwrap();
        assert!(broken.is_empty() && index.live_segments().is_empty());
        assert_eq!(read(&index), 0);
        for unknown in [index.packs().err(), index.all_entries().err(), index.check_read().err()] {
            assert!(
                unknown.unwrap().is_unreadable(),
                "the other segments are not the whole index"
            );
        }
        assert!(index.contains_pack(&PackId([9; 32])).unwrap_err().is_unreadable());
        assert!(
            index
                .merge(&entropy(2), &[], &HashSet::new())
                .unwrap_err()
                .is_unreadable()
        );
        faulty.heal();
        assert!(index.refresh().unwrap().is_empty());
        assert_eq!(read(&index), 3000);
        index.check_read().unwrap();

        // after opening, on a page that only look-ups read; and each time while that fails
        let id = index.live_segments()[0].id;
        let data = (1..bytes.len() as u64 / format::PAGE_LEN as u64 - 1).find_map(|page| {
            let offset = page * format::PAGE_LEN as u64;
            faulty.fail_range(offset, ErrorKind::Io);
            let fresh = load(&storage, &context);
            let lost = fresh.live_segments().len() == 1 && read(&fresh) < 3000;
            faulty.heal();
            lost.then_some(offset)
        });
        faulty.fail_range(data.expect("a page that only look-ups read"), ErrorKind::Io);
        let fresh = load(&storage, &context);
        assert!(read(&fresh) < 3000);
        assert_eq!(fresh.broken_segments()[0].id, id);
        fresh.refresh().unwrap();
        assert!(fresh.live_segments().is_empty(), "the read that failed is tried again");
        faulty.heal();
        fresh.refresh().unwrap();
        assert_eq!(read(&fresh), 3000);
    }
}
