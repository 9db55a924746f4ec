//! Existing kill lists: a pack that a listed snapshot needs stays, whatever a list contains, and a
//! list that any writer could have forged condemns nothing.

use crate::support::faults::{Files, HookedStorage, codes, files_of, memory_of, watched, with};
use crate::support::*;
use containerarchive::id::PackId;
use containerarchive::layout;
use containerarchive::lock::{KillList, KillListId};
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, PruneOptions, PruneReport, VerifyLevel, VerifyOptions, VerifyReport};
use containerarchive::repo::{self, InitOptions, OpenOptions, ParityParams, Repository};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::storage::{ErrorKind, FaultyStorage, MemoryStorage, Storage, put_bytes};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The bytes to which each snapshot restores, by id.
type Promised = BTreeMap<String, Vec<u8>>;

fn shapes() -> [(Flavor, Option<ParityParams>); 4] {
    let groups = Some(ParityParams { data: 4, parity: 1 });
    [
        (Flavor::plain(), None),
        (Flavor::plain(), groups),
        (Flavor::sealed(), groups),
        (Flavor::sealed(), Some(ParityParams { data: 3, parity: 2 })),
    ]
}

/// A repository with six snapshots that share some of their chunks, one of them with list nodes.
fn filled(flavor: Flavor, parity: Option<ParityParams>) -> (Arc<Repository>, Arc<MemoryStorage>, Promised) {
    let storage = Arc::new(MemoryStorage::new());
    let options = InitOptions {
        parity: Some(parity),
        ..flavor.small()
    };
    let made = repo::init(environment(storage.clone(), 1), flavor.secret().as_ref(), &options).unwrap();
    let repo = Arc::new(made);
    let mut promised = Promised::new();
    for number in 0..6u64 {
        let shared = random_bytes(number / 2, 30_000);
        let own = random_bytes(100 + number, [3_000, 150_000][usize::from(number == 1)]);
        let data = [shared, own].concat();
        let snapshot = ingest(&repo, &data).unwrap();
        promised.insert(snapshot.id.to_hex(), data);
    }
    (repo, storage, promised)
}

fn keep_last(count: u32) -> PruneOptions {
    PruneOptions::new(containerarchive::snapshot::retention::RetentionPolicy {
        keep_last: containerarchive::snapshot::retention::Keep::Count(count),
        ..Default::default()
    })
}

fn prune_all(repo: &Arc<Repository>) -> PruneReport {
    ops::prune(repo, &PruneOptions::keep_all(), &NullMonitor).unwrap()
}

fn verify(repo: &Arc<Repository>, level: VerifyLevel) -> VerifyReport {
    let options = VerifyOptions { level, subset: None };
    ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap()
}

fn note_codes(report: &VerifyReport) -> Vec<&'static str> {
    report.notes.iter().map(|note| note.code).collect()
}

/// Checks that exactly the promised snapshots are listed, and that each of them restores.
fn assert_all_restore(repo: &Arc<Repository>, promised: &Promised, what: &str) {
    let listed = ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap();
    assert_eq!(listed.len(), promised.len(), "{what}");
    for (id, data) in promised {
        let restored = restore(repo, id, None).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(restored == *data, "{what}");
    }
}

/// Checks that no list is left, and that every file is intact, indexed and protected.
fn assert_settled(repo: &Arc<Repository>, what: &str) {
    assert!(repo.storage().list(layout::MARKS).unwrap().is_empty(), "{what}");
    let report = verify(repo, VerifyLevel::Full);
    // a copy may contain one file of a group that was just being written
    let is_other = |code: &&'static str| *code != "NOTE_INCOMPLETE_GROUP";
    let other = note_codes(&report).into_iter().filter(is_other).count();
    assert!(report.problems.is_empty() && other == 0, "{what}: {report:?}");
    let again = prune_all(repo);
    assert_eq!(
        (again.removed_packs, again.rewritten_packs, again.freed_bytes),
        (0, 0, 0),
        "{what}: {again:?}"
    );
}

fn reopened(files: &Files, flavor: Flavor, seed: u64) -> (Arc<Repository>, Arc<MemoryStorage>) {
    let storage = memory_of(files);
    (open(environment(storage.clone(), seed), flavor).unwrap(), storage)
}

