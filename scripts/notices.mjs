// npm run notices [-- --check]: writes THIRD-PARTY-NOTICES.md, the licences of everything that a
// published package contains besides our own code: the crates that are linked into the addons of
// all platforms, and the npm packages that are bundled into the command line. With --check, fails
// when the file is not up to date.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { dirname, join } from 'node:path';
import { root } from './steps.mjs';

const FILE = 'THIRD-PARTY-NOTICES.md';
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** What Cargo knows of the crates for one target. */
function metadata(target) {
  const args = ['metadata', '--locked', '--format-version', '1', '--filter-platform', target];
  const { stdout, stderr, status } = spawnSync('cargo', args, { cwd: root, encoding: 'utf8', maxBuffer: 1 << 28 });
  if (status !== 0) throw new Error(`cargo ${args.join(' ')} failed: ${stderr}`);
  return JSON.parse(stdout);
}

/** The crates that are linked into the addon for one target: no macros, no build scripts. */
function linkedCrates(target) {
  const { packages, resolve } = metadata(target);
  const byId = new Map(packages.map((each) => [each.id, each]));
  const nodes = new Map(resolve.nodes.map((each) => [each.id, each]));
  const isMacro = (id) => byId.get(id).targets.some(({ kind }) => kind.includes('proc-macro'));
  const found = new Set();
  const visit = (id) => {
    if (found.has(id) || isMacro(id)) return;
    found.add(id);
    for (const { pkg, dep_kinds: kinds } of nodes.get(id).deps) {
      if (kinds.some(({ kind }) => kind === null)) visit(pkg);
    }
  };
  visit(resolve.root);
  found.delete(resolve.root);
  return [...found].map((id) => byId.get(id));
}

