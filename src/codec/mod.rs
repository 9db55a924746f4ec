//! Compression of single chunks: gzip, zstd or none (format.md §5).
//!
//! Always true: the output of an [`Encoder`] is shorter than the chunk, or the chunk itself. A
//! [`Decoder`] returns exactly the expected length or an error, and never needs more memory than
//! that, whatever the bytes claim. Both keep their contexts, so that a worker has one of each and
//! allocates nothing for each chunk. The room does no I/O.

mod auto;
mod gzip;
mod zstd;

pub use auto::AutoLevel;

use std::fmt;

/// Largest chunk, raw or stored, in bytes: lengths are u24 (format.md §12).
pub const MAX_CHUNK_LEN: usize = 0xff_ffff;

/// The compression of new chunks; the levels are those of the encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// No compression.
    None,
    /// gzip (RFC 1952).
    Gzip {
        /// 1 (fast) to 9 (small).
        level: u32,
    },
    /// zstd (RFC 8878).
    Zstd {
        /// 1 (fast) to 19 (small).
        level: i32,
    },
    /// zstd at a level that an [`AutoLevel`] chooses; level 0 in `config.json`.
    ZstdAuto,
}

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip { level: 3 }
    }
}

impl Compression {
    /// Makes a setting from the name of the algorithm and a level, as in `config.json`; the default
    /// level is 3 for gzip and zstd. `none` takes level 0 or no level. [`Error::Unsupported`] for
    /// unknown names and levels out of range.
    pub fn parse(algorithm: &str, level: Option<i64>) -> Result<Self, Error> {
        let parsed = match algorithm {
            "none" if level.unwrap_or(0) == 0 => Self::None,
            "gzip" => Self::Gzip {
                level: u32::try_from(level.unwrap_or(3)).map_err(|_| Error::Unsupported)?,
            },
            "zstd" if level == Some(0) => Self::ZstdAuto,
            "zstd" => Self::Zstd {
                level: i32::try_from(level.unwrap_or(3)).map_err(|_| Error::Unsupported)?,
            },
            _ => return Err(Error::Unsupported),
        };
        parsed.validate()?;
        Ok(parsed)
    }

    /// Checks that the level is in range.
    pub fn validate(&self) -> Result<(), Error> {
        let fine = match self {
            Self::None | Self::ZstdAuto => true,
            Self::Gzip { level } => (1..=9).contains(level),
            Self::Zstd { level } => (1..=19).contains(level),
        };
        if fine { Ok(()) } else { Err(Error::Unsupported) }
    }

    /// Returns the name in `config.json`.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip { .. } => "gzip",
            Self::Zstd { .. } | Self::ZstdAuto => "zstd",
        }
    }

    /// Returns the level in `config.json`.
    pub fn level(&self) -> i32 {
        match self {
            Self::None | Self::ZstdAuto => 0,
            Self::Gzip { level } => i32::try_from(*level).unwrap_or(i32::MAX),
            Self::Zstd { level } => *level,
        }
    }
}

/// The compression of one stored chunk; the value is the number on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// Not compressed.
    Raw = 0,
    /// One gzip member.
    Gzip = 1,
    /// One zstd frame, without dictionary.
    Zstd = 2,
}

impl TryFrom<u8> for Codec {
    type Error = Error;

    fn try_from(number: u8) -> Result<Self, Error> {
        match number {
            0 => Ok(Self::Raw),
            1 => Ok(Self::Gzip),
            2 => Ok(Self::Zstd),
            _ => Err(Error::Unsupported),
        }
    }
}

impl From<Codec> for u8 {
    fn from(codec: Codec) -> u8 {
        codec as u8
    }
}

/// Why a setting was refused or bytes do not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A codec, algorithm or level that this version does not know.
    Unsupported,
    /// The bytes are damaged: not one whole gzip member or zstd frame, or its checksum does not
    /// match.
    Malformed,
    /// The bytes decode to fewer or more bytes than expected.
    WrongLength,
    /// Further bytes follow the member or frame.
    TrailingBytes,
    /// The system has no memory for a decoder; this indicates nothing about the bytes.
    NoMemory,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "Unknown compression algorithm, or its level is out of range",
            Self::Malformed => "The compressed data is damaged",
            Self::WrongLength => "The compressed data decodes to another length than stated",
            Self::TrailingBytes => "Unexpected bytes follow the compressed data",
            Self::NoMemory => "The system has no memory for a decoder",
        })
    }
}

impl std::error::Error for Error {}

/// Encodes chunks, one after the other. The compressed form of a chunk is the same as that of a new
/// encoder.
#[derive(Default)]
pub struct Encoder {
    gzip: gzip::Encoder,
    zstd: zstd::Encoder,
    out: Vec<u8>,
    /// The last result is in `out`.
    is_out: bool,
    /// zstd did not shrink the last chunk.
    was_raw: bool,
}

