//! Repair: lost or damaged data is rebuilt byte for byte, or reported to the byte; nothing else
//! changes.

use crate::support::faults::*;
use crate::support::*;
use containerarchive::entropy::SeededEntropy;
use containerarchive::id::{PackId, SnapshotId};
use containerarchive::lock::{KillList, KillListId, Lease};
use containerarchive::monitor::{NullMonitor, TestMonitor};
use containerarchive::ops::{RepairReport, RestoreOptions, VerifyLevel, VerifyOptions};
use containerarchive::repo::{self, InitOptions, OpenOptions, ParityParams, Repository, read_any_index};
use containerarchive::snapshot::record::{ForgotReason, ForgotRecord};
use containerarchive::snapshot::{Snapshot, SnapshotFilter};
use containerarchive::storage::simfs::{LossModel, SimFs};
use containerarchive::storage::{ErrorKind, FaultyStorage, LocalStorage, MemoryStorage, Storage, put_bytes};
use containerarchive::{layout, ops};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn both() -> [Known; 2] {
    [Known::new(Flavor::plain()), Known::new(Flavor::sealed())]
}

/// Larger repositories, with several full data packs in one group.
fn both_large() -> [Known; 2] {
    [Flavor::plain(), Flavor::sealed()].map(|flavor| {
        let (repo, storage) = memory_repo(flavor);
        let one = random_bytes(1, 250_000);
        let mut two = one.clone();
        two.splice(130_000..130_010, *b"something new");
        let snapshots = [one, two, text_bytes(3, 40_000)]
            .into_iter()
            .map(|data| (ingest(&repo, &data).unwrap(), data))
            .collect();
        drop(repo);
        let files = files_of(storage.as_ref());
        Known {
            flavor,
            files,
            snapshots,
        }
    })
}

fn run(repo: &Arc<Repository>) -> RepairReport {
    ops::repair(repo, &NullMonitor).unwrap()
}

/// Opens files with their own random seed, so that no id occurs twice in their history.
fn fresh(known: &Known, files: &Files) -> (Arc<Repository>, Arc<MemoryStorage>, Arc<TestMonitor>) {
    let storage = memory_of(files);
    let seed = files
        .keys()
        .fold(0, |seed: u64, key| seed.rotate_left(5) ^ seed_of(key));
    let (environment, monitor) = watched(storage.clone(), seed);
    (open(environment, known.flavor).unwrap(), storage, monitor)
}

/// Opens and repairs files. Returns the files afterwards and the report.
fn repaired(known: &Known, files: &Files) -> (Files, RepairReport) {
    let (repo, storage, _) = fresh(known, files);
    let report = run(&repo);
    (files_of(storage.as_ref()), report)
}

/// Returns the files without the quarantine, the reserve and the marks of tails, which contain no
/// data, and the segments, which a repair may write in another form.
fn comparable(files: &Files) -> BTreeMap<&String, &Vec<u8>> {
    let other = |key: &str| {
        let ignored = [layout::QUARANTINE, layout::TAILS];
        !ignored.iter().any(|folder| key.starts_with(folder)) && !key.ends_with(".seg") && !layout::is_reserve(key)
    };
    files.iter().filter(|(key, _)| other(key)).collect()
}

/// Fails unless the files equal the original repository: byte for byte, and the index by its
/// entries.
fn assert_restored(known: &Known, files: &Files, what: &str) {
    let (is, was) = (comparable(files), comparable(&known.files));
    let keys = |files: &BTreeMap<&String, &Vec<u8>>| files.keys().map(|key| key.to_string()).collect::<BTreeSet<_>>();
    assert_eq!(keys(&is), keys(&was), "{what}");
    for (key, bytes) in is {
        assert!(bytes == was[key], "{what}: {key} differs from the original");
    }
    let (repo, _, monitor) = fresh(known, files);
    assert_eq!(index_of(&repo), index_of(&fresh(known, &known.files).0), "{what}");
    assert_snapshots_restore(known, &repo, what);
    assert_eq!(problems(&repo), [], "{what}");
    assert_eq!(codes(&monitor), [""; 0], "{what}");
}

/// Returns the problems that a full verify reports.
fn problems(repo: &Arc<Repository>) -> Vec<ops::Problem> {
    let options = VerifyOptions {
        level: VerifyLevel::Full,
        subset: None,
    };
    ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap().problems
}

/// Checks that all snapshots are listed and restore.
fn assert_snapshots_restore(known: &Known, repo: &Arc<Repository>, what: &str) {
    let listed = ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap();
    assert_eq!(listed.len(), known.snapshots.len(), "{what}");
    for (snapshot, data) in &known.snapshots {
        assert!(listed.contains(snapshot), "{what}");
        assert!(restore(repo, &snapshot.id.to_hex(), None).unwrap() == *data, "{what}");
    }
}

/// Returns all (id, pack) pairs of the index, and the packs that it names.
fn index_of(repo: &Repository) -> (BTreeSet<String>, BTreeSet<PackId>) {
    use containerarchive::index::EntrySource;
    let source = repo.index().all_entries().unwrap();
    let pairs = source.scan().map(|found| {
        let found = found.unwrap();
        format!("{} {}", found.entry.id, source.packs()[found.pack as usize].0)
    });
    (pairs.collect(), repo.index().packs().unwrap().into_keys().collect())
}

