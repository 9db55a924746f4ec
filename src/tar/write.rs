//! The headers of one member, written: ustar, and pax records for what does not fit.

use super::header::{BLOCK_LEN, Fields};
use super::member::{Content, Member, Segment};

/// Longest value of a field in ustar: names of owners end with a zero.
const MAX_NAME: usize = 100;
const MAX_OWNER: usize = 31;
/// Largest number in a field of 8 and of 12 bytes.
const MAX_SHORT: u64 = (1 << 21) - 1;
const MAX_LONG: u64 = (1 << 33) - 1;

/// Returns the headers of a member; its stored data must follow. A sparse file has the map of the
/// format 1.0 in front of them, which is part of what is returned. With `has_globals`, every value
/// is also a record, so that no global header before it applies.
pub(crate) fn header(member: &Member, has_globals: bool) -> Vec<u8> {
    let map = match &member.content {
        Content::Sparse(segments) => Some(text_map(segments, member.size)),
        Content::Plain | Content::SparseWithoutMap => None,
    };
    let map_len = map.as_ref().map_or(0, |map| map.len() as u64);
    let stored_len = map_len.saturating_add(member.stored_len);
    let records = records(member, map.is_some(), stored_len, has_globals);
    let mut out = Vec::new();
    if !records.is_empty() {
        let extended = Fields {
            path: b"pax",
            type_flag: b'x',
            mode: 0o644,
            size: records.len() as u64,
            ..Fields::default()
        };
        out.extend_from_slice(&extended.block());
        out.extend_from_slice(&records);
        pad(&mut out);
    }
    // a number or name that does not fit is in a record, and 0 or its beginning here
    let fits = |number: u64, max: u64| if number <= max { number } else { 0 };
    let fields = Fields {
        path: start(&member.path, MAX_NAME),
        link: start(&member.link, MAX_NAME),
        type_flag: member.kind.type_byte(),
        mode: member.mode,
        uid: fits(member.uid, MAX_SHORT),
        gid: fits(member.gid, MAX_SHORT),
        size: fits(stored_len, MAX_LONG),
        mtime: fits(u64::try_from(member.mtime.seconds).unwrap_or(0), MAX_LONG),
        uname: start(&member.uname, MAX_OWNER),
        gname: start(&member.gname, MAX_OWNER),
        device: (fits(member.device.0, MAX_SHORT), fits(member.device.1, MAX_SHORT)),
    };
    out.extend_from_slice(&fields.block());
    out.extend_from_slice(&map.unwrap_or_default());
    out
}

/// The records for what does not fit, or for everything.
fn records(member: &Member, is_sparse: bool, stored_len: u64, all: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let texts: [(&str, &[u8], usize); 4] = [
        ("path", &member.path, MAX_NAME),
        ("linkpath", &member.link, MAX_NAME),
        ("uname", &member.uname, MAX_OWNER),
        ("gname", &member.gname, MAX_OWNER),
    ];
    if texts
        .iter()
        .any(|(_, text, max)| (all || text.len() > *max) && std::str::from_utf8(text).is_err())
    {
        record(&mut out, "hdrcharset", b"BINARY");
    }
    for (key, text, max) in texts {
        if all || text.len() > max {
            record(&mut out, key, text);
        }
    }
    let numbers = [
        ("size", stored_len, MAX_LONG),
        ("uid", member.uid, MAX_SHORT),
        ("gid", member.gid, MAX_SHORT),
        ("SCHILY.devmajor", member.device.0, MAX_SHORT),
        ("SCHILY.devminor", member.device.1, MAX_SHORT),
    ];
    for (key, number, max) in numbers {
        if all || number > max {
            record(&mut out, key, number.to_string().as_bytes());
        }
    }
    let (seconds, nanos) = (member.mtime.seconds, member.mtime.nanos);
    if all || nanos > 0 || u64::try_from(seconds).map_or(true, |seconds| seconds > MAX_LONG) {
        let time = match (seconds, nanos) {
            (_, 0) => seconds.to_string(),
            (0.., _) => format!("{seconds}.{nanos:09}"),
            // down from the next second: -1.5 is half a second after -2
            _ => format!("-{}.{:09}", (seconds + 1).unsigned_abs(), 1_000_000_000 - nanos),
        };
        record(&mut out, "mtime", time.as_bytes());
    }
    if is_sparse {
        record(&mut out, "GNU.sparse.major", b"1");
        record(&mut out, "GNU.sparse.minor", b"0");
        record(&mut out, "GNU.sparse.name", &member.path);
        record(&mut out, "GNU.sparse.realsize", member.size.to_string().as_bytes());
    }
    out
}

/// Appends a record. Its length counts its own digits.
fn record(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while len != rest + len.to_string().len() {
        len = rest + len.to_string().len();
    }
    out.extend_from_slice(format!("{len} {key}=").as_bytes());
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// The map of the format 1.0, padded. GNU tar gives a file the length at which its last entry ends,
/// so a hole at the end has an entry without bytes.
fn text_map(segments: &[Segment], size: u64) -> Vec<u8> {
    let end = segments.last().map_or(0, |last| last.offset + last.len);
    let hole = (end < size).then_some(Segment { offset: size, len: 0 });
    let count = segments.len() + usize::from(hole.is_some());
    let mut map = format!("{count}\n").into_bytes();
    for segment in segments.iter().copied().chain(hole) {
        map.extend_from_slice(format!("{}\n{}\n", segment.offset, segment.len).as_bytes());
    }
    pad(&mut map);
    map
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(BLOCK_LEN), 0);
}

fn start(text: &[u8], max: usize) -> &[u8] {
    &text[..text.len().min(max)]
}
