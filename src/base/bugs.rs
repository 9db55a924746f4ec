//! Bugs that tests switch on, to check that they would find them. Never on in a release build.

use super::Base;
use crate::sync::lock;
use std::sync::Mutex;

/// A bug that a test switches on, to check that it would find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeededBug {
    /// The manifest is published before what it needs.
    ManifestFirst,
    /// A parity group supersedes others before its members are durable.
    ParityFirst,
    /// A prune deletes a pack before the chunks that it copied out of it are durable.
    OldPackFirst,
    /// A commit does not check whether its packs are still good.
    NoCommitCheck,
    /// A commit checks its packs before it takes the commit lock, and not under it.
    CheckOutsideLock,
    /// A prune decides without the snapshots that were committed right before its lock.
    NoLastListing,
    /// A kill list is deleted before its packs.
    KillListFirst,
    /// A kill list is deleted before the deletes of its packs are known to be durable, and before
    /// their index entries.
    KillListEarly,
    /// Packs are deleted without being removed from their parity groups.
    NoLeaving,
    /// A lease on object storage is deleted without a tombstone.
    NoTombstone,
    /// A writer on object storage relies on packs that are in marks.
    MarksUnread,
    /// A prune on object storage treats no session as one that may rely on the packs of its mark.
    NoBlocking,
}

/// The active bug of one handle.
#[derive(Default)]
pub(super) struct SeededBugs(Mutex<Option<SeededBug>>);

impl Base {
    /// Activates a bug in this handle.
    #[cfg(any(test, feature = "testing"))]
    pub fn seed_bug(&self, bug: SeededBug) {
        *lock(&self.bugs.0) = Some(bug);
    }

    /// True when a test has activated this bug in this handle.
    pub fn has_bug(&self, bug: SeededBug) -> bool {
        cfg!(any(test, feature = "testing")) && *lock(&self.bugs.0) == Some(bug)
    }
}
