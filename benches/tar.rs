//! The scan of a tar next to the SHA-256 of the same bytes.
//!
//!     npm run bench:tar                 # 256 MiB of each kind of archive
//!     npm run bench:tar -- 64 3         # MiB of each kind, runs
//!
//! The archives differ in the length of their members. All rows of a run take turns. CPU time is
//! that of this thread, in nanoseconds as Linux counts it.

#![expect(clippy::print_stdout, reason = "a bench prints")]

use containerarchive::sha256::Stream;
use containerarchive::tar::{Event, Scanner, Verdict};
use std::hint::black_box;
use std::time::Duration;

/// A scan of long members is too short for the clock of a thread, so it is repeated for this long.
const SCAN_TIME: Duration = Duration::from_millis(200);
/// As much as an ingest reads at a time.
const PIECE: usize = 1 << 20;

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse::<usize>().ok());
    let len = numbers.next().unwrap_or(256) << 20;
    let runs = numbers.next().unwrap_or(5).max(1);
    println!("| members of | scan: GB/s | ns per member | SHA-256: GB/s | scan in % of SHA-256 |");
    println!("|---|---|---|---|---|");
    for member_len in [0, 512, 4096, 65_536, 8 << 20] {
        let archive = archive(len, member_len);
        let (mut scans, mut hashes, mut members) = (Vec::new(), Vec::new(), 0);
        for _ in 0..runs {
            let before = thread_time();
            let (mut between, mut count) = (before, 0);
            while between - before < SCAN_TIME {
                members = scan(&archive);
                count += 1;
                between = thread_time();
            }
            hash(&archive);
            scans.push((between - before).as_secs_f64() / f64::from(count));
            hashes.push((thread_time() - between).as_secs_f64());
        }
        let (scan, hash) = (median(scans), median(hashes));
        let speed = |seconds: f64| archive.len() as f64 / seconds / 1e9;
        println!(
            "| {member_len} bytes | {:.1} | {:.0} | {:.2} | {:.2} |",
            speed(scan),
            scan * 1e9 / f64::from(members),
            speed(hash),
            scan / hash * 100.0
        );
    }
}

fn scan(archive: &[u8]) -> u32 {
    let mut scanner = Scanner::new();
    let mut members = 0;
    for piece in archive.chunks(PIECE) {
        scanner.feed(piece, &mut |event| {
            if let Event::Member(member) = event {
                members += 1;
                black_box(member);
            }
        });
    }
    assert!(matches!(scanner.finish(), Verdict::Complete { .. }));
    members
}

fn hash(archive: &[u8]) {
    let mut stream = Stream::default();
    for piece in archive.chunks(PIECE) {
        stream.update(piece);
    }
    black_box(stream.finish());
}

/// A ustar of files of one length.
fn archive(len: usize, member_len: usize) -> Vec<u8> {
    let mut header = [0; 512];
    let fields: [(usize, &[u8]); 8] = [
        (0, b"folder/of/ordinary/depth/name-of-a-file.txt"),
        (100, b"0000644\0"),
        (108, b"0001750\0"),
        (116, b"0001750\0"),
        (136, b"14723745322\0"),
        (148, b"        "),
        (156, b"0"),
        (257, b"ustar\x0000user\0"),
    ];
    for (at, bytes) in fields {
        header[at..at + bytes.len()].copy_from_slice(bytes);
    }
    header[124..136].copy_from_slice(format!("{member_len:011o}\0").as_bytes());
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let padded = member_len.next_multiple_of(512);
    let mut archive = Vec::with_capacity(len + padded + 2048);
    while archive.len() < len {
        archive.extend_from_slice(&header);
        archive.resize(archive.len() + padded, 0x55);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
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
