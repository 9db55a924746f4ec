// The environment of builds that are published: the oldest macOS that they run on, and the flags of
// rustc that keep the paths of this machine out of an addon. Panics name their source file, and the
// profile option that shortens these names (trim-paths) is not stable yet.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { root } from './steps.mjs';

/** Variables of every build. macOS 11 is the first one for arm64, and the oldest one of Node 22. */
export const VARIABLES = { MACOSX_DEPLOYMENT_TARGET: '11.0' };

/** What a command prints, without the end of the line; '' when it fails. */
function output(command, args) {
  return (spawnSync(command, args, { cwd: root, encoding: 'utf8' }).stdout ?? '').trim();
}

/** [prefix, replacement] of each directory that the compiler sees; the last match holds. */
export function prefixes() {
  const cargo = process.env.CARGO_HOME ?? join(homedir(), '.cargo');
  const registry = join(cargo, 'registry', 'src');
  const sources = existsSync(registry) ? readdirSync(registry).map((name) => join(registry, name)) : [];
  return [
    [homedir(), 'home'],
    [cargo, 'cargo'],
    ...sources.map((folder) => [folder, 'crates']),
    // the source of the standard library, where it is installed
    [join(output('rustc', ['--print', 'sysroot']), 'lib', 'rustlib', 'src', 'rust'), 'rust'],
    ...(process.env.CARGO_TARGET_DIR ? [[process.env.CARGO_TARGET_DIR, 'target']] : []),
    [root.replace(/[\\/]$/, ''), '.'],
  ];
}

/**
 * The environment of a build without paths of this machine: VARIABLES, and RUSTFLAGS, which the
 * build tool of napi-rs extends. A path with a space cannot be written in it and stays.
 */
export function portable(env = process.env) {
  // The directory of the registry has to exist to be named.
  spawnSync('cargo', ['fetch', '--locked'], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  const flags = prefixes().filter(([from]) => !/\s/.test(from)).map(([from, to]) => `--remap-path-prefix=${from}=${to}`);
  return { ...env, ...VARIABLES, RUSTFLAGS: [env.RUSTFLAGS, ...flags].filter(Boolean).join(' ') };
}
