//! Lanes: how many streams of items an ingest reads at once. Each lane is a pipeline of its own (`feed.rs`) on a thread of its
//! own; the workers, the packs and what is known of stored chunks are shared.
//!
//! What always holds: the items stand in the snapshot in the order of their places, whatever lane brought them. When a lane
//! has failed, the others stop at their next read, and the first failure is that of the ingest.

use super::feed::store_items;
use super::{ItemSpec, ItemStream};
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Progress, Warning};
use crate::panics;
use crate::repo::Session;
use crate::snapshot::{INLINE_PER_MANIFEST, SnapshotItem};
use crate::sync::lock;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What the lanes of an ingest share. Each has it for its monitor.
pub struct Shared<'a> {
    monitor: &'a dyn Monitor,
    failure: OnceLock<Error>,
    names: Mutex<HashSet<String>>,
    read_bytes: AtomicU64,
    items_done: AtomicU64,
}

/// One of them.
#[derive(Clone, Copy)]
pub struct Lane<'a> {
    /// What it shares with the others.
    pub shared: &'a Shared<'a>,
    /// Its share of the chunks that may be listed in the manifest itself.
    pub inline_chunks: u64,
    /// How many there are: they share the memory of the ingest.
    pub count: usize,
}

impl<'a> Shared<'a> {
    fn new(monitor: &'a dyn Monitor) -> Self {
        Self {
            monitor,
            failure: OnceLock::new(),
            names: Mutex::default(),
            read_bytes: AtomicU64::new(0),
            items_done: AtomicU64::new(0),
        }
    }

    /// Fails when another item of the snapshot has the same name.
    pub fn take_name(&self, spec: &ItemSpec) -> Result<()> {
        if lock(&self.names).insert(spec.name.clone()) {
            return Ok(());
        }
        Err(Error::InvalidArgument {
            reason: format!("Two items are named {:?}", spec.name),
        })
    }

    /// Counts bytes that were read.
    pub fn add_read_bytes(&self, len: usize) {
        self.read_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// Tells how far the ingest is; `more_items` are done since this lane reported last.
    pub fn report(&self, session: &Session, more_items: usize) {
        let more_items = more_items as u64;
        let stats = &session.stats;
        self.monitor.progress(&Progress {
            done_bytes: self.read_bytes.load(Ordering::Relaxed),
            new_bytes: stats.new_bytes.load(Ordering::Relaxed),
            reused_bytes: stats.reused_bytes.load(Ordering::Relaxed),
            stored_bytes: stats.stored_bytes.load(Ordering::Relaxed),
            chunks: stats.chunks.load(Ordering::Relaxed),
            items_done: self.items_done.fetch_add(more_items, Ordering::Relaxed) + more_items,
            ..Progress::default()
        });
    }
}

impl Monitor for Shared<'_> {
    fn progress(&self, progress: &Progress) {
        self.monitor.progress(progress);
    }

    fn warning(&self, warning: Warning) {
        self.monitor.warning(warning);
    }

    fn is_cancelled(&self) -> bool {
        self.failure.get().is_some() || self.monitor.is_cancelled()
    }
}

/// Stores the items of one stream, on the calling thread.
pub fn store_one_by_one(
    session: &Arc<Session>,
    items: &mut dyn ItemStream,
    digest: bool,
    monitor: &dyn Monitor,
) -> Result<Vec<SnapshotItem>> {
    let shared = Shared::new(monitor);
    let lane = Lane {
        shared: &shared,
        inline_chunks: INLINE_PER_MANIFEST as u64,
        count: 1,
    };
    Ok(in_order(store_items(session, items, digest, lane)?))
}

/// Stores the items of several streams at once.
pub fn store_at_once(
    session: &Arc<Session>,
    streams: &mut [Box<dyn ItemStream + Send + '_>],
    digest: bool,
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
                    store_items(session, items.as_mut(), digest, lane)
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
    // a panic wins, for it closes the handle
    match panicked.into_inner().or(shared.failure.into_inner()) {
        Some(error) => Err(error),
        None => Ok(in_order(stored.into_inner().unwrap_or_else(PoisonError::into_inner))),
    }
}

fn in_order(mut items: Vec<(u64, SnapshotItem)>) -> Vec<SnapshotItem> {
    items.sort_by_key(|(place, _)| *place);
    items.into_iter().map(|(_, item)| item).collect()
}
