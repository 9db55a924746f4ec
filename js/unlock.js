'use strict';
// One unlock: checks options.

const check = require('./check.js');
const { read } = require('./fields.js');
const { unlock } = require('./schema.js');

/** The options of unlock(): { force }. */
function unlockOptions(value) {
  return read(check.options(value, unlock, 'options'), unlock, ['force']);
}

/** Removes the leases of sessions that have exited, with `force` those of live ones too. */
function runUnlock(repo, { force }) {
  return repo.unlock(force);
}

module.exports = { runUnlock, unlockOptions };
