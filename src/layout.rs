//! Every path and file name inside a repository. The contents of the files are left to their rooms.

use crate::id::{GroupId, KeyId, PackId, SegmentId, SnapshotId};

/// The settings of the repository.
pub const CONFIG: &str = "config.json";
/// A note for people who find the folder. Init writes it; nothing reads it later.
pub const README: &str = "README.txt";
/// Packs and their `.idx` files.
pub const DATA: &str = "packs/data";
/// Parity files.
pub const PARITY: &str = "packs/parity";
/// Second copies of the key files.
pub const KEY_COPIES: &str = "packs/parity/keys";
/// Records of forgotten snapshots, so that a repair does not bring them back.
pub const RECORDS: &str = "packs/parity/records";
/// Marks of the parity groups that can grow.
pub const TAILS: &str = "packs/parity/tails";
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
/// Files that a repair has moved away.
pub const QUARANTINE: &str = "quarantine";
/// The commit lock: held for milliseconds around a commit (shared) and the decision of a prune
/// (exclusive).
pub const COMMIT_LOCK: &str = "locks/commit";
/// The maintenance lock: held by an operation that supersedes or deletes files.
pub const MAINT_LOCK: &str = "locks/maint";

/// Reserved space that a prune, a forget or a repair uses when the disk is full.
pub const RESERVE: &str = "reserve";
/// Empty files next to [`RESERVE`], each of which reserves an inode.
pub const RESERVE_FILES: u8 = 7;

/// Marks a copy that mirroring made: it is not written to.
pub const MIRROR: &str = "mirror.json";
/// The snapshots that mirroring has copied. One of the two files is there, or both while the ledger
/// is replaced.
pub const MIRROR_LEDGERS: [&str; 2] = ["mirror-1.json", "mirror-2.json"];

/// All directories, parents first.
pub const FOLDERS: [&str; 12] = [
    "packs", DATA, PARITY, KEY_COPIES, RECORDS, TAILS, SNAPSHOTS, INDEX, MARKS, KEYS, LOCKS, QUARANTINE,
];

/// The file of a pack.
pub fn pack(id: &PackId) -> String {
    format!("{DATA}/{id}.pack")
}

/// The pack index of a pack.
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

/// The mark of a parity group that can grow.
pub fn tail_mark(id: &GroupId) -> String {
    format!("{TAILS}/{id}.tail")
}

/// The lease of a session.
pub fn lease(session: &SnapshotId) -> String {
    format!("{LOCKS}/{session}.json")
}

/// The record that a snapshot was forgotten, or abandoned after its copy was written.
pub fn forgot_record(id: &SnapshotId) -> String {
    format!("{RECORDS}/{id}.forgot")
}

/// An empty file of the reserve; `number` is 1 to [`RESERVE_FILES`].
pub fn reserve_file(number: u8) -> String {
    format!("{RESERVE}-{number}")
}

/// True when the key is that of a file of the reserve.
pub fn is_reserve(key: &str) -> bool {
    key == RESERVE || (1..=RESERVE_FILES).any(|number| key == reserve_file(number))
}

/// The id in a key such as `packs/data/<hex>.pack`; `None` unless its file name is exactly
/// `<hex><suffix>`.
pub fn id_of<const N: usize>(key: &str, suffix: &str) -> Option<[u8; N]> {
    let name = key.rsplit('/').next()?;
    crate::id::from_hex(name.strip_suffix(suffix)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_parsed_from_names_and_foreign_names_are_refused() {
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
