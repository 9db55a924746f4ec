//! A verify: options in, progress and problems as they come, a report out; all of it as JSON.

use super::archive::NativeRepository;
use super::stop::{NativeStop, Stop};
use super::types;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId};
use crate::monitor::{Monitor, Progress};
use crate::ops::{self, Problem, Subset, VerifyLevel, VerifyOptions, VerifyReport};
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, Function, PromiseRaw, Status};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Weak: a listener alone keeps no process alive.
type ProgressFunction = ThreadsafeFunction<String, (), String, Status, false, true, 16>;
/// Not bounded: no problem may be dropped, and there are no more of them than things that are damaged.
type ProblemFunction = ThreadsafeFunction<String, (), String, Status, false, true, 0>;

/// What an operation without bytes of its own tells JavaScript: how far it is, and whether it should stop.
pub(super) struct CheckMonitor {
    progress: Option<ProgressFunction>,
    stop: Arc<Stop>,
}

impl CheckMonitor {
    /// Tells `on_progress`, listens to `stop`.
    pub(super) fn new(
        on_progress: Option<Function<'_, String, ()>>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<Self> {
        let build = |function: Function<'_, String, ()>| {
            let builder = function.build_threadsafe_function::<String>();
            let builder = builder.callee_handled::<false>().weak::<true>();
            builder.max_queue_size::<16>().build()
        };
        Ok(Self {
            progress: on_progress.map(build).transpose()?,
            stop: stop.map(|stop| stop.stop_handle()).unwrap_or_default(),
        })
    }
}

impl Monitor for CheckMonitor {
    fn progress(&self, progress: &Progress) {
        if let Some(function) = &self.progress {
            // dropped when JS is behind: the next one says more anyway
            function.call(types::progress_json(progress), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stop.is_stopped()
    }

    fn begin_commit(&self) -> bool {
        self.stop.begin_commit()
    }

    fn end_commit(&self) {
        self.stop.end_commit();
    }
}

#[napi]
impl NativeRepository {
    /// Verifies the repository; the promise gives the report.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn verify<'env>(
        &self,
        env: &'env Env,
        options: String,
        on_progress: Option<Function<'_, String, ()>>,
        on_problem: Option<Function<'_, String, ()>>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let build_problem = |function: Function<'_, String, ()>| {
            let builder = function.build_threadsafe_function::<String>();
            builder.callee_handled::<false>().weak::<true>().build()
        };
        let monitor = CheckMonitor::new(on_progress, stop)?;
        let problems: Option<ProblemFunction> = on_problem.map(build_problem).transpose()?;
        self.handle().spawn(env, "ca-verify", move |repo| {
            let options = verify_options(&options)?;
            let mut tell = |problem: &Problem| {
                if let (Some(function), Ok(json)) = (&problems, to_json(&ProblemJson::from(problem))) {
                    function.call(json, ThreadsafeFunctionCallMode::NonBlocking);
                }
            };
            report_json(&ops::verify(repo, &options, &monitor, &mut tell)?)
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerifyJson {
    level: String,
    subset: Option<SubsetJson>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SubsetJson {
    part: u32,
    of: u32,
}

fn verify_options(json: &str) -> Result<VerifyOptions> {
    let invalid = |reason: String| Error::InvalidArgument { reason };
    let json: VerifyJson =
        serde_json::from_str(json).map_err(|error| invalid(format!("The options cannot be read: {error}")))?;
    let level = match json.level.as_str() {
        "quick" => VerifyLevel::Quick,
        "standard" => VerifyLevel::Standard,
        "full" => VerifyLevel::Full,
        other => return Err(invalid(format!("There is no level {other:?}"))),
    };
    let subset = json.subset.map(|subset| {
        Subset::new(subset.part, subset.of)
            .ok_or_else(|| invalid(format!("There is no part {} of {}", subset.part, subset.of)))
    });
    Ok(VerifyOptions {
        level,
        subset: subset.transpose()?,
    })
}

#[derive(Serialize)]
struct ProblemJson<'a> {
    code: &'a str,
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pack: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
    snapshots: Vec<String>,
    items: Vec<ItemJson<'a>>,
    healable: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemJson<'a> {
    snapshot_id: String,
    item: &'a str,
}

#[derive(Serialize)]
struct NoteJson<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pack: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StatsJson {
    packs_checked: u64,
    chunks_checked: u64,
    snapshots_checked: u64,
}

#[derive(Serialize)]
struct ReportJson<'a> {
    ok: bool,
    errors: Vec<ProblemJson<'a>>,
    notes: Vec<NoteJson<'a>>,
    stats: StatsJson,
}

impl<'a> From<&'a Problem> for ProblemJson<'a> {
    fn from(problem: &'a Problem) -> Self {
        let items = problem.items.iter().map(|(snapshot, item)| ItemJson {
            snapshot_id: snapshot.to_hex(),
            item,
        });
        Self {
            code: problem.code,
            error: &problem.text,
            pack: problem.pack.as_ref().map(PackId::to_hex),
            chunk: problem.chunk.as_ref().map(ChunkId::to_hex),
            path: problem.path.as_deref(),
            snapshots: problem.snapshots.iter().map(|snapshot| snapshot.to_hex()).collect(),
            items: items.collect(),
            healable: problem.healable,
        }
    }
}

fn report_json(report: &VerifyReport) -> Result<String> {
    let notes = report.notes.iter().map(|note| NoteJson {
        code: note.code,
        message: &note.text,
        pack: note.pack.as_ref().map(PackId::to_hex),
        path: note.path.as_deref(),
    });
    to_json(&ReportJson {
        ok: report.ok(),
        errors: report.problems.iter().map(ProblemJson::from).collect(),
        notes: notes.collect(),
        stats: StatsJson {
            packs_checked: report.stats.packs_checked,
            chunks_checked: report.stats.chunks_checked,
            snapshots_checked: report.stats.snapshots_checked,
        },
    })
}

fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal {
        reason: error.to_string(),
    })
}
