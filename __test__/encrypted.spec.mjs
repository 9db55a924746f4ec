// An encrypted repository: no plaintext can be found at rest, not even in leftovers of a crash.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import {
  ContainerArchive, ENCRYPTED, KINDS, MIB, PASSPHRASE, PLAIN, afterwards, assertSameBytes, filesIn, freshRepo, pieces, random, rejectsWith, reopen,
  restored, temporary, test,
} from './support/harness.mjs';

/** Texts that must not be found, each in every form that a file could contain. */
function forms(text) {
  const bytes = Buffer.isBuffer(text) ? text : Buffer.from(text);
  return [bytes, Buffer.from(bytes.toString('hex')), Buffer.from(bytes.toString('base64').replace(/=+$/, '').slice(0, -1)), Buffer.from(bytes.toString('utf8'), 'utf16le')];
}

/** Names of files whose name or content contains one of the needles. */
function findings(folder, needles) {
  const found = [];
  for (const name of filesIn(folder)) {
    const content = readFileSync(join(folder, name));
    for (const [what, text] of Object.entries(needles)) {
      if (forms(text).some((form) => content.includes(form) || name.includes(form.toString('latin1')))) found.push(`${what} in ${name}`);
    }
  }
  return found;
}

const MARKS = {
  content: 'MARKER-CONTENT-7c1e5ab2',
  item: 'MARKER-ITEM-90f3d2aa',
  type: 'MARKER-TYPE-1be77a40',
  'tag key': 'MARKER-KEY-52fd0c19',
  'tag value': 'MARKER-VALUE-c3aa10ee',
  passphrase: PASSPHRASE,
};

async function plant(repo) {
  const content = Buffer.concat([random(300_000, 80), Buffer.from(MARKS.content.repeat(50)), random(300_000, 81)]);
  const options = { tags: { [MARKS['tag key']]: MARKS['tag value'] } };
  const items = (failing) => [
    { name: MARKS.item, type: MARKS.type, stream: [content] },
    { name: 'small', type: 'x', stream: [Buffer.from(MARKS.content)] },
    ...(failing ? [{ name: `${MARKS.item} 2`, type: MARKS.type, stream: (async function* () { yield* pieces(random(20 * MIB, 82), MIB); throw new Error('boom'); })() }] : []),
  ];
  await rejectsWith(repo.ingestMulti(items(true), options), 'ERR_SOURCE_FAILED');
  return { content, snapshot: await repo.ingestMulti(items(false), options) };
}

for (const kind of KINDS.filter((each) => each.encrypted)) {
  test(`${kind.name}: no file contains content, names, tags or hashes`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const { content, snapshot } = await plant(repo);
    const small = Buffer.from(MARKS.content);
    const hashes = { 'hash of an item': createHash('sha256').update(content).digest(), 'hash of a chunk': createHash('sha256').update(small).digest() };
    assert.deepEqual(findings(path, { ...MARKS, ...hashes }), []);
    const other = await reopen(t, path, kind);
    assert.deepEqual(await other.getSnapshot(snapshot.id), snapshot);
    assertSameBytes(await restored(other, snapshot.id, { item: MARKS.item }), content);
  });
}

test('the search finds these texts in a repository without encryption', async (t) => {
  const { repo, path } = await freshRepo(t, KINDS[4]);
  await plant(repo);
  const found = findings(path, MARKS).map((finding) => finding.split(' in ')[0]);
  assert.deepEqual([...new Set(found)].sort(), ['content', 'item', 'tag key', 'tag value', 'type']);
});

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: directories have mode 0700 and files 0600`, { skip: process.platform === 'win32' }, async (t) => {
    const previous = process.umask(0);
    afterwards(t, () => process.umask(previous));
    const { repo, path } = await freshRepo(t, kind);
    await repo.ingest(random(MIB, 83));
    for (const name of ['.', ...readdirSync(path, { recursive: true })]) {
      const stat = statSync(join(path, name));
      assert.equal((stat.mode & 0o777).toString(8), stat.isDirectory() ? '700' : '600', name);
    }
  });
}

test('the same data has different chunk ids and bytes in two encrypted repositories', async (t) => {
  const contents = [];
  for (let i = 0; i < 2; i++) {
    const { repo, path } = await freshRepo(t, ENCRYPTED);
    await repo.ingest(Readable.from([random(2 * MIB, 84)]));
    const packs = filesIn(path).filter((name) => name.endsWith('.pack'));
    contents.push({ packs, bytes: Buffer.concat(packs.map((name) => readFileSync(join(path, name)))) });
  }
  assert.equal(contents[0].packs.filter((name) => contents[1].packs.includes(name)).length, 0);
  for (let at = 1000; at + 64 < contents[0].bytes.length; at += 65536) {
    assert.ok(!contents[1].bytes.includes(contents[0].bytes.subarray(at, at + 64)));
  }
});

test('an undefined passphrase or key creates no repository without encryption', async (t) => {
  const path = join(temporary(t), 'repo');
  for (const secret of [{ passphrase: undefined }, { key: undefined }, { passphrase: undefined, key: undefined }]) {
    await rejectsWith(ContainerArchive.init(path, secret), 'ERR_INVALID_ARGUMENT');
    await rejectsWith(ContainerArchive.openOrInit(path, secret), 'ERR_INVALID_ARGUMENT');
    assert.ok(!existsSync(path), 'a folder was made');
  }
  const repo = await ContainerArchive.init(path, { key: random(32, 1), passphrase: undefined });
  assert.equal((await repo.keys.list()).length, 1);
  await repo.close();
  // an existing repository states itself that it needs one
  await rejectsWith(ContainerArchive.open(path, { passphrase: undefined }), 'ERR_PASSPHRASE_REQUIRED');
});
