//! A directory that is written into by descriptors: what a restore of many files needs.
//!
//! No path is ever joined. A directory is opened from the descriptor of the one above, never
//! through a link, and everything else is one name in an open directory. So nothing that is planted
//! below the target, by an earlier file of the same restore or by another process, leads a later
//! file out of it.
//!
//! Every file, link and device gets a temporary name, its attributes, and then its own name by a
//! rename: it is there completely or not at all. Times and permissions of a directory are set when
//! it is left, after the last change in it.
//!
//! Memory: descriptors for [`MAX_DEPTH`] directories, and 16 bytes for each of the first
//! [`MAX_MADE`] files, by which a name that occurs twice in one restore is told from a file that
//! was there before.

mod attributes;
mod made;

pub use attributes::Attributes;

use super::key::random_hex;
use crate::entropy::Entropy;
use attributes::{Leave, apply_to, apply_to_name};
use made::Made;
use rustix::fs::{self as sys, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Most directories below the target that a path may have. Each one costs a descriptor.
pub const MAX_DEPTH: usize = 200;
/// Most files of a restore that are remembered, 64 MiB and the overhead of a set.
pub const MAX_MADE: usize = 1 << 22;

/// Start of a temporary name; random hex digits and a number follow.
const TEMP_PREFIX: &str = ".tmp-containerarchive-";

/// Why a name was not written. The target is as before, and other names can follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The name exists: from before the restore and without `overwrite`, or as a directory.
    Exists,
    /// A directory of the path is a link or a file.
    ThroughLink,
    /// Another name of this restore is the same to the file system, for example in other case.
    CaseCollision,
    /// There is no file that the hard link could name.
    NoLinkTarget,
    /// The file that the hard link names is not from this restore.
    ForeignLinkTarget,
    /// The hard link names a symbolic link, which would lead out of the target from its new place.
    LinkLeavesTarget,
    /// The path has more than [`MAX_DEPTH`] directories.
    TooDeep,
    /// A directory of the path is not to be written to: see [`Tree::avoid`].
    Avoided,
    /// The system refused this name or this kind of file, with its error.
    System(String),
}

/// A name that was not written, or a target that cannot be written to.
#[derive(Debug)]
pub enum TreeError {
    /// Only this name is concerned.
    Refused(Refusal),
    /// No space, a failed disk, no descriptors: nothing can follow.
    Failed(io::Error),
}

impl From<Errno> for TreeError {
    fn from(errno: Errno) -> Self {
        const FATAL: [Errno; 10] = [
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::IO,
            Errno::ROFS,
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::STALE,
            Errno::TIMEDOUT,
            Errno::NOTCONN,
        ];
        match FATAL.contains(&errno) {
            true => Self::Failed(errno.into()),
            false => Self::Refused(Refusal::System(io::Error::from(errno).to_string())),
        }
    }
}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => Self::Failed(error),
        }
    }
}

impl From<Refusal> for TreeError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Result of a call of this file.
pub type TreeResult<T> = Result<T, TreeError>;

/// The target of a restore.
pub struct Tree {
    root: OwnedFd,
    /// The root did not exist before.
    is_new: bool,
    /// What is done to the root at the end.
    root_leave: Leave,
    /// The open directories, from the root down.
    open: Vec<Level>,
    overwrite: bool,
    made: Made,
    temp_prefix: String,
    temp_count: u64,
    /// Device and inode of a directory that is not entered.
    avoided: Option<(u64, u64)>,
}

/// An open directory.
struct Level {
    name: Vec<u8>,
    fd: OwnedFd,
    leave: Leave,
    /// Made by this restore.
    is_own: bool,
}

/// A file that has no name yet. If it is not given one, its temporary name must be removed with
/// [`Tree::abandon`].
pub struct NewFile {
    file: File,
    temp: String,
}

impl NewFile {
    /// Writes bytes at a position.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> TreeResult<()> {
        Ok(self.file.write_all_at(bytes, offset)?)
    }

    /// Sets the length; what was not written is a hole.
    pub fn set_len(&self, len: u64) -> TreeResult<()> {
        Ok(sys::ftruncate(&self.file, len)?)
    }
}

