//! Ids: one type for each kind, so that the id of a pack cannot be passed where that of a chunk is
//! expected.
//!
//! All are plain bytes with a lower-case hex form. `ChunkId` and `PackId` have 32 bytes, as
//! SHA-256; the others are 128 random bits (16 bytes).

use std::fmt;

/// Writes `bytes` as lower-case hex.
pub fn to_hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(DIGITS[usize::from(byte >> 4)] as char);
        text.push(DIGITS[usize::from(byte & 15)] as char);
    }
    text
}

/// Parses exactly `2 * N` lower-case hex digits; anything else is `None`.
pub fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != N * 2 {
        return None;
    }
    let mut out = [0u8; N];
    for (slot, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *slot = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(out)
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Returns the lower-case hex form, two digits for each byte.
            pub fn to_hex(&self) -> String {
                to_hex(&self.0)
            }

            /// Parses the exact lower-case hex form; `None` for any other text.
            pub fn from_hex(text: &str) -> Option<Self> {
                from_hex(text).map(Self)
            }

            /// Returns the bytes.
            pub fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.to_hex())
            }
        }
    };
}

id_type!(
    /// Id of a chunk: SHA-256 of its plaintext, or HMAC-SHA-256 in an encrypted repository.
    ChunkId, 32
);
id_type!(
    /// Id of a pack: SHA-256 of the pack file.
    PackId, 32
);
id_type!(
    /// Id of a repository, random at init.
    RepoId, 16
);
id_type!(
    /// Id of a snapshot, random; also the id of the session that makes it.
    SnapshotId, 16
);
id_type!(
    /// Id of a segment of the global index, random.
    SegmentId, 16
);
id_type!(
    /// Id of a key file, random.
    KeyId, 16
);
id_type!(
    /// Id of a parity group, random.
    GroupId, 16
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_other_text_is_refused() {
        let id = SnapshotId(*b"0123456789abcdef");
        assert_eq!(SnapshotId::from_hex(&id.to_hex()), Some(id));
        for bad in ["", "30", &"G".repeat(32), &"A".repeat(32), &"0".repeat(33), "é0"] {
            assert_eq!(SnapshotId::from_hex(bad), None, "{bad}");
        }
    }
}
