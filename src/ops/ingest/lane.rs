//! The state that the lanes of an ingest share, and the state of one lane.

use super::items::ItemSpec;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Progress, Warning};
use crate::repo::Session;
use crate::snapshot::EXTRAS_PER_MANIFEST;
use crate::sync::lock;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

/// The state that the lanes of an ingest share. It is also the monitor of each lane.
pub struct Shared<'a> {
    monitor: &'a dyn Monitor,
    pub(super) failure: OnceLock<Error>,
    names: Mutex<HashSet<String>>,
    read_bytes: AtomicU64,
    items_done: AtomicU64,
    extras: AtomicUsize,
}

/// One lane.
#[derive(Clone, Copy)]
pub struct Lane<'a> {
    /// The state that it shares with the other lanes.
    pub shared: &'a Shared<'a>,
    /// Its share of the chunks that may be listed in the manifest itself.
    pub inline_chunks: u64,
    /// Number of lanes: they share the memory of the ingest.
    pub count: usize,
}

impl<'a> Shared<'a> {
    pub(super) fn new(monitor: &'a dyn Monitor) -> Self {
        Self {
            monitor,
            failure: OnceLock::new(),
            names: Mutex::default(),
            read_bytes: AtomicU64::new(0),
            items_done: AtomicU64::new(0),
            extras: AtomicUsize::new(0),
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

    /// Counts an extra; `false` when the snapshot may have no more.
    pub fn take_extra(&self) -> bool {
        let more = |taken: usize| (taken < EXTRAS_PER_MANIFEST).then_some(taken + 1);
        self.extras
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .is_ok()
    }

    /// Uncounts an extra that was not stored.
    pub fn return_extra(&self) {
        self.extras.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts bytes that were read.
    pub fn add_read_bytes(&self, len: usize) {
        self.read_bytes.fetch_add(len as u64, Ordering::Relaxed);
    }

    /// Reports the progress of the ingest; `more_items` were finished since the last report of this
    /// lane.
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
            auto_level: session.auto_level(),
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
