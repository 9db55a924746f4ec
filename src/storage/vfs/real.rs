//! The [`Vfs`] of the operating system: each method makes one call of the standard library or of
//! `rustix`.

#![expect(clippy::disallowed_methods, reason = "the one file that calls the file system")]

use super::file_lock;
use super::identity::has_stable_inodes;
use super::{DirEntry, FileId, FileKind, FolderIdentity, Vfs, VfsFile};
use crate::storage::LockMode;
use crate::storage::error::NotARegularFile;
use crate::storage::missing::{no_flush, no_locks, of_last_link};
use crate::sync::lock;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The real file system.
pub struct RealFs {
    root: PathBuf,
    /// The device of the root at the last check, and whether its inode numbers are stable.
    stable_inodes: Mutex<Option<(u64, bool)>>,
}

impl RealFs {
    /// Makes a file system rooted at `root`, which need not exist yet. A relative `root` is
    /// resolved now, once.
    pub fn new(root: &Path) -> io::Result<Self> {
        Ok(Self {
            root: std::path::absolute(root)?,
            stable_inodes: Mutex::default(),
        })
    }

    fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        let mut rest = path;
        let mut base: &Path = &self.root;
        // a name may begin with two dots
        while rest == ".." || rest.starts_with("../") {
            base = base.parent().ok_or(io::ErrorKind::NotFound)?;
            rest = rest.get(3..).unwrap_or("");
        }
        let mut full = base.to_path_buf();
        if !rest.is_empty() {
            full.extend(rest.split('/'));
        }
        Ok(full)
    }

    fn open_with(&self, path: &str, write: bool) -> io::Result<Box<dyn VfsFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(write);
        #[cfg(unix)]
        {
            use rustix::fs::OFlags;
            use std::os::unix::fs::OpenOptionsExt;
            // do not follow a planted link, do not wait for a pipe that has no writer
            let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
            options.custom_flags(flags.bits().cast_signed());
        }
        let file = options.open(self.resolve(path)?)?;
        match file_kind(&file.metadata()?) {
            FileKind::File { len } => Ok(Box::new(RealFile { file, len })),
            FileKind::Folder => Err(io::ErrorKind::IsADirectory.into()),
            FileKind::Other => Err(io::Error::other(NotARegularFile)),
        }
    }
}

impl RealFs {
    fn identity(&self, meta: &std::fs::Metadata) -> Option<FolderIdentity> {
        let id = FileId::of(meta)?;
        let mut known = lock(&self.stable_inodes);
        let stable = match *known {
            Some((device, stable)) if device == id.device => stable,
            _ => has_stable_inodes(&self.root),
        };
        *known = Some((id.device, stable));
        stable.then(|| FolderIdentity {
            id,
            created: meta.created().ok(),
        })
    }
}

fn file_kind(meta: &std::fs::Metadata) -> FileKind {
    if meta.is_file() {
        FileKind::File { len: meta.len() }
    } else if meta.is_dir() {
        FileKind::Folder
    } else {
        FileKind::Other
    }
}

/// Returns the identity of a file; `None` on file systems without inodes, which may number all
/// files 0.
fn file_id(meta: &std::fs::Metadata) -> Option<FileId> {
    FileId::of(meta).filter(|id| id.inode != 0)
}

/// Flushes a file or a folder. Some FUSE and network file systems have no flush and report that
/// with various codes; any other error is a failed flush.
fn flush(file: &File) -> io::Result<()> {
    match file.sync_all() {
        // the standard library uses F_FULLFSYNC here, which not every file system has
        #[cfg(target_vendor = "apple")]
        Err(error) if no_flush(&error) => match rustix::fs::fsync(file).map_err(io::Error::from) {
            Err(error) if no_flush(&error) => Ok(()),
            other => other,
        },
        #[cfg(not(target_vendor = "apple"))]
        Err(error) if no_flush(&error) => Ok(()),
        other => other,
    }
}

impl Vfs for RealFs {
    fn create_new(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let file = options.open(self.resolve(path)?)?;
        Ok(Box::new(RealFile { file, len: 0 }))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        self.open_with(path, false)
    }

