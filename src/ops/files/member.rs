//! Restores one member: the content of a file, or the tar of a directory.

use super::list::{last_of_key, of_key};
use super::pages::read_range;
use super::source::{Members, MembersOf};
use crate::error::{Error, Result};
use crate::members::{Entry, Key, ListOptions, Listing};
use crate::monitor::{Monitor, Progress};
use crate::ops::restore::{Piece, RestorePlan, export, plan_of_range, restore_pieces};
use crate::repo::Repository;
use crate::repo::read::ReadScratch;
use crate::snapshot::Snapshot;
use crate::tar::{Content, Event, Kind, MAX_PAX_LEN, Member, Part, Scanner, Segment, Subtree};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Zeros of a hole that are passed on at once.
const ZEROS: usize = 256 << 10;
/// Longest headers of a member that are read at once.
const MAX_HEADERS: u64 = 2 * MAX_PAX_LEN;

/// The bytes of a member.
#[derive(Debug, Clone)]
pub struct MemberPlan {
    /// The snapshot.
    pub snapshot: Snapshot,
    number: usize,
    pieces: Vec<Bytes>,
    size: u64,
    lost_links: u64,
}

/// Bytes of the plan.
#[derive(Debug, Clone)]
enum Bytes {
    /// Of the item, from one offset to another.
    Range(u64, u64),
    Given(Vec<u8>),
    Zeros(u64),
}

impl Bytes {
    fn len(&self) -> u64 {
        match self {
            Self::Range(start, end) => end - start,
            Self::Given(bytes) => bytes.len() as u64,
            Self::Zeros(len) => *len,
        }
    }
}

impl MemberPlan {
    /// Number of bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Hard links in the tar of a directory whose file is not in the item: they are left out.
    pub fn lost_links(&self) -> u64 {
        self.lost_links
    }

    pub(super) fn new(members: &Members, pieces: Vec<Part>, lost_links: u64) -> Self {
        let bytes = pieces.into_iter().map(|part| match part {
            Part::Range { offset, len } => Bytes::Range(offset, offset + len),
            Part::Bytes(bytes) => Bytes::Given(bytes),
        });
        Self::of(members, bytes.collect(), lost_links)
    }

    fn of(members: &Members, pieces: Vec<Bytes>, lost_links: u64) -> Self {
        Self {
            snapshot: members.snapshot.clone(),
            number: members.number,
            size: pieces.iter().map(Bytes::len).sum(),
            pieces,
            lost_links,
        }
    }

    fn range(&self, start: u64, end: u64) -> RestorePlan {
        plan_of_range(self.snapshot.clone(), self.number, start, end)
    }
}

/// Plans the restore of a member: of a file its content, of a hard link that of its file, of a
/// directory a tar of everything in it.
///
/// # Errors
/// Those of [`Members::open`], `MemberNotFound`, `InvalidArgument` (a member of another type).
pub fn plan_member(repo: &Arc<Repository>, of: &MembersOf, member: &[u8], monitor: &dyn Monitor) -> Result<MemberPlan> {
    let mut members = Members::open(repo, of, monitor)?;
    let key = Key::new(member);
    let found = last_of_key(&mut members, &key)?;
    let Some(entry) = found.and_then(|listed| listed.entry) else {
        return plan_directory(repo, members, &key, member, monitor);
    };
    let file = match entry.member.kind {
        Kind::Directory => return plan_directory(repo, members, &key, member, monitor),
        Kind::HardLink => target_of(&mut members, &entry)?,
        _ => entry,
    };
    if file.member.kind != Kind::File {
        let reason = format!(
            "member: {:?} is neither a file nor a directory",
            String::from_utf8_lossy(member)
        );
        return Err(Error::InvalidArgument { reason });
    }
    let end = file.member.data_offset.checked_add(file.member.stored_len);
    let end = end.filter(|end| *end <= members.item().size).ok_or_else(|| {
        let reason = format!(
            "the member index of item {:?}: a member ends after the item",
            members.item().name
        );
        Error::ManifestCorrupt {
            snapshot: members.snapshot.id,
            reason,
        }
    })?;
    let pieces = match file.member.content {
        Content::Plain => vec![Bytes::Range(file.member.data_offset, end)],
        _ => sparse(repo, &members, &file.member)?,
    };
    Ok(MemberPlan::of(&members, pieces, 0))
}

/// The file that a hard link names.
fn target_of(members: &mut Members, link: &Entry) -> Result<Entry> {
    let mut found = link.clone();
    while found.member.kind == Kind::HardLink {
        let key = Key::new(&found.member.link);
        // each is before the other, so this ends
        let target = members.find(&key, found.member.header_offset)?;
        found = target.ok_or_else(|| members.not_found(&found.member.link))?;
    }
    Ok(found)
}

