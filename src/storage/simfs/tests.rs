//! Tests of the simulated disk: what it loses and what it keeps.

use super::*;
use crate::storage::LockMode;
use crate::storage::vfs::{FileKind, Vfs, VfsFile};

/// A durable, empty file `f` in the root.
fn with_file() -> (SimFs, Box<dyn VfsFile>) {
    let disk = SimFs::new();
    let file = disk.create_new("f").unwrap();
    disk.fsync_dir("").unwrap();
    (disk, file)
}

fn left(disk: &SimFs, model: LossModel) -> BTreeMap<String, Vec<u8>> {
    disk.after_power_loss(&model).snapshot_files()
}

fn names(disk: &SimFs, model: LossModel) -> Vec<String> {
    left(disk, model).into_keys().collect()
}

#[test]
fn bytes_that_were_not_flushed_are_lost() {
    let (disk, mut file) = with_file();
    file.write(b"one").unwrap();
    file.fsync().unwrap();
    file.write(b"two").unwrap();
    assert_eq!(left(&disk, LossModel::NothingUnsynced)["f"], b"one");
    assert_eq!(left(&disk, LossModel::NamesButNoData)["f"], b"one");
    assert_eq!(left(&disk, LossModel::NamesAndZeros)["f"], b"one\0\0\0");
    assert_eq!(left(&disk, LossModel::TailZeros)["f"], b"onet\0\0");
    assert_eq!(left(&disk, LossModel::TailStale)["f"], b"onetZZ");
    assert_eq!(left(&disk, LossModel::Everything)["f"], b"onetwo");
    file.fsync().unwrap();
    assert_eq!(disk.loss_models(9), [LossModel::Everything], "nothing is left to lose");
}

#[test]
fn a_write_is_torn_at_sectors_pages_and_anywhere() {
    let (disk, mut file) = with_file();
    file.write(&[1; 100]).unwrap();
    file.write(&[2; 8192]).unwrap();
    let len = |tear| left(&disk, LossModel::TornLastWrite(tear))["f"].len();
    assert_eq!(len(Tear::Sector), 100 + 8192 - 512);
    assert_eq!(len(Tear::Page), 100 + 4096);
    for seed in 0..20 {
        assert!((100..8292).contains(&len(Tear::Byte(seed))));
    }
}

#[test]
fn a_name_needs_a_flush_of_its_folder() {
    let disk = SimFs::new();
    let mut file = disk.create_new("f").unwrap();
    file.write(b"1").unwrap();
    file.fsync().unwrap();
    assert_eq!(names(&disk, LossModel::DataButNoNames), [""; 0]);
    assert_eq!(names(&disk, LossModel::NothingUnsynced), [""; 0]);
    assert_eq!(
        left(&disk, LossModel::NamesButNoData)["f"],
        b"1",
        "its bytes were flushed"
    );
    disk.fsync_dir("").unwrap();
    assert_eq!(left(&disk, LossModel::NothingUnsynced)["f"], b"1");
}

#[test]
fn a_rename_in_a_folder_is_atomic() {
    let (disk, _file) = with_file();
    disk.rename_noreplace("f", "g").unwrap();
    disk.create_new("h").unwrap();
    for model in disk.loss_models(50) {
        let names = names(&disk, model);
        assert_eq!(
            names.iter().filter(|name| *name == "f" || *name == "g").count(),
            1,
            "{model:?} {names:?}"
        );
    }
    assert_eq!(names(&disk, LossModel::EachPendingNameOpLost(0)), ["f", "h"]);
    assert_eq!(names(&disk, LossModel::EachPendingNameOpKept(0)), ["g"]);
    assert_eq!(names(&disk, LossModel::PrefixOfNameOps(1)), ["g"]);
}

#[test]
fn a_change_is_kept_with_the_changes_that_it_needs_and_lost_with_them() {
    let disk = SimFs::new();
    disk.mkdir("d").unwrap();
    disk.create_new("d/tmp").unwrap();
    disk.rename_noreplace("d/tmp", "d/f").unwrap();
    assert_eq!(names(&disk, LossModel::EachPendingNameOpKept(2)), ["d/f"]);
    assert_eq!(names(&disk, LossModel::EachPendingNameOpLost(1)), [""; 0]);
    assert_eq!(names(&disk, LossModel::EachPendingNameOpLost(0)), [""; 0]);
}

#[test]
fn a_rename_between_folders_can_lose_or_double_the_file() {
    let (disk, _file) = with_file();
    disk.mkdir("d").unwrap();
    disk.fsync_dir("").unwrap();
    disk.rename_noreplace("f", "d/f").unwrap();
    assert_eq!(names(&disk, LossModel::EachPendingNameOpLost(0)), [""; 0]);
    assert_eq!(names(&disk, LossModel::EachPendingNameOpLost(1)), ["d/f", "f"]);
    assert_eq!(names(&disk, LossModel::UnlinksButNoLinks), [""; 0]);
}

