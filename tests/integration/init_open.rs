//! Init and open: bad input, interrupted inits, wrong secrets, forged costs, foreign files, two at
//! once.
//!
//! What is refused changes nothing on disk; the tests compare every byte before and after.

use crate::support::faults::*;
use crate::support::*;
use containerarchive::crypto::KdfParams;
use containerarchive::entropy::OsEntropy;
use containerarchive::monitor::{Monitor, TestMonitor};
use containerarchive::repo::{self, Environment, InitOptions, OpenOptions, Repository, Secret};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::storage::{ErrorKind, FaultyStorage, LocalStorage, MemoryStorage, Storage, put_bytes};
use containerarchive::{Result, checked_json, layout, ops};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use zeroize::Zeroizing;

/// The environment of a repository in a real directory.
fn folder_environment(path: &Path) -> Environment {
    let storage = LocalStorage::open_path(path, Arc::new(OsEntropy)).unwrap();
    Environment {
        path: path.display().to_string(),
        entropy: Arc::new(OsEntropy),
        ..environment(Arc::new(storage), 1)
    }
}

/// Returns every file and directory below a path, with the bytes of the files.
fn tree(path: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![path.to_owned()];
    while let Some(next) = waiting.pop() {
        let kind = std::fs::symlink_metadata(&next).unwrap().file_type();
        if kind.is_dir() {
            waiting.extend(std::fs::read_dir(&next).unwrap().map(|entry| entry.unwrap().path()));
        }
        let bytes = kind.is_file().then(|| std::fs::read(&next).unwrap());
        found.insert(next, bytes);
    }
    found
}

fn text(passphrase: &str) -> Secret {
    Secret::Passphrase(Zeroizing::new(passphrase.as_bytes().to_vec()))
}

fn raw(byte: u8) -> Secret {
    Secret::Raw(Zeroizing::new([byte; 32]))
}

fn open_with(storage: Arc<dyn Storage>, secret: Option<&Secret>) -> Result<Repository> {
    repo::open(environment(storage, 2), secret, &OpenOptions::default())
}

#[test]
fn an_unsuitable_path_is_refused_by_name_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (file, full, made, missing) = (
        dir.path().join("file"),
        dir.path().join("full"),
        dir.path().join("made"),
        dir.path().join("missing"),
    );
    std::fs::write(&file, "x").unwrap();
    std::fs::create_dir_all(full.join("sub")).unwrap();
    std::fs::write(full.join("sub/photo.jpg"), "x").unwrap();
    drop(init(folder_environment(&made), Flavor::sealed()).unwrap());
    let before = tree(dir.path());
    let init_at = |path: &Path| code(init(folder_environment(path), Flavor::plain()));
    let open_at = |path: &Path| code(open(folder_environment(path), Flavor::plain()));
    assert_eq!(init_at(&file), "ERR_NOT_A_DIRECTORY");
    assert_eq!(init_at(&file.join("below")), "ERR_NOT_A_DIRECTORY");
    assert_eq!(init_at(&full), "ERR_NOT_EMPTY");
    assert_eq!(init_at(&made), "ERR_REPO_EXISTS");
    assert_eq!(open_at(&file), "ERR_NOT_A_DIRECTORY");
    assert_eq!(open_at(&full), "ERR_REPO_NOT_FOUND");
    assert_eq!(open_at(&missing), "ERR_REPO_NOT_FOUND");
    assert_eq!(open_at(&made), "ERR_PASSPHRASE_REQUIRED");
    assert_eq!(tree(dir.path()), before);
}

