//! What is explored: how many of whom, and which rule of the protocol is left out.

use super::state::*;

/// When a commit looks at its packs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Check {
    UnderLock,
    BeforeLock,
    Never,
}

/// How often a reader lists again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Retries {
    /// There is no reader.
    NoReader,
    AtMost(u8),
    WhileNew,
}

/// When a prune flushes `snapshots/`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Flush {
    Never,
    BeforeLock,
    UnderLock,
}

/// The packs and snapshots at the beginning.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// One snapshot of one chunk.
    One,
    /// Two snapshots share a pack.
    Shared,
    /// One chunk in two packs.
    Twice,
    /// Two snapshots share a pack, and one of the chunks has another.
    SharedAndTwice,
    /// Two snapshots with a pack each.
    Two,
}

#[derive(Clone)]
pub struct Rules {
    pub name: &'static str,
    pub start: Start,
    /// Chunks of each writer; none: it takes no part.
    pub want: [Set; WRITERS],
    pub pruners: usize,
    pub compaction: bool,
    pub reader: Retries,
    pub crashes: u8,
    pub power_cuts: u8,
    /// Snapshots that may be forgotten at any time.
    pub forget: Set,
    /// A quiet repository is clean after so many prunes.
    pub runs: u8,
    pub check: Check,
    /// A commit takes the commit lock.
    pub shared_lock: bool,
    /// A prune takes it.
    pub exclusive_lock: bool,
    /// Kill lists count in the check.
    pub see_kill_lists: bool,
    /// What a commit finds gone it stores again; the engine fails with a conflict when no segment knows another place.
    pub store_again: bool,
    /// Snapshots and segments are listed again under the lock.
    pub relist: bool,
    pub relist_segments: bool,
    /// Under the lock only snapshots that came since the plan are held against the list, as the engine does.
    pub only_new: bool,
    pub kill_list: bool,
    pub kill_list_early: bool,
    /// A kill list that is found costs no pack that a listed snapshot needs.
    pub spare_needed: bool,
    /// The snapshots are listed under the commit lock for that.
    pub finish_under_lock: bool,
    /// Packs in a kill list that a tool copies into the folder, at any moment, once.
    pub copied_list: Set,
    pub maint: bool,
    /// A prune leaves packs of live sessions alone.
    pub spare: bool,
    /// A prune condemns nothing while others write.
    pub honour: bool,
    /// Copies count only in packs that exist.
    pub look_for_packs: bool,
    /// A new index names everything that it replaces and that is still there.
    pub carry: bool,
    /// A chunk without any entry stops a prune.
    pub guard: bool,
    /// Listings of the index are not atomic.
    pub torn: bool,
    pub flush: Flush,
    /// A violation is expected.
    pub broken: bool,
}

impl Rules {
    /// The protocol with one prune that ignores leases altogether, so that whatever it honours is safe too.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            start: Start::Shared,
            want: [0, 0],
            pruners: 1,
            compaction: false,
            reader: Retries::NoReader,
            crashes: 1,
            power_cuts: 0,
            forget: 0b10,
            runs: 2,
            check: Check::UnderLock,
            shared_lock: true,
            exclusive_lock: true,
            see_kill_lists: true,
            store_again: true,
            relist: true,
            relist_segments: true,
            only_new: false,
            kill_list: true,
            kill_list_early: false,
            spare_needed: true,
            finish_under_lock: true,
            copied_list: 0,
            maint: true,
            spare: false,
            honour: false,
            look_for_packs: true,
            carry: true,
            guard: true,
            torn: false,
            flush: Flush::UnderLock,
            broken: false,
        }
    }

    /// The state at the beginning.
    pub fn initial(&self) -> State {
        let mut state = State::default();
        let packs: &[Set] = match self.start {
            Start::One => &[1],
            Start::Shared => &[3],
            Start::Twice => &[1, 1],
            Start::SharedAndTwice => &[3, 1],
            Start::Two => &[1, 2],
        };
        for (pack, content) in packs.iter().enumerate() {
            state.add_pack(*content, 0);
            state.add_segment(entries_of(pack, *content), 0);
        }
        let snapshots = if matches!(self.start, Start::One | Start::Twice) {
            1
        } else {
            2
        };
        for snapshot in 0..snapshots {
            state.snapshots[snapshot] = MANIFEST | 1 << snapshot;
            state.acknowledged |= 1 << snapshot;
        }
        for (writer, want) in state.writers.iter_mut().zip(self.want) {
            writer.relied = [NONE; CHUNKS];
            if want != 0 {
                writer.at = At::Next(Write::Lease);
            }
        }
        for pruner in state.pruners.iter_mut().take(self.pruners) {
            pruner.at = At::Next(Prune::TakeMaint);
        }
        if self.compaction {
            state.compactor.at = At::Next(Merge::Read);
        }
        if self.reader != Retries::NoReader {
            state.reader.at = At::Next(Read::List);
        }
        state
    }
}
