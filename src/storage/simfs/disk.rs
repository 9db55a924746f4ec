//! The state of the simulated disk: the files that programs see, and the part of them that survives
//! a power cut.
//!
//! It has the minimum of POSIX: flushing a file hardens (makes durable) its bytes and length, not
//! its name; flushing a folder hardens the names directly in it, not the files that they name. A
//! folder is hard only when its name is. Files only grow (the [`Vfs`](super::super::vfs::Vfs) has
//! no other writes), so a prefix of each file is hard and the rest is a list of writes. Calls are
//! counted and failed in `calls`.

use super::super::LockMode;
use super::super::vfs::{DirEntry, FileKind};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

/// Position of a node in [`Disk::nodes`]; never reused on one disk.
pub(super) type NodeId = usize;
/// The names in a folder.
pub(super) type Names = BTreeMap<Arc<str>, NodeId>;

/// The topmost folder, which is always hard.
pub(super) const TOP: NodeId = 0;
/// Space that a new folder takes on a full disk, in bytes.
const FOLDER_LEN: u64 = 4096;

#[derive(Clone)]
pub(super) enum Node {
    File(FileNode),
    Folder(FolderNode),
}

#[derive(Clone, Default)]
pub(super) struct FileNode {
    /// The bytes as programs see them.
    pub(super) data: Arc<Vec<u8>>,
    /// Number of hard bytes.
    pub(super) hard_len: usize,
    /// Offset of each write that is not hard.
    pub(super) writes: Vec<usize>,
    /// A flush failed: the kernel has marked the lost bytes clean, and no later flush writes them.
    lost: bool,
}

impl FileNode {
    /// Makes a file whose bytes are all hard.
    pub(super) fn hard(data: Arc<Vec<u8>>) -> Self {
        Self {
            hard_len: data.len(),
            data,
            writes: Vec::new(),
            lost: false,
        }
    }

    pub(super) fn is_hard(&self) -> bool {
        self.hard_len == self.data.len()
    }
}

#[derive(Clone, Default)]
pub(super) struct FolderNode {
    /// The names as programs see them.
    pub(super) live: Arc<Names>,
    /// The names that survive a power cut.
    pub(super) hard: Arc<Names>,
}

/// A change of names that is not hard.
#[derive(Clone, Debug)]
pub(super) struct NameOp {
    /// The folder whose flush hardens it.
    pub(super) folder: NodeId,
    pub(super) node: NodeId,
    pub(super) change: Change,
    /// A flush of the folder failed: no later one hardens it.
    lost: bool,
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    /// A new name: of a new file or folder, or of a file that comes from another folder.
    Link { name: Arc<str>, new_folder: bool },
    /// A removed name: of a deleted file, or of one that moved to another folder.
    Unlink { name: Arc<str> },
    /// A rename within the folder, which is atomic.
    Rename { from: Arc<str>, to: Arc<str> },
}

#[derive(Clone)]
pub(super) struct Disk {
    pub(super) nodes: Vec<Node>,
    /// The changes of all folders, in the order in which they were made.
    pub(super) pending: Vec<NameOp>,
    /// Holders of locks: node, handle, mode.
    pub(super) locks: Vec<(NodeId, u64, LockMode)>,
    /// Free bytes, if limited.
    pub(super) free: Option<u64>,
    /// Free inodes, if limited.
    pub(super) free_inodes: Option<u64>,
    /// Files are identified by path: a renamed or linked file becomes another node.
    pub(super) by_path: bool,
}

fn not_found<T>() -> io::Result<T> {
    Err(io::ErrorKind::NotFound.into())
}

impl Disk {
    pub(super) fn new() -> Self {
        let top = Node::Folder(FolderNode::default());
        Self {
            nodes: vec![top],
            pending: Vec::new(),
            locks: Vec::new(),
            free: None,
            free_inodes: None,
            by_path: false,
        }
    }

