//! The cost of each call in a repository of 10^6, 10^7, 10^8 chunks.
//!
//!     npm run bench:scale                      # 1 and 10 million chunks
//!     npm run bench:scale -- 1 10 100          # millions of chunks
//!
//! 100 million need 40 GB and 6 million files in the directory for temporary files, or that of
//! `CONTAINERARCHIVE_SCALE`. The repository is generated: a real one without parity or encryption,
//! and in it packs of 32 small chunks each, with their `.idx`, and one segment that names them all.
//! Every row is a process of its own, so its memory is that of the call. Times are without key
//! derivation; files are in the page cache as far as they fit.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a bench prints, writes files, and ends where it cannot go on"
)]

use containerarchive::buffer::BufferPool;
use containerarchive::entropy::{Entropy, SeededEntropy, random};
use containerarchive::id::{ChunkId, PackId, SnapshotId};
use containerarchive::index::{EntryScan, EntrySource, SegmentEntry};
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, IngestOptions, PruneOptions, ReaderItems};
use containerarchive::pack::{KIND_DATA, PackEntry, PackHeader, PackWriter};
use containerarchive::repo::{self, Environment, InitOptions, OpenOptions, Repository};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::snapshot::retention::{Keep, RetentionPolicy};
use sha2::{Digest, Sha256};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

/// Chunks in a pack, and their length in bytes, as it is and as the index states it.
const CHUNKS_PER_PACK: u64 = 32;
const STORED: usize = 16;
const RAW_LEN: u32 = 262_144;
/// More than a pack has.
const PACK_BYTES: usize = 8 << 10;
/// Look-ups of one row.
const LOOKUPS: u64 = 10_000;
/// The rows: a call, and what it is.
const CALLS: [(&str, &str); 8] = [
    ("open", "open"),
    ("hit", "look up 10,000 known ids"),
    ("miss", "look up 10,000 new ids"),
    ("ingest", "first ingest of 20 KB of a handle"),
    ("again", "third ingest of 20 KB of a handle"),
    ("list", "list snapshots"),
    ("plan", "plan a prune"),
    ("reindex", "reindex"),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [call, folder, count] = args.as_slice()
        && call.parse::<u64>().is_err()
    {
        return measure(call, Path::new(folder), count.parse().expect("a number of chunks"));
    }
    let mut millions: Vec<u64> = args.iter().filter_map(|arg| arg.parse().ok()).collect();
    if millions.is_empty() {
        millions = vec![1, 10];
    }
    for number in millions {
        table(number);
    }
}

