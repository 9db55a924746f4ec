//! The options of a prune.

use crate::error::{Error, Result};
use crate::snapshot::retention::{Keep, RetentionPolicy, Rules};
use std::collections::BTreeMap;

/// Default of [`PruneOptions::max_unused`].
const DEFAULT_MAX_UNUSED: f64 = 0.05;

/// Options of a prune.
#[derive(Debug, Clone, PartialEq)]
pub struct PruneOptions {
    /// Which snapshots are kept.
    pub policy: RetentionPolicy,
    /// The policy is applied only to snapshots that have all these tags, with these values. The
    /// others are kept.
    pub tags: BTreeMap<String, String>,
    /// Report what would be done, and change nothing.
    pub dry_run: bool,
    /// Share of the stored bytes that may be waste in packs that are partly needed, from 0 (every
    /// such pack is rewritten) to 1 (none is). 0.05 by default.
    pub max_unused: f64,
    /// Also sweep packs that live ingests may rely on. These ingests then fail cleanly, or commit a
    /// complete snapshot.
    pub force: bool,
    /// The caller promises that no other process uses the repository. Needed on object storage,
    /// where no lock keeps other processes out.
    pub exclusive: bool,
    /// Wait for the sessions that delay a part of the sweep, then sweep that part too.
    pub wait: bool,
}

impl PruneOptions {
    /// The default options with this policy.
    pub fn new(policy: RetentionPolicy) -> Self {
        Self {
            policy,
            tags: BTreeMap::new(),
            dry_run: false,
            max_unused: DEFAULT_MAX_UNUSED,
            force: false,
            exclusive: false,
            wait: false,
        }
    }

    /// Keeps every snapshot, so that only data that no snapshot needs is deleted.
    pub fn keep_all() -> Self {
        Self::new(RetentionPolicy {
            keep_last: Keep::All,
            ..RetentionPolicy::default()
        })
    }

    /// The same options, but no further snapshot is removed: the policy is applied only once.
    pub(super) fn sweep_only(&self) -> Self {
        Self {
            policy: Self::keep_all().policy,
            tags: BTreeMap::new(),
            ..self.clone()
        }
    }

    /// Rejects invalid options.
    pub(super) fn check(&self) -> Result<()> {
        self.rules()?;
        if !(0.0..=1.0).contains(&self.max_unused) {
            return Err(Error::InvalidArgument {
                reason: format!("maxUnused must be from 0 to 1, not {}", self.max_unused),
            });
        }
        Ok(())
    }

    /// The rules of the policy.
    pub(super) fn rules(&self) -> Result<Rules> {
        Ok(Rules::new(&self.policy)?)
    }
}
