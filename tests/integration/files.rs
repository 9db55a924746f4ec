//! Member indexes made by an ingest: the same as what is found in the headers, kept small between
//! snapshots, checked by a verify, and never the end of a backup.

use crate::support::faults::{Files, files_of, memory_of};
use crate::support::{Flavor, environment, flavors, memory_repo, open, random_bytes, restore};
use containerarchive::entropy::SeededEntropy;
use containerarchive::layout;
use containerarchive::members::{self, Listed};
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::files::{FileListOptions, MembersOf, diff, files, member_info, plan_member, restore_member};
use containerarchive::ops::ingest::ingest_with_extra;
use containerarchive::ops::{self, IngestOptions, ItemSpec, ReaderItems, TarIndex, VerifyLevel, VerifyOptions};
use containerarchive::repo::Repository;
use containerarchive::repo::read::{ReadScratch, get_node};
use containerarchive::snapshot::{ListWalker, Snapshot};
use containerarchive::storage::simfs::{LossModel, SimFs};
use containerarchive::storage::{LocalStorage, Storage, put_bytes};
use std::io::Read;
use std::sync::Arc;

/// A header of ustar for a regular file.
fn header(path: &str, len: usize) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..path.len()].copy_from_slice(path.as_bytes());
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0001750");
    block[116..123].copy_from_slice(b"0001750");
    block[124..135].copy_from_slice(format!("{len:011o}").as_bytes());
    block[136..147].copy_from_slice(b"14000000000");
    block[148..156].copy_from_slice(b"        ");
    block[156] = b'0';
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

/// The path and the content of file number `n`.
fn file(n: u64) -> (String, Vec<u8>) {
    let path = format!("./dir{:02}/sub{}/file{n:05}", n % 20, n % 3);
    (path, random_bytes(n, (n * 37 % 3000) as usize))
}

