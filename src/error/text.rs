//! The texts of errors.

use super::Error;
use std::fmt;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RepositoryNotFound { path } => write!(f, "There is no repository at {path}"),
            Self::NotARepository { path } => {
                write!(
                    f,
                    "There is no repository at {path}: its config.json is that of another program"
                )
            }
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
            Self::LeaseRemoved => f.write_str(
                "The session of this ingest was ended by another process while it ran: by force, or because its lease \
                 was taken for abandoned; no snapshot was made",
            ),
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
            Self::Mirror { path } => write!(f, "{path} is a mirror of a repository, which only mirroring writes to"),
            Self::MirrorRefused { path, reason } => write!(f, "Nothing was mirrored to {path}: {reason}"),
            Self::MirrorOvertaken => f.write_str(
                "Files of the repository were deleted again and again while it was mirrored; what was copied stays",
            ),
            Self::SnapshotNotFound { id } => write!(f, "There is no snapshot {id}"),
            Self::SnapshotAmbiguous { id } => write!(f, "Several snapshot ids begin with {id}"),
            Self::ItemNotFound { snapshot, item } => write!(f, "Snapshot {snapshot} has no item {item:?}"),
            Self::NotTar { .. } | Self::MemberNotFound { .. } => self.fmt_members(f),
            Self::UnsupportedPlatform { operation } => write!(f, "{operation} does not exist on this platform"),
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
            // the name of the fault first: the text of the service may not have it
            Self::ObjectStorage { fault, source } => write!(f, "Object storage: {}: {source}", fault.text()),
            Self::ExclusiveRequired => f.write_str(
                "On object storage nothing keeps other processes from writing to the repository while this deletes",
            ),
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

impl Error {
    /// The texts about members of a tar.
    fn fmt_members(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTar { snapshot, item, reason } => {
                write!(f, "Item {item:?} of snapshot {snapshot} has no members: {reason}")
            }
            Self::MemberNotFound { snapshot, item, member } => {
                write!(f, "Item {item:?} of snapshot {snapshot} has no member {member:?}")
            }
            _ => Ok(()),
        }
    }
}
