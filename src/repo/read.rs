//! Getting stored chunks back: find, read, open, decode, and compute the name again before a byte leaves.
//!
//! Readers take no lock. A prune or a merge may move things while they read, so a missing pack means: look again in a
//! fresh listing of the segments, as long as that shows a pack not yet tried. Only then is it an error.

use super::Repository;
use crate::base::{decode_stored, meta_of};
use crate::codec::Decoder;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::layout;
use crate::pack::{ChunkLocation, KIND_LIST};
use crate::storage::{ErrorKind, FailedRead, Verdict};
use std::collections::HashMap;

/// Scratch of one reader.
#[derive(Default)]
pub struct ReadScratch {
    stored: Vec<u8>,
    /// Reused for every chunk.
    pub decoder: Decoder,
}

/// Most rounds of "list again" that one chunk may cost; each needs a prune that moved it meanwhile.
const MAX_ROUNDS: usize = 64;

/// Reads the chunk at one place into `out`.
pub fn read_at(
    repo: &Repository,
    location: &ChunkLocation,
    scratch: &mut ReadScratch,
    out: &mut Vec<u8>,
) -> Result<()> {
    let entry = &location.entry;
    // at most 16 MiB: both lengths are 24-bit numbers
    scratch.stored.clear();
    scratch.stored.resize(entry.payload_len as usize, 0);
    repo.storage()
        .get_range(
            &layout::pack(&location.pack),
            u64::from(entry.offset),
            &mut scratch.stored,
        )
        .map_err(|error| read_error(error, location))?;
    decode_stored(
        repo.seal(),
        &meta_of(entry),
        &mut scratch.stored,
        &mut scratch.decoder,
        out,
    )?
    .map_err(|reason| chunk_corrupt(location, reason))
}

/// The error for bytes of a chunk that are not what they should be.
pub fn chunk_corrupt(location: &ChunkLocation, reason: &str) -> Error {
    Error::ChunkCorrupt {
        pack: location.pack,
        chunk: location.entry.id,
        reason: reason.to_owned(),
    }
}

/// Tells a missing pack and one that is no pack from a read that failed.
pub fn read_error(error: crate::storage::Error, location: &ChunkLocation) -> Error {
    match error.kind.verdict() {
        Verdict::Missing => Error::PackMissing {
            pack: location.pack,
            chunk: Some(location.entry.id),
        },
        Verdict::Wrong if error.kind == ErrorKind::UnexpectedEnd => Error::PackCorrupt {
            pack: location.pack,
            reason: "it ends before the chunk that it should hold".to_owned(),
        },
        Verdict::Wrong | Verdict::Unreadable => error.into(),
    }
}

/// Reads a chunk from wherever a good copy is.
///
/// # Errors
/// `Unreadable` (or `Permission`) when a read failed on the way, for that may be where the chunk is;
/// `NoMemory`. Else `ChunkMissing` when no segment knows it, `PackMissing`, `PackCorrupt` or `ChunkCorrupt` for the last copy that was tried.
pub fn get_chunk(
    repo: &Repository,
    id: &ChunkId,
    scratch: &mut ReadScratch,
    out: &mut Vec<u8>,
) -> Result<ChunkLocation> {
    let mut tried: HashMap<PackId, ChunkLocation> = HashMap::new();
    let mut last: Option<Error> = None;
    let mut unreadable: Option<Error> = None;
    let (mut looked_again, mut healed) = (false, false);
    for _ in 0..MAX_ROUNDS {
        let mut news = false;
        let mut passing = None;
        for location in repo.locate(id)? {
            if tried.insert(location.pack, location).is_some() {
                continue;
            }
            news = true;
            match read_at(repo, &location, scratch, out) {
                Ok(()) => return Ok(location),
                Err(Error::NoMemory) => return Err(Error::NoMemory),
                Err(error) => match error.unreadable() {
                    Some(source) if source.kind == ErrorKind::Unavailable => passing = Some(error),
                    Some(_) => {
                        repo.note_failed_read(&location, &error);
                        unreadable = Some(error);
                    }
                    // damage says more than absence
                    None if matches!(error, Error::PackMissing { .. }) => last = last.or(Some(error)),
                    None => {
                        repo.note_failed_read(&location, &error);
                        last = Some(error);
                    }
                },
            }
        }
        if let Some(error) = passing {
            // parity would fail in the same way
            return Err(error);
        }
        if news || tried.is_empty() {
            repo.refresh_index()?;
        }
        if tried.is_empty() && !std::mem::replace(&mut looked_again, true) {
            // another process may have stored it since this handle looked
            continue;
        }
        if !news {
            // a fresh listing shows nothing new, so this is damage and not a prune
            match through_parity(repo, &tried, scratch, out) {
                Ok(Some(location)) => return Ok(location),
                Ok(None) => {}
                Err(error) => unreadable = unreadable.or(Some(error)),
            }
            // a lost or half-rebuilt index: the packs themselves know what they hold
            if healed {
                break;
            }
            healed = true;
            if let Some(error) = repo.heal_index_for_read()? {
                unreadable = unreadable.or(Some(error));
            }
        }
    }
    Err(unreadable.or(last).unwrap_or(Error::ChunkMissing { chunk: *id }))
}

/// Reads the chunk at one of these places from parity. What comes out is proven like any other chunk. `Err` when a read
/// failed, so that it may come out another time.
fn through_parity(
    repo: &Repository,
    places: &HashMap<PackId, ChunkLocation>,
    scratch: &mut ReadScratch,
    out: &mut Vec<u8>,
) -> Result<Option<ChunkLocation>> {
    let mut unreadable = None;
    for location in places.values() {
        match repo.read_through_parity(location, &mut scratch.stored) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => {
                unreadable = Some(error);
                continue;
            }
        }
        let meta = meta_of(&location.entry);
        if decode_stored(repo.seal(), &meta, &mut scratch.stored, &mut scratch.decoder, out)?.is_ok() {
            repo.note_degraded(location.pack);
            return Ok(Some(*location));
        }
    }
    unreadable.map_or(Ok(None), Err)
}

/// Reads a list node.
pub fn get_node(repo: &Repository, id: &ChunkId, scratch: &mut ReadScratch) -> Result<Vec<u8>> {
    let mut node = Vec::new();
    let location = get_chunk(repo, id, scratch, &mut node)?;
    if location.entry.kind != KIND_LIST {
        return Err(chunk_corrupt(&location, "it is not a list node"));
    }
    Ok(node)
}
