// What a command prints: data on stdout, everything else on stderr.

import { styleText } from 'node:util';

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** A size for people: '12.3 MiB'. */
export function size(bytes) {
  const step = bytes < 1024 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** step).toFixed(step === 0 ? 0 : 1)} ${UNITS[step]}`;
}

/** A number for people: '12,345'. */
export const count = (number) => number.toLocaleString('en-US');

/** A number with its noun: '1 pack', '2 packs'. */
export const plural = (number, noun) => `${count(number)} ${noun}${number === 1 ? '' : 's'}`;

/** A duration for people: '4 s', '3 min', '5 h', '2 days'. */
export function duration(seconds) {
  if (seconds < 100) return `${Math.round(seconds)} s`;
  if (seconds < 100 * 60) return `${Math.round(seconds / 60)} min`;
  return seconds < 48 * 3600 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;
}

/** A time of the API in the time zone of this process: '2026-11-30 14:05:09'. */
export function localTime(iso) {
  const date = new Date(iso);
  const two = (number) => String(number).padStart(2, '0');
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

/** The part of an id that people read. Any unambiguous prefix will do as an argument. */
export const shortId = (id) => id.slice(0, 8);

/**
 * Text that is data (names, tags), safe for a terminal: control characters could move its cursor
 * or change what the user sees.
 */
export function printable(text) {
  return text.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (char) => {
    const code = char.codePointAt(0).toString(16);
    return code.length > 4 ? `\\u{${code}}` : `\\u${code.padStart(4, '0')}`;
  });
}

/** Tags for people: 'host=a service=shop'. */
export const tagsText = (tags) => Object.entries(tags).map(([key, value]) => printable(value === '' ? key : `${key}=${value}`)).join(' ');

/** Rows with aligned columns; `right` has the numbers of the columns that are right-aligned. */
export function table(head, rows, right = []) {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column].length)));
  const line = (row) => row
    .map((cell, column) => (right.includes(column) ? cell.padStart(widths[column]) : cell.padEnd(widths[column])))
    .join('  ')
    .trimEnd();
  return [line(head), ...rows.map(line)].join('\n');
}

/** The output of one command. */
export class Output {
  /**
   * @param options the global options: `json`, `quiet`, `progress`
   */
  constructor({ json = false, quiet = false, progress = true } = {}) {
    this.isJson = json;
    this.isQuiet = quiet;
    this.showsProgress = progress && !quiet && !json && process.stderr.isTTY === true && process.env.TERM !== 'dumb';
    this.hasColours = process.stdout.isTTY === true && !process.env.NO_COLOR && process.env.TERM !== 'dumb';
    /** Called before a line on stderr, so that it does not run into a progress bar. */
    this.beforeLine = () => {};
  }

  /** The result of the command: one or several values as JSON lines, or the text for people. */
  result(values, text) {
    if (this.isJson) for (const value of [values].flat()) this.line(JSON.stringify(value));
    else if (text !== undefined && text !== '') this.line(text);
  }

  /** A line of data. */
  line(text) {
    this.beforeLine();
    process.stdout.write(`${text}\n`);
  }

  /** Something that the user should know, also with --quiet. */
  warn(text) {
    this.beforeLine();
    process.stderr.write(this.isJson ? `${JSON.stringify({ warning: text })}\n` : `warning: ${printable(text)}\n`);
  }

  /** What happens; not with --quiet or --json. */
  note(text) {
    if (this.isQuiet || this.isJson) return;
    this.beforeLine();
    process.stderr.write(`${text}\n`);
  }

  /** Text in a style of node:util's styleText, where stdout shows styles. */
  styled(style, text) {
    return this.hasColours && styleText ? styleText(style, text, { validateStream: false }) : text;
  }
}
