//! Errors of lower rooms become errors of the engine, and remain their causes.

use super::Error;
use crate::storage::{self, RemoteFault};

impl From<storage::Error> for Error {
    fn from(source: storage::Error) -> Self {
        use storage::ErrorKind as Kind;
        match source.kind {
            Kind::PermissionDenied | Kind::ReadOnly => Self::Permission { source },
            Kind::NoSpace => Self::NoSpace { source },
            Kind::LocksUnsupported => Self::LocksUnsupported,
            Kind::FilesystemUnsupported => Self::FilesystemUnsupported { source },
            Kind::NotADirectory => Self::NotADirectory { path: source.path },
            Kind::Io | Kind::Unavailable | Kind::Remote(RemoteFault::Unreachable | RemoteFault::Busy)
                if source.is_read() =>
            {
                Self::Unreadable { source }
            }
            Kind::Remote(fault) => Self::ObjectStorage { fault, source },
            _ => Self::Storage { source },
        }
    }
}

#[cfg(feature = "remote")]
impl From<storage::ConnectError> for Error {
    fn from(error: storage::ConnectError) -> Self {
        match error {
            storage::ConnectError::Invalid(reason) => Self::InvalidArgument { reason },
            storage::ConnectError::Storage(error) => error.into(),
        }
    }
}

impl storage::FailedRead for Error {
    fn unreadable(&self) -> Option<&storage::Error> {
        match self {
            Self::Permission { source }
            | Self::NoSpace { source }
            | Self::Unreadable { source }
            | Self::ObjectStorage { source, .. }
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

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Permission { source }
            | Self::NoSpace { source }
            | Self::Unreadable { source }
            | Self::FilesystemUnsupported { source }
            | Self::ObjectStorage { source, .. }
            | Self::Storage { source } => Some(source),
            _ => None,
        }
    }
}
