'use strict';
// The AsyncLocalStorage context in which functions of the caller run: that of the call that causes
// it, so that its logs have the request id and the trace of that call. A call from the native side
// belongs to no JavaScript call, and runtimes differ in the context that they give it.

const { AsyncLocalStorage } = require('node:async_hooks');

/** Returns a function that calls another one, with its arguments, in the current context. */
const here = () => AsyncLocalStorage.snapshot();

/**
 * The running calls of one handle, for warnings: the native side does not report which call they
 * belong to.
 */
class Calls {
  /** The context of the call that opened the handle. */
  #opened = here();
  #running = new Set();

  /** Begins a call; the function that it returns ends it. */
  begin() {
    const context = here();
    this.#running.add(context);
    return () => this.#running.delete(context);
  }

  /**
   * Calls `fn` in the context of the running call. With none or several of them, it is that of the
   * call that opened the handle.
   */
  run(fn) {
    const [only = this.#opened] = this.#running.size === 1 ? this.#running : [];
    only(fn);
  }
}

module.exports = { Calls, here };
