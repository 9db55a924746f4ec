//! The errors of the engine. Each variant names the thing concerned and has a stable
//! [`Error::code`].
//!
//! The rooms below have small errors of their own; the room that knows the context converts them.
//! Texts start with a capital letter, have no final period, and never contain key material or chunk
//! bytes.

use crate::id::{ChunkId, GroupId, PackId, RepoId, SegmentId, SnapshotId};
use crate::storage;
use std::fmt;

/// Result of an engine call.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of an operation.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// There is no repository at the path. Check the path, or create one with `init`.
    RepositoryNotFound {
        /// The path.
        path: String,
    },
    /// The folder does not contain the repository that was opened: a disk was swapped, or the
    /// folder was replaced by another one. Nothing was written to it.
    RepositoryChanged {
        /// The path.
        path: String,
        /// The id that the handle was opened with, or that the caller required.
        expected: RepoId,
        /// The id that was found. It equals `expected` when the path now leads to another folder
        /// with the same repository (mounted again, or a copy): what the operation has stored is in
        /// the old folder, and the next call uses the new one. `None` when there is no repository.
        found: Option<RepoId>,
    },
    /// `init` found a repository. Use `open`.
    RepositoryExists {
        /// The path.
        path: String,
    },
    /// `init` found a folder that is not empty. Choose another path.
    NotEmpty {
        /// The path.
        path: String,
    },
    /// The path is not a folder. Choose another path.
    NotADirectory {
        /// The path.
        path: String,
    },
    /// The system denied access to a file or folder.
    Permission {
        /// The call that was denied.
        source: storage::Error,
    },
    /// The repository is encrypted and no passphrase or key was given.
    PassphraseRequired,
    /// No key file opens with this passphrase or key.
    WrongPassphrase,
    /// A passphrase or key was given, but `config.json` describes an unencrypted repository.
    /// Writing to it would store plaintext.
    NotEncrypted,
    /// The repository needs a newer version of this software.
    UnsupportedFormat {
        /// The unknown version or feature, for example `version 2`.
        what: String,
    },
    /// `config.json` is damaged.
    ConfigCorrupt {
        /// The defect.
        reason: String,
    },
    /// A key file is damaged, or all are missing.
    KeyFileCorrupt {
        /// Its id.
        path: String,
        /// The defect.
        reason: String,
    },
    /// There is no key with this id.
    KeyNotFound {
        /// The id.
        id: String,
    },
    /// The last key of a repository cannot be removed, because nothing would open the repository
    /// after that.
    LastKey {
        /// The id of the key.
        id: String,
    },
    /// The repository has the largest number of keys that `open` tries.
    TooManyKeys {
        /// Largest number of keys.
        limit: usize,
    },
    /// A manifest is damaged.
    ManifestCorrupt {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The defect.
        reason: String,
    },
    /// A pack or its trailer is damaged.
    PackCorrupt {
        /// Its id.
        pack: PackId,
        /// The defect.
        reason: String,
    },
    /// A pack is missing.
    PackMissing {
        /// Its id.
        pack: PackId,
        /// The chunk that was to be read from it.
        chunk: Option<ChunkId>,
    },
    /// A stored chunk does not decode, or its hash does not match its id.
    ChunkCorrupt {
        /// The pack that contains it.
        pack: PackId,
        /// The chunk.
        chunk: ChunkId,
        /// The defect.
        reason: String,
    },
    /// No known pack contains a chunk that a snapshot needs.
    ChunkMissing {
        /// The chunk.
        chunk: ChunkId,
    },
    /// A segment of the global index is damaged and could not be rebuilt.
    IndexCorrupt {
        /// Its id.
        segment: SegmentId,
        /// The defect.
        reason: String,
    },
    /// A parity group is damaged and cannot rebuild the requested bytes.
    ParityCorrupt {
        /// Its id.
        group: GroupId,
        /// The defect.
        reason: String,
    },
    /// A kill list is damaged, so that no operation can know which packs are condemned. Restores
    /// still work.
    KillListCorrupt {
        /// The key of the file.
        path: String,
        /// The defect.
        reason: String,
    },
    /// Packs that an ingest relied on were deleted while it ran, and their chunks are in no other
    /// pack. No snapshot was made; repeat the ingest.
    Conflict,
    /// The lease of an ingest was removed by force while it ran. No snapshot was made; repeat the
    /// ingest.
    LeaseRemoved,
    /// Another operation or process still held a lock at the end of the waiting time. Try again.
    RepositoryLocked {
        /// The lock, for example `locks/commit`.
        lock: String,
        /// The likely holders, for example `prune since 2026-11-23T01:45:00.000Z`. Empty when
        /// unknown.
        holders: Vec<String>,
    },
    /// The file system has no working kernel locks, so that writing is refused. Reading works.
    LocksUnsupported,
    /// The file system lacks a call that a repository needs, so that writing is refused. Keep the
    /// repository on another file system.
    FilesystemUnsupported {
        /// The call that failed, with the missing feature in its source.
        source: storage::Error,
    },
    /// The handle was opened read-only.
    ReadOnly,
    /// There is no snapshot with this id.
    SnapshotNotFound {
        /// The id or prefix.
        id: String,
    },
    /// Several snapshots begin with this prefix.
    SnapshotAmbiguous {
        /// The prefix.
        id: String,
    },
    /// The snapshot has no such item.
    ItemNotFound {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The item.
        item: String,
    },
    /// The target path of a restore exists.
    FileExists {
        /// The path.
        path: String,
        /// Whether a regular file would have been replaced: if so, the path names something else.
        overwrite: bool,
    },
    /// A range begins or ends after the end of the data.
    Range {
        /// First byte.
        start: u64,
        /// End of the range, exclusive.
        end: u64,
        /// Size of the data in bytes.
        size: u64,
    },
    /// An option has an invalid value. Nothing was done.
    InvalidArgument {
        /// Which option, and why.
        reason: String,
    },
    /// A retention policy keeps nothing, or has an unknown key or an invalid value. Nothing was
    /// done.
    InvalidPolicy {
        /// Which part, and why.
        reason: String,
    },
    /// The source of an ingest failed. No snapshot was made.
    SourceFailed {
        /// The item that was being read.
        item: String,
        /// The error of the source.
        reason: String,
    },
    /// No space or quota is left.
    NoSpace {
        /// The call that failed.
        source: storage::Error,
    },
    /// A file could not be read, which indicates nothing about its bytes. Nothing was moved,
    /// deleted or remembered for it.
    Unreadable {
        /// The read that failed.
        source: storage::Error,
    },
    /// A call to the storage failed.
    Storage {
        /// The call that failed.
        source: storage::Error,
    },
    /// The handle was closed.
    Closed,
    /// The caller stopped the operation.
    Cancelled,
    /// The system returned no random bytes.
    NoEntropy,
    /// The system has no memory for a buffer, a key derivation, a decoder or the shards of a parity
    /// group. The stored data is not affected; the same call may work later.
    NoMemory,
    /// The system started no thread (the limit of a container or user, or no memory for its stack).
    /// The stored data is not affected; the same call may work later.
    NoThreads,
    /// The engine panicked: a bug in this software. The handle was closed, because its state is
    /// unknown.
    Panicked {
        /// The message of the panic, and its source location.
        reason: String,
    },
    /// A bug in this software. The handle should be closed.
    Internal {
        /// The broken assumption.
        reason: String,
    },
}

