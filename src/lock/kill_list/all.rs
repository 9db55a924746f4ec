//! All kill lists of a repository, and what they say about a pack together.

use std::collections::HashSet;

use super::format::{FoundList, KillList, KillListId, ListSeal, Proof};
use crate::id::{PackId, RepoId};
use crate::layout;
use crate::lock::error::Error;
use crate::storage::Storage;

/// All kill lists of a repository at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KillLists {
    lists: Vec<FoundList>,
    condemned: HashSet<PackId>,
    unproven: HashSet<PackId>,
    hinted: HashSet<PackId>,
    spared: HashSet<PackId>,
}

impl KillLists {
    /// Reads all kill lists of the repository `repo`. Lists that are removed concurrently are left
    /// out: their packs are gone, or have been found to be needed. One that cannot be read fails
    /// the whole call, with its key, since any pack could be in it; what to do then is the caller's
    /// choice. A list of another repository says nothing about this one.
    pub fn load_all(storage: &dyn Storage, repo: &RepoId, seal: &dyn ListSeal) -> Result<Self, Error> {
        let mut all = Self::default();
        for entry in storage.list(layout::MARKS)? {
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

    /// Whether a prune has condemned that pack, and it was not [spared](Self::spare): it is as good
    /// as gone.
    pub fn condemned(&self, pack: &PackId) -> bool {
        self.condemned.contains(pack) && !self.spared.contains(pack)
    }

    /// Whether a list that is no hint names that pack, proven or not, spared or not: no snapshot
    /// may rely on it.
    pub fn is_listed(&self, pack: &PackId) -> bool {
        self.condemned.contains(pack) || self.unproven.contains(pack)
    }

    /// The packs for which [`is_listed`](Self::is_listed) holds, some of them twice.
    pub fn listed(&self) -> impl Iterator<Item = &PackId> {
        self.condemned.iter().chain(&self.unproven)
    }

    /// Whether new snapshots should not reuse that pack: a list names it, or a hint.
    pub fn avoid(&self, pack: &PackId) -> bool {
        self.is_listed(pack) || self.hinted.contains(pack)
    }

    /// Takes packs out of those that are condemned: a snapshot needs them. Writers avoid them as
    /// long as their list exists.
    pub fn spare(&mut self, packs: HashSet<PackId>) {
        self.spared.extend(packs);
    }

    /// The lists, sorted by id.
    pub fn lists(&self) -> &[FoundList] {
        &self.lists
    }
}
