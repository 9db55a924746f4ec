// Error texts: the thing by its path or name, the limit that it exceeded, and a hint that
// can be followed.

import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { runInNewContext } from 'node:vm';
import { ENCRYPTED, PLAIN, afterwards, ContainerArchive, freshRepo, rejectsWith, reopen, temporary, test } from './support/harness.mjs';

test('a filter accepts any time, a snapshot any that can be stored; the message states the range', async (t) => {
  const { repo } = await freshRepo(t);
  const first = await repo.ingest(['a'], { createdAt: '0000-01-01' });
  const last = await repo.ingest(['b'], { createdAt: '9999-12-30T22:00:00Z' });
  assert.equal(last.createdAt, '9999-12-30T22:00:00.000Z');
  // a snapshot dated in the future comes last
  const ids = async (filter) => (await repo.listSnapshots(filter)).map(({ id }) => id);
  assert.deepEqual(await ids({ before: '9999-12-31' }), [first.id, last.id]);
  assert.deepEqual(await ids({ before: '9999-12-31T23:59:59-14:00', after: '0000-01-01T00:00:00+14:00' }), [first.id, last.id]);
  assert.deepEqual(await ids({ after: '9999-12-31' }), []);
  assert.deepEqual(await ids({ before: '0000-01-01T00:00:00+14:00' }), []);
  for (const createdAt of ['9999-12-31', '9999-12-31T23:59:59-14:00', '0000-01-01T00:00:00+14:00', new Date(8.64e15), new Date(-8.64e15)]) {
    const { message } = await rejectsWith(repo.ingest(['x'], { createdAt }), 'ERR_INVALID_ARGUMENT');
    assert.match(message, /^createdAt must be from 0000-01-01T00:00:00\.000Z to 9999-12-30T22:00:00\.000Z, got /);
  }
  for (const createdAt of ['2026-02-30', 'yesterday']) {
    assert.match((await rejectsWith(repo.ingest(['x'], { createdAt }), 'ERR_INVALID_ARGUMENT')).message, /must be an ISO 8601 date/);
  }
});

test('a time may be a Date, of any class and realm', async (t) => {
  const { repo } = await freshRepo(t);
  const time = '2026-11-23T04:00:00.123Z';
  class Later extends Date {
    getTime() { return super.getTime() + 1; }
  }
  for (const createdAt of [new Date(time), new Later(time), runInNewContext('new Date(time)', { time })]) {
    assert.equal((await repo.ingest(['x'], { createdAt })).createdAt, time);
  }
  const count = async (filter) => (await repo.listSnapshots(filter)).length;
  assert.deepEqual([await count({ after: new Date(time) }), await count({ before: new Date(time) })], [3, 0]);
  assert.deepEqual([await count({ after: new Date(8.64e15) }), await count({ after: new Date(-8.64e15) })], [0, 3]);
  assert.equal((await repo.latest({ before: new Date(Date.parse(time) + 1) })).createdAt, time);
  const { message } = await rejectsWith(repo.ingest(['x'], { createdAt: new Date(NaN) }), 'ERR_INVALID_ARGUMENT');
  assert.equal(message, 'createdAt is an invalid Date');
});

