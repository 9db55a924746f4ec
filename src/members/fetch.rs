//! Reads parts of the stream.

use super::error::{Error, damaged};
use super::page::{Child, Page};

/// Reads bytes of the stream: from a position on, so many.
pub type Fetch<'f, E> = dyn FnMut(u64, usize) -> Result<Vec<u8>, E> + 'f;

/// Reads a page and checks it against its parent.
pub(super) fn load<E: From<Error>>(
    child: &Child,
    level: u8,
    is_root: bool,
    fetch: &mut Fetch<'_, E>,
) -> Result<Page, E> {
    let page = read(fetch, child.position, child.len as usize)?;
    Ok(Page::decode(&page, level, child, is_root)?)
}

/// Reads exactly so many bytes.
pub(super) fn read<E: From<Error>>(fetch: &mut Fetch<'_, E>, position: u64, len: usize) -> Result<Vec<u8>, E> {
    let bytes = fetch(position, len)?;
    match bytes.len() == len {
        true => Ok(bytes),
        false => Ok(damaged("a member index ends too early")?),
    }
}
