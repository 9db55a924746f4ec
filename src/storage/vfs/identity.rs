//! Which file or folder a path leads to, by device and inode.
//!
//! An identity is compared within one run of the process and never stored: device numbers change
//! when a system restarts.

use std::fs::Metadata;
use std::path::Path;
use std::time::SystemTime;

/// Device and inode of a file or folder: the same under each of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    /// The device.
    pub device: u64,
    /// The inode on the device.
    pub inode: u64,
}

impl FileId {
    /// The numbers in `meta`.
    #[cfg(unix)]
    #[expect(clippy::unnecessary_wraps, reason = "other systems have no such numbers")]
    pub(in crate::storage) fn of(meta: &Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        Some(Self {
            device: meta.dev(),
            inode: meta.ino(),
        })
    }

    /// Always `None`: the standard library has no stable call for the serial number of a volume and
    /// the index of a file.
    #[cfg(not(unix))]
    pub(in crate::storage) fn of(_meta: &Metadata) -> Option<Self> {
        None
    }
}

/// Which folder is at the root of a store, for comparison with an earlier or later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FolderIdentity {
    /// Device and inode.
    pub id: FileId,
    /// When the folder was created, where that is known: disks that take turns at one mount point
    /// may have the same device and inode numbers.
    pub created: Option<SystemTime>,
}

/// Returns `false` on file systems that give a file a new inode number once it has left their
/// cache, and where the file system cannot be asked.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn has_stable_inodes(path: &Path) -> bool {
    // linux/magic.h: FUSE, FAT, exFAT, CIFS, SMB2, 9P
    const UNSTABLE: [u32; 6] = [0x6573_5546, 0x4d44, 0x2011_BAB0, 0xFF53_4D42, 0xFE53_4D42, 0x0102_1997];
    // the type is signed on some targets, and only its low 32 bits are the number
    rustix::fs::statfs(path).is_ok_and(|found| !UNSTABLE.contains(&(found.f_type as u32)))
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn has_stable_inodes(_path: &Path) -> bool {
    true
}
