// restore: a snapshot, or one of its items, into files or to standard output.

import { existsSync, statSync } from 'node:fs';
import { dirname, join, resolve, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { EXIT, Failure } from '../failure.mjs';
import { itemFailure, itemHint, withItem } from '../items.mjs';
import { nameText, unescaped } from '../names.mjs';
import { plural, printable, shortId, size } from '../output.mjs';
import { withProgress } from '../progress.mjs';
import { isInRepository, withRepository } from '../repository.mjs';
import { createFolder, fileName, temporaryFiles } from '../target.mjs';
import { wholeNumber } from '../values.mjs';
import { plain } from './files.mjs';

export function define(program, run) {
  program
    .command('restore')
    .summary('restore a snapshot')
    .description('Restores the items of a snapshot into a directory, or one item into a file or to standard output.')
    .argument('<id>', 'a snapshot: its id, an unambiguous prefix, or "latest"')
    .requiredOption('--to <path>', 'the directory, the file of a single item, or - for standard output')
    .option('--item <name>', 'only this item')
    .option('--member <path>', 'only this file or directory of an item that is a tar: into a directory, or to standard output')
    .option('--escaped', 'with --member: the path has the escapes that ls prints, as \\351 for a byte that is no UTF-8')
    .option('--strip-components <n>', 'with --member: leave out so many names at the start of each path', wholeNumber(0))
    .option('--no-owners', 'with --member: as root, do not set owners and groups')
    .option('--setuid', 'with --member: keep setuid and setgid')
    .option('--devices', 'with --member: create devices, as root')
    .option('--outside-links', 'with --member: create symbolic links that lead out of the directory')
    .option('--read-only', 'repair nothing in the repository, also where damage is found')
    .option('--overwrite', 'replace files that exist')
    .action(run(restore));
}

const isDirectory = (path) => existsSync(path) && statSync(path).isDirectory();

/** Where each item goes: [{ item, path }]. */
function targetsOf(items, to, only) {
  if (to.endsWith('/') || to.endsWith(sep) || isDirectory(to) || items.length > 1) {
    return items.map(({ name }) => ({ item: name, path: join(resolve(to), fileName(name)) }));
  }
  if (items.length === 0) throw new Failure('The snapshot has no items');
  return [{ item: only ?? items[0].name, path: resolve(to) }];
}

/** Refuses options that have no effect without --member, and checks its path. */
function checkMember({ member, stripComponents, escaped, owners, setuid, devices, outsideLinks }) {
  const given = {
    '--strip-components': stripComponents !== undefined, '--escaped': escaped, '--no-owners': owners === false,
    '--setuid': setuid, '--devices': devices, '--outside-links': outsideLinks,
  };
  const alone = member === undefined && Object.keys(given).find((name) => given[name]);
  if (alone) throw new Failure(`${alone} needs --member`, { code: 'ERR_INVALID_ARGUMENT' });
  if (member === '') throw new Failure('The path after --member is empty', { code: 'ERR_INVALID_ARGUMENT', hint: 'Use --member . for all of the tar' });
  if (escaped) unescaped(member);
}

async function restore(session, id, options) {
  if (options.to === '') throw new Failure('The path after --to is empty');
  if (options.to !== '-' && isInRepository(options.to, options)) {
    throw new Failure(`${resolve(options.to)} is inside the repository`, { code: 'ERR_INVALID_ARGUMENT', hint: 'Choose another path' });
  }
  checkMember(options);
  return withRepository(options, session, { readOnly: options.readOnly === true }, async (archive) => {
    if (options.member !== undefined) return withItem(archive, options.item, () => restoreMember(session, archive, id, options));
    const snapshot = await archive.getSnapshot(id);
    const { item: only, to } = options;
    const items = only === undefined ? snapshot.items : snapshot.items.filter(({ name }) => name === only);
    if (only !== undefined && items.length === 0) throw itemFailure(snapshot, only);
    if (to === '-') return toStdout(session, archive, snapshot, items);
    return toFiles(session, archive, snapshot, targetsOf(items, to, only), options.overwrite === true);
  });
}

/** Restores a member of a tar: its bytes to standard output, or files into a directory. */
async function restoreMember({ output, signal }, archive, id, options) {
  const { item, member: given, escaped, to, overwrite = false, stripComponents, setuid, devices, outsideLinks } = options;
  const member = escaped ? unescaped(given) : given;
  if (to === '-') {
    await pipeline(await archive.restore(id, { item, member, signal }), process.stdout, { end: false });
    return EXIT.ok;
  }
  const path = resolve(to);
  // the directory itself is created when the member was found
  createFolder(dirname(path));
  // without the flag, what is usual for this user
  const owners = options.owners === false ? false : undefined;
  const how = { item, member, to: path, overwrite, stripComponents, owners, setuid, devices, outsideLinks, signal };
  const done = await withProgress(output, (progress) => archive.restoreToDirectory(id, { ...how, ...progress }));
  for (const { path: name, reason } of done.skipped.first) output.warn(`left out ${nameText(name)}: ${reason}`);
  for (const { path: name, reason } of done.changed.first) output.warn(`${nameText(name)}: ${reason}`);
  if (done.ownersNotKept > 0) output.warn(`owners of ${plural(done.ownersNotKept, 'member')} could not be set`);
  if (done.lostLinks > 0) output.warn(`left out ${plural(done.lostLinks, 'hard link')}: the file of each is not in the item`);
  if (done.stripped > 0 && done.files + done.directories + done.hardLinks + done.symlinks + done.special === 0) {
    output.warn(`nothing was restored: --strip-components ${stripComponents} leaves no name of ${plural(done.stripped, 'member')}`);
  }
  if (!done.isComplete) output.warn('the tar of the item breaks off: members may be missing');
  const notices = (of) => ({ ...of, first: of.first.map(plain) });
  const json = { ...done, skipped: notices(done.skipped), changed: notices(done.changed) };
  const others = done.hardLinks + done.symlinks + done.special;
  output.result(json, `restored ${printable(path)}  ${plural(done.files + others, 'file')}, ${size(done.bytes)}`);
  return done.skipped.count + done.lostLinks > 0 || !done.isComplete ? EXIT.incomplete : EXIT.ok;
}

/** Restores one item to standard output. It is complete only when the exit code is 0. */
async function toStdout({ signal }, archive, snapshot, items) {
  if (items.length !== 1) {
    throw new Failure(`Snapshot ${shortId(snapshot.id)} has ${items.length} items, and standard output takes one`, {
      hint: items.length > 0 ? itemHint(items) : undefined,
    });
  }
  await pipeline(await archive.restore(snapshot.id, { item: items[0].name, signal }), process.stdout, { end: false });
  return EXIT.ok;
}

async function toFiles({ output, signal }, archive, snapshot, targets, overwrite) {
  const existing = overwrite ? undefined : targets.find(({ path }) => existsSync(path));
  if (existing) throw new Failure(`${existing.path} exists`, { code: 'ERR_FILE_EXISTS', hint: 'Use --overwrite, or another path' });
  const folders = new Set(targets.map(({ path }) => dirname(path)));
  for (const folder of folders) createFolder(folder);
  for (const found of [...folders].flatMap(temporaryFiles)) {
    output.warn(`${found.path} (${size(found.size)}) is of a restore that was killed, or of one that still runs: delete it when none does`);
  }
  for (const { item, path } of targets) {
    const options = { item, path, overwrite, signal };
    const file = await withProgress(output, (progress) => archive.restoreToFile(snapshot.id, { ...options, ...progress }));
    output.result(file, `restored ${printable(file.path)}  ${size(file.size)}`);
  }
  return EXIT.ok;
}