#[test]
fn a_config_of_another_program_is_no_repository_and_a_damaged_one_is_damaged() {
    let long = vec![b' '; 2 << 20];
    let foreign = [
        &b"{\"name\":\"shop\",\"version\":1,\"port\":8080}"[..],
        b"{\"version\":1,\"id\":\"00000000000000000000000000000000\"}\n",
        b"[]",
        b"",
        b"\x00\xffgarbage",
        &long,
    ];
    // what is in the folders of other programs
    let others: [&[&str]; 4] = [
        &[],
        &["README.txt", "index.js", "package.json"],
        &["config", "index/1", "keys/1", "locks/1", "snapshots/1"],
        &["keys/server.json", "snapshots/daily.json", "packs/data/a.pack"],
    ];
    let files = |config: &[u8], names: &[&str]| -> Files {
        let names = names.iter().map(|name| ((*name).to_owned(), b"x".to_vec()));
        names.chain([(layout::CONFIG.to_owned(), config.to_vec())]).collect()
    };
    let init_at =
        |storage: Arc<MemoryStorage>| code(repo::init(environment(storage, 1), None, &Flavor::plain().small()));
    for config in foreign {
        for names in others {
            let files = files(config, names);
            let storage = memory_of(&files);
            let error = open_with(storage.clone(), None).map(|_| ()).unwrap_err();
            assert_eq!(error.code(), "ERR_REPO_NOT_FOUND", "{names:?}");
            assert!(error.to_string().contains("of another program"), "{error}");
            assert_eq!(init_at(storage.clone()), "ERR_NOT_EMPTY", "{names:?}");
            assert_eq!(files_of(storage.as_ref()), files);
        }
    }
    // one file of a repository, or a few words of its config, are enough for damage
    let (id, pack) = ("0".repeat(32), "0".repeat(64));
    let ours = [
        layout::COMMIT_LOCK.to_owned(),
        layout::MAINT_LOCK.to_owned(),
        format!("{}/{id}.json", layout::SNAPSHOTS),
        format!("{}/{id}.json", layout::KEYS),
        format!("{}/{id}.grp", layout::PARITY),
        format!("{}/{pack}.idx", layout::DATA),
    ];
    for name in &ours {
        let storage = memory_of(&files(b"{}", &[name]));
        assert_eq!(code(open_with(storage.clone(), None)), "ERR_CONFIG_CORRUPT", "{name}");
        assert_eq!(init_at(storage), "ERR_REPO_EXISTS", "{name}");
    }
    let (repo, storage) = memory_repo(Flavor::plain());
    drop(repo);
    let made = files_of(storage.as_ref());
    let readme = with(&files(b"{}", &[]), layout::README, Some(made[layout::README].clone()));
    assert_eq!(code(open_with(memory_of(&readme), None)), "ERR_CONFIG_CORRUPT");
    let mut flipped = made[layout::CONFIG].clone();
    flipped[20] ^= 1;
    assert_eq!(
        code(open_with(memory_of(&files(&flipped, &[])), None)),
        "ERR_CONFIG_CORRUPT"
    );
    // of a later version
    let later = forge(&made[layout::CONFIG], "\"version\":1", "\"version\":9");
    let error = code(open_with(memory_of(&files(&later, &[])), None));
    assert_eq!(error, "ERR_UNSUPPORTED_FORMAT");
}

#[test]
fn invalid_options_are_refused_before_anything_is_created() {
    let small = Flavor::sealed().small();
    let bad = |change: &dyn Fn(&mut InitOptions)| {
        let mut options = small.clone();
        change(&mut options);
        let storage = Arc::new(MemoryStorage::new());
        let result = repo::init(environment(storage.clone(), 1), Some(&passphrase()), &options);
        assert_eq!(code(result), "ERR_INVALID_ARGUMENT");
        assert!(files_of(storage.as_ref()).is_empty());
    };
    bad(&|options| options.chunking.min = 0);
    bad(&|options| options.chunking.max = 64 << 20);
    bad(&|options| options.chunking.avg = options.chunking.max + 2);
    bad(&|options| options.pack_size = Some(0));
    bad(&|options| options.pack_size = Some(u64::MAX));
    bad(&|options| options.parity = Some(Some(repo::ParityParams { data: 0, parity: 1 })));
    bad(&|options| options.parity = Some(Some(repo::ParityParams { data: 255, parity: 255 })));
    bad(&|options| options.kdf.time = 0);
    bad(&|options| options.kdf.memory_kib = u32::MAX);
    bad(&|options| options.kdf.lanes = 0);
}