/// The content of a sparse file. Its map is in the headers.
fn sparse(repo: &Arc<Repository>, members: &Members, member: &Member) -> Result<Vec<Bytes>> {
    let whole = with_map(repo, members, member)?;
    let Content::Sparse(segments) = &whole.content else {
        let reason = format!(
            "member: the sparse file {:?} has more segments than are read",
            String::from_utf8_lossy(&member.path)
        );
        return Err(Error::InvalidArgument { reason });
    };
    let (mut pieces, mut at, mut data) = (Vec::new(), 0, whole.data_offset);
    for Segment { offset, len } in segments {
        if *offset > at {
            pieces.push(Bytes::Zeros(offset - at));
        }
        pieces.push(Bytes::Range(data, data + len));
        (at, data) = (offset + len, data + len);
    }
    if whole.size > at {
        pieces.push(Bytes::Zeros(whole.size - at));
    }
    Ok(pieces)
}

/// A member with the map of its sparse file, read again from its headers.
pub(super) fn with_map(repo: &Arc<Repository>, members: &Members, member: &Member) -> Result<Member> {
    let mut scanner = Scanner::new();
    let (mut scratch, mut found) = (ReadScratch::default(), None);
    let before = members
        .tail()
        .globals
        .iter()
        .filter(|(_, end)| *end <= member.header_offset);
    let headers = (member.header_offset, member.data_offset);
    for (start, end) in before.copied().chain([headers]) {
        let len = (end - start).min(MAX_HEADERS);
        let bytes = read_range(
            repo,
            members.item(),
            &mut scratch,
            start,
            usize::try_from(len).unwrap_or(0),
        )?;
        scanner.feed(&bytes, &mut |event| {
            if let Event::Member(member) = event {
                found = Some(member.clone());
            }
        });
    }
    match found {
        Some(found) if found.path == member.path && found.size == member.size => Ok(Member {
            header_offset: member.header_offset,
            data_offset: member.data_offset,
            ..found
        }),
        _ => Err(Error::ManifestCorrupt {
            snapshot: members.snapshot.id,
            reason: format!(
                "the member index of item {:?} is not that of its tar",
                members.item().name
            ),
        }),
    }
}

/// The tar of a directory.
fn plan_directory(
    repo: &Arc<Repository>,
    mut members: Members,
    key: &Key,
    member: &[u8],
    monitor: &dyn Monitor,
) -> Result<MemberPlan> {
    let (parts, lost) = subtree(repo, &mut members, key, monitor)?;
    let Some(parts) = parts else {
        return Err(members.not_found(member));
    };
    Ok(MemberPlan::new(&members, parts, lost))
}

/// The parts of the tar of what is at or below a path, in the order of the item, and the number of
/// hard links that lost their file. Memory: the members below the path.
pub(super) fn subtree(
    repo: &Arc<Repository>,
    members: &mut Members,
    key: &Key,
    monitor: &dyn Monitor,
) -> Result<(Option<Vec<Part>>, u64)> {
    let mut below: Vec<Member> = Vec::new();
    for listed in of_key(members, key)? {
        below.extend(listed.entry.map(|entry| entry.member));
    }
    let options = ListOptions {
        recursive: true,
        all: true,
    };
    let mut listing = Listing::new(members.index(), key.clone(), options);
    while let Some(listed) = members.with(|_, fetch| listing.next(fetch))? {
        if below.len().is_multiple_of(1024) {
            repo.check_running(monitor)?;
        }
        below.extend(listed.entry.map(|entry| entry.member));
    }
    if below.is_empty() {
        return Ok((None, 0));
    }
    below.sort_unstable_by_key(|member| member.header_offset);
    let mut tar = Subtree::new(&key.path(), members.item().size, members.tail().globals.clone());
    let (mut lost, mut failed) = (0, None);
    for member in &below {
        let added = tar.add(member, &mut |path, before| {
            let found = members.find(&Key::new(path), before);
            let found = found.and_then(|entry| match entry {
                Some(entry) if entry.member.content != Content::Plain => {
                    with_map(repo, members, &entry.member).map(Some)
                }
                other => Ok(other.map(|entry| entry.member)),
            });
            found.unwrap_or_else(|error| {
                failed.get_or_insert(error);
                None
            })
        });
        lost += u64::from(added == crate::tar::Added::Lost);
        if let Some(error) = failed.take() {
            return Err(error);
        }
    }
    Ok((Some(tar.finish()), lost))
}

