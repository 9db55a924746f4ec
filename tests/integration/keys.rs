//! Keys: list, add, change and remove; permissions, which keys open afterwards, and that a removed
//! key never comes back.

use crate::support::faults::*;
use crate::support::*;
use containerarchive::crypto::{KdfParams, KeyKind};
use containerarchive::entropy::OsEntropy;
use containerarchive::id::KeyId;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, KeyOptions, VerifyLevel, VerifyOptions};
use containerarchive::repo::{self, Environment, KeyInfo, OpenOptions, Repository, Secret};
use containerarchive::storage::{
    ErrorKind, FaultyStorage, LocalStorage, LockMode, MemoryStorage, RecordingStorage, Storage, put_bytes,
};
use containerarchive::{Result, layout};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use zeroize::Zeroizing;

const CHEAP: KdfParams = KdfParams {
    memory_kib: 8,
    time: 1,
    lanes: 1,
};

fn text(passphrase: &str) -> Secret {
    Secret::Passphrase(Zeroizing::new(passphrase.as_bytes().to_vec()))
}

fn raw(byte: u8) -> Secret {
    Secret::Raw(Zeroizing::new([byte; 32]))
}

fn cheap() -> KeyOptions {
    labelled(None)
}

fn labelled(label: Option<&str>) -> KeyOptions {
    KeyOptions {
        kdf: CHEAP,
        label: label.map(str::to_owned),
    }
}

fn open_with(storage: &Arc<dyn Storage>, secret: &Secret, seed: u64) -> Result<Repository> {
    repo::open(
        environment(Arc::clone(storage), seed),
        Some(secret),
        &OpenOptions::default(),
    )
}

/// Returns which of these secrets open the repository.
fn openers(storage: &Arc<dyn Storage>, secrets: &[&Secret]) -> Vec<bool> {
    let codes = secrets.iter().map(|secret| code(open_with(storage, secret, 9)));
    codes
        .map(|code| {
            assert!(["ok", "ERR_WRONG_PASSPHRASE"].contains(&code), "{code}");
            code == "ok"
        })
        .collect()
}

fn ids(keys: &[KeyInfo]) -> Vec<KeyId> {
    keys.iter().map(|key| key.id).collect()
}

fn problems(repo: &Arc<Repository>) -> (Vec<&'static str>, Vec<&'static str>) {
    let options = VerifyOptions {
        level: VerifyLevel::Quick,
        subset: None,
    };
    let report = ops::verify(repo, &options, &NullMonitor, &mut |_| ()).unwrap();
    (
        report.problems.iter().map(|problem| problem.code).collect(),
        report.notes.iter().map(|note| note.code).collect(),
    )
}

#[test]
fn an_added_key_opens_the_repository_and_is_listed() {
    let (repo, storage) = memory_repo(Flavor::sealed());
    let data = random_bytes(1, 50_000);
    let snapshot = ingest(&repo, &data).unwrap();
    let first = ops::list_keys(&repo).unwrap();
    assert_eq!(first.len(), 1);
    assert_eq!((first[0].kind, first[0].kdf), (KeyKind::Passphrase, Some(CHEAP)));
    assert!(first[0].current);

    let by_text = ops::add_key(&repo, &text("another"), &labelled(Some("laptop")), &NullMonitor).unwrap();
    let by_key = ops::add_key(&repo, &raw(7), &labelled(None), &NullMonitor).unwrap();
    assert_eq!(by_text.label.as_deref(), Some("laptop"));
    assert_eq!(
        (by_key.kind, by_key.kdf, by_key.label.as_deref()),
        (KeyKind::Raw, None, None)
    );
    let mut expected = vec![first[0].clone(), by_text.clone(), by_key.clone()];
    expected.sort_by_key(|key| key.id);
    assert_eq!(ops::list_keys(&repo).unwrap(), expected);

    for (secret, id) in [
        (passphrase(), first[0].id),
        (text("another"), by_text.id),
        (raw(7), by_key.id),
    ] {
        let other = Arc::new(open_with(&storage, &secret, 2).unwrap());
        assert!(restore(&other, &snapshot.id.to_hex(), None).unwrap() == data);
        let current: Vec<KeyId> = ids(&ops::list_keys(&other)
            .unwrap()
            .into_iter()
            .filter(|key| key.current)
            .collect::<Vec<_>>());
        assert_eq!(current, [id]);
        assert_eq!(problems(&other), (vec![], vec![]));
    }
    assert_eq!(openers(&storage, &[&text("Another"), &raw(8), &text("")]), [false; 3]);
}

