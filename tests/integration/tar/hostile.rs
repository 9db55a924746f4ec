//! Archives that are wrong in one way each, and what is said of them.

use super::forge::*;
use super::tools::*;
use containerarchive::tar::{
    Break, Content, Event, Field, Form, MAX_PATH_LEN, MAX_PAX_LEN, MAX_SEGMENTS, Scanner, Verdict, Wrapper, recognise,
};
use proptest::prelude::*;

/// What is expected: the members before the verdict, and the verdict.
struct Case {
    name: &'static str,
    bytes: Vec<u8>,
    members: usize,
    verdict: Verdict,
}

fn case(name: &'static str, bytes: Vec<Vec<u8>>, members: usize, verdict: Verdict) -> Case {
    Case {
        name,
        bytes: bytes.concat(),
        members,
        verdict,
    }
}

fn off(at: u64, why: Break) -> Verdict {
    Verdict::BrokeOff { at, why }
}

fn done(end: u64) -> Verdict {
    Verdict::Complete { end }
}

/// A valid first member of 1,024 bytes, so that what follows breaks off a tar.
fn first() -> Vec<u8> {
    file("first", "content")
}

/// A header of a sparse file of GNU tar whose data are `size` bytes.
fn gnu_sparse(size: u64) -> Header {
    Header::new("sparse", b'S', size).gnu()
}

/// A sparse file of the format 1.0 with this text in front of its data.
fn sparse_1_0(map: &[u8], real_size: &str, data: &[u8]) -> Vec<u8> {
    let records = [
        record("GNU.sparse.major", "1"),
        record("GNU.sparse.minor", "0"),
        record("GNU.sparse.name", "sparse"),
        record("GNU.sparse.realsize", real_size),
    ];
    let stored = [padded(map), data.to_vec()].concat();
    [pax(b'x', records.concat()), file("GNUSparseFile.0/sparse", stored)].concat()
}

/// A sparse file of the format 0.1 or 0.0.
fn sparse_0(records: &[Vec<u8>], data: &[u8]) -> Vec<u8> {
    [pax(b'x', records.concat()), file("sparse", data)].concat()
}

