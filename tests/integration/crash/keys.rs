//! Power cuts and kills at every mutating call of adding, changing and removing a key.
//!
//! On every disk that a loss model can leave, the test opens the repository with each passphrase of
//! the scenario. At least one of them always works. A passphrase that works before and after the
//! operation works at every point in between; one that works neither before nor after never works.
//! Once the operation has returned, exactly the passphrases that should work do, also after a
//! repair. The snapshots restore, verify finds no problem, and the next change of keys succeeds.

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

/// Every passphrase of the scenarios, by number.
const PASSPHRASES: [&str; 4] = ["secret", "new", "newer", "last"];
const SECRET: usize = 0;
const NEW: usize = 1;
const NEWER: usize = 2;
const LAST: usize = 3;

/// Which of the passphrases open the repository.
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

/// Opens the repository with a passphrase, as one process.
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

/// Returns the id of the key that a passphrase opens.
fn key_of(disk: &SimFs, number: usize) -> containerarchive::id::KeyId {
    let (repo, _) = open_by(store(disk, 50), number, 50, true);
    repo.unwrap().current_key().unwrap()
}

/// One change of the keys by one process.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Adds a key with this passphrase.
    Add(usize),
    /// Replaces the passphrase of the key that opened the repository.
    Change(usize),
    /// Removes the key with this passphrase.
    Remove(usize),
}

/// Opens the repository with passphrase `by` and changes its keys. Key ids are read from `disk`,
/// the state before.
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

/// One change of keys to crash.
struct KeyCase<'a> {
    disk: SimFs,
    snapshots: Promised,
    before: Openers,
    after: Openers,
    /// The change. Returns whether it succeeded.
    run: &'a dyn Fn(&SimFs) -> bool,
    /// Whether flushes of directories have no effect: then the enumeration must find violations.
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
                if let Err(violation) = self.check(&image, returned, true) {
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

    /// Crashes a second time, while the repository is opened and its keys are changed.
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
                    (true, Ok(open)) if *open != only(LAST) => Some(format!("settled, but {open:?} open")),
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

    /// Opens the repository with any passphrase that works, adds a last key and removes all others.
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

    fn check(&self, image: &SimFs, returned: bool, and_settle: bool) -> std::result::Result<(), String> {
        let found = openers(image)?;
        self.judge(found, returned, "at once")?;
        let by = found.iter().position(|opens| *opens).ok_or("nothing opens")?;
        let (repo, monitor) = open_by(store(image, 70), by, 70, false);
        let repo = repo.map_err(|error| format!("open: {error}"))?;
        let listed = ops::list_snapshots(&repo, &SnapshotFilter::default()).map_err(|error| error.to_string())?;
        if listed.len() != self.snapshots.snapshots.len() {
            return Err("a snapshot is missing".to_owned());
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
            return Err("a repair changed which passphrases open".to_owned());
        }
        let warnings = monitor.warnings();
        if let Some(warning) = warnings.iter().find(|warning| warning.code != "WARN_KEY_COPIED") {
            return Err(format!("warned: {}", warning.message));
        }
        if and_settle {
            self.settle(image, 80).map_err(|error| format!("go on: {error}"))?;
            if openers(image)? != only(LAST) {
                return Err("go on: not only the last passphrase opens".to_owned());
            }
        }
        Ok(())
    }

    fn judge(&self, found: Openers, returned: bool, when: &str) -> std::result::Result<(), String> {
        if returned && found != self.after {
            return Err(format!("it had returned, but {when} {found:?} open"));
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

/// Returns which passphrases open a disk, and changes nothing.
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

/// Returns a disk with a snapshot and with keys for these passphrases.
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

/// Kills the first process at each of its calls, and cuts the power while a second process runs,
/// which may rely on names that the first one has not flushed.
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
        // key ids are read from the disk that the killed process left
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
        // what the first process had not flushed may be lost before the second one starts
        let from = killed.mutating_calls();
        tally.add(case.enumerate_from(from));
    }
    tally
}

impl KeyCase<'_> {
    /// Like [`enumerate`](Self::enumerate), but from a later call on. Checks only that some
    /// passphrase opens, or exactly the expected ones if the change had returned.
    fn enumerate_from(&self, from: u64) -> Tally {
        let count = self.start();
        assert!((self.run)(&count), "the second process failed");
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
                    Ok(found) if !found.contains(&true) => Some("no passphrase opens".to_owned()),
                    Ok(found) if returned && found != self.after => Some(format!(
                        "it had returned, but {found:?} open instead of {:?}",
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
        // with another key in the repository
        let (before, after) = ([true, false, true, false], [false, true, true, false]);
        tally.add(crash(before, after, SECRET, Step::Change(NEW), false));
        tally
    });
}

#[test]
fn removing_a_key() {
    report("remove a key", Flavor::sealed(), || {
        let mut tally = crash(BOTH, ONLY_NEW, NEW, Step::Remove(SECRET), false);
        // a process removes the key that it was opened with
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
        // when the old key is removed, the name of the new one may not be flushed
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
        // a removal that is killed, followed by a change of the other key
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
        assert!(!violations.is_empty(), "{step:?}: no violation was found");
    }
}