#[test]
fn a_changed_key_replaces_the_old_one_and_its_copy() {
    let (repo, storage) = memory_repo(Flavor::sealed());
    let old = ops::list_keys(&repo).unwrap().remove(0);
    let mail = ops::add_key(&repo, &text("mail"), &labelled(Some("mail")), &NullMonitor).unwrap();
    // by default, the key that opened this handle
    let new = ops::change_key(&repo, None, &text("new"), &cheap(), &NullMonitor).unwrap();
    assert!(new.current);
    assert_eq!(
        openers(&storage, &[&passphrase(), &text("new"), &text("mail")]),
        [false, true, true]
    );
    // another key by its id; its label is kept unless there is a new one
    let raw_mail = ops::change_key(&repo, Some(&mail.id), &raw(1), &cheap(), &NullMonitor).unwrap();
    assert_eq!((raw_mail.label.as_deref(), raw_mail.current), (Some("mail"), false));
    let renamed = ops::change_key(
        &repo,
        Some(&raw_mail.id),
        &raw(2),
        &labelled(Some("post")),
        &NullMonitor,
    )
    .unwrap();
    assert_eq!(renamed.label.as_deref(), Some("post"));
    // the handle still knows its own key
    let last = ops::change_key(&repo, None, &text("newer"), &cheap(), &NullMonitor).unwrap();
    let secrets = [
        &passphrase(),
        &text("new"),
        &text("mail"),
        &raw(1),
        &raw(2),
        &text("newer"),
    ];
    assert_eq!(openers(&storage, &secrets), [false, false, false, false, true, true]);
    let files = files_of(storage.as_ref());
    for removed in [old.id, mail.id, new.id, raw_mail.id] {
        assert!(!files.keys().any(|key| key.contains(&removed.to_hex())));
        assert_eq!(
            code(ops::change_key(&repo, Some(&removed), &raw(3), &cheap(), &NullMonitor)),
            "ERR_KEY_NOT_FOUND"
        );
    }
    for there in [renamed.id, last.id] {
        assert_eq!(files[&layout::key(&there)], files[&layout::key_copy(&there)]);
    }
    assert_eq!(problems(&repo), (vec![], vec![]));
}

#[test]
fn a_removed_key_opens_nothing_and_no_repair_brings_it_back() {
    let (repo, storage) = memory_repo(Flavor::sealed());
    let old = ops::list_keys(&repo).unwrap().remove(0);
    assert_eq!(code(ops::remove_key(&repo, &old.id)), "ERR_LAST_KEY");
    let new = ops::add_key(&repo, &text("new"), &cheap(), &NullMonitor).unwrap();
    ops::remove_key(&repo, &old.id).unwrap();
    assert_eq!(code(ops::remove_key(&repo, &old.id)), "ERR_KEY_NOT_FOUND");
    assert_eq!(code(ops::remove_key(&repo, &new.id)), "ERR_LAST_KEY");
    assert_eq!(code(ops::remove_key(&repo, &KeyId([0xab; 16]))), "ERR_KEY_NOT_FOUND");
    // the handle that was opened with the key still works, but has no key to change
    assert_eq!(ids(&ops::list_keys(&repo).unwrap()), [new.id]);
    assert_eq!(
        code(ops::change_key(&repo, None, &raw(1), &cheap(), &NullMonitor)),
        "ERR_KEY_NOT_FOUND"
    );
    ingest(&repo, b"still works").unwrap();
    ops::repair(&repo, &NullMonitor).unwrap();
    assert_eq!(openers(&storage, &[&passphrase(), &text("new")]), [false, true]);
    assert_eq!(ids(&ops::list_keys(&repo).unwrap()), [new.id]);
}

