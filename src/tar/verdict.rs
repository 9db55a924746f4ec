//! What a stream of bytes turned out to be.

use super::Member;
use super::{MAX_OWNER_LEN, MAX_PATH_LEN, MAX_PAX_LEN};
use std::fmt;

/// The outcome of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The first block is no header, or there are less bytes than a block. An archive without
    /// members, which is zeros only, counts as none: any empty disk begins like it.
    NotTar,
    /// An archive with its end: two blocks of zeros. What follows them was not inspected.
    Complete {
        /// The offset after these two blocks.
        end: u64,
    },
    /// The beginning is an archive, and from some offset on it is none.
    BrokeOff {
        /// Of bytes that end too early, their number; otherwise the offset of the block that
        /// cannot follow, or of the first header of the member that is no valid one.
        at: u64,
        /// The reason.
        why: Break,
    },
}

impl Verdict {
    /// Returns `true` when the data of this member, found in the same scan, are there completely.
    pub fn covers(&self, member: &Member) -> bool {
        match self {
            Self::NotTar => false,
            Self::Complete { .. } => true,
            Self::BrokeOff { at, .. } => member.data_offset.saturating_add(member.stored_len) <= *at,
        }
    }
}

/// The reason why an archive breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Break {
    /// The bytes end within a header, an extended header or a sparse map.
    InHeader,
    /// The bytes end within the data of a member or their padding.
    InData,
    /// The bytes end after a member, without the two blocks of zeros. GNU tar accepts that.
    NoEnd,
    /// One block of zeros is not followed by a second one. GNU tar ends there with a warning.
    LoneZeroBlock,
    /// The checksum of a header is wrong: a block that is no header.
    Checksum,
    /// A field is no number, is negative where that has no meaning, or is too large.
    Number(Field),
    /// A field is longer than the limits of this room.
    TooLong(Field),
    /// An extended header is not a list of pax records.
    PaxRecord,
    /// A sparse map runs backwards, overlaps, exceeds the file, is not that of the stored data, or
    /// does not end.
    SparseMap,
    /// Extended headers or long names are not followed by a member.
    Dangling,
}

/// A field of a header or a pax record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// The path.
    Path,
    /// The target of a link.
    Link,
    /// The name of the owner or the group.
    Owner,
    /// Permissions.
    Mode,
    /// The number of the owner.
    Uid,
    /// The number of the group.
    Gid,
    /// The length of the data, or of a sparse file.
    Size,
    /// The time of the last change.
    Mtime,
    /// The number of a device.
    Device,
    /// An entry of a sparse map.
    SparseMap,
    /// The extended header as a whole.
    Pax,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Path => "path",
            Self::Link => "link target",
            Self::Owner => "name of an owner",
            Self::Mode => "mode",
            Self::Uid => "uid",
            Self::Gid => "gid",
            Self::Size => "size",
            Self::Mtime => "mtime",
            Self::Device => "device number",
            Self::SparseMap => "entry of a sparse map",
            Self::Pax => "extended header",
        })
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InHeader => f.write_str("the bytes end within a header"),
            Self::InData => f.write_str("the bytes end within the data of a member"),
            Self::NoEnd => f.write_str("the bytes end after a member, without two blocks of zeros"),
            Self::LoneZeroBlock => f.write_str("a block of zeros is not followed by a second one"),
            Self::Checksum => f.write_str("a block has not the checksum of a header"),
            Self::Number(field) => write!(f, "the {field} is no valid number"),
            Self::TooLong(field) => match field {
                Field::Owner => write!(f, "the {field} is longer than {MAX_OWNER_LEN} bytes"),
                Field::Pax => write!(f, "the {field} is longer than {MAX_PAX_LEN} bytes"),
                _ => write!(f, "the {field} is longer than {MAX_PATH_LEN} bytes"),
            },
            Self::PaxRecord => f.write_str("an extended header is not a list of pax records"),
            Self::SparseMap => f.write_str("the sparse map is not that of the stored data"),
            Self::Dangling => f.write_str("extended headers are not followed by a member"),
        }
    }
}
