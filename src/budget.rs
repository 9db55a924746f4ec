//! A budget of memory in bytes, lent to callers in the order of their requests.
//!
//! Always true: the amounts lent stay within the limit, except that any request is granted while
//! nothing is lent. No request overtakes an earlier one, so that small requests do not starve a
//! large one. A waiting request calls its `check` at least every [`SLICE`], and leaves the queue
//! when that fails.
//!
//! A queue is free of deadlock as long as the holder of a grant never waits, directly or through
//! another queue or lock, for a caller that is in the same queue: every grant is then returned at
//! some time, and after the last one the head of the queue fits, whatever its size. Each user of a
//! budget states why that holds for it (`crypto::kdf`, `repo::memory`).

use crate::sync::lock;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest time between two checks whether a waiting caller still wants its grant.
pub const SLICE: Duration = Duration::from_millis(20);

/// Lends amounts up to a limit. Clones share one budget.
#[derive(Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

struct Shared {
    limit: u64,
    state: Mutex<State>,
    /// Notified when an amount is returned or a request leaves the queue.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lent: u64,
    /// Tickets of the waiting requests, in order.
    queue: VecDeque<u64>,
    next_ticket: u64,
}

/// A lent amount, returned when this is dropped.
#[must_use = "dropping it returns the amount"]
pub struct Grant {
    shared: Arc<Shared>,
    amount: u64,
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.shared.lock().lent -= self.amount;
        self.shared.changed.notify_all();
    }
}

/// A waiting request; it leaves the queue when this is dropped, also when its `check` panics.
struct Waiting<'a> {
    shared: &'a Shared,
    ticket: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.shared.lock().queue.retain(|ticket| *ticket != self.ticket);
        // the request after this one may fit
        self.shared.changed.notify_all();
    }
}

impl Budget {
    /// Makes a budget of `limit`.
    pub fn new(limit: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                limit,
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
        }
    }

    /// Lends `amount` once all earlier requests are granted and it fits within the limit, or
    /// nothing else is lent. `on_wait` is called once if the request has to wait. `check` is then
    /// called repeatedly; its first error ends the request.
    ///
    /// # Errors
    /// The error that `check` returned.
    pub fn acquire<E>(
        &self,
        amount: u64,
        check: &mut dyn FnMut() -> Result<(), E>,
        on_wait: &mut dyn FnMut(),
    ) -> Result<Grant, E> {
        let shared = &self.shared;
        let mut state = shared.lock();
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        if state.queue.is_empty() && shared.fits(&state, amount) {
            return Ok(self.lend(state, amount));
        }
        state.queue.push_back(ticket);
        drop(state);
        let waiting = Waiting { shared, ticket };
        on_wait();
        loop {
            check()?;
            let state = shared.lock();
            let may_go = |state: &State| state.queue.front() == Some(&ticket) && shared.fits(state, amount);
            let (state, _) = shared
                .changed
                .wait_timeout_while(state, SLICE, |state| !may_go(state))
                .unwrap_or_else(PoisonError::into_inner);
            if may_go(&state) {
                let grant = self.lend(state, amount);
                drop(waiting);
                return Ok(grant);
            }
        }
    }

    fn lend(&self, mut state: MutexGuard<'_, State>, amount: u64) -> Grant {
        state.lent += amount;
        Grant {
            shared: Arc::clone(&self.shared),
            amount,
        }
    }

    /// Returns the amount that is lent.
    #[cfg(test)]
    fn lent(&self) -> u64 {
        self.shared.lock().lent
    }

    /// Returns the number of waiting requests.
    pub fn waiting(&self) -> usize {
        self.shared.lock().queue.len()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // no code under this lock leaves the state half written
        lock(&self.state)
    }

    fn fits(&self, state: &State, amount: u64) -> bool {
        state.lent == 0 || state.lent.saturating_add(amount) <= self.limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    fn always() -> Result<(), ()> {
        Ok(())
    }

    fn take(budget: &Budget, amount: u64) -> Grant {
        budget.acquire(amount, &mut always, &mut || {}).unwrap()
    }

    /// Waits until `count` requests are in the queue.
    fn until_waiting(budget: &Budget, count: usize) {
        while budget.waiting() != count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn amounts_are_lent_up_to_the_limit_and_alone_above_it() {
        let budget = Budget::new(10);
        let held = [take(&budget, 4), take(&budget, 6)];
        assert_eq!(budget.lent(), 10);
        drop(held);
        let huge = take(&budget, u64::MAX);
        assert_eq!(budget.lent(), u64::MAX);
        drop(huge);
        assert_eq!((budget.lent(), budget.waiting()), (0, 0));
        drop(take(&Budget::new(0), 1));
    }

    #[test]
    fn requests_are_granted_in_order() {
        let budget = Budget::new(10);
        let first = take(&budget, 10);
        let order = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            // the second one needs the whole budget, and the small one after it must not overtake
            // it
            for (at, amount) in [5, 10, 1].into_iter().enumerate() {
                let (budget, order) = (&budget, &order);
                scope.spawn(move || {
                    let grant = take(budget, amount);
                    order.lock().unwrap().push(amount);
                    drop(grant);
                });
                until_waiting(budget, at + 1);
            }
            drop(first);
        });
        assert_eq!(order.into_inner().unwrap(), [5, 10, 1]);
    }

    #[test]
    fn a_cancelled_request_lets_the_next_one_pass() {
        let budget = Budget::new(10);
        let held = take(&budget, 5);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let given_up = scope.spawn(|| {
                let mut waited = false;
                let mut check = || {
                    if stop.load(Ordering::SeqCst) {
                        Err("stopped")
                    } else {
                        Ok(())
                    }
                };
                let outcome = budget.acquire(10, &mut check, &mut || waited = true).err();
                (outcome, waited)
            });
            until_waiting(&budget, 1);
            let next = scope.spawn(|| drop(take(&budget, 5)));
            until_waiting(&budget, 2);
            stop.store(true, Ordering::SeqCst);
            assert_eq!(given_up.join().unwrap(), (Some("stopped"), true));
            next.join().unwrap();
        });
        drop(held);
        assert_eq!((budget.lent(), budget.waiting()), (0, 0));
    }

    #[test]
    fn many_requests_of_all_sizes_end_and_never_exceed_the_limit() {
        let budget = Budget::new(10);
        let (lent, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for seed in 0..16u64 {
                let (budget, lent, most) = (&budget, &lent, &most);
                scope.spawn(move || {
                    for round in 0..50 {
                        let amount = (seed * 7 + round * 3) % 13;
                        let grant = take(budget, amount);
                        let now = lent.fetch_add(amount, Ordering::SeqCst) + amount;
                        // one above the limit is alone
                        assert!(now <= 10 || now == amount, "{now} with {amount}");
                        most.fetch_max(now, Ordering::SeqCst);
                        lent.fetch_sub(amount, Ordering::SeqCst);
                        drop(grant);
                    }
                });
            }
        });
        assert_eq!((budget.lent(), budget.waiting()), (0, 0));
        assert_eq!(most.into_inner(), 12);
    }
}
