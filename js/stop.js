'use strict';
// From an AbortSignal to the native side.
//
// What always holds: once a promise has rejected with the reason of a signal, nothing more is seen of the call. What the native
// side still does for it goes on without anybody, until its next step.

const native = require('./native.js');

/** For calls that clean up behind them: nearly always that is done by then, and an abort is still answered soon. */
const PATIENCE_MS = 150;

const noop = () => {};

/**
 * What a promise gives; or the reason of the signal, when that aborts first and `stop` says that it was in time: at once, or
 * after `patience` milliseconds in which the promise may still settle. What comes afterwards goes to `discard`.
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
      // a signal that cannot be listened to: nobody could end the call
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
 * Calls `run` with something that stops the native side when the signal aborts. Its end is not waited for longer than
 * `patience`, unless it makes a change just then that others see. While it goes on, it is among the `leftovers`.
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

/** What goes on although its call has rejected. */
class Leftovers {
  #running = new Set();

  /** Whether there is something to wait for. */
  get any() {
    return this.#running.size > 0;
  }

  /** Adds a promise that settles when it is over. */
  keep(promise) {
    const over = promise.then(noop, noop).then(() => this.#running.delete(over));
    this.#running.add(over);
  }

  /** Waits until all that was left until now is over. */
  async settled() {
    await Promise.all(this.#running);
  }
}

module.exports = { Leftovers, PATIENCE_MS, abortable, stoppable };
