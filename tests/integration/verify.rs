//! The reports of verify on undamaged repositories, on every kind of file damaged in every way, and
//! on leftovers of crashes and running processes.

use crate::support::faults::*;
use crate::support::*;
use containerarchive::id::{PackId, SnapshotId};
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, Problem, Subset, VerifyLevel, VerifyOptions, VerifyReport};
use containerarchive::repo::{self, OpenOptions, Repository};
use containerarchive::storage::{ErrorKind, FaultyStorage, RecordingStorage, Storage};
use std::collections::BTreeSet;
use std::sync::Arc;

const LEVELS: [VerifyLevel; 3] = [VerifyLevel::Quick, VerifyLevel::Standard, VerifyLevel::Full];

fn verify(repo: &Arc<Repository>, level: VerifyLevel) -> VerifyReport {
    let options = VerifyOptions { level, subset: None };
    let mut heard = Vec::new();
    let report = ops::verify(repo, &options, &NullMonitor, &mut |problem| heard.push(problem.clone())).unwrap();
    assert_eq!(heard, report.problems, "each problem is reported exactly once");
    report
}

/// Opens the files with a read-only handle, so that a damaged index stays damaged, and verifies
/// them.
fn judge(known: &Known, files: &Files, level: VerifyLevel) -> VerifyReport {
    let storage = memory_of(files);
    let report = verify(&open_to_read(known, storage.clone()), level);
    assert!(files_of(storage.as_ref()) == *files, "verify changed a file");
    report
}

fn open_to_read(known: &Known, storage: Arc<dyn Storage>) -> Arc<Repository> {
    let options = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    let repo = repo::open(environment(storage, 5), known.flavor.secret().as_ref(), &options);
    Arc::new(repo.unwrap())
}

fn both() -> [Known; 2] {
    [Known::new(Flavor::plain()), Known::new(Flavor::sealed())]
}

fn found(report: &VerifyReport) -> Vec<&'static str> {
    report.problems.iter().map(|problem| problem.code).collect()
}

fn pack_of(key: &str) -> PackId {
    let id = layout::id_of(key, ".pack").or_else(|| layout::id_of(key, ".idx"));
    PackId(id.unwrap())
}

/// Returns the snapshots that cannot be restored without parity.
fn hit_snapshots(known: &Known, files: &Files) -> BTreeSet<SnapshotId> {
    let mut files = files.clone();
    files.retain(|key, _| !key.ends_with(".par") && !key.ends_with(".grp"));
    let (repo, _, _) = known.open(&files);
    let repo = repo.unwrap();
    let ids = known.snapshots.iter().map(|(snapshot, _)| snapshot.id);
    ids.filter(|id| restore(&repo, &id.to_hex(), None).is_err()).collect()
}

#[test]
fn an_undamaged_repository_is_ok_at_every_level() {
    for known in both() {
        let chunks = |level| judge(&known, &known.files, level).stats.chunks_checked;
        for level in LEVELS {
            let report = judge(&known, &known.files, level);
            assert!(report.ok() && report.notes.is_empty(), "{level:?}: {report:?}");
            let packs = known.keys(layout::DATA, ".pack").len() as u64;
            assert_eq!((report.stats.packs_checked, report.stats.snapshots_checked), (packs, 3));
            assert!(report.stats.chunks_checked > 0);
        }
        assert!(
            chunks(VerifyLevel::Full) > chunks(VerifyLevel::Quick),
            "copies are decoded too"
        );
    }
}

#[test]
fn an_empty_repository_and_one_without_parity_are_ok() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (repo, _) = memory_repo(flavor);
        for level in LEVELS {
            let report = verify(&repo, level);
            assert!(report.ok() && report.notes.is_empty(), "{report:?}");
        }
        let storage: Arc<dyn Storage> = Arc::new(containerarchive::storage::MemoryStorage::new());
        let options = repo::InitOptions {
            parity: Some(None),
            ..flavor.small()
        };
        let repo = repo::init(environment(storage, 1), flavor.secret().as_ref(), &options).unwrap();
        let repo = Arc::new(repo);
        ingest(&repo, &random_bytes(1, 300_000)).unwrap();
        for level in LEVELS {
            assert!(verify(&repo, level).ok());
        }
    }
}

