//! Groups that grow, shrink and merge without reading packs.

use super::*;

fn id(number: u8) -> GroupId {
    GroupId([number; 16])
}

#[test]
fn a_group_grown_one_by_one_equals_the_group_made_at_once() {
    for parity in [1, 3] {
        let storage = MemoryStorage::new();
        let packs = packs(&storage, &[5000, 12_345, 1, 9000, 40_960], 1);
        let mut tail = group_of(shape(5, parity), 220, 1, &packs[..1], &[]).record;
        publish(&storage, &group_of(shape(5, parity), 220, 1, &packs[..1], &[])).unwrap();
        for (at, pack) in packs.iter().enumerate().skip(1) {
            // as the engine does it: a separate accumulator, which may start at any slot with one
            // shard
            let slot = if parity == 1 { 220 } else { (220 + at as u8) % 224 };
            let add = accumulate(shape(5, parity), slot, std::slice::from_ref(pack));
            let grown = grow(&storage, &tail, add, id(at as u8 + 1), vec![], CONFIG.to_vec()).unwrap();
            assert_eq!(grown.record.head.superseded, [id(at as u8)]);
            publish(&storage, &grown).unwrap();
            tail = grown.record;
        }
        let mut whole = group_of(shape(5, parity), 220, 5, &packs, &[4]);
        if parity == 1 {
            // its slots are labels, assigned again
            let by_pack = |record: &GroupRecord| {
                let mut members: Vec<_> = record.head.members.iter().map(|member| member.pack).collect();
                members.sort();
                members
            };
            assert_eq!(by_pack(&tail), by_pack(&whole.record));
            assert_eq!(tail.shard_sums, whole.record.shard_sums);
            whole.record = tail.clone();
        }
        assert_eq!(tail, whole.record);
        for shard in 0..parity {
            let (bytes, bad) = read_shard(&storage, &tail, shard).unwrap();
            assert!(bad.is_empty() && bytes == whole.shards[usize::from(shard)]);
        }
        for (pack, bytes) in &packs {
            storage.delete(&layout::pack(pack)).unwrap();
            assert!(rebuild_pack(&storage, &tail, pack).unwrap() == *bytes);
            put_bytes(&storage, &layout::pack(pack), bytes).unwrap();
        }
        let mut full = Accumulator::resume(&storage, &tail).unwrap();
        assert!(full.is_full() && full.add(PackId([1; 32]), b"x") == Err(Refusal::Full));
    }
}

#[test]
fn growing_reads_no_pack_while_the_old_parity_is_good() {
    let (storage, record, packs) = stored(shape(5, 1), &[5000, 6000], 2);
    let recording = storage::RecordingStorage::new(Arc::new(storage));
    let more = [(PackId([5; 32]), noise(7000, 9))];
    let grown = grow(
        &recording,
        &record,
        accumulate(shape(5, 1), 0, &more),
        id(2),
        vec![],
        vec![],
    )
    .unwrap();
    assert_eq!(grown.record.head.members.len(), 3);
    assert!(recording.calls().iter().all(|(_, key)| key.ends_with(".par")));
    drop(packs);
}

#[test]
fn bad_rows_of_old_parity_are_rebuilt_before_it_is_folded() {
    for (parity, bad_packs) in [(1, 0), (2, 1)] {
        let storage = MemoryStorage::new();
        let packs = packs(&storage, &[9000, 6000, 7000], 3);
        let tail = group_of(shape(5, parity), 10, 1, &packs[..2], &[]);
        publish(&storage, &tail).unwrap();
        let offset = tail.record.head.shard_offset() as usize;
        flip(&storage, &layout::shard(&id(1), 0), offset + 4100);
        for (pack, _) in &packs[..bad_packs] {
            flip(&storage, &layout::pack(pack), 4200);
        }
        let add = || accumulate(shape(5, parity), 100, &packs[2..]);
        let grown = grow(&storage, &tail.record, add(), id(2), vec![], CONFIG.to_vec()).unwrap();
        let mut clean = accumulate(shape(5, parity), 10, &packs[..2]);
        clean.absorb(add()).unwrap();
        assert_eq!(grown, clean.finish(REPO, id(2), vec![id(1)], CONFIG.to_vec()).unwrap());
        // one more than the shards can repair
        flip(&storage, &layout::pack(&packs[bad_packs].0), 4300);
        let error = grow(&storage, &tail.record, add(), id(2), vec![], vec![]).unwrap_err();
        assert!(matches!(error, Error::Lost(lost) if lost.rows == [1..2] && lost.pack.is_none()));
    }
}