    fn open_lock(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        match self.open_with(path, true) {
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                self.open_with(path, false)
            }
            other => other,
        }
    }

    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()> {
        rename_noreplace(&self.resolve(from)?, &self.resolve(to)?)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::hard_link(self.resolve(from)?, self.resolve(to)?)
    }

    fn rename_over(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.resolve(from)?, self.resolve(to)?)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        std::fs::remove_file(self.resolve(path)?)
    }

    fn mkdir(&self, path: &str) -> io::Result<()> {
        #[cfg_attr(not(unix), expect(unused_mut, reason = "only Unix has modes"))]
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        {
            use std::os::unix::fs::DirBuilderExt;
            builder.mode(0o700);
        }
        builder.create(self.resolve(path)?)
    }

    #[cfg(unix)]
    fn fsync_dir(&self, path: &str) -> io::Result<()> {
        flush(&File::open(self.resolve(path)?)?)
    }

    #[cfg(not(unix))]
    fn fsync_dir(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn kind(&self, path: &str) -> io::Result<Option<FileKind>> {
        let full = self.resolve(path)?;
        let meta = match std::fs::symlink_metadata(&full) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        if meta.is_symlink() {
            let folder = std::fs::metadata(&full).is_ok_and(|target| target.is_dir());
            return Ok(Some(if folder { FileKind::Folder } else { FileKind::Other }));
        }
        Ok(Some(file_kind(&meta)))
    }

    fn is_link(&self, path: &str) -> io::Result<bool> {
        match std::fs::symlink_metadata(self.resolve(path)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            other => Ok(other?.is_symlink()),
        }
    }

    fn root_identity(&self) -> io::Result<Option<FolderIdentity>> {
        let meta = std::fs::metadata(&self.root)?;
        if !meta.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(self.identity(&meta))
    }

    fn modified(&self, path: &str) -> io::Result<Option<Duration>> {
        let meta = std::fs::symlink_metadata(self.resolve(path)?)?;
        // a time before 1970 counts as 1970
        let since_1970 = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(meta.modified().ok().map(since_1970))
    }

    fn file_id(&self, path: &str) -> io::Result<Option<FileId>> {
        match std::fs::symlink_metadata(self.resolve(path)?) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => Ok(file_id(&other?)),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(self.resolve(path)?)? {
            let entry = entry?;
            let meta = match entry.metadata() {
                // deleted after the listing returned its name
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other?,
            };
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirEntry {
                    name,
                    kind: file_kind(&meta),
                });
            }
        }
        Ok(entries)
    }
}

#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags};
    use rustix::io::Errno;
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // old kernels, NFS and some FUSE file systems do not support flags
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => link_and_unlink(from, to),
        other => Ok(other?),
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn rename_noreplace(from: &Path, to: &Path) -> io::Result<()> {
    link_and_unlink(from, to)
}

/// Renames without replacing by a hard link and an unlink; a crash in between leaves both names on
/// the same complete file.
fn link_and_unlink(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::hard_link(from, to).map_err(of_last_link)?;
    // the new name exists, so a leftover temporary name is not a failure of the rename
    let _ = std::fs::remove_file(from);
    Ok(())
}

struct RealFile {
    file: File,
    len: u64,
}