/// Headers that are no headers.
fn blocks() -> Vec<Case> {
    let no_checksum = Header::file("x", 0).bytes();
    let broken = |at: usize, bytes: &[u8]| {
        let mut block = no_checksum.clone();
        block[at..at + bytes.len()].copy_from_slice(bytes);
        block
    };
    let signed = {
        let mut block = Header::file(b"\xff\xfe name", 0).bytes();
        block[148..156].fill(b' ');
        let sum: i32 = block.iter().map(|byte| i32::from(*byte as i8)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    };
    vec![
        case("nothing", vec![], 0, Verdict::NotTar),
        case("a byte", vec![vec![b'x']], 0, Verdict::NotTar),
        case("zeros", vec![vec![0; 10_240]], 0, Verdict::NotTar),
        case("noise", vec![noise(100_000, 1)], 0, Verdict::NotTar),
        case("half a header", vec![first()[..511].to_vec()], 0, Verdict::NotTar),
        case("text", vec![b"lorem ipsum ".repeat(1000)], 0, Verdict::NotTar),
        case("wrong checksum", vec![broken(0, b"y"), end()], 0, Verdict::NotTar),
        case("empty checksum", vec![broken(148, &[0; 8]), end()], 0, Verdict::NotTar),
        case(
            "blank checksum",
            vec![broken(148, &[b' '; 8]), end()],
            0,
            Verdict::NotTar,
        ),
        case(
            "negative checksum",
            vec![broken(148, &[0xff; 8]), end()],
            0,
            Verdict::NotTar,
        ),
        case(
            "checksum of letters",
            vec![broken(148, b"checksum"), end()],
            0,
            Verdict::NotTar,
        ),
        case("signed checksum", vec![signed, end()], 1, done(1536)),
    ]
}

/// Ends that are none.
fn ends() -> Vec<Case> {
    let wrong = [b"y", &Header::file("x", 0).bytes()[1..]].concat();
    vec![
        case(
            "second header wrong",
            vec![first(), wrong, end()],
            1,
            off(1024, Break::Checksum),
        ),
        case(
            "noise after a member",
            vec![first(), noise(5000, 2)],
            1,
            off(1024, Break::Checksum),
        ),
        case("no end", vec![first()], 1, off(1024, Break::NoEnd)),
        case(
            "one zero block",
            vec![first(), vec![0; 512]],
            1,
            off(1024, Break::LoneZeroBlock),
        ),
        case(
            "one and a half",
            vec![first(), vec![0; 1023]],
            1,
            off(1024, Break::LoneZeroBlock),
        ),
        case(
            "one zero block, then a member",
            vec![first(), vec![0; 512], first(), end()],
            1,
            off(1024, Break::LoneZeroBlock),
        ),
        case(
            "noise after the end",
            vec![first(), end(), noise(2000, 3)],
            1,
            done(2048),
        ),
        case(
            "a tar after the end",
            vec![first(), end(), first(), end()],
            1,
            done(2048),
        ),
        case(
            "padding after the end",
            vec![first(), end(), vec![0; 7680]],
            1,
            done(2048),
        ),
        case(
            "end within a header",
            vec![first(), first()[..100].to_vec()],
            1,
            off(1124, Break::InHeader),
        ),
        case(
            "end within data",
            vec![first(), first()[..515].to_vec()],
            2,
            off(1539, Break::InData),
        ),
        case(
            "end within padding",
            vec![first()[..1023].to_vec()],
            1,
            off(1023, Break::InData),
        ),
    ]
}

/// Numbers that lie.
fn numbers() -> Vec<Case> {
    let size = |field: &[u8]| vec![first(), Header::file("x", 0).put(124, field).bytes(), end()];
    let bad = |field| off(1024, Break::Number(field));
    let huge = [0x80, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    vec![
        case("negative size", size(&[0xff; 12]), 1, bad(Field::Size)),
        case("size beyond 64 bits", size(&[0xbf; 12]), 1, bad(Field::Size)),
        case(
            "size of 2^63",
            size(&[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            1,
            bad(Field::Size),
        ),
        case("size of 2^63 - 1", size(&huge), 1, bad(Field::Size)),
        case(
            "size of 2^62",
            size(&[0x80, 0, 0, 0, 0x40, 0, 0, 0, 0, 0, 0, 0]),
            2,
            off(2560, Break::InData),
        ),
        case("size of letters", size(b"many bytes!\0"), 1, bad(Field::Size)),
        case("size with a sign", size(b"-0000000001\0"), 1, bad(Field::Size)),
        case("size of digits above 7", size(b"00000000008\0"), 1, bad(Field::Size)),
        case(
            "size larger than the stream",
            size(b"77777777777\0"),
            2,
            off(2560, Break::InData),
        ),
        case("size without an end", size(b"000000000000"), 2, done(2560)),
        case(
            "size smaller than the data",
            vec![Header::file("x", 1).with([b'y'; 1024]), end()],
            1,
            off(1024, Break::Checksum),
        ),
        case(
            "negative uid",
            vec![first(), Header::file("x", 0).put(108, &[0xff; 8]).bytes(), end()],
            2,
            done(2560),
        ),
        case(
            "uid of letters",
            vec![first(), Header::file("x", 0).put(108, b"staff\0").bytes(), end()],
            1,
            bad(Field::Uid),
        ),
        case(
            "gid of letters",
            vec![first(), Header::file("x", 0).put(116, b"staff\0").bytes(), end()],
            1,
            bad(Field::Gid),
        ),
        case(
            "mode of letters",
            vec![first(), Header::file("x", 0).put(100, b"rwxr-x\0").bytes(), end()],
            1,
            bad(Field::Mode),
        ),
        case(
            "time beyond 64 bits",
            vec![first(), Header::file("x", 0).put(136, &[0xbf; 12]).bytes(), end()],
            1,
            bad(Field::Mtime),
        ),
        case(
            "device of letters",
            vec![first(), Header::new("x", b'3', 0).put(329, b"major").bytes(), end()],
            1,
            bad(Field::Device),
        ),
        case(
            "a directory with a size",
            vec![Header::new("d", b'5', 1 << 40).bytes(), end()],
            1,
            done(1536),
        ),
        case(
            "a hard link with a size",
            vec![first(), Header::new("h", b'1', 5).link("first").bytes(), end()],
            2,
            done(2560),
        ),
        case(
            "an unknown type with data",
            vec![Header::new("v", b'V', 5).with("12345"), end()],
            1,
            done(2048),
        ),
    ]
}

/// Extended headers.
fn extensions() -> Vec<Case> {
    let with = |bytes: &[u8]| vec![first(), pax(b'x', bytes), file("x", "y"), end()];
    let bad = off(1024, Break::PaxRecord);
    vec![
        case("no records", with(b""), 2, done(3584)),
        case("record without a length", with(b"path=x\n"), 1, bad),
        case("record of length 0", with(b"0 path=x\n"), 1, bad),
        case("record of length 2", with(b"2 path=x\n"), 1, bad),
        case("record without a key", with(b"3 \n"), 1, bad),
        case("record without =", with(b"7 path\n"), 1, bad),
        case("record that is too short", with(b"9 path=xyz\n"), 1, bad),
        case("record that is too long", with(b"99 path=x\n"), 1, bad),
        case("record without a newline", with(b"10 path=x "), 1, bad),
        case("record of 2^64 bytes", with(b"18446744073709551616 path=x\n"), 1, bad),
        case(
            "record of 2^64 - 1 bytes",
            with(b"18446744073709551615 path=x\n"),
            1,
            bad,
        ),
        case(
            "length of 30 digits",
            with(b"000000000000000000000000000011 path=x\n"),
            1,
            bad,
        ),
        case("negative length", with(b"-11 path=x\n"), 1, bad),
        case("garbage after a record", with(b"11 path=ab\ngarbage"), 1, bad),
    ]
}

/// Values of records.
fn values() -> Vec<Case> {
    let with = |bytes: &[u8]| vec![first(), pax(b'x', bytes), file("x", "y"), end()];
    let number = |field| off(1024, Break::Number(field));
    let bad = off(1024, Break::PaxRecord);
    let long_path = record("path", vec![b'p'; MAX_PATH_LEN + 1]);
    vec![
        case("path with a zero", with(&record("path", b"a\0b")), 1, bad),
        case(
            "path that is too long",
            with(&long_path),
            1,
            off(1024, Break::TooLong(Field::Path)),
        ),
        case(
            "owner that is too long",
            with(&record("uname", vec![b'u'; 1025])),
            1,
            off(1024, Break::TooLong(Field::Owner)),
        ),
        case("negative size", with(&record("size", "-1")), 1, number(Field::Size)),
        case(
            "size of 20 digits",
            with(&record("size", "99999999999999999999")),
            1,
            number(Field::Size),
        ),
        case(
            "size of 2^63",
            with(&record("size", "9223372036854775808")),
            1,
            number(Field::Size),
        ),
        case(
            "size of 65 digits",
            with(&record("size", "0".repeat(65))),
            1,
            off(1024, Break::TooLong(Field::Size)),
        ),
        case(
            "size in hexadecimal",
            with(&record("size", "0x10")),
            1,
            number(Field::Size),
        ),
        case(
            "time of letters",
            with(&record("mtime", "now")),
            1,
            number(Field::Mtime),
        ),
        case(
            "time beyond 64 bits",
            with(&record("mtime", "9223372036854775808")),
            1,
            number(Field::Mtime),
        ),
        case(
            "time of two points",
            with(&record("mtime", "1.2.3")),
            1,
            number(Field::Mtime),
        ),
    ]
}

/// Extended headers and long names as a whole.
fn lengths() -> Vec<Case> {
    let with = |bytes: &[u8]| vec![first(), pax(b'x', bytes), file("x", "y"), end()];
    let bad = off(1024, Break::PaxRecord);
    let nested: Vec<u8> = (0..500).flat_map(|_| long(b'L', vec![b'l'; 60_000])).collect();
    let many: Vec<u8> = (0..200_000)
        .flat_map(|at| record(&format!("user.{at}"), "value"))
        .collect();
    vec![
        case(
            "records without a member",
            vec![first(), pax(b'x', record("path", "p")), end()],
            1,
            off(1024, Break::Dangling),
        ),
        case(
            "records, then nothing",
            vec![first(), pax(b'x', record("path", "p"))],
            1,
            off(2048, Break::InHeader),
        ),
        case(
            "records that break off",
            vec![first(), pax(b'x', [b'x'; 600])[..700].to_vec()],
            1,
            bad,
        ),
        case(
            "200,000 unknown records",
            with(&many),
            2,
            done(1024 + 512 + (many.len() as u64).next_multiple_of(512) + 2048),
        ),
        case(
            "an extended header of a terabyte",
            vec![first(), Header::new("x", b'x', 1 << 40).bytes(), file("y", "")],
            1,
            off(1024, Break::TooLong(Field::Pax)),
        ),
        case(
            "a global header that is too long",
            vec![first(), Header::new("g", b'g', MAX_PAX_LEN + 1).bytes(), file("y", "")],
            1,
            off(1024, Break::TooLong(Field::Pax)),
        ),
        case(
            "a global header that is wrong",
            vec![first(), pax(b'g', "garbage"), file("y", ""), end()],
            1,
            bad,
        ),
        case(
            "a long name of a gigabyte",
            vec![first(), Header::new("L", b'L', 1 << 30).bytes()],
            1,
            off(1024, Break::TooLong(Field::Path)),
        ),
        case(
            "a long link of 64 KiB and 2",
            vec![first(), Header::new("K", b'K', (64 << 10) + 2).bytes()],
            1,
            off(1024, Break::TooLong(Field::Link)),
        ),
        case(
            "500 long names",
            vec![first(), nested, file("x", ""), end()],
            2,
            done(1024 + 500 * 60_928 + 512 + 1024),
        ),
        case(
            "long names without a member",
            vec![first(), long(b'L', "l"), end()],
            1,
            off(1024, Break::Dangling),
        ),
        case(
            "an empty long name",
            vec![first(), Header::new("L", b'L', 0).bytes(), file("x", ""), end()],
            2,
            done(3072),
        ),
        case(
            "a long name of zeros",
            vec![first(), long(b'L', [0; 999]), file("x", ""), end()],
            2,
            done(4096),
        ),
    ]
}

/// Sparse maps of GNU tar.
fn maps() -> Vec<Case> {
    let bad = off(1024, Break::SparseMap);
    let number = off(1024, Break::Number(Field::SparseMap));
    let after = |bytes: Vec<u8>| vec![first(), bytes, end()];
    let one = |header: Header| after(header.with([b'd'; 512]));
    vec![
        case(
            "a map of GNU tar",
            one(gnu_sparse(512).real_size(2048).entry(0, 1024, 512)),
            2,
            done(3072),
        ),
        case(
            "that exceeds the file",
            one(gnu_sparse(512).real_size(1024).entry(0, 1024, 512)),
            1,
            bad,
        ),
        case(
            "that is longer than the data",
            one(gnu_sparse(512).real_size(2048).entry(0, 0, 513)),
            1,
            bad,
        ),
        case(
            "that is shorter than the data",
            one(gnu_sparse(512).real_size(2048).entry(0, 0, 511)),
            1,
            bad,
        ),
        case(
            "that runs backwards",
            one(gnu_sparse(512).real_size(2048).entry(0, 1024, 256).entry(1, 0, 256)),
            1,
            bad,
        ),
        case(
            "that overlaps",
            one(gnu_sparse(512).real_size(2048).entry(0, 0, 256).entry(1, 255, 256)),
            1,
            bad,
        ),
        case(
            "of letters",
            one(gnu_sparse(512).real_size(2048).entry(0, 0, 512).put(386, b"offset")),
            1,
            number,
        ),
        case(
            "with a negative offset",
            one(gnu_sparse(512).real_size(2048).entry(0, 0, 512).put(386, &[0xff; 12])),
            1,
            number,
        ),
        case(
            "that overflows",
            one(gnu_sparse(512)
                .real_size(2048)
                .entry(0, 0, 512)
                .put(386, &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
            1,
            bad,
        ),
        case(
            "with a real size of letters",
            one(gnu_sparse(512).entry(0, 0, 512).put(483, b"large")),
            1,
            off(1024, Break::Number(Field::Size)),
        ),
        case(
            "that goes on without end",
            vec![
                first(),
                gnu_sparse(512).real_size(9).put(482, b"\x01").bytes(),
                more(&[], true).repeat(5000),
            ],
            1,
            off(1024 + 512 + 5000 * 512, Break::InHeader),
        ),
        case(
            "that goes on into noise",
            vec![
                first(),
                gnu_sparse(512).real_size(9).put(482, b"\x01").bytes(),
                vec![b'x'; 512],
            ],
            1,
            number,
        ),
    ]
}

/// Sparse maps of pax.
fn pax_maps() -> Vec<Case> {
    let bad = off(1024, Break::SparseMap);
    let number = off(1024, Break::Number(Field::SparseMap));
    let after = |bytes: Vec<u8>| vec![first(), bytes, end()];
    let text = |map: &[u8], size: &str| after(sparse_1_0(map, size, &[b'd'; 512]));
    let list = |map: &str, size: &str| {
        let records = [record("GNU.sparse.size", size), record("GNU.sparse.map", map)];
        after(sparse_0(&records, &[b'd'; 512]))
    };
    let pairs = |keys: &[(&str, &str)]| {
        let mut records = vec![record("GNU.sparse.size", "9999"), record("GNU.sparse.numblocks", "1")];
        records.extend(
            keys.iter()
                .map(|(key, value)| record(&format!("GNU.sparse.{key}"), value)),
        );
        after(sparse_0(&records, &[b'd'; 512]))
    };
    vec![
        case("a map of 1.0", text(b"1\n0\n512\n", "512"), 2, done(4608)),
        case("of 1.0 without numbers", text(b"\n", "512"), 1, number),
        case("of 1.0 with letters", text(b"x\n", "512"), 1, number),
        case(
            "of 1.0 that runs backwards",
            text(b"2\n512\n256\n0\n256\n", "2048"),
            1,
            bad,
        ),
        case("of 1.0 that exceeds the file", text(b"1\n0\n512\n", "511"), 1, bad),
        case(
            "of 1.0 with too many entries",
            text(b"99999999\n0\n512\n", "512"),
            1,
            number,
        ),
        case(
            "of 1.0 with 21 digits",
            text(b"100000000000000000000\n", "512"),
            1,
            number,
        ),
        case("of 1.0 with endless zeros", text(&[b'0'; 400], "512"), 1, number),
        case("of 1.0 that does not end", text(b"1\n0\n51", "512"), 1, number),
        case(
            "of 1.0 that is all there is",
            after(sparse_1_0(b"", "512", b"2\n1\n0\n2\n0")),
            1,
            bad,
        ),
        case("of 1.0 without data", after(sparse_1_0(b"", "512", b"")), 1, bad),
        case(
            "of 1.0 without a real size",
            after(sparse_0(
                &[record("GNU.sparse.major", "1"), record("GNU.sparse.minor", "0")],
                b"1\n0\n1\n",
            )),
            1,
            bad,
        ),
        case("a map of 0.1", list("0,512", "512"), 2, done(4096)),
        case("of 0.1 that overlaps", list("0,256,255,256", "2048"), 1, bad),
        case(
            "of 0.1 with half a pair",
            list("0,512,1024", "2048"),
            1,
            off(1024, Break::PaxRecord),
        ),
        case("of 0.1 with a comma too much", list("0,512,", "512"), 1, number),
        case("of 0.1 of letters", list("zero", "512"), 1, number),
        case(
            "a map of 0.0",
            pairs(&[("offset", "0"), ("numbytes", "512")]),
            2,
            done(4096),
        ),
        case(
            "of 0.0 with two offsets",
            pairs(&[("offset", "0"), ("offset", "512")]),
            1,
            bad,
        ),
        case(
            "of 0.0 that begins with a length",
            pairs(&[("numbytes", "512")]),
            1,
            bad,
        ),
        case("of 0.0 with a negative offset", pairs(&[("offset", "-1")]), 1, number),
    ]
}

#[test]
fn each_hostile_archive_has_the_verdict_that_is_stated_for_it() {
    let cases: Vec<Case> = [
        blocks(),
        ends(),
        numbers(),
        extensions(),
        values(),
        lengths(),
        maps(),
        pax_maps(),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(cases.len() >= 100, "{}", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let scan = scan(&case.bytes);
        if (scan.members.len(), scan.verdict) != (case.members, case.verdict) {
            wrong.push(format!(
                "{}: {} members, {:?}; expected {}, {:?}",
                case.name,
                scan.members.len(),
                scan.verdict,
                case.members,
                case.verdict
            ));
        }
        for (member, ..) in &scan.members {
            assert!(member.path.len() <= MAX_PATH_LEN && member.link.len() <= MAX_PATH_LEN);
        }
        for lengths in [&[1usize][..], &[512], &[513], &[100, 1000]] {
            if lengths[0] > 1 || case.bytes.len() < 1 << 20 {
                assert_eq!(
                    scan_pieces(&case.bytes, lengths),
                    scan,
                    "{} in pieces of {lengths:?}",
                    case.name
                );
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// An archive with every feature that this room knows, and its boundaries between members.
pub fn rich() -> Vec<u8> {
    let parts = [
        pax(b'g', record("comment", "global")),
        first(),
        file("empty", ""),
        file("block", [b'b'; 512]),
        Header::new("dir/", b'5', 0).bytes(),
        Header::new("hard", b'1', 0).link("first").bytes(),
        Header::new("soft", b'2', 0).link("dir").bytes(),
        Header::new("tty", b'3', 0)
            .put(329, b"0000005\0")
            .put(337, b"0000001\0")
            .bytes(),
        [
            long(b'K', [b'k'; 300]),
            long(b'L', [b'l'; 300]),
            Header::new("s", b'2', 0).gnu().bytes(),
        ]
        .concat(),
        [
            pax(
                b'x',
                [
                    record("path", [b'p'; 600]),
                    record("mtime", "-1.5"),
                    record("user.x", [b'x'; 700]),
                ]
                .concat(),
            ),
            file("short", "pax"),
        ]
        .concat(),
        [
            gnu_sparse(1536)
                .real_size(99_999)
                .entry(0, 0, 512)
                .entry(1, 1024, 512)
                .put(482, b"\x01")
                .bytes(),
            more(&[(4096, 512), (99_999, 0)], false),
            vec![b's'; 1536],
        ]
        .concat(),
        sparse_1_0(b"2\n512\n512\n2048\n512\n", "4000", &[b't'; 1024]),
        sparse_0(
            &[
                record("GNU.sparse.size", "4000"),
                record("GNU.sparse.map", "0,512,1024,512"),
            ],
            &[b'u'; 1024],
        ),
        end(),
    ];
    parts.concat()
}

#[test]
fn an_archive_cut_anywhere_keeps_the_members_before_the_cut() {
    let whole = rich();
    let all = scan(&whole);
    assert_eq!(all.members.len(), 12);
    assert_eq!(all.verdict, done(whole.len() as u64));
    for len in (0..whole.len()).filter(|len| len % 512 < 2 || len % 512 == 511 || len % 37 == 0) {
        let cut = scan(&whole[..len]);
        let complete: Vec<_> = cut
            .members
            .iter()
            .filter(|(member, ..)| cut.verdict.covers(member))
            .collect();
        let expected: Vec<_> = all
            .members
            .iter()
            .take_while(|(member, ..)| member.data_offset + member.stored_len <= len as u64)
            .collect();
        assert_eq!(complete, expected, "cut at {len}");
        let begun = cut.members.len() - complete.len();
        assert!(begun <= 1);
        match cut.verdict {
            Verdict::NotTar => assert!(len < 512),
            Verdict::BrokeOff {
                at,
                why: Break::LoneZeroBlock,
            } => assert_eq!(at, whole.len() as u64 - 1024),
            Verdict::BrokeOff { at, .. } => assert_eq!(at, len as u64),
            Verdict::Complete { .. } => panic!("complete at {len}"),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_cut_into_pieces_gives_the_same_members(lengths in prop::collection::vec(1usize..2000, 1..40)) {
        let whole = rich();
        prop_assert_eq!(scan_pieces(&whole, &lengths), scan(&whole));
    }

    #[test]
    fn noise_after_a_header_never_panics(seed: u64, len in 0usize..4000, kind: u8, size in 0u64..3000) {
        let bytes = [first(), Header::new("x", kind, size).with(noise(len, seed))].concat();
        prop_assert_eq!(scan_pieces(&bytes, &[7, 500, 1]), scan(&bytes));
    }
}

/// Mutations of a valid archive: bytes replaced, blocks removed, doubled and exchanged, with the
/// checksums set right again for half of them, so that the fields behind are reached.
#[test]
fn thousands_of_mutations_end_with_a_verdict_that_does_not_depend_on_the_pieces() {
    let whole = rich();
    let mut verdicts = std::collections::BTreeMap::<String, usize>::new();
    let rounds = match std::env::var_os("CONTAINERARCHIVE_DEEP").is_some() {
        true => 10_000_000,
        false => 100_000,
    };
    for seed in 0..rounds {
        let dice = noise(64, seed + 1);
        let mut bytes = whole.clone();
        for change in dice[1..].chunks_exact(6).take(1 + usize::from(dice[0] % 8)) {
            let at = (usize::from(change[0]) << 8 | usize::from(change[1])) % bytes.len().max(1);
            if bytes.is_empty() {
                break;
            }
            let block = at / 512 * 512;
            match change[2] % 8 {
                0 => drop(bytes.drain(block..(block + 512).min(bytes.len()))),
                1 => {
                    let copy = bytes[block..(block + 512).min(bytes.len())].to_vec();
                    bytes.splice(block..block, copy);
                }
                2 => bytes.truncate(at + 1),
                3 => bytes[at] = b"0123456789 \n=,\xff\x80"[usize::from(change[3]) % 16],
                // a field of a header
                4 => {
                    let field = block + [0, 100, 124, 136, 156, 257, 386, 482, 483][usize::from(change[3]) % 9];
                    if let Some(byte) = bytes.get_mut(field) {
                        *byte = change[4];
                    }
                }
                _ => bytes[at] = change[3],
            }
            if dice[0] & 0x80 != 0 {
                fix_checksum(&mut bytes, block);
            }
        }
        let first = scan(&bytes);
        assert_eq!(
            scan_pieces(&bytes, &[usize::from(dice[0]) + 1, 700, 3]),
            first,
            "seed {seed}"
        );
        let mut end = 0;
        for (member, data, is_complete) in &first.members {
            assert!(
                member.header_offset >= end && member.data_offset > member.header_offset,
                "seed {seed}"
            );
            assert!(data.len() as u64 <= member.stored_len);
            assert_eq!(*is_complete, data.len() as u64 == member.stored_len, "seed {seed}");
            if let Content::Sparse(segments) = &member.content {
                assert_eq!(segments.iter().map(|one| one.len).sum::<u64>(), member.stored_len);
                assert!(segments.is_sorted_by(|a, b| a.offset + a.len <= b.offset));
                assert!(
                    segments
                        .iter()
                        .all(|one| one.len > 0 && one.offset + one.len <= member.size)
                );
            }
            end = member.end();
        }
        let verdict = match first.verdict {
            Verdict::BrokeOff { why, .. } => format!("{why:?}"),
            other => format!("{other:?}").split(' ').next().unwrap().to_owned(),
        };
        *verdicts.entry(verdict).or_default() += 1;
    }
    // the mutations reach every part
    assert!(verdicts.len() >= 12, "{verdicts:?}");
}

fn fix_checksum(bytes: &mut [u8], at: usize) {
    let Some(block) = bytes.get_mut(at..at + 512) else {
        return;
    };
    if block.iter().any(|byte| *byte != 0) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

#[test]
fn a_map_of_more_segments_than_are_kept_is_passed() {
    let count = MAX_SEGMENTS as u64 + 3;
    let entries: Vec<(u64, u64)> = (0..count).map(|at| (at * 1024, 1)).collect();
    let text: String = entries
        .iter()
        .map(|(offset, len)| format!("{offset}\n{len}\n"))
        .collect();
    let list = entries
        .iter()
        .map(|(offset, len)| format!("{offset},{len}"))
        .collect::<Vec<_>>()
        .join(",");
    let size = (count * 1024).to_string();
    let data = vec![b'd'; count as usize];
    let gnu: Vec<Vec<u8>> = entries.chunks(21).map(|chunk| more(chunk, true)).collect();
    let gnu = [
        Header::new("sparse", b'S', count)
            .gnu()
            .real_size(count * 1024)
            .put(482, b"\x01")
            .bytes(),
        gnu.concat(),
        more(&[], false),
        padded(&data),
    ];
    let archives = [
        sparse_1_0(format!("{count}\n{text}").as_bytes(), &size, &data),
        sparse_0(
            &[record("GNU.sparse.size", &size), record("GNU.sparse.map", list)],
            &data,
        ),
        gnu.concat(),
    ];
    for archive in archives {
        let scan = scan(&[archive, first(), end()].concat());
        assert!(matches!(scan.verdict, Verdict::Complete { .. }), "{:?}", scan.verdict);
        let (member, stored, _) = &scan.members[0];
        assert_eq!(
            (&member.content, member.size),
            (&Content::SparseWithoutMap, count * 1024)
        );
        assert!(*stored == data && scan.members.len() == 2);
    }
}

#[test]
fn a_million_members_are_found() {
    let member = file("name", "").repeat(1000);
    let mut scanner = Scanner::new();
    let (mut members, mut last) = (0, 0);
    let mut each = |event: Event<'_>| {
        if let Event::Member(member) = event {
            members += 1;
            last = member.header_offset;
        }
    };
    for _ in 0..1000 {
        scanner.feed(&member, &mut each);
    }
    scanner.feed(&end(), &mut each);
    assert_eq!(scanner.finish(), done(512 * 1_000_002));
    assert_eq!((members, last), (1_000_000, 512 * 999_999));
}

#[test]
fn a_stream_is_recognised_by_its_first_block() {
    let tar = first();
    let cases: &[(&[u8], Form)] = &[
        (&tar, Form::Tar),
        (&tar[..512], Form::Tar),
        (&tar[..511], Form::Other),
        (b"", Form::Other),
        (b"\x1f\x8b\x08\0\0\0\0\0", Form::Wrapped(Wrapper::Gzip)),
        (b"\x1f\x8b\x07", Form::Other),
        (b"\x28\xb5\x2f\xfd\x24", Form::Wrapped(Wrapper::Zstd)),
        (b"\xfd7zXZ\0", Form::Wrapped(Wrapper::Xz)),
        (b"BZh91AY&SY", Form::Wrapped(Wrapper::Bzip2)),
        (b"BZh9 is the name of a text", Form::Other),
        (&[0; 512], Form::Other),
    ];
    for (bytes, expected) in cases {
        assert_eq!(recognise(bytes), *expected, "{:?}", &bytes[..bytes.len().min(16)]);
    }
    // a header is one whatever its name is
    let named = file(b"\x1f\x8b\x08 name", "");
    assert_eq!(recognise(&named), Form::Tar);
}

#[test]
fn records_and_long_names_apply_in_the_order_that_is_stated() {
    let records = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .flat_map(|(key, value)| record(key, value))
            .collect::<Vec<_>>()
    };
    let archive = [
        pax(b'g', records(&[("gname", "global"), ("mtime", "7"), ("uid", "9")])),
        // the later of two records, the record over the global one
        [
            pax(b'x', records(&[("path", "one"), ("path", "two"), ("mtime", "8.25")])),
            file("a", ""),
        ]
        .concat(),
        // an empty value gives the field of the header back
        [
            pax(b'x', records(&[("uid", ""), ("gname", ""), ("path", "")])),
            file("b", ""),
        ]
        .concat(),
        // records of two headers for one member
        [
            pax(b'x', records(&[("path", "x")])),
            pax(b'X', records(&[("uname", "u")])),
            file("c", ""),
        ]
        .concat(),
        // a long name over a record
        [pax(b'x', records(&[("path", "x")])), long(b'L', "long"), file("d", "")].concat(),
        // a global header between the records of a member and the member
        [
            pax(b'x', records(&[("path", "e")])),
            pax(b'g', records(&[("gname", "later")])),
            file("x", ""),
        ]
        .concat(),
        file("f", ""),
        end(),
    ];
    let scan = scan(&archive.concat());
    let seen: Vec<_> = scan
        .members
        .iter()
        .map(|(member, ..)| {
            let name = String::from_utf8_lossy(&member.path).into_owned();
            let group = String::from_utf8_lossy(&member.gname).into_owned();
            (
                name,
                group,
                member.uid,
                member.mtime.seconds,
                member.mtime.nanos,
                member.header_offset,
            )
        })
        .collect();
    let row =
        |name: &str, group: &str, uid, seconds, nanos, at| (name.to_owned(), group.to_owned(), uid, seconds, nanos, at);
    let expected = [
        row("two", "global", 9, 8, 250_000_000, 1024),
        row("b", "", 1000, 7, 0, 2560),
        row("x", "global", 9, 7, 0, 4096),
        row("long", "global", 9, 7, 0, 6656),
        row("e", "later", 9, 7, 0, 9216),
        row("f", "later", 9, 7, 0, 11_776),
    ];
    assert_eq!(seen, expected);
    assert_eq!(scan.globals, [(0, 1024), (10_240, 11_264)]);
}
