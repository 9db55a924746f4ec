//! The index compared with a sorted map of the same members, its exact bytes, and wrong bytes.

use super::*;
use crate::tar::{Content, Kind, Member, Time, header};
use proptest::prelude::*;
use std::collections::BTreeMap;

type Stream = (Vec<u8>, Vec<Vec<u8>>);

/// A member whose offsets the tar will have.
fn member(path: &[u8], number: u64) -> Member {
    Member {
        path: path.to_vec(),
        kind: Kind::File,
        size: 3,
        mode: 0o644,
        uid: number,
        gid: 1000,
        uname: b"user".to_vec(),
        gname: Vec::new(),
        mtime: Time {
            seconds: number as i64 - 5,
            nanos: (number % 2) as u32,
        },
        link: Vec::new(),
        header_offset: 0,
        data_offset: 0,
        stored_len: 3,
        content: Content::Plain,
        device: (0, 0),
    }
}

/// A tar of these members, with the end if `is_complete`.
fn tar_of(members: &[Member], is_complete: bool) -> Vec<u8> {
    let mut tar = Vec::new();
    for member in members {
        tar.extend_from_slice(&header(member, false));
        tar.extend_from_slice(b"abc");
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + if is_complete { 1024 } else { 0 }, 0);
    tar
}

fn index_of(tar: &[u8], piece: usize) -> Result<Stream, Outcome> {
    let mut indexer = Indexer::new();
    tar.chunks(piece.max(1)).for_each(|piece| indexer.feed(piece));
    let (mut stream, mut pages) = (Vec::new(), Vec::new());
    let outcome = indexer.finish::<Error>(&mut |page| {
        stream.extend_from_slice(page);
        pages.push(page.to_vec());
        Ok(())
    });
    match outcome.unwrap() {
        Outcome::Written { .. } => Ok((stream, pages)),
        none => Err(none),
    }
}

/// Reads from a stream in memory, and counts the reads.
fn fetch_from<'a>(
    stream: &'a [u8],
    reads: &'a std::cell::Cell<usize>,
) -> impl FnMut(u64, usize) -> Result<Vec<u8>, Error> + 'a {
    move |position, len| {
        reads.set(reads.get() + 1);
        let from = usize::try_from(position).unwrap_or(usize::MAX);
        let bytes = from.checked_add(len).and_then(|to| stream.get(from..to));
        Ok(bytes.unwrap_or_default().to_vec())
    }
}

fn all(stream: &[u8]) -> Result<Vec<Entry>, Error> {
    let reads = std::cell::Cell::new(0);
    let mut fetch = fetch_from(stream, &reads);
    let mut cursor = Index::open(stream.len() as u64, &mut fetch)?.cursor();
    let mut entries = Vec::new();
    while let Some(entry) = cursor.next(&mut fetch)? {
        entries.push(entry);
    }
    Ok(entries)
}

/// Many members, a few of them with the same path.
fn many(count: u64) -> Vec<Member> {
    let path = |n: u64| {
        format!(
            "./dir{}/sub{}/file-{:05}",
            n % 7,
            n % 13,
            (n * 7919) % (count - count / 50)
        )
    };
    (0..count).map(|n| member(path(n).as_bytes(), n)).collect()
}

