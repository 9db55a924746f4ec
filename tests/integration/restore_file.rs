//! Restores into files: the complete file, durably, or nothing; and how much a range reads.

use crate::support::faults::*;
use crate::support::*;
use containerarchive::chunk::ChunkerParams;
use containerarchive::entropy::SeededEntropy;
use containerarchive::monitor::{Monitor, NullMonitor, Progress};
use containerarchive::ops::{self, RestoreOptions};
use containerarchive::repo::{self, InitOptions, Repository};
use containerarchive::storage::simfs::SimFs;
use containerarchive::storage::vfs::Vfs;
use containerarchive::storage::{
    Created, ErrorKind, ExportFile, LocalStorage, MemoryStorage, RecordingStorage, Storage,
};
use containerarchive::{Result, layout};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn to_file(repo: &Arc<Repository>, id: &str, path: &Path, overwrite: bool, monitor: &dyn Monitor) -> Result<()> {
    let plan = ops::plan_restore(repo, id, &RestoreOptions::default())?;
    ops::restore_to_file(repo, &plan, path, overwrite, monitor)
}

/// Returns the names in a directory.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A monitor that calls a function at the first progress report, and can then cancel the restore.
struct OnFirstProgress<F: Fn() + Send + Sync> {
    action: F,
    begun: AtomicBool,
    cancels: bool,
}

impl<F: Fn() + Send + Sync> OnFirstProgress<F> {
    fn new(cancels: bool, action: F) -> Self {
        Self {
            action,
            begun: AtomicBool::new(false),
            cancels,
        }
    }
}

