//! Power cuts and kills at every mutating call of the keys' add, change and remove.
//!
//! On every disk that a loss model can leave, the repository is opened with each passphrase that ever was one. What must
//! hold: at least one of them works, always; those that work before and after the operation work in between; one that
//! worked neither before nor after does not; and once the operation had returned, exactly those work that should, also
//! after a repair. The snapshots restore, verify finds nothing wrong, and the next change of keys succeeds.

use super::harness::{Depth, Tally, copy, fingerprint, prepared, report};
use super::process::Process;
use super::world::*;
use crate::support::Flavor;
use containerarchive::crypto::KdfParams;
use containerarchive::entropy::SeededEntropy;
use containerarchive::monitor::{NullMonitor, TestMonitor};
use containerarchive::ops::{self, KeyOptions, VerifyLevel, VerifyOptions};
use containerarchive::repo::{self, OpenOptions, Repository, Secret};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::storage::LocalStorage;
use containerarchive::storage::simfs::{LossModel, SimFs};
use containerarchive::{Error, Result};
use std::collections::HashSet;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Every passphrase that ever is one, by number.
const PASSPHRASES: [&str; 4] = ["secret", "new", "newer", "last"];
const SECRET: usize = 0;
const NEW: usize = 1;
const NEWER: usize = 2;
const LAST: usize = 3;

/// Which of them open the repository.
type Openers = [bool; 4];

const ONLY_SECRET: Openers = [true, false, false, false];
const ONLY_NEW: Openers = [false, true, false, false];
const BOTH: Openers = [true, true, false, false];

fn secret(number: usize) -> Secret {
    Secret::Passphrase(Zeroizing::new(PASSPHRASES[number].as_bytes().to_vec()))
}

fn options() -> KeyOptions {
    KeyOptions {
        kdf: KdfParams {
            memory_kib: 8,
            time: 1,
            lanes: 1,
        },
        label: None,
    }
}

/// One process that opens the repository with a passphrase.
fn open_by(
    storage: LocalStorage,
    number: usize,
    seed: u64,
    read_only: bool,
) -> (Result<Arc<Repository>>, Arc<TestMonitor>) {
    let options = OpenOptions {
        read_only,
        ..OpenOptions::default()
    };
    let hands = hands(storage, seed);
    let repo = repo::open(hands.environment, Some(&secret(number)), &options).map(Arc::new);
    (repo, hands.monitor)
}

/// The id of the key that a passphrase opens.
fn key_of(disk: &SimFs, number: usize) -> containerarchive::id::KeyId {
    let (repo, _) = open_by(store(disk, 50), number, 50, true);
    repo.unwrap().current_key().unwrap()
}

/// What one process does to the keys.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Adds a passphrase.
    Add(usize),
    /// Puts one in the place of its own.
    Change(usize),
    /// Removes another's.
    Remove(usize),
}

/// The process is opened with `by`. The ids of keys are those of the disk before.
fn act(storage: LocalStorage, disk: &SimFs, seed: u64, by: usize, step: Step) -> Result<()> {
    let removed = match step {
        Step::Remove(number) => Some(key_of(disk, number)),
        Step::Add(_) | Step::Change(_) => None,
    };
    let repo = open_by(storage, by, seed, false).0?;
    match (step, removed) {
        (Step::Add(number), _) => ops::add_key(&repo, &secret(number), &options(), &NullMonitor).map(drop),
        (Step::Change(number), _) => ops::change_key(&repo, None, &secret(number), &options(), &NullMonitor).map(drop),
        (Step::Remove(_), id) => ops::remove_key(&repo, &id.unwrap()),
    }
}

/// What is crashed.
struct KeyCase<'a> {
    disk: SimFs,
    snapshots: Promised,
    before: Openers,
    after: Openers,
    /// Whether it returned well.
    run: &'a dyn Fn(&SimFs) -> bool,
    /// Flushes of folders harden nothing: then something must be seen.
    broken: bool,
}

