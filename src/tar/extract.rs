//! Members written below a directory, with what an attacker's archive may try refused.
//!
//! Refused are absolute paths and `..`, links that lead out of the target, hard links to what this
//! restore did not write, and devices and setuid unless asked for. A path through a link, a name
//! that exists and names that differ only in case are refused by the target itself
//! (`storage::tree`). Each refusal is a notice in the report; none ends the restore. What ends it
//! is a target that cannot be written to.
//!
//! Extended attributes and ACLs are not restored.

use super::member::{Content, Kind, Member, Segment};
use super::path::{BadPath, leads_out, names};
use super::report::{Reason, Report};
use super::scanner::{Event, Scanner};
use crate::storage::tree::{Attributes, NewFile, Refusal, Tree, TreeError};
use std::io;

/// What a restore may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtractOptions {
    /// Names that are left out at the start of each path, and of the target of each hard link.
    pub strip_components: usize,
    /// Set owners and groups, by their numbers.
    pub owners: bool,
    /// Keep setuid and setgid.
    pub setuid: bool,
    /// Create devices.
    pub devices: bool,
    /// Create symbolic links that lead out of the target. No file is written through them.
    pub outside_links: bool,
}

/// Writes the members of a tar while its bytes stream by.
pub struct Extractor {
    scanner: Scanner,
    writer: Writer,
}

struct Writer {
    tree: Tree,
    options: ExtractOptions,
    report: Report,
    current: Option<Current>,
    failed: Option<io::Error>,
}

/// The file whose data arrive.
struct Current {
    file: NewFile,
    path: Vec<u8>,
    attributes: Attributes,
    /// Segments to come, and the position in the first of them; without them, the data are plain.
    segments: Option<std::vec::IntoIter<Segment>>,
    segment: Segment,
    size: u64,
    /// Bytes of the data so far.
    written: u64,
    /// Permissions as the archive states them.
    mode: u32,
}

impl Extractor {
    /// Begins a restore into a target.
    pub fn new(tree: Tree, options: ExtractOptions) -> Self {
        Self {
            scanner: Scanner::new(),
            writer: Writer {
                tree,
                options,
                report: Report::new(),
                current: None,
                failed: None,
            },
        }
    }

    /// Reads the next bytes. An error is one of the target, and final: a disk that is full or
    /// broken, no descriptors.
    pub fn feed(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { scanner, writer } = self;
        scanner.feed(bytes, &mut |event| writer.event(event));
        match self.writer.failed.take() {
            None => Ok(()),
            Some(error) => {
                self.writer.abandon();
                Err(error)
            }
        }
    }

    /// The report so far, for progress.
    pub fn report(&self) -> &Report {
        &self.writer.report
    }

    /// Ends the restore: sets the attributes of directories and makes everything durable. A file
    /// whose data did not come completely is removed.
    pub fn finish(mut self) -> io::Result<Report> {
        self.writer.report.verdict = self.scanner.finish();
        if let Some(path) = self.writer.abandon() {
            self.writer.report.skipped.add(&path, Reason::BrokeOff);
        }
        self.writer.tree.finish()?;
        Ok(std::mem::replace(&mut self.writer.report, Report::new()))
    }
}

