//! The level of zstd by the data (`level: 'auto'`): now and then some chunks of a stream are
//! compressed at every level that is considered, and the cheapest one whose output is nearly the
//! smallest is used until the next trial.

use super::{Codec, Compression, Encoder};
use crate::sync::lock;
use std::sync::Mutex;

/// The levels that are considered, cheapest first. Data that does not shrink needs none of its own:
/// the encoder passes over it after a look at a sample.
const LEVELS: [i32; 2] = [1, 3];
/// Chunks of a trial.
const TRIAL: u32 = 4;
/// Chunks from the end of a trial to the next one. A trial costs two compressions instead of one,
/// so trials cost about 3 %.
const UNTIL_NEXT: u32 = 124;
/// How much larger than the smallest output that of a cheaper level may be, in percent.
const TOLERANCE_PERCENT: usize = 2;

/// Chooses for one ingest; its workers share it, and all its items.
pub struct AutoLevel {
    state: Mutex<State>,
}

struct State {
    level: i32,
    /// Chunks until the next trial; 0 during one.
    until_trial: u32,
    /// Chunks of the trial that have begun, and that have ended.
    begun: u32,
    ended: u32,
    /// Bytes of the trial at each level.
    lens: [usize; LEVELS.len()],
}

impl Default for AutoLevel {
    fn default() -> Self {
        let state = Mutex::new(State {
            level: 3,
            until_trial: 0,
            begun: 0,
            ended: 0,
            lens: [0; LEVELS.len()],
        });
        Self { state }
    }
}

impl AutoLevel {
    /// The level that is used now: 1 or 3.
    pub fn level(&self) -> i32 {
        lock(&self.state).level
    }

    /// Compresses a chunk as [`Encoder::encode`] does, at the level that is used now, or at all of
    /// them.
    pub fn encode<'a>(&self, encoder: &'a mut Encoder, raw: &'a [u8]) -> (Codec, &'a [u8]) {
        let level = {
            let mut state = lock(&self.state);
            if state.until_trial > 0 {
                state.until_trial -= 1;
                Some(state.level)
            } else if state.begun < TRIAL {
                state.begun += 1;
                None
            } else {
                Some(state.level) // other workers have the chunks of this trial
            }
        };
        let Some(level) = level else {
            return self.try_all(encoder, raw);
        };
        encoder.encode(Compression::Zstd { level }, raw)
    }

    fn try_all<'a>(&self, encoder: &'a mut Encoder, raw: &'a [u8]) -> (Codec, &'a [u8]) {
        let lens = LEVELS.map(|level| encoder.encode(Compression::Zstd { level }, raw).1.len());
        let mut state = lock(&self.state);
        for (sum, len) in state.lens.iter_mut().zip(lens) {
            *sum += len;
        }
        state.ended += 1;
        if state.ended == TRIAL {
            state.level = choose(&state.lens);
            state.until_trial = UNTIL_NEXT;
            (state.begun, state.ended, state.lens) = (0, 0, [0; LEVELS.len()]);
        }
        drop(state);
        encoder.last(Codec::Zstd, raw)
    }
}

fn choose(lens: &[usize; LEVELS.len()]) -> i32 {
    let smallest = lens.iter().copied().min().unwrap_or_default();
    let most = smallest.saturating_add(smallest / 100 * TOLERANCE_PERCENT);
    let cheapest = LEVELS.iter().zip(lens).find(|(_, len)| **len <= most);
    cheapest.map_or(3, |(level, _)| *level)
}
