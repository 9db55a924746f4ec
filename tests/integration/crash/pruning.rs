//! Power cuts and kills at every mutating call of a prune.
//!
//! After each of them, everything that the prune keeps is there and complete without any manual
//! step. What it deletes may reappear completely, or stay deleted. A later prune deletes the rest.

use super::harness::{Case, Depth, Tally, copy, prepared, report, stride};
use super::process::{Process, Schedule};
use super::world::*;
use crate::support::{Flavor, open};
use containerarchive::entropy::SeededEntropy;
use containerarchive::id::SnapshotId;
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, PruneOptions};
use containerarchive::storage::LocalStorage;
use containerarchive::storage::simfs::SimFs;

/// Forgets some snapshots and prunes. The first failure ends it.
fn prunes(disk: &SimFs, flavor: Flavor, seed: u64, forget: &[SnapshotId]) -> Promised {
    prunes_on(store(disk, seed), flavor, seed, None, forget)
}

fn prunes_on(storage: LocalStorage, flavor: Flavor, seed: u64, bug: Option<Bug>, forget: &[SnapshotId]) -> Promised {
    let promised = Promised {
        repository: true,
        ..Promised::default()
    };
    let Ok(repo) = open(hands(storage, seed).environment, flavor) else {
        return promised;
    };
    misbehave(&repo, bug);
    let options = PruneOptions {
        max_unused: 0.0,
        ..PruneOptions::keep_all()
    };
    if forget.is_empty() || ops::forget(&repo, forget).is_ok() {
        let _ = ops::prune(&repo, &options, &NullMonitor);
    }
    promised
}

/// Returns a disk with snapshots of `numbers`, the snapshots that remain, and those of `removed`,
/// which are to be forgotten.
fn history(flavor: Flavor, numbers: &[usize], removed: &[usize]) -> (SimFs, Promised, Vec<SnapshotId>) {
    let (disk, mut promised) = prepared(flavor, numbers);
    let is_removed = |ack: &&Ack| removed.contains(&ack.1);
    let to_forget = promised.snapshots.iter().filter(is_removed).map(|ack| ack.0).collect();
    promised.snapshots.retain(|ack| !removed.contains(&ack.1));
    (disk, promised, to_forget)
}

/// Creates a case on a copy of the disk, with what had been promised on it. An ingest and a prune
/// follow the crash.
fn case<'a>(
    flavor: Flavor,
    (disk, before): (&SimFs, &Promised),
    run: &'a dyn Fn(&SimFs) -> Promised,
    from: u64,
) -> Case<'a> {
    Case {
        flavor,
        disk: copy(disk),
        before: before.clone(),
        next: SMALL + SMALL_ONES,
        run,
        from,
        bug: None,
        prunes: true,
    }
}

fn crash_prune(flavor: Flavor, numbers: &[usize], removed: &[usize], depth: Depth) -> Tally {
    let (disk, before, to_forget) = history(flavor, numbers, removed);
    let run = |disk: &SimFs| prunes(disk, flavor, 100, &to_forget);
    let case = case(flavor, (&disk, &before), &run, 0);
    case.enumerate(depth)
}

/// Returns the mutating calls of a prune of this history.
fn calls(flavor: Flavor, numbers: &[usize], removed: &[usize]) -> Vec<(&'static str, String)> {
    let (disk, _, to_forget) = history(flavor, numbers, removed);
    let disk = copy(&disk);
    prunes(&disk, flavor, 100, &to_forget);
    disk.log()
}

