// The repository of a command: its path, and how it is opened.

import { existsSync, realpathSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { loadApi } from './api.mjs';
import { sameFile } from './directory.mjs';
import { Failure } from './failure.mjs';
import { askPassphrase, givenPassphrase } from './passphrase.mjs';
import { hasTerminal } from './terminal.mjs';

/** How often a wrong passphrase may be typed. */
const ATTEMPTS = 3;

/** Whether a location is the URL of a bucket. */
export const isUrl = (location) => /^[a-z][a-z0-9+.-]+:\/\//i.test(location);

/** The absolute path of the repository, or its URL. */
export function repositoryPath({ repo }) {
  const path = repo ?? process.env.CONTAINERARCHIVE_REPOSITORY;
  if (path === undefined || path === '') {
    throw new Failure('No repository is given', { hint: 'Use -r PATH, or set CONTAINERARCHIVE_REPOSITORY' });
  }
  return isUrl(path) ? path : resolve(path);
}

/** The state of the directory of the repository; undefined without one, which open() reports. */
export function repositoryStats(globals) {
  const path = repositoryPath(globals);
  try {
    return statSync(path, { bigint: true });
  } catch {
    return undefined;
  }
}

/** Whether a path, which may be missing, is the repository or inside it, also through links. */
export function isInRepository(path, globals) {
  const repository = repositoryStats(globals);
  if (repository === undefined) return false;
  let at = resolve(path);
  while (!existsSync(at) && dirname(at) !== at) at = dirname(at);
  for (at = realpathSync(at); ; at = dirname(at)) {
    if (sameFile(statSync(at, { bigint: true }), repository)) return true;
    if (dirname(at) === at) return false;
  }
}

/** Opens with passphrases from the terminal. */
async function openAsking(ContainerArchive, path, options, output) {
  for (let attempt = 1; ; attempt++) {
    const passphrase = await askPassphrase(path);
    try {
      return await ContainerArchive.open(path, { ...options, passphrase });
    } catch (error) {
      if (error.code !== 'ERR_WRONG_PASSPHRASE' || attempt === ATTEMPTS) throw error;
      output.note('Wrong passphrase.');
    } finally {
      passphrase.fill(0);
    }
  }
}

/**
 * Opens with the passphrase that is given; else without one, with `keyless`, or with a typed one.
 */
async function openWith(path, passphrase, { keyless, ...options }, output) {
  const ContainerArchive = await loadApi();
  try {
    return await ContainerArchive.open(path, passphrase === undefined ? options : { ...options, passphrase });
  } catch (error) {
    if (passphrase !== undefined || error.code !== 'ERR_PASSPHRASE_REQUIRED') throw error;
    if (keyless) return ContainerArchive.open(path, { ...options, keyless });
    if (!hasTerminal()) throw error;
    return openAsking(ContainerArchive, path, options, output);
  }
}

/**
 * Opens the repository; its warnings go to stderr. The terminal is asked for a passphrase only when
 * the repository is encrypted and none is given.
 * @param options of open(); with `keyless`, the repository is opened without a passphrase instead
 * @param which whose passphrase it is, as in givenPassphrase()
 */
export async function openRepository(globals, { output, signal }, options = {}, which = '') {
  const path = repositoryPath(globals);
  const promoted = globals.promote ? { promote: true, readOnly: false } : {};
  const archive = await openWith(path, await givenPassphrase(globals, which), { ...options, ...promoted, signal }, output);
  archive.on('warning', ({ message }) => output.warn(message));
  archive.on('repair:healed', ({ pack }) => output.note(`Repaired pack ${pack} from parity.`));
  return archive;
}

/** Opens the repository for a piece of work, and closes it after it. */
export async function withRepository(globals, session, options, work) {
  const archive = await openRepository(globals, session, options);
  try {
    return await work(archive);
  } finally {
    await archive.close();
  }
}
