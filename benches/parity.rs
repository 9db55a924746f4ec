//! The cost of parity: its share of an ingest's CPU time, `standard` verify compared with a plain
//! SHA-256 loop, and the rebuilding of one lost pack compared with the reading of its neighbours.
//!
//!     npm run bench:parity                # 512 MiB of each kind of data
//!     npm run bench:parity -- 128 3       # MiB of each kind, runs
//!
//! CPU time is user and system of all threads as Linux counts it (in steps of 10 ms), so a busy
//! machine disturbs little; the rebuilding is timed by the wall, the best of ten.

#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, and ends where it cannot go on"
)]

use containerarchive::codec::Compression;
use containerarchive::crypto::sha256;
use containerarchive::entropy::{Entropy, SeededEntropy};
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, IngestOptions, ReaderItems, VerifyLevel, VerifyOptions};
use containerarchive::parity::{Accumulator, Part, Shape, publish, read_record, rebuild_pack};
use containerarchive::repo::{self, Environment, InitOptions, OpenOptions, ParityParams, Repository};
use containerarchive::storage::{LocalStorage, Storage, put_bytes};
use sha2::{Digest, Sha256};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Packs of a full group in the default shape.
const NEIGHBOURS: usize = 20;
const PACK_LEN: usize = 8 << 20;
/// As much as verify reads at a time.
const PIECE: usize = 512 << 10;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let len = numbers.next().unwrap_or(512) << 20;
    let runs = numbers.next().unwrap_or(5).max(1);
    ingest_share(len, runs);
    verify_and_sha256(len, runs);
    rebuild_and_reading();
}

/// User and system time of this process so far, all threads.
#[expect(clippy::disallowed_methods, reason = "a bench asks the system, not a repository")]
fn cpu_time() -> Duration {
    let stat = std::fs::read("/proc/self/stat").unwrap_or_default();
    let text = String::from_utf8_lossy(&stat);
    // behind the name, which may hold anything: state, then 10 fields, then the two in ticks of 10
    // ms
    let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    Duration::from_millis(ticks * 10)
}

fn of_cpu<T>(run: impl FnOnce() -> T) -> (Duration, T) {
    let before = cpu_time();
    let result = run();
    (cpu_time() - before, result)
}

fn random(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SeededEntropy::new(seed).fill(&mut bytes).expect("seeded");
    bytes
}

