//! State of a pack when a prune begins, and the action that the prune takes.

use crate::id::{PackId, SnapshotId};
use std::collections::BTreeSet;

/// The action for a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Keep,
    /// It contains no canonical copy, and no copy of a manifest that must be kept.
    Delete,
    /// The needed chunks are copied out of it, and then it is deleted.
    Rewrite,
}

/// Whether a pack is in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It was when the packs were listed: it may be deleted.
    Listed,
    /// A session has written it since.
    PutSince,
    /// The index names it, but it does not exist.
    Absent,
}

/// The session that wrote a pack, where it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// The index has all needed facts about the pack, and no session is active.
    NotAsked,
    /// A session that is not active.
    Ended(SnapshotId),
    /// An active session: its packs are left alone.
    AtWork(SnapshotId),
    /// The session is unknown: the pack is damaged, or condemned by an unfinished prune. It is left
    /// alone, and may contain copies of any manifest.
    Unknown,
    /// Another repository: the pack is left alone.
    Foreign,
}

/// State of a pack. All sums are in bytes of stored chunks, without copies of manifests and
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
    /// It exists, has the right length, and is not condemned: copies in it count.
    pub good: bool,
    /// It contains data chunks; the other packs are searched for copies of manifests.
    pub has_data: bool,
    /// New snapshots avoid it.
    pub hinted: bool,
    /// A mark names it: no new snapshot relies on it.
    pub marked: bool,
    /// This handle found it damaged.
    pub suspect: bool,
    /// Snapshots of whose manifests it contains copies.
    pub copies: BTreeSet<SnapshotId>,
    /// Some of these copies must be kept.
    pub needed_copies: bool,
    /// All chunks.
    pub total: u64,
    /// Chunks that a snapshot needs.
    pub live: u64,
    /// Needed chunks whose canonical copy is in this pack.
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
            marked: false,
            suspect: false,
            copies: BTreeSet::new(),
            needed_copies: false,
            total: 0,
            live: 0,
            canonical: 0,
            action: Action::Keep,
        }
    }

    /// True for a pack that was in the folder when the packs were listed.
    pub(super) fn is_listed(&self) -> bool {
        self.presence == Presence::Listed
    }

    /// True for a pack that this prune neither deletes nor rewrites, whatever it contains.
    pub(super) fn is_left_alone(&self) -> bool {
        matches!(self.writer, Writer::AtWork(_) | Writer::Unknown | Writer::Foreign)
    }

    pub(super) fn is_needed(&self) -> bool {
        self.canonical > 0 || self.needed_copies
    }

    /// Bytes that are not needed from this pack.
    pub(super) fn waste(&self) -> u64 {
        self.total.saturating_sub(self.canonical)
    }

    /// The rank of the pack among several with a copy of a chunk: the one with the highest rank has
    /// the canonical copy. First the packs that no read found damaged, then those that new
    /// snapshots may use, then good ones, then those that stay anyway (left alone, with needed
    /// copies of manifests, or without waste), then the fullest. Of equals it is the lower ordinal.
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
