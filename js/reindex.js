'use strict';
// One reindex: listens to the signal.

const { stoppable } = require('./stop.js');

/** Rebuilds the index. */
function runReindex(repo, { signal }, leftovers) {
  return stoppable(signal, (stop) => repo.reindex(stop), { leftovers });
}

module.exports = { runReindex };
