'use strict';
// From an AbortSignal to the native side.

const native = require('./native.js');

/** Calls `run` with something that stops the native side when the signal aborts. */
async function stoppable(signal, run) {
  const stop = new native.NativeStop();
  const onAbort = () => stop.stop();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    return await run(stop);
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

module.exports = { stoppable };
