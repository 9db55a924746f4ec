'use strict';
// What an ingest can read: one interface to Node streams, web streams, (async) iterables, byte
// arrays, Blobs and files.
//
// A source is { size, claim, watch(fail), iterator(), stop(error), release() }:
//   size       bytes to come, null when not known; a guess, for the progress alone
//   claim      the object that only one ingest may read at a time, or null
//   watch      from now on its errors are passed to fail(error), before and while it is read, and
//              are never uncaught
//   report     optional: from now on its warnings are passed to report's argument, as
//              warn(code, message, details)
//   prepare    optional: awaited before anything is read; may determine the size, may fail
//   iterator   (lane) => { next() }, to be read by one loop
//   check      optional: called after each next(); throws when the bytes are decoded
//   ended      optional: called with the number of bytes after a clean end; throws when bytes are
//              missing
//   give(lane) instead of iterator(): the native side reads it itself
//   stop       ends it early; a next() that waits for a dead source need not return
//   typed      its errors are complete ContainerArchiveErrors; others become the cause of one
//   release    releases it; called once, after stop() or after the last next()
//
// What would make an ingest silently wrong (a stream that was read before, decoded text, a second
// reader) is refused here.
//
// All members but `size` and `claim` may run code of the caller, and so may throw anything:
// js/ingest.js calls them, and reports it. What is thrown while the type of a source is determined
// becomes ERR_INVALID_ARGUMENT here.

const { createReadStream, promises: fs } = require('node:fs');
const { finished, isDisturbed } = require('node:stream');
const { types } = require('node:util');
const native = require('./native.js');
const check = require('./check.js');
const { Command } = require('./command.js');
const { FileStreamReader } = require('./file-stream.js');
const { sizeOfStream } = require('./source-size.js');
const { invalidArgument } = require('./error.js');

const noop = () => {};
const LOST = 'it was transferred away, or its resizable ArrayBuffer shrank';

/** Sources that an ingest is reading now. */
const claimed = new WeakSet();
/**
 * Streams and iterators that an ingest has begun to read: their remaining bytes are not all of
 * them.
 */
const spent = new WeakSet();

/** Calls code of the caller whose failure has no effect any more. */
function quietly(call) {
  try {
    const result = call();
    if (types.isPromise(result)) Promise.prototype.then.call(result, noop, noop);
  } catch {
    // its call has ended already
  }
}

const whereOf = (name) => `The source of item ${JSON.stringify(name)}`;

/**
 * Whether a socket comes from Node's HTTP client after a handshake ('upgrade', 'connect'): it has
 * been read, but by the parser, which leaves it in its initial state. A listener, pipe() or pause()
 * since then would show in `readableFlowing`.
 */
function isHandedOver(stream) {
  return stream._httpMessage === null && stream.parser === null && stream.readableFlowing === null;
}

/**
 * What streamx streams record of 'data' and 'readable' listeners and of resume(), as bits of
 * `_duplexState`. In 2.12 these bits are other traces of a reader, and never set in an untouched
 * stream.
 */
const STREAMX_TOUCHED = (0x10 | 0x80 | 0x100) << 4;

/** Whether a Node-like stream was read before, or may have been. */
function wasRead(stream) {
  // emittedEnd: of minipass, which has no other trace
  if (spent.has(stream) || stream.readableEnded || stream.emittedEnd === true) return true;
  if (typeof stream.readableDidRead === 'boolean') return stream.readableDidRead && !isHandedOver(stream);
  // Other libraries do not count bytes, but an untouched stream is neither flowing nor paused.
  const { _readableState: state, _duplexState: bits } = stream;
  if (typeof (stream.readableFlowing ?? state?.flowing) === 'boolean') return true;
  return typeof bits === 'number' && ((bits & STREAMX_TOUCHED) !== 0 || Boolean(state?.pipeTo));
}

const DECODED = 'has an encoding set: its bytes are decoded already. Remove the call of setEncoding()';

