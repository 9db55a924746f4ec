//! The errors of the engine. Each variant names the thing concerned.
//!
//! What a caller sees of an error:
//!
//! - its stable code, on which programs match: [`Error::code`];
//! - what to do now, and whether to repeat the call: [`Error::hint`], [`Error::retryable`];
//! - its text, which starts with a capital letter, has no final period, and never contains key
//!   material or chunk bytes: its [`Display`](std::fmt::Display);
//! - its cause, a call to the storage.
//!
//! The rooms below have small errors of their own; the room that knows the context converts them.
//! Only those of the storage and of the system's randomness are converted here.

mod advice;
mod code;
mod convert;
mod text;

use crate::id::{ChunkId, GroupId, PackId, RepoId, SegmentId, SnapshotId};
use crate::storage;

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
    /// The folder at the path has a `config.json`, of another program. Check the path.
    NotARepository {
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
    /// The lease of an ingest was removed by force while it ran, or on object storage its session
    /// was revoked, because its lease was taken for abandoned. No snapshot was made; repeat the
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
    /// The folder is a mirror, which only mirroring writes to.
    Mirror {
        /// The path.
        path: String,
    },
    /// The target of a mirroring was refused. Nothing was written.
    MirrorRefused {
        /// The path of the target.
        path: String,
        /// The reason.
        reason: String,
    },
    /// Prunes kept deleting what a mirroring was about to copy. What was copied stays; repeat it.
    MirrorOvertaken,
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
    /// The item is no tar that its members could be found in.
    NotTar {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The item.
        item: String,
        /// Why, as the rest of a sentence.
        reason: String,
    },
    /// The item has no member of that path.
    MemberNotFound {
        /// The snapshot.
        snapshot: SnapshotId,
        /// The item.
        item: String,
        /// The path.
        member: String,
    },
    /// The operation does not exist on this platform.
    UnsupportedPlatform {
        /// The operation.
        operation: &'static str,
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
    /// A request to object storage failed, for a reason that concerns all of it.
    ObjectStorage {
        /// The reason.
        fault: storage::RemoteFault,
        /// The request.
        source: storage::Error,
    },
    /// The operation deletes, and nothing keeps other processes from writing to this object storage
    /// at the same time: the caller must promise it with `exclusive`.
    ExclusiveRequired,
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
