//! Many stored chunks in one file.
//!
//! A pack is a header, stored chunks back to back, padding, a trailer with one entry per chunk, and
//! a footer; its id is the SHA-256 of the whole file. Its `.idx` is a copy of everything but the
//! chunks, so either file can be rebuilt from the other. Layout: `docs/format.md` §6.
//!
//! This room knows bytes and offsets. The meaning of a stored chunk, its encoding and sealing, and
//! the key that seals a trailer ([`TrailerSeal`]) are left to `repo`.

mod entry;
pub mod format;
mod reader;
mod seal;
mod splice;
mod writer;

pub use entry::{ChunkLocation, KIND_CONFIG_COPY, KIND_DATA, KIND_LIST, KIND_MANIFEST_COPY, PackEntry};
pub use format::{Error, IndexParts, PackHeader};
pub use reader::{
    PackIndex, ReadError, index_read, is_foreign, open_parts, read_index, read_index_from_pack, read_parts,
};
pub use seal::TrailerSeal;
pub use splice::{parts_of, splice};
pub use writer::{FinishedPack, PackWriter};
