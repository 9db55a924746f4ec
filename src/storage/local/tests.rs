//! The local store on the simulated and the real disk.

use super::super::simfs::{LossModel, SimFs};
use super::super::{conformance, put_bytes};
use super::*;
use crate::entropy::SeededEntropy;

const FOLDERS: [&str; 4] = ["a", "b", "locks", "quarantine"];

fn on(disk: &SimFs) -> LocalStorage {
    LocalStorage::new(
        Arc::new(disk.clone()),
        Arc::new(SeededEntropy::new(disk.mutating_calls())),
    )
}

/// A disk with the folders of a repository, durable, and a store on it.
fn ready() -> (SimFs, LocalStorage) {
    let disk = SimFs::new();
    let store = on(&disk);
    assert!(store.create_folders(&FOLDERS, &[]).unwrap());
    (disk, store)
}

fn kind_of<T>(result: Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind)
}

fn temps(disk: &SimFs) -> usize {
    disk.snapshot_files()
        .keys()
        .filter(|path| path.contains(".tmp-"))
        .count()
}

#[test]
fn a_folder_keeps_the_promises_of_every_store() {
    let place = tempfile::tempdir().unwrap();
    let count = std::cell::Cell::new(0);
    conformance::run(|| {
        count.set(count.get() + 1);
        let root = place.path().join(format!("new/{}", count.get()));
        Arc::new(LocalStorage::open_path(&root, Arc::new(SeededEntropy::new(1))).unwrap())
    });
}

#[test]
fn a_simulated_disk_keeps_the_promises_of_every_store() {
    conformance::run(|| Arc::new(on(&SimFs::new())));
    conformance::run(|| Arc::new(on(&SimFs::without_root(3))));
    conformance::run(|| {
        let disk = SimFs::new();
        disk.know_files_by_path();
        Arc::new(on(&disk))
    });
}

