//! Chooses the action for each pack: keep it, delete it, or copy the needed chunks out of it first.
//!
//! Packs that contain waste are rewritten, the most wasteful first, until the remaining waste is
//! less than the caller tolerates; small packs of similar size are gathered once there are enough
//! of them, so that each byte is gathered only a few times.

use super::packs::{Action, PackState};
use super::work::Work;
use std::collections::HashMap;

/// Number of small packs of one size and kind from which on they are gathered.
const GATHER: usize = 8;
/// A pack is small when it is shorter than the target length divided by this.
const SMALL: u64 = 4;

/// Chooses the actions, once the needed bytes of each pack are known. The first `named` packs are
/// in the index.
pub(super) fn choose(work: &Work<'_>, packs: &mut [PackState], named: usize) {
    let mut kept_bytes = 0u64;
    let mut waste = 0u64;
    let mut partly: Vec<usize> = Vec::new();
    for (ordinal, state) in packs.iter_mut().enumerate() {
        let may_change = state.is_listed() && !state.is_left_alone() && (state.good || ordinal >= named);
        if may_change && !state.is_needed() {
            state.action = Action::Delete;
            continue;
        }
        if state.condemned {
            continue;
        }
        if may_change && state.marked {
            // as long as it has canonical copies, new snapshots store them again
            kept_bytes += state.canonical;
            state.action = Action::Rewrite;
            continue;
        }
        kept_bytes += state.total;
        if may_change && state.waste() > 0 {
            waste += state.waste();
            partly.push(ordinal);
        }
    }
    // sorted by share of waste, the greatest first
    let share = |state: &PackState| (u128::from(state.waste()) << 32).checked_div(u128::from(state.total));
    partly.sort_by_key(|ordinal| std::cmp::Reverse(packs.get(*ordinal).and_then(share)));
    for ordinal in partly {
        // compared with the bytes that will remain: otherwise the next prune would find more waste
        // than allowed, and continue
        if waste <= (kept_bytes as f64 * work.options.max_unused) as u64 {
            break;
        }
        if let Some(state) = packs.get_mut(ordinal) {
            waste = waste.saturating_sub(state.waste());
            kept_bytes = kept_bytes.saturating_sub(state.waste());
            state.action = Action::Rewrite;
        }
    }
    if work.options.max_unused < 1.0 {
        gather(work, packs, named);
    }
}

/// Rewrites small packs of similar size and kind where there are many.
fn gather(work: &Work<'_>, packs: &mut [PackState], named: usize) {
    let small = work.repo.config().pack_size / SMALL;
    let mut tiers: HashMap<(bool, u32), Vec<usize>> = HashMap::new();
    for (ordinal, state) in packs.iter().enumerate().take(named) {
        let fits = state.is_listed() && state.good && !state.is_left_alone() && state.len < small;
        if fits && state.action != Action::Delete {
            let tier = state.len.max(1).ilog2() / 2;
            tiers.entry((state.has_data, tier)).or_default().push(ordinal);
        }
    }
    for ordinals in tiers.into_values().filter(|tier| tier.len() >= GATHER) {
        for ordinal in ordinals {
            if let Some(state) = packs.get_mut(ordinal) {
                state.action = Action::Rewrite;
            }
        }
    }
}
