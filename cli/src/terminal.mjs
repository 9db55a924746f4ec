// Questions on the terminal. The terminal is opened by itself: standard input may be the data.

import { closeSync, openSync } from 'node:fs';
import { ReadStream } from 'node:tty';
import { Failure, Interrupted } from './failure.mjs';

const TERMINAL = process.platform === 'win32' ? 'CONIN$' : '/dev/tty';

/** Signals that end a question: Ctrl-C arrives as a character, because the terminal is raw. */
const SIGNALS = ['SIGTERM', 'SIGHUP'];

/** The terminal for reading, or null when this process has none. */
function openTerminal() {
  if (!process.stderr.isTTY) return null; // the question would not be seen
  if (process.stdin.isTTY) return { stream: process.stdin, close: () => process.stdin.pause() };
  try {
    const fd = openSync(TERMINAL, 'r');
    try {
      const stream = new ReadStream(fd);
      return { stream, close: () => stream.destroy() };
    } catch {
      closeSync(fd);
    }
  } catch {
    // no terminal
  }
  return null;
}

/** Whether questions can be asked: a user at a terminal also sees stderr. */
export function hasTerminal() {
  const terminal = openTerminal();
  terminal?.close();
  return terminal !== null;
}

/**
 * Asks a question and reads one line, in raw mode from before the question is shown: what is typed
 * at once is not shown either. `echo` shows it.
 */
function readLine(stream, question, echo) {
  return new Promise((resolve, reject) => {
    let line = '';
    const end = (settle, value) => {
      stream.off('data', onData);
      stream.off('end', onEnd);
      stream.off('error', onEnd);
      for (const name of SIGNALS) process.off(name, onSignal);
      if (!stream.destroyed) stream.setRawMode(false);
      process.stderr.write('\n');
      settle(value);
    };
    const onEnd = () => end(reject, new Failure('The terminal was closed'));
    const onSignal = (name) => end(reject, new Interrupted(name));
    const onData = (bytes) => {
      for (const char of bytes.toString('utf8')) {
        if (char === '\r' || char === '\n') return end(resolve, line);
        if (char === '\u0003') return end(reject, new Interrupted('SIGINT'));
        if (char === '\u0004') return end(resolve, line);
        if (char === '\u007f' || char === '\b') {
          const points = [...line];
          if (echo && points.length > 0) process.stderr.write('\b \b');
          line = points.slice(0, -1).join('');
        } else if (char >= ' ') {
          if (echo) process.stderr.write(char);
          line += char;
        }
      }
    };
    stream.setRawMode(true);
    process.stderr.write(question);
    stream.on('data', onData);
    stream.on('end', onEnd);
    stream.on('error', onEnd);
    for (const name of SIGNALS) process.on(name, onSignal);
    stream.resume();
  });
}

/** Asks on the terminal; returns the line, or null when there is no terminal. */
async function ask(question, echo) {
  const terminal = openTerminal();
  if (terminal === null) return null;
  try {
    return await readLine(terminal.stream, question, echo);
  } finally {
    terminal.close();
  }
}

/** Asks for a secret, which is not shown. */
export const askSecret = (question) => ask(question, false);

/** Asks a question that only 'y' or 'yes' answers with true. */
export async function confirm(question) {
  const answer = await ask(`${question} [y/N] `, true);
  return /^y(es)?$/i.test(answer?.trim() ?? '');
}