fn tar_of(numbers: impl Iterator<Item = u64>) -> Vec<u8> {
    let mut tar = Vec::new();
    for n in numbers {
        let (path, content) = file(n);
        tar.extend_from_slice(&header(&path, content.len()));
        tar.extend_from_slice(&content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn ingest(repo: &Arc<Repository>, data: &[u8], tar_index: TarIndex) -> Snapshot {
    let item = (
        ItemSpec::new("files.tar", "tar"),
        Box::new(data) as Box<dyn Read + Send>,
    );
    let options = IngestOptions {
        tar_index,
        ..IngestOptions::default()
    };
    ops::ingest(repo, &mut ReaderItems::new(vec![item]), &options, &NullMonitor).unwrap()
}

fn of(snapshot: &Snapshot) -> MembersOf {
    MembersOf {
        snapshot: snapshot.id.to_hex(),
        item: None,
    }
}

fn list(repo: &Arc<Repository>, snapshot: &Snapshot, member: &str, recursive: bool) -> Vec<Listed> {
    let options = FileListOptions {
        member: member.as_bytes().to_vec(),
        recursive,
        all: false,
    };
    let mut list = files(repo, &of(snapshot), &options, &NullMonitor).unwrap();
    let mut found = Vec::new();
    loop {
        let page = list.next(100).unwrap();
        if page.is_empty() {
            return found;
        }
        found.extend(page);
    }
}

fn content(repo: &Arc<Repository>, snapshot: &Snapshot, member: &str) -> Vec<u8> {
    let plan = plan_member(repo, &of(snapshot), member.as_bytes(), &NullMonitor).unwrap();
    let mut out = Vec::new();
    restore_member(repo, &plan, &NullMonitor, &mut |piece| {
        out.extend_from_slice(&piece);
        Ok(())
    })
    .unwrap();
    assert_eq!(out.len() as u64, plan.size());
    out
}

fn problems(repo: &Arc<Repository>) -> Vec<String> {
    let options = VerifyOptions {
        level: VerifyLevel::Full,
        subset: None,
    };
    let report = ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap();
    report.problems.iter().map(|problem| problem.text.clone()).collect()
}

#[test]
fn an_index_finds_what_the_headers_have() {
    for flavor in flavors() {
        let (repo, _) = memory_repo(flavor);
        let tar = tar_of(0..800);
        let with = ingest(&repo, &tar, TarIndex::Auto);
        let without = ingest(&repo, &tar, TarIndex::Off);
        assert!(with.items[0].extra_of(members::KIND).is_some());
        assert!(without.items[0].extra.is_empty());
        for (member, recursive) in [
            ("", true),
            ("", false),
            ("dir03", false),
            ("dir03", true),
            ("dir03/sub0", false),
        ] {
            let found = list(&repo, &with, member, recursive);
            assert_eq!(found, list(&repo, &without, member, recursive), "{member}");
            assert!(!found.is_empty());
        }
        assert_eq!(list(&repo, &with, "", true).len(), 800);
        for n in (0..800).step_by(97) {
            let (path, expected) = file(n);
            let info = member_info(&repo, &of(&with), path.as_bytes(), &NullMonitor).unwrap();
            assert_eq!(info.entry.unwrap().member.size, expected.len() as u64);
            assert!(content(&repo, &with, &path) == expected);
            assert!(content(&repo, &without, &path) == expected);
        }
        assert!(content(&repo, &with, "dir03") == content(&repo, &without, "dir03"));
        assert!(restore(&repo, &with.id.to_hex(), None).unwrap() == tar);
        assert_eq!(problems(&repo), Vec::<String>::new());
    }
}

#[test]
fn the_next_index_shares_most_of_its_pages_with_the_last_one() {
    let (repo, _) = memory_repo(Flavor::plain());
    let chunks = || ops::stats(&repo, &NullMonitor).unwrap().chunks;
    let first = ingest(&repo, &tar_of(0..3000), TarIndex::Auto);
    let index_chunks = first.items[0].extra[0].chunk_count;
    let before = chunks();
    let second = ingest(&repo, &tar_of((0..3000).chain([9999])), TarIndex::Auto);
    let added = chunks() - before - second.new_chunks;
    assert!(
        index_chunks > 30 && added * 3 < index_chunks,
        "{added} of {index_chunks}"
    );

    let mut found = diff(&repo, &of(&first), &of(&second), &NullMonitor).unwrap();
    let changes = found.next(10, &|| Ok(())).unwrap();
    let paths: Vec<_> = changes
        .iter()
        .map(|change| change.after.as_ref().unwrap().key.path())
        .collect();
    assert_eq!(paths, [b"dir19/sub0/file09999".to_vec()]);
}

#[test]
fn verify_finds_an_index_of_another_tar() {
    let (repo, _) = memory_repo(Flavor::plain());
    let (one, two) = (tar_of(0..60), tar_of(1..61));
    let mut indexer = members::Indexer::new();
    indexer.feed(&one);
    let mut pages = Vec::new();
    indexer
        .finish::<members::Error>(&mut |page| {
            pages.push(page.to_vec());
            Ok(())
        })
        .unwrap();
    for (data, pages, expected) in [
        (&one, pages.clone(), ""),
        (&two, pages.clone(), "is wrong"),
        (
            &one,
            vec![b"no index at all, but long enough to have a footer, which is 72 bytes at its end".to_vec()],
            "magic",
        ),
    ] {
        let item = (
            ItemSpec::new("files.tar", "tar"),
            Box::new(data.as_slice()) as Box<dyn Read + Send>,
        );
        let options = IngestOptions {
            tar_index: TarIndex::Off,
            ..IngestOptions::default()
        };
        let pages: Vec<&[u8]> = pages.iter().map(Vec::as_slice).collect();
        let mut items = ReaderItems::new(vec![item]);
        let snapshot = ingest_with_extra(&repo, &mut items, &options, (members::KIND, &pages), &NullMonitor).unwrap();
        let found = problems(&repo);
        match expected.is_empty() {
            true => assert_eq!(found, Vec::<String>::new()),
            false => assert!(found.len() == 1 && found[0].contains(expected), "{found:?}"),
        }
        assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data);
        ops::forget(&repo, &[snapshot.id]).unwrap();
    }
}

/// A repository of two snapshots of one tar, without the packs in which the second one has stored
/// its member index, and without parity.
fn without_index(flavor: Flavor, tar: &[u8]) -> (Files, Snapshot, Vec<Listed>) {
    let (repo, storage) = memory_repo(flavor);
    ingest(&repo, tar, TarIndex::Off);
    let snapshot = ingest(&repo, tar, TarIndex::Auto);
    let listed = list(&repo, &snapshot, "", true);
    let item = &snapshot.items[0];
    let extra = item.extra_of(members::KIND).unwrap().as_item(item);
    let mut walker = ListWalker::new(&extra, 0).unwrap();
    let mut scratch = ReadScratch::default();
    let mut packs = std::collections::BTreeSet::new();
    while let Some(chunk) = walker
        .next_chunk::<containerarchive::Error>(&mut |id| get_node(&repo, id, &mut scratch))
        .unwrap()
    {
        packs.insert(repo.locate_published(&chunk.id).unwrap()[0].pack);
    }
    let mut files = files_of(storage.as_ref());
    files.retain(|key, _| !key.starts_with(layout::PARITY));
    for pack in packs {
        files.remove(&layout::pack(&pack)).unwrap();
        files.remove(&layout::pack_index(&pack)).unwrap();
    }
    (files, snapshot, listed)
}

#[test]
fn a_repair_rebuilds_a_member_index_that_has_lost_chunks() {
    for flavor in flavors() {
        let tar = tar_of(0..300);
        let (files, snapshot, listed) = without_index(flavor, &tar);
        let repo = open(environment(memory_of(&files), 8), flavor).unwrap();
        assert!(!problems(&repo).is_empty());
        assert_eq!(list(&repo, &snapshot, "", true), listed);

        let report = ops::repair(&repo, &NullMonitor).unwrap();
        assert_eq!((report.member_indexes_rebuilt, report.lost_chunks), (1, 0));
        assert_eq!(report.damaged_snapshots, []);
        assert_eq!(problems(&repo), Vec::<String>::new());
        assert_eq!(list(&repo, &snapshot, "", true), listed);
        assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == tar);
        assert_eq!(ops::repair(&repo, &NullMonitor).unwrap(), ops::RepairReport::default());
    }
}

#[test]
fn an_index_of_other_rules_stays_lost() {
    let (repo, storage) = memory_repo(Flavor::plain());
    let tar = tar_of(0..60);
    ingest(&repo, &tar, TarIndex::Off);
    let before = files_of(storage.as_ref());
    let item = (
        ItemSpec::new("files.tar", "tar"),
        Box::new(tar.as_slice()) as Box<dyn Read + Send>,
    );
    let options = IngestOptions {
        tar_index: TarIndex::Off,
        ..IngestOptions::default()
    };
    let pages: [&[u8]; 2] = [&random_bytes(5, 3000), &random_bytes(6, 3000)];
    let mut items = ReaderItems::new(vec![item]);
    let snapshot = ingest_with_extra(&repo, &mut items, &options, (members::KIND, &pages), &NullMonitor).unwrap();
    let mut files = files_of(storage.as_ref());
    files.retain(|key, _| {
        !key.starts_with(layout::PARITY) && (!key.starts_with(layout::DATA) || before.contains_key(key))
    });
    let repo = open(environment(memory_of(&files), 8), Flavor::plain()).unwrap();
    let report = ops::repair(&repo, &NullMonitor).unwrap();
    assert_eq!(report.member_indexes_rebuilt, 0);
    assert_eq!(report.damaged_snapshots.len(), 1);
    assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == tar);
}

