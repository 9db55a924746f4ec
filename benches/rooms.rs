//! Each stage of an ingest compared with its floor, and a whole ingest with the sum of its stages.
//!
//!     npm run bench:rooms                 # 256 MiB of each kind of data
//!     npm run bench:rooms -- 64 3         # MiB of each kind, runs
//!
//! A floor is what a plain call of the crate below costs, or a copy of the same bytes. All rows of
//! a run take turns. CPU time is that of this thread, in nanoseconds as Linux counts it; the whole
//! ingest counts all threads, in steps of 10 ms.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, and ends where it cannot go on"
)]

use containerarchive::base::{ChunkMeta, ChunkSum, Prover, RepoSeal, Seals};
use containerarchive::chunk::{ChunkerParams, Cutter, Gear};
use containerarchive::codec::{Codec, Compression, Encoder};
use containerarchive::crypto::{KdfParams, KeyBundle, Keys, Pin};
use containerarchive::entropy::{Entropy, SeededEntropy};
use containerarchive::id::{PackId, RepoId};
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, IngestOptions, ReaderItems};
use containerarchive::pack::KIND_DATA;
use containerarchive::parity::{Accumulator, Shape};
use containerarchive::repo::{self, Environment, InitOptions, ParityParams, Repository, Secret};
use containerarchive::sha256::Stream;
use sha2::{Digest, Sha256};
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

const ZSTD: Compression = Compression::Zstd { level: 3 };
const PACK_LEN: usize = 8 << 20;
/// As much as an ingest hashes at a time.
const BATCH: usize = 8 << 20;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let len = numbers.next().unwrap_or(256) << 20;
    let runs = numbers.next().unwrap_or(5).max(1);
    for (name, data) in [("sql", sql(len)), ("random", random(len, 1))] {
        let rows: Vec<Vec<Row>> = (0..runs).map(|_| stages(&data)).collect();
        let medians: Vec<(Row, f64)> = (0..rows[0].len())
            .map(|at| {
                (
                    rows[0][at].clone(),
                    median(rows.iter().map(|run| run[at].seconds).collect()),
                )
            })
            .collect();
        print_stages(name, len, &medians);
        let whole = median((0..runs).map(|_| ingest_cpu(&data)).collect());
        let sum: f64 = medians
            .iter()
            .filter(|(row, _)| row.is_used)
            .map(|(_, seconds)| seconds)
            .sum();
        println!();
        println!(
            "A whole ingest of {name}, encrypted: {whole:.3} CPU s, {:.2} × the sum of its stages ({sum:.3} s).",
            whole / sum
        );
        println!();
    }
}

/// What a stage cost in one run.
#[derive(Clone)]
struct Row {
    name: &'static str,
    /// An ingest does this; otherwise it is the floor of the row before.
    is_used: bool,
    seconds: f64,
}

/// Every stage once, with its floor.
fn stages(data: &[u8]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut time = |name, is_used, work: &mut dyn FnMut()| {
        let before = thread_time();
        work();
        let seconds = (thread_time() - before).as_secs_f64();
        rows.push(Row { name, is_used, seconds });
    };
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("source");
    write(&path, data);
    let mut buffer = touched(BATCH);
    time("read the source", true, &mut || read(&path, &mut buffer));

    let cutter = Cutter::new(ChunkerParams::default(), Arc::new(Gear::default_table())).expect("good sizes");
    let mut chunks: Vec<&[u8]> = Vec::new();
    time("cut", true, &mut || {
        let mut rest = data;
        while let Some(len) = cutter.cut(rest, true) {
            let (chunk, after) = rest.split_at(len);
            chunks.push(chunk);
            rest = after;
        }
    });
    let mut copy = touched(data.len());
    time("copy the bytes", false, &mut || copy.copy_from_slice(black_box(data)));

    let seal = sealed();
    let mut metas = Vec::new();
    time("ids, batch by batch", true, &mut || {
        for batch in batches(&chunks) {
            for (id, chunk) in seal.chunk_ids(KIND_DATA, batch).into_iter().zip(batch) {
                let (raw_len, kind) = (chunk.len() as u32, KIND_DATA);
                metas.push(ChunkMeta {
                    id,
                    raw_len,
                    kind,
                    codec: 0,
                });
            }
        }
    });
    time("SHA-256 of the crate", false, &mut || {
        for chunk in &chunks {
            black_box(Sha256::digest(chunk));
        }
    });
    let mut sums = Vec::new();
    time("checksums for the proof", true, &mut || {
        sums = chunks.iter().map(|chunk| ChunkSum::of(chunk)).collect();
    });

    let mut encoder = Encoder::new();
    let mut encoded: Vec<Vec<u8>> = chunks.iter().map(|chunk| touched(chunk.len())).collect();
    time("zstd 3", true, &mut || {
        for ((chunk, meta), out) in chunks.iter().zip(&mut metas).zip(&mut encoded) {
            let (codec, bytes) = encoder.encode(ZSTD, chunk);
            meta.codec = codec as u8;
            out.truncate(bytes.len());
            out.copy_from_slice(bytes);
        }
    });
    let entropy = SeededEntropy::new(5);
    let mut stored: Vec<Vec<u8>> = encoded.iter().map(|bytes| touched(bytes.len() + 64)).collect();
    time("seal", true, &mut || {
        for (at, out) in stored.iter_mut().enumerate() {
            let sum = Some(sums[at]).filter(|_| metas[at].codec == Codec::Raw as u8);
            seal.seal_chunk(&metas[at], &encoded[at], sum, &entropy, out)
                .expect("sealed");
        }
    });
    let mut prover = Prover::default();
    time("proof of the stored chunks", true, &mut || {
        for (at, stored) in stored.iter().enumerate() {
            let proven = prover.prove(&seal, &metas[at], stored, Some(sums[at]));
            assert!(proven.is_ok_and(|proven| proven.is_ok()));
        }
    });

    let stored = stored.concat();
    // without what is left over: packs of one group have similar lengths
    let packs: Vec<&[u8]> = stored.chunks_exact(PACK_LEN).collect();
    let mut ids = Vec::new();
    time("ids of packs, in pairs", true, &mut || {
        for pair in packs.chunks(2) {
            let mut streams = vec![Stream::default(); pair.len()];
            let mut pieces: Vec<_> = streams.iter_mut().zip(pair.iter().copied()).collect();
            containerarchive::crypto::sha256_each(&[], &mut pieces);
            ids.extend(streams.into_iter().map(|stream| PackId(stream.finish())));
        }
    });
    time("SHA-256 of the crate", false, &mut || {
        for pack in &packs {
            black_box(Sha256::digest(pack));
        }
    });
    time("parity RS(20,1)", true, &mut || {
        let shape = Shape { data: 20, parity: 1 };
        for group in ids.iter().zip(&packs).collect::<Vec<_>>().chunks(20) {
            let mut accumulator = Accumulator::new(shape, 2, 0).expect("a group");
            for (id, pack) in group {
                accumulator.add(**id, pack).expect("room");
            }
            black_box(&accumulator);
        }
    });
    time("write the packs", true, &mut || {
        for (number, pack) in packs.iter().enumerate() {
            write(&folder.path().join(number.to_string()), pack);
        }
    });
    rows
}