impl Error {
    /// Returns the stable code, on which programs match.
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

    /// Returns what the caller can do, where the text does not make that clear.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::RepositoryNotFound { .. } => "check the path, or create a repository with init()",
            Self::RepositoryChanged { expected, found, .. } if *found == Some(*expected) => "try again",
            Self::RepositoryChanged { .. } => {
                "check which disk is mounted at the path; a handle works only with the repository that it opened"
            }
            Self::RepositoryExists { .. } => "use open()",
            Self::NotEmpty { .. } => "choose an empty or missing directory",
            Self::PassphraseRequired => {
                "open the repository with { passphrase } or { key }, and without { keyless: true }"
            }
            Self::NotEncrypted => {
                "open the repository without a passphrase, if everyone who can write to the folder is trusted"
            }
            Self::UnsupportedFormat { .. } => "install a newer version of this package",
            Self::Conflict | Self::LeaseRemoved | Self::RepositoryLocked { .. } => "try again",
            Self::FilesystemUnsupported { .. } => {
                "move the repository to a file system that docs/file-systems.md lists as supported"
            }
            Self::LocksUnsupported => {
                "move the repository to a file system with working locks, or open it with { readOnly: true }"
            }
            Self::SourceFailed { .. } => "fix the source and repeat the ingest; chunks that were stored are reused",
            Self::NoSpace { .. } => "free some space and try again; the stored data is not affected",
            Self::Unreadable { .. } => {
                "try again; if the same file fails each time, check the disk or the connection to it"
            }
            Self::FileExists { overwrite: false, .. } => {
                "choose another path, or pass { overwrite: true }, which replaces regular files only"
            }
            Self::FileExists { overwrite: true, .. } => "choose another path",
            Self::LastKey { .. } => "add another key first, or change this one",
            Self::TooManyKeys { .. } => "remove a key first",
            Self::Storage { source } if source.op == "lock" && source.kind == storage::ErrorKind::NotFound => {
                "run repair(), which recreates the lock files"
            }
            Self::KillListCorrupt { .. } => "run repair(), which moves the list to quarantine/",
            Self::ManifestCorrupt { .. } | Self::PackCorrupt { .. } => "run repair()",
            Self::NoMemory => "free some memory and try again; keys.list() shows the memory that each key needs",
            Self::NoThreads => {
                "try again when fewer threads run, or raise the limit (pids.max of a container, ulimit -u)"
            }
            Self::Panicked { .. } => "open the repository again, because this handle is closed, and report the bug",
            _ => return None,
        })
    }

    /// Returns `true` when the same call may work later without any change by the caller.
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
                Some(found) => write!(f, "The folder {path} contains repository {found}, not {expected}"),
                None => write!(f, "The folder {path} does not contain repository {expected}"),
            },
            Self::RepositoryExists { path } => write!(f, "A repository already exists at {path}"),
            Self::NotEmpty { path } => write!(f, "The folder {path} is not empty"),
            Self::NotADirectory { path } => write!(f, "{path} is not a folder"),
            Self::Permission { source } => write!(f, "Access denied: {source}"),
            Self::PassphraseRequired => f.write_str("The repository is encrypted, and no passphrase or key was given"),
            Self::WrongPassphrase => f.write_str("No key file opens with this passphrase or key"),
            Self::NotEncrypted => {
                f.write_str("A passphrase or key was given, but config.json describes an unencrypted repository")
            }
            Self::UnsupportedFormat { what } => {
                write!(f, "The repository needs {what}, which this version does not support")
            }
            Self::ConfigCorrupt { reason } => write!(f, "config.json is damaged: {reason}"),
            Self::KeyFileCorrupt { path, reason } => write!(f, "The key file {path} is damaged: {reason}"),
            Self::KeyNotFound { id } => write!(f, "There is no key {id}"),
            Self::LastKey { id } => write!(f, "Key {id} is the last key of the repository and cannot be removed"),
            Self::TooManyKeys { limit } => write!(f, "The repository already has {limit} keys, the largest number"),
            Self::ManifestCorrupt { snapshot, reason } => {
                write!(f, "The manifest of snapshot {snapshot} is damaged: {reason}")
            }
            Self::PackCorrupt { pack, reason } => write!(f, "Pack {pack} is damaged: {reason}"),
            Self::PackMissing { pack, .. } => write!(f, "Pack {pack} is missing"),
            Self::ChunkCorrupt { pack, chunk, reason } => {
                write!(f, "Chunk {chunk} in pack {pack} is damaged: {reason}")
            }
            Self::ChunkMissing { chunk } => write!(f, "Chunk {chunk} is in no known pack"),
            Self::IndexCorrupt { segment, reason } => write!(f, "Index segment {segment} is damaged: {reason}"),
            Self::ParityCorrupt { group, reason } => write!(f, "Parity group {group} is damaged: {reason}"),
            Self::KillListCorrupt { path, reason } => write!(f, "The kill list {path} is damaged: {reason}"),
            Self::Conflict => f.write_str(
                "Chunks that this ingest relied on were deleted or found damaged while it ran; no snapshot was made",
            ),
            Self::LeaseRemoved => {
                f.write_str("The lease of this ingest was removed by force while it ran; no snapshot was made")
            }
            Self::RepositoryLocked { lock, holders } if holders.is_empty() => {
                write!(f, "Another operation or process holds {lock}")
            }
            Self::RepositoryLocked { lock, holders } => {
                write!(f, "Another operation or process holds {lock}: {}", holders.join(", "))
            }
            Self::LocksUnsupported => f.write_str("The file system has no working locks, so that writing is refused"),
            Self::FilesystemUnsupported { source } => {
                write!(f, "The file system lacks a call that a repository needs: {source}")
            }
            Self::ReadOnly => f.write_str("The repository was opened read-only"),
            Self::SnapshotNotFound { id } => write!(f, "There is no snapshot {id}"),
            Self::SnapshotAmbiguous { id } => write!(f, "Several snapshot ids begin with {id}"),
            Self::ItemNotFound { snapshot, item } => write!(f, "Snapshot {snapshot} has no item {item:?}"),
            Self::FileExists { path, overwrite: false } => write!(f, "{path} already exists"),
            Self::FileExists { path, overwrite: true } => {
                write!(f, "{path} exists and is not a regular file, so that it is not replaced")
            }
            Self::Range { start, end, size } => write!(f, "The range {start}..{end} is not inside 0..{size}"),
            Self::InvalidArgument { reason } => f.write_str(reason),
            Self::InvalidPolicy { reason } => write!(f, "The retention policy is not valid: {reason}"),
            Self::SourceFailed { item, reason } => write!(f, "The source of item {item:?} failed: {reason}"),
            Self::NoSpace { source } => write!(f, "No space left: {source}"),
            Self::Unreadable { source } => write!(f, "{} cannot be read: {source}", source.path),
            Self::Storage { source } => write!(f, "Storage call failed: {source}"),
            Self::Closed => f.write_str("The repository handle is closed"),
            Self::Cancelled => f.write_str("The operation was aborted"),
            Self::NoEntropy => f.write_str("The system returned no random bytes"),
            Self::NoMemory => f.write_str("The system has no memory left for this operation"),
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
