//! Real processes on one real directory: writers, a pruner, a verifier and a restorer. The test
//! kills and freezes them.
//!
//! Each process is this test program, started again with a role. A writer logs each snapshot after
//! its ingest returned, and each snapshot that it forgets before the call. At the end every logged
//! snapshot that was not forgotten must exist and restore to its bytes.
//!
//! `CONTAINERARCHIVE_SOAK_SECONDS` sets the duration, and `CONTAINERARCHIVE_SOAK_SEED` selects
//! which process is hit and when; `npm run test:soak` sets both.

#![cfg(unix)]

use crate::support::faults::{HookedSource, code};
use crate::support::*;
use containerarchive::entropy::{Entropy, OsEntropy, SeededEntropy};
use containerarchive::executor::PoolExecutor;
use containerarchive::id::SnapshotId;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{
    self, IngestOptions, PruneOptions, PruneReport, ReaderItems, RestoreOptions, VerifyLevel, VerifyOptions,
};
use containerarchive::repo::{Environment, OpenOptions, Repository};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::snapshot::retention::RetentionPolicy;
use containerarchive::storage::LocalStorage;
use containerarchive::{Error, Result, layout};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The environment of a child: a name of [`Role`], the working directory, and the seed.
const ROLE: &str = "CONTAINERARCHIVE_PROCESS_ROLE";
const DIRECTORY: &str = "CONTAINERARCHIVE_PROCESS_DIRECTORY";
const SEED: &str = "CONTAINERARCHIVE_PROCESS_SEED";
/// The duration of the test, in seconds.
const SOAK: &str = "CONTAINERARCHIVE_SOAK_SECONDS";

const WRITERS: usize = 4;
/// The number of its snapshots above which a writer forgets one for each new one.
const MOST: usize = 8;
/// The tag by which the pruner keeps snapshots.
const KEEP: (&str, &str) = ("keep", "yes");
/// A process that takes longer is treated as hanging, even on the slowest machine.
const HANG: Duration = Duration::from_secs(300);
/// Errors that any process may get while others run. The process tries again.
const ALLOWED: [&str; 2] = ["ERR_CONFLICT", "ERR_REPO_LOCKED"];

/// Random choices that a seed makes repeatable.
struct Dice(SeededEntropy);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(SeededEntropy::new(seed))
    }

    fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    }

    fn below(&self, end: usize) -> usize {
        (self.number() % end.max(1) as u64) as usize
    }

    fn one_in(&self, count: usize) -> bool {
        self.below(count) == 0
    }
}

/// Returns the data of the snapshot with this seed: parts that many snapshots share, and one of its
/// own.
fn data_of(seed: u64) -> Vec<u8> {
    let dice = Dice::new(seed);
    let mut data = Vec::new();
    for _ in 0..1 + dice.below(4) {
        data.extend(random_bytes(dice.below(12) as u64, 20_000 + 7_000 * dice.below(8)));
    }
    data.extend(random_bytes(seed, dice.below(60_000)));
    data
}

fn real_environment(directory: &Path) -> Environment {
    let storage = LocalStorage::open_path(&directory.join("repository"), Arc::new(OsEntropy)).unwrap();
    Environment {
        entropy: Arc::new(OsEntropy),
        executor: Arc::new(PoolExecutor::new(1).unwrap()),
        clock: Arc::new(containerarchive::clock::SystemClock),
        ..environment(Arc::new(storage), 1)
    }
}

fn open_real(directory: &Path) -> Result<Arc<Repository>> {
    let options = OpenOptions {
        lock_wait: Duration::from_secs(20),
        ..OpenOptions::default()
    };
    let secret = Flavor::sealed().secret();
    containerarchive::repo::open(real_environment(directory), secret.as_ref(), &options).map(Arc::new)
}

/// Appends a line in one call, so that after a kill it is there completely or not at all.
fn note(directory: &Path, file: &str, line: &str) {
    let mut file = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join(file))
        .unwrap();
    file.write_all(format!("{line}\n").as_bytes()).unwrap();
}

fn notes(directory: &Path, file: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(directory.join(file)).unwrap_or_default();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect();
    text.lines().map(words).collect()
}

/// One process of the test.
struct Role<'a> {
    name: &'a str,
    directory: &'a Path,
    dice: Dice,
}

