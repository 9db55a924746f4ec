// The package: import and require, the published files, and a missing addon.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { root, temporary, test } from './support/harness.mjs';

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
    'created',
    'forget',
    'getSnapshot',
    'ingest',
    'ingestCommand',
    'ingestMulti',
    'keys',
    'latest',
    'listSnapshots',
    'locks',
    'off',
    'on',
    'once',
    'planPrune',
    'prune',
    'reindex',
    'removeListener',
    'repair',
    'repositoryId',
    'restore',
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

test('the published files are those that the entry needs', () => {
  const listing = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: root, encoding: 'utf8', shell: process.platform === 'win32', stdio: ['ignore', 'pipe', 'ignore'] });
  const parsed = JSON.parse(listing);
  const files = (Array.isArray(parsed) ? parsed[0] : Object.values(parsed)[0]).files.map(({ path }) => path);
  for (const needed of ['index.js', 'index.d.ts', 'binding.js', 'binding.d.ts', 'package.json', ...readdirSync(join(root, 'js')).map((name) => `js/${name}`)]) {
    assert.ok(files.includes(needed), `${needed} is not published`);
  }
  for (const file of files) assert.ok(!/^(src|target|__test__|scripts|npm)\/|\.node$/.test(file), `${file} is published`);
});

test('without the addon, the error states the platform and what to do', (t) => {
  const folder = join(temporary(t), 'package');
  mkdirSync(folder);
  for (const name of ['index.js', 'package.json', 'js']) cpSync(join(root, name), join(folder, name), { recursive: true });
  const env = { ...process.env };
  delete env.NAPI_RS_NATIVE_LIBRARY_PATH;
  for (const [what, prepare, args] of [
    ['no loader', () => {}, []],
    ['a loader and no addon', () => cpSync(join(root, 'binding.js'), join(folder, 'binding.js')), []],
    ['addons are forbidden', () => {}, ['--no-addons']],
  ]) {
    prepare();
    const { stderr, status } = spawnSync(process.execPath, [...args, '-e', `require(${JSON.stringify(folder)})`], { env, encoding: 'utf8' });
    assert.notEqual(status, 0, what);
    assert.match(stderr, /Cannot load the native addon of containerarchive/, what);
    assert.ok(stderr.includes(process.platform) && stderr.includes(process.arch));
    if (process.platform === 'linux') assert.match(stderr, /glibc \d|musl/);
    assert.match(stderr, /npm run build/);
    assert.match(stderr, /@serve\.zone\/containerarchive-/);
    assert.match(stderr, /ERR_NATIVE_LOAD/);
  }
});

/**
 * The package in a directory of its own, with a platform package whose addon is `addon` (a file or
 * bytes); returns what requiring it prints.
 */
function requireWith(t, { platform, addon, loader }) {
  const modules = join(temporary(t), 'node_modules/@serve.zone');
  const folder = join(modules, 'containerarchive');
  for (const name of ['index.js', 'package.json', 'js', 'binding.js']) cpSync(join(root, name), join(folder, name), { recursive: true });
  if (loader !== undefined) writeFileSync(join(folder, 'binding.js'), loader);
  for (const abi of platform === undefined ? [] : ['-gnu', '-musl', '-msvc', '']) {
    const name = `containerarchive-${process.platform}-${process.arch}${abi}`;
    mkdirSync(join(modules, name));
    writeFileSync(join(modules, name, 'package.json'), JSON.stringify({ name: `@serve.zone/${name}`, version: platform, main: 'addon.node' }));
    if (typeof addon === 'string') cpSync(addon, join(modules, name, 'addon.node'));
    else writeFileSync(join(modules, name, 'addon.node'), addon);
  }
  const env = { ...process.env };
  delete env.NAPI_RS_NATIVE_LIBRARY_PATH;
  const script = `try { require(${JSON.stringify(folder)}); console.log('loaded'); } catch (error) { console.log(error.code, error.message); }`;
  return spawnSync(process.execPath, ['-e', script], { env, encoding: 'utf8' }).stdout;
}

const ADDON = process.env.NAPI_RS_NATIVE_LIBRARY_PATH ?? join(root, readdirSync(root).find((name) => name.endsWith('.node')) ?? 'missing.node');

test('the platform package of this version is loaded', (t) => {
  assert.equal(requireWith(t, { platform: manifest.version, addon: ADDON }), 'loaded\n');
});

test('a platform package of another version is refused by name', (t) => {
  const text = requireWith(t, { platform: '0.0.1', addon: ADDON });
  assert.match(text, /^ERR_NATIVE_LOAD /);
  assert.match(text, new RegExp(`the package @serve\\.zone/containerarchive-\\S+ is of version 0\\.0\\.1, and not of ${manifest.version}`));
});

test('the error of an addon that the system refuses has the reason of the system', (t) => {
  const text = requireWith(t, { platform: manifest.version, addon: Buffer.alloc(5000, 1) });
  assert.match(text, /^ERR_NATIVE_LOAD /);
  if (process.platform === 'linux') assert.match(text, /invalid ELF header/);
});

test('anything but the native part of this version is refused', (t) => {
  const exported = (more) => `module.exports = { ...require(${JSON.stringify(ADDON)}), ${more} }`;
  for (const [loader, reason] of [
    ['module.exports = "./containerarchive-XYZ.node"', /the loader returned a string/],
    ['module.exports = {}', /it lacks NativeFile, .*, version/],
    [exported('NativeStop: undefined'), /it lacks NativeStop\n/],
    [exported('version: () => "0.0.1"'), /the native part is of version 0\.0\.1/],
  ]) {
    const text = requireWith(t, { loader });
    assert.match(text, /^ERR_NATIVE_LOAD /);
    assert.match(text, reason);
  }
  assert.equal(requireWith(t, { loader: exported('') }), 'loaded\n');
});

test('the exports of the native part that js/ uses are checked when it is loaded', () => {
  const text = readFileSync(join(root, 'js/native.js'), 'utf8');
  const checked = new Set(/const EXPORTS = \[([^\]]*)\]/s.exec(text)[1].match(/\w+/g));
  const declared = readFileSync(join(root, 'binding.d.ts'), 'utf8').matchAll(/^export declare (?:class|function) (\w+)/gm);
  assert.deepEqual([...checked].sort(), [...declared].map(([, name]) => name).sort());
});
