'use strict';
// From the options of the public calls to what the native side takes: JSON, checked, with defaults.
//
// Limits that depend on several values are checked on the native side.

const check = require('./check.js');
const { Command } = require('./command.js');
const secret = require('./secret.js');
const { invalidArgument } = require('./error.js');

const { read } = require('./fields.js');
const { optionalMember } = require('./files.js');
const schema = require('./schema.js');

/** The options of the calls that return a handle. */
const REPOSITORY = { init: schema.IInitOptions, open: schema.IOpenOptions, openOrInit: schema.IOpenOrInitOptions };
/** Options that are not part of the JSON. */
const NOT_JSON = ['passphrase', 'key', 'signal'];

/**
 * Refuses a secret that is intended but undefined, as `process.env.NAME` when NAME is not set: a
 * new repository would not be encrypted, without any message.
 */
function refuseMissingSecret(given) {
  const name = ['passphrase', 'key'].find((each) => Object.hasOwn(given, each));
  if (name === undefined) return;
  throw invalidArgument(`${name} is undefined, and the repository would not be encrypted`, {
    hint: 'Omit the option to create a repository without encryption',
  });
}

/** Options with other defaults on object storage, which the engine knows. */
const OTHER_DEFAULTS = ['packSize', 'parity'];

/**
 * The options of 'init', 'open' or 'openOrInit': { json, secret, signal? }, of which the second may
 * be null.
 */
function repository(value, call, isRemote) {
  const mayInit = call !== 'open';
  const fields = REPOSITORY[call];
  const given = check.options(value, fields, 'options');
  const out = read(given, fields, Object.keys(fields).filter((name) => !NOT_JSON.includes(name)));
  if (isRemote) {
    for (const name of OTHER_DEFAULTS) if (given[name] === undefined) delete out[name];
  }
  const signal = check.signal(given.signal, 'signal');
  const taken = secret.take(given);
  if (mayInit && taken === null) refuseMissingSecret(given);
  if (out.keyless && taken) {
    taken.drop();
    throw invalidArgument('keyless cannot be combined with passphrase or key');
  }
  return { json: JSON.stringify(out), secret: taken, signal };
}

/** The options of init() as JSON, without those that only init() takes. */
function forOpen(json) {
  const entries = Object.entries(JSON.parse(json));
  return JSON.stringify(Object.fromEntries(entries.filter(([name]) => Object.hasOwn(schema.IOpenOptions, name))));
}

/**
 * A function unchanged, or a promise: any thenable as a native promise, which settles as it does.
 */
function commitWhen(value) {
  if (value === undefined || typeof value === 'function') return value;
  if (typeof check.reading('commitWhen', () => value?.then) !== 'function') {
    throw invalidArgument(`commitWhen must be a promise, or a function that returns one, got ${check.kindOf(value)}`);
  }
  // not Promise.resolve(), which returns a promise unchanged, also one whose members were replaced
  const promise = new Promise((resolve) => resolve(value));
  // A rejection must never be an uncaught exception, whatever the outcome of the call.
  promise.catch(() => {});
  return promise;
}

/** Handles rejections of the promise in refused options: nothing else will. */
function heed(refused) {
  try {
    commitWhen(refused?.commitWhen);
  } catch {
    // there is no promise, or none that can be listened to
  }
}

/**
 * The options of ingest() (`single`), ingestMulti() and ingestCommand():
 * { json, signal?, onProgress?, commitWhen?, items?, expectedSize?, concurrency? }.
 */
function ingest(value, single) {
  const fields = single ? schema.IIngestOptions : schema.IIngestMultiOptions;
  let given;
  try {
    given = check.options(value, fields, 'options');
  } catch (error) {
    heed(value);
    throw error;
  }
  const gate = commitWhen(given.commitWhen);
  const tarIndex = tarIndexOption(given.tarIndex);
  return {
    json: JSON.stringify({ ...read(given, fields, ['tags', 'createdAt', 'compression', 'digest']), tarIndex }),
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
    commitWhen: gate,
    items: given.items,
    ...read(given, fields, [single ? 'expectedSize' : 'concurrency']),
  };
}

/** 'auto', which the native side has as undefined, true or false. */
function tarIndexOption(value) {
  if (value === undefined || value === 'auto') return undefined;
  if (typeof value === 'boolean') return value;
  throw invalidArgument(`tarIndex must be 'auto', true or false, got ${check.kindOf(value)}`);
}

/**
 * The JSON of ingest() with the number and the size of names of the items: whether the manifest
 * fits is known before anything is read.
 */
function outlined(json, items) {
  const out = JSON.parse(json);
  const length = (value) => Buffer.byteLength(JSON.stringify(value));
  const textLen = items.reduce((sum, { name, type }) => sum + length(name) + length(type), length(out.tags ?? {}));
  return JSON.stringify({ ...out, items: items.length, textLen });
}

/** The name and type of one item. */
function item(value, where) {
  const fields = schema.IItemDescription;
  return read(check.options(value ?? null, fields, where), fields, Object.keys(fields), `${where}.`);
}

/** The one item of ingest(): `items: [{ name, type? }]`. */
function singleItem(items) {
  if (items === undefined) return { ...schema.IIngestOptions.items.default[0] };
  const given = check.array(items, 'items');
  if (given.length !== 1) {
    throw invalidArgument('items must be an array of exactly one { name, type? }', {
      hint: 'Several streams in one snapshot: ingestMulti()',
    });
  }
  return item(given[0], 'items[0]');
}