#[test]
fn key_changes_write_in_the_order_that_survives_a_power_loss() {
    let (repo, storage) = memory_repo(Flavor::sealed());
    drop(repo);
    let recording = Arc::new(RecordingStorage::new(storage));
    let as_storage: Arc<dyn Storage> = recording.clone();
    let repo = open_with(&as_storage, &passphrase(), 3).unwrap();
    let old = ops::list_keys(&repo).unwrap().remove(0).id;
    ops::add_key(&repo, &text("warm"), &cheap(), &NullMonitor).unwrap();
    recording.clear();
    let new = ops::change_key(&repo, Some(&old), &text("new"), &cheap(), &NullMonitor)
        .unwrap()
        .id;
    let changing = |(op, _): &(&str, String)| ["put_new", "delete", "barrier"].contains(op);
    let calls: Vec<(&str, String)> = recording.calls().into_iter().filter(changing).collect();
    let barrier = ("barrier", String::new());
    let expected = [
        // what other processes left is made durable first
        barrier.clone(),
        ("put_new", layout::key(&new)),
        barrier.clone(),
        ("put_new", layout::key_copy(&new)),
        barrier.clone(),
        ("delete", layout::key_copy(&old)),
        barrier.clone(),
        ("delete", layout::key(&old)),
        barrier,
    ];
    assert_eq!(calls, expected);
}

#[test]
fn a_repository_never_has_more_keys_than_open_tries() {
    let (repo, storage) = memory_repo(Flavor::sealed());
    for number in 1..31 {
        ops::add_key(&repo, &raw(number), &cheap(), &NullMonitor).unwrap();
    }
    assert_eq!(
        code(ops::add_key(&repo, &raw(99), &cheap(), &NullMonitor)),
        "ERR_TOO_MANY_KEYS"
    );
    // one slot is kept free for a change
    ops::change_key(&repo, None, &text("new"), &cheap(), &NullMonitor).unwrap();
    assert_eq!(ops::list_keys(&repo).unwrap().len(), 31);
    let secrets: Vec<Secret> = (1..31).map(raw).chain([text("new")]).collect();
    assert!(
        openers(&storage, &secrets.iter().collect::<Vec<_>>())
            .iter()
            .all(|opens| *opens)
    );
    // foreign key files count, since open may try them first
    put_bytes(storage.as_ref(), &layout::key(&KeyId([0; 16])), b"not ours").unwrap();
    assert_eq!(
        code(ops::change_key(&repo, None, &text("newer"), &cheap(), &NullMonitor)),
        "ERR_TOO_MANY_KEYS"
    );
    assert_eq!(openers(&storage, &[&text("new"), &text("newer")]), [true, false]);
}

