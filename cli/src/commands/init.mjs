// init: creates a repository.

import { loadApi } from '../api.mjs';
import { EXIT, Failure } from '../failure.mjs';
import { askNewPassphrase, givenPassphrase } from '../passphrase.mjs';
import { repositoryPath } from '../repository.mjs';
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

/** Throws when there is a repository: init() would find it after a passphrase was asked for. */
async function refuseExisting(ContainerArchive, path) {
  try {
    await (await ContainerArchive.open(path, { readOnly: true })).close();
  } catch (error) {
    if (error.code !== 'ERR_PASSPHRASE_REQUIRED') return; // init() itself finds out
  }
  throw new Failure(`A repository already exists at ${path}`, { code: 'ERR_REPO_EXISTS' });
}

async function init(session, options) {
  const path = repositoryPath(options);
  const ContainerArchive = await loadApi();
  const given = await givenPassphrase(options);
  if (given !== undefined && !options.encryption) {
    throw new Failure('A passphrase is given, and --no-encryption', { hint: 'Omit one of them' });
  }
  if (given === undefined && options.encryption) await refuseExisting(ContainerArchive, path);
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
