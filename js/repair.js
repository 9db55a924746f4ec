'use strict';
// Repair, reindex and unlock: options checked, progress passed on, the signal listened to.

const native = require('./native.js');
const check = require('./check.js');
const { randomUUID } = require('node:crypto');
const { human } = require('./progress.js');

const INTERVAL_MS = 100;

/** The options of repair(): { signal?, onProgress? }. */
function repairOptions(value) {
  const given = check.options(value, ['signal', 'onProgress'], 'options');
  return {
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
  };
}

/** The options of reindex(): { signal? }. */
function reindexOptions(value) {
  const given = check.options(value, ['signal'], 'options');
  return { signal: check.signal(given.signal, 'signal') };
}

/** The options of unlock(): { force }. */
function unlockOptions(value) {
  const given = check.options(value, ['force'], 'options');
  return { force: given.force === undefined ? false : check.boolean(given.force, 'force') };
}

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

/** Runs one repair. `report` hears of its progress, at most ten times a second and once at the end. */
async function runRepair(repo, { signal }, report) {
  const operationId = randomUUID();
  const started = performance.now();
  let last = started;
  let open = true;
  let counters = { doneBytes: 0, totalBytes: 0 };
  const emit = (percentage) => {
    const now = performance.now();
    const { doneBytes, totalBytes } = counters;
    last = now;
    report({
      operation: 'repair',
      operationId,
      message: `${human(doneBytes)} read`,
      // reading the packs is nearly all of it; what follows has no measure
      percentage: percentage ?? (totalBytes > 0 ? Math.min(99, (doneBytes / totalBytes) * 100) : null),
      bytesDone: doneBytes,
      bytesTotal: totalBytes > 0 ? Math.max(totalBytes, doneBytes) : null,
      elapsedMs: Math.round(now - started),
    });
  };
  const onProgress = (json) => {
    if (!open) return;
    counters = JSON.parse(json);
    if (performance.now() - last >= INTERVAL_MS) emit();
  };
  try {
    const result = JSON.parse(await stoppable(signal, (stop) => repo.repair(onProgress, stop)));
    emit(100);
    return result;
  } finally {
    open = false;
  }
}

/** Makes the index again. */
function runReindex(repo, { signal }) {
  return stoppable(signal, (stop) => repo.reindex(stop));
}

module.exports = { reindexOptions, repairOptions, runReindex, runRepair, unlockOptions };