#[test]
fn refused_key_changes_are_named_errors_and_change_nothing() {
    let known = Known::new(Flavor::sealed());
    let (plain, plain_storage) = memory_repo(Flavor::plain());
    let storage: Arc<dyn Storage> = memory_of(&known.files);
    let opened = |change: &dyn Fn(&mut OpenOptions)| {
        let mut options = OpenOptions::default();
        change(&mut options);
        repo::open(environment(Arc::clone(&storage), 5), Some(&passphrase()), &options).unwrap()
    };
    let all = |repo: &Repository, id: &KeyId| {
        [
            code(ops::add_key(repo, &raw(1), &cheap(), &NullMonitor)),
            code(ops::change_key(repo, None, &raw(1), &cheap(), &NullMonitor)),
            code(ops::remove_key(repo, id)),
        ]
    };
    let before = (files_of(storage.as_ref()), files_of(plain_storage.as_ref()));
    let reader = opened(&|options| options.read_only = true);
    let id = ops::list_keys(&reader).unwrap()[0].id;
    assert_eq!(all(&reader, &id), ["ERR_READ_ONLY"; 3]);
    assert_eq!(ops::list_keys(&plain).unwrap(), []);
    assert_eq!(
        all(&plain, &id),
        ["ERR_NOT_ENCRYPTED", "ERR_NOT_ENCRYPTED", "ERR_KEY_NOT_FOUND"]
    );
    let hasty = opened(&|options| options.lock_wait = Duration::from_millis(2));
    let held = storage
        .lock(layout::MAINT_LOCK, LockMode::Exclusive, Duration::ZERO)
        .unwrap()
        .unwrap();
    assert_eq!(all(&hasty, &id), ["ERR_REPO_LOCKED"; 3]);
    drop(held);
    let bad = |options: &KeyOptions| {
        [
            code(ops::add_key(&hasty, &text("x"), options, &NullMonitor)),
            code(ops::change_key(&hasty, None, &text("x"), options, &NullMonitor)),
        ]
    };
    for (memory_kib, time, lanes) in [
        (0, 0, 0),
        (8, 0, 1),
        (8, 1, 2),
        (u32::MAX, 1, 1),
        (8, u32::MAX, 1),
        (8, 1, 17),
    ] {
        let kdf = KdfParams {
            memory_kib,
            time,
            lanes,
        };
        let options = KeyOptions { kdf, label: None };
        assert_eq!(bad(&options), ["ERR_INVALID_ARGUMENT"; 2], "{kdf:?}");
    }
    for label in ["", &"x".repeat(4097), &"ü".repeat(2049)] {
        assert_eq!(bad(&labelled(Some(label))), ["ERR_INVALID_ARGUMENT"; 2]);
    }
    hasty.close();
    assert_eq!(all(&hasty, &id), ["ERR_CLOSED"; 3]);
    assert_eq!(code(ops::list_keys(&hasty)), "ERR_CLOSED");
    assert_eq!((files_of(storage.as_ref()), files_of(plain_storage.as_ref())), before);
}

#[test]
fn the_last_intact_key_stays_whatever_other_files_are_next_to_it() {
    let (repo, storage) = memory_repo(Flavor::sealed());
    let good = ops::list_keys(&repo).unwrap().remove(0).id;
    let other = ops::add_key(&repo, &text("other"), &cheap(), &NullMonitor).unwrap().id;
    let bytes = storage.get(&layout::key(&good), 65_536).unwrap();
    let replace = |path: String, bytes: &[u8]| {
        storage.delete(&path).unwrap();
        put_bytes(storage.as_ref(), &path, bytes).unwrap();
    };
    // damaged, of another repository, of another key, of a future version, with excessive costs
    let (foreign, _) = {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let repo = init(environment(Arc::clone(&storage), 77), Flavor::sealed()).unwrap();
        let id = ops::list_keys(&repo).unwrap()[0].id;
        (storage.get(&layout::key(&id), 65_536).unwrap(), id)
    };
    let others = [
        b"damaged".to_vec(),
        foreign,
        bytes.clone(),
        forge(&bytes, "\"version\":1,\"id\"", "\"version\":2,\"id\""),
        forge(&bytes, "\"m\":8,", "\"m\":4294967295,"),
    ];
    for (number, bytes) in others.into_iter().enumerate() {
        replace(layout::key(&other), &bytes);
        replace(layout::key_copy(&other), &bytes);
        assert_eq!(code(ops::remove_key(&repo, &good)), "ERR_LAST_KEY", "case {number}");
        assert_eq!(ids(&ops::list_keys(&repo).unwrap()), [good]);
    }
    // a damaged key file can be removed, and a key with an intact copy counts
    ops::remove_key(&repo, &other).unwrap();
    let third = ops::add_key(&repo, &text("third"), &cheap(), &NullMonitor).unwrap().id;
    replace(layout::key(&third), b"damaged");
    ops::remove_key(&repo, &good).unwrap();
    assert_eq!(openers(&storage, &[&passphrase(), &text("third")]), [false, true]);
}

