//! What a caller can do about an error.

use super::Error;
use crate::storage::{self, RemoteFault};

impl Error {
    /// Returns what the caller can do, where the text does not make that clear.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::RepositoryNotFound { .. } => "check the path, or create a repository with init()",
            Self::NotARepository { .. } => "check the path, or create a repository in an empty or missing directory",
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
            Self::Conflict | Self::LeaseRemoved | Self::MirrorOvertaken | Self::RepositoryLocked { .. } => "try again",
            Self::FilesystemUnsupported { .. } => {
                "move the repository to a file system that docs/file-systems.md lists as supported"
            }
            Self::Mirror { .. } => {
                "write to the repository itself; if it is lost, open this copy once with { promote: true }, which makes it \
                 a repository of its own"
            }
            Self::LocksUnsupported => {
                "move the repository to a file system with working locks, or open it with { readOnly: true }"
            }
            Self::SourceFailed { .. } => "fix the source and repeat the ingest; chunks that were stored are reused",
            Self::NoSpace { .. } => "free some space and try again; the stored data is not affected",
            Self::Unreadable { .. } => {
                "try again; if the same file fails each time, check the disk or the connection to it"
            }
            Self::ObjectStorage { fault, .. } => match fault {
                RemoteFault::Unreachable => "check the endpoint and the network, then try again",
                RemoteFault::Busy => "try again later",
                RemoteFault::Credentials => {
                    "check storage.accessKeyId and storage.secretAccessKey, or the environment that they come from"
                }
                RemoteFault::Bucket => "check the name of the bucket in the URL, and create the bucket",
                RemoteFault::Region => "set storage.region to the region of the bucket",
                RemoteFault::Clock => "set the clock of this machine",
                RemoteFault::Certificate => {
                    "check the endpoint; a certificate authority of your own is trusted with storage.caFile"
                }
            },
            Self::ExclusiveRequired => {
                "make sure that no other process uses the repository, and pass { exclusive: true }"
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
            | Self::MirrorOvertaken
            | Self::RepositoryLocked { .. }
            | Self::NoMemory
            | Self::NoThreads
            | Self::Unreadable { .. } => true,
            Self::ObjectStorage { fault, .. } => matches!(fault, RemoteFault::Unreachable | RemoteFault::Busy),
            Self::Storage { source } => source.kind == storage::ErrorKind::Unavailable,
            _ => false,
        }
    }
}