#[test]
fn only_the_right_secret_opens_and_the_error_names_the_reason() {
    let made = |secret: Option<&Secret>| {
        let storage = Arc::new(MemoryStorage::new());
        repo::init(environment(storage.clone(), 1), secret, &Flavor::sealed().small()).unwrap();
        storage
    };
    let (plain, by_text, by_key) = (made(None), made(Some(&text("secret"))), made(Some(&raw(7))));
    let cases = [
        (&plain, None, "ok"),
        (&plain, Some(text("secret")), "ERR_NOT_ENCRYPTED"),
        (&plain, Some(raw(7)), "ERR_NOT_ENCRYPTED"),
        (&by_text, None, "ERR_PASSPHRASE_REQUIRED"),
        (&by_text, Some(text("secret")), "ok"),
        (&by_text, Some(text("Secret")), "ERR_WRONG_PASSPHRASE"),
        (&by_text, Some(text("")), "ERR_WRONG_PASSPHRASE"),
        (&by_text, Some(text(&"long".repeat(100_000))), "ERR_WRONG_PASSPHRASE"),
        (&by_text, Some(raw(7)), "ERR_WRONG_PASSPHRASE"),
        (&by_key, Some(raw(7)), "ok"),
        (&by_key, Some(raw(8)), "ERR_WRONG_PASSPHRASE"),
        (&by_key, Some(text("secret")), "ERR_WRONG_PASSPHRASE"),
        (&by_key, None, "ERR_PASSPHRASE_REQUIRED"),
    ];
    for (number, (storage, secret, expected)) in cases.into_iter().enumerate() {
        let before = files_of(storage.as_ref());
        assert_eq!(
            code(open_with(storage.clone(), secret.as_ref())),
            expected,
            "case {number}"
        );
        assert_eq!(files_of(storage.as_ref()), before);
    }
}

#[test]
fn a_config_of_an_unknown_version_or_with_invalid_values_is_refused() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let (repo, storage) = memory_repo(flavor);
        drop(repo);
        let files = files_of(storage.as_ref());
        let config = &files[layout::CONFIG];
        let cases = [
            ("\"version\":1", "\"version\":2", "ERR_UNSUPPORTED_FORMAT"),
            ("\"version\":1", "\"version\":0", "ERR_UNSUPPORTED_FORMAT"),
            ("\"version\":1", "\"version\":-1", "ERR_CONFIG_CORRUPT"),
            ("[\"commit-1\"]", "[\"commit-1\",\"warp\"]", "ERR_UNSUPPORTED_FORMAT"),
            (
                "\"algorithm\":\"fastcdc",
                "\"algorithm\":\"slowcdc",
                "ERR_UNSUPPORTED_FORMAT",
            ),
            ("\"normalization\":3", "\"normalization\":4", "ERR_UNSUPPORTED_FORMAT"),
            ("\"min\":256", "\"min\":0", "ERR_CONFIG_CORRUPT"),
            ("\"max\":4096", "\"max\":4294967295", "ERR_CONFIG_CORRUPT"),
            ("\"max\":4096", "\"max\":99999999999", "ERR_CONFIG_CORRUPT"),
            (
                "\"packSize\":65536",
                "\"packSize\":18446744073709551615",
                "ERR_CONFIG_CORRUPT",
            ),
            ("\"data\":4", "\"data\":0", "ERR_CONFIG_CORRUPT"),
            ("\"row\":4096", "\"row\":1", "ERR_UNSUPPORTED_FORMAT"),
            ("\"id\":\"", "\"id\":\"x", "ERR_CONFIG_CORRUPT"),
        ];
        for (from, to, expected) in cases {
            let storage = memory_of(&with(&files, layout::CONFIG, Some(forge(config, from, to))));
            let secret = flavor.secret();
            assert_eq!(code(open_with(storage, secret.as_ref())), expected, "{flavor:?} {to}");
        }
        for len in 0..config.len() {
            let storage = memory_of(&with(&files, layout::CONFIG, Some(config[..len].to_vec())));
            assert_eq!(code(open_with(storage, None)), "ERR_CONFIG_CORRUPT", "{len} bytes");
        }
        let deep = format!("{{\"a\":{}", "[".repeat(100_000));
        for garbage in [
            vec![0; 5],
            vec![b'{'; 100_000],
            vec![b' '; 2 << 20],
            checked_json::finish(deep + "}").into_bytes(),
        ] {
            let storage = memory_of(&with(&files, layout::CONFIG, Some(garbage)));
            assert_eq!(code(open_with(storage, None)), "ERR_CONFIG_CORRUPT");
        }
    }
}