#[test]
fn a_missing_copy_of_a_key_file_is_recreated_at_the_next_open() {
    let known = Known::new(Flavor::sealed());
    let copy = known.keys(layout::KEY_COPIES, ".json").remove(0);
    let files = with(&known.files, &copy, None);
    // not by a read-only handle, nor during maintenance
    let storage: Arc<dyn Storage> = memory_of(&files);
    let options = OpenOptions {
        read_only: true,
        ..OpenOptions::default()
    };
    drop(repo::open(environment(Arc::clone(&storage), 1), Some(&passphrase()), &options).unwrap());
    let held = storage
        .lock(layout::MAINT_LOCK, LockMode::Exclusive, Duration::ZERO)
        .unwrap()
        .unwrap();
    let repo = Arc::new(open_with(&storage, &passphrase(), 2).unwrap());
    assert_eq!(files_of(storage.as_ref()), files);
    // the key may be half added or half removed
    assert_eq!(problems(&repo), (vec![], vec!["NOTE_KEY_CHANGING"]));
    drop(held);
    assert_eq!(problems(&repo), (vec!["ERR_KEY_FILE_CORRUPT"], vec![]));
    let (environment, monitor) = watched(Arc::clone(&storage), 3);
    let repo = repo::open(environment, Some(&passphrase()), &OpenOptions::default())
        .map(Arc::new)
        .unwrap();
    assert_eq!(codes(&monitor), ["WARN_KEY_COPIED"]);
    assert_eq!(files_of(storage.as_ref()), known.files);
    assert_eq!(problems(&repo), (vec![], vec![]));
}

#[test]
fn an_open_during_a_key_change_sees_the_old_key_or_the_new_one() {
    // at each call of the open, another process changes the key
    for at in 0.. {
        let (repo, storage) = memory_repo(Flavor::sealed());
        let seen = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = Arc::clone(&seen);
        let hooked: Arc<dyn Storage> = Arc::new(HookedStorage::new(Arc::clone(&storage), move |_, _| {
            if count.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == at {
                ops::change_key(&repo, None, &text("new"), &cheap(), &NullMonitor).unwrap();
            }
        }));
        let (old, new) = (
            code(open_with(&hooked, &passphrase(), 4)),
            code(open_with(&hooked, &text("new"), 4)),
        );
        assert!(["ok", "ERR_WRONG_PASSPHRASE"].contains(&old), "call {at}: {old}");
        if seen.load(std::sync::atomic::Ordering::Relaxed) <= at {
            assert!(at > 5, "nothing was tried");
            break;
        }
        assert_eq!(openers(&storage, &[&passphrase(), &text("new")]), [false, true]);
        // if the old key still opened, the second open may also have read the keys before the
        // change
        let allowed: &[&str] = if old == "ok" {
            &["ok", "ERR_WRONG_PASSPHRASE"]
        } else {
            &["ok"]
        };
        assert!(allowed.contains(&new), "call {at}: {new}");
    }
}

#[test]
fn a_change_that_fails_at_any_call_leaves_the_old_key_or_the_new_one() {
    let known = Known::new(Flavor::sealed());
    let calls = {
        let faulty = Arc::new(FaultyStorage::new(memory_of(&known.files)));
        let as_storage: Arc<dyn Storage> = faulty.clone();
        let repo = open_with(&as_storage, &passphrase(), 1).unwrap();
        let before = faulty.calls();
        ops::change_key(&repo, None, &text("new"), &cheap(), &NullMonitor).unwrap();
        before..faulty.calls()
    };
    assert!(calls.clone().count() > 12);
    let mut outcomes = std::collections::BTreeSet::new();
    for (number, kind) in calls
        .flat_map(|number| [ErrorKind::Io, ErrorKind::NoSpace, ErrorKind::PermissionDenied].map(|kind| (number, kind)))
    {
        let storage: Arc<dyn Storage> = memory_of(&known.files);
        let faulty = Arc::new(FaultyStorage::new(Arc::clone(&storage)));
        let as_storage: Arc<dyn Storage> = faulty.clone();
        let repo = open_with(&as_storage, &passphrase(), 1).unwrap();
        faulty.fail_call(number, kind);
        let failed = ops::change_key(&repo, None, &text("new"), &cheap(), &NullMonitor);
        let open = openers(&storage, &[&passphrase(), &text("new")]);
        match failed {
            Err(error) => {
                let expected = ["ERR_STORAGE", "ERR_NO_SPACE", "ERR_PERMISSION", "ERR_UNREADABLE"];
                assert!(expected.contains(&error.code()), "call {number}: {error}");
                assert!(open[0] || open[1], "call {number} {kind:?}: neither opens");
            }
            Ok(_) => assert_eq!(open, [false, true], "call {number}"),
        }
        outcomes.insert(open.clone());
        // the same handle still works and refers to the same key
        faulty.heal();
        let again = code(ops::change_key(&repo, None, &text("newest"), &cheap(), &NullMonitor));
        let missing = matches!((open[0], again), (false, "ERR_KEY_NOT_FOUND"));
        assert!(missing || again == "ok", "call {number}: {again}");
        assert_eq!(openers(&storage, &[&passphrase()]), [false]);
    }
    assert!(outcomes.len() >= 3, "{outcomes:?}");
}

