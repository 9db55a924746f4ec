//! Paths in the order of the index.

use crate::tar::parts;
use std::fmt;

/// The names of a path, by which members are found and sorted.
///
/// Empty names, `.` and a slash in front mean nothing; `..` is a name like any other. The names are
/// joined with a zero byte, which no path contains and which sorts before all others: a directory
/// is directly followed by everything below it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(Vec<u8>);

impl Key {
    /// The key of a path. Of the directory that everything is relative to, it is empty.
    pub fn new(path: &[u8]) -> Self {
        let mut key = Vec::with_capacity(path.len());
        for part in parts(path) {
            if !key.is_empty() {
                key.push(0);
            }
            key.extend_from_slice(part);
        }
        Self(key)
    }

    /// The key of these bytes; `None` when no path has it.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let is_name = |name: &[u8]| !name.is_empty() && name != b"." && !name.contains(&b'/');
        let is_key = bytes.is_empty() || bytes.split(|byte| *byte == 0).all(is_name);
        is_key.then(|| Self(bytes.to_vec()))
    }

    /// The names joined with zero bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The names joined with slashes.
    pub fn path(&self) -> Vec<u8> {
        self.0
            .iter()
            .map(|byte| if *byte == 0 { b'/' } else { *byte })
            .collect()
    }

    /// Whether this is `other` or below it.
    pub fn is_in(&self, other: &Self) -> bool {
        let rest = self.0.strip_prefix(other.0.as_slice());
        rest.is_some_and(|rest| other.0.is_empty() || rest.is_empty() || rest[0] == 0)
    }

    /// Number of names.
    pub fn depth(&self) -> usize {
        match self.0.is_empty() {
            true => 0,
            false => 1 + self.0.iter().filter(|byte| **byte == 0).count(),
        }
    }

    /// The first `depth` names.
    pub fn first(&self, depth: usize) -> Self {
        let names = self.0.split(|byte| *byte == 0).take(depth);
        Self(names.collect::<Vec<_>>().join(&0))
    }

    /// The least key after everything that is in this one; `None` when there is none.
    pub(super) fn after(&self) -> Option<Self> {
        if self.0.is_empty() {
            return None;
        }
        // what is in it goes on with a zero byte or ends
        Some(Self([self.0.as_slice(), &[1]].concat()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(&self.path()))
    }
}
