// Programs for the published package still work: every call of its API as they make it, by the
// package's name, through `import` and through `require`. Later additions are not used here.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createReadStream, createWriteStream, existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { CHEAP_KDF, KIB, MIB, afterwards, collect, compressible, random, root, temporary, test } from './support/harness.mjs';

const NAME = '@serve.zone/containerarchive';
const WAYS = {
  import: async () => (await import(NAME)).ContainerArchive,
  require: async () => createRequire(import.meta.url)(NAME).ContainerArchive,
};

/** Fails unless an object has these fields, each of its type; it may have more. */
function assertShape(object, shape) {
  for (const [name, type] of Object.entries(shape)) assert.equal(typeof object[name], type, `${name} of ${JSON.stringify(object)}`);
}

const SNAPSHOT = {
  id: 'string', version: 'number', createdAt: 'string', tags: 'object', originalSize: 'number', storedSize: 'number',
  chunkCount: 'number', newChunks: 'number', reusedChunks: 'number', items: 'object',
};
const ITEM = { name: 'string', type: 'string', size: 'number', chunkCount: 'number' };

function assertSnapshot(snapshot, { size, tags, items }) {
  assertShape(snapshot, SNAPSHOT);
  for (const item of snapshot.items) assertShape(item, ITEM);
  assert.match(snapshot.id, /^[0-9a-f]+$/);
  assert.equal(new Date(snapshot.createdAt).toISOString(), snapshot.createdAt);
  assert.equal(snapshot.originalSize, size);
  assert.deepEqual(snapshot.tags, tags);
  assert.deepEqual(snapshot.items.map(({ name, type }) => ({ name, type })), items);
  assert.equal(snapshot.newChunks + snapshot.reusedChunks, snapshot.chunkCount);
  assert.equal(snapshot.items.reduce((sum, item) => sum + item.size, 0), size);
}

