// Tab: ids of snapshots, names of items and paths in a tar, from the helper that the scripts of the
// shells run, and through the shells that this machine has.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { wordsOf } from '../cli/src/words.mjs';
import { CLI, ON_UNIX, environment, has, run } from './support/cli.mjs';
import { ENCRYPTED, PASSPHRASE, PLAIN, freshRepo, temporary, test } from './support/harness.mjs';

/** A repository with a snapshot of two items, one of which is a tar, and an older one. */
async function prepare(t, kind = PLAIN) {
  const { path, repo } = await freshRepo(t, kind);
  const folder = temporary(t);
  mkdirSync(join(folder, 'etc/sub'), { recursive: true });
  for (const name of ['etc/a file', 'etc/a:b', 'etc/a:c', 'etc/sub/x', 'etc/new\nline']) writeFileSync(join(folder, name), '');
  const tar = execFileSync('tar', ['-C', folder, '-cf', '-', 'etc']);
  const { id: old } = await repo.ingest(Buffer.from('1'));
  const { id } = await repo.ingestMulti([{ name: 'files.tar', stream: Readable.from([tar]) }, { name: 'note', stream: Readable.from(['n']) }]);
  const complete = (line, { shell = 'zsh', typed = '', env = {} } = {}) => {
    const { status, stdout, stderr } = run(['__complete', shell, line, typed], { env: { CONTAINERARCHIVE_REPOSITORY: path, ...env } });
    assert.deepEqual([status, stderr], [0, ''], line);
    return stdout.split('\n').slice(0, -1);
  };
  return { path, id, old, complete };
}

test('ids, items and paths are completed', async (t) => {
  const { path, id, old, complete } = await prepare(t);
  const ids = ['latest', id.slice(0, 8), old.slice(0, 8)];
  for (const line of ['ls ', 'find ', 'diff ', 'restore ', 'forget ', 'copy --to x ', `--json -r${path} ls `, `--repo=${path} -q ls `]) {
    assert.deepEqual(complete(`containerarchive ${line}`), ids, line);
  }
  assert.deepEqual(complete('/usr/bin/containerarchive ls la'), ['latest']);
  assert.deepEqual(complete(`containerarchive ls ${id.slice(0, 6)}`), [id.slice(0, 8)]);
  assert.deepEqual(complete(`containerarchive ls ${id.slice(0, 12)}`), [id]);
  assert.deepEqual(complete(`containerarchive diff ${id.slice(0, 8)} `), ['latest', old.slice(0, 8)]);
  assert.deepEqual(complete('containerarchive ls latest '), ['etc/']);
  assert.deepEqual(complete('containerarchive ls latest etc/'), ['etc/a file', 'etc/a:b', 'etc/a:c', 'etc/sub/']);
  assert.deepEqual(complete('containerarchive ls latest ./etc/s'), ['./etc/sub/']);
  assert.deepEqual(complete('containerarchive ls latest "etc/a f'), ['etc/a file']);
  assert.deepEqual(complete('containerarchive ls latest --escaped etc/n'), ['etc/new\\nline']);
  assert.deepEqual(complete('containerarchive restore latest --member etc/sub/'), ['etc/sub/x']);
  assert.deepEqual(complete('containerarchive restore latest --item '), ['files.tar', 'note']);
  assert.deepEqual(complete('containerarchive restore latest --item=f'), ['--item=files.tar']);
  assert.deepEqual(complete('containerarchive restore latest --item=note --member '), []);
  // readline ends words at these characters, and replaces only what is after them
  assert.deepEqual(complete('containerarchive restore latest --item=f', { shell: 'bash', typed: 'f' }), ['files.tar']);
  assert.deepEqual(complete('containerarchive ls latest etc/a:', { shell: 'bash', typed: '' }), ['b', 'c']);
  assert.deepEqual(complete('containerarchive ls latest etc/a:b', { shell: 'bash', typed: 'b' }), ['b']);
  assert.match(complete('containerarchive ls lat', { shell: 'fish' }).join(), /^latest\tthe newest one$/);
  for (const line of ['containerarchive ls x', 'containerarchive ls none etc/', 'containerarchive key remove ', 'containerarchive backup ', 'containerarchive backup --item ',
    'containerarchive --repo ', 'containerarchive ls $ID ', 'containerarchive ls `id` ', 'containerarchive -r /none ls ', 'containerarchive', '', 'other ls ',
    'containerarchive ls latest etc --nothing=', 'containerarchive ls latest etc/none/', 'containerarchive restore latest --to ', 'containerarchive ls latest etc ']) {
    assert.deepEqual(complete(line), [], line);
  }
}, ON_UNIX);

