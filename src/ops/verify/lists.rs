//! Follows every snapshot to its chunks: checks that they can be found, and determines what damage
//! affects.
//!
//! At `quick` and `standard` the roots of the items (their inlined chunks, or the top of their
//! list) are looked up. At `full` every list node is read and compared with its parent's sums, and
//! every chunk in it is looked up. When chunks are lost, the lists are walked at any level, to
//! determine the affected items. A node that several items share is read once.

use super::hits::{Damage, Walked};
use super::manifests::{Manifests, reload};
use super::packs::Packs;
use super::{Problem, Run, UNREADABLE, VerifyLevel};
use crate::catalog::snapshots::to_load;
use crate::error::{Error, Result};
use crate::id::{ChunkId, SnapshotId};
use crate::layout;
use crate::members;
use crate::ops::files::index_fault;
use crate::pack::{ChunkLocation, KIND_DATA, KIND_LIST};
use crate::repo::read::{ReadScratch, get_node};
use crate::snapshot::list::{Node, decode_node};
use crate::snapshot::{ItemContent, ListWalker, Snapshot, SnapshotItem};
use crate::storage::FailedRead;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Reported for a chunk that the index knows with another length.
const WRONG_LENGTH: &str = "the length of a chunk differs from its length in the index";
/// Damage numbers that are collected before duplicates are removed.
const MAX_UNSORTED: usize = 1 << 18;

/// Bytes of tars that are always compared with their indexes.
const LEAST_HEADERS: u64 = 1 << 30;

/// Result of visiting a node.
#[derive(Clone)]
struct Visited {
    level: u8,
    size: u64,
    chunks: u64,
    hits: Walked,
    /// Errors below it other than lost chunks.
    broken: Option<&'static str>,
}

/// The values that a parent (or an item) records for a node.
struct Expected {
    id: ChunkId,
    level: u8,
    size: u64,
    chunks: u64,
}

struct Walk<'r, 'a> {
    run: &'r mut Run<'a>,
    packs: &'r Packs,
    damage: &'r mut Damage,
    nodes: HashMap<ChunkId, Visited>,
    /// Roots of items and of their member indexes that were compared.
    indexes: HashSet<(ChunkId, ChunkId)>,
    /// Bytes of tars that may still be read to compare them with their indexes: in total as many as
    /// all packs have, or [`LEAST_HEADERS`].
    headers_left: u64,
    scratch: ReadScratch,
    /// Look up every chunk, not only roots.
    full: bool,
    clean: Walked,
}

pub(super) fn check(run: &mut Run<'_>, packs: &Packs, manifests: &Manifests, damage: &mut Damage) -> Result<()> {
    let full = run.options.level == VerifyLevel::Full;
    let headers_left = run.progress.total_bytes.max(LEAST_HEADERS);
    let mut walk = Walk {
        headers_left,
        run,
        packs,
        damage,
        nodes: HashMap::new(),
        indexes: HashSet::new(),
        scratch: ReadScratch::default(),
        full,
        clean: Walked::default(),
    };
    let repo = walk.run.repo;
    for id in to_load(repo, &manifests.good) {
        walk.run.check_running()?;
        if let Some(snapshot) = reload(walk.run, id) {
            walk.snapshot(&snapshot)?;
        }
    }
    Ok(())
}

impl Walk<'_, '_> {
    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<()> {
        for item in snapshot.lists() {
            self.run.check_running()?;
            let (hits, broken) = self.item(&item)?;
            self.damage.hit(&hits, snapshot.id, &item.name);
            if let Some(reason) = broken {
                self.found_broken(snapshot.id, &item, reason);
            }
        }
        self.indexes(snapshot)
    }

    /// Checks member indexes, and compares them with their tars, each pair once.
    fn indexes(&mut self, snapshot: &Snapshot) -> Result<()> {
        if !self.full || !self.damage.is_empty() {
            return Ok(());
        }
        for (number, item) in snapshot.items.iter().enumerate() {
            let Some(extra) = item.extra_of(members::KIND) else {
                continue;
            };
            // a short item without a list is read in no time, also if it is in many snapshots
            if let ItemContent::List { root, .. } = &item.content
                && !self.indexes.insert((*root, extra.root))
            {
                continue;
            }
            // comparing them all could read the same data once for each snapshot
            let headers = self.run.options.subset.is_none() && item.size <= self.headers_left;
            if headers {
                self.headers_left -= item.size;
            }
            match index_fault(self.run.repo, snapshot, number, headers, self.run.monitor) {
                Ok(None) => {}
                Ok(Some(reason)) => {
                    self.found_broken(snapshot.id, item, &format!("its member index is wrong: {reason}"))
                }
                Err(error @ (Error::Closed | Error::Cancelled)) => return Err(error),
                // the damage is that of a chunk, and reported as such
                Err(error) => drop(self.run.noted(Err::<(), _>(error))),
            }
        }
        Ok(())
    }

