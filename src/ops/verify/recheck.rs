//! Rechecks problems that may only be an effect of another process: a prune deletes packs and
//! groups while a verify runs, a merge deletes segments.
//!
//! Invariant: only a missing file, or a missing name in the index, is rechecked. Each of several
//! `quick` passes must find it missing as well, with pauses between them: a writer that is
//! suspended between two of its files looks exactly like one that was killed there. Where the files
//! do not change and no session is active, two passes are enough. A damaged file is reported at
//! once.

use super::{Problem, Run, VerifyLevel, VerifyOptions};
use crate::crypto::sha256;
use crate::error::Result;
use crate::layout;
use crate::monitor::Monitor;
use crate::repo::Repository;
use std::time::Duration;

/// Pause before each further pass, in milliseconds. A file that every pass finds missing is a
/// problem, whatever other processes do.
const PAUSES_MS: [u64; 5] = [10, 40, 100, 200, 400];
/// Passes that are enough where nothing changes and no session is active.
const ENOUGH: usize = 2;

/// Digest of the names of all files that a prune, a merge or an ingest creates and deletes. `None`
/// when a folder cannot be listed.
pub(super) type State = Option<[u8; 32]>;

/// Computes the current state.
pub(super) fn state(repo: &Repository) -> State {
    let mut sum = [0u8; 32];
    for folder in [
        layout::DATA,
        layout::PARITY,
        layout::INDEX,
        layout::RECORDS,
        layout::SNAPSHOTS,
        layout::LOCKS,
    ] {
        // XOR of the hashes: the order of the listing does not matter
        for file in repo.storage().list(folder).ok()? {
            let name = sha256(&[file.key.as_bytes()]);
            sum.iter_mut().zip(name).for_each(|(sum, byte)| *sum ^= byte);
        }
    }
    Some(sum)
}

/// True for a missing file or name that a prune or a merge may have deleted at that moment.
pub(super) fn needs_recheck(run: &Run<'_>, problem: &Problem) -> bool {
    match problem.code {
        "ERR_PACK_UNPROTECTED" | "ERR_MANIFEST_MISSING" => true,
        // the problem compares a pack with all segments: a segment that was concurrently merged
        // away can be missed together with its successor
        "ERR_INDEX_CORRUPT" => problem.pack.is_some(),
        "ERR_PACK_MISSING" | "ERR_PARITY_CORRUPT" | "ERR_PACK_INDEX_CORRUPT" => {
            problem.path.as_ref().is_some_and(|path| !run.is_there(path))
        }
        _ => false,
    }
}

/// Reports the unconfirmed problems that every pass finds. `before` is the state when the run
/// began.
pub(super) fn resolve(run: &mut Run<'_>, before: State) -> Result<()> {
    let mut before = before;
    let mut unconfirmed = std::mem::take(&mut run.unconfirmed);
    for (passes, wait) in PAUSES_MS.into_iter().map(Duration::from_millis).enumerate() {
        if unconfirmed.is_empty() {
            break;
        }
        pause(run, wait)?;
        let now = state(run.repo);
        let is_quiet = now.is_some() && now == before;
        if is_quiet && passes >= ENOUGH && run.repo.writers().is_ok_and(|writers| writers.is_empty()) {
            break;
        }
        before = now;
        let monitor = Quiet(run.monitor);
        let options = VerifyOptions {
            level: VerifyLevel::Quick,
            subset: None,
        };
        let mut ignore = |_: &Problem| {};
        let mut pass = Run::new(run.repo, options, &monitor, &mut ignore);
        pass.check_everything()?;
        // a folder or file that this pass could not read was not checked
        run.unread.borrow_mut().append(&mut pass.unread.borrow_mut());
        let seen: Vec<&Problem> = pass.unconfirmed.iter().chain(&pass.report.problems).collect();
        unconfirmed.retain(|problem| seen.iter().any(|other| is_same(problem, other)));
    }
    for problem in unconfirmed {
        run.report_problem(problem);
    }
    Ok(())
}

/// Lets other processes and threads proceed. An inline executor has none.
fn pause(run: &Run<'_>, wait: Duration) -> Result<()> {
    run.check_running()?;
    if !run.repo.executor().is_inline() {
        #[expect(
            clippy::disallowed_methods,
            reason = "there is no other way to wait for other processes"
        )]
        std::thread::sleep(wait);
    }
    Ok(())
}

fn is_same(one: &Problem, other: &Problem) -> bool {
    (one.code, one.pack, &one.path) == (other.code, other.pack, &other.path)
}

/// Passes on cancellation only; reports no progress.
struct Quiet<'a>(&'a dyn Monitor);

impl Monitor for Quiet<'_> {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}