/// Returns the files of a copy that a tool first made before a prune and updated at each moment
/// during it, deleting nothing; each different copy once.
fn copies_during_a_prune(flavor: Flavor, parity: Option<ParityParams>) -> (Vec<Files>, Promised) {
    let (repo, storage, promised) = filled(flavor, parity);
    drop(repo);
    let before = files_of(storage.as_ref());
    let copies: Arc<Mutex<Vec<Files>>> = Arc::default();
    let hook = {
        let (storage, copies, before) = (storage.clone(), Arc::clone(&copies), before.clone());
        move |op: &'static str, _: &str| {
            if op == "put_new" || op == "delete" {
                let mut files = before.clone();
                files.extend(files_of(storage.as_ref()));
                let mut copies = copies.lock().unwrap();
                if copies.last() != Some(&files) {
                    copies.push(files);
                }
            }
        }
    };
    let hooked = HookedStorage::new(storage, hook);
    let repo = open(environment(Arc::new(hooked), 2), flavor).unwrap();
    ops::prune(&repo, &keep_last(1), &NullMonitor).unwrap();
    let mut copies = std::mem::take(&mut *copies.lock().unwrap());
    // some directories copied during the prune, and others after it: the index no longer names the
    // packs that the list contains
    let end = files_of(repo.storage());
    let late = copies.iter().filter(|files| has_list(files)).map(|files| {
        let mut files = files.clone();
        files.extend(end.clone());
        files
    });
    let late: Vec<Files> = late.collect();
    copies.extend(late);
    (copies, promised)
}

fn has_list(files: &Files) -> bool {
    files.keys().any(|key| key.starts_with(layout::MARKS))
}

#[test]
fn a_copy_made_during_a_prune_keeps_every_snapshot_through_the_next_prune() {
    for (flavor, parity) in shapes() {
        let (copies, promised) = copies_during_a_prune(flavor, parity);
        let listed = copies.iter().filter(|files| has_list(files)).count();
        assert!(listed >= 4, "{listed}");
        for (number, files) in copies.iter().enumerate() {
            let what = format!("{flavor:?}, {parity:?}, copy {number}, list: {}", has_list(files));
            let (repo, _) = reopened(files, flavor, 3);
            assert_all_restore(&repo, &promised, &what);
            prune_all(&repo);
            assert_all_restore(&repo, &promised, &what);
            assert_settled(&repo, &what);
        }
    }
}

#[test]
fn verify_reports_what_a_copy_made_during_a_prune_lacks_and_repair_restores_it() {
    for (flavor, parity) in [shapes()[1], shapes()[2]] {
        let (copies, promised) = copies_during_a_prune(flavor, parity);
        for (number, files) in copies
            .iter()
            .enumerate()
            .filter(|(_, files)| has_list(files))
            .step_by(3)
        {
            let what = format!("{flavor:?}, copy {number}");
            let (repo, storage) = reopened(files, flavor, 3);
            // packs that an interrupted prune has removed from their groups, or from the index
            let report = verify(&repo, VerifyLevel::Full);
            for problem in &report.problems {
                let known = ["ERR_PACK_UNPROTECTED", "ERR_INDEX_CORRUPT"].contains(&problem.code);
                assert!(known && problem.healable, "{what}: {problem:?}");
            }
            ops::repair(&repo, &NullMonitor).unwrap();
            let report = verify(&repo, VerifyLevel::Full);
            assert!(report.problems.is_empty(), "{what}: {report:?}");
            let before = files_of(storage.as_ref());
            ops::repair(&repo, &NullMonitor).unwrap();
            assert!(files_of(storage.as_ref()) == before, "{what}: a second repair");
            prune_all(&repo);
            assert_all_restore(&repo, &promised, &what);
            assert_settled(&repo, &what);
        }
    }
}

#[test]
fn reindex_keeps_the_entries_of_listed_packs_that_snapshots_need() {
    for (flavor, parity) in [shapes()[1], shapes()[2]] {
        let (copies, promised) = copies_during_a_prune(flavor, parity);
        for (number, files) in copies
            .iter()
            .enumerate()
            .filter(|(_, files)| has_list(files))
            .step_by(4)
        {
            let what = format!("{flavor:?}, copy {number}");
            let (repo, storage) = reopened(files, flavor, 3);
            ops::reindex(&repo, &NullMonitor).unwrap();
            let fresh = open(environment(storage, 4), flavor).unwrap();
            assert_all_restore(&fresh, &promised, &what);
            prune_all(&fresh);
            assert_all_restore(&fresh, &promised, &what);
            assert_settled(&fresh, &what);
        }
    }
}

