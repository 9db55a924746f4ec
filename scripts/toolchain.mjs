// Compilers for other systems, from package registries alone, in a directory of their own: nothing
// is installed in this system.
//
// - Debian: rustc with its sources, so that Cargo compiles the standard library for each target
//   (-Z build-std, which RUSTC_BOOTSTRAP=1 allows for a stable compiler), and clippy.
// - PyPI: zig, which compiles C and links for every system, and cargo-zigbuild, which lets Cargo
//   use it.
//
// Cargo itself is the one in PATH. Linux on x64 with Debian's packages only.

import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

/** Debian's packages. The newest of their versions must be this one of Rust or later. */
const RUST_PACKAGES = ['rustc-web', 'libstd-rust-web-dev', 'rust-web-src', 'rust-web-clippy'];
const OLDEST_RUST = [1, 89];
const PYTHON_PACKAGES = ['ziglang==0.17.1', 'cargo-zigbuild==0.24.1'];

const cache = process.env.XDG_CACHE_HOME || join(homedir(), '.cache');
const FOLDER = process.env.CONTAINERARCHIVE_TOOLCHAIN || join(cache, 'containerarchive', 'toolchain');
const RUST = join(FOLDER, 'rust');
const ZIG = join(FOLDER, 'zig');
const STUBS = join(FOLDER, 'stubs');

/** What a command prints; throws when it fails. Its other output is shown. */
function output(command, args, more = {}) {
  const ran = spawnSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], ...more });
  if (ran.error) throw new Error(`${command}: ${ran.error.message}`);
  if (ran.status !== 0) throw new Error(`${command} ${args.join(' ')} failed with status ${ran.status}`);
  return ran.stdout;
}

/** Fills a directory once: a file in it states with what. */
function once(folder, what, fill) {
  const stamp = join(folder, '.complete');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === what) return;
  console.error(`\n> installing ${what} in ${folder}`);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  fill();
  writeFileSync(stamp, what);
}

/** The version of a package that apt would install; null without one that is new enough. */
function candidate(name) {
  const version = /Candidate: (\S+)/.exec(output('apt-cache', ['policy', name]))?.[1] ?? '';
  const [major, minor] = version.split('.').map(Number);
  const isNew = major > OLDEST_RUST[0] || (major === OLDEST_RUST[0] && minor >= OLDEST_RUST[1]);
  return isNew ? version : null;
}

/** Downloads Debian's packages with what they need and this system lacks, and unpacks them. */
function installRust() {
  if (!candidate(RUST_PACKAGES[0])) output('apt-get', ['update', '-q']);
  const version = candidate(RUST_PACKAGES[0]);
  if (!version) throw new Error(`no package ${RUST_PACKAGES[0]} of Rust ${OLDEST_RUST.join('.')} or later`);

  const archives = join(RUST, 'archives');
  mkdirSync(join(archives, 'partial'), { recursive: true });
  output('apt-get', [
    'install', '--download-only', '--reinstall', '--no-install-recommends', '--yes', '--quiet',
    '-o', `Dir::Cache::archives=${archives}`, '-o', 'Debug::NoLocking=true', '-o', 'APT::Sandbox::User=root',
    ...RUST_PACKAGES.map((name) => `${name}=${version}`),
  ]);
  for (const name of readdirSync(archives).filter((each) => each.endsWith('.deb'))) {
    output('dpkg-deb', ['-x', join(archives, name), RUST]);
  }
  rmSync(archives, { recursive: true });

  const source = readdirSync(join(RUST, 'usr/src')).find((name) => name.startsWith('rustc-'));
  const lib = join(RUST, 'usr/lib/rustlib/src');
  mkdirSync(lib, { recursive: true });
  rmSync(join(lib, 'rust'), { recursive: true, force: true });
  symlinkSync(`../../../src/${source}`, join(lib, 'rust'));
}

function installZig() {
  output('python3', ['-m', 'pip', 'install', '--quiet', '--no-deps', '--target', ZIG, ...PYTHON_PACKAGES]);
}

/**
 * Files that stand for libraries. Node's own library, without symbols: they are looked up at run
 * time. A pkg-config that has found zstd: a check compiles no C.
 */
function makeStubs() {
  const pkgConfig = join(STUBS, 'pkg-config');
  writeFileSync(pkgConfig, '#!/bin/sh\ncase "$*" in *--modversion*) echo 1.5.7 ;; *) echo ;; esac\n');
  chmodSync(pkgConfig, 0o755);
  for (const name of ['libnode.dll', 'libnode.a', 'libssp_nonshared.a']) {
    writeFileSync(join(STUBS, name), name.endsWith('.a') ? '!<arch>\n' : '');
  }
}

/** Throws unless this machine can have the compilers. */
function assertHost() {
  if (process.platform !== 'linux' || process.arch !== 'x64') {
    throw new Error(`the packages are for Linux on x64, and this is ${process.platform} on ${process.arch}`);
  }
  for (const tool of ['apt-get', 'dpkg-deb', 'cargo']) {
    if (spawnSync(tool, ['--version']).error) throw new Error(`no ${tool} in PATH`);
  }
}

/**
 * Installs what is missing, and returns { env, folder, stubs, bin }: the environment of Cargo, and
 * the directories of everything, of the stubs, and of the programs of Rust. Without `zig`, targets
 * can be checked, but neither C code compiled nor anything linked.
 */
export function toolchain({ zig }) {
  assertHost();
  once(RUST, RUST_PACKAGES.join(', '), installRust);
  if (zig) once(ZIG, PYTHON_PACKAGES.join(', '), installZig);
  once(STUBS, 'stubs of libraries', makeStubs);
  const bin = join(RUST, 'usr/bin');
  const paths = (...list) => list.filter(Boolean).join(delimiter);
  return {
    folder: FOLDER,
    stubs: STUBS,
    bin,
    env: {
      PATH: paths(zig && join(ZIG, 'bin'), process.env.PATH),
      LD_LIBRARY_PATH: paths(join(RUST, 'usr/lib/x86_64-linux-gnu'), process.env.LD_LIBRARY_PATH),
      RUSTC: join(bin, 'rustc'),
      RUSTC_BOOTSTRAP: '1',
      LIBNODE_PATH: STUBS,
      ...(zig
        ? { CARGO_ZIGBUILD_ZIG_PATH: join(ZIG, 'ziglang/zig') }
        : { ZSTD_SYS_USE_PKG_CONFIG: '1', PKG_CONFIG: join(STUBS, 'pkg-config'), PKG_CONFIG_ALLOW_CROSS: '1' }),
    },
  };
}