#[test]
fn many_handles_putting_one_key_create_it_once() {
    let place = tempfile::tempdir().unwrap();
    let open = |seed| LocalStorage::open_path(place.path(), Arc::new(SeededEntropy::new(seed))).unwrap();
    open(0).create_folders(&FOLDERS, &[]).unwrap();
    for round in 0..25 {
        let key = format!("a/{round}");
        let created: usize = std::thread::scope(|scope| {
            let (open, key) = (&open, &key);
            let put = move |seed| usize::from(put_bytes(&open(seed), key, &[7; 100_000]).unwrap() == Created::Created);
            let threads: Vec<_> = (0..8).map(|seed| scope.spawn(move || put(seed))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(created, 1);
    }
    assert_eq!(
        std::fs::read_dir(place.path().join("a")).unwrap().count(),
        25,
        "no temporary file is left"
    );
}

#[test]
fn a_put_makes_these_calls_and_no_others() {
    let (disk, store) = ready();
    let start = disk.log().len();
    put_bytes(&store, "a/k", &[1; (1 << 20) + 1]).unwrap();
    put_bytes(&store, "a/empty", b"").unwrap();
    put_bytes(&store, "b/k", b"1").unwrap();
    put_bytes(&store, "b/k", b"1").unwrap();
    store.barrier().unwrap();
    store.barrier().unwrap();
    let names: Vec<_> = disk.log()[start..].iter().map(|(op, _)| *op).collect();
    let long = ["create", "write", "write", "fsync", "rename"];
    let empty = ["create", "fsync", "rename"];
    let short = ["create", "write", "fsync", "rename"];
    assert_eq!(names, [&long[..], &empty, &short, &["fsync_dir", "fsync_dir"]].concat());
}

#[test]
fn reading_changes_nothing() {
    let (disk, store) = ready();
    for key in ["a/k", "locks/commit", "locks/dead.json"] {
        put_bytes(&store, key, b"1").unwrap();
    }
    let before = disk.mutating_calls();
    store.get("a/k", 1).unwrap();
    store.get_range("a/k", 0, &mut [0]).unwrap();
    store.size("a/k").unwrap();
    store.list("a").unwrap();
    store.lease_held("locks/dead.json").unwrap();
    store.probe_locks("locks/commit").unwrap();
    drop(store.lock("locks/commit", LockMode::Exclusive, Duration::ZERO).unwrap());
    assert_eq!(disk.mutating_calls(), before);
}

/// What the sweep's work had achieved when the power went.
#[derive(Default)]
struct Acknowledged {
    present: Vec<&'static str>,
    gone: Vec<&'static str>,
}

fn bytes_of(key: &str) -> Vec<u8> {
    key.bytes().cycle().take(3000).collect()
}

/// Puts and deletes with barriers, as far as the disk lets it; tells what must hold from then on.
fn work(store: &LocalStorage) -> Acknowledged {
    let mut done = Acknowledged::default();
    let put = |key: &str| put_bytes(store, key, &bytes_of(key)).is_ok();
    if !(put("a/1") && put("b/1") && put("a/2") && store.barrier().is_ok()) {
        return done;
    }
    done.present.extend(["a/1", "b/1", "a/2"]);
    if !(put("b/2") && store.barrier().is_ok()) {
        return done;
    }
    done.present.push("b/2");
    done.present.retain(|key| *key != "a/1");
    if !(store.delete("a/1").is_ok() && put("a/3") && store.barrier().is_ok()) {
        return done;
    }
    done.present.push("a/3");
    done.gone.push("a/1");
    done
}

/// Promises broken on a disk after a power cut.
fn broken(disk: &SimFs, done: &Acknowledged) -> usize {
    let store = on(disk);
    let wrong = |key: &str| store.get(key, 1 << 20).ok().as_deref() != Some(&bytes_of(key)[..]);
    let lost = done.present.iter().filter(|key| wrong(key)).count();
    let back = done
        .gone
        .iter()
        .filter(|key| store.size(key).unwrap().is_some())
        .count();
    let listed = ["a", "b"].into_iter().flat_map(|folder| store.list(folder).unwrap());
    lost + back + listed.filter(|entry| wrong(&entry.key)).count()
}

/// Cuts the power at every call and tries every adversary: images seen and promises broken.
fn sweep(prepare: impl Fn(&SimFs)) -> (u64, usize) {
    let (mut images, mut violations) = (0, 0);
    for call in 0.. {
        let (disk, store) = ready();
        prepare(&disk);
        disk.crash_at(disk.mutating_calls() + call);
        let done = work(&store);
        for model in disk.loss_models(16) {
            images += 1;
            let image = disk.after_power_loss(&model);
            violations += broken(&image, &done);
            // and again: what is left of the crash must not be in the way
            for folder in FOLDERS {
                on(&image).clean_temporary(folder).unwrap();
            }
            assert_eq!(temps(&image), 0);
            assert_eq!(work(&on(&image)).gone, ["a/1"], "{call} {model:?}");
        }
        if !disk.is_off() {
            break;
        }
    }
    (images, violations)
}

#[test]
fn what_a_barrier_acknowledged_survives_every_power_cut() {
    let (images, violations) = sweep(|_| {});
    assert!(images > 200, "{images}");
    assert_eq!(violations, 0);
}

#[test]
fn the_sweep_sees_a_missing_flush() {
    assert!(sweep(|disk| disk.skip_file_fsync(true)).1 > 0);
    assert!(sweep(|disk| disk.skip_dir_fsync(true)).1 > 0);
}

#[test]
fn making_folders_can_be_repeated_after_every_power_cut() {
    for call in 0.. {
        let disk = SimFs::without_root(3);
        disk.crash_at(call);
        let made = on(&disk).create_folders(&FOLDERS, &[]);
        for model in disk.loss_models(16) {
            let image = disk.after_power_loss(&model);
            if made.is_ok() {
                put_bytes(&on(&image), "a/k", b"1").unwrap();
                let log = image.log();
                assert!(log.iter().all(|(op, _)| *op != "mkdir"), "no folder was lost: {log:?}");
                continue;
            }
            assert!(on(&image).create_folders(&FOLDERS, &[]).unwrap(), "{call} {model:?}");
            let after = image.after_power_loss(&LossModel::NothingUnsynced);
            for folder in FOLDERS {
                assert_eq!(after.kind(folder).unwrap(), Some(FileKind::Folder), "{call} {model:?}");
            }
        }
        if !disk.is_off() {
            break;
        }
    }
}

#[test]
fn a_damaged_file_is_never_lost_while_it_is_replaced() {
    for call in 0.. {
        let (disk, store) = ready();
        put_bytes(&store, "a/k", b"bad").unwrap();
        store.barrier().unwrap();
        disk.crash_at(disk.mutating_calls() + call);
        let replaced = store.replace_damaged("a/k", b"good").and_then(|()| store.barrier());
        for model in disk.loss_models(16) {
            let files = disk.after_power_loss(&model).snapshot_files();
            let kept = files.iter().any(|(path, bytes)| {
                (path == "a/k" || path.starts_with("quarantine/a_k-")) && bytes.as_slice() == b"bad"
            });
            assert!(kept, "{call} {model:?} {files:?}");
            // nor is there a moment without a file of that name
            assert!(files.contains_key("a/k"), "{call} {model:?} {files:?}");
            if replaced.is_ok() {
                assert_eq!(files["a/k"], b"good");
            }
        }
        if !disk.is_off() {
            break;
        }
    }
}

#[test]
fn a_disk_that_is_full_only_when_flushed_fails_one_put() {
    let (disk, store) = ready();
    disk.fail_call(disk.mutating_calls() + 2, io::ErrorKind::StorageFull);
    assert_eq!(kind_of(put_bytes(&store, "a/k", b"1")), Some(ErrorKind::NoSpace));
    assert_eq!(disk.log().last().map(|(name, _)| *name), Some("unlink"));
    put_bytes(&store, "a/k", b"2").unwrap();
    store.barrier().unwrap();
    assert_eq!(temps(&disk), 0);
}

#[test]
fn a_failed_flush_is_final() {
    for (calls_before, op) in [(2, "fsync"), (4, "fsync_dir")] {
        let (disk, store) = ready();
        disk.fail_call(disk.mutating_calls() + calls_before, io::ErrorKind::Other);
        let first = put_bytes(&store, "a/k", b"1").and_then(|_| store.barrier());
        assert_eq!(kind_of(first), Some(ErrorKind::Io), "{op}");
        assert!(disk.log().iter().any(|(name, _)| *name == op));
        assert_eq!(kind_of(store.barrier()), Some(ErrorKind::Poisoned));
        assert_eq!(kind_of(put_bytes(&store, "a/other", b"1")), Some(ErrorKind::Poisoned));
        assert_eq!(kind_of(store.replace_damaged("a/k", b"1")), Some(ErrorKind::Poisoned));
        assert_eq!(temps(&disk), 0);
        // a new handle starts anew
        put_bytes(&on(&disk), "a/new", b"1").unwrap();
    }
}

#[test]
fn a_full_disk_leaves_nothing_and_the_handle_goes_on() {
    let (disk, store) = ready();
    disk.set_free_bytes(Some(1000));
    assert_eq!(kind_of(put_bytes(&store, "a/k", &[1; 1001])), Some(ErrorKind::NoSpace));
    assert_eq!((disk.snapshot_files().len(), disk.free_bytes()), (0, Some(1000)));
    put_bytes(&store, "a/k", &[1; 1000]).unwrap();
    store.barrier().unwrap();
    store.delete("a/k").unwrap();
    assert_eq!(disk.free_bytes(), Some(1000));
}

#[test]
fn a_fault_at_any_call_leaves_no_half_file() {
    for fault in 0..5 {
        let (disk, store) = ready();
        disk.fail_call(disk.mutating_calls() + fault, io::ErrorKind::PermissionDenied);
        let put = put_bytes(&store, "a/k", b"12");
        assert_eq!(put.is_ok(), fault == 4, "{fault}");
        let files = disk.snapshot_files();
        assert_eq!(files.get("a/k").map(Vec::as_slice), put.is_ok().then_some(&b"12"[..]));
        assert_eq!(temps(&disk), 0);
    }
}

#[test]
fn only_temporary_files_without_a_writer_are_cleaned() {
    struct Cleans<'a>(&'a LocalStorage, &'a [u8]);
    impl Read for Cleans<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            assert_eq!(self.0.clean_temporary("a").unwrap(), 0, "the writer is alive");
            self.1.read(out)
        }
    }
    let (disk, store) = ready();
    let mut disk_file = disk.create_new("a/.tmp-0000000000000000").unwrap();
    disk_file.write(b"half").unwrap();
    drop(disk_file);
    assert_eq!(on(&disk).clean_temporary("a").unwrap(), 1);
    let other = on(&disk);
    assert_eq!(
        store.put_new("a/k", 3, &mut Cleans(&other, b"123")).unwrap(),
        Created::Created
    );
    assert_eq!(store.get("a/k", 3).unwrap(), b"123");
}

#[test]
fn a_cleaner_that_takes_a_fresh_file_makes_the_writer_start_another() {
    let (disk, store) = ready();
    let cleaner = on(&disk);
    let real = disk.clone();
    // the disk as a writer sees it whose file is cleaned away right after its creation
    struct Late(SimFs, LocalStorage, std::sync::atomic::AtomicBool);
    impl Vfs for Late {
        fn create_new(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
            let file = self.0.create_new(path)?;
            if !self.2.swap(true, std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(self.1.clean_temporary("a").unwrap(), 1);
            }
            Ok(file)
        }
        fn open(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
            self.0.open(path)
        }
        fn open_lock(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
            self.0.open_lock(path)
        }
        fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename_noreplace(from, to)
        }
        fn link(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.link(from, to)
        }
        fn rename_over(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename_over(from, to)
        }
        fn unlink(&self, path: &str) -> io::Result<()> {
            self.0.unlink(path)
        }
        fn mkdir(&self, path: &str) -> io::Result<()> {
            self.0.mkdir(path)
        }
        fn fsync_dir(&self, path: &str) -> io::Result<()> {
            self.0.fsync_dir(path)
        }
        fn kind(&self, path: &str) -> io::Result<Option<FileKind>> {
            self.0.kind(path)
        }
        fn root_identity(&self) -> io::Result<Option<super::super::FolderIdentity>> {
            self.0.root_identity()
        }

        fn list(&self, path: &str) -> io::Result<Vec<super::super::vfs::DirEntry>> {
            self.0.list(path)
        }
    }
    let late = LocalStorage::new(
        Arc::new(Late(real, cleaner, false.into())),
        Arc::new(SeededEntropy::new(9)),
    );
    put_bytes(&late, "a/k", b"1").unwrap();
    assert_eq!(store.get("a/k", 1).unwrap(), b"1");
    assert_eq!(temps(&disk), 0);
}

