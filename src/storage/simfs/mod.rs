//! A simulated disk for tests: it can lose unflushed changes, run full, fail calls, and lose power
//! at any call.
//!
//! A [`SimFs`] is a handle; its clones are handles of the same disk, as the processes of one
//! machine have them. It counts mutating calls, and the count equals that of `strace` for the same
//! calls on a real disk. After a power cut, [`SimFs::loss_models`] returns the loss models that
//! could make a difference, and [`SimFs::after_power_loss`] builds the disk that one of them
//! leaves. Images share bytes with the original, so that a sweep can build hundreds of thousands.
//!
//! `disk` has the state of the files, `machine` the counters and orders, `calls` the
//! [`Vfs`](super::vfs::Vfs), `loss` the loss models. Sources of the model: POSIX `fsync`, and
//! Pillai et al., *All File Systems Are Not Created Equal* (OSDI 2014).

mod calls;
mod disk;
mod loss;
mod machine;
#[cfg(test)]
mod tests;

pub use loss::{LossModel, Tear};
pub use machine::BeforeMutation;

use crate::sync::lock;
use disk::{Disk, FileNode, FolderNode, Node, NodeId};
use machine::Machine;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

/// A handle of a simulated disk.
#[derive(Clone)]
pub struct SimFs {
    machine: Arc<Mutex<Machine>>,
    /// Names from the top of the disk to the root. The first one always exists, so that the folder
    /// above a missing root can be flushed, as on a real disk.
    base: Arc<[String]>,
}

impl Default for SimFs {
    fn default() -> Self {
        Self::new()
    }
}

impl SimFs {
    /// Makes an empty disk with an empty, durable root folder.
    pub fn new() -> Self {
        let fs = Self::without_root(1);
        fs.make_hard(fs.base.len());
        fs
    }

    /// Makes a disk on which the root and `depth - 1` folders above it are missing.
    pub fn without_root(depth: usize) -> Self {
        let base: Vec<String> = (0..=depth.max(1)).map(|level| level.to_string()).collect();
        let fs = Self {
            machine: Arc::new(Mutex::new(Machine::new(Disk::new()))),
            base: base.into(),
        };
        fs.make_hard(1);
        fs
    }

    /// Creates the folder of the first `len` names of the base, durably.
    fn make_hard(&self, len: usize) {
        let base: Vec<&str> = self.base.iter().take(len).map(String::as_str).collect();
        let disk = &mut self.machine().disk;
        // cannot fail: the parent exists, the folder does not, and space is not limited yet
        let _ = disk.create(&base, Node::Folder(FolderNode::default()));
        disk.harden_all();
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        lock(&self.machine)
    }

    /// Returns the number of mutating calls so far, including failed ones.
    pub fn mutating_calls(&self) -> u64 {
        self.machine().calls
    }

    /// Returns the mutating calls so far, by name and path (`from -> to` for a rename).
    pub fn log(&self) -> Vec<(&'static str, String)> {
        self.machine().log.clone()
    }

    /// Cuts the power at mutating call number `number`, counted from 0: that call does not happen,
    /// every later call fails, and all locks are released.
    pub fn crash_at(&self, number: u64) {
        self.machine().crash_at = Some(number);
    }

    /// Cuts the power now.
    pub fn power_off(&self) {
        self.machine().power_off();
    }

    /// Returns whether the power is off.
    pub fn is_off(&self) -> bool {
        self.machine().power_off
    }

    /// Fails mutating call number `number`, counted from 0, without effect. After a failed flush
    /// the same bytes or names never become durable, although a second flush succeeds, as on Linux.
    pub fn fail_call(&self, number: u64, kind: io::ErrorKind) {
        self.machine().faults.insert(number, kind);
    }

    /// Executes mutating call number `number`, counted from 0, and reports `kind`: as a network
    /// file system that lost the reply, repeated the call, and reports the error of the second one.
    pub fn lose_answer(&self, number: u64, kind: io::ErrorKind) {
        self.machine().lost_answers.insert(number, kind);
    }

    /// Identifies files by path, as some FUSE file systems do: a renamed or linked file is another
    /// file, to which locks on the old one do not apply.
    pub fn know_files_by_path(&self) {
        self.machine().disk.by_path = true;
    }