for (const [way, load] of Object.entries(WAYS)) {
  for (const options of [undefined, { passphrase: 'my-secret-passphrase' }]) {
    test(`through ${way}, ${options ? 'with a passphrase' : 'without options'}: every call of the published API`, async (t) => {
      const ContainerArchive = await load();
      const folder = temporary(t);
      const path = join(folder, 'backups');
      const dump = compressible(3 * MIB, 130);
      const volume = random(2 * MIB, 131);
      writeFileSync(join(folder, 'dump.sql'), dump);
      const ids = [];
      let repo;
      afterwards(t, () => repo?.close());

      await t.test('init(path, { passphrase })', async () => {
        repo = await (options ? ContainerArchive.init(path, options) : ContainerArchive.init(path));
        assert.ok(repo instanceof ContainerArchive);
        const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
        for (const name of ['chunking', 'compression', 'parity']) assert.ok(config[name], name);
        assert.equal(JSON.stringify(config).includes('my-secret'), false);
        await assert.rejects(ContainerArchive.init(path, options), { code: 'ERR_REPO_EXISTS' });
      });

      await t.test('ingest(stream, { tags, items })', async () => {
        const snapshot = await repo.ingest(createReadStream(join(folder, 'dump.sql')), {
          tags: { service: 'postgres', type: 'scheduled' },
          items: [{ name: 'database.sql', type: 'database-dump' }],
        });
        assertSnapshot(snapshot, {
          size: dump.length, tags: { service: 'postgres', type: 'scheduled' }, items: [{ name: 'database.sql', type: 'database-dump' }],
        });
        assert.ok(snapshot.newChunks > 0 && snapshot.storedSize > 0 && snapshot.storedSize < dump.length);
        ids.push(snapshot.id);
      });

      await t.test('ingest(stream)', async () => {
        const snapshot = await repo.ingest(Readable.from([dump]));
        assertSnapshot(snapshot, { size: dump.length, tags: {}, items: [{ name: 'data', type: 'data' }] });
        assert.deepEqual([snapshot.newChunks, snapshot.storedSize], [0, 0], 'all of it was there');
        ids.push(snapshot.id);
      });

      await t.test('ingestMulti([{ stream, name, type }], { tags })', async () => {
        const snapshot = await repo.ingestMulti([
          { stream: createReadStream(join(folder, 'dump.sql')), name: 'database.sql', type: 'database-dump' },
          { stream: Readable.from([volume]), name: 'uploads.tar', type: 'volume-tar' },
        ], { tags: { service: 'web' } });
        assertSnapshot(snapshot, {
          size: dump.length + volume.length,
          tags: { service: 'web' },
          items: [{ name: 'database.sql', type: 'database-dump' }, { name: 'uploads.tar', type: 'volume-tar' }],
        });
        ids.push(snapshot.id);
      });

      await t.test('restore(id, { item }) and .pipe()', async () => {
        const target = join(folder, 'restored.tar');
        const stream = await repo.restore(ids[2], { item: 'uploads.tar' });
        assert.ok(stream instanceof Readable);
        await new Promise((resolve, reject) => stream.on('error', reject).pipe(createWriteStream(target)).on('finish', resolve).on('error', reject));
        assert.ok(readFileSync(target).equals(volume));
        await assert.rejects(async () => collect(await repo.restore(ids[2], { item: 'nothing' })), { code: 'ERR_ITEM_NOT_FOUND' });
      });

      await t.test('restore(id): the items one after the other', async () => {
        assert.ok((await collect(await repo.restore(ids[2]))).equals(Buffer.concat([dump, volume])));
        const parts = [];
        await pipeline(await repo.restore(ids[0]), new PassThrough({ highWaterMark: 16 * KIB }), async (stream) => {
          for await (const part of stream) parts.push(part);
        });
        assert.ok(Buffer.concat(parts).equals(dump));
      });

      await t.test('listSnapshots({ tags, after, before })', async () => {
        const listed = async (filter) => (await repo.listSnapshots(filter)).map(({ id }) => id);
        assert.deepEqual(await listed(), [...ids].reverse());
        assert.deepEqual(await listed({}), [...ids].reverse());
        assert.deepEqual(await listed({ tags: { service: 'postgres' } }), [ids[0]]);
        assert.deepEqual(await listed({ tags: { service: 'postgres', type: 'manual' } }), []);
        const { createdAt } = await repo.getSnapshot(ids[1]);
        assert.ok((await listed({ after: createdAt })).includes(ids[1]), 'after is inclusive');
        assert.ok(!(await listed({ before: createdAt })).includes(ids[1]), 'before is exclusive');
        assert.deepEqual(await listed({ after: '2100-01-01T00:00:00Z' }), []);
        assert.deepEqual(await listed({ after: '2000-01-01', before: '2100-01-01' }), [...ids].reverse());
      });

      await t.test('getSnapshot(id)', async () => {
        for (const listed of await repo.listSnapshots()) assert.deepEqual(await repo.getSnapshot(listed.id), listed);
        await assert.rejects(repo.getSnapshot('0'.repeat(32)), { code: 'ERR_SNAPSHOT_NOT_FOUND' });
      });

      await t.test('verify({ level })', async () => {
        for (const level of ['quick', 'standard', 'full']) {
          const result = await repo.verify({ level });
          assert.deepEqual([result.ok, result.errors], [true, []], level);
          assertShape(result.stats, { packsChecked: 'number', chunksChecked: 'number', snapshotsChecked: 'number' });
          assert.equal(result.stats.snapshotsChecked, ids.length, level);
        }
      });

      await t.test("on('ingest:progress' | 'ingest:complete' | 'verify:error', handler)", async () => {
        const progress = [];
        const complete = [];
        const subscriptions = [
          repo.on('ingest:progress', (event) => progress.push(event)),
          repo.on('ingest:complete', (event) => complete.push(event)),
          repo.on('verify:error', () => assert.fail('nothing is wrong')),
        ];
        const snapshot = await repo.ingest(Readable.from([random(MIB, 132)]));
        for (const event of progress) {
          assertShape(event, { operation: 'string', message: 'string' });
          assert.ok(event.percentage === null || typeof event.percentage === 'number');
        }
        assert.equal(progress.at(-1).percentage, 100);
        assert.equal(complete.length, 1);
        assert.deepEqual([complete[0].snapshotId, complete[0].newChunks], [snapshot.id, snapshot.newChunks]);
        for (const subscription of subscriptions) assert.equal(subscription.unsubscribe(), undefined);
        ids.push((await repo.ingest(Readable.from(['x']))).id);
        assert.equal(complete.length, 1);
        ids.splice(-1, 0, snapshot.id);
      });

      await t.test('prune(retention, dryRun?)', async () => {
        const result = { removedSnapshots: 'number', removedPacks: 'number', rewrittenPacks: 'number', freedBytes: 'number', dryRun: 'boolean' };
        const planned = await repo.prune({ keepLast: 2, keepDays: 1 }, true);
        assertShape(planned, result);
        assert.equal(planned.dryRun, true);
        assert.equal((await repo.listSnapshots()).length, ids.length, 'a dry run changes nothing');
        const pruned = await repo.prune({ keepLast: 2, keepDays: 1 });
        assertShape(pruned, result);
        assert.equal(pruned.dryRun, false);
        assert.equal(pruned.removedSnapshots, planned.removedSnapshots);
        assert.deepEqual((await repo.listSnapshots()).map(({ id }) => id), ids.slice(-2).reverse());
        await repo.prune({ keepLast: 1, keepDays: 1, keepWeeks: 1, keepMonths: 1 });
        assert.equal((await repo.listSnapshots())[0].id, ids.at(-1));
      });

      await t.test('reindex()', async () => {
        assert.equal(await repo.reindex(), undefined);
        assert.equal((await repo.verify({ level: 'full' })).ok, true);
      });

      await t.test('repair()', async () => {
        const index = join(path, 'index');
        for (const name of readdirSync(index).filter((file) => file.endsWith('.seg'))) rmSync(join(index, name));
        const result = await repo.repair();
        assertShape(result, { indexRebuilt: 'boolean', packsRepaired: 'number', locksRemoved: 'number' });
        assert.equal(result.indexRebuilt, true);
        assert.equal((await repo.verify({ level: 'full' })).ok, true);
      });

      await t.test('unlock({ force })', async () => {
        assert.equal(await repo.unlock(), undefined);
        assert.equal(await repo.unlock({ force: true }), undefined);
      });

      await t.test('close()', async () => {
        assert.equal(await repo.close(), undefined);
        await assert.rejects(repo.listSnapshots(), { code: 'ERR_CLOSED' });
      });

      await t.test('open(path, { passphrase })', async () => {
        repo = await (options ? ContainerArchive.open(path, options) : ContainerArchive.open(path));
        assert.equal((await collect(await repo.restore(ids.at(-1)))).toString(), 'x');
        if (options) {
          await assert.rejects(ContainerArchive.open(path), { code: 'ERR_PASSPHRASE_REQUIRED' });
          await assert.rejects(ContainerArchive.open(path, { passphrase: 'another' }), { code: 'ERR_WRONG_PASSPHRASE' });
        }
        await assert.rejects(ContainerArchive.open(join(folder, 'nothing')), { code: 'ERR_REPO_NOT_FOUND' });
      });

      await t.test('verify and verify:error report what is wrong', async () => {
        const packs = join(path, 'packs', 'data');
        for (const name of readdirSync(packs).filter((file) => file.endsWith('.pack'))) rmSync(join(packs, name));
        const events = [];
        repo.on('verify:error', (event) => events.push(event));
        const { ok, errors } = await repo.verify({ level: 'quick' });
        assert.equal(ok, false);
        for (const error of errors) assert.equal(typeof error.error, 'string');
        assert.ok(errors.some(({ pack }) => typeof pack === 'string'));
        assert.deepEqual(events.map(({ pack, chunk, error }) => [pack, chunk, error]), errors.map(({ pack, chunk, error }) => [pack, chunk, error]));
      });
    });
  }
}