test('a completion asks for no passphrase and runs no command', async (t) => {
  const { path, id, old, complete } = await prepare(t, ENCRYPTED);
  const marker = join(temporary(t), 'marker');
  const command = `touch ${marker}; echo '${PASSPHRASE}'`;
  assert.deepEqual(complete('containerarchive ls '), []);
  assert.deepEqual(complete(`containerarchive ls --passphrase-command "${command}" `), []);
  assert.deepEqual(complete('containerarchive ls ', { env: { CONTAINERARCHIVE_PASSPHRASE_COMMAND: command } }), []);
  assert.deepEqual(complete('containerarchive ls ', { env: { CONTAINERARCHIVE_PASSPHRASE: 'wrong' } }), []);
  assert.ok(!existsSync(marker), 'the command was run');
  const ids = ['latest', id.slice(0, 8), old.slice(0, 8)];
  assert.deepEqual(complete('containerarchive ls ', { env: { CONTAINERARCHIVE_PASSPHRASE: PASSPHRASE } }), ids);
  const file = join(temporary(t), 'pass phrase');
  writeFileSync(file, PASSPHRASE);
  assert.deepEqual(complete(`CONTAINERARCHIVE_REPOSITORY=${path} containerarchive --passphrase-file '${file}' ls `, { env: { CONTAINERARCHIVE_REPOSITORY: '' } }), ids);
}, ON_UNIX);

test('the words of a line are those that a shell would read', () => {
  const cases = [
    ['', [], ''],
    ['  a  b ', ['a', 'b'], ''],
    ['a b', ['a'], 'b'],
    [`a 'b c' "d \\" e" f\\ g`, ['a', 'b c', 'd " e'], 'f g'],
    [`a '\\' "\\x" 'open it`, ['a', '\\', '\\x'], 'open it'],
    ["a '$x' ~/d ~x", ['a', '$x', `${homedir()}/d`], '~x'],
    ['a \\', ['a'], ''],
  ];
  for (const [line, words, current] of cases) assert.deepEqual(wordsOf(line), { words, current }, line);
  for (const line of ['a $x ', 'a "$x"', 'a `x`', 'a "`x`" b']) assert.equal(wordsOf(line), null, line);
});

/** The definition of a function `containerarchive` that runs this command line. */
const FUNCTION = `containerarchive() { '${process.execPath}' '${CLI}' "$@"; }`;

test('bash completes ids and paths, and words where there are none', async (t) => {
  const { path, id, old } = await prepare(t);
  const script = run(['completion', 'bash']).stdout;
  const complete = (...words) => {
    const line = words.join(' ');
    const text = `${FUNCTION}\n${script}\nCOMP_WORDS=(${words.map((word) => `'${word}'`).join(' ')}); COMP_CWORD=${words.length - 1}; COMP_LINE='${line}'; COMP_POINT=${line.length}
_containerarchive; printf '%s\\n' "\${COMPREPLY[@]}"`;
    return execFileSync('bash', ['-c', text], { encoding: 'utf8', cwd: temporary(t), env: environment({ CONTAINERARCHIVE_REPOSITORY: path }) }).trimEnd().split('\n');
  };
  assert.deepEqual(complete('containerarchive', 'ls', ''), ['latest', id.slice(0, 8), old.slice(0, 8)]);
  assert.deepEqual(complete('containerarchive', 'ls', 'latest', 'etc/a'), ['etc/a file', 'etc/a:b', 'etc/a:c']);
  assert.deepEqual(complete('containerarchive', 'restore', 'latest', '--mem'), ['--member']);
  assert.deepEqual(complete('containerarchive', 'forg'), ['forget']);
}, { skip: ON_UNIX.skip || (!has('bash') && 'SKIPPED: no bash') });

test('fish completes ids and paths, with what they are', async (t) => {
  const { path, id } = await prepare(t);
  const folder = temporary(t);
  const script = join(folder, 'script.fish');
  writeFileSync(script, run(['completion', 'fish']).stdout);
  const complete = (line) => {
    const text = `function containerarchive; '${process.execPath}' '${CLI}' $argv; end; source ${script}; complete -C '${line}'`;
    const env = environment({ CONTAINERARCHIVE_REPOSITORY: path, HOME: folder });
    return execFileSync('fish', ['-c', text], { encoding: 'utf8', cwd: folder, env }).trimEnd().split('\n');
  };
  assert.match(complete('containerarchive ls ')[1], new RegExp(`^${id.slice(0, 8)}\t.* files\\.tar note$`));
  assert.deepEqual(complete('containerarchive ls latest etc/s'), ['etc/sub/\tdirectory']);
  assert.deepEqual(complete('containerarchive restore latest --item '), ['files.tar\tdata', 'note\tdata']);
  assert.deepEqual(complete('containerarchive restore latest --to scr'), ['script.fish']);
}, { skip: ON_UNIX.skip || (!has('fish') && 'SKIPPED: no fish') });
