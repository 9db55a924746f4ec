//! zstd (RFC 8878): one frame with its content size, without a checksum or a dictionary.
//!
//! Decoding is one call that writes directly into the output: no window is allocated, whatever
//! window size a frame states.

use super::Error;
use ::zstd::zstd_safe::{
    CCtx, CParameter, DCtx, WriteBuf, compress_bound, find_frame_compressed_size, get_frame_content_size,
};

/// Magic of a frame with data; skippable frames have others.
const MAGIC: [u8; 4] = 0xfd2f_b528_u32.to_le_bytes();

/// A zstd encoder that keeps one context, with the level last used. (The contexts of `zstd::bulk`
/// panic without memory.)
#[derive(Default)]
pub(super) struct Encoder {
    context: Option<(i32, CCtx<'static>)>,
}

impl Encoder {
    /// Replaces the content of `out` by the frame, and says whether that worked.
    pub(super) fn encode(&mut self, level: i32, raw: &[u8], out: &mut Vec<u8>) -> bool {
        if !(1..=19).contains(&level) {
            return false;
        }
        let Some(context) = self.context(level) else {
            return false;
        };
        out.clear();
        // with less room than the bound, the output could depend on the room
        out.reserve(compress_bound(raw.len()));
        let fine = context.compress2(out, raw).is_ok();
        if !fine {
            self.context = None; // it has an unfinished frame
        }
        fine
    }

    fn context(&mut self, level: i32) -> Option<&mut CCtx<'static>> {
        let (kept, context) = match &mut self.context {
            Some(kept) => kept,
            none => none.insert((0, CCtx::try_create()?)),
        };
        if *kept != level {
            context.set_parameter(CParameter::CompressionLevel(level)).ok()?;
            *kept = level;
        }
        Some(context)
    }
}

/// A zstd decoder that keeps one context.
#[derive(Default)]
pub(super) struct Decoder {
    context: Option<DCtx<'static>>,
}

impl Decoder {
    /// Fills all of `out` from `encoded`, which must be exactly one frame.
    pub(super) fn decode_to(&mut self, encoded: &[u8], out: &mut [u8]) -> Result<(), Error> {
        let len = out.len();
        self.decode(encoded, len, out)
    }

    /// Replaces the content of `out` by the `len` bytes of `encoded`, which must be exactly one
    /// frame. After an error the content is undefined.
    pub(super) fn decode_vec(&mut self, encoded: &[u8], len: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        // the bytes need not be set before they are overwritten
        out.clear();
        out.reserve(len);
        self.decode(encoded, len, out)
    }

    fn decode<B: WriteBuf + ?Sized>(&mut self, encoded: &[u8], len: usize, out: &mut B) -> Result<(), Error> {
        if !encoded.starts_with(&MAGIC) {
            return Err(Error::Malformed);
        }
        // the decompressor would continue with a next frame, so there must be none
        match find_frame_compressed_size(encoded) {
            Ok(len) if len == encoded.len() => {}
            Ok(len) if len < encoded.len() => return Err(Error::TrailingBytes),
            _ => return Err(Error::Malformed),
        }
        let stated = get_frame_content_size(encoded).map_err(|_| Error::Malformed)?;
        if stated.is_some_and(|stated| usize::try_from(stated).ok() != Some(len)) {
            return Err(Error::WrongLength);
        }
        let context = match &mut self.context {
            Some(context) => context,
            none => none.insert(DCtx::try_create().ok_or(Error::NoMemory)?),
        };
        match context.decompress(out, encoded) {
            Ok(written) if written == len => Ok(()),
            Ok(_) => Err(Error::WrongLength),
            // a frame without a content size may decode to more than `out` has room for; that is
            // reported as damage too
            Err(_) => Err(Error::Malformed),
        }
    }
}
