//! Opens the members of an item: its index, or one that is made of its headers.

use super::pages::{PageError, Pages};
use crate::error::{Error, Result};
use crate::members::{self, Entry, Index, Indexer, Key, Outcome, Tail, Unindexed};
use crate::monitor::Monitor;
use crate::ops::ingest::reason_text;
use crate::ops::snapshots::get_snapshot;
use crate::repo::Repository;
use crate::repo::read::{ReadScratch, get_chunk, get_node};
use crate::snapshot::{ListWalker, Snapshot, SnapshotItem};
use std::sync::Arc;

/// Which item of which snapshot.
#[derive(Debug, Clone, Default)]
pub struct MembersOf {
    /// A complete id, `latest`, or an unambiguous prefix.
    pub snapshot: String,
    /// The name of an item; without one, the only item, or the only one with a member index.
    pub item: Option<String>,
}

/// The members of an item.
pub struct Members {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The position of the item in it.
    pub(super) number: usize,
    index: Index,
    pages: Pages,
}

impl Members {
    /// Opens the members of an item.
    ///
    /// # Errors
    /// `SnapshotNotFound`, `SnapshotAmbiguous`, `ItemNotFound`, `InvalidArgument` (no item was
    /// named, and there are several), `NotTar`, `ManifestCorrupt` (also its member index),
    /// `Cancelled`, those of reading chunks.
    pub fn open(repo: &Arc<Repository>, of: &MembersOf, monitor: &dyn Monitor) -> Result<Self> {
        repo.check_running(monitor)?;
        let (snapshot, number) = find_item(repo, of)?;
        let item = &snapshot.items[number];
        if let Some(extra) = item.extra_of(members::KIND) {
            match Self::of(snapshot.clone(), number, Pages::stored(repo, extra.as_item(item))) {
                Err(error) if is_of_index(&error) => repo.warn(
                    "WARN_TAR_INDEX_UNUSABLE",
                    format!(
                        "The member index of item {:?} cannot be used, so the headers of the tar are read: {error}",
                        item.name
                    ),
                ),
                opened => return opened,
            }
        }
        let pages = Pages::Memory(headers_of(repo, &snapshot, item, monitor)?);
        Self::of(snapshot, number, pages)
    }

    /// Opens an index of an item.
    pub(super) fn of(snapshot: Snapshot, number: usize, mut pages: Pages) -> Result<Self> {
        let item = &snapshot.items[number];
        let size = pages.size();
        let opened = Index::open(size, &mut |position, len| pages.fetch(position, len));
        let index = opened.map_err(|error| corrupt(&snapshot, number, error))?;
        if index.tail().item_len != item.size {
            let error = members::Error::Damaged {
                reason: "the length of the item differs from that in its member index",
            };
            return Err(corrupt(&snapshot, number, error.into()));
        }
        Ok(Self {
            snapshot,
            number,
            index,
            pages,
        })
    }

    /// The item.
    pub fn item(&self) -> &SnapshotItem {
        &self.snapshot.items[self.number]
    }

    /// What is known of the tar as a whole.
    pub fn tail(&self) -> &Tail {
        self.index.tail()
    }

    /// Warns when the tar has no end: a list of its members looks complete, and may not be.
    pub(super) fn warn_if_incomplete(&self, repo: &Repository) {
        let Tail { is_complete, end, .. } = self.tail();
        if !is_complete {
            repo.warn(
                "WARN_TAR_INCOMPLETE",
                format!(
                    "Item {:?} of snapshot {} is a tar that breaks off, or has no end, at byte {end}: members may be missing",
                    self.item().name,
                    self.snapshot.id
                ),
            );
        }
    }

    /// The index, for a cursor.
    pub(super) fn index(&self) -> &Index {
        &self.index
    }