/// Passes the bytes of a member to `sink`, in order.
///
/// # Errors
/// Those of [`restore`](crate::ops::restore()).
pub fn restore_member(
    repo: &Arc<Repository>,
    plan: &MemberPlan,
    monitor: &dyn Monitor,
    sink: &mut dyn FnMut(Piece) -> Result<()>,
) -> Result<()> {
    let _operation = repo.enter();
    monitor.begins(repo.operation_share());
    let (mut done, chunks) = (0, AtomicU64::new(0));
    let mut rest = plan.pieces.as_slice();
    while !rest.is_empty() {
        repo.check_running(monitor)?;
        let (run, after) = rest.split_at(run_len(rest));
        let part = RangeMonitor {
            monitor,
            done,
            total: plan.size,
            chunks_before: chunks.load(Ordering::Relaxed),
            chunks: &chunks,
        };
        let mut output = Output { rest: run, taken: 0 };
        if let Some((start, end)) = span(run) {
            let mut position = start;
            restore_pieces(repo, &plan.range(start, end), &part, &mut |piece| {
                let at = position;
                position += piece.len() as u64;
                output.pass(&piece, at, sink)
            })?;
        }
        output.pass_given(sink)?;
        done += run.iter().map(Bytes::len).sum::<u64>();
        rest = after;
    }
    Ok(())
}

/// Ranges with less than this between them are read as one: a range is a restore of its own.
const NEAR: u64 = 1 << 20;

/// How many of these pieces are restored together: ranges that follow one another closely, and what
/// is between them.
fn run_len(pieces: &[Bytes]) -> usize {
    let mut last_end = None;
    let joins = |piece: &&Bytes| match piece {
        Bytes::Range(start, end) => {
            let near = last_end.is_none_or(|last: u64| *start >= last && start - last <= NEAR);
            last_end = Some(*end);
            near
        }
        _ => true,
    };
    pieces.iter().take_while(joins).count().max(1)
}

/// From the start of the first range to the end of the last one.
fn span(pieces: &[Bytes]) -> Option<(u64, u64)> {
    let mut ranges = pieces.iter().filter_map(|piece| match piece {
        Bytes::Range(start, end) if start < end => Some((*start, *end)),
        _ => None,
    });
    let first = ranges.next()?;
    Some((first.0, ranges.next_back().unwrap_or(first).1))
}

/// The pieces that are still to be passed on, and how much of the first one was.
struct Output<'a> {
    rest: &'a [Bytes],
    taken: u64,
}

impl Output<'_> {
    /// Passes on what is wanted of bytes at an offset of the item, and the zeros and given bytes
    /// before them.
    fn pass(&mut self, piece: &Piece, at: u64, sink: &mut dyn FnMut(Piece) -> Result<()>) -> Result<()> {
        let end = at + piece.len() as u64;
        loop {
            self.pass_given(sink)?;
            let Some(Bytes::Range(start, stop)) = self.rest.first() else {
                return Ok(());
            };
            let (from, to) = ((start + self.taken).max(at), (*stop).min(end));
            if from < to {
                // both are within the piece
                sink(piece.part((from - at) as usize..(to - at) as usize))?;
                self.taken = to - start;
            }
            if start + self.taken < *stop {
                return Ok(());
            }
            (self.rest, self.taken) = (&self.rest[1..], 0);
        }
    }

    /// Passes on the zeros and given bytes up to the next range.
    fn pass_given(&mut self, sink: &mut dyn FnMut(Piece) -> Result<()>) -> Result<()> {
        while let Some((first, rest)) = self.rest.split_first() {
            match first {
                Bytes::Range(start, end) if start < end => return Ok(()),
                Bytes::Range(..) => {}
                Bytes::Given(bytes) => sink(Piece::from(bytes.clone()))?,
                Bytes::Zeros(len) => {
                    let mut left = *len;
                    while left > 0 {
                        let now = left.min(ZEROS as u64);
                        // at most ZEROS
                        sink(Piece::from(vec![0; now as usize]))?;
                        left -= now;
                    }
                }
            }
            self.rest = rest;
        }
        Ok(())
    }
}

/// Writes a member to a file, as [`restore_to_file`](crate::ops::restore_to_file).
///
/// # Errors
/// Those of [`restore_to_file`](crate::ops::restore_to_file).
pub fn restore_member_to_file(
    repo: &Arc<Repository>,
    plan: &MemberPlan,
    path: &Path,
    overwrite: bool,
    monitor: &dyn Monitor,
) -> Result<()> {
    export(repo, path, overwrite, monitor, &mut |write| {
        restore_member(repo, plan, monitor, &mut |piece| write(&piece))
    })
}

/// The monitor of one range: adds what came before it to the progress.
struct RangeMonitor<'a> {
    monitor: &'a dyn Monitor,
    done: u64,
    total: u64,
    chunks_before: u64,
    /// Chunks of all ranges.
    chunks: &'a AtomicU64,
}

impl Monitor for RangeMonitor<'_> {
    fn progress(&self, progress: &Progress) {
        let chunks = self.chunks_before + progress.chunks;
        self.chunks.store(chunks, Ordering::Relaxed);
        self.monitor.progress(&Progress {
            // bytes between ranges are read too
            done_bytes: (self.done + progress.done_bytes).min(self.total),
            total_bytes: self.total,
            chunks,
            ..progress.clone()
        });
    }

    fn warning(&self, warning: crate::monitor::Warning) {
        self.monitor.warning(warning);
    }

    fn is_cancelled(&self) -> bool {
        self.monitor.is_cancelled()
    }
}
