'use strict';
// Copies of snapshots, and mirrors: checks options, forwards progress, listens to the signal.

const check = require('./check.js');
const { invalidArgument } = require('./error.js');
const { read } = require('./fields.js');
const { runOperation } = require('./operation.js');
const { filter } = require('./options.js');
const { ICopyOptions, IMirrorOptions } = require('./schema.js');

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

/** Copies snapshots from one native repository to another. */
function runCopy(repo, target, checked, listeners, leftovers) {
  return runOperation('copy', 'copied', (update, stop) => repo.copyTo(target, checked.json, update, stop), checked, listeners, leftovers);
}

/** Mirrors a native repository into the directory or bucket at `path`. */
function runMirror(repo, path, checked, listeners, leftovers) {
  return runOperation('mirror', 'copied', (update, stop) => repo.mirrorTo(path, checked.json, update, stop), checked, listeners, leftovers);
}

module.exports = { copyOptions, mirrorOptions, runCopy, runMirror };
