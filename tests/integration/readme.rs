//! `README.txt`: init writes it before the config and accepts only its own; nothing else reads,
//! restores or names it.

use crate::support::faults::*;
use crate::support::*;
use containerarchive::entropy::OsEntropy;
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, PruneOptions, VerifyLevel, VerifyOptions};
use containerarchive::repo::{self, Environment, OpenOptions, Repository};
use containerarchive::storage::{
    ErrorKind, FaultyStorage, LocalStorage, MemoryStorage, RecordingStorage, Storage, put_bytes,
};
use std::path::Path;
use std::sync::Arc;

/// The file that init writes.
fn readme() -> Vec<u8> {
    let (_, storage) = memory_repo(Flavor::plain());
    storage.get(layout::README, 4096).unwrap()
}

/// Files that are not exactly the one that init writes.
fn other_readmes() -> Vec<(&'static str, Vec<u8>)> {
    let ours = readme();
    let text = String::from_utf8(ours.clone()).unwrap();
    vec![
        ("of another program", b"Holiday photos\n".to_vec()),
        ("empty", Vec::new()),
        ("cut by a byte", ours[..ours.len() - 1].to_vec()),
        ("longer by a byte", [&ours[..], b"\n"].concat()),
        ("with one other letter", text.replacen('T', "t", 1).into_bytes()),
        ("with other line ends", text.replace('\n', "\r\n").into_bytes()),
        ("large", vec![b'x'; 1 << 20]),
    ]
}

fn folder_environment(path: &Path) -> Environment {
    let storage = LocalStorage::open_path(path, Arc::new(OsEntropy)).unwrap();
    Environment {
        path: path.display().to_string(),
        entropy: Arc::new(OsEntropy),
        ..environment(Arc::new(storage), 1)
    }
}

#[test]
fn init_writes_the_same_readme_into_each_repository_before_the_config() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let recording = Arc::new(RecordingStorage::new(Arc::new(MemoryStorage::new())));
        init(environment(recording.clone(), 3), flavor).unwrap();
        let calls = recording.calls();
        let put = |key: &str| calls.iter().position(|(op, of)| *op == "put_new" && of == key).unwrap();
        let (readme_at, config_at) = (put(layout::README), put(layout::CONFIG));
        let barrier = calls[readme_at..config_at].iter().any(|(op, _)| *op == "barrier");
        assert!(readme_at < config_at && barrier, "durable before there is a config");
        assert_eq!(recording.get(layout::README, 4096).unwrap(), readme());
    }
}

#[test]
fn the_readme_of_an_interrupted_init_is_accepted_as_it_is() {
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repo");
        let local = folder_environment(&path);
        let faulty = Arc::new(FaultyStorage::new(Arc::clone(&local.storage)));
        faulty.fail_when(|op, key| op == "put_new" && key == layout::CONFIG, ErrorKind::NoSpace);
        let interrupted = Environment {
            storage: faulty,
            ..local
        };
        assert_eq!(code(init(interrupted, flavor)), "ERR_NO_SPACE");
        assert_eq!(std::fs::read(path.join(layout::README)).unwrap(), readme());
        assert!(!path.join(layout::CONFIG).exists());
        assert_eq!(code(open(folder_environment(&path), flavor)), "ERR_REPO_NOT_FOUND");
        let made = |path: &Path| {
            std::fs::metadata(path.join(layout::README))
                .unwrap()
                .modified()
                .unwrap()
        };
        let before = made(&path);
        init(folder_environment(&path), flavor).unwrap();
        assert_eq!(made(&path), before, "it was not written again");
        assert_eq!(std::fs::read(path.join(layout::README)).unwrap(), readme());
    }
    // all else that an init makes may be missing
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(layout::README), readme()).unwrap();
    init(folder_environment(dir.path()), Flavor::plain()).unwrap();
}

#[test]
fn init_refuses_a_folder_with_another_readme_and_changes_nothing() {
    for (what, bytes) in other_readmes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(layout::README);
        std::fs::write(&file, &bytes).unwrap();
        for flavor in [Flavor::plain(), Flavor::sealed()] {
            assert_eq!(
                code(init(folder_environment(dir.path()), flavor)),
                "ERR_NOT_EMPTY",
                "{what}"
            );
            assert_eq!(
                code(open(folder_environment(dir.path()), flavor)),
                "ERR_REPO_NOT_FOUND",
                "{what}"
            );
        }
        assert_eq!(std::fs::read(&file).unwrap(), bytes, "{what}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{what}");
    }
}

#[test]
fn init_refuses_a_folder_where_the_readme_is_no_file() {
    let refuses = |plant: &dyn Fn(&Path)| {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().join(layout::README);
        plant(&name);
        let before = std::fs::symlink_metadata(&name).unwrap().file_type();
        assert_eq!(
            code(init(folder_environment(dir.path()), Flavor::plain())),
            "ERR_NOT_EMPTY"
        );
        assert_eq!(std::fs::symlink_metadata(&name).unwrap().file_type(), before);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    };
    refuses(&|name| std::fs::create_dir(name).unwrap());
    #[cfg(unix)]
    {
        // not even one that leads to the right bytes
        let target = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(target.path(), readme()).unwrap();
        refuses(&|name| std::os::unix::fs::symlink(target.path(), name).unwrap());
        refuses(&|name| std::os::unix::fs::symlink("nowhere", name).unwrap());
        refuses(&|name| drop(std::os::unix::net::UnixListener::bind(name).unwrap()));
    }
}

