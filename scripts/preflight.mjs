// Reports what this machine lacks to build and test the project, and how to get it.
// Only Node's own modules: it runs before anything is installed, and on a Node that is too old.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The same numbers as `engines` in package.json and `rust-version` in Cargo.toml. */
const NODE = [20, 9];
const RUST = [1, 89];

/** Whether a version text such as "1.95.0 (…)" is at least [major, minor]. */
function atLeast(text, [major, minor]) {
  const match = /(\d+)\.(\d+)/.exec(text ?? '');
  if (!match) return false;
  return Number(match[1]) > major || (Number(match[1]) === major && Number(match[2]) >= minor);
}

/** What a command prints, or null when it cannot be run or fails. */
function output(command, args, input = '') {
  const ran = spawnSync(command, args, { encoding: 'utf8', input, windowsHide: true });
  return ran.status === 0 ? ran.stdout.trim() : null;
}

/** Whether a C program that uses the C library can be compiled and linked. */
function compilesC() {
  if (process.platform === 'win32') return true; // cargo itself finds MSVC, and reports when it is missing
  const compiler = process.env.CC ?? 'cc';
  const folder = mkdtempSync(join(tmpdir(), 'containerarchive-preflight-'));
  const program = '#include <stdlib.h>\nint main(void) { return abs(0); }\n';
  try {
    const [command, ...args] = compiler.split(' ');
    return output(command, [...args, '-x', 'c', '-', '-o', join(folder, 'a.out')], program) !== null;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const COMPILER_HELP = {
  linux: 'Debian, Ubuntu: apt-get install build-essential · Fedora: dnf install gcc glibc-devel · Alpine: apk add build-base',
  darwin: 'xcode-select --install',
};

/** What is missing: [{ what, found, get }]. */
export function missing() {
  const found = [];
  if (!atLeast(process.versions.node, NODE)) {
    found.push({
      what: `Node ${NODE.join('.')} or later`,
      found: `Node ${process.versions.node}`,
      get: 'https://nodejs.org/en/download, or your version manager: nvm install 22',
    });
  }
  for (const tool of ['rustc', 'cargo']) {
    const version = output(tool, ['--version']);
    if (atLeast(version, RUST)) continue;
    found.push({
      what: `${tool} ${RUST.join('.')} or later`,
      found: version ?? `no ${tool} in PATH`,
      get: version ? 'rustup update stable' : 'https://rustup.rs (then open a new terminal, so that PATH has it)',
    });
  }
  if (!compilesC()) {
    found.push({
      what: 'a C compiler with the headers of the C library',
      found: `"${process.env.CC ?? 'cc'}" cannot compile and link a small program`,
      get: COMPILER_HELP[process.platform] ?? 'a compiler named cc in PATH, or its name in the variable CC',
    });
  }
  return found;
}

/** Exits with status 1 and an explanation when something is missing. */
export function preflight() {
  const lacks = missing();
  if (lacks.length === 0) return;
  console.error('This machine lacks tools to build the project:\n');
  for (const { what, found, get } of lacks) console.error(`  ${what}\n    found: ${found}\n    get:   ${get}\n`);
  process.exit(1);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  preflight();
  console.log(`Node ${process.versions.node}, ${output('rustc', ['--version'])} and a C compiler are installed.`);
}
