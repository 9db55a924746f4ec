//! The crash enumeration: run once to count the mutating calls, then once per call with the power
//! cut there, and check every disk that a loss model can leave.
//!
//! Each disk is checked with `open`, `ingest`, list and restore only (docs/invariants.md):
//! - *promise*: every snapshot whose ingest had returned is listed;
//! - *forgotten*: no snapshot whose forget had returned is listed or brought back by a repair;
//! - *whole*: every listed snapshot restores to exactly the source that it names;
//! - *open*: opening succeeds without a warning (an unfinished init may be repeated instead);
//! - *go on*: the next ingest succeeds and restores, also through a newly opened handle;
//! - *parity*: any one pack can be lost, and every promised snapshot still restores through a
//!   handle that does not heal (on a sample; before and after the next ingest);
//! - *leftovers*: the next ingest has removed stale leases and, where there was one, half-written
//!   files, and, unless it was a prune that was interrupted, superseded parity groups;
//! - *plaintext*: in a sealed repository no file contains the marker, including half-written ones.
//!
//! Disks with equal contents and equal promises are checked once.

use super::world::*;
use crate::support::{Flavor, init, open};
use containerarchive::Error;
use containerarchive::id::SnapshotId;
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, PruneOptions};
use containerarchive::repo::Repository;
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::storage::put_bytes;
use containerarchive::storage::simfs::{LossModel, SimFs};
use containerarchive::storage::vfs::{FileKind, Vfs};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

/// The extent of an enumeration.
#[derive(Debug, Clone, Copy)]
pub struct Depth {
    /// The number of random loss models at each crash point.
    pub random: usize,
    /// The number of different disks of a case that are crashed again during the next operations.
    pub again: usize,
    /// The distance between the crash points that are tried.
    pub stride: u64,
    /// Whether to omit the models that drop or keep single names.
    pub coarse: bool,
    /// The distance between the disks with different packs or parity on which each pack is lost
    /// once.
    pub lose_packs: usize,
    /// The kind of violation at which the enumeration stops.
    pub until: Option<&'static str>,
}

/// Returns the distance between the calls at which a process is held or killed: `usual`, or `large`
/// at the large size.
pub fn stride(usual: usize, large: usize) -> usize {
    match std::env::var_os("CONTAINERARCHIVE_DEEP") {
        Some(_) => large,
        None => usual,
    }
}

/// The number of random loss models at each crash point, at the default size.
const SMALL_RANDOM: usize = 3;

impl Depth {
    /// The default size, or the large one with `CONTAINERARCHIVE_DEEP`.
    pub fn usual() -> Self {
        let deep = std::env::var_os("CONTAINERARCHIVE_DEEP").is_some();
        Self {
            random: if deep { 60 } else { SMALL_RANDOM },
            again: if deep { 20 } else { 1 },
            stride: 1,
            coarse: false,
            lose_packs: if deep { 1 } else { 8 },
            until: None,
        }
    }

    /// The size for a kind of repository: in encrypted ones, where everything takes several times
    /// as long and the order of the calls is the same, every third crash point.
    pub fn of(flavor: Flavor) -> Self {
        let usual = Self::usual();
        let deep = usual.random > SMALL_RANDOM;
        if deep || !flavor.encrypted {
            return usual;
        }
        Self {
            random: 1,
            again: 1,
            stride: 3,
            ..usual
        }
    }

    /// A smaller size for scenarios with many cases: fewer crash points and models.
    pub fn coarse(flavor: Flavor) -> Self {
        let usual = Self::of(flavor);
        let deep = usual.random > SMALL_RANDOM;
        Self {
            random: if deep { 20 } else { usual.random.min(2) },
            again: 0,
            stride: if deep { 1 } else { 3 * usual.stride },
            coarse: !deep,
            ..usual
        }
    }

    /// The size for a seeded bug: one violation of the kind that it causes is enough.
    pub fn hunt(kind: &'static str) -> Self {
        Self {
            again: 0,
            lose_packs: if kind == "parity:" { 1 } else { usize::MAX },
            until: Some(kind),
            ..Self::usual()
        }
    }
}

/// The counts and violations of an enumeration.
#[derive(Debug, Default)]
pub struct Tally {
    pub points: u64,
    pub states: u64,
    pub different: u64,
    pub again: u64,
    pub lost_packs: u64,
    pub violations: Vec<String>,
}

