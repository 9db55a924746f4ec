//! The protocol that keeps the processes of a repository apart, and the end of a session on object
//! storage (`docs/invariants.md` §8 and §16).

use super::Base;
use crate::error::Result;
use crate::id::SnapshotId;
use crate::layout;
use crate::lock::{LeaseInfo, Marks};
use crate::snapshot::MAX_MANIFEST_LEN;
use crate::snapshot::record::{ForgotReason, ForgotRecord, MAX_RECORD_LEN};
use crate::snapshot::tombstone::{self, is_tombstone};
use crate::storage::{Ask, ConditionalPut, Created, ErrorKind, announced, judge, put_bytes};
use std::collections::HashSet;

/// How the processes of a repository are kept apart. It follows from the storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// By kernel locks, in a directory.
    Locks,
    /// By marks and tombstones, on object storage that never overwrites an object against the
    /// condition of a put.
    Marks,
    /// Not at all, on other object storage: one process at a time may write.
    Alone,
}

/// How a session has ended, once nothing can change that any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// It has committed, and its snapshot may have been forgotten since.
    Committed,
    /// It was revoked, and never has a manifest.
    Revoked,
}

impl Base {
    /// The protocol of the storage; asks the service where it is not known yet.
    pub fn protocol(&self) -> Result<Protocol> {
        let storage = self.storage();
        if !storage.is_remote() {
            return Ok(Protocol::Locks);
        }
        Ok(match storage.probe_conditional_put()? {
            ConditionalPut::Honoured => Protocol::Marks,
            ConditionalPut::Ignored | ConditionalPut::Refused => Protocol::Alone,
        })
    }

    /// Settles how a session ends: revokes it unless it has committed. After an error that is not
    /// known, and its lease must stay. Only with [`Protocol::Marks`].
    pub fn revoke(&self, session: &SnapshotId) -> Result<SessionEnd> {
        let (storage, key) = (self.storage(), layout::snapshot(session));
        if put_bytes(storage, &key, &tombstone::encode(session)?)? == Created::Created {
            return Ok(SessionEnd::Revoked);
        }
        match storage.get(&key, MAX_MANIFEST_LEN) {
            Ok(bytes) if is_tombstone(&bytes, session) => Ok(SessionEnd::Revoked),
            Ok(_) => Ok(SessionEnd::Committed),
            // its manifest was there, and is never there without a record again
            Err(error) if matches!(error.kind, ErrorKind::NotFound | ErrorKind::TooLarge) => Ok(SessionEnd::Committed),
            Err(error) => Err(error.into()),
        }
    }

    /// Revokes the session of a lease that is not its own, and deletes the lease after that (rule
    /// A4). Maintenance puts no manifest, so that its leases need no tombstone.
    pub fn end_session(&self, lease: &LeaseInfo) -> Result<()> {
        if lease.may_leave_copies() {
            self.revoke(&lease.session)?;
        }
        Ok(self.storage().delete(&layout::lease(&lease.session))?)
    }

    /// All marks of this repository, read now.
    pub fn marks(&self) -> Result<Marks> {
        Ok(Marks::load(self.storage(), &self.config().id, self.seal().as_ref())?)
    }

    /// Those of these listed manifests whose snapshots were forgotten: on object storage a put
    /// without an answer may bring a deleted manifest back at any time (rule A10). In a directory a
    /// manifest counts as long as it exists. Records are listed now, so after the manifests.
    pub fn forgotten_among(&self, listed: &[SnapshotId]) -> Result<HashSet<SnapshotId>> {
        let storage = self.storage();
        let mut forgotten = HashSet::new();
        if !storage.is_remote() || listed.is_empty() {
            return Ok(forgotten);
        }
        let records = storage.list(layout::RECORDS)?.into_iter();
        let records: HashSet<SnapshotId> = records
            .filter_map(|file| layout::id_of(&file.key, ".forgot"))
            .map(SnapshotId)
            .collect();
        let both: Vec<SnapshotId> = listed.iter().filter(|id| records.contains(id)).copied().collect();
        let ask = |id: &SnapshotId| Ask::Get {
            key: layout::forgot_record(id),
            max_len: MAX_RECORD_LEN,
        };
        for id in announced(storage, &both, ask) {
            // a record that is damaged hides no snapshot
            let bytes = judge(storage.get(&layout::forgot_record(id), MAX_RECORD_LEN))?;
            let record = bytes.ok().and_then(|bytes| ForgotRecord::decode(&bytes, id).ok());
            if record.is_some_and(|record| record.reason == ForgotReason::Forgotten) {
                forgotten.insert(*id);
            }
        }
        Ok(forgotten)
    }
}
