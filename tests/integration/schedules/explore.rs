//! The schedules that are tried: all with few preemptions, level by level, and seeded ones.
//!
//! A preemption takes the turn from a process that could continue. Switching away from a process
//! that has ended or waits is free, and each way to do it is tried. (Musuvathi and Qadeer,
//! *Iterative Context Bounding for Systematic Testing of Multithreaded Programs*, PLDI 2007: most
//! bugs need at most two preemptions.)

use super::turns::{Decision, Plan};

/// The maximum number of preemptions of a schedule.
const PREEMPTIONS: usize = 2;

/// Runs a plan. Returns its decisions, and the violation if there is one.
pub type Run<'a> = dyn Fn(&Plan) -> (Vec<Decision>, Option<String>) + 'a;

/// The counts and violations of an exploration.
#[derive(Debug, Default)]
pub struct Explored {
    /// The number of schedules that were run.
    pub runs: usize,
    /// Per number of preemptions: the schedules that were run, and those that exist below the
    /// schedules of the previous level.
    pub levels: Vec<(usize, usize)>,
    /// The longest run, in decisions.
    pub longest: usize,
    pub violations: Vec<String>,
}

/// Runs schedules with `run`, at most about `limit` for each number of preemptions, evenly spread.
/// Stops at the first violation if `hunt`.
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

/// Returns the plan, and the calls at which the turn passed to another process.
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
