// npm run check:package [-- --tarballs DIR]: what publint and "Are the types wrong?" say of the
// packed package, and whether its types compile in a user's project with the DOM types, in every
// TypeScript from 5.4 to 7. Any finding fails.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packAll } from './pack.mjs';
import { install } from './smoke/run.mjs';
import { root, run } from './steps.mjs';

const { values } = parseArgs({ options: { tarballs: { type: 'string' } } });
const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const TYPESCRIPT = ['5.4', '5.9', '6.0', '7.0'];

/** The program of a development package. */
function program(name, bin) {
  const manifest = JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8'));
  const path = typeof manifest.bin === 'string' ? manifest.bin : manifest.bin[bin];
  return join(root, 'node_modules', name, path);
}

/** Installs packages of the registry; returns false when they cannot be had. */
function add(project, ...specs) {
  const cli = process.env.npm_execpath;
  const [command, first] = cli ? [process.execPath, [cli]] : ['npm', []];
  const { status } = spawnSync(command, [...first, 'install', '--no-save', '--no-audit', '--no-fund', ...specs], { cwd: project });
  return status === 0;
}

/** Compiles the types test of the DOM in the project with one version of TypeScript. */
function compile(project, version) {
  // Together, because packages that are not saved are removed by the next installation.
  if (!add(project, `typescript@${version}`, `@types/node@${devDependencies['@types/node']}`)) {
    console.log(`TypeScript ${version}: FAILED, it cannot be installed`);
    process.exitCode = 1;
    return;
  }
  const tsc = ['lib/tsc.js', 'bin/tsc'].map((file) => join(project, 'node_modules/typescript', file)).find((file) => existsSync(file));
  const found = JSON.parse(readFileSync(join(project, 'node_modules/typescript/package.json'), 'utf8')).version;
  const { status, stdout, stderr } = spawnSync(process.execPath, [tsc, '--project', '.'], { cwd: project, encoding: 'utf8' });
  console.log(`TypeScript ${found}: ${status === 0 ? 'ok' : `FAILED\n${stdout}${stderr}`}`);
  if (status !== 0) process.exitCode = 1;
}

const work = mkdtempSync(join(tmpdir(), 'containerarchive-check-'));
try {
  const out = values.tarballs ?? work;
  if (!values.tarballs) packAll({ out, platforms: [] });
  const tarball = join(out, readdirSync(out).find((name) => /containerarchive-\d.*\.tgz$/.test(name)));
  run(process.execPath, [program('publint', 'publint'), 'run', tarball, '--strict']);
  run(process.execPath, [program('@arethetypeswrong/cli', 'attw'), tarball]);

  const project = join(work, 'project');
  mkdirSync(project);
  install(project, [tarball]);
  copyFileSync(join(root, '__test__', 'types-dom.test-d.ts'), join(project, 'types.ts'));
  const options = { module: 'nodenext', target: 'es2022', lib: ['es2022', 'dom', 'dom.iterable'], types: ['node'], strict: true, noEmit: true };
  writeFileSync(join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions: options, files: ['types.ts'] }));
  for (const version of TYPESCRIPT) compile(project, version);
} finally {
  rmSync(work, { recursive: true, force: true });
}
