'use strict';
// Gives way to the event loop. A stream that always has a chunk ready goes on within microtasks and ticks for as long as it
// likes, and timers, sockets and everything else of the program wait.

const { setImmediate: nextTurn } = require('node:timers/promises');

/** After this time the others have a turn, in milliseconds. */
const TURN_MS = 8;

/** The turns of one loop. */
class Turns {
  #since = performance.now();

  /** Whether the loop has gone on long enough to await next(). */
  areDue() {
    return performance.now() - this.#since >= TURN_MS;
  }

  /** Resolves in the next turn of the event loop. */
  async next() {
    await nextTurn();
    this.#since = performance.now();
  }
}

module.exports = { Turns };
