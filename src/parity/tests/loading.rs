//! Which groups are live after publishes and deletions that were interrupted at any call.

use super::*;
use crate::storage::{ErrorKind, RecordingStorage};
use std::collections::BTreeSet;

fn id(number: u8) -> GroupId {
    GroupId([number; 16])
}

fn live(groups: &Groups) -> Vec<u8> {
    groups.live().map(|head| head.id.0[0]).collect()
}

/// The tails, by the first byte of their ids, and the groups to delete, with a mark of each group.
fn tails(storage: &dyn Storage, shape: Shape) -> (BTreeSet<u8>, Vec<GroupId>) {
    for entry in storage.list(layout::PARITY).unwrap() {
        let name = entry.key.rsplit('/').next().unwrap();
        if let Some(group) = name.split('.').next().and_then(GroupId::from_hex) {
            mark(storage, &group).unwrap();
        }
    }
    let tails = load_tails(storage, shape);
    (open(&tails), tails.superseded().to_vec())
}

fn load_tails(storage: &dyn Storage, shape: Shape) -> Tails {
    Tails::load(storage, (&REPO, u64::MAX), shape, &id(0)).unwrap()
}

fn open(tails: &Tails) -> BTreeSet<u8> {
    let open = (0..4).flat_map(|class| tails.of_class(class));
    open.map(|tail| tail.id.0[0]).collect()
}

fn marked(storage: &dyn Storage) -> Vec<u8> {
    let marks = storage.list(layout::TAILS).unwrap().into_iter();
    marks
        .map(|entry| layout::id_of::<16>(&entry.key, ".tail").unwrap()[0])
        .collect()
}

/// The same from all groups; full ones have `data` members.
fn judged(groups: &Groups, data: usize) -> (BTreeSet<u8>, Vec<GroupId>) {
    let open = groups.live().filter(|head| head.members.len() < data);
    (open.map(|head| head.id.0[0]).collect(), groups.superseded().to_vec())
}

fn reasons(groups: &Groups) -> Vec<(u8, Part, Damage)> {
    let problem = |problem: &Problem| (problem.group.0[0], problem.part, problem.reason);
    groups.problems().iter().map(problem).collect()
}

#[test]
fn a_group_protects_its_members_and_tails_are_the_groups_with_room() {
    let storage = MemoryStorage::new();
    let packs = packs(&storage, &[9000, 6000, 7000, 100], 1);
    publish(&storage, &group_of(shape(2, 1), 0, 1, &packs[..2], &[])).unwrap();
    publish(&storage, &group_of(shape(2, 1), 0, 2, &packs[2..3], &[])).unwrap();
    for foreign in [
        "x.grp",
        "00.0.par",
        &format!("{}.00.par", id(1)),
        &format!("{}.32.par", id(1)),
        &format!("{}.+1.par", id(1)),
    ] {
        put_bytes(&storage, &format!("{}/{foreign}", layout::PARITY), b"junk").unwrap();
    }
    let groups = Groups::load(&storage, &REPO, u64::MAX).unwrap();
    assert_eq!(live(&groups), [1, 2]);
    assert_eq!(groups.group_of(&packs[1].0).unwrap().id, id(1));
    assert!(groups.group_of(&packs[3].0).is_none());
    assert_eq!(groups.unprotected(packs.iter().map(|(id, _)| id)), [packs[3].0]);
    assert_eq!(groups.packs().count(), 3);
    assert_eq!(tails(&storage, shape(2, 1)), ([2].into(), vec![]));
    assert_eq!(tails(&storage, shape(2, 2)), ([].into(), vec![]));
    assert!(groups.problems().is_empty() && groups.superseded().is_empty() && groups.incomplete().is_empty());
    // the holder of the maintenance lock may have completed the group in the meantime; other bytes
    // under its id belong to another group
    publish(&storage, &group_of(shape(2, 1), 0, 2, &packs[2..3], &[])).unwrap();
    assert!(matches!(
        publish(&storage, &group_of(shape(2, 1), 0, 2, &packs[3..], &[])),
        Err(Error::Refused(Refusal::NameTaken))
    ));
}

