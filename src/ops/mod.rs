//! The verbs a user knows, one file each: free functions over [`Repository`](crate::repo::Repository) that read as
//! recipes. They know the order of steps, and neither file names, byte offsets nor ciphers.

pub mod ingest;
pub mod restore;
pub mod snapshots;

pub use ingest::{IngestOptions, ItemSpec, ItemStream, ReaderItems, ingest};
pub use restore::{RestoreOptions, RestorePlan, plan_restore, restore};
pub use snapshots::{get_snapshot, list_snapshots};
