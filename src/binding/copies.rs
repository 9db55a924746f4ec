//! Copies of snapshots and of the whole repository: options in, a report out; all as JSON.

use super::archive::NativeRepository;
use super::monitor::OperationMonitor;
use super::stop::NativeStop;
use super::types::{self, HandleOptions, parse, to_json};
use crate::error::Result;
use crate::id::SnapshotId;
use crate::monitor::NullMonitor;
use crate::ops::{self, CopyOptions, CopyReport, MirrorOptions, MirrorReport};
#[cfg(feature = "remote")]
use crate::repo::RemoteOptions;
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, Function, PromiseRaw};
use napi_derive::napi;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

#[napi]
impl NativeRepository {
    /// Copies snapshots to the repository of another handle; resolves to the report.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn copy_to<'env>(
        &self,
        env: &'env Env,
        target: ClassInstance<'_, NativeRepository>,
        options: String,
        on_progress: Option<Function<'_, String, ()>>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let monitor = OperationMonitor::new(on_progress, stop)?;
        let target = target.handle().enter(None);
        self.handle().spawn(env, "ca-copy", move |repo| {
            let target = target?;
            let options = copy_options(&options)?;
            let copied = target.run("ca-copy-target", |other| ops::copy_to(repo, other, &options, &monitor));
            target.end(&copied);
            copy_json(&copied?)
        })
    }

    /// Mirrors the repository into the folder at `path`; resolves to the report.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn mirror_to<'env>(
        &self,
        env: &'env Env,
        path: String,
        options: String,
        on_progress: Option<Function<'_, String, ()>>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let monitor = OperationMonitor::new(on_progress, stop)?;
        self.handle().spawn(env, "ca-mirror", move |repo| {
            let json: MirrorJson = parse(&options)?;
            let handle = HandleOptions {
                threads: None,
                #[cfg(feature = "remote")]
                storage: json.storage,
            };
            let target = types::environment(&path, handle, Arc::clone(repo.executor()), Arc::new(NullMonitor))?;
            let options = MirrorOptions {
                delete: json.delete,
                dry_run: json.dry_run,
            };
            mirror_json(&ops::mirror_to(repo, &target, &options, &monitor)?)
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct MirrorJson {
    #[serde(default)]
    delete: bool,
    #[serde(default)]
    dry_run: bool,
    #[cfg(feature = "remote")]
    storage: Option<RemoteOptions>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CopyJson {
    #[serde(default)]
    snapshots: Vec<String>,
    /// JSON in itself, as listings take it.
    filter: String,
}

fn copy_options(options: &str) -> Result<CopyOptions> {
    let json: CopyJson = parse(options)?;
    let (filter, _) = types::filter(&json.filter)?;
    Ok(CopyOptions {
        snapshots: json.snapshots,
        filter,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CopyReportJson {
    copied: Vec<CopiedJson>,
    skipped: Vec<String>,
    failed: Vec<FailedJson>,
    original_bytes: u64,
    new_bytes: u64,
    stored_bytes: u64,
}

#[derive(Serialize)]
struct CopiedJson {
    from: String,
    to: String,
}

#[derive(Serialize)]
struct FailedJson {
    id: String,
    code: &'static str,
    message: String,
}

fn copy_json(report: &CopyReport) -> Result<String> {
    let copied = report.copied.iter().map(|copied| CopiedJson {
        from: copied.from.to_hex(),
        to: copied.to.to_hex(),
    });
    let failed = report.failed.iter().map(|(id, error)| FailedJson {
        id: id.to_hex(),
        code: error.code(),
        message: error.to_string(),
    });
    to_json(&CopyReportJson {
        copied: copied.collect(),
        skipped: hex(&report.skipped),
        failed: failed.collect(),
        original_bytes: report.original_bytes,
        new_bytes: report.new_bytes,
        stored_bytes: report.stored_bytes,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MirrorReportJson {
    snapshots: u64,
    copied_snapshots: Vec<String>,
    removed_snapshots: Vec<String>,
    copied_files: u64,
    copied_bytes: u64,
    removed_files: u64,
    removed_bytes: u64,
    rebuilt_packs: u64,
    dry_run: bool,
}

fn mirror_json(report: &MirrorReport) -> Result<String> {
    to_json(&MirrorReportJson {
        snapshots: report.snapshots,
        copied_snapshots: hex(&report.copied_snapshots),
        removed_snapshots: hex(&report.removed_snapshots),
        copied_files: report.copied_files,
        copied_bytes: report.copied_bytes,
        removed_files: report.removed_files,
        removed_bytes: report.removed_bytes,
        rebuilt_packs: report.rebuilt_packs,
        dry_run: report.dry_run,
    })
}

fn hex(ids: &[SnapshotId]) -> Vec<String> {
    ids.iter().map(SnapshotId::to_hex).collect()
}