#[test]
fn a_lost_folder_is_made_again_but_never_a_lost_root() {
    let (disk, store) = ready();
    put_bytes(&store, "new/deep/k", b"1").unwrap();
    store.barrier().unwrap();
    let after = disk.after_power_loss(&LossModel::NothingUnsynced);
    assert_eq!(on(&after).get("new/deep/k", 1).unwrap(), b"1");
    let unmounted = on(&SimFs::without_root(1));
    assert_eq!(kind_of(put_bytes(&unmounted, "a/k", b"1")), Some(ErrorKind::NotFound));
}

#[test]
fn a_barrier_covers_the_files_of_others_in_an_included_folder() {
    let (disk, store) = ready();
    put_bytes(&on(&disk), "a/theirs", b"1").unwrap();
    store.barrier().unwrap();
    let survives = |disk: &SimFs| {
        on(&disk.after_power_loss(&LossModel::NothingUnsynced))
            .size("a/theirs")
            .unwrap()
    };
    assert_eq!(survives(&disk), None);
    store.include_in_barrier("a");
    store.barrier().unwrap();
    assert_eq!(survives(&disk), Some(1));
}

#[test]
fn concurrent_barriers_each_cover_what_came_before_them() {
    let (disk, store) = ready();
    std::thread::scope(|scope| {
        for who in 0..4 {
            let (disk, store) = (&disk, &store);
            scope.spawn(move || {
                for round in 0..50 {
                    let key = format!("a/{who}-{round}");
                    put_bytes(store, &key, b"1").unwrap();
                    store.barrier().unwrap();
                    let image = disk.after_power_loss(&LossModel::NothingUnsynced);
                    assert_eq!(image.snapshot_files().get(&key).map(Vec::as_slice), Some(&b"1"[..]));
                }
            });
        }
    });
}

