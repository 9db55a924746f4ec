//! The tar of a directory of a tar: the same members, and links that lead out of it as files.

use super::extracting::walk;
use super::forge::*;
use super::scanning::compare;
use super::tools::*;
use containerarchive::tar::{Added, Content, Kind, Member, Part, Subtree, Verdict};
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::process::Command;

/// The archive of a part, and what became of each member.
fn cut_out(archive: &[u8], path: &str) -> (Vec<u8>, Vec<Added>) {
    let scan = scan(archive);
    let mut subtree = Subtree::new(path.as_bytes(), archive.len() as u64, scan.globals.clone());
    let members: Vec<&Member> = scan.members.iter().map(|(member, ..)| member).collect();
    let mut find = |path: &[u8], before: u64| {
        let named = |member: &&&Member| member.header_offset < before && same(&member.path, path);
        members.iter().rev().find(named).map(|member| (*member).clone())
    };
    let added = members.iter().map(|member| subtree.add(member, &mut find)).collect();
    let mut out = Vec::new();
    for part in subtree.finish() {
        match part {
            Part::Range { offset, len } => out.extend_from_slice(&archive[offset as usize..][..len as usize]),
            Part::Bytes(bytes) => out.extend_from_slice(&bytes),
        }
    }
    (out, added)
}

fn same(a: &[u8], b: &[u8]) -> bool {
    let a = a.strip_prefix(b"./").unwrap_or(a);
    a.strip_suffix(b"/").unwrap_or(a) == b.strip_prefix(b"./").unwrap_or(b)
}

/// Paths, kinds, links and contents, in order.
fn told(archive: &[u8]) -> Vec<String> {
    let scan = scan(archive);
    assert!(matches!(scan.verdict, Verdict::Complete { .. }), "{:?}", scan.verdict);
    let tell = |(member, data, _): &(Member, Vec<u8>, bool)| {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match member.kind {
            Kind::HardLink | Kind::Symlink => format!("{} -> {}", text(&member.path), text(&member.link)),
            _ => format!("{}: {}", text(&member.path), text(&content(member, data))),
        }
    };
    scan.members.iter().map(tell).collect()
}

fn link(kind: u8, name: &str, target: &str) -> Vec<u8> {
    Header::new(name, kind, 0).link(target).bytes()
}

fn hard(name: &str, target: &str) -> Vec<u8> {
    link(b'1', name, target)
}

#[test]
fn a_part_of_an_archive_of_gnu_tar_restores_as_in_the_whole() {
    if !has("python3", "--version") || !has("tar", "--version") {
        return;
    }
    for format in ["gnu", "oldgnu", "posix"] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("tree/part/below")).unwrap();
        std::fs::create_dir_all(at("tree/part-2")).unwrap();
        let long = "l".repeat(200);
        for (name, len) in [
            ("a-file", 700),
            ("part/own", 5000),
            ("part-2/x", 3),
            (&format!("b-{long}"), 10),
        ] {
            std::fs::write(at("tree").join(name), noise(len, 1)).unwrap();
        }
        sparse_file(&at("tree/a-sparse"), 2 << 20, 3);
        symlink("nowhere", at("tree/a-soft")).unwrap();
        for (target, name) in [
            ("a-file", "part/hard-1"),
            ("a-file", "part/hard-2"),
            ("a-file", "part/below/hard-3"),
            ("a-sparse", "part/sparse-1"),
            ("a-sparse", "part/sparse-2"),
            ("a-soft", "part/soft"),
            ("part/own", "part/zz-own"),
            (&format!("b-{long}"), &format!("part/{long}")),
        ] {
            std::fs::hard_link(at("tree").join(target), at("tree").join(name)).unwrap();
        }
        let archive = at("archive.tar");
        let mut create = Command::new("tar");
        create.args(["--sparse", "--sort=name", &format!("--format={format}")]);
        assert!(run(create.arg("-C").arg(at("tree")).arg("-cf").arg(&archive).arg(".")).0);

        let (part, added) = cut_out(&std::fs::read(&archive).unwrap(), "part");
        let count = |kind| added.iter().filter(|added| **added == kind).count();
        assert_eq!(
            (count(Added::Copied), count(Added::Relinked), count(Added::Lost)),
            (4, 3, 0),
            "{format}"
        );
        std::fs::write(at("part.tar"), &part).unwrap();
        // an independent reader finds the same in it as this room
        compare(&at("part.tar"));
        for (archive, target) in [("archive.tar", "whole"), ("part.tar", "cut")] {
            std::fs::create_dir(at(target)).unwrap();
            let mut command = Command::new("tar");
            assert!(run(command.arg("-xpf").arg(at(archive)).arg("-C").arg(at(target))).0);
        }
        let listed = |folder: &Path| {
            let mut listed = walk(folder);
            // how many names a file has is what differs
            listed
                .iter_mut()
                .for_each(|entry| drop(entry.as_object_mut().unwrap().remove("names")));
            listed
        };
        let (cut, whole) = (listed(&at("cut/part")), listed(&at("whole/part")));
        for (cut, whole) in cut.iter().zip(&whole) {
            assert_eq!(cut, whole, "{format}");
        }
        assert_eq!(cut.len(), whole.len());
        let inode = |name: &str| std::fs::symlink_metadata(at("cut/part").join(name)).unwrap().ino();
        assert_eq!(inode("hard-1"), inode("hard-2"));
        assert_eq!(inode("hard-1"), inode("below/hard-3"));
        assert_eq!(inode("sparse-1"), inode("sparse-2"));
        assert_eq!(inode("own"), inode("zz-own"));
        assert_eq!(std::fs::read_dir(at("cut")).unwrap().count(), 1);
    }
}