#[test]
fn an_ingest_into_a_copy_made_during_a_prune_relies_on_no_listed_pack() {
    let (flavor, parity) = shapes()[2];
    let (copies, promised) = copies_during_a_prune(flavor, parity);
    let files = copies.iter().find(|files| has_list(files)).unwrap();
    let (repo, _) = reopened(files, flavor, 3);
    let mut promised = promised;
    // the same data as the first snapshot, which the prune has removed
    let data = [random_bytes(0, 30_000), random_bytes(100, 3_000)].concat();
    assert!(promised.values().any(|known| *known == data));
    let snapshot = ingest(&repo, &data).unwrap();
    assert!(snapshot.new_chunks > 0 && snapshot.reused_chunks == 0);
    promised.insert(snapshot.id.to_hex(), data);
    prune_all(&repo);
    assert_all_restore(&repo, &promised, "after an ingest");
    prune_all(&repo);
    assert_settled(&repo, "after an ingest");
}

#[test]
fn finishing_a_kill_list_with_spared_packs_can_be_interrupted_at_each_call() {
    let (flavor, parity) = shapes()[2];
    let (copies, promised) = copies_during_a_prune(flavor, parity);
    let with_list: Vec<&Files> = copies.iter().filter(|files| has_list(files)).collect();
    let step = if std::env::var_os("CONTAINERARCHIVE_DEEP").is_some() {
        1
    } else {
        41
    };
    // right after the decision, during the deletes, and after the index has been replaced
    for files in [
        with_list[0],
        with_list[with_list.len() / 2],
        with_list[with_list.len() - 1],
    ] {
        let mut interrupted = 0;
        for call in (0..).step_by(step) {
            let storage = memory_of(files);
            let faulty = Arc::new(FaultyStorage::new(storage.clone()));
            let repo = open(environment(faulty.clone(), 3), flavor).unwrap();
            let (first, seen) = (faulty.calls() + call, AtomicUsize::new(0));
            let base = faulty.calls();
            faulty.fail_when(
                move |_, _| base + seen.fetch_add(1, Ordering::SeqCst) as u64 >= first,
                ErrorKind::Unavailable,
            );
            let failed = ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).is_err();
            drop(repo);
            let what = format!("call {call}");
            let repo = open(environment(storage, 4), flavor).unwrap();
            assert_all_restore(&repo, &promised, &what);
            prune_all(&repo);
            assert_all_restore(&repo, &promised, &what);
            assert_settled(&repo, &what);
            if !failed {
                break;
            }
            interrupted += 1;
        }
        assert!(interrupted > 3, "{interrupted}");
    }
}

/// Returns a list of every pack.
fn of_all_packs(repo: &Repository) -> KillList {
    let packs = repo.storage().list(layout::DATA).unwrap();
    let packs = packs
        .iter()
        .filter_map(|file| layout::id_of(&file.key, ".pack").map(PackId));
    let mut packs: Vec<PackId> = packs.collect();
    packs.sort_unstable();
    KillList {
        id: KillListId([0xf0; 16]),
        repo: repo.config().id,
        hint: false,
        packs,
        sessions: Vec::new(),
    }
}

/// Returns the bytes of a list in version 1.
fn version_1(list: &KillList) -> Vec<u8> {
    let mut out = b"CAKILL01".to_vec();
    out.extend(1u32.to_le_bytes());
    out.extend(u32::from(list.hint).to_le_bytes());
    out.extend(list.repo.0);
    out.extend(list.id.0);
    out.extend((list.packs.len() as u32).to_le_bytes());
    out.extend((list.sessions.len() as u32).to_le_bytes());
    list.packs.iter().for_each(|pack| out.extend(pack.0));
    list.sessions.iter().for_each(|session| out.extend(session.0));
    out.extend(containerarchive::crypto::sha256(&[&out]));
    out
}

