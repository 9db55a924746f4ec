//! Reading through parity: when no copy of a chunk can be read, the rows that contain it are
//! rebuilt from the rest of the pack's group, only these, and the pack is noted so that it can be
//! healed afterwards.
//!
//! A pack that is missing because a prune deleted it is not damage; the caller has listed the
//! segments again before it calls this module.

use super::Repository;
use super::suspect::Suspects;
use crate::base::judge_chunk;
use crate::crypto::sha256;
use crate::error::{Error, Result};
use crate::id::{GroupId, PackId};
use crate::layout;
use crate::lock::try_maint;
use crate::monitor::Monitor;
use crate::pack::{ChunkLocation, PackIndex, open_parts, parts_of};
use crate::parity::{self, GroupRecord, Groups, ROW_LEN};
use crate::storage::FailedRead;
use std::collections::BTreeSet;
use std::sync::Arc;

/// State of a handle about parity, from its reads of damaged packs.
#[derive(Default)]
pub(super) struct Degraded {
    /// The listed groups, and the record last used.
    groups: Option<Arc<Groups>>,
    record: Option<(GroupId, Arc<GroupRecord>)>,
    /// Packs that were read through parity and not healed yet.
    packs: BTreeSet<PackId>,
    /// Packs that were rebuilt to read their index, or could not be.
    rebuilt: BTreeSet<PackId>,
    /// Packs that a read found damaged.
    pub(super) suspects: Suspects,
}

impl Repository {
    /// Rebuilds the stored chunk at `location` from parity into `stored`; `false` when that is not
    /// possible.
    ///
    /// # Errors
    /// Only for a read that failed, and `NoMemory`: it may succeed another time.
    pub fn read_through_parity(&self, location: &ChunkLocation, stored: &mut Vec<u8>) -> Result<bool> {
        let entry = &location.entry;
        let start = u64::from(entry.offset);
        let end = start + u64::from(entry.payload_len);
        let row_len = ROW_LEN as u64;
        let (Ok(first), Ok(last)) = (u32::try_from(start / row_len), u32::try_from(end.div_ceil(row_len))) else {
            return Ok(false);
        };
        let rebuild = |record: &GroupRecord| {
            parity::rebuild_rows(self.storage(), record, &location.pack, first..last).map_err(Error::from)
        };
        let Ok(rows) = judge_chunk(self.with_group_of(&location.pack, rebuild))? else {
            return Ok(false);
        };
        let skip = entry.offset as usize - first as usize * ROW_LEN;
        let Some(bytes) = rows.get(skip..skip + entry.payload_len as usize) else {
            return Ok(false);
        };
        stored.clear();
        stored.extend_from_slice(bytes);
        Ok(true)
    }

    /// The index of a lost or damaged pack, from its bytes as parity rebuilds them. This reads its
    /// whole group, so a handle does it once for each pack, unless a read failed.
    pub(super) fn index_through_parity(&self, pack: &PackId) -> Result<Option<PackIndex>> {
        if self.degraded.lock(self).rebuilt.contains(pack) {
            return Ok(None);
        }
        let rebuild = |record: &GroupRecord| Ok(parity::rebuild_pack(self.storage(), record, pack)?);
        let bytes = judge_chunk(self.with_group_of(pack, rebuild))?;
        self.degraded.lock(self).rebuilt.insert(*pack);
        let parts = bytes.ok().and_then(|bytes| parts_of(pack, &bytes).ok());
        Ok(parts.and_then(|parts| open_parts(parts, &self.config().id, self.seal().as_ref()).ok()))
    }

    /// The bytes of a lost or damaged pack, rebuilt from parity and proven by its id.
    ///
    /// # Errors
    /// `PackMissing`, `PackCorrupt` when no group can rebuild it; a failed read; `NoMemory`.
    pub fn pack_through_parity(&self, pack: &PackId) -> Result<Vec<u8>> {
        self.with_group_of(pack, |record| Ok(parity::rebuild_pack(self.storage(), record, pack)?))
    }

    /// Notes that a pack was read through parity, and warns the first time.
    pub fn note_degraded(&self, pack: PackId) {
        if self.degraded.lock(self).packs.insert(pack) {
            self.warn_of_pack(
                "WARN_DEGRADED_READ",
                pack,
                format!("Pack {pack} is damaged; its data was read from parity"),
            );
        }
    }

