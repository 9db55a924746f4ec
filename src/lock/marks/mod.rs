//! Marks: the packs that prunes on object storage have condemned (`docs/format.md` §11.7).
//!
//! There no lock keeps a writer away while a prune decides, so a mark is permanent: a session that
//! begins after it was put relies on none of its packs, whether they still exist or not. A session
//! that began earlier *blocks* the mark, or is revoked. Two more files belong to a mark and are put
//! after it: the sessions that block it (`.wait`), and the packs that were deleted (`.swept`).
//!
//! Writers honour every mark. A prune continues only those that are proven, as kill lists are, and
//! the index loses only the entries of packs in a proven `.swept`. The steps and their order are
//! left to the operations (`docs/invariants.md` §16).

mod all;
mod format;
#[cfg(test)]
mod tests;

pub use all::{FoundMark, Marks, marked_packs};
pub use format::{MARK_PACKS, Mark, MarkId, MarkPart};
