//! Requests that were started because a thread announced that it will need their answers
//! (`storage/prefetch.rs`).

use super::super::key::folder_of;
use super::super::{Ask, Result};
use super::{Bucket, runtime, transfer};
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Most bytes of files that wait for their threads, or are being received. Further ones are not
/// received, and requested again when they are needed.
const MOST_WAITING: usize = 64 << 20;

/// The answer of an [`Ask`].
pub(super) enum Answer {
    Get(Result<Vec<u8>>),
    /// The file was kept, and not requested.
    Kept(Vec<u8>),
    Size(Result<Option<u64>>),
    List(Result<Vec<transfer::Listed>>),
}

/// The requests of all threads, and how many of them may be in flight.
pub(super) struct Ahead {
    in_flight: Arc<Semaphore>,
    waiting_bytes: Arc<AtomicUsize>,
    started: Mutex<HashMap<(ThreadId, Ask), Started>>,
    announcements: AtomicU64,
    is_off: bool,
}

/// A request, and the announcement that started it.
struct Started {
    task: JoinHandle<Waiting>,
    /// It is in flight, or was: it does not wait for others.
    sent: Arc<AtomicBool>,
    announcement: u64,
}

impl Drop for Started {
    fn drop(&mut self) {
        // nothing happens to one that has ended
        self.task.abort();
    }
}

/// An answer that no thread has taken yet; `None`: there was no room for it.
struct Waiting {
    answer: Option<Answer>,
    _counted: Counted,
}

/// Bytes that count in those of all requests for as long as this lives.
struct Counted {
    all: Arc<AtomicUsize>,
    bytes: AtomicUsize,
}

impl Counted {
    /// Whether a file of `len` bytes fits; then it counts.
    fn fits(&self, len: u64) -> bool {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let add = |all: usize| all.checked_add(len).filter(|all| *all <= MOST_WAITING);
        let fits = self.all.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok();
        if fits {
            self.bytes.fetch_add(len, Ordering::Relaxed);
        }
        fits
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.all.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

impl Ahead {
    /// With zero, no request is ever started ahead.
    pub(super) fn new(requests: usize) -> Self {
        Self {
            in_flight: Arc::new(Semaphore::new(requests)),
            waiting_bytes: Arc::default(),
            started: Mutex::default(),
            announcements: AtomicU64::new(0),
            is_off: requests == 0,
        }
    }

    /// Starts the reads of the calling thread, except of files that are given, and returns the
    /// number of this announcement.
    pub(super) fn start(&self, bucket: &Arc<Bucket>, reads: impl Iterator<Item = (Option<Vec<u8>>, Ask)>) -> u64 {
        let announcement = self.announcements.fetch_add(1, Ordering::Relaxed);
        // without threads, each read reports that when it is made
        let Some(handle) = runtime::handle().ok().filter(|_| !self.is_off) else {
            return announcement;
        };
        let owner = thread::current().id();
        let mut started = lock(&self.started);
        for (kept, read) in reads {
            let sent = Arc::new(AtomicBool::new(kept.is_some()));
            let request = Request {
                bucket: Arc::clone(bucket),
                read: read.clone(),
                in_flight: Arc::clone(&self.in_flight),
                sent: Arc::clone(&sent),
                all: Arc::clone(&self.waiting_bytes),
                kept,
            };
            let started_now = Started {
                task: handle.spawn(request.answer()),
                sent,
                announcement,
            };
            started.insert((owner, read), started_now);
        }
        announcement
    }

    /// The answer of a read that the calling thread has started; `None` when it has to be made.
    pub(super) fn take(&self, read: Ask) -> Option<Answer> {
        let mut started = lock(&self.started).remove(&(thread::current().id(), read))?;
        // a request of its own does not wait for those of other operations
        if !started.sent.load(Ordering::Relaxed) {
            return None;
        }
        runtime::block_on(&mut started.task).ok()?.ok()?.answer.take()
    }

    /// A key is about to change: discards what was started of it, by any thread, and when the guard
    /// is dropped, what was started since.
    pub(super) fn changes<'a>(&'a self, key: &'a str) -> Changes<'a> {
        self.forget(key);
        Changes { ahead: self, key }
    }

    fn forget(&self, key: &str) {
        lock(&self.started).retain(|(_, read), _| match read {
            Ask::Get { key: read, .. } | Ask::Listed { key: read, .. } | Ask::Size(read) => read != key,
            Ask::List(folder) => folder != folder_of(key),
        });
    }

    /// Number of reads that were started and not taken.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.started).len()
    }

    #[cfg(test)]
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes.load(Ordering::Relaxed)
    }

    /// Discards what was started by an announcement and not taken.
    pub(super) fn end(&self, announcement: u64) {
        lock(&self.started).retain(|_, started| started.announcement != announcement);
    }
}

/// A key that is being changed.
pub(super) struct Changes<'a> {
    ahead: &'a Ahead,
    key: &'a str,
}

impl Drop for Changes<'_> {
    fn drop(&mut self) {
        self.ahead.forget(self.key);
    }
}

/// A request that is about to be sent.
struct Request {
    bucket: Arc<Bucket>,
    read: Ask,
    in_flight: Arc<Semaphore>,
    sent: Arc<AtomicBool>,
    all: Arc<AtomicUsize>,
    /// The answer, if no request is needed.
    kept: Option<Vec<u8>>,
}

impl Request {
    async fn answer(self) -> Waiting {
        if let Some(bytes) = self.kept {
            let counted = Counted {
                all: self.all,
                bytes: AtomicUsize::new(0),
            };
            let fits = counted.fits(bytes.len() as u64);
            return Waiting {
                answer: fits.then_some(Answer::Kept(bytes)),
                _counted: counted,
            };
        }
        // never closed; without a permit there would only be more at once
        let _permit = self.in_flight.acquire().await.ok();
        self.sent.store(true, Ordering::Relaxed);
        let counted = Counted {
            all: self.all,
            bytes: AtomicUsize::new(0),
        };
        let bucket = self.bucket.as_ref();
        let answer = match &self.read {
            Ask::Get { key, max_len } | Ask::Listed { key, max_len } => {
                // counted before the body is read; what does not fit is not read
                let fetched = transfer::fetch_if(bucket, key, *max_len, &|len| counted.fits(len)).await;
                fetched.map(Answer::Get)
            }
            Ask::Size(key) => {
                let found = transfer::find(bucket, key).await;
                Some(Answer::Size(found.map(|found| found.map(|meta| meta.size))))
            }
            Ask::List(folder) => Some(Answer::List(transfer::list(bucket, folder).await)),
        };
        Waiting {
            answer,
            _counted: counted,
        }
    }
}
