//! Hostile repositories: a table of named attacks, each tried through every public operation.
//!
//! Each case is a real directory (links, pipes and devices are part of it) with something planted,
//! forged, swapped or falsified. Checksums are recomputed, so that false values reach the parser
//! after them. The repository is opened, listed, read, verified, written to, repaired and swept.
//! Every operation returns the right result or an error with a code that is no bug's. Known
//! snapshots restore to their bytes or fail, but never give other bytes. A case takes at most 5
//! seconds of CPU and 256 MB of memory, and nothing outside the directory changes. The expected
//! error codes are part of the table.
//!
//! Each case runs in a separate process, which measures its own CPU time and peak memory. This, and
//! file names that other systems refuse, restrict the tests to Linux. Large cases are five times as
//! large with `CONTAINERARCHIVE_DEEP=1`.

mod config;
mod foreign;
mod forge;
mod index;
mod keys;
mod kinds;
mod lists;
mod manifests;
mod marks;
mod packs;
mod parity;
mod scene;

use crate::support::faults::*;
use crate::support::*;
use containerarchive::id::SnapshotId;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, PruneOptions, RestoreOptions, VerifyLevel, VerifyOptions};
use containerarchive::repo::Repository;
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::snapshot::retention::{Keep, RetentionPolicy};
use containerarchive::{Error, Result};
use scene::{Scene, victim};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// The maximum CPU time of a case, in seconds.
const MAX_CPU: f64 = 5.0;
/// The maximum memory of the process during a case, in bytes.
const MAX_MEMORY: u64 = 256 << 20;
/// The number of bytes of a restore of unknown data after which it is cancelled.
const ENOUGH: usize = 16 << 10;

/// Returns the size of a large case: `deep` with `CONTAINERARCHIVE_DEEP`, else a fifth of it.
fn many(deep: usize) -> usize {
    match std::env::var_os("CONTAINERARCHIVE_DEEP").is_some() {
        true => deep,
        false => deep / 5,
    }
}

/// The repository that is attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Neither encrypted nor protected by parity: an attacker with write access can forge anything,
    /// and nothing is healed.
    Bare,
    /// Not encrypted, with parity.
    Plain,
    /// Encrypted, with parity.
    Sealed,
}
use Kind::{Bare, Plain, Sealed};

/// One attack.
struct Case {
    name: &'static str,
    kind: Kind,
    /// Changes the repository.
    attack: fn(&Scene),
    /// The expected results, as `operation=codes`; an operation that is not named returns `ok`.
    expect: &'static str,
}

/// A row of the table.
const fn case(kind: Kind, name: &'static str, expect: &'static str, attack: fn(&Scene)) -> Case {
    Case {
        name,
        kind,
        attack,
        expect,
    }
}

/// The result of each operation.
type Outcome = BTreeMap<&'static str, String>;

fn joined(codes: BTreeSet<String>) -> String {
    match codes.is_empty() {
        true => "ok".to_owned(),
        false => codes.into_iter().collect::<Vec<_>>().join("+"),
    }
}

fn code_of<T>(result: Result<T>) -> String {
    code(result).to_owned()
}

/// Restores a snapshot with unknown content, up to a limit.
fn restore_unknown(repo: &Arc<Repository>, id: &SnapshotId) -> String {
    let mut taken = 0;
    let restored = ops::plan_restore(repo, &id.to_hex(), &RestoreOptions::default()).and_then(|plan| {
        ops::restore(repo, &plan, &NullMonitor, &mut |bytes| {
            taken += bytes.len();
            if taken > ENOUGH { Err(Error::Cancelled) } else { Ok(()) }
        })
    });
    code_of(restored)
}

/// Restores all listed snapshots and all known ones.
fn restore_all(scene: &Scene, repo: &Arc<Repository>) -> String {
    let mut codes = BTreeSet::new();
    for (snapshot, data) in &scene.known.snapshots {
        match restore(repo, &snapshot.id.to_hex(), None) {
            Ok(bytes) => assert!(bytes == *data, "WRONG BYTES of snapshot {}", snapshot.id),
            Err(error) => drop(codes.insert(error.code().to_owned())),
        }
    }
    let listed = ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap_or_default();
    for id in listed.iter().map(|snapshot| snapshot.id) {
        if !scene.snapshots().contains(&id) {
            codes.insert(restore_unknown(repo, &id));
        }
    }
    codes.remove("ok");
    joined(codes)
}

