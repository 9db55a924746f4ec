// backup: files, directories, standard input, or the output of commands, as one snapshot.

import { accessSync, constants, fstatSync, readFileSync, realpathSync } from 'node:fs';
import { basename, resolve } from 'node:path';
import ignore from 'ignore';
import { directoryStream, isDirectory } from '../directory.mjs';
import { EXIT, Failure, reasonOf } from '../failure.mjs';
import { printable, shortId, size } from '../output.mjs';
import { withProgress } from '../progress.mjs';
import { isInRepository, repositoryStats, withRepository } from '../repository.mjs';
import { shellCommand } from '../shell.mjs';
import { compression, list, tags, time, wholeNumber } from '../values.mjs';

/** The tag of a snapshot from which files are missing. */
const INCOMPLETE = { incomplete: 'true' };

export function define(program, run) {
  program
    .command('backup')
    .summary('back up files, directories, standard input, or the output of commands')
    .description('Creates one snapshot. A directory becomes a tar. A source that fails leaves no snapshot.')
    .argument('[paths...]', 'files and directories; or, after --, a command')
    .option('--stdin', 'back up standard input')
    .option('--name <name>', 'name of the item, for --stdin, one file or directory, or one command')
    .option('--item <name=command>', 'back up the output of a line of shell (repeatable)', list)
    .option('-t, --tag <key=value>', 'tag of the snapshot (repeatable)', tags)
    .option('--time <time>', 'time of the snapshot, for imports of older data', time)
    .option('-c, --compression <how>', 'of new data: zstd, zstd:LEVEL, zstd:auto, gzip, none', compression)
    .option('--ok-exit-code <n>', 'accept this exit code of commands too, as 1 of tar (repeatable)', codes)
    .option('--refuse-empty', 'fail when a command writes nothing, or standard input is empty')
    .option('--concurrency <n>', 'how many sources are read at once, 1 to 16', wholeNumber(1, 16))
    .option('-e, --exclude <pattern>', 'leave out what matches, as in .gitignore (repeatable)', list)
    .option('--exclude-file <file>', 'patterns from a file, one per line (repeatable)', list)
    .option('-x, --one-file-system', 'stay on the file system of each directory')
    .option('--skip-unreadable', 'leave out files that cannot be read: tags the snapshot "incomplete", and exits with 3')
    .action(run(backup));
}

/** Collects exit codes. */
const codes = (text, before = [0]) => [...before, wholeNumber(0)(text)];

/** Options that only one kind of source has. */
const ONLY_FOR = {
  paths: { exclude: '--exclude', excludeFile: '--exclude-file', oneFileSystem: '--one-file-system', skipUnreadable: '--skip-unreadable' },
  commands: { okExitCode: '--ok-exit-code' },
};

/** Refuses options that have no effect on this kind of source. */
function checkOptions(kind, options) {
  const own = { paths: 'paths', command: 'commands', items: 'commands' }[kind];
  for (const [other, names] of Object.entries(ONLY_FOR)) {
    const given = Object.keys(names).find((name) => options[name] !== undefined);
    if (other !== own && given) throw new Failure(`${names[given]} is only for ${other === 'paths' ? 'files and directories' : 'commands'}`);
  }
  if (kind === 'paths' && options.refuseEmpty) throw new Failure('--refuse-empty is only for commands and standard input');
  if (kind === 'stdin' && options.concurrency !== undefined) throw new Failure('--concurrency is for several sources');
}

/** The patterns of the options. */
function excludesOf({ exclude = [], excludeFile = [] }) {
  if (exclude.length + excludeFile.length === 0) return undefined;
  const rules = ignore({ ignoreCase: false }).add(exclude);
  for (const path of excludeFile) {
    try {
      rules.add(readFileSync(path, 'utf8'));
    } catch (cause) {
      throw new Failure(`The exclude file ${path} cannot be read: ${reasonOf(cause)}`, { cause });
    }
  }
  return rules;
}

/** What the command line asks for: exactly one kind of source. */
function kindOf(paths, command, { stdin, item }) {
  const given = [paths.length > 0 && 'files', command && 'a command after --', stdin && '--stdin', item && '--item'].filter(Boolean);
  if (given.length === 0) throw new Failure('There is nothing to back up', { hint: 'Give files or directories, --stdin --name NAME, --item NAME=COMMAND, or -- COMMAND' });
  if (given.length > 1) throw new Failure(`Only one of ${given.join(' and ')} can be backed up at once`);
  if (stdin && process.stdin.isTTY) throw new Failure('Standard input is a terminal', { hint: 'Connect a pipe or a file to it' });
  return command ? 'command' : stdin ? 'stdin' : item ? 'items' : 'paths';
}