/// Returns lists in valid form, written without the keys of this repository.
fn forged(repo: &Repository, list: &KillList) -> [(&'static str, Vec<u8>); 3] {
    let own = list.encode(repo.seal().as_ref()).unwrap();
    let (other, _) = memory_repo(Flavor::sealed());
    let of_other = list.encode(other.seal().as_ref()).unwrap();
    let mut zeros = own.clone();
    let at = zeros.len() - 64;
    zeros.truncate(at);
    zeros.extend([0; 32]);
    zeros.extend(containerarchive::crypto::sha256(&[&zeros]));
    [
        ("version 1", version_1(list)),
        ("another key", of_other),
        ("no MAC", zeros),
    ]
}

#[test]
fn a_kill_list_of_every_pack_with_a_valid_mac_loses_no_snapshot() {
    for (flavor, parity) in shapes() {
        let (repo, storage, promised) = filled(flavor, parity);
        let list = of_all_packs(&repo);
        let key = list.id.key();
        let mut lists = vec![("proven", list.encode(repo.seal().as_ref()).unwrap())];
        lists.push(("version 1", version_1(&list)));
        let before = files_of(storage.as_ref());
        for (name, bytes) in lists {
            let (env, monitor) = watched(memory_of(&with(&before, &key, Some(bytes))), 5);
            let repo = open(env, flavor).unwrap();
            assert!(verify(&repo, VerifyLevel::Full).ok(), "{name}");
            let report = prune_all(&repo);
            assert_eq!((report.removed_packs, report.freed_bytes), (0, 0), "{name}");
            assert_eq!(report.warnings.len(), 1, "{name}: {report:?}");
            assert_all_restore(&repo, &promised, name);
            let warned = if flavor.encrypted && name == "version 1" {
                "WARN_KILL_LIST_UNPROVEN"
            } else {
                "WARN_PACKS_SPARED"
            };
            assert_eq!(codes(&monitor), [warned], "{name}");
            assert_settled(&repo, name);
        }
    }
}

#[test]
fn a_kill_list_without_a_valid_mac_condemns_nothing() {
    let flavor = Flavor::sealed();
    let (repo, storage, promised) = filled(flavor, shapes()[2].1);
    // some packs are no longer needed
    let (largest, _) = promised.iter().max_by_key(|(_, data)| data.len()).unwrap();
    let largest = containerarchive::id::SnapshotId::from_hex(largest).unwrap();
    ops::forget(&repo, &[largest]).unwrap();
    let mut promised = promised.clone();
    promised.remove(&largest.to_hex());
    let list = of_all_packs(&repo);
    let before = files_of(storage.as_ref());
    // what a prune frees without any list
    let (plain, _) = reopened(&before, flavor, 6);
    let freed = prune_all(&plain);
    assert!(freed.freed_bytes > 0);
    for (name, bytes) in forged(&repo, &list) {
        let files = with(&before, &list.id.key(), Some(bytes));
        let (env, monitor) = watched(memory_of(&files), 6);
        let repo = open(env, flavor).unwrap();
        let report = verify(&repo, VerifyLevel::Full);
        assert!(
            report.ok() && note_codes(&report).contains(&"NOTE_KILL_LIST_UNPROVEN"),
            "{name}: {report:?}"
        );
        // writers do not reuse its packs
        let again = ingest(&repo, promised.values().next().unwrap()).unwrap();
        assert!(again.new_chunks > 0 && again.reused_chunks == 0, "{name}: {again:?}");
        ops::forget(&repo, &[again.id]).unwrap();
        // a prune decides about these packs again and removes the list
        let report = prune_all(&repo);
        assert!(report.freed_bytes >= freed.freed_bytes, "{name}: {report:?}");
        assert_eq!(codes(&monitor), ["WARN_KILL_LIST_UNPROVEN"], "{name}");
        assert_all_restore(&repo, &promised, name);
        assert_settled(&repo, name);
    }
}

#[test]
fn verify_without_keys_reports_every_kill_list_and_reads_the_packs_in_it() {
    let (repo, storage, _) = filled(Flavor::sealed(), shapes()[2].1);
    let list = of_all_packs(&repo);
    let mut lists = forged(&repo, &list).to_vec();
    lists.push(("proven", list.encode(repo.seal().as_ref()).unwrap()));
    let options = OpenOptions {
        keyless: true,
        ..OpenOptions::default()
    };
    for (name, bytes) in lists {
        let memory = memory_of(&with(&files_of(storage.as_ref()), &list.id.key(), Some(bytes)));
        let keyless = repo::open(environment(memory.clone(), 5), None, &options)
            .map(Arc::new)
            .unwrap();
        let report = verify(&keyless, VerifyLevel::Standard);
        assert!(report.ok(), "{name}: {report:?}");
        let named = report
            .notes
            .iter()
            .find(|note| note.code == "NOTE_KILL_LIST_UNPROVEN")
            .unwrap();
        assert_eq!(named.path, Some(list.id.key()), "{name}");
        // damage is reported although the list may be forged
        let key = layout::pack(&list.packs[0]);
        let mut bytes = memory.get(&key, u64::MAX).unwrap();
        bytes[200] ^= 1;
        memory.delete(&key).unwrap();
        put_bytes(memory.as_ref(), &key, &bytes).unwrap();
        let report = verify(&keyless, VerifyLevel::Standard);
        let found: Vec<&str> = report.problems.iter().map(|problem| problem.code).collect();
        assert_eq!(found, ["ERR_PACK_CORRUPT"], "{name}: {report:?}");
        assert!(ops::prune(&keyless, &PruneOptions::keep_all(), &NullMonitor).is_err());
        assert!(memory.size(&list.id.key()).unwrap().is_some());
    }
}

#[test]
fn nothing_is_deleted_when_the_needs_of_a_snapshot_are_unknown() {
    for (flavor, parity) in [shapes()[1], shapes()[2]] {
        let (repo, storage, _) = filled(flavor, parity);
        let list = of_all_packs(&repo);
        put_bytes(
            storage.as_ref(),
            &list.id.key(),
            &list.encode(repo.seal().as_ref()).unwrap(),
        )
        .unwrap();
        let before = files_of(storage.as_ref());
        let manifest = before
            .keys()
            .find(|key| key.starts_with(layout::SNAPSHOTS))
            .unwrap()
            .clone();
        // damaged, and temporarily unreadable
        let damaged = memory_of(&with(&before, &manifest, Some(b"damaged".to_vec())));
        let faulty = Arc::new(FaultyStorage::new(memory_of(&before)));
        let unreadable = manifest.clone();
        for kind in [ErrorKind::Io, ErrorKind::Unavailable] {
            let unreadable = unreadable.clone();
            faulty.heal();
            faulty.fail_when(move |op, key| op == "get" && key == unreadable, kind);
            let repo = open(environment(faulty.clone(), 7), flavor).unwrap();
            ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).unwrap_err();
            faulty.heal();
            assert_packs_are_as_before(&before, faulty.as_ref());
        }
        let repo = open(environment(damaged.clone(), 7), flavor).unwrap();
        let failed = ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).unwrap_err();
        assert_eq!(failed.code(), "ERR_MANIFEST_CORRUPT");
        assert_packs_are_as_before(&before, damaged.as_ref());
    }
}

