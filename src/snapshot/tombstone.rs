//! Tombstones: files under the name of a manifest that revoke its session (`docs/format.md` §8.6).
//!
//! A manifest is put only where there is no file of its name, so a session with a tombstone never
//! has a manifest. The bytes follow from the id alone: a tombstone that two processes put is one
//! file.

use serde::{Deserialize, Serialize};

use super::error::Error;
use super::model::VERSION;
use crate::checked_json;
use crate::id::SnapshotId;

/// Longest tombstone, in bytes. A longer file is not read to find out whether it is one.
pub const MAX_TOMBSTONE_LEN: u64 = 1024;

#[derive(Serialize, Deserialize)]
struct TombstoneJson {
    version: u64,
    id: String,
    revoked: bool,
}

/// Encodes the tombstone of a session.
pub fn encode(session: &SnapshotId) -> Result<Vec<u8>, Error> {
    let json = TombstoneJson {
        version: u64::from(VERSION),
        id: session.to_hex(),
        revoked: true,
    };
    let body = serde_json::to_string(&json).map_err(|_| Error::Invalid {
        reason: "a tombstone has no JSON form",
    })?;
    Ok(checked_json::finish(body).into_bytes())
}

/// Whether the file under the name of this manifest is a tombstone. A tombstone of a later version
/// is one too; that of another session is not.
pub fn is_tombstone(bytes: &[u8], session: &SnapshotId) -> bool {
    if bytes.len() as u64 > MAX_TOMBSTONE_LEN {
        return false;
    }
    let json = checked_json::verify(bytes).and_then(|text| serde_json::from_str::<TombstoneJson>(text).ok());
    json.is_some_and(|json| json.revoked && json.id == session.to_hex())
}

/// Whether damaged bytes were those of a tombstone: no manifest has its member.
pub fn was_tombstone(bytes: &[u8]) -> bool {
    let member = b"\"revoked\":";
    bytes.len() as u64 <= MAX_TOMBSTONE_LEN && bytes.windows(member.len()).any(|window| window == member)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: SnapshotId = SnapshotId([0xab; 16]);

    #[test]
    fn a_tombstone_has_its_golden_text() {
        let bytes = encode(&SESSION).unwrap();
        let start = format!(
            r#"{{"version":1,"id":"{}","revoked":true,"checksum":""#,
            "ab".repeat(16)
        );
        assert!(bytes.starts_with(start.as_bytes()));
        assert!(is_tombstone(&bytes, &SESSION));
        assert!(!is_tombstone(&bytes, &SnapshotId([0; 16])));
        let later = checked_json::finish(format!(r#"{{"version":2,"id":"{SESSION}","why":"x","revoked":true}}"#));
        assert!(is_tombstone(later.as_bytes(), &SESSION));
    }

    #[test]
    fn damaged_files_and_manifests_are_no_tombstones() {
        let bytes = encode(&SESSION).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(!is_tombstone(&flipped, &SESSION), "byte {at}");
            assert!(!is_tombstone(&bytes[..at], &SESSION), "cut at {at}");
        }
        for text in [
            format!(r#"{{"version":1,"id":"{SESSION}","revoked":false}}"#),
            format!(r#"{{"version":1,"id":"{SESSION}","sealed":{{}}}}"#),
            format!(
                r#"{{"version":1,"id":"{SESSION}","revoked":true,"x":"{}"}}"#,
                "y".repeat(1024)
            ),
        ] {
            assert!(!is_tombstone(checked_json::finish(text).as_bytes(), &SESSION));
        }
    }
}
