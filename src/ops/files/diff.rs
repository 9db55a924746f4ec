//! Compares the members of two snapshots by what their indexes know: no data is read.

use super::source::{Members, MembersOf};
use crate::error::Result;
use crate::members::{Key, ListOptions, Listed, Listing};
use crate::monitor::Monitor;
use crate::repo::Repository;
use std::cmp::Ordering;
use std::sync::Arc;

/// What became of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only the second snapshot has it.
    Added,
    /// Only the first snapshot has it.
    Removed,
    /// Both have it, with another type, size, time, owner, link target or other permissions.
    Changed,
}

/// A path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// How.
    pub change: Change,
    /// In the first snapshot.
    pub before: Option<Listed>,
    /// In the second snapshot.
    pub after: Option<Listed>,
}

/// A comparison that is read piece by piece.
pub struct Diff {
    before: Side,
    after: Side,
}

struct Side {
    members: Members,
    listing: Listing,
    next: Option<Listed>,
}

/// Compares two items, each the last member of each path.
///
/// # Errors
/// Those of [`Members::open`].
pub fn diff(repo: &Arc<Repository>, before: &MembersOf, after: &MembersOf, monitor: &dyn Monitor) -> Result<Diff> {
    Ok(Diff {
        before: Side::open(repo, before, monitor)?,
        after: Side::open(repo, after, monitor)?,
    })
}

impl Diff {
    /// The next differences, at most so many; none at the end. Once it has failed, it must not be
    /// used. `check` is called now and then, as equal paths are passed over.
    pub fn next(&mut self, most: usize, check: &dyn Fn() -> Result<()>) -> Result<Vec<Changed>> {
        let mut found = Vec::new();
        let mut steps = 0u32;
        while found.len() < most {
            steps = steps.wrapping_add(1);
            if steps.is_multiple_of(4096) {
                check()?;
            }
            let order = match (&self.before.next, &self.after.next) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => before.key.cmp(&after.key),
            };
            let before = if order.is_le() { self.before.take()? } else { None };
            let after = if order.is_ge() { self.after.take()? } else { None };
            let change = match (&before, &after) {
                (Some(before), Some(after)) if is_same(before, after) => continue,
                (Some(_), Some(_)) => Change::Changed,
                (Some(_), None) => Change::Removed,
                _ => Change::Added,
            };
            found.push(Changed { change, before, after });
        }
        Ok(found)
    }
}

impl Side {
    fn open(repo: &Arc<Repository>, of: &MembersOf, monitor: &dyn Monitor) -> Result<Self> {
        let members = Members::open(repo, of, monitor)?;
        members.warn_if_incomplete(repo);
        let options = ListOptions {
            recursive: true,
            all: false,
        };
        let listing = Listing::new(members.index(), Key::default(), options);
        let mut side = Self {
            members,
            listing,
            next: None,
        };
        side.take()?;
        Ok(side)
    }

    /// The next path, after which comes another one.
    fn take(&mut self) -> Result<Option<Listed>> {
        let Self { members, listing, next } = self;
        let following = members.with(|_, fetch| listing.next(fetch))?;
        Ok(std::mem::replace(next, following))
    }
}

fn is_same(before: &Listed, after: &Listed) -> bool {
    let (Some(before), Some(after)) = (&before.entry, &after.entry) else {
        return before.entry.is_none() && after.entry.is_none();
    };
    let (one, two) = (&before.member, &after.member);
    (one.kind, one.size, one.mode, one.mtime, one.device) == (two.kind, two.size, two.mode, two.mtime, two.device)
        && (one.uid, one.gid, &one.uname, &one.gname) == (two.uid, two.gid, &two.uname, &two.gname)
        && one.link == two.link
}
