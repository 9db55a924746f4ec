//! Restores that find damage: correct bytes from parity, and the pack healed afterwards.

use crate::support::faults::{Known, codes, files_of, watched, with};
use crate::support::*;
use containerarchive::repo::OpenOptions;
use containerarchive::storage::simfs::SimFs;
use containerarchive::storage::{ErrorKind, FaultyStorage, LocalStorage, Storage, put_bytes};
use containerarchive::{entropy::SeededEntropy, layout, repo};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn storage(disk: &SimFs) -> Arc<dyn Storage> {
    Arc::new(LocalStorage::new(
        Arc::new(disk.clone()),
        Arc::new(SeededEntropy::new(3)),
    ))
}

fn packs(disk: &SimFs) -> BTreeMap<String, Vec<u8>> {
    let files = disk.snapshot_files();
    files.into_iter().filter(|(path, _)| path.ends_with(".pack")).collect()
}

fn put_back(disk: &SimFs, path: &str, bytes: &[u8]) {
    // the file may already be deleted
    let _ = disk.damage(path, None);
    put_bytes(storage(disk).as_ref(), path, bytes).unwrap();
}

/// Returns three snapshots, so that there are full and partial groups, and their data.
fn repository(flavor: Flavor) -> (SimFs, Vec<(String, Vec<u8>)>) {
    let disk = SimFs::new();
    let repo = init(environment(storage(&disk), 7), flavor).unwrap();
    let mut snapshots = Vec::new();
    for (seed, len) in [(1, 400_000), (2, 150_000), (3, 20_000)] {
        let data = random_bytes(seed, len);
        snapshots.push((ingest(&repo, &data).unwrap().id.to_hex(), data));
    }
    (disk, snapshots)
}

#[test]
fn every_restore_is_correct_with_any_one_pack_missing_truncated_or_flipped() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (disk, snapshots) = repository(flavor);
        for (path, whole) in packs(&disk) {
            let mut flipped = whole.clone();
            flipped[whole.len() / 3] ^= 1;
            for bad in [
                None,
                Some(Vec::new()),
                Some(whole[..whole.len() / 2].to_vec()),
                Some(flipped),
            ] {
                disk.damage(&path, bad).unwrap();
                let repo = open(environment(storage(&disk), 8), flavor).unwrap();
                for (id, data) in &snapshots {
                    assert!(restore(&repo, id, None).unwrap() == *data, "{path}");
                }
                // a restore that found the damage healed it; no restore reads a meta pack of inline
                // items
                let now = disk.snapshot_files().get(&path).cloned();
                if now.as_ref() != Some(&whole) {
                    put_back(&disk, &path, &whole);
                }
            }
        }
    }
}

#[test]
fn a_restore_that_finds_damage_heals_the_pack_unless_healing_is_off() {
    let (disk, snapshots) = repository(Flavor::plain());
    let healthy = packs(&disk);
    let biggest = healthy
        .iter()
        .max_by_key(|(_, bytes)| bytes.len())
        .map(|(path, _)| path.clone())
        .unwrap();
    disk.damage(&biggest, None).unwrap();
    for heal in [false, true] {
        let options = OpenOptions {
            heal,
            ..OpenOptions::default()
        };
        let repo = Arc::new(repo::open(environment(storage(&disk), 8), None, &options).unwrap());
        for (id, data) in &snapshots {
            assert!(restore(&repo, id, None).unwrap() == *data);
        }
        assert_eq!(packs(&disk).contains_key(&biggest), heal);
    }
    assert!(packs(&disk) == healthy);
}

#[test]
fn a_small_snapshot_restores_without_its_only_pack_from_a_disk_that_cannot_be_written() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let disk = SimFs::new();
        let repo = init(environment(storage(&disk), 7), flavor).unwrap();
        let data = random_bytes(1, 20_000);
        let id = ingest(&repo, &data).unwrap().id.to_hex();
        for path in packs(&disk).into_keys() {
            let before = disk.snapshot_files();
            disk.damage(&path, None).unwrap();
            let options = OpenOptions {
                read_only: true,
                ..OpenOptions::default()
            };
            let opened = repo::open(environment(storage(&disk), 8), flavor.secret().as_ref(), &options).unwrap();
            assert!(restore(&Arc::new(opened), &id, None).unwrap() == data, "{path}");
            put_back(&disk, &path, &before[&path]);
            let after = disk.snapshot_files();
            let changed: Vec<_> = before
                .keys()
                .chain(after.keys())
                .filter(|key| before.get(*key) != after.get(*key))
                .collect();
            assert!(changed.is_empty(), "{changed:?}");
        }
    }
}