impl Tree {
    /// Opens the target, a directory that is created if its parent exists. With `overwrite`, files
    /// that are there are replaced; a directory never is.
    pub fn open(path: &Path, overwrite: bool, entropy: &dyn Entropy) -> io::Result<Self> {
        let is_new = match sys::mkdirat(sys::CWD, path, Mode::from_raw_mode(0o777)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(errno.into()),
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = sys::openat(sys::CWD, path, flags, Mode::empty())?;
        if is_new && let Some(parent) = std::path::absolute(path)?.parent() {
            sys::fsync(sys::openat(sys::CWD, parent, flags, Mode::empty())?)?;
        }
        let temp_prefix = format!("{TEMP_PREFIX}{}", random_hex::<8>(entropy)?);
        let mut tree = Self {
            made: Made::new(ignores_case(&root, &temp_prefix)?),
            root,
            is_new,
            root_leave: Leave::default(),
            open: Vec::new(),
            overwrite,
            temp_prefix,
            temp_count: 0,
            avoided: None,
        };
        tree.made.add(&sys::fstat(&tree.root)?);
        Ok(tree)
    }

    /// Never enters the directory at `path`, which exists, under whatever name.
    pub fn avoid(&mut self, path: &Path) -> io::Result<()> {
        let found = sys::stat(path)?;
        self.avoided = Some(made::id(&found));
        Ok(())
    }

    /// Creates a directory, or takes one that is there; its attributes are those when it is left. A
    /// directory from before the restore, the target itself too, keeps its own without `overwrite`.
    /// Returns whether the owner is kept.
    pub fn directory(&mut self, path: &[&[u8]], attributes: &Attributes) -> TreeResult<bool> {
        self.enter(path)?;
        let (fd, leave) = match self.open.last_mut() {
            Some(level) if level.is_own || self.overwrite => (level.fd.as_fd(), &mut level.leave),
            None if self.is_new || self.overwrite => (self.root.as_fd(), &mut self.root_leave),
            _ => return Ok(true),
        };
        let kept = attributes::own(fd, attributes)?;
        *leave = Leave::with(attributes);
        Ok(kept)
    }

    /// Begins a file in the directory of `path`. Nothing else may be written before
    /// [`Tree::publish`] or [`Tree::abandon`].
    pub fn file(&mut self, path: &[&[u8]]) -> TreeResult<NewFile> {
        let (directory, _) = split(path)?;
        self.enter(directory)?;
        let temp = self.temp();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = sys::openat(self.here(), &temp, flags, Mode::RUSR | Mode::WUSR)?;
        let file = File::from(fd);
        Ok(NewFile { file, temp })
    }

    /// Gives a file its attributes and its name, in the directory of the path that it was begun
    /// with. Returns whether the owner is kept.
    pub fn publish(&mut self, file: NewFile, path: &[&[u8]], attributes: &Attributes) -> TreeResult<bool> {
        let done = self.publish_file(&file, path, attributes);
        if done.is_err() {
            self.abandon(file);
        }
        done
    }

    fn publish_file(&mut self, file: &NewFile, path: &[&[u8]], attributes: &Attributes) -> TreeResult<bool> {
        let (_, name) = split(path)?;
        let kept = apply_to(file.file.as_fd(), attributes)?;
        if !cfg!(target_os = "linux") {
            sys::fsync(&file.file)?;
        }
        self.rename(&file.temp, name)?;
        Ok(kept)
    }

    /// Removes a file that got no name.
    pub fn abandon(&mut self, file: NewFile) {
        // best effort: the caller already has the error that matters
        let _ = sys::unlinkat(self.here(), &file.temp, AtFlags::empty());
    }

    /// Creates a symbolic link. Returns whether the owner is kept.
    pub fn symlink(&mut self, path: &[&[u8]], target: &[u8], attributes: &Attributes) -> TreeResult<bool> {
        self.node(path, attributes, false, |directory, temp| {
            sys::symlinkat(target, directory, temp)
        })
    }

    /// Creates a named pipe. Returns whether the owner is kept.
    pub fn pipe(&mut self, path: &[&[u8]], attributes: &Attributes) -> TreeResult<bool> {
        self.node(path, attributes, true, make_pipe)
    }

    /// Creates a device. Returns whether the owner is kept.
    #[cfg(not(target_vendor = "apple"))]
    pub fn device(
        &mut self,
        path: &[&[u8]],
        is_block: bool,
        numbers: (u32, u32),
        attributes: &Attributes,
    ) -> TreeResult<bool> {
        let kind = if is_block {
            FileType::BlockDevice
        } else {
            FileType::CharacterDevice
        };
        let number = sys::makedev(numbers.0, numbers.1);
        self.node(path, attributes, true, |directory, temp| {
            sys::mknodat(directory, temp, kind, Mode::RUSR | Mode::WUSR, number)
        })
    }

    /// Creates a device, which this system has no call for that takes a descriptor.
    #[cfg(target_vendor = "apple")]
    pub fn device(&mut self, _: &[&[u8]], _: bool, _: (u32, u32), _: &Attributes) -> TreeResult<bool> {
        Err(Errno::NOTSUP.into())
    }

    /// Creates another name of a file of this restore. Neither path goes through a link, and a link
    /// at the end of `target` is itself what gets another name, if `may_link` accepts what it
    /// contains.
    pub fn hard_link(&mut self, path: &[&[u8]], target: &[&[u8]], may_link: &dyn Fn(&[u8]) -> bool) -> TreeResult<()> {
        let (directory, name) = split(target)?;
        let from = self.look_up(directory)?;
        let found = match sys::statat(&from, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NAMETOOLONG) => return Err(Refusal::NoLinkTarget.into()),
            Err(errno) => return Err(errno.into()),
        };
        let kind = FileType::from_raw_mode(found.st_mode);
        if kind == FileType::Directory {
            return Err(Refusal::NoLinkTarget.into());
        }
        if !self.made.contains(&found) {
            return Err(Refusal::ForeignLinkTarget.into());
        }
        if kind == FileType::Symlink && !may_link(sys::readlinkat(&from, name, Vec::new())?.to_bytes()) {
            return Err(Refusal::LinkLeavesTarget.into());
        }
        let (directory, own_name) = split(path)?;
        self.enter(directory)?;
        let temp = self.temp();
        sys::linkat(&from, name, self.here(), &temp, AtFlags::empty())?;
        let done = self.rename(&temp, own_name);
        // a rename between two names of one file does nothing
        let _ = sys::unlinkat(self.here(), &temp, AtFlags::empty());
        done
    }

