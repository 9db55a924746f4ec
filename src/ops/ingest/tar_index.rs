//! The member index of an item that is a tar, made while its bytes are read and stored after them.
//!
//! An item that is no tar, or whose index would be too large, is stored as any other.

use super::extra::ExtraWriter;
use super::lane::Shared;
use crate::error::{Error, Result};
use crate::members::{self, Indexer, MAX_GLOBALS, Outcome, Unindexed};
use crate::panics;
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
        if let Some(indexer) = &mut self.indexer
            && panics::caught(|| indexer.feed(bytes)).is_err()
        {
            // no backup fails for what its bytes are taken for
            self.indexer = None;
        }
    }

    /// Stores the index of the item, if it gets one.
    pub(super) fn finish(self, session: &Session, shared: &Shared<'_>, item: &str) -> Result<Option<Extra>> {
        let Some(indexer) = self.indexer else { return Ok(None) };
        // before anything is stored that no manifest would name
        let reason = match shared.take_extra() {
            true => match write(session, shared, item, indexer)? {
                Ok(extra) => return Ok(Some(extra)),
                Err(reason) => {
                    shared.return_extra();
                    reason
                }
            },
            false => Reason::Ordinary(format!("the snapshot has {EXTRAS_PER_MANIFEST} already")),
        };
        match reason {
            Reason::Ordinary(_) if self.mode == TarIndex::Auto => {}
            Reason::Ordinary(reason) | Reason::Notable(reason) => session.repo().warn(
                "WARN_NO_TAR_INDEX",
                format!("Item {item:?} is stored without a member index: {reason}"),
            ),
        }
        Ok(None)
    }
}

/// Why an item is stored without an index, as the rest of a sentence.
enum Reason {
    /// Stated only if an index was expected.
    Ordinary(String),
    Notable(String),
}

fn write(
    session: &Session,
    shared: &Shared<'_>,
    item: &str,
    indexer: Indexer,
) -> Result<std::result::Result<Extra, Reason>> {
    let mut writer = ExtraWriter::new(session, session.repo().config().chunking.max);
    let finish = || {
        indexer.finish::<IndexError>(&mut |page| {
            session.repo().check_running(shared)?;
            Ok(writer.push(page)?)
        })
    };
    Ok(Err(match panics::caught(finish) {
        Ok(Ok(Outcome::Written { is_complete, end, .. })) => {
            if !is_complete {
                session.repo().warn(
                    "WARN_TAR_INCOMPLETE",
                    format!("Item {item:?} is a tar that breaks off, or has no end, at byte {end}"),
                );
            }
            return writer.finish(members::KIND).map(Ok);
        }
        Ok(Ok(Outcome::None(reason @ (Unindexed::NotTar | Unindexed::Wrapped(_))))) => {
            Reason::Ordinary(reason_text(reason))
        }
        Ok(Ok(Outcome::None(reason))) => Reason::Notable(reason_text(reason)),
        Ok(Err(IndexError::Engine(error))) => return Err(error),
        Ok(Err(IndexError::Index(error))) => Reason::Notable(error.to_string()),
        // no backup fails for what its bytes are taken for
        Err(panic) => Reason::Notable(panic),
    }))
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
