// Builds the addon for other systems, or only checks its types for them, with compilers from
// package registries (scripts/toolchain.mjs):
// node scripts/targets.mjs build | check [--only NAME,…]
//
// build: artifacts/containerarchive.<name>.node for each target, and a table. Windows is built with
// the libraries of MinGW, as a stand-in: those of MSVC are in no package registry.
// check: clippy for the systems that no other check of this project compiles for.

import { spawnSync } from 'node:child_process';
import { copyFileSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { assertGlibc, highestGlibc } from './elf.mjs';
import { localPaths } from './pack.mjs';
import { VARIABLES, prefixes } from './rustflags.mjs';
import { root } from './steps.mjs';
import { toolchain } from './toolchain.mjs';

/** The oldest glibc that the builds run on: that of RHEL 7, Ubuntu 14.04 and Debian 8. */
const GLIBC = '2.17';
/** The first function that Node looks up in an addon. */
const ENTRY = 'napi_register_module_v1';

/**
 * Names are those of napi-rs. `library`: what Cargo calls the addon. `glibc`: the newest that the
 * addon may ask for. `flags`: of rustc. `why`: why a target cannot be built with this toolchain.
 */
const TARGETS = [
  { name: 'linux-x64-gnu', triple: 'x86_64-unknown-linux-gnu', library: 'libcontainerarchive.so', glibc: GLIBC },
  { name: 'linux-arm64-gnu', triple: 'aarch64-unknown-linux-gnu', library: 'libcontainerarchive.so', glibc: GLIBC },
  // a Node addon is a library, which a static musl cannot be part of
  { name: 'linux-x64-musl', triple: 'x86_64-unknown-linux-musl', library: 'libcontainerarchive.so', flags: ['-Ctarget-feature=-crt-static'] },
  { name: 'linux-arm64-musl', triple: 'aarch64-unknown-linux-musl', library: 'libcontainerarchive.so', flags: ['-Ctarget-feature=-crt-static'] },
  { name: 'darwin-x64', triple: 'x86_64-apple-darwin', library: 'libcontainerarchive.dylib' },
  { name: 'darwin-arm64', triple: 'aarch64-apple-darwin', library: 'libcontainerarchive.dylib' },
  { name: 'win32-x64-gnu', triple: 'x86_64-pc-windows-gnu', library: 'containerarchive.dll', standsFor: 'win32-x64-msvc' },
  { name: 'win32-arm64-gnullvm', triple: 'aarch64-pc-windows-gnullvm', library: 'containerarchive.dll', standsFor: 'win32-arm64-msvc' },
  { name: 'win32-x64-msvc', triple: 'x86_64-pc-windows-msvc', why: 'its libraries are in no package registry' },
  { name: 'win32-arm64-msvc', triple: 'aarch64-pc-windows-msvc', why: 'its libraries are in no package registry' },
];
/** One target for each system and pointer to code that is compiled for that system alone. */
const CHECKED = ['win32-x64-msvc', 'darwin-arm64'];

const BUILD_STD = '-Zbuild-std=std,panic_unwind';

function usage(error) {
  if (error) console.error(error);
  console.error('Usage: node scripts/targets.mjs build | check [--only NAME,…]');
  console.error(`Names: ${TARGETS.map(({ name }) => name).join(', ')}`);
  process.exit(1);
}

function parse() {
  try {
    const { values, positionals } = parseArgs({ allowPositionals: true, options: { only: { type: 'string' } } });
    const [mode] = positionals;
    if (!['build', 'check'].includes(mode) || positionals.length > 1) usage();
    const names = values.only?.split(',') ?? (mode === 'check' ? CHECKED : TARGETS.map(({ name }) => name));
    const targets = names.map((name) => TARGETS.find((target) => target.name === name) ?? usage(`No target ${name}`));
    return { mode, targets };
  } catch (error) {
    return usage(error.message);
  }
}

/** Runs Cargo or a tool of it; returns its status. */
function cargo(tools, command, args, env) {
  console.error(`\n> ${[command, ...args].join(' ')}`);
  const { error, status } = spawnSync(command, args, {
    cwd: root,
    env: { ...process.env, ...tools.env, CARGO_TARGET_DIR: targetDir(), ...env },
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  if (error) throw error;
  return status ?? 1;
}

/** A directory of its own: another compiler would recompile what is in the usual one. */
function targetDir() {
  return join(process.env.CARGO_TARGET_DIR ?? join(root, 'target'), 'targets');
}

/** Flags that replace the directories of this machine in the texts of panics. */
function remaps(tools) {
  return [...prefixes(), [tools.folder, 'toolchain']].map(([from, to]) => `--remap-path-prefix=${from}=${to}`);
}

/** Where dependencies that are libraries of their own, too, find what MinGW has and zig lacks. */
function stubs({ name }, tools) {
  return name.startsWith('win32') ? [`-Lnative=${tools.stubs}`] : [];
}

/** Builds one target; returns the rest of its row. */
function build(target, tools) {
  const started = Date.now();
  const triple = target.glibc ? `${target.triple}.${target.glibc}` : target.triple;
  const isDarwin = target.name.startsWith('darwin');
  const env = {
    ...VARIABLES,
    CARGO_ENCODED_RUSTFLAGS: [...remaps(tools), ...stubs(target, tools), ...(target.flags ?? [])].join('\x1f'),
    // rustc strips these with a program of LLVM that the packages lack
    ...(isDarwin && { CARGO_PROFILE_RELEASE_STRIP: 'none' }),
  };
  const args = ['zigbuild', BUILD_STD, '--locked', '--release', '--lib', '--target', triple];
  if (cargo(tools, 'cargo-zigbuild', args, env) !== 0) return { failed: 'does not compile' };

  const file = join(root, 'artifacts', `containerarchive.${target.name}.node`);
  mkdirSync(join(root, 'artifacts'), { recursive: true });
  copyFileSync(join(targetDir(), target.triple, 'release', target.library), file);
  const bytes = readFileSync(file);
  const row = { seconds: (Date.now() - started) / 1000, size: statSync(file).size };
  try {
    if (!bytes.includes(ENTRY)) throw new Error(`no ${ENTRY} in the file`);
    const [local] = bytes.includes(tools.folder) ? [tools.folder] : localPaths(bytes);
    if (local) throw new Error(`the file holds the path ${local} of this machine`);
    if (target.glibc) return { ...row, glibc: assertGlibc(file, target.glibc) };
    if (target.name.startsWith('linux') && highestGlibc(bytes)) throw new Error('it asks for glibc');
    return row;
  } catch (error) {
    return { ...row, failed: error.message };
  }
}

/** Prints a table of [[cell, …], …], with the widths of its cells. */
function print(rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => row[i].length)));
  console.log();
  for (const row of rows) console.log(row.map((cell, i) => cell.padEnd(widths[i])).join('  ').trimEnd());
}

