// Files that a command writes for the user: their directories, their names, what a killed restore
// has left there, and errors of the system as text that states what to do.

import { randomBytes } from 'node:crypto';
import {
  closeSync, fchmodSync, fsyncSync, mkdirSync, openSync, readdirSync, realpathSync, renameSync, rmSync, statSync, writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { Failure } from './failure.mjs';

/** What an error of the system means for the user: code, text after the path, hint. */
const MEANINGS = {
  ENOTDIR: ['ERR_NOT_A_DIRECTORY', 'is not a directory', 'Choose another path'],
  EEXIST: ['ERR_FILE_EXISTS', 'exists', 'Choose another path'],
  EISDIR: ['ERR_FILE_EXISTS', 'is a directory', 'Add the name of a file to the path'],
  ENOENT: ['ERR_STORAGE', 'cannot be created: a directory in its path is missing', 'Check the path, and what is mounted there'],
  EACCES: ['ERR_PERMISSION', 'cannot be written by this user', 'Choose another path, or change the permissions'],
  EPERM: ['ERR_PERMISSION', 'cannot be written by this user', 'Choose another path, or change the permissions'],
  EROFS: ['ERR_PERMISSION', 'is on a file system that is mounted read-only', 'Choose another path'],
  ENOSPC: ['ERR_NO_SPACE', 'cannot be written: no space is left', 'Free some space, or choose a path on another disk'],
  EDQUOT: ['ERR_NO_SPACE', 'cannot be written: the quota is used up', 'Free some space, or choose a path on another disk'],
  ENAMETOOLONG: ['ERR_STORAGE', 'is too long for a path here', 'Choose a shorter path'],
};

/** An error of the system about a file of the user. */
export function targetFailure(path, cause) {
  const [code, text, hint] = MEANINGS[cause?.code] ?? ['ERR_STORAGE', `cannot be written: ${cause?.message ?? cause}`];
  return new Failure(`${path} ${text}`, { code, hint, cause });
}

/** The state of a path; undefined when there is nothing, also because a part of it is a file. */
function stateOf(path) {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch (cause) {
    if (cause.code === 'ENOTDIR') return undefined;
    throw targetFailure(path, cause);
  }
}

/**
 * Creates a directory and those above it. One by one: the recursive call of Node does not end where
 * the system allows no directory, as in /proc.
 */
export function createFolder(path) {
  const missing = [];
  let at = path;
  for (; stateOf(at) === undefined && dirname(at) !== at; at = dirname(at)) missing.unshift(at);
  if (!stateOf(at)?.isDirectory()) throw targetFailure(at, { code: 'ENOTDIR' });
  for (const folder of missing) {
    try {
      mkdirSync(folder);
    } catch (cause) {
      // another process may have created it
      if (cause.code !== 'EEXIST' || !stateOf(folder)?.isDirectory()) throw targetFailure(folder, cause);
    }
  }
}

/**
 * What Windows takes for something else than a name in a directory: the stream of a file, a
 * device, and a name without the dots and spaces at its end.
 */
const NOT_ON_WINDOWS = /[<>:"|?*\p{Cc}]|[. ]$|^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\.|$)/iu;

/** The file name of an item in a directory. Names are data, and may be anything. */
export function fileName(name, platform = process.platform) {
  const isSafe = !['', '.', '..'].includes(name) && !/[/\\\0]/.test(name) && !(platform === 'win32' && NOT_ON_WINDOWS.test(name));
  if (!isSafe) {
    throw new Failure(`The name of the item ${JSON.stringify(name)} cannot be a file name`, { hint: 'Restore it by itself: --item NAME --to FILE' });
  }
  return name;
}

/** Writes a new file, and flushes it to the disk; `mode` is that of the file that it replaces. */
function writeNew(path, text, mode) {
  const fd = openSync(path, 'wx');
  try {
    if (mode !== undefined) fchmodSync(fd, mode & 0o777);
    writeFileSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/**
 * Writes a file that appears with all of its text, or not at all: a write that fails leaves the
 * file as it was. A link to a file stays, and what is no regular file (a pipe, a device) is written
 * to.
 */
export function replaceFile(path, text) {
  const old = stateOf(path);
  try {
    if (old && !old.isFile()) return writeFileSync(path, text);
    const target = old ? realpathSync(path) : path;
    const temporary = join(dirname(target), `${PREFIX}${randomBytes(8).toString('hex')}`);
    try {
      writeNew(temporary, text, old?.mode);
      return renameSync(temporary, target);
    } catch (cause) {
      rmSync(temporary, { force: true });
      throw cause;
    }
  } catch (cause) {
    throw targetFailure(path, cause);
  }
}

/** The names of temporary files, those of restores in the engine: src/storage/export.rs. */
const PREFIX = '.tmp-containerarchive-';
const TEMPORARY = new RegExp(`^${PREFIX.replaceAll('.', '\\.')}[0-9a-f]{16}$`);

/**
 * The temporary files of restores in a directory: [{ path, size }]. Nothing in them states whether
 * their restore still runs.
 */
export function temporaryFiles(folder) {
  let names;
  try {
    names = readdirSync(folder).filter((name) => TEMPORARY.test(name));
  } catch {
    return []; // the restore itself reports what is wrong
  }
  return names.flatMap((name) => {
    const path = join(folder, name);
    const stats = statSync(path, { throwIfNoEntry: false });
    return stats?.isFile() ? [{ path, size: stats.size }] : [];
  });
}
