//! The repository that is attacked, in a directory next to files that no operation may touch.

use super::forge::{self, Manifest, PackParts, Stored, pack};
use super::{Bare, Kind, Plain, Sealed};
use crate::support::faults::*;
use crate::support::*;
use containerarchive::entropy::OsEntropy;
use containerarchive::executor::PoolExecutor;
use containerarchive::id::{RepoId, SnapshotId};
use containerarchive::monitor::TestMonitor;
use containerarchive::repo::{self, Environment, InitOptions, OpenOptions, Repository};
use containerarchive::storage::{LocalStorage, MemoryStorage, Storage};
use containerarchive::{Result, layout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A repository in a directory, with a canary next to it.
pub(super) struct Scene {
    pub(super) parent: tempfile::TempDir,
    pub(super) known: Known,
}

impl Scene {
    pub(super) fn new(known: Known) -> Self {
        let memory = Path::new("/dev/shm");
        let parent = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
        };
        let scene = Self {
            parent: parent.unwrap(),
            known,
        };
        for folder in layout::FOLDERS {
            std::fs::create_dir_all(scene.repo().join(folder)).unwrap();
        }
        for (key, bytes) in &scene.known.files {
            std::fs::write(scene.path(key), bytes).unwrap();
        }
        std::fs::create_dir(scene.outside()).unwrap();
        for name in ["canary", ".tmp-canary", "commit", "maint"] {
            std::fs::write(scene.outside().join(name), "untouched").unwrap();
        }
        scene
    }

    /// The directory of the repository.
    pub(super) fn repo(&self) -> PathBuf {
        self.parent.path().join("repo")
    }

    /// A directory that no operation may touch.
    pub(super) fn outside(&self) -> PathBuf {
        self.parent.path().join("outside")
    }

    pub(super) fn path(&self, key: &str) -> PathBuf {
        self.repo().join(key)
    }

    pub(super) fn read(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.path(key)).unwrap()
    }

    pub(super) fn write(&self, key: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(key), bytes).unwrap();
    }

    pub(super) fn remove(&self, key: &str) {
        std::fs::remove_file(self.path(key)).unwrap();
    }

    /// Replaces a file with a sparse one.
    pub(super) fn sparse(&self, key: &str, len: u64) {
        let file = std::fs::File::create(self.path(key)).unwrap();
        file.set_len(len).unwrap();
    }

    /// Returns the keys in a directory with this ending, in order.
    pub(super) fn keys(&self, folder: &str, end: &str) -> Vec<String> {
        self.known.keys(folder, end)
    }

    /// Returns the first of these keys.
    pub(super) fn first(&self, folder: &str, end: &str) -> String {
        self.keys(folder, end).swap_remove(0)
    }

    /// Returns the files of all parity groups.
    pub(super) fn parity_files(&self) -> Vec<String> {
        [".par", ".grp"].map(|end| self.keys(layout::PARITY, end)).concat()
    }

    /// Writes the content of the second of these files to the first.
    pub(super) fn under_another_name(&self, folder: &str, end: &str) {
        let keys = self.keys(folder, end);
        self.write(&keys[0], self.read(&keys[1]));
    }

    /// Replaces a part of the JSON of a checked file.
    pub(super) fn forge(&self, key: &str, from: &str, to: &str) {
        self.write(key, forge(&self.read(key), from, to));
    }

    /// Removes all segments, so that packs are found by listing.
    pub(super) fn without_index(&self) {
        self.keys(layout::INDEX, ".seg").iter().for_each(|key| self.remove(key));
    }

    pub(super) fn repo_id(&self) -> RepoId {
        let config = String::from_utf8(self.known.files[layout::CONFIG].clone()).unwrap();
        let at = config.find("\"id\":\"").unwrap() + 6;
        RepoId::from_hex(&config[at..at + 32]).unwrap()
    }

    /// Writes a forged pack and its `.idx`.
    pub(super) fn put_pack(&self, forged: &forge::ForgedPack) {
        self.write(&layout::pack(&forged.id), &forged.pack);
        self.write(&layout::pack_index(&forged.id), &forged.index);
    }

    /// Writes a forged manifest.
    pub(super) fn put_manifest(&self, manifest: &forge::Manifest) {
        self.write(&layout::snapshot(&manifest.id), manifest.bytes());
    }

    /// Returns the ids of the known snapshots.
    pub(super) fn snapshots(&self) -> Vec<SnapshotId> {
        self.known.snapshots.iter().map(|(snapshot, _)| snapshot.id).collect()
    }

    pub(super) fn environment(&self) -> Environment {
        let storage = LocalStorage::open_path(&self.repo(), Arc::new(OsEntropy)).unwrap();
        Environment {
            path: self.repo().display().to_string(),
            entropy: Arc::new(OsEntropy),
            executor: Arc::new(PoolExecutor::new(2).unwrap()),
            monitor: Arc::new(TestMonitor::default()),
            ..environment(Arc::new(storage), 1)
        }
    }

    pub(super) fn open(&self) -> Result<Arc<Repository>> {
        let options = OpenOptions {
            lock_wait: Duration::from_millis(200),
            ..OpenOptions::default()
        };
        repo::open(self.environment(), self.known.flavor.secret().as_ref(), &options).map(Arc::new)
    }
}

/// Returns a repository before it is attacked.
pub(super) fn victim(kind: Kind) -> Known {
    match kind {
        Bare => {
            let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
            let options = InitOptions {
                parity: Some(None),
                ..Flavor::plain().small()
            };
            let made = repo::init(environment(Arc::clone(&storage), 7), None, &options).unwrap();
            Known::filled(Flavor::plain(), Arc::new(made), storage)
        }
        Plain => Known::new(Flavor::plain()),
        Sealed => Known::new(Flavor::sealed()),
    }
}

/// Writes a pack with its `.idx` that nothing refers to, in a repository without an index, so that
/// every operation reads it.
pub(super) fn planted(at: &Scene, stored: &[Stored], edit: impl Fn(&mut PackParts)) {
    at.put_pack(&pack(at.repo_id(), [0xf0; 16], stored, edit));
    for key in at.keys(layout::INDEX, ".seg") {
        let _ = std::fs::remove_file(at.path(&key));
    }
    // and a snapshot that needs its data
    let wanted: Vec<_> = stored
        .iter()
        .filter(|chunk| chunk.kind == 0)
        .take(100)
        .map(|chunk| (chunk.id, chunk.raw_len))
        .collect();
    if !wanted.is_empty() {
        let number = 0x10 + std::fs::read_dir(at.path(layout::SNAPSHOTS)).unwrap().count() as u8;
        at.put_manifest(&Manifest::chunks(number, &wanted));
    }
}
