//! The state of the model of object stores: the objects, the requests that are in flight, and the
//! next step of each process. It is small enough to be copied millions of times.

use super::rules::Rules;
use std::fmt;

pub use crate::state::{At, CHUNKS, Entries, MANIFEST, NONE, Set, entries_of, entry, has, members, packs_of};

pub const PACKS: usize = 8;
pub const SEGMENTS: usize = 14;
pub const MARKS: usize = 6;
/// Each is one session: snapshot `FIRST + i` is that of writer `i`.
pub const WRITERS: usize = 2;
/// Prunes and repairs.
pub const PRUNERS: usize = 3;
pub const COMPACTORS: usize = 2;
/// Merges of marks.
pub const MERGERS: usize = 2;
pub const SNAPSHOTS: usize = 4;
/// The snapshot of the first writer; those before it are in the initial state.
pub const FIRST: usize = 2;

/// The key of a manifest holds a tombstone.
pub const TOMBSTONE: u8 = 0x40;
/// Owner of the packs of writer `i`: `WRITTEN + i`, and of the copies of pruner `i`: `COPIES + i`.
pub const WRITTEN: u8 = 10;
pub const COPIES: u8 = 20;

/// A set of segments.
pub type Segments = u16;

/// Steps of an ingest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Write {
    /// W1.
    PutLease,
    /// W2.
    ListMarks,
    /// W2, and the choice of packs to reuse (W3).
    ListSegments,
    /// W3, in the middle of a long ingest.
    RefreshMarks,
    RefreshSegments,
    /// Only where marks are honoured by files that state which ones a session has seen.
    PutMarksSeen,
    /// W3.
    PutPack,
    PutSegment,
    /// W4.
    PutManifest,
    /// W4, where tombstones are merged into records.
    CheckRevoked,
    /// W5, after a commit.
    Leave,
    /// W5, after the session was revoked.
    LeaveRevoked,
}

/// Steps of a prune or repair.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Prune {
    /// P1.
    ListPacks,
    ListLeases,
    ListSnapshots,
    ListMarks,
    /// P1, and P4 if `again`, where the index takes two pages: the stages of [`super::pages`].
    Page {
        stage: u8,
        again: bool,
    },
    /// P1: lists segments, and plans.
    Plan,
    PutCopies,
    PutSegment,
    /// P2.
    PutMark,
    /// P3.
    Leases,
    PutTombstone,
    DeleteLease,
    PutWait,
    /// P4.
    SnapshotsAgain,
    SegmentsAgain,
    MarksAgain,
    /// P5.
    DeletePacks,
    PutSwept,
    /// P6.
    ReadIndex,
    PutIndex,
    DeleteSegments,
}

/// Steps of a compaction: C1 to C3.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Compact {
    List,
    Put,
    Delete,
}

/// Steps of a merge of marks (G1 to G3), and of records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Gather {
    List,
    Put,
    Delete,
}

/// Steps of a reindex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reindex {
    ListPacks,
    ListSegments,
    Put,
}

/// Steps of a restore.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Read {
    List,
    Try,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Writer {
    pub at: At<Write>,
    /// Packs that the listed marks name.
    pub marked: Set,
    /// The listed marks, where a file states them.
    pub seen: Set,
    /// It has listed something before its lease.
    pub loaded: bool,
    pub entries: Entries,
    /// The pack that it relies on for each chunk.
    pub relied: [u8; CHUNKS],
    /// Chunks to store.
    pub new: Set,
    /// Its pack and its segment whose PUT is not answered.
    pub pack: u8,
    pub segment: u8,
    /// A PUT of its manifest is not answered.
    pub sent: bool,
    pub refreshed: bool,
    pub listing: Listing,
    /// The first page of a listing of segments.
    pub first_page: Segments,
    pub paged: bool,
}

/// A listing of marks that takes several requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Listing {
    pub stage: u8,
    pub names: Set,
    /// The first mark level of the second page.
    pub cut: u8,
    /// The page of the higher levels is listed first.
    pub is_reversed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Pruner {
    pub at: At<Prune>,
    pub packs: Set,
    /// Packs of sessions that are believed live.
    pub spared: Set,
    /// Chunks that a snapshot needs.
    pub live: Set,
    pub marked: Set,
    /// The marks that it may continue.
    pub marks: Set,
    pub entries: Entries,
    /// D: packs to condemn.
    pub targets: Set,
    /// Chunks to copy.
    pub copies: Set,
    /// Sessions to revoke.
    pub revoke: Set,
    /// Sessions that block its mark.
    pub blockers: Set,
    /// Its mark.
    pub mark: u8,
    /// D': packs to delete, and those of them that are left.
    pub kill: Set,
    pub left: Set,
    /// Its pack and its segment whose PUT is not answered.
    pub pack: u8,
    pub segment: u8,
    /// Segments to supersede.
    pub inputs: Segments,
    /// It continues the mark of an earlier prune.
    pub continues: bool,
    /// It replaces damaged packs, and is no prune.
    pub is_repair: bool,
    pub listing: Listing,
}

