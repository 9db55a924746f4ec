'use strict';
// Copies of snapshots, and mirrors: checks options, forwards progress, listens to the signal.

const check = require('./check.js');
const { invalidArgument } = require('./error.js');
const { read } = require('./fields.js');
const { filter } = require('./options.js');
const { BytesProgress } = require('./progress.js');
const { ICopyOptions, IMirrorOptions } = require('./schema.js');
const { PATIENCE_MS, stoppable } = require('./stop.js');

/** What both calls take besides their JSON. */
function common(given) {
  return {
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
  };
}

/** The options of copyTo(): { json, signal?, onProgress? }. */
function copyOptions(value) {
  const given = check.options(value, ICopyOptions, 'options');
  const snapshots = check.array(given.snapshots ?? [], 'snapshots').map((id, i) => check.text(id, `snapshots[${i}]`));
  if (given.snapshots !== undefined && snapshots.length === 0) {
    throw invalidArgument('snapshots must not be empty', { hint: 'Omit it to copy all snapshots' });
  }
  return { json: JSON.stringify({ snapshots, filter: filter(given.filter) }), ...common(given) };
}

/** The options of mirrorTo(): { json, signal?, onProgress? }. */
function mirrorOptions(value) {
  const given = check.options(value, IMirrorOptions, 'options');
  return { json: JSON.stringify(read(given, IMirrorOptions, ['delete', 'dryRun', 'storage'])), ...common(given) };
}

/** Runs `call(update, stop)`, which resolves to JSON, as one operation with progress. */
async function run(operation, call, { signal }, listeners, leftovers) {
  const progress = new BytesProgress(operation, (bytes) => `${bytes} copied`, listeners.progress);
  try {
    const update = (counters) => progress.update(counters);
    const running = (stop) => call(update, stop);
    const result = JSON.parse(await stoppable(signal, running, { leftovers, patience: PATIENCE_MS }));
    progress.finish();
    listeners.complete({ operationId: progress.operationId, ...result });
    return result;
  } finally {
    progress.close();
  }
}

/** Copies snapshots from one native repository to another. */
function runCopy(repo, target, checked, listeners, leftovers) {
  return run('copy', (update, stop) => repo.copyTo(target, checked.json, update, stop), checked, listeners, leftovers);
}

/** Mirrors a native repository into the directory or bucket at `path`. */
function runMirror(repo, path, checked, listeners, leftovers) {
  return run('mirror', (update, stop) => repo.mirrorTo(path, checked.json, update, stop), checked, listeners, leftovers);
}

module.exports = { copyOptions, mirrorOptions, runCopy, runMirror };
