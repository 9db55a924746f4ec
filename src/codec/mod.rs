//! Compression of one chunk at a time: gzip, zstd or none (format.md §5).
//!
//! What always holds: what an [`Encoder`] gives is never longer than the chunk, and exactly the chunk when it would not
//! be shorter; a [`Decoder`] gives exactly the length it was told to expect or an error, and never needs more memory than
//! that, whatever the bytes claim. Both keep their contexts, so a worker has one of each and allocates nothing per chunk.
//! Pure: no I/O. Which chunks there are and whether they are sealed is left to others.

mod gzip;
mod zstd;

use std::fmt;

/// Largest chunk, raw or stored, in bytes: a length is a u24 (format.md §12).
pub const MAX_CHUNK_LEN: usize = 0xff_ffff;

/// How chunks are to be stored; the levels are those of the encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As they are.
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
}

impl Default for Compression {
    fn default() -> Self {
        Self::Gzip { level: 3 }
    }
}

impl Compression {
    /// From the algorithm's name and a level, as in `config.json`; without a level, the algorithm's default (gzip 3,
    /// zstd 3). `None` takes level 0 or no level. Unknown names and levels out of range are [`Error::Unsupported`].
    pub fn parse(algorithm: &str, level: Option<i64>) -> Result<Self, Error> {
        let parsed = match algorithm {
            "none" if level.unwrap_or(0) == 0 => Self::None,
            "gzip" => Self::Gzip {
                level: u32::try_from(level.unwrap_or(3)).map_err(|_| Error::Unsupported)?,
            },
            "zstd" => Self::Zstd {
                level: i32::try_from(level.unwrap_or(3)).map_err(|_| Error::Unsupported)?,
            },
            _ => return Err(Error::Unsupported),
        };
        parsed.validate()?;
        Ok(parsed)
    }

    /// Checks the level.
    pub fn validate(&self) -> Result<(), Error> {
        let fine = match self {
            Self::None => true,
            Self::Gzip { level } => (1..=9).contains(level),
            Self::Zstd { level } => (1..=19).contains(level),
        };
        if fine { Ok(()) } else { Err(Error::Unsupported) }
    }

    /// Name in `config.json`.
    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip { .. } => "gzip",
            Self::Zstd { .. } => "zstd",
        }
    }

    /// Level in `config.json`.
    pub fn level(&self) -> i32 {
        match self {
            Self::None => 0,
            Self::Gzip { level } => i32::try_from(*level).unwrap_or(i32::MAX),
            Self::Zstd { level } => *level,
        }
    }
}

/// How one chunk is stored; the number on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
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

/// Why bytes do not decode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// A codec, algorithm or level that this version does not know.
    Unsupported,
    /// Not one whole gzip member or zstd frame, or its checksum does not match: damaged.
    Malformed,
    /// Decodes to fewer or more bytes than expected.
    WrongLength,
    /// Something stands behind the member or frame.
    TrailingBytes,
    /// The system gave no memory for a decoder; says nothing about the bytes.
    NoMemory,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "Unknown compression or level out of range",
            Self::Malformed => "The compressed data is damaged",
            Self::WrongLength => "The compressed data has another length than stated",
            Self::TrailingBytes => "There is something behind the compressed data",
            Self::NoMemory => "The system gave no memory for a decoder",
        })
    }
}

impl std::error::Error for Error {}

/// Encodes chunks, one after the other. Each gives the same bytes as with a new encoder.
#[derive(Default)]
pub struct Encoder {
    gzip: gzip::Encoder,
    zstd: zstd::Encoder,
    out: Vec<u8>,
}

impl Encoder {
    /// An encoder that has allocated nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The chunk `raw` as it is to be stored, with its codec: `raw` itself when nothing shorter was found, when it looks
    /// random (gzip only), or when the compressor failed (out of memory, level out of range).
    pub fn encode<'a>(&'a mut self, compression: Compression, raw: &'a [u8]) -> (Codec, &'a [u8]) {
        let (codec, shorter) = match compression {
            Compression::None => (Codec::Raw, false),
            Compression::Gzip { level } => (
                Codec::Gzip,
                !looks_random(raw) && self.gzip.encode(level, raw, &mut self.out),
            ),
            Compression::Zstd { level } => (Codec::Zstd, self.zstd.encode(level, raw, &mut self.out)),
        };
        if shorter && self.out.len() < raw.len() {
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
    /// A decoder that has allocated nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces the content of `out` by the chunk that `encoded` holds, which must have exactly `raw_len` bytes, at most
    /// [`MAX_CHUNK_LEN`]. After an error `out` is empty.
    pub fn decode(&mut self, codec: Codec, encoded: &[u8], raw_len: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        if raw_len > MAX_CHUNK_LEN {
            out.clear();
            return Err(Error::WrongLength);
        }
        let result = match codec {
            Codec::Raw if encoded.len() == raw_len => {
                out.clear();
                out.extend_from_slice(encoded);
                Ok(())
            }
            Codec::Raw => Err(Error::WrongLength),
            Codec::Gzip | Codec::Zstd => {
                // every byte is overwritten, or the result thrown away: what a vector in use again holds may stay
                out.resize(raw_len, 0);
                match codec {
                    Codec::Gzip => self.gzip.decode(encoded, out),
                    _ => self.zstd.decode(encoded, out),
                }
            }
        };
        if result.is_err() {
            out.clear();
        }
        result
    }
}

/// Pieces of the entropy sample, spread over the chunk.
const SAMPLE_PIECES: usize = 8;
/// Length of a piece of the entropy sample: 4 KiB.
const SAMPLE_PIECE_LEN: usize = 4096;
/// Bits per byte above which deflate gains nothing worth its time (0.2 % of the saving is lost, measured).
const RANDOM_BITS: f64 = 7.9;

/// True when a sample of the chunk has more than 7.9 bits of order-0 entropy per byte. Deflate takes its longest over just
/// such data, to no avail; zstd notices by itself.
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
