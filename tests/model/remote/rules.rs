//! A configuration of the model of object stores: the processes, what the store may do to
//! requests, and the rules that are left out.

use super::state::*;

/// The kinds of requests that may stay without an answer and be carried out late.
pub mod request {
    pub const MANIFEST: u16 = 1;
    pub const TOMBSTONE: u16 = 1 << 1;
    pub const LEASE: u16 = 1 << 2;
    pub const PACK: u16 = 1 << 3;
    pub const SEGMENT: u16 = 1 << 4;
    pub const MARK: u16 = 1 << 5;
    pub const DELETE_SEGMENT: u16 = 1 << 6;
    pub const DELETE_PACK: u16 = 1 << 7;
    pub const DELETE_LEASE: u16 = 1 << 8;
    pub const DELETE_MARK: u16 = 1 << 9;
    /// `.swept`, `.wait` and forgotten records.
    pub const SWEPT: u16 = 1 << 10;
    pub const WAIT: u16 = 1 << 11;
    pub const RECORD: u16 = 1 << 12;
    /// Those without which no session, prune or compaction works.
    pub const MAIN: u16 = (1 << 9) - 1;
}

/// The rules of the protocol that can be left out, and wrong things that a client could do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Left {
    /// A1: the marks are listed last at P4.
    MarksLast,
    /// A1: snapshots before segments. (No loss is known.)
    SnapshotsFirst,
    /// A2: the lease before the listings.
    LeaseFirst,
    /// A2: a session that continues as another one lists the marks again.
    NewSessionListsAgain,
    /// A7: marks count after a refresh.
    RefreshHonoursMarks,
    /// A4: a tombstone.
    Tombstone,
    /// A4: the tombstone before the DELETE of the lease.
    TombstoneFirst,
    /// A5: snapshots, or segments, are listed again at P4; and copies are checked.
    SnapshotsAgain,
    SegmentsAgain,
    CopyCheck,
    /// Packs of sessions that are believed live are spared. (Not needed for safety.)
    Sparing,
    /// A6.
    FreshPackNames,
    FreshSegmentNames,
    /// A7: a mark outlives the sweep; a mark outlives a prune that is deferred; writers read marks.
    MarksStay,
    DeferredMarksStay,
    WritersReadMarks,
    /// A9: a merge keeps every pair of chunk and pack.
    MergeKeepsDuplicates,
    MergeKeepsMarked,
    /// A9: copies in marked packs do not count.
    MarkedDoNotCount,
    /// A9: PUT-if-absent.
    ManifestIfAbsent,
    TombstoneIfAbsent,
    /// A11: a writer that does not know its outcome keeps its lease.
    UnknownKeepsLease,
    /// A12: superseded segments are deleted after the merged one exists.
    MergedFirst,
    /// A9: `.swept` names only what was decided at P4.
    SweptIsDecided,
    /// A12: `.wait` is put after the tombstones are answered.
    WaitAfterTombstones,
    /// A13: swept packs are condemned again.
    SweptAgain,
    /// A14: a segment name stands for fixed bytes.
    FixedSegments,
    /// Growth: a merged mark exists before those that it replaces are deleted.
    MergedMarkFirst,
    /// Growth: a mark that is listed and missing is a reason to list again.
    ListMarksAgain,
    /// Growth: the name of a merged mark is listed after the names that it replaces.
    MergedMarkSortsLast,
    /// Growth: a merged record exists before those that it replaces are deleted.
    MergedRecordFirst,
    /// Growth: a commit lists the merged record of tombstones before it is reported.
    CommitChecksRevoked,
    /// Growth: a merged record of tombstones replaces them.
    RecordOfTombstones,
    /// Reindex: an entry for a condemned pack does not end its mark.
    ReindexKeepsMarks,
    /// Repair: it settles the sessions that may rely on the damaged pack (P3).
    RepairSettlesSessions,
    /// Repair: it decides as a prune does (P4).
    RepairDecides,
    /// A prune stops at a live chunk without an entry.
    Stop,
    /// A segment names the superseded ones of those that it supersedes. (Not needed for safety.)
    CarriedNames,
}

