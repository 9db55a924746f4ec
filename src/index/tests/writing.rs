//! Sources that a writer refuses, and the exact bytes that it makes.

use super::*;
use crate::id::to_hex;

/// A source that gives other entries on a later walk, or entries out of order.
struct BadSource {
    walks: std::cell::Cell<u32>,
    packs: Vec<(PackId, u64)>,
    walk: fn(u32) -> Vec<u64>,
}

impl EntrySource for BadSource {
    fn packs(&self) -> &[(PackId, u64)] {
        &self.packs
    }

    fn scan(&self) -> EntryScan<'_> {
        self.walks.set(self.walks.get() + 1);
        let ids = (self.walk)(self.walks.get());
        Box::new(ids.into_iter().map(|n| {
            Ok(SegmentEntry {
                pack: 0,
                entry: located(id(n, n), 1).0.entry,
            })
        }))
    }
}

#[test]
fn the_length_of_all_packs_is_exact_for_few_and_estimated_with_one_read_for_many() {
    let inner = memory();
    let mut packs: Vec<(PackId, u64)> = (0..40_000u64)
        .map(|number| {
            let id = PackId(crypto::sha256(&[&number.to_le_bytes()]));
            (id, if number % 10 == 0 { 8 << 20 } else { 4096 })
        })
        .collect();
    packs.sort_unstable();
    let write = |packs: &[(PackId, u64)]| {
        let source = BadSource {
            walks: Default::default(),
            packs: packs.to_vec(),
            walk: |_| Vec::new(),
        };
        write_segment(&*inner, &plain(), &entropy(packs.len() as u64), &[], &source).unwrap();
    };
    let sum = |packs: &[(PackId, u64)]| packs.iter().map(|(_, len)| len).sum::<u64>();
    let recording = Arc::new(storage::RecordingStorage::new(Arc::clone(&inner)));
    let estimate = || {
        let storage: Arc<dyn Storage> = recording.clone();
        let index = load(&storage, &plain());
        recording.clear();
        (index.estimate_pack_bytes().unwrap(), recording.calls().len())
    };
    write(&packs[..6000]);
    assert_eq!(estimate(), (sum(&packs[..6000]), 1));
    write(&packs[6000..]);
    let (bytes, reads) = estimate();
    assert!(
        bytes.abs_diff(sum(&packs)) < sum(&packs) / 10,
        "{bytes} of {}",
        sum(&packs)
    );
    assert_eq!(reads, 2);
}

#[test]
fn a_source_that_breaks_its_promises_publishes_nothing() {
    let walks: [fn(u32) -> Vec<u64>; 5] = [
        |_| vec![2, 1],
        |walk| if walk == 1 { vec![1, 2] } else { vec![1, 3] },
        |walk| if walk == 1 { vec![1, 2] } else { vec![1] },
        |walk| if walk == 1 { vec![1, 2] } else { vec![1, 2, 3] },
        |walk| if walk == 1 { vec![1; 85] } else { (0..100).collect() },
    ];
    for walk in walks {
        let storage = memory();
        let source = BadSource {
            walks: Default::default(),
            packs: vec![(PackId([1; 32]), 1)],
            walk,
        };
        let result = write_segment(&*storage, &plain(), &entropy(1), &[], &source);
        assert!(matches!(result, Err(Error::Writer(_))), "{result:?}");
        assert!(segment_files(&storage).is_empty());
    }
    let storage = memory();
    let packs = vec![(PackId([2; 32]), 1), (PackId([1; 32]), 1)];
    let source = BadSource {
        walks: Default::default(),
        packs,
        walk: |_| vec![1],
    };
    assert!(write_segment(&*storage, &plain(), &entropy(1), &[], &source).is_err());
}

#[test]
fn repeated_randomness_never_repeats_a_key_for_different_contents() {
    let salt_of = |entries, superseded: &[SegmentId]| {
        let storage = memory();
        write_segment(
            &*storage,
            &sealed(),
            &entropy(1),
            superseded,
            &MemorySource::new(entries),
        )
        .unwrap();
        segment_files(&storage)[0].1[48..80].to_vec()
    };
    let mut longer_pack = many(10);
    longer_pack[3].1 += 1;
    let salts: HashSet<Vec<u8>> = HashSet::from([
        salt_of(many(10), &[]),
        salt_of(many(11), &[]),
        salt_of(longer_pack, &[]),
        salt_of(many(10), &[SegmentId([1; 16])]),
    ]);
    assert_eq!(salts.len(), 4);
    assert_eq!(salt_of(many(10), &[]), salt_of(many(10), &[]));
}

#[test]
fn a_taken_id_is_never_overwritten() {
    let (storage, context) = (memory(), plain());
    let first = write_segment(&*storage, &context, &entropy(1), &[], &MemorySource::new(many(5))).unwrap();
    let second = write_segment(&*storage, &context, &entropy(1), &[], &MemorySource::new(many(6))).unwrap();
    assert_ne!(first, second);
    assert_eq!(segment_files(&storage).len(), 2);
}

#[test]
fn only_chunks_and_list_nodes_enter_the_index() {
    let (storage, context) = (memory(), plain());
    let index = load(&storage, &context);
    let mut copy = located(hashed(1), 1);
    copy.0.entry.kind = 2;
    index.publish(&entropy(1), vec![copy, located(hashed(2), 2)]).unwrap();
    assert!(packs_of(&index, &hashed(1)).is_empty());
    assert!(index.contains_pack(&PackId([1; 32])).unwrap());
}

/// If this changes, the format changed.
#[test]
fn pages_are_these_bytes() {
    let (storage, context) = (memory(), plain());
    write_segment(
        &*storage,
        &context,
        &entropy(42),
        &[SegmentId([5; 16])],
        &MemorySource::new(many(100)),
    )
    .unwrap();
    let (key, bytes) = segment_files(&storage).remove(0);
    let page = |number: usize| &bytes[number * format::PAGE_LEN..(number + 1) * format::PAGE_LEN];
    let golden = |number| {
        format!(
            "{} {}",
            to_hex(&crypto::sha256(&[page(number)])),
            to_hex(&page(number)[..96])
        )
    };
    assert_eq!(bytes.len(), 9 * format::PAGE_LEN);
    assert_eq!(key, "index/956eeb2f2632d7bd03f166b233e3ef28.seg");
    assert_eq!(
        golden(0),
        "bfec272869b33b3551d710dac82ac7069784f0723f869cdfd00c0c154f69b002 \
         4341534547303031010000000000000007070707070707070707070707070707956eeb2f2632d7bd03f166b233e3ef28\
         000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
    );
    assert_eq!(
        golden(1),
        "75a4ab93f4051ba66ea3c0295586077d45ab41bfe593be9c490045697ca32436 \
         078c5078881b24e4c967c26d170e688ddb2e26d6128023f3cafb63a9a2c18dfb5300000098440100f401008403000101\
         0adb29f571a41e782fdb0fdca99af168ae530092ba4f4a43bdcb08ddd53284f118000000205e0000f401008403000100"
    );
    assert_eq!(
        to_hex(&crypto::sha256(&[&bytes])),
        "d5afb9e058433712be49413f0a4ea67b2521b10a9769d2acc79a92b17c03e3fc"
    );
}