/// The holder of the maintenance lock has completed the group in the meantime, and replaced it.
#[test]
fn a_group_that_was_replaced_while_it_was_published_is_published() {
    let storage = Arc::new(MemoryStorage::new());
    let packs = packs(&*storage, &[9000], 2);
    let group = group_of(shape(4, 1), 0, 1, &packs, &[]);
    publish(&*storage, &group).unwrap();
    let faulty = FaultyStorage::new(storage);
    faulty.fail_when(|op, key| op == "get" && key.ends_with(".grp"), ErrorKind::NotFound);
    publish(&faulty, &group).unwrap();
    faulty.heal();
    faulty.fail_when(|op, key| op == "get" && key.ends_with(".grp"), ErrorKind::Io);
    assert!(matches!(publish(&faulty, &group), Err(Error::Storage(_))));
}

/// Stops a publish after each call, and a deletion of the old group after each call: there is
/// always exactly one live group for each pack that was protected before.
#[test]
fn a_pack_stays_protected_when_a_replacement_is_interrupted_at_any_call() {
    for parity in [1u8, 2] {
        let files = usize::from(parity) + 1;
        for stop in 0..=2 * files {
            let storage = Arc::new(MemoryStorage::new());
            let packs = packs(&*storage, &[9000, 6000], 2);
            publish(&*storage, &group_of(shape(4, parity), 0, 1, &packs[..1], &[])).unwrap();
            let faulty = FaultyStorage::new(storage.clone());
            (stop..100).for_each(|call| faulty.fail_call(call as u64, ErrorKind::Io));
            let published = publish(&faulty, &group_of(shape(4, parity), 0, 2, &packs, &[1]));
            assert_eq!(published.is_ok(), stop >= files);
            let old: Vec<String> = (storage.list(layout::PARITY).unwrap().into_iter())
                .map(|entry| entry.key)
                .filter(|key| key.contains(&id(1).to_hex()))
                .collect();
            if published.is_ok() {
                old.iter().for_each(|key| drop(faulty.delete(key)));
            }
            let groups = Groups::load(&*storage, &REPO, u64::MAX).unwrap();
            let complete = stop >= usize::from(parity);
            assert_eq!(live(&groups), [if complete { 2 } else { 1 }], "stop {stop}");
            assert_eq!(groups.unprotected([&packs[0].0]), []);
            assert_eq!(groups.unprotected([&packs[1].0]).is_empty(), complete);
            let rest = stop < 2 * files;
            let left = if complete && rest { vec![id(1)] } else { vec![] };
            assert_eq!(groups.superseded(), left);
            assert_eq!(groups.superseding(&[id(2)]).contains(&id(1)), complete && rest);
            assert_eq!(tails(&*storage, shape(4, parity)), judged(&groups, 4), "stop {stop}");
            match stop {
                0 => assert!(groups.problems().is_empty()),
                _ if !complete => assert_eq!(groups.incomplete(), [id(2)]),
                _ if stop < files => assert_eq!(reasons(&groups), [(2, Part::Group, Damage::Missing)]),
                _ => assert!(groups.problems().is_empty()),
            }
            let record = read_record(&*storage, &groups.group_of(&packs[0].0).unwrap().id).unwrap();
            storage.delete(&layout::pack(&packs[0].0)).unwrap();
            assert_eq!(rebuild_pack(&*storage, &record, &packs[0].0).unwrap(), packs[0].1);
        }
    }
}

#[test]
fn a_group_without_one_of_its_shards_supersedes_nothing() {
    for (number, harm) in [(2, "missing"), (2, "short"), (2, "prefix"), (0, "missing")] {
        let storage = MemoryStorage::new();
        let packs = packs(&storage, &[9000, 6000], 7);
        publish(&storage, &group_of(shape(4, 2), 0, 1, &packs[..1], &[])).unwrap();
        publish(&storage, &group_of(shape(4, 2), 0, number, &packs, &[1])).unwrap();
        let key = layout::shard(&id(number), 1);
        let bytes = file(&storage, &key);
        match harm {
            "missing" => storage.delete(&key).unwrap(),
            "short" => overwrite(&storage, &key, &bytes[1..]),
            _ => flip(&storage, &key, 20),
        }
        let groups = Groups::load(&storage, &REPO, u64::MAX).unwrap();
        assert_eq!(groups.live().count(), 2, "{harm}");
        assert!(groups.superseded().is_empty());
        // the one with the smaller id
        assert_eq!(groups.group_of(&packs[0].0).unwrap().id, id(1), "{harm}");
        assert_eq!(groups.group_of(&packs[1].0).unwrap().id, id(number));
        assert_eq!(tails(&storage, shape(4, 2)), judged(&groups, 4));
        overwrite(&storage, &key, &bytes);
        assert_eq!(Groups::load(&storage, &REPO, u64::MAX).unwrap().superseded(), [id(1)]);
    }
}