/// A merge of marks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Merger {
    pub at: At<Gather>,
    pub inputs: Set,
    pub mark: u8,
}

/// A merge of forgotten records, by snapshot, and of tombstones, by writer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Gatherer {
    pub at: At<Gather>,
    pub records: Set,
    pub tombstones: Set,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Compactor {
    pub at: At<Compact>,
    pub segment: u8,
    pub inputs: Segments,
    pub entries: Entries,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Reader {
    pub at: At<Read>,
    pub entries: Entries,
    pub tried: Set,
    pub listings: u8,
}

/// A reindex: adds a segment for packs that no segment names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Reindexer {
    pub at: At<Reindex>,
    pub packs: Set,
    pub segment: u8,
}

/// Requests without an answer, which the store carries out at any later time or never.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct InFlight {
    /// The number of requests that were sent so.
    pub sent: u8,
    /// By writer.
    pub manifests: Set,
    pub tombstones: Set,
    pub leases: Set,
    pub lease_deletes: Set,
    pub packs: Set,
    pub pack_deletes: Set,
    pub segments: Segments,
    pub segment_deletes: Segments,
    pub marks: Set,
    pub mark_deletes: Set,
    /// Packs in late `.swept`; sessions in the late `.wait` of each mark; late forgotten records.
    pub swept: Set,
    pub waits: [Set; MARKS],
    pub records: Set,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct State {
    pub packs: Set,
    pub pack_count: u8,
    pub content: [Set; PACKS],
    pub owner: [u8; PACKS],
    pub segments: Segments,
    pub segment_count: u8,
    pub named: [Entries; SEGMENTS],
    pub supersedes: [Segments; SEGMENTS],
    pub marks: Set,
    pub mark_count: u8,
    pub condemns: [Set; MARKS],
    /// A merged mark has a higher level than those that it replaces, and the names of marks are
    /// sorted by level.
    pub mark_levels: [u8; MARKS],
    /// The sessions in the `.wait` of each mark; [`NONE`] without one.
    pub waits: [u8; MARKS],
    /// The packs in all `.swept`.
    pub swept: Set,
    /// What is at the key of each manifest.
    pub snapshots: [u8; SNAPSHOTS],
    /// Snapshots with a forgotten record of their own, and those in a merged one.
    pub records: Set,
    pub merged_records: Set,
    /// Sessions in a merged record of tombstones.
    pub revoked_records: Set,
    pub acknowledged: Set,
    pub forgotten: Set,
    /// Sessions that ever had a tombstone.
    pub revoked: Set,
    pub leases: Set,
    /// The marks that each session states that it has seen.
    pub marks_seen: [Set; WRITERS],
    pub flight: InFlight,
    /// Stage of an unlock of each lease.
    pub unlocks: [u8; WRITERS],
    pub writers: [Writer; WRITERS],
    pub pruners: [Pruner; PRUNERS],
    pub compactors: [Compactor; COMPACTORS],
    pub mergers: [Merger; MERGERS],
    pub gatherer: Gatherer,
    pub reindexer: Reindexer,
    /// The number of segments that were lost.
    pub lost_segments: u8,
    pub reader: Reader,
    pub reader_failed: bool,
}

/// The actor of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Writer(usize),
    Pruner(usize),
    Compactor(usize),
    Merger(usize),
    Gatherer,
    Reindexer,
    Reader,
    User,
    Store,
}

/// The description of a step. It begins with the name of the step in the protocol, if it has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label {
    pub who: Who,
    pub what: &'static str,
    /// The object concerned.
    pub number: Option<u8>,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.who {
            Who::Writer(i) => write!(f, "writer {} ", i + 1)?,
            Who::Pruner(i) => write!(f, "prune {} ", i + 1)?,
            Who::Compactor(i) => write!(f, "compaction {} ", i + 1)?,
            Who::Merger(i) => write!(f, "merge {} ", i + 1)?,
            other => write!(f, "{other:?} ")?,
        }
        f.write_str(self.what)?;
        self.number.map_or(Ok(()), |number| write!(f, " {number}"))
    }
}

/// Called with each possible step and the state after it.
pub type Out<'a> = dyn FnMut(Label, State) + 'a;

/// A process whose turn it is.
pub struct Turn<'a, 'out> {
    pub state: &'a State,
    pub rules: &'a Rules,
    pub i: usize,
    pub who: Who,
    pub out: &'a mut Out<'out>,
}

impl Turn<'_, '_> {
    pub fn tell(&mut self, next: State, what: &'static str, number: Option<usize>) {
        let label = Label {
            who: self.who,
            what,
            number: number.map(|number| number as u8),
        };
        (self.out)(label, next);
    }

    /// Returns whether a request of this kind may stay without an answer.
    pub fn may_lose(&self, kind: u16) -> bool {
        self.state.flight.sent < self.rules.late && self.rules.late_kinds & kind != 0
    }

