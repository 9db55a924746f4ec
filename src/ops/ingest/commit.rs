//! Turns stored chunks into a snapshot: steps W3 to W7 of `docs/invariants.md`, in that order.

use super::IngestOptions;
use super::sequence::Sequence;
use crate::base::{Protocol, SessionEnd};
use crate::error::{Error, Result};
use crate::layout;
use crate::monitor::Monitor;
use crate::pack::{KIND_CONFIG_COPY, KIND_MANIFEST_COPY};
use crate::repo::read::{ReadScratch, get_node};
use crate::repo::{SeededBug, Session};
use crate::snapshot::record::ForgotReason;
use crate::snapshot::{ListWalker, Snapshot, SnapshotItem, VERSION, copy};
use crate::storage::{Created, prefetch, put_bytes};
use std::sync::atomic::Ordering;

/// Most times that a commit rechecks its chunks after a prune moved or deleted packs.
const MAX_ROUNDS: usize = 5;

/// Publishes the snapshot completely or not at all.
pub fn commit(
    session: &Session,
    items: Vec<SnapshotItem>,
    options: &IngestOptions,
    created_at_ms: i64,
    sequence: &mut Sequence,
    monitor: &dyn Monitor,
) -> Result<Snapshot> {
    session.repo().check_running(monitor)?;
    session.flush_data()?;
    session.repo().check_running(monitor)?;
    let snapshot = describe(session, items, options, created_at_ms, sequence.get()?);
    let manifest = session.repo().encode_manifest(&snapshot)?;
    publish(session, &snapshot, &manifest, monitor)?;
    session.repo().note_sequence(snapshot.id, snapshot.sequence);
    Ok(snapshot)
}

fn describe(
    session: &Session,
    items: Vec<SnapshotItem>,
    options: &IngestOptions,
    created_at_ms: i64,
    sequence: u64,
) -> Snapshot {
    let chunk_count = items.iter().map(|item| item.chunk_count).sum();
    let new_chunks = session.stats.new_chunks.load(Ordering::Relaxed);
    Snapshot {
        id: session.id(),
        version: VERSION,
        created_at_ms,
        sequence,
        tags: options.tags.clone(),
        original_size: items.iter().map(|item| item.size).sum(),
        stored_size: session.stats.stored_bytes.load(Ordering::Relaxed),
        chunk_count,
        new_chunks,
        reused_chunks: chunk_count - new_chunks,
        writer_version: options.writer_version.to_owned(),
        copied_from: options.copy_of.map(|copy| copy.origin),
        items,
    }
}

/// W3 and W4: the manifest's copy, the last packs, the segment, and the barrier that makes all of
/// it durable.
fn publish(session: &Session, snapshot: &Snapshot, manifest: &[u8], monitor: &dyn Monitor) -> Result<()> {
    let storage = session.repo().storage();
    if session.repo().has_bug(SeededBug::ManifestFirst) {
        put_bytes(storage, &layout::snapshot(&snapshot.id), manifest)?;
    }
    store_copies(session, snapshot, manifest, monitor)?;
    session.protect()?;
    session.publish()?;
    session.wait_for_indexes()?;
    for _ in 0..MAX_ROUNDS {
        session.repo().check_running(monitor)?;
        // also the packs of other writers that this snapshot reuses, including those found by a
        // recheck
        storage.include_in_barrier(layout::DATA);
        storage.include_in_barrier(layout::PARITY);
        storage.barrier()?;
        if put_manifest(session, snapshot, manifest, monitor)? {
            return Ok(());
        }
        recheck_chunks(session, snapshot)?;
    }
    Err(Error::Conflict)
}

/// W3, under the shared commit lock: a forced unlock writes its record either before it, in which
/// case this session ends without a copy, or after it, in which case no prune deletes that record
/// as long as the copy exists.
fn store_copies(session: &Session, snapshot: &Snapshot, manifest: &[u8], monitor: &dyn Monitor) -> Result<()> {
    for part in copy::split_copy(snapshot.id, manifest) {
        session.put_copy(KIND_MANIFEST_COPY, &part)?;
    }
    session.put_copy(KIND_CONFIG_COPY, session.repo().config_bytes())?;
    let _guard = session.repo().commit_shared(monitor)?;
    session.check_standing_soon()?;
    session.flush_meta()
}

/// W5 to W7: the last check and the manifest, under the shared commit lock. `false`: a pack was
/// deleted.
fn put_manifest(session: &Session, snapshot: &Snapshot, manifest: &[u8], monitor: &dyn Monitor) -> Result<bool> {
    let repo = session.repo();
    let storage = repo.storage();
    let good_before = repo.has_bug(SeededBug::CheckOutsideLock) && session.relied_packs_are_good()?;
    let _guard = repo.commit_shared(monitor)?;
    let _checks = prefetch(storage, || session.last_checks());
    session.check_standing()?;
    let good = good_before || session.relied_packs_are_good()? || repo.has_bug(SeededBug::NoCommitCheck);
    if !good {
        return Ok(false);
    }
    let protocol = repo.protocol()?;
    if protocol != Protocol::Marks && storage.size(&layout::forgot_record(&snapshot.id))?.is_some() {
        // written by a forced unlock that did not get the commit lock: it is about to remove the
        // lease
        return Err(Error::LeaseRemoved);
    }
    if !monitor.begin_commit() {
        return Err(Error::Cancelled);
    }
    let put = put_bytes(storage, &layout::snapshot(&snapshot.id), manifest);
    if protocol == Protocol::Marks {
        return settle(session, put.map_err(Error::from));
    }
    if put? == Created::Exists {
        if repo.has_bug(SeededBug::ManifestFirst) {
            storage.barrier()?;
            return Ok(true);
        }
        return Err(Error::Internal {
            reason: format!("snapshot {} already exists", snapshot.id),
        });
    }
    storage.barrier()?;
    Ok(true)
}

