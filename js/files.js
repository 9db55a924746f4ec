'use strict';
// The members of tars: the options of their calls, and entries from what the native side returns.
//
// A name is a string, or a Buffer when it is no UTF-8. In JSON, such a name is { hex }.

const check = require('./check.js');
const { read } = require('./fields.js');
const { invalidArgument } = require('./error.js');
const { RestoreProgress } = require('./progress.js');
const schema = require('./schema.js');
const { PATIENCE_MS, abortable, stoppable } = require('./stop.js');

/** A path of a member: text, or bytes. Returns it in hex. */
function member(value, where) {
  const bytes = bytesOf(value, where);
  // in an index, it would be taken for a slash
  if (bytes.includes(0)) throw invalidArgument(`${where} must not contain a zero byte`);
  return bytes.toString('hex');
}

function bytesOf(value, where) {
  if (typeof value === 'string') return Buffer.from(check.wellFormed(value, where));
  if (Buffer.isBuffer(value) || value instanceof Uint8Array) return Buffer.from(value);
  throw invalidArgument(`${where} must be a string or a Buffer, got ${check.kindOf(value)}`);
}

/** The same where it may be absent. */
const optionalMember = (value, where) => (value === undefined ? undefined : member(value, where));

/** The options of files(): { json, signal? }. */
function filesOptions(value) {
  const fields = schema.IFilesOptions;
  const given = check.options(value, fields, 'options');
  const checked = read(given, fields, ['item', 'recursive', 'all']);
  return {
    json: JSON.stringify({ ...checked, member: optionalMember(given.member, 'member') }),
    signal: check.signal(given.signal, 'signal'),
  };
}

/** The options of memberInfo() as JSON. */
function memberInfoOptions(value) {
  const fields = schema.IMemberInfoOptions;
  const given = check.options(value, fields, 'options');
  return JSON.stringify({ ...read(given, fields, ['item']), member: member(given.member, 'member') });
}

/** The options of diff(): { json, signal? }. */
function diffOptions(value) {
  const fields = schema.IDiffOptions;
  const given = check.options(value, fields, 'options');
  return { json: JSON.stringify(read(given, fields, ['item'])), signal: check.signal(given.signal, 'signal') };
}

/** The options of restoreToDirectory(): { json, to, item, signal?, onProgress? }. */
function directoryOptions(value) {
  const fields = schema.IRestoreToDirectoryOptions;
  const given = check.options(value, fields, 'options');
  const to = check.absolutePath(given.to, 'to');
  const names = ['item', 'overwrite', 'stripComponents', 'owners', 'setuid', 'devices', 'outsideLinks'];
  // others may not give files away
  const { item, owners = process.geteuid?.() === 0, ...checked } = read(given, fields, names);
  return {
    json: JSON.stringify({ item, owners, ...checked, to, member: optionalMember(given.member, 'member') }),
    to,
    item: item ?? null,
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
  };
}

/** A name from JSON. */
const name = (value) => (typeof value === 'string' ? value : Buffer.from(value.hex, 'hex'));

/** An entry from JSON. */
function entry({ path, type, size, attributes, isSuperseded }) {
  const found = { path: name(path), type, size };
  if (attributes) {
    const { rawPath, mode, uid, gid, user, group, mtimeMs, link, device, headerOffset, dataOffset, storedSize } = attributes;
    Object.assign(found, { mode, uid, gid, user: name(user), group: name(group), mtimeMs });
    if (type === 'symlink' || type === 'hardlink') found.link = name(link);
    if (type === 'characterDevice' || type === 'blockDevice') found.device = { major: device[0], minor: device[1] };
    Object.assign(found, { rawPath: name(rawPath), headerOffset, dataOffset, storedSize });
  }
  if (isSuperseded) found.isSuperseded = true;
  return found;
}

/** A difference from JSON. */
function change({ change: what, before, after }) {
  return { change: what, path: entry(after ?? before).path, ...(before && { before: entry(before) }), ...(after && { after: entry(after) }) };
}

/**
 * Yields entries, a page at a time: the next page is read when the one before it is used up.
 * @param call makes a native call of the handle
 * @param begin (repo, stop) => the native list
 * @param {AbortSignal | undefined} signal
 * @param convert from JSON
 */
async function* pages(call, begin, signal, convert) {
  const list = await call((repo) => stoppable(signal, (stop) => begin(repo, stop)));
  for (;;) {
    signal?.throwIfAborted();
    const page = JSON.parse(await call(() => abortable(list.next(), signal)));
    if (page.length === 0) return;
    for (const each of page) {
      yield convert(each);
      signal?.throwIfAborted();
    }
  }
}

/** Runs one restore into a directory, and returns its report. */
async function runRestoreToDirectory(repo, id, { json, to, item, signal }, listeners) {
  const progress = new RestoreProgress(item, listeners.progress);
  try {
    let last = { doneBytes: 0, totalBytes: 0, chunks: 0 };
    const update = (counters) => {
      last = counters;
      progress.update(counters);
    };
    const run = (stop) => repo.restoreToDirectory(id, json, update, stop);
    const report = JSON.parse(await stoppable(signal, run, { patience: PATIENCE_MS }));
    for (const notices of [report.changed, report.skipped]) {
      notices.first = notices.first.map(({ path, reason }) => ({ path: name(path), reason }));
    }
    progress.finish({ doneBytes: last.totalBytes, totalBytes: last.totalBytes, chunks: last.chunks });
    return { to, ...report };
  } finally {
    progress.close();
  }
}

module.exports = {
  change, diffOptions, directoryOptions, entry, filesOptions, memberInfoOptions, optionalMember, pages,
  runRestoreToDirectory,
};
