//! Mistakes that tests switch on, to see that they would find them. Never on in a release build.

use super::Base;
use crate::sync::lock;
use std::sync::Mutex;

/// A mistake that tests switch on, to see that they would find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeededBug {
    /// The manifest is published before what it needs.
    ManifestFirst,
    /// A parity group takes the place of others before its members are durable.
    ParityFirst,
    /// A prune deletes a pack before what it copied out of it is durable.
    OldPackFirst,
    /// A commit does not look whether its packs are still good.
    NoCommitCheck,
    /// A commit looks at its packs before it takes the commit lock, and not under it.
    CheckOutsideLock,
    /// A prune decides without the snapshots that came right before its lock.
    NoLastListing,
    /// A kill list goes before its packs.
    KillListFirst,
    /// A kill list goes before it is known that the deleting of its packs is durable, and before their index entries.
    KillListEarly,
    /// Packs are deleted without leaving their parity groups.
    NoLeaving,
}

/// The mistake of one handle.
#[derive(Default)]
pub(super) struct SeededBugs(Mutex<Option<SeededBug>>);

impl Base {
    /// Makes this handle misbehave.
    #[cfg(any(test, feature = "testing"))]
    pub fn seed_bug(&self, bug: SeededBug) {
        *lock(&self.bugs.0) = Some(bug);
    }

    /// True when a test told this handle to misbehave so.
    pub fn has_bug(&self, bug: SeededBug) -> bool {
        cfg!(any(test, feature = "testing")) && *lock(&self.bugs.0) == Some(bug)
    }
}