#[test]
fn links_out_of_a_part_keep_the_content_of_their_time() {
    let archive = [
        file("x", "first"),
        hard("alias", "x"),
        hard("s/1", "alias"),
        // from here on, the name has other content
        file("x", "second"),
        hard("s/2", "x"),
        hard("s/3", "alias"),
        // the copy is replaced, so that no later link may name it
        file("./s/1", "other"),
        hard("s/4", "alias"),
        hard("s/5", "alias"),
        hard("s/6", "s/1"),
        hard("s/lost", "missing"),
        hard("s/directory", "s"),
        link(b'2', "soft", "x"),
        hard("s/soft", "soft"),
        link(b'2', "s/up", "../x"),
        file("sx", "not of the part"),
        end(),
    ];
    let (part, added) = cut_out(&archive.concat(), "./s/");
    use Added::*;
    let expected = [
        Outside, Outside, Copied, Outside, Copied, Relinked, Passed, Copied, Relinked, Passed, Lost, Passed, Outside,
        Copied, Passed, Outside,
    ];
    assert_eq!(added, expected);
    let expected = [
        "s/1: first",
        "s/2: second",
        "s/3 -> s/1",
        "./s/1: other",
        "s/4: first",
        "s/5 -> s/4",
        "s/6 -> s/1",
        "s/directory -> s",
        "s/soft -> x",
        "s/up -> ../x",
    ];
    assert_eq!(told(&part), expected);
}

#[test]
fn global_headers_apply_in_a_part_as_in_the_whole() {
    let archive = [
        pax(b'g', record("uname", "one")),
        file("x", "x"),
        pax(b'g', record("uname", "two")),
        file("s/a", "a"),
        [
            pax(b'x', record("gname", "g")),
            pax(b'g', record("uname", "three")),
            file("t", "t"),
        ]
        .concat(),
        file("s/b", "b"),
        // a copy of what was stated under another global header
        hard("s/x", "x"),
        pax(b'g', record("uname", "four")),
        file("s/c", "c"),
        end(),
    ];
    let whole = scan(&archive.concat());
    let (part, added) = cut_out(&archive.concat(), "s");
    assert_eq!(added.iter().filter(|added| **added == Added::Outside).count(), 2);
    let part = scan(&part);
    let owner = |scan: &Scan, path: &str| {
        let found = scan.members.iter().find(|(member, ..)| member.path == path.as_bytes());
        String::from_utf8(found.unwrap().0.uname.clone()).unwrap()
    };
    for path in ["s/a", "s/b", "s/c"] {
        assert_eq!(owner(&part, path), owner(&whole, path), "{path}");
    }
    assert_eq!(owner(&part, "s/x"), "one");
    assert_eq!(part.paths(), ["s/a", "s/b", "s/x", "s/c"]);
}

#[test]
fn everything_is_a_part_and_adjacent_members_are_one_range() {
    let archive = super::hostile::rich();
    let scan = scan(&archive);
    let mut subtree = Subtree::new(b"", archive.len() as u64, scan.globals.clone());
    for (member, ..) in &scan.members {
        assert_eq!(subtree.add(member, &mut |_, _| None), Added::Passed);
    }
    let len = archive.len() as u64 - 1024;
    let expected = [Part::Range { offset: 0, len }, Part::Bytes(vec![0; 1024])];
    assert_eq!(subtree.finish(), expected);

    // the padding of the last member is missing
    let archive = [file("a", "content"), file("b", "content")[..519].to_vec()].concat();
    let (part, _) = cut_out(&archive, "");
    assert_eq!(told(&part), ["a: content", "b: content"]);
}

proptest::proptest! {
    #[test]
    fn what_is_written_of_a_member_is_what_was_read(
        path in "[a-zé/]{1,300}", uid: u32, gid in 0u64..1 << 50, seconds in -1i64 << 40..1 << 40,
        nanos in 0u32..1_000_000_000, uname in "[a-zü]{0,60}", mode in 0u32..0o10000, sparse: bool, globals: bool,
    ) {
        let path = path.trim_end_matches('/').to_owned() + "x";
        // a link out of the part, to a member with these attributes
        let time = match (seconds, nanos) {
            (0.., _) => format!("{seconds}.{nanos:09}"),
            (_, 0) => seconds.to_string(),
            _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanos),
        };
        let mut records = [
            record("uid", uid.to_string()), record("gid", gid.to_string()), record("mtime", time),
            record("uname", &uname), record("path", format!("out/{path}")),
        ].concat();
        if sparse {
            records.extend([record("GNU.sparse.size", "9999"), record("GNU.sparse.map", "512,4,1024,3")].concat());
        }
        let archive = [
            if globals { pax(b'g', record("gname", "global")) } else { vec![] },
            pax(b'x', records),
            Header::file("x", 7).mode(mode).with("content"),
            pax(b'x', [record("path", format!("in/{path}")), record("linkpath", format!("out/{path}"))].concat()),
            hard("h", "t"),
            end(),
        ].concat();
        let whole = scan(&archive);
        let (part, added) = cut_out(&archive, "in");
        proptest::prop_assert_eq!(added, [Added::Outside, Added::Copied]);
        let part = scan(&part);
        let (copy, data, _) = &part.members[0];
        let (from, ..) = &whole.members[0];
        let expected = Member {
            path: format!("in/{path}").into_bytes(),
            header_offset: copy.header_offset,
            data_offset: copy.data_offset,
            ..from.clone()
        };
        proptest::prop_assert_eq!(copy, &expected);
        proptest::prop_assert_eq!(&data[..], b"content");
        proptest::prop_assert_eq!(copy.content != Content::Plain, sparse);
    }
}
