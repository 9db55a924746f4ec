//! A file to back up: read from its position at the start to its end, and checked for changes.
//!
//! The position is read once, and every read gives an explicit offset: a descriptor may share its
//! file offset with others (the original in the host, a second item of the same ingest), which
//! would move it between two reads, and must not see it move.
//!
//! Regular files and block devices only: a read of anything else may wait forever, and nothing
//! could stop it. The file is not part of a repository, so it is not opened through
//! [`Storage`](super::Storage) or [`Vfs`](super::Vfs); it is in this room because no other room
//! does I/O. The caller decides what a change means.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek};
#[cfg(unix)]
use std::os::unix::fs::FileExt;
#[cfg(windows)]
use std::os::windows::fs::FileExt;
use std::path::Path;
use std::time::SystemTime;

/// An open file that is read once, from start to end.
#[derive(Debug)]
pub struct SourceFile {
    file: File,
    start: u64,
    read: u64,
    /// Length and modification time when reading began; `None` for a device, which has neither.
    stamp: Option<Stamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    len: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    fn of(meta: &Metadata) -> Self {
        Self {
            len: meta.len(),
            modified: meta.modified().ok(),
        }
    }
}

impl SourceFile {
    /// Opens a file to read all of it. Links are followed; a pipe is refused without waiting for a
    /// writer.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed());
        }
        Self::from_file(options.open(path)?)
    }

    /// Reads from the current position of an open file, also when others move its file offset
    /// later.
    pub fn from_file(mut file: File) -> io::Result<Self> {
        let meta = file.metadata()?;
        if meta.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let regular = meta.is_file();
        if !regular && !is_block_device(&meta) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "neither a regular file nor a block device",
            ));
        }
        Ok(Self {
            start: file.stream_position()?,
            read: 0,
            stamp: regular.then(|| Stamp::of(&meta)),
            file,
        })
    }

    /// Returns the number of bytes from the start position to the end at that time; `None` for a
    /// device.
    pub fn expected_len(&self) -> Option<u64> {
        self.stamp.map(|stamp| stamp.len.saturating_sub(self.start))
    }

    /// Describes what has changed since reading began, if anything. Called at the end.
    pub fn change(&self) -> io::Result<Option<String>> {
        let Some(before) = self.stamp else { return Ok(None) };
        let after = Stamp::of(&self.file.metadata()?);
        let expected = before.len.saturating_sub(self.start);
        Ok(if after.len != before.len {
            Some(format!("its size changed from {} to {} bytes", before.len, after.len))
        } else if self.read != expected {
            Some(format!("{} of {expected} bytes were read", self.read))
        } else if after.modified != before.modified {
            Some("its modification time changed".to_owned())
        } else {
            None
        })
    }
}

#[cfg(unix)]
fn is_block_device(meta: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    meta.file_type().is_block_device()
}

#[cfg(not(unix))]
fn is_block_device(_meta: &Metadata) -> bool {
    false
}

/// Reads from a position, without moving the file offset.
pub(super) fn read_at(file: &File, out: &mut [u8], position: u64) -> io::Result<usize> {
    #[cfg(unix)]
    return file.read_at(out, position);
    // this moves the file offset, but no one shares it on Windows
    #[cfg(windows)]
    return file.seek_read(out, position);
}

impl Read for SourceFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let position = self.start.saturating_add(self.read);
        let len = read_at(&self.file, out, position)?;
        self.read = self.read.saturating_add(len as u64);
        Ok(len)
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "makes the files that are read")]
mod tests {
    use super::*;
    use std::io::{SeekFrom, Write};

    fn read_all(source: &mut SourceFile) -> Vec<u8> {
        let mut out = Vec::new();
        source.read_to_end(&mut out).unwrap();
        out
    }

    fn file_of(folder: &tempfile::TempDir, bytes: &[u8]) -> std::path::PathBuf {
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_file_is_read_from_its_position_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_of(&folder, b"0123456789");
        let mut source = SourceFile::open(&path).unwrap();
        assert_eq!(source.expected_len(), Some(10));
        assert_eq!(read_all(&mut source), b"0123456789");
        assert_eq!(source.change().unwrap(), None);

        for (position, rest) in [(4, &b"456789"[..]), (10, b""), (99, b"")] {
            let mut file = File::open(&path).unwrap();
            file.seek(SeekFrom::Start(position)).unwrap();
            let mut source = SourceFile::from_file(file).unwrap();
            assert_eq!(source.expected_len(), Some(rest.len() as u64));
            assert_eq!(read_all(&mut source), rest);
            assert_eq!(source.change().unwrap(), None);
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_shared_file_offset_is_read_once_and_never_moved() {
        let folder = tempfile::tempdir().unwrap();
        let path = file_of(&folder, b"0123456789");
        let mut host = File::open(&path).unwrap();
        host.seek(SeekFrom::Start(2)).unwrap();
        // duplicates of one descriptor share its file offset
        let mut sources: Vec<_> = (0..2)
            .map(|_| SourceFile::from_file(host.try_clone().unwrap()).unwrap())
            .collect();
        let mut begun = [[0; 3]; 2];
        for (source, begun) in sources.iter_mut().zip(&mut begun) {
            source.read_exact(begun).unwrap();
            assert_eq!(host.stream_position().unwrap(), 2);
        }
        host.seek(SeekFrom::Start(7)).unwrap();
        for (source, begun) in sources.iter_mut().zip(begun) {
            assert_eq!(&begun, b"234");
            assert_eq!(read_all(source), b"56789");
            assert_eq!(source.change().unwrap(), None);
        }
        assert_eq!(host.stream_position().unwrap(), 7);
    }

    #[test]
    fn a_change_during_reading_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let changed = |change: &dyn Fn(&mut File)| {
            let path = file_of(&folder, &[1; 100]);
            let mut source = SourceFile::open(&path).unwrap();
            source.read_exact(&mut [0; 10]).unwrap();
            let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
            change(&mut writer);
            read_all(&mut source);
            source.change().unwrap()
        };
        assert_eq!(changed(&|_| {}), None);
        assert!(changed(&|file| file.set_len(50).unwrap()).unwrap().contains("to 50"));
        let grown = changed(&|file| {
            file.seek(SeekFrom::End(0)).unwrap();
            file.write_all(b"more").unwrap();
        });
        assert!(grown.unwrap().contains("to 104"));
        let later = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(9);
        assert!(changed(&|file| file.set_modified(later).unwrap()).is_some());
    }

    #[test]
    fn files_that_may_never_end_are_refused_without_waiting() {
        let folder = tempfile::tempdir().unwrap();
        assert!(SourceFile::open(folder.path()).is_err());
        assert!(SourceFile::open(&folder.path().join("missing")).is_err());
        #[cfg(unix)]
        {
            assert!(SourceFile::open(Path::new("/dev/zero")).is_err());
            #[cfg(target_os = "linux")]
            {
                let pipe = folder.path().join("pipe");
                let kind = rustix::fs::FileType::Fifo;
                rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, rustix::fs::Mode::RUSR, 0).unwrap();
                assert!(SourceFile::open(&pipe).is_err());
            }
        }
    }
}
