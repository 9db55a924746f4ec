// npm run check:bundlers [-- NAME …]: builds and runs a small program with each bundler and test
// runner, with the settings of docs/bundlers.md. They are installed into a temporary directory,
// with the package from its packed tarballs.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { packAll } from './pack.mjs';
import { HOST, install } from './smoke/run.mjs';
import { root } from './steps.mjs';

/** The versions that are tried. */
const VERSIONS = { esbuild: '0.28.2', webpack: '5.112.2', vite: '8.3.8', '@vercel/nft': '1.11.5', jest: '30.5.2', vitest: '4.1.12' };

/** A program that backs up and restores, as a module and as a test. */
const APP = `
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ContainerArchive } from '@serve.zone/containerarchive';

export async function backUp() {
  const folder = mkdtempSync(join(tmpdir(), 'containerarchive-bundled-'));
  const archive = await ContainerArchive.init(join(folder, 'repository'));
  const snapshot = await archive.ingest(Buffer.from('some bytes'));
  let text = '';
  for await (const piece of await archive.restore(snapshot.id)) text += piece;
  await archive.close();
  rmSync(folder, { recursive: true });
  return text;
}
if (process.env.RUN_APP) backUp().then((text) => console.log('restored: ' + text));
`;
const TEST = (load) => `
${load}
test('a backup and a restore', async () => {
  expect(await backUp()).toBe('some bytes');
});
test('errors are of their class', async () => {
  await expect(ContainerArchive.open('/none/such')).rejects.toBeInstanceOf(ContainerArchiveError);
  await expect(ContainerArchive.open('/none/such')).rejects.toMatchObject({ code: 'ERR_REPO_NOT_FOUND' });
});
`;

/** The blocks of docs/bundlers.md, by the name of the file in their first line. */
function settings() {
  const text = readFileSync(join(root, 'docs', 'bundlers.md'), 'utf8');
  return Object.fromEntries([...text.matchAll(/```js\n\/\/ not run here: .*\n\/\/ (\S+)\n([^]*?)```/g)].map(([, name, code]) => [name, code]));
}

/** Each tool: how it builds, and the output that is run; both by Node in the project. */
const TOOLS = {
  esbuild: { build: ['esbuild.mjs'], run: 'dist/esbuild.mjs' },
  'esbuild, to CommonJS': { package: 'esbuild', build: ['esbuild-cjs.mjs'], run: 'dist/esbuild.cjs' },
  webpack: { build: ['run-webpack.cjs'], run: 'dist/webpack.cjs' },
  vite: { build: ['node_modules/vite/bin/vite.js', 'build'], run: 'dist/vite/app.mjs' },
  'vite, without noExternal': { package: 'vite', build: ['node_modules/vite/bin/vite.js', 'build', '--config', 'vite.default.mjs'], run: 'dist/vite-default/app.mjs' },
  // What was traced is run where nothing else is.
  '@vercel/nft': { build: ['nft.mjs'], run: 'dist/nft/app.mjs', apart: true },
  jest: { build: ['node_modules/jest/bin/jest.js', '--testMatch', '**/app.jest.cjs'] },
  vitest: { build: ['node_modules/vitest/vitest.mjs', 'run', '--config', 'vitest.mjs'] },
  'vitest, in threads': { package: 'vitest', build: ['node_modules/vitest/vitest.mjs', 'run', '--config', 'vitest.mjs', '--pool', 'threads'] },
};

