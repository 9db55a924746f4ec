//! Every call to the file system fails once, in each way that a system can fail, during each
//! operation.
//!
//! The operation succeeds or fails with a typed error. After that the same handle still reads. It
//! also writes, unless a flush had failed: then it may require to be opened again. A new handle,
//! with and without a power cut, finds every committed snapshot complete, ingests, and prunes.
#![cfg(unix)]

mod failing;
mod reading;

use crate::crash::harness::{check_all, check_verify, copy, prepared, prune_clears_up};
use crate::crash::world::*;
use crate::support::{Flavor, passphrase};
use containerarchive::entropy::SeededEntropy;
use containerarchive::id::SnapshotId;
use containerarchive::lock::{Lease, lease};
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, KeyOptions, PruneOptions};
use containerarchive::repo::Repository;
use containerarchive::storage::LocalStorage;
use containerarchive::storage::simfs::{LossModel, SimFs};
use containerarchive::{Error, Result};
use failing::{Call, FAULTS, Failing, Fault, Order};
use std::sync::Arc;
use std::time::Instant;

/// The operation during which a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Open,
    Ingest,
    IngestSeveral,
    Restore,
    Verify,
    PruneThatDeletes,
    PruneThatRewrites,
    Forget,
    Repair,
    Reindex,
    Unlock,
    AddKey,
}

/// A disk on which an operation is tried.
struct Stage {
    operation: Operation,
    flavor: Flavor,
    disk: SimFs,
    before: Vec<Ack>,
    /// Snapshots that the operation removes. They may still exist if it fails.
    removed_ids: Vec<SnapshotId>,
}

impl Stage {
    fn new(operation: Operation) -> Self {
        let flavor = match operation {
            Operation::AddKey => Flavor::sealed(),
            _ => Flavor::plain(),
        };
        let (numbers, removed): (&[usize], usize) = match operation {
            Operation::PruneThatDeletes => (&[SMALL, SMALL + 1, BASE], SMALL + 1),
            _ => (&[PAIR, SMALL, SMALL + 2], PAIR),
        };
        let (disk, promised) = prepared(flavor, numbers);
        let removes = matches!(
            operation,
            Operation::Forget | Operation::PruneThatDeletes | Operation::PruneThatRewrites
        );
        let removed_ids = promised.snapshots.iter().filter(|ack| removes && ack.1 == removed);
        let removed_ids = removed_ids.map(|ack| ack.0).collect();
        let lost = |ending: &str| {
            disk.snapshot_files()
                .into_keys()
                .find(|path| path.ends_with(ending))
                .unwrap()
        };
        match operation {
            Operation::Repair => disk.damage(&lost(".pack"), None).unwrap(),
            Operation::Reindex => disk.damage(&lost(".seg"), None).unwrap(),
            // leases of dead sessions, so that there is something to remove
            Operation::Unlock => (7..10).for_each(|number| {
                let (session, begun) = (SnapshotId([number; 16]), "2026-01-01T00:00:00.000Z".to_owned());
                let lease = Lease::take(&store(&disk, 9), session, lease::INGEST, begun);
                lease.unwrap().leave();
            }),
            _ => {}
        }
        Self {
            operation,
            flavor,
            disk,
            before: promised.snapshots,
            removed_ids,
        }
    }

