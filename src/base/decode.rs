//! Decoding a stored chunk to its plaintext, verified against its id.

use super::seal::{ChunkMeta, ChunkSum, RepoSeal};
use crate::codec::{self, Codec, Decoder};
use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::pack::{KIND_DATA, PackEntry};
use crate::sha256::Stream;
use crate::storage::judge;
use std::ops::Range;

/// `Err` states how the bytes of a chunk are damaged.
pub type Decoded = std::result::Result<(), &'static str>;

/// Where the plaintext of a decoded chunk is.
pub enum Plain {
    /// It was not compressed: this range of the stored chunk, which was opened in place.
    Stored(Range<usize>),
    /// In the output.
    Out,
}

/// Opens the stored chunk in `stored` in place and decodes it, into `out` when it was compressed.
/// The result is not proven: its id must be computed.
///
/// # Errors
/// `NoMemory`, which does not mean that the bytes are damaged.
pub fn decode_unproven(
    seal: &RepoSeal,
    meta: &ChunkMeta,
    stored: &mut [u8],
    decoder: &mut Decoder,
    out: &mut Vec<u8>,
) -> Result<std::result::Result<Plain, &'static str>> {
    let Ok(codec) = Codec::try_from(meta.codec) else {
        return Ok(Err("its codec is unknown"));
    };
    let Some(range) = seal.open_chunk(meta, stored) else {
        return Ok(Err("its seal does not open"));
    };
    let Some(encoded) = stored.get(range.clone()) else {
        return Ok(Err("it is too short"));
    };
    let len = meta.raw_len as usize;
    let result = match codec {
        Codec::Raw if encoded.len() == len => return Ok(Ok(Plain::Stored(range))),
        Codec::Raw => Err(codec::Error::WrongLength),
        codec => decoder.decode(codec, encoded, len, out),
    };
    match result {
        Ok(()) => Ok(Ok(Plain::Out)),
        Err(codec::Error::NoMemory) => Err(Error::NoMemory),
        Err(_) => Ok(Err("it does not decode")),
    }
}

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
    match decode_unproven(seal, meta, stored, decoder, out)? {
        Ok(Plain::Out) => {}
        Ok(Plain::Stored(range)) => {
            out.clear();
            out.extend_from_slice(&stored[range]);
        }
        Err(reason) => {
            out.clear();
            return Ok(Err(reason));
        }
    }
    if seal.chunk_id(meta.kind, out) != meta.id {
        return Ok(Err(NOT_ITS_ID));
    }
    Ok(Ok(()))
}

const NOT_ITS_ID: &str = "its content does not match its id";

/// Compares each plaintext with its id; several are hashed at once. Beside them, each of these
/// streams takes its next bytes.
pub fn prove_ids(seal: &RepoSeal, chunks: &[(ChunkMeta, &[u8])], streams: &mut [(&mut Stream, &[u8])]) -> Vec<Decoded> {
    let data: Vec<&[u8]> = chunks
        .iter()
        .filter(|(meta, _)| meta.kind == KIND_DATA)
        .map(|(_, raw)| *raw)
        .collect();
    let mut data_ids = seal.chunk_ids_beside(KIND_DATA, &data, streams).into_iter();
    let id_of = |(meta, raw): &(ChunkMeta, &[u8])| match meta.kind {
        KIND_DATA => data_ids.next(),
        kind => Some(seal.chunk_id(kind, raw)),
    };
    let ids: Vec<Option<ChunkId>> = chunks.iter().map(id_of).collect();
    ids.into_iter()
        .zip(chunks)
        .map(|(id, (meta, _))| if id == Some(meta.id) { Ok(()) } else { Err(NOT_ITS_ID) })
        .collect()
}

/// Most plaintext that a prover holds at a time, in bytes, if no chunk is longer.
const GROUP: usize = 4 << 20;

/// Proves stored chunks without a change to them. It keeps its buffers and its context.
#[derive(Default)]
pub struct Prover {
    decoder: Decoder,
    opened: Vec<u8>,
    decoded: Vec<u8>,
}

