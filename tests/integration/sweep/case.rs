//! One damage: it is found, restores are correct with it, and it is repaired; or the failure of one
//! of these.

use super::world::{Fault, World, kind_of};
use crate::support::faults::{Files, codes, files_of, memory_of, watched};
use containerarchive::Error;
use containerarchive::entropy::SeededEntropy;
use containerarchive::index::EntrySource;
use containerarchive::layout;
use containerarchive::monitor::{NullMonitor, TestMonitor};
use containerarchive::ops::{self, RepairReport, VerifyLevel, VerifyOptions};
use containerarchive::repo::{self, OpenOptions, Repository};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::storage::{LocalStorage, Storage};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The results of one or several cases.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Damages found at this level, or by `open` (counted as quick).
    pub quick: usize,
    pub standard: usize,
    /// Restores that gave the right bytes, and those that failed with a code.
    pub right: usize,
    pub typed: usize,
    /// Files that were repaired byte for byte, and segments by their entries.
    pub repaired: usize,
}

impl Outcome {
    pub fn add(&mut self, other: &Self) {
        self.quick += other.quick;
        self.standard += other.standard;
        self.right += other.right;
        self.typed += other.typed;
        self.repaired += other.repaired;
    }
}

/// Tries one fault. With `twice`, a second repair must find nothing to do.
pub fn judge(world: &World, key: &str, fault: &Fault, twice: bool) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    let Some(files) = fault.of(&world.files, key) else {
        return Ok(outcome);
    };
    restore_all(world, &files, &mut outcome)?;
    find(world, key, &files, &mut outcome)?;
    let after = repair_damage(world, key, &files, &mut outcome)?;
    if twice {
        let (again, report) = repair_in(world, memory_of(&after))?;
        if again != after || report != RepairReport::default() {
            return Err(format!("a second repair changed something: {report:?}"));
        }
    }
    Ok(outcome)
}

fn open_files(world: &World, files: &Files, read_only: bool) -> (containerarchive::Result<Arc<Repository>>, Opened) {
    open_storage(world, memory_of(files), read_only)
}

fn open_storage(
    world: &World,
    storage: Arc<dyn Storage>,
    read_only: bool,
) -> (containerarchive::Result<Arc<Repository>>, Opened) {
    let (environment, monitor) = watched(storage.clone(), 1000);
    let options = OpenOptions {
        read_only,
        ..OpenOptions::default()
    };
    let repo = repo::open(environment, world.flavor.secret().as_ref(), &options).map(Arc::new);
    (repo, Opened { storage, monitor })
}

struct Opened {
    storage: Arc<dyn Storage>,
    monitor: Arc<TestMonitor>,
}