/// Checks that a second repair changes no byte and that verify agrees with its report.
fn assert_settled(known: &Known, files: &Files, what: &str) -> RepairReport {
    let (again, report) = repaired(known, files);
    assert_eq!(
        again.keys().collect::<Vec<_>>(),
        files.keys().collect::<Vec<_>>(),
        "{what}"
    );
    assert!(again == *files, "{what}: a second repair changed something");
    assert_eq!(report.quarantined, [""; 0], "{what}");
    // repair and verify agree: the only damage left is chunks without any copy, and the snapshots
    // that need them
    let problems = problems(&fresh(known, files).0);
    let hit: BTreeSet<SnapshotId> = problems.iter().flat_map(|problem| problem.snapshots.clone()).collect();
    let named = report.damaged_snapshots.iter().map(|damaged| damaged.id);
    assert_eq!(hit, named.collect(), "{what}: {problems:?}");
    assert!(problems.iter().all(|problem| !problem.healable), "{what}: {problems:?}");
    report
}

fn nothing_done() -> RepairReport {
    RepairReport::default()
}

#[test]
fn repair_of_a_healthy_repository_changes_no_byte() {
    for known in both() {
        let (files, report) = repaired(&known, &known.files);
        assert_eq!(report, nothing_done());
        assert!(files == known.files);
    }
    // the same for an empty repository
    let (repo, storage) = memory_repo(Flavor::sealed());
    let before = files_of(storage.as_ref());
    assert_eq!(run(&repo), nothing_done());
    assert!(files_of(storage.as_ref()) == before);
}

#[test]
fn the_repair_report_names_what_was_done() {
    let known = Known::new(Flavor::sealed());
    let without = |folder: &str, end: &str| {
        let mut files = known.files.clone();
        for key in known.keys(folder, end) {
            files.remove(&key);
        }
        files
    };
    let (packs, indexes) = (known.keys(layout::DATA, ".pack"), known.keys(layout::DATA, ".idx"));
    let one_pack = repaired(&known, &with(&known.files, &packs[0], None)).1;
    assert_eq!(
        one_pack,
        RepairReport {
            packs_repaired: 1,
            ..nothing_done()
        }
    );
    let report = repaired(&known, &without(layout::DATA, ".idx")).1;
    let expected = RepairReport {
        idx_repaired: indexes.len() as u64,
        ..nothing_done()
    };
    assert_eq!(report, expected);
    let report = repaired(&known, &without(layout::INDEX, ".seg")).1;
    assert_eq!(
        report,
        RepairReport {
            index_rebuilt: true,
            ..nothing_done()
        }
    );
    let report = repaired(&known, &without(layout::SNAPSHOTS, ".json")).1;
    assert_eq!(
        report,
        RepairReport {
            manifests_restored: 3,
            ..nothing_done()
        }
    );
    let report = repaired(&known, &without(layout::KEYS, ".json")).1;
    assert_eq!(
        report,
        RepairReport {
            keys_repaired: 1,
            ..nothing_done()
        }
    );
    let report = repaired(&known, &with(&known.files, layout::CONFIG, None)).1;
    assert_eq!(
        report,
        RepairReport {
            config_repaired: true,
            ..nothing_done()
        }
    );
    let report = repaired(&known, &without(layout::PARITY, ".par")).1;
    assert_eq!(report.parity_repaired, known.keys(layout::PARITY, ".par").len() as u64);
}

#[test]
fn repair_restores_each_kind_of_file_after_all_of_them_are_lost() {
    for known in both() {
        let kinds: [(&str, &[&str]); 7] = [
            ("all manifests", &[".json snapshots"]),
            ("the index", &[".seg index"]),
            ("all key files", &[".json keys"]),
            ("every .idx", &[".idx packs/data"]),
            ("every .par", &[".par packs/parity"]),
            ("every .grp", &[".grp packs/parity"]),
            (
                "everything small",
                &[
                    ".json snapshots",
                    ".seg index",
                    ".json keys",
                    ".idx packs/data",
                    ".grp packs/parity",
                ],
            ),
        ];
        for (name, kinds) in kinds {
            for garbage in [None, Some(b"garbage".to_vec())] {
                let mut files = known.files.clone();
                for (end, folder) in kinds.iter().filter_map(|kind| kind.split_once(' ')) {
                    for key in known.keys(folder, end) {
                        files = with(&files, &key, garbage.clone());
                    }
                }
                if name == "everything small" {
                    files = with(&files, layout::CONFIG, garbage.clone());
                }
                let what = format!("{:?}: {name}, {garbage:?}", known.flavor);
                let (files, report) = repaired(&known, &files);
                assert_restored(&known, &files, &what);
                assert_eq!(report.damaged_snapshots, [], "{what}");
                assert_settled(&known, &files, &what);
            }
        }
    }
}

#[test]
fn repair_rebuilds_parity_that_is_lost_completely_and_it_heals_again() {
    for known in both() {
        let mut files = known.files.clone();
        files.retain(|key, _| !(key.ends_with(".par") || key.ends_with(".grp")));
        let (files, report) = repaired(&known, &files);
        assert_eq!(report.parity_repaired, known.keys(layout::DATA, ".pack").len() as u64);
        assert_settled(&known, &files, "new parity");
        for pack in known.keys(layout::DATA, ".pack") {
            let (healed, report) = repaired(&known, &with(&files, &pack, None));
            assert_eq!(report.packs_repaired, 1);
            assert!(healed == files);
        }
    }
}

/// Returns packs of one group that contain data, so that damage affects snapshots and not only
/// copies of manifests; largest first.
fn data_packs_of_one_group(known: &Known) -> Vec<PackId> {
    let (repo, ..) = fresh(known, &known.files);
    let groups = repo.parity_groups().unwrap();
    let is_data = |pack: &PackId| known.files[&layout::pack(pack)][12] & 2 == 0;
    let of = |head: &containerarchive::parity::GroupHead| {
        let mut members: Vec<_> = head.members.iter().filter(|member| is_data(&member.pack)).collect();
        members.sort_by_key(|member| std::cmp::Reverse(member.len));
        members.iter().map(|member| member.pack).collect::<Vec<_>>()
    };
    groups.live().map(of).max_by_key(Vec::len).unwrap()
}

