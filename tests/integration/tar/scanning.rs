//! Archives of GNU tar, bsdtar, Python and Go: the members are those that Python's tarfile lists,
//! and the data those that `tar -xO` prints.

use super::tools::*;
use containerarchive::tar::{Content, Event, Member, Scanner, Verdict};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compares a scan of the file with Python's list, in pieces of several sizes. Returns the scan.
pub fn compare(archive: &Path) -> Scan {
    let bytes = std::fs::read(archive).unwrap();
    let scan = scan(&bytes);
    for lengths in [&[1usize][..], &[511, 513, 7], &[4096], &[100_000]] {
        // byte by byte is slow for what is large
        if lengths[0] > 1 || bytes.len() < 4 << 20 {
            assert_eq!(scan_pieces(&bytes, lengths), scan, "pieces of {lengths:?}");
        }
    }
    assert!(
        matches!(scan.verdict, Verdict::Complete { end } if end <= bytes.len() as u64),
        "{:?}",
        scan.verdict
    );
    let (success, listed) = run(Command::new("python3").arg(beside("list.py")).arg(archive));
    assert!(success);
    let listed: Vec<Value> = String::from_utf8(listed)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let found: Vec<Value> = scan
        .members
        .iter()
        .map(|(member, data, _)| described(member, data))
        .collect();
    for (number, (found, listed)) in found.iter().zip(&listed).enumerate() {
        assert_eq!(found, listed, "member {number} of {}", archive.display());
    }
    assert_eq!(found.len(), listed.len());
    assert!(found.len() > 5);
    let mut end = 0;
    for (member, data, is_complete) in &scan.members {
        assert!(*is_complete && scan.verdict.covers(member));
        assert_eq!(data.len() as u64, member.stored_len);
        let range = member.data_offset as usize..(member.data_offset + member.stored_len) as usize;
        assert!(bytes[range] == data[..]);
        // no byte between members, but global headers
        let global = scan.globals.iter().find(|(from, _)| *from == end);
        assert_eq!(member.header_offset, global.map_or(end, |(_, to)| *to));
        end = member.end();
    }
    scan
}

#[test]
fn stored_archives_of_each_program_are_read_as_tarfile_listed_them() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tar");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|end| end != "tar") {
            continue;
        }
        let scan = scan(&std::fs::read(&path).unwrap());
        assert!(matches!(scan.verdict, Verdict::Complete { .. }), "{}", path.display());
        let listed = std::fs::read_to_string(path.with_extension("jsonl")).unwrap();
        let listed: Vec<Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let found: Vec<Value> = scan
            .members
            .iter()
            .map(|(member, data, _)| described(member, data))
            .collect();
        assert_eq!(found, listed, "{}", path.display());
        count += 1;
    }
    assert_eq!(count, 9);
}

/// A member as `list.py` describes it.
fn described(member: &Member, data: &[u8]) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    // tarfile takes the slashes from the end
    let slashes = member.path.iter().rev().take_while(|byte| **byte == b'/').count();
    let path = &member.path[..member.path.len() - slashes];
    let nanos = i128::from(member.mtime.seconds) * 1_000_000_000 + i128::from(member.mtime.nanos);
    let is_file = kind_name(member.kind) == "file";
    let digest = (is_file && member.size <= 64 << 20).then(|| {
        let mut stream = containerarchive::sha256::Stream::default();
        stream.update(&content(member, data));
        hex(&stream.finish())
    });
    let sparse = match &member.content {
        Content::Plain => None,
        Content::Sparse(segments) => Some(segments.iter().map(|one| [one.offset, one.len]).collect::<Vec<_>>()),
        Content::SparseWithoutMap => panic!("no map"),
    };
    serde_json::json!({
        "path": hex(path),
        "kind": kind_name(member.kind),
        "size": member.size,
        "mode": member.mode,
        "uid": member.uid,
        "gid": member.gid,
        "uname": hex(&member.uname),
        "gname": hex(&member.gname),
        "mtime": nanos.to_string(),
        "link": hex(&member.link),
        "device": [member.device.0, member.device.1],
        "header_offset": member.header_offset,
        "data_offset": member.data_offset,
        "sparse": sparse,
        "sha256": digest,
    })
}

