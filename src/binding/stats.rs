//! Statistics of a repository, as JSON.

use super::archive::NativeRepository;
use super::monitor::OperationMonitor;
use super::stop::NativeStop;
use super::types::to_json;
use crate::error::Result;
use crate::ops::{self, Stats};
use crate::repo::ConditionalPut;
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, PromiseRaw};
use napi_derive::napi;
use serde::Serialize;

#[napi]
impl NativeRepository {
    /// Computes the statistics; resolves to them.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn stats<'env>(
        &self,
        env: &'env Env,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let monitor = OperationMonitor::new(None, stop)?;
        self.handle()
            .spawn(env, "ca-stats", move |repo| stats_json(&ops::stats(repo, &monitor)?))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsJson {
    snapshots: u64,
    items: u64,
    original_bytes: u64,
    chunks: u64,
    unique_bytes: u64,
    stored_bytes: u64,
    dedup_ratio: Option<f64>,
    compression_ratio: Option<f64>,
    packs: u64,
    bytes: BytesJson,
    parity: Option<ParityJson>,
    object_storage: Option<ObjectStorageJson>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ObjectStorageJson {
    conditional_put: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BytesJson {
    total: u64,
    data_packs: u64,
    meta_packs: u64,
    pack_indexes: u64,
    parity: u64,
    index: u64,
    snapshots: u64,
    keys: u64,
    quarantine: u64,
    other: u64,
}

#[derive(Serialize)]
struct ParityJson {
    data: u8,
    parity: u8,
    groups: u64,
    bytes: u64,
    ratio: Option<f64>,
}

fn stats_json(stats: &Stats) -> Result<String> {
    let bytes = &stats.bytes;
    let json = StatsJson {
        snapshots: stats.snapshots,
        items: stats.items,
        original_bytes: stats.original_bytes,
        chunks: stats.chunks,
        unique_bytes: stats.unique_bytes,
        stored_bytes: stats.stored_bytes,
        dedup_ratio: stats.dedup_ratio(),
        compression_ratio: stats.compression_ratio(),
        packs: stats.packs,
        bytes: BytesJson {
            total: bytes.total(),
            data_packs: bytes.data_packs,
            meta_packs: bytes.meta_packs,
            pack_indexes: bytes.pack_indexes,
            parity: bytes.parity,
            index: bytes.index,
            snapshots: bytes.snapshots,
            keys: bytes.keys,
            quarantine: bytes.quarantine,
            other: bytes.other,
        },
        parity: stats.parity.map(|parity| ParityJson {
            data: parity.shape.data,
            parity: parity.shape.parity,
            groups: parity.groups,
            bytes: parity.bytes,
            ratio: parity.ratio(),
        }),
        object_storage: stats.object_storage.map(|service| ObjectStorageJson {
            conditional_put: service.conditional_put.map(ConditionalPut::name),
        }),
    };
    to_json(&json)
}