/// Rows as a dump of a database has them.
fn sql(len: usize) -> Vec<u8> {
    let picks = random(len / 16, 2);
    let mut out = Vec::with_capacity(len + 256);
    for (number, pick) in picks.chunks_exact(8).enumerate() {
        let key = u64::from_le_bytes(pick.try_into().unwrap_or_default());
        let row = format!(
            "INSERT INTO orders VALUES ({number}, 'customer-{:06}', '2026-11-{:02} {:02}:{:02}', {}.{:02}, '{key:016x}', NULL);\n",
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

fn open_new(folder: &Path, parity: Option<ParityParams>, compression: Compression) -> Arc<Repository> {
    let environment = Environment::local(folder, 2, Arc::new(NullMonitor)).expect("a folder");
    let options = InitOptions {
        compression,
        parity: Some(parity),
        ..InitOptions::default()
    };
    Arc::new(repo::init(environment, None, &options).expect("a new repository"))
}

fn ingest(repo: &Arc<Repository>, data: &[u8]) {
    let mut items = ReaderItems::one("data", "bench", data);
    ops::ingest(repo, &mut items, &IngestOptions::default(), &NullMonitor).expect("an ingest");
}

/// The same ingest with and without parity, in turns.
fn ingest_share(len: usize, runs: usize) {
    println!("| data, plain | CPU s/GiB without parity | with RS(20,1) | parity's share | with RS(20,2) | its share |");
    println!("|---|---|---|---|---|---|");
    let gib = len as f64 / (1u64 << 30) as f64;
    for (name, data, compression) in [
        ("random, none", random(len, 1), Compression::None),
        ("random, zstd", random(len, 1), Compression::Zstd { level: 3 }),
        ("sql, zstd", sql(len), Compression::Zstd { level: 3 }),
        ("sql, gzip", sql(len), Compression::Gzip { level: 3 }),
    ] {
        let shapes = [None, Some(1), Some(2)];
        let mut times: [Vec<f64>; 3] = Default::default();
        for _ in 0..runs {
            for (shards, times) in shapes.into_iter().zip(&mut times) {
                let folder = tempfile::tempdir().expect("a folder");
                let parity = shards.map(|parity| ParityParams { data: 20, parity });
                let repo = open_new(&folder.path().join("repo"), parity, compression);
                let (cpu, ()) = of_cpu(|| ingest(&repo, &data));
                times.push(cpu.as_secs_f64() / gib);
            }
        }
        let [without, one, two] = times.map(median);
        let share = |with: f64| 100.0 * (with - without) / with;
        println!(
            "| {name} | {without:.2} | {one:.2} | {:.1} % | {two:.2} | {:.1} % |",
            share(one),
            share(two)
        );
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_unstable_by(f64::total_cmp);
    times[times.len() / 2]
}

fn verify_and_sha256(len: usize, runs: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("repo");
    ingest(
        &open_new(&path, Some(ParityParams::default()), Compression::None),
        &random(len, 3),
    );
    let environment = Environment::local(&path, 2, Arc::new(NullMonitor)).expect("the folder");
    let repo = Arc::new(repo::open(environment, None, &OpenOptions::default()).expect("the repository"));
    let stored = ops::stats(&repo, &NullMonitor).expect("numbers").bytes;
    let read = stored.data_packs + stored.meta_packs + stored.pack_indexes + stored.parity;
    let options = VerifyOptions {
        level: VerifyLevel::Standard,
        subset: None,
    };
    let buffer = random(PIECE, 4);
    let (mut verified, mut hashed) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let (cpu, report) = of_cpu(|| ops::verify(&repo, &options, &NullMonitor, &mut |_| {}));
        assert!(report.is_ok_and(|report| report.ok()));
        verified.push(read as f64 / cpu.as_secs_f64() / 1e9);
        let pieces = (read as usize).div_ceil(PIECE);
        let (cpu, _) = of_cpu(|| {
            let mut hash = Sha256::new();
            (0..pieces).for_each(|_| hash.update(&buffer));
            std::hint::black_box(hash.finalize())
        });
        hashed.push((pieces * PIECE) as f64 / cpu.as_secs_f64() / 1e9);
    }
    let (verified, hashed) = (median(verified), median(hashed));
    println!();
    println!("| | GB per CPU second |");
    println!("|---|---|");
    println!("| SHA-256 of one buffer of 512 KiB, again and again | {hashed:.2} |");
    println!("| verify, standard: packs, `.idx` and parity | {verified:.2} |");
    println!("| part of it | {:.0} % |", 100.0 * verified / hashed);
}

fn rebuild_and_reading() {
    println!();
    println!("| 20 packs of 8 MiB | ms |");
    println!("|---|---|");
    for shards in [1, 2] {
        let folder = tempfile::tempdir().expect("a folder");
        let storage = LocalStorage::open_path(folder.path(), Arc::new(SeededEntropy::new(1))).expect("a folder");
        storage.create_folders(&layout::FOLDERS, &[]).expect("folders");
        let shape = Shape {
            data: 20,
            parity: shards,
        };
        let mut group = Accumulator::new(shape, 2, 0).expect("a group");
        let mut packs = Vec::new();
        for number in 0..NEIGHBOURS as u64 {
            let bytes = random(PACK_LEN, 10 + number);
            let pack = containerarchive::id::PackId(sha256(&[&bytes]));
            put_bytes(&storage, &layout::pack(&pack), &bytes).expect("a pack");
            group.add(pack, &bytes).expect("room");
            packs.push(pack);
        }
        let id = containerarchive::id::GroupId([1; 16]);
        let repo = containerarchive::id::RepoId([2; 16]);
        let group = group.finish(repo, id, Vec::new(), b"{}".to_vec()).expect("members");
        publish(&storage, &group).expect("files");
        let lost = packs[0];
        storage.delete(&layout::pack(&lost)).expect("a deletion");
        // what a rebuilding reads: all other packs and one shard
        let keys: Vec<String> = packs[1..]
            .iter()
            .map(layout::pack)
            .chain([Part::Shard(0).key(&id)])
            .collect();
        let mut buffer = vec![0; 1 << 20];
        let read = best_of_ten(|| {
            for key in &keys {
                for offset in (0..PACK_LEN).step_by(buffer.len()) {
                    storage.get_range(key, offset as u64, &mut buffer).expect("a read");
                }
            }
        });
        let rebuilt = best_of_ten(|| {
            let record = read_record(&storage, &id).expect("a record");
            let bytes = rebuild_pack(&storage, &record, &lost).expect("the pack");
            assert_eq!(bytes.len(), PACK_LEN);
        });
        println!("| read 19 of them and a shard, {shards} shards | {read:.1} |");
        println!("| rebuild the lost one, proven by its name | {rebuilt:.1} |");
        println!("| times as long | {:.2} |", rebuilt / read);
    }
}

/// Shortest time in milliseconds.
fn best_of_ten(mut run: impl FnMut()) -> f64 {
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64() * 1e3
    };
    (0..10).map(time).fold(f64::INFINITY, f64::min)
}