#[test]
fn deletes_can_become_durable_before_new_names() {
    let (disk, _file) = with_file();
    disk.create_new("new").unwrap();
    disk.unlink("f").unwrap();
    assert!(disk.loss_models(0).contains(&LossModel::UnlinksButNoLinks));
    assert_eq!(names(&disk, LossModel::UnlinksButNoLinks), [""; 0]);
    assert_eq!(names(&disk, LossModel::NothingUnsynced), ["f"]);
    assert_eq!(names(&disk, LossModel::PrefixOfNameOps(1)), ["f", "new"]);
    // a delete of a name that was never durable needs nothing
    disk.unlink("new").unwrap();
    assert_eq!(names(&disk, LossModel::UnlinksButNoLinks), [""; 0]);
}

#[test]
fn a_new_folder_is_lost_with_its_content() {
    let disk = SimFs::new();
    disk.mkdir("d").unwrap();
    let mut file = disk.create_new("d/f").unwrap();
    file.write(b"1").unwrap();
    file.fsync().unwrap();
    disk.fsync_dir("d").unwrap();
    disk.create_new("top").unwrap();
    assert!(disk.loss_models(0).contains(&LossModel::NewFoldersLost));
    assert_eq!(names(&disk, LossModel::NewFoldersLost), ["top"]);
    assert_eq!(names(&disk, LossModel::NothingUnsynced), [""; 0]);
    disk.fsync_dir("").unwrap();
    assert_eq!(names(&disk, LossModel::NothingUnsynced), ["d/f", "top"]);
}

#[test]
fn the_models_cover_everything_that_is_pending_once() {
    let (disk, mut file) = with_file();
    assert_eq!(disk.loss_models(64), [LossModel::Everything]);
    file.write(b"1").unwrap();
    assert!(!disk.loss_models(0).contains(&LossModel::DataButNoNames));
    for name in ["x", "y", "z"] {
        disk.create_new(name).unwrap();
    }
    let models = disk.loss_models(64);
    for i in 0..3 {
        assert!(models.contains(&LossModel::EachPendingNameOpLost(i)));
        assert!(models.contains(&LossModel::EachPendingNameOpKept(i)));
    }
    assert_eq!(
        models
            .iter()
            .filter(|model| matches!(model, LossModel::RandomSubset(_)))
            .count(),
        64
    );
    for (i, model) in models.iter().enumerate() {
        assert!(!models[..i].contains(model), "{model:?} twice");
    }
    let outcomes: std::collections::BTreeSet<_> =
        (0..64).map(|seed| left(&disk, LossModel::RandomSubset(seed))).collect();
    assert!(outcomes.len() > 20, "random subsets differ: {}", outcomes.len());
}

#[test]
fn an_image_is_a_separate_disk_and_can_crash_again() {
    let (disk, mut file) = with_file();
    file.write(b"old").unwrap();
    let image = disk.after_power_loss(&LossModel::Everything);
    image.unlink("f").unwrap();
    image.crash_at(1);
    assert!(image.create_new("g").is_err() && image.is_off());
    assert_eq!(names(&image, LossModel::NothingUnsynced), ["f"]);
    assert_eq!(names(&image, LossModel::Everything), [""; 0]);
    file.write(b" new").unwrap();
    assert_eq!(
        left(&image, LossModel::NothingUnsynced)["f"],
        b"old",
        "later writes do not reach it"
    );
    assert_eq!(disk.snapshot_files()["f"], b"old new");
}

#[test]
fn every_call_after_the_crash_fails() {
    let (disk, mut file) = with_file();
    assert_eq!(disk.mutating_calls(), 2);
    disk.crash_at(3);
    assert!(file.try_lock(LockMode::Exclusive).unwrap());
    file.write(b"1").unwrap();
    assert!(!disk.is_off());
    assert!(file.write(b"2").is_err() && disk.is_off());
    assert!(disk.open("f").is_err() && disk.list("").is_err() && disk.kind("f").is_err());
    assert!(file.fsync().is_err() && file.read_at(0, &mut [0]).is_err() && disk.unlink("f").is_err());
    assert!(file.try_lock(LockMode::Shared).is_err());
    assert_eq!(disk.mutating_calls(), 3);
    assert_eq!(disk.snapshot_files()["f"], b"1");
    assert!(
        disk.after_power_loss(&LossModel::Everything)
            .open("f")
            .unwrap()
            .try_lock(LockMode::Exclusive)
            .unwrap()
    );
}

#[test]
fn a_second_flush_does_not_repair_a_failed_one() {
    let (disk, mut file) = with_file();
    file.write(b"1").unwrap();
    disk.create_new("g").unwrap();
    let call = disk.mutating_calls();
    disk.fail_call(call, io::ErrorKind::Other);
    disk.fail_call(call + 1, io::ErrorKind::Other);
    assert!(file.fsync().is_err() && disk.fsync_dir("").is_err());
    file.fsync().unwrap();
    disk.fsync_dir("").unwrap();
    assert_eq!(
        left(&disk, LossModel::NothingUnsynced),
        [("f".to_owned(), Vec::new())].into()
    );
}