#[test]
fn every_member_is_found_in_as_many_reads_as_there_are_levels() {
    let members = many(6000);
    let (stream, pages) = index_of(&tar_of(&members, true), 100_000).unwrap();
    assert!(pages.len() > 10, "{}", pages.len());
    let reads = std::cell::Cell::new(0);
    let mut fetch = fetch_from(&stream, &reads);
    let index = Index::open(stream.len() as u64, &mut fetch).unwrap();
    assert_eq!((index.tail().members, index.tail().is_complete), (6000, true));
    let found = all(&stream).unwrap();
    let mut model: BTreeMap<Key, Vec<u64>> = BTreeMap::new();
    for member in &members {
        model.entry(Key::new(&member.path)).or_default().push(member.uid);
    }
    let expected: Vec<u64> = model.values().flatten().copied().collect();
    assert_eq!(found.iter().map(|entry| entry.member.uid).collect::<Vec<_>>(), expected);
    for entry in found.iter().step_by(37) {
        reads.set(0);
        let last = index.find(&entry.key, u64::MAX, &mut fetch).unwrap().unwrap();
        assert_eq!(Some(&last.member.uid), model[&entry.key].last());
        assert!(reads.get() <= 3, "{}", reads.get());
        let before = index.find(&entry.key, entry.member.header_offset, &mut fetch).unwrap();
        let of_key = &model[&entry.key];
        let at = of_key.iter().position(|uid| *uid == entry.member.uid).unwrap();
        assert_eq!(
            before.map(|entry| entry.member.uid),
            at.checked_sub(1).map(|at| of_key[at])
        );
    }
    for missing in ["", "dir0", "dir0/sub0/file", "zzz", "dir6/sub99"] {
        assert_eq!(
            index.find(&Key::new(missing.as_bytes()), u64::MAX, &mut fetch).unwrap(),
            None
        );
    }
}

#[test]
fn a_cursor_seeks_forward_as_a_map_does() {
    let members = many(6000);
    let (stream, _) = index_of(&tar_of(&members, true), 4096).unwrap();
    let reads = std::cell::Cell::new(0);
    let mut fetch = fetch_from(&stream, &reads);
    let index = Index::open(stream.len() as u64, &mut fetch).unwrap();
    let sorted = all(&stream).unwrap();
    for step in [1, 5, 60, 700] {
        let mut cursor = index.cursor();
        for wanted in sorted.iter().step_by(step) {
            for key in [wanted.key.clone(), wanted.key.after().unwrap()] {
                cursor.seek(&key, &mut fetch).unwrap();
                let expected = sorted.iter().find(|entry| entry.key >= key);
                assert_eq!(cursor.peek(&mut fetch).unwrap(), expected);
            }
        }
        // never back
        cursor.seek(&Key::default(), &mut fetch).unwrap();
        let last = sorted.iter().step_by(step).next_back().unwrap().key.after().unwrap();
        assert_eq!(
            cursor.next(&mut fetch).unwrap().as_ref(),
            sorted.iter().find(|entry| entry.key >= last)
        );
    }
}

#[test]
fn pages_far_from_a_change_are_the_same() {
    let mut members = many(6000);
    let (_, before) = index_of(&tar_of(&members, true), 1 << 20).unwrap();
    members.insert(0, member(b"a/new/file", 7));
    members.sort_by_key(|member| Key::new(&member.path));
    let mut other = members.clone();
    other.remove(3000);
    let sorted = |members: &[Member]| index_of(&tar_of(members, true), 1 << 20).unwrap().1;
    let (one, two) = (sorted(&members), sorted(&other));
    let same = two.iter().filter(|page| one.contains(page)).count();
    assert!(same + 4 >= two.len(), "{same} of {}", two.len());
    assert!(before.len() > 5);
}

#[test]
fn the_index_does_not_depend_on_the_pieces_of_the_stream() {
    let tar = tar_of(&many(300), true);
    let whole = index_of(&tar, usize::MAX).unwrap();
    for piece in [1, 511, 512, 513, 10_000] {
        assert!(index_of(&tar, piece).unwrap() == whole, "{piece}");
    }
}

