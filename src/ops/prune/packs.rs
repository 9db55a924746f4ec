//! What is known of a pack when a prune begins, and what becomes of it.

use crate::id::{PackId, SnapshotId};
use std::collections::BTreeSet;

/// What becomes of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Keep,
    /// Nothing in it is needed from there.
    Delete,
    /// What is needed is copied out of it, and then it is deleted.
    Rewrite,
}

/// Whether a pack is in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// When the packs were listed: it may be deleted.
    Listed,
    /// A session has put it since.
    PutSince,
    /// The index names it, and it is not there.
    Absent,
}

/// The session that stored a pack, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// The index knows everything of the pack, and no session is at work.
    NotAsked,
    /// A session that is not at work.
    Ended(SnapshotId),
    /// A session that is at work: its packs are left alone.
    AtWork(SnapshotId),
    /// The pack does not say: it is damaged, or condemned by an unfinished prune. It is left alone,
    /// and may contain copies of any manifest.
    Unknown,
    /// Another repository: the pack is left alone.
    Foreign,
}

/// What is known of a pack. All sums are in bytes of stored chunks, without copies of manifests and
/// configs.
#[derive(Debug, Clone)]
pub(super) struct PackState {
    pub id: PackId,
    /// Length of the file.
    pub len: u64,
    pub presence: Presence,
    pub writer: Writer,
    /// An unfinished prune has condemned it: nothing relies on it.
    pub condemned: bool,
    /// It is there, as long as it should be, and not condemned: copies in it count.
    pub good: bool,
    /// It contains data chunks; the others are asked for copies of manifests.
    pub has_data: bool,
    /// New snapshots avoid it.
    pub hinted: bool,
    /// This handle found it damaged.
    pub suspect: bool,
    /// Snapshots of whose manifests it contains copies.
    pub copies: BTreeSet<SnapshotId>,
    /// Of these, some that must be kept.
    pub needed_copies: bool,
    /// All of it.
    pub total: u64,
    /// Chunks that a snapshot needs.
    pub live: u64,
    /// Of these, those whose canonical copy is here.
    pub canonical: u64,
    pub action: Action,
}

impl PackState {
    pub(super) fn new(id: PackId, len: u64, presence: Presence) -> Self {
        Self {
            id,
            len,
            presence,
            writer: Writer::NotAsked,
            condemned: false,
            good: false,
            has_data: false,
            hinted: false,
            suspect: false,
            copies: BTreeSet::new(),
            needed_copies: false,
            total: 0,
            live: 0,
            canonical: 0,
            action: Action::Keep,
        }
    }

    /// True for one that was in the folder when the packs were listed.
    pub(super) fn is_listed(&self) -> bool {
        self.presence == Presence::Listed
    }

    /// True for one that this prune neither deletes nor rewrites, whatever it contains.
    pub(super) fn is_left_alone(&self) -> bool {
        matches!(self.writer, Writer::AtWork(_) | Writer::Unknown | Writer::Foreign)
    }

    pub(super) fn is_needed(&self) -> bool {
        self.canonical > 0 || self.needed_copies
    }

    /// Bytes that are not needed from here.
    pub(super) fn waste(&self) -> u64 {
        self.total.saturating_sub(self.canonical)
    }

    /// Of several packs with a copy of a chunk, the one with the greatest rank has the canonical
    /// copy: first those not found damaged, then those that new snapshots use too, then those that
    /// stay anyway, then the fullest.
    pub(super) fn rank(&self) -> (bool, bool, bool, bool, u64) {
        let share = (u128::from(self.live) << 32).checked_div(u128::from(self.total));
        (
            self.good && !self.suspect,
            self.good && !self.hinted,
            self.good,
            self.is_left_alone() || self.needed_copies || self.live == self.total,
            share.unwrap_or(0) as u64,
        )
    }
}
