'use strict';
// A restore into a file: options checked, progress passed on, the signal listened to.

const check = require('./check.js');
const { randomUUID } = require('node:crypto');
const { resolve } = require('node:path');
const { human } = require('./progress.js');
const { stoppable } = require('./stop.js');

const INTERVAL_MS = 100;

/** The options of restoreToFile(): { json, path, item, signal?, onProgress? }. */
function restoreToFileOptions(value) {
  const given = check.options(value, ['item', 'path', 'overwrite', 'signal', 'onProgress'], 'options');
  const path = resolve(check.path(given.path, 'path'));
  const item = given.item === undefined ? undefined : check.text(given.item, 'item');
  const overwrite = given.overwrite === undefined ? false : check.boolean(given.overwrite, 'overwrite');
  return {
    json: JSON.stringify({ item, path, overwrite }),
    path,
    item: item ?? null,
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
  };
}

/** Runs one. `report` hears of its progress, at most ten times a second and once at the end; `complete` that it is done. */
async function runRestoreToFile(repo, id, { json, path, item, signal }, { report, complete }) {
  const operationId = randomUUID();
  const started = performance.now();
  let last = started;
  let open = true;
  const emit = ({ doneBytes, totalBytes, chunks }) => {
    const now = performance.now();
    const seconds = (now - started) / 1000;
    const rate = seconds > 0 ? doneBytes / seconds : 0;
    last = now;
    report({
      operation: 'restore',
      operationId,
      message: `${human(doneBytes)} of ${human(totalBytes)} restored`,
      percentage: totalBytes === 0 ? 100 : (doneBytes / totalBytes) * 100,
      bytesDone: doneBytes,
      bytesTotal: totalBytes,
      bytesPerSecond: Math.round(rate),
      etaSeconds: rate > 0 ? Math.round((totalBytes - doneBytes) / rate) : null,
      chunks,
      item,
      elapsedMs: Math.round(now - started),
    });
  };
  const onProgress = (counters) => {
    if (!open) return;
    const update = JSON.parse(counters);
    if (performance.now() - last >= INTERVAL_MS && update.doneBytes < update.totalBytes) emit(update);
  };
  try {
    const done = await stoppable(signal, (stop) => repo.restoreToFile(id, json, onProgress, stop));
    const { snapshotId, size, chunkCount } = JSON.parse(done);
    emit({ doneBytes: size, totalBytes: size, chunks: chunkCount });
    complete({ operationId, snapshotId, path, size });
    return { path, snapshotId, size };
  } finally {
    open = false;
  }
}

module.exports = { restoreToFileOptions, runRestoreToFile };
