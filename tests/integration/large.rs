//! Many items, long streams, little memory. The long tests are ignored and run by name.
//!
//! Other large sizes: ten million index entries (`src/index/tests`), a manifest of four million
//! chunks (`src/snapshot/tests`).

use crate::support::*;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, IngestOptions, ItemSpec, ItemStream, ReaderItems, RestoreOptions};
use containerarchive::repo::{self, InitOptions, OpenOptions, Repository};
use containerarchive::storage::LocalStorage;
use containerarchive::{Error, Result, entropy};
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// A stream of any length that does not compress and never repeats, generated while it is read.
struct Stream {
    left: u64,
    state: u64,
}

impl Stream {
    fn new(seed: u64, len: u64) -> Self {
        Self {
            left: len,
            state: seed | 1,
        }
    }

    /// Checks that `bytes` are the next bytes of the stream.
    fn expect(&mut self, bytes: &[u8], scratch: &mut Vec<u8>) {
        scratch.resize(bytes.len(), 0);
        self.read_exact(scratch).unwrap();
        assert!(bytes == scratch.as_slice(), "wrong bytes, {} before the end", self.left);
    }
}

impl Read for Stream {
    /// Advances in complete words only (xorshift64*, Vigna 2016), so that the sizes of reads do not
    /// matter.
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        let len = (out.len() as u64).min(self.left) as usize;
        for byte in &mut out[..len] {
            // one byte per word is enough and fast; the state makes the stream repeatable
            if self.left.is_multiple_of(8) {
                self.state ^= self.state >> 12;
                self.state ^= self.state << 25;
                self.state ^= self.state >> 27;
            }
            let word = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d);
            *byte = (word >> (8 * (self.left % 8))) as u8;
            self.left -= 1;
        }
        Ok(len)
    }
}

/// Items that are generated on demand, so that the test itself needs no memory.
struct ManyItems {
    next: u64,
    count: u64,
    left: Vec<u8>,
}

impl ManyItems {
    fn content(number: u64) -> Vec<u8> {
        // some empty, some equal, some of several chunks
        match number % 10 {
            0 => Vec::new(),
            1 => b"the same in every tenth".to_vec(),
            2 if number % 100 == 2 => random_bytes(number, 6000),
            _ => format!("item {number}").into_bytes(),
        }
    }
}

impl ItemStream for ManyItems {
    fn next_item(&mut self) -> Result<Option<ItemSpec>> {
        if self.next == self.count {
            return Ok(None);
        }
        self.left = Self::content(self.next);
        self.next += 1;
        Ok(Some(ItemSpec::new(
            &format!("folder/item-{:07}", self.next - 1),
            "file",
        )))
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let len = out.len().min(self.left.len());
        out[..len].copy_from_slice(&self.left[..len]);
        self.left.drain(..len);
        Ok(len)
    }
}

fn many_items(flavor: Flavor, count: u64) {
    let (repo, _) = memory_repo(flavor);
    let mut items = ManyItems {
        next: 0,
        count,
        left: Vec::new(),
    };
    let snapshot = ops::ingest(&repo, &mut items, &IngestOptions::default(), &NullMonitor).unwrap();
    assert_eq!(snapshot.items.len() as u64, count);
    let id = snapshot.id.to_hex();
    let all: Vec<u8> = (0..count).flat_map(ManyItems::content).collect();
    assert!(restore(&repo, &id, None).unwrap() == all);
    for number in [0, 1, 2, 3, count / 2, count - 1] {
        let name = format!("folder/item-{number:07}");
        assert_eq!(restore(&repo, &id, Some(&name)).unwrap(), ManyItems::content(number));
    }
    let mut again = ManyItems {
        next: 0,
        count,
        left: Vec::new(),
    };
    let second = ops::ingest(&repo, &mut again, &IngestOptions::default(), &NullMonitor).unwrap();
    assert_eq!(second.new_chunks, 0);
}

#[test]
fn ten_thousand_items_are_restored_each_by_its_name() {
    many_items(Flavor::sealed(), 10_000);
}

