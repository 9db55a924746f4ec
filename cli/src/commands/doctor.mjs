// doctor: whether this machine, this package and the repository are in order.

import { cpus } from 'node:os';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { loadApi } from '../api.mjs';
import { EXIT, hintOf } from '../failure.mjs';
import { count, duration, plural, printable, size } from '../output.mjs';
import { isUrl, openRepository, repositoryPath } from '../repository.mjs';
import { span } from '../values.mjs';

/** Less free space than this share, or number of inodes, is reported. */
const LOW = { share: 0.05, bytes: 1 << 30, inodes: 1000 };

export function define(program, run) {
  program
    .command('doctor')
    .summary('check this machine, the package and the repository')
    .description('Checks this machine, the package and the repository. Exits with 1 when a check fails.')
    .option('--max-age <duration>', 'fail when the newest snapshot is older, as 26h', span)
    .action(run(doctor));
}

/** What about() states of this processor, for people. */
const NAMES = { sha256: 'SHA-256', aes: 'AES-256' };

/** The state of one check. */
const good = (text, more) => ({ status: 'ok', text, ...more });
const bad = (text, hint) => ({ status: 'failed', text, ...(hint && { hint }) });
const unsure = (text, hint) => ({ status: 'warning', text, ...(hint && { hint }) });

function checkPlatform() {
  const libc = process.report?.getReport?.()?.header?.glibcVersionRuntime;
  const clib = libc ? `, glibc ${libc}` : '';
  return good(`${process.platform} ${process.arch}${clib}, ${plural(cpus().length, 'core')}, Node ${process.versions.node}`);
}

/** Everything that about() states: after the version and the file, how this processor computes. */
async function checkAddon() {
  const { version, addon, ...kernels } = (await loadApi()).about();
  const parts = Object.entries(kernels).map(([name, kernel]) => `${NAMES[name] ?? name} by ${kernel}`);
  return good(`version ${version}, ${addon ?? 'loaded'}; ${parts.join(', ')}`);
}

async function checkSpace(path) {
  const { bavail, bsize, blocks, ffree, files } = await fs.statfs(path);
  const [free, total] = [bavail * bsize, blocks * bsize];
  const inodes = files > 0 ? `, ${count(ffree)} inodes free` : '';
  const text = `${size(free)} of ${size(total)} free${inodes}`;
  if (files > 0 && ffree < LOW.inodes) return bad(text, 'Free inodes: delete small files, or use another file system');
  return free < LOW.bytes || free < LOW.share * total ? unsure(text, 'Free space, or prune with a stricter policy') : good(text);
}

/** Removes leases of processes that have exited: the same locks as for a backup. */
async function checkLocks(archive, path) {
  await fs.access(join(path, 'locks'), fs.constants.W_OK);
  await archive.unlock();
  const held = (await archive.locks()).filter((lock) => lock.held);
  return good(held.length === 0 ? 'locks work, nothing is writing' : `locks work, ${plural(held.length, 'operation')} writing`);
}

/** Whether the service keeps objects from being overwritten, and who is writing. */
async function checkObjectStorage(archive) {
  await archive.unlock();
  const { objectStorage } = await archive.stats();
  const held = (await archive.locks()).filter((lock) => lock.held);
  const text = `conditional puts are ${objectStorage.conditionalPut}, ${held.length === 0 ? 'nothing is writing' : `${plural(held.length, 'operation')} writing`}`;
  return objectStorage.conditionalPut === 'honoured' ? good(text) : unsure(text, 'Let one process at a time write, or use another service');
}

async function checkAge(archive, maxAge) {
  const newest = await archive.latest();
  if (newest === null) return maxAge === undefined ? unsure('there is no snapshot') : bad('there is no snapshot', 'Run a backup');
  const age = Date.now() - Date.parse(newest.createdAt);
  const text = `the newest snapshot is ${duration(Math.max(0, age / 1000))} old`;
  return maxAge !== undefined && age > maxAge ? bad(`${text}, more than ${duration(maxAge / 1000)}`, 'Look at the job that makes the backups') : good(text);
}

async function checkContents(archive, signal) {
  const { ok, errors, stats } = await archive.verify({ level: 'quick', signal });
  const checked = `${plural(stats.snapshotsChecked, 'snapshot')} and ${plural(stats.packsChecked, 'pack')} in order`;
  return ok ? good(`${checked} (a quick check, which reads no pack)`) : bad(`${plural(errors.length, 'problem')}: ${printable(errors[0].error)}`, 'Run "containerarchive check"');
}

async function doctor(session, { maxAge, ...globals }) {
  const { output, signal } = session;
  let failed = 0;
  const check = async (name, work) => {
    let found;
    try {
      found = await work();
    } catch (error) {
      signal.throwIfAborted();
      found = bad(error.message, hintOf(error));
    }
    if (found.status === 'failed') failed++;
    const { status, text, hint } = found;
    const style = { ok: 'green', warning: 'yellow', failed: 'red' }[status];
    output.result({ check: name, status, message: text, ...(hint && { hint }) }, `${output.styled(style, status.padEnd(7))}  ${name.padEnd(11)} ${printable(text)}${hint ? `\n${' '.repeat(21)}${hint}` : ''}`);
    return status !== 'failed';
  };
  await check('platform', checkPlatform);
  const hasAddon = await check('addon', checkAddon);
  let path;
  await check('path', () => {
    path = repositoryPath(globals);
    return good(path);
  });
  if (path !== undefined && hasAddon) await checkRepository(path, globals, session, check, maxAge);
  return failed > 0 ? EXIT.failed : EXIT.ok;
}

async function checkRepository(path, globals, session, check, maxAge) {
  let archive;
  const opened = await check('repository', async () => {
    archive = await openRepository(globals, session);
    const keys = await archive.keys.list();
    return good(`${archive.repositoryId}, ${keys.length === 0 ? 'not encrypted' : `encrypted, ${plural(keys.length, 'key')}`}`);
  });
  if (!opened) return;
  try {
    if (isUrl(path)) {
      await check('storage', () => checkObjectStorage(archive));
    } else {
      await check('space', () => checkSpace(path));
      await check('locks', () => checkLocks(archive, path));
    }
    await check('age', () => checkAge(archive, maxAge));
    await check('contents', () => checkContents(archive, session.signal));
  } finally {
    await archive.close();
  }
}
