// npm run pack:all -- --out DIR [--artifacts DIR] [--only PLATFORM] [--complete] [--unchecked]:
// assembles the tarballs to publish: the package itself, and one for each platform whose addon
// exists in --artifacts (recursively), in npm/PLATFORM or in the root of the project.
//
// Nothing in the tree changes: the packed manifest of the root alone names the platform packages,
// as optional dependencies of its own version. An addon that contains paths of the machine that
// built it is refused, unless --unchecked. --complete refuses to leave a platform out.

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { root } from './steps.mjs';

/** What every tarball contains besides its code. */
const PAPERS = ['LICENSE', 'THIRD-PARTY-NOTICES.md', 'CHANGELOG.md', 'docs'];

const read = (...path) => JSON.parse(readFileSync(join(...path), 'utf8'));
const manifest = read(root, 'package.json');
const PLATFORMS = readdirSync(join(root, 'npm')).sort();
const fileOf = (platform) => `${manifest.napi.binaryName}.${platform}.node`;

/** Runs npm in a directory; returns what it prints. */
function npm(cwd, ...args) {
  const cli = process.env.npm_execpath;
  const [command, first] = cli ? [process.execPath, [cli]] : ['npm', []];
  const options = { cwd, encoding: 'utf8', shell: !cli && process.platform === 'win32' };
  const { stdout, stderr, status, error } = spawnSync(command, [...first, ...args], options);
  if (status !== 0) throw new Error(`npm ${args.join(' ')} failed: ${error?.message ?? stderr}`);
  return stdout;
}

/**
 * What `npm pack --json` reports of each of some directories: an array, or an object in newer
 * versions.
 */
function pack(folders, ...args) {
  const reported = JSON.parse(npm(root, 'pack', '--json', '--ignore-scripts', ...args, ...folders));
  return Array.isArray(reported) ? reported : Object.values(reported);
}

/** Paths of the machine that built an addon, which panics would print. */
export function localPaths(bytes) {
  const text = bytes.toString('latin1');
  const found = text.match(/(?:\/(?:root|home|work|Users|builds)\/|[A-Z]:\\Users\\|\.cargo[/\\]registry)[\x20-\x7e]{0,80}/g) ?? [];
  const own = [root, homedir()].filter((folder) => folder.length > 1 && text.includes(folder));
  return [...new Set([...own, ...found])];
}

/** The addon of a platform, or undefined. */
function findAddon(platform, artifacts) {
  const folders = [join(root, 'npm', platform), root];
  if (artifacts) {
    const nested = readdirSync(artifacts, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    folders.unshift(...new Set(nested.map((entry) => entry.parentPath ?? entry.path)));
  }
  return folders.map((folder) => join(folder, fileOf(platform))).find((file) => existsSync(file));
}

/** Copies the papers into a directory to be packed; returns the names of those that exist. */
function copyPapers(stage) {
  const found = PAPERS.filter((name) => existsSync(join(root, name)));
  for (const name of found) cpSync(join(root, name), join(stage, name), { recursive: true });
  return found;
}

function writeManifest(stage, contents) {
  writeFileSync(join(stage, 'package.json'), `${JSON.stringify(contents, null, 2)}\n`);
}

/** The package itself: the files that npm would publish, with a manifest for users. */
function stageRoot(stage) {
  npm(root, 'run', 'build:cli');
  for (const { path } of pack([root], '--dry-run')[0].files) {
    mkdirSync(dirname(join(stage, path)), { recursive: true });
    cpSync(join(root, path), join(stage, path));
  }
  const { scripts, devDependencies, overrides, ...rest } = manifest;
  const optionalDependencies = Object.fromEntries(PLATFORMS.map((platform) => [`${manifest.name}-${platform}`, manifest.version]));
  writeManifest(stage, { ...rest, optionalDependencies });
}

/** The package of one platform: its addon, its README and the papers. */
function stagePlatform(stage, platform, addon) {
  const source = join(root, 'npm', platform);
  const own = read(source, 'package.json');
  cpSync(join(source, 'README.md'), join(stage, 'README.md'));
  cpSync(addon, join(stage, fileOf(platform)));
  writeManifest(stage, { ...own, files: [...own.files, ...copyPapers(stage)] });
}

/**
 * Writes the tarballs into a directory: [{ name, file, files, size, unpacked }]. `platforms` and
 * `only` limit the platforms, `addon` names the file for the only one.
 */
export function packAll({ out, artifacts, only, addon, platforms = PLATFORMS, complete = false, unchecked = false }) {
  const chosen = platforms.filter((platform) => only === undefined || platform === only);
  if (only !== undefined && chosen.length === 0) throw new Error(`Unknown platform ${only}: known are ${PLATFORMS.join(', ')}`);
  const addons = chosen.map((platform) => [platform, addon ?? findAddon(platform, artifacts)]).filter(([platform, file]) => {
    if (file === undefined && (complete || only !== undefined)) throw new Error(`There is no addon for ${platform}`);
    const paths = file === undefined || unchecked ? [] : localPaths(readFileSync(file));
    if (paths.length > 0) throw new Error(`${file} contains paths of the machine that built it: ${paths.slice(0, 5).join(', ')}`);
    return file !== undefined;
  });
  mkdirSync(out, { recursive: true });
  const work = mkdtempSync(join(tmpdir(), 'containerarchive-pack-'));
  const stage = (name) => {
    mkdirSync(join(work, name));
    return join(work, name);
  };
  try {
    stageRoot(stage('root'));
    for (const [platform, file] of addons) stagePlatform(stage(platform), platform, file);
    const packed = pack(readdirSync(work).map((name) => join(work, name)), '--pack-destination', resolve(out));
    return packed.map(({ name, filename, files, size, unpackedSize }) => (
      { name, file: join(out, basename(filename.replace('@', '').replace('/', '-'))), files: files.map(({ path }) => path), size, unpacked: unpackedSize }
    )).sort((a, b) => (a.name < b.name ? -1 : 1));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function main() {
  const { values } = parseArgs({
    options: {
      out: { type: 'string' }, artifacts: { type: 'string' }, only: { type: 'string' }, complete: { type: 'boolean' },
      unchecked: { type: 'boolean' },
    },
  });
  if (!values.out) throw new Error('Usage: npm run pack:all -- --out DIR [--artifacts DIR] [--only PLATFORM] [--complete]');
  const packed = packAll(values);
  for (const { file, files, size, unpacked } of packed) {
    console.log(`${file}: ${files.length} files, ${size} bytes, ${unpacked} unpacked`);
  }
  const lacking = PLATFORMS.filter((platform) => !packed.some(({ name }) => name.endsWith(platform)));
  if (values.only === undefined && lacking.length > 0) console.log(`No addon for: ${lacking.join(', ')}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