/// What a writer lists before its lease.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Early {
    Nothing,
    /// Against A2.
    Marks,
    Segments,
}

/// What a long ingest lists again before it looks up its second chunk. What it has chosen stays.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    Never,
    MarksThenSegments,
    SegmentsThenMarks,
    /// The marks of W2 continue to count.
    Segments,
}

/// Which live sessions block a mark.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// Those that do not state, in a file of their own, that they have seen it.
    Unseen,
    AnyLease,
    /// None, against A3.
    Ignored,
    /// All that were listed after it: its `.wait` names them, and a later prune continues it.
    Recorded,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Forgetting {
    /// The manifest is deleted without a trace, against A10.
    Delete,
    /// A10: a permanent record, then the DELETE.
    Record,
    /// The manifest is overwritten with a tombstone.
    Overwrite,
}

/// What a prune does about a listing of the index that takes two pages (A15).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum TornIndex {
    /// A listing is one page.
    No,
    /// It treats the pages as one instant, against A15.
    AsOneInstant,
    /// It keeps the entries of the plan at P4.
    KeepPlan,
    /// It reads the contents of the packs that it condemns.
    ReadContents,
    /// It lists until two listings are the same.
    ListTwice,
}

/// A listing of marks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum MarkListing {
    /// Of one instant, with the contents.
    AtOnce,
    /// Of one instant, with a GET of each name later.
    WithGets,
    /// Two pages, sorted by name, with a GET of each name later.
    TwoPages,
}

/// How often a reader lists the index again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Retries {
    NoReader,
    AtMost(u8),
    WhileNew,
}

/// The states in which a quiet prune must leave nothing that is not needed. In-flight requests are
/// once all dropped, and once all carried out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    Unchecked,
    /// No process is in the middle of an operation.
    Quiet,
    /// Every state; all processes have stopped for good.
    Always,
}

pub use crate::rules::Start;

#[derive(Clone)]
pub struct Rules {
    pub name: &'static str,
    pub start: Start,
    /// Chunks of each writer; a writer without chunks does not run.
    pub want: [Set; WRITERS],
    pub early: Early,
    pub refresh: Refresh,
    /// A revoked session of the first writer continues as that of the second one.
    pub restarts: bool,
    pub pruners: usize,
    pub compactors: usize,
    /// Merges of marks.
    pub mergers: usize,
    pub mark_listing: MarkListing,
    /// A merge of forgotten records, and of tombstones.
    pub gathers: bool,
    pub gathers_tombstones: bool,
    /// Packs that an earlier prune has deleted, whose marks and entries are still there, and whose
    /// snapshots were forgotten.
    pub swept: Set,
    /// A reindex runs.
    pub reindexes: bool,
    /// The number of segments that the store may lose.
    pub lost_segments: u8,
    /// Packs of the initial state that no segment names.
    pub unnamed: Set,
    /// The last of the pruners are repairs, of these packs of the initial state.
    pub repairs: usize,
    pub damaged: Set,
    /// At P4 a prune reads the contents of the packs that it condemns (A15).
    pub reads_contents: bool,
    /// A prune rewrites the index (P6).
    pub rewrite: bool,
    pub reader: Retries,
    /// The snapshot that the reader restores.
    pub reads: usize,
    /// Snapshots that may be forgotten at any time.
    pub forget: Set,
    pub forgetting: Forgetting,
    /// Forced unlocks of any lease.
    pub unlock: bool,
    /// The number of requests without an answer, and their kinds.
    pub late: u8,
    pub late_kinds: u16,
    /// Kinds whose sender continues without the answer, against A12.
    pub not_awaited: u16,
    pub blocking: Blocking,
    /// A writer may fail before its commit.
    pub quits: bool,
    pub liveness: Liveness,
    /// Each look at the leases treats any subset of them as live.
    pub guess: bool,
    /// The guess is always right.
    pub right: bool,
    pub torn: TornIndex,
    /// Prunes list snapshots and leases, and writers list segments, in two pages.
    pub pages: bool,
    pub left_out: u64,
    /// A live entry names a pack that exists or is marked: this is checked.
    pub check_entries: bool,
    /// A forgotten snapshot that returns is no violation by itself.
    pub may_return: bool,
    /// Looks for a continued mark that is executed while a later session is live.
    pub reach: bool,
    /// Random walks instead of a search of all states.
    pub walks: usize,
    /// A violation is expected, whose text contains this.
    pub loses: Option<&'static str>,
    /// The violation takes more states to find than are explored at every change.
    pub large: bool,
}

