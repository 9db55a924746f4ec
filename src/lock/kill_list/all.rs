//! All kill lists of a repository, and the state of a pack that follows from them.

use std::collections::HashSet;

use super::format::{FoundList, KillList, KillListId};
use crate::id::{PackId, RepoId};
use crate::layout;
use crate::lock::error::Error;
use crate::lock::marks::marked_packs;
use crate::lock::proof::{ListSeal, Proof};
use crate::storage::Storage;

/// All kill lists of a repository at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KillLists {
    lists: Vec<FoundList>,
    condemned: HashSet<PackId>,
    unproven: HashSet<PackId>,
    hinted: HashSet<PackId>,
    spared: HashSet<PackId>,
    marked: HashSet<PackId>,
}

impl KillLists {
    /// Reads all kill lists of the repository `repo`. Lists that are deleted concurrently are left
    /// out: their packs are deleted, or spared. One that cannot be read or is damaged fails the
    /// whole call, with its key, since any pack could be in it. Lists of another repository are
    /// ignored. On object storage the packs in marks are read too.
    pub fn load_all(storage: &dyn Storage, repo: &RepoId, seal: &dyn ListSeal) -> Result<Self, Error> {
        let mut all = Self::default();
        let listed = storage.list(layout::MARKS)?;
        if storage.is_remote() {
            all.marked = marked_packs(storage, repo, seal, &listed)?;
        }
        for entry in listed {
            let Some(id) = KillListId::from_key(&entry.key) else {
                continue;
            };
            let Some(found) = KillList::read(storage, &id, seal)? else {
                continue;
            };
            if found.list.repo != *repo {
                continue;
            }
            let set = match (found.list.hint, found.proof) {
                (true, _) => &mut all.hinted,
                (false, Proof::Valid) => &mut all.condemned,
                (false, _) => &mut all.unproven,
            };
            set.extend(found.list.packs.iter().copied());
            all.lists.push(found);
        }
        all.lists.sort_by_key(|found| found.list.id);
        Ok(all)
    }

    /// Whether a prune has condemned the pack, and it is not [spared](Self::spare): it may be
    /// deleted at any time.
    pub fn is_condemned(&self, pack: &PackId) -> bool {
        self.condemned.contains(pack) && !self.spared.contains(pack)
    }

    /// The packs for which [`is_condemned`](Self::is_condemned) is true.
    pub fn condemned_packs(&self) -> HashSet<PackId> {
        self.condemned.difference(&self.spared).copied().collect()
    }

    /// Whether a list that is not a hint names the pack, proven or not, spared or not: no new
    /// snapshot may rely on it.
    pub fn is_listed(&self, pack: &PackId) -> bool {
        self.condemned.contains(pack) || self.unproven.contains(pack)
    }

    /// The packs for which [`is_listed`](Self::is_listed) is true, some of them twice.
    pub fn listed(&self) -> impl Iterator<Item = &PackId> {
        self.condemned.iter().chain(&self.unproven)
    }

    /// Whether new snapshots should not reuse the pack: a list, a hint or a mark names it.
    pub fn is_avoided(&self, pack: &PackId) -> bool {
        self.is_listed(pack) || self.hinted.contains(pack) || self.marked.contains(pack)
    }

    /// Marks packs as spared, because a snapshot needs them: they are not condemned. Writers avoid
    /// them while their list exists.
    pub fn spare(&mut self, packs: HashSet<PackId>) {
        self.spared.extend(packs);
    }

    /// The lists, sorted by id.
    pub fn lists(&self) -> &[FoundList] {
        &self.lists
    }
}
