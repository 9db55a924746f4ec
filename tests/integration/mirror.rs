//! Mirrors: what they contain, that they are whole at every instant, and what is refused.

use crate::support::faults::HookedStorage;
use crate::support::*;
use containerarchive::id::SnapshotId;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, MirrorOptions, MirrorReport, PruneOptions, VerifyLevel, VerifyOptions};
use containerarchive::repo::{self, Environment, InitOptions, OpenOptions, Repository};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::snapshot::retention::RetentionPolicy;
use containerarchive::storage::simfs::SimFs;
use containerarchive::storage::{ErrorKind, FaultyStorage, LocalStorage, LockMode, MemoryStorage, Storage, put_bytes};
use containerarchive::{Error, Result, layout};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The folders whose files a mirror has too.
const FOLDERS: [&str; 7] = [
    layout::DATA,
    layout::PARITY,
    layout::KEY_COPIES,
    layout::RECORDS,
    layout::SNAPSHOTS,
    layout::INDEX,
    layout::KEYS,
];

/// The bytes of all files that a mirror has too.
fn files(storage: &dyn Storage) -> BTreeMap<String, Vec<u8>> {
    let keys = FOLDERS.iter().flat_map(|folder| storage.list(folder).unwrap());
    let mut files: BTreeMap<String, Vec<u8>> = keys
        .map(|entry| (entry.key.clone(), storage.get(&entry.key, 1 << 30).unwrap()))
        .collect();
    for key in [layout::CONFIG, layout::README] {
        files.insert(key.to_owned(), storage.get(key, 1 << 20).unwrap());
    }
    files
}

fn other_environment(storage: &Arc<dyn Storage>) -> Environment {
    Environment {
        path: "mirror".to_owned(),
        ..environment(Arc::clone(storage), 99)
    }
}

fn mirror(repo: &Arc<Repository>, target: &Arc<dyn Storage>, delete: bool) -> Result<MirrorReport> {
    let options = MirrorOptions {
        delete,
        ..MirrorOptions::default()
    };
    ops::mirror_to(repo, &other_environment(target), &options, &NullMonitor)
}

fn empty() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new())
}

fn open_mirror(storage: &Arc<dyn Storage>, flavor: Flavor) -> Arc<Repository> {
    open(other_environment(storage), flavor).unwrap()
}

/// The codes of everything that a full verify finds.
fn findings(repo: &Arc<Repository>) -> Vec<&'static str> {
    let options = VerifyOptions {
        level: VerifyLevel::Full,
        subset: None,
    };
    let report = ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap();
    report.problems.iter().map(|problem| problem.code).collect()
}