/// What the put of the manifest has decided, where other processes may revoke the session. A put
/// that was not answered may be carried out at any later time (rule A11), so it is settled by
/// revoking the session, unless it has committed by then.
fn settle(session: &Session, put: Result<Created>) -> Result<bool> {
    let repo = session.repo();
    let why = match put {
        Ok(Created::Created) => return Ok(true),
        // other bytes: equal ones count as created
        Ok(Created::Exists) => Error::LeaseRemoved,
        Err(error) => error,
    };
    // twice: a snapshot that exists must not be reported as none
    match repo.revoke(&session.id()).or_else(|_| repo.revoke(&session.id())) {
        Ok(SessionEnd::Committed) => Ok(true),
        Ok(SessionEnd::Revoked) | Err(_) => Err(why),
    }
}

/// Looks up every chunk of the snapshot again in freshly listed segments, after a prune moved or
/// deleted packs.
fn recheck_chunks(session: &Session, snapshot: &Snapshot) -> Result<()> {
    if !session.own_packs_are_good()? {
        // the copy of the manifest may have been deleted with them
        return Err(Error::Conflict);
    }
    session.forget_packs()?;
    let mut scratch = ReadScratch::default();
    for item in snapshot.lists() {
        let mut walker = ListWalker::new(&item, 0)?;
        let mut fetch = |id: &crate::id::ChunkId| {
            session.rely_on(id)?;
            get_node(session.repo(), id, &mut scratch)
        };
        while let Some(chunk) = walker.next_chunk::<Error>(&mut fetch)? {
            session.rely_on(&chunk.id)?;
        }
    }
    Ok(())
}

/// Cleans up after a failed ingest. Publishes the stored chunks, so that a retry does not store
/// them again. Where the copy of the manifest is already stored, or packs of the session were
/// deleted, writes a record that the snapshot was abandoned, so that no repair mistakes it for a
/// lost one and no verify reports its packs as missing. Nothing is stored after that record.
/// Returns `false` when the record cannot be written: the cause of the failed commit, such as a
/// full disk, may make this fail too.
pub fn give_up(session: &Session, why: &Error) -> bool {
    // meta chunks that are not on disk yet are never written
    session.discard_meta();
    keep_reusable_chunks(session, why);
    let lost_packs = matches!(why, Error::Conflict) || !session.own_packs_are_good().unwrap_or(true);
    if !session.has_stored_copies() && !lost_packs {
        return true;
    }
    if session
        .repo()
        .protocol()
        .is_ok_and(|protocol| protocol == Protocol::Marks)
    {
        // the manifest may have been sent: without an answer the lease stays (rule A11)
        return session.repo().revoke(&session.id()).is_ok();
    }
    // a put without an answer may be carried out later: the lease stays, and keeps a prune away
    let may_arrive = session.repo().storage().is_remote()
        && matches!(
            why,
            Error::ObjectStorage { .. } | Error::Storage { .. } | Error::Unreadable { .. }
        );
    !may_arrive && leave_record(session).is_ok_and(|left| left)
}

/// Puts the record, durable before the lease is removed. `false`: not put, because the commit lock
/// was not free or the manifest exists.
fn leave_record(session: &Session) -> Result<bool> {
    let repo = session.repo();
    let storage = repo.storage();
    // while it is held, no prune deletes a record of this id that a forced unlock has written
    let Some(_guard) = repo.commit_shared_soon() else {
        return Ok(false);
    };
    if storage.size(&layout::snapshot(&session.id()))?.is_some() {
        // the manifest was published, and only its barrier failed: the snapshot is complete, and
        // its absence was not promised. A power loss may still remove it, and must not leave the
        // copy without a record
        return Ok(false);
    }
    repo.put_record(session.id(), ForgotReason::Abandoned)?;
    storage.barrier()?;
    Ok(true)
}

/// Publishes the stored chunks. Best effort.
fn keep_reusable_chunks(session: &Session, why: &Error) {
    // the state after a panic is unknown: the packs stay, and no segment names them. Without the
    // lease, another process may be deleting them
    if matches!(why, Error::Panicked { .. } | Error::LeaseRemoved) {
        return;
    }
    let kept = session
        .flush_data()
        .and_then(|()| session.protect())
        .and_then(|()| session.publish())
        .and_then(|()| session.wait_for_indexes());
    if let Err(error) = kept {
        // on a full disk, publish at least the packs that are already protected
        let _ = session.checkpoint();
        session.repo().warn(
            "WARN_CHUNKS_NOT_KEPT",
            format!("The stored chunks of a failed ingest were not published and cannot be reused: {error}"),
        );
    }
}