#[test]
#[ignore = "deep: half a minute"]
fn slow_a_hundred_thousand_items() {
    many_items(Flavor::plain(), 100_000);
    many_items(Flavor::sealed(), 100_000);
}

/// A repository in a real directory with default settings: chunks, packs and memory limit.
fn folder_repo(path: &Path, flavor: Flavor) -> Arc<Repository> {
    let storage = LocalStorage::open_path(path, Arc::new(entropy::OsEntropy)).unwrap();
    let environment = threaded_environment(Arc::new(storage), 1, 2);
    let options = InitOptions {
        compression: flavor.compression,
        kdf: flavor.small().kdf,
        open: OpenOptions::default(),
        ..InitOptions::default()
    };
    Arc::new(repo::init(environment, flavor.secret().as_ref(), &options).unwrap())
}

/// Returns the resident memory of this process in bytes, where the system reports it.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? << 10)
}

/// Ingests and restores `len` bytes. Returns the maximum growth of memory.
fn stream_through(len: u64) -> Option<u64> {
    let dir = tempfile::tempdir().unwrap();
    let repo = folder_repo(dir.path(), Flavor::sealed());
    let before = resident();
    let mut most = before;
    let mut watched = Stream::new(5, len);
    struct Watch<'a>(&'a mut Stream, &'a mut Option<u64>, u64);
    impl Read for Watch<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            let read = self.0.read(out)?;
            self.2 += read as u64;
            if self.2 >= 4 << 20 {
                self.2 = 0;
                *self.1 = (*self.1).max(resident());
            }
            Ok(read)
        }
    }
    let mut items = ReaderItems::one("stream", "test", Watch(&mut watched, &mut most, 0));
    let snapshot = ops::ingest(&repo, &mut items, &IngestOptions::default(), &NullMonitor).unwrap();
    drop(items);
    assert_eq!(snapshot.original_size, len);
    let plan = ops::plan_restore(&repo, &snapshot.id.to_hex(), &RestoreOptions::default()).unwrap();
    let (mut expected, mut scratch, mut seen) = (Stream::new(5, len), Vec::new(), 0u64);
    ops::restore(&repo, &plan, &NullMonitor, &mut |bytes| {
        expected.expect(bytes, &mut scratch);
        seen += bytes.len() as u64;
        if seen.is_multiple_of(64) {
            most = most.max(resident());
        }
        Ok::<(), Error>(())
    })
    .unwrap();
    assert_eq!(seen, len);
    Some(most? - before?)
}

#[test]
fn a_stream_of_many_batches_and_packs_is_restored() {
    stream_through(40 << 20);
}

#[test]
#[ignore = "deep: a gigabyte on disk; run alone, because it measures the whole process"]
fn slow_memory_stays_bounded_however_long_the_stream_is() {
    if let Some(grown) = stream_through(1 << 30) {
        assert!(grown < 256 << 20, "memory grew by {} MiB", grown >> 20);
    }
}

#[test]
#[ignore = "deep: a million chunks; half a minute and more"]
fn slow_a_million_chunks_in_one_item() {
    let (repo, _) = memory_repo(Flavor::plain());
    let len = 1_000_000_000;
    let mut items = ReaderItems::one("stream", "test", Stream::new(9, len));
    let snapshot = ops::ingest(&repo, &mut items, &IngestOptions::default(), &NullMonitor).unwrap();
    assert!(snapshot.chunk_count > 500_000, "{}", snapshot.chunk_count);
    for (start, end) in [(0, 1000), (len / 2, len / 2 + 100_000), (len - 1000, len)] {
        let options = RestoreOptions {
            item: None,
            range: Some((start, Some(end))),
        };
        let got = restore_with(&repo, &snapshot.id.to_hex(), &options).unwrap();
        let mut expected = Stream::new(9, len);
        std::io::copy(&mut (&mut expected).take(start), &mut std::io::sink()).unwrap();
        expected.expect(&got, &mut Vec::new());
    }
}
