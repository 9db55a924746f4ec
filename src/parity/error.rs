//! Errors of parity groups, distinguished by what the caller can do.

use std::fmt;
use std::ops::Range;

use crate::bytes::TooShort;
use crate::entropy::NoEntropy;
use crate::id::{GroupId, PackId};
use crate::storage::{self, FailedRead};

/// The damage of a group or of one of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// A file of a complete group does not exist.
    Missing,
    /// The group was never completed, or has lost too many of its files: it protects nothing.
    Incomplete,
    /// The length of the file is not the one in its record.
    Length,
    /// The prefix is damaged or belongs to another file.
    Prefix,
    /// No copy of the record in it is intact.
    Record,
    /// The record contains values that no writer makes.
    Contents,
    /// It was written by a later version.
    Unsupported,
    /// It belongs to another repository.
    ForeignRepository,
    /// It could not be read, which proves no damage.
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
            Self::Contents => "it contains values that no writer makes",
            Self::Unsupported => "it is of an unknown version",
            Self::ForeignRepository => "it belongs to another repository",
            Self::Unreadable => "it cannot be read",
        })
    }
}

/// Why packs or groups cannot form a group: a mistake of the caller, or a plan that the packs do
/// not fit. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The group has as many members as it can.
    Full,
    /// A group without members.
    Empty,
    /// The numbers of packs and shards are out of range, or two groups differ in them.
    Shape,
    /// The pack is empty, too long, or of another size class.
    SizeClass,
    /// The pack is already a member.
    Duplicate,
    /// The pack is not a member, or the group has no such shard or rows.
    NotAMember,
    /// The bytes are not those of the member.
    WrongBytes,
    /// Two groups with several shards use the same slot.
    Slots,
    /// The copy of the settings is too long, or there are too many superseded groups.
    TooLong,
    /// Another group has this id.
    NameTaken,
    /// There is no memory for the shards.
    NoMemory,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the group is full",
            Self::Empty => "the group has no members",
            Self::Shape => "the numbers of packs and shards are out of range or differ",
            Self::SizeClass => "the pack is of another size class",
            Self::Duplicate => "the pack is already a member",
            Self::NotAMember => "the group has no such member, shard or row",
            Self::WrongBytes => "the bytes are not those of the member",
            Self::Slots => "the groups use the same slots",
            Self::TooLong => "the record would be too long",
            Self::NameTaken => "another group has this id",
            Self::NoMemory => "there is not enough memory for the shards",
        })
    }
}

/// Rows that could not be rebuilt: more rows of their number are bad than the group has good
/// shards.
#[derive(Clone, PartialEq, Eq)]
pub struct Lost {
    /// The group.
    pub group: GroupId,
    /// The member, or `None` when a shard was to be rebuilt.
    pub pack: Option<PackId>,
    /// The lost rows, as row numbers of the pack or shard, in order. All rows when each row is good
    /// and the hash of the pack still does not match its id.
    pub rows: Vec<Range<u32>>,
    /// First row in `bytes`.
    pub first_row: u32,
    /// The requested rows, with zeros for the lost ones.
    pub bytes: Vec<u8>,
    /// A read that failed. If it succeeds later, the rows may be good or can be rebuilt.
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

/// A failed call on parity groups.
#[derive(Debug, Clone)]
pub enum Error {
    /// The storage failed, which proves nothing about the group.
    Storage(storage::Error),
    /// The group cannot be used.
    Damaged {
        /// Which group.
        group: GroupId,
        /// Its damage.
        reason: Damage,
    },
    /// Some rows cannot be rebuilt.
    Lost(Box<Lost>),
    /// The packs or groups cannot form a group.
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
    /// True when the error concerns this group only, so that work on others can continue.
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
