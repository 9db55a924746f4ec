'use strict';
// Yields to the event loop. A stream that always has a chunk ready can continue within microtasks
// and ticks without end, and timers, sockets and all other work of the program would wait.

const { setImmediate: nextTurn } = require('node:timers/promises');

/** Time after which a loop yields, in milliseconds. */
const TURN_MS = 8;

/** The turns of one loop. */
class Turns {
  #since = performance.now();

  /** Whether the loop has run long enough to await next(). */
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
