//! Loss models: the changes that a power cut may lose, and the disk that each model leaves.
//!
//! An image always has everything that was flushed. The [`LossModel`] decides the rest: which
//! pending changes of names survive, and which unflushed bytes. A change that needs a lost one (the
//! rename of a file whose creation is lost) has no effect. Everything in the new disk is hard.

use super::disk::{Change, Disk, FileNode, FolderNode, NameOp, Names, Node, NodeId, TOP};
use crate::entropy::{Entropy, SeededEntropy, random};
use std::collections::HashMap;
use std::sync::Arc;

/// A byte that represents the old content of a reused block.
const STALE: u8 = 0x5a;

/// How the last unflushed write of each file is torn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tear {
    /// Only whole sectors of 512 bytes survive, and not all of the write.
    Sector,
    /// Only whole pages of 4096 bytes survive, and not all of the write.
    Page,
    /// A number of bytes chosen by the seed survives, and not all of the write.
    Byte(u64),
}

/// Decides which part of the unflushed state survives. Numbers in brackets are those of the crash
/// model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LossModel {
    /// Nothing that was not flushed (A0).
    NothingUnsynced,
    /// Everything, as after a kill of the process (A1).
    Everything,
    /// All names; unflushed bytes are lost and files are shorter (A2).
    NamesButNoData,
    /// All names and lengths; unflushed bytes are zero (A3).
    NamesAndZeros,
    /// All bytes, but no unflushed name (A4).
    DataButNoNames,
    /// All names; the last write of each unflushed file is torn (A5).
    TornLastWrite(Tear),
    /// All names and lengths; the second half of the unflushed bytes is zero (A6).
    TailZeros,
    /// All names and lengths; the second half of the unflushed bytes is the old content of the
    /// blocks (A6).
    TailStale,
    /// Everything but one pending change of names (A7).
    EachPendingNameOpLost(usize),
    /// One pending change of names with those that it needs, and flushed bytes only (A8).
    EachPendingNameOpKept(usize),
    /// The first changes of names, as with an ordered journal, and all bytes (A9).
    PrefixOfNameOps(usize),
    /// Removed names are removed; added names are missing (A10).
    UnlinksButNoLinks,
    /// Everything but new folders and their content (A11).
    NewFoldersLost,
    /// Any subset of the changes of names, and any state of each unflushed file (A12).
    RandomSubset(u64),
}

/// The loss of the unflushed bytes of one file.
#[derive(Clone, Copy)]
enum DataLoss {
    Lost,
    Kept,
    Zeros,
    Torn(Tear),
    Tail(u8),
}

/// Returns the models that can make a difference to `disk`, each once, with `random` random ones if
/// anything is pending.
pub(super) fn models(disk: &Disk, random: usize) -> Vec<LossModel> {
    let soft_data = disk
        .nodes
        .iter()
        .any(|node| matches!(node, Node::File(file) if !file.is_hard()));
    let names = disk.pending.len();
    let mut models = vec![LossModel::Everything];
    if soft_data || names > 0 {
        models.push(LossModel::NothingUnsynced);
    }
    if soft_data {
        let tears = [Tear::Sector, Tear::Page, Tear::Byte(names as u64)];
        models.extend([LossModel::NamesAndZeros, LossModel::TailZeros, LossModel::TailStale]);
        models.extend(tears.map(LossModel::TornLastWrite));
    }
    if soft_data && names > 0 {
        models.extend([LossModel::NamesButNoData, LossModel::DataButNoNames]);
    }
    if names > 1 {
        models.extend((0..names).map(LossModel::EachPendingNameOpLost));
        models.extend((0..names).map(LossModel::EachPendingNameOpKept));
        models.extend((1..names).map(LossModel::PrefixOfNameOps));
        let unlinks = disk
            .pending
            .iter()
            .filter(|op| matches!(op.change, Change::Unlink { .. }))
            .count();
        if unlinks > 0 && unlinks < names {
            models.push(LossModel::UnlinksButNoLinks);
        }
        if disk.pending.iter().any(NameOp::makes_folder) {
            models.push(LossModel::NewFoldersLost);
        }
    }
    if soft_data || names > 1 {
        models.extend((0..random as u64).map(LossModel::RandomSubset));
    }
    models
}

/// Builds the disk that `model` leaves of `disk`.
pub(super) fn image(disk: &Disk, model: &LossModel) -> Disk {
    let keep = kept_ops(disk, model);
    let mut changed: HashMap<NodeId, Names> = HashMap::new();
    for (op, _) in disk.pending.iter().zip(&keep).filter(|(_, keep)| **keep) {
        if let Ok(folder) = disk.folder(op.folder) {
            op.apply(changed.entry(op.folder).or_insert_with(|| (*folder.hard).clone()));
        }
    }
    let mut image = Disk::new();
    copy_folder(disk, &changed, model, (TOP, TOP), &mut image);
    image.free = disk.free;
    image
}

/// Copies everything below folder `from` of `disk` into folder `to` of `image`.
fn copy_folder(
    disk: &Disk,
    changed: &HashMap<NodeId, Names>,
    model: &LossModel,
    (from, to): (NodeId, NodeId),
    image: &mut Disk,
) {
    let Ok(folder) = disk.folder(from) else { return };
    let names = changed.get(&from).unwrap_or(&folder.hard);
    let mut copied = Names::new();
    for (name, id) in names {
        let new_id = image.nodes.len();
        match &disk.nodes[*id] {
            Node::File(file) => image.nodes.push(Node::File(surviving(file, *id, model))),
            Node::Folder(_) => {
                image.nodes.push(Node::Folder(FolderNode::default()));
                copy_folder(disk, changed, model, (*id, new_id), image);
            }
        }
        copied.insert(name.clone(), new_id);
    }
    let names = Arc::new(copied);
    image.nodes[to] = Node::Folder(FolderNode {
        live: names.clone(),
        hard: names,
    });
}