#[test]
fn packs_of_one_group_damaged_at_different_rows_are_all_read() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (disk, snapshots) = repository(flavor);
        let storage = storage(&disk);
        let repo = open(environment(Arc::clone(&storage), 9), flavor).unwrap();
        let groups = repo.parity_groups().unwrap();
        drop(repo);
        let mut damaged = 0;
        for head in groups.live() {
            for (number, member) in head.members.iter().enumerate() {
                let path = layout::pack(&member.pack);
                let mut bytes = disk.snapshot_files()[&path].clone();
                // damages each member in a different row
                let row = number * 4096;
                if row >= bytes.len() {
                    continue;
                }
                let end = bytes.len().min(row + 100);
                bytes[row..end].iter_mut().for_each(|byte| *byte ^= 0x55);
                disk.damage(&path, Some(bytes)).unwrap();
                damaged += 1;
            }
        }
        assert!(damaged >= 10, "{damaged}");
        let repo = open(environment(Arc::clone(&storage), 8), flavor).unwrap();
        for (id, data) in &snapshots {
            assert!(restore(&repo, id, None).unwrap() == *data);
        }
    }
}

#[test]
fn a_small_snapshot_restores_from_a_directory_that_refuses_every_write() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (repo, memory) = memory_repo(flavor);
        let data = random_bytes(1, 20_000);
        let id = ingest(&repo, &data).unwrap().id.to_hex();
        drop(repo);
        let data_packs: Vec<String> = (memory.list(layout::DATA).unwrap().into_iter())
            .map(|file| file.key)
            .filter(|key| key.ends_with(".pack") && memory.get(key, u64::MAX).unwrap()[12] & 2 == 0)
            .collect();
        assert_eq!(data_packs.len(), 1);
        memory.delete(&data_packs[0]).unwrap();
        let before = files_of(&*memory);
        for kind in [ErrorKind::ReadOnly, ErrorKind::PermissionDenied] {
            let faulty = Arc::new(FaultyStorage::new(Arc::clone(&memory)));
            let reads = [
                "get",
                "get_range",
                "size",
                "list",
                "probe_locks",
                "lock",
                "check_folders",
                "root",
            ];
            faulty.fail_when(move |op, _| !reads.contains(&op), kind);
            // a handle that has not found the damage yet, and tries to heal it
            let (environment, monitor) = watched(faulty, 3);
            let repo = open(environment, flavor).unwrap();
            assert!(restore(&repo, &id, None).unwrap() == data);
            let warnings: BTreeSet<_> = codes(&monitor).into_iter().collect();
            assert_eq!(warnings, BTreeSet::from(["WARN_DEGRADED_READ", "WARN_NOT_HEALED"]));
            assert!(files_of(&*memory) == before);
        }
    }
}

#[test]
fn a_pack_lost_with_its_idx_and_the_global_index_is_found_through_its_group() {
    for known in [Known::new(Flavor::plain()), Known::new(Flavor::sealed())] {
        for pack in known.keys(layout::DATA, ".pack") {
            for garbage in [None, Some(b"garbage".to_vec())] {
                let mut files = known.files.clone();
                files.remove(&pack);
                files.remove(&pack.replace(".pack", ".idx"));
                for key in known.keys(layout::INDEX, ".seg") {
                    files = with(&files, &key, garbage.clone());
                }
                let verdict = known.judge(&files, &|| format!("{pack} {garbage:?}"));
                assert!(verdict.is_intact(), "{pack}: {verdict:?}");
                // segments published since do not name the pack, and the next handle still finds it
                let (repo, storage, _) = known.open(&files);
                ingest(&repo.unwrap(), b"more").unwrap();
                let again = open(environment(storage.clone(), 1234), known.flavor).unwrap();
                for (snapshot, data) in &known.snapshots {
                    assert!(restore(&again, &snapshot.id.to_hex(), None).unwrap() == *data, "{pack}");
                }
            }
        }
    }
}

/// The errors of a process without free descriptors and of a reset bus.
#[test]
fn a_temporary_read_failure_is_not_damage() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let known = Known::new(flavor);
        for (kind, failures) in [
            (ErrorKind::Unavailable, 1),
            (ErrorKind::Io, 1),
            (ErrorKind::Io, 3),
            (ErrorKind::Io, 6),
        ] {
            let storage = crate::support::faults::memory_of(&known.files);
            let faulty = Arc::new(FaultyStorage::new(storage));
            let (environment, monitor) = watched(faulty.clone(), 5);
            let repo = open(environment, flavor).unwrap();
            let reads = std::sync::atomic::AtomicUsize::new(0);
            let some = move |op: &str, key: &str| {
                op == "get_range"
                    && key.ends_with(".pack")
                    && reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed) < failures
            };
            faulty.fail_when(some, kind);
            for (snapshot, data) in &known.snapshots {
                match restore(&repo, &snapshot.id.to_hex(), None) {
                    Ok(bytes) => assert!(bytes == *data),
                    Err(error) => {
                        assert_eq!(error.code(), "ERR_UNREADABLE");
                        assert_eq!(kind, ErrorKind::Unavailable);
                    }
                }
            }
            let warnings = codes(&monitor);
            assert!(
                warnings
                    .iter()
                    .all(|code| *code == "WARN_DEGRADED_READ" && kind == ErrorKind::Io),
                "{warnings:?}"
            );
            assert!(files_of(faulty.as_ref()) == known.files, "{kind:?} {failures}");
        }
    }
}