/** Names of npm packages that the sources in a directory import. */
function importedNames(folder) {
  if (!existsSync(folder)) return [];
  const names = new Set();
  for (const file of readdirSync(folder, { recursive: true }).filter((name) => /\.[cm]?[jt]s$/.test(name))) {
    const text = readFileSync(join(folder, file), 'utf8');
    for (const [, specifier] of text.matchAll(/(?:\bfrom|\bimport|\brequire\(|\bimport\()\s*['"]([^'"./][^'"]*)['"]/g)) {
      const name = specifier.split('/').slice(0, specifier.startsWith('@') ? 2 : 1).join('/');
      if (!name.startsWith('node:') && !builtinModules.includes(name) && name !== manifest.name) names.add(name);
    }
  }
  return [...names];
}

/** The npm packages that are bundled into the command line, with their dependencies. */
function bundledPackages() {
  const found = new Map();
  const visit = (name) => {
    if (found.has(name)) return;
    const file = join(root, 'node_modules', name, 'package.json');
    const each = JSON.parse(readFileSync(file, 'utf8'));
    found.set(name, { ...each, manifest_path: file });
    Object.keys(each.dependencies ?? {}).forEach(visit);
  };
  importedNames(join(root, 'cli', 'src')).forEach(visit);
  return [...found.values()];
}

/** The files with the licence of a package: of several to choose from, that of the MIT licence. */
function licenceTexts({ name, license, license_file: named, manifest_path: path }) {
  const folder = dirname(path);
  const all = readdirSync(folder).filter((file) => /^(licen[cs]e|copying|unlicense|notice)/i.test(file)).sort();
  const mit = all.filter((file) => /mit/i.test(file));
  const isChoice = /\bMIT\b/.test(license ?? '') && !/\bAND\b/.test(license);
  const files = named ? [named] : isChoice && mit.length > 0 ? mit : all;
  return files.map((file) => readFileSync(join(folder, file), 'utf8')).concat(embedded(name, folder));
}

/** The licence of C sources that a crate contains. */
function embedded(name, folder) {
  return name === 'zstd-sys' ? [readFileSync(join(folder, 'zstd', 'LICENSE'), 'utf8')] : [];
}

/** The text of the MIT licence after its copyright lines. */
const MIT = readFileSync(join(root, 'LICENSE'), 'utf8').replace(/^[^]*?(?=Permission is hereby)/, '').trim();
const words = (text) => text.replace(/[^\p{L}\p{N}]+/gu, ' ').trim().toLowerCase();

/** The copyright lines of a text that is otherwise the MIT licence; null for other texts. */
function mitNotice(text) {
  const at = text.indexOf('Permission is hereby granted');
  if (at === -1 || words(text.slice(at)) !== words(MIT)) return null;
  const lines = text.slice(0, at).split('\n').map((line) => line.trim());
  return lines.filter((line) => line !== '' && !/^#*\s*\(?(the )?mit licen[cs]e( \(mit\))?\)?:?$/i.test(line)).join('\n');
}

/** For a package without the file of its licence: the notice that its manifest allows. */
function standInNotice({ name, license, authors, author }) {
  if (!/\bMIT\b/.test(license ?? '')) throw new Error(`${name} has no file with its licence (${license})`);
  const people = authors?.length > 0 ? authors.map((each) => each.replace(/ *<.*>/, '')).join(', ') : author?.name ?? author;
  return `Copyright (c) ${people || `the authors of ${name}`}`;
}

/** The standard library is linked too; Cargo does not list it. */
const STANDARD_LIBRARY = { name: 'the Rust standard library', version: '', license: 'MIT OR Apache-2.0', notice: 'Copyright (c) The Rust Project Contributors' };

/** The page: a list, the packages of the MIT licence by their notices, then every other text. */
function page(packages) {
  const notices = new Map(); // the copyright lines -> the packages
  const texts = new Map(); // another text -> the packages
  const add = (map, key, label) => map.set(key, [...(map.get(key) ?? []), label]);
  for (const each of packages) {
    const label = `${each.name} ${each.version}`.trim();
    if (each.notice) add(notices, each.notice, label);
    else {
      const found = licenceTexts(each);
      if (found.length === 0) add(notices, standInNotice(each), label);
      for (const text of found) {
        const notice = mitNotice(text);
        if (notice === null) add(texts, text.replace(/\r\n/g, '\n').replace(/[ \t]+$/gm, '').trim(), label);
        else add(notices, notice || standInNotice(each), label);
      }
    }
  }
  const rows = packages.map(({ name, version, license }) => `| ${name} | ${version} | ${license} |`);
  const block = (text) => `\`\`\`text\n${text}\n\`\`\``;
  const listed = [...notices].map(([notice, names]) => `${names.join(', ')}:\n\n${block(notice)}`);
  const others = [...texts].map(([text, names]) => `## ${names.join(', ')}\n\n${block(text)}`);
  return [
    '# Third-party notices',
    'The packages of containerarchive contain the software below. Written by `npm run notices`.',
    ['| software | version | licence |', '|---|---|---|', ...rows].join('\n'),
    '## Under the MIT licence',
    ...listed,
    'Each of them under these terms:',
    block(MIT),
    ...others,
  ].join('\n\n') + '\n';
}

const crates = new Map();
for (const target of manifest.napi.targets) {
  for (const each of linkedCrates(target)) crates.set(`${each.name} ${each.version}`, each);
}
const sorted = [...crates.values(), ...bundledPackages()].sort((a, b) => (`${a.name} ${a.version}` < `${b.name} ${b.version}` ? -1 : 1));
const wanted = page([...sorted, STANDARD_LIBRARY]);
if (process.argv.includes('--check')) {
  const found = existsSync(join(root, FILE)) ? readFileSync(join(root, FILE), 'utf8').replace(/\r\n/g, '\n') : '';
  if (found !== wanted) {
    console.error(`${FILE} is not up to date: run "npm run notices"`);
    process.exit(1);
  }
  console.log(`${FILE} is up to date: ${sorted.length} packages`);
} else {
  writeFileSync(join(root, FILE), wanted);
  console.log(`${FILE}: ${sorted.length} packages, ${wanted.length} bytes`);
}