fn assert_packs_are_as_before(before: &Files, storage: &dyn Storage) {
    let after = files_of(storage);
    for (key, bytes) in before
        .iter()
        .filter(|(key, _)| key.starts_with("packs/") || key.starts_with("index/"))
    {
        assert!(after.get(key) == Some(bytes), "{key}");
    }
}

#[test]
fn a_listed_pack_that_is_lost_and_needed_is_rebuilt_from_its_parity_group() {
    let (flavor, parity) = shapes()[2];
    let (repo, storage, promised) = filled(flavor, parity);
    let list = of_all_packs(&repo);
    put_bytes(
        storage.as_ref(),
        &list.id.key(),
        &list.encode(repo.seal().as_ref()).unwrap(),
    )
    .unwrap();
    let lost = list.packs.iter().find(|pack| {
        let index = containerarchive::repo::read_any_index(&repo, pack).unwrap();
        index
            .entries
            .iter()
            .all(|entry| entry.kind == containerarchive::pack::KIND_DATA)
    });
    let lost = *lost.unwrap();
    storage.delete(&layout::pack(&lost)).unwrap();
    storage.delete(&layout::pack_index(&lost)).unwrap();
    let repo = open(environment(storage.clone(), 5), flavor).unwrap();
    let report = verify(&repo, VerifyLevel::Quick);
    assert!(
        report.problems.iter().any(|problem| problem.code == "ERR_PACK_MISSING"),
        "{report:?}"
    );
    assert_eq!(
        ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor)
            .unwrap_err()
            .code(),
        "ERR_PACK_MISSING"
    );
    ops::repair(&repo, &NullMonitor).unwrap();
    prune_all(&repo);
    assert_all_restore(&repo, &promised, "a lost pack");
    assert_settled(&repo, "a lost pack");
}

#[test]
fn a_kill_list_of_another_repository_is_left_alone() {
    let (repo, storage, promised) = filled(Flavor::sealed(), None);
    let (other, _) = memory_repo(Flavor::sealed());
    let foreign = KillList {
        repo: other.config().id,
        ..of_all_packs(&repo)
    };
    let bytes = foreign.encode(other.seal().as_ref()).unwrap();
    put_bytes(storage.as_ref(), &foreign.id.key(), &bytes).unwrap();
    assert_eq!(
        note_codes(&verify(&repo, VerifyLevel::Full)),
        ["NOTE_KILL_LIST_FOREIGN"]
    );
    prune_all(&repo);
    assert_all_restore(&repo, &promised, "a foreign list");
    assert!(storage.get(&foreign.id.key(), u64::MAX).unwrap() == bytes);
}