impl Role<'_> {
    fn is_running(&self) -> bool {
        !self.directory.join("stop").exists()
    }

    /// Counts a success or an allowed error, and records any other error as bad.
    fn done<T>(&self, what: &str, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                note(self.directory, "counts", what);
                Some(value)
            }
            Err(error) if ALLOWED.contains(&error.code()) => {
                note(self.directory, "counts", &format!("{what}-{}", error.code()));
                None
            }
            Err(error) => {
                self.bad(&format!("{what}: {} {error}", error.code()));
                None
            }
        }
    }

    fn bad(&self, what: &str) {
        note(self.directory, "bad", &format!("{} {what}", self.name));
    }

    fn run(&self) {
        let mut repo = None;
        while self.is_running() {
            // some handles are used for a long time
            if repo.is_none() || self.dice.one_in(6) {
                repo = self.done("open", open_real(self.directory));
            }
            let Some(repo) = &repo else { continue };
            match self.name.split('-').next().unwrap() {
                "writer" => self.write(repo),
                "pruner" => self.prune(repo),
                "verifier" => self.verify(repo),
                "restorer" => self.restore(repo),
                other => panic!("no role {other}"),
            }
        }
    }

    fn write(&self, repo: &Arc<Repository>) {
        let log = format!("log-{}", self.name);
        let seed = self.dice.number();
        let is_kept = !self.dice.one_in(3);
        let mut options = IngestOptions::default();
        options.tags.insert("seed".to_owned(), seed.to_string());
        let keep = if is_kept { KEEP.1 } else { "no" };
        options.tags.insert(KEEP.0.to_owned(), keep.to_owned());
        let data = data_of(seed);
        let mut items = ReaderItems::one("data", "test", &data[..]);
        if let Some(snapshot) = self.done("ingest", ops::ingest(repo, &mut items, &options, &NullMonitor)) {
            note(self.directory, &log, &format!("{keep} {} {seed}", snapshot.id));
        }
        let there: Vec<String> = expected(self.directory, std::slice::from_ref(&log))
            .into_iter()
            .map(|(id, _)| id)
            .collect();
        if there.len() > MOST {
            let id = &there[self.dice.below(there.len())];
            note(self.directory, &log, &format!("forgot {id}"));
            let id = SnapshotId::from_hex(id).unwrap();
            match ops::forget(repo, &[id]) {
                // an earlier process of this writer already forgot it
                Err(Error::SnapshotNotFound { .. }) => {}
                result => drop(self.done("forget", result)),
            }
        }
    }

    fn prune(&self, repo: &Arc<Repository>) {
        match self.dice.below(10) {
            0 => drop(self.done("unlock-force", ops::unlock(repo, true))),
            1 => drop(self.done("unlock", ops::unlock(repo, false))),
            _ => {}
        }
        let options = PruneOptions {
            force: self.dice.one_in(4),
            max_unused: [0.0, 0.05, 0.3][self.dice.below(3)],
            ..keep_tagged()
        };
        self.done("prune", ops::prune(repo, &options, &NullMonitor));
    }

    fn verify(&self, repo: &Arc<Repository>) {
        let level = [VerifyLevel::Quick, VerifyLevel::Standard, VerifyLevel::Full][self.dice.below(3)];
        let options = VerifyOptions { level, subset: None };
        let report = ops::verify(repo, &options, &NullMonitor, &mut |_| {});
        // neither files that a concurrent prune deletes nor leftovers of a killed process are
        // problems
        if let Some(report) = self.done("verify", report).filter(|report| !report.ok()) {
            note(
                self.directory,
                "bad",
                &format!("verify {level:?}: {:?}", report.problems),
            );
        }
    }

    fn restore(&self, repo: &Arc<Repository>) {
        let listed = ops::list_snapshots(repo, &SnapshotFilter::default());
        let Some(listed) = self.done("list", listed).filter(|list| !list.is_empty()) else {
            return;
        };
        let snapshot = &listed[self.dice.below(listed.len())];
        let seed: u64 = snapshot.tags["seed"].parse().unwrap();
        match restore(repo, &snapshot.id.to_hex(), None) {
            Ok(data) if data == data_of(seed) => note(self.directory, "counts", "restore"),
            Ok(_) => self.bad(&format!("restore of {}: wrong bytes", snapshot.id)),
            // it was forgotten in the meantime
            Err(_) if repo.storage().size(&layout::snapshot(&snapshot.id)).unwrap().is_none() => {}
            Err(error) => drop(self.done::<()>("restore", Err(error))),
        }
    }
}

