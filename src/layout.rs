//! Every path and file name inside a repository. Nothing here knows what the files hold.

use crate::id::{GroupId, KeyId, PackId, SegmentId, SnapshotId};

/// The repository's settings.
pub const CONFIG: &str = "config.json";
/// Packs and their `.idx` files.
pub const DATA: &str = "packs/data";
/// Parity files.
pub const PARITY: &str = "packs/parity";
/// Second copies of the key files.
pub const KEY_COPIES: &str = "packs/parity/keys";
/// Records of forgotten snapshots, so that a repair does not bring them back.
pub const RECORDS: &str = "packs/parity/records";
/// Snapshot manifests.
pub const SNAPSHOTS: &str = "snapshots";
/// Segments of the global index.
pub const INDEX: &str = "index";
/// Kill lists.
pub const MARKS: &str = "index/marks";
/// Key files.
pub const KEYS: &str = "keys";
/// Lock files and leases.
pub const LOCKS: &str = "locks";
/// What a repair moved out of the way.
pub const QUARANTINE: &str = "quarantine";
/// Locked for milliseconds around a commit (shared) and a prune's decision (exclusive).
pub const COMMIT_LOCK: &str = "locks/commit";
/// Held by whoever supersedes or deletes.
pub const MAINT_LOCK: &str = "locks/maint";

/// Space that a prune, a forget or a repair may use when the disk is full.
pub const RESERVE: &str = "reserve";
/// Empty files next to [`RESERVE`], each of which reserves an inode.
pub const RESERVE_FILES: u8 = 7;

/// All folders, parents first.
pub const FOLDERS: [&str; 11] = [
    "packs", DATA, PARITY, KEY_COPIES, RECORDS, SNAPSHOTS, INDEX, MARKS, KEYS, LOCKS, QUARANTINE,
];

/// The file of a pack.
pub fn pack(id: &PackId) -> String {
    format!("{DATA}/{id}.pack")
}

/// The pack index beside a pack.
pub fn pack_index(id: &PackId) -> String {
    format!("{DATA}/{id}.idx")
}

/// The manifest of a snapshot.
pub fn snapshot(id: &SnapshotId) -> String {
    format!("{SNAPSHOTS}/{id}.json")
}

/// A segment of the global index.
pub fn segment(id: &SegmentId) -> String {
    format!("{INDEX}/{id}.seg")
}

/// A key file.
pub fn key(id: &KeyId) -> String {
    format!("{KEYS}/{id}.json")
}

/// The second copy of a key file.
pub fn key_copy(id: &KeyId) -> String {
    format!("{KEY_COPIES}/{id}.json")
}

/// The group file of a parity group.
pub fn group(id: &GroupId) -> String {
    format!("{PARITY}/{id}.grp")
}

/// The file of one shard of a parity group.
pub fn shard(id: &GroupId, shard: u8) -> String {
    format!("{PARITY}/{id}.{shard}.par")
}

/// The lease of a session.
pub fn lease(session: &SnapshotId) -> String {
    format!("{LOCKS}/{session}.json")
}

/// The record that a snapshot was forgotten, or given up after its copy was written.
pub fn forgot_record(id: &SnapshotId) -> String {
    format!("{RECORDS}/{id}.forgot")
}

/// One of the [`RESERVE_FILES`] empty files of the reserve, numbered from 1.
pub fn reserve_file(number: u8) -> String {
    format!("{RESERVE}-{number}")
}

/// Whether a key names a file of the reserve.
pub fn is_reserve(key: &str) -> bool {
    key == RESERVE || (1..=RESERVE_FILES).any(|number| key == reserve_file(number))
}

/// The id in a key such as `packs/data/<hex>.pack`: its file name must be exactly `<hex><suffix>`.
pub fn id_of<const N: usize>(key: &str, suffix: &str) -> Option<[u8; N]> {
    let name = key.rsplit('/').next()?;
    crate::id::from_hex(name.strip_suffix(suffix)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_back_from_names_and_foreign_names_are_not() {
        let id = PackId([7; 32]);
        assert_eq!(id_of(&pack(&id), ".pack"), Some(id.0));
        for foreign in [
            "packs/data/.tmp-1",
            "packs/data/x.pack",
            "packs/data/a (conflicted copy).pack",
            "",
        ] {
            assert_eq!(id_of::<32>(foreign, ".pack"), None);
        }
    }
}
