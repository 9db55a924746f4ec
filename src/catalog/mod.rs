//! The contents of a repository and their state: the queries that prune, verify, repair, reindex
//! and stats share.
//!
//! **The order of listings.** Other processes write while an operation lists, so an operation that
//! decides what to delete lists in this order (`ops/prune/survey.rs`): records, packs, leases, kill
//! lists, snapshots, and the index last. Then a session that wrote a listed pack and holds no lease
//! has either put its manifest before the snapshots were listed, or never will; a pack that a
//! listed snapshot needs was put before the index was read, so the index that is read last names
//! it; and a record that is put later belongs to a snapshot that was still listed. A listing in
//! another order mistakes a session that ends in between for one that was abandoned.
//! Verify, which deletes nothing, lists in another order and rechecks what it misses
//! (`ops/verify/recheck.rs`).
//!
//! - [`snapshots`]: the manifests.
//! - [`copies`]: the copies of manifests in packs.
//! - [`entries`]: the entries of the index, and the one rule for segments that are damaged or
//!   cannot be read.
//! - [`marks`]: the entries that snapshots need, by a walk of their list trees.
//! - [`needed`]: the packs in kill lists that snapshots need.

pub mod copies;
pub mod entries;
mod entry_sum;
pub mod marks;
pub mod needed;
pub mod snapshots;

pub use entry_sum::EntrySum;
