//! What a restore has made so far.

use super::MAX_MADE;
use rustix::fs::Stat;
use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};

/// The files of a restore, by device and inode, and on file systems that ignore case their exact
/// names too.
pub(super) struct Made {
    files: HashSet<(u64, u64)>,
    /// `None` where case matters.
    names: Option<Names>,
    hasher: RandomState,
}

/// The names that were used, also those of directories from before the restore.
#[derive(Default)]
struct Names {
    /// Hashes of parent and name, with random keys.
    hashes: HashSet<u64>,
    files: HashSet<(u64, u64)>,
}

impl Made {
    pub(super) fn new(ignores_case: bool) -> Self {
        Self {
            files: HashSet::new(),
            names: ignores_case.then(Names::default),
            hasher: RandomState::new(),
        }
    }

    /// Remembers a file. Beyond the limit, a second occurrence of its name counts as a file from
    /// before.
    pub(super) fn add(&mut self, found: &Stat) {
        if self.files.len() < MAX_MADE {
            self.files.insert(id(found));
        }
    }

    pub(super) fn remove(&mut self, found: &Stat) {
        self.files.remove(&id(found));
    }

    pub(super) fn contains(&self, found: &Stat) -> bool {
        self.files.contains(&id(found))
    }

    /// Remembers the name of a file.
    pub(super) fn add_name(&mut self, parent: &Stat, name: &[u8], found: &Stat) {
        let hash = self.hash(parent, name);
        if let Some(names) = &mut self.names
            && names.hashes.len() < MAX_MADE
        {
            names.hashes.insert(hash);
            names.files.insert(id(found));
        }
    }

    /// Whether a file that this restore used was found under a name that it did not use.
    pub(super) fn is_collision(&self, parent: &Stat, name: &[u8], found: &Stat) -> bool {
        let Some(names) = &self.names else { return false };
        names.files.contains(&id(found)) && !names.hashes.contains(&self.hash(parent, name))
    }

    fn hash(&self, parent: &Stat, name: &[u8]) -> u64 {
        self.hasher.hash_one((id(parent), name))
    }
}

#[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
pub(super) fn id(found: &Stat) -> (u64, u64) {
    (found.st_dev as u64, found.st_ino as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{AtFlags, CWD, statat};

    #[test]
    fn a_file_found_under_another_name_is_a_collision_only_where_case_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let parent = statat(CWD, folder.path(), AtFlags::empty()).unwrap();
        let file = statat(CWD, std::env::current_exe().unwrap(), AtFlags::empty()).unwrap();
        for ignores_case in [false, true] {
            let mut made = Made::new(ignores_case);
            // from before the restore
            assert!(!made.is_collision(&parent, b"NAME", &file));
            made.add_name(&parent, b"name", &file);
            assert!(!made.is_collision(&parent, b"name", &file));
            assert_eq!(made.is_collision(&parent, b"NAME", &file), ignores_case);
            assert_eq!(made.is_collision(&file, b"name", &file), ignores_case);
        }
    }
}
