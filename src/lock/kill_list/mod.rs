//! Kill lists: the packs that a prune has condemned, until every trace of them is gone (`docs/format.md` §11.1).
//!
//! A pack is condemned first and deleted after, and its list goes last. So a writer that wants to
//! rely on a pack loads the kill lists **before** it checks whether the pack exists, both under the
//! shared commit lock: a list that vanished in between has no pack left to point at. A *hint*
//! condemns nothing; it names packs that new snapshots should not reuse, because a later prune will
//! sweep them once the sessions it names have ended.
//!
//! In an encrypted repository a list is *proven* by a MAC. One without a valid MAC condemns
//! nothing: a file that anyone could have put there must not decide what is deleted. Writers avoid
//! its packs all the same, since an older version, whose lists have no MAC, may be deleting them.
//!
//! Deciding what to condemn, which of the packs in a list that was found are still needed, and
//! finishing it, is left to prune.

mod all;
mod format;
#[cfg(test)]
mod tests;

pub use all::KillLists;
pub use format::{FoundList, KillList, KillListId, ListSeal, MAX_KILL_LIST_LEN, Proof};
