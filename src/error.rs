//! What can go wrong, as data: each variant names the thing it is about and has a stable [`Error::code`].
//!
//! The rooms below have small errors of their own; they become one of these where the context is known. Texts start
//! with a capital, have no final period, and never hold key material or chunk bytes.

use crate::id::{ChunkId, GroupId, PackId, RepoId, SegmentId, SnapshotId};
use crate::storage;
use std::fmt;

/// Result of an engine call.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything an operation can fail with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// There is no repository at the path. Check the path, or call `init`.
    RepositoryNotFound {
        /// The path.
        path: String,
    },
    /// The folder does not hold the repository that was opened: a disk was swapped, or the folder was
    /// moved and another one put in its place. Nothing was written there.
    RepositoryChanged {
        /// The path.
        path: String,
        /// The id that the handle was opened with, or that was asked for.
        expected: RepoId,
        /// The id that was found. Equal to `expected` when the same repository is there in another
        /// folder (mounted again, a copy of it): what an operation had stored by then is in the old
        /// one, and the next call works with the new one. `None` when there is no repository.
        found: Option<RepoId>,
    },
    /// `init` found a repository. Call `open`.
    RepositoryExists {
        /// The path.
        path: String,
    },
    /// `init` found a folder that is not empty. Choose another.
    NotEmpty {
        /// The path.
        path: String,
    },
    /// The path is a file. Choose a folder.
    NotADirectory {
        /// The path.
        path: String,
    },
    /// The system refused access to a file or folder.
    Permission {
        /// What was refused.
        source: storage::Error,
    },
    /// The repository is encrypted and no passphrase or key was given.
    PassphraseRequired,
    /// No key file opens with this passphrase or key.
    WrongPassphrase,
    /// A passphrase or key was given, but the repository says it is not encrypted. Writing to it would store plaintext.
    NotEncrypted,
    /// The repository needs a newer version of this software.
    UnsupportedFormat {
        /// What is not known, as `version 2` or a feature's name.
        what: String,
    },
    /// `config.json` is damaged.
    ConfigCorrupt {
        /// What does not fit.
        reason: String,
    },
    /// A key file is damaged, or there is none.
    KeyFileCorrupt {
        /// Which one.
        path: String,
        /// What does not fit.
        reason: String,
    },
    /// There is no key with this id.
    KeyNotFound {
        /// What was asked for.
        id: String,
    },
    /// The last key of a repository cannot be removed: nothing would open it any more.
    LastKey {
        /// The key.
        id: String,
    },
    /// There are as many keys as an opening tries.
    TooManyKeys {
        /// Most that there may be.
        limit: usize,
    },
    /// A manifest is damaged.
    ManifestCorrupt {
        /// Whose.
        snapshot: SnapshotId,
        /// What does not fit.
        reason: String,
    },
    /// A pack (or its trailer) is damaged.
    PackCorrupt {
        /// Which one.
        pack: PackId,
        /// What does not fit.
        reason: String,
    },
    /// A pack is not there.
    PackMissing {
        /// Which one.
        pack: PackId,
        /// A chunk that was wanted from it.
        chunk: Option<ChunkId>,
    },
    /// A stored chunk does not decode to the bytes its name promises.
    ChunkCorrupt {
        /// The pack that holds it.
        pack: PackId,
        /// The chunk.
        chunk: ChunkId,
        /// What does not fit.
        reason: String,
    },
    /// No pack is known to hold a chunk that a snapshot needs.
    ChunkMissing {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A segment of the global index is damaged and could not be made again.
    IndexCorrupt {
        /// Which one.
        segment: SegmentId,
        /// What does not fit.
        reason: String,
    },
    /// A parity group cannot give back what was asked of it.
    ParityCorrupt {
        /// Which one.
        group: GroupId,
        /// What does not fit.
        reason: String,
    },
    /// A list of condemned packs is damaged, so nothing can be relied on. Restores still work.
    KillListCorrupt {
        /// Which file.
        path: String,
        /// What does not fit.
        reason: String,
    },
    /// Packs that an ingest relied on were removed while it ran, and their chunks are nowhere else. Nothing was
    /// published; ingest again.
    Conflict,
    /// The lease of an ingest was removed by force while it ran. Nothing was published; ingest again.
    LeaseRemoved,
    /// Somebody else holds a lock that was waited for. Try again.
    RepositoryLocked {
        /// Which lock, as `locks/commit`.
        lock: String,
        /// Who seems to hold it, as `prune since 2026-11-23T01:45:00.000Z`. Empty when that is not known.
        holders: Vec<String>,
    },
    /// The file system has no working kernel locks, so nothing may be written. Reading works.
    LocksUnsupported,
    /// The file system lacks a call that a repository needs, so nothing may be written. Keep the repository elsewhere.
    FilesystemUnsupported {
        /// What was tried, and what is missing.
        source: storage::Error,
    },
    /// The handle was opened for reading only.
    ReadOnly,
    /// There is no such snapshot.
    SnapshotNotFound {
        /// What was asked for.
        id: String,
    },
    /// Several snapshots begin with this prefix.
    SnapshotAmbiguous {
        /// What was asked for.
        id: String,
    },
    /// The snapshot has no such item.
    ItemNotFound {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The item.
        item: String,
    },
    /// There is something at the path that a restore should write.
    FileExists {
        /// The path.
        path: String,
        /// A file there would have been replaced, so it is something else.
        overwrite: bool,
    },
    /// A range begins or ends behind the data.
    Range {
        /// First byte asked for.
        start: u64,
        /// End of the range, exclusive.
        end: u64,
        /// Bytes there are.
        size: u64,
    },
    /// An option has a value that cannot be used. Nothing was done.
    InvalidArgument {
        /// Which, and why.
        reason: String,
    },
    /// A retention policy keeps nothing, has a key that no policy has, or a value that cannot be meant. Nothing was done.
    InvalidPolicy {
        /// Which part, and why.
        reason: String,
    },
    /// The source of an ingest failed. No snapshot was made.
    SourceFailed {
        /// The item that was being read.
        item: String,
        /// What the source said.
        reason: String,
    },
    /// No space or quota left.
    NoSpace {
        /// The call that failed.
        source: storage::Error,
    },
    /// A file could not be read, which says nothing about its bytes. Nothing was moved, deleted or remembered for it.
    Unreadable {
        /// The read that failed.
        source: storage::Error,
    },
    /// The storage failed.
    Storage {
        /// The call that failed.
        source: storage::Error,
    },
    /// The handle was closed.
    Closed,
    /// The operation was asked to stop.
    Cancelled,
    /// The system gave no random bytes.
    NoEntropy,
    /// The system gave no memory for a buffer, a key derivation, a decoder or the shards of a
    /// parity group. Nothing is wrong with what is stored; the same call may work later.
    NoMemory,
    /// The system started no thread (the limit of a container or user, or no memory for its stack).
    /// Nothing is wrong with what is stored; the same call may work later.
    NoThreads,
    /// A part of the engine panicked: a bug in this software. The handle was closed, for nobody knows what was left behind.
    Panicked {
        /// With which words, and where.
        reason: String,
    },
    /// A bug in this software. The handle should be closed.
    Internal {
        /// What was found.
        reason: String,
    },
}

