//! Failed calls, lost replies, full disks and unexpected files under a key.

use super::*;
use crate::storage::vfs::{FileKind, Vfs, VfsFile};
use std::sync::atomic::{AtomicBool, Ordering};

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
        // a new handle works
        put_bytes(&on(&disk), "a/new", b"1").unwrap();
    }
}

#[test]
fn a_full_disk_leaves_no_file_and_the_handle_still_works() {
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
fn a_fault_at_any_call_leaves_no_partial_file() {
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
fn a_writer_whose_fresh_file_is_cleaned_creates_another() {
    let (disk, store) = ready();
    let cleaner = on(&disk);
    let real = disk.clone();
    // a disk on which a cleaner deletes the first file right after its creation
    struct Late(SimFs, LocalStorage, AtomicBool);
    impl Vfs for Late {
        fn create_new(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
            let file = self.0.create_new(path)?;
            if !self.2.swap(true, Ordering::Relaxed) {
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
        fn root_identity(&self) -> io::Result<Option<crate::storage::FolderIdentity>> {
            self.0.root_identity()
        }

        fn list(&self, path: &str) -> io::Result<Vec<crate::storage::vfs::DirEntry>> {
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
fn a_lost_folder_is_recreated_but_never_a_lost_root() {
    let (disk, store) = ready();
    put_bytes(&store, "new/deep/k", b"1").unwrap();
    store.barrier().unwrap();
    let after = disk.after_power_loss(&LossModel::NothingUnsynced);
    assert_eq!(on(&after).get("new/deep/k", 1).unwrap(), b"1");
    let unmounted = on(&SimFs::without_root(1));
    assert_eq!(kind_of(put_bytes(&unmounted, "a/k", b"1")), Some(ErrorKind::NotFound));
}

#[cfg(unix)]
#[test]
fn links_pipes_and_folders_under_a_key_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let store = LocalStorage::open_path(dir.path(), Arc::new(SeededEntropy::new(1))).unwrap();
    store.create_folders(&FOLDERS, &[]).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.path().join("a/link")).unwrap();
    let mkfifo = std::process::Command::new("mkfifo")
        .arg(dir.path().join("a/pipe"))
        .status();
    assert!(mkfifo.unwrap().success());
    std::fs::create_dir(dir.path().join("a/folder")).unwrap();
    assert_eq!(store.list("a").unwrap(), []);
    for key in ["a/link", "a/pipe", "a/folder"] {
        assert!(store.get(key, 1 << 20).is_err() && store.size(key).is_err(), "{key}");
        assert!(put_bytes(&store, key, b"1").is_err(), "{key}");
    }
    assert_eq!(kind_of(store.get("a/folder", 1)), Some(ErrorKind::NotADirectory));
    // such files can be replaced too
    store.replace_damaged("a/folder", b"good").unwrap();
    store.replace_damaged("a/link", b"good").unwrap();
    assert_eq!(store.list("a").unwrap().len(), 2);
}

/// A network file system that loses a reply repeats the call: the first one has succeeded, and the
/// second one fails because of that.
#[test]
fn a_rename_whose_reply_was_lost_counts_as_done() {
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
fn a_key_that_another_writer_put_concurrently_is_not_mistaken_for_a_lost_reply() {
    let (disk, store) = ready();
    let other = on(&disk);
    let is_first = AtomicBool::new(true);
    let at = disk.mutating_calls();
    disk.before_mutation(Some(Box::new(move |number| {
        // the calls of the other writer run through this hook too
        if number == at + 3 && is_first.swap(false, Ordering::SeqCst) {
            put_bytes(&other, "a/x", b"theirs").unwrap();
        }
    })));
    assert_eq!(put_bytes(&store, "a/x", b"mine").unwrap(), Created::Exists);
    assert_eq!(store.get("a/x", 9).unwrap(), b"theirs");
}

#[test]
fn a_lease_is_seen_as_held_where_files_are_identified_by_path() {
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
