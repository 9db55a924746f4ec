//! gzip (RFC 1952): a fixed header, a raw deflate stream (RFC 1951), CRC-32 and length.
//!
//! The header and trailer are written here, because `flate2` can reset a raw deflate context
//! without allocating, but not a gzip one.

use super::Error;
use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};

/// Magic, method 8 (deflate), no flags, no time, no hints, unknown operating system: the same for
/// every chunk.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// u32 CRC-32 of the content ‖ u32 length of the content.
const TRAILER_LEN: usize = 8;

/// Flag: a checksum of the header follows the header.
const FHCRC: u8 = 2;
/// Flag: an extra field with a u16 length.
const FEXTRA: u8 = 4;
/// Flag: a name that ends with a zero byte.
const FNAME: u8 = 8;
/// Flag: a comment that ends with a zero byte.
const FCOMMENT: u8 = 16;

/// A gzip encoder that keeps one deflate context, for the level last used.
#[derive(Default)]
pub(super) struct Encoder {
    context: Option<(u32, Compress)>,
}

impl Encoder {
    /// Replaces the content of `out` with the member. Returns `false` when that fails or the member
    /// is not shorter than `raw`.
    pub(super) fn encode(&mut self, level: u32, raw: &[u8], out: &mut Vec<u8>) -> bool {
        if !(1..=9).contains(&level) {
            return false;
        }
        // room for any stream: zlib-rs 0.6 panics in the next stream after one that ended for lack
        // of room
        out.resize(HEADER.len() + raw.len() + raw.len() / 8 + 64, 0);
        let Some((header, body)) = out.split_first_chunk_mut::<{ HEADER.len() }>() else {
            return false;
        };
        *header = HEADER;
        let context = self.context(level);
        let ended = context.compress(raw, body, FlushCompress::Finish);
        let written = usize::try_from(context.total_out()).unwrap_or(usize::MAX);
        if !matches!(ended, Ok(Status::StreamEnd)) {
            self.context = None;
            return false;
        }
        if HEADER.len().saturating_add(written).saturating_add(TRAILER_LEN) >= raw.len() {
            return false;
        }
        let mut crc = Crc::new();
        crc.update(raw);
        out.truncate(HEADER.len() + written);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&crc.amount().to_le_bytes()); // the length modulo 2^32
        true
    }

    fn context(&mut self, level: u32) -> &mut Compress {
        match &mut self.context {
            Some((kept, context)) if *kept == level => context.reset(),
            other => *other = None,
        }
        &mut self
            .context
            .get_or_insert_with(|| (level, Compress::new(flate2::Compression::new(level), false)))
            .1
    }
}

/// A gzip decoder that keeps one inflate context.
#[derive(Default)]
pub(super) struct Decoder {
    context: Option<Decompress>,
}

impl Decoder {
    /// Fills all of `out` from `encoded`, which must be exactly one member.
    pub(super) fn decode(&mut self, encoded: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let body = encoded.get(header_len(encoded)?..).ok_or(Error::Malformed)?;
        let context = match &mut self.context {
            Some(context) => {
                context.reset(false);
                context
            }
            none => none.insert(Decompress::new(false)),
        };
        let status = context
            .decompress(body, out, FlushDecompress::Finish)
            .map_err(|_| Error::Malformed)?;
        let (read, written) = (context.total_in(), context.total_out());
        if status != Status::StreamEnd {
            // out of input, or out of room
            let full = u64::try_from(out.len()).is_ok_and(|len| len == written);
            return Err(if full { Error::WrongLength } else { Error::Malformed });
        }
        if u64::try_from(out.len()).is_ok_and(|len| len != written) {
            return Err(Error::WrongLength);
        }
        let trailer = usize::try_from(read)
            .ok()
            .and_then(|read| body.get(read..))
            .ok_or(Error::Malformed)?;
        let (trailer, behind) = trailer.split_first_chunk::<TRAILER_LEN>().ok_or(Error::Malformed)?;
        if !behind.is_empty() {
            return Err(Error::TrailingBytes);
        }
        let mut crc = Crc::new();
        crc.update(out);
        let [a, b, c, d] = crc.sum().to_le_bytes();
        let [e, f, g, h] = crc.amount().to_le_bytes();
        if *trailer == [a, b, c, d, e, f, g, h] {
            Ok(())
        } else {
            Err(Error::Malformed)
        }
    }
}

/// Returns the length of the header of a member, including the optional fields that other writers
/// may set (RFC 1952 §2.3).
fn header_len(member: &[u8]) -> Result<usize, Error> {
    let (fixed, mut rest) = member.split_first_chunk::<{ HEADER.len() }>().ok_or(Error::Malformed)?;
    let [0x1f, 0x8b, 8, flags, ..] = *fixed else {
        return Err(Error::Malformed);
    };
    if flags & 0b1110_0000 != 0 {
        return Err(Error::Malformed); // reserved: "must give an error indication"
    }
    if flags & FEXTRA != 0 {
        let (len, behind) = rest.split_first_chunk::<2>().ok_or(Error::Malformed)?;
        rest = behind
            .get(usize::from(u16::from_le_bytes(*len))..)
            .ok_or(Error::Malformed)?;
    }
    for flag in [FNAME, FCOMMENT] {
        if flags & flag != 0 {
            let end = rest.iter().position(|byte| *byte == 0).ok_or(Error::Malformed)?;
            rest = rest.get(end + 1..).ok_or(Error::Malformed)?;
        }
    }
    if flags & FHCRC != 0 {
        let (stated, behind) = rest.split_first_chunk::<2>().ok_or(Error::Malformed)?;
        let mut crc = Crc::new();
        crc.update(member.get(..member.len() - rest.len()).ok_or(Error::Malformed)?);
        let [low, high, ..] = crc.sum().to_le_bytes();
        if *stated != [low, high] {
            return Err(Error::Malformed);
        }
        rest = behind;
    }
    Ok(member.len() - rest.len())
}
