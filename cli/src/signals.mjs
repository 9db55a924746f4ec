// Signals: the first one ends the command cleanly, the second one ends the process.
//
// Invariant: this is the first import of the entry. Until a signal has a handler, it ends the
// process without a word, and with an exit code that this command line does not have.

import { EXIT, Interrupted } from './failure.mjs';

const controller = new AbortController();

/** Aborted by the first signal; the reason is `Interrupted`. */
export const interruption = controller.signal;

for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(name, () => {
    if (interruption.aborted) process.exit(EXIT.interrupted);
    if (process.stderr.isTTY) process.stderr.write('\nEnding; once more to end at once.\n');
    controller.abort(new Interrupted(name));
  });
}
