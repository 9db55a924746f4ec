// Failures of the command line: exit codes, and how an error is reported. No stack trace is
// printed.

import { printable } from './output.mjs';

/** Exit codes, those of restic. An unknown one is a failure. */
export const EXIT = {
  ok: 0,
  failed: 1,
  /** Something was left out, and the user had allowed that. */
  incomplete: 3,
  noRepository: 10,
  locked: 11,
  passphrase: 12,
  interrupted: 130,
};

/** What to do at the command line, where the hint of the API names its calls. */
const HINTS = {
  ERR_REPO_NOT_FOUND: 'Check the path and what is mounted there, or create a repository with "containerarchive init"',
  ERR_REPO_EXISTS: 'It is ready to use: run "containerarchive backup"',
  ERR_PASSPHRASE_REQUIRED: 'Set CONTAINERARCHIVE_PASSPHRASE_FILE, use --passphrase-command, or run it on a terminal',
  ERR_WRONG_PASSPHRASE: 'Check the passphrase and the path: this may be another repository',
  ERR_NOT_ENCRYPTED: 'Run it without a passphrase, if all who can write to the directory are trusted',
  ERR_SNAPSHOT_NOT_FOUND: '"containerarchive snapshots" lists the snapshots. A prefix of an id has at least 4 digits',
  ERR_SNAPSHOT_AMBIGUOUS: 'Give more digits of the id',
  ERR_MEMBER_NOT_FOUND: 'See "containerarchive ls". A path with the escapes that it prints needs --escaped',
  ERR_NOT_A_DIRECTORY: 'Choose another path',
  ERR_FILE_EXISTS: 'Use --overwrite, which replaces regular files only, or another path',
  ERR_SOURCE_FAILED: 'There is no snapshot. What was stored is reused by the next backup',
  ERR_LAST_KEY: 'Add another passphrase first, or use "key passwd"',
  ERR_MANIFEST_CORRUPT: 'Run "containerarchive repair"',
  ERR_PACK_CORRUPT: 'Run "containerarchive repair"',
  ERR_PACK_MISSING: 'Run "containerarchive repair"',
  ERR_CHUNK_CORRUPT: 'Run "containerarchive repair"',
  ERR_CHUNK_MISSING: 'Run "containerarchive repair"',
  ERR_INDEX_CORRUPT: 'Run "containerarchive repair"',
  ERR_KILL_LIST_CORRUPT: 'Run "containerarchive repair"',
  ERR_REPO_LOCKED: 'Try again later; "containerarchive locks" lists what is running',
  ERR_MIRROR: 'Write to the repository itself. If it is lost, --promote makes this copy a repository of its own',
  ERR_MIRROR_REFUSED: 'Choose an empty or missing directory, or the mirror of this repository',
  ERR_LOCKS_UNSUPPORTED: 'Move the repository to a file system with working locks',
};

const BY_CODE = {
  ERR_REPO_NOT_FOUND: EXIT.noRepository,
  ERR_REPO_LOCKED: EXIT.locked,
  ERR_PASSPHRASE_REQUIRED: EXIT.passphrase,
  ERR_WRONG_PASSPHRASE: EXIT.passphrase,
};

/** A failure that the command line itself found; `hint` states what to do. */
export class Failure extends Error {
  constructor(message, { hint, code, exitCode, cause } = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.hint = hint;
    this.code = code;
    this.exitCode = exitCode;
  }
}

/** The user interrupted the command. */
export class Interrupted extends Error {
  constructor(signal) {
    super(`interrupted by ${signal}`);
    this.exitCode = EXIT.interrupted;
    this.signal = signal;
  }
}

/** Errors of the system about a file that is read, for people. */
const REASONS = {
  ENOENT: 'it does not exist',
  EACCES: 'this user may not read it',
  EPERM: 'this user may not read it',
  EISDIR: 'it is a directory',
  ENOTDIR: 'a part of its path is not a directory',
};

/** Why a file cannot be read. */
export const reasonOf = (cause) => REASONS[cause.code] ?? cause.message;

/** The exit code of an error. */
export function exitCodeOf(error) {
  return error?.exitCode !== undefined && (error instanceof Failure || error instanceof Interrupted)
    ? error.exitCode
    : (BY_CODE[error?.code] ?? EXIT.failed);
}

/** Calls and arguments of the API as the command line has them, in errors about arguments. */
const WORDS = [
  [/\b(?:items|commands)\[(\d+)\]\.name\b/g, (_, at) => `the name of item ${Number(at) + 1}`],
  [/\bkeepLast\b/g, '--keep-last'],
  [/\bkeepHours\b/g, '--keep-hourly'],
  [/\bkeepDays\b/g, '--keep-daily'],
  [/\bkeepWeeks\b/g, '--keep-weekly'],
  [/\bkeepMonths\b/g, '--keep-monthly'],
  [/\bkeepYears\b/g, '--keep-yearly'],
  [/\bkeepWithin\b/g, '--keep-within'],
  [/\bkeepTags\b/g, '--keep-tag'],
  [/\bgroupBy\b/g, '--group-by'],
  [/\btimeZone\b/g, '--time-zone'],
  [/^id\b/, 'the id of a snapshot'],
  [/^member: /, ''],
  [/\brepair\(\)/g, '"containerarchive repair"'],
  [/\bkeys\.list\(\)/g, '"containerarchive key list"'],
];

const capital = (text) => `${text[0].toUpperCase()}${text.slice(1)}`;

/** A text of the API (a reason, a warning, a hint) in the words of this command line. */
export const inWords = (text) => WORDS.reduce((all, [name, word]) => all.replace(name, word), text);

/** Codes of errors about arguments: their texts name those of the API. */
const ABOUT_ARGUMENTS = new Set(['ERR_INVALID_ARGUMENT', 'ERR_INVALID_POLICY']);

/** What happened. */
function messageOf(error) {
  const text = String(error?.message ?? error);
  return ABOUT_ARGUMENTS.has(error?.code) && !(error instanceof Failure) ? capital(inWords(text)) : text;
}

/** What to do about an error, if that is known. */
export function hintOf(error) {
  const { code, hint, message } = error;
  // of a directory of another program, where nothing can be created
  const isForeign = /another program/.test(message);
  const text = isForeign || (error instanceof Failure && hint) ? hint : HINTS[code] ?? (hint && inWords(hint));
  return text && capital(text);
}

/** The members of an error that help a user, as plain data. */
function factsOf(error) {
  const { code, path, snapshotId, item, pack, chunk, exitCode, signal, stderrTail, holders } = error;
  return { code, hint: hintOf(error), path, snapshotId, item, pack, chunk, exitCode, signal, stderrTail, holders };
}

/** An error as one JSON line. */
export function errorJson(error) {
  return JSON.stringify({ error: messageOf(error), ...factsOf(error ?? {}) });
}

/** An error as text: what happened, the end of what a command wrote, what to do. */
export function errorText(error) {
  const lines = [`containerarchive: ${printable(messageOf(error))}`];
  const { code, stderrTail, holders } = error ?? {};
  const hint = hintOf(error ?? {});
  if (typeof code === 'string' && code.startsWith('ERR_')) lines[0] += ` (${code})`;
  if (stderrTail) lines.push(...stderrTail.trimEnd().split('\n').slice(-10).map((line) => `  | ${printable(line)}`));
  if (holders?.length > 0) lines.push(`  held by: ${holders.join(', ')}`);
  if (hint) lines.push(`  ${hint}.`);
  return lines.join('\n');
}
