'use strict';
// What an ingest can read: one shape over Node streams, web streams, (async) iterables, byte arrays, Blobs and files.
//
// A source is { size, claim, watch(fail), iterator(), stop(error), release() }:
//   size       bytes to come, null when not known
//   claim      the object that only one ingest may read at a time, or null
//   watch      from now on its errors come to fail(error), before and while it is read, and never go uncaught
//   prepare    if there is one: awaited before anything is read; may learn the size, may fail
//   iterator   { next() }, to be read by one loop
//   give(lane) instead of iterator(): the native side reads it by itself
//   stop       ends it early; next() that is waiting for a dead source need not return
//   typed      its errors are ContainerArchiveErrors that say all there is to say; else they become the cause of one
//   release    lets go of it; called once, after stop() or after the last next()
// What would make an ingest silently wrong (a stream that was read before, decoded text, a second reader) is refused here.

const { createReadStream, promises: fs } = require('node:fs');
const { resolve } = require('node:path');
const { finished, isDisturbed } = require('node:stream');
const native = require('./native.js');
const check = require('./check.js');
const { Command } = require('./command.js');
const { invalidArgument } = require('./error.js');

const noop = () => {};

/** Sources that an ingest is reading now. */
const claimed = new WeakSet();

/** A Node Readable (or anything that pipes and can be iterated). */
function nodeStream(stream, name) {
  const refuse = (what) => invalidArgument(`The stream of item ${JSON.stringify(name)} ${what}`, { item: name });
  if (stream.readableEncoding) {
    throw refuse('has an encoding set: its bytes are decoded already. Do not call setEncoding()');
  }
  if (!stream.errored && (stream.readableEnded || stream.readableDidRead)) throw refuse('has been read before: its first bytes are gone');
  if (stream.readable === false && !stream.destroyed) throw refuse('is not readable');
  if (typeof stream[Symbol.asyncIterator] !== 'function') {
    throw refuse('is of an old kind that cannot be iterated. Use new Readable().wrap(stream)');
  }
  let cleanup = noop;
  return {
    size: null,
    claim: stream,
    watch(fail) {
      // Stays for good: an error after the end, or of stop(), must not become an uncaught exception.
      stream.on('error', noop);
      cleanup = finished(stream, { writable: false }, (error) => error && fail(error));
    },
    iterator() {
      // Not destroyed at its end: a duplex stream (a socket) may still have an answer to write.
      return stream.iterator?.({ destroyOnReturn: false }) ?? stream[Symbol.asyncIterator]();
    },
    stop: (error) => stream.destroy?.(error),
    release: () => cleanup(),
  };
}

/** A web ReadableStream, or the stream of a Blob. */
function webStream(stream, name, size = null) {
  if (stream.locked) throw invalidArgument(`The stream of item ${JSON.stringify(name)} is locked by another reader`);
  if (isDisturbed(stream)) throw invalidArgument(`The stream of item ${JSON.stringify(name)} has been read before`);
  let reader;
  return {
    size,
    claim: stream,
    watch(fail) {
      reader = stream.getReader();
      reader.closed.catch(fail);
    },
    iterator: () => ({ next: () => reader.read() }),
    stop: (error) => reader?.cancel(error).catch(noop),
    release: () => reader?.releaseLock(),
  };
}

/** An iterable or async iterable. */
function iterable(source, method) {
  let iterator;
  return {
    size: null,
    // An array can be read by many at once; an iterator cannot.
    claim: Array.isArray(source) ? null : source,
    watch: noop,
    iterator: () => (iterator = source[method]()),
    stop() {
      // A generator that waits for something answers only when that comes: nobody waits for its answer.
      Promise.resolve()
        .then(() => iterator?.return?.())
        .catch(noop);
    },
    release: noop,
  };
}

/** A Buffer or another Uint8Array, whole. */
function bytes(array) {
  return {
    size: array.byteLength,
    claim: null,
    watch: noop,
    iterator: () => [array][Symbol.iterator](),
    stop: noop,
    release: noop,
  };
}

/** Whether what a path or descriptor names can be read without waiting for anybody. */
function isPlain(stat) {
  return stat.isFile() || stat.isBlockDevice();
}

const PLAIN_ONLY = 'Only regular files and block devices; for pipes, sockets and terminals, pass a stream';