impl<F: Fn() + Send + Sync> Monitor for OnFirstProgress<F> {
    fn progress(&self, progress: &Progress) {
        assert!(progress.done_bytes <= progress.total_bytes);
        if !self.begun.swap(true, Ordering::Relaxed) {
            (self.action)();
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancels && self.begun.load(Ordering::Relaxed)
    }
}

#[test]
fn restore_to_file_writes_the_exact_bytes_and_leaves_no_other_file() {
    for flavor in flavors() {
        let (repo, _) = memory_repo(flavor);
        let folder = tempfile::tempdir().unwrap();
        let large = random_bytes(1, 3_000_000);
        for (name, data) in [("..two dots", &large[..]), ("empty", b""), ("small", b"x")] {
            let snapshot = ingest(&repo, data).unwrap();
            let path = folder.path().join(name);
            to_file(&repo, &snapshot.id.to_hex(), &path, false, &NullMonitor).unwrap();
            assert!(std::fs::read(&path).unwrap() == data, "{flavor:?} {name}");
            #[cfg(unix)]
            {
                use std::os::unix::fs::PermissionsExt;
                assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            }
        }
        let snapshot = ingest_items(&repo, &[("a", b"one"), ("b", b"two")]).unwrap();
        for (item, expected) in [(None, "onetwo"), (Some("b".to_owned()), "two")] {
            let options = RestoreOptions { item, range: None };
            let plan = ops::plan_restore(&repo, &snapshot.id.to_hex(), &options).unwrap();
            ops::restore_to_file(&repo, &plan, &folder.path().join("small"), true, &NullMonitor).unwrap();
            assert_eq!(std::fs::read_to_string(folder.path().join("small")).unwrap(), expected);
        }
        assert_eq!(names(folder.path()), ["..two dots", "empty", "small"]);
    }
}

#[test]
fn an_existing_file_is_replaced_only_on_request_and_atomically() {
    let (repo, _) = memory_repo(Flavor::plain());
    let data = random_bytes(2, 500_000);
    let id = ingest(&repo, &data).unwrap().id.to_hex();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let read = || std::fs::read(&path).unwrap();
    std::fs::write(&path, "old").unwrap();
    let untouched = OnFirstProgress::new(false, || panic!("work was done"));
    assert_eq!(code(to_file(&repo, &id, &path, false, &untouched)), "ERR_FILE_EXISTS");
    assert_eq!(read(), b"old");
    // the old bytes stay until the new ones are complete
    let observer = OnFirstProgress::new(false, || assert_eq!(read(), b"old"));
    to_file(&repo, &id, &path, true, &observer).unwrap();
    assert!(observer.begun.load(Ordering::Relaxed) && read() == data);
    // a file that appears during the restore is not replaced
    std::fs::remove_file(&path).unwrap();
    let comes = OnFirstProgress::new(false, || std::fs::write(&path, "newer").unwrap());
    assert_eq!(code(to_file(&repo, &id, &path, false, &comes)), "ERR_FILE_EXISTS");
    assert_eq!(read(), b"newer");
    assert_eq!(names(folder.path()), ["file"]);
}

#[test]
fn an_invalid_target_path_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let mut environment = environment(storage, 1);
    environment.path = directory.path().join("repo").display().to_string();
    let repo = init(environment, Flavor::plain()).unwrap();
    let id = ingest(&repo, b"x").unwrap().id.to_hex();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("folder")).unwrap();
    std::fs::write(path("file"), "old").unwrap();
    let refused = |name: &str| code(to_file(&repo, &id, &path(name), true, &NullMonitor));
    assert_eq!(refused("folder"), "ERR_FILE_EXISTS");
    assert_eq!(refused("missing/file"), "ERR_STORAGE");
    assert_eq!(refused("file/below"), "ERR_NOT_A_DIRECTORY");
    assert_eq!(refused("repo/config.json"), "ERR_INVALID_ARGUMENT");
    assert_eq!(refused("repo"), "ERR_INVALID_ARGUMENT");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(path("file"), path("link")).unwrap();
        // with the program, since rustix cannot create a pipe on macOS
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status();
        assert!(made.unwrap().success());
        assert_eq!(refused("link"), "ERR_FILE_EXISTS");
        assert_eq!(refused("pipe"), "ERR_FILE_EXISTS");
        assert_eq!(names(directory.path()), ["file", "folder", "link", "pipe"]);
    }
    assert_eq!(
        code(to_file(&repo, &id, Path::new("/"), true, &NullMonitor)),
        "ERR_INVALID_ARGUMENT"
    );
    assert_eq!(std::fs::read(path("file")).unwrap(), b"old");
}

/// The path may lead into the repository through a symbolic link, or through a directory that
/// becomes one while the restore is running.
#[cfg(unix)]
#[test]
fn nothing_is_restored_into_the_repository_through_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::create_dir(at("disk")).unwrap();
    std::os::unix::fs::symlink(at("disk"), at("link")).unwrap();
    let entropy = Arc::new(SeededEntropy::new(4));
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open_path(&at("disk/repo"), entropy).unwrap());
    for opened_by in ["disk/repo", "link/repo"] {
        let mut environment = environment(Arc::clone(&storage), 1);
        environment.path = at(opened_by).display().to_string();
        let repo = match opened_by {
            "disk/repo" => init(environment, Flavor::plain()),
            _ => open(environment, Flavor::plain()),
        };
        let repo = repo.unwrap();
        let snapshot = ingest(&repo, &random_bytes(9, 600_000)).unwrap();
        let before = files_of(storage.as_ref());
        let id = snapshot.id.to_hex();
        let pack = before.keys().find(|key| key.ends_with(".pack")).unwrap();
        for key in ["config.json", "new", &layout::snapshot(&snapshot.id), pack] {
            for way in ["disk/repo", "link/repo"] {
                let path = at(way).join(key);
                let refused = to_file(&repo, &id, &path, true, &NullMonitor);
                assert_eq!(code(refused), "ERR_INVALID_ARGUMENT", "{}", path.display());
            }
        }
        std::fs::create_dir(at("out")).unwrap();
        let turns = OnFirstProgress::new(false, || {
            std::fs::rename(at("out"), at("moved")).unwrap();
            std::os::unix::fs::symlink(at("disk/repo"), at("out")).unwrap();
        });
        let refused = to_file(&repo, &id, &at("out/config.json"), true, &turns);
        assert_eq!(code(refused), "ERR_INVALID_ARGUMENT");
        std::fs::remove_file(at("out")).unwrap();
        std::fs::remove_dir_all(at("moved")).unwrap();
        assert!(files_of(storage.as_ref()) == before);
        to_file(&repo, &id, &at("disk/outside"), true, &NullMonitor).unwrap();
        std::fs::remove_file(at("disk/outside")).unwrap();
    }
}