impl Prover {
    /// Proves that the stored chunk opens and decodes to the chunk with this checksum; without one,
    /// to the chunk with its id. A checksum that was taken before the id was computed costs a
    /// fraction of the id, and proves that the bytes are still those of the source, whatever
    /// failing memory did to them in between. A wrong id it does not find: reads do, and a full
    /// verify.
    ///
    /// # Errors
    /// `NoMemory`, which does not mean that the bytes are damaged.
    pub fn prove(
        &mut self,
        seal: &RepoSeal,
        meta: &ChunkMeta,
        stored: &[u8],
        sum: Option<ChunkSum>,
    ) -> Result<Decoded> {
        self.prepare(seal, &[(*meta, stored)]);
        let raw = decode_ref(
            seal,
            meta,
            stored,
            &mut self.decoder,
            &mut self.opened,
            &mut self.decoded[..meta.raw_len as usize],
        )?;
        Ok(raw.and_then(|raw| match sum {
            Some(sum) if ChunkSum::of(raw) == sum => Ok(()),
            Some(_) => Err("its content is not what was encoded"),
            None if seal.chunk_id(meta.kind, raw) == meta.id => Ok(()),
            None => Err(NOT_ITS_ID),
        }))
    }

    /// Proves that each stored chunk opens and decodes to the chunk with its id. Beside them, the
    /// stream takes its next bytes.
    ///
    /// # Errors
    /// As [`prove`](Self::prove); the stream may then not have taken its bytes.
    pub fn prove_each(
        &mut self,
        seal: &RepoSeal,
        mut chunks: &[(ChunkMeta, &[u8])],
        (stream, bytes): (&mut Stream, &[u8]),
    ) -> Result<Vec<Decoded>> {
        let mut all = Vec::with_capacity(chunks.len());
        let mut beside = vec![(stream, bytes)];
        loop {
            let (group, rest) = chunks.split_at(group_len(chunks));
            all.extend(self.prove_group(seal, group, &mut beside)?);
            beside.clear();
            chunks = rest;
            if chunks.is_empty() {
                return Ok(all);
            }
        }
    }

    fn prove_group(
        &mut self,
        seal: &RepoSeal,
        group: &[(ChunkMeta, &[u8])],
        beside: &mut [(&mut Stream, &[u8])],
    ) -> Result<Vec<Decoded>> {
        self.prepare(seal, group);
        let (mut opened, mut decoded) = (&mut self.opened[..], &mut self.decoded[..]);
        let mut plain: Vec<std::result::Result<&[u8], &'static str>> = Vec::with_capacity(group.len());
        for (meta, stored) in group {
            let (open, further_open) = opened.split_at_mut(stored.len().min(opened.len()));
            let (out, further_out) = decoded.split_at_mut(meta.raw_len as usize);
            plain.push(decode_ref(seal, meta, stored, &mut self.decoder, open, out)?);
            (opened, decoded) = (further_open, further_out);
        }
        let good: Vec<(ChunkMeta, &[u8])> = group
            .iter()
            .zip(&plain)
            .filter_map(|((meta, _), raw)| Some((*meta, raw.ok()?)))
            .collect();
        let mut proven = prove_ids(seal, &good, beside).into_iter();
        let proven = |raw: std::result::Result<&[u8], _>| raw.and_then(|_| proven.next().unwrap_or(Err(NOT_ITS_ID)));
        Ok(plain.into_iter().map(proven).collect())
    }

    /// Makes the buffers long enough for a group. What they contain is overwritten or not used.
    fn prepare(&mut self, seal: &RepoSeal, group: &[(ChunkMeta, &[u8])]) {
        let stored = group.iter().map(|(_, stored)| stored.len()).sum();
        let raw = group.iter().map(|(meta, _)| meta.raw_len as usize).sum();
        if seal.keys().is_some() && self.opened.len() < stored {
            self.opened.resize(stored, 0);
        }
        if self.decoded.len() < raw {
            self.decoded.resize(raw, 0);
        }
    }
}

/// How many of these chunks are proven together: at least one, if there is one.
fn group_len(chunks: &[(ChunkMeta, &[u8])]) -> usize {
    let mut bytes = 0;
    let fit = chunks.iter().take_while(|(meta, _)| {
        bytes += meta.raw_len as usize;
        bytes <= GROUP
    });
    fit.count().max(1).min(chunks.len())
}

