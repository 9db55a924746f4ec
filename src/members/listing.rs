//! The members of a directory, or of everything below it.

use super::cursor::Cursor;
use super::entry::Entry;
use super::error::Error;
use super::fetch::Fetch;
use super::key::Key;
use super::reader::Index;
use std::collections::VecDeque;

/// Which members of a directory are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListOptions {
    /// Those in directories below it too.
    pub recursive: bool,
    /// Of several members with one path, each; otherwise the last one, which counts.
    pub all: bool,
}

/// A listed path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The path.
    pub key: Key,
    /// Its member; `None` for a directory that has none, but has members in it.
    pub entry: Option<Entry>,
    /// A later member has the same path.
    pub is_superseded: bool,
}

/// A later member has the same path as this one.
fn supersede(before: Option<&mut Listed>) {
    if let Some(before) = before {
        before.is_superseded = true;
    }
}

/// Lists a directory, in the order of the keys. What is below its directories is not read, unless
/// the listing is recursive.
#[derive(Debug, Clone)]
pub struct Listing {
    cursor: Cursor,
    directory: Key,
    options: ListOptions,
    ready: VecDeque<Listed>,
    /// Where the next path is at least.
    next: Option<Key>,
}

impl Listing {
    /// Before the first member of a directory.
    pub fn new(index: &Index, directory: Key, options: ListOptions) -> Self {
        Self {
            cursor: index.cursor(),
            next: Some(directory.clone()),
            directory,
            options,
            ready: VecDeque::new(),
        }
    }

    /// The next path; `None` at the end.
    pub fn next<E: From<Error>>(&mut self, fetch: &mut Fetch<'_, E>) -> Result<Option<Listed>, E> {
        loop {
            if let Some(listed) = self.ready.pop_front() {
                return Ok(Some(listed));
            }
            if let Some(next) = self.next.take() {
                self.cursor.seek(&next, fetch)?;
            }
            let Some(key) = self.cursor.peek(fetch)?.map(|entry| entry.key.clone()) else {
                return Ok(None);
            };
            if !key.is_in(&self.directory) {
                return Ok(None);
            }
            if key == self.directory {
                self.cursor.next(fetch)?;
                continue;
            }
            let child = match self.options.recursive {
                true => key.clone(),
                false => key.first(self.directory.depth() + 1),
            };
            if child == key {
                self.take_all(&child, fetch)?;
            } else {
                self.ready.push_back(Listed {
                    key: child.clone(),
                    entry: None,
                    is_superseded: false,
                });
            }
            if !self.options.recursive {
                self.next = child.after();
            }
        }
    }

    /// Takes the members of one path.
    fn take_all<E: From<Error>>(&mut self, key: &Key, fetch: &mut Fetch<'_, E>) -> Result<(), E> {
        while self.cursor.peek(fetch)?.is_some_and(|entry| entry.key == *key) {
            let entry = self.cursor.next(fetch)?;
            match self.options.all {
                true => supersede(self.ready.back_mut()),
                false => self.ready.clear(),
            }
            self.ready.push_back(Listed {
                key: key.clone(),
                entry,
                is_superseded: false,
            });
        }
        Ok(())
    }
}