/// The same on a real disk, with a directory in place of the file. A directory is a mistake of a
/// person, not a fault of a disk: it is found, it does no damage, and everything else is read
/// correctly.
pub fn judge_folder(world: &World, key: &str) -> Result<Outcome, String> {
    let mut outcome = Outcome::default();
    let folder = tempfile::tempdir().unwrap();
    for name in layout::FOLDERS {
        std::fs::create_dir_all(folder.path().join(name)).unwrap();
    }
    for (name, bytes) in world.files.iter().filter(|(name, _)| *name != key) {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    std::fs::create_dir(folder.path().join(key)).unwrap();
    std::fs::write(folder.path().join(key).join("a file in it"), "kept").unwrap();
    let open = || -> Arc<dyn Storage> {
        Arc::new(LocalStorage::open_path(folder.path(), Arc::new(SeededEntropy::new(5))).unwrap())
    };
    find_in(world, key, open(), &mut outcome)?;
    restore_from(world, open_storage(world, open(), false).0, &mut outcome)?;
    let (after, report) = repair_in(world, open())?;
    is_restored(world, &after, &report)?;
    outcome.repaired += 1;
    Ok(outcome)
}

/// Checks restores with the damage in place: the right bytes, or an error with a code that is no
/// bug's.
fn restore_all(world: &World, files: &Files, outcome: &mut Outcome) -> Result<(), String> {
    restore_from(world, open_files(world, files, false).0, outcome)
}

fn restore_from(
    world: &World,
    repo: containerarchive::Result<Arc<Repository>>,
    outcome: &mut Outcome,
) -> Result<(), String> {
    let repo = match repo {
        Ok(repo) => repo,
        Err(error) if error.code() == "ERR_INTERNAL" => return Err(format!("open: {error}")),
        Err(_) => {
            outcome.typed += world.snapshots.len();
            return Ok(());
        }
    };
    let listed = ops::list_snapshots(&repo, &SnapshotFilter::default()).map_err(|error| format!("list: {error}"))?;
    for snapshot in &listed {
        if !world.snapshots.iter().any(|(known, _)| known == snapshot) {
            return Err(format!("listed a wrong snapshot {}", snapshot.id));
        }
    }
    for (snapshot, data) in &world.snapshots {
        let read = ops::plan_restore(&repo, &snapshot.id.to_hex(), &ops::RestoreOptions::default()).and_then(|plan| {
            let mut out = Vec::new();
            ops::restore(&repo, &plan, &NullMonitor, &mut |bytes| {
                out.extend_from_slice(bytes);
                Ok::<(), Error>(())
            })?;
            Ok(out)
        });
        match read {
            Ok(bytes) if bytes == *data => outcome.right += 1,
            Ok(_) => return Err(format!("WRONG BYTES of snapshot {}", snapshot.id)),
            Err(error) if error.code() == "ERR_INTERNAL" => return Err(format!("restore: {error}")),
            Err(_) => outcome.typed += 1,
        }
    }
    Ok(())
}

fn find(world: &World, key: &str, files: &Files, outcome: &mut Outcome) -> Result<(), String> {
    let storage = memory_of(files);
    find_in(world, key, storage.clone(), outcome)?;
    if files_of(&*storage) != *files {
        return Err("a read-only verify changed files".to_owned());
    }
    Ok(())
}

fn find_in(world: &World, key: &str, storage: Arc<dyn Storage>, outcome: &mut Outcome) -> Result<(), String> {
    if kind_of(key) == "lock" {
        return Ok(());
    }
    let (repo, _) = open_storage(world, storage, true);
    let Ok(repo) = repo else {
        outcome.quick += 1;
        return Ok(());
    };
    for (level, found) in [
        (VerifyLevel::Quick, &mut outcome.quick),
        (VerifyLevel::Standard, &mut outcome.standard),
    ] {
        let report = verify(&repo, level)?;
        if !report.ok() {
            *found += 1;
            if report.problems.iter().any(|problem| !problem.healable) {
                return Err(format!("reported as not healable: {:?}", report.problems));
            }
            break;
        }
        // a pack of a forgotten snapshot without its .idx is only a note
        let named = |note: &ops::Note| note.path.as_deref() == Some(key);
        if world.is_forgotten(key) && report.notes.iter().any(named) {
            *found += 1;
            break;
        }
    }
    if outcome.quick + outcome.standard == 0 {
        return Err("not found".to_owned());
    }
    Ok(())
}

fn verify(repo: &Arc<Repository>, level: VerifyLevel) -> Result<ops::VerifyReport, String> {
    let options = VerifyOptions { level, subset: None };
    ops::verify(repo, &options, &NullMonitor, &mut |_| {}).map_err(|error| format!("verify {level:?}: {error}"))
}

/// Returns the files without the quarantine and without segments.
fn comparable(files: &Files) -> impl Iterator<Item = (&String, &Vec<u8>)> {
    let other = |key: &str| !key.starts_with(layout::QUARANTINE) && kind_of(key) != "segment";
    files.iter().filter(move |(key, _)| other(key))
}

fn segments(files: &Files) -> Vec<(&String, &Vec<u8>)> {
    files.iter().filter(|(key, _)| key.ends_with(".seg")).collect()
}

fn repair_damage(world: &World, key: &str, files: &Files, outcome: &mut Outcome) -> Result<Files, String> {
    let (after, report) = repair_in(world, memory_of(files))?;
    is_restored(world, &after, &report)?;
    // a damaged file is quarantined, except a segment, which can be rebuilt completely
    if let Some(damaged) = files.get(key)
        && kind_of(key) != "segment"
        && !after
            .iter()
            .any(|(kept, bytes)| kept.starts_with(layout::QUARANTINE) && bytes == damaged)
    {
        return Err("the damaged file is not in the quarantine".to_owned());
    }
    outcome.repaired += 1;
    Ok(after)
}

fn repair_in(world: &World, storage: Arc<dyn Storage>) -> Result<(Files, RepairReport), String> {
    let (repo, opened) = open_storage(world, storage, false);
    let repo = repo.map_err(|error| format!("cannot be opened to repair it: {error}"))?;
    let report = ops::repair(&repo, &NullMonitor).map_err(|error| format!("repair: {error}"))?;
    Ok((files_of(&*opened.storage), report))
}

/// Checks that everything is as it was, with segments compared by their entries.
fn is_restored(world: &World, after: &Files, report: &RepairReport) -> Result<(), String> {
    if !comparable(after).eq(comparable(&world.files)) {
        let differs = |a: &Files, b: &Files| -> Vec<String> {
            let differing = comparable(a).filter(|(key, bytes)| b.get(*key) != Some(*bytes));
            differing.map(|(key, _)| key.clone()).collect()
        };
        let (now, was) = (differs(after, &world.files), differs(&world.files, after));
        return Err(format!("repaired differs: now {now:?}, was {was:?}, {report:?}"));
    }
    if report.lost_chunks > 0 || !report.damaged_snapshots.is_empty() {
        return Err(format!("{report:?}"));
    }
    if segments(after) != segments(&world.files) {
        is_healthy(world, after)?;
    }
    Ok(())
}

/// Checks that verify finds no problem, there is no warning, and the index has the same entries as
/// before.
fn is_healthy(world: &World, files: &Files) -> Result<(), String> {
    let (repo, opened) = open_files(world, files, true);
    let repo = repo.map_err(|error| format!("after the repair: {error}"))?;
    let report = verify(&repo, VerifyLevel::Full)?;
    let only_kept = report.notes.iter().all(|note| note.code == "NOTE_QUARANTINE");
    if !report.ok() || !only_kept {
        return Err(format!("after the repair: {report:?}"));
    }
    let whole = open_files(world, &world.files, true)
        .0
        .map_err(|error| error.to_string())?;
    if index_of(&repo)? != index_of(&whole)? {
        return Err("after the repair the index has other entries".to_owned());
    }
    match codes(&opened.monitor)[..] {
        [] => Ok(()),
        ref codes => Err(format!("after the repair: {codes:?}")),
    }
}

/// Returns all (chunk, pack) pairs of the index.
fn index_of(repo: &Repository) -> Result<BTreeSet<String>, String> {
    let source = repo.index().all_entries().map_err(|error| error.to_string())?;
    let pairs = source.scan().map(|found| {
        let found = found.map_err(|error| error.to_string())?;
        Ok(format!("{} {}", found.entry.id, source.packs()[found.pack as usize].0))
    });
    pairs.collect()
}