impl Tally {
    pub fn add(&mut self, other: Self) {
        self.points += other.points;
        self.states += other.states;
        self.different += other.different;
        self.again += other.again;
        self.lost_packs += other.lost_packs;
        self.violations.extend(other.violations);
    }
}

/// One run to crash.
pub struct Case<'a> {
    pub flavor: Flavor,
    /// The disk before the run.
    pub disk: SimFs,
    /// What had been promised on that disk.
    pub before: Promised,
    /// The number of the source that is ingested after the crash.
    pub next: usize,
    /// The run. It makes the same calls on equal disks.
    pub run: &'a dyn Fn(&SimFs) -> Promised,
    /// The first crash point.
    pub from: u64,
    pub bug: Option<Bug>,
    /// Whether a prune that follows must delete everything that no snapshot needs.
    pub prunes: bool,
}

fn stay_away(forgotten: &[SnapshotId], listed: &[Ack]) -> Result<(), String> {
    match listed.iter().find(|ack| forgotten.contains(&ack.0)) {
        Some((id, _)) => Err(format!("forgotten: snapshot {id} came back")),
        None => Ok(()),
    }
}

/// Returns a separate disk with the same content, all of it durable.
pub fn copy(disk: &SimFs) -> SimFs {
    disk.after_power_loss(&LossModel::Everything)
}

/// Returns a disk with a repository and some snapshots.
pub fn prepared(flavor: Flavor, numbers: &[usize]) -> (SimFs, Promised) {
    let disk = SimFs::without_root(2);
    assert!(makes(&disk, flavor, 1).repository);
    let promised = ingests(&disk, flavor, 2, None, numbers);
    assert_eq!(promised.snapshots.len(), numbers.len());
    (copy(&disk), promised)
}