#[test]
fn a_sealed_repository_is_not_mistaken_for_another_or_for_a_plain_one() {
    let sealed = Known::new(Flavor::sealed());
    let (plain, other) = (Known::new(Flavor::plain()), {
        let storage = Arc::new(MemoryStorage::new());
        drop(init(environment(storage.clone(), 55), Flavor::sealed()).unwrap());
        files_of(storage.as_ref())
    });
    let opened = |files: &Files| code(open_with(memory_of(files), Some(&passphrase())));
    let config = &sealed.files[layout::CONFIG];
    // the config of a plain repository: nothing may be stored unencrypted
    let swapped = with(&sealed.files, layout::CONFIG, Some(plain.files[layout::CONFIG].clone()));
    assert_eq!(opened(&swapped), "ERR_NOT_ENCRYPTED");
    // the same with the id of the sealed repository
    let mut as_plain = forge(config, "fastcdc-v2020-keyed", "fastcdc-v2020");
    let encryption = "{\"algorithm\":\"aes-256-gcm\",\"chunkIds\":\"hmac-sha-256\"}";
    as_plain = forge(&as_plain, encryption, "null");
    assert_eq!(
        opened(&with(&sealed.files, layout::CONFIG, Some(as_plain))),
        "ERR_NOT_ENCRYPTED"
    );
    // settings that differ from what the owner of the key wrote
    for (from, to) in [
        ("\"avg\":1024", "\"avg\":2048"),
        ("\"packSize\":65536", "\"packSize\":65537"),
        ("\"level\":1", "\"level\":19"),
    ] {
        let forged = with(&sealed.files, layout::CONFIG, Some(forge(config, from, to)));
        assert_eq!(opened(&forged), "ERR_CONFIG_CORRUPT", "{to}");
    }
    // the config of another repository with the same passphrase: the right config is read from its
    // copy
    let foreign = with(&sealed.files, layout::CONFIG, Some(other[layout::CONFIG].clone()));
    let verdict = sealed.judge(&foreign, &|| "a foreign config".to_owned());
    assert!(verdict.is_intact(), "{verdict:?}");
    assert_eq!(verdict.warnings, ["WARN_CONFIG_FROM_COPY"]);
    let mut bare = foreign;
    bare.retain(|key, _| !key.starts_with(layout::PARITY) && !key.starts_with(layout::DATA));
    assert_eq!(opened(&bare), "ERR_KEY_FILE_CORRUPT");
    // the key files of the other repository
    let mut foreign: Files = sealed.files.clone();
    foreign.retain(|key, _| !key.starts_with("keys/") && !key.starts_with(layout::KEY_COPIES));
    foreign.extend(other.clone().into_iter().filter(|(key, _)| key.starts_with("keys/")));
    assert_eq!(opened(&foreign), "ERR_KEY_FILE_CORRUPT");
    // both: this opens as the other repository, and the snapshots stored here are not its own
    foreign.insert(layout::CONFIG.to_owned(), other[layout::CONFIG].clone());
    let repo = Arc::new(open_with(memory_of(&foreign), Some(&passphrase())).unwrap());
    assert_eq!(ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap(), []);
    for (snapshot, _) in &sealed.snapshots {
        assert_eq!(
            code(restore(&repo, &snapshot.id.to_hex(), None)),
            "ERR_MANIFEST_CORRUPT"
        );
    }
}

