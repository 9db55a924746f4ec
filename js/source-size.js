'use strict';
// How many bytes a Node stream will produce, as far as that is known before it is read: of a file
// by its length, of an HTTP message by its headers.
//
// Only the progress depends on it. Whatever cannot be determined is null, and a size that turns out
// to be wrong, as of a file that grows, changes nothing else.

const fs = require('node:fs');

const { ReadStream } = fs;

/**
 * Whether a stream reads files of the system: the option `fs` is kept in the stream, which then may
 * read any other thing.
 */
function readsSystemFiles(stream) {
  const own = Object.getOwnPropertyDescriptors(stream);
  const values = Reflect.ownKeys(own).map((name) => own[name].value);
  return values.some((value) => value === fs || value?.constructor?.name === 'FileHandle');
}

/** The offset of an open file, or null where the system does not tell. */
function offsetOf(fd) {
  try {
    // not a file on a disk: it is read at once
    return Number(/^pos:\s*(\d+)$/m.exec(fs.readFileSync(`/proc/self/fdinfo/${fd}`, 'latin1'))[1]);
  } catch {
    return null;
  }
}

/** Where an fs.ReadStream begins to read, or null. */
function startOf({ start, fd, path }) {
  if (start !== undefined || fd === null) return start ?? 0;
  // elsewhere, a stream with a path has opened its file itself, and read nothing yet
  return offsetOf(fd) ?? (path ? 0 : null);
}

/** The bytes of an fs.ReadStream that was not read yet, or null. */
async function sizeOfFile(stream) {
  if (!readsSystemFiles(stream)) return null;
  const { fd, path, end } = stream;
  const stat = await new Promise((resolve, reject) => {
    const settle = (error, found) => (error ? reject(error) : resolve(found));
    if (fd === null) fs.stat(path, settle);
    else fs.fstat(fd, settle);
  });
  const start = startOf(stream);
  if (!stat.isFile() || start === null) return null;
  return Math.max(0, Math.min(stat.size, end + 1) - start);
}

/** The bytes of the body of an HTTP message, or null: encoded ones may be decoded on their way. */
function sizeOfMessage({ headers }) {
  const { 'content-length': length, 'content-encoding': encoding = 'identity' } = headers;
  return encoding === 'identity' && /^\d{1,15}$/.test(length) ? Number(length) : null;
}

/** The bytes that a Node stream will produce, or null. Never rejects. */
async function sizeOfStream(stream) {
  try {
    if (stream instanceof ReadStream) return await sizeOfFile(stream);
    return typeof stream.httpVersion === 'string' ? sizeOfMessage(stream) : null;
  } catch {
    return null;
  }
}

module.exports = { sizeOfStream };