/// Returns the files with the bytes of these ranges of one file changed.
fn damaged(files: &Files, key: &str, ranges: &[(usize, usize)]) -> Files {
    let mut bytes = files[key].clone();
    for (start, end) in ranges {
        bytes[*start..*end].iter_mut().for_each(|byte| *byte ^= 0xa5);
    }
    with(files, key, Some(bytes))
}

#[test]
fn two_packs_of_one_group_damaged_at_different_rows_are_both_healed() {
    for known in both_large() {
        let packs = data_packs_of_one_group(&known);
        let (one, two) = (layout::pack(&packs[0]), layout::pack(&packs[1]));
        let files = damaged(&known.files, &one, &[(200, 300), (9000, 9001)]);
        let files = damaged(&files, &two, &[(4096, 4200)]);
        let (files, report) = repaired(&known, &files);
        assert_eq!((report.packs_repaired, report.quarantined.len()), (2, 2));
        assert_restored(&known, &files, "different rows");
        assert_settled(&known, &files, "different rows");
    }
}

#[test]
fn header_and_trailer_of_a_pack_are_rebuilt_from_its_idx_without_parity() {
    for known in both() {
        let mut files = known.files.clone();
        files.retain(|key, _| !(key.ends_with(".par") || key.ends_with(".grp")));
        for key in known.keys(layout::DATA, ".pack") {
            let len = files[&key].len();
            let trailer_len = files[&key.replace(".pack", ".idx")].len() - (56 + 96 + 64 + 32);
            let damage = [(0, 96), (len - 64 - trailer_len, len)];
            let (files, report) = repaired(&known, &damaged(&files, &key, &damage));
            assert_eq!((report.packs_repaired, report.lost_chunks), (1, 0), "{key}");
            assert!(files[&key] == known.files[&key]);
        }
    }
}

/// Compares the reported ranges with what restores: around each end, and at positions across the
/// whole item.
fn assert_ranges(repo: &Arc<Repository>, snapshot: &Snapshot, data: &[u8], missing: &[(u64, u64)]) {
    let is_missing = |at: u64| missing.iter().any(|(start, end)| (*start..*end).contains(&at));
    let len = data.len() as u64;
    let ends = missing
        .iter()
        .flat_map(|&(start, end)| [start.saturating_sub(1), start, end - 1, end]);
    for at in ends.chain((0..len).step_by(251)).filter(|at| *at < len) {
        let options = RestoreOptions {
            item: Some("data".to_owned()),
            range: Some((at, Some(at + 1))),
        };
        match restore_with(repo, &snapshot.id.to_hex(), &options) {
            Ok(bytes) => assert!(!is_missing(at) && bytes == data[at as usize..=at as usize], "byte {at}"),
            Err(error) => assert!(is_missing(at), "byte {at}: {error}"),
        }
    }
}

#[test]
fn damage_of_the_same_rows_of_two_packs_loses_exactly_the_chunks_in_them() {
    for known in both_large() {
        let packs = data_packs_of_one_group(&known);
        let mut files = known.files.clone();
        for pack in &packs[..2] {
            files = damaged(&files, &layout::pack(pack), &[(5000, 5001)]);
        }
        let (after, report) = repaired(&known, &files);
        assert_eq!(report.packs_repaired, 0);
        assert!(report.chunks_salvaged > 20, "{report:?}");
        // one chunk of each pack, and no list node
        assert_eq!(report.lost_chunks, 2, "{report:?}");
        assert!(!report.damaged_snapshots.is_empty());
        let (repo, _, monitor) = fresh(&known, &after);
        assert_eq!(ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap().len(), 3);
        for (snapshot, data) in &known.snapshots {
            let damaged = report
                .damaged_snapshots
                .iter()
                .find(|damaged| damaged.id == snapshot.id);
            let missing = damaged.map_or(&[][..], |damaged| &damaged.items[0].missing);
            assert_ranges(&repo, snapshot, data, missing);
        }
        assert_eq!(codes(&monitor), [""; 0]);
        // what was lost is in the quarantine, with its .idx and the parity that was not enough
        let kept: Vec<_> = after.keys().filter(|key| key.starts_with(layout::QUARANTINE)).collect();
        assert_eq!(kept.len(), report.quarantined.len());
        for pack in &packs[..2] {
            for key in [layout::pack(pack), layout::pack_index(pack)] {
                let prefix = format!("quarantine/{}-", key.replace('/', "_"));
                let kept = kept.iter().find(|kept| kept.starts_with(&prefix)).unwrap();
                assert!(after[*kept] == files[&key]);
                assert!(!after.contains_key(&key));
            }
        }
        // a second repair reports the same damaged snapshots and changes nothing
        let again = assert_settled(&known, &after, "same rows");
        assert_eq!(again.damaged_snapshots, report.damaged_snapshots);
        assert_eq!((again.lost_chunks, again.chunks_salvaged), (2, 0));
        // every pack is protected again, and the next ingest stores the lost data again
        for pack in after
            .keys()
            .filter(|key| key.ends_with(".pack") && key.starts_with(layout::DATA))
        {
            let (healed, report) = repaired(&known, &with(&after, pack, None));
            assert_eq!(report.packs_repaired, 1, "{pack}");
            assert!(healed == after);
        }
        for (_, data) in &known.snapshots {
            ingest(&repo, data).unwrap();
        }
        assert_eq!(run(&repo).damaged_snapshots, []);
        for (snapshot, data) in &known.snapshots {
            assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data);
        }
    }
}

