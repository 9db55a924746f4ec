'use strict';
// The figures of stats(): listens to the signal.

const { stoppable } = require('./stop.js');

/** Counts what the repository contains and the space it takes. */
async function runStats(repo, { signal }) {
  return JSON.parse(await stoppable(signal, (stop) => repo.stats(stop)));
}

module.exports = { runStats };
