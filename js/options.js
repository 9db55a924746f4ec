'use strict';
// From the options of the public calls to what the native side takes: JSON with only the keys that were given, checked.
//
// Defaults live on the native side, and so do limits that depend on several values; here are types and plain ranges.

const check = require('./check.js');
const { Command } = require('./command.js');
const secret = require('./secret.js');
const { invalidArgument } = require('./error.js');

const HANDLE_KEYS = ['passphrase', 'key', 'readOnly', 'threads', 'memoryLimit', 'lockWaitMs', 'verifyWrites', 'heal', 'signal'];
const OPEN_KEYS = [...HANDLE_KEYS, 'keyless', 'repositoryId'];
const INIT_KEYS = [...HANDLE_KEYS, 'compression', 'chunking', 'packSize', 'parity', 'kdf'];
/** Which options a call takes. */
const KEYS = { init: INIT_KEYS, open: OPEN_KEYS, openOrInit: [...INIT_KEYS, 'repositoryId'] };
const LEVELS = { gzip: [1, 9], zstd: [1, 19], none: [0, 0] };
const KIB = 1024;
/** What the native side reads these numbers into; the ranges that make sense are narrower, and checked there. */
const MAX_U32 = 2 ** 32 - 1;

/** Sets out[name] to the checked value of given[name] when it is given. */
function take(out, given, name, checked) {
  if (given[name] !== undefined) out[name] = checked(given[name]);
}

/** 'gzip' | 'zstd' | 'none' | { algorithm, level? } */
function compression(value) {
  const given = typeof value === 'string' ? { algorithm: value } : check.options(value, ['algorithm', 'level'], 'compression');
  // a string first: anything else would be converted to one, by code of its own
  if (typeof given.algorithm !== 'string' || !Object.hasOwn(LEVELS, given.algorithm)) {
    throw invalidArgument(`compression must name ${Object.keys(LEVELS).join(', ')}`);
  }
  const out = { algorithm: given.algorithm };
  take(out, given, 'level', (v) => check.integer(v, 'compression.level', ...LEVELS[given.algorithm]));
  return out;
}

/** { min, avg, max } in bytes */
function chunking(value) {
  const names = ['min', 'avg', 'max'];
  const given = check.options(value, names, 'chunking');
  return Object.fromEntries(names.map((name) => [name, check.integer(given[name], `chunking.${name}`, 1, MAX_U32)]));
}

/** { data, parity } | false */
function parity(value) {
  if (value === false) return null;
  const given = check.options(value, ['data', 'parity'], 'parity');
  return {
    data: check.integer(given.data, 'parity.data', 1, 255),
    parity: check.integer(given.parity, 'parity.parity', 1, 255),
  };
}

/** { memory? (KiB), time?, lanes? } of Argon2id */
function kdf(value) {
  const given = check.options(value, ['memory', 'time', 'lanes'], 'kdf');
  const out = {};
  take(out, given, 'memory', (v) => check.integer(v, 'kdf.memory', 1, MAX_U32));
  take(out, given, 'time', (v) => check.integer(v, 'kdf.time', 1, MAX_U32));
  take(out, given, 'lanes', (v) => check.integer(v, 'kdf.lanes', 1, MAX_U32));
  return out;
}

/**
 * A secret that was meant and is not there, as of `process.env.NAME` that nobody set: a new repository would not be encrypted,
 * and nothing would say so.
 */
function refuseMissingSecret(given) {
  const name = ['passphrase', 'key'].find((each) => Object.hasOwn(given, each));
  if (name === undefined) return;
  throw invalidArgument(`${name} is undefined, and the repository would not be encrypted`, {
    hint: 'For a repository without encryption, leave the option out',
  });
}