#[test]
fn groups_merge_when_their_slots_allow_it() {
    let storage = MemoryStorage::new();
    let packs = packs(&storage, &[9000, 6000, 7000, 100], 4);
    let published = |shape, slot, number, packs: &[(PackId, Vec<u8>)]| {
        let group = group_of(shape, slot, number, packs, &[]);
        publish(&storage, &group).unwrap();
        group.record
    };
    let one = shape(4, 1);
    let groups = [
        published(one, 0, 1, &packs[..2]),
        published(one, 0, 2, &packs[2..3]),
        published(one, 1, 3, &packs[3..]),
    ];
    let merged = merge(&storage, &groups, id(4), vec![id(9)], vec![]).unwrap();
    assert_eq!(merged.record.head.superseded, [id(1), id(2), id(3), id(9)]);
    assert!(merged.record.head.members.is_sorted_by(|a, b| a.slot < b.slot));
    assert_eq!(
        merged.shards,
        accumulate(one, 0, &packs)
            .finish(REPO, id(4), vec![], vec![])
            .unwrap()
            .shards
    );
    publish(&storage, &merged).unwrap();
    storage.delete(&layout::pack(&packs[3].0)).unwrap();
    assert_eq!(rebuild_pack(&storage, &merged.record, &packs[3].0).unwrap(), packs[3].1);

    let two = shape(4, 2);
    let a = published(two, 0, 11, &packs[..2]);
    let b = published(two, 2, 12, &packs[2..3]);
    let c = published(two, 1, 13, &packs[3..]);
    assert_eq!(can_merge(&a.head, &b.head), Ok(()));
    assert_eq!(can_merge(&a.head, &c.head), Err(Refusal::Slots));
    assert_eq!(can_merge(&a.head, &a.head), Err(Refusal::Duplicate));
    assert_eq!(can_merge(&a.head, &groups[0].head), Err(Refusal::Shape));
    let merged = merge(&storage, &[a.clone(), b], id(14), vec![], vec![]).unwrap();
    assert_eq!(
        merged.shards,
        accumulate(two, 0, &packs[..3])
            .finish(REPO, id(4), vec![], vec![])
            .unwrap()
            .shards
    );
    assert!(matches!(
        merge(&storage, &[a, c], id(15), vec![], vec![]),
        Err(Error::Refused(Refusal::Slots))
    ));
    assert!(matches!(
        merge(&storage, &[], id(15), vec![], vec![]),
        Err(Error::Refused(Refusal::Empty))
    ));
}

#[test]
fn a_removed_member_leaves_the_group_as_if_it_had_never_been_in() {
    for parity in [1, 2] {
        let (storage, record, packs) = stored(shape(5, parity), &[9000, 40_000, 7000], 6);
        let mut rest = Accumulator::resume(&storage, &record).unwrap();
        let mut wrong = packs[1].1.clone();
        wrong[0] ^= 1;
        assert_eq!(rest.remove(&packs[1].0, &wrong), Err(Refusal::WrongBytes));
        assert_eq!(rest.remove(&packs[1].0, &wrong[..39_999]), Err(Refusal::WrongBytes));
        assert_eq!(rest.remove(&PackId([0; 32]), &[]), Err(Refusal::NotAMember));
        rest.remove(&packs[1].0, &packs[1].1).unwrap();
        let without = rest.finish(REPO, id(2), vec![record.head.id], vec![]).unwrap();
        assert_eq!(without.record.head.stripe_len(), 12_288);
        publish(&storage, &without).unwrap();
        for at in [0, 2] {
            let (pack, bytes) = &packs[at];
            storage.delete(&layout::pack(pack)).unwrap();
            assert_eq!(&rebuild_pack(&storage, &without.record, pack).unwrap(), bytes);
            put_bytes(&storage, &layout::pack(pack), bytes).unwrap();
        }
    }
}

