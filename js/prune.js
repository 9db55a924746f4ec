'use strict';
// Prune, forget and locks: options checked, progress passed on, the signal listened to.

const check = require('./check.js');
const { invalidArgument } = require('./error.js');
const { BytesProgress } = require('./progress.js');
const { stoppable } = require('./stop.js');

const PLAN_KEYS = ['filter', 'maxUnused', 'force', 'signal', 'onProgress'];
const PRUNE_KEYS = ['dryRun', 'wait', ...PLAN_KEYS];
const WHOLE_ID = /^[0-9a-f]{32}$/;

/** A share, 0 to 1. */
function share(value, where) {
  // written so that NaN is refused
  if (typeof value !== 'number' || !(value >= 0 && value <= 1)) {
    throw invalidArgument(`${where} must be a number from 0 to 1, got ${check.kindOf(value)}`);
  }
  return value;
}

/** Which snapshots a policy is about: { tags }. */
function tagsOf(filter) {
  const { tags } = check.options(filter, ['tags'], 'filter');
  return tags === undefined ? undefined : check.tags(tags, 'filter.tags');
}

/** What the native side and run() take. Defaults live on the native side. */
function checked(given) {
  const boolean = (key) => (given[key] === undefined ? undefined : check.boolean(given[key], key));
  return {
    json: JSON.stringify({
      dryRun: boolean('dryRun'),
      maxUnused: given.maxUnused === undefined ? undefined : share(given.maxUnused, 'maxUnused'),
      force: boolean('force'),
      wait: boolean('wait'),
      tags: tagsOf(given.filter),
    }),
    dryRun: given.dryRun === true,
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
  };
}

/** The second argument of prune(): true or false for `dryRun` alone, or an object. */
function pruneOptions(value) {
  return checked(typeof value === 'boolean' ? { dryRun: value } : check.options(value, PRUNE_KEYS, 'options'));
}

/** The options of planPrune(). */
function planOptions(value) {
  return checked({ ...check.options(value, PLAN_KEYS, 'options'), dryRun: true });
}

/** The ids of forget(): whole ones, for nobody can take back what a prefix or 'latest' meant. */
function forgetIds(value) {
  const ids = check.array(value, 'ids').map((id, i) => {
    if (typeof id === 'string' && WHOLE_ID.test(id)) return id;
    throw invalidArgument(`ids[${i}] must be a whole snapshot id of 32 lower-case hex digits`, {
      hint: 'listSnapshots() and getSnapshot() give whole ids',
    });
  });
  return [...new Set(ids)];
}

/**
 * Runs one prune.
 * @param repo the native repository
 * @param policy as JSON
 * @param options what pruneOptions() or planOptions() gave
 * @param listeners { progress(value), complete(value) }
 * @param leftovers where an aborted one goes on
 * @returns the result, or throws what the native side threw
 */
async function runPrune(repo, policy, { json, dryRun, signal }, listeners, leftovers) {
  const progress = new BytesProgress('prune', (bytes) => `${bytes} of packs done`, listeners.progress);
  try {
    const update = (counters) => progress.update(counters);
    const run = (stop) => repo.prune(policy, json, update, stop);
    // nothing waits for a dry run
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