#[test]
fn packs_lost_for_good_are_removed_from_all_records_and_named() {
    // with the original index, and with one that open rebuilds from the remaining files
    let both = both_large();
    for (known, is_damaged) in both.iter().flat_map(|known| [(known, false), (known, true)]) {
        let packs = data_packs_of_one_group(known);
        let mut files = known.files.clone();
        for pack in &packs[..2] {
            files.remove(&layout::pack(pack));
        }
        for key in known.keys(layout::INDEX, ".seg").iter().filter(|_| is_damaged) {
            files = with(&files, key, Some(b"garbage".to_vec()));
        }
        let (after, report) = repaired(known, &files);
        assert!(report.lost_chunks > 20 && report.index_rebuilt);
        assert_eq!((report.packs_repaired, report.chunks_salvaged), (0, 0));
        let (repo, _, _) = fresh(known, &after);
        let named = repo.index().packs().unwrap();
        assert!(packs[..2].iter().all(|pack| !named.contains_key(pack)));
        for (snapshot, data) in &known.snapshots {
            let damaged = report
                .damaged_snapshots
                .iter()
                .find(|damaged| damaged.id == snapshot.id);
            assert_ranges(
                &repo,
                snapshot,
                data,
                damaged.map_or(&[][..], |damaged| &damaged.items[0].missing),
            );
        }
        assert_settled(known, &after, "two packs lost");
    }
}

#[test]
fn repair_after_total_loss_reports_it_and_does_not_panic() {
    for known in both() {
        let mut files = known.files.clone();
        files.retain(|key, _| !key.starts_with("packs/"));
        let (after, report) = repaired(&known, &files);
        assert_eq!(report.damaged_snapshots.len(), 3);
        assert_settled(&known, &after, "no packs");
        let (repo, _, _) = fresh(&known, &after);
        for (_, data) in &known.snapshots {
            let again = ingest(&repo, data).unwrap();
            assert!(restore(&repo, &again.id.to_hex(), None).unwrap() == *data);
        }
        assert_eq!(run(&repo).damaged_snapshots, []);
    }
}

#[test]
fn repair_brings_back_no_forgotten_or_abandoned_data() {
    for known in both() {
        for reason in [ForgotReason::Forgotten, ForgotReason::Abandoned] {
            let id = known.snapshots[1].0.id;
            let record = ForgotRecord { id, reason, at_ms: 0 };
            let manifest = layout::snapshot(&id);
            for (left, kept) in [(None, 0), (Some(b"damaged".to_vec()), 1)] {
                let mut files = with(&known.files, &manifest, left);
                files.insert(layout::forgot_record(&id), record.encode().unwrap());
                // also if the record itself is damaged: its existence is enough
                for (record, kept) in [(None, kept), (Some(b"{}".to_vec()), kept + 1)] {
                    if let Some(record) = record {
                        files.insert(layout::forgot_record(&id), record);
                    }
                    let (after, report) = repaired(&known, &files);
                    assert!(!after.contains_key(&manifest));
                    assert_eq!((report.manifests_restored, report.quarantined.len()), (0, kept));
                    assert_eq!(report.damaged_snapshots, []);
                    assert_settled(&known, &after, "forgotten");
                }
            }
        }
    }
}

#[test]
fn a_manifest_beyond_repair_is_quarantined_and_named() {
    for known in both() {
        let id = known.snapshots[0].0.id;
        // the copies of the manifest are in the meta pack of its session, which is lost together
        // with its parity
        let session = |pack: &[u8]| pack[32..48] == id.0 && pack[12] & 2 != 0;
        let mut files = known.files.clone();
        files.retain(|key, bytes| !(key.contains("packs/parity/") || key.ends_with(".pack") && session(bytes)));
        files.extend(known.keys(layout::KEY_COPIES, ".json").into_iter().map(|key| {
            let bytes = known.files[&key].clone();
            (key, bytes)
        }));
        let mut files = with(&files, &layout::snapshot(&id), Some(b"damaged".to_vec()));
        // the list nodes are in the same pack, so other snapshots may miss theirs
        files.retain(|key, _| !key.ends_with(".seg"));
        let (after, report) = repaired(&known, &files);
        let named = report
            .damaged_snapshots
            .iter()
            .find(|damaged| damaged.id == id)
            .unwrap();
        assert_eq!(named.items, []);
        let prefix = format!("quarantine/snapshots_{id}.json-");
        assert!(
            after
                .iter()
                .any(|(key, bytes)| key.starts_with(&prefix) && bytes == b"damaged")
        );
        assert_settled(&known, &after, "no copy");
    }
}

#[test]
fn condemned_packs_stay_condemned_and_a_damaged_kill_list_is_quarantined() {
    for known in both() {
        let (repo, storage, _) = fresh(&known, &known.files);
        let repo_id = repo.config().id;
        let forgotten = ingest(&repo, &random_bytes(99, 20_000)).unwrap();
        let of_forgotten =
            |pack: &&PackId| read_any_index(&repo, pack).is_ok_and(|index| index.header.session == forgotten.id);
        let pack = *repo.index().packs().unwrap().keys().find(of_forgotten).unwrap();
        ops::forget(&repo, &[forgotten.id]).unwrap();
        let base = files_of(repo.storage());
        drop(storage);
        let list = KillList {
            id: KillListId([7; 16]),
            repo: repo_id,
            hint: false,
            packs: vec![pack],
            sessions: Vec::new(),
        };
        let mut files = base;
        files.insert(list.id.key(), list.encode(repo.seal().as_ref()).unwrap());
        // half deleted: the pack is neither rebuilt nor reported lost
        files.remove(&layout::pack_index(&pack));
        files.remove(&layout::pack(&pack));
        let (after, report) = repaired(&known, &files);
        assert!(after == files, "{report:?}");
        assert_eq!((report.packs_repaired, report.idx_repaired), (0, 0));

        let files = with(&known.files, &list.id.key(), Some(b"damaged".to_vec()));
        let (after, report) = repaired(&known, &files);
        assert_eq!(report.quarantined.len(), 1);
        assert_restored(&known, &after, "a damaged kill list");
        let (repo, _, _) = fresh(&known, &after);
        ingest(&repo, b"writers continue").unwrap();
    }
}

