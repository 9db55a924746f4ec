'use strict';
// From an AbortSignal to the native side.
//
// What always holds: once a promise has rejected with the reason of a signal, nothing more is seen of the call. What the native
// side still does for it goes on without anybody, until its next step.

const native = require('./native.js');

const noop = () => {};

/**
 * What a promise gives; or the reason of the signal, at once, when that aborts first and `stop` says that it was in time. What
 * comes afterwards goes to `discard`.
 */
function abortable(promise, signal, { stop = () => true, discard = noop } = {}) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    let left = false;
    const onAbort = () => {
      left = stop();
      if (left) reject(signal.reason);
    };
    signal.addEventListener('abort', onAbort, { once: true });
    if (signal.aborted) onAbort();
    promise
      .finally(() => signal.removeEventListener('abort', onAbort))
      .then((value) => (left ? discard(value) : resolve(value)))
      .catch(reject);
  });
}

/** Calls `run` with something that stops the native side when the signal aborts, and waits for its end all the same. */
function stoppable(signal, run) {
  const stop = new native.NativeStop();
  const stopOnly = () => {
    stop.stop();
    return false;
  };
  return abortable(run(stop), signal, { stop: stopOnly });
}

/**
 * The same of what changes nothing that others see, or says when it does: its end is not waited for. What comes of it all the same
 * goes to `discard`; while it goes on, it is among the `leftovers`.
 */
function stoppableAtOnce(signal, run, { discard, leftovers } = {}) {
  const stop = new native.NativeStop();
  const promise = run(stop);
  const inTime = () => {
    if (!stop.stop()) return false;
    leftovers?.keep(promise);
    return true;
  };
  return abortable(promise, signal, { stop: inTime, discard });
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

module.exports = { Leftovers, abortable, stoppable, stoppableAtOnce };