/** The options of 'init', 'open' or 'openOrInit': { json, secret, signal? }, of which the second may be null. */
function repository(value, call) {
  const mayInit = call !== 'open';
  const given = check.options(value, KEYS[call], 'options');
  const out = {};
  take(out, given, 'repositoryId', (v) => check.hexId(v, 'repositoryId'));
  take(out, given, 'readOnly', (v) => check.boolean(v, 'readOnly'));
  take(out, given, 'keyless', (v) => check.boolean(v, 'keyless'));
  take(out, given, 'threads', (v) => check.integer(v, 'threads', 1, 1024));
  take(out, given, 'memoryLimit', (v) => check.integer(v, 'memoryLimit', 1));
  take(out, given, 'lockWaitMs', (v) => check.integer(v, 'lockWaitMs'));
  take(out, given, 'verifyWrites', (v) => check.boolean(v, 'verifyWrites'));
  take(out, given, 'heal', (v) => check.boolean(v, 'heal'));
  take(out, given, 'compression', compression);
  take(out, given, 'chunking', chunking);
  take(out, given, 'packSize', (v) => check.integer(v, 'packSize', 64 * KIB, KIB ** 3));
  take(out, given, 'parity', parity);
  take(out, given, 'kdf', kdf);
  const signal = check.signal(given.signal, 'signal');
  const taken = secret.take(given);
  if (mayInit && taken === null) refuseMissingSecret(given);
  if (out.keyless && taken) {
    taken.drop();
    throw invalidArgument('keyless cannot be given together with a passphrase or key');
  }
  return { json: JSON.stringify(out), secret: taken, signal };
}

/** The options of init() as JSON, without those that are only for it. */
function forOpen(json) {
  const entries = Object.entries(JSON.parse(json));
  return JSON.stringify(Object.fromEntries(entries.filter(([name]) => OPEN_KEYS.includes(name))));
}

const INGEST_KEYS = ['tags', 'createdAt', 'compression', 'digest', 'commitWhen', 'signal', 'onProgress'];

const SINGLE_KEYS = ['items', 'expectedSize'];
const MULTI_KEYS = ['concurrency'];
/** Each item that is read at once takes a thread and buffers. */
const MAX_CONCURRENCY = 16;

/** A function as it is, or a promise: any thenable as one of our own, which does what it does. */
function commitWhen(value) {
  if (value === undefined || typeof value === 'function') return value;
  if (typeof check.reading('commitWhen', () => value?.then) !== 'function') {
    throw invalidArgument(`commitWhen must be a promise, or a function that gives one, got ${check.kindOf(value)}`);
  }
  // not Promise.resolve(), which gives promises back as they are: one whose members were replaced,
  // too
  const promise = new Promise((resolve) => resolve(value));
  // Whatever becomes of the call: it knows of the promise, so a rejection is no uncaught exception.
  promise.catch(() => {});
  return promise;
}

/** Listens to the promise in options that are refused: nobody else will. */
function heed(refused) {
  try {
    commitWhen(refused?.commitWhen);
  } catch {
    // there is none, or none that can be listened to
  }
}

/** A size in bytes that a source promises, or undefined. */
function expectedSize(value, where) {
  return value === undefined ? undefined : check.integer(value, where);
}

/**
 * The options of ingest() (`single`), ingestMulti() and ingestCommand():
 * { json, signal?, onProgress?, commitWhen?, items?, expectedSize?, concurrency? }.
 */
function ingest(value, single) {
  const known = [...INGEST_KEYS, ...(single ? SINGLE_KEYS : MULTI_KEYS)];
  let given;
  try {
    given = check.options(value, known, 'options');
  } catch (error) {
    heed(value);
    throw error;
  }
  const gate = commitWhen(given.commitWhen);
  const out = {};
  take(out, given, 'tags', (v) => check.tags(v, 'tags'));
  take(out, given, 'createdAt', (v) => check.time(v, 'createdAt'));
  take(out, given, 'compression', compression);
  if (given.digest !== undefined && given.digest !== 'sha256') throw invalidArgument("digest must be 'sha256'");
  take(out, given, 'digest', String);
  return {
    json: JSON.stringify(out),
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
    commitWhen: gate,
    expectedSize: expectedSize(given.expectedSize, 'expectedSize'),
    items: given.items,
    concurrency: given.concurrency === undefined ? undefined : check.integer(given.concurrency, 'concurrency', 1, MAX_CONCURRENCY),
  };
}

/**
 * The JSON of ingest() with what the snapshot will be made of: whether its manifest fits is known
 * before anything is read.
 */
function outlined(json, items) {
  const out = JSON.parse(json);
  const length = (value) => Buffer.byteLength(JSON.stringify(value));
  const textLen = items.reduce((sum, { name, type }) => sum + length(name) + length(type), length(out.tags ?? {}));
  return JSON.stringify({ ...out, items: items.length, textLen });
}

/** The name and type of one item. */
function item(value, where) {
  const given = check.options(value ?? null, ['name', 'type'], where);
  return { name: check.text(given.name, `${where}.name`), type: check.text(given.type, `${where}.type`) };
}

