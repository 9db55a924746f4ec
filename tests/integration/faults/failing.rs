//! A disk on which one chosen call fails in a chosen way.

use containerarchive::storage::LockMode;
use containerarchive::storage::simfs::SimFs;
use containerarchive::storage::vfs::{DirEntry, FileId, FileKind, FolderIdentity, Vfs, VfsFile};
use rustix::io::Errno;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// The way in which a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call does nothing and returns this error.
    Errno(Errno),
    /// A read returns half of the bytes; other calls are not changed.
    ShortRead,
    /// A write stores half of the bytes and fails; other calls are not changed.
    ShortWrite,
}

/// The failures of a device, a full disk, a quota, a remount, lost permissions, too many open files
/// and a signal.
pub const FAULTS: [Fault; 9] = [
    Fault::Errno(Errno::IO),
    Fault::Errno(Errno::NOSPC),
    Fault::Errno(Errno::DQUOT),
    Fault::Errno(Errno::ROFS),
    Fault::Errno(Errno::ACCESS),
    Fault::Errno(Errno::MFILE),
    Fault::Errno(Errno::INTR),
    Fault::ShortRead,
    Fault::ShortWrite,
];

/// A call: its name and its path.
pub type Call = (&'static str, String);

/// Selects the call that fails, and counts the calls.
#[derive(Default)]
pub struct Order {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: u64,
    order: Option<(u64, Fault)>,
    hit: Option<Call>,
    reads: u64,
    read_order: Option<ReadOrder>,
}

/// A read that fails.
#[derive(Debug, Clone, Copy)]
pub struct ReadOrder {
    /// Its number among the reads.
    pub number: u64,
    /// The error that it returns.
    pub errno: Errno,
    /// Whether every later read of the same path fails too.
    pub lasting: bool,
}

impl Order {
    /// Lets call number `number` from now on fail.
    pub fn fail(&self, number: u64, fault: Fault) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.order = Some((state.calls + number, fault));
        state.hit = None;
    }

    /// Lets a read fail, counted from now on.
    pub fn fail_read(&self, order: ReadOrder) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let number = state.reads + order.number;
        state.read_order = Some(ReadOrder { number, ..order });
        state.hit = None;
    }

    /// Returns the number of reads so far.
    pub fn reads(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).reads
    }

    /// Lets no further call fail. Returns the call that failed, if it was made.
    pub fn take_back(&self) -> Option<Call> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.order = None;
        state.read_order = None;
        state.hit.take()
    }

    /// Returns the number of calls so far.
    pub fn calls(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).calls
    }

    /// Counts a call and returns how it fails.
    fn next(&self, call: &'static str, path: &str) -> Option<Fault> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if ["open", "read", "kind", "list"].contains(&call) {
            let number = state.reads;
            state.reads += 1;
            if let Some(order) = state.read_order {
                let is_hit = match &state.hit {
                    None => order.number == number,
                    Some((_, hit)) => order.lasting && hit == path,
                };
                if is_hit {
                    state.hit.get_or_insert_with(|| (call, path.to_owned()));
                    return Some(Fault::Errno(order.errno));
                }
            }
        }
        let number = state.calls;
        state.calls += 1;
        let (_, fault) = state.order.filter(|(at, _)| *at == number)?;
        state.hit = Some((call, path.to_owned()));
        Some(fault)
    }

    fn pass(&self, call: &'static str, path: &str) -> io::Result<()> {
        match self.next(call, path) {
            Some(Fault::Errno(errno)) => Err(errno.into()),
            _ => Ok(()),
        }
    }
}

/// A [`SimFs`] as seen by a process for which one call fails.
pub struct Failing {
    pub disk: SimFs,
    pub order: Arc<Order>,
}

struct FailingFile {
    file: Box<dyn VfsFile>,
    order: Arc<Order>,
    path: String,
}

impl Failing {
    fn file(&self, path: &str, file: Box<dyn VfsFile>) -> Box<dyn VfsFile> {
        Box::new(FailingFile {
            file,
            order: Arc::clone(&self.order),
            path: path.to_owned(),
        })
    }
}

impl Vfs for Failing {
    fn create_new(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        self.order.pass("create", path)?;
        Ok(self.file(path, self.disk.create_new(path)?))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        self.order.pass("open", path)?;
        Ok(self.file(path, self.disk.open(path)?))
    }

    fn open_lock(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        self.order.pass("open_lock", path)?;
        Ok(self.file(path, self.disk.open_lock(path)?))
    }

    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()> {
        self.order.pass("rename", to)?;
        self.disk.rename_noreplace(from, to)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.order.pass("link", to)?;
        self.disk.link(from, to)
    }

    fn rename_over(&self, from: &str, to: &str) -> io::Result<()> {
        self.order.pass("rename_over", to)?;
        self.disk.rename_over(from, to)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        self.order.pass("unlink", path)?;
        self.disk.unlink(path)
    }

    fn mkdir(&self, path: &str) -> io::Result<()> {
        self.order.pass("mkdir", path)?;
        self.disk.mkdir(path)
    }

    fn fsync_dir(&self, path: &str) -> io::Result<()> {
        self.order.pass("fsync_dir", path)?;
        self.disk.fsync_dir(path)
    }

    fn kind(&self, path: &str) -> io::Result<Option<FileKind>> {
        self.order.pass("kind", path)?;
        self.disk.kind(path)
    }

    fn root_identity(&self) -> io::Result<Option<FolderIdentity>> {
        self.order.pass("root", "")?;
        self.disk.root_identity()
    }

    fn file_id(&self, path: &str) -> io::Result<Option<FileId>> {
        self.order.pass("file_id", path)?;
        self.disk.file_id(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        self.order.pass("list", path)?;
        self.disk.list(path)
    }
}

impl VfsFile for FailingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.order.next("write", &self.path) {
            Some(Fault::Errno(errno)) => Err(errno.into()),
            Some(Fault::ShortWrite) => {
                self.file.write(&bytes[..bytes.len() / 2])?;
                Err(io::ErrorKind::WriteZero.into())
            }
            _ => self.file.write(bytes),
        }
    }

    fn fsync(&self) -> io::Result<()> {
        self.order.pass("fsync", &self.path)?;
        self.file.fsync()
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.file.start_writeback(offset, len);
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        match self.order.next("read", &self.path) {
            Some(Fault::Errno(errno)) => Err(errno.into()),
            Some(Fault::ShortRead) => {
                let half = out.len().div_ceil(2);
                self.file.read_at(offset, &mut out[..half])
            }
            _ => self.file.read_at(offset, out),
        }
    }

    fn id(&self) -> Option<FileId> {
        self.file.id()
    }

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        self.order.pass("lock", &self.path)?;
        self.file.try_lock(mode)
    }

    fn unlock(&self) {
        self.file.unlock();
    }
}