    fn found_broken(&mut self, snapshot: SnapshotId, item: &SnapshotItem, reason: &str) {
        let path = layout::snapshot(&snapshot);
        if self.run.is_there(&path) {
            self.run.found(Problem {
                path: Some(path),
                text: format!("The list of item {:?} of snapshot {snapshot}: {reason}", item.name),
                snapshots: vec![snapshot],
                items: vec![(snapshot, item.name.clone())],
                ..Problem::new("ERR_MANIFEST_CORRUPT")
            });
        }
    }

    fn item(&mut self, item: &SnapshotItem) -> Result<(Walked, Option<&'static str>)> {
        // this checks the sums of inlined chunks, and the depth
        if ListWalker::new(item, 0).is_err() {
            return Ok((
                Walked::default(),
                Some("the size and chunk count do not match the chunks"),
            ));
        }
        match &item.content {
            ItemContent::Inline(chunks) => self.chunks(chunks, true),
            ItemContent::List { root, level } => {
                let expected = Expected {
                    id: *root,
                    level: *level,
                    size: item.size,
                    chunks: item.chunk_count,
                };
                if self.full || !self.damage.is_empty() {
                    let visited = self.visit(&expected)?;
                    return Ok((visited.hits, visited.broken));
                }
                let mut root = vec![(*root, None)];
                self.keep_missing(&mut root, KIND_LIST)?;
                Ok(match root.first() {
                    None => (Arc::clone(&self.clean), None),
                    Some((root, _)) => (self.miss(root), None),
                })
            }
        }
    }

    /// Checks the chunks of a leaf or of an inline list.
    fn chunks(&mut self, chunks: &[(ChunkId, u32)], root: bool) -> Result<(Walked, Option<&'static str>)> {
        let mut hits: Vec<u32> = Vec::new();
        let mut broken = None;
        let mut unknown: Vec<(ChunkId, Option<u32>)> = Vec::new();
        for (number, (id, raw_len)) in chunks.iter().enumerate() {
            if number % 256 == 0 {
                self.run.check_running()?;
            }
            let lost = self.damage.of(id);
            if !lost.is_empty() {
                hits.extend_from_slice(lost);
                continue;
            }
            if !(self.full || root) {
                continue;
            }
            match self.look_up(id, KIND_DATA, Some(*raw_len))? {
                Some(true) => {}
                Some(false) => broken = Some(WRONG_LENGTH),
                None => unknown.push((*id, Some(*raw_len))),
            }
        }
        if self.keep_missing(&mut unknown, KIND_DATA)? {
            broken = Some(WRONG_LENGTH);
        }
        for (number, (id, _)) in unknown.iter().enumerate() {
            if number % 256 == 0 {
                self.run.check_running()?;
            }
            hits.extend_from_slice(&self.miss(id));
        }
        Ok((self.sorted(hits), broken))
    }

    /// Visits a node and everything below it, once.
    fn visit(&mut self, expected: &Expected) -> Result<Visited> {
        if let Some(visited) = self.nodes.get(&expected.id) {
            let mut visited = visited.clone();
            if (visited.level, visited.size, visited.chunks) != (expected.level, expected.size, expected.chunks) {
                visited.broken = Some("a list node differs from its parent's record of it");
            }
            return Ok(visited);
        }
        self.run.check_running()?;
        let mut hits: Vec<u32> = self.damage.of(&expected.id).to_vec();
        // read through parity if necessary, so that the nodes below are known
        let bytes = match get_node(self.run.repo, &expected.id, &mut self.scratch) {
            Ok(bytes) => bytes,
            Err(error @ (Error::Closed | Error::Cancelled)) => return Err(error),
            Err(error) => {
                let error = self.run.noted(Err::<(), _>(error)).err();
                if let Some(error) = error.filter(|_| hits.is_empty()) {
                    let code = error.unreadable().map_or(error.code(), |_| UNREADABLE);
                    let number = self.damage.add_missing_chunk(expected.id, error.to_string(), code);
                    hits.push(number);
                }
                let hits = self.sorted(hits);
                return Ok(self.remember(expected, hits, None));
            }
        };
        let node = match decode_node(&bytes, expected.level) {
            Ok(node) if node.level() == expected.level => node,
            _ => {
                let hits = self.sorted(hits);
                return Ok(self.remember(expected, hits, Some("a list node is malformed")));
            }
        };
        let sums_fit = node.size() == expected.size && node.chunk_count() == expected.chunks;
        let mut broken =
            (!sums_fit).then_some("the size or chunk count of a list node differs from its parent's record");
        match node {
            Node::Leaf(chunks) => {
                let (below, reason) = self.chunks(&chunks, false)?;
                hits.extend_from_slice(&below);
                broken = broken.or(reason);
            }
            Node::Inner { level, entries } => {
                let (mut counted, mut most) = (HashSet::new(), MAX_UNSORTED);
                for entry in entries {
                    let visited = self.visit(&Expected {
                        id: entry.id,
                        level: level - 1,
                        size: entry.size,
                        chunks: u64::from(entry.chunk_count),
                    })?;
                    // the same node may occur here thousands of times
                    if !visited.hits.is_empty() && counted.insert(entry.id) {
                        hits.extend_from_slice(&visited.hits);
                    }
                    if hits.len() > most {
                        hits.sort_unstable();
                        hits.dedup();
                        most = MAX_UNSORTED.max(hits.len() * 2);
                    }
                    broken = broken.or(visited.broken);
                }
            }
        }
        let hits = self.sorted(hits);
        Ok(self.remember(expected, hits, broken))
    }

