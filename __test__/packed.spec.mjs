// The tarballs: their contents, and the package as a user installs it, in an empty project.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { localPaths, packAll } from '../scripts/pack.mjs';
import { HOST, install, runChecks } from '../scripts/smoke/run.mjs';
import { root, temporary, test } from './support/harness.mjs';

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const ADDON = process.env.NAPI_RS_NATIVE_LIBRARY_PATH ?? join(root, readdirSync(root).find((name) => name.endsWith('.node')) ?? 'missing.node');

test('the packed package installs into an empty project without a network, and works', (t) => {
  const folder = temporary(t);
  const packed = packAll({ out: join(folder, 'tarballs'), only: HOST, addon: ADDON, unchecked: true });
  assert.deepEqual(packed.map(({ name }) => name), [manifest.name, `${manifest.name}-${HOST}`]);
  const papers = ['README.md', 'LICENSE', 'CHANGELOG.md', 'THIRD-PARTY-NOTICES.md', 'docs/api.md', 'package.json'];
  for (const { name, files } of packed) {
    for (const needed of papers) assert.ok(files.includes(needed), `${name} lacks ${needed}`);
  }
  for (const file of Object.values(manifest.bin)) assert.ok(packed[0].files.includes(file), `${file} is not packed`);
  const project = join(folder, 'project');
  install(project, packed.map(({ file }) => file));

  const inProject = (name, file) => JSON.parse(readFileSync(join(project, 'node_modules', name, file), 'utf8'));
  const installed = inProject(manifest.name, 'package.json');
  const expected = readdirSync(join(root, 'npm')).map((platform) => [`${manifest.name}-${platform}`, manifest.version]);
  assert.deepEqual(installed.optionalDependencies, Object.fromEntries(expected));
  for (const field of ['dependencies', 'devDependencies', 'scripts', 'overrides']) assert.equal(installed[field], undefined, field);
  assert.equal(manifest.optionalDependencies, undefined, 'only the packed manifest names them');
  assert.ok(!existsSync(join(project, 'node_modules', manifest.name, 'src')));

  const { stdout, stderr, status } = runChecks(project, [process.execPath], { stdio: 'pipe' });
  assert.equal(status, 0, stdout + stderr);
  const [, passed, total] = /\n(\d+)\/(\d+)\n$/.exec(stdout);
  assert.equal(passed, total);
  assert.ok(Number(total) >= 15);
  assert.equal(stdout.match(/^ok /gm).length, Number(total));
  const command = join(project, 'node_modules', '.bin', 'containerarchive');
  const printed = execFileSync(command, ['--version'], { encoding: 'utf8', shell: process.platform === 'win32' });
  assert.equal(printed, `${manifest.version}\n`);
}, { skip: HOST === undefined, timeout: 300_000 });

test('an addon with paths of the machine that built it is not packed', (t) => {
  const folder = temporary(t);
  const addon = join(folder, 'addon.node');
  writeFileSync(addon, Buffer.concat([Buffer.alloc(1000, 0x90), Buffer.from('/home/x/.cargo/registry/src/serde-1.0.0/src/lib.rs\0')]));
  assert.throws(() => packAll({ out: folder, only: HOST, addon }), /contains paths of the machine that built it: \/home\/x/);
  assert.deepEqual(readdirSync(folder), ['addon.node']);
  for (const path of ['/home/x/.cargo/registry/a', '/root/a', '/Users/a/b', 'C:\\Users\\a', root]) {
    assert.notDeepEqual(localPaths(Buffer.from(`\0${path}\0`)), [], path);
  }
  for (const text of ['crates/serde-1.0.0/src/lib.rs', '/rustc/0123abcd/library/core/src/panic.rs', 'src/ops/ingest/mod.rs', '/tmp']) {
    assert.deepEqual(localPaths(Buffer.from(text)), [], text);
  }
}, { skip: HOST === undefined });