    fn perform(&self, repo: &Arc<Repository>) -> Result<Vec<Ack>> {
        let mut promised = Vec::new();
        match self.operation {
            Operation::Open => {}
            Operation::Ingest => promised.push((ingest_source(repo, BASE)?.id, BASE)),
            Operation::IngestSeveral => promised.push((ingest_source(repo, SEVERAL)?.id, SEVERAL)),
            Operation::Restore => {
                let snapshot = ops::get_snapshot(repo, &self.before[0].0.to_hex())?;
                match compare(repo, &snapshot) {
                    Err(problem) if problem.contains("other bytes") => panic!("{problem}"),
                    // it failed with an error
                    _ => {}
                }
            }
            Operation::Verify => {
                let options = ops::VerifyOptions {
                    level: ops::VerifyLevel::Full,
                    subset: None,
                };
                ops::verify(repo, &options, &NullMonitor, &mut |_| ())?;
            }
            Operation::PruneThatDeletes | Operation::PruneThatRewrites => {
                ops::forget(repo, &self.removed_ids)?;
                let options = PruneOptions {
                    max_unused: 0.0,
                    ..PruneOptions::keep_all()
                };
                ops::prune(repo, &options, &NullMonitor)?;
            }
            Operation::Forget => drop(ops::forget(repo, &self.removed_ids)?),
            Operation::Repair => drop(ops::repair(repo, &NullMonitor)?),
            Operation::Reindex => ops::reindex(repo, &NullMonitor)?,
            Operation::Unlock => drop(ops::unlock(repo, true)?),
            Operation::AddKey => {
                let options = KeyOptions {
                    kdf: self.flavor.small().kdf,
                    label: None,
                };
                ops::add_key(repo, &passphrase(), &options, &NullMonitor)?;
            }
        }
        Ok(promised)
    }

    fn open(&self, disk: &SimFs, order: &Arc<Order>) -> Result<Arc<Repository>> {
        let vfs = Failing {
            disk: disk.clone(),
            order: Arc::clone(order),
        };
        let storage = LocalStorage::new(Arc::new(vfs), Arc::new(SeededEntropy::new(5)));
        crate::support::open(hands(storage, 100).environment, self.flavor)
    }

    /// Returns the number of calls of the operation without a failure.
    fn calls(&self) -> u64 {
        let disk = copy(&self.disk);
        let order = Arc::new(Order::default());
        let repo = self.open(&disk, &order).unwrap();
        let before = if self.operation == Operation::Open {
            0
        } else {
            order.calls()
        };
        self.perform(&repo).unwrap();
        order.calls() - before
    }

    /// Lets one call fail. Returns the violation, if there is one, and the failed call.
    fn fail(&self, number: u64, fault: Fault, both: bool) -> (std::result::Result<(), String>, Option<Call>) {
        let disk = copy(&self.disk);
        let order = Arc::new(Order::default());
        if self.operation == Operation::Open {
            order.fail(number, fault);
        }
        let opened = self.open(&disk, &order);
        if self.operation != Operation::Open {
            order.fail(number, fault);
        }
        let mut promised = self.before.clone();
        let performed = match &opened {
            Ok(repo) => self.perform(repo).map(|new| promised.extend(new)),
            Err(error) => Err(error.clone()),
        };
        let hit = order.take_back();
        promised.retain(|ack| !self.removed_ids.contains(&ack.0));
        let judged = performed.map_or_else(|error| typed("the operation", &error), |()| Ok(()));
        let judged = judged.and_then(|()| match &opened {
            Ok(repo) => self.go_on(repo, &mut promised, hit.as_ref()),
            Err(_) => Ok(()),
        });
        drop(opened);
        let judged = judged.and_then(|()| {
            let cut = fault == Fault::ShortRead || number.is_multiple_of(2);
            if cut || both {
                let image = disk.after_power_loss(&LossModel::NothingUnsynced);
                let checked = self.check(&image, &promised);
                checked.map_err(|problem| format!("after a power cut: {problem}"))?;
            }
            match !cut || both {
                true => self.check(&disk, &promised),
                false => Ok(()),
            }
        });
        (judged, hit)
    }

    /// Checks that the same handle reads, and writes unless a flush had failed.
    fn go_on(
        &self,
        repo: &Arc<Repository>,
        promised: &mut Vec<Ack>,
        hit: Option<&Call>,
    ) -> std::result::Result<(), String> {
        let (id, _) = promised.last().ok_or("nothing was promised")?;
        let snapshot = ops::get_snapshot(repo, &id.to_hex()).map_err(|error| format!("the handle: {error}"))?;
        compare(repo, &snapshot).map_err(|problem| format!("the handle: {problem}"))?;
        // nor does a handle write that could not try the locks when it was opened
        let is_closed = self.operation == Operation::Open || hit.is_some_and(|(call, _)| call.starts_with("fsync"));
        match ingest_source(repo, HALF_SHARED) {
            Ok(snapshot) => promised.push((snapshot.id, HALF_SHARED)),
            Err(error) if is_closed => typed("the next ingest", &error)?,
            Err(error) => return Err(format!("the handle: the next ingest failed: {error}")),
        }
        Ok(())
    }