    /// Returns whether the process continues without the answer, against A12.
    pub fn ignores_answer(&self, kind: u16) -> bool {
        self.rules.not_awaited & kind != 0
    }
}

/// Returns the members of a set of segments.
pub fn segments_in(set: Segments) -> impl Iterator<Item = usize> {
    (0..SEGMENTS).filter(move |segment| set >> segment & 1 == 1)
}

/// Returns the entries without those of the packs in `packs`.
pub fn without(entries: Entries, packs: Set) -> Entries {
    let packs = u16::from(packs);
    entries & !(packs | packs << 8)
}

/// Calls `tell` with every subset of `set`, beginning with the empty one.
pub fn subsets(set: Set, mut tell: impl FnMut(Set)) {
    let mut subset: Set = 0;
    loop {
        tell(subset);
        if subset == set {
            break;
        }
        subset = subset.wrapping_sub(set) & set;
    }
}

impl State {
    /// Returns the live segments among `names`, and their entries.
    pub fn view(&self, names: Segments) -> (Segments, Entries) {
        let superseded = segments_in(names).fold(0, |all, segment| all | self.supersedes[segment]);
        let live = names & !superseded;
        (
            live,
            segments_in(live).fold(0, |all, segment| all | self.named[segment]),
        )
    }

    pub fn entries(&self) -> Entries {
        self.view(self.segments).1
    }

    pub fn marked(&self) -> Set {
        self.named_by(self.marks)
    }

    /// Returns the packs that these marks name.
    pub fn named_by(&self, marks: Set) -> Set {
        (0..MARKS)
            .filter(|mark| has(marks, *mark))
            .fold(0, |all, mark| all | self.condemns[mark])
    }

    /// Returns whether the snapshot is there for who lists snapshots.
    pub fn is_listed(&self, snapshot: usize) -> bool {
        let is_revoked = snapshot >= FIRST && has(self.revoked_records, snapshot - FIRST);
        self.snapshots[snapshot] & MANIFEST != 0 && !self.has_record(snapshot) && !is_revoked
    }

    pub fn has_record(&self, snapshot: usize) -> bool {
        has(self.records | self.merged_records, snapshot)
    }

    pub fn live_chunks(&self) -> Set {
        self.live_chunks_of(0b1111)
    }

    /// Returns the chunks that these snapshots need.
    pub fn live_chunks_of(&self, snapshots: Set) -> Set {
        (0..SNAPSHOTS)
            .filter(|snapshot| has(snapshots, *snapshot) && self.is_listed(*snapshot))
            .fold(0, |all, snapshot| all | self.snapshots[snapshot] & 3)
    }

    /// Draws a pack name. Under [`super::rules::Left::FreshPackNames`] it is a hash of the chunks.
    pub fn name_pack(&mut self, rules: &Rules, content: Set, owner: u8) -> Option<u8> {
        if rules.lacks(super::rules::Left::FreshPackNames) {
            let same = (0..self.pack_count).find(|pack| self.content[*pack as usize] == content);
            if same.is_some() {
                return same;
            }
        }
        let pack = self.pack_count;
        if pack as usize >= PACKS {
            return None;
        }
        self.pack_count += 1;
        self.content[pack as usize] = content;
        self.owner[pack as usize] = owner;
        Some(pack)
    }

    /// Draws a segment name for fixed bytes.
    pub fn name_segment(&mut self, rules: &Rules, entries: Entries, supersedes: Segments) -> Option<u8> {
        let segment = if rules.lacks(super::rules::Left::FreshSegmentNames) {
            (0..SEGMENTS).find(|segment| (self.segments | self.flight.segments) >> segment & 1 == 0)?
        } else {
            self.segment_count as usize
        };
        if segment >= SEGMENTS {
            return None;
        }
        self.segment_count = self.segment_count.max(segment as u8 + 1);
        self.named[segment] = entries;
        self.supersedes[segment] = supersedes;
        Some(segment as u8)
    }

    pub fn name_mark(&mut self, packs: Set) -> Option<u8> {
        let mark = self.mark_count;
        if mark as usize >= MARKS {
            return None;
        }
        self.mark_count += 1;
        self.condemns[mark as usize] = packs;
        self.waits[mark as usize] = NONE;
        Some(mark)
    }
}

impl Writer {
    pub fn ended(at: At<Write>) -> Self {
        Self {
            at,
            relied: [NONE; CHUNKS],
            pack: NONE,
            segment: NONE,
            ..Self::default()
        }
    }
}

impl Pruner {
    pub fn new(at: At<Prune>) -> Self {
        Self {
            at,
            mark: NONE,
            pack: NONE,
            segment: NONE,
            ..Self::default()
        }
    }
}

impl Compactor {
    pub fn new(at: At<Compact>) -> Self {
        Self {
            at,
            segment: NONE,
            ..Self::default()
        }
    }
}
