// What can stand at the cursor of a command line: ids of snapshots, names of items, paths in a tar.
// A completion script runs it with each Tab (commands/completion.mjs). It asks for nothing, runs no
// command, and prints nothing where it does not know, or would take too long.

import { statSync } from 'node:fs';
import { basename } from 'node:path';
import { loadApi } from './api.mjs';
import { EXIT } from './failure.mjs';
import { nameText, unescaped } from './names.mjs';
import { localTime, printable, shortId } from './output.mjs';
import { givenPassphrase } from './passphrase.mjs';
import { repositoryPath } from './repository.mjs';
import { wordsOf } from './words.mjs';

/** Comes before the name of a shell, the line up to the cursor, and the word at its end. */
export const VERB = '__complete';

/** How long a user waits for a Tab, in milliseconds. */
const LIMIT_MS = 3000;

/** What the arguments of commands are; the last one counts for all after it. */
const ARGUMENTS = {
  ls: ['snapshot', 'member', 'none'],
  find: ['snapshot', 'none'],
  diff: ['snapshot', 'snapshot', 'none'],
  restore: ['snapshot', 'none'],
  forget: ['snapshot'],
  copy: ['snapshot'],
};
/** The commands whose words it knows. */
export const COMPLETED = Object.keys(ARGUMENTS);
/** What the values of their options are. */
export const VALUES = { item: 'item', member: 'member' };

/** An option of a command or of the program: `--name`, `--name=VALUE`, `-n`, `-nVALUE`. */
function optionOf(commands, word) {
  const [, flag, inline] = /^(--[^=]+)(?:=([^]*))?$/.exec(word) ?? /^(-[^-])([^]+)?$/.exec(word) ?? [];
  const option = commands.flatMap(({ options }) => options).find(({ short, long }) => flag !== undefined && [short, long].includes(flag));
  return option && { option, inline, takesValue: option.required === true };
}

/** What is before the cursor: the command, its arguments and options, an option without value. */
function read(program, words) {
  const found = { command: program, given: [], options: {}, pending: undefined };
  for (const word of words) {
    if (found.pending) {
      found.options[found.pending.attributeName()] = word;
      found.pending = undefined;
    } else if (word.startsWith('-')) {
      const { option, inline, takesValue } = optionOf([found.command, program], word) ?? {};
      if (takesValue && inline === undefined) found.pending = option;
      else if (option) found.options[option.attributeName()] = takesValue ? inline : true;
    } else {
      const child = found.command.commands.find((one) => one.name() === word || one.aliases().includes(word));
      if (child && found.given.length === 0) found.command = child;
      else found.given.push(word);
    }
  }
  return found;
}

/** What the word at the cursor is: its kind, what of it comes before, and the rest. */
function wanted(program, { command, given, pending }, current) {
  const kinds = command.parent === program ? ARGUMENTS[command.name()] : undefined;
  if (kinds === undefined) return undefined;
  if (pending) return { kind: VALUES[pending.attributeName()], before: '', prefix: current };
  if (!current.startsWith('-')) return { kind: kinds[Math.min(given.length, kinds.length - 1)], before: '', prefix: current };
  const { option, inline, takesValue } = optionOf([command], current) ?? {};
  if (!takesValue || inline === undefined) return undefined;
  return { kind: VALUES[option.attributeName()], before: current.slice(0, current.length - inline.length), prefix: inline };
}

/** A file, which can be read again; not a pipe. */
const regular = (path) => (path !== undefined && statSync(path, { throwIfNoEntry: false })?.isFile() ? path : undefined);

/** The repository, with a passphrase only from where reading it has no effect. */
async function open({ passphraseFile, ...globals }, env) {
  const path = repositoryPath({ repo: globals.repo ?? env.CONTAINERARCHIVE_REPOSITORY });
  const harmless = {
    ...env, CONTAINERARCHIVE_PASSPHRASE_COMMAND: undefined, CONTAINERARCHIVE_PASSPHRASE_FILE: regular(env.CONTAINERARCHIVE_PASSPHRASE_FILE),
  };
  const passphrase = await givenPassphrase({ passphraseFile: regular(passphraseFile) }, '', harmless);
  const ContainerArchive = await loadApi();
  return ContainerArchive.open(path, { readOnly: true, ...(passphrase && { passphrase }) });
}

