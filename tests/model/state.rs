//! The state of the model, small enough to be copied millions of times: the files, the lock
//! holders, and the next step of each process.
//!
//! There are two chunks. A pack is a number, and its content never changes. An entry is a pair of
//! chunk and pack.

use std::fmt;

pub const PACKS: usize = 8;
pub const SEGMENTS: usize = 8;
pub const LISTS: usize = 6;
pub const WRITERS: usize = 2;
pub const PRUNERS: usize = 2;
/// Two initial ones, and one of each writer.
pub const SNAPSHOTS: usize = 4;
pub const CHUNKS: usize = 2;

/// No pack.
pub const NONE: u8 = 0xff;
/// The manifest exists; the low bits are the chunks that it needs.
pub const MANIFEST: u8 = 0x80;
/// Owner of the copies of pruner `i`: `COPIES + i`. The owner of the packs of writer `i` is
/// `WRITTEN + i`.
pub const COPIES: u8 = 20;
pub const WRITTEN: u8 = 10;
/// The compactor as holder of the maintenance lock. Pruner `i` is `i + 1`.
pub const COMPACTOR: u8 = 9;

/// A set of entries: bit `chunk * 8 + pack`.
pub type Entries = u16;
/// A set of packs, segments, kill lists or chunks.
pub type Set = u8;

/// The next step of a process, or how it ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum At<T> {
    /// Does not run.
    #[default]
    Off,
    Next(T),
    Done,
    /// Ended with an error that broke nothing.
    Failed,
    /// Killed, or ended by a power cut.
    Dead,
    /// The model has no room for the next step.
    Bound,
}

impl<T: Copy> At<T> {
    pub fn next(self) -> Option<T> {
        match self {
            Self::Next(next) => Some(next),
            _ => None,
        }
    }

    pub fn is_running(self) -> bool {
        matches!(self, Self::Next(_))
    }
}

/// Steps of an ingest; the names of `docs/invariants.md`, Ingest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd)]
pub enum Write {
    Lease,
    ListKills,
    LoadSegments,
    PutPack,
    PutSegment,
    CheckUnlocked,
    Lock,
    Check,
    PutManifest,
    Unlock,
}

/// Steps of a prune.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd)]
pub enum Prune {
    TakeMaint,
    FinishOld,
    /// Lists the snapshots whose packs an old kill list must not delete, under the exclusive commit
    /// lock.
    ListToFinish,
    /// Spares the packs that they need.
    SpareOld,
    DeleteOld,
    ListPacks,
    ListLeases,
    ListSnapshots,
    ListKills,
    /// The first half of a listing of the index that is not atomic.
    HalfOfIndex,
    Plan,
    PutCopies,
    PutSegment,
    LockCommit,
    Relist,
    Decide,
    UnlockCommit,
    Delete,
    ReadIndex,
    PutIndex,
    DropSegments,
}

/// Steps of a merge.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Merge {
    Read,
    Put,
    Drop,
}

