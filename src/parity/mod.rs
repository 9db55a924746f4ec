//! Reed-Solomon parity over packs: groups, and rebuilding packs from them. Layout and code:
//! `docs/format.md` §10.
//!
//! A group protects up to `data` packs of one size class with `parity` shards. It is checked and
//! decoded in rows of 4 KiB, each with its own sum, so that several packs with damage at different
//! rows are all repaired.
//!
//! Invariants:
//! - A group is a set of immutable files under a unique id. A group that grows, shrinks or is
//!   merged is a new one that names those it supersedes.
//! - Every file of a group can be rebuilt, byte for byte, from any other one and the members.
//! - Nothing is returned as rebuilt that its sum (of a row) or its id (of a pack) does not prove.
//! - Lengths are checked before they are used.
//!
//! Packs are opaque bytes here. Who may supersede (the holder of the maintenance lock), which packs
//! exist, when files are deleted and what a repair writes is left to the caller.

mod accumulate;
pub mod code;
mod error;
pub mod format;
mod group;
mod groups;
mod rebuild;
mod shape;
mod tails;

pub use accumulate::{Accumulator, Group, can_merge, grow, merge};
pub use error::{Damage, Error, Lost, Refusal};
pub use format::{GroupHead, GroupRecord, Member};
pub use group::{PartState, check_part, publish, read_record, read_shard};
pub use groups::{Groups, Problem, part_of};
pub use rebuild::{damaged_rows, rebuild_file, rebuild_pack, rebuild_rows};
pub use shape::{MAX_DATA, MAX_PACK_LEN, MAX_PARITY, Part, ROW_LEN, Shape, new_group_id, random_slot, size_class};
pub use tails::{Tail, Tails, mark, mark_most_room};

#[cfg(test)]
mod tests;
