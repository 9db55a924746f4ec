// node examples/volume-tar.mjs REPOSITORY VOLUME NEW_DIRECTORY
//
// Backs up a directory, such as the one of a Docker volume, as a tar stream, and unpacks the
// snapshot into a new directory. The passphrase is in BACKUP_PASSPHRASE. It needs GNU tar.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rename, rm } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { ContainerArchive } from '@serve.zone/containerarchive';

/**
 * The order of names and the numbers of owners do not depend on the machine, so that what did not
 * change is found again. No compression: the repository compresses, after deduplication.
 */
const TAR = [
  'tar', '--create', '--sort=name', '--numeric-owner', '--format=posix', '--pax-option=delete=atime,delete=ctime',
];

/**
 * GNU tar exits with 1 when a file changed while it was read, and with 2 for real errors. On a live
 * volume 1 is accepted, with a warning; the snapshot then has that file as it was read.
 */
function backUp(archive, volume) {
  const command = [...TAR, '--directory', volume, '.'];
  const name = basename(resolve(volume));
  const item = { command, okExitCodes: [0, 1], name: `${name}.tar`, type: 'volume-tar' };
  return archive.ingestCommand(item, { tags: { volume: name } });
}

/** Unpacks into a directory that appears under its name only when it is complete. */
async function restoreInto(archive, { id, items: [{ name }] }, directory) {
  const partial = `${resolve(directory)}.partial`;
  await mkdir(partial);
  try {
    const args = ['--extract', '--preserve-permissions', '--directory', partial];
    const tar = spawn('tar', args, { stdio: ['pipe', 'inherit', 'inherit'] });
    const exited = once(tar, 'close');
    const fed = pipeline(await archive.restore(id, { item: name }), tar.stdin);
    const [[code], error] = await Promise.all([exited, fed.then(() => null, (reason) => reason)]);
    if (code !== 0) throw new Error(`tar exited with ${code}`, { cause: error });
    if (error !== null) throw error;
    await rename(partial, directory);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    throw error;
  }
}

const [repository, volume, directory] = process.argv.slice(2);
if (!directory) {
  console.error('Usage: node examples/volume-tar.mjs REPOSITORY VOLUME NEW_DIRECTORY');
  process.exit(1);
}
const passphrase = process.env.BACKUP_PASSPHRASE;
const archive = await ContainerArchive.openOrInit(repository, { passphrase, compression: 'zstd' });
archive.on('warning', ({ code, message, stderrTail }) => console.warn(code, message, stderrTail ?? ''));
try {
  const snapshot = await backUp(archive, volume);
  const { id, originalSize, storedSize } = snapshot;
  console.log(`backed up ${volume}: ${originalSize} bytes, ${storedSize} stored, snapshot ${id}`);
  await restoreInto(archive, snapshot, directory);
  console.log(`restored into ${directory}`);
} finally {
  await archive.close();
}
