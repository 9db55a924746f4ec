//! Full disks: committed snapshots stay, operations that only read work with 0 bytes free, and a
//! prune frees space.
//!
//! Runs on the simulated disk, for many sizes, and on a real file system of a fixed size.

use crate::support::faults::code;
use crate::support::*;
use containerarchive::entropy::SeededEntropy;
use containerarchive::id::SnapshotId;
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, IngestOptions, PruneOptions, ReaderItems, VerifyLevel, VerifyOptions};
use containerarchive::repo::Repository;
use containerarchive::snapshot::retention::{Keep, RetentionPolicy};
use containerarchive::snapshot::{Snapshot, SnapshotFilter};
use containerarchive::storage::simfs::SimFs;
use containerarchive::storage::{LocalStorage, RealFs, Vfs};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// The length of the smallest reserve.
const RESERVE: u64 = 64 << 10;
/// The step between the sizes of disks.
const STEP: u64 = 64 << 10;

/// A disk of limited size.
trait Disk {
    fn vfs(&self) -> Arc<dyn Vfs>;
    /// Uses all the free space.
    fn fill(&self);
    /// Releases the space that `fill` used.
    fn unfill(&self);
}

struct Simulated {
    disk: SimFs,
    taken: std::cell::Cell<u64>,
}

impl Disk for Simulated {
    fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(self.disk.clone())
    }

    fn fill(&self) {
        self.taken.set(self.disk.free_bytes().unwrap());
        self.disk.set_free_bytes(Some(0));
    }

    fn unfill(&self) {
        let free = self.disk.free_bytes().unwrap() + self.taken.take();
        self.disk.set_free_bytes(Some(free));
    }
}

/// A mounted file system; the repository is in a directory of it.
struct Mounted {
    directory: PathBuf,
}

impl Disk for Mounted {
    fn vfs(&self) -> Arc<dyn Vfs> {
        Arc::new(RealFs::new(&self.directory.join("repository")).unwrap())
    }

    fn fill(&self) {
        use std::io::Write;
        let mut filler = std::fs::File::create(self.directory.join("filler")).unwrap();
        for len in [65_536, 4_096, 512, 1] {
            while filler.write_all(&vec![7; len]).is_ok() {}
        }
    }

    fn unfill(&self) {
        std::fs::remove_file(self.directory.join("filler")).unwrap();
    }
}

fn handle(disk: &dyn Disk, seed: u64, flavor: Flavor) -> containerarchive::Result<Arc<Repository>> {
    open(environment_on(disk, seed), flavor)
}

fn environment_on(disk: &dyn Disk, seed: u64) -> containerarchive::repo::Environment {
    let entropy = Arc::new(SeededEntropy::new(seed));
    environment(Arc::new(LocalStorage::new(disk.vfs(), entropy)), seed + 1)
}

/// Day `n` of a history: most of the data stays from day to day.
fn day(n: u64) -> Vec<u8> {
    let mut data = random_bytes(1, 60_000);
    data.extend(random_bytes(2 + n / 3, 40_000));
    data.extend(random_bytes(1000 + n, 25_000));
    data
}

fn ingest_day(repo: &Arc<Repository>, n: u64) -> containerarchive::Result<Snapshot> {
    let data = day(n);
    let options = IngestOptions {
        created_at_ms: Some(1_700_000_000_000 + n as i64 * 86_400_000),
        ..IngestOptions::default()
    };
    let mut items = ReaderItems::one("data", "test", &data[..]);
    ops::ingest(repo, &mut items, &options, &NullMonitor)
}

fn keep_last(count: u32) -> PruneOptions {
    PruneOptions::new(RetentionPolicy {
        keep_last: Keep::Count(count),
        ..RetentionPolicy::default()
    })
}

/// Checks that exactly these snapshots are listed, that each restores, and that verify finds no
/// damage.
fn assert_all_there(repo: &Arc<Repository>, promised: &BTreeMap<SnapshotId, u64>, what: &str) {
    let listed = ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap();
    let listed: Vec<SnapshotId> = listed.iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(listed.len(), promised.len(), "{what}");
    for (id, n) in promised {
        assert!(listed.contains(id), "{what}: day {n} is missing");
        assert!(restore(repo, &id.to_hex(), None).unwrap() == day(*n), "{what}: day {n}");
    }
    let options = VerifyOptions {
        level: VerifyLevel::Full,
        subset: None,
    };
    let report = ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap();
    assert!(report.ok(), "{what}: {:?}", report.problems);
}

/// The result for one disk.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Too small even for an empty repository.
    TooSmall,
    /// The number of days that were stored before the disk was full.
    Days(u64),
}

