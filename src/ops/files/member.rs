//! Restores one member: the content of a file, or the tar of a directory.

use super::list::of_key;
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
    let found = of_key(&mut members, &key)?.pop();
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
    let pieces = match file.member.content {
        Content::Plain => vec![Bytes::Range(
            file.member.data_offset,
            file.member.data_offset + file.member.stored_len,
        )],
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
    let mut done = 0;
    for piece in &plan.pieces {
        repo.check_running(monitor)?;
        let part = RangeMonitor {
            monitor,
            done,
            total: plan.size,
        };
        match piece {
            Bytes::Range(start, end) if start == end => {}
            Bytes::Range(start, end) => restore_pieces(repo, &plan.range(*start, *end), &part, sink)?,
            Bytes::Given(bytes) => sink(Piece::from(bytes.clone()))?,
            Bytes::Zeros(len) => {
                let mut left = *len;
                while left > 0 {
                    repo.check_running(monitor)?;
                    let now = left.min(ZEROS as u64);
                    // at most ZEROS
                    sink(Piece::from(vec![0; now as usize]))?;
                    left -= now;
                }
            }
        }
        done += piece.len();
    }
    Ok(())
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
}

impl Monitor for RangeMonitor<'_> {
    fn progress(&self, progress: &Progress) {
        self.monitor.progress(&Progress {
            done_bytes: self.done + progress.done_bytes,
            total_bytes: self.total,
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
