//! From every snapshot to its chunks: can they be found, and what does damage hit?
//!
//! At `quick` and `standard` the roots of the items (their inlined chunks, or the top of their list) are looked up. At
//! `full` every list node is read, held against its parent's sums, and every chunk in it looked up. When chunks are lost,
//! the lists are walked at any level, to see whom that hits. A node that several items share is read once.

use super::hits::Damage;
use super::manifests::{Manifests, reload};
use super::packs::Packs;
use super::{Problem, Run, VerifyLevel};
use crate::error::{Error, Result};
use crate::id::{ChunkId, SnapshotId};
use crate::layout;
use crate::pack::{ChunkLocation, KIND_DATA, KIND_LIST};
use crate::repo::read::{ReadScratch, get_node};
use crate::snapshot::list::{Node, decode_node};
use crate::snapshot::{ItemContent, ListWalker, Snapshot, SnapshotItem};
use std::collections::HashMap;
use std::sync::Arc;

/// Numbers of the damage below a node, in ascending order.
pub(super) type Walked = Arc<Vec<u32>>;

/// What is known of a node that was visited.
#[derive(Clone)]
struct Visited {
    level: u8,
    size: u64,
    chunks: u64,
    hits: Walked,
    /// What is wrong below it besides lost chunks.
    broken: Option<&'static str>,
}

/// What a parent (or an item) says of a node.
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
    scratch: ReadScratch,
    /// Look up every chunk, not only roots.
    full: bool,
    clean: Walked,
}

pub(super) fn check(run: &mut Run<'_>, packs: &Packs, manifests: &Manifests, damage: &mut Damage) -> Result<()> {
    let full = run.options.level == VerifyLevel::Full;
    let mut walk = Walk {
        run,
        packs,
        damage,
        nodes: HashMap::new(),
        scratch: ReadScratch::default(),
        full,
        clean: Walked::default(),
    };
    for id in &manifests.good {
        walk.run.check_running()?;
        if let Some(snapshot) = reload(walk.run, id) {
            walk.snapshot(&snapshot)?;
        }
    }
    Ok(())
}

impl Walk<'_, '_> {
    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<()> {
        for item in &snapshot.items {
            self.run.check_running()?;
            let (hits, broken) = self.item(item)?;
            self.damage.hit(&hits, snapshot.id, &item.name);
            if let Some(reason) = broken {
                self.found_broken(snapshot.id, item, reason);
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
        // checks the sums of inlined chunks, and the depth
        if ListWalker::new(item, 0).is_err() {
            return Ok((Walked::default(), Some("its sums do not fit")));
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
                match self.look_up(root, KIND_LIST, None)? {
                    (true, _) => Ok((Arc::clone(&self.clean), None)),
                    (false, _) => Ok((self.miss(root), None)),
                }
            }
        }
    }

    /// The chunks of a leaf or of an inline list.
    fn chunks(&mut self, chunks: &[(ChunkId, u32)], root: bool) -> Result<(Walked, Option<&'static str>)> {
        let mut hits: Vec<u32> = Vec::new();
        let mut broken = None;
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
            let (found, length_fits) = self.look_up(id, KIND_DATA, Some(*raw_len))?;
            if !found {
                hits.extend_from_slice(&self.miss(id));
            } else if !length_fits {
                broken = Some("a chunk has another length than is written there");
            }
        }
        Ok((self.sorted(hits), broken))
    }

    /// A node and everything below it, once.
    fn visit(&mut self, expected: &Expected) -> Result<Visited> {
        if let Some(visited) = self.nodes.get(&expected.id) {
            let mut visited = visited.clone();
            if (visited.level, visited.size, visited.chunks) != (expected.level, expected.size, expected.chunks) {
                visited.broken = Some("a list node is not what its parent says");
            }
            return Ok(visited);
        }
        self.run.check_running()?;
        let mut hits: Vec<u32> = self.damage.of(&expected.id).to_vec();
        // through parity, if need be: then it is known what hangs below
        let bytes = match get_node(self.run.repo, &expected.id, &mut self.scratch) {
            Ok(bytes) => bytes,
            Err(error @ (Error::Closed | Error::Cancelled)) => return Err(error),
            Err(error) => {
                if hits.is_empty() {
                    let number = self
                        .damage
                        .add_missing_chunk(expected.id, error.to_string(), error.code());
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
                return Ok(self.remember(expected, hits, Some("a list node is not one")));
            }
        };
        let sums_fit = node.size() == expected.size && node.chunk_count() == expected.chunks;
        let mut broken = (!sums_fit).then_some("the sums of a list node are not what its parent says");
        match node {
            Node::Leaf(chunks) => {
                let (below, reason) = self.chunks(&chunks, false)?;
                hits.extend_from_slice(&below);
                broken = broken.or(reason);
            }
            Node::Inner { level, entries } => {
                for entry in entries {
                    let visited = self.visit(&Expected {
                        id: entry.id,
                        level: level - 1,
                        size: entry.size,
                        chunks: u64::from(entry.chunk_count),
                    })?;
                    hits.extend_from_slice(&visited.hits);
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

    /// A chunk that cannot be found: new damage.
    fn miss(&mut self, id: &ChunkId) -> Walked {
        let known = self.damage.of(id).to_vec();
        if !known.is_empty() {
            return self.sorted(known);
        }
        let error = Error::ChunkMissing { chunk: *id };
        let number = self.damage.add_missing_chunk(*id, error.to_string(), error.code());
        self.sorted(vec![number])
    }

    /// Whether the chunk is known to be in a pack that is there, and of that length. Looks again before it says no.
    fn look_up(&mut self, id: &ChunkId, kind: u8, raw_len: Option<u32>) -> Result<(bool, bool)> {
        for round in 0..3 {
            let places = match self.run.repo.locate(id) {
                Ok(places) => places,
                Err(error @ (Error::Closed | Error::Cancelled)) => return Err(error),
                Err(_) => Vec::new(),
            };
            let usable = |place: &&ChunkLocation| place.entry.kind == kind && self.packs.exists(self.run, &place.pack);
            let usable: Vec<&ChunkLocation> = places.iter().filter(usable).collect();
            if !usable.is_empty() {
                let fits = raw_len.is_none_or(|len| usable.iter().any(|place| place.entry.raw_len == len));
                return Ok((true, fits));
            }
            // moved by a prune or a merge; or the index has lost it, and the packs know
            let _ = match round {
                0 => self.run.repo.refresh_index(),
                _ => self.run.repo.heal_index_for_read(),
            };
        }
        Ok((false, false))
    }
}
