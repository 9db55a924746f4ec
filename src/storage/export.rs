//! A restored file outside of any repository: complete and flushed under its name, or absent.
//!
//! It is written under a temporary name in the target folder, flushed, and then renamed atomically,
//! over another file only with `overwrite`. After a failure the temporary file is deleted; only a
//! process that is killed leaves one.

use super::key::random_hex;
use super::vfs::{FileKind, PIECE_LEN, RealFs, Vfs, VfsFile, WRITEBACK_LEN, is_named, may_be_done};
use super::{Created, Error, Result};
use crate::entropy::Entropy;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Start of the temporary name; random hex digits follow.
const TEMP_PREFIX: &str = ".tmp-containerarchive-";

/// A file that is being written.
pub struct ExportFile {
    vfs: Arc<dyn Vfs>,
    file: Box<dyn VfsFile>,
    /// Temporary name, in the root of `vfs`.
    temp: String,
    /// Final name, in the root of `vfs`.
    name: String,
    /// Path in errors.
    shown: String,
    overwrite: bool,
    buffer: Vec<u8>,
    written: u64,
    handed_on: u64,
    flushed: bool,
    published: bool,
}

impl ExportFile {
    /// Begins a file at `path`, which must have a file name and an existing folder. Returns `None`
    /// when the path exists and may not be replaced: without `overwrite` in any case, with it when
    /// it is not a regular file (a folder, a link, a device).
    pub fn create(path: &Path, overwrite: bool, entropy: &dyn Entropy) -> Result<Option<Self>> {
        let shown = path.display().to_string();
        let io = |error| Error::from_io("restore", shown.as_str(), error);
        let path = std::path::absolute(path).map_err(io)?;
        let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
            return Err(io(io::ErrorKind::InvalidInput.into()));
        };
        let vfs = Arc::new(RealFs::new(folder).map_err(io)?);
        Self::create_on(vfs, name, &shown, overwrite, entropy)
    }

    /// Begins a file with this name in the root of `vfs`; errors name it `shown`.
    pub fn create_on(
        vfs: Arc<dyn Vfs>,
        name: &str,
        shown: &str,
        overwrite: bool,
        entropy: &dyn Entropy,
    ) -> Result<Option<Self>> {
        let io = |error| Error::from_io("restore", shown, error);
        let taken = match vfs.kind(name).map_err(io)? {
            None => false,
            Some(FileKind::File { .. }) => !overwrite,
            Some(FileKind::Folder | FileKind::Other) => true,
        };
        if taken {
            return Ok(None);
        }
        let temp = format!("{TEMP_PREFIX}{}", random_hex::<8>(entropy).map_err(io)?);
        let file = vfs.create_new(&temp).map_err(io)?;
        Ok(Some(Self {
            vfs,
            file,
            temp,
            name: name.to_owned(),
            shown: shown.to_owned(),
            overwrite,
            buffer: Vec::with_capacity(PIECE_LEN),
            written: 0,
            handed_on: 0,
            flushed: false,
            published: false,
        }))
    }

    /// Appends bytes.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.flushed = false;
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(PIECE_LEN - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == PIECE_LEN {
                self.write_buffer()?;
            }
        }
        Ok(())
    }

    fn write_buffer(&mut self) -> Result<()> {
        self.file.write(&self.buffer).map_err(|error| self.error(error))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        if self.written - self.handed_on >= WRITEBACK_LEN {
            self.file.start_writeback(self.handed_on, self.written - self.handed_on);
            self.handed_on = self.written;
        }
        Ok(())
    }

    /// Flushes the bytes written so far; the file has no final name yet.
    pub fn flush(&mut self) -> Result<()> {
        if !self.buffer.is_empty() {
            self.write_buffer()?;
        }
        if !self.flushed {
            self.file.fsync().map_err(|error| self.error(error))?;
            self.flushed = true;
        }
        Ok(())
    }

    /// Flushes the file and renames it to its final name, durably. [`Created::Exists`] when that
    /// name exists by now; the temporary file is then deleted. When only the last step fails, the
    /// flush of the folder, the file exists.
    pub fn finish(mut self) -> Result<Created> {
        self.flush()?;
        let renamed = match self.overwrite {
            true => self.vfs.rename_over(&self.temp, &self.name),
            false => self.vfs.rename_noreplace(&self.temp, &self.name),
        };
        match renamed {
            Ok(()) => self.published = true,
            // the reply was lost, and the rename is done
            Err(error) if may_be_done(&error) && is_named(&*self.vfs, &*self.file, &self.name) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Created::Exists),
            Err(error) => return Err(self.error(error)),
        }
        let not_durable = |error| Error::from_io("the flush of the folder", self.shown.as_str(), error);
        self.vfs.fsync_dir("").map_err(not_durable)?;
        Ok(Created::Created)
    }

    fn error(&self, error: io::Error) -> Error {
        Error::from_io("restore", self.shown.as_str(), error)
    }
}

impl Drop for ExportFile {
    fn drop(&mut self) {
        if !self.published {
            // best effort: the caller already has the error that matters
            let _ = self.vfs.unlink(&self.temp);
        }
    }
}