#[test]
fn superseded_groups_are_listed_oldest_first() {
    let storage = MemoryStorage::new();
    let packs = packs(&storage, &[9000, 6000, 50], 3);
    publish(&storage, &group_of(shape(4, 1), 0, 9, &packs[..1], &[])).unwrap();
    publish(&storage, &group_of(shape(4, 1), 0, 5, &packs[..2], &[9])).unwrap();
    publish(&storage, &group_of(shape(4, 1), 0, 7, &packs, &[5, 9])).unwrap();
    let groups = Groups::load(&storage, &REPO, u64::MAX).unwrap();
    assert_eq!((live(&groups), groups.superseded()), (vec![7], &[id(9), id(5)][..]));
    assert_eq!(tails(&storage, shape(4, 1)), ([7].into(), vec![id(9), id(5)]));
}

#[test]
fn damaged_and_foreign_files_are_reported_and_intact_ones_are_used() {
    let (storage, record, packs) = stored(shape(4, 2), &[9000, 6000], 5);
    let head = &record.head;
    let parts = [Part::Group, Part::Shard(0), Part::Shard(1)];
    let whole: Vec<_> = parts.iter().map(|part| file(&storage, &part.key(&head.id))).collect();
    for (part, bytes) in parts.iter().zip(&whole) {
        let key = part.key(&head.id);
        // the prefix, and each byte of the front that is trusted without its hash
        for at in (0..64).step_by(5).chain((64..64 + 80 + 128).step_by(3)) {
            flip(&storage, &key, at);
            let groups = Groups::load(&storage, &REPO, u64::MAX).unwrap();
            assert_eq!(groups.get(&head.id), Some(head), "{part:?} {at}");
            assert_eq!(tails(&storage, shape(4, 2)), ([1].into(), vec![]));
            assert_eq!(reasons(&groups).is_empty(), at >= 64);
            overwrite(&storage, &key, bytes);
        }
        overwrite(&storage, &key, &bytes[..bytes.len() - 1]);
        assert_eq!(
            reasons(&Groups::load(&storage, &REPO, u64::MAX).unwrap()),
            [(1, *part, Damage::Length)]
        );
        overwrite(&storage, &key, bytes);
    }
    // only one copy of the record is left
    storage.delete(&layout::group(&head.id)).unwrap();
    storage.delete(&layout::shard(&head.id, 1)).unwrap();
    flip(&storage, &layout::shard(&head.id, 0), 64 + 80 + 20);
    let groups = Groups::load(&storage, &REPO, u64::MAX).unwrap();
    assert_eq!((live(&groups), groups.incomplete()), (vec![], &[head.id][..]));
    assert_eq!(tails(&storage, shape(4, 2)), judged(&groups, 4));
    assert_eq!(groups.problems().len(), 2);
    assert!(groups.group_of(&packs[0].0).is_none());
    overwrite(&storage, &layout::shard(&head.id, 0), b"");
    let groups = Groups::load(&storage, &REPO, u64::MAX).unwrap();
    assert_eq!(reasons(&groups), [(1, Part::Shard(0), Damage::Length)]);
    for (part, bytes) in parts.iter().zip(&whole) {
        overwrite(&storage, &part.key(&head.id), bytes);
    }
    let groups = Groups::load(&storage, &RepoId([8; 16]), u64::MAX).unwrap();
    assert!(live(&groups).is_empty());
    assert!(
        reasons(&groups)
            .iter()
            .all(|(_, _, reason)| *reason == Damage::ForeignRepository)
    );
}