/** The one item of ingest(): `items: [{ name, type }]`, by default { name: 'data', type: 'data' }. */
function singleItem(items) {
  if (items === undefined) return { name: 'data', type: 'data' };
  const given = check.array(items, 'items');
  if (given.length !== 1) {
    throw invalidArgument('items must be an array of exactly one { name, type }', {
      hint: 'Several streams in one snapshot: ingestMulti()',
    });
  }
  return item(given[0], 'items[0]');
}

/** Items with different names: `read(item, where)` gives { name, … } of each. */
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

/** The items of ingestMulti(): an array of { stream, name, type, expectedSize? }. */
function multiItems(items) {
  return distinct(items, 'items', (value, where) => {
    // read once: what is checked is what is used
    const given = check.options(value ?? null, ['name', 'type', 'stream', 'expectedSize'], where);
    return {
      ...item({ name: given.name, type: given.type }, where),
      expectedSize: expectedSize(given.expectedSize, `${where}.expectedSize`),
      source: given.stream,
    };
  });
}

const COMMAND_KEYS = ['command', 'timeoutMs', 'cwd', 'env', 'expectedSize'];
/** Longest time that a timer of Node takes; a longer one would fire at once. */
const MAX_TIMEOUT_MS = 2 ** 31 - 1;

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
    if (part.includes('\0')) throw invalidArgument(`${where}[${i}] must not hold a NUL character`);
    if (i === 0 && part === '') throw invalidArgument(`${where}[0] must not be empty`);
    return part;
  });
}

/** The environment of a command: strings by name. What is undefined is left out, as in `{ ...process.env, NAME: undefined }`. */
function environment(value, where) {
  if (value === null || typeof value !== 'object' || check.reading(where, () => Array.isArray(value))) {
    throw invalidArgument(`${where} must be an object of strings, got ${check.kindOf(value)}`);
  }
  const entries = check.reading(where, () => Object.entries(value));
  const env = Object.fromEntries(entries.filter(([, entry]) => entry !== undefined));
  for (const [key, entry] of Object.entries(env)) {
    check.wellFormed(entry, `${where}[${JSON.stringify(key)}]`);
    if (key === '' || /[=\0]/.test(key) || entry.includes('\0')) {
      throw invalidArgument(`${where} has a name or value that no environment can hold`);
    }
  }
  return env;
}

/** The commands of ingestCommand(): one, or an array, of { command, name, type?, timeoutMs?, cwd?, env?, expectedSize? }. */
function commands(value) {
  const all = check.reading('commands', () => (Array.isArray(value) ? value : [value]));
  return distinct(all, 'commands', (one, where) => {
    const given = check.options(one ?? null, ['name', 'type', ...COMMAND_KEYS], where);
    const named = item({ name: given.name, type: given.type === undefined ? 'data' : given.type }, where);
    const spec = { name: named.name, command: commandLine(given.command, `${where}.command`) };
    take(spec, given, 'timeoutMs', (v) => check.integer(v, `${where}.timeoutMs`, 1, MAX_TIMEOUT_MS));
    take(spec, given, 'cwd', (v) => check.path(v, `${where}.cwd`));
    take(spec, given, 'env', (v) => environment(v, `${where}.env`));
    return { ...named, expectedSize: expectedSize(given.expectedSize, `${where}.expectedSize`), source: new Command(spec) };
  });
}

/** The filter of listSnapshots() as JSON. */
function filter(value) {
  const given = check.options(value, ['tags', 'after', 'before'], 'filter');
  const out = {};
  take(out, given, 'tags', (v) => check.tags(v, 'filter.tags'));
  take(out, given, 'after', (v) => check.timeBound(v, 'filter.after'));
  take(out, given, 'before', (v) => check.timeBound(v, 'filter.before'));
  return JSON.stringify(out);
}

/** The options of restore(): { json, signal? }. */
function restore(value) {
  const given = check.options(value, ['item', 'range', 'signal'], 'options');
  const out = {};
  take(out, given, 'item', (v) => check.text(v, 'item'));
  if (given.range !== undefined) {
    const range = check.options(given.range, ['start', 'end'], 'range');
    take(out, range, 'start', (v) => check.integer(v, 'range.start'));
    take(out, range, 'end', (v) => check.integer(v, 'range.end'));
  }
  return { json: JSON.stringify(out), signal: check.signal(given.signal, 'signal') };
}

/** A snapshot id, or what stands for one; which it is, the native side decides. */
function snapshotId(value) {
  return check.text(value, 'id');
}

module.exports = { commands, filter, forOpen, ingest, kdf, multiItems, outlined, repository, restore, singleItem, snapshotId };