impl VfsFile for RealFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.len = self.len.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn fsync(&self) -> io::Result<()> {
        flush(&self.file)
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        // on Linux this starts writing dirty pages and keeps them cached until they are clean;
        // sync_file_range has no safe wrapper
        #[cfg(any(target_os = "linux", target_os = "android"))]
        if let Some(len) = std::num::NonZeroU64::new(len) {
            let _ = rustix::fs::fadvise(&self.file, offset, Some(len), rustix::fs::Advice::DontNeed);
        }
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        let _ = (offset, len);
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.file, out, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.file, out, offset)
    }

    fn size(&self) -> u64 {
        self.len
    }

    fn id(&self) -> Option<FileId> {
        file_id(&self.file.metadata().ok()?)
    }

    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        match file_lock::try_lock(&self.file, mode) {
            Err(error) if no_locks(&error) => Err(io::ErrorKind::Unsupported.into()),
            other => other,
        }
    }

    fn unlock(&self) {
        file_lock::unlock(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::super::is_named;
    use super::*;

    fn fresh() -> (tempfile::TempDir, RealFs) {
        let folder = tempfile::tempdir().unwrap();
        let fs = RealFs::new(folder.path()).unwrap();
        (folder, fs)
    }

    #[test]
    fn neither_a_rename_nor_its_fallback_replaces_a_file() {
        let (folder, fs) = fresh();
        for (name, text) in [("a", "1"), ("b", "2")] {
            fs.create_new(name).unwrap().write(text.as_bytes()).unwrap();
        }
        let taken = fs.rename_noreplace("a", "b").unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        let path = |name| folder.path().join(name);
        let taken = link_and_unlink(&path("a"), &path("b")).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        link_and_unlink(&path("a"), &path("c")).unwrap();
        fs.rename_noreplace("c", "d").unwrap();
        assert_eq!(std::fs::read(path("d")).unwrap(), b"1");
        assert_eq!(fs.kind("a").unwrap(), None);
        assert_eq!(fs.kind("d").unwrap(), Some(FileKind::File { len: 1 }));
    }

    #[test]
    fn an_open_file_is_recognised_under_each_of_its_names() {
        let (_folder, fs) = fresh();
        let file = fs.create_new("a").unwrap();
        fs.create_new("b").unwrap();
        fs.link("a", "c").unwrap();
        let named = ["a", "b", "c", "d"].map(|name| is_named(&fs, &*file, name));
        assert_eq!(named, [cfg!(unix), false, cfg!(unix), false]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_missing_flush_call_is_not_a_failure() {
        // procfs returns EINVAL for every flush
        let fs = RealFs::new(Path::new("/proc/self")).unwrap();
        let file = fs.open("status").unwrap();
        file.fsync().unwrap();
        fs.fsync_dir("").unwrap();
    }

    #[test]
    fn leading_dot_dot_names_the_parents_of_the_root() {
        let fs = RealFs::new(Path::new("/x/y/z")).unwrap();
        for (path, full) in [
            ("", "/x/y/z"),
            ("a/b", "/x/y/z/a/b"),
            ("..", "/x/y"),
            ("../..", "/x"),
            ("../../..", "/"),
        ] {
            assert_eq!(fs.resolve(path).unwrap(), Path::new(full), "{path}");
        }
        assert!(fs.resolve("../../../..").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn links_pipes_and_folders_are_never_opened() {
        let (folder, fs) = fresh();
        std::fs::write(folder.path().join("real"), b"secret").unwrap();
        std::os::unix::fs::symlink(folder.path().join("real"), folder.path().join("link")).unwrap();
        let mkfifo = std::process::Command::new("mkfifo")
            .arg(folder.path().join("pipe"))
            .status();
        assert!(mkfifo.unwrap().success());
        fs.mkdir("folder").unwrap();
        for (name, kind) in [
            ("link", FileKind::Other),
            ("pipe", FileKind::Other),
            ("folder", FileKind::Folder),
        ] {
            assert!(fs.open(name).is_err(), "{name}");
            assert_eq!(fs.kind(name).unwrap(), Some(kind), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn files_and_folders_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let (folder, fs) = fresh();
        fs.create_new("f").unwrap();
        fs.mkdir("d").unwrap();
        let mode = |name| {
            std::fs::metadata(folder.path().join(name))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!((mode("f"), mode("d")), (0o600, 0o700));
    }

    #[test]
    fn locks_exclude_other_handles() {
        let (_folder, fs) = fresh();
        fs.create_new("lock").unwrap();
        let one = fs.open_lock("lock").unwrap();
        let two = fs.open_lock("lock").unwrap();
        assert!(one.try_lock(LockMode::Shared).unwrap());
        assert!(two.try_lock(LockMode::Shared).unwrap());
        two.unlock();
        assert!(!two.try_lock(LockMode::Exclusive).unwrap());
        drop(one);
        assert!(two.try_lock(LockMode::Exclusive).unwrap());
    }
}
