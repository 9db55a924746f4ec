// ls, find and diff: the members of items that are tars.

import { EXIT, Failure } from '../failure.mjs';
import { withItem } from '../items.mjs';
import { characters, nameText, unescaped } from '../names.mjs';
import { localTime, plural, printable, shortId, size, table } from '../output.mjs';
import { matcher } from '../pattern.mjs';
import { withRepository } from '../repository.mjs';

export function define(program, run) {
  program
    .command('ls')
    .summary('list the items of a snapshot, or the files in one')
    .description('Lists the items of a snapshot; with a path or --item, the files of a directory in an item that is a tar.')
    .argument('<id>', 'a snapshot: its id, an unambiguous prefix, or "latest"')
    .argument('[path]', 'a directory or file in the tar')
    .option('--item <name>', 'the item; default: the only one, or the only one with a member index')
    .option('--recursive', 'what is in directories below it too')
    .option('--all', 'of several files with one path, each')
    .option('--escaped', 'the path has the escapes that ls prints, as \\351 for a byte that is no UTF-8')
    .action(run(list));
  program
    .command('find')
    .summary('find files in a snapshot by their name')
    .description('Finds files in an item that is a tar by the last name of their path.')
    .argument('<id>', 'a snapshot: its id, an unambiguous prefix, or "latest"')
    .requiredOption('--name <pattern>', 'the name; * is any characters, ? is one, [a-z] one of several, [!a-z] none of them')
    .option('--item <name>', 'the item; default: the only one, or the only one with a member index')
    .action(run(find));
  program
    .command('diff')
    .summary('compare the files of two snapshots')
    .description('Compares the files in an item that is a tar: + only in the second snapshot, - only in the first, M changed.')
    .argument('<id1>', 'a snapshot: its id, an unambiguous prefix, or "latest"')
    .argument('<id2>', 'another one')
    .option('--item <name>', 'the item; default: the only one, or the only one with a member index')
    .action(run(diff));
}

const READ_ONLY = { readOnly: true };
const LETTERS = { directory: 'd', symlink: 'l', hardlink: 'h', fifo: 'p', characterDevice: 'c', blockDevice: 'b', file: '-', other: '?' };
const SIGNS = { added: '+', removed: '-', changed: 'M' };

/** An entry for JSON: of a name that is no UTF-8, the bytes in hex, in a field of its own. */
export function plain(entry) {
  const fields = Object.entries(entry).flatMap(([key, value]) => (
    Buffer.isBuffer(value) ? [[key, value.toString()], [`${key}Hex`, value.toString('hex')]] : [[key, value]]));
  return Object.fromEntries(fields);
}

/** The permissions as ls shows them: rwxr-xr-x. */
function modeText(mode) {
  const bits = [...'rwxrwxrwx'].map((letter, i) => (mode & (0o400 >> i) ? letter : '-'));
  for (const [bit, at, letter] of [[0o4000, 2, 's'], [0o2000, 5, 's'], [0o1000, 8, 't']]) {
    if (mode & bit) bits[at] = bits[at] === 'x' ? letter : letter.toUpperCase();
  }
  return bits.join('');
}

/** A line about a member. */
function line({ path, type, size: bytes, mode, uid, gid, user, group, mtimeMs, link, isSuperseded }) {
  if (mode === undefined) return `d${' '.repeat(58)}${nameText(path)}/`;
  const owner = `${nameText(user || String(uid))}/${nameText(group || String(gid))}`;
  const target = link === undefined ? '' : ` ${type === 'symlink' ? '->' : 'is'} ${nameText(link)}`;
  const later = isSuperseded ? '  (superseded by a later one)' : '';
  const time = Number.isFinite(new Date(mtimeMs).getTime()) ? localTime(mtimeMs) : '?';
  return `${LETTERS[type]}${modeText(mode)} ${owner.padEnd(17)} ${size(bytes).padStart(10)} ${time.padEnd(19)} ${nameText(path)}${type === 'directory' ? '/' : ''}${target}${later}`;
}

async function list(session, id, path, { item, recursive, all, escaped, ...globals }) {
  if (escaped && path === undefined) throw new Failure('--escaped needs a path', { code: 'ERR_INVALID_ARGUMENT' });
  const member = escaped ? unescaped(path) : path;
  return withRepository(globals, session, READ_ONLY, async (archive) => {
    if (path === undefined && item === undefined && !recursive && !all) return items(session, await archive.getSnapshot(id));
    return withItem(archive, item, async () => {
      for await (const entry of archive.files(id, { item, member, recursive, all, signal: session.signal })) {
        session.output.result(plain(entry), line(entry));
      }
      return EXIT.ok;
    });
  });
}

function items({ output }, snapshot) {
  const rows = snapshot.items.map(({ name, type, size: bytes, chunkCount }) => [printable(name), printable(type), size(bytes), String(chunkCount)]);
  output.note(`snapshot ${snapshot.id} of ${localTime(snapshot.createdAt)}`);
  output.result(snapshot.items, table(['Item', 'Type', 'Size', 'Chunks'], rows, [2, 3]));
  return EXIT.ok;
}

async function find(session, id, { name: pattern, item, ...globals }) {
  const isWanted = matcher(pattern);
  return withRepository(globals, session, READ_ONLY, (archive) => withItem(archive, item, async () => {
    let found = 0;
    for await (const entry of archive.files(id, { item, recursive: true, signal: session.signal })) {
      const text = characters(entry.path);
      if (!isWanted(text.slice(text.lastIndexOf('/') + 1))) continue;
      found++;
      session.output.result(plain(entry), line(entry));
    }
    session.output.note(plural(found, 'file'));
    return EXIT.ok;
  }));
}

/** Notes that the items that are compared without --item have different names. */
function noteItems(output, item, [before, ...more], [after, ...others]) {
  const areSingle = before && after && more.length + others.length === 0;
  if (item === undefined && areSingle && before.name !== after.name) {
    output.note(`the items have different names: ${printable(before.name)} and ${printable(after.name)}`);
  }
}

async function diff(session, first, second, { item, ...globals }) {
  return withRepository(globals, session, READ_ONLY, async (archive) => {
    const [before, after] = [await archive.getSnapshot(first), await archive.getSnapshot(second)];
    session.output.note(`${shortId(before.id)} of ${localTime(before.createdAt)} and ${shortId(after.id)} of ${localTime(after.createdAt)}`);
    noteItems(session.output, item, before.items, after.items);
    return withItem(archive, item, async () => {
      for await (const found of archive.diff(before.id, after.id, { item, signal: session.signal })) {
        const { change, path, before: old, after: now } = found;
        const json = { ...plain({ change, path }), ...(old && { before: plain(old) }), ...(now && { after: plain(now) }) };
        session.output.result(json, `${SIGNS[change]} ${nameText(path)}${(now ?? old).type === 'directory' ? '/' : ''}`);
      }
      return EXIT.ok;
    });
  });
}
