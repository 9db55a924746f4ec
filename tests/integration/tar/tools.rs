//! What the tests of tars share: a scan that keeps everything, a tree of files of every kind, and
//! the programs of others.

use containerarchive::tar::{Content, Event, Kind, Member, Scanner, Verdict};
use std::path::{Path, PathBuf};
use std::process::Command;

/// All that one scan reported.
#[derive(Debug, PartialEq, Eq)]
pub struct Scan {
    /// Members, each with the stored data as far as they came, and whether they came completely.
    pub members: Vec<(Member, Vec<u8>, bool)>,
    pub globals: Vec<(u64, u64)>,
    pub verdict: Verdict,
}

/// Scans bytes that arrive in pieces of these lengths, in turn.
pub fn scan_pieces(mut bytes: &[u8], lengths: &[usize]) -> Scan {
    let mut scanner = Scanner::new();
    let (mut members, mut globals) = (Vec::new(), Vec::new());
    let mut lengths = lengths.iter().cycle();
    while !bytes.is_empty() {
        let len = (*lengths.next().unwrap()).clamp(1, bytes.len());
        let (piece, rest) = bytes.split_at(len);
        scanner.feed(piece, &mut |event| note(event, &mut members, &mut globals));
        bytes = rest;
    }
    let verdict = scanner.finish();
    Scan {
        members,
        globals,
        verdict,
    }
}

pub fn scan(bytes: &[u8]) -> Scan {
    scan_pieces(bytes, &[usize::MAX])
}

fn note(event: Event<'_>, members: &mut Vec<(Member, Vec<u8>, bool)>, globals: &mut Vec<(u64, u64)>) {
    match event {
        Event::Member(member) => members.push((member.clone(), Vec::new(), false)),
        Event::Data(bytes) => members.last_mut().unwrap().1.extend_from_slice(bytes),
        Event::End => members.last_mut().unwrap().2 = true,
        Event::Global { offset, end } => globals.push((offset, end)),
    }
}

impl Scan {
    pub fn paths(&self) -> Vec<String> {
        let path = |member: &Member| String::from_utf8_lossy(&member.path).into_owned();
        self.members.iter().map(|(member, ..)| path(member)).collect()
    }
}

/// The content of a file whose stored data these are.
pub fn content(member: &Member, stored: &[u8]) -> Vec<u8> {
    let mut rest = stored;
    match &member.content {
        Content::Plain => stored.to_vec(),
        Content::Sparse(segments) => {
            let mut content = vec![0; usize::try_from(member.size).unwrap()];
            for segment in segments {
                let (now, later) = rest.split_at(segment.len as usize);
                content[segment.offset as usize..][..now.len()].copy_from_slice(now);
                rest = later;
            }
            assert_eq!(rest.len(), 0);
            content
        }
        Content::SparseWithoutMap => panic!("no map"),
    }
}

/// The name of a kind in `list.py`.
pub fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::HardLink => "hardlink",
        Kind::Symlink => "symlink",
        Kind::CharDevice => "char",
        Kind::BlockDevice => "block",
        Kind::Directory => "dir",
        Kind::Fifo => "fifo",
        Kind::Other(_) => "other",
    }
}

/// Whether a program is there. A test that needs it and does not find it says so and passes.
pub fn has(program: &str, argument: &str) -> bool {
    let found = Command::new(program)
        .arg(argument)
        .output()
        .is_ok_and(|out| out.status.success());
    if !found {
        eprintln!("SKIPPED: {program} is not there, nothing was compared with it");
    }
    found
}

/// Runs a program; its output, whatever its exit code.
pub fn run(command: &mut Command) -> (bool, Vec<u8>) {
    let out = command.env("LC_ALL", "C").env("TZ", "UTC").output().unwrap();
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        eprintln!("{command:?}: {}", text.lines().take(5).collect::<Vec<_>>().join(" / "));
    }
    (out.status.success(), out.stdout)
}

/// A file beside this one.
pub fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/integration/tar")
        .join(name)
}

/// `len` bytes that repeat nowhere.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(next).collect()
}
