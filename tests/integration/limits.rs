//! Memory limits: ingests that wait in the queue hold nothing, they can be cancelled, and every mix
//! of operations ends at the smallest limit.

use crate::support::*;
use containerarchive::lock::lease;
use containerarchive::monitor::{Monitor, NullMonitor, Progress};
use containerarchive::ops::{
    self, IngestOptions, ItemSpec, ItemStream, PruneOptions, ReaderItems, RestoreOptions, VerifyLevel, VerifyOptions,
};
use containerarchive::repo::{self, InitOptions, OpenOptions, Repository};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::snapshot::retention::{Keep, RetentionPolicy};
use containerarchive::storage::MemoryStorage;
use containerarchive::{Error, Result};
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

/// A repository with the smallest memory limit, at which two ingests run at once.
fn smallest(flavor: Flavor, threads: usize) -> Arc<Repository> {
    let options = InitOptions {
        open: OpenOptions {
            memory_limit: 1,
            ..OpenOptions::default()
        },
        ..flavor.small()
    };
    let environment = threaded_environment(Arc::new(MemoryStorage::new()), 1, threads);
    Arc::new(repo::init(environment, flavor.secret().as_ref(), &options).unwrap())
}

/// Waits until `count` ingests are in the queue.
fn until_waiting(repo: &Repository, count: usize) {
    while repo.waiting_ingests() != count {
        std::thread::yield_now();
    }
}

/// Bytes as they arrive through a channel. It ends when the sender is dropped.
struct Arriving {
    receiver: Receiver<Vec<u8>>,
    left: Vec<u8>,
}

/// Returns a source and the sender of its bytes. The sender waits for the reader: nothing is
/// buffered in between.
fn arriving() -> (SyncSender<Vec<u8>>, Arriving) {
    let (sender, receiver) = sync_channel(0);
    let left = Vec::new();
    (sender, Arriving { receiver, left })
}

impl Read for Arriving {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.left.is_empty() {
            match self.receiver.recv() {
                Ok(bytes) => self.left = bytes,
                Err(_) => return Ok(0),
            }
        }
        let len = out.len().min(self.left.len());
        out[..len].copy_from_slice(&self.left[..len]);
        self.left.drain(..len);
        Ok(len)
    }
}

fn ingest_from(repo: &Arc<Repository>, source: impl Read + Send, monitor: &dyn Monitor) -> Result<String> {
    let mut items = ReaderItems::one("data", "x", source);
    let snapshot = ops::ingest(repo, &mut items, &IngestOptions::default(), monitor)?;
    Ok(snapshot.id.to_hex())
}

/// Two ingests that run until this is dropped. No other ingest can start.
struct Full<'scope> {
    sources: Vec<SyncSender<Vec<u8>>>,
    running: Vec<std::thread::ScopedJoinHandle<'scope, Result<String>>>,
}

impl<'scope> Full<'scope> {
    fn new<'env>(scope: &'scope std::thread::Scope<'scope, 'env>, repo: &'env Arc<Repository>) -> Self {
        let (mut sources, mut running) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let (sender, source) = arriving();
            running.push(scope.spawn(move || ingest_from(repo, source, &NullMonitor)));
            // the ingest has received it, so it runs
            sender.send(b"begun".to_vec()).unwrap();
            sources.push(sender);
        }
        Self { sources, running }
    }

    fn end(self) {
        drop(self.sources);
        for running in self.running {
            running.join().unwrap().unwrap();
        }
    }
}

/// A source that must not be read.
struct Unread;

impl ItemStream for Unread {
    fn next_item(&mut self) -> Result<Option<ItemSpec>> {
        panic!("a waiting ingest reads its source")
    }

    fn read(&mut self, _: &mut [u8]) -> Result<usize> {
        panic!("a waiting ingest reads its source")
    }
}

/// Cancels when `stop` is set, and records the reported waiting.
#[derive(Default)]
struct Waiter {
    stop: AtomicBool,
    begun: AtomicBool,
    waiting: Mutex<Vec<bool>>,
}

impl Monitor for Waiter {
    fn progress(&self, progress: &Progress) {
        self.waiting.lock().unwrap().push(progress.waiting);
    }

    fn begins(&self, _share_bytes: usize) {
        self.begun.store(true, Ordering::SeqCst);
    }

    fn is_cancelled(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

#[test]
fn a_waiting_ingest_holds_nothing_and_ends_when_it_is_stopped() {
    let repo = smallest(Flavor::plain(), 2);
    std::thread::scope(|scope| {
        let full = Full::new(scope, &repo);
        let waiter = Waiter::default();
        let outcome = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| ops::ingest(&repo, &mut Unread, &IngestOptions::default(), &waiter));
            until_waiting(&repo, 1);
            // there are two leases, and the third ingest does not block a prune
            assert_eq!(lease::list(repo.storage()).unwrap().len(), 2);
            let policy = RetentionPolicy {
                keep_last: Keep::Count(1),
                ..RetentionPolicy::default()
            };
            ops::prune(&repo, &PruneOptions::new(policy), &NullMonitor).unwrap();
            assert!(!waiting.is_finished());
            waiter.stop.store(true, Ordering::SeqCst);
            waiting.join().unwrap()
        });
        assert!(matches!(outcome, Err(Error::Cancelled)), "{outcome:?}");
        assert_eq!(*waiter.waiting.lock().unwrap(), [true]);
        assert!(!waiter.begun.load(Ordering::SeqCst));
        assert_eq!(repo.waiting_ingests(), 0);
        full.end();
    });
}