impl Rules {
    /// Makes the protocol, with one prune that treats leases as stale or live as it likes.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            start: Start::Shared,
            want: [0, 0],
            early: Early::Nothing,
            refresh: Refresh::Never,
            restarts: false,
            pruners: 1,
            compactors: 0,
            mergers: 0,
            mark_listing: MarkListing::AtOnce,
            gathers: false,
            gathers_tombstones: false,
            swept: 0,
            reindexes: false,
            lost_segments: 0,
            unnamed: 0,
            repairs: 0,
            damaged: 0,
            reads_contents: false,
            rewrite: false,
            reader: Retries::NoReader,
            reads: 0,
            forget: 0b10,
            forgetting: Forgetting::Record,
            unlock: false,
            late: 0,
            late_kinds: request::MAIN,
            not_awaited: 0,
            blocking: Blocking::AnyLease,
            quits: true,
            liveness: Liveness::Quiet,
            guess: true,
            right: false,
            torn: TornIndex::No,
            pages: false,
            left_out: 0,
            check_entries: false,
            may_return: false,
            reach: false,
            walks: 0,
            loses: None,
            large: false,
        }
    }

    /// Leaves rules out.
    pub fn leave_out(mut self, rules: &[Left]) -> Self {
        self.left_out = rules.iter().fold(0, |all, rule| all | 1 << *rule as u8);
        self
    }

    pub fn lacks(&self, rule: Left) -> bool {
        self.left_out >> rule as u8 & 1 == 1
    }

    /// Returns the chunks of a writer, and of a session that continues as another one.
    pub fn wanted(&self, writer: usize) -> Set {
        self.want[if self.restarts { 0 } else { writer }]
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
            state.packs |= 1 << pack;
            state.content[pack] = *content;
            if !has(self.unnamed, pack) {
                state.segments |= 1 << pack;
            }
            state.named[pack] = entries_of(pack, *content);
        }
        (state.pack_count, state.segment_count) = (packs.len() as u8, packs.len() as u8);
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
            *writer = Writer::ended(if want == 0 { At::Off } else { At::Next(Write::PutLease) });
        }
        for (i, pruner) in state.pruners.iter_mut().enumerate() {
            *pruner = Pruner::new(if i < self.pruners {
                At::Next(Prune::ListPacks)
            } else {
                At::Off
            });
            pruner.is_repair = i < self.pruners && i + self.repairs >= self.pruners;
        }
        for (i, compactor) in state.compactors.iter_mut().enumerate() {
            *compactor = Compactor::new(if i < self.compactors {
                At::Next(Compact::List)
            } else {
                At::Off
            });
        }
        for (i, merger) in state.mergers.iter_mut().enumerate() {
            merger.mark = NONE;
            if i < self.mergers {
                merger.at = At::Next(Gather::List);
            }
        }
        state.reindexer.segment = NONE;
        if self.reindexes {
            state.reindexer.at = At::Next(Reindex::ListPacks);
        }
        if self.gathers {
            state.gatherer.at = At::Next(Gather::List);
        }
        if self.swept != 0 {
            state.packs &= !self.swept;
            state.swept = self.swept;
            // a second mark, so that there is something to merge
            let marks = [state.name_mark(self.swept), state.name_mark(0)];
            state.marks = marks.into_iter().flatten().fold(0, |all, mark| all | 1 << mark);
            state.forgotten = self.swept;
            for snapshot in members(self.swept) {
                state.snapshots[snapshot] = 0;
                state.records |= 1 << snapshot;
            }
        }
        if self.reader != Retries::NoReader {
            state.reader.at = At::Next(Read::List);
        }
        state
    }
}