#[test]
fn two_packs_of_a_group_with_two_shards_are_healed_and_so_are_its_files() {
    let options = InitOptions {
        parity: Some(Some(ParityParams { data: 4, parity: 2 })),
        ..Flavor::sealed().small()
    };
    let storage = Arc::new(MemoryStorage::new());
    let made = repo::init(environment(storage.clone(), 7), Some(&passphrase()), &options).unwrap();
    let data = random_bytes(1, 300_000);
    let snapshot = ingest(&Arc::new(made), &data).unwrap();
    let known = Known {
        flavor: Flavor::sealed(),
        files: files_of(storage.as_ref()),
        snapshots: vec![(snapshot, data)],
    };
    let packs = known.keys(layout::DATA, ".pack");
    for (number, one) in packs.iter().enumerate() {
        for two in &packs[number + 1..] {
            let files = with(&with(&known.files, one, None), two, Some(vec![0; 70_000]));
            let (after, report) = repaired(&known, &files);
            assert_eq!(report.packs_repaired, 2);
            assert_restored(&known, &after, "two packs");
        }
    }
    // the remaining files contain the record, so the group can be identified and completed
    let parity: Vec<_> = known.keys(layout::PARITY, "");
    for (number, one) in parity.iter().enumerate() {
        for two in &parity[number + 1..] {
            let (after, _) = repaired(&known, &with(&with(&known.files, one, None), two, None));
            assert_restored(&known, &after, &format!("{one} and {two}"));
        }
    }
}

#[test]
fn repositories_without_parity_lose_only_what_is_damaged() {
    for encrypted in [false, true] {
        let flavor = Flavor {
            encrypted,
            ..Flavor::plain()
        };
        let options = InitOptions {
            parity: Some(None),
            ..flavor.small()
        };
        let storage = Arc::new(MemoryStorage::new());
        let made = repo::init(environment(storage.clone(), 7), flavor.secret().as_ref(), &options).unwrap();
        let data = random_bytes(1, 100_000);
        let snapshot = ingest(&Arc::new(made), &data).unwrap();
        let known = Known {
            flavor,
            files: files_of(storage.as_ref()),
            snapshots: vec![(snapshot, data)],
        };
        assert_eq!(repaired(&known, &known.files), (known.files.clone(), nothing_done()));
        // repair restores all small files, and the config from a meta pack
        for key in known
            .files
            .keys()
            .filter(|key| !key.ends_with(".pack") && !layout::is_reserve(key) && *key != layout::README)
        {
            let (after, _) = repaired(&known, &with(&known.files, key, None));
            assert_restored(&known, &after, key);
        }
        let largest = known
            .keys(layout::DATA, ".pack")
            .into_iter()
            .max_by_key(|key| known.files[key].len());
        let (after, report) = repaired(&known, &damaged(&known.files, &largest.unwrap(), &[(5000, 5001)]));
        assert_eq!(report.lost_chunks, 1);
        let (repo, _, _) = fresh(&known, &after);
        let (snapshot, data) = &known.snapshots[0];
        assert_ranges(&repo, snapshot, data, &report.damaged_snapshots[0].items[0].missing);
        assert_settled(&known, &after, "without parity");
    }
}

#[test]
fn swapped_packs_are_repaired_without_parity() {
    let options = InitOptions {
        parity: Some(None),
        ..Flavor::plain().small()
    };
    let storage = Arc::new(MemoryStorage::new());
    let made = Arc::new(repo::init(environment(storage.clone(), 7), None, &options).unwrap());
    let data = random_bytes(1, 200_000);
    let snapshot = ingest(&made, &data).unwrap();
    let known = Known {
        flavor: Flavor::plain(),
        files: files_of(storage.as_ref()),
        snapshots: vec![(snapshot, data)],
    };
    let packs = known.keys(layout::DATA, ".pack");
    let bytes = |at: usize| Some(known.files[&packs[at]].clone());
    // all of them, each under the name of the next
    let mut moved = known.files.clone();
    for at in 0..packs.len() {
        moved = with(&moved, &packs[at], bytes((at + 1) % packs.len()));
    }
    let two = with(&with(&known.files, &packs[0], bytes(1)), &packs[1], bytes(0));
    // one of them is already repaired when the power is cut
    let kept = format!("quarantine/{}-00000001", packs[0].replace('/', "_"));
    let half = with(&with(&known.files, &packs[0], bytes(1)), &kept, bytes(0));
    for (name, files, moved) in [("all", moved, packs.len()), ("two", two, 2), ("half", half, 1)] {
        let found = problems(&fresh(&known, &files).0);
        let healable = found.iter().filter(|problem| problem.code == "ERR_PACK_CORRUPT");
        assert_eq!(healable.clone().count(), moved, "{name}: {found:?}");
        assert!(healable.clone().all(|problem| problem.healable), "{name}: {found:?}");
        let (after, report) = repaired(&known, &files);
        assert_eq!((report.packs_repaired, report.lost_chunks), (moved as u64, 0), "{name}");
        assert_restored(&known, &after, name);
        assert_settled(&known, &after, name);
    }
}

