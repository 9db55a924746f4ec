'use strict';
// Loads the native addon through the generated loader (binding.js), and reports what to do when
// that fails.
//
// Only the complete native part of exactly this version is loaded. Anything else, also what a
// bundler or a loader substituted, is refused here and not at the first call.

const { existsSync } = require('node:fs');
const { dirname, join } = require('node:path');
const { version } = require('../package.json');

/** The exports that the other files of this package use. */
const EXPORTS = [
  'NativeFile', 'NativeIngest', 'NativeLane', 'NativeRepository', 'NativeRest', 'NativeRestore', 'NativeStop', 'init',
  'open', 'version',
];

/** The C library of this process on Linux: 'glibc 2.36', 'musl', or '' elsewhere. */
function libc() {
  if (process.platform !== 'linux') return '';
  const found = process.report?.getReport?.()?.header?.glibcVersionRuntime;
  return found ? `glibc ${found}` : 'musl';
}

/** The name of the package that holds the addon for this platform, as napi-rs names it. */
function platformPackage(clib) {
  const abi = { linux: clib === 'musl' ? '-musl' : '-gnu', win32: '-msvc' }[process.platform] ?? '';
  return `@serve.zone/containerarchive-${process.platform}-${process.arch}${abi}`;
}

/**
 * The reasons of a failed load: the loader tries several files, and chains the error of each as
 * causes.
 */
function reasons(error) {
  const texts = [];
  for (let each = error; each instanceof Error && texts.length < 10; each = each.cause) texts.push(each.message);
  // A missing file of another kind of installation explains nothing, and the loader's own text
  // guesses.
  const telling = texts.slice(1).filter((text) => !text.startsWith('Cannot find module'));
  return telling.length > 0 ? telling.join('; ') : texts[0];
}

/** An error that states the platform, the reason and what to do. */
function explain(cause) {
  const clib = libc();
  const where = [process.platform, process.arch, clib].filter(Boolean).join(', ');
  const error = new Error(
    [
      `Cannot load the native addon of containerarchive ${version} (${where}, Node ${process.versions.node}).`,
      `Reason: ${reasons(cause)}`,
      'What to do:',
      `  - Installed from npm: the addon is the optional dependency ${platformPackage(clib)}, of the same version.`,
      '    Reinstall without "--omit=optional" / "--no-optional". A lock file or node_modules of another platform or',
      '    version lacks it: delete both and reinstall, or use "npm install --os=... --cpu=... --libc=...".',
      '  - In a clone of the source: "npm ci", then "npm run build".',
      '  - Electron with asar, or a bundler: keep "**/*.node" outside of the archive and of the bundle.',
      '  - Node started with --no-addons cannot load any native addon.',
      'There are builds for Linux (x64, arm64; glibc and musl), macOS (x64, arm64) and Windows (x64, arm64).',
    ].join('\n'),
    { cause },
  );
  error.code = 'ERR_NATIVE_LOAD';
  return error;
}

/** The files that the addon was loaded from, as far as the module system knows. */
function loadedFiles(addon) {
  const isAddon = (each) => each.exports === addon && each.filename?.endsWith('.node');
  const loaded = (module.children ?? []).flatMap((loader) => loader.children ?? []);
  return loaded.filter(isAddon).map(({ filename }) => filename);
}

/** Returns the addon; throws unless it is the native part of this version. */
function check(addon) {
  if (addon === null || typeof addon !== 'object') {
    throw new Error(`the loader returned a ${typeof addon} instead of the native part`);
  }
  const missing = EXPORTS.filter((name) => typeof addon[name] !== 'function');
  // before its version: an old one may lack that function too
  if (missing.length > 0) throw new Error(`the native part is of another version: it lacks ${missing.join(', ')}`);
  if (addon.version() !== version) {
    throw new Error(`the native part is of version ${addon.version()}, and not of ${version}`);
  }
  for (const file of loadedFiles(addon)) {
    const manifest = join(dirname(file), 'package.json');
    const { name, version: other } = existsSync(manifest) ? require(manifest) : {};
    if (name?.startsWith('@serve.zone/containerarchive-') && other !== version) {
      throw new Error(`the package ${name} is of version ${other}, and not of ${version}`);
    }
  }
  return addon;
}

function load() {
  try {
    return check(require('../binding.js'));
  } catch (cause) {
    throw explain(cause);
  }
}

module.exports = load();