impl KeyCase<'_> {
    fn start(&self) -> SimFs {
        let disk = copy(&self.disk);
        disk.skip_dir_fsync(self.broken);
        disk
    }

    fn enumerate(&self) -> Tally {
        let depth = Depth::usual();
        let count = self.start();
        assert!((self.run)(&count));
        let calls = count.log();
        let mut tally = Tally::default();
        let mut seen = HashSet::new();
        let mut kept = Vec::new();
        for point in 0..=calls.len() as u64 {
            let disk = self.start();
            disk.crash_at(point);
            let returned = (self.run)(&disk);
            tally.points += 1;
            for model in disk.loss_models(depth.random * 4) {
                tally.states += 1;
                let image = disk.after_power_loss(&model);
                let mark = Promised {
                    repository: returned,
                    ..Promised::default()
                };
                if !seen.insert(fingerprint(&image, &mark)) {
                    continue;
                }
                tally.different += 1;
                kept.push(copy(&image));
                let at = || {
                    format!(
                        "power cut before call {point} {:?}, {model:?}",
                        calls.get(point as usize)
                    )
                };
                if let Err(violation) = self.look(&image, returned, true) {
                    tally.violations.push(format!("{violation}: {}", at()));
                }
            }
        }
        if !self.broken {
            let step = (kept.len() / 8).max(1);
            for image in kept.iter().step_by(step) {
                self.crash_again(image, &mut seen, &mut tally);
            }
        }
        tally
    }

    /// A second crash, while the repository is taken into use and its keys are changed.
    fn crash_again(&self, image: &SimFs, seen: &mut HashSet<u128>, tally: &mut Tally) {
        for point in 0.. {
            let disk = copy(image);
            disk.crash_at(point);
            let done = self.settle(&disk, 60).is_ok();
            for model in [
                LossModel::NothingUnsynced,
                LossModel::Everything,
                LossModel::UnlinksButNoLinks,
                LossModel::RandomSubset(point),
            ] {
                let image = disk.after_power_loss(&model);
                tally.again += 1;
                let mark = Promised {
                    repository: done,
                    ..Promised::default()
                };
                if !seen.insert(fingerprint(&image, &mark)) {
                    continue;
                }
                let open = openers(&image);
                let violation = match (done, &open) {
                    (_, Err(problem)) => Some(problem.clone()),
                    (true, Ok(open)) if *open != only(LAST) => Some(format!("settled, and {open:?} open")),
                    (false, Ok(open)) if !open.contains(&true) => Some("nothing opens".to_owned()),
                    _ => None,
                };
                if let Some(violation) = violation {
                    let at = format!("second power cut before call {point}, {model:?}");
                    tally.violations.push(format!("{violation}: {at}"));
                }
            }
            if !disk.is_off() {
                break;
            }
        }
    }

    /// Whoever can open it adds a last key and removes all others.
    fn settle(&self, disk: &SimFs, seed: u64) -> Result<()> {
        let by = openers(disk)
            .unwrap_or_default()
            .iter()
            .position(|opens| *opens)
            .unwrap_or(SECRET);
        let repo = open_by(store(disk, seed), by, seed, false).0?;
        let last = ops::add_key(&repo, &secret(LAST), &options(), &NullMonitor)?;
        for key in ops::list_keys(&repo)? {
            if key.id != last.id {
                ops::remove_key(&repo, &key.id)?;
            }
        }
        Ok(())
    }

    fn look(&self, image: &SimFs, returned: bool, and_settle: bool) -> std::result::Result<(), String> {
        let found = openers(image)?;
        self.judge(found, returned, "at once")?;
        let by = found.iter().position(|opens| *opens).ok_or("nothing opens")?;
        let (repo, monitor) = open_by(store(image, 70), by, 70, false);
        let repo = repo.map_err(|error| format!("open: {error}"))?;
        let listed = ops::list_snapshots(&repo, &SnapshotFilter::default()).map_err(|error| error.to_string())?;
        if listed.len() != self.snapshots.snapshots.len() {
            return Err("a snapshot is gone".to_owned());
        }
        for snapshot in &listed {
            compare(&repo, snapshot)?;
        }
        let options = VerifyOptions {
            level: VerifyLevel::Full,
            subset: None,
        };
        let verified = ops::verify(&repo, &options, &NullMonitor, &mut |_| ()).map_err(|error| error.to_string())?;
        if let Some(problem) = verified.problems.first() {
            return Err(format!("verify: {} {}", problem.code, problem.text));
        }
        ops::repair(&repo, &NullMonitor).map_err(|error| format!("repair: {error}"))?;
        self.judge(openers(image)?, returned, "after a repair")?;
        if openers(image)? != found {
            return Err("a repair changed who may open".to_owned());
        }
        let warnings = monitor.warnings();
        if let Some(warning) = warnings.iter().find(|warning| warning.code != "WARN_KEY_COPIED") {
            return Err(format!("warned: {}", warning.message));
        }
        if and_settle {
            self.settle(image, 80).map_err(|error| format!("go on: {error}"))?;
            if openers(image)? != only(LAST) {
                return Err("go on: others open than the last".to_owned());
            }
        }
        Ok(())
    }

    fn judge(&self, found: Openers, returned: bool, when: &str) -> std::result::Result<(), String> {
        if returned && found != self.after {
            return Err(format!("it had returned, and {when} {found:?} open"));
        }
        if !found.contains(&true) {
            return Err(format!("neither the old nor the new passphrase opens {when}"));
        }
        for (number, opens) in found.iter().enumerate() {
            let (before, after) = (self.before[number], self.after[number]);
            if before == after && *opens != before {
                return Err(format!("{when} passphrase {number} opens: {opens}"));
            }
        }
        Ok(())
    }
}