#[test]
fn a_restore_that_ends_early_leaves_no_partial_file_and_keeps_the_old_one() {
    let (repo, storage) = {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let options = InitOptions {
            parity: Some(None),
            ..Flavor::plain().small()
        };
        let repo = repo::init(environment(Arc::clone(&storage), 1), None, &options).unwrap();
        (Arc::new(repo), storage)
    };
    // more than is read ahead before the first progress report
    let data = random_bytes(3, 600_000);
    let id = ingest(&repo, &data).unwrap().id.to_hex();
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old");
    std::fs::write(&old, "old").unwrap();
    let judge = |repo: &Arc<Repository>, monitor: &dyn Monitor, expected: &str| {
        for path in [&old, &folder.path().join("new")] {
            assert_eq!(code(to_file(repo, &id, path, true, monitor)), expected);
        }
        assert_eq!(names(folder.path()), ["old"]);
        assert_eq!(std::fs::read(&old).unwrap(), b"old");
    };
    judge(&repo, &OnFirstProgress::new(true, || ()), "ABORT_ERR");
    let other = open(environment(Arc::clone(&storage), 2), Flavor::plain()).unwrap();
    let closes = Arc::clone(&other);
    judge(
        &other,
        &OnFirstProgress::new(false, move || closes.close()),
        "ERR_CLOSED",
    );
    // the last pack is lost, when nearly all of the data has been written
    let files = files_of(storage.as_ref());
    let lost = files.iter().filter(|(key, _)| key.ends_with(".pack"));
    let last = &data[data.len() - 300..];
    let (pack, _) = { lost }
        .find(|(_, bytes)| bytes.windows(last.len()).any(|window| window == last))
        .unwrap();
    storage.delete(pack).unwrap();
    let repo = open(environment(Arc::clone(&storage), 3), Flavor::plain()).unwrap();
    judge(&repo, &NullMonitor, "ERR_PACK_MISSING");
}

/// Returns what the disk contains under the name: nothing, the old bytes, or the new ones.
fn shown(disk: &SimFs) -> Option<Vec<u8>> {
    disk.snapshot_files().remove("file")
}

