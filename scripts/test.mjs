// Runs the tests, and installs and builds what they need:
// node scripts/test.mjs all | rust | node | deep
//
// The Node tests run against an addon of their own (target/addon): compiled quickly, with overflow
// checks, and without replacing a release build. The Rust tests run first, so that a broken engine
// is reported before its binding.

import { availableParallelism } from 'node:os';
import { preflight } from './preflight.mjs';
import { install, npm, onlyFile, platform, run, specs } from './steps.mjs';

/** A hanging test must not occupy a machine for hours. */
const NODE_LIMIT_MS = 15 * 60_000;
const RUST_LIMIT_MS = 30 * 60_000;
const DEEP_LIMIT_MS = 120 * 60_000;

const mode = process.argv[2] ?? 'all';
if (!['all', 'rust', 'node', 'deep'].includes(mode)) {
  console.error('Usage: node scripts/test.mjs [all | rust | node | deep]');
  process.exit(1);
}
const deep = mode === 'deep';
const deepEnv = deep ? { CONTAINERARCHIVE_DEEP: '1' } : {};

function testRust() {
  const target = platform();
  const where = target ? ['--target', target] : [];
  const more = deep ? ['--', '--include-ignored'] : [];
  run('cargo', ['test', '--locked', ...where, ...more], { env: deepEnv, timeoutMs: deep ? DEEP_LIMIT_MS : RUST_LIMIT_MS });
}

/**
 * Two files at once: a file alone keeps a machine of two cores half idle, and Node's own default is
 * one less than the cores.
 */
function atOnce() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  const hasOption = major > 20 || (major === 20 && minor >= 10);
  return hasOption && availableParallelism() < 4 ? ['--test-concurrency=2'] : [];
}

function testNode() {
  install();
  npm('run', 'build:test');
  npm('run', 'build:cli');
  const options = {
    env: {
      NAPI_RS_NATIVE_LIBRARY_PATH: onlyFile('target/addon', '.node'),
      ...deepEnv,
    },
    timeoutMs: deep ? DEEP_LIMIT_MS : NODE_LIMIT_MS,
  };
  run(process.execPath, ['scripts/test-reader.mjs'], options);
  run(process.execPath, ['--test', ...atOnce(), ...specs()], options);
}

preflight();
if (mode !== 'node') testRust();
if (mode !== 'rust') testNode();
