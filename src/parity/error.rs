//! What can go wrong with a group, told apart by what the caller can do about it.

use std::fmt;
use std::ops::Range;

use crate::bytes::TooShort;
use crate::entropy::NoEntropy;
use crate::id::{GroupId, PackId};
use crate::storage::{self, FailedRead};

/// What is wrong with a group or one of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A file that belongs to a complete group is not there.
    Missing,
    /// The group was never finished, or lost too many of its files: it protects nothing.
    Incomplete,
    /// The length of the file is not what its record says.
    Length,
    /// The prefix is damaged or belongs to another file.
    Prefix,
    /// No copy of the record in it is whole.
    Record,
    /// The record holds values that no writer makes.
    Contents,
    /// Written by a later version.
    Unsupported,
    /// It belongs to another repository.
    ForeignRepository,
    /// It could not be read, which says nothing about it.
    Unreadable,
}

impl From<TooShort> for Damage {
    fn from(_: TooShort) -> Self {
        Self::Length
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "it is missing",
            Self::Incomplete => "its group is incomplete",
            Self::Length => "its length is wrong",
            Self::Prefix => "its prefix is damaged",
            Self::Record => "its record is damaged",
            Self::Contents => "it holds impossible values",
            Self::Unsupported => "it is of an unknown version",
            Self::ForeignRepository => "it belongs to another repository",
            Self::Unreadable => "it cannot be read",
        })
    }
}

/// Why packs or groups do not go together. A mistake of the caller, or a plan that the packs do not fit; nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The group has as many members as it may have.
    Full,
    /// A group without members.
    Empty,
    /// Numbers of packs and shards outside of their ranges, or two groups that differ in them.
    Shape,
    /// The pack is empty, too long, or of another size class.
    SizeClass,
    /// The pack is a member already.
    Duplicate,
    /// The pack is no member, or the group has no such shard or rows.
    NotAMember,
    /// The bytes are not those of the member.
    WrongBytes,
    /// Two groups with several shards use the same slot.
    Slots,
    /// The copy of the settings is too long, or there are too many superseded groups.
    TooLong,
    /// The name is taken.
    NameTaken,
    /// The system gave no memory for the shards.
    NoMemory,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the group is full",
            Self::Empty => "the group has no members",
            Self::Shape => "the numbers of packs and shards do not fit",
            Self::SizeClass => "the pack is of another size class",
            Self::Duplicate => "the pack is a member already",
            Self::NotAMember => "the group has no such member, shard or row",
            Self::WrongBytes => "the bytes are not those of the member",
            Self::Slots => "the groups use the same slots",
            Self::TooLong => "the record would be too long",
            Self::NameTaken => "the name is taken",
            Self::NoMemory => "the system gave no memory for the shards",
        })
    }
}

/// Rows that could not be made again: more is bad at their place than the group has good shards.
#[derive(Clone, PartialEq, Eq)]
pub struct Lost {
    /// The group.
    pub group: GroupId,
    /// The member, or `None` when a shard was to be made again.
    pub pack: Option<PackId>,
    /// The lost rows, as row numbers of the pack or shard, in order. All rows when the rows are good one by one but the
    /// pack does not have its name.
    pub rows: Vec<Range<u32>>,
    /// First row in `bytes`.
    pub first_row: u32,
    /// The rows that were asked for; zeros in place of the lost ones.
    pub bytes: Vec<u8>,
    /// A read that failed on the way. Then the rows may be good, or rebuilt, another time.
    pub unreadable: Option<storage::Error>,
}

impl fmt::Debug for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lost")
            .field("group", &self.group)
            .field("pack", &self.pack)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// A failed call on parity.
#[derive(Debug, Clone)]
pub enum Error {
    /// The storage failed, which says nothing about the group.
    Storage(storage::Error),
    /// The group cannot be used.
    Damaged {
        /// Which group.
        group: GroupId,
        /// What is wrong with it.
        reason: Damage,
    },
    /// Some rows are beyond repair.
    Lost(Box<Lost>),
    /// The packs or groups do not go together.
    Refused(Refusal),
    /// The system gave no random bytes.
    NoEntropy,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error) => error.fmt(f),
            Self::Damaged { group, reason } => write!(f, "Parity group {group} is damaged: {reason}"),
            Self::Lost(lost) => {
                let rows: u64 = lost.rows.iter().map(|rows| u64::from(rows.end - rows.start)).sum();
                write!(f, "{rows} rows cannot be rebuilt from parity group {}", lost.group)
            }
            Self::Refused(refusal) => write!(f, "The parity group cannot be made: {refusal}"),
            Self::NoEntropy => f.write_str("The system gave no random bytes"),
        }
    }
}

impl std::error::Error for Error {}

impl Error {
    /// True when it is about this one group, and others can do without that.
    pub fn is_of_group(&self) -> bool {
        match self {
            Self::Damaged { .. } | Self::Lost(_) => true,
            Self::Storage(error) => error.kind.is_erasure(),
            Self::Refused(_) | Self::NoEntropy => false,
        }
    }
}

impl FailedRead for Error {
    fn unreadable(&self) -> Option<&storage::Error> {
        match self {
            Self::Storage(error) => error.unreadable(),
            Self::Lost(lost) => lost.unreadable.as_ref(),
            _ => None,
        }
    }
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        Self::Storage(error)
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<NoEntropy> for Error {
    fn from(_: NoEntropy) -> Self {
        Self::NoEntropy
    }
}