#[test]
fn skipped_flushes_are_counted_and_harden_nothing() {
    let (disk, mut file) = with_file();
    disk.skip_file_fsync(true);
    disk.skip_dir_fsync(true);
    file.write(b"1").unwrap();
    file.fsync().unwrap();
    disk.create_new("g").unwrap();
    disk.fsync_dir("").unwrap();
    assert_eq!(disk.mutating_calls(), 6);
    assert_eq!(
        left(&disk, LossModel::NothingUnsynced),
        [("f".to_owned(), Vec::new())].into()
    );
    disk.sync_all();
    assert_eq!(disk.loss_models(5), [LossModel::Everything]);
}

#[test]
fn a_full_disk_keeps_the_bytes_that_fit() {
    let (disk, mut file) = with_file();
    disk.set_free_bytes(Some(3));
    let full = file.write(b"12345").unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.snapshot_files()["f"], b"123");
    assert_eq!(disk.mkdir("d").unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.unlink("f").unwrap();
    assert_eq!(disk.free_bytes(), Some(3));
}

#[test]
fn every_handle_is_a_separate_owner_of_locks() {
    let (disk, _file) = with_file();
    let open = || disk.open_lock("f").unwrap();
    let (one, two) = (open(), open());
    assert!(one.try_lock(LockMode::Shared).unwrap() && two.try_lock(LockMode::Shared).unwrap());
    assert!(!two.try_lock(LockMode::Exclusive).unwrap());
    drop(one);
    assert!(
        two.try_lock(LockMode::Exclusive).unwrap(),
        "a lone holder may change its mode"
    );
    assert!(!open().try_lock(LockMode::Shared).unwrap());
    two.unlock();
    assert!(open().try_lock(LockMode::Exclusive).unwrap());
}

#[test]
fn the_hook_gets_the_call_number_and_may_use_the_disk() {
    let disk = SimFs::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (inside, list) = (disk.clone(), seen.clone());
    disk.before_mutation(Some(Box::new(move |number| {
        list.lock().unwrap().push((number, inside.snapshot_files().len()));
    })));
    disk.create_new("f").unwrap();
    disk.unlink("f").unwrap();
    assert_eq!(*seen.lock().unwrap(), [(0, 0), (1, 1)]);
    disk.before_mutation(None);
    assert_eq!(disk.log(), [("create", "f".to_owned()), ("unlink", "f".to_owned())]);
}

#[test]
fn damage_is_durable_and_not_counted() {
    let (disk, _file) = with_file();
    disk.damage("f", Some(b"rot".to_vec())).unwrap();
    assert_eq!(left(&disk, LossModel::NothingUnsynced)["f"], b"rot");
    disk.damage("f", None).unwrap();
    assert_eq!(names(&disk, LossModel::NothingUnsynced), [""; 0]);
    assert_eq!(disk.mutating_calls(), 2);
}

#[test]
fn real_and_simulated_disk_fail_alike() {
    let folder = tempfile::tempdir().unwrap();
    let real = super::super::vfs::RealFs::new(folder.path()).unwrap();
    let sim = SimFs::new();
    for fs in [&real as &dyn Vfs, &sim] {
        fs.create_new("f").unwrap();
        fs.mkdir("d").unwrap();
    }
    let kinds = |fs: &dyn Vfs| {
        let error = |result: io::Result<()>| result.err().map(|error| error.kind());
        [
            error(fs.create_new("f").map(|_| ())),
            error(fs.create_new("none/f").map(|_| ())),
            error(fs.create_new("f/f").map(|_| ())),
            error(fs.open("none").map(|_| ())),
            error(fs.open("d").map(|_| ())),
            error(fs.rename_noreplace("none", "x")),
            error(fs.rename_noreplace("f", "d")),
            error(fs.unlink("none")),
            error(fs.unlink("d")),
            error(fs.mkdir("d")),
            error(fs.mkdir("none/d")),
            error(fs.fsync_dir("none")),
            error(fs.fsync_dir("")),
            error(fs.list("f").map(|_| ())),
            error(fs.kind("f/x").map(|_| ())),
        ]
    };
    assert_eq!(kinds(&real), kinds(&sim));
}

#[test]
fn folders_above_a_missing_root_can_be_created_and_flushed() {
    let disk = SimFs::without_root(2);
    assert_eq!((disk.kind("").unwrap(), disk.kind("..").unwrap()), (None, None));
    assert_eq!(disk.kind("../..").unwrap(), Some(FileKind::Folder));
    assert!(disk.mkdir("").is_err());
    disk.mkdir("..").unwrap();
    disk.mkdir("").unwrap();
    disk.fsync_dir("..").unwrap();
    assert_eq!(
        disk.after_power_loss(&LossModel::NothingUnsynced).kind("..").unwrap(),
        None
    );
    disk.fsync_dir("../..").unwrap();
    assert_eq!(
        disk.after_power_loss(&LossModel::NothingUnsynced).kind("").unwrap(),
        Some(FileKind::Folder)
    );
}
