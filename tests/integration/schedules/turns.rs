//! Processes that take turns at every storage call, in a chosen and repeatable order.
//!
//! Exactly one process runs at a time. Before each of its calls, and before it releases a lock, it
//! asks which process is next; a process that finds a lock taken yields until some lock is
//! released. So the order of calls is that of the plan, independent of the machine, and nothing
//! waits for a clock. If all remaining processes wait for each other's locks, this is recorded, and
//! their waits end as if they had timed out.

use containerarchive::storage::{ConditionalPut, Created, Entry, LockGuard, LockMode, Result, Storage};
use std::io::Read;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Selects the process that runs next, for each decision.
#[derive(Debug, Clone)]
pub enum Plan {
    /// The running process continues until it ends or has to wait, then the first ready one runs;
    /// except at these decisions.
    Switches(Vec<(usize, usize)>),
    /// Pseudo-random, from this seed.
    Seeded(u64),
}

/// One decision.
#[derive(Debug, Clone, Copy)]
pub struct Decision {
    /// The processes that could run, one bit each.
    pub ready: u8,
    /// The process that ran before, if it could continue.
    pub current: Option<usize>,
    /// The chosen process.
    pub chosen: usize,
    /// The call before which the decision was taken; `end` and `blocked` are not calls.
    pub before: &'static str,
}

/// Shared by the processes of one run.
pub struct Turns {
    plan: Plan,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether the run has started. Only then are calls ordered.
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

    /// Selects the process that runs from now on.
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

/// Some runs switch at every second call, others rarely.
fn roll(seed: u64, number: usize, processes: usize) -> Option<usize> {
    let hash = xxhash_rust::xxh3::xxh3_64_with_seed(&number.to_le_bytes(), seed);
    let rarity = [1u64, 3, 8, 20, 60][(seed % 5) as usize];
    hash.is_multiple_of(rarity).then_some((hash >> 32) as usize % processes)
}

impl Turns {
    /// Creates the turns of this many processes. Their calls are not ordered until
    /// [`start`](Self::start).
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

    /// Orders calls from now on, and selects the first process.
    pub fn start(&self) {
        let mut state = self.state();
        state.is_on = true;
        state.decide(&self.plan, None, "start");
    }

    /// Stops ordering calls. Returns every decision, and whether there was a deadlock.
    pub fn stop(&self) -> (Vec<Decision>, bool) {
        let mut state = self.state();
        state.is_on = false;
        (std::mem::take(&mut state.decisions), state.deadlocked)
    }

    /// Registers the calling thread as process number `me` and waits for its first turn.
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

    /// Yields until some lock is released. Returns `false` if no process can release one.
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

/// The turn of a process in the run. It ends when dropped.
pub struct Part<'a>(&'a Turns, usize);

impl Drop for Part<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.conditions[self.1] = Condition::Ended;
        state.decide(&self.0.plan, None, "end");
        self.0.changed.notify_all();
    }
}

/// The store as seen by one process.
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

/// A lock or lease whose release is ordered like a call.
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
        // changes nothing that other processes can see
        self.inner.root()
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn conditional_put(&self) -> Option<ConditionalPut> {
        self.inner.conditional_put()
    }

    fn probe_conditional_put(&self) -> Result<ConditionalPut> {
        // changes nothing that other processes can see
        self.inner.probe_conditional_put()
    }

    fn forget_cached(&self) {
        self.inner.forget_cached();
    }

    fn put_last(&self, keys: Vec<String>, most: usize) -> Vec<String> {
        self.inner.put_last(keys, most)
    }

    fn include_in_barrier(&self, prefix: &str) {
        // changes nothing that other processes can see
        self.inner.include_in_barrier(prefix);
    }

    fn clean_temporary(&self, prefix: &str) -> Result<u64> {
        self.turn("clean_temporary").clean_temporary(prefix)
    }

    fn create_folders(&self, folders: &[&str], allowed: &[&str]) -> Result<bool> {
        self.turn("create_folders").create_folders(folders, allowed)
    }
}