#[test]
fn a_pack_without_trailer_and_idx_is_rebuilt_from_the_global_index() {
    for known in both_large() {
        let mut files = known.files.clone();
        files.retain(|key, _| !(key.ends_with(".par") || key.ends_with(".grp")));
        let pack = data_packs_of_one_group(&known)[0];
        let len = files[&layout::pack(&pack)].len();
        let files = damaged(&files, &layout::pack(&pack), &[(len - 10, len)]);
        let files = with(&files, &layout::pack_index(&pack), None);
        let (after, report) = repaired(&known, &files);
        assert_eq!((report.lost_chunks, report.damaged_snapshots.len()), (0, 0));
        assert!(report.chunks_salvaged > 10);
        assert_snapshots_restore(&known, &fresh(&known, &after).0, "no trailer");
        assert_settled(&known, &after, "no trailer");
    }
}

#[test]
fn repair_replaces_unreadable_files_with_the_same_bytes() {
    for known in both() {
        let pack = layout::pack(&data_packs_of_one_group(&known)[0]);
        for key in [
            pack.clone(),
            pack.replace(".pack", ".idx"),
            layout::snapshot(&known.snapshots[0].0.id),
        ] {
            let faulty = Arc::new(FaultyStorage::new(memory_of(&known.files)));
            let (bad, replaced) = (key.clone(), std::sync::atomic::AtomicBool::new(false));
            let reads = move |op: &str, key: &str| {
                use std::sync::atomic::Ordering::Relaxed;
                replaced.fetch_or(op == "replace_damaged" && key == bad, Relaxed);
                (op == "get" || op == "get_range") && key == bad && !replaced.load(Relaxed)
            };
            faulty.fail_when(reads, ErrorKind::Io);
            let repo = open(environment(faulty.clone(), 3), known.flavor).unwrap();
            let report = run(&repo);
            assert_eq!(report.quarantined.len(), 1, "{key}");
            drop(repo);
            faulty.heal();
            assert_restored(&known, &files_of(faulty.as_ref()), &key);
        }
    }
}

#[test]
fn repair_leaves_the_files_of_live_sessions_alone() {
    for known in both() {
        // the last snapshot is not committed yet, and nothing of it is published
        let (snapshot, _) = &known.snapshots[2];
        let mut files = known.files.clone();
        files.remove(&layout::snapshot(&snapshot.id));
        let (repo, storage, _) = fresh(&known, &files);
        let lease = Lease::take(storage.as_ref(), snapshot.id, "ingest", "now".to_owned()).unwrap();
        let report = run(&repo);
        assert_eq!(report, nothing_done());
        drop(lease);
        // the session has exited and left a complete copy
        let report = run(&repo);
        assert_eq!(report.manifests_restored, 1);
        assert_restored(&known, &files_of(storage.as_ref()), "after the session");
    }
}

#[test]
fn repair_is_refused_while_locked_and_on_read_only_and_closed_handles() {
    let known = Known::new(Flavor::plain());
    let (repo, storage, _) = fresh(&known, &known.files);
    let held = containerarchive::lock::try_maint(storage.as_ref()).unwrap();
    let options = OpenOptions {
        lock_wait: std::time::Duration::ZERO,
        ..OpenOptions::default()
    };
    let impatient = repo::open(environment(storage.clone(), 5), None, &options)
        .map(Arc::new)
        .unwrap();
    for error in [
        ops::repair(&impatient, &NullMonitor).unwrap_err(),
        ops::reindex(&impatient, &NullMonitor).unwrap_err(),
    ] {
        assert_eq!(error.code(), "ERR_REPO_LOCKED");
    }
    drop(held);
    let options = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    let reader = repo::open(environment(storage.clone(), 6), None, &options)
        .map(Arc::new)
        .unwrap();
    assert_eq!(ops::repair(&reader, &NullMonitor).unwrap_err().code(), "ERR_READ_ONLY");
    assert_eq!(ops::unlock(&reader, false).unwrap_err().code(), "ERR_READ_ONLY");
    repo.close();
    assert_eq!(ops::repair(&repo, &NullMonitor).unwrap_err().code(), "ERR_CLOSED");
}

#[test]
fn repair_and_unlock_delete_stale_leases_and_live_ones_only_with_force() {
    let known = Known::new(Flavor::plain());
    let (repo, storage, _) = fresh(&known, &known.files);
    let (stale, alive) = (SnapshotId([1; 16]), SnapshotId([2; 16]));
    let held = Lease::take(storage.as_ref(), alive, "ingest", "now".to_owned()).unwrap();
    for _ in 0..2 {
        put_bytes(storage.as_ref(), &layout::lease(&stale), b"{}").unwrap();
        assert_eq!(ops::unlock(&repo, false).unwrap(), [stale]);
    }
    put_bytes(storage.as_ref(), &layout::lease(&stale), b"{}").unwrap();
    assert_eq!(run(&repo).locks_removed, 1);
    assert_eq!(ops::unlock(&repo, false).unwrap(), []);
    assert_eq!(ops::unlock(&repo, true).unwrap(), [alive]);
    drop(held);
    let mut left = files_of(storage.as_ref());
    let records = [stale, alive].map(|session| left.remove(&layout::forgot_record(&session)));
    assert!(
        records.iter().all(Option::is_some) && left == known.files,
        "only records of abandoned sessions may be left"
    );
}