impl Drop for Writer {
    /// A restore that is given up leaves no temporary file.
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Writer {
    fn event(&mut self, event: Event<'_>) {
        if self.failed.is_some() {
            return;
        }
        match event {
            Event::Member(member) => self.member(member),
            Event::Data(bytes) => self.data(bytes),
            Event::End => self.end(),
            Event::Global { .. } => {}
        }
    }

    fn member(&mut self, member: &Member) {
        let names = match names(&member.path) {
            Ok(names) => names,
            Err(BadPath::Absolute) => return self.skip(&member.path, Reason::AbsolutePath),
            Err(BadPath::Parent) => return self.skip(&member.path, Reason::ParentPath),
        };
        let strip = self.options.strip_components;
        if strip > 0 && names.len() <= strip {
            self.report.stripped += 1;
            return;
        }
        let path = &names[strip.min(names.len())..];
        if path.is_empty() && member.kind != Kind::Directory {
            return self.skip(&member.path, Reason::NoName);
        }
        let attributes = self.attributes(member);
        let written = match member.kind {
            Kind::File => return self.begin_file(member, path, attributes),
            Kind::Directory => self.tree.directory(path, &attributes),
            Kind::Symlink if !self.options.outside_links && leads_out(&member.link, path.len() - 1) => {
                return self.skip(&member.path, Reason::LinkLeavesTarget);
            }
            Kind::Symlink => self.tree.symlink(path, &member.link, &attributes),
            Kind::HardLink => match self::names(&member.link) {
                Ok(target) if target.len() > strip => {
                    let outside_links = self.options.outside_links;
                    let may_link = |link: &[u8]| outside_links || !leads_out(link, path.len() - 1);
                    let linked = self.tree.hard_link(path, &target[strip..], &may_link);
                    linked.map(|()| true)
                }
                Ok(_) => Err(Refusal::NoLinkTarget.into()),
                Err(_) => return self.skip(&member.path, Reason::LinkLeavesTarget),
            },
            Kind::Fifo => self.tree.pipe(path, &attributes),
            Kind::CharDevice | Kind::BlockDevice if !self.options.devices => {
                return self.skip(&member.path, Reason::Device);
            }
            Kind::CharDevice | Kind::BlockDevice => {
                let (major, minor) = member.device;
                match (u32::try_from(major), u32::try_from(minor)) {
                    (Ok(major), Ok(minor)) => {
                        let is_block = member.kind == Kind::BlockDevice;
                        self.tree.device(path, is_block, (major, minor), &attributes)
                    }
                    _ => return self.skip(&member.path, Reason::Device),
                }
            }
            Kind::Other(flag) => return self.skip(&member.path, Reason::UnknownType(flag)),
        };
        match written {
            Ok(owner_kept) => self.count(member.kind, &member.path, member.mode, owner_kept),
            Err(error) => self.error(&member.path, error),
        }
    }

    fn begin_file(&mut self, member: &Member, path: &[&[u8]], attributes: Attributes) {
        let segments = match &member.content {
            Content::Plain => None,
            Content::Sparse(segments) => Some(segments.clone().into_iter()),
            Content::SparseWithoutMap => return self.skip(&member.path, Reason::NoMap),
        };
        match self.tree.file(path) {
            Err(error) => self.error(&member.path, error),
            Ok(file) => {
                self.current = Some(Current {
                    file,
                    path: member.path.clone(),
                    attributes,
                    segments,
                    segment: Segment { offset: 0, len: 0 },
                    size: member.size,
                    written: 0,
                    mode: member.mode,
                });
            }
        }
    }

    fn data(&mut self, mut bytes: &[u8]) {
        let Some(current) = &mut self.current else { return };
        while !bytes.is_empty() {
            let Current { segment, segments, .. } = current;
            if segment.len == 0 {
                let plain = Segment {
                    offset: segment.offset,
                    len: u64::MAX - segment.offset,
                };
                *segment = match segments {
                    None => plain,
                    Some(segments) => segments.next().unwrap_or(plain),
                };
            }
            let len = usize::try_from(segment.len).unwrap_or(usize::MAX).min(bytes.len());
            let (now, later) = bytes.split_at(len);
            if let Err(error) = current.file.write_at(now, segment.offset) {
                let path = self.abandon().unwrap_or_default();
                return self.error(&path, error);
            }
            let len = len as u64;
            segment.offset += len;
            segment.len -= len;
            current.written += len;
            bytes = later;
        }
    }

    /// The data of the current file are complete.
    fn end(&mut self) {
        let Some(current) = self.current.take() else { return };
        let strip = self.options.strip_components;
        let names = names(&current.path).unwrap_or_default();
        let path = &names[strip.min(names.len())..];
        if current.segments.is_some()
            && let Err(error) = current.file.set_len(current.size)
        {
            self.tree.abandon(current.file);
            return self.error(&current.path, error);
        }
        match self.tree.publish(current.file, path, &current.attributes) {
            Ok(owner_kept) => {
                self.report.bytes += current.written;
                self.count(Kind::File, &current.path, current.mode, owner_kept);
            }
            Err(error) => self.error(&current.path, error),
        }
    }

    /// Removes the current file, if there is one, and returns its path.
    fn abandon(&mut self) -> Option<Vec<u8>> {
        let current = self.current.take()?;
        self.tree.abandon(current.file);
        Some(current.path)
    }

    fn attributes(&self, member: &Member) -> Attributes {
        let removed = if self.options.setuid { 0 } else { 0o6000 };
        let owner = (u32::try_from(member.uid), u32::try_from(member.gid));
        Attributes {
            mode: member.mode & !removed,
            owner: match owner {
                (Ok(uid), Ok(gid)) if self.options.owners => Some((uid, gid)),
                _ => None,
            },
            mtime: (member.mtime.seconds, member.mtime.nanos),
        }
    }

    fn count(&mut self, kind: Kind, path: &[u8], mode: u32, owner_kept: bool) {
        let report = &mut self.report;
        *match kind {
            Kind::File => &mut report.files,
            Kind::Directory => &mut report.directories,
            Kind::HardLink => &mut report.hard_links,
            Kind::Symlink => &mut report.symlinks,
            _ => &mut report.special,
        } += 1;
        report.owners_not_kept += u64::from(!owner_kept);
        let has_mode = !matches!(kind, Kind::Symlink | Kind::HardLink);
        if has_mode && mode & 0o6000 != 0 && !self.options.setuid {
            report.changed.add(path, Reason::SetuidRemoved);
        }
    }

    fn skip(&mut self, path: &[u8], reason: Reason) {
        self.report.skipped.add(path, reason);
    }

    fn error(&mut self, path: &[u8], error: TreeError) {
        match error {
            TreeError::Refused(refusal) => self.skip(path, Reason::Refused(refusal)),
            TreeError::Failed(error) => self.failed = Some(error),
        }
    }
}
