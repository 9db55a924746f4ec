// Signals: the first one ends the command cleanly, the second one ends the process.
//
// Invariant: this is the first import of the entry. Until a signal has a handler, it ends the
// process without a word, and with an exit code that this command line does not have.

import { EXIT, Interrupted } from './failure.mjs';

const controller = new AbortController();

/** Aborted by the first signal; the reason is `Interrupted`. */
export const interruption = controller.signal;

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', ...(process.platform === 'win32' ? ['SIGBREAK'] : [])];

for (const name of SIGNALS) {
  process.on(name, () => {
    if (interruption.aborted) process.exit(EXIT.interrupted);
    if (process.stderr.isTTY) process.stderr.write('\nEnding; once more to end at once.\n');
    controller.abort(new Interrupted(name));
  });
}