#[test]
fn kdf_costs_above_the_maximum_are_refused_before_the_derivation() {
    let (repo, storage) = memory_repo(Flavor::sealed());
    drop(repo);
    let files = files_of(storage.as_ref());
    let key = files.keys().find(|key| key.starts_with("keys/")).unwrap();
    let copy = files.keys().find(|key| key.starts_with(layout::KEY_COPIES)).unwrap();
    for (from, to) in [
        ("\"m\":8,", "\"m\":2097153,"),
        ("\"m\":8,", "\"m\":4294967295,"),
        ("\"m\":8,", "\"m\":99999999999,"),
        ("\"m\":8,", "\"m\":0,"),
        ("\"t\":1,", "\"t\":17,"),
        ("\"t\":1,", "\"t\":4294967295,"),
        ("\"t\":1,", "\"t\":0,"),
        ("\"p\":1,", "\"p\":17,"),
        ("\"p\":1,", "\"p\":0,"),
        ("\"m\":8,\"t\":1", "\"m\":2097152,\"t\":5"),
        ("\"version\":19", "\"version\":16"),
        ("argon2id", "argon2d!"),
        ("\"type\":\"passphrase\"", "\"type\":\"telepathy\""),
    ] {
        let forged = forge(&files[key], from, to);
        let files = with(&with(&files, key, Some(forged.clone())), copy, Some(forged));
        let result = open_with(memory_of(&files), Some(&passphrase()));
        assert_eq!(code(result), "ERR_KEY_FILE_CORRUPT", "{to}");
    }
}

#[test]
fn truncated_key_files_are_refused_and_other_damaged_ones_do_not_prevent_open() {
    let (repo, storage) = memory_repo(Flavor::sealed());
    drop(repo);
    let files = files_of(storage.as_ref());
    let keys: Vec<&String> = files.keys().filter(|key| key.contains("keys/")).collect();
    assert_eq!(keys.len(), 2);
    for len in 0..files[keys[0]].len() {
        let mut cut = files.clone();
        for key in &keys {
            cut = with(&cut, key, Some(files[*key][..len].to_vec()));
        }
        let result = open_with(memory_of(&cut), Some(&passphrase()));
        assert_eq!(code(result), "ERR_KEY_FILE_CORRUPT", "{len} bytes");
    }
    // files with invalid names, and damaged files next to the intact one
    let mut crowd = files.clone();
    for name in ["notes.json", "README", "00.json"] {
        crowd.insert(format!("keys/{name}"), vec![0; 100_000]);
    }
    for number in 0..20u8 {
        crowd.insert(
            format!("keys/{}.json", format!("{number:02x}").repeat(16)),
            vec![number; 70_000],
        );
    }
    assert_eq!(code(open_with(memory_of(&crowd), Some(&passphrase()))), "ok");
}

#[test]
fn an_init_that_fails_at_any_call_can_be_repeated() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let count = {
            let faulty = Arc::new(FaultyStorage::new(Arc::new(MemoryStorage::new())));
            init(environment(faulty.clone(), 1), flavor).unwrap();
            faulty.calls()
        };
        assert!(count > 10);
        for (number, kind) in (0..count).flat_map(|number| [(number, ErrorKind::Io), (number, ErrorKind::NoSpace)]) {
            let memory = Arc::new(MemoryStorage::new());
            let faulty = Arc::new(FaultyStorage::new(memory.clone()));
            faulty.fail_call(number, kind);
            let first = init(environment(faulty, 1), flavor);
            // a failure of the last calls leaves a complete repository, any other failure a
            // directory where init can be repeated
            let made = memory.size(layout::CONFIG).unwrap().is_some();
            if let Err(error) = first {
                let expected = ["ERR_STORAGE", "ERR_NO_SPACE", "ERR_UNREADABLE"];
                assert!(expected.contains(&error.code()), "call {number}: {error}");
                let second = init(environment(memory.clone(), 2), flavor);
                assert_eq!(
                    code(second),
                    if made { "ERR_REPO_EXISTS" } else { "ok" },
                    "call {number}"
                );
            }
            let repo = open(environment(memory, 3), flavor).unwrap();
            let snapshot = ingest(&repo, b"works").unwrap();
            assert_eq!(restore(&repo, &snapshot.id.to_hex(), None).unwrap(), b"works");
        }
    }
}

