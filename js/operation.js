'use strict';
// One call that writes for a long time: progress, the signal, its result.

const { BytesProgress } = require('./progress.js');
const { PATIENCE_MS, stoppable } = require('./stop.js');

/**
 * Runs `call(update, stop)`, which resolves to JSON.
 * @param {string} operation in its progress
 * @param {string} done what was done with the bytes that its message counts
 * @param call the native call
 * @param options { signal? }
 * @param listeners `progress` gets its progress, `complete` its result
 * @param leftovers to which an aborted call is added
 */
async function runOperation(operation, done, call, { signal }, listeners, leftovers) {
  const progress = new BytesProgress(operation, (bytes) => `${bytes} ${done}`, listeners.progress);
  try {
    const update = (json) => progress.update(json);
    const run = (stop) => call(update, stop);
    const result = JSON.parse(await stoppable(signal, run, { leftovers, patience: PATIENCE_MS }));
    progress.finish();
    listeners.complete({ operationId: progress.operationId, ...result });
    return result;
  } finally {
    progress.close();
  }
}

module.exports = { runOperation };
