//! Kill lists: the packs that a prune has condemned, until they, their parity and their index
//! entries are deleted (`docs/format.md` §11.1).
//!
//! A pack is condemned first and deleted after that, and its list is deleted last. So a writer that
//! is about to rely on a pack loads the kill lists **before** it checks whether the pack exists,
//! both under the shared commit lock: when a list vanished before that, its packs are deleted. A
//! *hint* condemns nothing; it names packs that new snapshots should not reuse, because a later
//! prune will delete them once the sessions that it names have ended.
//!
//! In an encrypted repository a list is *proven* by a MAC. A list without a valid MAC condemns
//! nothing: a file that anyone could have written must not decide what is deleted. Writers still
//! avoid its packs, since an older version, whose lists have no MAC, may be deleting them.
//!
//! The operations choose the packs to condemn, and finish the lists; `catalog::needed` finds the
//! packs in them that snapshots need.

mod all;
mod format;
#[cfg(test)]
mod tests;

pub use all::KillLists;
pub use format::{FoundList, KillList, KillListId, MAX_KILL_LIST_LEN};
