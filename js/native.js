'use strict';
// Loads the native addon through the generated loader (binding.js), and says what to do when that fails.

/** The C library of this process on Linux: 'glibc 2.36', 'musl', or '' elsewhere. */
function libc() {
  if (process.platform !== 'linux') return '';
  const version = process.report?.getReport?.()?.header?.glibcVersionRuntime;
  return version ? `glibc ${version}` : 'musl';
}

/** The name of the package that holds the addon for this platform, as napi-rs names it. */
function platformPackage(clib) {
  const abi = { linux: clib === 'musl' ? '-musl' : '-gnu', win32: '-msvc' }[process.platform] ?? '';
  return `@serve.zone/containerarchive-${process.platform}-${process.arch}${abi}`;
}

/** An error that names the platform and the ways out. */
function explain(cause) {
  const clib = libc();
  const where = [process.platform, process.arch, clib].filter(Boolean).join(', ');
  const error = new Error(
    [
      `Cannot load the native addon of containerarchive (${where}, Node ${process.versions.node}).`,
      `Reason: ${cause.message}`,
      'What to do:',
      `  - Installed from npm: the addon is the optional dependency ${platformPackage(clib)}. Install again without`,
      '    "--omit=optional" / "--no-optional". A lock file or node_modules that was made on another platform lacks it:',
      '    remove both and install again, or use "npm install --os=... --cpu=... --libc=...".',
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

function load() {
  try {
    return require('../binding.js');
  } catch (cause) {
    throw explain(cause);
  }
}

module.exports = load();
