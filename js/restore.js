'use strict';
// The restored bytes as a Node Readable.
//
// The stream ends cleanly only after every byte; everything else is destroy(error). It pulls: one
// push() for each _read(), so a reader that stops reading stops the native side, and destroy()
// cancels it.

const { Readable } = require('node:stream');
const { ContainerArchiveError, fromNative, isError } = require('./error.js');
const { Turns } = require('./turns.js');

/** Bytes per native read; 64 KiB costs twice the time per byte, 1 MiB gains little. */
const CHUNK_BYTES = 256 * 1024;

/** The error that destroys the stream when a signal aborts: its reason, as an Error. */
function abortError(signal) {
  const { reason } = signal;
  if (isError(reason)) return reason;
  return new ContainerArchiveError('The restore was aborted', { code: 'ABORT_ERR', cause: reason });
}

class RestoreStream extends Readable {
  #native;
  /**
   * Never read, but referenced: a handle that is garbage-collected is closed, and the stream would
   * end with it.
   */
  #owner;
  #left;
  #turns = new Turns();
  #forget = () => {};
  #ended;

  /**
   * @param native the native restore
   * @param owner the native repository that it reads
   * @param {AbortSignal | undefined} signal
   * @param {() => void} ended called once it does not read any more
   */
  constructor(native, owner, signal, ended) {
    super({ highWaterMark: CHUNK_BYTES });
    this.#native = native;
    this.#owner = owner;
    this.#ended = ended;
    this.#left = native.size;
    if (signal) {
      const onAbort = () => this.destroy(abortError(signal));
      signal.addEventListener('abort', onAbort, { once: true });
      this.#forget = () => signal.removeEventListener('abort', onAbort);
    }
  }

  _read() {
    if (this.destroyed) return;
    if (this.#turns.areDue()) return this.#readAfter(this.#turns.next());
    try {
      const chunk = this.#native.read();
      if (chunk === undefined) return this.#readAfter(this.#native.ready());
      this.#left -= chunk === null ? 0 : chunk.length;
      if (chunk === null && this.#left !== 0) {
        throw new Error(`the restore differs from its size by ${this.#left} bytes`);
      }
      this.push(chunk);
    } catch (error) {
      this.destroy(fromNative(error));
    }
  }

  #readAfter(promise) {
    promise.then(
      () => this._read(),
      (error) => this.destroy(fromNative(error)),
    );
  }

  _destroy(error, callback) {
    this.#forget();
    this.#ended();
    this.#native.cancel();
    this.#owner = null;
    callback(error);
  }
}

module.exports = { RestoreStream };