#[test]
fn verify_with_workers_accepts_full_groups_many_segments_and_merges() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let storage: Arc<dyn Storage> = Arc::new(containerarchive::storage::MemoryStorage::new());
        let repo = init(threaded_environment(storage, 1, 3), flavor).unwrap();
        for seed in 0..6 {
            ingest(&repo, &random_bytes(seed / 2, 400_000 + seed as usize * 10_000)).unwrap();
        }
        for level in LEVELS {
            let report = verify(&repo, level);
            assert!(report.ok() && report.notes.is_empty(), "{level:?}: {report:?}");
        }
    }
}

#[test]
fn verify_quick_reads_no_pack() {
    for known in both() {
        let recording = Arc::new(RecordingStorage::new(memory_of(&known.files)));
        let repo = open_to_read(&known, recording.clone());
        recording.clear();
        assert!(verify(&repo, VerifyLevel::Quick).ok());
        let reads: Vec<_> = recording
            .calls()
            .into_iter()
            .filter(|(op, key)| op.starts_with("get") && key.ends_with(".pack"))
            .collect();
        assert_eq!(reads, []);
    }
}

/// Tries each fault of a file, with the expected codes and the level from which on it must be
/// found.
fn each_fault(
    known: &Known,
    key: &str,
    stride: usize,
    from: VerifyLevel,
    codes: &[&str],
    check: &dyn Fn(&Problem, &Files, &str),
) {
    for (name, changed) in faults(&known.files[key], None, stride) {
        let what = format!("{:?}: {key} {name}", known.flavor);
        let files = with(&known.files, key, changed);
        let report = judge(known, &files, from);
        assert!(!report.ok(), "{what}: not found at {from:?}");
        for problem in &report.problems {
            assert!(codes.contains(&problem.code), "{what}: {problem:?}");
            check(problem, &files, &what);
        }
    }
}

#[test]
fn pack_damage_is_found_named_and_healable_and_affects_the_right_snapshots() {
    for known in both() {
        for key in known.keys(layout::DATA, ".pack") {
            let codes = ["ERR_PACK_CORRUPT", "ERR_PACK_MISSING"];
            each_fault(
                &known,
                &key,
                4099,
                VerifyLevel::Standard,
                &codes,
                &|problem, files, what| {
                    assert_eq!(problem.pack, Some(pack_of(&key)), "{what}");
                    assert!(problem.healable, "{what}: {problem:?}");
                    let hit: BTreeSet<SnapshotId> = problem.snapshots.iter().copied().collect();
                    assert_eq!(hit, hit_snapshots(&known, files), "{what}");
                    let items: BTreeSet<SnapshotId> = problem.items.iter().map(|(snapshot, _)| *snapshot).collect();
                    assert_eq!(items, hit, "{what}");
                },
            );
        }
    }
}

#[test]
fn verify_full_names_the_damaged_chunks() {
    for known in both() {
        for key in known.keys(layout::DATA, ".pack") {
            let mut bytes = known.files[&key].clone();
            bytes[96..140].fill(0xaa);
            let report = judge(&known, &with(&known.files, &key, Some(bytes)), VerifyLevel::Full);
            assert_eq!(
                found(&report)[..2],
                ["ERR_PACK_CORRUPT", "ERR_CHUNK_CORRUPT"],
                "{report:?}"
            );
            let [pack, chunk, ..] = &report.problems[..] else {
                panic!()
            };
            assert_eq!(chunk.pack, pack.pack);
            assert!(chunk.chunk.is_some() && chunk.healable, "{chunk:?}");
            assert_eq!(chunk.snapshots, pack.snapshots);
        }
    }
}