/// Opens and decodes a stored chunk, as far as it has to be: a raw chunk is not copied to `out`.
fn decode_ref<'a>(
    seal: &RepoSeal,
    meta: &ChunkMeta,
    stored: &'a [u8],
    decoder: &mut Decoder,
    opened: &'a mut [u8],
    out: &'a mut [u8],
) -> Result<std::result::Result<&'a [u8], &'static str>> {
    let Ok(codec) = Codec::try_from(meta.codec) else {
        return Ok(Err("its codec is unknown"));
    };
    let Some(encoded) = seal.open_chunk_to(meta, stored, opened) else {
        return Ok(Err("its seal does not open"));
    };
    if codec == Codec::Raw && encoded.len() == out.len() {
        return Ok(Ok(encoded));
    }
    match decoder.decode_to(codec, encoded, out) {
        Ok(()) => Ok(Ok(out)),
        Err(codec::Error::NoMemory) => Err(Error::NoMemory),
        Err(_) => Ok(Err("it does not decode")),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Seals;
    use crate::id::RepoId;
    use crate::pack::KIND_LIST;

    fn meta(seal: &RepoSeal, kind: u8, raw: &[u8]) -> ChunkMeta {
        ChunkMeta {
            id: seal.chunk_id(kind, raw),
            raw_len: raw.len() as u32,
            codec: Codec::Raw as u8,
            kind,
        }
    }

    #[test]
    fn a_stored_chunk_is_proven_by_its_checksum_or_its_id() {
        let seal = RepoSeal::new(RepoId([0; 16]), Seals::Plain);
        let (raw, other) = ([1u8; 1000], [2u8; 1000]);
        let mut prover = Prover::default();
        let mut prove = |meta: &ChunkMeta, stored: &[u8], sum| prover.prove(&seal, meta, stored, sum).unwrap();
        let meta = meta(&seal, KIND_DATA, &raw);
        assert_eq!(prove(&meta, &raw, None), Ok(()));
        assert_eq!(prove(&meta, &raw, Some(ChunkSum::of(&raw))), Ok(()));
        // as if memory had failed before or after the checksum was taken
        assert!(prove(&meta, &other, Some(ChunkSum::of(&raw))).is_err());
        assert!(prove(&meta, &raw, Some(ChunkSum::of(&other))).is_err());
        assert!(prove(&meta, &other, None).is_err());
        assert!(prove(&meta, &raw[1..], Some(ChunkSum::of(&raw))).is_err());
    }

    #[test]
    fn each_of_many_chunks_is_proven_and_the_stream_takes_its_bytes_once() {
        let seal = RepoSeal::new(RepoId([0; 16]), Seals::Plain);
        let chunk = |at: usize| vec![at as u8; 300_000 + at];
        let chunks: Vec<Vec<u8>> = (0..40).map(chunk).collect();
        let kind = |at: usize| if at % 7 == 3 { KIND_LIST } else { KIND_DATA };
        let mut located: Vec<(ChunkMeta, &[u8])> = chunks
            .iter()
            .enumerate()
            .map(|(at, raw)| (meta(&seal, kind(at), raw), raw.as_slice()))
            .collect();
        let mut stream = Stream::default();
        let mut prover = Prover::default();
        // more than one group
        assert!(chunks.iter().map(Vec::len).sum::<usize>() > 2 * GROUP);
        located[5].1 = &chunks[6];
        located[38].0.id.0[0] ^= 1;
        located[39].0.codec = 9;
        let proven = prover.prove_each(&seal, &located, (&mut stream, b"ab")).unwrap();
        let bad: Vec<usize> = (0..40).filter(|&at| proven[at].is_err()).collect();
        assert_eq!(bad, [5, 38, 39]);
        assert_eq!(prover.prove_each(&seal, &[], (&mut stream, b"c")).unwrap(), []);
        // printf abc | sha256sum
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(crate::id::to_hex(&stream.finish()), expected);
    }
}