/** The commands of --item. */
function itemCommands(lines) {
  const names = new Set();
  return lines.map((line) => {
    const at = line.indexOf('=');
    if (at < 1 || at === line.length - 1) throw new Failure(`--item ${JSON.stringify(line)} is not NAME=COMMAND`);
    const name = line.slice(0, at);
    if (names.has(name)) throw new Failure(`Two --item have the name ${JSON.stringify(name)}`, { hint: 'Give each its own name' });
    names.add(name);
    return { name, command: shellCommand(line.slice(at + 1)) };
  });
}

/** Most files that are named one by one. */
const MOST_NAMED = 1000;

/** What the streams of one attempt left out. */
class Skips {
  /** Paths, those that were reported before included. */
  paths = new Set();
  #output;
  #allowed;
  #reported;

  /** What was reported, for a next attempt. */
  get reported() {
    return new Set([...this.#reported, ...this.paths]);
  }

  /**
   * @param output
   * @param {boolean} allowed whether files may be left out
   * @param {Set<string>} reported what an earlier attempt has reported
   */
  constructor(output, allowed, reported = new Set()) {
    this.#output = output;
    this.#allowed = allowed;
    this.#reported = reported;
  }

  /** For a file that should be in the backup. */
  onSkipped = (path, why) => {
    if (!this.#allowed) {
      throw new Failure(`${path} cannot be backed up: ${why}`, { hint: 'Correct that, or use --skip-unreadable to leave out such files' });
    }
    if (!this.#reported.has(path) && this.paths.size < MOST_NAMED) this.#output.warn(`not complete: ${path}: ${why}`);
    this.paths.add(path);
  };

  /** For what is left out on purpose. */
  onIgnored = (path, why) => this.#once(`left out ${path}: ${why}`);

  /** For a file whose bytes may be of two times. */
  onChanged = (path) => this.#once(`${path} changed while it was read`);

  #once(text) {
    if (!this.#reported.has(text)) this.#output.warn(text);
    this.#reported.add(text);
  }
}

/** Descriptions of files and directories, from which items can be made more than once. */
async function describePaths(paths, options) {
  if (options.name !== undefined && paths.length > 1) throw new Failure('--name is for one file or directory');
  const described = [];
  for (const path of paths) {
    const folder = await isDirectory(path);
    const base = basename(resolve(path)) || 'root';
    const name = options.name ?? (folder ? `${base}.tar` : base);
    if (isInRepository(path, options)) {
      throw new Failure(`${path} is the repository itself, or in it`, { hint: 'Copy a repository with a tool that deletes in the target what the source no longer has' });
    }
    const twin = described.find((one) => one.name === name);
    if (twin) throw new Failure(`${twin.path} and ${path} would both be the item ${JSON.stringify(name)}`, { hint: 'Back them up as two snapshots, one with --name' });
    // a link that is named on the command line is followed, as for a file
    described.push({ path: folder ? realpathSync(path) : resolve(path), name, base, folder });
  }
  return described;
}

/** Whether a file can be opened; `skips` decides what happens when it cannot. */
function isReadable(path, skips) {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch (error) {
    skips.onSkipped(path, error.message);
    return false;
  }
}

/** The items of one attempt. */
function itemsOf({ described, excludes, avoid }, { oneFileSystem }, skips) {
  const readable = described.filter(({ path, folder }) => folder || isReadable(path, skips));
  if (readable.length === 0) throw new Failure('Nothing is left to back up: no file can be read');
  return readable.map(({ path, name, base, folder }) => {
    if (!folder) return { name, type: 'file', stream: { path } };
    const { onSkipped: skipped, onIgnored: ignored, onChanged: changed } = skips;
    const stream = directoryStream(path, base, { excludes, oneFileSystem, avoid, skipped, ignored, changed });
    return { name, type: 'directory-tar', stream };
  });
}

/** Thrown by the first attempt when it left out a file, whose snapshot would not be tagged. */
class NeedsTag extends Error {}

/**
 * Backs up paths. The tags of a snapshot are fixed before its sources are read, so one from which
 * files turn out to be missing is not committed: a second attempt, which reuses what was stored,
 * has the tag.
 */
async function backupPaths(archive, sources, options, ingestOptions, session) {
  const first = new Skips(session.output, options.skipUnreadable);
  const commitWhen = () => {
    if (first.paths.size > 0) throw new NeedsTag('files were skipped');
  };
  try {
    return { snapshot: await archive.ingestMulti(itemsOf(sources, options, first), { ...ingestOptions, commitWhen }), isComplete: true };
  } catch (error) {
    if (!(error.cause instanceof NeedsTag)) throw error.cause instanceof Failure ? error.cause : error;
  }
  const second = new Skips(session.output, true, first.reported);
  const tagged = { ...ingestOptions, tags: { ...ingestOptions.tags, ...INCOMPLETE } };
  const snapshot = await archive.ingestMulti(itemsOf(sources, options, second), tagged);
  return { snapshot, isComplete: false };
}

/** Backs up standard input. Nothing at all is probably a mistake, as an input that was closed. */
async function backupStdin(archive, { name = 'stdin', refuseEmpty }, ingestOptions, { output }) {
  if (fstatSync(0).isDirectory()) throw new Failure('Standard input is a directory', { hint: 'Give the directory as an argument' });
  const commitWhen = () => {
    if (refuseEmpty && process.stdin.bytesRead === 0) throw new Failure('Standard input is empty');
  };
  const snapshot = await archive.ingest(process.stdin, { ...ingestOptions, items: [{ name }], commitWhen });
  if (snapshot.originalSize === 0) output.warn('standard input was empty');
  return snapshot;
}

/** The environment of commands: all but the passphrase, which none of them needs. */
function commandEnvironment() {
  const { CONTAINERARCHIVE_PASSPHRASE, CONTAINERARCHIVE_TO_PASSPHRASE, ...env } = process.env;
  return env;
}

/**
 * What is backed up, checked as far as it can be before a passphrase is asked for and the
 * repository is opened.
 */
async function sourcesOf(kind, paths, options, { command }) {
  if (options.name === '') throw new Failure('The name after --name is empty');
  if (kind === 'paths') {
    return { described: await describePaths(paths, options), excludes: excludesOf(options), avoid: repositoryStats(options) };
  }
  if (kind === 'items' && options.name !== undefined) throw new Failure('--name cannot be combined with --item NAME=COMMAND');
  if (kind === 'command' && command[0] === '') throw new Failure('The command after "--" is empty');
  return kind === 'items' ? itemCommands(options.item) : [{ name: options.name ?? basename(command?.[0] ?? ''), command }];
}

/** The sources of the command line, as one call of the API. */
async function ingest(archive, kind, sources, options, ingestOptions, session) {
  if (kind === 'paths') return backupPaths(archive, sources, options, ingestOptions, session);
  const { concurrency, ...single } = ingestOptions;
  if (kind === 'stdin') {
    return { snapshot: await backupStdin(archive, options, single, session), isComplete: true };
  }
  const { okExitCode: okExitCodes, refuseEmpty } = options;
  const more = { env: commandEnvironment(), ...(okExitCodes && { okExitCodes }), ...(refuseEmpty && { refuseEmpty }) };
  const snapshot = await archive.ingestCommand(sources.map((one) => ({ ...one, ...more })), ingestOptions);
  return { snapshot, isComplete: true };
}

async function backup(session, paths, options) {
  const { output, signal } = session;
  const kind = kindOf(paths, session.command, options);
  checkOptions(kind, options);
  const sources = await sourcesOf(kind, paths, options, session);
  return withRepository(options, session, {}, async (archive) => {
    const { tag, time: createdAt, compression: how, concurrency } = options;
    const given = { tags: tag, createdAt, compression: how, concurrency, signal };
    const ingestOptions = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    const { snapshot, isComplete } = await withProgress(output, (progress) =>
      ingest(archive, kind, sources, options, { ...ingestOptions, ...progress }, session));
    output.result(snapshot, summary(snapshot));
    if (!isComplete) output.warn('not all files could be read: the snapshot is tagged incomplete=true');
    return isComplete ? EXIT.ok : EXIT.incomplete;
  });
}

/** What a backup did, for people. */
function summary({ id, items, originalSize, storedSize, newChunks, chunkCount }) {
  const known = chunkCount === 0 ? 0 : Math.round((100 * (chunkCount - newChunks)) / chunkCount);
  const lines = items.map((item) => `  ${printable(item.name)}  ${size(item.size)}`);
  return [
    `snapshot ${shortId(id)} saved: ${size(originalSize)} read, ${size(storedSize)} added, ${known} % of the chunks known`,
    ...lines,
  ].join('\n');
}
