'use strict';
// Loads the native addon through the generated loader (binding.js), and reports what to do when
// that fails.
//
// Only the complete native part of exactly this version is loaded. Anything else, also what a
// bundler or a loader substituted, is refused here and not at the first call.

const { existsSync, readFileSync, readdirSync } = require('node:fs');
const { basename, dirname, join } = require('node:path');
const { fileBuiltFor } = require('./addon-file.js');
const { diagnose } = require('./load-error.js');
const { name: PACKAGE, version } = require('../package.json');

/** The exports that the other files of this package use. */
const EXPORTS = [
  'NativeFile', 'NativeFiles', 'NativeIngest', 'NativeLane', 'NativeRepository', 'NativeRest', 'NativeRestore', 'NativeStop',
  'aesKernel', 'init', 'open', 'sha256Kernel', 'version',
];

/** The directory of this package. */
const FOLDER = dirname(__dirname);

/** What `read` returns, or `otherwise` when it throws: an explanation must not fail itself. */
function attempt(read, otherwise) {
  try {
    return read();
  } catch {
    return otherwise;
  }
}

/** The C library of this process on Linux: 'glibc 2.36', 'musl'; '' elsewhere, or when unknown. */
function libc() {
  if (process.platform !== 'linux') return '';
  return attempt(() => {
    const { report } = process;
    const before = report.excludeNetwork;
    report.excludeNetwork = true; // it would look up the names of connected hosts
    const { header, sharedObjects = [] } = report.getReport();
    report.excludeNetwork = before;
    if (header.glibcVersionRuntime) return `glibc ${header.glibcVersionRuntime}`;
    return sharedObjects.some((file) => /ld-musl|libc\.musl/.test(file)) ? 'musl' : '';
  }, '');
}

/** This platform as napi-rs names it in files and packages. */
function suffix(clib) {
  const abi = { linux: clib === 'musl' ? '-musl' : '-gnu', win32: '-msvc' }[process.platform] ?? '';
  return `${process.platform}-${process.arch}${abi}`;
}

/** A manifest of a package; undefined when there is none. */
function manifestIn(folder) {
  return attempt(() => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')), undefined);
}

/** Whether this package is a clone of its source. */
function isClone() {
  return attempt(() => existsSync(join(FOLDER, 'Cargo.toml')), false);
}

/** The file that the variable of the loader names; Deno may forbid to read it. */
function namedFile() {
  return attempt(() => process.env.NAPI_RS_NATIVE_LIBRARY_PATH, undefined);
}

/** The addon that the loader tried first, if it exists: { path, builtFor }. */
function foundFile(clib) {
  const local = join(FOLDER, `containerarchive.${suffix(clib)}.node`);
  const installed = `${FOLDER}-${suffix(clib)}`; // next to this package, in the directory of its scope
  const candidates = [local, join(installed, manifestIn(installed)?.main ?? 'none')];
  const path = namedFile() || candidates.find((each) => existsSync(each));
  return path ? { path, builtFor: fileBuiltFor(path) } : null;
}

/** The platform packages that are installed next to this package. */
function installedPackages() {
  const names = attempt(() => readdirSync(dirname(FOLDER)), []);
  return names.filter((each) => each.startsWith(`${basename(PACKAGE)}-`)).map((each) => `${dirname(PACKAGE)}/${each}`);
}

/** The messages of a chain of errors, in the order of the attempts. */
function textsOf(error) {
  const texts = [];
  for (let each = error; typeof each?.message === 'string' && texts.length < 20; each = each.cause) {
    texts.unshift(each.message);
  }
  return texts;
}

/**
 * The system's text as an error without a stack, so that a print stays short: the chain of the
 * loader has a stack for each file that it tried.
 */
function shortCause(text) {
  const cause = new Error(text);
  cause.stack = `Error: ${text}`;
  return cause;
}

/** The error that states the reason, what to do, and the system. */
function explain(thrown) {
  const clib = libc();
  const { reason, happened, todo, text } = thrown?.todo ? thrown : diagnose(textsOf(thrown), {
    platform: process.platform,
    arch: process.arch,
    libc: clib,
    permissions: process.permission !== undefined,
    folder: FOLDER,
    isClone: isClone(),
    hasLoader: attempt(() => existsSync(join(FOLDER, 'binding.js')), true),
    named: namedFile(),
    file: attempt(() => foundFile(clib), null),
    wanted: `${PACKAGE}-${suffix(clib)}`,
    others: installedPackages(),
  });
  const { bun, deno, electron, node } = process.versions;
  const runtimes = [['Bun', bun], ['Deno', deno], ['Electron', electron], ['Node', node]];
  const runtime = runtimes.find(([, each]) => each).join(' ');
  const system = [`${process.platform} ${process.arch}`, clib, runtime].filter(Boolean).join(', ');
  const error = new Error(
    `Cannot load containerarchive ${version}: ${happened}\nTo fix this: ${todo}\nThis system: ${system}`,
    text === undefined ? undefined : { cause: shortCause(text) },
  );
  // The frames of the module loader would be most of what a terminal shows.
  if (typeof error.stack === 'string') error.stack = error.stack.replace(/\n +at [^\n]*\(node:[^\n]*/g, '');
  error.code = 'ERR_NATIVE_LOAD';
  error.reason = reason;
  return error;
}

/** The files that the addon was loaded from, as far as the module system knows. */
function loadedFiles(addon) {
  const isAddon = (each) => each.exports === addon && each.filename?.endsWith('.node');
  const loaded = (module.children ?? []).flatMap((loader) => loader.children ?? []);
  return loaded.filter(isAddon).map(({ filename }) => filename);
}

/** Thrown by `check`: a diagnosis in itself. */
function refusal(reason, happened, todo) {
  return Object.assign(new Error(happened), { reason, happened, todo });
}

/** Returns the addon; throws unless it is the native part of this version. */
function check(addon) {
  if (addon === null || typeof addon !== 'object') {
    throw refusal(
      'not-an-addon',
      `the loader returned a ${typeof addon} instead of the native part`,
      'leave this package out of the bundle (docs/bundlers.md)',
    );
  }
  const other = (happened) => refusal(
    'other-version',
    happened,
    isClone()
      ? '"npm run build" in this clone of the source'
      : `install ${PACKAGE} again: its optional dependencies are of its own version`,
  );
  const lacks = EXPORTS.filter((name) => typeof addon[name] !== 'function');
  // before its version: an old one may lack that function too
  if (lacks.length > 0) throw other(`the native part is of another version: it lacks ${lacks.join(', ')}`);
  if (addon.version() !== version) {
    throw other(`the native part is of version ${addon.version()}, and not of ${version}`);
  }
  for (const file of loadedFiles(addon)) {
    const { name, version: found } = manifestIn(dirname(file)) ?? {};
    if (name?.startsWith(`${PACKAGE}-`) && found !== version) {
      throw other(`the package ${name} is of version ${found}, and not of ${version}`);
    }
  }
  return addon;
}

function load() {
  try {
    return check(require('../binding.js'));
  } catch (thrown) {
    throw explain(thrown);
  }
}

module.exports = load();