/** Why a Node-like stream cannot be backed up completely, or null. */
function unfit(stream) {
  if (stream.readableEncoding) return DECODED;
  if (!stream.errored && wasRead(stream)) {
    return typeof stream.readableDidRead === 'boolean'
      ? 'was read before: its first bytes are missing'
      : 'was read before, or paused: its first bytes may be missing';
  }
  if (stream.readable === false && !stream.destroyed) return 'is not readable';
  if (typeof stream[Symbol.asyncIterator] !== 'function') {
    return 'is of an old kind that cannot be iterated: use new Readable().wrap(stream)';
  }
  return null;
}

/** After a clean end: what shows that the end of a Node-like stream was not clean, or null. */
function brokenOff(stream, http2) {
  // Node ends HTTP/2 streams after RST_STREAM, GOAWAY or a lost connection as if they were
  // complete.
  if (http2 && http2.rstCode !== 0) return `the HTTP/2 stream was closed with error code ${http2.rstCode}`;
  // destroyed by this program, or its session: without a code
  if (http2?.readableAborted) return 'the HTTP/2 stream was destroyed before its end';
  if (stream.aborted === true) return 'it was aborted';
  if (typeof stream.httpVersion === 'string' && stream.complete === false) return 'the HTTP message is not complete';
  return null;
}

/** A Node Readable (or anything that pipes and can be iterated). */
function nodeStream(stream, name) {
  const where = `The stream of item ${JSON.stringify(name)}`;
  const why = check.reading(where, () => unfit(stream));
  if (why !== null) throw invalidArgument(`${where} ${why}`, { item: name });
  // The second one: a request of the compatibility API loses its stream when it closes.
  const http2 = check.reading(where, () => [stream, stream.stream].find((each) => typeof each?.rstCode === 'number'));
  let cleanup = noop;
  let watched = false;
  let over = false;
  let fileReader = null;
  return {
    size: null,
    claim: stream,
    async prepare() {
      this.size = await sizeOfStream(stream);
    },
    watch(fail) {
      // Stays: an error after the end, or of stop(), must not become an uncaught exception. The
      // emitted value need not be an error: Node treats 'error' without a value as a clean end.
      stream.on('error', (error) => over || fail(error));
      watched = true;
      cleanup = finished(stream, { writable: false }, (error) => error && fail(error));
    },
    iterator(lane) {
      spent.add(stream);
      fileReader = FileStreamReader.of(stream, lane);
      if (fileReader !== null) return fileReader;
      // Not destroyed at its end: a duplex stream (a socket) may still have an answer to write.
      return stream.iterator?.({ destroyOnReturn: false }) ?? stream[Symbol.asyncIterator]();
    },
    check() {
      if (check.reading(where, () => stream.readableEncoding)) {
        throw invalidArgument(`${where} ${DECODED}`, { item: name });
      }
    },
    ended() {
      const how = brokenOff(stream, http2);
      if (how !== null) throw new Error(how);
      // from here on, errors are those of the other direction
      over = true;
    },
    stop(error) {
      over = true;
      fileReader?.stop();
      try {
        // an error without a listener would be an uncaught exception
        stream.destroy?.(watched ? error : undefined);
      } catch {
        // Node reads the stack of the error, which may be the reason that the caller gave to a
        // signal
        stream.destroy?.();
      }
    },
    release() {
      over = true;
      fileReader?.release();
      cleanup();
    },
  };
}

/** Why a web stream cannot be backed up completely, or null. */
function unfitWeb(stream) {
  if (stream.locked) return 'is locked by another reader';
  // _disturbed: of web-streams-polyfill
  return spent.has(stream) || isDisturbed(stream) || stream._disturbed === true ? 'was read before' : null;
}

/**
 * A web ReadableStream, or the stream of a Blob, which must produce as many bytes as the Blob has.
 */