#[test]
fn ingests_and_restores_continue_during_a_repair() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let repo = init(threaded_environment(Arc::clone(&storage), 1, 2), flavor).unwrap();
        let base = random_bytes(1, 200_000);
        let first = ingest(&repo, &base).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        let data = |number: u64| [&base[..50_000], &random_bytes(10 + number, 60_000)].concat();
        std::thread::scope(|scope| {
            let repairing = scope.spawn(|| {
                // each repair meets an ingest in another state, and repairs what was lost in the
                // meantime
                let other = open(environment(Arc::clone(&storage), 77), flavor).unwrap();
                let mut reports = Vec::new();
                while !done.load(std::sync::atomic::Ordering::Relaxed) || reports.is_empty() {
                    let packs = storage.list(layout::DATA).unwrap();
                    let lost = packs.iter().find(|file| file.key.ends_with(".idx"));
                    if let Some(file) = lost {
                        storage.delete(&file.key).unwrap();
                    }
                    reports.push(run(&other));
                }
                reports
            });
            // also after a panic, so that the other thread does not run forever
            let end = SetOnDrop(&done);
            for number in 0..10 {
                let snapshot = ingest(&repo, &data(number)).unwrap();
                assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data(number));
                assert!(restore(&repo, &first.id.to_hex(), None).unwrap() == base);
            }
            drop(end);
            for report in repairing.join().unwrap() {
                assert_eq!((report.lost_chunks, report.damaged_snapshots.len()), (0, 0));
                assert_eq!(
                    (report.manifests_restored, report.quarantined.len()),
                    (0, 0),
                    "{report:?}"
                );
            }
        });
        run(&repo);
        assert_eq!(run(&repo), nothing_done());
        assert_eq!(problems(&repo), []);
        assert_eq!(
            ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap().len(),
            11
        );
    }
}

/// The damage to a disk before the repair that is crashed.
type Damage = fn(&Known, &SimFs);

/// Crashes a repair at each of its mutating calls, and repairs the resulting disks.
fn crash_everywhere(known: &Known, damage: Damage, name: &str) {
    let disk = SimFs::new();
    let store = |disk: &SimFs, seed| LocalStorage::new(Arc::new(disk.clone()), Arc::new(SeededEntropy::new(seed)));
    store(&disk, 1).create_folders(&layout::FOLDERS, &[]).unwrap();
    for (key, bytes) in &known.files {
        put_bytes(&store(&disk, seed_of(key)), key, bytes).unwrap();
    }
    damage(known, &disk);
    disk.sync_all();
    let repair = |disk: &SimFs, seed: u64| {
        let repo = open(environment(Arc::new(store(disk, seed ^ 99)), seed), known.flavor)?;
        ops::repair(&repo, &NullMonitor)
    };
    let whole = disk.after_power_loss(&LossModel::Everything);
    let report = repair(&whole, 3).unwrap();
    assert_ne!(report, nothing_done(), "{name}");
    let mut states = 0;
    for call in 0..=whole.mutating_calls() {
        let crashed = disk.after_power_loss(&LossModel::Everything);
        crashed.crash_at(call);
        let result = repair(&crashed, 3);
        // the last call deletes the lease of the repair, and its failure fails no repair
        let fails = crashed.is_off() && call + 1 < whole.mutating_calls();
        assert_eq!(result.is_err(), fails, "{name} {call}");
        crashed.power_off();
        let models = [
            LossModel::NothingUnsynced,
            LossModel::Everything,
            LossModel::UnlinksButNoLinks,
        ];
        for model in models
            .into_iter()
            .chain((0..3).map(|seed| LossModel::RandomSubset(call * 3 + seed)))
        {
            let left = crashed.after_power_loss(&model);
            let what = format!("{:?} {name}: call {call}, {model:?}", known.flavor);
            repair(&left, 4).unwrap_or_else(|error| panic!("{what}: {error}"));
            let mut files = left.snapshot_files();
            files.retain(|key, _| !key.contains("/.tmp-"));
            // a power cut may empty the lease: then the next repair cannot know that it belonged to
            // a repair, and leaves a record
            files.retain(|key, _| known.files.contains_key(key) || !key.starts_with(layout::RECORDS));
            assert_restored(known, &files, &what);
            let again = repair(&left, 5).unwrap();
            assert_eq!(again, nothing_done(), "{what}");
            states += 1;
        }
    }
    assert!(states >= 40, "{name}: {states} states");
}

fn seed_of(key: &str) -> u64 {
    key.bytes()
        .fold(7, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)))
}

fn lose(disk: &SimFs, keys: impl IntoIterator<Item = String>) {
    keys.into_iter().for_each(|key| disk.damage(&key, None).unwrap());
}

#[test]
fn a_repair_can_be_interrupted_anywhere() {
    let damages: [(&str, Damage); 6] = [
        ("a lost pack", |known, disk| {
            lose(disk, known.keys(layout::DATA, ".pack").into_iter().take(1))
        }),
        ("a lost .idx", |known, disk| {
            lose(disk, known.keys(layout::DATA, ".idx").into_iter().take(1))
        }),
        ("all manifests lost", |known, disk| {
            lose(disk, known.keys(layout::SNAPSHOTS, ".json"))
        }),
        ("a damaged .par", |known, disk| {
            let key = &known.keys(layout::PARITY, ".par")[0];
            disk.damage(key, damaged(&known.files, key, &[(6000, 6001)]).remove(key))
                .unwrap();
        }),
        ("two packs damaged at different rows", |known, disk| {
            for (pack, at) in data_packs_of_one_group(known).iter().take(2).zip([100, 5000]) {
                let key = layout::pack(pack);
                disk.damage(&key, damaged(&known.files, &key, &[(at, at + 1)]).remove(&key))
                    .unwrap();
            }
        }),
        ("config, keys and index lost", |known, disk| {
            let keys = [known.keys(layout::INDEX, ".seg"), known.keys(layout::KEYS, ".json")].concat();
            lose(disk, keys.into_iter().chain([layout::CONFIG.to_owned()]));
        }),
    ];
    for known in both_large() {
        for (name, damage) in damages {
            crash_everywhere(&known, damage, name);
        }
    }
}

