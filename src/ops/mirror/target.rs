//! The folder that a mirror is in: which folders are refused, and how a new one begins.

use super::Run;
use super::listing::Listing;
use crate::base::{MAX_CONFIG_LEN, mirror, refuse_holders};
use crate::clock::format_time;
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::lock::{self, Lease, MaintLock, lease, lock_files};
use crate::repo::{Config, Environment, Repository};
use crate::snapshot::MAX_MANIFEST_LEN;
use crate::storage::{ErrorKind, Root, Storage, judge, put_bytes};
use std::collections::BTreeSet;
use std::path::Path;

/// The target of a mirroring.
pub(super) struct Target<'a> {
    env: &'a Environment,
    /// The folder when it was found, or after it was created.
    root: Root,
    /// It is marked as a mirror.
    marked: bool,
    /// Held until the end: another mirroring into this folder waits.
    lock: Option<MaintLock>,
    /// The same on object storage, where the lock excludes no other machine.
    lease: Option<Lease>,
}

/// Takes a lease in a bucket, unless another machine mirrors into it. Of two that begin at once,
/// both may be refused.
fn take_lease(repo: &Repository, storage: &dyn Storage) -> Result<Lease> {
    let session = SnapshotId(random(repo.entropy())?);
    let lease = Lease::take(storage, session, lease::MIRROR, format_time(repo.now_ms()))?;
    refuse_holders(storage, Some(session))?;
    Ok(lease)
}

impl<'a> Target<'a> {
    /// Inspects the folder. Nothing is written.
    pub fn find(repo: &Repository, env: &'a Environment) -> Result<Self> {
        let refused = |reason: &str| Error::MirrorRefused {
            path: env.path.clone(),
            reason: reason.to_owned(),
        };
        let storage = env.storage.as_ref();
        let root = storage.root().map_err(|error| error.at_root(&env.path))?;
        let found = |root: &Root| matches!(root, Root::Found(Some(_)));
        if repo.contains_path(Path::new(&env.path)) || found(&root) && root == repo.storage().root()? {
            return Err(Error::InvalidArgument {
                reason: format!("{} is inside the repository", env.path),
            });
        }
        let marked = mirror::is_mirror(storage)?;
        if marked {
            let id = mirror::marked_repository(storage)?;
            if id.is_some_and(|id| id != repo.config().id) {
                return Err(refused("it is a mirror of another repository"));
            }
        }
        match judge(storage.get(layout::CONFIG, MAX_CONFIG_LEN))? {
            Ok(bytes) if bytes == repo.config_bytes() && marked => {}
            Ok(bytes) => {
                let same = Config::decode(&bytes).is_ok_and(|config| config.id == repo.config().id);
                return Err(refused(match (same, marked) {
                    (true, true) => "its config.json differs from that of the repository",
                    (true, false) => {
                        "it is a repository that can be written to: a mirror that was promoted, or a copy by another tool"
                    }
                    (false, _) => "its config.json is of another repository or program",
                }));
            }
            Err(error) if error.kind == ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        Ok(Self {
            env,
            root,
            marked,
            lock: None,
            lease: None,
        })
    }

    /// The storage of the folder.
    pub fn storage(&self) -> &dyn Storage {
        self.env.storage.as_ref()
    }

    /// Creates what is missing, marks the folder, and locks it. The mark is durable before anything
    /// by which the folder is a repository.
    pub fn begin(&mut self, repo: &Repository) -> Result<()> {
        let storage = self.env.storage.as_ref();
        if !self.marked {
            let allowed = [layout::COMMIT_LOCK, layout::MAINT_LOCK];
            let is_empty = storage.create_folders(&layout::FOLDERS, &allowed);
            if !is_empty.map_err(|error| error.at_root(&self.env.path))? {
                return Err(Error::MirrorRefused {
                    path: self.env.path.clone(),
                    reason: "it is not empty, and no mirror".to_owned(),
                });
            }
        }
        storage.check_folders(&layout::FOLDERS)?;
        for name in lock_files(storage) {
            put_bytes(storage, name, &[])?;
        }
        let locked = lock::maint(storage, repo.lock_wait())?;
        self.lock = Some(locked.ok_or_else(|| Error::RepositoryLocked {
            lock: layout::MAINT_LOCK.to_owned(),
            holders: vec!["mirror".to_owned()],
        })?);
        if storage.is_remote() {
            self.lease = Some(take_lease(repo, storage)?);
        }
        self.root = storage.root()?;
        if self.marked != mirror::is_mirror(storage)? {
            // another mirroring has begun in this folder, or it was promoted, while this one waited
            return Err(Error::MirrorOvertaken);
        }
        if !self.marked {
            mirror::mark_mirror(storage, &repo.config().id)?;
            self.marked = true;
        }
        for folder in layout::FOLDERS.into_iter().chain([""]) {
            storage.clean_temporary(folder)?;
        }
        Ok(())
    }

    /// `RepositoryChanged` when the folder is no longer the one that the run began in: its disk may
    /// have been removed.
    pub fn check(&self, repo: &Repository) -> Result<()> {
        if self.storage().root()? == self.root && mirror::is_mirror(self.storage())? {
            return Ok(());
        }
        Err(Error::RepositoryChanged {
            path: self.env.path.clone(),
            expected: repo.config().id,
            found: None,
        })
    }

    fn refused(&self, reason: String) -> Error {
        Error::MirrorRefused {
            path: self.env.path.clone(),
            reason,
        }
    }
}

impl Run<'_> {
    /// Lists the target, and refuses one with snapshots that the source never had, or that would be
    /// lost although the source did not remove them.
    pub(super) fn check_target(&self, source: &Listing) -> Result<Listing> {
        let listing = Listing::take(self.storage())?;
        let (theirs, ours) = (source.snapshots(), listing.snapshots());
        if theirs.is_empty() && !ours.is_empty() {
            return Err(self.target.refused(format!(
                "the repository has no snapshots, and the mirror has {}; delete the mirror by hand if that is right",
                ours.len()
            )));
        }
        let recorded = source.recorded();
        let gone = ours.difference(&theirs).filter(|id| !recorded.contains(id));
        let gone: BTreeSet<SnapshotId> = gone.copied().collect();
        if gone.is_empty() {
            return Ok(listing);
        }
        let ledger = mirror::read_ledger(self.storage())?;
        if let Some(id) = gone.iter().find(|id| !ledger.contains(id)) {
            return Err(self.target.refused(format!(
                "snapshot {id} is there and was never in the repository: something else has written to the mirror"
            )));
        }
        if self.options.delete {
            self.check_not_newer(&gone)?;
        }
        Ok(listing)
    }

    /// Refuses to delete snapshots that are newer than all of the source: a source that was set
    /// back to an earlier state has not forgotten them. Without keys that is not known.
    fn check_not_newer(&self, gone: &BTreeSet<SnapshotId>) -> Result<()> {
        if self.repo.is_keyless() {
            return Ok(());
        }
        let next = self.repo.next_sequence(true, &|| true);
        for id in gone {
            let Ok(bytes) = judge(self.storage().get(&layout::snapshot(id), MAX_MANIFEST_LEN))? else {
                continue;
            };
            if self
                .repo
                .decode_manifest(id, &bytes)
                .is_ok_and(|snapshot| snapshot.sequence >= next)
            {
                return Err(self.target.refused(format!(
                    "snapshot {id} is newer than all snapshots of the repository, which may have been set back to an \
                     earlier state; make a backup first, or mirror without delete"
                )));
            }
        }
        Ok(())
    }
}
