//! The sequence of the snapshot, found while the data is stored.
//!
//! It takes a listing and the manifests that are new, one after the other, so on object storage it
//! would make each small ingest wait. What is listed right after the start of an ingest has every
//! snapshot of before; only where the ingest takes long are the later ones worth another listing.

use crate::error::{Error, Result};
use crate::repo::Repository;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

/// How old a listing may be.
const FRESH: Duration = Duration::from_secs(60);

/// The sequence of a snapshot that is being made.
pub(in crate::ops) struct Sequence {
    repo: Arc<Repository>,
    is_dated: bool,
    ahead: Option<Ahead>,
}

/// A search that was started with the ingest.
struct Ahead {
    found: Receiver<u64>,
    at: Instant,
    stop: Arc<AtomicBool>,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // an operation makes no request after its end
        let _ = self.found.recv();
    }
}

impl Sequence {
    /// `is_dated`: the caller gives the time of the snapshot.
    pub(super) fn begin(repo: &Arc<Repository>, is_dated: bool) -> Self {
        let ahead = repo.storage().is_remote().then(|| {
            let (sender, found) = sync_channel(1);
            let stop = Arc::new(AtomicBool::new(false));
            let (of, stopped) = (Arc::clone(repo), Arc::clone(&stop));
            let job = move || {
                let sequence = of.next_sequence(is_dated, &|| !stopped.load(Ordering::Relaxed));
                drop(of);
                // nothing waits for it when nothing is committed
                let _ = sender.send(sequence);
            };
            repo.executor().spawn_waiting(Box::new(job));
            let at = Instant::now();
            Ahead { found, at, stop }
        });
        Self {
            repo: Arc::clone(repo),
            is_dated,
            ahead,
        }
    }

    /// The sequence, for a commit that begins now.
    pub(super) fn get(&mut self) -> Result<u64> {
        match self.ahead.take() {
            Some(ahead) if ahead.at.elapsed() < FRESH => ahead.found.recv().map_err(|_| Error::Panicked {
                reason: "a worker panicked".to_owned(),
            }),
            _ => Ok(self.repo.next_sequence(self.is_dated, &|| true)),
        }
    }
}
