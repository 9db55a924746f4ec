//! What can go wrong with the global index, told apart by what the caller can do: rebuild, retry, or give up.

use std::fmt;

use crate::bytes::TooShort;
use crate::entropy::NoEntropy;
use crate::id::SegmentId;
use crate::storage::{self, ErrorKind, FailedRead, Verdict};

/// What is wrong with a damaged segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Damage {
    /// The length of the file is not what its footer says, or no whole number of pages.
    Length,
    /// The header page fails its checksum, or is not the header of this segment.
    Header,
    /// The segment belongs to another repository.
    ForeignRepository,
    /// Plain in an encrypted repository, or the other way round.
    SealMismatch,
    /// Sealed with a key epoch that the key bundle does not hold.
    UnknownEpoch,
    /// The footer page opens but contradicts itself.
    Footer,
    /// A page fails its checksum or does not open.
    Page {
        /// Place of the page in the file, the header page being 0.
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
            Self::Contents => f.write_str("it holds impossible values"),
        }
    }
}

/// A failed call on the global index.
#[derive(Debug, Clone)]
pub enum Error {
    /// A segment is damaged. It can be made again from the pack indexes.
    Damaged {
        /// Which segment.
        segment: SegmentId,
        /// What is wrong with it.
        reason: Damage,
    },
    /// A part of a segment could not be read (a bad sector), which says nothing about the segment. It is left out as long as
    /// this read fails.
    Unreadable {
        /// Which segment.
        segment: SegmentId,
        /// Where in the file, in bytes.
        offset: u64,
        /// How many bytes were to be read.
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
    /// Entries handed to a writer break its rules; nothing was written. A bug of the caller.
    Writer(&'static str),
}

impl Error {
    /// True when a file was not there: list again.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::Storage(error) if error.kind == ErrorKind::NotFound)
    }

    /// True when a segment could not be read and may be another time.
    pub fn is_unreadable(&self) -> bool {
        matches!(self, Self::Unreadable { .. })
    }

    /// Sorts a failed read: a file that is too short is damaged. One that the device fails to read can be done
    /// without for now; any other failure is about more than this segment.
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

/// A segment that is left out.
#[derive(Debug, Clone)]
pub struct BrokenSegment {
    /// Which one.
    pub id: SegmentId,
    /// Why: [`Error::Damaged`], [`Error::Unsupported`], or [`Error::Unreadable`] for now.
    pub error: Error,
}
