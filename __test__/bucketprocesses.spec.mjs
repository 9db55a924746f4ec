// Processes that write into one bucket and prune it while they are killed and frozen, and while
// prunes take the leases of the frozen ones for abandoned: no promised snapshot is lost.
//
// CONTAINERARCHIVE_SOAK_SECONDS sets how long (npm run test:soak -- SECONDS SEED bucket).

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { CHEAP_KDF, ContainerArchive, PASSPHRASE, assertSameBytes, restored, test } from './support/harness.mjs';
import { dataOf } from './support/bucket-data.mjs';
import { skip, startMoto } from './support/object-server.mjs';

const PROGRAM = fileURLToPath(new URL('support/bucket-process.mjs', import.meta.url));
const SECONDS = Number(process.env.CONTAINERARCHIVE_SOAK_SECONDS ?? 6);
const SEED = Number(process.env.CONTAINERARCHIVE_SOAK_SEED ?? Date.now() % 1_000_000) + 1;
const ROLES = ['writer', 'writer', 'pruner', 'pruner'];

test(`processes that are killed and frozen lose no promised snapshot of a bucket, seed ${SEED - 1}`, async (t) => {
  const server = await startMoto('bucket');
  t.after(() => server.stop());
  const url = 's3://bucket/processes';
  const options = { passphrase: PASSPHRASE, storage: server.storage };
  const small = { packSize: 1 << 20, chunking: { min: 4096, avg: 16_384, max: 65_536 } };
  const archive = await ContainerArchive.init(url, { ...options, ...small, kdf: CHEAP_KDF });
  t.after(() => archive.close());

  let state = SEED;
  const random = (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const [promised, failures] = [[], []];
  let [ingests, prunes, ended] = [0, 0, false];
  const note = ({ id, number, kind, pruned, failed }) => {
    if (failed !== undefined) failures.push(failed);
    if (pruned !== undefined) prunes += 1;
    if (id !== undefined) ingests += 1;
    if (kind === 'kept') promised.push({ id, number });
  };
  const running = [];
  const start = (at) => {
    const job = JSON.stringify({ url, role: ROLES[at], options, seed: 1 + random(2 ** 31 - 1) });
    const child = spawn(process.execPath, [PROGRAM, job], { stdio: ['ignore', 'pipe', 'inherit'] });
    let rest = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      const lines = (rest + text).split('\n');
      // a line that was cut off by the end of the process was not promised
      rest = lines.pop();
      for (const line of lines) note(JSON.parse(line));
    });
    child.once('close', () => {
      if (!ended) start(at);
    });
    running[at] = child;
  };
  ROLES.forEach((_, at) => start(at));

  const end = Date.now() + SECONDS * 1000;
  while (Date.now() < end || ingests === 0 || prunes === 0) {
    await sleep(200 + random(600));
    const child = running[random(ROLES.length)];
    if (random(2) === 0) {
      child.kill('SIGKILL');
    } else {
      child.kill('SIGSTOP');
      await sleep(300 + random(1200));
      child.kill('SIGCONT');
    }
  }
  ended = true;
  const closed = running.map((child) => (child.exitCode === null && child.signalCode === null ? once(child, 'close') : undefined));
  for (const child of running) child.kill('SIGKILL');
  await Promise.all(closed);
  assert.deepEqual(failures, []);
  assert.ok(ingests > 0 && prunes > 0, `${ingests} ingests, ${prunes} prunes`);

  const check = async () => {
    const { ok, errors } = await archive.verify({ level: 'full' });
    assert.deepEqual([ok, errors], [true, []]);
    const listed = new Set((await archive.listSnapshots()).map(({ id }) => id));
    for (const { id, number } of promised) {
      assert.ok(listed.has(id), `${id} is missing`);
      assertSameBytes(await restored(archive, id), Buffer.concat(dataOf(number)), id);
    }
  };
  await check();
  // the sessions that were killed are gone
  await archive.prune({ keepLast: 'all' }, { force: true, maxUnused: 0 });
  await check();
  console.error(`bucket: ${ingests} ingests, ${promised.length} to be kept, ${prunes} prunes`);
}, { timeout: (3 * SECONDS + 180) * 1000, skip: skip || (process.platform === 'win32' && 'SIGSTOP exists on Unix only') });