/// Frees everything that no snapshot needs, and removes none.
fn prune_options() -> PruneOptions {
    PruneOptions {
        max_unused: 0.0,
        ..PruneOptions::new(RetentionPolicy::from_json(r#"{"keepLast":"all"}"#).unwrap())
    }
}

fn forget_and_prune(repo: &Arc<Repository>, ids: &[SnapshotId]) {
    ops::forget(repo, ids).unwrap();
    ops::prune(repo, &prune_options(), &NullMonitor).unwrap();
}

/// What each snapshot contains.
type Contents = BTreeMap<SnapshotId, Vec<u8>>;

/// Restores every snapshot of a mirror, and returns how many there are. A folder without a config
/// is no repository yet.
fn restore_all(storage: &Arc<dyn Storage>, flavor: Flavor, contents: &Contents) -> usize {
    if storage.size(layout::CONFIG).unwrap().is_none() {
        assert_eq!(storage.list(layout::SNAPSHOTS).unwrap(), []);
        return 0;
    }
    let copy = open_mirror(storage, flavor);
    let snapshots = ops::list_snapshots(&copy, &SnapshotFilter::default()).unwrap();
    for snapshot in &snapshots {
        let restored = restore(&copy, &snapshot.id.to_hex(), None).unwrap();
        assert!(restored == contents[&snapshot.id], "{}", snapshot.id);
    }
    assert_eq!(snapshots.len(), storage.list(layout::SNAPSHOTS).unwrap().len());
    if snapshots.is_empty() {
        // a mirror that has only begun: its key file may be missing
        return 0;
    }
    assert_eq!(ingest(&copy, b"x").unwrap_err().code(), "ERR_MIRROR");
    snapshots.len()
}

/// A repository with three snapshots that share data, and their contents.
fn three(flavor: Flavor) -> (Arc<Repository>, Arc<dyn Storage>, Contents) {
    let (repo, storage) = memory_repo(flavor);
    let mut contents = Contents::new();
    let base = random_bytes(1, 70_000);
    for number in 0..3u64 {
        let data = [&base[number as usize * 10_000..], &text_bytes(number, 10_000)].concat();
        contents.insert(ingest(&repo, &data).unwrap().id, data);
    }
    (repo, storage, contents)
}

#[test]
fn a_mirror_has_the_bytes_of_the_repository_and_verifies_clean() {
    for flavor in flavors() {
        let (repo, source, contents) = three(flavor);
        let target = empty();
        let report = mirror(&repo, &target, false).unwrap();
        assert_eq!((report.snapshots, report.copied_snapshots.len()), (3, 3));
        assert!(files(&*target) == files(&*source));
        assert_eq!(restore_all(&target, flavor, &contents), 3);
        assert_eq!(findings(&open_mirror(&target, flavor)), [] as [&str; 0]);
        let again = mirror(&repo, &target, true).unwrap();
        assert_eq!((again.copied_files, again.removed_files), (0, 0));
    }
}

#[test]
fn a_mirror_follows_forgets_and_prunes_only_with_delete() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (repo, source, mut contents) = three(flavor);
        let target = empty();
        mirror(&repo, &target, false).unwrap();
        let first = *contents.keys().next().unwrap();
        forget_and_prune(&repo, &[first]);
        let data = random_bytes(7, 60_000);
        contents.insert(ingest(&repo, &data).unwrap().id, data);
        let kept = mirror(&repo, &target, false).unwrap();
        assert_eq!((kept.snapshots, kept.removed_files), (4, 0));
        assert_eq!(restore_all(&target, flavor, &contents), 4);
        let dry = ops::mirror_to(
            &repo,
            &other_environment(&target),
            &MirrorOptions {
                delete: true,
                dry_run: true,
            },
            &NullMonitor,
        )
        .unwrap();
        assert_eq!(dry.removed_snapshots, [first]);
        let followed = mirror(&repo, &target, true).unwrap();
        assert_eq!((followed.snapshots, &followed.removed_snapshots[..]), (3, &[first][..]));
        assert_eq!(
            (dry.removed_files, dry.removed_bytes),
            (followed.removed_files, followed.removed_bytes)
        );
        assert!(files(&*target) == files(&*source));
        assert_eq!(restore_all(&target, flavor, &contents), 3);
        assert_eq!(findings(&open_mirror(&target, flavor)), [] as [&str; 0]);
    }
}

#[test]
fn a_mirror_is_made_and_followed_without_keys() {
    let (repo, source, contents) = three(Flavor::sealed());
    let options = OpenOptions {
        keyless: true,
        ..OpenOptions::default()
    };
    let keyless = Arc::new(repo::open(environment(Arc::clone(&source), 5), None, &options).unwrap());
    let target = empty();
    mirror(&keyless, &target, true).unwrap();
    forget_and_prune(&repo, &[*contents.keys().last().unwrap()]);
    ingest(&repo, b"more").unwrap();
    mirror(&keyless, &target, true).unwrap();
    assert!(files(&*target) == files(&*source));
    assert_eq!(findings(&open_mirror(&target, Flavor::sealed())), [] as [&str; 0]);
}

