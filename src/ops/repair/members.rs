//! Rebuilds member indexes that have lost chunks.
//!
//! The pages of an index follow from the headers of its tar, and their ids from the pages. So what
//! is rebuilt either is the index that the manifest names, or the writer of the index had other
//! rules, and it stays lost. Only the lost chunks are stored; the manifest does not change.

use super::Work;
use super::loss::{LossFinder, read_manifest};
use super::packs::Inventory;
use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::layout;
use crate::members::{KIND, Outcome};
use crate::ops::files::pages_of_headers;
use crate::ops::ingest::{ExtraStore, ExtraWriter};
use crate::pack::{KIND_DATA, KIND_LIST};
use crate::repo::Repository;
use crate::repo::rescue::Rescue;
use crate::snapshot::{Extra, ItemContent, SnapshotItem};
use crate::storage::FailedRead;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// Rebuilds the indexes of all snapshots that have lost chunks, each once.
pub(super) fn rebuild_lost(work: &mut Work<'_>, inventory: &mut Inventory) -> Result<()> {
    let repo = work.repo;
    let manifests = repo.storage().list(layout::SNAPSHOTS)?;
    // in this order: everything that a snapshot needs was published before its manifest
    repo.refresh_index()?;
    if repo
        .index()
        .check_read()
        .is_err_and(|error| error.unreadable().is_some())
    {
        // that segment may name what the others do not
        return Ok(());
    }
    let mut finder = LossFinder::new(repo);
    let mut tried = HashSet::new();
    let mut stored = HashSet::new();
    let mut rescue = None;
    for file in manifests {
        work.advance(0)?;
        let Some(snapshot) = read_manifest(work, &file.key)? else {
            continue;
        };
        for item in &snapshot.items {
            let Some(extra) = item.extra_of(KIND) else { continue };
            let is_lost = finder.is_extra_lost(extra)?;
            // what cannot be read is not lost; the last step reports it
            if finder.unreadable.take().is_some() || !is_lost || !tried.insert((extra.root, root_of(item))) {
                continue;
            }
            let Some(made) = make(work, item, extra)? else { continue };
            let rescue = match &mut rescue {
                Some(rescue) => rescue,
                none => none.insert(Rescue::start(repo)?),
            };
            for (id, (kind, bytes)) in made {
                if !finder.is_there(&id)? && stored.insert(id) {
                    rescue.add(&id, kind, &bytes)?;
                }
            }
            work.report.member_indexes_rebuilt += 1;
        }
    }
    if let Some(rescue) = rescue {
        for (pack, len) in rescue.finish()? {
            inventory.add_good(pack, len);
        }
    }
    Ok(())
}

/// What the bytes of an item are told by: equal items have equal headers.
fn root_of(item: &SnapshotItem) -> Option<ChunkId> {
    match &item.content {
        ItemContent::List { root, .. } => Some(*root),
        ItemContent::Inline(chunks) => chunks.first().map(|(id, _)| *id),
    }
}

/// The chunks and nodes of an index, by their ids.
type Made = HashMap<ChunkId, (u8, Vec<u8>)>;

/// Makes an index of the headers; `None` when it is not the one that is lost, or the headers are
/// lost too.
fn make(work: &Work<'_>, item: &SnapshotItem, extra: &Extra) -> Result<Option<Made>> {
    let repo = work.repo;
    let kept = Kept {
        repo,
        made: RefCell::default(),
    };
    let mut writer = ExtraWriter::new(&kept, repo.config().chunking.max);
    match pages_of_headers(repo, item, work.monitor, &mut |page| writer.push(page)) {
        Ok(Outcome::Written { .. }) => {}
        Ok(Outcome::None(_)) => return Ok(None),
        // a list of wrong content counts as lost
        Err(error) if error.is_loss_of_chunks() || matches!(error, Error::Internal { .. }) => return Ok(None),
        Err(error) => match error.unreadable() {
            // the last step reports it
            Some(source) if source.kind.is_erasure() => return Ok(None),
            _ => return Err(error),
        },
    }
    let is_same = writer.finish(KIND)? == *extra;
    Ok(is_same.then(|| kept.made.into_inner()))
}

/// Keeps what an extra consists of.
struct Kept<'a> {
    repo: &'a Repository,
    made: RefCell<Made>,
}

impl Kept<'_> {
    fn keep(&self, kind: u8, bytes: &[u8]) -> ChunkId {
        let id = self.repo.seal().chunk_id(kind, bytes);
        self.made.borrow_mut().insert(id, (kind, bytes.to_vec()));
        id
    }
}

impl ExtraStore for Kept<'_> {
    fn put_chunks(&self, chunks: &[&[u8]]) -> Result<Vec<ChunkId>> {
        Ok(chunks.iter().map(|chunk| self.keep(KIND_DATA, chunk)).collect())
    }

    fn put_node(&self, node: &[u8]) -> Result<ChunkId> {
        Ok(self.keep(KIND_LIST, node))
    }
}