#[test]
fn exactly_one_of_two_concurrent_inits_succeeds_and_its_passphrase_opens() {
    for round in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let directory = dir.path().join("a/b/repo");
        let gate = Barrier::new(3);
        let tries: Vec<(String, Result<()>)> = std::thread::scope(|scope| {
            let threads: Vec<_> = ["one", "two", "three"]
                .map(|passphrase| {
                    let (gate, directory) = (&gate, &directory);
                    scope.spawn(move || {
                        let environment = folder_environment(directory);
                        gate.wait();
                        let made = repo::init(environment, Some(&text(passphrase)), &Flavor::sealed().small());
                        (passphrase.to_owned(), made.map(drop))
                    })
                })
                .into_iter()
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let winners: Vec<&String> = tries
            .iter()
            .filter(|(_, made)| made.is_ok())
            .map(|(name, _)| name)
            .collect();
        assert_eq!(winners.len(), 1, "round {round}: {tries:?}");
        for (name, made) in &tries {
            let opened = repo::open(
                folder_environment(&directory),
                Some(&text(name)),
                &OpenOptions::default(),
            );
            let expected = if made.is_ok() { "ok" } else { "ERR_WRONG_PASSPHRASE" };
            assert_eq!(code(opened), expected, "round {round}: {name}");
            if let Err(error) = made {
                assert!(["ERR_REPO_EXISTS", "ERR_NOT_EMPTY"].contains(&error.code()), "{error}");
            }
        }
    }
}

/// Creates files and directories of other programs everywhere in a repository.
#[cfg(unix)]
fn litter(root: &Path) {
    for folder in std::iter::once("").chain(layout::FOLDERS) {
        let folder = root.join(folder);
        for name in [
            ".DS_Store",
            ".nfs000000000123",
            "Thumbs.db",
            "desktop.ini",
            ".tmp-feed",
            "x (conflicted copy).pack",
            "~lock",
        ] {
            std::fs::write(folder.join(name), "not ours").unwrap();
        }
        for end in ["pack", "idx", "seg", "json", "kill"] {
            std::fs::create_dir(folder.join(format!("{}.{end}", "ab".repeat(32)))).unwrap();
            std::fs::create_dir(folder.join(format!("{}.{end}", "ab".repeat(16)))).unwrap();
            let name = folder.join(format!("{}.{end}", "cd".repeat(16)));
            std::os::unix::fs::symlink("/etc/hostname", name).unwrap();
            std::os::unix::fs::symlink("nowhere", folder.join(format!("{}.{end}", "cd".repeat(32)))).unwrap();
            std::fs::write(folder.join(format!("{}.{end}", "AB".repeat(16))), "upper case").unwrap();
        }
    }
}

#[cfg(unix)]
#[test]
fn foreign_files_are_ignored_everywhere() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let dir = tempfile::tempdir().unwrap();
        let repo = init(folder_environment(dir.path()), flavor).unwrap();
        let data = random_bytes(1, 100_000);
        let snapshot = ingest(&repo, &data).unwrap();
        drop(repo);
        litter(dir.path());
        let (environment, monitor) = {
            let monitor = Arc::new(TestMonitor::default());
            let environment = Environment {
                monitor: monitor.clone(),
                ..folder_environment(dir.path())
            };
            (environment, monitor)
        };
        let repo = open(environment, flavor).unwrap();
        let listed = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap();
        assert_eq!(listed, std::slice::from_ref(&snapshot));
        assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data);
        let again = ingest(&repo, &data).unwrap();
        assert_eq!(again.new_chunks, 0);
        assert_eq!(codes(&monitor), [""; 0]);
        // nor is a foreign name a snapshot
        assert_eq!(code(restore(&repo, &"ab".repeat(16), None)), "ERR_SNAPSHOT_NOT_FOUND");
    }
}

#[test]
fn a_read_only_handle_changes_nothing() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let dir = tempfile::tempdir().unwrap();
        let repo = init(folder_environment(dir.path()), flavor).unwrap();
        let data = random_bytes(1, 100_000);
        let snapshot = ingest(&repo, &data).unwrap();
        drop(repo);
        let before = tree(dir.path());
        let options = OpenOptions {
            read_only: true,
            ..OpenOptions::default()
        };
        let repo = repo::open(folder_environment(dir.path()), flavor.secret().as_ref(), &options).unwrap();
        let repo = Arc::new(repo);
        assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == data);
        assert_eq!(code(ingest(&repo, &data)), "ERR_READ_ONLY");
        drop(repo);
        assert_eq!(tree(dir.path()), before);
    }
}

