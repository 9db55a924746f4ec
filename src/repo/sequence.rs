//! The `sequence` of the next snapshot: 1 + the largest of those that are listed.
//!
//! It only orders snapshots of the same millisecond. So the manifests that a handle has not read
//! yet are read before it commits: all of them if the caller dates the snapshot, because other
//! snapshots may well have that time too; otherwise, if there are many, those that were put last.
//! One of these has the largest sequence, unless the folder was copied without its times. A handle
//! that commits again reads the manifests that are new since then. It keeps 16 bytes for each
//! snapshot.

use super::Repository;
use crate::id::SnapshotId;
use crate::layout;
use crate::snapshot::tombstone::is_tombstone;
use crate::snapshot::{MAX_MANIFEST_LEN, MAX_SIZE};
use crate::storage::{Ask, announced};

/// Most manifests that are read for a snapshot that is dated by the clock.
const MOST_READ: usize = 64;

/// The sequences that a handle knows.
#[derive(Default)]
pub(super) struct Sequences {
    largest: u64,
    /// Snapshots that were taken into account, sorted.
    seen: Vec<SnapshotId>,
    /// All of them were read, not only those that were put last.
    all_read: bool,
}

impl Repository {
    /// The sequence of a snapshot that is about to be committed. `is_dated`: the caller gives its
    /// time. A manifest that cannot be read is ignored: no snapshot fails for its position among
    /// others of its time. When `go_on` returns false, the result is of no use.
    pub fn next_sequence(&self, is_dated: bool, go_on: &dyn Fn() -> bool) -> u64 {
        let mut known = self.sequences.lock(self);
        if let Ok(mut listed) = self.list_manifest_files() {
            listed.sort_unstable();
            self.read_sequences(&mut known, listed, is_dated, go_on);
        }
        known.largest.saturating_add(1).min(MAX_SIZE)
    }

    /// Notes a snapshot that this handle has committed, so that its manifest need not be read.
    pub fn note_sequence(&self, id: SnapshotId, sequence: u64) {
        let mut known = self.sequences.lock(self);
        known.largest = known.largest.max(sequence);
        if let Err(at) = known.seen.binary_search(&id) {
            known.seen.insert(at, id);
        }
    }

    fn read_sequences(&self, known: &mut Sequences, listed: Vec<SnapshotId>, read_all: bool, go_on: &dyn Fn() -> bool) {
        let is_first = known.seen.is_empty();
        let reread = read_all && !known.all_read;
        let is_new = |id: &&SnapshotId| reread || known.seen.binary_search(id).is_err();
        let mut keys: Vec<String> = listed.iter().filter(is_new).map(layout::snapshot).collect();
        let too_many = keys.len() > MOST_READ && !read_all;
        if too_many {
            keys = self.storage().put_last(keys, MOST_READ);
        }
        let mut unread: Vec<SnapshotId> = Vec::new();
        let read = |key: &String| Ask::Listed {
            key: key.clone(),
            max_len: MAX_MANIFEST_LEN,
        };
        for key in announced(self.storage(), &keys, read) {
            if !go_on() {
                return;
            }
            let Some(id) = layout::id_of(key, ".json").map(SnapshotId) else {
                continue;
            };
            match self.sequence_of(&id) {
                Some(sequence) => known.largest = known.largest.max(sequence),
                None => unread.push(id),
            }
        }
        known.all_read = read_all || !too_many && (known.all_read || is_first);
        known.seen = listed;
        known.seen.retain(|id| !unread.contains(id));
    }

    fn sequence_of(&self, id: &SnapshotId) -> Option<u64> {
        let bytes = self.storage().get(&layout::snapshot(id), MAX_MANIFEST_LEN).ok()?;
        match is_tombstone(&bytes, id) {
            true => Some(0),
            false => Some(self.decode_manifest(id, &bytes).ok()?.sequence),
        }
    }
}
