// Questions on the terminal. The terminal is opened by itself: standard input may be the data.

import { closeSync, openSync } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { ReadStream } from 'node:tty';
import { Failure, Interrupted } from './failure.mjs';
import { Line, columns } from './line.mjs';
import { printable } from './output.mjs';

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

/** Whether the terminal marks what is pasted when it is told to. Others ignore that. */
const marksPastes = () => process.platform !== 'win32' && process.env.TERM !== 'dumb';

/** What was typed after the end of a line, for the next secret. */
let ahead = '';

/** Shows a line after its question, with nothing but spaces and backspaces. */
class View {
  #before = 0;
  #all = 0;

  show({ before, after }) {
    const [left, right] = [printable(before), printable(after)];
    const [width, rest] = [columns(left), columns(right)];
    const gone = Math.max(0, this.#all - width - rest);
    process.stderr.write(`${'\b'.repeat(this.#before)}${left}${right}${' '.repeat(gone)}${'\b'.repeat(gone + rest)}`);
    this.#before = width;
    this.#all = width + rest;
  }
}

/**
 * Asks a question and reads one line, in raw mode from before the question is shown: what is typed
 * at once is not shown either. `echo` shows it.
 */
function readLine(stream, question, echo) {
  return new Promise((resolve, reject) => {
    const line = new Line();
    const view = new View();
    const decoder = new StringDecoder('utf8');
    const end = (settle, value) => {
      stream.off('data', onData);
      stream.off('end', onEnd);
      stream.off('error', onEnd);
      for (const name of SIGNALS) process.off(name, onSignal);
      if (!stream.destroyed) stream.setRawMode(false);
      process.stderr.write(marksPastes() ? '\u001b[?2004l\n' : '\n');
      settle(value);
    };
    const onEnd = () => end(reject, new Failure('The terminal was closed'));
    const onSignal = (name) => end(reject, new Interrupted(name));
    const take = (text) => {
      const done = line.take(text);
      if (echo) view.show(line);
      if (done === null) return;
      ahead = done.rest;
      if (done.end === 'interrupted') end(reject, new Interrupted('SIGINT'));
      else end(resolve, line.text);
    };
    const onData = (bytes) => take(decoder.write(bytes));
    stream.setRawMode(true);
    process.stderr.write(marksPastes() ? `\u001b[?2004h${question}` : question);
    stream.on('data', onData);
    stream.on('end', onEnd);
    stream.on('error', onEnd);
    for (const name of SIGNALS) process.on(name, onSignal);
    const typed = echo ? '' : ahead; // what was typed before a question was seen does not answer it
    ahead = '';
    if (typed !== '') take(typed);
    if (stream.listenerCount('data') > 0) stream.resume();
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