/** { path }: a file that the native side opens and reads at its turn. */
function pathFile(path) {
  return {
    size: null,
    claim: null,
    watch: noop,
    async prepare() {
      const stat = await fs.stat(path);
      if (!isPlain(stat)) throw new Error(`${path} is not a regular file`);
      // Whether it may be read: better known now than after an hour.
      await (await fs.open(path)).close();
      if (stat.isFile()) this.size = stat.size;
    },
    give: (lane) => lane.readPath(path),
    stop: noop,
    release: noop,
  };
}

/** { fd }: an open file, read from where it stands. Duplicated at once, so the caller may close its own. */
function openFile(fd, name) {
  const NativeFile = native.NativeFile;
  // On Windows, descriptors are numbers of Node itself.
  if (NativeFile.fromFd === undefined) return nodeStream(createReadStream('', { fd, autoClose: false, highWaterMark: 1 << 20 }), name);
  let file;
  try {
    file = NativeFile.fromFd(fd);
  } catch (error) {
    throw invalidArgument(error.message, { item: name, hint: PLAIN_ONLY });
  }
  return { size: file.size, claim: null, watch: noop, give: (lane) => lane.readFile(file), stop: noop, release: noop };
}

/** { path } or { fd }, if the value is one of these. */
function plainFile(value, name) {
  const where = `The source of item ${JSON.stringify(name)}`;
  if (Object.hasOwn(value, 'path')) {
    const { path } = check.options(value, ['path'], where);
    return pathFile(resolve(check.path(path, `${where}: path`)));
  }
  const { fd } = check.options(value, ['fd'], where);
  return openFile(check.integer(fd, `${where}: fd`, 0, 2 ** 31 - 1), name);
}

/** The source that a value stands for; throws when it can be none. */
function recognise(value, name) {
  if (check.isBytes(value)) return bytes(value);
  if (value instanceof Command) return value;
  if (value !== null && typeof value === 'object') {
    if (typeof value.pipe === 'function') return nodeStream(value, name);
    if (typeof value.getReader === 'function') return webStream(value, name);
    if (value instanceof Blob) return webStream(value.stream(), name, value.size);
    if (typeof value[Symbol.asyncIterator] === 'function') return iterable(value, Symbol.asyncIterator);
    if (typeof value[Symbol.iterator] === 'function') return iterable(value, Symbol.iterator);
    if (Object.hasOwn(value, 'path') || Object.hasOwn(value, 'fd')) return plainFile(value, name);
  }
  throw invalidArgument(
    `The source of item ${JSON.stringify(name)} must be a Readable, a ReadableStream, an (async) iterable of bytes, ` +
      `a Uint8Array, a Blob, { path } or { fd }, got ${check.kindOf(value)}`,
    typeof value === 'string' ? { hint: 'To back up a text, use Buffer.from(text); a file, { path }' } : undefined,
  );
}

/** Recognises and claims the source of each item, or of none: [{ name, type, source: value }] in, with sources out. */
function claimAll(items) {
  const taken = [];
  try {
    return items.map((item) => {
      const source = recognise(item.source, item.name);
      if (source.claim !== null) {
        if (claimed.has(source.claim)) {
          throw invalidArgument(`The source of item ${JSON.stringify(item.name)} is being read by another item or ingest`);
        }
        claimed.add(source.claim);
        taken.push(source.claim);
      }
      return { ...item, source };
    });
  } catch (error) {
    taken.forEach((claim) => claimed.delete(claim));
    throw error;
  }
}

/** Lets go of what claimAll() claimed. */
function releaseAll(items) {
  for (const { source } of items) {
    source.release();
    if (source.claim !== null) claimed.delete(source.claim);
  }
}

/** The bytes of one chunk: a Uint8Array as it is, a string as UTF-8. */
function chunkBytes(chunk, name) {
  if (check.isBytes(chunk)) {
    if (check.isDetached(chunk)) {
      throw invalidArgument(`A chunk of item ${JSON.stringify(name)} was transferred away before it could be read`);
    }
    return chunk;
  }
  if (typeof chunk === 'string') return Buffer.from(check.wellFormed(chunk, `A chunk of item ${JSON.stringify(name)}`));
  throw invalidArgument(
    `The chunks of item ${JSON.stringify(name)} must be Uint8Array, Buffer or string, got ${check.kindOf(chunk)}`,
    { item: name },
  );
}

module.exports = { chunkBytes, claimAll, releaseAll };