    /// Calls a reader of the index.
    pub(super) fn with<T>(
        &mut self,
        read: impl FnOnce(&Index, &mut members::Fetch<'_, PageError>) -> std::result::Result<T, PageError>,
    ) -> Result<T> {
        let Self {
            snapshot,
            number,
            index,
            pages,
        } = self;
        let found = read(index, &mut |position, len| pages.fetch(position, len));
        found.map_err(|error| corrupt(snapshot, *number, error))
    }

    /// The last member with a path whose header is before an offset.
    pub(super) fn find(&mut self, key: &Key, before: u64) -> Result<Option<Entry>> {
        self.with(|index, fetch| index.find(key, before, fetch))
    }

    /// There is no such member.
    pub(super) fn not_found(&self, member: &[u8]) -> Error {
        Error::MemberNotFound {
            snapshot: self.snapshot.id,
            item: self.item().name.clone(),
            member: String::from_utf8_lossy(member).into_owned(),
        }
    }
}

/// The snapshot, and the position of the item in it.
pub(super) fn find_item(repo: &Repository, of: &MembersOf) -> Result<(Snapshot, usize)> {
    let snapshot = get_snapshot(repo, &of.snapshot)?;
    let number = choose(&snapshot, of.item.as_deref())?;
    Ok((snapshot, number))
}

fn corrupt(snapshot: &Snapshot, number: usize, error: PageError) -> Error {
    match error {
        PageError::Engine(error) => error,
        PageError::Index(members::Error::UnsupportedVersion(version)) => Error::UnsupportedFormat {
            what: format!("version {version} of a member index"),
        },
        PageError::Index(error) => Error::ManifestCorrupt {
            snapshot: snapshot.id,
            reason: format!("the member index of item {:?}: {error}", snapshot.items[number].name),
        },
    }
}

/// The item of this name; without a name, the only one, or the only one with an index.
fn choose(snapshot: &Snapshot, name: Option<&str>) -> Result<usize> {
    if let Some(name) = name {
        let found = snapshot.items.iter().position(|item| item.name == name);
        return found.ok_or_else(|| Error::ItemNotFound {
            snapshot: snapshot.id,
            item: name.to_owned(),
        });
    }
    let all = 0..snapshot.items.len();
    let indexed = all
        .clone()
        .filter(|at| snapshot.items[*at].extra_of(members::KIND).is_some());
    let indexed: Vec<usize> = indexed.collect();
    match (all.len(), indexed.as_slice()) {
        (1, _) => Ok(0),
        (_, [only]) => Ok(*only),
        (count, _) => Err(Error::InvalidArgument {
            reason: format!(
                "item: snapshot {} has {count} items, of which {} have a member index: name one",
                snapshot.id,
                indexed.len()
            ),
        }),
    }
}

/// Whether an index cannot be used, while the tar itself may be intact.
fn is_of_index(error: &Error) -> bool {
    error.is_loss_of_chunks() || matches!(error, Error::ManifestCorrupt { .. } | Error::UnsupportedFormat { .. })
}

/// Makes the index of an item from its headers: chunks that have only data are not read.
fn headers_of(
    repo: &Arc<Repository>,
    snapshot: &Snapshot,
    item: &SnapshotItem,
    monitor: &dyn Monitor,
) -> Result<Vec<u8>> {
    index_of_headers(repo, item, monitor)?.map_err(|reason| not_tar(snapshot, &item.name, reason))
}

/// The item has no members.
pub(super) fn not_tar(snapshot: &Snapshot, item: &str, reason: Unindexed) -> Error {
    Error::NotTar {
        snapshot: snapshot.id,
        item: item.to_owned(),
        reason: reason_text(reason),
    }
}

/// [`headers_of`], or why the item gets no index.
pub(super) fn index_of_headers(
    repo: &Arc<Repository>,
    item: &SnapshotItem,
    monitor: &dyn Monitor,
) -> Result<std::result::Result<Vec<u8>, Unindexed>> {
    let mut stream = Vec::new();
    let outcome = pages_of_headers(repo, item, monitor, &mut |page| {
        stream.extend_from_slice(page);
        Ok(())
    })?;
    Ok(match outcome {
        Outcome::Written { .. } => Ok(stream),
        Outcome::None(reason) => Err(reason),
    })
}

/// Makes the pages of an item's index of its headers, and passes each to `sink`.
///
/// # Errors
/// Those of reading chunks, and of `sink`.
pub(in crate::ops) fn pages_of_headers(
    repo: &Arc<Repository>,
    item: &SnapshotItem,
    monitor: &dyn Monitor,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<Outcome> {
    let _operation = repo.enter();
    let mut indexer = Indexer::new();
    let (mut walker, mut nodes) = (ListWalker::new(item, 0)?, ReadScratch::default());
    let (mut scratch, mut chunk) = (ReadScratch::default(), Vec::new());
    while let Some(listed) = walker.next_chunk::<Error>(&mut |id| get_node(repo, id, &mut nodes))? {
        let len = u64::from(listed.raw_len);
        if indexer.skippable() >= len {
            indexer.skip(len);
            continue;
        }
        repo.check_running(monitor)?;
        get_chunk(repo, &listed.id, &mut scratch, &mut chunk)?;
        indexer.feed(&chunk);
    }
    let outcome = indexer.finish::<PageError>(&mut |page| Ok(sink(page)?));
    outcome.map_err(|error| match error {
        PageError::Engine(error) => error,
        PageError::Index(error) => Error::Internal {
            reason: format!("a member index that was just made: {error}"),
        },
    })
}
