'use strict';
// Repair, reindex, unlock and stats: checks options, forwards progress, listens to the signal.

const check = require('./check.js');
const { read } = require('./fields.js');
const { BytesProgress } = require('./progress.js');
const schema = require('./schema.js');
const { PATIENCE_MS, stoppable } = require('./stop.js');

/** The options of repair(): { signal?, onProgress? }. */
function repairOptions(value) {
  const given = check.options(value, schema.IRepairOptions, 'options');
  return {
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
  };
}

/** The options of reindex() and stats(): { signal? }. */
function signalOptions(value) {
  const given = check.options(value, schema.signalOnly, 'options');
  return { signal: check.signal(given.signal, 'signal') };
}

/** The options of unlock(): { force }. */
function unlockOptions(value) {
  return read(check.options(value, schema.unlock, 'options'), schema.unlock, ['force']);
}

/**
 * Runs one repair. `listeners.progress` gets its progress, at most ten times a second and once at
 * the end; `listeners.complete` gets its result.
 */
async function runRepair(repo, { signal }, listeners, leftovers) {
  const progress = new BytesProgress('repair', (bytes) => `${bytes} read`, listeners.progress);
  try {
    const update = (json) => progress.update(json);
    const run = (stop) => repo.repair(update, stop);
    const result = JSON.parse(await stoppable(signal, run, { leftovers, patience: PATIENCE_MS }));
    progress.finish();
    listeners.complete({ operationId: progress.operationId, ...result });
    return result;
  } finally {
    progress.close();
  }
}

/** Rebuilds the index. */
function runReindex(repo, { signal }, leftovers) {
  return stoppable(signal, (stop) => repo.reindex(stop), { leftovers });
}

/** Counts what the repository contains and the space it takes. */
async function runStats(repo, { signal }) {
  return JSON.parse(await stoppable(signal, (stop) => repo.stats(stop)));
}

module.exports = { repairOptions, runReindex, runRepair, runStats, signalOptions, unlockOptions };