fn count(calls: &[(&'static str, String)], op: &str, ending: &str) -> usize {
    calls
        .iter()
        .filter(|(name, path)| *name == op && path.ends_with(ending))
        .count()
}

/// Deletes complete packs and copies nothing.
pub fn prune_that_only_deletes(flavor: Flavor) {
    report("prune that only deletes", flavor, || {
        let (numbers, removed) = ([SMALL, BASE, SMALL + 1], [BASE]);
        assert!(count(&calls(flavor, &numbers, &removed), "unlink", ".pack") >= 2);
        crash_prune(flavor, &numbers, &removed, Depth::of(flavor))
    });
}

/// Copies chunks that are still needed out of packs, and removes members of parity groups.
pub fn prune_that_rewrites(flavor: Flavor) {
    report("prune that rewrites", flavor, || {
        let (numbers, removed) = ([BASE, CHANGED, SMALL], [BASE]);
        let made = calls(flavor, &numbers, &removed);
        assert!(count(&made, "unlink", ".pack") >= 1 && count(&made, "unlink", ".grp") >= 1);
        crash_prune(flavor, &numbers, &removed, Depth::of(flavor))
    });
}

/// Removes everything but one small snapshot, and with it complete parity groups.
pub fn prune_that_empties_groups(flavor: Flavor) {
    report("prune that empties groups", flavor, || {
        crash_prune(flavor, &[BASE, SEVERAL, SMALL], &[BASE, SEVERAL], Depth::of(flavor))
    });
}

/// Without a free inode, the forget and the prune delete the reserve and run without a lease.
pub fn prune_without_free_inodes(flavor: Flavor) {
    report("forget and prune without free inodes", flavor, || {
        let (disk, before, to_forget) = history(flavor, &[BASE, CHANGED, SMALL], &[BASE]);
        let run = |disk: &SimFs| {
            disk.set_free_inodes(Some(0));
            prunes(disk, flavor, 100, &to_forget)
        };
        let case = case(flavor, (&disk, &before), &run, 0);
        let made = case.calls();
        assert!(
            count(&made, "unlink", layout::RESERVE) >= 2,
            "both need the reserve: {made:?}"
        );
        assert!(count(&made, "unlink", ".pack") >= 1, "{made:?}");
        case.enumerate(Depth::coarse(flavor))
    });
}

/// Combines small packs into few.
pub fn prune_that_combines_small_packs(flavor: Flavor) {
    report("prune that combines small packs", flavor, || {
        let numbers: Vec<usize> = (SMALL..SMALL + 9).collect();
        let made = calls(flavor, &numbers, &[]);
        assert!(count(&made, "unlink", ".pack") >= 16, "{made:?}");
        let depth = Depth {
            again: 1,
            ..Depth::coarse(flavor)
        };
        crash_prune(flavor, &numbers, &[], depth)
    });
}

/// A forget alone: if it returned, the snapshots are forgotten; if it was interrupted, they may be.
pub fn forget_of_some(flavor: Flavor) {
    report("forget of some", flavor, || {
        let (disk, before, to_forget) = history(flavor, &[SEVERAL, SMALL, BASE, SMALL + 1], &[SEVERAL, SMALL]);
        let run = |disk: &SimFs| {
            let forgets = |repo: &_| ops::forget(repo, &to_forget);
            let forgotten = open_on(disk, flavor, 100).and_then(|repo| forgets(&repo));
            Promised {
                repository: true,
                forgotten: forgotten.unwrap_or_default(),
                ..Promised::default()
            }
        };
        let case = case(flavor, (&disk, &before), &run, 0);
        let depth = Depth::of(flavor);
        let tally = case.enumerate(Depth {
            again: depth.again / 2,
            ..depth
        });
        assert_eq!(run(&copy(&case.disk)).forgotten.len(), 2);
        tally
    });
}

/// Removes leases by force. The first failure ends it.
fn unlocks(disk: &SimFs, flavor: Flavor, seed: u64) -> usize {
    let removed = open_on(disk, flavor, seed).and_then(|repo| ops::unlock(&repo, true));
    removed.map_or(0, |removed| removed.len())
}

/// An ingest is killed at each of its calls; another process unlocks and ingests the same data.
pub fn unlock_after_a_killed_ingest(flavor: Flavor) {
    report("unlock after a killed ingest", flavor, || {
        let (disk, before) = prepared(flavor, &[SMALL]);
        let calls = {
            let disk = copy(&disk);
            ingests(&disk, flavor, 100, None, &[BASE]);
            disk.log().len() as u64
        };
        let mut tally = Tally::default();
        for killed in (3..calls).step_by(stride(41, 7)) {
            let run = |disk: &SimFs| {
                killed_ingests(disk, flavor, 100, killed, &[BASE]);
                unlocks(disk, flavor, 300);
                ingests(disk, flavor, 200, None, &[BASE])
            };
            let case = case(flavor, (&disk, &before), &run, killed);
            tally.add(case.enumerate(Depth::coarse(flavor)));
        }
        tally
    });
}

/// An ingest is held at each of its calls while its lease is removed by force, and then continues.
pub fn unlock_concurrent_with_an_ingest(flavor: Flavor) {
    report("unlock concurrent with an ingest", flavor, || {
        let (disk, before) = prepared(flavor, &[SMALL]);
        let calls = {
            let disk = copy(&disk);
            ingests(&disk, flavor, 200, None, &[BASE]);
            disk.log().len() as u64
        };
        let mut tally = Tally::default();
        let mut records = 0;
        for held in (3..calls).step_by(stride(29, 5)) {
            let run = |disk: &SimFs| {
                let (ingest, unlock) = (
                    |disk: &SimFs| ingests(disk, flavor, 200, None, &[BASE]),
                    |disk: &SimFs| {
                        unlocks(disk, flavor, 300);
                        Promised::default()
                    },
                );
                side_by_side(disk, Schedule::Hold(held), [&ingest, &unlock])
            };
            let case = case(flavor, (&disk, &before), &run, held);
            let calls = case.calls();
            records += usize::from(calls.iter().any(|(_, path)| path.starts_with(layout::RECORDS)));
            tally.add(case.enumerate(Depth::coarse(flavor)));
        }
        assert!(records > 0, "nothing was unlocked");
        tally
    });
}

/// A prune is killed at each of its calls, and the power is cut while the next prune resumes.
pub fn prune_after_one_that_was_killed(flavor: Flavor) {
    report("prune after one that was killed", flavor, || {
        let (disk, before, to_forget) = history(flavor, &[BASE, CHANGED, SMALL], &[BASE]);
        let calls = {
            let disk = copy(&disk);
            prunes(&disk, flavor, 100, &to_forget);
            disk.log()
        };
        let mut tally = Tally::default();
        for killed in (0..calls.len() as u64).step_by(stride(14, 9)) {
            let run = |disk: &SimFs| {
                let process = Process::killed_after(disk, killed);
                let storage =
                    LocalStorage::new(std::sync::Arc::new(process), std::sync::Arc::new(SeededEntropy::new(7)));
                prunes_on(storage, flavor, 100, None, &to_forget);
                prunes(disk, flavor, 101, &[])
            };
            let case = case(flavor, (&disk, &before), &run, killed);
            tally.add(case.enumerate(Depth::coarse(flavor)));
        }
        tally
    });
}

/// A prune that takes turns with an ingest of data that the prune finds unused.
pub fn prune_concurrent_with_an_ingest(flavor: Flavor) {
    report("prune concurrent with an ingest of what it removes", flavor, || {
        let (disk, before, to_forget) = history(flavor, &[BASE, SMALL], &[BASE]);
        let mut tally = Tally::default();
        for schedule in [Schedule::RoundRobin, Schedule::Seeded(1), Schedule::Seeded(2)] {
            let run = |disk: &SimFs| {
                let (ingest, prune) = (
                    |disk: &SimFs| ingests(disk, flavor, 200, None, &[CHANGED]),
                    |disk: &SimFs| prunes(disk, flavor, 100, &to_forget),
                );
                side_by_side(disk, schedule, [&ingest, &prune])
            };
            let case = case(flavor, (&disk, &before), &run, 0);
            tally.add(case.enumerate(Depth::coarse(flavor)));
        }
        tally
    });
}

/// Returns what the enumeration finds with a bug seeded into a prune, up to the first violation of
/// this kind.
pub fn violations_of_prune(flavor: Flavor, bug: Option<Bug>, kind: &'static str) -> Vec<String> {
    // the next ingest needs the data that the prune deletes
    let (disk, before, to_forget) = history(flavor, &[BASE, CHANGED, SMALL], &[BASE]);
    let run = |disk: &SimFs| prunes_on(store_with(disk, 100, bug), flavor, 100, bug, &to_forget);
    let case = Case {
        flavor,
        disk,
        before,
        next: BASE,
        run: &run,
        from: 0,
        bug,
        prunes: true,
    };
    case.enumerate(Depth::hunt(kind)).violations
}
