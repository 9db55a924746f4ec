//! The rest of a file that the host has open and has begun to read.
//!
//! Reading never fails. Whatever is not as expected (another kind of file, other bytes before the
//! position, an error of a read) only ends the rest: the host reads on from there, and sees the
//! same end or the same error itself, in its own form.

use super::source_file::read_at;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// An open file from a position on.
#[derive(Debug)]
pub struct FileRest {
    file: File,
    /// Position of the next read; `None` for the file offset, which then moves as with the reads
    /// of the host.
    position: Option<u64>,
    /// Bytes that may still be read.
    left: u64,
    /// What the host has read just before the position. `None` once it was compared.
    before: Option<Vec<u8>>,
    state: Arc<RestState>,
}

/// The state of a [`FileRest`], for the host.
#[derive(Debug, Default)]
pub struct RestState {
    read: AtomicU64,
    stopped: AtomicBool,
}

impl RestState {
    /// Returns the number of bytes that have been read.
    pub fn bytes_read(&self) -> u64 {
        self.read.load(Ordering::Acquire)
    }

    /// Ends the rest before its next read.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }
}

impl FileRest {
    /// Returns the next `len` bytes of `file`, or fewer where it ends: from `position`, or from the
    /// file offset. `before` are the last bytes before that position.
    pub fn new(file: File, position: Option<u64>, len: u64, before: Vec<u8>) -> Self {
        Self {
            file,
            position,
            left: len,
            before: Some(before),
            state: Arc::default(),
        }
    }

    /// Returns the state, which stays available when the rest is gone.
    pub fn state(&self) -> Arc<RestState> {
        Arc::clone(&self.state)
    }

    /// Reads into `out`; returns 0 at the end, whatever its reason.
    pub fn read(&mut self, out: &mut [u8]) -> usize {
        if self.state.stopped.load(Ordering::Acquire) {
            return 0;
        }
        if let Some(before) = self.before.take()
            && !self.follows(&before).unwrap_or(false)
        {
            self.left = 0;
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        if most == 0 {
            // some devices block, or drop what they have, at a read of no bytes
            return 0;
        }
        let len = self.read_once(&mut out[..most]).unwrap_or(0);
        self.left -= len as u64;
        self.state.read.fetch_add(len as u64, Ordering::AcqRel);
        len
    }

    /// Whether this is a regular file that has the bytes `before` just before the position. If not,
    /// the host does not read the plain bytes of this file: it has the descriptor of something
    /// else, or decodes what it reads. A file that has fewer bytes than were read of it stores
    /// none, as those of /proc, where a second read may give others, or take them away.
    fn follows(&mut self, before: &[u8]) -> io::Result<bool> {
        let metadata = self.file.metadata()?;
        if !metadata.is_file() {
            return Ok(false);
        }
        let position = match self.position {
            Some(position) => position,
            None => self.file.stream_position()?,
        };
        if metadata.len() < position {
            return Ok(false);
        }
        let Some(start) = position.checked_sub(before.len() as u64) else {
            return Ok(false);
        };
        let mut found = vec![0; before.len()];
        let mut filled = 0;
        while filled < found.len() {
            match read_at(&self.file, &mut found[filled..], start.saturating_add(filled as u64)) {
                Ok(0) => return Ok(false),
                Ok(len) => filled += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found == before)
    }

    fn read_once(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self.position {
                Some(position) => read_at(&self.file, out, position),
                None => self.file.read(out),
            };
            match (result, &mut self.position) {
                (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => {}
                (Ok(len), Some(position)) => {
                    *position = position.saturating_add(len as u64);
                    return Ok(len);
                }
                (result, _) => return result,
            }
        }
    }
}

#[cfg(test)]
#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "makes the files that are read")]
mod tests {
    use super::*;
    use std::io::SeekFrom;

    /// A file with these bytes, and the directory that contains it.
    fn file_of(bytes: &[u8]) -> (File, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, bytes).unwrap();
        let file = File::options().read(true).write(true).open(path).unwrap();
        (file, folder)
    }

    fn read_all(rest: &mut FileRest) -> Vec<u8> {
        let (mut all, mut out) = (Vec::new(), [0; 3]);
        loop {
            let len = rest.read(&mut out);
            if len == 0 {
                return all;
            }
            all.extend_from_slice(&out[..len]);
        }
    }

    #[test]
    fn a_rest_ends_with_its_length_or_the_file_and_moves_the_file_offset_only_without_a_position() {
        let (mut file, _folder) = file_of(b"0123456789");
        for (len, expected) in [(0, &b""[..]), (2, b"45"), (6, b"456789"), (u64::MAX, b"456789")] {
            for position in [Some(4), None] {
                file.seek(SeekFrom::Start(4)).unwrap();
                let mut rest = FileRest::new(file.try_clone().unwrap(), position, len, b"123".to_vec());
                let state = rest.state();
                assert_eq!(read_all(&mut rest), expected);
                assert_eq!(state.bytes_read(), expected.len() as u64);
                let moved = if position.is_none() { expected.len() } else { 0 };
                assert_eq!(file.stream_position().unwrap(), 4 + moved as u64);
            }
        }
    }

    #[test]
    fn a_rest_after_other_bytes_than_those_of_the_file_is_empty() {
        let (file, _folder) = file_of(b"0123456789");
        for (position, before) in [(4, &b"xyz"[..]), (4, b"-10123"), (14, b"123"), (u64::MAX, b"123")] {
            let mut rest = FileRest::new(file.try_clone().unwrap(), Some(position), 9, before.to_vec());
            assert_eq!(read_all(&mut rest), b"");
            assert_eq!(rest.state().bytes_read(), 0);
        }
    }

    #[test]
    fn a_rest_of_anything_but_a_regular_file_is_empty() {
        let mut rest = FileRest::new(File::open("/dev/zero").unwrap(), Some(4), 9, Vec::new());
        assert_eq!(rest.read(&mut [0; 9]), 0);
        let mut rest = FileRest::new(File::open("/").unwrap(), Some(4), 9, Vec::new());
        assert_eq!(rest.read(&mut [0; 9]), 0);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_rest_of_a_file_that_stores_no_bytes_is_empty() {
        let path = "/proc/self/status";
        let before = std::fs::read(path).unwrap()[..5].to_vec();
        let mut rest = FileRest::new(File::open(path).unwrap(), Some(5), 9, before);
        assert_eq!(rest.read(&mut [0; 9]), 0);
    }

    #[test]
    fn a_rest_that_is_stopped_or_truncated_ends_there() {
        let (file, _folder) = file_of(b"0123456789");
        let rest = || FileRest::new(file.try_clone().unwrap(), Some(4), 9, b"0123".to_vec());
        let mut stopped = rest();
        assert_eq!(stopped.read(&mut [0; 2]), 2);
        stopped.state().stop();
        assert_eq!(stopped.read(&mut [0; 2]), 0);
        assert_eq!(stopped.state().bytes_read(), 2);
        let mut truncated = rest();
        assert_eq!(truncated.read(&mut [0; 2]), 2);
        file.set_len(7).unwrap();
        assert_eq!(read_all(&mut truncated), b"6");
    }
}