#[test]
fn packs_that_do_not_fit_a_group_are_refused() {
    assert!(Accumulator::new(shape(0, 1), 0, 0).is_err());
    assert!(Accumulator::new(shape(225, 1), 0, 0).is_err());
    assert!(Accumulator::new(shape(20, 0), 0, 0).is_err());
    assert!(Accumulator::new(shape(20, 33), 0, 0).is_err());
    let mut group = Accumulator::new(shape(2, 1), 0, 255).unwrap();
    assert_eq!(group.add(PackId([1; 32]), &[]), Err(Refusal::SizeClass));
    assert_eq!(group.add(PackId([1; 32]), &vec![0; 262_145]), Err(Refusal::SizeClass));
    group.add(PackId([1; 32]), &[1]).unwrap();
    assert_eq!(group.add(PackId([1; 32]), &[2]), Err(Refusal::Duplicate));
    let long = vec![0; format::MAX_CONFIG_LEN + 1];
    assert_eq!(group.finish(REPO, id(1), vec![], long), Err(Refusal::TooLong));
    let empty = Accumulator::new(shape(2, 1), 0, 0).unwrap();
    assert_eq!(empty.finish(REPO, id(1), vec![], vec![]), Err(Refusal::Empty));
    let classes = [
        (1, 0),
        (262_144, 0),
        (262_145, 1),
        (2_097_152, 1),
        (2_097_153, 2),
        (8_388_608, 2),
        (8_388_609, 3),
    ];
    assert!(classes.iter().all(|(len, class)| size_class(*len) == *class));
}

/// The head of a group of packs of the greatest length, without the rest.
fn head_of(shape: Shape, members: u8, first: u8) -> GroupHead {
    let member = |number: u8| Member {
        pack: PackId([number; 32]),
        len: 1 << 30,
        slot: number,
    };
    GroupHead {
        repo: REPO,
        id: id(first),
        shape,
        class: 3,
        superseded: Vec::new(),
        members: (first..first + members).map(member).collect(),
        config_len: 0,
    }
}

#[test]
fn a_group_takes_no_member_that_would_make_its_record_too_long() {
    // 2 MiB of sums for each member and shard
    assert_eq!(
        can_merge(&head_of(shape(224, 1), 20, 0), &head_of(shape(224, 1), 15, 100)),
        Ok(())
    );
    assert_eq!(
        can_merge(&head_of(shape(224, 1), 20, 0), &head_of(shape(224, 1), 16, 100)),
        Err(Refusal::Full)
    );
    assert_eq!(
        can_merge(&head_of(shape(224, 32), 2, 0), &head_of(shape(224, 32), 3, 100)),
        Err(Refusal::Full)
    );
    let empty = Accumulator::new(shape(224, 32), 3, 0).unwrap();
    assert!(empty.has_room(1 << 30), "one pack can always be protected");

    // and a record with such a member does not decode
    let record = |members| {
        let head = head_of(shape(224, 1), members, 0);
        let record = GroupRecord {
            head,
            member_sums: Vec::new(),
            shard_sums: Vec::new(),
            config: Vec::new(),
        };
        record.encode()
    };
    assert!(GroupHead::decode(&record(35)).is_ok());
    assert_eq!(GroupHead::decode(&record(36)), Err(Damage::Contents));
}