#[test]
fn a_front_that_cannot_be_read_is_a_problem_and_a_denied_one_an_error() {
    let (storage, record, _) = stored(shape(4, 1), &[9000, 6000], 6);
    let faulty = FaultyStorage::new(Arc::new(storage));
    faulty.fail_when(|op, key| op == "get_range" && key.ends_with(".grp"), ErrorKind::Io);
    let groups = Groups::load(&faulty, &REPO, u64::MAX).unwrap();
    assert_eq!(groups.get(&record.head.id), Some(&record.head));
    assert_eq!(reasons(&groups), [(1, Part::Group, Damage::Unreadable)]);
    faulty.heal();
    faulty.fail_when(|_, key| key.ends_with(".grp"), ErrorKind::PermissionDenied);
    assert!(matches!(Groups::load(&faulty, &REPO, u64::MAX), Err(Error::Storage(_))));
}

#[test]
fn tails_are_found_through_their_marks_at_a_cost_that_does_not_depend_on_other_groups() {
    let inner: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let packs = packs(&*inner, &[100; 14], 8);
    let storage = RecordingStorage::new(Arc::clone(&inner));
    let load = || {
        storage.clear();
        let tails = load_tails(&storage, shape(2, 1));
        (open(&tails), tails.superseded().to_vec(), storage.calls().len())
    };
    mark(&*inner, &id(1)).unwrap();
    publish(&*inner, &group_of(shape(2, 1), 0, 1, &packs[..1], &[])).unwrap();
    assert_eq!(load(), ([1].into(), vec![], 4));
    for number in 2..7 {
        let at = usize::from(number) * 2;
        publish(&*inner, &group_of(shape(2, 1), 0, number, &packs[at..at + 2], &[])).unwrap();
    }
    assert_eq!(load(), ([1].into(), vec![], 4), "with more groups");
    // its successor, whose shards are inspected as long as it exists
    mark(&*inner, &id(7)).unwrap();
    publish(&*inner, &group_of(shape(2, 1), 0, 7, &packs[..2], &[1])).unwrap();
    assert_eq!(load(), ([].into(), vec![id(1)], 9));
    for part in [Part::Group, Part::Shard(0)] {
        inner.delete(&part.key(&id(1))).unwrap();
    }
    assert_eq!(load(), ([].into(), vec![], 6));
    load_tails(&storage, shape(2, 1)).remove_spent_marks(&storage);
    assert!(marked(&storage).is_empty());
}

#[test]
fn without_a_mark_of_a_group_all_groups_are_loaded_once_and_those_with_most_room_are_marked() {
    let storage = MemoryStorage::new();
    let packs = packs(&storage, &[100; 30], 11);
    // of a group that a writer of an earlier version has replaced
    mark(&storage, &id(99)).unwrap();
    for number in 1..8 {
        let members = &packs[usize::from(number) * 3..][..if number == 6 { 1 } else { 3 }];
        publish(&storage, &group_of(shape(4, 1), 0, number, members, &[])).unwrap();
    }
    publish(&storage, &group_of(shape(4, 1), 0, 8, &packs[..4], &[])).unwrap();
    publish(&storage, &group_of(shape(4, 1), 0, 9, &packs[3..6], &[1])).unwrap();
    storage.delete(&layout::group(&id(2))).unwrap();
    let tails = load_tails(&storage, shape(4, 1));
    assert_eq!(open(&tails), [2, 3, 4, 5, 6, 7, 9].into());
    assert_eq!(
        (tails.superseded(), tails.without_record()),
        (&[id(1)][..], &[id(2)][..])
    );
    let lacking: Vec<u8> = tails.unmarked().map(|id| id.0[0]).collect();
    assert_eq!(lacking, [6, 9, 7, 5]);
    tails.remove_spent_marks(&storage);
    assert!(marked(&storage).is_empty());
    tails.unmarked().for_each(|id| mark(&storage, id).unwrap());
    let again = load_tails(&storage, shape(4, 1));
    assert_eq!(again.unmarked().count(), 0);
    assert_eq!(open(&again), [5, 6, 7, 9].into());
}