/// The chunks of each batch.
fn batches<'a, 'c>(chunks: &'a [&'c [u8]]) -> impl Iterator<Item = &'a [&'c [u8]]> {
    let mut rest = chunks;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fit = rest.iter().take_while(|chunk| {
            bytes += chunk.len();
            bytes <= BATCH
        });
        let count = fit.count();
        let (batch, after) = rest.split_at(count);
        rest = after;
        (count > 0).then_some(batch)
    })
}

/// Memory that costs no page faults any more: an ingest reuses its buffers.
fn touched(len: usize) -> Vec<u8> {
    vec![1; len]
}

fn sealed() -> RepoSeal {
    let entropy = SeededEntropy::new(4);
    let bundle = KeyBundle::generate(&entropy, RepoId([1; 16]), Pin::new(65_536, 262_144, 1_048_576));
    let keys = Keys::from_bundle(&bundle.expect("random keys"));
    RepoSeal::new(RepoId([1; 16]), Seals::Sealed(Box::new(keys)))
}

/// CPU seconds of a whole first ingest into an encrypted repository.
fn ingest_cpu(data: &[u8]) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    write(&source, data);
    let repo = open_new(&folder.path().join("repo"));
    let mut items = ReaderItems::one("data", "bench", open(&source));
    let before = process_time();
    ops::ingest(&repo, &mut items, &IngestOptions::default(), &NullMonitor).expect("an ingest");
    (process_time() - before).as_secs_f64()
}

fn open_new(folder: &Path) -> Arc<Repository> {
    let environment = Environment::local(folder, 2, Arc::new(NullMonitor)).expect("a folder");
    let options = InitOptions {
        compression: ZSTD,
        parity: Some(Some(ParityParams { data: 20, parity: 1 })),
        kdf: KdfParams {
            memory_kib: 8,
            time: 1,
            lanes: 1,
        },
        ..InitOptions::default()
    };
    let secret = Secret::Passphrase(Zeroizing::new(b"bench".to_vec()));
    Arc::new(repo::init(environment, Some(&secret), &options).expect("a new repository"))
}

fn print_stages(name: &str, len: usize, medians: &[(Row, f64)]) {
    println!("| {name}, {} MiB | CPU s/GiB | GB per CPU second |", len >> 20);
    println!("|---|---|---|");
    for (row, seconds) in medians {
        let indent = if row.is_used { "" } else { "floor: " };
        let (per_gib, speed) = (seconds * (1u64 << 30) as f64 / len as f64, len as f64 / seconds / 1e9);
        println!("| {indent}{} | {per_gib:.3} | {speed:.2} |", row.name);
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next().and_then(|field| field.parse().ok());
    Duration::from_nanos(first.unwrap_or(0))
}

/// User and system time of this process, all threads.
fn process_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // behind the name, which may contain anything: 11 fields, then the two in ticks of 10 ms
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

#[expect(clippy::disallowed_methods, reason = "a bench needs a source")]
fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).expect("a file");
}

#[expect(clippy::disallowed_methods, reason = "a bench needs a source")]
fn open(path: &Path) -> std::fs::File {
    std::fs::File::open(path).expect("the file")
}

fn read(path: &Path, buffer: &mut [u8]) {
    let mut file = open(path);
    while file.read(buffer).expect("bytes") > 0 {}
}

fn random(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SeededEntropy::new(seed).fill(&mut bytes).expect("seeded");
    bytes
}

/// Rows as a dump of a database has them.
fn sql(len: usize) -> Vec<u8> {
    let picks = random(len / 8, 2);
    let mut out = Vec::with_capacity(len + 256);
    for (number, pick) in picks.as_chunks::<8>().0.iter().enumerate() {
        let key = u64::from_le_bytes(*pick);
        let row = format!(
            "{number}\tcustomer-{:06}\t2026-11-{:02} {:02}:{:02}\t{}.{:02}\t{key:016x}\t\\N\n",
            key % 100_000,
            1 + key % 30,
            key % 24,
            key % 60,
            key % 5_000,
            key % 100,
        );
        out.extend_from_slice(row.as_bytes());
        if out.len() >= len {
            break;
        }
    }
    out.truncate(len);
    out
}
