//! Decoding a stored chunk to its plaintext, verified against its id.

use super::seal::{ChunkMeta, RepoSeal};
use crate::codec::{self, Codec, Decoder};
use crate::error::{Error, Result};
use crate::pack::PackEntry;
use crate::storage::judge;

/// `Err` states how the bytes of a chunk are damaged.
pub type Decoded = std::result::Result<(), &'static str>;

/// Opens and decodes the stored chunk in `stored` into `out` (cleared first) and verifies that the
/// result matches its id.
///
/// # Errors
/// `NoMemory`, which does not mean that the bytes are damaged.
pub fn decode_stored(
    seal: &RepoSeal,
    meta: &ChunkMeta,
    stored: &mut [u8],
    decoder: &mut Decoder,
    out: &mut Vec<u8>,
) -> Result<Decoded> {
    out.clear();
    let Ok(codec) = Codec::try_from(meta.codec) else {
        return Ok(Err("its codec is unknown"));
    };
    let Some(range) = seal.open_chunk(meta, stored) else {
        return Ok(Err("its seal does not open"));
    };
    let Some(encoded) = stored.get(range) else {
        return Ok(Err("it is too short"));
    };
    match decoder.decode(codec, encoded, meta.raw_len as usize, out) {
        Ok(()) => {}
        Err(codec::Error::NoMemory) => return Err(Error::NoMemory),
        Err(_) => return Ok(Err("it does not decode")),
    }
    if seal.chunk_id(meta.kind, out) != meta.id {
        return Ok(Err("its content does not match its id"));
    }
    Ok(Ok(()))
}

/// The metadata of a chunk in its entry.
pub fn meta_of(entry: &PackEntry) -> ChunkMeta {
    ChunkMeta {
        id: entry.id,
        raw_len: entry.raw_len,
        codec: entry.codec,
        kind: entry.kind,
    }
}

/// [`judge`] for reads of chunks: the outer error says nothing about the bytes, because a read
/// failed or memory was lacking; the inner one is absence or damage.
pub fn judge_chunk<T>(result: Result<T>) -> Result<Result<T>> {
    match result {
        Err(Error::NoMemory) => Err(Error::NoMemory),
        other => Ok(judge(other)?),
    }
}
