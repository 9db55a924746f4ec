'use strict';
// In which AsyncLocalStorage context functions of the caller run: that of the call that causes it,
// so that what they log has the request id and the trace of that call. What the native side calls
// comes from no call that JavaScript knows, and runtimes differ in the context that they give it.

const { AsyncLocalStorage } = require('node:async_hooks');

/** Something that calls a function, with its arguments, in the context that is present now. */
const here = () => AsyncLocalStorage.snapshot();

/**
 * The calls of one handle that run now, for warnings: the native side does not report whose they
 * are.
 */
class Calls {
  /** Of the call that opened the handle. */
  #opened = here();
  #running = new Set();

  /** A call begins; what comes back ends it. */
  begin() {
    const context = here();
    this.#running.add(context);
    return () => this.#running.delete(context);
  }

  /**
   * Calls `fn` in the context of the call that runs. With none or several of them, it is that of
   * the one that opened the handle.
   */
  run(fn) {
    const [only = this.#opened] = this.#running.size === 1 ? this.#running : [];
    only(fn);
  }
}

module.exports = { Calls, here };