/// The environment of a repository in a real directory.
fn folder_environment(path: &std::path::Path) -> Environment {
    let storage = LocalStorage::open_path(path, Arc::new(OsEntropy)).unwrap();
    Environment {
        entropy: Arc::new(OsEntropy),
        ..environment(Arc::new(storage), 1)
    }
}

#[test]
fn one_of_two_concurrent_removals_of_the_last_two_keys_is_refused() {
    for round in 0..20 {
        let dir = tempfile::tempdir().unwrap();
        let repo = init(folder_environment(dir.path()), Flavor::sealed()).unwrap();
        let one = ops::list_keys(&repo).unwrap().remove(0).id;
        let two = ops::add_key(&repo, &text("two"), &cheap(), &NullMonitor).unwrap().id;
        drop(repo);
        let gate = Barrier::new(2);
        let codes: Vec<&str> = std::thread::scope(|scope| {
            let threads = [(one, passphrase()), (two, text("two"))].map(|(id, secret)| {
                let (gate, dir) = (&gate, &dir);
                scope.spawn(move || {
                    let environment = folder_environment(dir.path());
                    let repo = repo::open(environment, Some(&secret), &OpenOptions::default()).unwrap();
                    gate.wait();
                    code(ops::remove_key(&repo, &id))
                })
            });
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut sorted = codes.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, ["ERR_LAST_KEY", "ok"], "round {round}");
        for (secret, removal) in [passphrase(), text("two")].iter().zip(codes) {
            let opened = repo::open(folder_environment(dir.path()), Some(secret), &OpenOptions::default());
            let expected = if removal == "ok" { "ERR_WRONG_PASSPHRASE" } else { "ok" };
            assert_eq!(code(opened), expected, "round {round}");
        }
    }
}

#[test]
fn many_concurrent_changes_of_the_same_key_leave_one_new_key() {
    for round in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        drop(init(folder_environment(dir.path()), Flavor::sealed()).unwrap());
        let gate = Barrier::new(4);
        let codes: Vec<&str> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4u8)
                .map(|number| {
                    let (gate, dir) = (&gate, &dir);
                    scope.spawn(move || {
                        let environment = folder_environment(dir.path());
                        let repo = repo::open(environment, Some(&passphrase()), &OpenOptions::default()).unwrap();
                        gate.wait();
                        code(ops::change_key(&repo, None, &raw(number), &cheap(), &NullMonitor))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let done = codes.iter().filter(|code| **code == "ok").count();
        assert_eq!(done, 1, "round {round}: {codes:?}");
        assert!(
            codes.iter().all(|code| ["ok", "ERR_KEY_NOT_FOUND"].contains(code)),
            "{codes:?}"
        );
        for (number, change) in (0..4u8).zip(codes) {
            let opened = repo::open(
                folder_environment(dir.path()),
                Some(&raw(number)),
                &OpenOptions::default(),
            );
            assert_eq!(opened.is_ok(), change == "ok");
        }
        let opened = repo::open(
            folder_environment(dir.path()),
            Some(&passphrase()),
            &OpenOptions::default(),
        );
        assert_eq!(code(opened), "ERR_WRONG_PASSPHRASE");
    }
}
