'use strict';
// One repair: checks options, forwards progress, listens to the signal.

const check = require('./check.js');
const { read } = require('./fields.js');
const { BytesProgress } = require('./progress.js');
const { IRepairOptions } = require('./schema.js');
const { PATIENCE_MS, stoppable } = require('./stop.js');

/** The options of repair(): { exclusive, signal?, onProgress? }. */
function repairOptions(value) {
  const given = check.options(value, IRepairOptions, 'options');
  return {
    ...read(given, IRepairOptions, ['exclusive']),
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
  };
}

/**
 * Runs one repair. `listeners.progress` gets its progress, `listeners.complete` its result.
 */
async function runRepair(repo, { exclusive, signal }, listeners, leftovers) {
  const progress = new BytesProgress('repair', (bytes) => `${bytes} read`, listeners.progress);
  try {
    const update = (json) => progress.update(json);
    const run = (stop) => repo.repair(exclusive, update, stop);
    const result = JSON.parse(await stoppable(signal, run, { leftovers, patience: PATIENCE_MS }));
    progress.finish();
    listeners.complete({ operationId: progress.operationId, ...result });
    return result;
  } finally {
    progress.close();
  }
}

module.exports = { repairOptions, runRepair };