/// Generates a repository, and prints what each call costs in it.
fn table(millions: u64) {
    let parent = std::env::var_os("CONTAINERARCHIVE_SCALE").unwrap_or_else(|| std::env::temp_dir().into());
    let folder = tempfile::tempdir_in(parent).expect("a folder");
    let count = millions * 1_000_000;
    let start = Instant::now();
    generate(folder.path(), count);
    // the first barrier of a call would wait for the gigabytes that were just written
    let _ = Command::new("sync").status();
    println!(
        "\n{millions} million chunks (generated in {:.0} s)\n",
        start.elapsed().as_secs_f64()
    );
    println!("| call | ms | peak RSS, MiB |\n|---|---|---|");
    let program = std::env::current_exe().expect("this program");
    for (call, what) in CALLS {
        let args = [call, &folder.path().to_string_lossy(), &count.to_string()];
        let output = Command::new(&program).args(args).output().expect("a process");
        assert!(
            output.status.success(),
            "{call}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        println!("| {what} | {} |", String::from_utf8_lossy(&output.stdout).trim());
        std::io::stdout().flush().expect("a stdout");
    }
}

/// Makes one call, and prints its milliseconds and the peak memory of this process.
fn measure(call: &str, folder: &Path, count: u64) {
    let started = Instant::now();
    let repo = Arc::new(open(folder));
    if call == "open" {
        return report(started);
    }
    let ids: Vec<ChunkId> = (0..LOOKUPS)
        .map(|number| match call {
            "hit" => id(number * (count / LOOKUPS), count),
            _ => absent(number),
        })
        .collect();
    if call == "again" {
        for seed in [1, 2] {
            ingest(&repo, seed);
        }
    }
    let started = Instant::now();
    match call {
        "hit" | "miss" => {
            let found = repo.locate_published_batch(&ids).expect("look-ups");
            let hits = found.iter().filter(|locations| !locations.is_empty()).count();
            assert_eq!(hits, if call == "hit" { ids.len() } else { 0 });
        }
        "ingest" => ingest(&repo, 3),
        "again" => ingest(&repo, 4),
        "list" => assert!(
            !ops::list_snapshots(&repo, &SnapshotFilter::default())
                .expect("a list")
                .is_empty()
        ),
        "plan" => {
            let policy = RetentionPolicy {
                keep_last: Keep::All,
                ..RetentionPolicy::default()
            };
            let options = PruneOptions {
                dry_run: true,
                ..PruneOptions::new(policy)
            };
            ops::prune(&repo, &options, &NullMonitor).expect("a plan");
        }
        "reindex" => ops::reindex(&repo, &NullMonitor).expect("a reindex"),
        _ => panic!("there is no call {call}"),
    }
    report(started);
}

fn report(started: Instant) {
    let took = started.elapsed();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib: u64 = peak
        .and_then(|text| text.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0);
    println!("{:.1} | {}", took.as_secs_f64() * 1000.0, kib / 1024);
}

fn open(folder: &Path) -> Repository {
    let environment = Environment::local(folder, 2, Arc::new(NullMonitor)).expect("a folder");
    repo::open(environment, None, &OpenOptions::default()).expect("the repository")
}

fn ingest(repo: &Arc<Repository>, seed: u64) {
    let mut bytes = vec![0; 20_000];
    SeededEntropy::new(seed).fill(&mut bytes).expect("bytes");
    let mut items = ReaderItems::one("data", "bench", Box::new(std::io::Cursor::new(bytes)));
    ops::ingest(repo, &mut items, &IngestOptions::default(), &NullMonitor).expect("an ingest");
}

/// Creates the repository and everything that is generated in it.
fn generate(folder: &Path, count: u64) {
    let environment = Environment::local(folder, 2, Arc::new(NullMonitor)).expect("a folder");
    let options = InitOptions {
        parity: Some(None),
        ..InitOptions::default()
    };
    let repo = Arc::new(repo::init(environment, None, &options).expect("a new repository"));
    ingest(&repo, 0);
    let source = Generated::create(count, &repo, folder);
    repo.index()
        .publish_source(&SeededEntropy::new(5), &source)
        .expect("a segment");
}

/// An id that no generated chunk has.
fn absent(number: u64) -> ChunkId {
    ChunkId(hash(&[b"absent", &number.to_le_bytes()]))
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for part in parts {
        sha.update(part);
    }
    sha.finalize().into()
}

/// `count` chunks, the n-th by id at the position `n * FACTOR mod count`, so that neighbours by id
/// are in different packs, as those of hashes are.
struct Generated {
    count: u64,
    /// Sorted by id.
    packs: Vec<(PackId, u64)>,
    /// The number in `packs` of each pack, in the order of positions.
    ordinals: Vec<u32>,
    /// The offset of a slot of a pack.
    offsets: Vec<u32>,
}

/// A prime that divides no power of ten.
const FACTOR: u64 = 982_451_653;

impl Generated {
    /// Writes the packs.
    fn create(count: u64, repo: &Repository, folder: &Path) -> Self {
        let number = count.div_ceil(CHUNKS_PER_PACK);
        let pool = BufferPool::new(1 << 20);
        let inverse = inverse(FACTOR, count);
        let mut offsets = Vec::new();
        let mut made = Vec::with_capacity(number as usize);
        for ordinal in 0..number {
            let random_bytes = SeededEntropy::new(ordinal);
            let header = PackHeader {
                sealed: false,
                meta: false,
                repo: repo.config().id,
                session: SnapshotId([7; 16]),
                nonce: random(&random_bytes).expect("a nonce"),
                epoch: 0,
            };
            let mut pack = PackWriter::create(pool.take(PACK_BYTES).expect("memory"), header).expect("room");
            let first = ordinal * CHUNKS_PER_PACK;
            for position in first..(first + CHUNKS_PER_PACK).min(count) {
                let at = u128::from(position) * u128::from(inverse) % u128::from(count);
                assert!(
                    pack.append(id(at as u64, count), RAW_LEN, 0, KIND_DATA, &[0; STORED]),
                    "a full pack"
                );
            }
            let finished = PackWriter::finish_all(vec![pack], repo.seal().as_ref()).expect("a pack");
            for pack in finished {
                if ordinal == 0 {
                    offsets = pack.entries.iter().map(|entry| entry.offset).collect();
                }
                write_new(&folder.join(layout::pack(&pack.id)), pack.bytes.filled());
                write_new(&folder.join(layout::pack_index(&pack.id)), &pack.index);
                made.push((pack.id, pack.bytes.filled().len() as u64));
            }
        }
        let mut packs = made.clone();
        packs.sort_unstable();
        let ordinal_of = |pack| packs.binary_search(pack).expect("its pack") as u32;
        let ordinals = made.iter().map(ordinal_of).collect();
        Self {
            count,
            packs,
            ordinals,
            offsets,
        }
    }
}

/// The n-th id of `count` in their order.
fn id(number: u64, count: u64) -> ChunkId {
    let mut bytes = hash(&[b"chunk", &number.to_le_bytes()]);
    let step = u64::MAX / count;
    let noise = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) % step;
    bytes[..8].copy_from_slice(&(number * step + noise).to_be_bytes());
    ChunkId(bytes)
}

fn write_new(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
    fs::write(path, bytes).expect("a file");
}

impl EntrySource for Generated {
    fn packs(&self) -> &[(PackId, u64)] {
        &self.packs
    }

    fn scan(&self) -> EntryScan<'_> {
        Box::new((0..self.count).map(|number| {
            let position = (u128::from(number) * u128::from(FACTOR) % u128::from(self.count)) as u64;
            let entry = PackEntry {
                id: id(number, self.count),
                offset: self.offsets[(position % CHUNKS_PER_PACK) as usize],
                payload_len: STORED as u32,
                raw_len: RAW_LEN,
                codec: 0,
                kind: KIND_DATA,
            };
            let pack = self.ordinals[(position / CHUNKS_PER_PACK) as usize];
            Ok(SegmentEntry { pack, entry })
        }))
    }
}

/// The number that undoes a multiplication by `factor` modulo `count` (extended Euclid).
fn inverse(factor: u64, count: u64) -> u64 {
    let modulus = i128::from(count);
    let (mut old, mut new) = ((i128::from(factor) % modulus, 1), (modulus, 0));
    while new.0 != 0 {
        let quotient = old.0 / new.0;
        (old, new) = (new, (old.0 - quotient * new.0, old.1 - quotient * new.1));
    }
    u64::try_from(old.1.rem_euclid(modulus)).expect("within the modulus")
}
