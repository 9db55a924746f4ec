//! What is known about one member of an archive.

use super::MAX_SEGMENTS;

/// The type of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A regular file. The contiguous files of POSIX are regular too.
    File,
    /// Another name of an earlier member, which `link` names from the root of the archive.
    HardLink,
    /// A symbolic link to `link`.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory. In an incremental archive of GNU tar it may have data, a list of names.
    Directory,
    /// A named pipe.
    Fifo,
    /// A type that has no meaning outside of one program (a label of a volume, a file continued
    /// from another volume, ACLs of Solaris), with its type byte.
    Other(u8),
}

impl Kind {
    /// The type byte of ustar.
    pub(crate) fn type_byte(self) -> u8 {
        match self {
            Self::File => b'0',
            Self::HardLink => b'1',
            Self::Symlink => b'2',
            Self::CharDevice => b'3',
            Self::BlockDevice => b'4',
            Self::Directory => b'5',
            Self::Fifo => b'6',
            Self::Other(flag) => flag,
        }
    }
}

/// A time as pax states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time {
    /// Seconds since 1970, rounded down.
    pub seconds: i64,
    /// Nanoseconds after them, below 10^9.
    pub nanos: u32,
}

/// A piece of a sparse file that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Its position in the file.
    pub offset: u64,
    /// Its length, never 0.
    pub len: u64,
}

/// How the stored data become the content.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Content {
    /// They are the content.
    #[default]
    Plain,
    /// They are these segments without gaps; the rest of the file is zeros. The segments are in
    /// order, do not overlap, end within `size`, and are `stored_len` in sum.
    Sparse(Vec<Segment>),
    /// They are more than [`MAX_SEGMENTS`] segments, whose map was not kept.
    SparseWithoutMap,
}

/// One member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The path as it is stored: any bytes but zero, relative or absolute, a directory with or
    /// without a slash at its end. It may be empty.
    pub path: Vec<u8>,
    /// The type.
    pub kind: Kind,
    /// Length of the content; 0 for what has none. Of a sparse file, with its holes.
    pub size: u64,
    /// Permissions, with setuid, setgid and the sticky bit: at most 0o7777.
    pub mode: u32,
    /// Number of the owner.
    pub uid: u64,
    /// Number of the group.
    pub gid: u64,
    /// Name of the owner, or empty.
    pub uname: Vec<u8>,
    /// Name of the group, or empty.
    pub gname: Vec<u8>,
    /// Time of the last change.
    pub mtime: Time,
    /// Target of a hard or symbolic link; otherwise empty.
    pub link: Vec<u8>,
    /// Offset of the first header that belongs to this member alone: its extended header and its
    /// long names included, global headers not.
    pub header_offset: u64,
    /// Offset of the stored data.
    pub data_offset: u64,
    /// Length of the stored data, without padding.
    pub stored_len: u64,
    /// How the stored data become the content.
    pub content: Content,
    /// Major and minor number of a device; otherwise 0.
    pub device: (u64, u64),
}

impl Member {
    /// The offset of the block after the data and their padding.
    pub fn end(&self) -> u64 {
        self.data_offset.saturating_add(padded(self.stored_len))
    }

    /// An empty member, to be filled.
    pub(super) fn new() -> Self {
        Self {
            path: Vec::new(),
            kind: Kind::File,
            size: 0,
            mode: 0,
            uid: 0,
            gid: 0,
            uname: Vec::new(),
            gname: Vec::new(),
            mtime: Time::default(),
            link: Vec::new(),
            header_offset: 0,
            data_offset: 0,
            stored_len: 0,
            content: Content::Plain,
            device: (0, 0),
        }
    }
}

/// A length with the padding to whole blocks.
pub(super) fn padded(len: u64) -> u64 {
    len.checked_next_multiple_of(super::BLOCK_LEN as u64)
        .unwrap_or(u64::MAX)
}

const _: () = assert!(MAX_SEGMENTS * size_of::<Segment>() == 1 << 20);