/// Fills a disk with a history, reads it with 0 bytes free, prunes it, and ingests again.
fn fill_and_prune(disk: &dyn Disk, flavor: Flavor, what: &str) -> Outcome {
    let repo = match init(environment_on(disk, 1), flavor) {
        Err(error) => {
            assert_eq!(error.code(), "ERR_NO_SPACE", "{what}");
            return Outcome::TooSmall;
        }
        Ok(repo) => repo,
    };
    if !matches!(repo.storage().size(layout::RESERVE), Ok(Some(RESERVE))) {
        return Outcome::TooSmall;
    }
    let mut promised = BTreeMap::new();
    let mut days = 0;
    loop {
        match ingest_day(&repo, days) {
            Ok(snapshot) => promised.insert(snapshot.id, days),
            Err(error) => {
                assert_eq!(error.code(), "ERR_NO_SPACE", "{what}: day {days}");
                break;
            }
        };
        days += 1;
        assert!(days < 1000, "{what}: the disk is never full");
    }
    disk.fill();
    assert_all_there(&repo, &promised, &format!("{what}, full"));
    assert_eq!(
        code(ingest_day(&repo, days)),
        "ERR_NO_SPACE",
        "{what}: ingested without free space"
    );
    drop(repo);

    let repo = handle(disk, 10, flavor).unwrap();
    assert_all_there(&repo, &promised, &format!("{what}, full and opened again"));
    let report = ops::prune(&repo, &keep_last(1), &NullMonitor);
    let report = report.unwrap_or_else(|error| panic!("{what}: prune after {days} days: {error}"));
    let newest = days.saturating_sub(1);
    promised.retain(|_, n| *n == newest);
    assert_eq!(report.removed.len() as u64, newest, "{what}");
    assert_all_there(&repo, &promised, &format!("{what}, pruned"));
    if days > 1 {
        assert!(report.freed_bytes > 0, "{what}: freed nothing");
    }
    if days > 4 {
        let reserve = repo.storage().size(layout::RESERVE).unwrap();
        assert_eq!(reserve, Some(RESERVE), "{what}: the reserve was not recreated");
    }
    if days > 2 {
        // only into the space that the prune has freed
        let small = ingest_items(&repo, &[("small", b"a little more")]);
        let small = small.unwrap_or_else(|error| panic!("{what}: after the prune: {error}"));
        assert_eq!(restore(&repo, &small.id.to_hex(), None).unwrap(), b"a little more");
        ops::forget(&repo, &[small.id]).unwrap();
    }
    disk.unfill();
    if days > 0 {
        // the other space is free again
        ops::prune(&repo, &keep_last(1), &NullMonitor).unwrap();
        match ingest_day(&repo, newest + 1) {
            Ok(next) => {
                promised.insert(next.id, newest + 1);
            }
            // growing parity needs space for the old and the new
            Err(error) => assert!(
                days <= 4 && error.code() == "ERR_NO_SPACE",
                "{what}: next ingest: {error}"
            ),
        }
    }
    let repo = handle(disk, 20, flavor).unwrap();
    assert_all_there(&repo, &promised, &format!("{what}, at the end"));
    Outcome::Days(days)
}

/// Sizes of disks in bytes: a few, or all in steps up to a limit.
fn sizes() -> Vec<u64> {
    match std::env::var_os("CONTAINERARCHIVE_DEEP").is_some() {
        false => [1, 3, 4, 5, 7, 10, 14, 20].map(|step| step * STEP).to_vec(),
        true => (1..=96).map(|step| step * STEP).collect(),
    }
}

#[test]
fn a_full_simulated_disk_can_be_read_pruned_and_written_again() {
    let mut most = Outcome::TooSmall;
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        for size in sizes() {
            // three similar sizes, so that the space runs out at different calls
            for size in [size, size + 1_300, size + 17_001] {
                let disk = SimFs::new();
                disk.set_free_bytes(Some(size));
                let disk = Simulated {
                    disk,
                    taken: std::cell::Cell::new(0),
                };
                most = most.max(fill_and_prune(&disk, flavor, &format!("{size} bytes, {flavor:?}")));
            }
        }
    }
    assert!(most >= Outcome::Days(5), "{most:?}");
}

/// Set for the child process: the directory over which it may mount a file system.
const DIRECTORY: &str = "CONTAINERARCHIVE_DISK_FULL_DIRECTORY";

/// The entry point of a child in its own mount namespace, so that no mount is left over. Not a test
/// of its own.
#[test]
fn mounting_child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let directory = Path::new(&directory);
    let mut most = Outcome::TooSmall;
    for size in sizes() {
        for flavor in [Flavor::plain(), Flavor::sealed()] {
            let size_option = format!("size={size}");
            let run = |command: &mut Command| assert!(command.status().unwrap().success(), "{command:?}");
            run(Command::new("mount")
                .args(["-t", "tmpfs", "-o", &size_option, "none"])
                .arg(directory));
            let disk = Mounted {
                directory: directory.to_owned(),
            };
            let what = format!("tmpfs of {size} bytes, {flavor:?}");
            most = most.max(fill_and_prune(&disk, flavor, &what));
            run(Command::new("umount").arg("-l").arg(directory));
        }
    }
    assert!(most >= Outcome::Days(3), "{most:?}");
    println!(
        "{} sizes up to {} KiB, plain and encrypted",
        sizes().len(),
        sizes().last().unwrap() >> 10
    );
}

