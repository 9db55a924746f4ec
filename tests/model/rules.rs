//! A configuration of the model: the number of processes of each kind, and the rules of the
//! protocol in force.

use super::state::*;

/// When a commit checks its packs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Check {
    UnderLock,
    BeforeLock,
    Never,
}

/// How often a reader lists the index again.
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

/// The packs and snapshots of the initial state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// One snapshot of one chunk.
    One,
    /// Two snapshots share a pack.
    Shared,
    /// One chunk in two packs.
    Twice,
    /// Two snapshots share a pack, and one of the chunks is in a second pack too.
    SharedAndTwice,
    /// Two snapshots with one pack each.
    Two,
}

#[derive(Clone)]
pub struct Rules {
    pub name: &'static str,
    pub start: Start,
    /// Chunks of each writer; a writer without chunks does not run.
    pub want: [Set; WRITERS],
    pub pruners: usize,
    pub compaction: bool,
    pub reader: Retries,
    pub crashes: u8,
    pub power_cuts: u8,
    /// Snapshots that may be forgotten at any time.
    pub forget: Set,
    /// Number of prunes after which a quiet repository has no unneeded pack.
    pub runs: u8,
    pub check: Check,
    /// A commit takes the commit lock.
    pub shared_lock: bool,
    /// A prune takes the commit lock.
    pub exclusive_lock: bool,
    /// The check of a commit reads the kill lists.
    pub see_kill_lists: bool,
    /// A commit stores missing chunks again; the engine fails with a conflict when no segment has
    /// another location.
    pub store_again: bool,
    /// A prune lists the snapshots again under the lock.
    pub relist: bool,
    /// A prune reads the segments again under the lock.
    pub relist_segments: bool,
    /// Under the lock only snapshots that are newer than the plan are checked against the list, as
    /// in the engine.
    pub only_new: bool,
    /// A prune publishes a kill list.
    pub kill_list: bool,
    /// A prune deletes its kill list before the packs.
    pub kill_list_early: bool,
    /// The prune that finishes an old kill list spares packs that a listed snapshot needs.
    pub spare_needed: bool,
    /// It lists the snapshots for that under the commit lock.
    pub finish_under_lock: bool,
    /// Packs in a kill list that a tool copies into the folder, once, at any time.
    pub copied_list: Set,
    /// A prune takes the maintenance lock.
    pub maint: bool,
    /// A prune spares packs of live sessions.
    pub spare: bool,
    /// A prune condemns no packs while a session holds a lease.
    pub honour: bool,
    /// Only copies in existing packs count.
    pub look_for_packs: bool,
    /// A new segment names all existing segments that it supersedes, including those that these
    /// supersede.
    pub carry: bool,
    /// A prune stops at a chunk without an entry.
    pub guard: bool,
    /// Listings of the index are not atomic.
    pub torn: bool,
    pub flush: Flush,
    /// A violation is expected.
    pub broken: bool,
}

impl Rules {
    /// Makes the protocol with one prune that ignores leases, so that a prune that honours them is
    /// covered too.
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

    /// Returns the initial state.
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
