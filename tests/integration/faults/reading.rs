//! Every read fails, once or permanently, during each operation that judges what it reads.
//!
//! A failed read gives no information about the file. Nothing is reported damaged or missing, no
//! file is moved, no index entry is lost, and neither the handle nor the repository keeps any state
//! from the failure.

use super::failing::{Call, Failing, Order, ReadOrder};
use crate::crash::harness::{check_all, check_verify, copy, prepared};
use crate::crash::world::*;
use crate::support::Flavor;
use containerarchive::Result;
use containerarchive::entropy::SeededEntropy;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, PruneOptions, RepairReport, VerifyLevel, VerifyOptions, VerifyReport};
use containerarchive::repo::Repository;
use containerarchive::storage::LocalStorage;
use containerarchive::storage::simfs::SimFs;
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::sync::Arc;

/// No free descriptors, a bad sector, no permission, a handle that the server no longer knows.
const FAILURES: [Errno; 4] = [Errno::MFILE, Errno::IO, Errno::ACCESS, Errno::STALE];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Open,
    VerifyQuick,
    VerifyFull,
    Reindex,
    Repair,
    Prune,
}

struct Stage {
    operation: Operation,
    flavor: Flavor,
    disk: SimFs,
    snapshots: Vec<Ack>,
    /// Snapshots that a prune removes.
    removed: Vec<Ack>,
    files: BTreeMap<String, Vec<u8>>,
}

/// The result of an operation.
enum Done {
    Nothing,
    Verified(VerifyReport),
    Repaired(RepairReport),
}

impl Stage {
    fn new(operation: Operation, flavor: Flavor) -> Self {
        let (disk, promised) = prepared(flavor, &[PAIR, SMALL, SMALL + 2]);
        let is_pruned = |ack: &Ack| operation == Operation::Prune && ack.1 == PAIR;
        let (removed, snapshots) = promised.snapshots.into_iter().partition(is_pruned);
        Self {
            operation,
            flavor,
            files: disk.snapshot_files(),
            disk,
            snapshots,
            removed,
        }
    }

    fn open(&self, disk: &SimFs, order: &Arc<Order>) -> Result<Arc<Repository>> {
        let vfs = Failing {
            disk: disk.clone(),
            order: Arc::clone(order),
        };
        let storage = LocalStorage::new(Arc::new(vfs), Arc::new(SeededEntropy::new(5)));
        crate::support::open(hands(storage, 100).environment, self.flavor)
    }

    fn perform(&self, repo: &Arc<Repository>) -> Result<Done> {
        match self.operation {
            Operation::Open => {}
            Operation::VerifyQuick => return Ok(Done::Verified(verify(repo, VerifyLevel::Quick)?)),
            Operation::VerifyFull => return Ok(Done::Verified(verify(repo, VerifyLevel::Full)?)),
            Operation::Reindex => ops::reindex(repo, &NullMonitor)?,
            Operation::Repair => {
                return Ok(Done::Repaired(ops::repair(repo, &NullMonitor)?));
            }
            Operation::Prune => {
                ops::forget(repo, &self.removed.iter().map(|ack| ack.0).collect::<Vec<_>>())?;
                let options = PruneOptions {
                    max_unused: 0.0,
                    ..PruneOptions::keep_all()
                };
                ops::prune(repo, &options, &NullMonitor)?;
            }
        }
        Ok(Done::Nothing)
    }

    /// Returns the number of reads of the operation without a failure.
    fn reads(&self) -> u64 {
        let (disk, order) = (copy(&self.disk), Arc::new(Order::default()));
        let repo = self.open(&disk, &order).unwrap();
        let opening = order.reads();
        if self.operation == Operation::Open {
            return opening;
        }
        self.perform(&repo).unwrap();
        order.reads() - opening
    }

    /// Lets one read fail. Returns the violation, if there is one, and the failed read.
    fn fail(&self, how: ReadOrder) -> (std::result::Result<(), String>, Option<Call>) {
        let (disk, order) = (copy(&self.disk), Arc::new(Order::default()));
        if self.operation == Operation::Open {
            order.fail_read(how);
        }
        let repo = self.open(&disk, &order);
        if self.operation != Operation::Open {
            order.fail_read(how);
        }
        let done = repo.as_ref().map_err(Clone::clone).and_then(|repo| self.perform(repo));
        let hit = order.take_back();
        // leases are only hints, and so are half-written files
        let counts = |path: &str| !path.is_empty() && !path.starts_with("locks");
        let lasting = how.lasting && hit.as_ref().is_some_and(|(_, path)| counts(path));
        let judged = self.judge(&disk, repo, done, lasting);
        (judged, hit)
    }

