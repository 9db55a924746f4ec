'use strict';
// Prune and forget: checks options, forwards progress, listens to the signal.

const check = require('./check.js');
const { invalidArgument } = require('./error.js');
const { read } = require('./fields.js');
const { BytesProgress } = require('./progress.js');
const { IPlanPruneOptions, IPruneOptions } = require('./schema.js');
const { stoppable } = require('./stop.js');

const WHOLE_ID = /^[0-9a-f]{32}$/;

/** What the native side and runPrune() take. */
function checked(given) {
  const { filter, ...out } = read(given, IPruneOptions, ['dryRun', 'filter', 'maxUnused', 'force', 'wait', 'exclusive']);
  return {
    json: JSON.stringify({ ...out, ...filter }),
    dryRun: out.dryRun,
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
  };
}

/** The second argument of prune(): true or false for `dryRun` alone, or an object. */
function pruneOptions(value) {
  return checked(typeof value === 'boolean' ? { dryRun: value } : check.options(value, IPruneOptions, 'options'));
}

/** The options of planPrune(). */
function planOptions(value) {
  return checked({ ...check.options(value, IPlanPruneOptions, 'options'), dryRun: true });
}

/**
 * The ids of forget(): only full ones, because a removal by a wrong prefix or 'latest' cannot be
 * undone.
 */
function forgetIds(value) {
  const ids = check.array(value, 'ids').map((id, i) => {
    if (typeof id === 'string' && WHOLE_ID.test(id)) return id;
    throw invalidArgument(`ids[${i}] must be a full snapshot id of 32 lower-case hex digits`, {
      hint: 'Take full ids from listSnapshots() or getSnapshot()',
    });
  });
  return [...new Set(ids)];
}

/**
 * Runs one prune.
 * @param repo the native repository
 * @param policy as JSON
 * @param options what pruneOptions() or planOptions() returned
 * @param listeners { progress(value), complete(value) }
 * @param leftovers to which an aborted prune is added
 * @returns the result, or throws what the native side threw
 */
async function runPrune(repo, policy, { json, dryRun, signal }, listeners, leftovers) {
  const progress = new BytesProgress('prune', (bytes) => `${bytes} of packs done`, listeners.progress);
  try {
    const update = (counters) => progress.update(counters);
    const run = (stop) => repo.prune(policy, json, update, stop);
    // no other call waits for a dry run
    const result = JSON.parse(await stoppable(signal, run, dryRun ? {} : { leftovers }));
    progress.finish();
    const { keep, remove, timeZone, warnings, unprotectedPacks, ...figures } = result;
    listeners.complete({ operationId: progress.operationId, ...figures });
    return result;
  } finally {
    progress.close();
  }
}

module.exports = { forgetIds, planOptions, pruneOptions, runPrune };