fn keep_tagged() -> PruneOptions {
    PruneOptions::new(RetentionPolicy {
        keep_tags: vec![BTreeMap::from([(KEEP.0.to_owned(), KEEP.1.to_owned())])],
        ..RetentionPolicy::default()
    })
}

/// The snapshots that must exist according to the logs of the writers: ids and seeds.
fn expected(directory: &Path, logs: &[String]) -> Vec<(String, u64)> {
    let lines: Vec<Vec<String>> = logs.iter().flat_map(|log| notes(directory, log)).collect();
    let forgotten: BTreeSet<&str> = lines
        .iter()
        .filter(|line| line[0] == "forgot")
        .map(|line| line[1].as_str())
        .collect();
    let kept = lines.iter().filter(|line| line[0] == KEEP.1);
    kept.filter(|line| !forgotten.contains(line[1].as_str()))
        .map(|line| (line[1].clone(), line[2].parse().unwrap()))
        .collect()
}

/// The entry point of a child process, not a test of its own.
#[test]
fn child() {
    let Ok(name) = std::env::var(ROLE) else { return };
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let role = Role {
        name: &name,
        directory: &directory,
        dice: Dice::new(seed),
    };
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| match name.as_str() {
        "paused" => paused_writer(&directory),
        _ => role.run(),
    }));
    if ended.is_err() {
        role.bad("panicked");
    }
}

/// A child process. It is killed when this is dropped.
struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts this program as a child; `around` is a command with arguments that runs it.
    fn start(name: &str, directory: &Path, seed: u64, around: &[&str]) -> Self {
        let program = std::env::current_exe().unwrap();
        let mut command = match around {
            [] => Command::new(program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(program);
                command
            }
        };
        let child = command
            .args(["--exact", "processes::child", "--test-threads=1", "--nocapture"])
            .env(ROLE, name)
            .env(DIRECTORY, directory)
            .env(SEED, seed.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(directory.join(format!("stderr-{name}"))).unwrap())
            .spawn()
            .unwrap();
        Self {
            child,
            name: name.to_owned(),
        }
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).stderr(Stdio::null()).status();
        // it may have exited already
        sent.unwrap();
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    /// Waits until the process has exited.
    fn join(&mut self) {
        let start = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(start.elapsed() < HANG, "{} hangs", self.name);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait_for(path: &Path) {
    let start = Instant::now();
    while !path.exists() {
        assert!(start.elapsed() < HANG, "{} does not appear", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn soak_seconds(usual: u64) -> u64 {
    let deep = std::env::var_os("CONTAINERARCHIVE_DEEP").is_some();
    let asked = std::env::var(SOAK).ok().map(|text| text.parse().unwrap());
    asked.unwrap_or(if deep { 60 } else { usual })
}

fn soak_seed() -> u64 {
    let asked = std::env::var("CONTAINERARCHIVE_SOAK_SEED").ok();
    asked.map_or(7, |text| text.parse().unwrap())
}

/// Runs the processes for some seconds, kills and freezes them, and checks the repository they
/// leave.
#[expect(clippy::print_stdout, reason = "the record of a run contains what was tried")]
fn run_chaos(seconds: u64, seed: u64, around: &[&str], may_freeze: bool) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    init(real_environment(directory), Flavor::sealed()).unwrap();
    let writers: Vec<String> = (0..WRITERS).map(|number| format!("writer-{number}")).collect();
    let others = ["pruner", "verifier", "restorer"].map(str::to_owned);
    let mut names = writers.clone();
    names.extend(others);
    if !around.is_empty() {
        names.push("pruner-2".to_owned());
    }
    let dice = Dice::new(seed);
    let start = |name: &str| Process::start(name, directory, dice.number(), around);
    let mut processes: Vec<Process> = names.iter().map(|name| start(name)).collect();
    let (mut kills, mut freezes) = (0, 0);
    let end = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20 + dice.below(150) as u64));
        let at = dice.below(processes.len());
        match dice.below(5) {
            0 | 1 => {
                processes[at].kill();
                processes[at] = start(&names[at]);
                kills += 1;
            }
            2 | 3 if may_freeze => {
                processes[at].signal("-STOP");
                std::thread::sleep(Duration::from_millis(dice.below(400) as u64));
                processes[at].signal("-CONT");
                freezes += 1;
            }
            _ => {}
        }
        if directory.join("bad").exists() {
            break;
        }
    }
    // half of them are killed in the middle of an operation, the others may finish theirs
    for process in processes.iter_mut().filter(|_| dice.one_in(2)) {
        process.kill();
    }
    fs::write(directory.join("stop"), "").unwrap();
    processes.iter_mut().for_each(Process::join);
    drop(processes);
    let logs: Vec<String> = writers.iter().map(|name| format!("log-{name}")).collect();
    let found = judge(directory, &logs);
    println!("{seconds} s, seed {seed}: {kills} kills, {freezes} freezes; {found}");
}