/// Compares the contents of all files with what a program prints.
fn compare_contents(scan: &Scan, printed: &[u8]) {
    let contents: Vec<Vec<u8>> = scan
        .members
        .iter()
        .filter(|(member, ..)| kind_name(member.kind) == "file")
        .map(|(member, data, _)| content(member, data))
        .collect();
    assert!(contents.concat() == printed, "{} bytes were printed", printed.len());
}

struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    fn new(long_names: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("tree")).unwrap();
        tree(&folder.path().join("tree"), long_names);
        Self { folder }
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn archive(&self) -> PathBuf {
        self.folder.path().join("archive.tar")
    }

    fn write(&self, program: &str, options: &[&str]) {
        let mut command = Command::new(program);
        command
            .args(options)
            .arg("-C")
            .arg(self.tree())
            .arg("-cf")
            .arg(self.archive());
        // v7 and ustar leave out what they have no room for, and say so
        run(command.arg("."));
    }
}

#[test]
fn archives_of_gnu_tar_are_read_as_tarfile_reads_them() {
    if !has("python3", "--version") || !has("tar", "--version") {
        return;
    }
    for (format, is_long) in [
        ("v7", false),
        ("oldgnu", true),
        ("gnu", true),
        ("ustar", true),
        ("posix", true),
    ] {
        let scene = Scene::new(is_long);
        scene.write("tar", &[&format!("--format={format}")]);
        let scan = compare(&scene.archive());
        assert!(scan.members.len() >= 20, "{format}: {}", scan.members.len());
        let (_, printed) = run(Command::new("tar").arg("-xOf").arg(scene.archive()));
        compare_contents(&scan, &printed);
    }
}

#[test]
fn sparse_files_of_gnu_tar_have_the_maps_that_tarfile_reads() {
    if !has("python3", "--version") || !has("tar", "--version") {
        return;
    }
    let formats: [&[&str]; 5] = [
        &["--format=oldgnu"],
        &["--format=gnu"],
        &["--format=posix", "--sparse-version=0.0"],
        &["--format=posix", "--sparse-version=0.1"],
        &["--format=posix", "--sparse-version=1.0"],
    ];
    for format in formats {
        let scene = Scene::new(true);
        for (name, len, segments) in [
            ("sparse-1", 1 << 20, 1),
            ("sparse-3", 1 << 20, 3),
            ("sparse-4", 600_000, 4),
            ("sparse-5", (9 * 65_536) + 5000, 5), // data at its end
            ("sparse-60", 9 << 20, 60),
            ("sparse-hole", 5_000_001, 0),
            (&format!("sparse-{}", "l".repeat(200)), 1 << 20, 2),
        ] {
            sparse_file(&scene.tree().join(name), len, segments);
        }
        sparse_file(&scene.folder.path().join("sparse-large"), 9 << 30, 40);
        scene.write("tar", &[&["--sparse"], format].concat());
        let scan = compare(&scene.archive());
        let (_, printed) = run(Command::new("tar").arg("-xOf").arg(scene.archive()));
        compare_contents(&scan, &printed);
        let with_map = scan
            .members
            .iter()
            .filter(|(member, ..)| member.content != Content::Plain);
        assert!(with_map.count() >= 7, "{format:?}");
        let (_, names) = run(Command::new("tar").arg("-tf").arg(scene.archive()));
        let long = format!("./sparse-{}", "l".repeat(200));
        assert!(scan.paths().contains(&long) && String::from_utf8_lossy(&names).contains(&long));

        // 9 GB, and the map only
        std::fs::rename(
            scene.folder.path().join("sparse-large"),
            scene.tree().join("sparse-large"),
        )
        .unwrap();
        scene.write("tar", &[&["--sparse"], format].concat());
        let scan = compare(&scene.archive());
        let large = scan.members.iter().find(|(member, ..)| member.size == 9 << 30);
        assert_eq!(large.unwrap().0.stored_len, 40 * 8192, "{format:?}");
    }
}

