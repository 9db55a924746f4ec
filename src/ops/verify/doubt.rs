//! Problems that may be no more than somebody else's work: a prune takes packs and groups away while a verify looks, a merge
//! takes segments.
//!
//! What always holds: only what is missing is doubted, a file or a name in the index. Each of several `quick` looks must find
//! it missing as well, with pauses between them: a writer that is put to sleep between two of its files looks just like one that
//! was killed there. Where files stay what they are and no session is at work, two looks are enough. A damaged file is a problem at
//! once.

use super::{Problem, Run, VerifyLevel, VerifyOptions};
use crate::crypto::sha256;
use crate::error::Result;
use crate::layout;
use crate::monitor::Monitor;
use crate::repo::Repository;
use std::time::Duration;

/// How long to wait before each further look. What is still missing then, each time, is a problem whatever others do.
const PAUSES_MS: [u64; 5] = [10, 40, 100, 200, 400];
/// Looks that are enough where nothing changes and no session is at work.
const ENOUGH: usize = 2;

/// Which files there are that a prune, a merge or an ingest makes and takes away. `None` when that cannot be told.
pub(super) type State = Option<[u8; 32]>;

/// The state now.
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
        // in any order: each name counts for itself
        for file in repo.storage().list(folder).ok()? {
            let name = sha256(&[file.key.as_bytes()]);
            sum.iter_mut().zip(name).for_each(|(sum, byte)| *sum ^= byte);
        }
    }
    Some(sum)
}

/// True for something missing that a prune or a merge may have taken away just then.
pub(super) fn is_doubtful(run: &Run<'_>, problem: &Problem) -> bool {
    match problem.code {
        "ERR_PACK_UNPROTECTED" | "ERR_MANIFEST_MISSING" => true,
        // what all segments say of a pack: one that was merged away meanwhile can be missed together with its successor
        "ERR_INDEX_CORRUPT" => problem.pack.is_some(),
        "ERR_PACK_MISSING" | "ERR_PARITY_CORRUPT" | "ERR_PACK_INDEX_CORRUPT" => {
            problem.path.as_ref().is_some_and(|path| !run.is_there(path))
        }
        _ => false,
    }
}

/// Tells the doubtful problems that stay. `before` is the state when the run began.
pub(super) fn resolve(run: &mut Run<'_>, before: State) -> Result<()> {
    let mut before = before;
    let mut doubtful = std::mem::take(&mut run.doubtful);
    for (look, wait) in PAUSES_MS.into_iter().map(Duration::from_millis).enumerate() {
        if doubtful.is_empty() {
            break;
        }
        pause(run, wait)?;
        let now = state(run.repo);
        let is_quiet = now.is_some() && now == before;
        if is_quiet && look >= ENOUGH && run.repo.writers().is_ok_and(|writers| writers.is_empty()) {
            break;
        }
        before = now;
        let monitor = Quiet(run.monitor);
        let options = VerifyOptions {
            level: VerifyLevel::Quick,
            subset: None,
        };
        let mut ignore = |_: &Problem| {};
        let mut look = Run::new(run.repo, options, &monitor, &mut ignore);
        look.check_everything()?;
        // where it could not look, it has not seen that all is well
        run.unread.borrow_mut().append(&mut look.unread.borrow_mut());
        let seen: Vec<&Problem> = look.doubtful.iter().chain(&look.report.problems).collect();
        doubtful.retain(|problem| seen.iter().any(|other| is_same(problem, other)));
    }
    for problem in doubtful {
        run.tell(problem);
    }
    Ok(())
}

/// Lets others go on. With a single thread there are none.
fn pause(run: &Run<'_>, wait: Duration) -> Result<()> {
    run.check_running()?;
    if !run.repo.executor().is_inline() {
        #[expect(
            clippy::disallowed_methods,
            reason = "what other processes do cannot be waited for in another way"
        )]
        std::thread::sleep(wait);
    }
    Ok(())
}

fn is_same(one: &Problem, other: &Problem) -> bool {
    (one.code, one.pack, &one.path) == (other.code, other.pack, &other.path)
}

/// Only asks whether to stop.
struct Quiet<'a>(&'a dyn Monitor);

impl Monitor for Quiet<'_> {
    fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}
