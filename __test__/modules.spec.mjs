// The package: import and require, versions, and the published files.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { filesIn, root, test } from './support/harness.mjs';

const require = createRequire(import.meta.url);
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

test('import and require return the same class, by path and by name', async () => {
  const required = require('../index.js');
  const imported = await import('../index.js');
  const byName = await import('@serve.zone/containerarchive');
  assert.deepEqual(Object.keys(required).sort(), ['ContainerArchive', 'ContainerArchiveError']);
  for (const name of Object.keys(required)) {
    assert.equal(imported[name], required[name]);
    assert.equal(byName[name], required[name]);
    assert.equal(require('@serve.zone/containerarchive')[name], required[name]);
  }
});

test('classes have exactly the methods of index.d.ts', () => {
  const { ContainerArchive } = require('../index.js');
  const own = Object.getOwnPropertyNames(ContainerArchive.prototype).sort();
  assert.deepEqual(own, [
    'addListener',
    'close',
    'constructor',
    'copyTo',
    'created',
    'diff',
    'files',
    'forget',
    'getSnapshot',
    'ingest',
    'ingestCommand',
    'ingestMulti',
    'keys',
    'latest',
    'listSnapshots',
    'locks',
    'memberInfo',
    'mirrorTo',
    'off',
    'on',
    'once',
    'planPrune',
    'prune',
    'reindex',
    'removeListener',
    'repair',
    'report',
    'repositoryId',
    'restore',
    'restoreToDirectory',
    'restoreToFile',
    'stats',
    'unlock',
    'verify',
  ]);
  const types = readFileSync(join(root, 'index.d.ts'), 'utf8');
  for (const name of own) assert.match(types, new RegExp(`\\b${name}[<(:]`));
});

test('there is no runtime dependency, no install script, no unpinned development package, no address in the lock file', () => {
  assert.equal(manifest.dependencies, undefined);
  for (const script of ['preinstall', 'install', 'postinstall', 'prepare']) assert.equal(manifest.scripts[script], undefined);
  for (const version of Object.values(manifest.devDependencies)) assert.match(version, /^\d+\.\d+\.\d+$/);
  const lock = readFileSync(join(root, 'package-lock.json'), 'utf8');
  assert.ok(!/"resolved"|https?:\/\/registry/.test(lock));
});

test('versions that are in several files are the same', () => {
  const cargo = readFileSync(join(root, 'Cargo.toml'), 'utf8');
  assert.equal(/^version = "(.*)"/m.exec(cargo)[1], manifest.version);
  assert.equal(manifest.engines.node, '>=20.9');
  const preflight = readFileSync(join(root, 'scripts/preflight.mjs'), 'utf8');
  assert.ok(preflight.includes('const NODE = [20, 9];'));
  assert.ok(readFileSync(join(root, 'js/runtime.js'), 'utf8').includes('const NEEDED = [20, 9];'));
  assert.ok(preflight.includes(`const RUST = [${/^rust-version = "(.*)"/m.exec(cargo)[1].replace('.', ', ')}];`));
});

test('there is a package for each platform', () => {
  const names = readdirSync(join(root, 'npm')).sort();
  assert.equal(names.length, manifest.napi.targets.length);
  for (const name of names) {
    const platform = JSON.parse(readFileSync(join(root, 'npm', name, 'package.json'), 'utf8'));
    assert.equal(platform.name, `@serve.zone/containerarchive-${name}`);
    assert.equal(platform.version, manifest.version);
    assert.deepEqual(platform.files, [`containerarchive.${name}.node`]);
    assert.equal(platform.main, platform.files[0]);
    assert.deepEqual([`${platform.os}-${platform.cpu}`], [name.split('-').slice(0, 2).join('-')]);
    assert.equal(platform.scripts, undefined);
    assert.ok(existsSync(join(root, 'npm', name, 'README.md')));
  }
});

test('the release workflow builds and tests every platform', () => {
  const workflow = readFileSync(join(root, '.github/workflows/release.yml'), 'utf8');
  const built = [...workflow.matchAll(/- \{ platform: ([\w-]+), host: [\w.-]+, target: ([\w-]+)[ ,]/g)];
  assert.deepEqual(built.map(([, platform]) => platform).sort(), readdirSync(join(root, 'npm')).sort());
  assert.deepEqual(built.map(([, , target]) => target).sort(), [...manifest.napi.targets].sort());
  const tested = workflow.slice(workflow.indexOf('\n  test:'), workflow.indexOf('\n  publish:'));
  for (const [, platform] of built) assert.match(tested, new RegExp(`platform: ${platform}, `), platform);
  for (const [, command] of workflow.matchAll(/npm run ([\w:]+)/g)) assert.ok(manifest.scripts[command], command);
});

test('the published files are those that the entry needs', () => {
  const listing = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root, encoding: 'utf8', shell: process.platform === 'win32', stdio: ['ignore', 'pipe', 'ignore'] });
  const parsed = JSON.parse(listing);
  const files = (Array.isArray(parsed) ? parsed[0] : Object.values(parsed)[0]).files.map(({ path }) => path);
  for (const needed of ['index.js', 'index.d.ts', 'binding.js', 'binding.d.ts', 'package.json', ...filesIn(join(root, 'js')).map((name) => `js/${name.replaceAll('\\', '/')}`)]) {
    assert.ok(files.includes(needed), `${needed} is not published`);
  }
  for (const file of files) assert.ok(!/^(src\/|target\/|__test__\/|scripts\/(?!reader)|npm\/)|\.node$/.test(file), `${file} is published`);
});

test('the exports of the native part that js/ uses are checked when it is loaded', () => {
  const text = readFileSync(join(root, 'js/native.js'), 'utf8');
  const checked = new Set(/const EXPORTS = \[([^\]]*)\]/s.exec(text)[1].match(/\w+/g));
  const declared = readFileSync(join(root, 'binding.d.ts'), 'utf8').matchAll(/^export declare (?:class|function) (\w+)/gm);
  assert.deepEqual([...checked].sort(), [...declared].map(([, name]) => name).sort());
});