#[test]
fn members_that_are_not_there_completely_are_left_out() {
    let tar = tar_of(&many(10), false);
    let members = |tar: &[u8]| index_of(tar, 1000).map(|(stream, _)| all(&stream).unwrap().len());
    assert_eq!(members(&tar), Ok(10));
    assert_eq!(members(&tar[..tar.len() - 512]), Ok(9));
    assert_eq!(members(&tar[..tar.len() - 509]), Ok(10));
    assert_eq!(members(&tar[..513]), Err(Outcome::None(Unindexed::NotTar)));
    assert_eq!(members(b"no tar"), Err(Outcome::None(Unindexed::NotTar)));
    assert_eq!(members(&[0; 4096]), Err(Outcome::None(Unindexed::NotTar)));
    let gzip = [&[0x1f, 0x8b, 8][..], &[0; 900]].concat();
    let wrapped = Outcome::None(Unindexed::Wrapped(crate::tar::Wrapper::Gzip));
    assert_eq!(members(&gzip), Err(wrapped));
    assert_eq!(members(&gzip[..20]), Err(wrapped));
}

#[test]
fn keys_are_the_names_of_a_path() {
    for (path, key, depth) in [
        ("./a//b/", "a/b", 2),
        ("/a/b", "a/b", 2),
        ("a/./b", "a/b", 2),
        ("a/../b", "a/../b", 3),
        ("./", "", 0),
        ("", "", 0),
    ] {
        let made = Key::new(path.as_bytes());
        assert_eq!((made.path(), made.depth()), (key.as_bytes().to_vec(), depth), "{path}");
    }
    let key = |path: &str| Key::new(path.as_bytes());
    assert!(key("a") < key("a/b") && key("a/b") < key("a.b") && key("a/z") < key("a!"));
    assert!(key("a/b").is_in(&key("a")) && key("a").is_in(&key("a")) && key("a").is_in(&key("")));
    assert!(!key("ab").is_in(&key("a")) && !key("a").is_in(&key("a/b")));
    assert_eq!(key("a/b/c").first(2), key("a/b"));
}

/// The direct children of a directory, or everything below it, from the keys alone.
fn children(keys: &[Key], directory: &Key, recursive: bool) -> Vec<Key> {
    let below = keys.iter().filter(|key| key.is_in(directory) && *key != directory);
    let mut found: Vec<Key> = match recursive {
        true => below.cloned().collect(),
        false => below.map(|key| key.first(directory.depth() + 1)).collect(),
    };
    found.sort();
    found.dedup();
    found
}

#[test]
fn a_directory_is_listed_without_reading_what_is_below_its_directories() {
    let mut members: Vec<Member> = (0..9000)
        .map(|n| member(format!("top/d{}/file{n:05}", n % 3).as_bytes(), n))
        .collect();
    members.push(member(b"top/d1", 9000));
    members.push(member(b"top/z", 9001));
    members.push(member(b"top/z", 9002));
    let (stream, pages) = index_of(&tar_of(&members, true), 1 << 20).unwrap();
    assert!(pages.len() > 15, "{}", pages.len());
    let reads = std::cell::Cell::new(0);
    let mut fetch = fetch_from(&stream, &reads);
    let index = Index::open(stream.len() as u64, &mut fetch).unwrap();
    let keys: Vec<Key> = members.iter().map(|member| Key::new(&member.path)).collect();
    let mut list = |directory: &Key, options: ListOptions| {
        reads.set(0);
        let mut listing = Listing::new(&index, directory.clone(), options);
        let mut found = Vec::new();
        while let Some(listed) = listing.next(&mut fetch).unwrap() {
            found.push(listed);
        }
        (found, reads.get())
    };
    let top = Key::new(b"top");
    let (found, read) = list(&top, ListOptions::default());
    let listed: Vec<Key> = found.iter().map(|listed| listed.key.clone()).collect();
    assert_eq!(listed, children(&keys, &top, false));
    let uids: Vec<_> = found
        .iter()
        .map(|listed| listed.entry.as_ref().map(|entry| entry.member.uid))
        .collect();
    assert_eq!(uids, [None, Some(9000), None, Some(9002)]);
    assert!(read < 12, "{read}");
    let all = ListOptions {
        all: true,
        ..ListOptions::default()
    };
    let superseded: Vec<bool> = list(&top, all).0.iter().map(|listed| listed.is_superseded).collect();
    assert_eq!(superseded, [false, false, false, true, false]);
    let recursive = ListOptions {
        recursive: true,
        all: false,
    };
    for directory in ["", "top", "top/d1", "top/z", "no"] {
        let directory = Key::new(directory.as_bytes());
        for options in [ListOptions::default(), recursive] {
            let listed: Vec<Key> = list(&directory, options)
                .0
                .into_iter()
                .map(|listed| listed.key)
                .collect();
            assert_eq!(listed, children(&keys, &directory, options.recursive), "{directory:?}");
        }
    }
}