impl Case<'_> {
    fn start(&self) -> SimFs {
        let disk = copy(&self.disk);
        disk.skip_file_fsync(self.bug == Some(Bug::NoFileFsync));
        disk.skip_dir_fsync(self.bug == Some(Bug::NoFolderFsync));
        disk
    }

    /// Returns the mutating calls of the run without a crash.
    pub fn calls(&self) -> Vec<(&'static str, String)> {
        let disk = self.start();
        (self.run)(&disk);
        disk.log()
    }

    /// Crashes at every call, under every loss model.
    pub fn enumerate(&self, depth: Depth) -> Tally {
        let calls = self.calls();
        assert_eq!(calls, self.calls(), "two runs differ");
        let mut tally = Tally::default();
        let mut seen = HashSet::new();
        let mut seen_packs = HashSet::new();
        let mut kept: Vec<(SimFs, Promised, String)> = Vec::new();
        // the last point is after the last call: the power is cut when the run has ended
        let points =
            (self.from..=calls.len() as u64).filter(|point| point % depth.stride == 0 || *point == calls.len() as u64);
        for point in points {
            let disk = self.start();
            disk.crash_at(point);
            let mut promised = (self.run)(&disk);
            promised.repository |= self.before.repository;
            promised.snapshots.extend(&self.before.snapshots);
            tally.points += 1;
            let at = || format!("power cut before call {point} {:?}", calls.get(point as usize));
            if self.flavor.encrypted {
                let files = plaintext_files(&disk).into_iter();
                tally
                    .violations
                    .extend(files.map(|file| format!("plaintext: in {file}: {}", at())));
            }
            for model in disk.loss_models(depth.random) {
                if depth.coarse && is_fine(&model) {
                    continue;
                }
                tally.states += 1;
                let image = disk.after_power_loss(&model);
                if !seen.insert(fingerprint(&image, &promised)) {
                    continue;
                }
                tally.different += 1;
                if depth.again > 0 {
                    kept.push((copy(&image), promised.clone(), format!("{}, {model:?}", at())));
                }
                let new = seen_packs.insert(pack_fingerprint(&image, &promised));
                let lose = new && seen_packs.len() % depth.lose_packs == 0;
                if let Err(violation) = self.check(&image, &promised, 1, lose, &mut tally) {
                    let hit = depth.until.is_some_and(|kind| violation.starts_with(kind));
                    tally.violations.push(format!("{violation}: {}, {model:?}", at()));
                    if hit {
                        return tally;
                    }
                }
            }
        }
        let step = (kept.len() / depth.again.max(1)).max(1);
        for (image, promised, first) in kept.iter().step_by(step) {
            let before = tally.violations.len();
            self.crash_again(image, promised, depth, (&mut seen, &mut seen_packs), &mut tally);
            for violation in tally.violations.iter_mut().skip(before) {
                *violation = format!("{violation}, after {first}");
            }
        }
        tally
    }

    /// Crashes a second time, at every call of the operations that follow the first crash.
    fn crash_again(
        &self,
        image: &SimFs,
        promised: &Promised,
        depth: Depth,
        (seen, seen_packs): (&mut HashSet<u128>, &mut HashSet<u128>),
        tally: &mut Tally,
    ) {
        for point in 0.. {
            let disk = copy(image);
            disk.crash_at(point);
            let mut promised = promised.clone();
            let next = self.go_on(&disk, 2);
            promised.repository |= next.repository;
            promised.snapshots.extend(next.snapshots);
            for model in disk.loss_models(depth.random / 3) {
                if is_fine(&model) {
                    continue;
                }
                tally.again += 1;
                let image = disk.after_power_loss(&model);
                if !seen.insert(fingerprint(&image, &promised)) {
                    continue;
                }
                let new = seen_packs.insert(pack_fingerprint(&image, &promised));
                let lose = new && seen_packs.len() % depth.lose_packs == 0;
                if let Err(violation) = self.check(&image, &promised, 3, lose, tally) {
                    let at = format!("second power cut before call {point}, {model:?}");
                    tally.violations.push(format!("{violation}: {at}"));
                }
            }
            if !disk.is_off() {
                break;
            }
        }
    }

    /// The operations after a crash: init if there is no repository yet, and an ingest.
    fn go_on(&self, disk: &SimFs, round: u64) -> Promised {
        let seed = 1000 * round;
        let mut promised = Promised::default();
        if matches!(open_on(disk, self.flavor, seed), Err(Error::RepositoryNotFound { .. })) {
            promised.repository = makes(disk, self.flavor, seed + 1).repository;
        }
        promised.snapshots = ingests(disk, self.flavor, seed + 2, None, &[self.next]).snapshots;
        promised
    }

    /// Loses each pack alone and checks that every promised snapshot still restores.
    fn lose_packs(&self, image: &SimFs, promised: &[Ack], seed: u64, tally: &mut Tally) -> Result<(), String> {
        if promised.is_empty() {
            return Ok(());
        }
        let disk = copy(image);
        let repo = open_read_only(&disk, self.flavor, seed).map_err(|error| format!("open: {error}"))?;
        let files = disk.snapshot_files();
        for path in packs(&disk) {
            disk.damage(&path, None).unwrap();
            tally.lost_packs += 1;
            for (id, _) in promised {
                let snapshot = ops::get_snapshot(&repo, &id.to_hex()).map_err(|error| format!("promise: {error}"))?;
                compare(&repo, &snapshot).map_err(|problem| format!("parity: without {path} {problem}"))?;
            }
            put_bytes(&store(&disk, seed), &path, &files[&path]).unwrap();
        }
        Ok(())
    }

    /// Checks everything that must hold on a disk after a crash.
    fn check(
        &self,
        image: &SimFs,
        promised: &Promised,
        round: u64,
        lose_packs: bool,
        tally: &mut Tally,
    ) -> Result<(), String> {
        let seed = 1000 * round;
        let bug = self.bug.filter(|bug| *bug == Bug::OneTempName);
        let hands_one = hands(store_with(image, seed, bug), seed);
        let monitor = hands_one.monitor;
        let repo = match open(hands_one.environment, self.flavor) {
            Err(Error::RepositoryNotFound { .. }) if !promised.repository => {
                let environment = hands(store(image, seed + 1), seed + 1).environment;
                init(environment, self.flavor).map_err(|error| format!("open: neither open nor init works: {error}"))?
            }
            other => other.map_err(|error| format!("open: {error}"))?,
        };
        let listed = check_all(&repo)?;
        if let Some((id, _)) = promised.snapshots.iter().find(|ack| !listed.contains(ack)) {
            return Err(format!("promise: snapshot {id} is missing"));
        }
        stay_away(&promised.forgotten, &listed)?;
        check_verify(&repo).map_err(|problem| format!("verify: {problem}"))?;
        if lose_packs {
            self.lose_packs(image, &promised.snapshots, seed + 3, tally)?;
        }
        let stale = image
            .list("locks")
            .unwrap_or_default()
            .iter()
            .any(|entry| entry.name.ends_with(".json"));
        let next = ingest_source(&repo, self.next).map_err(|error| format!("go on: {error}"))?;
        let left: Vec<String> = image
            .snapshot_files()
            .into_keys()
            .filter(|path| is_leftover(path, stale))
            .collect();
        if !left.is_empty() {
            return Err(format!("leftovers: {left:?}"));
        }
        compare(&repo, &next).map_err(|problem| format!("go on: {problem}"))?;
        let groups = repo.parity_groups().map_err(|error| format!("go on: {error}"))?;
        if !self.prunes && !groups.superseded().is_empty() {
            // a prune that was interrupted leaves them to the next one
            return Err(format!("leftovers: superseded groups {:?}", groups.superseded()));
        }
        if self.prunes {
            prune_clears_up(&repo).map_err(|problem| format!("prune: {problem}"))?;
        }
        if !promised.forgotten.is_empty() {
            ops::repair(&repo, &NullMonitor).map_err(|error| format!("repair: {error}"))?;
            stay_away(&promised.forgotten, &check_all(&repo)?)?;
        }
        drop(repo);
        if lose_packs {
            let promised = [&promised.snapshots[..], &[(next.id, self.next)]].concat();
            self.lose_packs(image, &promised, seed + 4, tally)
                .map_err(|violation| format!("{violation}, after the next ingest"))?;
        }
        let repo = open_on(image, self.flavor, seed + 2).map_err(|error| format!("go on: {error}"))?;
        compare(&repo, &next).map_err(|problem| format!("go on: {problem}"))?;
        check_verify(&repo).map_err(|problem| format!("go on: verify: {problem}"))?;
        let found =
            ops::list_snapshots(&repo, &SnapshotFilter::default()).map_err(|error| format!("go on: {error}"))?;
        if found.len() != listed.len() + 1 {
            return Err(format!(
                "go on: {} snapshots instead of {}",
                found.len(),
                listed.len() + 1
            ));
        }
        match monitor.warnings().first() {
            Some(warning) => Err(format!("open: {}", warning.message)),
            None => Ok(()),
        }
    }
}

