//! What a stream is, by its first block.

use super::header::{BLOCK_LEN, Header};

/// What the first bytes of a stream are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// A header of a tar: its checksum is right.
    Tar,
    /// A compressed stream. It may contain a tar or anything else; it is not unpacked.
    Wrapped(Wrapper),
    /// Anything else.
    Other,
}

/// A format of compressed streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wrapper {
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
    /// xz.
    Xz,
    /// bzip2.
    Bzip2,
}

/// Returns what a stream is that begins with these bytes; the first 512 of it, or all if it has
/// less. More bytes change nothing.
pub fn recognise(first: &[u8]) -> Form {
    if let Some(block) = first.first_chunk::<BLOCK_LEN>()
        && Header::parse(block).is_some()
    {
        return Form::Tar;
    }
    match first {
        [0x1f, 0x8b, 8, ..] => Form::Wrapped(Wrapper::Gzip),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Form::Wrapped(Wrapper::Zstd),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Form::Wrapped(Wrapper::Xz),
        // the magic of the first block, or of the end of an empty stream
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Form::Wrapped(Wrapper::Bzip2),
        _ => Form::Other,
    }
}