#[test]
fn a_power_cut_frees_locks_and_leases() {
    let (disk, store) = ready();
    put_bytes(&store, "locks/commit", b"").unwrap();
    let _lease = store.lease("locks/s.json", b"x").unwrap();
    let _lock = store
        .lock("locks/commit", LockMode::Exclusive, Duration::ZERO)
        .unwrap()
        .unwrap();
    let image = disk.after_power_loss(&LossModel::Everything);
    let store = on(&image);
    assert_eq!(store.lease_held("locks/s.json").unwrap(), Some(false));
    assert!(
        store
            .lock("locks/commit", LockMode::Exclusive, Duration::ZERO)
            .unwrap()
            .is_some()
    );
}

#[cfg(unix)]
#[test]
fn links_pipes_and_folders_in_place_of_files_are_errors() {
    let place = tempfile::tempdir().unwrap();
    let store = LocalStorage::open_path(place.path(), Arc::new(SeededEntropy::new(1))).unwrap();
    store.create_folders(&FOLDERS, &[]).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", place.path().join("a/link")).unwrap();
    let mkfifo = std::process::Command::new("mkfifo")
        .arg(place.path().join("a/pipe"))
        .status();
    assert!(mkfifo.unwrap().success());
    std::fs::create_dir(place.path().join("a/folder")).unwrap();
    assert_eq!(store.list("a").unwrap(), []);
    for key in ["a/link", "a/pipe", "a/folder"] {
        assert!(store.get(key, 1 << 20).is_err() && store.size(key).is_err(), "{key}");
        assert!(put_bytes(&store, key, b"1").is_err(), "{key}");
    }
    assert_eq!(kind_of(store.get("a/folder", 1)), Some(ErrorKind::NotADirectory));
    // even those can be replaced
    store.replace_damaged("a/folder", b"good").unwrap();
    store.replace_damaged("a/link", b"good").unwrap();
    assert_eq!(store.list("a").unwrap().len(), 2);
}

