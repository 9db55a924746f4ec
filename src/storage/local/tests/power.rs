//! Power cuts on the simulated disk: the effect of a barrier, and the remains of a crash.

use super::*;

/// The acknowledged state of the sweep's work at the power cut.
#[derive(Default)]
struct Acknowledged {
    present: Vec<&'static str>,
    gone: Vec<&'static str>,
}

fn bytes_of(key: &str) -> Vec<u8> {
    key.bytes().cycle().take(3000).collect()
}

/// Puts and deletes with barriers until the power cut; returns what must hold after it.
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

/// Counts the guarantees that are broken on a disk after a power cut.
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

/// Cuts the power at every call and tries every loss model; returns the images tried and the
/// guarantees broken.
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
            // repeated: the remains of the crash must not prevent it
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
fn the_sweep_detects_a_missing_flush() {
    assert!(sweep(|disk| disk.skip_file_fsync(true)).1 > 0);
    assert!(sweep(|disk| disk.skip_dir_fsync(true)).1 > 0);
}

#[test]
fn create_folders_can_be_repeated_after_every_power_cut() {
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
            // and at no instant is there no file under the key
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
fn concurrent_barriers_each_cover_the_calls_before_them() {
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
fn a_power_cut_releases_locks_and_leases() {
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