function webStream(stream, name, size = null) {
  const where = `The stream of item ${JSON.stringify(name)}`;
  const why = check.reading(where, () => unfitWeb(stream));
  if (why !== null) throw invalidArgument(`${where} ${why}`, { item: name });
  let reader;
  let over = false;
  return {
    size,
    claim: stream,
    watch(fail) {
      reader = stream.getReader();
      new Promise((resolve) => resolve(reader.closed)).catch((error) => over || fail(error));
    },
    iterator() {
      spent.add(stream);
      return { next: () => reader.read() };
    },
    ended(length) {
      if (size !== null && length !== size) throw new Error(`it produced ${length} of ${size} bytes`);
    },
    stop(error) {
      over = true;
      return reader?.cancel(error);
    },
    release() {
      over = true;
      reader?.releaseLock();
    },
  };
}

/** An iterable or async iterable. */
function iterable(source, method, name) {
  const refused = () => (
    invalidArgument(`${whereOf(name)} was read before: its first bytes are missing`, { item: name }));
  if (spent.has(source)) throw refused();
  let iterator;
  return {
    size: null,
    // An array can be read by many at once; an iterator cannot.
    claim: check.reading(whereOf(name), () => Array.isArray(source)) ? null : source,
    watch: noop,
    iterator() {
      iterator = source[method]();
      // An array returns a new iterator each time; a generator returns itself.
      if (spent.has(iterator)) throw new Error('it was read before: its first bytes are missing');
      if (typeof iterator === 'object' && iterator !== null) spent.add(iterator);
      return iterator;
    },
    stop() {
      // A generator that waits for something returns only when that arrives: the ingest does not
      // wait for it.
      Promise.resolve()
        .then(() => iterator?.return?.())
        .catch(noop);
    },
    release: noop,
  };
}

/** A Buffer or another Uint8Array, complete. */
function bytes(array, name) {
  if (check.isLost(array)) throw invalidArgument(`${whereOf(name)} has lost its memory: ${LOST}`, { item: name });
  const size = check.byteLength(array);
  return {
    size,
    claim: null,
    watch: noop,
    iterator: () => [array][Symbol.iterator](),
    ended(length) {
      if (length !== size) throw new Error(`its length changed from ${size} to ${length} bytes`);
    },
    stop: noop,
    release: noop,
  };
}

/** Whether a path or descriptor can be read without waiting for another process. */
function isPlain(stat) {
  return stat.isFile() || stat.isBlockDevice();
}

const PLAIN_ONLY = 'Only regular files and block devices; for pipes, sockets and terminals, pass a stream';

/**
 * Files that the whole process tries at once. Each takes a descriptor for a moment, and thousands
 * may be passed.
 */
const MAX_TRIALS = 8;
let trials = 0;
const waiting = [];

/** Calls `action` when fewer than MAX_TRIALS others are running. */
async function inTurn(action) {
  if (trials < MAX_TRIALS) trials++;
  else await new Promise((resolve) => waiting.push(resolve)); // one that ends passes on its turn
  try {
    return await action();
  } finally {
    const next = waiting.shift();
    if (next === undefined) trials--;
    else next();
  }
}

/** { path }: a file that the native side opens and reads when its turn comes. */
function pathFile(path) {
  return {
    size: null,
    claim: null,
    watch: noop,
    async prepare() {
      await inTurn(async () => {
        const stat = await fs.stat(path);
        if (!isPlain(stat)) throw new Error(`${path} is not a regular file`);
        // Whether it can be opened: better known now than after an hour.
        await (await fs.open(path)).close();
        if (stat.isFile()) this.size = stat.size;
      });
    },
    give: (lane) => lane.readPath(path),
    stop: noop,
    release: noop,
  };
}

/**
 * On Windows, what represents a descriptor that is being read: its offset is shared, so only one
 * ingest may read it.
 */
const descriptors = new Map();

function descriptor(fd) {
  if (!descriptors.has(fd)) descriptors.set(fd, { fd });
  return descriptors.get(fd);
}

/**
 * { fd }: an open file, read from its position at this call. Duplicated at once, so the caller may
 * close its own.
 */