#[test]
fn a_mirror_is_read_only_until_it_is_promoted() {
    let (repo, _, contents) = three(Flavor::sealed());
    let target = empty();
    mirror(&repo, &target, false).unwrap();
    let copy = open_mirror(&target, Flavor::sealed());
    let id = *contents.keys().next().unwrap();
    assert_eq!(ops::forget(&copy, &[id]).unwrap_err().code(), "ERR_MIRROR");
    assert_eq!(ops::repair(&copy, &NullMonitor).unwrap_err().code(), "ERR_MIRROR");
    let error = ingest(&copy, b"second").unwrap_err();
    assert_eq!(error.code(), "ERR_MIRROR");
    assert!(error.hint().unwrap().contains("promote: true"));
    let promoted = |options: &OpenOptions| {
        repo::open(other_environment(&target), Flavor::sealed().secret().as_ref(), options).map(Arc::new)
    };
    let options = OpenOptions {
        promote: true,
        ..OpenOptions::default()
    };
    let read_only = OpenOptions {
        read_only: true,
        ..options.clone()
    };
    assert_eq!(promoted(&read_only).err().unwrap().code(), "ERR_INVALID_ARGUMENT");
    // while a mirroring holds the lock
    let held = target
        .lock(layout::MAINT_LOCK, LockMode::Exclusive, Duration::ZERO)
        .unwrap();
    assert_eq!(promoted(&options).err().unwrap().code(), "ERR_REPO_LOCKED");
    drop(held);
    let copy = promoted(&options).unwrap();
    ingest(&copy, b"second").unwrap();
    let marks = target.list("").unwrap();
    assert!(!marks.iter().any(|file| file.key.starts_with("mirror")));
    promoted(&options).unwrap();
    // two writable repositories with one id from here on
    assert_eq!(mirror(&repo, &target, false).unwrap_err().code(), "ERR_MIRROR_REFUSED");
}

#[test]
fn a_repository_whose_folder_is_replaced_by_its_mirror_is_not_written_to() {
    let (repo, source, _) = three(Flavor::plain());
    put_bytes(&*source, layout::MIRROR, b"any bytes").unwrap();
    assert_eq!(ingest(&repo, b"x").unwrap_err().code(), "ERR_MIRROR");
    source.delete(layout::MIRROR).unwrap();
    ingest(&repo, b"x").unwrap();
}

