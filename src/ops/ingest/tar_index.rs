//! The member index of an item that is a tar, made while its bytes are read and stored after them.
//!
//! An item that is no tar, or whose index would be too large, is stored as any other.

use super::extra::ExtraWriter;
use super::lane::Shared;
use crate::error::{Error, Result};
use crate::members::{self, Indexer, MAX_GLOBALS, Outcome, Unindexed};
use crate::repo::Session;
use crate::snapshot::{EXTRAS_PER_MANIFEST, Extra};
use crate::tar::Wrapper;

/// Whether items that are tars get a member index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TarIndex {
    /// Those that are.
    #[default]
    Auto,
    /// The same, with a warning for each item that gets none.
    Expected,
    /// None.
    Off,
}

/// The tap of one item.
pub(super) struct Tap {
    mode: TarIndex,
    indexer: Option<Indexer>,
}

impl Tap {
    pub(super) fn new(mode: TarIndex) -> Self {
        let indexer = (mode != TarIndex::Off).then(Indexer::new);
        Self { mode, indexer }
    }

    /// Reads the next bytes of the item.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        if let Some(indexer) = &mut self.indexer {
            indexer.feed(bytes);
        }
    }

    /// Stores the index of the item, if it gets one.
    pub(super) fn finish(self, session: &Session, shared: &Shared<'_>, item: &str) -> Result<Option<Extra>> {
        let Some(indexer) = self.indexer else { return Ok(None) };
        let mut writer = ExtraWriter::new(session);
        let outcome = indexer.finish::<IndexError>(&mut |page| {
            session.repo().check_running(shared)?;
            Ok(writer.push(page)?)
        });
        let reason = match outcome {
            Ok(Outcome::Written { .. }) if shared.take_extra() => return writer.finish(members::KIND).map(Some),
            Ok(Outcome::Written { .. }) => format!("the snapshot has {EXTRAS_PER_MANIFEST} already"),
            Ok(Outcome::None(Unindexed::NotTar | Unindexed::Wrapped(_))) if self.mode == TarIndex::Auto => {
                return Ok(None);
            }
            Ok(Outcome::None(reason)) => reason_text(reason),
            Err(IndexError::Engine(error)) => return Err(error),
            Err(IndexError::Index(error)) => error.to_string(),
        };
        session.repo().warn(
            "WARN_NO_TAR_INDEX",
            format!("Item {item:?} is stored without a member index: {reason}"),
        );
        Ok(None)
    }
}

/// An error of the index itself, or of storing it.
enum IndexError {
    Index(members::Error),
    Engine(Error),
}

impl From<members::Error> for IndexError {
    fn from(error: members::Error) -> Self {
        Self::Index(error)
    }
}

impl From<Error> for IndexError {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// Why an item has no index, as the rest of a sentence.
pub(in crate::ops) fn reason_text(reason: Unindexed) -> String {
    match reason {
        Unindexed::NotTar => "it is not a tar".to_owned(),
        Unindexed::Wrapped(wrapper) => {
            let program = match wrapper {
                Wrapper::Gzip => "gzip",
                Wrapper::Zstd => "zstd",
                Wrapper::Xz => "xz",
                Wrapper::Bzip2 => "bzip2",
            };
            format!("it is compressed by {program}, and a tar in it is not unpacked")
        }
        Unindexed::TooLarge => "it has too many members".to_owned(),
        Unindexed::Globals => format!("it has more than {MAX_GLOBALS} global headers"),
    }
}
