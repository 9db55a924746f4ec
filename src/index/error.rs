//! Errors of the global index, distinguished by what the caller can do: rebuild, retry, or fail.

use std::fmt;

use crate::bytes::TooShort;
use crate::entropy::NoEntropy;
use crate::id::SegmentId;
use crate::storage::{self, ErrorKind, FailedRead, Verdict};

/// The damage of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The length of the file is not the one in its footer, or not a whole number of pages.
    Length,
    /// The header page has a wrong checksum, or is not the header of this segment.
    Header,
    /// The segment belongs to another repository.
    ForeignRepository,
    /// Plain in an encrypted repository, or sealed in a plain one.
    SealMismatch,
    /// Sealed with a key epoch that the key bundle does not hold.
    UnknownEpoch,
    /// The footer page has a right tag and contradicts itself.
    Footer,
    /// A page has a wrong tag.
    Page {
        /// Number of the page in the file; the header page is 0.
        number: u64,
    },
    /// A page holds values that no writer makes (a bad pack ordinal, a wrong order).
    Contents,
}

impl From<TooShort> for Damage {
    fn from(_: TooShort) -> Self {
        Self::Footer
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => f.write_str("its length is wrong"),
            Self::Header => f.write_str("its header is damaged"),
            Self::ForeignRepository => f.write_str("it belongs to another repository"),
            Self::SealMismatch => f.write_str("it is not sealed as this repository is"),
            Self::UnknownEpoch => f.write_str("it names an unknown key epoch"),
            Self::Footer => f.write_str("its footer is damaged"),
            Self::Page { number } => write!(f, "page {number} is damaged"),
            Self::Contents => f.write_str("it contains values that no writer makes"),
        }
    }
}

/// A failed call on the global index.
#[derive(Debug, Clone)]
pub enum Error {
    /// A segment is damaged. It can be rebuilt from the pack indexes.
    Damaged {
        /// Which segment.
        segment: SegmentId,
        /// Its damage.
        reason: Damage,
    },
    /// A part of a segment could not be read (a bad sector), which proves no damage. The segment is
    /// left out while this read fails.
    Unreadable {
        /// Which segment.
        segment: SegmentId,
        /// Offset of the read in the file, in bytes.
        offset: u64,
        /// Length of the read in bytes.
        len: usize,
        /// The read that failed.
        source: storage::Error,
    },
    /// A segment of a later format.
    Unsupported {
        /// Which segment.
        segment: SegmentId,
        /// The version it names.
        version: u32,
    },
    /// The storage failed.
    Storage(storage::Error),
    /// The system gave no random bytes.
    NoEntropy,
    /// Entries given to a writer break its rules; nothing was written. A bug of the caller.
    Writer(&'static str),
}

impl Error {
    /// True when a file did not exist: the caller lists again.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Storage(error) if error.kind == ErrorKind::NotFound)
    }

    /// True when a segment could not be read now; a later read may succeed.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }

    /// Classifies a failed read. A file that is too short is damaged. A segment that the device
    /// fails to read can be left out for now. Any other failure concerns more than this segment.
    pub(super) fn from_read(segment: SegmentId, (offset, len): (u64, usize), source: storage::Error) -> Self {
        match source.kind.verdict() {
            Verdict::Wrong => Self::Damaged {
                segment,
                reason: Damage::Length,
            },
            Verdict::Unreadable if source.kind.is_erasure() => Self::Unreadable {
                segment,
                offset,
                len,
                source,
            },
            Verdict::Missing | Verdict::Unreadable => Self::Storage(source),
        }
    }
}

impl FailedRead for Error {
    fn unreadable(&self) -> Option<&storage::Error> {
        match self {
            Self::Unreadable { source, .. } => Some(source),
            Self::Storage(error) => error.unreadable(),
            _ => None,
        }
    }
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        Self::Storage(error)
    }
}

impl From<NoEntropy> for Error {
    fn from(_: NoEntropy) -> Self {
        Self::NoEntropy
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { segment, reason } => write!(f, "Segment {segment} is damaged: {reason}"),
            Self::Unreadable { segment, source, .. } => write!(f, "Segment {segment} cannot be read: {source}"),
            Self::Unsupported { segment, version } => {
                write!(f, "Segment {segment} has version {version}, which is not supported")
            }
            Self::Storage(error) => write!(f, "The global index could not be read or written: {error}"),
            Self::NoEntropy => f.write_str("The system gave no random bytes"),
            Self::Writer(reason) => write!(f, "A segment could not be written: {reason}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Storage(error) | Self::Unreadable { source: error, .. } => Some(error),
            _ => None,
        }
    }
}

/// A segment that is left out of look-ups.
#[derive(Debug, Clone)]
pub struct BrokenSegment {
    /// Which one.
    pub id: SegmentId,
    /// [`Error::Damaged`], [`Error::Unsupported`] or [`Error::Unreadable`]; the last may end by
    /// itself.
    pub error: Error,
}