#[test]
fn wrong_targets_are_refused_and_stay_as_they_are() {
    let (repo, source, contents) = three(Flavor::plain());
    let refused = |repo: &Arc<Repository>, target: &Arc<dyn Storage>, part: &str| {
        let before = storage_bytes(&**target);
        for delete in [false, true] {
            let error = mirror(repo, target, delete).unwrap_err();
            assert_eq!(error.code(), "ERR_MIRROR_REFUSED", "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(storage_bytes(&**target) == before);
    };
    // files of the user
    let target = empty();
    put_bytes(&*target, "letter.txt", b"dear").unwrap();
    refused(&repo, &target, "not empty");
    // another repository, and a mirror of another one
    let (other, other_storage) = (init(environment(empty(), 70), Flavor::plain()).unwrap(), empty());
    ingest(&other, b"theirs").unwrap();
    mirror(&other, &other_storage, false).unwrap();
    refused(&repo, &other_storage, "mirror of another repository");
    let copied = empty();
    for (key, bytes) in storage_bytes(&*source) {
        put_bytes(&*copied, &key, &bytes).unwrap();
    }
    refused(&repo, &copied, "can be written to");
    // a mirror with a snapshot that something else has put there
    let target = empty();
    mirror(&repo, &target, false).unwrap();
    let foreign = SnapshotId([0xee; 16]);
    put_bytes(&*target, &layout::snapshot(&foreign), b"{}").unwrap();
    refused(&repo, &target, "written to the mirror");
    target.delete(&layout::snapshot(&foreign)).unwrap();
    // a source that was set back to a state before the newest snapshot
    let newest = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap()[0].id;
    let manifest = source.get(&layout::snapshot(&newest), 1 << 20).unwrap();
    source.delete(&layout::snapshot(&newest)).unwrap();
    let reopened = open(environment(Arc::clone(&source), 8), Flavor::plain()).unwrap();
    let error = mirror(&reopened, &target, true).unwrap_err();
    assert!(error.to_string().contains("set back"), "{error}");
    assert_eq!(mirror(&reopened, &target, false).unwrap().snapshots, 3);
    put_bytes(&*source, &layout::snapshot(&newest), &manifest).unwrap();
    // a source without snapshots
    for id in contents.keys() {
        source.delete(&layout::snapshot(id)).unwrap();
    }
    refused(&repo, &target, "has no snapshots");
}

fn storage_bytes(storage: &dyn Storage) -> BTreeMap<String, Vec<u8>> {
    let folders = layout::FOLDERS.iter().chain([&""]);
    let keys = folders.flat_map(|folder| storage.list(folder).unwrap());
    keys.map(|entry| (entry.key.clone(), storage.get(&entry.key, 1 << 30).unwrap()))
        .collect()
}

#[test]
fn an_unmounted_source_ends_the_mirroring_and_deletes_nothing() {
    let (repo, source, contents) = three(Flavor::plain());
    let target = empty();
    mirror(&repo, &target, false).unwrap();
    let gone = Arc::new(FaultyStorage::new(Arc::clone(&source)));
    let handle = open(environment(Arc::clone(&gone) as Arc<dyn Storage>, 9), Flavor::plain()).unwrap();
    gone.fail_when(|op, _| op == "get" || op == "size", ErrorKind::NotFound);
    let error = mirror(&handle, &target, true).unwrap_err();
    assert_ne!(error.code(), "ERR_MIRROR_REFUSED", "{error}");
    assert_eq!(restore_all(&target, Flavor::plain(), &contents), 3);
}

#[test]
fn a_damaged_pack_is_rebuilt_from_parity_or_keeps_new_snapshots_out() {
    let (repo, source, contents) = three(Flavor::plain());
    let target = empty();
    let packs = source.list(layout::DATA).unwrap();
    let pack = packs.iter().find(|file| file.key.ends_with(".pack")).unwrap();
    damage(&*source, &pack.key);
    let report = mirror(&repo, &target, true).unwrap();
    assert_eq!(report.rebuilt_packs, 1);
    assert_eq!(restore_all(&target, Flavor::plain(), &contents), 3);
    assert_eq!(findings(&open_mirror(&target, Flavor::plain())), [] as [&str; 0]);

    // no row is left from which parity could rebuild another, and which snapshot needs which pack
    // is not known without keys
    let (_, source, contents) = three(Flavor::sealed());
    let options = OpenOptions {
        keyless: true,
        ..OpenOptions::default()
    };
    let keyless = Arc::new(repo::open(environment(Arc::clone(&source), 5), None, &options).unwrap());
    let target = empty();
    for file in source.list(layout::DATA).unwrap() {
        if file.key.ends_with(".pack") {
            let mut bytes = source.get(&file.key, 1 << 30).unwrap();
            bytes.iter_mut().step_by(512).for_each(|byte| *byte ^= 1);
            source.delete(&file.key).unwrap();
            put_bytes(&*source, &file.key, &bytes).unwrap();
        }
    }
    assert_eq!(mirror(&keyless, &target, true).unwrap_err().code(), "ERR_PACK_CORRUPT");
    assert_eq!(restore_all(&target, Flavor::sealed(), &contents), 0);
}

/// Without parity, a damaged or lost pack keeps only the snapshot out that needs it.
#[test]
fn a_pack_that_cannot_be_rebuilt_keeps_only_its_snapshots_out() {
    for is_lost in [false, true] {
        let source = empty();
        let options = InitOptions {
            parity: Some(None),
            ..Flavor::sealed().small()
        };
        let secret = Flavor::sealed().secret();
        let repo = repo::init(environment(Arc::clone(&source), 7), secret.as_ref(), &options).unwrap();
        let (repo, mut contents) = (Arc::new(repo), Contents::new());
        let mut keep = |data: Vec<u8>| contents.insert(ingest(&repo, &data).unwrap().id, data);
        keep(random_bytes(1, 90_000));
        let before: Vec<String> = source
            .list(layout::DATA)
            .unwrap()
            .into_iter()
            .map(|file| file.key)
            .collect();
        keep(random_bytes(2, 90_000));
        let own = source.list(layout::DATA).unwrap().into_iter();
        let own = own.filter(|file| file.key.ends_with(".pack") && !before.contains(&file.key));
        let pack = own.max_by_key(|file| file.len).unwrap();
        let whole = source.get(&pack.key, 1 << 30).unwrap();
        match is_lost {
            true => source.delete(&pack.key).unwrap(),
            false => damage(&*source, &pack.key),
        }
        let target = empty();
        let error = mirror(&repo, &target, true).unwrap_err();
        let expected = if is_lost {
            "ERR_PACK_MISSING"
        } else {
            "ERR_PACK_CORRUPT"
        };
        assert_eq!(error.code(), expected, "{error}");
        assert_eq!(restore_all(&target, Flavor::sealed(), &contents), 1);
        source.delete(&pack.key).unwrap();
        put_bytes(&*source, &pack.key, &whole).unwrap();
        mirror(&repo, &target, true).unwrap();
        assert_eq!(restore_all(&target, Flavor::sealed(), &contents), 2);
    }
}

/// Changes one byte of a file.
fn damage(storage: &dyn Storage, key: &str) {
    let mut bytes = storage.get(key, 1 << 30).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    storage.delete(key).unwrap();
    put_bytes(storage, key, &bytes).unwrap();
}

/// Runs a first mirroring, changes the source, and runs a second one that deletes; each is cut at
/// every call to the target.
#[test]
fn a_mirroring_that_is_cut_at_any_call_leaves_whole_snapshots_and_the_next_one_completes() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (repo, source, mut contents) = three(flavor);
        let cut = |target: &Arc<dyn Storage>, at: u64| {
            let faulty = Arc::new(FaultyStorage::new(Arc::clone(target)));
            // everything from this call on fails, as after a kill
            let calls = Mutex::new(0);
            faulty.fail_when(
                move |_, _| {
                    let mut calls = calls.lock().unwrap();
                    *calls += 1;
                    *calls > at
                },
                ErrorKind::Io,
            );
            mirror(&repo, &(Arc::clone(&faulty) as Arc<dyn Storage>), true)
        };
        let mut whole: Option<BTreeMap<String, Vec<u8>>> = None;
        for step in 0..2 {
            let before = whole.take();
            let begin = || {
                let target = empty();
                for (key, bytes) in before.iter().flatten() {
                    put_bytes(&*target, key, bytes).unwrap();
                }
                target
            };
            let mut seen = 0;
            for at in 0.. {
                assert!(at < 5000);
                let target = begin();
                let ended = cut(&target, at).is_ok();
                seen = seen.max(restore_all(&target, flavor, &contents));
                // some of the cuts are continued, and all of the last ones
                if ended || at % 7 == step {
                    mirror(&repo, &target, true).unwrap();
                    assert!(files(&*target) == files(&*source), "cut at {at}");
                    assert_eq!(findings(&open_mirror(&target, flavor)), [] as [&str; 0]);
                }
                if ended {
                    assert!(at > 20, "{at}");
                    whole = Some(storage_bytes(&*target));
                    break;
                }
            }
            assert!(seen >= 3);
            if step == 0 {
                let first = *contents.keys().next().unwrap();
                forget_and_prune(&repo, &[first]);
                let data = random_bytes(40, 90_000);
                contents.insert(ingest(&repo, &data).unwrap().id, data);
            }
        }
    }
}

