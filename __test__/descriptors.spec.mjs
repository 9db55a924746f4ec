// A process without free descriptors: nothing is reported as damaged, nothing is recorded, and many
// paths need few of them.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ContainerArchive, temporary, test } from './support/harness.mjs';

/** Runs only the test of this name, in a process that may open this many files. */
function limited(name, limit) {
  const pattern = `^${name}$`;
  const args = ['--test', '--test-name-pattern', pattern, fileURLToPath(import.meta.url)];
  const env = { ...process.env, LIMITED: '1' };
  delete env.NODE_TEST_CONTEXT;
  const command = `ulimit -n ${limit}; exec "$0" "$@"`;
  return spawnSync('sh', ['-c', command, process.execPath, ...args], { env, encoding: 'utf8' });
}

function testLimited(name, limit, body) {
  const skip = process.platform === 'win32' && 'skipped: there is no ulimit on Windows';
  test(
    name,
    async (t) => {
      if (process.env.LIMITED) return body(t);
      const { status, stdout, stderr } = limited(name, limit);
      assert.equal(status, 0, stdout + stderr);
    },
    { skip },
  );
}

testLimited('a thousand paths need few descriptors', 256, async (t) => {
  const folder = temporary(t);
  const archive = await ContainerArchive.init(join(folder, 'repo'));
  const items = Array.from({ length: 1000 }, (_, number) => {
    const path = join(folder, `file ${number}`);
    writeFileSync(path, `content ${number}`);
    return { stream: { path }, name: String(number), type: 'file' };
  });
  const snapshot = await archive.ingestMulti(items);
  assert.equal(snapshot.items.length, items.length);
  await archive.close();
});

testLimited('a process without descriptors reports no damage', 80, async (t) => {
  const folder = join(temporary(t), 'repo');
  const archive = await ContainerArchive.init(folder, { packSize: 65536 });
  for (let number = 0; number < 3; number++) await archive.ingest(randomBytes(300_000));
  for (const spare of [0, 1, 2]) {
    for (const level of ['quick', 'full']) {
      const taken = [];
      try {
        for (;;) taken.push(openSync('/dev/null'));
      } catch {
        // there are no more descriptors
      }
      taken.splice(0, spare).forEach((fd) => closeSync(fd));
      const found = await archive.verify({ level }).then(
        (result) => ({ ok: result.ok, codes: result.errors.map((error) => error.code) }),
        (error) => ({ ok: false, codes: [error.code] }),
      );
      const repaired = await archive.repair().then(
        () => 'resolved',
        (error) => error.code,
      );
      taken.forEach((fd) => closeSync(fd));
      assert.deepEqual(found.codes.filter((code) => !['ERR_UNREADABLE', 'ERR_STORAGE'].includes(code)), [], `${spare} ${level}`);
      assert.ok(['resolved', 'ERR_UNREADABLE', 'ERR_STORAGE'].includes(repaired), repaired);
      assert.equal((await archive.verify({ level: 'full' })).ok, true, 'the handle remembers nothing');
    }
  }
  await archive.close();
});