    /// Limits the free space to `free` bytes; `None` is no limit. New folders and written bytes
    /// take space, deleted files release it.
    pub fn set_free_bytes(&self, free: Option<u64>) {
        self.machine().disk.free = free;
    }

    /// Returns the free space in bytes, if it is limited.
    pub fn free_bytes(&self) -> Option<u64> {
        self.machine().disk.free
    }

    /// Limits the number of files and folders that can be created; `None` is no limit. Deleted
    /// files count again. A disk after a power loss has no such limit.
    pub fn set_free_inodes(&self, free: Option<u64>) {
        self.machine().disk.free_inodes = free;
    }

    /// Returns the number of files and folders that can be created, if it is limited.
    pub fn free_inodes(&self) -> Option<u64> {
        self.machine().disk.free_inodes
    }

    /// Seeds a bug: flushes of files succeed and are counted, but make nothing durable.
    pub fn skip_file_fsync(&self, skip: bool) {
        self.machine().skip_file_fsync = skip;
    }

    /// Seeds a bug: flushes of folders succeed and are counted, but make nothing durable.
    pub fn skip_dir_fsync(&self, skip: bool) {
        self.machine().skip_dir_fsync = skip;
    }

    /// Calls `hook` before each mutating call, outside of all locks, so that a scheduler can pause
    /// the thread there.
    pub fn before_mutation(&self, hook: Option<Box<BeforeMutation>>) {
        self.machine().before = hook.map(Arc::from);
    }

    /// Makes everything durable, as `sync` does.
    pub fn sync_all(&self) {
        self.machine().disk.harden_all();
    }

    /// Returns all files as programs see them, including half-written ones, by path below the root.
    /// Works without power.
    pub fn snapshot_files(&self) -> BTreeMap<String, Vec<u8>> {
        let machine = self.machine();
        let mut files = BTreeMap::new();
        let base: Vec<&str> = self.base.iter().map(String::as_str).collect();
        if let Ok(root) = machine.disk.find(&base) {
            collect(&machine.disk, root, "", &mut files);
        }
        files
    }

    /// Replaces the bytes of a file durably, as a failing disk does; `None` deletes the file. Not
    /// counted as a call.
    pub fn damage(&self, path: &str, bytes: Option<Vec<u8>>) -> io::Result<()> {
        let parts = self.parts(path)?;
        let mut machine = self.machine();
        let id = machine.disk.find(&parts)?;
        *machine.disk.file_mut(id)? = FileNode::hard(Arc::new(bytes.clone().unwrap_or_default()));
        if bytes.is_none() {
            machine.disk.unlink(&parts)?;
            let folder = machine.disk.find(&parts[..parts.len() - 1])?;
            machine.disk.harden_folder(folder);
        }
        Ok(())
    }

    /// Returns the loss models that can make a difference to the current disk, each once, with up
    /// to `random` random ones.
    pub fn loss_models(&self, random: usize) -> Vec<LossModel> {
        loss::models(&self.machine().disk, random)
    }

    /// Builds the disk that `model` leaves: power on, everything durable, no calls counted, no
    /// faults or seeded bugs.
    pub fn after_power_loss(&self, model: &LossModel) -> Self {
        let image = loss::image(&self.machine().disk, model);
        Self {
            machine: Arc::new(Mutex::new(Machine::new(image))),
            base: self.base.clone(),
        }
    }

    /// Returns the names from the top of the disk to `path`, which may be above the root.
    fn parts<'a>(&'a self, path: &'a str) -> io::Result<Vec<&'a str>> {
        let mut parts: Vec<&str> = self.base.iter().map(String::as_str).collect();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            if part != ".." {
                parts.push(part);
            } else if parts.pop().is_none() {
                return Err(io::ErrorKind::NotFound.into());
            }
        }
        Ok(parts)
    }
}

fn collect(disk: &Disk, folder: NodeId, path: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    let Ok(folder) = disk.folder(folder) else { return };
    for (name, id) in folder.live.iter() {
        let path = if path.is_empty() {
            name.to_string()
        } else {
            format!("{path}/{name}")
        };
        match &disk.nodes[*id] {
            Node::File(file) => {
                files.insert(path, file.data.to_vec());
            }
            Node::Folder(_) => collect(disk, *id, &path, files),
        }
    }
}
