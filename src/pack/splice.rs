//! The parts of a pack that its `.idx` copies: taken from a pack in memory, and put back into one
//! whose own parts are damaged.
//!
//! Nothing is proven here. The result is the pack only if its SHA-256 matches its id.

use super::format::{Error, FOOTER_LEN, HEADER_LEN, IndexParts, PackFooter};
use crate::buffer::NoMemory;
use crate::id::PackId;

/// Returns header, trailer and footer of the pack in `bytes`. Only the footer is checked.
pub fn parts_of(pack: &PackId, bytes: &[u8]) -> Result<IndexParts, Error> {
    let (Some(header), Some(footer)) = (bytes.first_chunk::<HEADER_LEN>(), bytes.last_chunk::<FOOTER_LEN>()) else {
        return Err(Error::Length);
    };
    let ends = PackFooter::decode(footer, bytes.len() as u64)?;
    let start = ends.trailer_offset as usize;
    let trailer = bytes.get(start..start.saturating_add(ends.trailer_len as usize));
    Ok(IndexParts {
        pack: *pack,
        pack_len: bytes.len() as u64,
        header: *header,
        trailer: trailer.ok_or(Error::Length)?.to_vec(),
        footer: *footer,
    })
}

/// Puts header, trailer and footer into a damaged pack, which is given the length that `parts`
/// states, at most 4 GiB (the longest pack). `Ok(false)` when the parts contradict each other.
pub fn splice(bytes: &mut Vec<u8>, parts: &IndexParts) -> Result<bool, NoMemory> {
    let Ok(ends) = PackFooter::decode(&parts.footer, parts.pack_len) else {
        return Ok(false);
    };
    let len = match usize::try_from(parts.pack_len) {
        Ok(len) if len <= u32::MAX as usize && parts.trailer.len() == ends.trailer_len as usize => len,
        _ => return Ok(false),
    };
    let more = len.saturating_sub(bytes.len());
    bytes.try_reserve_exact(more).map_err(|_| NoMemory)?;
    bytes.resize(len, 0);
    let start = ends.trailer_offset as usize;
    let targets = [
        (0, &parts.header[..]),
        (start, &parts.trailer),
        (len - FOOTER_LEN, &parts.footer),
    ];
    for (offset, part) in targets {
        let Some(target) = bytes.get_mut(offset..offset.saturating_add(part.len())) else {
            return Ok(false);
        };
        target.copy_from_slice(part);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::TAG_LEN;

    fn pack() -> (Vec<u8>, IndexParts) {
        let footer = PackFooter {
            trailer_offset: 196,
            trailer_len: (48 + TAG_LEN) as u32,
            body_hash: [7; 32],
        };
        let bytes = [&[1; 96][..], &[2; 100], &[3; 48 + TAG_LEN], &footer.encode()].concat();
        let parts = parts_of(&PackId([9; 32]), &bytes).unwrap();
        (bytes, parts)
    }

    #[test]
    fn splice_restores_the_parts_of_a_pack_where_they_are_damaged_or_missing() {
        let (bytes, parts) = pack();
        assert_eq!((parts.pack_len, parts.trailer.len()), (bytes.len() as u64, 64));
        for len in [0, 50, 96, 196, 200, bytes.len(), bytes.len() + 9] {
            let mut damaged = bytes.clone();
            damaged.resize(len, 0xee);
            for at in (0..len.min(96)).chain(196..len.max(196)) {
                damaged[at] = 0xee;
            }
            assert!(splice(&mut damaged, &parts).unwrap());
            // the body is intact only as far as it was not cut off
            let whole = len >= 196;
            assert_eq!(damaged == bytes, whole, "{len}");
        }
    }

    #[test]
    fn splice_refuses_parts_that_contradict_each_other() {
        let (bytes, parts) = pack();
        for wrong in [
            IndexParts {
                pack_len: 5,
                ..parts.clone()
            },
            IndexParts {
                pack_len: u64::MAX,
                ..parts.clone()
            },
            IndexParts {
                trailer: vec![0; 63],
                ..parts
            },
        ] {
            assert!(!splice(&mut bytes.clone(), &wrong).unwrap());
        }
        assert!(parts_of(&PackId([0; 32]), &bytes[..100]).is_err());
        assert!(parts_of(&PackId([0; 32]), &bytes[1..]).is_err());
    }
}
