//! From stored chunks to a snapshot: steps W3 to W7 of `docs/invariants.md`, in that order.

use super::IngestOptions;
use crate::error::{Error, Result};
use crate::layout;
use crate::monitor::Monitor;
use crate::pack::{KIND_CONFIG_COPY, KIND_MANIFEST_COPY};
#[cfg(any(test, feature = "testing"))]
use crate::repo::SeededBug;
use crate::repo::chunk_store::Session;
use crate::repo::read::{ReadScratch, get_node};
use crate::snapshot::record::{ForgotReason, ForgotRecord};
use crate::snapshot::{ListWalker, Snapshot, SnapshotItem, VERSION, copy};
use crate::storage::{Created, put_bytes};
use std::sync::atomic::Ordering;

/// Most times that a commit looks again for what a prune moved away meanwhile.
const MAX_ROUNDS: usize = 5;

/// Publishes the snapshot, or leaves nothing of it. `be_present` sees to it that the session has its lease.
pub fn commit(
    session: &Session,
    items: Vec<SnapshotItem>,
    options: &IngestOptions,
    created_at_ms: i64,
    be_present: &mut dyn FnMut() -> Result<()>,
    monitor: &dyn Monitor,
) -> Result<Snapshot> {
    session.repo().check_running(monitor)?;
    session.flush_data()?;
    session.repo().check_running(monitor)?;
    let snapshot = describe(session, items, options, created_at_ms);
    let manifest = session.repo().encode_manifest(&snapshot)?;
    publish(session, &snapshot, &manifest, be_present, monitor)?;
    Ok(snapshot)
}

fn describe(session: &Session, items: Vec<SnapshotItem>, options: &IngestOptions, created_at_ms: i64) -> Snapshot {
    let chunk_count = items.iter().map(|item| item.chunk_count).sum();
    let new_chunks = session.stats.new_chunks.load(Ordering::Relaxed);
    Snapshot {
        id: session.id(),
        version: VERSION,
        created_at_ms,
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
fn publish(
    session: &Session,
    snapshot: &Snapshot,
    manifest: &[u8],
    be_present: &mut dyn FnMut() -> Result<()>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let storage = session.repo().storage();
    #[cfg(any(test, feature = "testing"))]
    if session.repo().seeded_bug(SeededBug::ManifestFirst) {
        put_bytes(storage, &layout::snapshot(&snapshot.id), manifest)?;
    }
    be_present()?;
    for part in copy::split_copy(snapshot.id, manifest) {
        session.put_copy(KIND_MANIFEST_COPY, &part)?;
    }
    session.put_copy(KIND_CONFIG_COPY, session.repo().config_bytes())?;
    session.flush_meta()?;
    session.protect()?;
    // again: whoever removed it by force meanwhile left a record, which a prune that did not see the copy may have taken
    be_present()?;
    session.publish()?;
    for _ in 0..MAX_ROUNDS {
        session.repo().check_running(monitor)?;
        // also the packs that somebody else put and that this snapshot reuses, those found by looking again included
        storage.include_in_barrier(layout::DATA);
        storage.include_in_barrier(layout::PARITY);
        storage.barrier()?;
        if put_manifest(session, snapshot, manifest, be_present, monitor)? {
            return Ok(());
        }
        look_again(session, snapshot)?;
    }
    Err(Error::Conflict)
}

/// W5 to W7: the last look and the manifest, under the shared commit lock. `false`: something vanished.
fn put_manifest(
    session: &Session,
    snapshot: &Snapshot,
    manifest: &[u8],
    be_present: &mut dyn FnMut() -> Result<()>,
    monitor: &dyn Monitor,
) -> Result<bool> {
    let repo = session.repo();
    let storage = repo.storage();
    #[cfg(any(test, feature = "testing"))]
    let good_before = repo.seeded_bug(SeededBug::CheckOutsideLock) && session.relied_packs_are_good()?;
    let _guard = repo.commit_shared(monitor)?;
    let good = session.relied_packs_are_good()?;
    #[cfg(any(test, feature = "testing"))]
    let good = match () {
        () if repo.seeded_bug(SeededBug::NoCommitCheck) => true,
        () if repo.seeded_bug(SeededBug::CheckOutsideLock) => good_before,
        () => good,
    };
    if !good {
        return Ok(false);
    }
    let record = layout::forgot_record(&snapshot.id);
    if storage.size(&record)?.is_some() {
        // of a forced unlock: beside the manifest it would keep a repair from bringing that back when it is lost
        be_present()?;
        storage.delete(&record)?;
    }
    if !monitor.begin_commit() {
        return Err(Error::Cancelled);
    }
    if put_bytes(storage, &layout::snapshot(&snapshot.id), manifest)? == Created::Exists {
        #[cfg(any(test, feature = "testing"))]
        if repo.seeded_bug(SeededBug::ManifestFirst) {
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

/// After a failed ingest: the copy of a manifest may be stored by now, so this leaves a record, that no repair takes it for
/// a lost snapshot; and so it does where its packs were deleted, that nobody misses them. `false` when that cannot be done:
/// what made the commit fail, as a full disk, may make this fail too.
pub fn give_up(session: &Session, why: &Error) -> bool {
    let robbed = matches!(why, Error::Conflict) || !session.own_packs_are_good().unwrap_or(true);
    if !session.has_stored_copies() && !robbed {
        return true;
    }
    let repo = session.repo();
    if !matches!(repo.storage().size(&layout::snapshot(&session.id())), Ok(None)) {
        // the manifest made it, and only its barrier failed: it is whole, and nobody was promised that it is not there. A
        // power cut may still take it, and must not leave the copy alone
        return false;
    }
    let record = ForgotRecord {
        id: session.id(),
        reason: ForgotReason::Abandoned,
        at_ms: repo.now_ms(),
    };
    let Ok(bytes) = record.encode() else { return false };
    let put = put_bytes(repo.storage(), &layout::forgot_record(&session.id()), &bytes);
    // durable before the lease goes: others may make the removal of that durable at any time
    put.and_then(|_| repo.storage().barrier()).is_ok()
}

/// After a failed ingest: what was stored becomes findable, so that a retry does not store it again. Best effort.
pub fn keep_reusable_chunks(session: &Session, why: &Error) {
    // nobody knows what a panic left behind: the packs lie there, and nothing names them
    if matches!(why, Error::Panicked { .. }) {
        return;
    }
    let kept = session
        .flush_data()
        .and_then(|()| session.flush_meta())
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