/// Returns the arguments that give a child a mount namespace in which it may mount, if this is
/// possible here.
fn mount_namespace() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["-m", "--"], &["-U", "-r", "-m", "--"]];
    ways.into_iter().find(|arguments| {
        let directory = tempfile::tempdir().unwrap();
        Command::new("unshare")
            .args(*arguments)
            .args(["mount", "-t", "tmpfs", "none"])
            .arg(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    })
}

#[test]
fn a_full_tmpfs_can_be_read_pruned_and_written_again() {
    let Some(arguments) = mount_namespace() else {
        println!("SKIPPED: mounting is not possible here, so NO REAL FILE SYSTEM WAS FILLED");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let child = Command::new("unshare")
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "disk_full::mounting_child",
            "--test-threads=1",
            "--nocapture",
        ])
        .env(DIRECTORY, directory.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stdout);
    print!("{text}");
    assert!(
        child.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert!(text.contains("1 passed"), "the child ran no test: {text}");
}

#[test]
fn the_reserve_grows_with_the_repository() {
    let (repo, storage) = memory_repo(Flavor::plain());
    let len = || storage.size(layout::RESERVE).unwrap();
    assert_eq!(len(), Some(RESERVE));
    storage.delete(layout::RESERVE).unwrap();
    ingest(&repo, &random_bytes(1, 100_000)).unwrap();
    assert_eq!(len(), Some(RESERVE), "the next ingest recreates it");
    // more than 64 times the reserve
    ingest(&repo, &random_bytes(2, 9_000_000)).unwrap();
    assert_eq!(len(), Some(2 * RESERVE));
    // well compressible text adds little
    ingest(&repo, &text_bytes(3, 12_000_000)).unwrap();
    assert_eq!(len(), Some(2 * RESERVE));
    ingest(&repo, &random_bytes(4, 1000)).unwrap();
    assert_eq!(len(), Some(2 * RESERVE));
}

/// A repository that outgrows its reserve on a disk without room for a longer one keeps a reserve
/// that is enough to prune.
#[test]
fn a_reserve_that_cannot_grow_is_still_usable() {
    let mut tried = 0;
    for free in (150_000..360_000u64).step_by(30_000) {
        let disk = Simulated {
            disk: SimFs::new(),
            taken: std::cell::Cell::new(0),
        };
        let repo = init(environment_on(&disk, 1), Flavor::plain()).unwrap();
        ingest(&repo, &random_bytes(1, 8_200_000)).unwrap();
        let needs = || {
            repo.index()
                .live_segments()
                .iter()
                .map(|file| file.entries)
                .sum::<u64>()
                * 1024
        };
        let mut seed = 100;
        // slightly less than 64 times the reserve
        while needs() < 2 * 64 * RESERVE - 110 * 1024 {
            seed += 1;
            ingest(&repo, &random_bytes(seed, 20_000)).unwrap();
        }
        assert_eq!(repo.storage().size(layout::RESERVE).unwrap(), Some(RESERVE));
        disk.disk.set_free_bytes(Some(free));
        if ingest(&repo, &random_bytes(3, 120_000)).is_err() {
            continue;
        }
        tried += 1;
        assert!(repo.storage().size(layout::RESERVE).unwrap() >= Some(RESERVE), "{free}");
        disk.fill();
        let repo = handle(&disk, 2, Flavor::plain()).unwrap();
        let report = ops::prune(&repo, &keep_last(1), &NullMonitor).unwrap();
        assert!(report.freed_bytes > 8_000_000, "{free}: {report:?}");
        ingest(&repo, &random_bytes(4, 100_000)).unwrap();
    }
    assert!(tried > 2);
}

#[test]
fn a_repair_on_a_full_disk_uses_the_reserve() {
    let disk = Simulated {
        disk: SimFs::new(),
        taken: 0.into(),
    };
    disk.disk.set_free_bytes(Some(4 << 20));
    let repo = init(environment_on(&disk, 1), Flavor::plain()).unwrap();
    let ids = [0, 1].map(|day| ingest_day(&repo, day).unwrap().id);
    drop(repo);
    let files = disk.disk.snapshot_files();
    let packs = files.iter().filter(|(path, _)| path.ends_with(".pack"));
    let (lost, bytes) = packs.min_by_key(|(_, bytes)| bytes.len()).unwrap();
    disk.disk.damage(lost, None).unwrap();
    disk.fill();
    let repo = handle(&disk, 2, Flavor::plain()).unwrap();
    let report = ops::repair(&repo, &NullMonitor).unwrap();
    assert!(report.damaged_snapshots.is_empty(), "{report:?}");
    assert!(disk.disk.snapshot_files().get(lost) == Some(bytes));
    let promised = BTreeMap::from([(ids[0], 0), (ids[1], 1)]);
    assert_all_there(&repo, &promised, "repaired");
}
