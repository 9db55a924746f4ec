//! Reads that a caller announces before it makes them, so that a store where each is a request has
//! several of them in flight. The steps of an operation stay one after the other.
//!
//! What a read returns may be as old as its announcement, so a caller announces only what it may
//! read now, and makes the reads on the thread that announced them: no other operation sees an old
//! answer. The thread sees its own puts and deletes, because they discard what was announced of the
//! key.

use super::Storage;

/// A read that is about to be made, with the arguments of the method of [`Storage`] of that name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ask {
    /// `get`
    Get {
        /// The key.
        key: String,
        /// Longest file, in bytes.
        max_len: u64,
    },
    /// `get` of a file that a listing has just shown: its bytes may have been kept since an earlier
    /// read.
    Listed {
        /// The key.
        key: String,
        /// Longest file, in bytes.
        max_len: u64,
    },
    /// `size`
    Size(String),
    /// `list`
    List(String),
}

/// An announcement. Dropping it discards the reads that were not made.
#[must_use]
pub struct Prefetched<'a>(Option<(&'a dyn Storage, u64)>);

impl Drop for Prefetched<'_> {
    fn drop(&mut self) {
        if let Some((storage, announcement)) = self.0 {
            storage.forget_prefetched(announcement);
        }
    }
}

/// Announces reads of this thread. Costs nothing where reads are not requests.
pub fn prefetch<R: IntoIterator<Item = Ask>>(storage: &dyn Storage, reads: impl FnOnce() -> R) -> Prefetched<'_> {
    let announced = storage
        .is_remote()
        .then(|| (storage, storage.prefetch(reads().into_iter().collect())));
    Prefetched(announced)
}

/// Items that are read one after the other, announced some at a time: at least one window of them
/// is ahead of the reader.
pub struct Announced<'a, T, F> {
    storage: &'a dyn Storage,
    rest: &'a [T],
    /// Items of `rest` that are announced.
    ahead: usize,
    read: F,
    /// The last two windows.
    windows: [Option<Prefetched<'a>>; 2],
}

/// Items of one announcement.
const WINDOW: usize = 32;

/// The items, of which the caller makes `read` before it asks for the next one.
pub fn announced<'a, T, F: Fn(&T) -> Ask>(storage: &'a dyn Storage, items: &'a [T], read: F) -> Announced<'a, T, F> {
    Announced {
        storage,
        rest: items,
        ahead: 0,
        read,
        windows: [None, None],
    }
}

impl<'a, T, F: Fn(&T) -> Ask> Iterator for Announced<'a, T, F> {
    type Item = &'a T;

    fn next(&mut self) -> Option<&'a T> {
        if self.ahead <= WINDOW && self.ahead < self.rest.len() {
            let window = self.rest[self.ahead..].iter().take(WINDOW);
            self.ahead += window.len();
            let announced = prefetch(self.storage, || window.map(&self.read));
            self.windows = [self.windows[1].take(), Some(announced)];
        }
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        self.ahead -= 1;
        Some(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::MemoryStorage;

    #[test]
    fn announced_items_come_in_order_and_each_once() {
        let storage = MemoryStorage::new();
        for count in [0, 1, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW, 5 * WINDOW + 7] {
            let items: Vec<usize> = (0..count).collect();
            let seen: Vec<usize> = announced(&storage, &items, |item| Ask::Size(item.to_string()))
                .copied()
                .collect();
            assert_eq!(seen, items);
        }
    }
}
