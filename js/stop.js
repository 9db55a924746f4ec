'use strict';
// From an AbortSignal to the native side.
//
// Invariant: once a promise has rejected with the reason of a signal, no effect of the call can be
// seen any more. What the native side still does for it runs in the background, until its next
// step.

const native = require('./native.js');

/**
 * For calls that clean up: nearly always they have done so within this time, and an abort is still
 * answered soon.
 */
const PATIENCE_MS = 150;

const noop = () => {};

/**
 * Returns a promise that settles as `promise`, or rejects with the reason of the signal when that
 * aborts first and `stop` returns that it was in time: at once, or after `patience` milliseconds in
 * which `promise` may still settle. A value that arrives later is passed to `discard`.
 */
function abortable(promise, signal, { stop = () => true, patience = 0, discard = noop } = {}) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    let left = false;
    let timer;
    const leave = () => {
      left = true;
      reject(signal.reason);
    };
    const onAbort = () => {
      if (!stop()) return;
      if (patience > 0) timer = setTimeout(leave, patience);
      else leave();
    };
    try {
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
    } catch (error) {
      // a signal without listeners could never end the call
      left = true;
      stop();
      reject(error);
    }
    promise
      .finally(() => {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
      })
      .then((value) => (left ? discard(value) : resolve(value)))
      .catch(reject);
  });
}

/**
 * Calls `run` with an object that stops the native side when the signal aborts. An abort does not
 * wait longer than `patience` for its end, unless the native side is making a change that others
 * see. While it still runs, it is one of the `leftovers`.
 */
function stoppable(signal, run, { leftovers, ...options } = {}) {
  const stop = new native.NativeStop();
  const promise = run(stop);
  const inTime = () => {
    if (!stop.stop()) return false;
    leftovers?.keep(promise);
    return true;
  };
  return abortable(promise, signal, { ...options, stop: inTime });
}

/** Work that still runs although its call has rejected. */
class Leftovers {
  #running = new Set();

  /** Whether there is something to wait for. */
  get any() {
    return this.#running.size > 0;
  }

  /** Adds a promise that settles when the work has ended. */
  keep(promise) {
    const over = promise.then(noop, noop).then(() => this.#running.delete(over));
    this.#running.add(over);
  }

  /** Waits until all work that is left at this moment has ended. */
  async settled() {
    await Promise.all(this.#running);
  }
}

module.exports = { Leftovers, PATIENCE_MS, abortable, stoppable };
