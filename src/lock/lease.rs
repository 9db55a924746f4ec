//! Leases: a small file for each session, locked by the kernel for the session's life
//! (`docs/format.md` §11.2).
//!
//! A lease is only a hint. A prune spares the packs of sessions whose lease is held, and users see
//! the sessions that are writing; no data is lost when a lease is missing, stale or damaged. It
//! contains no names and no tags.

use serde::{Deserialize, Serialize};

use super::error::Error;
use crate::id::SnapshotId;
use crate::storage::{ErrorKind, LockGuard, Storage};
use crate::{checked_json, layout};

/// Longest lease that is read, in bytes.
const MAX_LEASE_LEN: u64 = 64 << 10;
const VERSION: u32 = 1;

/// `operation` in the lease of an ingest.
pub const INGEST: &str = "ingest";
/// `operation` in the lease of a prune.
pub const PRUNE: &str = "prune";
/// `operation` in the lease of a repair.
pub const REPAIR: &str = "repair";
/// `operation` in the lease of a mirroring, in its target.
pub const MIRROR: &str = "mirror";
/// `operation` in the lease of a reindex.
pub const REINDEX: &str = "reindex";

/// A lease that this process holds. Dropping it ends the lease and deletes its file.
#[must_use = "dropping it ends the lease"]
pub struct Lease {
    session: SnapshotId,
    guard: Box<dyn LockGuard>,
}

/// A lease in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseInfo {
    /// The session that holds it.
    pub session: SnapshotId,
    /// The operation of the session, such as `ingest`; `None` when the file is damaged.
    pub operation: Option<String>,
    /// Start of the session as RFC 3339 text; `None` when the file is damaged.
    pub started_at: Option<String>,
    /// Whether its holder is alive.
    pub held: bool,
}

impl LeaseInfo {
    /// For messages: `prune since 2026-11-23T01:45:00.000Z`.
    pub fn describe(&self) -> String {
        let operation = self.operation.as_deref().unwrap_or("a session");
        match &self.started_at {
            Some(at) => format!("{operation} since {at}"),
            None => operation.to_owned(),
        }
    }

    /// True for operations that replace files, and on object storage have the promise that nothing
    /// else runs.
    pub fn needs_to_be_alone(&self) -> bool {
        matches!(self.operation.as_deref(), Some(REPAIR | MIRROR))
    }

