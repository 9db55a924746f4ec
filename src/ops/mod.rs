//! The operations of a repository, one file or folder each: free functions over
//! [`Repository`](crate::repo::Repository) that read as recipes. They define the order of steps,
//! and contain no file names, byte offsets or ciphers.

pub mod copy;
pub mod files;
pub mod forget;
pub mod ingest;
pub mod keys;
pub mod mirror;
pub mod prune;
pub mod reindex;
pub mod repair;
pub mod restore;
pub mod snapshots;
pub mod stats;
pub mod unlock;
pub mod verify;

pub use copy::{CopiedSnapshot, CopyOptions, CopyReport, copy_to};
pub use forget::forget;
pub use ingest::{
    CopyOf, FileRest, IngestOptions, ItemSpec, ItemStream, Outline, ReaderItems, RestState, SourceFile, TarIndex,
    ingest, ingest_lanes,
};
pub use keys::{KeyOptions, add_key, change_key, list_keys, remove_key};
pub use mirror::{MirrorOptions, MirrorReport, mirror_to};
pub use prune::{PruneOptions, PruneReport, SnapshotChoice, prune};
pub use reindex::reindex;
pub use repair::{DamagedItem, DamagedSnapshot, RepairOptions, RepairReport, repair, repair_with};
pub use restore::{Piece, RestoreOptions, RestorePlan, plan_restore, restore, restore_pieces, restore_to_file};
pub use snapshots::{get_snapshot, latest_snapshot, list_snapshots};
pub use stats::{ObjectStorageStats, ParityStats, Stats, StoredBytes, stats};
pub use unlock::{locks, unlock};
pub use verify::{Note, Problem, Subset, VerifyLevel, VerifyOptions, VerifyReport, verify};
