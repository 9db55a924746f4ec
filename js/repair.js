'use strict';
// Repair, reindex, unlock and stats: options checked, progress passed on, the signal listened to.

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

/** Runs one repair. `listeners.progress` hears of its progress, at most ten times a second and once at the end; `listeners.complete` of its result. */
async function runRepair(repo, { signal }, listeners, leftovers) {
  const progress = new BytesProgress('repair', (bytes) => `${bytes} read`, listeners.progress);
  try {
    const update = (json) => progress.update(json);
    const result = JSON.parse(await stoppable(signal, (stop) => repo.repair(update, stop), { leftovers, patience: PATIENCE_MS }));
    progress.finish();
    listeners.complete({ operationId: progress.operationId, ...result });
    return result;
  } finally {
    progress.close();
  }
}

/** Makes the index again. */
function runReindex(repo, { signal }, leftovers) {
  return stoppable(signal, (stop) => repo.reindex(stop), { leftovers });
}

/** Counts what the repository holds and takes. */
async function runStats(repo, { signal }) {
  return JSON.parse(await stoppable(signal, (stop) => repo.stats(stop)));
}

module.exports = { repairOptions, runReindex, runRepair, runStats, signalOptions, unlockOptions };