impl Error {
    /// The stable code that programs match on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RepositoryNotFound { .. } => "ERR_REPO_NOT_FOUND",
            Self::RepositoryChanged { .. } => "ERR_REPO_CHANGED",
            Self::RepositoryExists { .. } => "ERR_REPO_EXISTS",
            Self::NotEmpty { .. } => "ERR_NOT_EMPTY",
            Self::NotADirectory { .. } => "ERR_NOT_A_DIRECTORY",
            Self::Permission { .. } => "ERR_PERMISSION",
            Self::PassphraseRequired => "ERR_PASSPHRASE_REQUIRED",
            Self::WrongPassphrase => "ERR_WRONG_PASSPHRASE",
            Self::NotEncrypted => "ERR_NOT_ENCRYPTED",
            Self::UnsupportedFormat { .. } => "ERR_UNSUPPORTED_FORMAT",
            Self::ConfigCorrupt { .. } => "ERR_CONFIG_CORRUPT",
            Self::KeyFileCorrupt { .. } => "ERR_KEY_FILE_CORRUPT",
            Self::KeyNotFound { .. } => "ERR_KEY_NOT_FOUND",
            Self::LastKey { .. } => "ERR_LAST_KEY",
            Self::TooManyKeys { .. } => "ERR_TOO_MANY_KEYS",
            Self::ManifestCorrupt { .. } => "ERR_MANIFEST_CORRUPT",
            Self::PackCorrupt { .. } => "ERR_PACK_CORRUPT",
            Self::PackMissing { .. } => "ERR_PACK_MISSING",
            Self::ChunkCorrupt { .. } => "ERR_CHUNK_CORRUPT",
            Self::ChunkMissing { .. } => "ERR_CHUNK_MISSING",
            Self::IndexCorrupt { .. } => "ERR_INDEX_CORRUPT",
            Self::ParityCorrupt { .. } => "ERR_PARITY_CORRUPT",
            Self::KillListCorrupt { .. } => "ERR_KILL_LIST_CORRUPT",
            Self::Conflict | Self::LeaseRemoved => "ERR_CONFLICT",
            Self::RepositoryLocked { .. } => "ERR_REPO_LOCKED",
            Self::LocksUnsupported => "ERR_LOCKS_UNSUPPORTED",
            Self::FilesystemUnsupported { .. } => "ERR_FILESYSTEM_UNSUPPORTED",
            Self::ReadOnly => "ERR_READ_ONLY",
            Self::SnapshotNotFound { .. } => "ERR_SNAPSHOT_NOT_FOUND",
            Self::SnapshotAmbiguous { .. } => "ERR_SNAPSHOT_AMBIGUOUS",
            Self::ItemNotFound { .. } => "ERR_ITEM_NOT_FOUND",
            Self::FileExists { .. } => "ERR_FILE_EXISTS",
            Self::Range { .. } => "ERR_RANGE",
            Self::InvalidArgument { .. } => "ERR_INVALID_ARGUMENT",
            Self::InvalidPolicy { .. } => "ERR_INVALID_POLICY",
            Self::SourceFailed { .. } => "ERR_SOURCE_FAILED",
            Self::NoSpace { .. } => "ERR_NO_SPACE",
            Self::Unreadable { .. } => "ERR_UNREADABLE",
            Self::Storage { .. } => "ERR_STORAGE",
            Self::Closed => "ERR_CLOSED",
            Self::Cancelled => "ABORT_ERR",
            Self::NoEntropy => "ERR_NO_ENTROPY",
            Self::NoMemory => "ERR_NO_MEMORY",
            Self::NoThreads => "ERR_NO_THREADS",
            Self::Internal { .. } | Self::Panicked { .. } => "ERR_INTERNAL",
        }
    }

    /// What the caller can do about it, where that is not plain from the text.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::RepositoryNotFound { .. } => "check the path, or make a repository there with init()",
            Self::RepositoryChanged { expected, found, .. } if *found == Some(*expected) => "try again",
            Self::RepositoryChanged { .. } => {
                "check which disk or folder is at the path; a handle serves only the repository that it opened"
            }
            Self::RepositoryExists { .. } => "open it with open()",
            Self::NotEmpty { .. } => "choose an empty or a new folder",
            Self::PassphraseRequired => "open it with { passphrase } or { key }, and without { keyless: true }",
            Self::NotEncrypted => "open it without a passphrase, if you trust whoever can write to this folder",
            Self::UnsupportedFormat { .. } => "install a newer version of this package",
            Self::Conflict | Self::LeaseRemoved | Self::RepositoryLocked { .. } => "try again",
            Self::FilesystemUnsupported { .. } => {
                "keep the repository on a file system that has what is missing; docs/file-systems.md lists those that were tried"
            }
            Self::LocksUnsupported => {
                "keep the repository on a file system with working locks, or open it with { readOnly: true }"
            }
            Self::SourceFailed { .. } => {
                "no snapshot was made; what was stored is reused when the ingest is tried again"
            }
            Self::NoSpace { .. } => "free some space; what is stored is safe",
            Self::Unreadable { .. } => {
                "try again; if the same file fails each time, check the disk or the connection to it"
            }
            Self::FileExists { overwrite: false, .. } => {
                "choose another path, or pass { overwrite: true } (which replaces files only)"
            }
            Self::FileExists { overwrite: true, .. } => "choose another path",
            Self::LastKey { .. } => "add another key first, or change this one",
            Self::TooManyKeys { .. } => "remove one first",
            Self::Storage { source } if source.op == "lock" && source.kind == storage::ErrorKind::NotFound => {
                "repair() recreates the lock files"
            }
            Self::NoMemory => "free some memory and try again; what a key costs is in keys.list()",
            Self::NoThreads => {
                "try again once there are threads, or raise the limit (pids.max of a container, ulimit -u)"
            }
            Self::Panicked { .. } => "the handle is closed: open the repository again, and please report this",
            _ => return None,
        })
    }

    /// True when the same call may work later without anything being changed.
    pub fn retryable(&self) -> bool {
        match self {
            Self::RepositoryChanged { expected, found, .. } => *found == Some(*expected),
            Self::Conflict
            | Self::LeaseRemoved
            | Self::RepositoryLocked { .. }
            | Self::NoMemory
            | Self::NoThreads
            | Self::Unreadable { .. } => true,
            Self::Storage { source } => source.kind == storage::ErrorKind::Unavailable,
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RepositoryNotFound { path } => write!(f, "There is no repository at {path}"),
            Self::RepositoryChanged { path, expected, found } => match found {
                Some(found) if found == expected => {
                    write!(f, "The folder {path} was replaced while the operation ran")
                }
                Some(found) => write!(f, "The folder {path} holds repository {found}, not {expected}"),
                None => write!(f, "The folder {path} does not hold repository {expected}"),
            },
            Self::RepositoryExists { path } => write!(f, "There is a repository at {path} already"),
            Self::NotEmpty { path } => write!(f, "The folder {path} is not empty"),
            Self::NotADirectory { path } => write!(f, "{path} is not a folder"),
            Self::Permission { source } => write!(f, "Access refused: {source}"),
            Self::PassphraseRequired => f.write_str("The repository is encrypted; a passphrase or key is needed"),
            Self::WrongPassphrase => f.write_str("No key file opens with this passphrase or key"),
            Self::NotEncrypted => {
                f.write_str("A passphrase was given, but the repository says that it is not encrypted")
            }
            Self::UnsupportedFormat { what } => {
                write!(f, "The repository needs {what}, which this version does not know")
            }
            Self::ConfigCorrupt { reason } => write!(f, "config.json is damaged: {reason}"),
            Self::KeyFileCorrupt { path, reason } => write!(f, "The key file {path} is damaged: {reason}"),
            Self::KeyNotFound { id } => write!(f, "There is no key {id}"),
            Self::LastKey { id } => write!(f, "Key {id} is the last one, and nothing else opens the repository"),
            Self::TooManyKeys { limit } => write!(f, "There are {limit} keys already, and no more would be tried"),
            Self::ManifestCorrupt { snapshot, reason } => {
                write!(f, "The manifest of snapshot {snapshot} is damaged: {reason}")
            }
            Self::PackCorrupt { pack, reason } => write!(f, "Pack {pack} is damaged: {reason}"),
            Self::PackMissing { pack, .. } => write!(f, "Pack {pack} is missing"),
            Self::ChunkCorrupt { pack, chunk, reason } => {
                write!(f, "Chunk {chunk} in pack {pack} is damaged: {reason}")
            }
            Self::ChunkMissing { chunk } => write!(f, "No pack holds chunk {chunk}"),
            Self::IndexCorrupt { segment, reason } => write!(f, "Index segment {segment} is damaged: {reason}"),
            Self::ParityCorrupt { group, reason } => write!(f, "Parity group {group} is damaged: {reason}"),
            Self::KillListCorrupt { path, reason } => write!(f, "The kill list {path} is damaged: {reason}"),
            Self::Conflict => f.write_str(
                "Data this ingest relied on was removed or found damaged while it ran; nothing was published",
            ),
            Self::LeaseRemoved => {
                f.write_str("The lease of this ingest was removed by force while it ran; nothing was published")
            }
            Self::RepositoryLocked { lock, holders } if holders.is_empty() => write!(f, "Somebody else holds {lock}"),
            Self::RepositoryLocked { lock, holders } => {
                write!(f, "Somebody else holds {lock}: {}", holders.join(", "))
            }
            Self::LocksUnsupported => f.write_str("The file system has no working locks, so nothing may be written"),
            Self::FilesystemUnsupported { source } => {
                write!(f, "The file system lacks what a repository needs: {source}")
            }
            Self::ReadOnly => f.write_str("The repository was opened for reading only"),
            Self::SnapshotNotFound { id } => write!(f, "There is no snapshot {id}"),
            Self::SnapshotAmbiguous { id } => write!(f, "Several snapshots begin with {id}"),
            Self::ItemNotFound { snapshot, item } => write!(f, "Snapshot {snapshot} has no item {item:?}"),
            Self::FileExists { path, overwrite: false } => write!(f, "There is something at {path} already"),
            Self::FileExists { path, overwrite: true } => {
                write!(
                    f,
                    "There is something at {path} that is no regular file, and only files are replaced"
                )
            }
            Self::Range { start, end, size } => write!(f, "The range {start}..{end} is not inside 0..{size}"),
            Self::InvalidArgument { reason } => f.write_str(reason),
            Self::InvalidPolicy { reason } => write!(f, "The retention policy cannot be used: {reason}"),
            Self::SourceFailed { item, reason } => write!(f, "The source of item {item:?} failed: {reason}"),
            Self::NoSpace { source } => write!(f, "No space left: {source}"),
            Self::Unreadable { source } => write!(f, "{} cannot be read: {source}", source.path),
            Self::Storage { source } => write!(f, "Storage failed: {source}"),
            Self::Closed => f.write_str("The repository handle is closed"),
            Self::Cancelled => f.write_str("The operation was aborted"),
            Self::NoEntropy => f.write_str("The system gave no random bytes"),
            Self::NoMemory => f.write_str("The system gave no memory"),
            Self::NoThreads => f.write_str("The system started no thread"),
            Self::Internal { reason } | Self::Panicked { reason } => write!(f, "Internal error: {reason}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Permission { source }
            | Self::NoSpace { source }
            | Self::Unreadable { source }
            | Self::FilesystemUnsupported { source }
            | Self::Storage { source } => Some(source),
            _ => None,
        }
    }
}

impl From<storage::Error> for Error {
    fn from(source: storage::Error) -> Self {
        use storage::ErrorKind as Kind;
        match source.kind {
            Kind::PermissionDenied | Kind::ReadOnly => Self::Permission { source },
            Kind::NoSpace => Self::NoSpace { source },
            Kind::LocksUnsupported => Self::LocksUnsupported,
            Kind::FilesystemUnsupported => Self::FilesystemUnsupported { source },
            Kind::NotADirectory => Self::NotADirectory { path: source.path },
            Kind::Io | Kind::Unavailable if source.is_read() => Self::Unreadable { source },
            _ => Self::Storage { source },
        }
    }
}

impl storage::FailedRead for Error {
    fn unreadable(&self) -> Option<&storage::Error> {
        match self {
            Self::Permission { source }
            | Self::NoSpace { source }
            | Self::Unreadable { source }
            | Self::Storage { source } => source.unreadable(),
            _ => None,
        }
    }
}

impl From<crate::entropy::NoEntropy> for Error {
    fn from(_: crate::entropy::NoEntropy) -> Self {
        Self::NoEntropy
    }
}