/// Cuts the power at every change of the target, and builds every disk that this can leave.
#[test]
fn a_mirror_survives_a_power_cut_at_any_change() {
    let flavor = Flavor::plain();
    let (repo, source, contents) = three(flavor);
    let store = |disk: &SimFs| -> Arc<dyn Storage> {
        let entropy = Arc::new(containerarchive::entropy::SeededEntropy::new(77));
        Arc::new(LocalStorage::new(Arc::new(disk.clone()), entropy))
    };
    for at in 0.. {
        assert!(at < 5000);
        let disk = SimFs::without_root(1);
        disk.crash_at(at);
        let ended = mirror(&repo, &store(&disk), true).is_ok();
        if !disk.is_off() {
            assert!(ended && at > 50);
            break;
        }
        for (number, model) in disk.loss_models(1).iter().enumerate() {
            let left = disk.after_power_loss(model);
            restore_all(&store(&left), flavor, &contents);
            if (at as usize + number).is_multiple_of(11) {
                let target = store(&left);
                mirror(&repo, &target, true).unwrap();
                assert!(files(&*target) == files(&*source), "crash at {at}, {model:?}");
            }
        }
    }
}

/// A store that runs `hook` before call number `at` to it; `calls` counts them.
fn interrupted(
    inner: &Arc<dyn Storage>,
    at: u64,
    calls: &Arc<AtomicU64>,
    hook: impl FnOnce() + Send + 'static,
) -> Arc<dyn Storage> {
    let hook = Mutex::new(Some(hook));
    let calls = Arc::clone(calls);
    Arc::new(HookedStorage::new(Arc::clone(inner), move |_, _| {
        if calls.fetch_add(1, Ordering::Relaxed) == at {
            let hook = hook.lock().unwrap().take();
            hook.into_iter().for_each(|hook| hook());
        }
    }))
}