/// Returns for each pending change of names whether it survives.
fn kept_ops(disk: &Disk, model: &LossModel) -> Vec<bool> {
    let pending = &disk.pending;
    let each = |keep: &dyn Fn(usize, &NameOp) -> bool| pending.iter().enumerate().map(|(i, op)| keep(i, op)).collect();
    match *model {
        LossModel::NothingUnsynced | LossModel::DataButNoNames => vec![false; pending.len()],
        LossModel::Everything
        | LossModel::NamesButNoData
        | LossModel::NamesAndZeros
        | LossModel::TornLastWrite(_)
        | LossModel::TailZeros
        | LossModel::TailStale => vec![true; pending.len()],
        LossModel::EachPendingNameOpLost(lost) => each(&|i, _| i != lost),
        LossModel::EachPendingNameOpKept(kept) => with_causes(pending, vec![kept]),
        LossModel::PrefixOfNameOps(len) => each(&|i, _| i < len),
        LossModel::UnlinksButNoLinks => each(&|_, op| matches!(op.change, Change::Unlink { .. })),
        LossModel::NewFoldersLost => each(&|_, op| !op.makes_folder()),
        LossModel::RandomSubset(seed) => {
            // a quarter, half or three quarters of them; with every other seed also those that they
            // need
            let quarters = 1 + seed % 3;
            let chosen = (0..pending.len()).filter(|i| dice(seed, *i as u64) % 4 < quarters);
            match seed % 2 {
                0 => with_causes(pending, chosen.collect()),
                _ => {
                    let mut keep = vec![false; pending.len()];
                    chosen.for_each(|i| keep[i] = true);
                    keep
                }
            }
        }
    }
}

/// Marks `chosen` and the earlier changes that they need: those that gave the same node a name in
/// that folder, and those that created the folder.
fn with_causes(pending: &[NameOp], mut chosen: Vec<usize>) -> Vec<bool> {
    let mut keep = vec![false; pending.len()];
    while let Some(at) = chosen.pop() {
        let Some(op) = pending.get(at) else { continue };
        if std::mem::replace(&mut keep[at], true) {
            continue;
        }
        let causes = |earlier: &NameOp| {
            (earlier.node == op.node && earlier.folder == op.folder)
                || (earlier.node == op.folder && earlier.makes_folder())
        };
        chosen.extend((0..at).filter(|i| causes(&pending[*i])));
    }
    keep
}

impl NameOp {
    fn makes_folder(&self) -> bool {
        matches!(self.change, Change::Link { new_folder: true, .. })
    }
}

/// Returns what is left of a file.
fn surviving(file: &FileNode, id: NodeId, model: &LossModel) -> FileNode {
    if file.is_hard() {
        return FileNode::hard(file.data.clone());
    }
    let loss = match *model {
        LossModel::NothingUnsynced | LossModel::NamesButNoData | LossModel::EachPendingNameOpKept(_) => DataLoss::Lost,
        LossModel::NamesAndZeros => DataLoss::Zeros,
        LossModel::TornLastWrite(tear) => DataLoss::Torn(tear),
        LossModel::TailZeros => DataLoss::Tail(0),
        LossModel::TailStale => DataLoss::Tail(STALE),
        LossModel::RandomSubset(seed) => {
            let dice = dice(!seed, id as u64);
            let losses = [
                DataLoss::Lost,
                DataLoss::Kept,
                DataLoss::Zeros,
                DataLoss::Torn(Tear::Byte(dice >> 8)),
                DataLoss::Tail(0),
                DataLoss::Tail(STALE),
            ];
            losses[(dice % losses.len() as u64) as usize]
        }
        _ => DataLoss::Kept,
    };
    FileNode::hard(loss.of(file))
}

impl DataLoss {
    fn of(self, file: &FileNode) -> Arc<Vec<u8>> {
        let (len, hard_len) = (file.data.len(), file.hard_len);
        let overwritten = |from: usize, byte: u8| {
            let mut bytes = file.data[..from].to_vec();
            bytes.resize(len, byte);
            Arc::new(bytes)
        };
        match self {
            Self::Kept => file.data.clone(),
            Self::Lost => Arc::new(file.data[..hard_len].to_vec()),
            Self::Zeros => overwritten(hard_len, 0),
            Self::Tail(byte) => overwritten(hard_len + (len - hard_len) / 2, byte),
            Self::Torn(tear) => {
                let start = file.writes.last().copied().unwrap_or(hard_len);
                Arc::new(file.data[..start + tear.keeps(len - start)].to_vec())
            }
        }
    }
}

impl Tear {
    /// Returns how many bytes of a write of `len` bytes survive: always fewer than all.
    fn keeps(self, len: usize) -> usize {
        let last = len.saturating_sub(1);
        match self {
            Self::Sector => last - last % 512,
            Self::Page => last - last % 4096,
            Self::Byte(seed) => (dice(seed, len as u64) % len.max(1) as u64) as usize,
        }
    }
}

/// Returns a reproducible random number.
fn dice(seed: u64, n: u64) -> u64 {
    let source = SeededEntropy::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ n.rotate_left(32));
    random(&source as &dyn Entropy)
        .map(u64::from_le_bytes)
        .unwrap_or_default()
}
