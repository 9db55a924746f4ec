// npm run smoke [-- --runtime NAME …] [--tarballs DIR | --artifacts DIR] [--only PLATFORM]
// [--exec 'COMMAND …']: installs the packed tarballs into an empty project, and runs checks.cjs
// there.
//
// Without --tarballs they are packed from the addons in --artifacts, or from the one that is built
// here. Runtimes: this Node
// (default), node20.9, node20, node22, node24, node26, bun, deno, or all; they come from npm
// packages and are kept in target/runtimes. --exec is a command that runs a script, as in
// --only linux-arm64-gnu --exec 'qemu-aarch64 node'.

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { packAll } from '../pack.mjs';
import { root } from '../steps.mjs';

const CHECKS = fileURLToPath(new URL('checks.cjs', import.meta.url));
const SYSTEM = `${process.platform === 'win32' ? 'win' : process.platform}-${process.arch}`;
const node = (version) => ({ spec: `node-${SYSTEM}@${version}`, file: process.platform === 'win32' ? 'bin/node.exe' : 'bin/node', args: [] });

/** Each runtime: the npm package that contains it, its file in there, and arguments. */
const RUNTIMES = {
  'node20.9': node('20.9.0'),
  node20: node(20),
  node22: node(22),
  node24: node(24),
  node26: node(26),
  bun: { spec: `@oven/bun-${SYSTEM}`, file: 'bin/bun', args: [] },
  deno: { spec: `@deno/${SYSTEM}-glibc`, file: 'deno', args: ({ project, work: folder }) => denoArguments(project, folder) },
};

const isMusl = process.platform === 'linux' && !process.report.getReport().header.glibcVersionRuntime;
/** The platform of this process, as its package is named; undefined when there is none. */
export const HOST = readdirSync(join(root, 'npm')).find((name) => name.startsWith(`${process.platform}-${process.arch}`) && name.includes('musl') === isMusl);

/** The least permissions with which all checks pass in Deno; why: docs/runtimes.md. */
function denoArguments(project, work) {
  return [
    'run', '--no-prompt', `--allow-ffi=${project}`, `--allow-read=${project},${work},/usr/bin/ldd`, `--allow-write=${work}`,
    '--allow-env', '--allow-run=sh,/bin/sh',
  ];
}

/** Runs a program; throws with its output unless it succeeds. */
function run(command, args, options) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: 'utf8', ...options });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')} failed: ${error?.message ?? ''}${stdout}${stderr}`);
  return stdout;
}

function npm(cwd, ...args) {
  const cli = process.env.npm_execpath;
  if (cli) return run(process.execPath, [cli, ...args], { cwd });
  return run('npm', args, { cwd, shell: process.platform === 'win32' });
}

/** The program of a runtime, from its npm package. */
function runtimeProgram(name) {
  const { spec, file } = RUNTIMES[name];
  const folder = join(root, 'target', 'runtimes', name);
  if (!existsSync(join(folder, file))) {
    mkdirSync(folder, { recursive: true });
    npm(folder, 'pack', '--silent', '--ignore-scripts', spec);
    const tarball = readdirSync(folder).find((each) => each.endsWith('.tgz'));
    run('tar', ['xzf', tarball, '--strip-components=1'], { cwd: folder });
    rmSync(join(folder, tarball));
  }
  return join(folder, file);
}

/**
 * An empty project in a directory, with the package installed from tarballs and the checks in it.
 */
export function install(project, tarballs, { only } = {}) {
  mkdirSync(project, { recursive: true });
  writeFileSync(join(project, 'package.json'), '{ "name": "smoke", "private": true, "type": "commonjs" }\n');
  const [os, cpu, abi] = (only ?? '').split('-');
  const system = only ? ['--force', `--os=${os}`, `--cpu=${cpu}`, ...(os === 'linux' ? [`--libc=${abi === 'gnu' ? 'glibc' : abi}`] : [])] : [];
  npm(project, 'install', '--offline', '--no-audit', '--no-fund', '--ignore-scripts', ...system, ...tarballs.map((file) => resolve(file)));
  cpSync(CHECKS, join(project, 'checks.cjs'));
}

/** Runs the checks in a project, with their files in `work`; returns the ended process. */
export function runChecks(project, [command, ...args], { stdio = 'inherit', work = tmpdir() } = {}) {
  const env = { ...process.env, SMOKE_DIRECTORY: work };
  delete env.NAPI_RS_NATIVE_LIBRARY_PATH; // the installed addon, not one of the tree
  return spawnSync(command, [...args, 'checks.cjs'], { cwd: project, env, stdio, encoding: 'utf8' });
}

function main() {
  const { values } = parseArgs({
    options: {
      runtime: { type: 'string', multiple: true }, tarballs: { type: 'string' }, artifacts: { type: 'string' },
      only: { type: 'string' }, exec: { type: 'string' },
    },
  });
  const work = mkdtempSync(join(tmpdir(), 'containerarchive-smoke-run-'));
  try {
    const out = values.tarballs ?? join(work, 'tarballs');
    const platform = values.only ?? HOST;
    if (!values.tarballs) packAll({ out, artifacts: values.artifacts, only: platform });
    const isWanted = (name) => name.endsWith('.tgz') && (/containerarchive-\d/.test(name) || name.includes(`-${platform}-`));
    const project = join(work, 'project');
    const checked = join(work, 'checked');
    mkdirSync(checked);
    install(project, readdirSync(out).filter(isWanted).map((name) => join(out, name)), { only: values.only });
    const wanted = (values.runtime ?? []).flatMap((name) => (name === 'all' ? Object.keys(RUNTIMES) : [name]));
    const commands = wanted.map((name) => {
      if (!RUNTIMES[name]) throw new Error(`Unknown runtime ${name}: known are ${Object.keys(RUNTIMES).join(', ')}, all`);
      const { args } = RUNTIMES[name];
      return [runtimeProgram(name), ...(typeof args === 'function' ? args({ project, work: checked }) : args)];
    });
    if (values.exec) commands.push(values.exec.split(' '));
    if (commands.length === 0) commands.push([process.execPath]);
    for (const command of commands) {
      console.log(`\n> ${command.join(' ')}`);
      if (runChecks(project, command, { work: checked }).status !== 0) process.exitCode = 1;
    }
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
