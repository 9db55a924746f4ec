'use strict';
// One repair: checks options, forwards progress, listens to the signal.

const check = require('./check.js');
const { read } = require('./fields.js');
const { runOperation } = require('./operation.js');
const { IRepairOptions } = require('./schema.js');

/** The options of repair(): { exclusive, signal?, onProgress? }. */
function repairOptions(value) {
  const given = check.options(value, IRepairOptions, 'options');
  return {
    ...read(given, IRepairOptions, ['exclusive']),
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
  };
}

/** Runs one repair. */
function runRepair(repo, checked, listeners, leftovers) {
  const call = (update, stop) => repo.repair(checked.exclusive, update, stop);
  return runOperation('repair', 'read', call, checked, listeners, leftovers);
}

module.exports = { repairOptions, runRepair };
