//! Processes that take turns at every storage call, in an order that is chosen and can be repeated.
//!
//! Exactly one process runs at a time. Before each of its calls, and before it frees a lock, it asks who is next; a
//! process that finds a lock taken yields until some lock is freed. So the order of calls is that of the plan, whatever
//! the machine does, and nothing waits for a clock. When all that are left wait for locks of each other, that is noted,
//! and their waits end as if time had run out.

use containerarchive::storage::{Created, Entry, LockGuard, LockMode, Result, Storage};
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Who runs next, for each decision in a row.
#[derive(Debug, Clone)]
pub enum Plan {
    /// Whoever runs goes on until it ends or has to wait, then the first one that can; but for these decisions.
    Switches(Vec<(usize, usize)>),
    /// By a repeatable die.
    Seeded(u64),
}

/// One decision.
#[derive(Debug, Clone, Copy)]
pub struct Decision {
    /// Who could have run, a bit each.
    pub ready: u8,
    /// Who ran before and could have gone on.
    pub current: Option<usize>,
    /// Who was chosen.
    pub chosen: usize,
    /// The call before which it was taken; `end` and `blocked` are none.
    pub before: &'static str,
}

/// What processes of one run share.
pub struct Turns {
    plan: Plan,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Calls are ordered only while the run is on.
    is_on: bool,
    running: usize,
    conditions: Vec<Condition>,
    decisions: Vec<Decision>,
    deadlocked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Ready,
    /// Waits for a lock.
    Blocked,
    Ended,
}

impl State {
    fn ready(&self) -> u8 {
        let ready = self.conditions.iter().enumerate();
        ready
            .filter(|(_, condition)| **condition == Condition::Ready)
            .fold(0, |mask, (who, _)| mask | 1 << who)
    }

    fn unblock(&mut self) {
        for condition in &mut self.conditions {
            if *condition == Condition::Blocked {
                *condition = Condition::Ready;
            }
        }
    }

    /// Chooses who runs from here on.
    fn decide(&mut self, plan: &Plan, current: Option<usize>, before: &'static str) {
        if self.ready() == 0 && self.conditions.contains(&Condition::Blocked) {
            self.deadlocked = true;
            self.unblock();
        }
        let ready = self.ready();
        if ready == 0 {
            return;
        }
        let number = self.decisions.len();
        let is_ready = |who: usize| ready >> who & 1 == 1;
        let current = current.filter(|who| is_ready(*who));
        let usual = current.unwrap_or(ready.trailing_zeros() as usize);
        let wanted = match plan {
            Plan::Switches(switches) => switches.iter().find(|(at, _)| *at == number).map(|(_, who)| *who),
            Plan::Seeded(seed) => roll(*seed, number, self.conditions.len()),
        };
        let chosen = wanted.filter(|who| is_ready(*who)).unwrap_or(usual);
        self.decisions.push(Decision {
            ready,
            current,
            chosen,
            before,
        });
        self.running = chosen;
    }
}

/// Some runs switch at every second call, others hardly ever.
fn roll(seed: u64, number: usize, processes: usize) -> Option<usize> {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&number.to_le_bytes(), seed);
    let rarity = [1u64, 3, 8, 20, 60][(seed % 5) as usize];
    hash.is_multiple_of(rarity).then_some((hash >> 32) as usize % processes)
}

