//! Reading stored chunks: locate, read, open and decode a chunk, and compare its hash with its id
//! before any byte is returned.
//!
//! Readers take no lock. A prune or a merge may move chunks while they read. So when a pack is
//! missing, the segments are listed again, as long as that shows a pack that was not tried yet.
//! Only then is it an error.

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

/// Most rounds of "list again" for one chunk; each needs a prune that moved the chunk in the
/// meantime.
const MAX_ROUNDS: usize = 64;

/// Reads the chunk at one location into `out`.
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

/// The error for bytes of a chunk that do not match its id.
pub fn chunk_corrupt(location: &ChunkLocation, reason: &str) -> Error {
    Error::ChunkCorrupt {
        pack: location.pack,
        chunk: location.entry.id,
        reason: reason.to_owned(),
    }
}

/// Maps a failed read to its error: distinguishes a missing pack, and a file that is no pack, from
/// a read that failed.
pub fn read_error(error: crate::storage::Error, location: &ChunkLocation) -> Error {
    match error.kind.verdict() {
        Verdict::Missing => Error::PackMissing {
            pack: location.pack,
            chunk: Some(location.entry.id),
        },
        Verdict::Wrong if error.kind == ErrorKind::UnexpectedEnd => Error::PackCorrupt {
            pack: location.pack,
            reason: "it ends before a chunk that the index locates in it".to_owned(),
        },
        Verdict::Wrong | Verdict::Unreadable => error.into(),
    }
}

/// Reads a chunk from any location with a good copy.
///
/// # Errors
/// `Unreadable` (or `Permission`) when a read failed in the process, because the chunk may be
/// there; `NoMemory`. Otherwise `ChunkMissing` when no segment knows it, and `PackMissing`,
/// `PackCorrupt` or `ChunkCorrupt` for the last copy that was tried.
pub fn get_chunk(
    repo: &Repository,
    id: &ChunkId,
    scratch: &mut ReadScratch,
    out: &mut Vec<u8>,
) -> Result<ChunkLocation> {
    let mut tried: HashMap<PackId, ChunkLocation> = HashMap::new();
    let mut last: Option<Error> = None;
    let mut unreadable: Option<Error> = None;
    let (mut listed_again, mut healed) = (false, false);
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
                    // damage is more specific than absence
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
        if tried.is_empty() && !std::mem::replace(&mut listed_again, true) {
            // another process may have stored it since this handle listed the segments
            continue;
        }
        if !news {
            // a new listing shows no further pack, so this is damage and not a prune
            match through_parity(repo, &tried, scratch, out) {
                Ok(Some(location)) => return Ok(location),
                Ok(None) => {}
                Err(error) => unreadable = unreadable.or(Some(error)),
            }
            // the index is lost or partly rebuilt: the packs themselves contain their entries
            if healed {
                break;
            }
            healed = true;
            if let Some(error) = repo.index_unnamed_packs()? {
                unreadable = unreadable.or(Some(error));
            }
        }
    }
    Err(unreadable.or(last).unwrap_or(Error::ChunkMissing { chunk: *id }))
}

/// Reads the chunk at one of these locations from parity. The result is verified like any other
/// chunk. `Err` when a read failed, so that it may succeed another time.
fn through_parity(
    repo: &Repository,
    locations: &HashMap<PackId, ChunkLocation>,
    scratch: &mut ReadScratch,
    out: &mut Vec<u8>,
) -> Result<Option<ChunkLocation>> {
    let mut unreadable = None;
    for location in locations.values() {
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