    /// Heals the packs that were read through parity, if this handle may write and no other process
    /// maintains the repository. A pack is replaced only by bytes whose hash matches its id. What
    /// cannot be done now is left to `repair`, and what an abort interrupts to the next restore.
    pub fn heal_degraded_packs(&self, monitor: &dyn Monitor) {
        let packs = std::mem::take(&mut self.degraded.lock(self).packs);
        if packs.is_empty() || self.check_writable().is_err() || self.check_open().is_err() {
            return;
        }
        // another process maintains the repository: the next restore, or a repair, does it
        let Ok(Some(_maint)) = try_maint(self.storage()) else {
            return;
        };
        let mut packs = packs.into_iter();
        while let Some(pack) = packs.next() {
            if self.check_running(monitor).is_err() {
                self.degraded.lock(self).packs.extend(packs.chain([pack]));
                return;
            }
            if self.heal_and_tell(&pack) {
                self.note_whole(&pack);
            }
        }
    }

    /// Heals a pack, and warns of the outcome; `true` when it is intact. The caller holds the
    /// maintenance lock.
    pub(super) fn heal_and_tell(&self, pack: &PackId) -> bool {
        match self.heal_pack(pack) {
            Ok(false) => true,
            Ok(true) => {
                let message = format!("Pack {pack} was damaged and has been repaired from parity");
                self.warn_of_pack("WARN_PACK_HEALED", *pack, message);
                true
            }
            Err(error) => {
                let message = format!("The damaged pack {pack} could not be repaired: {error}");
                self.warn_of_pack("WARN_NOT_HEALED", *pack, message);
                false
            }
        }
    }

    /// Replaces a damaged pack; `false` when it is intact, because only one read failed. A pack
    /// that the device fails to read each time is replaced too: its bytes then come from other
    /// files, and the new file is readable.
    fn heal_pack(&self, pack: &PackId) -> Result<bool> {
        match self.storage().get(&layout::pack(pack), self.config().longest_pack()) {
            Ok(bytes) if sha256(&[&bytes]) == pack.0 => return Ok(false),
            Err(error) if !error.kind.is_erasure() => return Err(error.into()),
            _ => {}
        }
        let rebuild = |record: &GroupRecord| Ok(parity::rebuild_pack(self.storage(), record, pack)?);
        let bytes = self.with_group_of(pack, rebuild)?;
        self.storage().replace_damaged(&layout::pack(pack), &bytes)?;
        self.storage().barrier()?;
        Ok(true)
    }

    /// Calls `rebuild` with each live group that protects `pack` until it succeeds: normally there
    /// is one, and after a crash sometimes one that lacks a member and one that does not. Lists the
    /// groups again when none of the known ones succeeds: they may have been superseded and
    /// deleted.
    fn with_group_of<T>(&self, pack: &PackId, rebuild: impl Fn(&GroupRecord) -> Result<T>) -> Result<T> {
        let mut failed = Error::PackMissing {
            pack: *pack,
            chunk: None,
        };
        if self.parity_shape().is_none() {
            return Err(failed);
        }
        let known = self.degraded.lock(self).groups.clone();
        for groups in known
            .map(Ok)
            .into_iter()
            .chain(std::iter::once_with(|| self.list_groups()))
        {
            let groups = groups?;
            let first = groups.group_of(pack).map(|head| head.id);
            let others = groups.groups_of(pack).map(|head| head.id);
            for group in first.into_iter().chain(others.filter(|other| Some(*other) != first)) {
                match self.record_of(group).and_then(|record| rebuild(&record)) {
                    Ok(rebuilt) => return Ok(rebuilt),
                    Err(Error::NoMemory) => return Err(Error::NoMemory),
                    // a failed read takes precedence: the rebuild may succeed another time
                    Err(error) if failed.unreadable().is_none() => failed = error,
                    Err(_) => {}
                }
            }
            if failed.unreadable().is_none()
                && let Err(error) = groups.check_read()
            {
                failed = error.into();
            }
        }
        Err(failed)
    }

    /// Lists the groups, and remembers them if all could be read.
    fn list_groups(&self) -> Result<Arc<Groups>> {
        let groups = Arc::new(self.parity_groups()?);
        let known = groups.check_read().is_ok().then(|| Arc::clone(&groups));
        let mut degraded = self.degraded.lock(self);
        (degraded.groups, degraded.record) = (known, None);
        Ok(groups)
    }

    /// The record of a group; the last one is cached.
    fn record_of(&self, group: GroupId) -> Result<Arc<GroupRecord>> {
        if let Some((known, record)) = &self.degraded.lock(self).record
            && *known == group
        {
            return Ok(Arc::clone(record));
        }
        let record = Arc::new(parity::read_record(self.storage(), &group)?);
        self.degraded.lock(self).record = Some((group, Arc::clone(&record)));
        Ok(record)
    }
}