impl Turns {
    /// For so many processes. Their calls pass freely until [`start`](Self::start).
    pub fn new(plan: Plan, processes: usize) -> Arc<Self> {
        let state = State {
            conditions: vec![Condition::Ready; processes],
            ..State::default()
        };
        Arc::new(Self {
            plan,
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on calls are ordered. Chooses who begins.
    pub fn start(&self) {
        let mut state = self.state();
        state.is_on = true;
        state.decide(&self.plan, None, "start");
    }

    /// Calls pass freely again. Every decision that was taken, and whether processes waited for each other.
    pub fn stop(&self) -> (Vec<Decision>, bool) {
        let mut state = self.state();
        state.is_on = false;
        (std::mem::take(&mut state.decisions), state.deadlocked)
    }

    /// Makes the calling thread process number `me`: waits for its first turn.
    pub fn enter(&self, me: usize) -> Part<'_> {
        self.wait(self.state(), me);
        Part(self, me)
    }

    fn wait(&self, mut state: MutexGuard<'_, State>, me: usize) {
        while state.is_on && state.running != me {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn before_call(&self, me: usize, call: &'static str) {
        let mut state = self.state();
        if state.is_on {
            state.decide(&self.plan, Some(me), call);
            self.changed.notify_all();
            self.wait(state, me);
        }
    }

    /// Yields until some lock was freed. `false`: nobody can free one any more.
    fn blocked(&self, me: usize) -> bool {
        let mut state = self.state();
        if !state.is_on || state.deadlocked {
            return false;
        }
        state.conditions[me] = Condition::Blocked;
        state.decide(&self.plan, None, "blocked");
        self.changed.notify_all();
        self.wait(state, me);
        !self.state().deadlocked
    }

    fn lock_freed(&self) {
        self.state().unblock();
    }
}

/// A process at work; ends when dropped.
pub struct Part<'a>(&'a Turns, usize);

impl Drop for Part<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.conditions[self.1] = Condition::Ended;
        state.decide(&self.0.plan, None, "end");
        self.0.changed.notify_all();
    }
}

/// The store as one process sees it.
pub struct TurnStorage {
    pub inner: Arc<dyn Storage>,
    pub turns: Arc<Turns>,
    pub me: usize,
}

impl TurnStorage {
    fn turn(&self, call: &'static str) -> &dyn Storage {
        self.turns.before_call(self.me, call);
        self.inner.as_ref()
    }

    fn hold(&self, inner: Box<dyn LockGuard>) -> Box<dyn LockGuard> {
        Box::new(Held {
            inner: Some(inner),
            turns: Arc::clone(&self.turns),
            me: self.me,
        })
    }
}

/// A lock or lease, whose freeing is a call like any other.
struct Held {
    inner: Option<Box<dyn LockGuard>>,
    turns: Arc<Turns>,
    me: usize,
}

impl LockGuard for Held {
    fn leave(&self) {
        if let Some(inner) = &self.inner {
            inner.leave();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.turns.before_call(self.me, "unlock");
        self.inner = None;
        self.turns.lock_freed();
    }
}

impl Storage for TurnStorage {
    fn put_new(&self, key: &str, len: u64, reader: &mut dyn Read) -> Result<Created> {
        self.turn("put_new").put_new(key, len, reader)
    }

    fn get(&self, key: &str, max_len: u64) -> Result<Vec<u8>> {
        self.turn("get").get(key, max_len)
    }

    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        self.turn("get_range").get_range(key, offset, out)
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        self.turn("size").size(key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        self.turn("list").list(prefix)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.turn("delete").delete(key)
    }

    fn barrier(&self) -> Result<()> {
        self.turn("barrier").barrier()
    }

    fn lease(&self, key: &str, bytes: &[u8]) -> Result<Box<dyn LockGuard>> {
        Ok(self.hold(self.turn("lease").lease(key, bytes)?))
    }

    fn lease_held(&self, key: &str) -> Result<Option<bool>> {
        self.turn("lease_held").lease_held(key)
    }

    fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> Result<Option<Box<dyn LockGuard>>> {
        self.turns.before_call(self.me, "lock");
        loop {
            if let Some(guard) = self.inner.lock(key, mode, Duration::ZERO)? {
                return Ok(Some(self.hold(guard)));
            }
            if wait.is_zero() || !self.turns.blocked(self.me) {
                return Ok(None);
            }
        }
    }

    fn probe_locks(&self, key: &str) -> Result<()> {
        self.turn("probe_locks").probe_locks(key)
    }

    fn replace_damaged(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.turn("replace_damaged").replace_damaged(key, bytes)
    }

    fn quarantine(&self, key: &str) -> Result<()> {
        self.turn("quarantine").quarantine(key)
    }

    fn root(&self) -> Result<containerarchive::storage::Root> {
        // changes nothing that others could see
        self.inner.root()
    }

    fn include_in_barrier(&self, prefix: &str) {
        // changes nothing that others could see
        self.inner.include_in_barrier(prefix);
    }

    fn clean_temporary(&self, prefix: &str) -> Result<u64> {
        self.turn("clean_temporary").clean_temporary(prefix)
    }

    fn create_folders(&self, folders: &[&str], allowed: &[&str]) -> Result<bool> {
        self.turn("create_folders").create_folders(folders, allowed)
    }
}
