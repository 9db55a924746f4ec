//! Reed-Solomon parity over packs: what a group is, and what it can make again. Layout and code: `docs/format.md` §10.
//!
//! A group protects up to `data` packs of one size class with `parity` shards. It is judged and decoded in rows of 4 KiB,
//! each with its own sum, so that packs damaged at different places are all healed. What always holds: a group is a set of
//! immutable files under a unique name; one that grows, shrinks or is merged is a new one that names what it supersedes;
//! every file of a group can be made again, byte for byte, from any other one and the members; nothing is handed out as
//! rebuilt that its sum (a row) or its name (a whole pack) does not prove; lengths are checked before they are used.
//!
//! Packs are opaque bytes here. Who may supersede (the holder of the maintenance lock), which packs exist, when files are
//! deleted and what a repair writes is left to others.

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
pub use groups::{Groups, Problem};
pub use rebuild::{damaged_rows, rebuild_file, rebuild_pack, rebuild_rows};
pub use shape::{MAX_DATA, MAX_PACK_LEN, MAX_PARITY, Part, ROW_LEN, Shape, new_group_id, random_slot, size_class};
pub use tails::{Tail, TailCache, Tails};

#[cfg(test)]
mod tests;