/// Restores the known snapshots into files.
fn restore_into_files(scene: &Scene, repo: &Arc<Repository>) -> String {
    let folder = tempfile::tempdir_in(scene.parent.path()).unwrap();
    let mut codes = BTreeSet::new();
    for (number, (snapshot, data)) in scene.known.snapshots.iter().enumerate() {
        let path = folder.path().join(number.to_string());
        let restored = ops::plan_restore(repo, &snapshot.id.to_hex(), &RestoreOptions::default())
            .and_then(|plan| ops::restore_to_file(repo, &plan, &path, false, &NullMonitor));
        match restored {
            Ok(()) => assert!(std::fs::read(&path).unwrap() == *data, "WRONG BYTES in a file"),
            Err(error) => {
                assert!(!path.exists(), "a restore that failed left a file");
                codes.insert(error.code().to_owned());
            }
        }
    }
    joined(codes)
}

/// Returns the problems that all levels report.
fn verify_all(repo: &Arc<Repository>) -> String {
    let mut found = BTreeSet::new();
    for level in [VerifyLevel::Quick, VerifyLevel::Standard, VerifyLevel::Full] {
        let options = VerifyOptions { level, subset: None };
        match ops::verify(repo, &options, &NullMonitor, &mut |_| ()) {
            Ok(report) => found.extend(report.problems.iter().map(|problem| problem.code.to_owned())),
            Err(error) => drop(found.insert(format!("fails:{}", error.code()))),
        }
    }
    joined(found)
}

/// Runs a prune that keeps every snapshot.
fn prune_nothing(repo: &Arc<Repository>, dry_run: bool) -> String {
    let mut options = PruneOptions::new(RetentionPolicy {
        keep_last: Keep::Count(1000),
        ..RetentionPolicy::default()
    });
    options.dry_run = dry_run;
    code_of(ops::prune(repo, &options, &NullMonitor))
}

/// Ingests new data, which must restore.
fn ingest_fresh(repo: &Arc<Repository>) -> String {
    let fresh = random_bytes(77, 10_000);
    code_of(ingest(repo, &fresh).inspect(|snapshot| {
        let restored = restore(repo, &snapshot.id.to_hex(), None).unwrap();
        assert!(restored == fresh, "WRONG BYTES of a new snapshot");
    }))
}

/// Runs every public operation: first those that only read, then those that write.
fn run_operations(scene: &Scene) -> Outcome {
    let mut outcome = Outcome::new();
    let repo = match scene.open() {
        Ok(repo) => repo,
        Err(error) => {
            outcome.insert("open", error.code().to_owned());
            return outcome;
        }
    };
    outcome.insert("list", code_of(ops::list_snapshots(&repo, &SnapshotFilter::default())));
    let got = scene
        .snapshots()
        .into_iter()
        .map(|id| code_of(ops::get_snapshot(&repo, &id.to_hex())));
    outcome.insert("get", joined(got.filter(|code| code != "ok").collect()));
    outcome.insert("keys", code_of(ops::list_keys(&repo)));
    outcome.insert("locks", code_of(ops::locks(&repo)));
    outcome.insert("stats", code_of(ops::stats(&repo, &NullMonitor)));
    outcome.insert("restore", restore_all(scene, &repo));
    outcome.insert("files", restore_into_files(scene, &repo));
    outcome.insert("verify", verify_all(&repo));
    outcome.insert("prune", prune_nothing(&repo, true));
    outcome.insert("ingest", ingest_fresh(&repo));
    outcome.insert("repair", code_of(ops::repair(&repo, &NullMonitor)));
    drop(repo);
    let after = match scene.open() {
        Ok(repo) => restore_all(scene, &repo),
        Err(error) => format!("open:{}", error.code()),
    };
    outcome.insert("last", after_a_sweep(scene, &after));
    outcome.insert("after", after);
    outcome
}

/// Returns what restores after the repaired repository was reindexed, unlocked and swept: no less
/// than before.
fn after_a_sweep(scene: &Scene, before: &str) -> String {
    let swept = scene.open().map(|repo| {
        let mut codes = BTreeSet::from([
            format!("reindex:{}", code_of(ops::reindex(&repo, &NullMonitor))),
            format!("unlock:{}", code_of(ops::unlock(&repo, true))),
            format!("sweep:{}", prune_nothing(&repo, false)),
        ]);
        let restored = restore_all(scene, &repo);
        if restored != before {
            codes.insert(format!("restore:{restored}"));
        }
        codes.retain(|code| !code.ends_with(":ok"));
        joined(codes)
    });
    swept.unwrap_or_else(|error| format!("open:{}", error.code()))
}

/// Parses an expectation.
fn expected(text: &'static str) -> Outcome {
    text.split_whitespace()
        .map(|part| part.split_once('=').unwrap())
        .map(|(operation, code)| (operation, code.to_owned()))
        .collect()
}

/// Returns every name, kind and byte below a directory.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let bytes = std::fs::read(entry.path()).unwrap_or_default();
        found.insert(entry.path(), bytes);
    }
    found
}

