//! Makes the index of an item while its bytes pass.

use super::builder::{MAX_GLOBALS, Pages, Sink};
use super::entry::Entry;
use super::error::Error;
use super::sort::Sorter;
use super::tail::Tail;
use crate::tar::{BLOCK_LEN, Event, Form, Scanner, Verdict, Wrapper, recognise};

/// Why an item has no index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unindexed {
    /// It is no tar, or one without a complete member.
    NotTar,
    /// It is compressed; a tar in it is not unpacked.
    Wrapped(Wrapper),
    /// The index would exceed the limits of this room.
    TooLarge,
    /// It has more than [`MAX_GLOBALS`] global headers.
    Globals,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All pages were passed on.
    Written {
        /// Number of members.
        members: u64,
        /// The tar has its end.
        is_complete: bool,
        /// The offset after that end, or the one at which the tar breaks off.
        end: u64,
    },
    /// There is no index. Pages that were passed on before are of no use.
    None(Unindexed),
}

/// Reads the bytes of an item, and writes the index of its members. It never fails because of them.
pub struct Indexer {
    state: State,
    len: u64,
}

enum State {
    /// The first block is not complete.
    First(Vec<u8>),
    Scanning(Box<Scan>),
    Given(Unindexed),
}

struct Scan {
    scanner: Scanner,
    sorter: Sorter,
    globals: Vec<(u64, u64)>,
}

impl Default for Indexer {
    fn default() -> Self {
        Self::new()
    }
}

impl Indexer {
    /// Before the first byte.
    pub fn new() -> Self {
        Self {
            state: State::First(Vec::new()),
            len: 0,
        }
    }

    /// Reads the next bytes.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        self.len += bytes.len() as u64;
        if let State::First(first) = &mut self.state {
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK_LEN - first.len()));
            first.extend_from_slice(now);
            if first.len() < BLOCK_LEN {
                return;
            }
            bytes = rest;
            let first = std::mem::take(first);
            self.decide(&first);
        }
        self.scan(bytes);
    }

    /// How many of the next bytes are data of a member, which nothing is read from: instead of
    /// being fed, they can be [skipped](Self::skip).
    pub fn skippable(&self) -> u64 {
        match &self.state {
            State::First(_) => 0,
            State::Scanning(scan) if scan.scanner.verdict().is_some() => u64::MAX,
            State::Scanning(scan) => scan.scanner.skippable(),
            State::Given(_) => u64::MAX,
        }
    }

    /// Passes over the next bytes, at most those that are [skippable](Self::skippable).
    pub fn skip(&mut self, len: u64) {
        self.len += len;
        if let State::Scanning(scan) = &mut self.state {
            scan.scanner.skip(len, &mut |_| {});
        }
    }

    fn decide(&mut self, first: &[u8]) {
        match recognise(first) {
            Form::Tar => {
                self.state = State::Scanning(Box::new(Scan {
                    scanner: Scanner::new(),
                    sorter: Sorter::default(),
                    globals: Vec::new(),
                }));
                self.scan(first);
            }
            Form::Wrapped(wrapper) => self.state = State::Given(Unindexed::Wrapped(wrapper)),
            Form::Other => self.state = State::Given(Unindexed::NotTar),
        }
    }

    fn scan(&mut self, bytes: &[u8]) {
        let State::Scanning(scan) = &mut self.state else { return };
        let Scan {
            scanner,
            sorter,
            globals,
        } = &mut **scan;
        let mut given = None;
        scanner.feed(bytes, &mut |event| match event {
            Event::Member(member) if given.is_none() && !sorter.push(&Entry::new(member)) => {
                given = Some(Unindexed::TooLarge);
            }
            Event::Global { .. } if globals.len() >= MAX_GLOBALS => given = Some(Unindexed::Globals),
            Event::Global { offset, end } => globals.push((offset, end)),
            _ => {}
        });
        if let Some(reason) = given {
            self.state = State::Given(reason);
        }
    }

    /// Ends the item. Each page is passed to `sink`; one after another they are the stream.
    pub fn finish<E: From<Error>>(mut self, sink: &mut Sink<'_, E>) -> Result<Outcome, E> {
        if let State::First(first) = &mut self.state {
            let first = std::mem::take(first);
            self.decide(&first);
        }
        let scan = match self.state {
            State::Scanning(scan) => *scan,
            State::Given(reason) => return Ok(Outcome::None(reason)),
            State::First(_) => return Ok(Outcome::None(Unindexed::NotTar)),
        };
        let verdict = scan.scanner.finish();
        let (is_complete, end) = match verdict {
            Verdict::NotTar => return Ok(Outcome::None(Unindexed::NotTar)),
            Verdict::Complete { end } => (true, end),
            Verdict::BrokeOff { at, .. } => (false, at),
        };
        let mut pages = Pages::new(sink);
        let mut fits = true;
        scan.sorter.merge(&mut |entry: Entry| -> Result<(), E> {
            if fits && verdict.covers(&entry.member) {
                fits = pages.push(&entry)?;
            }
            Ok(())
        })?;
        let members = pages.members();
        if !fits {
            return Ok(Outcome::None(Unindexed::TooLarge));
        }
        if members == 0 {
            return Ok(Outcome::None(Unindexed::NotTar));
        }
        // those after the last member that is there may be cut off
        let globals = scan.globals.into_iter().filter(|(_, to)| *to <= self.len).collect();
        pages.finish(|root, root_level| Tail {
            members,
            item_len: self.len,
            is_complete,
            end,
            globals,
            root,
            root_level,
        })?;
        Ok(Outcome::Written {
            members,
            is_complete,
            end,
        })
    }
}