#[test]
fn init_beside_a_user_who_puts_another_readme_refuses_and_keeps_it() {
    for (what, bytes) in other_readmes() {
        let memory = Arc::new(MemoryStorage::new());
        let (quicker, user) = (memory.clone(), bytes.clone());
        let hooked = HookedStorage::new(memory.clone(), move |op, key| {
            if op == "put_new" && key == layout::README {
                put_bytes(quicker.as_ref(), key, &user).unwrap();
            }
        });
        assert_eq!(
            code(init(environment(Arc::new(hooked), 3), Flavor::plain())),
            "ERR_NOT_EMPTY",
            "{what}"
        );
        assert_eq!(memory.size(layout::CONFIG).unwrap(), None, "{what}");
        assert_eq!(memory.get(layout::README, 2 << 20).unwrap(), bytes, "{what}");
    }
}

/// Every operation that could notice the file; each must succeed and report nothing.
fn assert_unnoticed(repo: &Arc<Repository>, what: &str) {
    for level in [VerifyLevel::Quick, VerifyLevel::Standard, VerifyLevel::Full] {
        let options = VerifyOptions { level, subset: None };
        let report = ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap();
        assert!(report.ok() && report.notes.is_empty(), "{what}: {report:?}");
    }
    let report = ops::repair(repo, &NullMonitor).unwrap();
    assert_eq!(report, ops::RepairReport::default(), "{what}");
    ops::stats(repo, &NullMonitor).unwrap();
    let snapshot = ingest(repo, what.as_bytes()).unwrap();
    ops::prune(repo, &PruneOptions::keep_all(), &NullMonitor).unwrap();
    ops::reindex(repo, &NullMonitor).unwrap();
    assert_eq!(restore(repo, &snapshot.id.to_hex(), None).unwrap(), what.as_bytes());
}

#[test]
fn a_readme_that_is_missing_or_edited_is_reported_by_nothing_and_restored_by_nothing() {
    for known in [Known::new(Flavor::plain()), Known::new(Flavor::sealed())] {
        let mut states: Vec<_> = other_readmes()
            .into_iter()
            .map(|(what, bytes)| (what, Some(bytes)))
            .collect();
        states.push(("missing", None));
        for (what, bytes) in states {
            let storage = memory_of(&with(&known.files, layout::README, bytes.clone()));
            let recording = Arc::new(RecordingStorage::new(storage.clone()));
            let (environment, monitor) = watched(recording.clone(), 9);
            let repo = open(environment, known.flavor).unwrap();
            assert_unnoticed(&repo, what);
            assert_eq!(codes(&monitor), [""; 0], "{what}");
            assert!(recording.calls().iter().all(|(_, key)| key != layout::README), "{what}");
            assert_eq!(storage.get(layout::README, 2 << 20).ok(), bytes, "{what}");
        }
    }
}

/// Puts something in place of a file.
#[cfg(unix)]
type Plant = fn(&Path);

#[cfg(unix)]
#[test]
fn a_folder_or_a_link_in_place_of_the_readme_is_reported_by_nothing_and_stays() {
    let known = Known::new(Flavor::plain());
    let plants: [(&str, Plant); 3] = [
        ("a folder", |name| std::fs::create_dir(name).unwrap()),
        ("a link", |name| {
            std::os::unix::fs::symlink("/etc/hostname", name).unwrap()
        }),
        ("a socket", |name| {
            drop(std::os::unix::net::UnixListener::bind(name).unwrap());
        }),
    ];
    for (what, plant) in plants {
        let dir = tempfile::tempdir().unwrap();
        for folder in layout::FOLDERS {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for (key, bytes) in known.files.iter().filter(|(key, _)| *key != layout::README) {
            std::fs::write(dir.path().join(key), bytes).unwrap();
        }
        let name = dir.path().join(layout::README);
        plant(&name);
        let kind = || std::fs::symlink_metadata(&name).unwrap().file_type();
        let before = kind();
        assert_unnoticed(&open(folder_environment(dir.path()), known.flavor).unwrap(), what);
        assert_eq!(kind(), before, "{what}");
    }
}

#[test]
fn open_writes_no_readme_and_neither_does_a_handle_that_only_reads() {
    for known in [Known::new(Flavor::plain()), Known::new(Flavor::sealed())] {
        let files = with(&known.files, layout::README, None);
        for read_only in [false, true] {
            let storage = memory_of(&files);
            let options = OpenOptions {
                read_only,
                ..OpenOptions::default()
            };
            let secret = known.flavor.secret();
            let repo = repo::open(environment(storage.clone(), 4), secret.as_ref(), &options).unwrap();
            for (snapshot, data) in &known.snapshots {
                let repo = Arc::new(repo::open(environment(storage.clone(), 5), secret.as_ref(), &options).unwrap());
                assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data);
            }
            drop(repo);
            assert_eq!(files_of(storage.as_ref()), files);
        }
    }
}