#[test]
fn the_rebuild_of_a_member_index_can_be_interrupted_anywhere() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (files, snapshot, listed) = without_index(flavor, &tar_of(0..40));
        let disk = SimFs::new();
        let store = |disk: &SimFs, seed| LocalStorage::new(Arc::new(disk.clone()), Arc::new(SeededEntropy::new(seed)));
        store(&disk, 1).create_folders(&layout::FOLDERS, &[]).unwrap();
        for (at, (key, bytes)) in (2..).zip(&files) {
            put_bytes(&store(&disk, at), key, bytes).unwrap();
        }
        disk.sync_all();
        let repair = |disk: &SimFs, seed: u64| {
            let repo = open(environment(Arc::new(store(disk, seed ^ 99)), seed), flavor)?;
            ops::repair(&repo, &NullMonitor).map(|report| (repo, report))
        };
        let whole = disk.after_power_loss(&LossModel::Everything);
        assert_eq!(repair(&whole, 3).unwrap().1.member_indexes_rebuilt, 1);
        for call in 0..=whole.mutating_calls() {
            let crashed = disk.after_power_loss(&LossModel::Everything);
            crashed.crash_at(call);
            let _ = repair(&crashed, 3);
            crashed.power_off();
            for model in [
                LossModel::NothingUnsynced,
                LossModel::Everything,
                LossModel::RandomSubset(call),
            ] {
                let left = crashed.after_power_loss(&model);
                let what = format!("{flavor:?}: call {call}, {model:?}");
                let (repo, report) = repair(&left, 4).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!((report.lost_chunks, report.damaged_snapshots.len()), (0, 0), "{what}");
                assert_eq!(problems(&repo), Vec::<String>::new(), "{what}");
                assert_eq!(list(&repo, &snapshot, "", true), listed, "{what}");
            }
        }
    }
}
