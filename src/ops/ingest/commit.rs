//! From stored chunks to a snapshot: steps W3 to W7 of `docs/invariants.md`, in that order.

use super::IngestOptions;
use crate::error::{Error, Result};
use crate::layout;
use crate::monitor::Monitor;
use crate::pack::{KIND_CONFIG_COPY, KIND_MANIFEST_COPY};
use crate::repo::read::{ReadScratch, get_node};
use crate::repo::{SeededBug, Session};
use crate::snapshot::record::{ForgotReason, ForgotRecord};
use crate::snapshot::{ListWalker, Snapshot, SnapshotItem, VERSION, copy};
use crate::storage::{Created, put_bytes};
use std::sync::atomic::Ordering;

/// Most times that a commit looks again for what a prune moved away meanwhile.
const MAX_ROUNDS: usize = 5;

/// Publishes the snapshot, or leaves nothing of it.
pub fn commit(
    session: &Session,
    items: Vec<SnapshotItem>,
    options: &IngestOptions,
    created_at_ms: i64,
    monitor: &dyn Monitor,
) -> Result<Snapshot> {
    session.repo().check_running(monitor)?;
    session.flush_data()?;
    session.repo().check_running(monitor)?;
    let snapshot = describe(session, items, options, created_at_ms);
    let manifest = session.repo().encode_manifest(&snapshot)?;
    publish(session, &snapshot, &manifest, monitor)?;
    Ok(snapshot)
}

fn describe(session: &Session, items: Vec<SnapshotItem>, options: &IngestOptions, created_at_ms: i64) -> Snapshot {
    let chunk_count = items.iter().map(|item| item.chunk_count).sum();
    let new_chunks = session.stats.new_chunks.load(Ordering::Relaxed);
    Snapshot {
        id: session.id(),
        version: VERSION,
        created_at_ms,
        sequence: session.repo().next_sequence(options.created_at_ms.is_some()),
        tags: options.tags.clone(),
        original_size: items.iter().map(|item| item.size).sum(),
        stored_size: session.stats.stored_bytes.load(Ordering::Relaxed),
        chunk_count,
        new_chunks,
        reused_chunks: chunk_count - new_chunks,
        writer_version: env!("CARGO_PKG_VERSION").to_owned(),
        items,
    }
}

/// W3 and W4: the manifest's copy, the last packs, the segment, and the barrier behind which all of it is durable.
fn publish(session: &Session, snapshot: &Snapshot, manifest: &[u8], monitor: &dyn Monitor) -> Result<()> {
    let storage = session.repo().storage();
    if session.repo().has_bug(SeededBug::ManifestFirst) {
        put_bytes(storage, &layout::snapshot(&snapshot.id), manifest)?;
    }
    store_copies(session, snapshot, manifest, monitor)?;
    session.protect()?;
    session.publish()?;
    for _ in 0..MAX_ROUNDS {
        session.repo().check_running(monitor)?;
        // also the packs that somebody else put and that this snapshot reuses, those found by looking again included
        storage.include_in_barrier(layout::DATA);
        storage.include_in_barrier(layout::PARITY);
        storage.barrier()?;
        if put_manifest(session, snapshot, manifest, monitor)? {
            return Ok(());
        }
        look_again(session, snapshot)?;
    }
    Err(Error::Conflict)
}

/// W3, under the shared commit lock: a forced unlock leaves its record either before it, and then this session ends without
/// a copy, or after it, and then no prune drops that record as long as the copy is there.
fn store_copies(session: &Session, snapshot: &Snapshot, manifest: &[u8], monitor: &dyn Monitor) -> Result<()> {
    for part in copy::split_copy(snapshot.id, manifest) {
        session.put_copy(KIND_MANIFEST_COPY, &part)?;
    }
    session.put_copy(KIND_CONFIG_COPY, session.repo().config_bytes())?;
    let _guard = session.repo().commit_shared(monitor)?;
    session.check_standing()?;
    session.flush_meta()
}

