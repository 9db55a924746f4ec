// Helpers of all tests: the package itself, tests with a time limit, temporary directories, data,
// and checks of a directory.

import assert from 'node:assert/strict';
import { createCipheriv, createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { test as nodeTest } from 'node:test';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const { ContainerArchive, ContainerArchiveError } = createRequire(import.meta.url)('../../index.js');

// nothing is kept in the directories of the user
process.env.CONTAINERARCHIVE_CACHE_DIR = '';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

/** Whether the large sizes run (npm run test:deep). */
export const DEEP = process.env.CONTAINERARCHIVE_DEEP === '1';

/** The cheapest key derivation that a repository may have. */
export const CHEAP_KDF = { memory: 19456, time: 2, lanes: 1 };
export const PASSPHRASE = 'correct horse battery staple';

/** Every kind of repository: { name, init, open }. */
export const KINDS = ['gzip', 'zstd', 'none'].flatMap((compression) => [
  { name: `plain, ${compression}`, encrypted: false, init: { compression }, open: {} },
  {
    name: `encrypted, ${compression}`,
    encrypted: true,
    init: { compression, passphrase: PASSPHRASE, kdf: CHEAP_KDF },
    open: { passphrase: PASSPHRASE },
  },
]);
/** One plain and one encrypted kind, for behaviour that does not depend on compression. */
export const [PLAIN, ENCRYPTED] = [KINDS[2], KINDS[3]];

/**
 * A test that fails when it takes longer than two minutes (an hour when deep), as with a promise
 * that never settles.
 */
export function test(name, fn, options = {}) {
  return nodeTest(name, { timeout: DEEP ? 3_600_000 : 120_000, ...options }, fn);
}

const cleanups = new WeakMap();

/** Calls fn when the test is over, in the reverse order of these calls. */
export function afterwards(t, fn) {
  if (!cleanups.has(t)) {
    cleanups.set(t, []);
    t.after(async () => {
      for (const cleanup of cleanups.get(t).reverse()) await cleanup();
    });
  }
  cleanups.get(t).push(fn);
}

/** A new directory that is deleted with the test. */
export function temporary(t) {
  const folder = mkdtempSync(join(tmpdir(), 'containerarchive-test-'));
  afterwards(t, () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A new repository of a kind: { repo, path }. The handle is closed with the test. */
export async function freshRepo(t, kind = PLAIN, more = {}) {
  const path = join(temporary(t), 'repo');
  const repo = await ContainerArchive.init(path, { ...kind.init, ...more });
  afterwards(t, () => repo.close());
  return { repo, path };
}

/** Another handle of a repository, closed with the test. */
export async function reopen(t, path, kind = PLAIN, more = {}) {
  const repo = await ContainerArchive.open(path, { ...kind.open, ...more });
  afterwards(t, () => repo.close());
  return repo;
}

/** Bytes that do not compress; the same for the same seed. */
export function random(length, seed) {
  const key = createHash('sha256').update(`containerarchive test ${seed}`).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

/** Bytes that compress like a text; the same for the same seed. */
export function compressible(length, seed) {
  const words = random(Math.ceil(length / 8) + 1, seed);
  const out = Buffer.alloc(length);
  for (let at = 0, i = 0; at < length; i++) at += out.write(`word${words[i]} `, at, 'latin1') || length;
  return out;
}

export const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

/** A buffer as pieces of a given size. */
export function* pieces(bytes, size) {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

/** All bytes of a stream. */
export async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

/** The restored bytes of a snapshot. */
export async function restored(repo, id, options) {
  return collect(await repo.restore(id, options));
}

/** Fails unless two byte arrays are equal; never prints megabytes. */
export function assertSameBytes(actual, expected, what = 'bytes') {
  assert.equal(actual.length, expected.length, `length of ${what}`);
  assert.ok(Buffer.compare(actual, expected) === 0, `${what} differ`);
}

/** Fails unless a promise rejects with a ContainerArchiveError of this code; returns the error. */
export async function rejectsWith(promise, code) {
  let error;
  try {
    await promise;
  } catch (thrown) {
    error = thrown;
  }
  assert.ok(error, `expected ${code}, but nothing was thrown`);
  assert.ok(error instanceof ContainerArchiveError, `expected ${code}, got ${error?.stack}`);
  assert.equal(error.code, code, error.message);
  assert.equal(typeof error.retryable, 'boolean');
  assert.notEqual(error.message, '');
  return error;
}

/** Every file in a directory, recursively: relative paths, sorted. */
export function filesIn(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath ?? entry.path, entry.name)))
    .sort();
}

/** A hash of every name, mode and byte in a directory. */
export function treeHash(folder) {
  const hash = createHash('sha256');
  for (const entry of readdirSync(folder, { recursive: true }).sort()) {
    const stat = statSync(join(folder, entry));
    hash.update(`${entry}\0${stat.mode}\0${stat.size}\0`);
    if (stat.isFile()) hash.update(readFileSync(join(folder, entry)));
  }
  return hash.digest('hex');
}

/** The files of a repository that match, as full paths. */
export function repoFiles(path, pattern) {
  return filesIn(path)
    .filter((name) => pattern.test(name))
    .map((name) => join(path, name));
}

/** Replaces the checksum of a file of checked JSON (format.md, 1.1) after a change of its text. */
export function rewriteChecked(file, change) {
  const text = readFileSync(file, 'utf8');
  const body = change(text.slice(0, text.lastIndexOf(',"checksum":"')));
  writeFileSync(file, `${body},"checksum":"${sha256(Buffer.from(body))}"}\n`);
}

/** Waits for a few turns of the event loop: callbacks of the native side have arrived. */
export async function settle() {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
}