#[test]
fn verify_quick_finds_missing_packs_and_packs_of_the_wrong_length() {
    for known in both() {
        for key in known.keys(layout::DATA, ".pack") {
            for (changed, code) in [
                (None, "ERR_PACK_MISSING"),
                (Some(Vec::new()), "ERR_PACK_CORRUPT"),
                (Some([&known.files[&key][..], b"x"].concat()), "ERR_PACK_CORRUPT"),
            ] {
                let report = judge(&known, &with(&known.files, &key, changed), VerifyLevel::Quick);
                assert_eq!(found(&report), [code], "{key}: {report:?}");
                assert!(report.problems[0].healable);
            }
        }
    }
}

#[test]
fn a_pack_lost_together_with_its_index_file_is_still_named() {
    for known in both() {
        for key in known.keys(layout::DATA, ".pack") {
            let files = with(&known.files, &key, None);
            let files = with(&files, &layout::pack_index(&pack_of(&key)), None);
            for level in LEVELS {
                let report = judge(&known, &files, level);
                assert_eq!(found(&report), ["ERR_PACK_MISSING"], "{key}: {report:?}");
                let problem = &report.problems[0];
                assert_eq!((problem.pack, problem.healable), (Some(pack_of(&key)), true));
                let hit: BTreeSet<SnapshotId> = problem.snapshots.iter().copied().collect();
                assert_eq!(hit, hit_snapshots(&known, &files), "{key}");
            }
        }
    }
}

#[test]
fn more_lost_packs_than_parity_covers_are_not_healable() {
    for known in both() {
        let mut files = known.files.clone();
        let packs = known.keys(layout::DATA, ".pack");
        for key in &packs {
            files = with(&files, key, None);
        }
        let report = judge(&known, &files, VerifyLevel::Full);
        let lost = report
            .problems
            .iter()
            .filter(|problem| problem.code == "ERR_PACK_MISSING");
        assert_eq!(lost.clone().count(), packs.len(), "{report:?}");
        assert!(lost.clone().any(|problem| !problem.healable));
        let hit: BTreeSet<SnapshotId> = report
            .problems
            .iter()
            .flat_map(|problem| problem.snapshots.clone())
            .collect();
        assert_eq!(hit.len(), 3);
    }
}

#[test]
fn damage_of_a_pack_index_is_found_at_quick() {
    for known in both() {
        for key in known.keys(layout::DATA, ".idx").into_iter().take(2) {
            each_fault(
                &known,
                &key,
                61,
                VerifyLevel::Quick,
                &["ERR_PACK_INDEX_CORRUPT"],
                &|problem, _, what| {
                    assert_eq!(problem.pack, Some(pack_of(&key)), "{what}");
                    assert!(problem.healable && problem.snapshots.is_empty(), "{what}");
                },
            );
        }
    }
}

#[test]
fn damage_of_a_segment_is_found_at_quick() {
    for known in both() {
        for key in known.keys(layout::INDEX, ".seg") {
            each_fault(
                &known,
                &key,
                97,
                VerifyLevel::Quick,
                &["ERR_INDEX_CORRUPT"],
                &|problem, _, what| {
                    assert!(problem.healable && problem.snapshots.is_empty(), "{what}: {problem:?}");
                },
            );
        }
    }
}

#[test]
fn damage_of_a_manifest_is_found_at_quick_and_its_copy_can_heal_it() {
    for known in both() {
        for (snapshot, _) in &known.snapshots {
            let codes = ["ERR_MANIFEST_CORRUPT", "ERR_MANIFEST_MISSING"];
            let key = layout::snapshot(&snapshot.id);
            each_fault(&known, &key, 29, VerifyLevel::Quick, &codes, &|problem, _, what| {
                assert_eq!(problem.snapshots, [snapshot.id], "{what}");
                assert!(problem.healable, "{what}: {problem:?}");
                assert_eq!(
                    problem.code == "ERR_MANIFEST_MISSING",
                    what.ends_with("deleted"),
                    "{what}"
                );
            });
        }
    }
}