#[test]
fn a_waiting_ingest_starts_when_another_one_ends() {
    let repo = smallest(Flavor::plain(), 2);
    std::thread::scope(|scope| {
        let full = Full::new(scope, &repo);
        let waiter = Waiter::default();
        let id = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| ingest_from(&repo, &b"bytes"[..], &waiter));
            until_waiting(&repo, 1);
            full.end();
            waiting.join().unwrap().unwrap()
        });
        assert_eq!(restore(&repo, &id, None).unwrap(), b"bytes");
        // it reported that it waits, and then that it does not
        assert_eq!(waiter.waiting.lock().unwrap()[..2], [true, false]);
        assert!(waiter.begun.load(Ordering::SeqCst));
    });
}

#[test]
fn a_waiting_ingest_ends_when_the_handle_is_closed() {
    let repo = smallest(Flavor::plain(), 2);
    std::thread::scope(|scope| {
        let full = Full::new(scope, &repo);
        let outcome = std::thread::scope(|scope| {
            let waiting = scope.spawn(|| ops::ingest(&repo, &mut Unread, &IngestOptions::default(), &NullMonitor));
            until_waiting(&repo, 1);
            repo.close();
            waiting.join().unwrap()
        });
        assert!(matches!(outcome, Err(Error::Closed)), "{outcome:?}");
        drop(full.sources);
        for running in full.running {
            assert!(matches!(running.join().unwrap(), Err(Error::Closed)));
        }
    });
}

#[test]
fn lanes_above_the_limit_run_alone_and_end() {
    let repo = smallest(Flavor::sealed(), 2);
    let data: Vec<Vec<u8>> = (0..16).map(|seed| random_bytes(seed, 50_000)).collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut lanes: Vec<Box<dyn ItemStream + Send + '_>> = (data.iter().enumerate())
                    .map(|(at, bytes)| Box::new(ReaderItems::one(&at.to_string(), "x", &bytes[..])) as _)
                    .collect();
                let options = IngestOptions::default();
                ops::ingest_lanes(&repo, &mut lanes, &options, &NullMonitor, &|_| {}).unwrap();
            });
        }
    });
}

/// Passes a restore to an ingest of the same handle, byte for byte. The restore starts first.
fn ingest_a_restore(repo: &Arc<Repository>, id: &str) -> String {
    let (sender, source) = arriving();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let plan = ops::plan_restore(repo, id, &RestoreOptions::default()).unwrap();
            ops::restore(repo, &plan, &NullMonitor, &mut |bytes| {
                sender.send(bytes.to_vec()).map_err(|_| Error::Cancelled)
            })
            .unwrap();
        });
        ingest_from(repo, source, &NullMonitor).unwrap()
    })
}

#[test]
fn every_mix_of_operations_ends_at_the_smallest_limit() {
    const WRITERS: u64 = 6;
    const ROUNDS: u64 = 2;
    for flavor in [Flavor::plain(), Flavor::sealed()] {
        let repo = smallest(flavor, 2);
        let data = [random_bytes(1, 60_000), text_bytes(2, 60_000)].concat();
        let first = ingest(&repo, &data).unwrap().id.to_hex();
        std::thread::scope(|scope| {
            let (repo, data, first) = (&repo, &data, first.as_str());
            for writer in 0..WRITERS {
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let id = ingest_a_restore(repo, first);
                        assert!(restore(repo, &id, None).unwrap() == *data);
                        let own = random_bytes(100 + writer * 10 + round, 50_000);
                        let id = ingest(repo, &own).unwrap().id.to_hex();
                        assert!(restore(repo, &id, None).unwrap() == own);
                    }
                });
            }
            scope.spawn(move || {
                let options = VerifyOptions {
                    level: VerifyLevel::Full,
                    subset: None,
                };
                for _ in 0..3 {
                    let report = ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap();
                    assert!(report.ok(), "{:?}", report.problems);
                }
            });
            scope.spawn(move || {
                let policy = RetentionPolicy {
                    keep_last: Keep::Count(1000),
                    ..RetentionPolicy::default()
                };
                for _ in 0..3 {
                    match ops::prune(repo, &PruneOptions::new(policy.clone()), &NullMonitor) {
                        Ok(_) | Err(Error::RepositoryLocked { .. }) => {}
                        Err(other) => panic!("{other:?}"),
                    }
                    ops::stats(repo, &NullMonitor).unwrap();
                }
            });
        });
        assert_eq!(repo.waiting_ingests(), 0);
        let snapshots = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap();
        assert_eq!(snapshots.len() as u64, 1 + WRITERS * ROUNDS * 2);
    }
}

/// Ingests other bytes when it is first read, and returns the id of their snapshot.
struct Nested<'a> {
    repo: &'a Arc<Repository>,
    inner: Option<String>,
    left: usize,
}

impl Read for Nested<'_> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.inner.is_none() {
            self.inner = Some(ingest(self.repo, b"inner").unwrap().id.to_hex());
        }
        let len = out.len().min(self.left);
        self.left -= len;
        Ok(len)
    }
}

#[test]
fn an_ingest_may_wait_for_another_one_at_the_smallest_limit() {
    let repo = smallest(Flavor::sealed(), 1);
    let source = Nested {
        repo: &repo,
        inner: None,
        left: 100_000,
    };
    ingest_from(&repo, source, &NullMonitor).unwrap();
    let snapshots = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap();
    assert_eq!(snapshots.len(), 2);
}