    fn judge(
        &self,
        disk: &SimFs,
        repo: Result<Arc<Repository>>,
        done: Result<Done>,
        lasting: bool,
    ) -> std::result::Result<(), String> {
        match done {
            Ok(Done::Verified(report)) => {
                let mut codes = report.problems.iter().map(|problem| problem.code);
                if let Some(code) = codes.find(|code| *code != "ERR_UNREADABLE") {
                    return Err(format!("verify says {code}: {:?}", report.problems));
                }
                if lasting && report.ok() {
                    return Err("verify is ok although a read failed".to_owned());
                }
            }
            Ok(Done::Nothing) => {}
            Ok(Done::Repaired(report)) => {
                if report.lost_chunks > 0 || !report.damaged_snapshots.is_empty() {
                    return Err(format!("repair reports a loss: {report:?}"));
                }
                // the only change that a repair may make is to replace a file with the same bytes
                if lasting && disk.snapshot_files().len() == self.files.len() {
                    return Err("repair succeeded although a read failed".to_owned());
                }
            }
            Err(error) => {
                let code = error.code();
                let expected = ["ERR_UNREADABLE", "ERR_STORAGE", "ERR_PERMISSION"];
                if !expected.contains(&code) {
                    return Err(format!("failed with {code}: {error}"));
                }
                if code == "ERR_UNREADABLE" && !error.retryable() {
                    return Err(format!("{error} is not retryable"));
                }
            }
        }
        self.files_stay(disk)?;
        if let Ok(repo) = &repo {
            let report = verify(repo, VerifyLevel::Full).map_err(|error| format!("later, the handle: {error}"))?;
            if !report.ok() {
                return Err(format!("later, the handle: {:?}", report.problems));
            }
            let found = check_all(repo).map_err(|problem| format!("later, the handle: {problem}"))?;
            self.all_there(&found)?;
        }
        drop(repo);
        let fresh = open_on(disk, self.flavor, 1000).map_err(|error| format!("a fresh handle: {error}"))?;
        check_verify(&fresh).map_err(|problem| format!("a fresh handle: {problem}"))?;
        self.all_there(&check_all(&fresh)?)
    }

    fn all_there(&self, found: &[Ack]) -> std::result::Result<(), String> {
        match self.snapshots.iter().find(|ack| !found.contains(ack)) {
            Some((id, _)) => Err(format!("snapshot {id} is missing")),
            None => Ok(()),
        }
    }

    /// Checks that every file is unchanged, except segments and what a prune removes.
    fn files_stay(&self, disk: &SimFs) -> std::result::Result<(), String> {
        let now = disk.snapshot_files();
        let may_go = |path: &str| {
            path.ends_with(".seg")
                || (self.operation == Operation::Prune && !path.starts_with("keys/") && path != "config.json")
        };
        let mut stay = self.files.iter().filter(|(path, _)| !may_go(path));
        match stay.find(|(path, bytes)| now.get(*path) != Some(*bytes)) {
            Some((path, _)) => Err(format!("{path} was moved or changed")),
            None => Ok(()),
        }
    }
}

fn verify(repo: &Arc<Repository>, level: VerifyLevel) -> Result<VerifyReport> {
    let options = VerifyOptions { level, subset: None };
    ops::verify(repo, &options, &NullMonitor, &mut |_| ())
}

/// Tries the reads of an operation, each with some of the failures.
#[expect(clippy::print_stdout, reason = "the record of a run contains what was tried")]
fn try_out(operation: Operation, flavor: Flavor) {
    let deep = std::env::var_os("CONTAINERARCHIVE_DEEP").is_some();
    let stage = Stage::new(operation, flavor);
    let reads = stage.reads();
    let stride = if deep { 1 } else { reads.div_ceil(40).max(1) };
    let (mut tried, mut violations) = (0u64, Vec::new());
    for (step, number) in (0u64..).zip((0..reads).step_by(stride as usize)) {
        for (kind, errno) in (0u64..).zip(FAILURES) {
            for lasting in [false, true] {
                // spread over the reads that are tried
                if !deep && !(step + kind * 2 + u64::from(lasting)).is_multiple_of(4) {
                    continue;
                }
                let (judged, hit) = stage.fail(ReadOrder { number, errno, lasting });
                tried += 1;
                let with_context =
                    |problem| format!("{errno:?}, lasting {lasting}, at read {number} {hit:?}: {problem}");
                violations.extend(judged.err().map(with_context));
            }
        }
    }
    println!(
        "reads that fail: {operation:?}: {tried} tried on {reads} reads, {} violations",
        violations.len()
    );
    let shown: Vec<&String> = violations.iter().take(12).collect();
    assert!(
        shown.is_empty(),
        "{operation:?}: {} violations: {shown:#?}",
        violations.len()
    );
}

macro_rules! operations {
    ($($name:ident $operation:ident $flavor:ident)*) => {
        $(#[test] fn $name() { try_out(Operation::$operation, Flavor::$flavor()); })*
    };
}

operations! {
    a_failed_read_is_no_damage_to_an_open Open sealed
    a_failed_read_is_no_damage_to_a_quick_verify VerifyQuick plain
    a_failed_read_is_no_damage_to_a_full_verify VerifyFull sealed
    a_failed_read_is_no_damage_to_a_reindex Reindex plain
    a_failed_read_is_no_damage_to_a_repair Repair sealed
    a_failed_read_is_no_damage_to_a_prune Prune plain
}