    /// Leaves all directories and makes everything durable.
    pub fn finish(&mut self) -> io::Result<()> {
        let failed = |error| match error {
            TreeError::Failed(error) => error,
            TreeError::Refused(refusal) => io::Error::other(format!("{refusal:?}")),
        };
        self.leave(0).map_err(failed)?;
        self.root_leave.apply(self.root.as_fd()).map_err(failed)?;
        #[cfg(target_os = "linux")]
        sys::syncfs(&self.root)?;
        Ok(sys::fsync(&self.root)?)
    }

    /// Makes the directory at `path` the innermost open one; those that are missing are created.
    fn enter(&mut self, path: &[&[u8]]) -> TreeResult<()> {
        let shared = self
            .open
            .iter()
            .zip(path)
            .take_while(|(level, name)| level.name == **name);
        let shared = shared.count();
        self.leave(shared)?;
        if path.len() > MAX_DEPTH {
            return Err(Refusal::TooDeep.into());
        }
        for name in &path[shared..] {
            let created = match sys::mkdirat(self.here(), *name, Mode::RWXU) {
                Ok(()) => true,
                Err(Errno::EXIST) => false,
                Err(errno) => return Err(errno.into()),
            };
            let fd = open_directory(self.here(), name)?;
            let found = sys::fstat(&fd)?;
            if self.avoided == Some(made::id(&found)) {
                return Err(Refusal::Avoided.into());
            }
            let parent = sys::fstat(self.here())?;
            if !created && self.made.is_collision(&parent, name, &found) {
                return Err(Refusal::CaseCollision.into());
            }
            let is_own = created || self.made.contains(&found);
            let leave = match created {
                // until the archive states something else
                true => Leave::created(),
                false if is_own => Leave::as_before(fd.as_fd(), &found)?,
                // from before the restore, which gave it no times
                false => Leave::default(),
            };
            if created {
                self.made.add(&found);
            }
            self.made.add_name(&parent, name, &found);
            let name = name.to_vec();
            self.open.push(Level {
                name,
                fd,
                leave,
                is_own,
            });
        }
        Ok(())
    }

    /// Leaves all but the outermost `kept` directories.
    fn leave(&mut self, kept: usize) -> TreeResult<()> {
        while self.open.len() > kept {
            let Some(level) = self.open.pop() else { break };
            level.leave.apply(level.fd.as_fd())?;
            if !cfg!(target_os = "linux") {
                sys::fsync(&level.fd)?;
            }
        }
        Ok(())
    }

