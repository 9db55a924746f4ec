//! Parity for the packs that a session writes: folded in while they are in memory, so that no pack is read back.
//!
//! Whole groups are new groups. What is left at the end grows a tail group when the maintenance lock is free (reading its
//! old parity only), and becomes a group of its own when it is not; the next holder merges such small groups. A pack is
//! named by a published segment only after its group is, so whatever can be reused is protected.

use super::Repository;
use super::pack_sink::Written;
use crate::error::{Error, Result};
use crate::id::{GroupId, PackId};
use crate::layout;
use crate::lock::try_maint;
use crate::pack::ChunkLocation;
use crate::parity::{self, Accumulator, Groups, Part, Shape, new_group_id, random_slot, size_class};

/// A group that is being filled, and what its members hold.
struct Growing {
    accumulator: Accumulator,
    written: Written,
}

/// The open groups of one session, one for each size class.
#[derive(Default)]
pub struct Protection {
    growing: Vec<Growing>,
}

impl Protection {
    /// Folds in a pack that was just put. Its chunks appear in `written` once it is protected.
    pub fn add(
        &mut self,
        repo: &Repository,
        pack: PackId,
        bytes: &[u8],
        chunks: impl Iterator<Item = (ChunkLocation, u64)>,
        written: &mut Written,
    ) -> Result<()> {
        let Some(shape) = repo.parity_shape() else {
            written.packs.push(pack);
            written.chunks.extend(chunks);
            return Ok(());
        };
        let class = size_class(bytes.len() as u64);
        let at = match self.growing.iter().position(|group| group.accumulator.class() == class) {
            Some(at) => at,
            None => {
                let accumulator = Accumulator::new(shape, class, random_slot(repo.entropy())?);
                let accumulator = accumulator.map_err(parity::Error::Refused)?;
                self.growing.push(Growing {
                    accumulator,
                    written: Written::default(),
                });
                self.growing.len() - 1
            }
        };
        let group = &mut self.growing[at];
        group.accumulator.add(pack, bytes).map_err(parity::Error::Refused)?;
        group.written.packs.push(pack);
        group.written.chunks.extend(chunks);
        if group.accumulator.is_full() {
            let full = self.growing.swap_remove(at);
            publish(repo, full.accumulator, Vec::new())?;
            written.append(full.written);
        }
        Ok(())
    }

    /// Protects what is left: grows tail groups if nobody else maintains the repository, else makes groups of its own.
    pub fn finish(&mut self, repo: &Repository, written: &mut Written) -> Result<()> {
        if self.growing.is_empty() {
            return Ok(());
        }
        let storage = repo.storage();
        let growing = std::mem::take(&mut self.growing);
        let maint = try_maint(storage)?;
        if maint.is_none() {
            for group in growing {
                publish(repo, group.accumulator, Vec::new())?;
                written.append(group.written);
            }
            return Ok(());
        }
        let mut groups = Groups::load(storage, &repo.config().id)?;
        for mut group in growing {
            let old = absorb_tails(repo, &groups, &mut group.accumulator)?;
            let superseded = if old.is_empty() {
                Vec::new()
            } else {
                groups.superseding(&old)
            };
            let head = publish(repo, group.accumulator, superseded)?;
            groups.insert(&head);
            written.append(group.written);
        }
        delete_superseded(repo, &groups)
    }
}

impl Written {
    /// Adds what `other` has.
    pub fn append(&mut self, mut other: Self) {
        self.packs.append(&mut other.packs);
        self.chunks.append(&mut other.chunks);
    }
}

impl Repository {
    /// Shape of the parity groups, if there are any.
    pub fn parity_shape(&self) -> Option<Shape> {
        self.config().parity.map(|shape| Shape {
            data: shape.data,
            parity: shape.parity,
        })
    }
}

/// Takes the members of all tail groups that fit into `accumulator`, and says which groups they were. A tail whose parity
/// cannot be read or made again stays as it is: verify reports it.
fn absorb_tails(repo: &Repository, groups: &Groups, accumulator: &mut Accumulator) -> Result<Vec<GroupId>> {
    let storage = repo.storage();
    let mut old = Vec::new();
    for tail in groups.tails(accumulator.class(), accumulator.shape()) {
        if accumulator.members().len() + tail.members.len() > usize::from(accumulator.shape().data) {
            continue;
        }
        let resumed = parity::read_record(storage, &tail.id).and_then(|record| Accumulator::resume(storage, &record));
        match resumed {
            // refused: with several shards, two groups that use the same slots stay apart
            Ok(resumed) => {
                if accumulator.absorb(resumed).is_ok() {
                    old.push(tail.id);
                }
            }
            Err(parity::Error::Lost(_) | parity::Error::Damaged { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(old)
}

fn publish(repo: &Repository, accumulator: Accumulator, superseded: Vec<GroupId>) -> Result<parity::GroupHead> {
    let id = new_group_id(repo.entropy())?;
    let group = accumulator.finish(repo.config().id, id, superseded, repo.config_bytes().to_vec());
    let group = group.map_err(parity::Error::Refused)?;
    parity::publish(repo.storage(), &group)?;
    Ok(group.record.head)
}

/// Deletes groups that others supersede, once these are durable; oldest first. The caller holds the maintenance lock.
fn delete_superseded(repo: &Repository, groups: &Groups) -> Result<()> {
    let storage = repo.storage();
    if groups.superseded().is_empty() {
        return Ok(());
    }
    storage.barrier()?;
    let shards = repo.parity_shape().map_or(0, |shape| shape.parity);
    for id in groups.superseded() {
        for part in (0..shards).map(Part::Shard).chain([Part::Group]) {
            storage.delete(&part.key(id))?;
        }
    }
    Ok(())
}

impl From<parity::Error> for Error {
    fn from(error: parity::Error) -> Self {
        match error {
            parity::Error::Storage(error) => error.into(),
            parity::Error::NoEntropy => Self::NoEntropy,
            other => Self::Internal {
                reason: other.to_string(),
            },
        }
    }
}

/// Protects packs that lie in the folder and are in no group, as a crash leaves them. Returns those that are protected
/// now, or were before; a pack whose bytes do not have its name is left out.
pub(super) fn protect_packs(repo: &Repository, packs: Vec<PackId>) -> Result<Vec<PackId>> {
    if repo.parity_shape().is_none() || packs.is_empty() {
        return Ok(packs);
    }
    let storage = repo.storage();
    let groups = Groups::load(storage, &repo.config().id)?;
    let bare = groups.unprotected(&packs);
    let mut protection = Protection::default();
    let mut written = Written::default();
    let mut unusable = Vec::new();
    for pack in bare {
        let bytes = storage.get(&layout::pack(&pack), u64::from(u32::MAX));
        match bytes {
            Ok(bytes) if crate::crypto::sha256(&[&bytes]) == pack.0 => {
                protection.add(repo, pack, &bytes, std::iter::empty(), &mut written)?;
            }
            _ => unusable.push(pack),
        }
    }
    protection.finish(repo, &mut written)?;
    Ok(packs.into_iter().filter(|pack| !unusable.contains(pack)).collect())
}