/// Checks that no process recorded an unexpected error, that one prune succeeds, and that every
/// expected snapshot restores.
fn judge(directory: &Path, logs: &[String]) -> String {
    let bad = fs::read_to_string(directory.join("bad")).unwrap_or_default();
    assert!(bad.is_empty(), "{bad}");
    let repo = open_real(directory).unwrap();
    ops::prune(&repo, &keep_tagged(), &NullMonitor).unwrap();
    let expected = expected(directory, logs);
    for (id, seed) in &expected {
        let data = restore(&repo, id, None).unwrap_or_else(|error| panic!("LOST {id}: {error}"));
        assert!(data == data_of(*seed), "LOST {id}: wrong bytes");
    }
    let options = VerifyOptions {
        level: VerifyLevel::Full,
        subset: None,
    };
    let report = ops::verify(&repo, &options, &NullMonitor, &mut |_| {}).unwrap();
    assert!(report.ok(), "{:?}", report.problems);
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for line in notes(directory, "counts") {
        *counts.entry(line[0].clone()).or_default() += 1;
    }
    for wanted in ["ingest", "prune", "verify"] {
        assert!(counts.contains_key(wanted), "no process did {wanted}: {counts:?}");
    }
    format!(
        "{} committed and not forgotten, none lost; {counts:?}; {} notes at the end",
        expected.len(),
        report.notes.len()
    )
}

#[test]
fn processes_that_are_killed_and_frozen_lose_no_promised_snapshot() {
    run_chaos(soak_seconds(12), soak_seed(), &[], true);
}

#[test]
fn processes_in_separate_pid_namespaces_lose_no_promised_snapshot() {
    let ways: [&[&str]; 2] = [
        &["unshare", "-p", "-f", "--kill-child", "--"],
        &["unshare", "-U", "-r", "-p", "-f", "--kill-child", "--"],
    ];
    let works = |way: &&[&str]| {
        let mut probe = Command::new(way[0]);
        probe.args(&way[1..]).arg("true").stderr(Stdio::null());
        probe.status().is_ok_and(|status| status.success())
    };
    match ways.into_iter().find(works) {
        // every process has pid 1 and the same host name
        Some(way) => run_chaos(soak_seconds(4).min(60), 11, way, false),
        None => {
            println!("SKIPPED: no PID namespaces here, so processes with EQUAL PIDS AND HOST NAMES were NOT tested")
        }
    }
}

/// Half of the paused writer's data is already stored, in a snapshot that is forgotten while it is
/// paused.
fn shared_data() -> Vec<u8> {
    random_bytes(500, 200_000)
}

fn paused_data() -> Vec<u8> {
    [shared_data(), random_bytes(501, 150_000), shared_data()].concat()
}

/// Pauses in the middle of an ingest until the file `go on` exists, then writes the result to a
/// file.
fn paused_writer(directory: &Path) {
    let repo = open_real(directory).unwrap();
    let data = paused_data();
    let source = HookedSource {
        data: &data,
        at: 300_000,
        hook: Some(|| {
            fs::write(directory.join("paused"), "").unwrap();
            wait_for(&directory.join("go on"));
        }),
        given: 0,
    };
    let mut items = ReaderItems::one("data", "test", source);
    let result = ops::ingest(&repo, &mut items, &IngestOptions::default(), &NullMonitor);
    let text = match result {
        Ok(snapshot) => format!("ok {}", snapshot.id),
        Err(error) => error.code().to_owned(),
    };
    fs::write(directory.join("result.tmp"), text).unwrap();
    fs::rename(directory.join("result.tmp"), directory.join("result")).unwrap();
}