#[test]
fn a_power_cut_at_any_call_leaves_the_old_file_or_the_new_one() {
    let new = random_bytes(4, 2_500_000);
    for (old, overwrite) in [(None, false), (None, true), (Some(b"old".to_vec()), true)] {
        let start = SimFs::new();
        if let Some(old) = &old {
            let mut file = start.create_new("file").unwrap();
            file.write(old).unwrap();
            file.fsync().unwrap();
            start.fsync_dir("").unwrap();
        }
        let start = start.after_power_loss(&containerarchive::storage::simfs::LossModel::Everything);
        let export = |disk: &SimFs| -> containerarchive::storage::Result<Created> {
            let entropy = SeededEntropy::new(1);
            let file = ExportFile::create_on(Arc::new(disk.clone()), "file", "file", overwrite, &entropy)?;
            let mut file = file.unwrap();
            new.chunks(70_000).try_for_each(|piece| file.write(piece))?;
            file.finish()
        };
        let copy = || start.after_power_loss(&containerarchive::storage::simfs::LossModel::Everything);
        let count = copy();
        assert_eq!(export(&count).unwrap(), Created::Created);
        assert_eq!(count.snapshot_files().len(), 1);
        let calls = count.mutating_calls();
        let mut states = 0;
        for point in 0..=calls {
            let disk = copy();
            disk.crash_at(point);
            let done = export(&disk).is_ok();
            assert_eq!(done, point == calls);
            for model in disk.loss_models(8) {
                states += 1;
                let found = shown(&disk.after_power_loss(&model));
                let whole = found.as_ref() == Some(&new);
                assert!(whole || !done && found == old, "call {point}, {model:?}");
            }
        }
        assert!(states > 40, "{states}");
        // a call that fails, or a full disk, leaves nothing
        for point in 0..calls {
            for kind in [std::io::ErrorKind::StorageFull, std::io::ErrorKind::Other] {
                let disk = copy();
                disk.fail_call(point, kind);
                let error = export(&disk).unwrap_err();
                if kind == std::io::ErrorKind::StorageFull {
                    assert_eq!(error.kind, ErrorKind::NoSpace);
                }
                assert_eq!(error.path, "file");
                assert_eq!(error.op == "the flush of the folder", point + 1 == calls);
                // the file has its final name only if the last flush fails
                let expected = if point + 1 == calls {
                    Some(new.clone())
                } else {
                    old.clone()
                };
                assert!(shown(&disk) == expected, "call {point}");
                assert!(disk.snapshot_files().keys().all(|path| path == "file"), "call {point}");
            }
        }
    }
}

/// Returns the number of reads of packs for a restore of one byte after the index has been read,
/// and the levels of the list.
fn reads_of_one_byte(chunks: usize) -> (usize, u32) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let options = InitOptions {
        chunking: ChunkerParams {
            min: 64,
            avg: 256,
            max: 1024,
        },
        pack_size: Some(4 << 20),
        ..Flavor::plain().small()
    };
    let made = repo::init(environment(Arc::clone(&storage), 1), None, &options).unwrap();
    let data = random_bytes(chunks as u64, chunks * 290);
    let snapshot = ingest(&Arc::new(made), &data).unwrap();
    assert!(
        snapshot.chunk_count as usize > chunks * 9 / 10,
        "{}",
        snapshot.chunk_count
    );
    let recording = Arc::new(RecordingStorage::new(storage));
    let repo = open(environment(recording.clone(), 2), Flavor::plain()).unwrap();
    let mut most = 0;
    let len = data.len() as u64;
    for at in [0, 1, len / 3, len / 2, len - 1] {
        recording.clear();
        let options = RestoreOptions {
            item: Some("data".to_owned()),
            range: Some((at, Some(at + 1))),
        };
        let bytes = restore_with(&repo, &snapshot.id.to_hex(), &options).unwrap();
        assert_eq!(bytes, [data[at as usize]]);
        let packs = |(op, key): &(&str, String)| *op == "get_range" && key.starts_with(layout::DATA);
        most = most.max(recording.calls().iter().filter(|call| packs(call)).count());
    }
    let level = match &snapshot.items[0].content {
        containerarchive::snapshot::ItemContent::List { level, .. } => u32::from(*level) + 1,
        containerarchive::snapshot::ItemContent::Inline(_) => 0,
    };
    (most, level)
}

#[test]
fn a_range_reads_one_path_of_list_nodes_and_its_chunk() {
    let mut levels = Vec::new();
    for chunks in [20, 400, 40_000] {
        let (reads, level) = reads_of_one_byte(chunks);
        assert!(
            reads <= level as usize + 1,
            "{chunks} chunks: {reads} reads, {level} levels"
        );
        levels.push(level);
    }
    // a hundred times as many chunks need one list node more
    assert!(
        levels[0] == 0 && levels[1] >= 1 && levels[2] == levels[1] + 1,
        "{levels:?}"
    );
}