fn only(number: usize) -> Openers {
    let mut openers = [false; 4];
    openers[number] = true;
    openers
}

/// Who opens a disk. Nothing is changed.
fn openers(disk: &SimFs) -> std::result::Result<Openers, String> {
    let mut openers = [false; 4];
    for (number, opens) in openers.iter_mut().enumerate() {
        match open_by(store(disk, 40), number, 40, true) {
            (Ok(_), _) => *opens = true,
            (Err(Error::WrongPassphrase), _) => {}
            (Err(error), _) => return Err(format!("open: {error}")),
        }
    }
    Ok(openers)
}

/// A disk with a snapshot, and the passphrases that open it.
fn with_keys(passphrases: &[usize]) -> (SimFs, Promised) {
    let (disk, snapshots) = prepared(Flavor::sealed(), &[SMALL]);
    for number in passphrases {
        act(store(&disk, 30), &disk, 30 + *number as u64, SECRET, Step::Add(*number)).unwrap();
    }
    (copy(&disk), snapshots)
}

fn crash(before: Openers, after: Openers, by: usize, step: Step, broken: bool) -> Tally {
    let more: Vec<usize> = (NEW..LAST).filter(|number| before[*number]).collect();
    let (disk, snapshots) = with_keys(&more);
    let start = copy(&disk);
    let run = |disk: &SimFs| act(store(disk, 100), &start, 100, by, step).is_ok();
    let case = KeyCase {
        disk,
        snapshots,
        before,
        after,
        run: &run,
        broken,
    };
    case.enumerate()
}

/// The first process is killed at each of its calls; the power goes while a second one is at work, which may rely on names
/// that the first one has not flushed.
fn crash_after_a_kill(
    first: Step,
    before: Openers,
    second: (usize, Step),
    after: &dyn Fn(Openers) -> Openers,
) -> Tally {
    let more: Vec<usize> = (NEW..LAST).filter(|number| before[*number]).collect();
    let (start, snapshots) = with_keys(&more);
    let count = copy(&start);
    act(store(&count, 100), &start, 100, SECRET, first).unwrap();
    let mut tally = Tally::default();
    for calls in 0..=count.mutating_calls() {
        let disk = copy(&start);
        let kill = |disk: &SimFs| {
            let process = Process::killed_after(disk, calls);
            let storage = LocalStorage::new(Arc::new(process), Arc::new(SeededEntropy::new(77)));
            let _ = act(storage, &start, 100, SECRET, first);
        };
        let killed = copy(&disk);
        kill(&killed);
        let between = openers(&killed).unwrap();
        let (by, step) = second;
        if !between[by] || matches!(step, Step::Remove(number) if !between[number]) {
            continue;
        }
        // the ids are read where the first one was killed
        let ids = copy(&killed);
        let run = |disk: &SimFs| {
            kill(disk);
            act(store(disk, 101), &ids, 101, by, step).is_ok()
        };
        let case = KeyCase {
            disk,
            snapshots: snapshots.clone(),
            before: between,
            after: after(between),
            run: &run,
            broken: false,
        };
        // what the first had not flushed may be lost before the second begins
        let from = killed.mutating_calls();
        tally.add(case.enumerate_from(from));
    }
    tally
}