#[cfg(unix)]
#[test]
fn a_directory_without_write_permission_can_be_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let repo = init(folder_environment(dir.path()), Flavor::sealed()).unwrap();
    let data = random_bytes(1, 100_000);
    let snapshot = ingest(&repo, &data).unwrap();
    drop(repo);
    let set = |mode_dir: u32, mode_file: u32| {
        for (path, bytes) in tree(dir.path()) {
            let mode = if bytes.is_some() { mode_file } else { mode_dir };
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    set(0o500, 0o400);
    // root can write in any case
    let root = std::fs::write(dir.path().join("probe"), "").is_ok();
    let repo = open(folder_environment(dir.path()), Flavor::sealed()).unwrap();
    let (restored, refused) = (restore(&repo, &snapshot.id.to_hex(), None), code(ingest(&repo, b"new")));
    set(0o700, 0o600);
    assert!(restored.unwrap() == data);
    assert_eq!(refused, if root { "ok" } else { "ERR_PERMISSION" });
}

#[test]
fn a_store_without_locks_can_be_read_but_not_written() {
    let known = Known::new(Flavor::sealed());
    let faulty = Arc::new(FaultyStorage::new(memory_of(&known.files)));
    faulty.fail_when(
        |op, _| ["lock", "probe_locks", "lease", "lease_held"].contains(&op),
        ErrorKind::LocksUnsupported,
    );
    let repo = open(environment(faulty.clone(), 3), known.flavor).unwrap();
    for (snapshot, data) in &known.snapshots {
        assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data);
    }
    assert_eq!(code(ingest(&repo, b"x")), "ERR_LOCKS_UNSUPPORTED");
    let empty = Arc::new(FaultyStorage::new(Arc::new(MemoryStorage::new())));
    empty.fail_when(|op, _| op == "probe_locks", ErrorKind::LocksUnsupported);
    assert_eq!(code(init(environment(empty, 3), known.flavor)), "ERR_LOCKS_UNSUPPORTED");
}

#[test]
fn an_init_concurrent_with_a_stuck_one_waits_and_then_fails() {
    let storage = Arc::new(MemoryStorage::new());
    put_bytes(storage.as_ref(), layout::COMMIT_LOCK, b"").unwrap();
    put_bytes(storage.as_ref(), layout::MAINT_LOCK, b"").unwrap();
    let held = storage.lock(
        layout::MAINT_LOCK,
        containerarchive::storage::LockMode::Exclusive,
        Duration::ZERO,
    );
    let held = held.unwrap().unwrap();
    let mut options = Flavor::plain().small();
    options.open.lock_wait = Duration::from_millis(5);
    let second = |options: &InitOptions| code(repo::init(environment(storage.clone(), 1), None, options));
    assert_eq!(second(&options), "ERR_REPO_LOCKED");
    // the wait also ends when the operation is cancelled
    options.open.lock_wait = Duration::from_secs(3600);
    let environment = Environment {
        monitor: Arc::new(CancelledAtCommit(AtomicBool::new(false))),
        ..environment(storage.clone(), 1)
    };
    assert_eq!(code(repo::init(environment, None, &options)), "ABORT_ERR");
    drop(held);
    assert_eq!(second(&options), "ok");
}

/// Cancels an operation right after it has begun its change.
struct CancelledAtCommit(AtomicBool);

impl Monitor for CancelledAtCommit {
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    fn begin_commit(&self) -> bool {
        self.0.store(true, Ordering::Relaxed);
        true
    }
}

#[test]
fn the_minimum_kdf_costs_apply_to_new_keys() {
    // the minimum is lowered for tests; the maximum is not
    let defaults = KdfParams::default();
    assert!(defaults.memory_kib >= 19_456 && defaults.time >= 2, "{defaults:?}");
    assert!(defaults.check_open().is_ok() && defaults.check_create().is_ok());
}