impl Encoder {
    /// Makes an encoder, which allocates its contexts when it first needs them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns the bytes to store for the chunk `raw`, and their codec: `raw` itself when the
    /// compressed form is not shorter, when `raw` looks random, or when the compressor fails (no
    /// memory, level out of range). zstd is quick with random data and slow with other data, so
    /// there the look is taken only after a chunk that did not shrink. Without an [`AutoLevel`],
    /// `ZstdAuto` is level 3.
    pub fn encode<'a>(&'a mut self, compression: Compression, raw: &'a [u8]) -> (Codec, &'a [u8]) {
        let (codec, shorter) = match compression {
            Compression::None => (Codec::Raw, false),
            Compression::Gzip { level } => (
                Codec::Gzip,
                !looks_random(raw) && self.gzip.encode(level, raw, &mut self.out),
            ),
            Compression::Zstd { .. } | Compression::ZstdAuto => {
                let level = match compression {
                    Compression::Zstd { level } => level,
                    _ => 3,
                };
                let tried = !(self.was_raw && looks_random(raw)) && self.zstd.encode(level, raw, &mut self.out);
                self.was_raw = !tried || self.out.len() >= raw.len();
                (Codec::Zstd, tried)
            }
        };
        self.is_out = shorter && self.out.len() < raw.len();
        self.last(codec, raw)
    }

    /// The result of the last call, which had this codec and this chunk.
    fn last<'a>(&'a self, codec: Codec, raw: &'a [u8]) -> (Codec, &'a [u8]) {
        if self.is_out {
            (codec, &self.out)
        } else {
            (Codec::Raw, raw)
        }
    }
}

/// Decodes chunks, one after the other.
#[derive(Default)]
pub struct Decoder {
    gzip: gzip::Decoder,
    zstd: zstd::Decoder,
}

impl Decoder {
    /// Makes a decoder, which allocates its contexts when it first needs them.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the content of `out` with the decoded chunk, which must have exactly `raw_len`
    /// bytes, at most [`MAX_CHUNK_LEN`]. After an error `out` is empty.
    pub fn decode(&mut self, codec: Codec, encoded: &[u8], raw_len: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        let result = if raw_len > MAX_CHUNK_LEN || codec == Codec::Raw && raw_len != encoded.len() {
            Err(Error::WrongLength)
        } else if codec == Codec::Zstd {
            self.zstd.decode_vec(encoded, raw_len, out)
        } else {
            // not cleared first: either every byte is overwritten, or the result is discarded
            out.resize(raw_len, 0);
            self.decode_to(codec, encoded, out)
        };
        if result.is_err() {
            out.clear();
        }
        result
    }

    /// Fills all of `out` with the decoded chunk, which must be exactly as long.
    pub fn decode_to(&mut self, codec: Codec, encoded: &[u8], out: &mut [u8]) -> Result<(), Error> {
        match codec {
            Codec::Raw if encoded.len() == out.len() => out.copy_from_slice(encoded),
            Codec::Raw => return Err(Error::WrongLength),
            Codec::Gzip => self.gzip.decode(encoded, out)?,
            Codec::Zstd => self.zstd.decode_to(encoded, out)?,
        }
        Ok(())
    }
}

/// Pieces of the entropy sample, spread over the chunk.
const SAMPLE_PIECES: usize = 8;
/// Length of a piece of the entropy sample: 4 KiB.
const SAMPLE_PIECE_LEN: usize = 4096;
/// Bits per byte above which compression is not worth its time (measured with deflate: 0.2 % of the
/// saving is lost).
const RANDOM_BITS: f64 = 7.9;

/// Returns `true` when a sample of the chunk has more than 7.9 bits of order-0 entropy per byte.
/// Deflate is slowest on such data and gains nothing.
fn looks_random(raw: &[u8]) -> bool {
    let mut counts = [0u32; 256];
    let mut count = |piece: &[u8]| piece.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    let mut sampled = raw.len();
    if raw.len() <= SAMPLE_PIECES * SAMPLE_PIECE_LEN {
        count(raw);
    } else {
        sampled = SAMPLE_PIECES * SAMPLE_PIECE_LEN;
        raw.chunks(raw.len() / SAMPLE_PIECES)
            .take(SAMPLE_PIECES)
            .for_each(|part| count(part.get(..SAMPLE_PIECE_LEN).unwrap_or(part)));
    }
    let total = sampled as f64;
    let bits: f64 = counts
        .iter()
        .filter(|n| **n > 0)
        .map(|n| f64::from(*n))
        .map(|n| n * (total / n).log2())
        .sum();
    bits > RANDOM_BITS * total
}

#[cfg(test)]
mod tests;
