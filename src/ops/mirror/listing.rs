//! The files of a repository that a mirror has too, by name.

use super::Run;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::lock::{self, CommitLock};
use crate::storage::{ErrorKind, Storage};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Keys and lengths in bytes.
pub(super) type Files = BTreeMap<String, u64>;

/// Longest time without a check whether the operation is to stop.
const SLICE: Duration = Duration::from_millis(50);
/// Most listings until two of them are equal, where the source has no working locks.
const MAX_LISTINGS: usize = 64;

/// The files of a repository. Names that are not of the exact form are left out.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub manifests: Files,
    pub records: Files,
    pub segments: Files,
    pub parity: Files,
    pub key_copies: Files,
    pub keys: Files,
    /// Packs, and their `.idx` files.
    pub packs: Files,
}

impl Listing {
    /// Lists the files. A manifest that is listed precedes what it needs in the order of the
    /// listings, and so does a parity group.
    pub fn take(storage: &dyn Storage) -> Result<Self> {
        let id = |key: &str, suffix: &str| layout::id_of::<16>(key, suffix).is_some();
        let hash = |key: &str, suffix: &str| layout::id_of::<32>(key, suffix).is_some();
        let list = |folder: &str, wanted: &dyn Fn(&str) -> bool| -> Result<Files> {
            let files = storage.list(folder)?.into_iter();
            Ok(files
                .filter(|file| wanted(&file.key))
                .map(|file| (file.key, file.len))
                .collect())
        };
        Ok(Self {
            manifests: list(layout::SNAPSHOTS, &|key| id(key, ".json"))?,
            records: list(layout::RECORDS, &|key| id(key, ".forgot"))?,
            segments: list(layout::INDEX, &|key| id(key, ".seg"))?,
            parity: list(layout::PARITY, &|key| crate::parity::part_of(key).is_some())?,
            // a copy alone is that of a lost key, so it is never listed without its key
            key_copies: list(layout::KEY_COPIES, &|key| id(key, ".json"))?,
            keys: list(layout::KEYS, &|key| id(key, ".json"))?,
            packs: list(layout::DATA, &|key| hash(key, ".pack") || hash(key, ".idx"))?,
        })
    }

    /// All kinds of files, in one order for every listing.
    pub fn all(&self) -> [&Files; 7] {
        [
            &self.manifests,
            &self.records,
            &self.segments,
            &self.parity,
            &self.key_copies,
            &self.keys,
            &self.packs,
        ]
    }

    /// The ids of the manifests.
    pub fn snapshots(&self) -> BTreeSet<SnapshotId> {
        ids(&self.manifests, ".json")
    }

    /// The ids of the snapshots that have a record.
    pub fn recorded(&self) -> BTreeSet<SnapshotId> {
        ids(&self.records, ".forgot")
    }
}

fn ids(files: &Files, suffix: &str) -> BTreeSet<SnapshotId> {
    let ids = files.keys().filter_map(|key| layout::id_of(key, suffix));
    ids.map(SnapshotId).collect()
}

/// Lists the source at a point at which each listed manifest has all its packs in the listing. A
/// prune decides under the exclusive commit lock, so that while it is held shared here no pack that
/// a listed snapshot needs begins to be deleted (`docs/invariants.md` §17). Where the source has no
/// working locks, two equal listings have to do.
pub(super) fn take_source(run: &Run<'_>) -> Result<Listing> {
    let repo = run.repo;
    let began = repo.check_folder()?;
    let guard = commit_shared(run)?;
    let mut listing = Listing::take(repo.storage())?;
    // the lock of a bucket excludes this process alone
    if guard.is_none() || repo.storage().is_remote() {
        let mut rounds = 0;
        loop {
            let again = Listing::take(repo.storage())?;
            rounds += 1;
            match again == listing {
                true => break,
                false if rounds == MAX_LISTINGS => return Err(Error::MirrorOvertaken),
                false => listing = again,
            }
        }
    }
    drop(guard);
    // the disk may have been removed since: then nothing of this was listed in the repository
    repo.check_same_folder(began)?;
    Ok(listing)
}

/// The commit lock of the source; `None` where it has no lock that works or can be opened, as on a
/// file system that is mounted read-only.
fn commit_shared(run: &Run<'_>) -> Result<Option<CommitLock>> {
    let mut left = run.repo.lock_wait();
    loop {
        run.check_running()?;
        let slice = left.min(SLICE);
        match lock::commit_shared(run.repo.storage(), slice) {
            Ok(Some(guard)) => return Ok(Some(guard)),
            Ok(None) => {}
            Err(lock::Error::Storage(error)) if has_no_lock(error.kind) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        left -= slice;
        if left.is_zero() {
            return Err(Error::RepositoryLocked {
                lock: layout::COMMIT_LOCK.to_owned(),
                holders: Vec::new(),
            });
        }
    }
}

fn has_no_lock(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::LocksUnsupported
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnly
            | ErrorKind::NotFound
            | ErrorKind::NotADirectory
            | ErrorKind::NotAFile
    )
}