/// The exact bytes of a small index: what is changed here changes the format.
#[test]
fn the_bytes_of_an_index_are_those_of_the_format() {
    let link = Member {
        kind: Kind::Symlink,
        link: b"b".to_vec(),
        size: 0,
        stored_len: 0,
        ..member(b"a", 1)
    };
    let mut tar = tar_of(&[member(b"./b/", 300)], false);
    tar.extend_from_slice(&header(&link, false));
    tar.resize(tar.len() + 1024, 0);
    let (stream, pages) = index_of(&tar, 100).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(pages.len(), 2);
    assert_eq!(
        (hex(&pages[0]).as_str(), hex(&pages[1]).as_str()),
        GOLDEN,
        "{}",
        stream.len()
    );
}

const GOLDEN: (&str, &str) = (
    concat!(
        "0002016119003200800c00a40301e807070101620475736572000162120335ff",
        "0f800403a403ac02e807ce0400047573657200",
    ),
    concat!(
        "0000000000000000000400000000000048000000000000000200000000000000",
        "000e000000000000000e00000000000000000000330000000001000001000000",
        "4341544152494458",
    ),
);

#[test]
fn wrong_bytes_are_an_error_or_other_members_and_never_a_panic() {
    let (stream, _) = index_of(&tar_of(&many(40), true), 4096).unwrap();
    for at in 0..stream.len() {
        for flip in [1, 0x80, 0xff] {
            let mut wrong = stream.clone();
            wrong[at] ^= flip;
            let _ = all(&wrong);
        }
        let _ = all(&stream[..at]);
        let _ = all(&stream[at..]);
    }
}

proptest! {
    #[test]
    fn garbage_is_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = all(&bytes);
        let _ = index_of(&bytes, 7);
    }

    #[test]
    fn listed_members_are_those_of_a_map(
        paths in proptest::collection::vec("[ab./]{1,8}", 1..60),
        seeks in proptest::collection::vec("[ab/]{0,5}", 1..5),
    ) {
        let members: Vec<Member> = paths.iter().zip(0..).map(|(path, n)| member(path.as_bytes(), n)).collect();
        let (stream, _) = index_of(&tar_of(&members, true), 1000).unwrap();
        let mut model: Vec<(Key, u64)> = members.iter().map(|m| (Key::new(&m.path), m.uid)).collect();
        model.sort();
        let found = all(&stream).unwrap();
        let listed: Vec<(Key, u64)> = found.iter().map(|entry| (entry.key.clone(), entry.member.uid)).collect();
        prop_assert_eq!(&listed, &model);
        for entry in &found {
            prop_assert_eq!(&entry.member.path, &members[entry.member.uid as usize].path);
        }
        let reads = std::cell::Cell::new(0);
        let mut fetch = fetch_from(&stream, &reads);
        let index = Index::open(stream.len() as u64, &mut fetch).unwrap();
        for seek in seeks {
            let key = Key::new(seek.as_bytes());
            let last = index.find(&key, u64::MAX, &mut fetch).unwrap().map(|entry| entry.member.uid);
            let expected = model.iter().filter(|(of, _)| *of == key).map(|(_, uid)| *uid).next_back();
            prop_assert_eq!(last, expected);
        }
    }
}
