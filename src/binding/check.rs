//! Verify: options in, progress and problems while it runs, a report out; all as JSON.

use super::archive::NativeRepository;
use super::monitor::OperationMonitor;
use super::stop::NativeStop;
use super::types::{invalid, parse, to_json};
use crate::error::Result;
use crate::id::{ChunkId, PackId};
use crate::ops::{self, Problem, Subset, VerifyLevel, VerifyOptions, VerifyReport};
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, Function, PromiseRaw, Status};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use serde::{Deserialize, Serialize};

/// Unbounded: no problem may be dropped, and there is at most one for each damaged thing. Weak, as
/// in [`super::monitor`].
type ProblemFunction = ThreadsafeFunction<String, (), String, Status, false, true, 0>;

#[napi]
impl NativeRepository {
    /// Verifies the repository; resolves to the report.
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
        let monitor = OperationMonitor::new(on_progress, stop)?;
        let problems: Option<ProblemFunction> = on_problem.map(build_problem).transpose()?;
        self.handle().spawn(env, "ca-verify", move |repo| {
            let options = verify_options(&options)?;
            let mut on_problem = |problem: &Problem| {
                if let (Some(function), Ok(json)) = (&problems, to_json(&ProblemJson::from(problem))) {
                    function.call(json, ThreadsafeFunctionCallMode::NonBlocking);
                }
            };
            report_json(&ops::verify(repo, &options, &monitor, &mut on_problem)?)
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
    let json: VerifyJson = parse(json)?;
    let level = match json.level.as_str() {
        "quick" => VerifyLevel::Quick,
        "standard" => VerifyLevel::Standard,
        "full" => VerifyLevel::Full,
        other => return Err(invalid(format!("Unknown verify level {other:?}"))),
    };
    let subset = json.subset.map(|subset| {
        Subset::new(subset.part, subset.of)
            .ok_or_else(|| invalid(format!("The subset {} of {} does not exist", subset.part, subset.of)))
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
