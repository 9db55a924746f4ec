//! Salvages chunks from packs beyond repair: every intact chunk that exists nowhere else is copied
//! unchanged to a new pack.
//!
//! The bytes of a chunk are located by the `.idx`, else by the remains of the pack's own trailer,
//! else by the global index; the chunk's id proves them. The new packs are protected, named by a
//! segment and durable before the old ones are moved to the quarantine, so readable data never
//! becomes unreachable.

use super::Work;
use super::packs::{Checked, Inventory, Remains, check, put_pack, remains};
use crate::base::{decode_stored, meta_of};
use crate::catalog::entries::entries_of;
use crate::codec::Decoder;
use crate::error::Result;
use crate::id::{ChunkId, PackId};
use crate::layout;
use crate::pack::{KIND_LIST, PackEntry, open_parts, parts_of, read_index};
use crate::repo::rescue::Rescue;
use std::collections::{HashMap, HashSet};

/// Salvages chunks from the bad packs, and moves these packs and their `.idx` to the quarantine.
pub(super) fn save_chunks(work: &mut Work<'_>, inventory: &mut Inventory) -> Result<()> {
    // a read that failed before may succeed now, so that no intact pack is moved to the quarantine
    for pack in inventory.bad.clone() {
        match check(work, &pack)? {
            Checked::Intact(len) => inventory.add_good(pack, len),
            Checked::Unreadable(error) => {
                inventory.leave(pack);
                work.leave(error)?;
            }
            Checked::Other(_) | Checked::Nothing => {}
        }
    }
    if inventory.bad.is_empty() {
        return Ok(());
    }
    let repo = work.repo;
    let groups = repo.parity_groups()?;
    let indexed = entries_of(repo, &inventory.lost())?;
    let rescue = Rescue::start(repo)?;
    let mut saved = Saved::default();
    for pack in inventory.bad.clone() {
        work.advance(0)?;
        match remains(work, &groups, &pack)? {
            Remains::Part(bytes) => save_from(work, inventory, &rescue, &mut saved, (&pack, &bytes, &indexed))?,
            Remains::Unreadable(error) => {
                inventory.leave(pack);
                work.leave(error)?;
            }
            Remains::Complete(bytes) => put_pack(work, inventory, pack, &bytes)?,
            Remains::Nothing => {}
        }
    }
    for (pack, len) in rescue.finish()? {
        inventory.add_good(pack, len);
    }
    work.report.chunks_salvaged += saved.ids.len() as u64;
    for pack in &inventory.bad {
        repo.storage().quarantine(&layout::pack(pack))?;
        repo.storage().quarantine(&layout::pack_index(pack))?;
    }
    repo.storage().barrier()?;
    Ok(())
}

/// The chunks salvaged so far, and scratch buffers.
#[derive(Default)]
struct Saved {
    ids: HashSet<ChunkId>,
    decoder: Decoder,
    decoded: Vec<u8>,
}

type Damaged<'a> = (&'a PackId, &'a [u8], &'a HashMap<PackId, Vec<PackEntry>>);

fn save_from(
    work: &Work<'_>,
    inventory: &Inventory,
    rescue: &Rescue,
    saved: &mut Saved,
    (pack, bytes, indexed): Damaged<'_>,
) -> Result<()> {
    let seal = work.repo.seal();
    let (entries, epoch) = entries_in(work, pack, bytes, indexed);
    for entry in entries {
        let start = entry.offset as usize;
        let Some(stored) = bytes.get(start..start.saturating_add(entry.payload_len as usize)) else {
            continue;
        };
        if saved.ids.contains(&entry.id) || is_elsewhere(work, inventory, &entry)? {
            continue;
        }
        let meta = meta_of(&entry);
        let mut opened = stored.to_vec();
        if decode_stored(seal, &meta, &mut opened, &mut saved.decoder, &mut saved.decoded)?.is_err() {
            continue;
        }
        if epoch == Some(seal_epoch(work)) {
            rescue.copy(&meta, stored)?;
        } else {
            // the opened data follows the nonce, in the same buffer; in a plain repository it is
            // the whole buffer
            let mut again = stored.to_vec();
            if let Some(range) = seal.open_chunk(&meta, &mut again)
                && let Some(encoded) = again.get(range)
            {
                rescue.seal_again(&meta, encoded)?;
            }
        }
        saved.ids.insert(entry.id);
    }
    Ok(())
}

fn seal_epoch(work: &Work<'_>) -> u32 {
    use crate::pack::TrailerSeal;
    work.repo.seal().epoch()
}

/// The entries of a damaged pack and its key epoch, from the first source that still has them. The
/// index contains no epoch.
fn entries_in(
    work: &Work<'_>,
    pack: &PackId,
    bytes: &[u8],
    indexed: &HashMap<PackId, Vec<PackEntry>>,
) -> (Vec<PackEntry>, Option<u32>) {
    let repo = work.repo;
    let (id, seal) = (&repo.config().id, repo.seal().as_ref());
    let from_trailer = || open_parts(parts_of(pack, bytes).ok()?, id, seal).ok();
    match read_index(repo.storage(), id, seal, pack).ok().or_else(from_trailer) {
        Some(index) => (index.entries, Some(index.header.epoch)),
        None => (indexed.get(pack).cloned().unwrap_or_default(), None),
    }
}

/// True when an intact pack contains the chunk. Copies of manifests and configs are in no index;
/// they are always salvaged.
fn is_elsewhere(work: &Work<'_>, inventory: &Inventory, entry: &PackEntry) -> Result<bool> {
    if entry.kind > KIND_LIST {
        return Ok(false);
    }
    let locations = work.repo.locate(&entry.id)?;
    Ok(locations
        .iter()
        .any(|location| inventory.good.contains_key(&location.pack)))
}
