//! The calls of the [`Vfs`] on a simulated disk.

use super::SimFs;
use super::disk::{Disk, FileNode, FolderNode, Node, NodeId};
use super::machine::{Machine, power_is_off};
use crate::storage::LockMode;
use crate::storage::vfs::{DirEntry, FileId, FileKind, FolderIdentity, Vfs, VfsFile};
use std::io;
use std::sync::Arc;

impl SimFs {
    fn read<T>(&self, call: impl FnOnce(&Disk) -> io::Result<T>) -> io::Result<T> {
        let machine = self.machine();
        match machine.power_off {
            true => Err(power_is_off()),
            false => call(&machine.disk),
        }
    }

    /// Counts and logs a mutating call, then executes it with the fault that is ordered for it, if
    /// any.
    fn mutate<T>(
        &self,
        op: &'static str,
        path: impl FnOnce() -> String,
        call: impl FnOnce(&mut Machine, Option<io::ErrorKind>) -> io::Result<T>,
    ) -> io::Result<T> {
        let (before, number) = {
            let machine = self.machine();
            (machine.before.clone(), machine.calls)
        };
        if let Some(before) = before {
            before(number);
        }
        let mut machine = self.machine();
        if machine.crash_at.is_some_and(|at| machine.calls >= at) {
            machine.power_off();
        }
        if machine.power_off {
            return Err(power_is_off());
        }
        let fault = machine.faults.get(&machine.calls).copied();
        machine.calls += 1;
        machine.log.push((op, path()));
        call(&mut machine, fault)
    }

    /// Executes a mutating call that has no effect when a fault is ordered for it.
    fn change<T>(
        &self,
        op: &'static str,
        path: impl FnOnce() -> String,
        call: impl FnOnce(&mut Disk) -> io::Result<T>,
    ) -> io::Result<T> {
        self.mutate(op, path, |machine, fault| match fault {
            Some(kind) => Err(kind.into()),
            None => {
                let number = machine.calls - 1;
                let done = call(&mut machine.disk)?;
                machine
                    .lost_answers
                    .remove(&number)
                    .map_or(Ok(done), |kind| Err(kind.into()))
            }
        })
    }

    fn handle(&self, node: NodeId, path: &str, size: u64) -> Box<dyn VfsFile> {
        let mut machine = self.machine();
        machine.handles += 1;
        Box::new(SimFile {
            fs: self.clone(),
            node,
            handle: machine.handles,
            path: path.to_owned(),
            size,
        })
    }
}

impl Vfs for SimFs {
    fn create_new(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        let parts = self.parts(path)?;
        let file = Node::File(FileNode::default());
        let node = self.change("create", || path.to_owned(), |disk| disk.create(&parts, file))?;
        Ok(self.handle(node, path, 0))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        let parts = self.parts(path)?;
        let (node, size) = self.read(|disk| {
            let node = disk.find(&parts)?;
            Ok((node, disk.file(node)?.data.len() as u64))
        })?;
        Ok(self.handle(node, path, size))
    }

    fn open_lock(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        self.open(path)
    }

    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()> {
        let parts = (self.parts(from)?, self.parts(to)?);
        self.change(
            "rename",
            || format!("{from} -> {to}"),
            |disk| disk.rename(&parts.0, &parts.1),
        )
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let parts = (self.parts(from)?, self.parts(to)?);
        self.change(
            "link",
            || format!("{from} -> {to}"),
            |disk| disk.link(&parts.0, &parts.1),
        )
    }

    fn rename_over(&self, from: &str, to: &str) -> io::Result<()> {
        let parts = (self.parts(from)?, self.parts(to)?);
        self.change(
            "rename",
            || format!("{from} -> {to}"),
            |disk| disk.rename_over(&parts.0, &parts.1),
        )
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        let parts = self.parts(path)?;
        self.change("unlink", || path.to_owned(), |disk| disk.unlink(&parts))
    }

    fn mkdir(&self, path: &str) -> io::Result<()> {
        let parts = self.parts(path)?;
        let folder = Node::Folder(FolderNode::default());
        self.change(
            "mkdir",
            || path.to_owned(),
            |disk| disk.create(&parts, folder).map(|_| ()),
        )
    }

    fn fsync_dir(&self, path: &str) -> io::Result<()> {
        let parts = self.parts(path)?;
        // opening comes first and is not a mutating call: a missing folder is not flushed
        let folder = self.read(|disk| {
            let folder = disk.find(&parts)?;
            disk.folder(folder).map(|_| folder)
        })?;
        self.mutate(
            "fsync_dir",
            || path.to_owned(),
            |machine, fault| {
                match fault {
                    Some(kind) => {
                        machine.disk.lose(folder);
                        return Err(kind.into());
                    }
                    None if machine.skip_dir_fsync => {}
                    None => machine.disk.harden_folder(folder),
                }
                Ok(())
            },
        )
    }

    fn kind(&self, path: &str) -> io::Result<Option<FileKind>> {
        let parts = self.parts(path)?;
        self.read(|disk| match disk.find(&parts) {
            Ok(id) => Ok(Some(disk.kind(id))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
    }

    fn root_identity(&self) -> io::Result<Option<FolderIdentity>> {
        match self.kind("")? {
            Some(FileKind::Folder) => Ok(Some(FolderIdentity {
                id: FileId {
                    device: 0,
                    inode: Arc::as_ptr(&self.machine).addr() as u64,
                },
                created: None,
            })),
            Some(_) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file_id(&self, path: &str) -> io::Result<Option<FileId>> {
        let parts = self.parts(path)?;
        self.read(|disk| match disk.find(&parts) {
            Ok(id) => Ok(Some(file_id(id))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        let parts = self.parts(path)?;
        self.read(|disk| disk.list(&parts))
    }
}

fn file_id(node: NodeId) -> FileId {
    FileId {
        device: 1,
        inode: node as u64,
    }
}

struct SimFile {
    fs: SimFs,
    node: NodeId,
    handle: u64,
    path: String,
    size: u64,
}

impl VfsFile for SimFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.fs
            .change("write", || self.path.clone(), |disk| disk.append(self.node, bytes))?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    fn fsync(&self) -> io::Result<()> {
        self.fs.mutate(
            "fsync",
            || self.path.clone(),
            |machine, fault| match fault {
                Some(kind) => {
                    machine.disk.lose(self.node);
                    Err(kind.into())
                }
                None if machine.skip_file_fsync => Ok(()),
                None => machine.disk.harden_file(self.node),
            },
        )
    }

    fn start_writeback(&self, _offset: u64, _len: u64) {}

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.fs.read(|disk| {
            let data = &disk.file(self.node)?.data;
            let rest = usize::try_from(offset)
                .ok()
                .and_then(|offset| data.get(offset..))
                .unwrap_or_default();
            let len = rest.len().min(out.len());
            out[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        })
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn id(&self) -> Option<FileId> {
        Some(file_id(self.node))
    }

    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        let mut machine = self.fs.machine();
        match machine.power_off {
            true => Err(power_is_off()),
            false => Ok(machine.disk.try_lock(self.node, self.handle, mode)),
        }
    }

    fn unlock(&self) {
        self.fs.machine().disk.unlock(self.handle);
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.unlock();
    }
}