/// Steps of a restore of snapshot 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Read {
    List,
    Try,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Writer {
    pub at: At<Write>,
    /// Packs that were in kill lists.
    pub condemned: Set,
    pub entries: Entries,
    /// The pack that it relies on for each chunk.
    pub relied: [u8; CHUNKS],
    /// Chunks to store.
    pub new: Set,
    pub rounds: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Pruner {
    pub at: At<Prune>,
    pub packs: Set,
    /// Packs of sessions with a held lease.
    pub spared: Set,
    /// Chunks that a snapshot needs.
    pub live: Set,
    /// Snapshots that the plan includes.
    pub known: Set,
    pub condemned: Set,
    pub entries: Entries,
    /// Packs to condemn; later the superseded segments.
    pub targets: Set,
    /// Chunks to copy.
    pub copies: Set,
    /// The number of the kill list, and its packs in `kill`.
    pub list: u8,
    pub kill: Set,
    /// It finishes a kill list of another prune.
    pub finishing: bool,
    /// Chunks of the snapshots that were listed to finish an old kill list.
    pub needed: Set,
    /// Another session is writing, and the rules honour that.
    pub defers: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Compactor {
    pub at: At<Merge>,
    pub inputs: Set,
    pub entries: Entries,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Reader {
    pub at: At<Read>,
    pub entries: Entries,
    pub tried: Set,
    pub listings: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Lease {
    #[default]
    None,
    Held,
    /// The file of a process that has exited.
    Left,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct State {
    pub packs: Set,
    pub pack_count: u8,
    pub content: [Set; PACKS],
    pub owner: [u8; PACKS],
    pub segments: Set,
    pub segment_count: u8,
    pub named: [Entries; SEGMENTS],
    pub supersedes: [Set; SEGMENTS],
    pub lists: Set,
    pub listed: [Set; LISTS],
    pub snapshots: [u8; SNAPSHOTS],
    pub acknowledged: Set,
    pub forgotten: Set,
    /// Forgotten snapshots that a power cut would restore.
    pub volatile: Set,
    pub crashes: u8,
    pub power_cuts: u8,
    /// A kill list was copied into the folder.
    pub copied: bool,
    pub leases: [Lease; WRITERS],
    /// Writers that hold the commit lock shared.
    pub commit_shared: Set,
    /// The pruner that holds the commit lock exclusively, plus one.
    pub commit_exclusive: u8,
    pub maint: u8,
    pub writers: [Writer; WRITERS],
    pub pruners: [Pruner; PRUNERS],
    pub compactor: Compactor,
    pub reader: Reader,
    pub reader_failed: bool,
}

/// The actor of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Writer(usize),
    Pruner(usize),
    Compactor,
    Reader,
    User,
    Host,
}

/// The description of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label {
    pub who: Who,
    pub what: &'static str,
    /// The pack or snapshot concerned.
    pub number: Option<u8>,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.who {
            Who::Writer(i) => write!(f, "W{} ", i + 1)?,
            Who::Pruner(i) => write!(f, "P{} ", i + 1)?,
            other => write!(f, "{other:?} ")?,
        }
        f.write_str(self.what)?;
        self.number.map_or(Ok(()), |number| write!(f, " {number}"))
    }
}

/// Called with each possible step and the state after it.
pub type Out<'a> = dyn FnMut(Label, State) + 'a;

pub fn has(set: Set, member: usize) -> bool {
    set >> member & 1 == 1
}

pub fn members(set: Set) -> impl DoubleEndedIterator<Item = usize> {
    (0..8).filter(move |member| has(set, *member))
}

pub fn entry(chunk: usize, pack: usize) -> Entries {
    1 << (chunk * 8 + pack)
}

pub fn entries_of(pack: usize, content: Set) -> Entries {
    members(content).map(|chunk| entry(chunk, pack)).sum()
}

pub fn packs_of(entries: Entries, chunk: usize) -> Set {
    (entries >> (chunk * 8)) as Set
}

/// Returns all entries of the packs in `packs`.
pub fn entries_in(packs: Set) -> Entries {
    (0..CHUNKS).map(|chunk| u16::from(packs) << (chunk * 8)).sum()
}

impl State {
    pub fn live_segments(&self) -> Set {
        let superseded = members(self.segments).fold(0, |all, segment| all | self.supersedes[segment]);
        self.segments & !superseded
    }

    pub fn entries(&self) -> Entries {
        members(self.live_segments()).fold(0, |all, segment| all | self.named[segment])
    }

    pub fn condemned(&self) -> Set {
        members(self.lists).fold(0, |all, list| all | self.listed[list])
    }

    pub fn has_manifest(&self, snapshot: usize) -> bool {
        self.snapshots[snapshot] & MANIFEST != 0
    }

    /// Returns the chunks that the snapshots in `which` need.
    pub fn live_chunks(&self, which: Set) -> Set {
        let there = members(which).filter(|snapshot| *snapshot < SNAPSHOTS && self.has_manifest(*snapshot));
        there.fold(0, |all, snapshot| all | self.snapshots[snapshot] & 3)
    }

    pub fn add_pack(&mut self, content: Set, owner: u8) -> Option<u8> {
        let pack = self.pack_count;
        if pack as usize >= PACKS {
            return None;
        }
        self.pack_count += 1;
        self.packs |= 1 << pack;
        self.content[pack as usize] = content;
        self.owner[pack as usize] = owner;
        Some(pack)
    }

    /// Adds a segment; `false` when the model has no room. A reused slot represents a new id. A
    /// slot stays taken while a segment supersedes it or a process is about to.
    pub fn add_segment(&mut self, entries: Entries, supersedes: Set) -> bool {
        let slot = if (self.segment_count as usize) < SEGMENTS {
            self.segment_count += 1;
            self.segment_count as usize - 1
        } else {
            let meant = self
                .pruners
                .iter()
                .fold(self.compactor.inputs, |all, pruner| all | pruner.targets);
            let named = members(self.segments).fold(0, |all, segment| all | self.supersedes[segment]);
            let taken = self.segments | meant | named;
            match (0..SEGMENTS).find(|slot| !has(taken, *slot)) {
                Some(slot) => slot,
                None => return false,
            }
        };
        self.segments |= 1 << slot;
        self.named[slot] = entries;
        self.supersedes[slot] = supersedes;
        true
    }

    /// Returns whether no process is in the middle of an operation.
    pub fn is_quiet(&self) -> bool {
        self.writers.iter().all(|writer| !writer.at.is_running())
            && self.pruners.iter().all(|pruner| !pruner.at.is_running())
            && matches!(self.compactor.at.next(), None | Some(Merge::Read))
            && matches!(self.reader.at.next(), None | Some(Read::List))
    }

    /// Returns the invariant that this state breaks, if any.
    pub fn violation(&self) -> Option<String> {
        let entries = self.entries();
        for snapshot in 0..SNAPSHOTS {
            for chunk in members(self.live_chunks(1 << snapshot)) {
                if packs_of(entries, chunk) & self.packs == 0 {
                    let hidden = members(self.packs).any(|pack| has(self.content[pack], chunk));
                    let how = if hidden { "lost in the index" } else { "data lost" };
                    return Some(format!("completeness: snapshot {snapshot} lacks chunk {chunk} ({how})"));
                }
            }
            let promised = has(self.acknowledged & !self.forgotten, snapshot);
            if promised && !self.has_manifest(snapshot) {
                return Some(format!("durability: acknowledged snapshot {snapshot} is missing"));
            }
        }
        (self.reader_failed && !has(self.forgotten, 0))
            .then(|| "reader: a restore of a committed snapshot failed".to_owned())
    }
}
