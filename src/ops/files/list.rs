//! Lists members, and looks one up.

use super::source::{Members, MembersOf};
use crate::error::Result;
use crate::members::{Key, ListOptions, Listed, Listing};
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::tar::Kind;
use std::sync::Arc;

/// Which members are listed.
#[derive(Debug, Clone, Default)]
pub struct FileListOptions {
    /// The directory whose members are listed, or the one member; empty for the whole tar.
    pub member: Vec<u8>,
    /// What is below the directories too.
    pub recursive: bool,
    /// Of several members with one path, each.
    pub all: bool,
}

/// A list that is read piece by piece.
pub struct FileList {
    members: Members,
    rest: Rest,
}

enum Rest {
    /// The member itself, which is no directory.
    One(Vec<Listed>),
    Listing(Box<Listing>),
}

/// Lists the members of a directory of an item, sorted by the names of their paths.
///
/// # Errors
/// Those of [`Members::open`], `MemberNotFound`.
pub fn files(
    repo: &Arc<Repository>,
    of: &MembersOf,
    options: &FileListOptions,
    monitor: &dyn Monitor,
) -> Result<FileList> {
    let mut members = Members::open(repo, of, monitor)?;
    members.warn_if_incomplete(repo);
    let key = Key::new(&options.member);
    let last = last_of_key(&mut members, &key)?;
    let is_directory = match &last {
        // whatever is stored under an empty path
        _ if key.depth() == 0 => true,
        Some(listed) => listed
            .entry
            .as_ref()
            .is_none_or(|entry| entry.member.kind == Kind::Directory),
        None => return Err(members.not_found(&options.member)),
    };
    let rest = match is_directory {
        true => Rest::Listing(Box::new(Listing::new(
            members.index(),
            key,
            ListOptions {
                recursive: options.recursive,
                all: options.all,
            },
        ))),
        false if options.all => Rest::One(of_key(&mut members, &key)?.into_iter().rev().collect()),
        false => Rest::One(last.into_iter().collect()),
    };
    Ok(FileList { members, rest })
}

impl FileList {
    /// The next members, at most so many; none at the end. Once it has failed, the list must not be
    /// used.
    pub fn next(&mut self, most: usize) -> Result<Vec<Listed>> {
        let mut found = Vec::new();
        while found.len() < most {
            let next = match &mut self.rest {
                Rest::One(listed) => listed.pop(),
                Rest::Listing(listing) => self.members.with(|_, fetch| listing.next(fetch))?,
            };
            match next {
                Some(listed) => found.push(listed),
                None => break,
            }
        }
        Ok(found)
    }
}

/// Looks up the last member with a path.
///
/// # Errors
/// Those of [`Members::open`], `MemberNotFound`.
pub fn member_info(repo: &Arc<Repository>, of: &MembersOf, member: &[u8], monitor: &dyn Monitor) -> Result<Listed> {
    let mut members = Members::open(repo, of, monitor)?;
    let found = last_of_key(&mut members, &Key::new(member))?;
    found.ok_or_else(|| members.not_found(member))
}

/// The last member with a path; a directory without a member of its own, but with others in it.
pub(super) fn last_of_key(members: &mut Members, key: &Key) -> Result<Option<Listed>> {
    let entry = members.find(key, u64::MAX)?;
    let is_there = entry.is_some()
        || key.depth() > 0
            && members.with(|index, fetch| {
                let mut cursor = index.cursor();
                cursor.seek(key, fetch)?;
                Ok(cursor.peek(fetch)?.is_some_and(|next| next.key.is_in(key)))
            })?;
    Ok(is_there.then(|| Listed {
        key: key.clone(),
        entry,
        is_superseded: false,
    }))
}

/// All members with a path.
pub(super) fn of_key(members: &mut Members, key: &Key) -> Result<Vec<Listed>> {
    members.with(|index, fetch| {
        let mut cursor = index.cursor();
        cursor.seek(key, fetch)?;
        let mut found: Vec<Listed> = Vec::new();
        while let Some(entry) = cursor.next(fetch)? {
            if entry.key != *key {
                break;
            }
            if let Some(before) = found.last_mut() {
                before.is_superseded = true;
            }
            found.push(Listed {
                key: entry.key.clone(),
                entry: Some(entry),
                is_superseded: false,
            });
        }
        Ok(found)
    })
}