/// Pauses a writer, and freezes its process if `frozen`, while the snapshot that it shares data
/// with is forgotten and `during` runs. Then the writer continues. Returns its result.
fn pause(frozen: bool, during: impl FnOnce(&Arc<Repository>)) -> (tempfile::TempDir, String) {
    let temp = tempfile::tempdir().unwrap();
    let directory = temp.path();
    let repo = init(real_environment(directory), Flavor::sealed()).unwrap();
    let old = ingest(&repo, &shared_data()).unwrap();
    ingest(&repo, &random_bytes(502, 30_000)).unwrap();
    let mut writer = Process::start("paused", directory, 1, &[]);
    wait_for(&directory.join("paused"));
    if frozen {
        writer.signal("-STOP");
    }
    ops::forget(&repo, &[old.id]).unwrap();
    during(&repo);
    fs::write(directory.join("go on"), "").unwrap();
    if frozen {
        writer.signal("-CONT");
    }
    writer.join();
    assert!(
        !directory.join("bad").exists(),
        "{:?}",
        fs::read_to_string(directory.join("bad"))
    );
    let result = fs::read_to_string(directory.join("result")).unwrap();
    (temp, result)
}

fn prune_all(repo: &Arc<Repository>, force: bool) -> PruneReport {
    let options = PruneOptions {
        force,
        ..PruneOptions::keep_all()
    };
    ops::prune(repo, &options, &NullMonitor).unwrap()
}

fn assert_sound(directory: &Path) {
    let repo = open_real(directory).unwrap();
    prune_all(&repo, false);
    let options = VerifyOptions {
        level: VerifyLevel::Full,
        subset: None,
    };
    let report = ops::verify(&repo, &options, &NullMonitor, &mut |_| {}).unwrap();
    assert!(report.ok() && report.notes.is_empty(), "{report:?}");
}

#[test]
fn a_frozen_writer_that_was_unlocked_and_pruned_fails_cleanly_or_commits_a_complete_snapshot() {
    let (temp, result) = pause(true, |repo| {
        assert_eq!(ops::unlock(repo, true).unwrap().len(), 1);
        let report = prune_all(repo, true);
        assert!(report.freed_bytes > 0 && report.pending_bytes == 0, "{report:?}");
    });
    let repo = open_real(temp.path()).unwrap();
    match result.strip_prefix("ok ") {
        Some(id) => assert!(restore(&repo, id, None).unwrap() == paused_data()),
        None => assert_eq!(result, "ERR_CONFLICT"),
    }
    assert_sound(temp.path());
}

#[test]
fn a_paused_ingest_blocks_no_prune_and_still_commits() {
    let (temp, result) = pause(true, |repo| {
        let report = prune_all(repo, false);
        assert!(report.pending_bytes > 0, "{report:?}");
        let again = prune_all(repo, false);
        assert_eq!(again.freed_bytes, 0);
    });
    let id = result
        .strip_prefix("ok ")
        .unwrap_or_else(|| panic!("it failed: {result}"));
    let repo = open_real(temp.path()).unwrap();
    assert!(restore(&repo, id, None).unwrap() == paused_data());
    assert_sound(temp.path());
}

#[test]
fn a_handle_older_than_a_prune_stores_the_deleted_data_again() {
    let temp = tempfile::tempdir().unwrap();
    let directory = temp.path();
    let stale = init(real_environment(directory), Flavor::sealed()).unwrap();
    let old = ingest(&stale, &shared_data()).unwrap();
    ingest(&stale, &random_bytes(502, 30_000)).unwrap();
    // the handle now knows the location of every chunk
    assert_eq!(ingest(&stale, &shared_data()).unwrap().new_chunks, 0);
    let other = open_real(directory).unwrap();
    let all = ops::list_snapshots(&other, &SnapshotFilter::default()).unwrap();
    let large: Vec<SnapshotId> = all
        .iter()
        .filter(|one| one.original_size > 100_000)
        .map(|one| one.id)
        .collect();
    ops::forget(&other, &large).unwrap();
    assert!(prune_all(&other, false).freed_bytes > 0);
    let options = RestoreOptions::default();
    assert_eq!(
        code(restore_with(&stale, &old.id.to_hex(), &options)),
        "ERR_SNAPSHOT_NOT_FOUND"
    );
    let again = ingest(&stale, &shared_data()).unwrap();
    assert_eq!(again.reused_chunks, 0);
    assert!(restore(&stale, &again.id.to_hex(), None).unwrap() == shared_data());
    assert!(restore(&other, &again.id.to_hex(), None).unwrap() == shared_data());
    assert_sound(directory);
}