#[test]
fn archives_of_bsdtar_are_read_as_tarfile_reads_them() {
    if !has("python3", "--version") || !has("bsdtar", "--version") {
        return;
    }
    for (format, is_long) in [("v7", false), ("ustar", true), ("gnutar", true), ("pax", true)] {
        let scene = Scene::new(is_long);
        if format == "pax" {
            sparse_file(&scene.tree().join("sparse"), 1 << 20, 3);
        }
        scene.write("bsdtar", &["--format", format]);
        let scan = compare(&scene.archive());
        assert!(scan.members.len() >= 20, "{format}: {}", scan.members.len());
        let (_, printed) = run(Command::new("bsdtar").arg("-xOf").arg(scene.archive()));
        compare_contents(&scan, &printed);
    }
}

#[test]
fn archives_of_tarfile_are_read_as_it_reads_them() {
    if !has("python3", "--version") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for format in ["ustar", "gnu", "pax"] {
        let archive = folder.path().join(format);
        assert!(
            run(Command::new("python3")
                .arg(beside("write.py"))
                .arg(&archive)
                .arg(format))
            .0
        );
        let scan = compare(&archive);
        assert_eq!(scan.globals.len(), usize::from(format == "pax"));
        let twice: Vec<_> = scan
            .members
            .iter()
            .filter(|(member, ..)| member.path == b"twice")
            .collect();
        assert_eq!(
            twice.iter().map(|found| &found.1[..]).collect::<Vec<_>>(),
            [&b"first"[..], b"second, longer"]
        );
    }
}

#[test]
fn archives_of_go_are_read_as_tarfile_reads_them() {
    if !has("python3", "--version") || !has("go", "version") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let writer = folder.path().join("writer");
    let mut build = Command::new("go");
    build
        .env("GOCACHE", folder.path().join("cache"))
        .env("GO111MODULE", "off");
    assert!(run(build.arg("build").arg("-o").arg(&writer).arg(beside("write.go"))).0);
    for format in ["ustar", "gnu", "pax"] {
        let archive = folder.path().join(format);
        assert!(run(Command::new(&writer).arg(&archive).arg(format)).0);
        let scan = compare(&archive);
        assert_eq!(scan.globals.len(), usize::from(format == "pax"));
    }
}

#[test]
fn a_member_of_nine_gigabytes_is_passed_without_its_bytes() {
    if !has("python3", "--version") {
        return;
    }
    let script = r#"
import sys, tarfile
for name, kind in [("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)]:
    for size in [9 * 2**30 + 1, 3]:
        info = tarfile.TarInfo("large" if size > 3 else "small")
        info.size = size
        sys.stdout.buffer.write(info.tobuf(kind))
"#;
    let (_, headers) = run(Command::new("python3").args(["-c", script]));
    let large = 9 * (1u64 << 30) + 1;
    // headers of GNU tar are one block, of pax three
    for (headers, header_len) in [(&headers[..1024], 512), (&headers[1024..], 1536)] {
        let (first, second) = headers.split_at(header_len);
        assert_eq!(second.len(), 512);
        for fed_first in [0u64, 1, 511, 513, 70_000] {
            let (mut found, mut data, mut ends) = (Vec::new(), 0, 0);
            let mut each = |event: Event<'_>| match event {
                Event::Member(member) => found.push((member.size, member.header_offset, member.data_offset)),
                Event::Data(bytes) => data += bytes.len(),
                Event::End => ends += 1,
                Event::Global { .. } => panic!("no global header"),
            };
            let mut scanner = Scanner::new();
            scanner.feed(first, &mut each);
            assert_eq!(scanner.skippable(), large);
            scanner.feed(&vec![0; fed_first as usize], &mut each);
            // what cannot be skipped is not
            let mut left = large + 511 - fed_first;
            while left > 0 {
                let skipped = scanner.skip(left.min(1 << 30), &mut each);
                assert!(skipped > 0);
                left -= skipped;
            }
            assert_eq!((scanner.skippable(), scanner.skip(1, &mut each)), (0, 0));
            scanner.feed(second, &mut each);
            scanner.feed(&[b'x'; 512], &mut each);
            scanner.feed(&[0; 1024], &mut each);
            let start = header_len as u64 + large + 511;
            assert_eq!(scanner.verdict(), Some(Verdict::Complete { end: start + 2048 }));
            assert_eq!(found, [(large, 0, header_len as u64), (3, start, start + 512)]);
            assert_eq!((data as u64, ends), (fed_first + 3, 2));
        }
    }
}
