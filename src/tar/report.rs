//! What became of the members that a restore wrote or left out.

use super::Verdict;
use crate::storage::tree::Refusal;
use std::fmt;

/// Most notices of each kind that a report lists; their numbers are exact.
pub const MAX_NOTICES: usize = 1000;
/// Longest path of a notice in bytes; of a longer one, the beginning.
const MAX_NOTICE_PATH: usize = 4096;

/// The result of a restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Regular files that were written.
    pub files: u64,
    /// Directories that the archive states.
    pub directories: u64,
    /// Hard links.
    pub hard_links: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Pipes and devices.
    pub special: u64,
    /// Bytes written to files; holes of sparse files are not written.
    pub bytes: u64,
    /// Members that `strip_components` left no name of.
    pub stripped: u64,
    /// Members that were written without something that the archive states.
    pub changed: Notices,
    /// Members that were not written.
    pub skipped: Notices,
    /// Members whose owner the system did not let this process set; the members are written.
    pub owners_not_kept: u64,
    /// What the bytes turned out to be. Unless it is complete, members may be missing.
    pub verdict: Verdict,
}

/// Members, and why.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notices {
    /// Their number.
    pub count: u64,
    /// The first of them, at most [`MAX_NOTICES`].
    pub first: Vec<Notice>,
}

/// A member, and why something was not done with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The path in the archive; at most its first 4,096 bytes.
    pub path: Vec<u8>,
    /// The reason.
    pub reason: Reason,
}

/// Why something was not done with a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Its path is absolute.
    AbsolutePath,
    /// Its path has `..` in it.
    ParentPath,
    /// It has no name, and is no directory.
    NoName,
    /// A link that leads out of the target, or a hard link whose target does.
    LinkLeavesTarget,
    /// A device, and devices were not asked for.
    Device,
    /// Its type has no meaning for a file system.
    UnknownType(u8),
    /// A sparse file with more segments than are read.
    NoMap,
    /// The archive breaks off within it.
    BrokeOff,
    /// The file system or what is in it does not allow the name.
    Refused(Refusal),
    /// Changed: setuid or setgid were removed.
    SetuidRemoved,
}

impl Report {
    pub(super) fn new() -> Self {
        Self {
            files: 0,
            directories: 0,
            hard_links: 0,
            symlinks: 0,
            special: 0,
            bytes: 0,
            stripped: 0,
            changed: Notices::default(),
            skipped: Notices::default(),
            owners_not_kept: 0,
            verdict: Verdict::NotTar,
        }
    }
}

impl Notices {
    pub(super) fn add(&mut self, path: &[u8], reason: Reason) {
        self.count += 1;
        if self.first.len() < MAX_NOTICES {
            let path = path[..path.len().min(MAX_NOTICE_PATH)].to_vec();
            self.first.push(Notice { path, reason });
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::AbsolutePath => "the path is absolute",
            Self::ParentPath => "the path leads up (..)",
            Self::NoName => "the member has no name",
            Self::LinkLeavesTarget => "the link leads out of the target",
            Self::Device => "a device",
            Self::UnknownType(flag) => return write!(f, "a member of the unknown type {flag:#04x}"),
            Self::NoMap => "a sparse file of too many segments",
            Self::BrokeOff => "the archive breaks off within it",
            Self::SetuidRemoved => "setuid and setgid were removed",
            Self::Refused(refusal) => match refusal {
                Refusal::Exists => "the name exists",
                Refusal::ThroughLink => "a directory of the path is a link or a file",
                Refusal::CaseCollision => "the file system does not distinguish the name from another one",
                Refusal::NoLinkTarget => "the target of the hard link is missing",
                Refusal::ForeignLinkTarget => "the target of the hard link was there before",
                Refusal::LinkLeavesTarget => "the link leads out of the target from its new place",
                Refusal::TooDeep => "the path has too many directories",
                Refusal::Avoided => "the path leads into the repository",
                Refusal::System(text) => text,
            },
        };
        f.write_str(text)
    }
}
