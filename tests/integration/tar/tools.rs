//! What the tests of tars share: a scan that keeps everything, a tree of files of every kind, and
//! the programs of others.

#![expect(clippy::print_stdout, reason = "a test says what it did not compare")]

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
        println!("SKIPPED: {program} is not there, nothing was compared with it");
    }
    found
}

/// Runs a program; its output, whatever its exit code.
pub fn run(command: &mut Command) -> (bool, Vec<u8>) {
    let out = command.env("LC_ALL", "C").env("TZ", "UTC").output().unwrap();
    if !out.status.success() {
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        println!("{command:?}: {}", text.lines().take(5).collect::<Vec<_>>().join(" / "));
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

/// A tree of files of every kind; with long names only if the format has them.
pub fn tree(folder: &Path, long_names: bool) {
    let script = r#"
import os, sys
root, is_long = os.fsencode(sys.argv[1]), sys.argv[2] == "long"
os.chdir(root)
def put(name, content=b"", mode=0o644, time=1_600_000_000):
    os.makedirs(os.path.dirname(name) or b".", exist_ok=True)
    with open(name, "wb") as file:
        file.write(content)
    os.chmod(name, mode)
    os.utime(name, ns=(time * 10**9, time * 10**9 + 123_456_789))
for length in [0, 1, 511, 512, 513, 1024, 100_000]:
    put(b"length/%d" % length, bytes(i * 7 % 251 for i in range(length)))
put(b"modes/setuid", b"s", 0o4755)
put(b"modes/secret", b"s", 0o600)
put(b"modes/before-1970", b"s", time=-1000)
put(b"names/" + b"n" * 94, b"100 bytes with the folder")
put(b"names/" + b"o" * 93, b"99")
put("names/ünïcödé 日本語".encode(), b"unicode")
put(b"names/invalid \xff\xfe", b"invalid UTF-8")
put(b"names/new\nline and \\ and space ", b"odd")
if is_long:
    put(b"names/" + b"p" * 95, b"101 bytes with the folder")
    put(b"names/" + b"q" * 255, b"longest component")
    put(b"/".join([b"d" * 50] * 5) + b"/f", b"256 bytes: prefix of ustar")
    put(b"/".join([b"deep"] * 100) + b"/f", b"deep")
    os.symlink(b"t" * 200, b"long-symlink")
    os.link(b"names/" + b"q" * 255, b"hard-to-long")
os.symlink(b"length/512", b"symlink")
os.symlink(b"/nowhere/\xff", b"dangling")
os.link(b"length/513", b"zz-hard")
os.mkdir(b"empty")
os.mkfifo(b"pipe")
os.chmod(b"empty", 0o1777)
try:
    os.mknod(b"char", 0o20666, os.makedev(1, 3))
    os.mknod(b"block", 0o60660, os.makedev(8, 17))
    os.chown(b"length/1", 1234, 5678)
    if is_long:
        os.chown(b"length/511", 3_000_000, 4_000_000_000)
except PermissionError:
    print("SKIPPED: devices and owners, for want of permission", file=sys.stderr)
"#;
    let size = if long_names { "long" } else { "short" };
    let mut command = Command::new("python3");
    assert!(run(command.args(["-c", script]).arg(folder).arg(size)).0);
}

/// A file with holes: at its start, within and at its end.
pub fn sparse_file(path: &Path, len: u64, segments: u64) {
    use std::io::{Seek, SeekFrom, Write};
    let mut file = std::fs::File::create(path).unwrap();
    file.set_len(len).unwrap();
    for number in 0..segments {
        file.seek(SeekFrom::Start((2 * number + 1) * 65_536)).unwrap();
        file.write_all(&noise(5000, number)).unwrap();
    }
    file.sync_all().unwrap();
}