function openFile(fd, name) {
  const NativeFile = native.NativeFile;
  if (NativeFile.fromFd === undefined) {
    // On Windows, descriptors are numbers of Node itself, which can neither be duplicated nor
    // queried for their position.
    const stream = createReadStream('', { fd, autoClose: false, highWaterMark: 1 << 20 });
    return { ...nodeStream(stream, name), claim: descriptor(fd) };
  }
  let file;
  try {
    file = NativeFile.fromFd(fd);
  } catch (error) {
    throw invalidArgument(error.message, { item: name, hint: PLAIN_ONLY });
  }
  return { size: file.size, claim: null, watch: noop, give: (lane) => lane.readFile(file), stop: noop, release: noop };
}

/** { path }, if the value is one, or { fd }. */
function plainFile(value, name, which) {
  const where = whereOf(name);
  const given = check.options(value, { [which]: true }, where);
  if (which === 'path') return pathFile(check.absolutePath(given.path, `${where}: path`));
  return openFile(check.integer(given.fd, `${where}: fd`, 0, 2 ** 31 - 1), name);
}

/** The type of a source: the function that creates it, or null. */
function kindOfSource(value) {
  if (value === null || typeof value !== 'object') return null;
  if (value instanceof Command) return (command) => command;
  if (typeof value.pipe === 'function') return nodeStream;
  if (typeof value.getReader === 'function') return webStream;
  if (value instanceof Blob) {
    const { size } = value;
    const stream = value.stream();
    return (_, name) => webStream(stream, name, size);
  }
  for (const method of [Symbol.asyncIterator, Symbol.iterator]) {
    if (typeof value[method] === 'function') return (source, name) => iterable(source, method, name);
  }
  const which = ['path', 'fd'].find((each) => Object.hasOwn(value, each));
  return which === undefined ? null : (source, name) => plainFile(source, name, which);
}

/** The source for a value; throws when it can be none. */
function recognise(value, name) {
  if (check.isBytes(value)) return bytes(value, name);
  const make = check.reading(whereOf(name), () => kindOfSource(value));
  if (make !== null) return make(value, name);
  throw invalidArgument(
    `${whereOf(name)} must be a Readable, a ReadableStream, an (async) iterable of bytes, ` +
      `a Uint8Array, a Blob, { path } or { fd }, got ${check.kindOf(value)}`,
    typeof value === 'string' ? { hint: 'Pass Buffer.from(text) for a text, { path } for a file' } : undefined,
  );
}

/**
 * Creates and claims the sources of all items, or of none: [{ name, type, source: value }] in, with
 * sources out.
 */
function claimAll(items) {
  const taken = [];
  try {
    return items.map((item) => {
      const source = recognise(item.source, item.name);
      if (source.claim !== null) {
        if (claimed.has(source.claim)) {
          throw invalidArgument(`${whereOf(item.name)} is being read by another item or ingest`, { item: item.name });
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

/** Destroys sources that nothing will read. */
function stopAll(items, reason) {
  for (const { source } of items) {
    quietly(() => source.watch(noop));
    quietly(() => source.stop(reason));
  }
}

/** Releases what claimAll() claimed. */
function releaseAll(items) {
  for (const { source } of items) {
    quietly(() => source.release());
    if (source.claim !== null) claimed.delete(source.claim);
  }
}

/** The bytes of one chunk: a Uint8Array unchanged, a string as UTF-8. */
function chunkBytes(chunk, name) {
  if (check.isBytes(chunk)) {
    if (check.isLost(chunk)) {
      throw invalidArgument(`A chunk of item ${JSON.stringify(name)} has lost its memory: ${LOST}`, { item: name });
    }
    return chunk;
  }
  if (typeof chunk === 'string') return Buffer.from(check.wellFormed(chunk, `A chunk of item ${JSON.stringify(name)}`));
  throw invalidArgument(
    `The chunks of item ${JSON.stringify(name)} must be Uint8Array, Buffer or string, got ${check.kindOf(chunk)}`,
    { item: name },
  );
}

module.exports = { chunkBytes, claimAll, quietly, releaseAll, stopAll };
