// init: creates a repository.

import { readdirSync } from 'node:fs';
import { loadApi } from '../api.mjs';
import { EXIT, Failure } from '../failure.mjs';
import { askNewPassphrase, givenPassphrase } from '../passphrase.mjs';
import { isUrl, repositoryPath } from '../repository.mjs';
import { compression } from '../values.mjs';

const HINT = 'Set CONTAINERARCHIVE_PASSPHRASE_FILE, use --passphrase-command, run it on a terminal, or use --no-encryption';

export function define(program, run) {
  program
    .command('init')
    .summary('create a repository')
    .description('Creates an encrypted repository in an empty or missing directory.')
    .option('-c, --compression <how>', 'zstd, zstd:LEVEL, zstd:auto, gzip, gzip:LEVEL or none', compression, 'zstd')
    .option('--no-encryption', 'anyone who can read the directory can read the backups')
    .option('--no-parity', 'damaged files cannot be repaired; takes 5 % less space')
    .action(run(init));
}

/** What an init that was interrupted may have left; everything else is of another program. */
const LEFTOVER = /^(packs|snapshots|index|keys|locks|quarantine|README\.txt|\.tmp-.*)$/;

/**
 * Throws when a repository cannot be created there: init() would find that out after a passphrase
 * was asked for.
 */
async function refuseUnfit(ContainerArchive, path) {
  try {
    await (await ContainerArchive.open(path, { readOnly: true })).close();
  } catch (error) {
    if (error.code === 'ERR_NOT_A_DIRECTORY') throw error;
    // one that is damaged, or of a later version, is named by init() itself
    if (error.code !== 'ERR_PASSPHRASE_REQUIRED') return error.code === 'ERR_REPO_NOT_FOUND' ? refuseForeign(path) : undefined;
  }
  throw new Failure(`A repository already exists at ${path}`, { code: 'ERR_REPO_EXISTS' });
}

/** Throws when a directory has files of another program. */
function refuseForeign(path) {
  if (isUrl(path)) return;
  let names;
  try {
    names = readdirSync(path);
  } catch {
    return; // missing, or init() itself reports what is wrong
  }
  if (names.every((name) => LEFTOVER.test(name))) return;
  throw new Failure(`The folder ${path} is not empty`, { code: 'ERR_NOT_EMPTY', hint: 'Choose an empty or missing directory' });
}

async function init(session, options) {
  const path = repositoryPath(options);
  const ContainerArchive = await loadApi();
  if (options.encryption) await refuseUnfit(ContainerArchive, path);
  const given = await givenPassphrase(options);
  if (given !== undefined && !options.encryption) {
    throw new Failure('A passphrase is given, and --no-encryption', { hint: 'Omit one of them' });
  }
  const passphrase = options.encryption ? given ?? await askNewPassphrase(HINT) : undefined;
  const archive = await ContainerArchive.init(path, {
    compression: options.compression,
    signal: session.signal,
    ...(passphrase && { passphrase }),
    ...(!options.parity && { parity: false }),
  });
  passphrase?.fill(0);
  const { repositoryId } = archive;
  await archive.close();
  const text = `created repository ${repositoryId} at ${path}`;
  session.output.result({ repositoryId, path, encrypted: options.encryption }, text);
  if (options.encryption) session.output.note('Without its passphrase the backups cannot be read: keep a copy of it somewhere else.');
  return EXIT.ok;
}