    /// Checks the repository with a new handle.
    fn check(&self, disk: &SimFs, promised: &[Ack]) -> std::result::Result<(), String> {
        let repo = open_on(disk, self.flavor, 1000).map_err(|error| format!("open: {error}"))?;
        if self.operation == Operation::Repair {
            ops::repair(&repo, &NullMonitor).map_err(|error| format!("repair: {error}"))?;
        }
        let listed = check_all(&repo)?;
        if let Some((id, _)) = promised.iter().find(|ack| !listed.contains(ack)) {
            return Err(format!("promise: snapshot {id} is missing"));
        }
        check_verify(&repo).map_err(|problem| format!("verify: {problem}"))?;
        let next = ingest_source(&repo, CHANGED).map_err(|error| format!("go on: {error}"))?;
        compare(&repo, &next).map_err(|problem| format!("go on: {problem}"))?;
        prune_clears_up(&repo).map_err(|problem| format!("prune: {problem}"))
    }
}

fn typed(what: &str, error: &Error) -> std::result::Result<(), String> {
    match error.code() {
        "ERR_INTERNAL" => Err(format!("{what} failed with {error}")),
        _ => Ok(()),
    }
}

/// Tries the calls of an operation, each with one fault in turn, or with all of them.
#[expect(clippy::print_stdout, reason = "the record of a run contains what was tried")]
fn try_out(operation: Operation) {
    let deep = std::env::var_os("CONTAINERARCHIVE_DEEP").is_some();
    let stage = Stage::new(operation);
    let start = Instant::now();
    let calls = stage.calls();
    let stride = if deep { 1 } else { calls.div_ceil(15).max(1) };
    let (mut tried, mut violations) = (0u64, Vec::new());
    for number in (0..calls).step_by(stride as usize) {
        for (kind, fault) in FAULTS.into_iter().enumerate() {
            // spread over the calls that are tried
            if !deep && !(number / stride + kind as u64).is_multiple_of(3) {
                continue;
            }
            let (judged, hit) = stage.fail(number, fault, deep);
            tried += 1;
            violations.extend(
                judged
                    .err()
                    .map(|problem| format!("{fault:?} at call {number} {hit:?}: {problem}")),
            );
        }
    }
    println!(
        "faults: {operation:?}: {tried} tried on {calls} calls, {} violations, {:.1} s",
        violations.len(),
        start.elapsed().as_secs_f64()
    );
    let shown: Vec<&String> = violations.iter().take(12).collect();
    assert!(
        shown.is_empty(),
        "{operation:?}: {} violations: {shown:#?}",
        violations.len()
    );
}

/// A separate test for each operation, so that they run in parallel.
macro_rules! operations {
    ($($name:ident $operation:ident)*) => {
        $(#[test] fn $name() { try_out(Operation::$operation); })*
    };
}

operations! {
    a_call_fails_while_a_repository_is_opened Open
    a_call_fails_during_an_ingest Ingest
    a_call_fails_during_an_ingest_of_several_items IngestSeveral
    a_call_fails_during_a_restore Restore
    a_call_fails_during_a_verify Verify
    a_call_fails_during_a_prune_that_deletes PruneThatDeletes
    a_call_fails_during_a_prune_that_rewrites PruneThatRewrites
    a_call_fails_during_a_forget Forget
    a_call_fails_during_a_repair Repair
    a_call_fails_during_a_reindex Reindex
    a_call_fails_during_an_unlock Unlock
    a_call_fails_while_a_key_is_added AddKey
}
