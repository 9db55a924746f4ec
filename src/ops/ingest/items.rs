//! The items of an ingest and their sources.

use crate::error::{Error, Result};
use std::io::Read;

/// Name and kind of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemSpec {
    /// Unique within the snapshot, 1 to 4096 bytes.
    pub name: String,
    /// Informational, such as `database-dump`.
    pub kind: String,
    /// Bytes that the source must return; another size is a failure of the source.
    pub expected_size: Option<u64>,
    /// Its position among the items of the snapshot; items with equal positions keep the order in
    /// which they were read.
    pub position: u64,
}

impl ItemSpec {
    /// An item of any size.
    pub fn new(name: &str, kind: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            expected_size: None,
            position: 0,
        }
    }

    /// Fails once more bytes than expected were read, and at the end also when fewer were.
    pub(super) fn check_size(&self, size: u64, at_end: bool) -> Result<()> {
        let reason = match self.expected_size {
            Some(expected) if size > expected => format!("it returned more than the expected {expected} bytes"),
            Some(expected) if at_end && size < expected => {
                format!("it returned {size} bytes instead of the expected {expected}")
            }
            _ => return Ok(()),
        };
        Err(Error::SourceFailed {
            item: self.name.clone(),
            reason,
        })
    }
}

/// A source of items, read one after the other.
pub trait ItemStream {
    /// The next item, or `None` after the last one. Called first, and then each time an item has
    /// ended.
    fn next_item(&mut self) -> Result<Option<ItemSpec>>;
    /// Reads more of the current item; returns 0 at its end. Any error ends the ingest without a
    /// snapshot.
    fn read(&mut self, out: &mut [u8]) -> Result<usize>;
}

/// Items read from readers, in order.
pub struct ReaderItems<'a> {
    waiting: std::vec::IntoIter<(ItemSpec, Box<dyn Read + Send + 'a>)>,
    current: Option<(ItemSpec, Box<dyn Read + Send + 'a>)>,
}

impl<'a> ReaderItems<'a> {
    /// A stream of the given items.
    pub fn new(items: Vec<(ItemSpec, Box<dyn Read + Send + 'a>)>) -> Self {
        Self {
            waiting: items.into_iter(),
            current: None,
        }
    }

    /// A stream of one item.
    pub fn one(name: &str, kind: &str, reader: impl Read + Send + 'a) -> Self {
        Self::new(vec![(ItemSpec::new(name, kind), Box::new(reader))])
    }
}

impl ItemStream for ReaderItems<'_> {
    fn next_item(&mut self) -> Result<Option<ItemSpec>> {
        self.current = self.waiting.next();
        Ok(self.current.as_ref().map(|(spec, _)| spec.clone()))
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let Some((spec, reader)) = self.current.as_mut() else {
            return Ok(0);
        };
        loop {
            match reader.read(out) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Error::SourceFailed {
                        item: spec.name.clone(),
                        reason: error.to_string(),
                    });
                }
                Ok(len) => return Ok(len),
            }
        }
    }
}

/// Longest name, kind, tag key or tag value in bytes.
const MAX_TEXT_LEN: usize = 4096;

pub(super) fn check_text<'t>(what: &str, texts: impl Iterator<Item = &'t String>) -> Result<()> {
    for text in texts {
        if text.len() > MAX_TEXT_LEN {
            return Err(Error::InvalidArgument {
                reason: format!("A {what} is longer than {MAX_TEXT_LEN} bytes"),
            });
        }
    }
    Ok(())
}

/// Checks a name and a type. They are data: any text is allowed that is not empty or too long.
pub(super) fn check_item(spec: &ItemSpec) -> Result<()> {
    check_text("item name or type", [&spec.name, &spec.kind].into_iter())?;
    if spec.name.is_empty() {
        return Err(Error::InvalidArgument {
            reason: "An item has no name".to_owned(),
        });
    }
    Ok(())
}