/**
 * The first program of a README, as a module and as a script: the first to load the package in its
 * process.
 */
const PROGRAM = `
(async () => {
  const repo = await ContainerArchive.init(process.argv[1], { passphrase: 'my-secret-passphrase', ...${JSON.stringify({ kdf: CHEAP_KDF })} });
  const snapshot = await repo.ingest(Readable.from(['hello ', 'world']), { tags: { service: 'demo' } });
  const stream = await repo.restore(snapshot.id);
  stream.pipe(process.stdout);
  await new Promise((resolve) => stream.on('end', resolve));
  await repo.close();
})();`;

test('a module and a script in processes of their own run', (t) => {
  const folder = temporary(t);
  const programs = {
    module: ['--input-type=module', `import { ContainerArchive } from '${NAME}'; import { Readable } from 'node:stream';`],
    script: ['--input-type=commonjs', `const { ContainerArchive } = require('${NAME}'); const { Readable } = require('node:stream');`],
  };
  for (const [kind, [type, head]] of Object.entries(programs)) {
    const path = join(folder, kind);
    const out = execFileSync(process.execPath, [type, '-e', head + PROGRAM, path], { cwd: root, encoding: 'utf8' });
    assert.equal(out, 'hello world', kind);
    assert.ok(existsSync(join(path, 'config.json')));
  }
});