impl KeyCase<'_> {
    /// As [`enumerate`](Self::enumerate), from a later call on, and only whether somebody's passphrase works, or exactly
    /// those that should once it had returned.
    fn enumerate_from(&self, from: u64) -> Tally {
        let count = self.start();
        assert!((self.run)(&count), "the second one failed");
        let mut tally = Tally::default();
        let mut seen = HashSet::new();
        for point in from..=count.mutating_calls() {
            let disk = self.start();
            disk.crash_at(point);
            let returned = (self.run)(&disk);
            tally.points += 1;
            for model in disk.loss_models(12) {
                tally.states += 1;
                let image = disk.after_power_loss(&model);
                let mark = Promised {
                    repository: returned,
                    ..Promised::default()
                };
                if !seen.insert(fingerprint(&image, &mark)) {
                    continue;
                }
                tally.different += 1;
                let violation = match openers(&image) {
                    Err(problem) => Some(problem),
                    Ok(found) if !found.contains(&true) => Some("nobody's passphrase opens".to_owned()),
                    Ok(found) if returned && found != self.after => Some(format!(
                        "it had returned, and {found:?} open instead of {:?}",
                        self.after
                    )),
                    Ok(_) => None,
                };
                if let Some(violation) = violation {
                    tally
                        .violations
                        .push(format!("{violation}: power cut before call {point}, {model:?}"));
                }
            }
        }
        tally
    }
}

#[test]
fn adding_a_key() {
    report("add a key", Flavor::sealed(), || {
        crash(ONLY_SECRET, BOTH, SECRET, Step::Add(NEW), false)
    });
}

#[test]
fn changing_a_key() {
    report("change a key", Flavor::sealed(), || {
        let mut tally = crash(ONLY_SECRET, ONLY_NEW, SECRET, Step::Change(NEW), false);
        // beside others
        let (before, after) = ([true, false, true, false], [false, true, true, false]);
        tally.add(crash(before, after, SECRET, Step::Change(NEW), false));
        tally
    });
}

#[test]
fn removing_a_key() {
    report("remove a key", Flavor::sealed(), || {
        let mut tally = crash(BOTH, ONLY_NEW, NEW, Step::Remove(SECRET), false);
        // its own
        tally.add(crash(BOTH, ONLY_SECRET, NEW, Step::Remove(NEW), false));
        tally
    });
}

#[test]
fn changing_keys_after_a_process_was_killed_while_changing_them() {
    report("change keys after a kill", Flavor::sealed(), || {
        let without = |number: usize| {
            move |mut open: Openers| {
                open[number] = false;
                open
            }
        };
        // the new key may be no more than a name that is not flushed, when the old one is removed
        let mut tally = crash_after_a_kill(
            Step::Add(NEW),
            ONLY_SECRET,
            (NEW, Step::Remove(SECRET)),
            &without(SECRET),
        );
        tally.add(crash_after_a_kill(
            Step::Change(NEW),
            ONLY_SECRET,
            (NEW, Step::Remove(SECRET)),
            &without(SECRET),
        ));
        let change = |mut open: Openers| {
            open[NEW] = false;
            open[NEWER] = true;
            open
        };
        tally.add(crash_after_a_kill(
            Step::Change(NEW),
            ONLY_SECRET,
            (NEW, Step::Change(NEWER)),
            &change,
        ));
        // a removal that was killed, and then the other one
        tally.add(crash_after_a_kill(
            Step::Remove(NEW),
            BOTH,
            (SECRET, Step::Change(NEWER)),
            &|mut open| {
                open[SECRET] = false;
                open[NEWER] = true;
                open
            },
        ));
        tally
    });
}

#[test]
fn the_check_detects_a_disk_that_loses_file_names() {
    for (before, after, step) in [
        (ONLY_SECRET, BOTH, Step::Add(NEW)),
        (ONLY_SECRET, ONLY_NEW, Step::Change(NEW)),
        (BOTH, ONLY_NEW, Step::Remove(SECRET)),
    ] {
        let by = if before[NEW] { NEW } else { SECRET };
        let violations = crash(before, after, by, step, true).violations;
        assert!(!violations.is_empty(), "{step:?}: nothing was seen");
    }
}
