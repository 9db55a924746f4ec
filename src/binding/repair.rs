//! Repair, reindex and unlock: progress while it runs, a report out; all as JSON.

use super::archive::NativeRepository;
use super::monitor::OperationMonitor;
use super::stop::NativeStop;
use super::types::to_json;
use crate::error::Result;
use crate::ops::{self, RepairOptions, RepairReport};
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, Function, PromiseRaw};
use napi_derive::napi;
use serde::Serialize;

#[napi]
impl NativeRepository {
    /// Repairs the repository; resolves to the report. `exclusive`: no other process uses it.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn repair<'env>(
        &self,
        env: &'env Env,
        exclusive: bool,
        on_progress: Option<Function<'_, String, ()>>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let monitor = OperationMonitor::new(on_progress, stop)?;
        let options = RepairOptions { exclusive };
        self.handle().spawn(env, "ca-repair", move |repo| {
            report_json(&ops::repair_with(repo, &options, &monitor)?)
        })
    }

    /// Rebuilds the global index.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn reindex<'env>(
        &self,
        env: &'env Env,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let monitor = OperationMonitor::new(None, stop)?;
        self.handle()
            .spawn(env, "ca-reindex", move |repo| ops::reindex(repo, &monitor))
    }

    /// Removes the leases of dead sessions, or all leases with `force`.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn unlock<'env>(&self, env: &'env Env, force: bool) -> napi::Result<PromiseRaw<'env, ()>> {
        self.handle()
            .spawn(env, "ca-unlock", move |repo| ops::unlock(repo, force).map(|_| ()))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportJson<'a> {
    index_rebuilt: bool,
    packs_repaired: u64,
    locks_removed: u64,
    idx_repaired: u64,
    manifests_restored: u64,
    member_indexes_rebuilt: u64,
    parity_repaired: u64,
    keys_repaired: u64,
    config_repaired: bool,
    chunks_salvaged: u64,
    quarantined: &'a [String],
    lost_chunks: u64,
    damaged_snapshots: Vec<SnapshotJson<'a>>,
}

#[derive(Serialize)]
struct SnapshotJson<'a> {
    id: String,
    items: Vec<ItemJson<'a>>,
}

#[derive(Serialize)]
struct ItemJson<'a> {
    name: &'a str,
    missing: &'a [(u64, u64)],
}

fn report_json(report: &RepairReport) -> Result<String> {
    let damaged = report.damaged_snapshots.iter().map(|snapshot| SnapshotJson {
        id: snapshot.id.to_hex(),
        items: snapshot
            .items
            .iter()
            .map(|item| ItemJson {
                name: &item.name,
                missing: &item.missing,
            })
            .collect(),
    });
    let json = ReportJson {
        index_rebuilt: report.index_rebuilt,
        packs_repaired: report.packs_repaired,
        locks_removed: report.locks_removed,
        idx_repaired: report.idx_repaired,
        manifests_restored: report.manifests_restored,
        member_indexes_rebuilt: report.member_indexes_rebuilt,
        parity_repaired: report.parity_repaired,
        keys_repaired: report.keys_repaired,
        config_repaired: report.config_repaired,
        chunks_salvaged: report.chunks_salvaged,
        quarantined: &report.quarantined,
        lost_chunks: report.lost_chunks,
        damaged_snapshots: damaged.collect(),
    };
    to_json(&json)
}
