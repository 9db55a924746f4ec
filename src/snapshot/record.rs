//! Records of snapshots that a repair must not restore (`docs/format.md` §8.4).
//!
//! Only the existence of the file matters; its contents are for users. So a repair treats a record
//! that does not decode like one that does.

use serde::{Deserialize, Serialize};

use super::error::{Error, damaged};
use super::model::{VERSION, parse_exact_time};
use crate::id::SnapshotId;
use crate::{checked_json, clock};

/// Longest record that is read, in bytes.
pub const MAX_RECORD_LEN: u64 = 64 << 10;

/// Why a snapshot must not be restored from its copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForgotReason {
    /// It was forgotten.
    Forgotten,
    /// Its ingest was abandoned after the copy of the manifest was written, and before the manifest
    /// was.
    Abandoned,
}

/// A record that a snapshot must not be restored from its copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForgotRecord {
    /// The snapshot.
    pub id: SnapshotId,
    /// The reason.
    pub reason: ForgotReason,
    /// Time of the record, in milliseconds since 1970-01-01T00:00:00Z.
    pub at_ms: i64,
}

#[derive(Serialize, Deserialize)]
struct RecordJson {
    version: u64,
    id: String,
    reason: ForgotReason,
    at: String,
}

#[derive(Deserialize)]
struct HeadJson {
    version: u64,
}

impl ForgotRecord {
    /// Encodes the file.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let json = RecordJson {
            version: u64::from(VERSION),
            id: self.id.to_hex(),
            reason: self.reason,
            at: clock::format_time(self.at_ms),
        };
        let body = serde_json::to_string(&json).map_err(|_| Error::Invalid {
            reason: "a record has no JSON form",
        })?;
        Ok(checked_json::finish(body).into_bytes())
    }

    /// Decodes the record of the snapshot `expected`. Fails with `Damaged` or `UnsupportedVersion`.
    pub fn decode(bytes: &[u8], expected: &SnapshotId) -> Result<Self, Error> {
        let Some(text) = checked_json::verify(bytes) else {
            return damaged("the checksum of a record is wrong");
        };
        let not_a_record = |_| Error::Damaged {
            reason: "a record is not valid JSON of its form",
        };
        let head: HeadJson = serde_json::from_str(text).map_err(not_a_record)?;
        if head.version != u64::from(VERSION) {
            return Err(Error::UnsupportedVersion(head.version));
        }
        let json: RecordJson = serde_json::from_str(text).map_err(not_a_record)?;
        if json.id != expected.to_hex() {
            return damaged("a record is that of another snapshot");
        }
        Ok(Self {
            id: *expected,
            reason: json.reason,
            at_ms: parse_exact_time(&json.at)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ForgotRecord {
        ForgotRecord {
            id: SnapshotId([0xab; 16]),
            reason: ForgotReason::Abandoned,
            at_ms: 1_795_398_300_123,
        }
    }

    #[test]
    fn a_record_has_its_golden_text_and_round_trips() {
        for (reason, word) in [
            (ForgotReason::Abandoned, "abandoned"),
            (ForgotReason::Forgotten, "forgotten"),
        ] {
            let record = ForgotRecord { reason, ..record() };
            let bytes = record.encode().unwrap();
            let start = format!(
                r#"{{"version":1,"id":"{}","reason":"{word}","at":"2026-11-23T01:45:00.123Z","checksum":""#,
                "ab".repeat(16)
            );
            assert!(bytes.starts_with(start.as_bytes()));
            assert_eq!(ForgotRecord::decode(&bytes, &record.id).unwrap(), record);
        }
    }

    #[test]
    fn decode_refuses_anything_but_the_record_of_that_snapshot() {
        let bytes = record().encode().unwrap();
        assert!(ForgotRecord::decode(&bytes, &SnapshotId([0; 16])).is_err());
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(ForgotRecord::decode(&flipped, &record().id).is_err(), "byte {at}");
        }
        let later = checked_json::finish(r#"{"version":2,"form":"new"}"#.into());
        assert_eq!(
            ForgotRecord::decode(later.as_bytes(), &record().id),
            Err(Error::UnsupportedVersion(2))
        );
    }
}
