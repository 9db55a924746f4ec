'use strict';
// Why the native addon could not be loaded, and what to do for that reason: a function of the texts
// of the system and of facts about this process, so that each reason can be tested on any system.

/** The systems that packages are published for, as `platform-arch`. */
const BUILDS = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64', 'win32-x64', 'win32-arm64'];
const BUILDS_TEXT = 'Linux (glibc, musl), macOS and Windows, each on x64 and arm64';

const REINSTALL = 'delete node_modules and install again on this system';

/** Reasons that the text of the system names: [pattern, (match, facts) => diagnosis]. */
const TEXTS = [
  [/loading addons is disabled/, (_, { permissions }) => (permissions
    ? {
        reason: 'no-addons',
        happened: 'the permission model of Node forbids native addons',
        todo: 'start Node with --allow-addons',
      }
    : {
        reason: 'no-addons',
        happened: 'Node was started with --no-addons',
        todo: 'start Node without --no-addons, which may also be set in NODE_OPTIONS',
      })],
  [/Requires (\w+) access to (?:"([^"]*)"|(\S+))/, ([, permission, quoted, bare]) => ({
    reason: 'no-permission',
    happened: `Deno has no ${permission} permission for ${quoted ?? bare.replace(/,$/, '')}`,
    todo: 'run it with --allow-ffi, --allow-read, --allow-write and --allow-env; for which files: docs/runtimes.md',
  })],
  [/Access to this API has been restricted/, (_, { folder }) => ({
    reason: 'no-permission',
    happened: 'the permission model of Node forbids reading the files of the package',
    todo: `start Node with --allow-addons and --allow-fs-read for ${folder} and the packages next to it`,
  })],
  [/version [`']GLIBC_([\d.]+)' not found/, ([, needed], { libc }) => ({
    reason: 'glibc-too-old',
    happened: `the addon needs glibc ${needed} or later, and this system has ${libc || 'an older one'}`,
    todo: 'use a newer system, or build the addon on this one: "npm ci" and "npm run build" in a clone of the source',
  })],
  [/libc\.musl|ld-musl|ld-linux|Error relocating/, (_, { libc }) => ({
    reason: 'other-libc',
    happened: `the addon was built for another C library than that of this system${libc ? ` (${libc})` : ''}`,
    todo: `${REINSTALL}; for an image of another one: "npm install --libc=musl" or "--libc=glibc"`,
  })],
  [/failed to map segment|Operation not permitted/, (_, { file }) => ({
    reason: 'no-execute',
    happened: `the system does not let ${file?.path ?? 'the addon'} be executed`,
    todo: 'mount its file system without "noexec", or install the package elsewhere',
  })],
  [/Permission denied|EACCES/, (_, { file }) => ({
    reason: 'no-permission',
    happened: `this user is not allowed to read ${file?.path ?? 'the addon'}`,
    todo: 'change the permissions of node_modules, or install as this user',
  })],
];

/** The file is no library, or one of another system; null when it is right or there is none. */
function wrongFile({ file, platform, arch }) {
  if (!file || file.builtFor === undefined) return null;
  if (file.builtFor === null) {
    return {
      reason: 'not-an-addon',
      happened: `${file.path} is not a native library`,
      todo: `${REINSTALL}; a bundler has to leave *.node files as they are (docs/bundlers.md)`,
    };
  }
  const other = file.builtFor;
  if (other.platform === platform && (other.arch === arch || other.arch === 'universal')) return null;
  return {
    reason: 'wrong-architecture',
    happened: `${file.path} is built for ${other.platform} ${other.arch}, and this process is ${platform} ${arch}`,
    todo: `${REINSTALL}; for another system: "npm install --os=${platform} --cpu=${arch}"`,
  };
}

/** No file of an addon was found. */
function missing({ platform, arch, folder, isClone, hasLoader, named, others, wanted }) {
  if (named) {
    return {
      reason: 'missing',
      happened: `NAPI_RS_NATIVE_LIBRARY_PATH names a file that does not exist: ${named}`,
      todo: 'correct or remove this variable',
    };
  }
  if (!BUILDS.includes(`${platform}-${arch}`)) {
    return {
      reason: 'unsupported-platform',
      happened: `there is no addon for ${platform} ${arch}`,
      todo: `use one of the supported systems: ${BUILDS_TEXT}`,
    };
  }
  if (isClone) {
    return {
      reason: 'missing',
      happened: 'the addon is not built in this clone of the source',
      todo: '"npm ci", then "npm run build"',
    };
  }
  if (!hasLoader || others.includes(wanted)) {
    return {
      reason: 'missing',
      happened: `the installation is incomplete: ${hasLoader ? `${wanted} has no addon` : 'binding.js is missing'}`,
      todo: REINSTALL,
    };
  }
  if (/\.asar\b/.test(folder)) {
    return {
      reason: 'missing',
      happened: `there is no addon in the archive of the application (${folder})`,
      todo: 'unpack "**/*.node" from the asar archive (docs/electron.md)',
    };
  }
  if (others.length > 0) {
    return {
      reason: 'missing',
      happened: `node_modules was installed for another system: it has ${others.join(', ')}, and not ${wanted}`,
      todo: `${REINSTALL}, or add this one: "npm install --os=${platform} --cpu=${arch}"`,
    };
  }
  return {
    reason: 'missing',
    happened: `the package ${wanted} is not installed`,
    todo:
      'install again without "--omit=optional" or "--no-optional", and without the old package-lock.json.\n' +
      'In a bundle: leave this package out of it (docs/bundlers.md)',
  };
}

/**
 * The reason of a failed load: `reason` (a word for programs), `happened`, `todo`, and `text`, what
 * the system reported.
 *
 * @param {string[]} texts the messages of the errors, in the order of the attempts
 * @param {object} facts `platform`, `arch`, `libc` ('glibc 2.36', 'musl' or ''), `permissions`
 * (whether Node runs with its permission model), `folder` of the package, `isClone` (of the
 * source), `hasLoader` (binding.js), `named` (the variable that names the addon), `file` (`path`
 * and `builtFor` of the addon that was found), `wanted` and `others` (names of platform packages)
 */
function diagnose(texts, facts) {
  for (const [pattern, say] of TEXTS) {
    for (const text of texts) {
      const match = pattern.exec(text);
      if (match) return { ...say(match, facts), text };
    }
  }
  const telling = texts.filter((text) => !/^(Cannot find (module|package|native binding)|Unsupported )/.test(text));
  const found = wrongFile(facts) ?? (telling.length === 0 ? missing(facts) : null);
  if (found) return { ...found, text: telling[0] };
  return { reason: 'other', happened: telling.join('; '), todo: REINSTALL };
}

module.exports = { BUILDS, diagnose };