#[test]
fn a_forgotten_snapshot_is_not_reported_lost_and_a_damaged_record_is_found() {
    use containerarchive::snapshot::record::{ForgotReason, ForgotRecord};
    for known in both() {
        let id = known.snapshots[1].0.id;
        let record = ForgotRecord {
            id,
            reason: ForgotReason::Forgotten,
            at_ms: 1_795_398_300_000,
        };
        let files = with(&known.files, &layout::snapshot(&id), None);
        let files = with(&files, &layout::forgot_record(&id), Some(record.encode().unwrap()));
        for level in LEVELS {
            assert!(judge(&known, &files, level).ok());
        }
        let files = with(&files, &layout::forgot_record(&id), Some(b"x".to_vec()));
        let report = judge(&known, &files, VerifyLevel::Quick);
        assert_eq!(found(&report), ["ERR_RECORD_CORRUPT"]);
    }
}

#[test]
fn damage_of_a_parity_file_is_found() {
    for known in both() {
        for end in [".par", ".grp"] {
            let keys = known.keys(layout::PARITY, end);
            assert!(!keys.is_empty());
            for key in &keys {
                each_fault(
                    &known,
                    key,
                    4001,
                    VerifyLevel::Standard,
                    &["ERR_PARITY_CORRUPT"],
                    &|problem, _, what| {
                        assert_eq!(problem.path.as_deref(), Some(key.as_str()), "{what}");
                        assert!(problem.healable && problem.snapshots.is_empty(), "{what}: {problem:?}");
                    },
                );
                let report = judge(&known, &with(&known.files, key, None), VerifyLevel::Quick);
                assert_eq!(found(&report), ["ERR_PARITY_CORRUPT"], "{key}: {report:?}");
            }
        }
    }
}

#[test]
fn packs_whose_parity_is_missing_are_named() {
    for known in both() {
        let mut files = known.files.clone();
        files.retain(|key, _| !key.ends_with(".par") && !key.ends_with(".grp"));
        let report = judge(&known, &files, VerifyLevel::Quick);
        let named: BTreeSet<PackId> = report.problems.iter().filter_map(|problem| problem.pack).collect();
        let packs: BTreeSet<PackId> = known
            .keys(layout::DATA, ".pack")
            .iter()
            .map(|key| pack_of(key))
            .collect();
        assert_eq!(named, packs);
        assert!(found(&report).iter().all(|code| *code == "ERR_PACK_UNPROTECTED"));
    }
}

#[test]
fn damage_of_the_config_and_of_key_files_is_found_at_quick() {
    let known = Known::new(Flavor::sealed());
    let keys = known.keys(layout::KEYS, ".json");
    let copies = known.keys(layout::KEY_COPIES, ".json");
    let config = vec![layout::CONFIG.to_owned()];
    for (keys, code) in [
        (config, "ERR_CONFIG_CORRUPT"),
        (keys, "ERR_KEY_FILE_CORRUPT"),
        (copies, "ERR_KEY_FILE_CORRUPT"),
    ] {
        for key in keys {
            for (name, changed) in faults(&known.files[&key], None, 17) {
                // the handle is opened before the deletion, since open needs these files
                let storage = memory_of(&known.files);
                let repo = open_to_read(&known, storage.clone());
                storage.delete(&key).unwrap();
                if let Some(bytes) = changed {
                    containerarchive::storage::put_bytes(storage.as_ref(), &key, &bytes).unwrap();
                }
                let report = verify(&repo, VerifyLevel::Quick);
                assert_eq!(found(&report), [code], "{key} {name}: {report:?}");
                assert_eq!(report.problems[0].path.as_deref(), Some(key.as_str()));
                assert!(report.problems[0].healable);
            }
        }
    }
}

#[test]
fn a_damaged_kill_list_is_a_problem_and_an_intact_one_is_a_note() {
    use containerarchive::lock::{KillList, KillListId};
    let known = Known::new(Flavor::plain());
    let (repo, _, _) = known.open(&known.files);
    let repo = repo.unwrap();
    let list = KillList {
        id: KillListId([3; 16]),
        repo: repo.config().id,
        hint: false,
        packs: vec![PackId([1; 32])],
        sessions: Vec::new(),
    };
    let files = with(
        &known.files,
        &list.id.key(),
        Some(list.encode(repo.seal().as_ref()).unwrap()),
    );
    let report = judge(&known, &files, VerifyLevel::Quick);
    assert!(report.ok());
    assert_eq!(report.notes[0].code, "NOTE_UNFINISHED_PRUNE");
    let files = with(&known.files, &list.id.key(), Some(b"CAKILL01".to_vec()));
    assert_eq!(
        found(&judge(&known, &files, VerifyLevel::Quick)),
        ["ERR_KILL_LIST_CORRUPT"]
    );
}

