//! Reading through parity: when no copy of a chunk can be read, the rows it lies in are made again from the rest of the
//! pack's group, only these, and the pack is remembered so that it can be healed afterwards.
//!
//! A pack that is gone because a prune removed it is not damage; the caller has listed the index afresh before it comes
//! here.

use super::Repository;
use super::pack_sink::lock;
use crate::error::{Error, Result};
use crate::id::{GroupId, PackId};
use crate::layout;
use crate::lock::try_maint;
use crate::pack::ChunkLocation;
use crate::parity::{self, GroupRecord, Groups, ROW_LEN};
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a handle has learnt about parity while it read damaged packs.
#[derive(Default)]
pub(super) struct Degraded {
    /// Which groups there are, and the record last used.
    groups: Option<Arc<Groups>>,
    record: Option<(GroupId, Arc<GroupRecord>)>,
    /// Packs that were read through parity and not healed yet.
    packs: BTreeSet<PackId>,
}

impl Repository {
    /// The stored chunk at `location`, made again from parity into `stored`; `false` when that cannot be done.
    pub fn read_through_parity(&self, location: &ChunkLocation, stored: &mut Vec<u8>) -> bool {
        let entry = &location.entry;
        let start = u64::from(entry.offset);
        let end = start + u64::from(entry.payload_len);
        let row_len = ROW_LEN as u64;
        let (Ok(first), Ok(last)) = (u32::try_from(start / row_len), u32::try_from(end.div_ceil(row_len))) else {
            return false;
        };
        let mut before = None;
        let rows = loop {
            let Some(record) = self.record_of(&location.pack) else {
                return false;
            };
            match parity::rebuild_rows(self.storage(), &record, &location.pack, first..last) {
                Ok(rows) => break rows,
                Err(_) if before == Some(record.head.id) => return false,
                // perhaps superseded, and deleted, since this handle read its record
                Err(_) => {
                    before = Some(record.head.id);
                    let mut degraded = lock(&self.degraded);
                    (degraded.groups, degraded.record) = (None, None);
                }
            }
        };
        let skip = entry.offset as usize - first as usize * ROW_LEN;
        let Some(bytes) = rows.get(skip..skip + entry.payload_len as usize) else {
            return false;
        };
        stored.clear();
        stored.extend_from_slice(bytes);
        true
    }

    /// Remembers that a pack was read through parity, and says so the first time.
    pub fn note_degraded(&self, pack: PackId) {
        if lock(&self.degraded).packs.insert(pack) {
            self.warn(
                "WARN_DEGRADED_READ",
                format!("Pack {pack} is damaged; its data came from parity"),
            );
        }
    }

    /// Heals the packs that were read through parity, if this handle may write and nobody else maintains the repository.
    /// A pack takes its name again only when its bytes have it. What cannot be done now is left to `repair`.
    pub fn heal_degraded_packs(&self) {
        let packs = std::mem::take(&mut lock(&self.degraded).packs);
        if packs.is_empty() || self.check_writable().is_err() || self.check_open().is_err() {
            return;
        }
        // somebody else maintains the repository: the next restore, or a repair, does it
        let Ok(Some(_maint)) = try_maint(self.storage()) else {
            return;
        };
        for pack in packs {
            match self.heal_pack(&pack) {
                Ok(()) => {
                    let message = format!("Pack {pack} was damaged and has been made whole from parity");
                    self.warn("WARN_PACK_HEALED", message);
                }
                Err(error) => {
                    let message = format!("The damaged pack {pack} could not be made whole: {error}");
                    self.warn("WARN_NOT_HEALED", message);
                }
            }
        }
    }

    fn heal_pack(&self, pack: &PackId) -> Result<()> {
        let record = self.record_of(pack).ok_or(Error::PackMissing {
            pack: *pack,
            chunk: None,
        })?;
        let bytes = parity::rebuild_pack(self.storage(), &record, pack)?;
        self.storage().replace_damaged(&layout::pack(pack), &bytes)?;
        self.storage().barrier()?;
        Ok(())
    }

    /// The record of a live group that protects `pack`, if there is one. Lists the groups again when it is not known.
    fn record_of(&self, pack: &PackId) -> Option<Arc<GroupRecord>> {
        self.parity_shape()?;
        let known = lock(&self.degraded).groups.clone();
        let head = known
            .as_ref()
            .and_then(|groups| groups.group_of(pack))
            .map(|head| head.id);
        let group = match head {
            Some(group) => group,
            None => {
                let groups = Arc::new(Groups::load(self.storage(), &self.config().id).ok()?);
                let group = groups.group_of(pack).map(|head| head.id);
                lock(&self.degraded).groups = Some(groups);
                group?
            }
        };
        if let Some((known, record)) = &lock(&self.degraded).record
            && *known == group
        {
            return Some(Arc::clone(record));
        }
        match parity::read_record(self.storage(), &group) {
            Ok(record) => {
                let record = Arc::new(record);
                lock(&self.degraded).record = Some((group, Arc::clone(&record)));
                Some(record)
            }
            Err(_) => {
                // superseded since it was listed
                lock(&self.degraded).groups = None;
                None
            }
        }
    }
}
