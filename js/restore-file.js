'use strict';
// A restore into a file: checks options, forwards progress, listens to the signal.

const check = require('./check.js');
const { read } = require('./fields.js');
const { optionalMember } = require('./files.js');
const { RestoreProgress } = require('./progress.js');
const { IRestoreToFileOptions } = require('./schema.js');
const { PATIENCE_MS, stoppable } = require('./stop.js');

/** The options of restoreToFile(): { json, path, item, signal?, onProgress? }. */
function restoreToFileOptions(value) {
  const given = check.options(value, IRestoreToFileOptions, 'options');
  const path = check.absolutePath(given.path, 'path');
  const { item, overwrite } = read(given, IRestoreToFileOptions, ['item', 'overwrite']);
  const member = optionalMember(given.member, 'member');
  return {
    json: JSON.stringify({ item, member, path, overwrite }),
    path,
    item: item ?? null,
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
  };
}

/**
 * Runs one restore into a file. `listeners.progress` gets its progress; `listeners.complete` is
 * called when it is done.
 */
async function runRestoreToFile(repo, id, { json, path, item, signal }, listeners) {
  const progress = new RestoreProgress(item, listeners.progress);
  try {
    const update = (counters) => progress.update(counters);
    const run = (stop) => repo.restoreToFile(id, json, update, stop);
    const done = await stoppable(signal, run, { patience: PATIENCE_MS });
    const { snapshotId, size, chunkCount } = JSON.parse(done);
    progress.finish({ doneBytes: size, totalBytes: size, chunks: chunkCount });
    listeners.complete({ operationId: progress.operationId, snapshotId, path, size });
    return { path, snapshotId, size };
  } finally {
    progress.close();
  }
}

module.exports = { restoreToFileOptions, runRestoreToFile };