/// Before each call to the source, another process forgets a snapshot, prunes, and ingests. Where
/// the mirroring holds the commit lock, that process is refused, as after its `lockWaitMs`.
#[test]
fn a_source_that_is_pruned_and_written_between_any_two_calls_leaves_whole_snapshots() {
    let flavor = Flavor::sealed();
    let no_wait = OpenOptions {
        lock_wait: Duration::ZERO,
        ..OpenOptions::default()
    };
    for at in 0.. {
        assert!(at < 5000);
        let (_, source, contents) = three(flavor);
        let contents = Arc::new(Mutex::new(contents));
        let secret = flavor.secret();
        let writer = repo::open(environment(Arc::clone(&source), 31), secret.as_ref(), &no_wait).unwrap();
        let (writer, known) = (Arc::new(writer), Arc::clone(&contents));
        let hook = move || {
            let first = *known.lock().unwrap().keys().next().unwrap();
            let _ = ops::forget(&writer, &[first]);
            match ops::prune(&writer, &prune_options(), &NullMonitor) {
                Ok(_) | Err(Error::RepositoryLocked { .. }) => {}
                Err(error) => panic!("{error}"),
            }
            let data = random_bytes(50, 30_000);
            if let Ok(snapshot) = ingest(&writer, &data) {
                known.lock().unwrap().insert(snapshot.id, data);
            }
        };
        // the calls of the open come first
        let calls = Arc::new(AtomicU64::new(0));
        let counted = interrupted(&source, u64::MAX, &calls, || {});
        open(environment(counted, 32), flavor).unwrap();
        let opened = calls.swap(0, Ordering::Relaxed);
        let between = interrupted(&source, opened + at, &calls, hook);
        let handle = open(environment(between, 32), flavor).unwrap();
        let target = empty();
        mirror(&handle, &target, true).unwrap();
        let was_interrupted = calls.load(Ordering::Relaxed) > opened + at;
        let contents = contents.lock().unwrap().clone();
        assert!(restore_all(&target, flavor, &contents) >= 2, "call {at}");
        if !was_interrupted {
            assert!(at > 50, "{at}");
            break;
        }
        if at.is_multiple_of(3) {
            mirror(&handle, &target, true).unwrap();
            assert!(files(&*target) == files(&*source), "call {at}");
            assert_eq!(findings(&open_mirror(&target, flavor)), [] as [&str; 0], "call {at}");
        }
    }
}