#[test]
fn repair_does_not_move_a_manifest_after_one_failed_read() {
    for known in both() {
        let key = layout::snapshot(&known.snapshots[0].0.id);
        let faulty = Arc::new(FaultyStorage::new(memory_of(&known.files)));
        let repo = open(environment(faulty.clone(), 3), known.flavor).unwrap();
        let reads = std::sync::atomic::AtomicUsize::new(0);
        let first = move |op: &str, at: &str| {
            op == "get" && at == key && reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0
        };
        faulty.fail_when(first, ErrorKind::Io);
        assert_eq!(run(&repo), nothing_done());
        assert!(files_of(faulty.as_ref()) == known.files);
    }
}

#[test]
fn repair_does_not_move_key_files_that_it_cannot_read() {
    let known = Known::new(Flavor::sealed());
    let faulty = Arc::new(FaultyStorage::new(memory_of(&known.files)));
    let repo = open(environment(faulty.clone(), 3), known.flavor).unwrap();
    let reads =
        |op: &str, key: &str| op == "get" && (key.starts_with(layout::KEYS) || key.starts_with(layout::KEY_COPIES));
    faulty.fail_when(reads, ErrorKind::Io);
    let failed = ops::repair(&repo, &NullMonitor).unwrap_err();
    assert_eq!((failed.code(), failed.retryable()), ("ERR_UNREADABLE", true));
    faulty.heal();
    assert!(files_of(faulty.as_ref()) == known.files);
    open(environment(faulty, 4), known.flavor).unwrap();
}

#[test]
fn repair_moves_nothing_when_every_read_fails() {
    for known in both() {
        for kind in [ErrorKind::Io, ErrorKind::Unavailable, ErrorKind::PermissionDenied] {
            for all in [false, true] {
                let faulty = Arc::new(FaultyStorage::new(memory_of(&known.files)));
                let repo = open(environment(faulty.clone(), 3), known.flavor).unwrap();
                faulty.fail_when(
                    move |op, _| op.starts_with("get") || (all && (op == "size" || op == "list")),
                    kind,
                );
                let failed = ops::repair(&repo, &NullMonitor).unwrap_err();
                assert!(
                    ["ERR_UNREADABLE", "ERR_PERMISSION"].contains(&failed.code()),
                    "{failed}"
                );
                faulty.heal();
                assert!(files_of(faulty.as_ref()) == known.files, "{kind:?} {all}");
                // the handle keeps no state from the failed repair
                assert_eq!(run(&repo), nothing_done());
                assert!(files_of(faulty.as_ref()) == known.files, "{kind:?} {all}");
            }
        }
    }
}

/// While parity that may rebuild a lost pack cannot be read, repair gives up nothing.
#[test]
fn repair_does_not_give_up_a_lost_pack_while_its_parity_cannot_be_read() {
    for known in both_large() {
        let pack = layout::pack(&data_packs_of_one_group(&known)[0]);
        for damaged in [None, Some(b"no pack".to_vec())] {
            let files = with(&known.files, &pack, damaged);
            let faulty = Arc::new(FaultyStorage::new(memory_of(&files)));
            let repo = open(environment(faulty.clone(), 3), known.flavor).unwrap();
            faulty.fail_when(
                |op, key| op.starts_with("get") && key.starts_with(layout::PARITY) && key.ends_with(".par"),
                ErrorKind::Io,
            );
            assert_eq!(ops::repair(&repo, &NullMonitor).unwrap_err().code(), "ERR_UNREADABLE");
            faulty.heal();
            let now = files_of(faulty.as_ref());
            assert!(
                files
                    .iter()
                    .all(|(key, bytes)| key.ends_with(".seg") || now.get(key) == Some(bytes))
            );
            let report = run(&repo);
            assert_eq!((report.packs_repaired, report.lost_chunks), (1, 0));
            drop(repo);
            assert_restored(&known, &files_of(faulty.as_ref()), &pack);
        }
    }
}

/// The copy of the manifest is found although one of the pack indexes cannot be read at that
/// moment.
#[test]
fn repair_restores_a_manifest_while_a_pack_index_cannot_be_read() {
    for known in both() {
        let key = layout::snapshot(&known.snapshots[0].0.id);
        for kind in [ErrorKind::Io, ErrorKind::Unavailable] {
            for at in 0..8 {
                let files = with(&known.files, &key, Some(b"garbage".to_vec()));
                let faulty = Arc::new(FaultyStorage::new(memory_of(&files)));
                let repo = open(environment(faulty.clone(), 3), known.flavor).unwrap();
                let reads = std::sync::atomic::AtomicUsize::new(0);
                let one = move |op: &str, key: &str| {
                    op == "get"
                        && key.ends_with(".idx")
                        && reads.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == at * 3
                };
                faulty.fail_when(one, kind);
                let first = ops::repair(&repo, &NullMonitor);
                faulty.heal();
                if first.is_err() {
                    assert_eq!(kind, ErrorKind::Unavailable);
                    run(&repo);
                }
                let now = files_of(faulty.as_ref());
                assert!(now[&key] == known.files[&key], "{kind:?} {at}");
            }
        }
    }
}
