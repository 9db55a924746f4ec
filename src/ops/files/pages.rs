//! Reads the pages of an index: from the chunks of an extra, or from memory.

use crate::error::{Error, Result};
use crate::members;
use crate::repo::Repository;
use crate::repo::read::{ReadScratch, get_chunk, get_node};
use crate::snapshot::{ListWalker, SnapshotItem};
use std::collections::VecDeque;
use std::sync::Arc;

/// Pages that are kept: the root and those above the last leaves.
const KEPT: usize = 8;

/// An error of an index: of its bytes, or of reading them.
pub(super) enum PageError {
    Index(members::Error),
    Engine(Error),
}

impl From<members::Error> for PageError {
    fn from(error: members::Error) -> Self {
        Self::Index(error)
    }
}

impl From<Error> for PageError {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// The stream of an index.
pub(super) enum Pages {
    Stored(Box<Stored>),
    Memory(Vec<u8>),
}

/// A stream in the chunks of a list.
pub(super) struct Stored {
    repo: Arc<Repository>,
    list: SnapshotItem,
    scratch: ReadScratch,
    /// The last pages, by their positions.
    kept: VecDeque<(u64, Vec<u8>)>,
}

impl Pages {
    pub(super) fn stored(repo: &Arc<Repository>, list: SnapshotItem) -> Self {
        Self::Stored(Box::new(Stored {
            repo: Arc::clone(repo),
            list,
            scratch: ReadScratch::default(),
            kept: VecDeque::new(),
        }))
    }

    /// Length of the stream.
    pub(super) fn size(&self) -> u64 {
        match self {
            Self::Stored(stored) => stored.list.size,
            Self::Memory(stream) => stream.len() as u64,
        }
    }

    /// Reads a part of the stream; less than `len` bytes when it ends before.
    pub(super) fn fetch(&mut self, position: u64, len: usize) -> std::result::Result<Vec<u8>, PageError> {
        match self {
            Self::Memory(stream) => {
                let from = usize::try_from(position).unwrap_or(usize::MAX).min(stream.len());
                Ok(stream[from..from.saturating_add(len).min(stream.len())].to_vec())
            }
            Self::Stored(stored) => Ok(stored.fetch(position, len)?),
        }
    }
}

impl Stored {
    fn fetch(&mut self, position: u64, len: usize) -> Result<Vec<u8>> {
        if let Some((_, page)) = self.kept.iter().find(|(at, page)| *at == position && page.len() == len) {
            return Ok(page.clone());
        }
        self.repo.check_open()?;
        let page = read_range(&self.repo, &self.list, &mut self.scratch, position, len)?;
        if self.kept.len() >= KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back((position, page.clone()));
        Ok(page)
    }
}

/// Reads a range of a list of chunks.
pub(super) fn read_range(
    repo: &Repository,
    list: &SnapshotItem,
    scratch: &mut ReadScratch,
    start: u64,
    len: usize,
) -> Result<Vec<u8>> {
    let (mut walker, mut nodes) = (ListWalker::new(list, start)?, ReadScratch::default());
    let (mut out, mut chunk) = (Vec::new(), Vec::new());
    while out.len() < len {
        let Some(listed) = walker.next_chunk::<Error>(&mut |id| get_node(repo, id, &mut nodes))? else {
            break;
        };
        get_chunk(repo, &listed.id, scratch, &mut chunk)?;
        let from = usize::try_from(start.saturating_sub(listed.offset)).unwrap_or(usize::MAX);
        let wanted = chunk.get(from..).unwrap_or_default();
        out.extend_from_slice(&wanted[..wanted.len().min(len - out.len())]);
    }
    Ok(out)
}