/// The calls of a network file system that lost an answer, and is asked again: it is done, and the second answer is about the
/// first.
#[test]
fn a_rename_whose_answer_was_lost_is_done() {
    for kind in [io::ErrorKind::AlreadyExists, io::ErrorKind::NotFound] {
        let (disk, store) = ready();
        let mut at = disk.mutating_calls();
        // create, write, fsync, rename
        disk.lose_answer(at + 3, kind);
        assert_eq!(put_bytes(&store, "a/x", b"mine").unwrap(), Created::Created, "{kind}");
        assert_eq!(store.get("a/x", 9).unwrap(), b"mine");
        store.barrier().unwrap();
        // create, write, rename
        at = disk.mutating_calls();
        disk.lose_answer(at + 2, kind);
        let lease = store.lease("locks/s.json", b"lease").unwrap();
        assert_eq!(on(&disk).lease_held("locks/s.json").unwrap(), Some(true), "{kind}");
        drop(lease);
        // create, write, fsync; link, fsync_dir; rename
        at = disk.mutating_calls();
        disk.lose_answer(at + 3, kind);
        disk.lose_answer(at + 5, kind);
        store.replace_damaged("a/x", b"better").unwrap();
        assert_eq!(store.get("a/x", 9).unwrap(), b"better");
        assert_eq!(store.list("quarantine").unwrap().len(), 1, "{kind}");
        // link, fsync_dir, unlink
        at = disk.mutating_calls();
        disk.lose_answer(at, kind);
        disk.lose_answer(at + 2, io::ErrorKind::NotFound);
        store.quarantine("a/x").unwrap();
        assert_eq!(store.size("a/x").unwrap(), None);
        assert_eq!(store.list("quarantine").unwrap().len(), 2, "{kind}");
        assert_eq!(temps(&disk), 0, "{kind}");
    }
}

#[test]
fn a_key_that_another_writer_took_meanwhile_is_not_mistaken_for_a_lost_answer() {
    let (disk, store) = ready();
    let other = on(&disk);
    let is_first = AtomicBool::new(true);
    let at = disk.mutating_calls();
    disk.before_mutation(Some(Box::new(move |number| {
        // the calls of the other writer come here too
        if number == at + 3 && is_first.swap(false, Ordering::SeqCst) {
            put_bytes(&other, "a/x", b"theirs").unwrap();
        }
    })));
    assert_eq!(put_bytes(&store, "a/x", b"mine").unwrap(), Created::Exists);
    assert_eq!(store.get("a/x", 9).unwrap(), b"theirs");
}

#[test]
fn a_lease_is_seen_as_held_where_files_are_known_by_their_paths() {
    let (disk, store) = ready();
    disk.know_files_by_path();
    let lease = store.lease("locks/s.json", b"lease").unwrap();
    let other = on(&disk);
    assert_eq!(other.lease_held("locks/s.json").unwrap(), Some(true));
    lease.leave();
    drop(lease);
    assert_eq!(other.lease_held("locks/s.json").unwrap(), Some(false));
    drop(other.lease("locks/t.json", b"lease").unwrap());
    assert_eq!(store.lease_held("locks/t.json").unwrap(), None);
}