    pub(super) fn folder(&self, id: NodeId) -> io::Result<&FolderNode> {
        match self.nodes.get(id) {
            Some(Node::Folder(folder)) => Ok(folder),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    pub(super) fn file(&self, id: NodeId) -> io::Result<&FileNode> {
        match self.nodes.get(id) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    pub(super) fn file_mut(&mut self, id: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(id) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(io::ErrorKind::IsADirectory.into()),
        }
    }

    fn names_mut(&mut self, id: NodeId) -> io::Result<&mut Names> {
        match self.nodes.get_mut(id) {
            Some(Node::Folder(folder)) => Ok(Arc::make_mut(&mut folder.live)),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// Returns the node at `parts` below the top.
    pub(super) fn find(&self, parts: &[&str]) -> io::Result<NodeId> {
        parts
            .iter()
            .try_fold(TOP, |at, part| match self.folder(at)?.live.get(*part) {
                Some(id) => Ok(*id),
                None => not_found(),
            })
    }

    /// Returns the folder of the last of `parts`, and that last name.
    fn split<'a>(&self, parts: &[&'a str]) -> io::Result<(NodeId, &'a str)> {
        match parts {
            [above @ .., name] => Ok((self.find(above)?, name)),
            [] => Err(io::ErrorKind::AlreadyExists.into()),
        }
    }

    fn note(&mut self, folder: NodeId, node: NodeId, change: Change) {
        self.pending.push(NameOp {
            folder,
            node,
            change,
            lost: false,
        });
    }

    pub(super) fn kind(&self, id: NodeId) -> FileKind {
        match &self.nodes[id] {
            Node::File(file) => FileKind::File {
                len: file.data.len() as u64,
            },
            Node::Folder(_) => FileKind::Folder,
        }
    }

    pub(super) fn list(&self, parts: &[&str]) -> io::Result<Vec<DirEntry>> {
        let folder = self.folder(self.find(parts)?)?;
        Ok(folder
            .live
            .iter()
            .map(|(name, id)| DirEntry {
                name: name.to_string(),
                kind: self.kind(*id),
            })
            .collect())
    }

    /// Adds a new node under a free name.
    pub(super) fn create(&mut self, parts: &[&str], node: Node) -> io::Result<NodeId> {
        let (folder, name) = self.split(parts)?;
        if self.folder(folder)?.live.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let new_folder = matches!(node, Node::Folder(_));
        if self.free_inodes == Some(0) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if new_folder {
            self.take_space(FOLDER_LEN)?;
        }
        self.free_inodes = self.free_inodes.map(|free| free - 1);
        let (id, name): (_, Arc<str>) = (self.nodes.len(), name.into());
        self.nodes.push(node);
        self.names_mut(folder)?.insert(name.clone(), id);
        self.note(folder, id, Change::Link { name, new_folder });
        Ok(id)
    }

    fn take_space(&mut self, len: u64) -> io::Result<()> {
        match &mut self.free {
            Some(free) if *free < len => Err(io::ErrorKind::StorageFull.into()),
            Some(free) => {
                *free -= len;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Appends `bytes`; a disk that runs full keeps those that fit, as a real one does.
    pub(super) fn append(&mut self, id: NodeId, bytes: &[u8]) -> io::Result<()> {
        let fits = self.free.map_or(bytes.len(), |free| {
            usize::try_from(free).unwrap_or(usize::MAX).min(bytes.len())
        });
        self.take_space(fits as u64)?;
        let file = self.file_mut(id)?;
        if fits > 0 {
            file.writes.push(file.data.len());
            Arc::make_mut(&mut file.data).extend_from_slice(&bytes[..fits]);
        }
        match fits == bytes.len() {
            true => Ok(()),
            false => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    pub(super) fn unlink(&mut self, parts: &[&str]) -> io::Result<()> {
        let (folder, name) = self.split(parts)?;
        let Some(&id) = self.folder(folder)?.live.get(name) else {
            return not_found();
        };
        let len = self.file(id)?.data.len() as u64;
        self.names_mut(folder)?.remove(name);
        self.free = self.free.map(|free| free.saturating_add(len));
        self.give_inode_back(id);
        self.note(folder, id, Change::Unlink { name: name.into() });
        Ok(())
    }

    /// Counts the inode of a file as free if the file has no name left.
    fn give_inode_back(&mut self, id: NodeId) {
        let Some(free) = self.free_inodes else { return };
        let has_name = |node: &Node| match node {
            Node::Folder(folder) => folder.live.values().any(|named| *named == id),
            Node::File(_) => false,
        };
        if !self.nodes.iter().any(has_name) {
            self.free_inodes = Some(free + 1);
        }
    }

    pub(super) fn rename(&mut self, from: &[&str], to: &[&str]) -> io::Result<()> {
        let ((old, from), (new, to)) = (self.split(from)?, self.split(to)?);
        let Some(&id) = self.folder(old)?.live.get(from) else {
            return not_found();
        };
        if self.folder(new)?.live.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.names_mut(old)?.remove(from);
        let id = self.renamed(id);
        let (from, to): (Arc<str>, Arc<str>) = (from.into(), to.into());
        self.names_mut(new)?.insert(to.clone(), id);
        if old == new {
            self.note(old, id, Change::Rename { from, to });
        } else {
            self.note(
                new,
                id,
                Change::Link {
                    name: to,
                    new_folder: false,
                },
            );
            self.note(old, id, Change::Unlink { name: from });
        }
        Ok(())
    }

    /// Returns the node of a file under its new name.
    fn renamed(&mut self, id: NodeId) -> NodeId {
        if !self.by_path {
            return id;
        }
        let node = self.nodes[id].clone();
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Adds a hard link.
    pub(super) fn link(&mut self, from: &[&str], to: &[&str]) -> io::Result<()> {
        let (id, (folder, name)) = (self.find(from)?, self.split(to)?);
        self.file(id)?;
        if self.folder(folder)?.live.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let id = self.renamed(id);
        let name: Arc<str> = name.into();
        self.names_mut(folder)?.insert(name.clone(), id);
        self.note(
            folder,
            id,
            Change::Link {
                name,
                new_folder: false,
            },
        );
        Ok(())
    }

    /// Renames a file within a folder and atomically replaces the file that has the new name.
    pub(super) fn rename_over(&mut self, from: &[&str], to: &[&str]) -> io::Result<()> {
        let ((folder, from), (new, to)) = (self.split(from)?, self.split(to)?);
        let Some(&id) = self.folder(folder)?.live.get(from).filter(|_| folder == new) else {
            return not_found();
        };
        let replaced = self.folder(folder)?.live.get(to).copied();
        if let Some(replaced) = replaced {
            self.file(replaced)?;
        }
        let names = self.names_mut(folder)?;
        names.remove(from);
        let (from, to): (Arc<str>, Arc<str>) = (from.into(), to.into());
        names.insert(to.clone(), id);
        if let Some(replaced) = replaced {
            self.give_inode_back(replaced);
        }
        self.note(folder, id, Change::Rename { from, to });
        Ok(())
    }

    /// Hardens bytes and length of a file.
    pub(super) fn harden_file(&mut self, id: NodeId) -> io::Result<()> {
        let file = self.file_mut(id)?;
        if !file.lost {
            file.hard_len = file.data.len();
            file.writes.clear();
        }
        Ok(())
    }

    /// Hardens the names in a folder.
    pub(super) fn harden_folder(&mut self, id: NodeId) {
        let ops: Vec<NameOp> = self.pending.extract_if(.., |op| op.folder == id && !op.lost).collect();
        if let Some(Node::Folder(folder)) = self.nodes.get_mut(id) {
            ops.iter().for_each(|op| op.apply(Arc::make_mut(&mut folder.hard)));
        }
    }

    /// Hardens everything, including what failed flushes lost.
    pub(super) fn harden_all(&mut self) {
        self.pending.clear();
        for node in &mut self.nodes {
            match node {
                Node::File(file) => *file = FileNode::hard(file.data.clone()),
                Node::Folder(folder) => folder.hard = folder.live.clone(),
            }
        }
    }

    /// Marks the changes of a failed flush as lost: they never become hard, although a second flush
    /// succeeds.
    pub(super) fn lose(&mut self, id: NodeId) {
        match self.nodes.get_mut(id) {
            Some(Node::File(file)) => file.lost = !file.is_hard(),
            _ => self
                .pending
                .iter_mut()
                .filter(|op| op.folder == id)
                .for_each(|op| op.lost = true),
        }
    }

    pub(super) fn try_lock(&mut self, id: NodeId, handle: u64, mode: LockMode) -> bool {
        let against = |(node, holder, held): &(NodeId, u64, LockMode)| {
            *node == id && *holder != handle && (mode == LockMode::Exclusive || *held == LockMode::Exclusive)
        };
        if self.locks.iter().any(against) {
            return false;
        }
        self.unlock(handle);
        self.locks.push((id, handle, mode));
        true
    }

    pub(super) fn unlock(&mut self, handle: u64) {
        self.locks.retain(|(_, holder, _)| *holder != handle);
    }
}

impl NameOp {
    /// Applies the change to the names of its folder. It has no effect if an earlier change that it
    /// needs did not survive.
    pub(super) fn apply(&self, names: &mut Names) {
        match &self.change {
            Change::Link { name, .. } => {
                names.insert(name.clone(), self.node);
            }
            Change::Unlink { name } if names.get(name) == Some(&self.node) => {
                names.remove(name);
            }
            Change::Rename { from, to } if names.get(from) == Some(&self.node) => {
                names.remove(from);
                names.insert(to.clone(), self.node);
            }
            Change::Unlink { .. } | Change::Rename { .. } => {}
        }
    }
}