/** Items with different names: `read(item, where)` returns { name, … } of each. */
function distinct(items, what, read) {
  const all = check.array(items, what);
  if (all.length === 0) throw invalidArgument(`${what} must not be empty`);
  const seen = new Set();
  return all.map((given, i) => {
    const checked = read(given, `${what}[${i}]`);
    const { name } = checked;
    if (seen.has(name)) {
      throw invalidArgument(`${what}[${i}].name is used twice: ${JSON.stringify(name)}`, { item: name });
    }
    seen.add(name);
    return checked;
  });
}

/** The items of ingestMulti(): an array of { stream, name, type?, expectedSize? }. */
function multiItems(items) {
  const fields = schema.IIngestItem;
  return distinct(items, 'items', (value, where) => {
    // read once, so that the checked value is the used one
    const given = check.options(value ?? null, fields, where);
    return { ...read(given, fields, ['name', 'type', 'expectedSize'], `${where}.`), source: given.stream };
  });
}

/** [program, ...arguments] */
function commandLine(value, where) {
  const parts = check.reading(where, () => Array.isArray(value)) ? check.array(value, where) : [];
  if (parts.length === 0) {
    throw invalidArgument(`${where} must be an array of the program and its arguments, got ${check.kindOf(value)}`, {
      hint: 'There is no shell: for pipes and variables, use ["bash", "-e", "-o", "pipefail", "-c", "…"]',
    });
  }
  return parts.map((part, i) => {
    check.wellFormed(part, `${where}[${i}]`);
    if (part.includes('\0')) throw invalidArgument(`${where}[${i}] must not contain a NUL character`);
    if (i === 0 && part === '') throw invalidArgument(`${where}[0] must not be empty`);
    return part;
  });
}

/** The exit codes that count as success: numbers, at least one. */
function exitCodes(value, where, { min, max }) {
  const codes = check.array(value, where);
  if (codes.length === 0) throw invalidArgument(`${where} must not be empty`);
  return codes.map((code, i) => check.integer(code, `${where}[${i}]`, min, max));
}

/**
 * The environment of a command: strings by name. Undefined values are omitted, as in `{
 * ...process.env, NAME: undefined }`.
 */
function environment(value, where) {
  if (value === null || typeof value !== 'object' || check.reading(where, () => Array.isArray(value))) {
    throw invalidArgument(`${where} must be an object of strings, got ${check.kindOf(value)}`);
  }
  const entries = check.reading(where, () => Object.entries(value));
  const env = Object.fromEntries(entries.filter(([, entry]) => entry !== undefined));
  for (const [key, entry] of Object.entries(env)) {
    check.wellFormed(entry, `${where}[${JSON.stringify(key)}]`);
    if (key === '' || /[=\0]/.test(key) || entry.includes('\0')) {
      throw invalidArgument(`${where} has a name or value that an environment cannot contain`);
    }
  }
  return env;
}

/**
 * The commands of ingestCommand(): one, or an array, of { command, name, type?, timeoutMs?,
 * okExitCodes?, refuseEmpty?, cwd?, env?, expectedSize? }.
 */
function commands(value) {
  const fields = schema.IIngestCommand;
  const all = check.reading('commands', () => (Array.isArray(value) ? value : [value]));
  return distinct(all, 'commands', (one, where) => {
    const given = check.options(one ?? null, fields, where);
    const { name, type } = read(given, fields, ['name', 'type'], `${where}.`);
    const command = commandLine(given.command, `${where}.command`);
    const more = read(given, fields, ['timeoutMs', 'refuseEmpty', 'cwd', 'expectedSize'], `${where}.`);
    const spec = { name, command, ...more };
    const { okExitCodes = fields.okExitCodes.default, env } = given;
    spec.okExitCodes = exitCodes(okExitCodes, `${where}.okExitCodes`, fields.okExitCodes);
    if (env !== undefined) spec.env = environment(env, `${where}.env`);
    return { name, type, expectedSize: spec.expectedSize, source: new Command(spec) };
  });
}

/** A filter for snapshots as JSON: by default that of latest(). */
function filter(value, fields = schema.ISnapshotFilter) {
  return JSON.stringify(read(check.options(value, fields, 'filter'), fields, Object.keys(fields), 'filter.'));
}

/** The options of listSnapshots() as JSON. */
function listOptions(value) {
  return filter(value, schema.ISnapshotListOptions);
}

/** The options of restore(): { json, signal? }. */
function restore(value) {
  const fields = schema.IRestoreOptions;
  const given = check.options(value, fields, 'options');
  const { item: name, range } = read(given, fields, ['item', 'range']);
  const member = optionalMember(given.member, 'member');
  if (member !== undefined && range !== undefined) throw invalidArgument('member and range exclude each other');
  return { json: JSON.stringify({ item: name, member, ...range }), signal: check.signal(given.signal, 'signal') };
}

/** The options of the calls that take nothing else: { signal? }. */
function signalOnly(value) {
  const given = check.options(value, schema.signalOnly, 'options');
  return { signal: check.signal(given.signal, 'signal') };
}

/** A snapshot id, a prefix or 'latest': the native side decides which. */
function snapshotId(value) {
  return check.text(value, 'id');
}

module.exports = {
  commands, filter, forOpen, ingest, listOptions, multiItems, outlined, repository, restore, signalOnly, singleItem,
  snapshotId,
};