test('a hint names no option that is already set', async (t) => {
  const { repo } = await freshRepo(t);
  const { id } = await repo.ingest(['x']);
  const path = join(temporary(t), 'folder');
  mkdirSync(path);
  const without = await rejectsWith(repo.restoreToFile(id, { path }), 'ERR_FILE_EXISTS');
  assert.match(without.hint, /overwrite/);
  const withIt = await rejectsWith(repo.restoreToFile(id, { path, overwrite: true }), 'ERR_FILE_EXISTS');
  assert.match(withIt.message, /not a regular file/);
  assert.equal(withIt.hint, 'choose another path');

  const encrypted = await freshRepo(t, ENCRYPTED);
  const keyless = await ContainerArchive.open(encrypted.path, { keyless: true });
  afterwards(t, () => keyless.close());
  assert.match((await rejectsWith(keyless.ingest(['x']), 'ERR_PASSPHRASE_REQUIRED')).hint, /passphrase.* without \{ keyless: true \}/);
});

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: names that do not fit into a manifest are refused before anything is read`, async (t) => {
    const { repo } = await freshRepo(t, kind);
    let read = 0;
    function* counted() {
      read++;
      yield Buffer.from('x');
    }
    const items = (count) => Array.from({ length: count }, (_, i) => ({ name: String(i).padStart(4096, 'x'), type: 'x', stream: counted() }));
    const { message } = await rejectsWith(repo.ingestMulti(items(18_000)), 'ERR_INVALID_ARGUMENT');
    assert.match(message, /^The manifest of 18000 items, .* may need \d+ bytes, and the limit is \d+: use shorter names, or several snapshots$/);
    assert.equal(read, 0);
    // so are as many tags
    const tags = Object.fromEntries(Array.from({ length: 8_500 }, (_, i) => [String(i).padStart(4096, 'x'), 'y'.repeat(4096)]));
    await rejectsWith(repo.ingest(['x'], { tags }), 'ERR_INVALID_ARGUMENT');
    assert.deepEqual(await repo.listSnapshots(), []);
    assert.equal((await repo.ingestMulti(items(100))).items.length, 100);
    assert.equal(read, 100);
  });
}

test('a stream that is decoded while it is read is refused', async (t) => {
  const { repo } = await freshRepo(t);
  const stream = new PassThrough();
  stream.write(Buffer.from([0xff, 0xfe]));
  const read = stream.read.bind(stream);
  const begun = new Promise((resolve) => {
    stream.read = (...args) => {
      const chunk = read(...args);
      if (chunk !== null) resolve();
      return chunk;
    };
  });
  const ingest = repo.ingest(stream);
  await begun;
  stream.setEncoding('utf8');
  stream.end(Buffer.from([0xff, 0xfe, 0x80]));
  assert.match((await rejectsWith(ingest, 'ERR_INVALID_ARGUMENT')).message, /has an encoding set/);
  assert.ok(stream.destroyed);
  assert.deepEqual(await repo.listSnapshots(), []);
  // strings of a stream without an encoding are text, and stored as UTF-8
  assert.equal((await repo.ingest(Readable.from(['ä', 'b']))).originalSize, 3);
});

test('the error of a missing lock file states how to recreate it', async (t) => {
  const { repo, path } = await freshRepo(t);
  for (const name of ['commit', 'maint']) {
    rmSync(join(path, 'locks', name));
    // a handle that opens now detects it before it writes
    const other = await reopen(t, path);
    const calls = { commit: [() => repo.ingest(['x'])], maint: [() => repo.prune({ keepLast: 1 }), () => other.ingest(['x'])] };
    for (const call of calls[name]) {
      const error = await rejectsWith(call(), 'ERR_STORAGE');
      assert.equal(error.path, `locks/${name}`);
      assert.equal(error.hint, 'run repair(), which recreates the lock files');
    }
    await repo.repair();
    assert.equal((await repo.ingest([name])).originalSize, name.length);
    await repo.prune({ keepLast: 5 });
  }
});

test('the message of a number out of range states the limit and its unit', async (t) => {
  const { repo, path } = await freshRepo(t);
  const range = async (call) => /must be (.*), got/.exec((await rejectsWith(call, 'ERR_INVALID_ARGUMENT')).message)[1];
  assert.equal(await range(ContainerArchive.init(`${path}-2`, { packSize: 5 })), 'from 65536 to 1073741824 bytes');
  assert.equal(await range(ContainerArchive.open(path, { memoryLimit: 0 })), 'at least 1 bytes');
  assert.equal(await range(ContainerArchive.open(path, { threads: 0 })), 'from 1 to 1024');
  assert.equal(await range(repo.ingestMulti([], { concurrency: 17 })), 'from 1 to 16');
});