    /// False for operations that write no pack and no copy of a manifest under the id of their
    /// session.
    pub fn may_leave_copies(&self) -> bool {
        !matches!(self.operation.as_deref(), Some(PRUNE | REPAIR | REINDEX | MIRROR))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct LeaseJson {
    version: u32,
    session: String,
    operation: String,
    started_at: String,
}

impl Lease {
    /// Publishes a lease for `session` that is held from the start. `started_at` is RFC 3339.
    pub fn take(
        storage: &dyn Storage,
        session: SnapshotId,
        operation: &str,
        started_at: String,
    ) -> Result<Self, Error> {
        let bytes = encode(&session, operation, started_at)?;
        let guard = storage.lease(&layout::lease(&session), &bytes)?;
        Ok(Self { session, guard })
    }

    /// The session that holds it.
    pub fn session(&self) -> SnapshotId {
        self.session
    }

    /// Ends the lease and leaves its file, as a session that was killed does. Others then clean up
    /// after it.
    pub fn leave(self) {
        self.guard.leave();
    }
}

fn encode(session: &SnapshotId, operation: &str, started_at: String) -> Result<Vec<u8>, Error> {
    let json = LeaseJson {
        version: VERSION,
        session: session.to_hex(),
        operation: operation.into(),
        started_at,
    };
    let body = serde_json::to_string(&json).map_err(|_| Error::Invalid {
        reason: "a lease has no JSON form",
    })?;
    Ok(checked_json::finish(body).into_bytes())
}

/// `None` for anything but an intact lease of that session.
fn decode(bytes: &[u8], session: &SnapshotId) -> Option<LeaseJson> {
    let json: LeaseJson = serde_json::from_str(checked_json::verify(bytes)?).ok()?;
    (json.version == VERSION && json.session == session.to_hex()).then_some(json)
}

/// Lists all leases, sorted by session. One that cannot be read is listed too: its key contains the
/// session, and its lock shows whether that is alive.
pub fn list(storage: &dyn Storage) -> Result<Vec<LeaseInfo>, Error> {
    let mut leases = Vec::new();
    for entry in storage.list(layout::LOCKS)? {
        let Some(session) = layout::id_of::<16>(&entry.key, ".json").map(SnapshotId) else {
            continue;
        };
        let Some(held) = storage.lease_held(&entry.key)? else {
            continue;
        };
        let json = match storage.get(&entry.key, MAX_LEASE_LEN) {
            Ok(bytes) => decode(&bytes, &session),
            Err(error) if error.kind == ErrorKind::NotFound => continue,
            Err(_) => None,
        };
        let (operation, started_at) = json.map(|json| (json.operation, json.started_at)).unzip();
        leases.push(LeaseInfo {
            session,
            operation,
            started_at,
            held,
        });
    }
    leases.sort_by_key(|lease| lease.session);
    Ok(leases)
}

/// Deletes the leases whose holder has exited and returns their sessions, sorted. Session ids are
/// random and used once, so no lease can be taken again in between.
pub fn remove_stale(storage: &dyn Storage) -> Result<Vec<SnapshotId>, Error> {
    let files = storage.list(layout::LOCKS)?;
    let sessions = files.iter().filter_map(|file| layout::id_of(&file.key, ".json"));
    remove(storage, sessions.map(SnapshotId), |held| !held)
}

/// Deletes these leases, also those of live sessions, and returns the sessions of those that still
/// existed. A writer that loses its lease either fails cleanly or commits a whole snapshot: it does
/// not rely on its lease.
pub fn remove_all(storage: &dyn Storage, leases: &[LeaseInfo]) -> Result<Vec<SnapshotId>, Error> {
    remove(storage, leases.iter().map(|lease| lease.session), |_| true)
}

fn remove(
    storage: &dyn Storage,
    sessions: impl Iterator<Item = SnapshotId>,
    which: impl Fn(bool) -> bool,
) -> Result<Vec<SnapshotId>, Error> {
    let mut removed = Vec::new();
    for session in sessions {
        let key = layout::lease(&session);
        if storage.lease_held(&key)?.is_some_and(&which) {
            storage.delete(&key)?;
            removed.push(session);
        }
    }
    removed.sort();
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::super::tests::new_storage;
    use super::*;
    use crate::storage::put_bytes;

    const STARTED: &str = "2026-11-23T01:45:00.000Z";

    #[test]
    fn a_lease_is_listed_while_it_is_held_and_deleted_when_dropped() {
        let storage = new_storage();
        let (a, b) = (SnapshotId([1; 16]), SnapshotId([2; 16]));
        let second = Lease::take(&storage, b, "prune", STARTED.into()).unwrap();
        let first = Lease::take(&storage, a, "ingest", STARTED.into()).unwrap();
        assert_eq!(first.session(), a);
        let listed = list(&storage).unwrap();
        assert_eq!(
            listed
                .iter()
                .map(|lease| (lease.session, lease.held))
                .collect::<Vec<_>>(),
            [(a, true), (b, true)]
        );
        assert_eq!(listed[0].operation.as_deref(), Some("ingest"));
        assert_eq!(listed[1].started_at.as_deref(), Some(STARTED));
        assert_eq!(remove_stale(&storage).unwrap(), []);
        drop((first, second));
        assert_eq!(list(&storage).unwrap(), []);
    }

    #[test]
    fn stale_and_damaged_leases_are_listed_and_deleted_and_other_files_are_kept() {
        let storage = new_storage();
        let (stale, broken, alive) = (SnapshotId([1; 16]), SnapshotId([2; 16]), SnapshotId([3; 16]));
        let bytes = encode(&stale, "ingest", STARTED.into()).unwrap();
        put_bytes(&storage, &layout::lease(&stale), &bytes).unwrap();
        put_bytes(&storage, &layout::lease(&broken), &bytes).unwrap(); // it names another session
        put_bytes(&storage, "locks/readme.json", b"x").unwrap();
        let held = Lease::take(&storage, alive, "ingest", STARTED.into()).unwrap();
        let listed = list(&storage).unwrap();
        assert_eq!(
            listed.iter().map(|lease| lease.held).collect::<Vec<_>>(),
            [false, false, true]
        );
        assert_eq!(listed[0].operation.as_deref(), Some("ingest"));
        assert_eq!((listed[1].session, &listed[1].operation), (broken, &None));
        assert_eq!(remove_stale(&storage).unwrap(), [stale, broken]);
        assert_eq!(list(&storage).unwrap().len(), 1);
        assert_eq!(remove_all(&storage, &list(&storage).unwrap()).unwrap(), [alive]);
        assert_eq!(storage.size("locks/readme.json").unwrap(), Some(1));
        drop(held);
    }

    #[test]
    fn decode_refuses_a_lease_with_any_byte_flipped() {
        let session = SnapshotId([7; 16]);
        let bytes = encode(&session, "ingest", STARTED.into()).unwrap();
        let golden =
            format!(r#"{{"version":1,"session":"{session}","operation":"ingest","startedAt":"{STARTED}","checksum":""#);
        assert!(bytes.starts_with(golden.as_bytes()));
        assert!(decode(&bytes, &session).is_some());
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(decode(&flipped, &session).is_none(), "byte {at}");
        }
    }
}
