//! Whether the service keeps a put from overwriting: `If-None-Match: *` of RFC 9110 §13.1.2 and its
//! likes. Some services ignore the condition and answer as if it had been met, so it is tried.
//!
//! One small object is kept for that. A service that honours the condition refuses to put it again;
//! one that ignores it overwrites it with the same bytes.

use super::super::{ConditionalPut, ErrorKind, Result};
use super::{Bucket, runtime};
use crate::sync::lock;
use object_store::{ObjectStore, PutMode, PutPayload};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

/// The object that is put twice.
pub(super) const KEY: &str = "locks/remote/conditional-put";
const BYTES: &[u8] = b"Shows whether this service refuses to overwrite an object. May be deleted.\n";

/// Asks once for each bucket and prefix in the life of the process.
pub(super) struct Probe {
    bucket: Arc<Bucket>,
}

static KNOWN: LazyLock<Mutex<HashMap<String, ConditionalPut>>> = LazyLock::new(Mutex::default);

impl Probe {
    pub(super) fn new(bucket: Arc<Bucket>) -> Self {
        Self { bucket }
    }

    /// The result, if the service was asked in this process.
    pub(super) fn known(&self) -> Option<ConditionalPut> {
        lock(&KNOWN).get(&self.bucket.name).copied()
    }

    /// The result, for which the service is asked unless it is known: one request where the
    /// condition is honoured, two elsewhere.
    pub(super) fn result(&self) -> Result<ConditionalPut> {
        if let Some(known) = self.known() {
            return Ok(known);
        }
        let result = self.ask()?;
        lock(&KNOWN).insert(self.bucket.name.clone(), result);
        Ok(result)
    }

    fn ask(&self) -> Result<ConditionalPut> {
        use object_store::Error as Store;
        let path = self.bucket.path(KEY);
        // the first one creates the object where it is missing
        for _ in 0..2 {
            let payload = PutPayload::from_static(BYTES);
            let put = self.bucket.store.put_opts(&path, payload, PutMode::Create.into());
            match runtime::block_on(put)? {
                Ok(_) => {}
                Err(Store::AlreadyExists { .. } | Store::Precondition { .. }) => return Ok(ConditionalPut::Honoured),
                Err(Store::NotImplemented { .. } | Store::NotSupported { .. }) => return Ok(ConditionalPut::Refused),
                Err(error) => {
                    let error = self.bucket.error("put", KEY, error);
                    return match error.kind {
                        ErrorKind::FilesystemUnsupported => Ok(ConditionalPut::Refused),
                        _ => Err(error),
                    };
                }
            }
        }
        Ok(ConditionalPut::Ignored)
    }
}