/// Checks that a prune that keeps every snapshot leaves no unneeded data and no unfinished work.
pub fn prune_clears_up(repo: &Arc<Repository>) -> Result<(), String> {
    let options = PruneOptions {
        max_unused: 0.0,
        ..PruneOptions::keep_all()
    };
    let before = check_all(repo)?;
    ops::prune(repo, &options, &NullMonitor).map_err(|error| error.to_string())?;
    if check_all(repo)? != before {
        return Err("snapshots are missing".to_owned());
    }
    let storage = repo.storage();
    let marks = storage.list(layout::MARKS).map_err(|error| error.to_string())?;
    if !marks.is_empty() {
        return Err(format!("marks remain: {marks:?}"));
    }
    let again = ops::prune(repo, &options, &NullMonitor).map_err(|error| error.to_string())?;
    if (again.removed_packs, again.rewritten_packs, again.freed_bytes) != (0, 0, 0) {
        return Err(format!("a second prune finds more to do: {again:?}"));
    }
    let verify_options = ops::VerifyOptions {
        level: ops::VerifyLevel::Full,
        subset: None,
    };
    let report = ops::verify(repo, &verify_options, &NullMonitor, &mut |_| ()).map_err(|error| error.to_string())?;
    match (
        report.problems.first(),
        report.notes.iter().find(|note| note.code.contains("PACK")),
    ) {
        (None, None) => Ok(()),
        (Some(problem), _) => Err(format!("{} {}", problem.code, problem.text)),
        (_, Some(note)) => Err(format!("{} {}", note.code, note.text)),
    }
}

/// Returns the packs on the disk.
pub fn packs(disk: &SimFs) -> Vec<String> {
    let files = disk.snapshot_files();
    files.into_keys().filter(|path| path.ends_with(".pack")).collect()
}