/// W5 to W7: the last look and the manifest, under the shared commit lock. `false`: something vanished.
fn put_manifest(session: &Session, snapshot: &Snapshot, manifest: &[u8], monitor: &dyn Monitor) -> Result<bool> {
    let repo = session.repo();
    let storage = repo.storage();
    let good_before = repo.has_bug(SeededBug::CheckOutsideLock) && session.relied_packs_are_good()?;
    let _guard = repo.commit_shared(monitor)?;
    session.check_standing()?;
    let good = good_before || session.relied_packs_are_good()? || repo.has_bug(SeededBug::NoCommitCheck);
    if !good {
        return Ok(false);
    }
    if storage.size(&layout::forgot_record(&snapshot.id))?.is_some() {
        // of a forced unlock that did not get the commit lock: it is about to remove the lease
        return Err(Error::LeaseRemoved);
    }
    if !monitor.begin_commit() {
        return Err(Error::Cancelled);
    }
    if put_bytes(storage, &layout::snapshot(&snapshot.id), manifest)? == Created::Exists {
        if repo.has_bug(SeededBug::ManifestFirst) {
            storage.barrier()?;
            return Ok(true);
        }
        return Err(Error::Internal {
            reason: format!("snapshot {} exists already", snapshot.id),
        });
    }
    storage.barrier()?;
    Ok(true)
}

/// A prune moved or removed packs: find every chunk of the snapshot again in freshly listed segments.
fn look_again(session: &Session, snapshot: &Snapshot) -> Result<()> {
    if !session.own_packs_are_good()? {
        // the copy of the manifest may be gone with them
        return Err(Error::Conflict);
    }
    session.forget_packs()?;
    let mut scratch = ReadScratch::default();
    for item in &snapshot.items {
        let mut walker = ListWalker::new(item, 0)?;
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

/// After a failed ingest. What was stored becomes findable, so that a retry does not store it again; and where the copy of
/// the manifest is stored by now, or packs were deleted under it, a record says that the snapshot was abandoned, so that no
/// repair mistakes it for a lost one and no verify misses its packs. Nothing is stored after that record. `false` when it
/// cannot be put: what made the commit fail, as a full disk, may make this fail too.
pub fn give_up(session: &Session, why: &Error) -> bool {
    // what is not on disk by now never will be
    session.discard_meta();
    keep_reusable_chunks(session, why);
    let lost_packs = matches!(why, Error::Conflict) || !session.own_packs_are_good().unwrap_or(true);
    if !session.has_stored_copies() && !lost_packs {
        return true;
    }
    leave_record(session).is_ok_and(|left| left)
}

/// Leaves the record, durable before the lease is removed. `false`: the manifest is there.
fn leave_record(session: &Session) -> Result<bool> {
    let repo = session.repo();
    let storage = repo.storage();
    let record = ForgotRecord {
        id: session.id(),
        reason: ForgotReason::Abandoned,
        at_ms: repo.now_ms(),
    };
    let bytes = record.encode()?;
    // with it no prune drops a record of that name just then, which a forced unlock left
    let Some(_guard) = repo.commit_shared_soon() else {
        return Ok(false);
    };
    if storage.size(&layout::snapshot(&session.id()))?.is_some() {
        // it made it, and only its barrier failed: it is whole, and no one was promised that it is not there. A power cut
        // may still take it, and must not leave the copy alone
        return Ok(false);
    }
    put_bytes(storage, &layout::forgot_record(&session.id()), &bytes)?;
    storage.barrier()?;
    Ok(true)
}

/// Makes what was stored findable. Best effort.
fn keep_reusable_chunks(session: &Session, why: &Error) {
    // what a panic left behind is not known: the packs stay, and no segment names them. Without its lease, others may be
    // deleting them
    if matches!(why, Error::Panicked { .. } | Error::LeaseRemoved) {
        return;
    }
    let kept = session
        .flush_data()
        .and_then(|()| session.protect())
        .and_then(|()| session.publish());
    if let Err(error) = kept {
        // on a full disk, at least what is protected already
        let _ = session.checkpoint();
        session.repo().warn(
            "WARN_CHUNKS_NOT_KEPT",
            format!("Stored chunks of a failed ingest cannot be reused: {error}"),
        );
    }
}