#[test]
fn bad_sectors_are_problems_and_everything_else_is_still_checked() {
    for known in both() {
        let faulty = Arc::new(FaultyStorage::new(memory_of(&known.files)));
        let repo = open_to_read(&known, faulty.clone());
        let packs = known.keys(layout::DATA, ".pack");
        let (bad, parity) = (packs[0].clone(), known.keys(layout::PARITY, ".par")[0].clone());
        let (manifest, index) = (
            layout::snapshot(&known.snapshots[0].0.id),
            layout::pack_index(&pack_of(&packs[1])),
        );
        let broken = [bad.clone(), parity.clone(), manifest.clone(), index.clone()];
        faulty.fail_when(
            move |op, key| op.starts_with("get") && broken.iter().any(|broken| broken == key),
            ErrorKind::Io,
        );
        let report = verify(&repo, VerifyLevel::Full);
        let named: BTreeSet<String> = report
            .problems
            .iter()
            .filter_map(|problem| problem.path.clone())
            .collect();
        for key in [bad, parity, manifest, index] {
            assert!(named.contains(&key), "{key} in {named:?}");
        }
        // a file that cannot be read is not reported damaged
        let codes: BTreeSet<&str> = report.problems.iter().map(|problem| problem.code).collect();
        assert_eq!(codes, BTreeSet::from(["ERR_UNREADABLE"]), "{report:?}");
        assert!(report.problems.iter().any(|problem| !problem.snapshots.is_empty()));
        assert_eq!(report.stats.packs_checked, packs.len() as u64);
        // no file can be read any more
        faulty.fail_when(
            |op, _| op.starts_with("get") || op == "list" || op == "size",
            ErrorKind::Io,
        );
        for level in LEVELS {
            let report = verify(&repo, level);
            assert!(!report.ok());
            assert!(
                report.problems.iter().all(|problem| problem.code == "ERR_UNREADABLE"),
                "{report:?}"
            );
        }
        // the handle keeps no state from this when the disk reads again
        faulty.heal();
        for level in LEVELS {
            let report = verify(&repo, level);
            assert!(report.ok(), "{report:?}");
        }
    }
}

#[test]
fn the_parts_of_a_subset_cover_every_pack_once() {
    let known = Known::new(Flavor::plain());
    let packs = known.keys(layout::DATA, ".pack");
    for of in [1, 2, 3, 30] {
        let mut seen = Vec::new();
        let mut checked = 0;
        for part in 1..=of {
            let recording = Arc::new(RecordingStorage::new(memory_of(&known.files)));
            let repo = open_to_read(&known, recording.clone());
            recording.clear();
            let options = VerifyOptions {
                level: VerifyLevel::Standard,
                subset: Subset::new(part, of),
            };
            let report = ops::verify(&repo, &options, &NullMonitor, &mut |_| ()).unwrap();
            assert!(report.ok());
            checked += report.stats.packs_checked;
            let read: BTreeSet<String> = recording
                .calls()
                .into_iter()
                .filter(|(op, key)| *op == "get_range" && key.ends_with(".pack"))
                .map(|(_, key)| key)
                .collect();
            seen.extend(read);
        }
        seen.sort();
        assert_eq!(seen, packs, "{of} parts");
        assert_eq!(checked, packs.len() as u64);
    }
    assert_eq!(
        (Subset::new(0, 3), Subset::new(4, 3), Subset::new(1, 0)),
        (None, None, None)
    );
}