function buildAll(targets) {
  const tools = toolchain({ zig: true });
  const rows = targets.map((target) => ({ target, ...(target.why ? {} : build(target, tools)) }));
  print([
    ['target', 'result', 'seconds', 'size', 'glibc'],
    ...rows.map(({ target, failed, seconds, size, glibc }) => [
      target.name,
      target.why ? `not built: ${target.why}` : failed ?? (target.standsFor ? `built, stands in for ${target.standsFor}` : 'built'),
      seconds === undefined ? '' : seconds.toFixed(0),
      size === undefined ? '' : `${(size / 2 ** 20).toFixed(2)} MiB`,
      glibc ?? '',
    ]),
  ]);
  return rows.some(({ failed }) => failed) ? 1 : 0;
}

/**
 * Runs clippy. Cargo compiles the standard library even for a check: -Z no-codegen leaves out the
 * machine code, which no check needs.
 */
function check(targets) {
  const tools = toolchain({ zig: false });
  const args = [
    'clippy', BUILD_STD, '--locked', '--lib', '--config', 'profile.dev.package."*".opt-level=0',
    ...targets.flatMap(({ triple }) => ['--target', triple]),
    '--', '-D', 'warnings',
  ];
  return cargo(tools, join(tools.bin, 'cargo-clippy'), args, { CARGO_ENCODED_RUSTFLAGS: '-Zno-codegen' });
}

const { mode, targets } = parse();
try {
  process.exitCode = mode === 'build' ? buildAll(targets) : check(targets);
} catch (error) {
  console.error(`Cannot ${mode} other targets: ${error.message}`);
  process.exitCode = 1;
}
