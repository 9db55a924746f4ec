// Code blocks of the pages: found, run in a directory that looks like the machine of a reader, or
// only parsed where they state why they cannot run here.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import ts from 'typescript';
import { PASSPHRASE, random, root, temporary } from './harness.mjs';

/** Languages that are programs, and the ones that are only shown. */
const RUN = ['js', 'ts', 'sh'];
const SHOWN = ['', 'json', 'text'];
const NOT_RUN = /^(?:\/\/|#) not run here: (\S.*)\n/;
/** Absolute paths of the pages; each is a directory in that of the page's test. */
const PATHS = /(?<![\w./$-])\/(?:var\/backups|etc\/backup|srv|mnt)(?=[/'"\s])/g;
const CLI = join(root, 'cli/dist/containerarchive.js');
const LIMIT_MS = 100_000;

/** The blocks of a page: { language, code, name, reason }; `reason` is why it is not run here. */
export function blocksOf(page, text) {
  const blocks = [...text.matchAll(/^```([^\n]*)\n([^]*?)^```$/gm)].map((match) => {
    const [, language, code] = match;
    const line = text.slice(0, match.index).split('\n').length;
    return { language, code, name: `${page}:${line}`, reason: NOT_RUN.exec(code)?.[1] ?? null };
  });
  for (const { language, name } of blocks) assert.ok([...RUN, ...SHOWN].includes(language), `${name}: language ${language}`);
  return blocks.filter(({ language }) => RUN.includes(language));
}

/** Commands that are not in a fenced block, and so would escape the tests. */
export function indentedCommands(text) {
  const prose = text.replace(/^```[^]*?^```$/gm, '');
  return prose.split('\n').filter((line) => /^ {4}\$? ?(?:npm|npx|node|cargo|docker|python3?|containerarchive) /.test(line));
}

let python;
/** A Python that can read every repository, or null: its path. */
function findPython() {
  const probe = `
import shutil, sys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
try:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
    Argon2id(salt=bytes(16), length=32, iterations=1, lanes=1, memory_cost=8)
except Exception:
    import argon2
assert shutil.which("zstd") or __import__("zstandard")
print(sys.executable, end="")`;
  python ??= [join(root, 'target/reader-venv/bin/python'), 'python3']
    .map((program) => spawnSync(program, ['-c', probe], { encoding: 'utf8' }))
    .find(({ status }) => status === 0)?.stdout ?? false;
  return python || null;
}

/** What programs of the pages need, and how to find out whether it is there. */
const NEEDS = [
  { uses: /^(?!\s*#).*\bcontainerarchive [a-z]/m, what: 'the command line, cli/dist/containerarchive.js', has: () => existsSync(CLI) },
  { uses: /\bpython3 /, what: 'Python 3.11 with cryptography, Argon2 and zstd', has: () => findPython() !== null },
  { uses: /\bsqlite3\b/, what: 'the program sqlite3', has: () => spawnSync('sqlite3', ['-version']).status === 0 },
  { uses: /\b(?:psql|createdb)\b/, what: 'a Postgres server', has: (stage) => stage.env.PGHOST !== undefined },
];

/** What this machine lacks for a block, or null. */
export function lacking({ code, language }, stage) {
  const needed = NEEDS.filter(({ uses }) => uses.test(language === 'sh' ? code : code.replace(/import .*\n/g, '')));
  return needed.find(({ has }) => !has(stage))?.what ?? null;
}

const script = (folder, name, text) => writeFileSync(join(folder, 'bin', name), `#!/bin/sh\n${text}\n`, { mode: 0o755 });
const quoted = (path) => `'${path.replaceAll("'", "'\\''")}'`;

/**
 * The machine of a reader: a directory from which the package can be imported, with the command,
 * the reader, a passphrase file, a dump and a volume.
 */
export function createStage(t, env = {}) {
  const folder = temporary(t);
  const at = (path) => join(folder, path);
  for (const path of ['node_modules/@serve.zone', 'bin', 'var/backups', 'etc/backup', 'srv/shop/uploads', 'mnt']) {
    mkdirSync(at(path), { recursive: true });
  }
  symlinkSync(root, at('node_modules/@serve.zone/containerarchive'), 'junction');
  script(folder, 'containerarchive', `exec ${quoted(process.execPath)} ${quoted(CLI)} "$@"`);
  if (env.PGHOST === undefined) script(folder, 'pg_dump', 'echo "the database $1"');
  if (findPython() !== null) script(folder, 'python3', `exec ${quoted(findPython())} "$@"`);
  for (const file of ['reader.py', 'reader_parity.py', 'reader_check.py']) copyFileSync(join(root, 'scripts', file), at(file));
  for (const file of ['etc/backup/passphrase', 'passphrase.txt']) writeFileSync(at(file), `${PASSPHRASE}\n`);
  for (const [seed, name] of ['dump.sql', 'volume.tar', 'srv/shop/uploads/a.bin'].entries()) writeFileSync(at(name), random(300_000, seed));
  writeFileSync(at('srv/shop/index.html'), '<p>shop</p>\n');
  const base = { ...process.env, ...env, BACKUP_PASSPHRASE: PASSPHRASE, PYTHONDONTWRITEBYTECODE: '1', NO_COLOR: '1' };
  return { folder, at, env: { ...base, PATH: `${at('bin')}${delimiter}${base.PATH}` } };
}

const HEAD = "import { ContainerArchive } from '@serve.zone/containerarchive';\n";
/** A block that is a part of a program gets an open handle. */
const completed = (code) => (/^import /m.test(code) ? code : `${HEAD}
const archive = await ContainerArchive.open('/var/backups/shop', { passphrase: process.env.BACKUP_PASSPHRASE });
${code}
await archive.close();
`);

function execute(program, args, stage) {
  const { folder: cwd, env } = stage;
  const { status, signal, error, stdout, stderr } = spawnSync(program, args, { cwd, env, encoding: 'utf8', timeout: LIMIT_MS });
  assert.equal(status, 0, `${program} ${args.join(' ')}: ${error ?? signal ?? ''}\n${stdout}\n${stderr}`);
  return stdout;
}

/** Runs a block, or only parses it; returns its stdout. */
export function runBlock({ language, code, reason }, stage) {
  if (language === 'ts') {
    assert.deepEqual(typeErrors([code]), []);
    return '';
  }
  const program = language === 'js' && reason === null ? completed(code) : code;
  const text = program.replace(PATHS, (path) => stage.at(path));
  if (language === 'sh') {
    writeFileSync(stage.at('block.sh'), text);
    return execute('bash', reason === null ? ['-e', '-u', 'block.sh'] : ['-n', 'block.sh'], stage);
  }
  writeFileSync(stage.at('block.mjs'), text);
  return execute(process.execPath, reason === null ? ['block.mjs'] : ['--check', 'block.mjs'], stage);
}

/** What an example in a doc comment may use without declaring it. */
const SCOPE = `
import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { ContainerArchive } from '../index.js';
declare const archive: ContainerArchive;
declare const passphrase: string;
export { createReadStream, createWriteStream, pipeline };
`;

/** Compile errors of programs, each checked in a scope of its own. */
export function typeErrors(programs) {
  const file = join(root, '__test__', 'examples.mts');
  const text = SCOPE + programs.map((code, i) => `export async function f${i}() {\n${code}\n}`).join('\n');
  const options = {
    module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    types: ['node'], strict: true, noEmit: true, skipLibCheck: true,
  };
  const host = ts.createCompilerHost(options);
  const { fileExists, getSourceFile, readFile } = host;
  host.fileExists = (name) => name === file || fileExists(name);
  host.readFile = (name) => (name === file ? text : readFile(name));
  host.getSourceFile = (name, ...more) => (
    name === file ? ts.createSourceFile(name, text, ts.ScriptTarget.ES2022, true) : getSourceFile(name, ...more));
  const program = ts.createProgram([file], options, host);
  return ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}
