//! Sizes of groups: rows, shards, size classes, and the files of a group.

use crate::entropy::{Entropy, NoEntropy, random};
use crate::id::GroupId;
use crate::layout;

/// Length of a row in bytes.
pub const ROW_LEN: usize = 4096;
/// Most packs in a group, and the number of slots of the code.
pub const MAX_DATA: u8 = 224;
/// Most shards of a group.
pub const MAX_PARITY: u8 = 32;
/// Longest pack that a group takes, in bytes.
pub const MAX_PACK_LEN: u64 = 1 << 32;

/// Number of packs in a full group, and of the shards that protect them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Packs in a full group, 1 to [`MAX_DATA`].
    pub data: u8,
    /// Shards, 1 to [`MAX_PARITY`]: as many bad rows of the same number can be rebuilt.
    pub parity: u8,
}

impl Shape {
    /// True when both numbers are in their ranges.
    pub fn is_valid(self) -> bool {
        (1..=MAX_DATA).contains(&self.data) && (1..=MAX_PARITY).contains(&self.parity)
    }
}

/// One file of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The `.grp`: the record.
    Group,
    /// The `.par` of this shard: the record twice and the shard.
    Shard(u8),
}

impl Part {
    /// The key of this part of `group`.
    pub fn key(self, group: &GroupId) -> String {
        match self {
            Self::Group => layout::group(group),
            Self::Shard(shard) => layout::shard(group, shard),
        }
    }

    /// All files of a group with `shards` shards, the `.grp` last. A group is deleted in this
    /// order, so that the rest after a crash can still be identified.
    pub fn all(shards: u8) -> impl Iterator<Item = Self> {
        (0..shards).map(Self::Shard).chain([Self::Group])
    }
}

/// The size class of a pack of `len` bytes; a group holds packs of one class (`docs/format.md`
/// §10.3).
pub fn size_class(len: u64) -> u8 {
    match len {
        0..=262_144 => 0,
        262_145..=2_097_152 => 1,
        2_097_153..=8_388_608 => 2,
        _ => 3,
    }
}

/// A random id for a new group.
pub fn new_group_id(entropy: &dyn Entropy) -> Result<GroupId, NoEntropy> {
    random(entropy).map(GroupId)
}

/// A random first slot for a new [`Accumulator`](super::Accumulator), so that groups that are made
/// independently rarely collide and can be merged.
pub fn random_slot(entropy: &dyn Entropy) -> Result<u8, NoEntropy> {
    // 8 bytes over 224 slots: the bias does not matter for a label
    let number = u64::from_le_bytes(random(entropy)?) % u64::from(MAX_DATA);
    Ok(u8::try_from(number).unwrap_or_default())
}

/// Number of rows of `len` bytes; the last may be short.
pub(super) fn rows_of(len: u64) -> u32 {
    u32::try_from(len.div_ceil(ROW_LEN as u64)).unwrap_or(u32::MAX)
}

/// Sum of one row: its XXH3-64.
pub(super) fn row_sum(row: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(row)
}