    fn remember(&mut self, expected: &Expected, hits: Walked, broken: Option<&'static str>) -> Visited {
        let visited = Visited {
            level: expected.level,
            size: expected.size,
            chunks: expected.chunks,
            hits,
            broken,
        };
        self.nodes.insert(expected.id, visited.clone());
        visited
    }

    fn sorted(&self, mut hits: Vec<u32>) -> Walked {
        if hits.is_empty() {
            return Arc::clone(&self.clean);
        }
        hits.sort_unstable();
        hits.dedup();
        Arc::new(hits)
    }

    /// Records a chunk that cannot be found as damage.
    fn miss(&mut self, id: &ChunkId) -> Walked {
        let known = self.damage.of(id).to_vec();
        if !known.is_empty() {
            return self.sorted(known);
        }
        let error = Error::ChunkMissing { chunk: *id };
        let number = self.damage.add_missing_chunk(*id, error.to_string(), error.code());
        self.sorted(vec![number])
    }

    /// Whether the chunk is known to be in a pack that exists, and if so, whether it has that
    /// length there.
    fn look_up(&mut self, id: &ChunkId, kind: u8, raw_len: Option<u32>) -> Result<Option<bool>> {
        let locations = match self.run.noted(self.run.repo.locate(id)) {
            Ok(locations) => locations,
            Err(error @ (Error::Closed | Error::Cancelled)) => return Err(error),
            // a failed lookup does not make it missing
            Err(error) if error.unreadable().is_some() => return Ok(Some(true)),
            Err(_) => Vec::new(),
        };
        let usable =
            |location: &&ChunkLocation| location.entry.kind == kind && self.packs.exists(self.run, &location.pack);
        let mut usable = locations.iter().filter(usable).peekable();
        Ok(usable
            .peek()
            .is_some()
            .then(|| raw_len.is_none_or(|len| usable.any(|location| location.entry.raw_len == len))))
    }

    /// Looks up chunks that were not found once more, and keeps those that are still missing: a
    /// prune or a merge may have moved them, or the index has lost them and the packs still list
    /// them. All are looked up together, because each refresh lists folders. Returns true when one
    /// was found with another length.
    fn keep_missing(&mut self, unknown: &mut Vec<(ChunkId, Option<u32>)>, kind: u8) -> Result<bool> {
        let (mut wrong_length, mut unread) = (false, false);
        for round in 0..3 {
            let mut still = Vec::new();
            for (number, (id, raw_len)) in unknown.drain(..).enumerate() {
                if number % 256 == 0 {
                    self.run.check_running()?;
                }
                match self.look_up(&id, kind, raw_len)? {
                    Some(fits) => wrong_length |= !fits,
                    None => still.push((id, raw_len)),
                }
            }
            *unknown = still;
            if unknown.is_empty() {
                break;
            }
            let refreshed = match round {
                0 => self.run.repo.refresh_index().map(|()| None),
                1 => self.run.repo.index_unnamed_packs(),
                _ => Ok(None),
            };
            let failed = match self.run.noted(refreshed) {
                Ok(failed) => failed,
                Err(error) => error.unreadable().is_some().then_some(error),
            };
            if let Some(error) = failed {
                let _ = self.run.noted(Err::<(), _>(error));
                unread = true;
            }
        }
        let _ = self
            .run
            .noted(self.run.repo.index().check_read())
            .inspect_err(|_| unread = true);
        if unread {
            // they may be in the part that could not be read
            unknown.clear();
        }
        Ok(wrong_length)
    }
}
