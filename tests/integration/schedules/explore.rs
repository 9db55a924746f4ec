//! Which schedules are tried: all of few preemptions, level by level, and seeded ones.
//!
//! A preemption takes the turn from a process that could have gone on; switching away from one that has ended or waits
//! costs nothing, and each way to do that is tried. (Musuvathi and Qadeer, *Iterative Context Bounding for Systematic
//! Testing of Multithreaded Programs*, PLDI 2007: most mistakes need no more than two.)

use super::turns::{Decision, Plan};

/// Most preemptions of a schedule.
const PREEMPTIONS: usize = 2;

/// Runs a plan: the decisions that were taken, and what was wrong after it.
pub type Run<'a> = dyn Fn(&Plan) -> (Vec<Decision>, Option<String>) + 'a;

/// What was tried and found.
#[derive(Debug, Default)]
pub struct Explored {
    /// Schedules that were run.
    pub runs: usize,
    /// Per number of preemptions: schedules that were run, and that there are below those of the level above.
    pub levels: Vec<(usize, usize)>,
    /// The longest run, in decisions.
    pub longest: usize,
    pub violations: Vec<String>,
}

/// Runs schedules with `run`. At most about `limit`
/// for each number of preemptions, evenly spread; stops at the first violation if `hunt`.
pub fn explore(limit: usize, hunt: bool, run: &Run<'_>) -> Explored {
    let mut explored = Explored::default();
    let mut level: Vec<Vec<(usize, usize)>> = vec![Vec::new()];
    for _ in 0..=PREEMPTIONS {
        let there = level.len();
        let step = there.div_ceil(limit).max(1);
        let mut next = Vec::new();
        let mut pending: Vec<Vec<(usize, usize)>> = level.into_iter().step_by(step).collect();
        pending.reverse();
        let (mut tried, mut free) = (0, 0);
        while let Some(switches) = pending.pop() {
            let plan = Plan::Switches(switches.clone());
            let (decisions, violation) = run(&plan);
            tried += 1;
            explored.longest = explored.longest.max(decisions.len());
            if let Some(violation) = violation {
                explored
                    .violations
                    .push(format!("{violation}: {}", describe(&plan, &decisions)));
                if hunt {
                    explored.runs += tried;
                    return explored;
                }
            }
            let after = switches.last().map_or(0, |(at, _)| at + 1);
            for (at, decision) in decisions.iter().enumerate().skip(after) {
                for who in (0..8).filter(|who| decision.ready >> who & 1 == 1 && *who != decision.chosen) {
                    let mut more = switches.clone();
                    more.push((at, who));
                    if decision.current.is_some() {
                        next.push(more);
                    } else {
                        free += 1;
                        pending.push(more);
                    }
                }
            }
        }
        explored.runs += tried;
        explored.levels.push((tried, there + free));
        level = next;
    }
    explored
}

/// Runs seeded schedules.
pub fn explore_seeded(seeds: std::ops::Range<u64>, run: &Run<'_>) -> Explored {
    let mut explored = Explored::default();
    for seed in seeds {
        let plan = Plan::Seeded(seed);
        let (decisions, violation) = run(&plan);
        explored.runs += 1;
        explored.longest = explored.longest.max(decisions.len());
        if let Some(violation) = violation {
            explored
                .violations
                .push(format!("{violation}: {}", describe(&plan, &decisions)));
        }
    }
    explored
}

/// The plan, and the calls at which the turn went to another process.
fn describe(plan: &Plan, decisions: &[Decision]) -> String {
    let mut switches = Vec::new();
    let mut last = None;
    for (at, decision) in decisions.iter().enumerate() {
        if last != Some(decision.chosen) {
            switches.push(format!("{at} {} -> {}", decision.before, decision.chosen));
        }
        last = Some(decision.chosen);
    }
    let shown = switches.len().min(12);
    format!("{plan:?}, switches {:?}", &switches[..shown])
}
