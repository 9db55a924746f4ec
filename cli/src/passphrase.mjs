// Where a passphrase comes from: a file, a command, the environment, or the terminal. Never a value
// on the command line, which every user of the machine can read.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { EXIT, Failure, Interrupted, reasonOf } from './failure.mjs';
import { interruption } from './signals.mjs';
import { askSecret } from './terminal.mjs';

const required = (message, details) => new Failure(message, { exitCode: EXIT.passphrase, ...details });

/** Bytes without the newline at their end, which editors and `echo` add. */
function withoutNewline(bytes, source) {
  let end = bytes.length;
  if (end > 0 && bytes[end - 1] === 0x0a) end--;
  if (end > 0 && bytes[end - 1] === 0x0d) end--;
  if (end === 0) throw required(`The passphrase from ${source} is empty`);
  return bytes.subarray(0, end);
}

function fromFile(path) {
  try {
    return withoutNewline(readFileSync(path), `the file ${path}`);
  } catch (cause) {
    if (cause instanceof Failure) throw cause;
    throw required(`The passphrase file ${path} cannot be read: ${reasonOf(cause)}`, { cause });
  }
}

async function fromCommand(command) {
  // Its stderr is for the user. Standard input may be the data of a backup: it must not read that.
  const stdin = process.stdin.isTTY ? 'inherit' : 'ignore';
  const child = spawn(command, { shell: true, stdio: [stdin, 'pipe', 'inherit'] });
  const parts = [];
  child.stdout?.on('data', (part) => parts.push(part));
  // rejects also when the command cannot be started
  const closed = once(child, 'close', { signal: interruption });
  const [status, signal] = await closed.catch((cause) => {
    child.kill();
    interruption.throwIfAborted();
    throw required(`The passphrase command cannot be started: ${cause.message}`, { cause });
  });
  // Ctrl-C ends the command too, perhaps before this process knows of it
  if (signal === 'SIGINT') throw new Interrupted(signal);
  if (status !== 0) throw required(`The passphrase command failed: ${signal ?? `exit code ${status}`}`);
  return withoutNewline(Buffer.concat(parts), 'the passphrase command');
}

/**
 * The one source of those that are given; several are refused, because which of them holds cannot
 * be known.
 * @param given { name: value } of one level (options, or the environment)
 */
function only(given) {
  // an empty variable is one that is not set
  const present = Object.entries(given).filter(([, { value }]) => value !== undefined && value !== '');
  if (present.length > 1) throw required(`Only one of ${present.map(([name]) => name).join(' and ')} can be used`);
  return present[0]?.[1];
}

/**
 * The passphrase that the options or the environment give, as bytes; undefined when neither does.
 * @param options `passphraseFile`, `passphraseCommand` of the command line
 * @param which `''` for that of the repository, `'to'` for that of the one that is copied to
 */
export async function givenPassphrase({ passphraseFile, passphraseCommand }, which = '', env = process.env) {
  const option = which === '' ? '--passphrase' : `--${which}-passphrase`;
  const name = which === '' ? 'CONTAINERARCHIVE_PASSPHRASE' : `CONTAINERARCHIVE_${which.toUpperCase()}_PASSPHRASE`;
  const source = only({
    [`${option}-file`]: { value: passphraseFile, read: fromFile },
    [`${option}-command`]: { value: passphraseCommand, read: fromCommand },
  }) ?? only({
    [name]: { value: env[name], read: (text) => withoutNewline(Buffer.from(text), name) },
    [`${name}_FILE`]: { value: env[`${name}_FILE`], read: fromFile },
    [`${name}_COMMAND`]: { value: env[`${name}_COMMAND`], read: fromCommand },
  });
  return source?.read(source.value);
}

const HOW = 'Set CONTAINERARCHIVE_PASSPHRASE_FILE, use --passphrase-command, or run it on a terminal';

/** Asks for the passphrase of a repository that exists. */
export async function askPassphrase(where) {
  const text = await askSecret(`Passphrase of ${where}: `);
  if (text === null) throw required('The repository is encrypted, and no passphrase is given', { code: 'ERR_PASSPHRASE_REQUIRED', hint: HOW });
  if (text === '') throw required('The passphrase is empty');
  return Buffer.from(text);
}

/** Asks for a new passphrase, twice. `hint`: what else the user can do. */
export async function askNewPassphrase(hint = HOW) {
  const text = await askSecret('New passphrase: ');
  if (text === null) throw required('No new passphrase is given', { hint });
  if (text === '') throw required('The passphrase is empty', { hint });
  if ((await askSecret('The same again: ')) !== text) throw required('The two passphrases differ');
  return Buffer.from(text);
}
