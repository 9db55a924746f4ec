//! The stable codes; each is described in `docs/errors.md`.

use super::Error;
use crate::storage::RemoteFault;

impl Error {
    /// True when chunks are missing or damaged, as opposed to a failed read: another read does not
    /// help.
    pub(crate) fn is_loss_of_chunks(&self) -> bool {
        matches!(
            self,
            Self::ChunkMissing { .. } | Self::ChunkCorrupt { .. } | Self::PackMissing { .. } | Self::PackCorrupt { .. }
        )
    }

    /// Returns the stable code, on which programs match.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RepositoryNotFound { .. } | Self::NotARepository { .. } => "ERR_REPO_NOT_FOUND",
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
            Self::Conflict | Self::LeaseRemoved | Self::MirrorOvertaken => "ERR_CONFLICT",
            Self::RepositoryLocked { .. } => "ERR_REPO_LOCKED",
            Self::LocksUnsupported => "ERR_LOCKS_UNSUPPORTED",
            Self::FilesystemUnsupported { .. } => "ERR_FILESYSTEM_UNSUPPORTED",
            Self::ReadOnly => "ERR_READ_ONLY",
            Self::Mirror { .. } => "ERR_MIRROR",
            Self::MirrorRefused { .. } => "ERR_MIRROR_REFUSED",
            Self::SnapshotNotFound { .. } => "ERR_SNAPSHOT_NOT_FOUND",
            Self::SnapshotAmbiguous { .. } => "ERR_SNAPSHOT_AMBIGUOUS",
            Self::ItemNotFound { .. } => "ERR_ITEM_NOT_FOUND",
            Self::NotTar { .. } => "ERR_NOT_A_TAR",
            Self::MemberNotFound { .. } => "ERR_MEMBER_NOT_FOUND",
            Self::UnsupportedPlatform { .. } => "ERR_UNSUPPORTED_PLATFORM",
            Self::FileExists { .. } => "ERR_FILE_EXISTS",
            Self::Range { .. } => "ERR_RANGE",
            Self::InvalidArgument { .. } => "ERR_INVALID_ARGUMENT",
            Self::InvalidPolicy { .. } => "ERR_INVALID_POLICY",
            Self::SourceFailed { .. } => "ERR_SOURCE_FAILED",
            Self::NoSpace { .. } => "ERR_NO_SPACE",
            Self::Unreadable { .. } => "ERR_UNREADABLE",
            Self::ObjectStorage { fault, .. } => match fault {
                RemoteFault::Unreachable => "ERR_STORAGE_UNREACHABLE",
                RemoteFault::Busy => "ERR_STORAGE_BUSY",
                RemoteFault::Credentials => "ERR_STORAGE_CREDENTIALS",
                RemoteFault::Bucket => "ERR_STORAGE_BUCKET",
                RemoteFault::Region => "ERR_STORAGE_REGION",
                RemoteFault::Clock => "ERR_STORAGE_CLOCK",
                RemoteFault::Certificate => "ERR_STORAGE_CERTIFICATE",
            },
            Self::ExclusiveRequired => "ERR_EXCLUSIVE_REQUIRED",
            Self::Storage { .. } => "ERR_STORAGE",
            Self::Closed => "ERR_CLOSED",
            Self::Cancelled => "ABORT_ERR",
            Self::NoEntropy => "ERR_NO_ENTROPY",
            Self::NoMemory => "ERR_NO_MEMORY",
            Self::NoThreads => "ERR_NO_THREADS",
            Self::Internal { .. } | Self::Panicked { .. } => "ERR_INTERNAL",
        }
    }
}