#[test]
fn maintenance_marks_the_groups_with_most_room_that_have_no_mark() {
    let storage = MemoryStorage::new();
    let packs = packs(&storage, &[100; 30], 12);
    for (number, members) in (1..).zip([3, 2, 1, 3, 4, 3]) {
        let members = &packs[usize::from(number) * 4..][..members];
        publish(&storage, &group_of(shape(4, 1), 0, number, members, &[])).unwrap();
    }
    mark(&storage, &id(2)).unwrap();
    mark(&storage, &id(9)).unwrap();
    let groups = Groups::load(&storage, &REPO, u64::MAX).unwrap();
    mark_most_room(&storage, &groups, shape(4, 1)).unwrap();
    assert_eq!(marked(&storage), [2, 3, 4, 6, 9]);
    mark_most_room(&storage, &groups, shape(4, 1)).unwrap();
    assert_eq!(marked(&storage), [2, 3, 4, 6, 9]);
}

#[test]
fn marks_that_cannot_be_listed_are_not_absent() {
    for kind in [
        ErrorKind::Io,
        ErrorKind::PermissionDenied,
        ErrorKind::NotADirectory,
        ErrorKind::Unavailable,
    ] {
        let storage = Arc::new(MemoryStorage::new());
        let packs = packs(&*storage, &[100; 3], 13);
        publish(&*storage, &group_of(shape(4, 1), 0, 1, &packs[..1], &[])).unwrap();
        publish(&*storage, &group_of(shape(4, 1), 0, 2, &packs[..2], &[1])).unwrap();
        mark(&*storage, &id(2)).unwrap();
        let faulty = FaultyStorage::new(storage.clone());
        faulty.fail_when(|op, key| op == "list" && key == layout::TAILS, kind);
        let tails = load_tails(&faulty, shape(4, 1));
        assert_eq!(tails.unread().map(|error| error.kind), Some(kind));
        assert_eq!((open(&tails), tails.superseded()), ([].into(), &[][..]));
        assert_eq!(tails.unmarked().count(), 0);
        tails.remove_spent_marks(&faulty);
        assert_eq!(marked(&*storage), [2]);
        faulty.heal();
        let tails = load_tails(&faulty, shape(4, 1));
        assert_eq!((open(&tails), tails.superseded()), ([2].into(), &[id(1)][..]));
    }
}

/// Marks of groups that can never grow stay, for example those of another repository. They must not
/// hide a tail forever.
#[test]
fn a_tail_after_many_marks_that_stay_is_found_from_another_start() {
    let storage = MemoryStorage::new();
    let packs = packs(&storage, &[100; 1], 14);
    for number in 0..100 {
        let mut foreign = group_of(shape(4, 1), 0, number, &packs, &[]);
        foreign.record.head.repo = RepoId([8; 16]);
        publish(&storage, &foreign).unwrap();
        mark(&storage, &id(number)).unwrap();
    }
    publish(&storage, &group_of(shape(4, 1), 0, 200, &packs, &[])).unwrap();
    mark(&storage, &id(200)).unwrap();
    let found_from = |from: u8| {
        let tails = Tails::load(&storage, (&REPO, u64::MAX), shape(4, 1), &id(from)).unwrap();
        !open(&tails).is_empty()
    };
    assert!(!found_from(0) && !found_from(30));
    assert!(found_from(60) && found_from(200));
    // the order continues with the first id
    assert!(!found_from(201));
}

#[test]
fn a_superseded_group_without_a_mark_is_found_through_its_successor() {
    let storage = MemoryStorage::new();
    let packs = packs(&storage, &[9000, 6000], 3);
    publish(&storage, &group_of(shape(2, 1), 0, 1, &packs[..1], &[])).unwrap();
    publish(&storage, &group_of(shape(2, 1), 0, 2, &packs, &[1])).unwrap();
    mark(&storage, &id(2)).unwrap();
    // a power cut may bring back a part of what was deleted
    storage.delete(&layout::shard(&id(1), 0)).unwrap();
    let tails = load_tails(&storage, shape(2, 1));
    assert_eq!((open(&tails), tails.superseded()), ([].into(), &[id(1)][..]));
    tails.remove_spent_marks(&storage);
    assert_eq!(marked(&storage), [2]);
}

