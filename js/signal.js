'use strict';
// An AbortSignal of the caller. It may be that of another library, or anything with the same
// methods: what these throw must not be treated as an error of the engine, nor leave a listener as
// an uncaught exception.

const { invalidArgument, textOf } = require('./error.js');

class CallerSignal {
  #signal;
  #where;

  /**
   * @param signal with the methods of an AbortSignal
   * @param {string} where the name of the argument
   */
  constructor(signal, where) {
    this.#signal = signal;
    this.#where = where;
  }

  /** Whether it is aborted. Throws ERR_INVALID_ARGUMENT when this cannot be read. */
  get aborted() {
    return this.#guarded(() => this.#signal.aborted === true);
  }

  /** The reason; when it cannot be read, an error with what was thrown as its cause. */
  get reason() {
    try {
      return this.#signal.reason;
    } catch (cause) {
      return this.#refused(cause);
    }
  }

  throwIfAborted() {
    if (this.aborted) throw this.reason;
  }

  /** Throws ERR_INVALID_ARGUMENT when a listener cannot be added. */
  addEventListener(...args) {
    this.#guarded(() => this.#signal.addEventListener(...args));
  }

  removeEventListener(...args) {
    try {
      this.#signal.removeEventListener(...args);
    } catch {
      // the listeners of this package do nothing once their call has settled
    }
  }

  #guarded(read) {
    try {
      return read();
    } catch (cause) {
      throw this.#refused(cause);
    }
  }

  #refused(cause) {
    return invalidArgument(`${this.#where} cannot be used: ${textOf(cause)}`, { cause });
  }
}

module.exports = { CallerSignal };