    /// Opens a directory without entering it or creating anything.
    fn look_up(&self, path: &[&[u8]]) -> TreeResult<OwnedFd> {
        let missing = |error| match error {
            TreeError::Refused(Refusal::System(_)) => Refusal::NoLinkTarget.into(),
            other => other,
        };
        let mut fd = sys::openat(
            &self.root,
            c".",
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        for name in path {
            fd = open_directory(fd.as_fd(), name).map_err(missing)?;
        }
        Ok(fd)
    }

    /// Creates something under a temporary name, gives it its attributes, and its name.
    fn node(
        &mut self,
        path: &[&[u8]],
        attributes: &Attributes,
        has_mode: bool,
        create: impl Fn(BorrowedFd<'_>, &str) -> rustix::io::Result<()>,
    ) -> TreeResult<bool> {
        let (directory, name) = split(path)?;
        self.enter(directory)?;
        let temp = self.temp();
        create(self.here(), &temp)?;
        let done = apply_to_name(self.here(), &temp, attributes, has_mode)
            .and_then(|kept| self.rename(&temp, name).map(|()| kept));
        if done.is_err() {
            let _ = sys::unlinkat(self.here(), &temp, AtFlags::empty());
        }
        done
    }

    /// Gives what has a temporary name its own: over nothing, over a file of this restore, or with
    /// `overwrite` over any file.
    fn rename(&mut self, temp: &str, name: &[u8]) -> TreeResult<()> {
        let parent = sys::fstat(self.here())?;
        match rename_noreplace(self.here(), temp, name) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let there = sys::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_made = self.made.contains(&there);
                if is_made && self.made.is_collision(&parent, name, &there) {
                    return Err(Refusal::CaseCollision.into());
                }
                let is_directory = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
                if is_directory || !(is_made || self.overwrite) {
                    return Err(Refusal::Exists.into());
                }
                sys::renameat(self.here(), temp, self.here(), name)?;
                if there.st_nlink == 1 {
                    self.made.remove(&there);
                }
            }
            Err(errno) => return Err(errno.into()),
        }
        let new = sys::statat(self.here(), name, AtFlags::SYMLINK_NOFOLLOW)?;
        self.made.add(&new);
        self.made.add_name(&parent, name, &new);
        Ok(())
    }

    /// The innermost open directory.
    fn here(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.root.as_fd(), |level| level.fd.as_fd())
    }

    fn temp(&mut self) -> String {
        self.temp_count += 1;
        format!("{}-{}", self.temp_prefix, self.temp_count)
    }
}

/// The directory and the name of a path. The target itself has no name.
fn split<'a, 'b>(path: &'a [&'b [u8]]) -> TreeResult<(&'a [&'b [u8]], &'b [u8])> {
    let (name, directory) = path.split_last().ok_or(Refusal::Exists)?;
    Ok((directory, name))
}

fn open_directory(above: BorrowedFd<'_>, name: &[u8]) -> TreeResult<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match sys::openat(above, name, flags, Mode::empty()) {
        // systems differ in what they say of a link
        Err(Errno::LOOP | Errno::NOTDIR | Errno::MLINK) => Err(Refusal::ThroughLink.into()),
        Err(errno) => Err(errno.into()),
        Ok(fd) => Ok(fd),
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_noreplace(directory: BorrowedFd<'_>, from: &str, to: &[u8]) -> rustix::io::Result<()> {
    match sys::renameat_with(directory, from, directory, to, sys::RenameFlags::NOREPLACE) {
        // the file system lacks the flag
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_and_unlink(directory, from, to),
        done => done,
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_noreplace(directory: BorrowedFd<'_>, from: &str, to: &[u8]) -> rustix::io::Result<()> {
    link_and_unlink(directory, from, to)
}

fn link_and_unlink(directory: BorrowedFd<'_>, from: &str, to: &[u8]) -> rustix::io::Result<()> {
    sys::linkat(directory, from, directory, to, AtFlags::empty())?;
    sys::unlinkat(directory, from, AtFlags::empty())
}

#[cfg(target_vendor = "apple")]
fn make_pipe(directory: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    sys::mkfifoat(directory, name, Mode::RUSR | Mode::WUSR)
}

#[cfg(not(target_vendor = "apple"))]
fn make_pipe(directory: BorrowedFd<'_>, name: &str) -> rustix::io::Result<()> {
    sys::mknodat(directory, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
}

/// Whether a file is found under its name in capitals.
fn ignores_case(root: &OwnedFd, temp_prefix: &str) -> rustix::io::Result<bool> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    sys::openat(root, temp_prefix, flags, Mode::RUSR | Mode::WUSR)?;
    let found = sys::statat(root, temp_prefix.to_ascii_uppercase(), AtFlags::SYMLINK_NOFOLLOW);
    sys::unlinkat(root, temp_prefix, AtFlags::empty())?;
    Ok(found.is_ok())
}
