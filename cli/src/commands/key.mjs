// key: the passphrases of an encrypted repository.

import { EXIT, Failure } from '../failure.mjs';
import { localTime, printable, shortId, table } from '../output.mjs';
import { askNewPassphrase, givenPassphrase } from '../passphrase.mjs';
import { withRepository } from '../repository.mjs';
import { confirm, hasTerminal } from '../terminal.mjs';

const HINT = 'Use --new-passphrase-file, --new-passphrase-command, or run it on a terminal';

export function define(program, run) {
  const key = program.command('key').summary('list, add, change and remove passphrases');
  const withNew = (name, summary) => key
    .command(name)
    .summary(summary)
    .option('--new-passphrase-file <file>', 'read the new passphrase from a file')
    .option('--new-passphrase-command <command>', 'read the new passphrase from the output of a command');
  key.command('list').summary('list the keys').action(run(listKeys));
  withNew('add', 'add a passphrase')
    .option('--label <text>', 'a name for people, stored in clear')
    .action(run(addKey));
  withNew('passwd', 'replace the passphrase that is used now').action(run(changeKey));
  key
    .command('remove')
    .summary('remove a key')
    .argument('<id>', 'the id of a key, or an unambiguous prefix')
    .option('--yes', 'remove without a question')
    .action(run(removeKey));
}

/** The new passphrase, from the options or the terminal. */
async function newPassphrase({ newPassphraseFile, newPassphraseCommand }) {
  const options = { passphraseFile: newPassphraseFile, passphraseCommand: newPassphraseCommand };
  return await givenPassphrase(options, '', {}) ?? askNewPassphrase(HINT);
}

async function listKeys(session, globals) {
  return withRepository(globals, session, { readOnly: true }, async (archive) => {
    const keys = await archive.keys.list();
    const rows = keys.map(({ id, type, createdAt, label, current }) => [shortId(id), type, localTime(createdAt), current ? 'yes' : '', printable(label ?? '')]);
    session.output.result(keys, keys.length === 0 ? '' : table(['ID', 'Type', 'Created', 'Current', 'Label'], rows));
    if (keys.length === 0) session.output.note('The repository is not encrypted.');
    return EXIT.ok;
  });
}

/** Refuses a repository without keys, before a new passphrase is asked for. */
async function needsKeys(archive) {
  if ((await archive.keys.list()).length > 0) return;
  throw new Failure('The repository is not encrypted, and has no keys', {
    code: 'ERR_NOT_ENCRYPTED', hint: 'Create an encrypted repository with "containerarchive init", and back up into that one',
  });
}

async function addKey(session, options) {
  return withRepository(options, session, {}, async (archive) => {
    await needsKeys(archive);
    const passphrase = await newPassphrase(options);
    const key = await archive.keys.add({ passphrase, signal: session.signal, ...(options.label !== undefined && { label: options.label }) });
    session.output.result(key, `added key ${shortId(key.id)}`);
    return EXIT.ok;
  });
}

async function changeKey(session, options) {
  return withRepository(options, session, {}, async (archive) => {
    await needsKeys(archive);
    const key = await archive.keys.change({ passphrase: await newPassphrase(options), signal: session.signal });
    session.output.result(key, `the passphrase was changed; its key is ${shortId(key.id)}`);
    return EXIT.ok;
  });
}

async function removeKey(session, id, { yes, ...globals }) {
  return withRepository(globals, session, {}, async (archive) => {
    await needsKeys(archive);
    const found = (await archive.keys.list()).filter((key) => key.id.startsWith(id));
    if (found.length === 0) throw new Failure(`There is no key ${id}`, { code: 'ERR_KEY_NOT_FOUND', hint: 'See "key list"' });
    if (found.length > 1) throw new Failure(`${found.length} keys begin with ${id}`, { hint: 'Give more digits' });
    const [{ id: full }] = found;
    if (full !== id && !yes) {
      if (!hasTerminal()) throw new Failure('Only a part of the id is given, and there is no terminal to ask on', { hint: 'Give the full id, or --yes' });
      if (!(await confirm(`Remove key ${full}?`))) throw new Failure('Nothing was removed');
    }
    await archive.keys.remove(full);
    session.output.result({ removed: full }, `removed key ${shortId(full)}`);
    return EXIT.ok;
  });
}
