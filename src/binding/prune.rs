//! Prune, forget and locks: a policy and options in, a report out; all as JSON.

use super::archive::NativeRepository;
use super::monitor::OperationMonitor;
use super::stop::NativeStop;
use super::types::{invalid, parse, to_json};
use crate::clock::format_time;
use crate::error::Result;
use crate::id::{PackId, SnapshotId};
use crate::ops::{self, PruneOptions, PruneReport, SnapshotChoice};
use crate::snapshot::retention::RetentionPolicy;
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, Function, PromiseRaw};
use napi_derive::napi;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[napi]
impl NativeRepository {
    /// Removes what a policy does not keep, or only plans it; resolves to the report.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn prune<'env>(
        &self,
        env: &'env Env,
        policy: String,
        options: String,
        on_progress: Option<Function<'_, String, ()>>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let monitor = OperationMonitor::new(on_progress, stop)?;
        self.handle().spawn(env, "ca-prune", move |repo| {
            let options = prune_options(&policy, &options)?;
            report_json(&ops::prune(repo, &options, &monitor)?)
        })
    }

    /// Forgets snapshots; resolves to the ids of those that existed.
    #[napi(ts_return_type = "Promise<Array<string>>")]
    pub fn forget<'env>(&self, env: &'env Env, ids: Vec<String>) -> napi::Result<PromiseRaw<'env, Vec<String>>> {
        self.handle().spawn(env, "ca-forget", move |repo| {
            let ids = ids.iter().map(|id| whole_id(id)).collect::<Result<Vec<_>>>()?;
            let forgotten = ops::forget(repo, &ids)?;
            Ok(forgotten.iter().map(SnapshotId::to_hex).collect())
        })
    }

    /// Returns the leases of all sessions, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn locks<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, String>> {
        self.handle().spawn(env, "ca-locks", move |repo| {
            let leases = ops::locks(repo)?;
            let locks = leases.into_iter().map(|lease| LockJson {
                session: lease.session.to_hex(),
                held: lease.held,
                operation: lease.operation,
                started_at: lease.started_at,
            });
            to_json(&locks.collect::<Vec<_>>())
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PruneJson {
    dry_run: Option<bool>,
    exclusive: Option<bool>,
    max_unused: Option<f64>,
    force: Option<bool>,
    wait: Option<bool>,
    tags: Option<BTreeMap<String, String>>,
}

fn prune_options(policy: &str, options: &str) -> Result<PruneOptions> {
    let json: PruneJson = parse(options)?;
    let default = PruneOptions::new(RetentionPolicy::from_json(policy)?);
    Ok(PruneOptions {
        tags: json.tags.unwrap_or_default(),
        dry_run: json.dry_run.unwrap_or(default.dry_run),
        exclusive: json.exclusive.unwrap_or(default.exclusive),
        max_unused: json.max_unused.unwrap_or(default.max_unused),
        force: json.force.unwrap_or(default.force),
        wait: json.wait.unwrap_or(default.wait),
        ..default
    })
}

fn whole_id(text: &str) -> Result<SnapshotId> {
    SnapshotId::from_hex(text).ok_or_else(|| invalid(format!("{text:?} is not a full snapshot id (32 hex digits)")))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct LockJson {
    session: String,
    held: bool,
    operation: Option<String>,
    started_at: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ReportJson<'a> {
    removed_snapshots: usize,
    removed_packs: u64,
    rewritten_packs: u64,
    freed_bytes: u64,
    pending_bytes: u64,
    dry_run: bool,
    keep: Vec<ChoiceJson<'a>>,
    remove: Vec<ChoiceJson<'a>>,
    time_zone: &'a str,
    warnings: &'a [String],
    unprotected_packs: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ChoiceJson<'a> {
    id: String,
    created_at: String,
    group: &'a BTreeMap<String, String>,
    /// Absent for a snapshot that is removed.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    reasons: &'a [String],
}

impl<'a> From<&'a SnapshotChoice> for ChoiceJson<'a> {
    fn from(choice: &'a SnapshotChoice) -> Self {
        Self {
            id: choice.id.to_hex(),
            created_at: format_time(choice.created_at_ms),
            group: &choice.group,
            reasons: &choice.reasons,
        }
    }
}

fn report_json(report: &PruneReport) -> Result<String> {
    to_json(&ReportJson {
        removed_snapshots: report.removed.len(),
        removed_packs: report.removed_packs,
        rewritten_packs: report.rewritten_packs,
        freed_bytes: report.freed_bytes,
        pending_bytes: report.pending_bytes,
        dry_run: report.dry_run,
        keep: report.kept.iter().map(ChoiceJson::from).collect(),
        remove: report.removed.iter().map(ChoiceJson::from).collect(),
        time_zone: &report.time_zone,
        warnings: &report.warnings,
        unprotected_packs: report.unprotected.iter().map(PackId::to_hex).collect(),
    })
}