/// Checks that verify reports no problem, since a crash damages nothing. Notes about leftovers are
/// allowed.
pub fn check_verify(repo: &Arc<Repository>) -> Result<(), String> {
    let options = ops::VerifyOptions {
        level: ops::VerifyLevel::Full,
        subset: None,
    };
    let report = ops::verify(repo, &options, &NullMonitor, &mut |_| ()).map_err(|error| error.to_string())?;
    match report.problems.first() {
        None => Ok(()),
        Some(problem) => Err(format!("{} {}", problem.code, problem.text)),
    }
}

/// Restores every listed snapshot and compares it with its source.
pub fn check_all(repo: &Arc<Repository>) -> Result<Vec<Ack>, String> {
    let found = ops::list_snapshots(repo, &SnapshotFilter::default()).map_err(|error| format!("whole: {error}"))?;
    found
        .iter()
        .map(|snapshot| {
            Ok((
                snapshot.id,
                compare(repo, snapshot).map_err(|problem| format!("whole: {problem}"))?,
            ))
        })
        .collect()
}

/// Whether the next ingest should have deleted this file: a stale lease, or a half-written file if
/// there was a stale lease. Without a stale lease no operation looks for half-written files.
fn is_leftover(path: &str, was_stale: bool) -> bool {
    (path.starts_with("locks/") && path.ends_with(".json")) || (was_stale && path.contains(".tmp-"))
}

/// Whether this model exists once per pending name.
fn is_fine(model: &LossModel) -> bool {
    matches!(
        model,
        LossModel::EachPendingNameOpKept(_) | LossModel::PrefixOfNameOps(_)
    )
}

/// Returns the files with the marker in them, including half-written ones.
pub fn plaintext_files(disk: &SimFs) -> Vec<String> {
    let shows = |bytes: &[u8]| bytes.windows(MARKER.len()).any(|window| window == MARKER);
    let files = disk.snapshot_files().into_iter();
    files
        .filter(|(path, bytes)| shows(path.as_bytes()) || shows(bytes))
        .map(|(path, _)| path)
        .collect()
}

/// A hash that is equal for disks with the same directories and files, and the same promises.
pub fn fingerprint(disk: &SimFs, promised: &Promised) -> u128 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in disk.list(&folder).unwrap_or_default() {
            let path = format!("{folder}/{}", entry.name);
            hash.update(path.as_bytes());
            if entry.kind == FileKind::Folder {
                hash.update(b"/");
                folders.push(path);
            }
        }
        hash.update(b"\n");
    }
    hash.update(&[u8::from(matches!(disk.kind(""), Ok(None)))]);
    for (path, bytes) in disk.snapshot_files() {
        hash.update(path.as_bytes());
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    hash.update(&[u8::from(promised.repository)]);
    let promises = promised.snapshots.iter().map(|(id, _)| id);
    for id in promises.chain(&promised.forgotten) {
        hash.update(&id.0);
    }
    hash.digest128()
}

/// A hash that is equal for disks with the same packs and parity, and the same promises.
fn pack_fingerprint(disk: &SimFs, promised: &Promised) -> u128 {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    let files = disk.snapshot_files().into_iter();
    for (path, _) in files.filter(|(path, _)| path.ends_with(".pack") || path.starts_with(layout::PARITY)) {
        // a file with its final name is complete, so the names are enough
        hash.update(path.as_bytes());
    }
    for (id, _) in &promised.snapshots {
        hash.update(&id.0);
    }
    hash.digest128()
}

/// Runs a case, prints what was tried, and fails on any violation.
#[expect(clippy::print_stdout, reason = "the record of a run contains what was tried")]
pub fn report(name: &str, flavor: Flavor, work: impl FnOnce() -> Tally) {
    let start = Instant::now();
    let tally = work();
    let kind = if flavor.encrypted { "sealed" } else { "plain" };
    println!(
        "crash enumeration: {name}, {kind}: {} points, {} states ({} different, {} after a second crash), \
         {} packs lost, {:.1} s",
        tally.points,
        tally.states,
        tally.different,
        tally.again,
        tally.lost_packs,
        start.elapsed().as_secs_f64()
    );
    let shown: Vec<&String> = tally.violations.iter().take(10).collect();
    assert!(
        shown.is_empty(),
        "{name}, {kind}: {} violations: {shown:#?}",
        tally.violations.len()
    );
}