/** Finds what begins with a prefix: [[text, description]]. */
const FINDERS = {
  async snapshot(archive, prefix) {
    const all = await archive.listSnapshots();
    const short = new Map();
    for (const { id } of all) short.set(shortId(id), (short.get(shortId(id)) ?? 0) + 1);
    const described = all.filter(({ id }) => id.startsWith(prefix)).map(({ id, createdAt, items }) => [
      prefix.length > shortId(id).length || short.get(shortId(id)) > 1 ? id : shortId(id),
      `${localTime(createdAt)} ${items.map(({ name }) => printable(name)).join(' ')}`,
    ]);
    return 'latest'.startsWith(prefix) && all.length > 0 ? [['latest', 'the newest one'], ...described] : described;
  },

  async item(archive, prefix, { given: [id] }) {
    const { items } = await archive.getSnapshot(id);
    return items.map(({ name, type }) => [name, printable(type)]).filter(([name]) => name.startsWith(prefix));
  },

  async member(archive, prefix, { given: [id], options: { item, escaped } }) {
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    const names = [];
    for await (const { path, type } of archive.files(id, { item, member: escaped ? unescaped(folder) : folder })) {
      if (typeof path !== 'string' && !escaped) continue;
      const name = escaped ? nameText(path) : path;
      names.push([`${folder}${name.slice(name.lastIndexOf('/') + 1)}${type === 'directory' ? '/' : ''}`, type]);
    }
    return names.filter(([name]) => name.startsWith(prefix));
  },
};

/** The words that can stand at the end of a line: [[text, description]]. */
async function candidates(program, line) {
  const { words, current } = wordsOf(line) ?? { words: [] };
  const at = words.findIndex((word) => /^containerarchive(\.\w+)?$/.test(basename(word)));
  if (at < 0) return [];
  const before = read(program, words.slice(at + 1));
  const { kind, before: fixed, prefix } = wanted(program, before, current) ?? {};
  if (FINDERS[kind] === undefined || (kind !== 'snapshot' && before.given.length === 0)) return [];
  const assigned = words.slice(0, at).map((word) => /^(CONTAINERARCHIVE_\w+)=([^]*)$/.exec(word)).filter(Boolean);
  const env = { ...process.env, ...Object.fromEntries(assigned.map(([, name, value]) => [name, value])) };
  const archive = await open(before.options, env);
  const found = await FINDERS[kind](archive, prefix, before);
  const given = kind === 'snapshot' ? before.given : [];
  // a line is one candidate
  return found.filter(([text]) => !/[\n\r\t]/.test(text) && !given.includes(text)).map(([text, about]) => [`${fixed}${text}`, about, current]);
}

/**
 * Of a candidate, what replaces the word that readline sees: it ends words at `:` and `=` too.
 * @param current the word of the line
 * @param typed the word of readline, perhaps with a quote before it
 */
function afterBreak(text, current, typed) {
  const end = typed.replace(/^["']/, '').replaceAll('\\', '');
  const cut = current.length - end.length;
  return cut > 0 && current.endsWith(end) && /[:=]$/.test(current.slice(0, cut)) ? text.slice(cut) : text;
}

/** Prints the candidates of a line, for the script of a shell; returns the exit code. */
export async function complete(program, [shell, line = '', typed = '']) {
  const late = setTimeout(() => process.exit(EXIT.ok), LIMIT_MS);
  try {
    const found = await candidates(program, line);
    const lines = found.map(([text, about, current]) => (
      shell === 'fish' ? `${text}\t${about}` : shell === 'bash' ? afterBreak(text, current, typed) : text));
    if (lines.length > 0) process.stdout.write(`${lines.join('\n')}\n`);
  } catch {
    // a Tab has nowhere to report it; the command itself will
  }
  clearTimeout(late);
  return EXIT.ok;
}