/// Returns the user and system time of this process so far, in seconds.
fn cpu_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // after the process name, which may contain any character
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / 100.0
}

/// Resets the peak. Where this is refused, memory that the setup of the attack used counts too.
fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Returns the peak memory since [`reset_peak`], in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
}

fn all_cases() -> Vec<Case> {
    let tables = [
        config::CASES,
        keys::CASES,
        manifests::CASES,
        lists::CASES,
        packs::CASES,
        index::CASES,
        parity::CASES,
        marks::CASES,
        kinds::CASES,
        foreign::CASES,
    ];
    tables
        .into_iter()
        .flat_map(|cases| cases.iter().map(|case| Case { ..*case }))
        .collect()
}

/// Tries one case, and fails the test if it does not behave as expected.
#[expect(clippy::print_stdout, reason = "the record of a run contains what was tried")]
fn try_case(case: &Case) {
    let scene = Scene::new(victim(case.kind));
    (case.attack)(&scene);
    let outside = tree(&scene.outside());
    let around = tree(scene.parent.path());
    reset_peak();
    let before = cpu_time();
    let mut outcome = run_operations(&scene);
    let cpu = cpu_time() - before;
    let peak = peak_memory();
    outcome.retain(|_, codes| codes != "ok");
    let results: Vec<String> = outcome
        .iter()
        .map(|(operation, codes)| format!("{operation}={codes}"))
        .collect();
    println!("RESULT {cpu:.2} s, {} MB, {:?}", peak >> 20, results.join(" "));
    assert_eq!(
        outcome,
        expected(case.expect),
        "the results are {:?}",
        results.join(" ")
    );
    assert!(
        !results.iter().any(|codes| codes.contains("ERR_INTERNAL")),
        "{results:?}"
    );
    assert!(cpu <= MAX_CPU, "it took {cpu:.1} s");
    assert!(peak <= MAX_MEMORY, "it took {} MB", peak >> 20);
    assert!(tree(&scene.outside()) == outside, "something outside was changed");
    let now = tree(scene.parent.path());
    assert!(now.keys().eq(around.keys()), "{:?}", now.keys());
}

/// The name of the case that a process is to try.
const CASE: &str = "CONTAINERARCHIVE_HOSTILE_CASE";
/// Only cases whose name contains this are tried.
const ONLY: &str = "CONTAINERARCHIVE_HOSTILE_ONLY";

#[test]
#[ignore = "one case, in a process that another test starts"]
fn one_case() {
    if let Ok(name) = std::env::var(CASE) {
        try_case(all_cases().iter().find(|case| case.name == name).unwrap());
    }
}

/// Tries a case in a separate process. Returns its output line, and the failure if there is one.
fn in_a_process(case: &Case) -> (String, Option<String>) {
    let exe = std::env::current_exe().unwrap();
    let home = tempfile::tempdir().unwrap();
    // limits, so that a runaway process does not affect the machine
    let limits = "ulimit -t 60; ulimit -v 4000000; exec \"$0\" \"$@\"";
    let args = ["--exact", "hostile::one_case", "--ignored", "--nocapture"];
    let output = Command::new("sh")
        .args(["-c", limits])
        .arg(&exe)
        .args(args)
        .env(CASE, case.name)
        .current_dir(home.path())
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout
        .lines()
        .find(|line| line.starts_with("RESULT"))
        .unwrap_or("RESULT nothing")
        .to_owned();
    let problems = String::from_utf8_lossy(&output.stderr);
    let wrong = match (
        output.status.success() && stdout.contains("1 passed"),
        tree(home.path()).is_empty(),
    ) {
        (true, true) => None,
        (true, false) => Some("files were written to the working directory".to_owned()),
        (false, _) => {
            let reason = problems.lines().skip_while(|line| !line.contains("panicked")).take(6);
            Some(format!("{:?}: {}", output.status, reason.collect::<Vec<_>>().join(" ")))
        }
    };
    let wrong = wrong.map(|wrong| format!("{:?} {}: {line}: {wrong}", case.kind, case.name));
    (line, wrong)
}

#[test]
fn every_hostile_repository_is_a_named_error_or_harmless() {
    let only = std::env::var(ONLY).unwrap_or_default();
    let cases: Vec<Case> = all_cases()
        .into_iter()
        .filter(|case| case.name.contains(&only))
        .collect();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (line, problem) = in_a_process(case);
                    println!("hostile: {:?} {}: {line}", case.kind, case.name);
                    wrong.lock().unwrap().extend(problem);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_table_of_hostile_cases_is_long_and_its_names_are_unique() {
    let cases = all_cases();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len());
    assert!(cases.len() >= 60, "{}", cases.len());
    for case in &cases {
        expected(case.expect);
    }
}