/** Files of the project that are no settings: what runs the tools. */
const FILES = {
  'app.mjs': APP,
  'run-webpack.cjs': `
require('webpack')(require('./webpack.config.cjs'), (error, stats) => {
  if (error || stats.hasErrors() || stats.hasWarnings()) throw error ?? new Error(stats.toString());
});`,
  'vite.default.mjs': `export default { build: { ssr: 'app.mjs', outDir: 'dist/vite-default' } };`,
  'app.jest.cjs': TEST(`
const { mkdtempSync } = require('node:fs');
const { ContainerArchive, ContainerArchiveError } = require('@serve.zone/containerarchive');
async function backUp() {
  const archive = await ContainerArchive.init(require('node:path').join(mkdtempSync(require('node:os').tmpdir() + '/containerarchive-jest-'), 'repository'));
  const snapshot = await archive.ingest(Buffer.from('some bytes'));
  let text = '';
  for await (const piece of await archive.restore(snapshot.id)) text += piece;
  await archive.close();
  return text;
}`),
  'app.vitest.mjs': TEST(`
import { expect, test } from 'vitest';
import { ContainerArchive, ContainerArchiveError } from '@serve.zone/containerarchive';
import { backUp } from './app.mjs';`),
  'vitest.mjs': `export default { test: { include: ['app.vitest.mjs'] } };`,
};

/** Runs Node in a directory; returns what it prints, throws unless it succeeds. */
function node(cwd, args, env = {}) {
  const environment = { ...process.env, ...env };
  delete environment.NAPI_RS_NATIVE_LIBRARY_PATH;
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd, env: environment, encoding: 'utf8' });
  if (status !== 0) throw new Error(`node ${args.join(' ')} failed:\n${stdout}${stderr}`);
  return stdout;
}

/** Installs packages from the registry into the project. */
function add(project, packages) {
  const cli = process.env.npm_execpath;
  const [command, first] = cli ? [process.execPath, [cli]] : ['npm', []];
  const args = [...first, 'install', '--no-save', '--no-audit', '--no-fund', ...packages];
  const { status, stderr } = spawnSync(command, args, { cwd: project, encoding: 'utf8' });
  if (status !== 0) throw new Error(`npm install ${packages.join(' ')} failed: ${stderr}`);
}

/** Tries one tool in a project; throws when its output does not work. */
function attempt(project, { build, run, apart }) {
  node(project, build);
  if (run === undefined) return;
  const elsewhere = apart ? mkdtempSync(join(tmpdir(), 'containerarchive-traced-')) : null;
  try {
    const from = elsewhere ?? project;
    if (elsewhere) node(project, ['-e', `require('fs').cpSync(${JSON.stringify(dirname(run))}, ${JSON.stringify(elsewhere)}, { recursive: true })`]);
    const said = node(from, [elsewhere ? run.split('/').at(-1) : run], { RUN_APP: '1' });
    if (said !== 'restored: some bytes\n') throw new Error(`${run} printed: ${said}`);
  } finally {
    if (elsewhere) rmSync(elsewhere, { recursive: true });
  }
}

const work = mkdtempSync(join(tmpdir(), 'containerarchive-bundlers-'));
try {
  const packed = packAll({ out: join(work, 'tarballs'), only: HOST });
  const project = join(work, 'project');
  install(project, packed.map(({ file }) => file));
  const ours = settings();
  const toCommonJs = ours['esbuild.mjs'].replace("format: 'esm'", "format: 'cjs'").replace('dist/esbuild.mjs', 'dist/esbuild.cjs');
  for (const [name, text] of Object.entries({ ...FILES, ...ours, 'esbuild-cjs.mjs': toCommonJs })) {
    mkdirSync(dirname(join(project, name)), { recursive: true });
    writeFileSync(join(project, name), text);
  }
  const wanted = process.argv.slice(2);
  const tools = Object.entries(TOOLS).filter(([name]) => wanted.length === 0 || wanted.includes(name));
  const packages = new Set(tools.map(([name, tool]) => tool.package ?? name));
  add(project, [...packages].map((name) => `${name}@${VERSIONS[name]}`));
  for (const [name, tool] of tools) {
    const label = `${name} (${VERSIONS[tool.package ?? name]})`;
    try {
      attempt(project, tool);
      console.log(`ok      ${label}`);
    } catch (error) {
      console.log(`FAILED  ${label}: ${error.message}`);
      process.exitCode = 1;
    }
  }
} finally {
  rmSync(work, { recursive: true, force: true });
}