#[test]
fn leftovers_are_notes() {
    for known in both() {
        // leftovers of a killed ingest: a pack and a stale lease
        let storage = memory_of(&known.files);
        let other = Known::new(known.flavor);
        let before: BTreeSet<&String> = known.files.keys().collect();
        let pack = other
            .keys(layout::DATA, ".pack")
            .into_iter()
            .find(|key| !before.contains(key));
        let (repo, _) = (open_to_read(&known, storage.clone()), ());
        if let Some(key) = pack {
            containerarchive::storage::put_bytes(storage.as_ref(), &key, &other.files[&key]).unwrap();
        }
        let stale = layout::lease(&SnapshotId([9; 16]));
        containerarchive::storage::put_bytes(storage.as_ref(), &stale, b"{}").unwrap();
        let report = verify(&repo, VerifyLevel::Full);
        assert!(report.ok(), "{report:?}");
        assert!(report.notes.iter().any(|note| note.code == "NOTE_STALE_LEASE"));
    }
}

#[test]
fn a_segment_entry_for_a_lost_pack_that_no_snapshot_needs_is_a_note() {
    for known in both() {
        // every snapshot is forgotten, so nothing needs the pack
        let mut files = known.files.clone();
        files.retain(|key, _| !key.starts_with("snapshots/"));
        for (snapshot, _) in &known.snapshots {
            files.insert(layout::forgot_record(&snapshot.id), b"any".to_vec());
        }
        let pack = known.keys(layout::DATA, ".pack")[0].clone();
        let report = judge(&known, &with(&files, &pack, None), VerifyLevel::Quick);
        assert!(
            found(&report).iter().all(|code| *code == "ERR_RECORD_CORRUPT"),
            "{report:?}"
        );
        assert!(
            report.notes.iter().any(|note| note.code == "NOTE_PACK_LEFTOVER"),
            "{report:?}"
        );
    }
}

#[test]
fn verify_ends_when_cancelled_or_when_the_handle_is_closed() {
    struct Stop;
    impl containerarchive::monitor::Monitor for Stop {
        fn is_cancelled(&self) -> bool {
            true
        }
    }
    let known = Known::new(Flavor::plain());
    let repo = open_to_read(&known, memory_of(&known.files));
    let options = VerifyOptions {
        level: VerifyLevel::Full,
        subset: None,
    };
    assert_eq!(
        ops::verify(&repo, &options, &Stop, &mut |_| ()).unwrap_err().code(),
        "ABORT_ERR"
    );
    repo.close();
    let closed = ops::verify(&repo, &options, &NullMonitor, &mut |_| ());
    assert_eq!(closed.unwrap_err().code(), "ERR_CLOSED");
}

#[test]
fn verify_reports_missing_parity_of_a_forgotten_snapshot_that_another_one_needs() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (repo, storage) = memory_repo(flavor);
        let data = random_bytes(1, 300_000);
        let first = ingest(&repo, &data).unwrap();
        let groups: BTreeSet<String> = shards(storage.as_ref());
        ingest(&repo, &data).unwrap();
        ops::forget(&repo, &[first.id]).unwrap();
        let files = files_of(storage.as_ref());
        let mut missed = 0;
        // only full groups: they contain nothing that the second session wrote
        for key in groups.iter().filter(|key| files.contains_key(*key)) {
            let storage = memory_of(&with(&files, key, None));
            let repo = open(environment(storage.clone(), 5), flavor).unwrap();
            let report = verify(&repo, VerifyLevel::Quick);
            assert!(
                report
                    .problems
                    .iter()
                    .any(|problem| problem.path.as_deref() == Some(key)),
                "{key}: {report:?}"
            );
            missed += 1;
            ops::repair(&repo, &NullMonitor).unwrap();
            assert!(verify(&repo, VerifyLevel::Full).problems.is_empty(), "{key}");
        }
        assert!(missed > 0);
    }
}

fn shards(storage: &dyn Storage) -> BTreeSet<String> {
    let files = storage.list(layout::PARITY).unwrap().into_iter();
    files.map(|file| file.key).filter(|key| key.ends_with(".par")).collect()
}
