//! Lanes: the streams of items that an ingest reads concurrently. Each lane is a pipeline of its
//! own (`feed.rs`) on its own thread; the workers, the packs and the knowledge of stored chunks are
//! shared.
//!
//! Invariant: the snapshot lists the items in the order of their positions, whichever lane read
//! them. When a lane has failed, the others stop at their next read, and the first failure is that
//! of the ingest.

use super::feed::{ItemOptions, store_items};
use super::items::ItemStream;
use super::lane::{Lane, Shared};
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::panics;
use crate::repo::Session;
use crate::snapshot::{INLINE_PER_MANIFEST, SnapshotItem};
use crate::sync::lock;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Stores the items of one stream, on the calling thread.
pub fn store_one_by_one(
    session: &Arc<Session>,
    items: &mut dyn ItemStream,
    options: ItemOptions,
    monitor: &dyn Monitor,
) -> Result<Vec<SnapshotItem>> {
    let shared = Shared::new(monitor);
    let lane = Lane {
        shared: &shared,
        inline_chunks: INLINE_PER_MANIFEST as u64,
        count: 1,
    };
    Ok(in_order(store_items(session, items, options, lane)?))
}

/// Stores the items of several streams concurrently.
pub fn store_at_once(
    session: &Arc<Session>,
    streams: &mut [Box<dyn ItemStream + Send + '_>],
    options: ItemOptions,
    monitor: &dyn Monitor,
    on_failure: &(dyn Fn(&Error) + Sync),
) -> Result<Vec<SnapshotItem>> {
    let shared = Shared::new(monitor);
    let panicked = OnceLock::new();
    let fail = |error: Error| {
        if matches!(error, Error::Panicked { .. }) {
            let _ = panicked.set(error.clone());
        }
        if shared.failure.set(error.clone()).is_ok() {
            on_failure(&error);
        }
    };
    let lane = Lane {
        shared: &shared,
        inline_chunks: (INLINE_PER_MANIFEST / streams.len().max(1)) as u64,
        count: streams.len().max(1),
    };
    let stored = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for items in streams {
            let (fail, stored) = (&fail, &stored);
            let work = move || {
                // a panic ends the ingest, not the thread that waits for all lanes
                let done = panics::caught(|| {
                    panics::point("ca-lane");
                    store_items(session, items.as_mut(), options, lane)
                });
                match done.unwrap_or_else(|reason| Err(Error::Panicked { reason })) {
                    Ok(mut items) => lock(stored).append(&mut items),
                    Err(error) => fail(error),
                }
            };
            let started = std::thread::Builder::new()
                .name("ca-lane".to_owned())
                .spawn_scoped(scope, work);
            if started.is_err() {
                fail(Error::NoThreads);
            }
        }
    });
    // a panic takes precedence, because it closes the handle
    match panicked.into_inner().or(shared.failure.into_inner()) {
        Some(error) => Err(error),
        None => Ok(in_order(stored.into_inner().unwrap_or_else(PoisonError::into_inner))),
    }
}

fn in_order(mut items: Vec<(u64, SnapshotItem)>) -> Vec<SnapshotItem> {
    items.sort_by_key(|(position, _)| *position);
    items.into_iter().map(|(_, item)| item).collect()
}
