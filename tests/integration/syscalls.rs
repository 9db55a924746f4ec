//! The simulated disk counts the calls of a real one: the mutating calls of `SimFs` are the system
//! calls that `strace` records for the same run, one for one and in the same order.

#![cfg(target_os = "linux")]

use crate::support::{Flavor, environment, ingest, init, open, random_bytes};
use containerarchive::entropy::SeededEntropy;
use containerarchive::storage::simfs::SimFs;
use containerarchive::storage::{LocalStorage, RealFs, Vfs};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Set for the child process: the directory to work in.
const DIRECTORY: &str = "CONTAINERARCHIVE_SYSCALLS_DIRECTORY";
/// The number of directories that the run has to create: the repository and its parent.
const MISSING: usize = 2;

/// Init, a first ingest, a duplicate, and further ingests through a second handle, with merges of
/// segments.
fn run(vfs: &Arc<dyn Vfs>, flavor: Flavor) {
    let store = |seed| Arc::new(LocalStorage::new(Arc::clone(vfs), Arc::new(SeededEntropy::new(seed))));
    let repo = init(environment(store(1), 2), flavor).unwrap();
    let data = random_bytes(3, 150_000);
    ingest(&repo, &data).unwrap();
    ingest(&repo, &data).unwrap();
    let repo = open(environment(store(4), 5), flavor).unwrap();
    ingest(&repo, &data[50_000..]).unwrap();
    ingest(&repo, &random_bytes(6, 20_000)).unwrap();
}

/// The entry point of the traced process, not a test of its own.
#[test]
fn traced_child() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let directory = PathBuf::from(directory);
    for (flavor, name) in flavors() {
        let root = root_of(&directory, name);
        run(&(Arc::new(RealFs::new(&root).unwrap()) as Arc<dyn Vfs>), flavor);
    }
}

/// The path of a repository with [`MISSING`] directories to create, below two that only it uses.
fn root_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(name).join("parent").join("above").join("repository")
}

fn flavors() -> [(Flavor, &'static str); 2] {
    [(Flavor::plain(), "plain"), (Flavor::sealed(), "sealed")]
}

#[test]
fn the_simulated_disk_counts_the_calls_that_strace_records() {
    let probe = Command::new("strace")
        .args(["-o", "/dev/null", "true"])
        .stderr(Stdio::null())
        .status();
    if !probe.is_ok_and(|status| status.success()) {
        println!(
            "SKIPPED: strace is missing or may not trace here, so its calls were NOT compared with the simulated ones"
        );
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().canonicalize().unwrap();
    for (_, name) in flavors() {
        std::fs::create_dir_all(directory.join(name).join("parent")).unwrap();
    }
    let trace = directory.join("trace");
    let child = Command::new("strace")
        .args(["-f", "-y", "-s", "4096", "-o"])
        .arg(&trace)
        .args(["-e", "trace=%file,%desc"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "syscalls::traced_child", "--test-threads=1"])
        .env(DIRECTORY, &directory)
        .stdout(Stdio::null())
        .status();
    assert!(child.unwrap().success(), "the traced run failed");
    let trace = String::from_utf8_lossy(&std::fs::read(trace).unwrap()).into_owned();

    for (flavor, name) in flavors() {
        let disk = SimFs::without_root(MISSING);
        run(&(Arc::new(disk.clone()) as Arc<dyn Vfs>), flavor);
        let simulated = disk.log();
        assert_eq!(simulated.len() as u64, disk.mutating_calls());
        let real = mutating_calls(&trace, &root_of(&directory, name));
        for op in ["create", "write", "fsync", "fsync_dir", "rename", "unlink", "mkdir"] {
            let count = |log: &[(&str, String)]| log.iter().filter(|(name, _)| *name == op).count();
            println!("{name}: {op}: {} simulated, {} real", count(&simulated), count(&real));
        }
        let differ = simulated.iter().zip(&real).position(|(one, two)| one != two);
        assert_eq!(differ.map(|at| (&simulated[at], &real[at])), None, "{name}");
        assert_eq!(simulated.len(), real.len(), "{name}");
        assert!(simulated.len() > 100, "{name}: {} calls", simulated.len());
    }
}

/// Returns the calls in a trace that change something at or below `root`, or flush a directory
/// above it, with the names that `SimFs` uses.
fn mutating_calls(trace: &str, root: &Path) -> Vec<(&'static str, String)> {
    trace.lines().filter_map(|line| mutating_call(line, root)).collect()
}

fn mutating_call(line: &str, root: &Path) -> Option<(&'static str, String)> {
    // "1234 write(5</dir/file>, …" and "1234 unlink("/dir/file") = 0"; the second halves of
    // interrupted lines are not calls
    let (_, call) = line.split_once(' ')?;
    let (name, arguments) = call.trim_start().split_once('(')?;
    let handle = |text: &str| {
        text.split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'))
            .map(|(path, _)| path.to_owned())
    };
    let quoted: Vec<&str> = arguments.split('"').skip(1).step_by(2).collect();
    let below = |path: &str| Some(Path::new(path).strip_prefix(root).ok()?.to_str()?.to_owned());
    let above = |path: &str| {
        let rest = root.strip_prefix(path).ok()?;
        Some(vec![".."; rest.components().count()].join("/"))
    };
    let near = |path: &str| below(path).or_else(|| above(path));
    let op = match name {
        "open" | "openat" | "openat2" if arguments.contains("O_CREAT") => ("create", below(quoted.first()?)?),
        "creat" => ("create", below(quoted.first()?)?),
        "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" | "ftruncate" | "fallocate" | "copy_file_range"
        | "sendfile" => ("write", below(&handle(arguments)?)?),
        "fsync" | "fdatasync" | "sync_file_range" | "syncfs" => {
            let path = handle(arguments)?;
            // a path that no longer exists was a temporary file
            match Path::new(&path).is_dir() {
                true => ("fsync_dir", near(&path)?),
                false => ("fsync", below(&path)?),
            }
        }
        "rename" | "renameat" | "renameat2" => (
            "rename",
            format!("{} -> {}", below(quoted.first()?)?, below(quoted.get(1)?)?),
        ),
        "link" | "linkat" | "symlink" | "symlinkat" | "truncate" | "chmod" | "fchmod" | "fchmodat" | "utimensat" => {
            ("something else", below(quoted.first()?)?)
        }
        "unlink" | "unlinkat" | "rmdir" => ("unlink", below(quoted.first()?)?),
        "mkdir" | "mkdirat" => ("mkdir", near(quoted.first()?)?),
        _ => return None,
    };
    Some(op)
}