#[test]
fn marks_that_lead_nowhere_are_removed_and_those_of_damaged_and_foreign_groups_stay() {
    let storage = Arc::new(MemoryStorage::new());
    let packs = packs(&*storage, &[9000, 6000, 500], 4);
    (1..=5).for_each(|number| mark(&*storage, &id(number)).unwrap());
    put_bytes(&*storage, &format!("{}/x.tail", layout::TAILS), b"junk").unwrap();
    publish(&*storage, &group_of(shape(2, 1), 0, 2, &packs[..2], &[])).unwrap();
    publish(&*storage, &group_of(shape(2, 1), 0, 3, &packs[..1], &[])).unwrap();
    storage.delete(&layout::shard(&id(3), 0)).unwrap();
    flip(&*storage, &layout::group(&id(3)), 70);
    let mut foreign = group_of(shape(2, 1), 0, 4, &packs[..1], &[]);
    foreign.record.head.repo = RepoId([8; 16]);
    publish(&*storage, &foreign).unwrap();
    publish(&*storage, &group_of(shape(2, 1), 0, 5, &packs[..1], &[])).unwrap();
    let faulty = FaultyStorage::new(storage.clone());
    faulty.fail_when(|op, key| op == "size" && key == layout::group(&id(5)), ErrorKind::Io);
    let tails = load_tails(&faulty, shape(2, 1));
    assert_eq!((open(&tails), tails.superseded()), ([].into(), &[][..]));
    storage.delete(&format!("{}/x.tail", layout::TAILS)).unwrap();
    tails.remove_spent_marks(&faulty);
    assert_eq!(marked(&*storage), [3, 4, 5]);
    faulty.heal();
    assert_eq!(open(&load_tails(&faulty, shape(2, 1))), [5].into());
    storage.delete(&layout::group(&id(5))).unwrap();
    assert_eq!(load_tails(&faulty, shape(2, 1)).without_record(), [id(5)]);
}

/// Groups of 3 of 4 packs never fit together, so their marks would become as many as they are.
#[test]
fn the_number_of_marks_is_bounded_and_groups_with_much_room_keep_theirs() {
    let storage = MemoryStorage::new();
    let packs = packs(&storage, &[100; 300], 5);
    for number in 0..90 {
        let group = group_of(shape(4, 1), 0, number, &packs[usize::from(number) * 3..][..3], &[]);
        publish(&storage, &group).unwrap();
        mark(&storage, &id(number)).unwrap();
    }
    publish(&storage, &group_of(shape(4, 1), 0, 90, &packs[270..272], &[])).unwrap();
    mark(&storage, &id(90)).unwrap();
    for left in [31, 5, 5] {
        let tails = load_tails(&storage, shape(4, 1));
        assert!(open(&tails).len() <= 64);
        tails.remove_spent_marks(&storage);
        assert_eq!(marked(&storage).len(), left);
    }
    assert_eq!(marked(&storage).last(), Some(&90));
}

#[test]
fn a_new_group_names_all_superseded_groups_and_replaces_tails() {
    let storage = MemoryStorage::new();
    let packs = packs(&storage, &[9000, 6000, 50], 9);
    publish(&storage, &group_of(shape(4, 1), 0, 9, &packs[..1], &[])).unwrap();
    publish(&storage, &group_of(shape(4, 1), 0, 5, &packs[..2], &[9])).unwrap();
    publish(&storage, &group_of(shape(4, 1), 0, 7, &packs[2..], &[])).unwrap();
    [5, 7, 9]
        .iter()
        .for_each(|number| mark(&storage, &id(*number)).unwrap());
    let mut tails = load_tails(&storage, shape(4, 1));
    let order: Vec<_> = tails.of_class(0).map(|tail| (tail.id, tail.members.len())).collect();
    assert_eq!(order, [(id(5), 2), (id(7), 1)]);
    assert_eq!(tails.replace(&[]), []);
    assert_eq!(tails.replace(&[id(5)]), [id(5), id(9)]);
    assert_eq!((tails.of_class(0).count(), tails.of_class(1).count()), (1, 0));
    assert_eq!(tails.superseded(), [id(9), id(5)]);
}
