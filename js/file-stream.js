'use strict';
// Lets the native side read most of an fs.ReadStream: as with { path }, no chunk passes through
// JavaScript.
//
// Node opens the file and reads its first chunk. Then the stream asks for the second one, by its
// _read(). That call is held back while the native side reads the file from there to its end, from
// a duplicate of the descriptor. After that it is passed on to Node, which reads on: as a rule
// nothing more, and the stream ends.
//
// Invariants:
// - Node itself opens, ends and closes the stream, and meets the errors of its file: all events and
//   properties are those of a stream that JavaScript reads. The native side fails in no way, it
//   only stops early.
// - Whatever is not as expected leaves the stream to JavaScript: a subclass, a replaced member,
//   another `fs`, another reader. A reader that comes later gets the bytes from there on.
// - Only what Node documents, or what can be compared with a known object, decides.

const fs = require('node:fs');
const { Readable } = require('node:stream');
const { types } = require('node:util');
const native = require('./native.js');
const check = require('./check.js');

const { ReadStream, read } = fs;

/**
 * What brings the bytes of a file to a reader, as it was when this module was loaded. It may be
 * replaced for all streams too.
 */
const MEMBERS = ['_read', 'push', 'unshift', 'read', 'on', 'emit', 'iterator', 'pipe', 'destroy', '_destroy'];
const NODES = new Map(MEMBERS.map((name) => [name, ReadStream.prototype[name]]));

/** Fewest bytes that are worth the two switches between threads. */
const MIN_BYTES = 1024 * 1024;
/** Bytes of the first chunk that the native side compares with the file. */
const COMPARED_BYTES = 4096;

const noop = () => {};

/** Whether nothing of a stream is other than Node made it, but for members that are `ours`. */
function isNodes(stream, ours = []) {
  const { prototype } = ReadStream;
  if (types.isProxy(stream) || Object.getPrototypeOf(stream) !== prototype) return false;
  if (stream.constructor !== ReadStream || fs.ReadStream !== ReadStream || fs.read !== read) return false;
  if (Object.getPrototypeOf(prototype) !== Readable.prototype) return false;
  for (const [name, member] of NODES) if (prototype[name] !== member) return false;
  const own = Object.getOwnPropertyDescriptors(stream);
  // A Node that keeps its position elsewhere would read the same bytes again.
  if (!own.pos?.writable || !own.bytesRead?.writable) return false;
  const values = Reflect.ownKeys(own).filter((name) => !ours.includes(name)).map((name) => own[name]);
  if (values.some(({ get, set, value }) => get || set || typeof value === 'function')) return false;
  // The option `fs` is not public, but is kept in the stream: that of a FileHandle, or one that
  // decodes what it reads, is another object.
  return values.some(({ value }) => value === fs);
}

/** Whether no byte of a stream was read or asked for. */
function isUntouched(stream) {
  return (
    stream.readableFlowing === null && stream.readableEncoding === null && stream.readableObjectMode === false &&
    stream.readableDidRead === false && stream.readableEnded === false && stream.readableLength === 0 &&
    stream.bytesRead === 0 && stream.pos === stream.start && !stream.destroyed && !stream.errored &&
    stream.listenerCount('data') === 0 && stream.listenerCount('readable') === 0
  );
}

/**
 * The iterator of an fs.ReadStream whose file the native side reads in one go. `stop` and
 * `release` may be called at any time.
 */
class FileStreamReader {
  #stream;
  #lane;
  #iterator;
  #first = null;
  /** The argument of the _read() that is held back. */
  #held = null;
  #gated = true;
  #stopReading = noop;

  /** The iterator of a stream that was not read yet, or null if JavaScript must read all of it. */
  static of(stream, lane) {
    try {
      if (native.NativeRest.fromFd === undefined || !isNodes(stream) || !isUntouched(stream)) return null;
      return new FileStreamReader(stream, lane);
    } catch {
      // as when no property can be added to it
      return null;
    }
  }

  constructor(stream, lane) {
    this.#stream = stream;
    this.#lane = lane;
    let reads = 0;
    const value = (size) => {
      if (reads++ === 0) this.#read(size);
      else this.#held = size;
    };
    Object.defineProperty(stream, '_read', { value, configurable: true, writable: true });
    // Not destroyed at its end, as for all streams.
    this.#iterator = stream.iterator({ destroyOnReturn: false });
  }

  async next() {
    if (this.#first !== null) {
      if (this.#isWorthIt()) await this.#readNatively();
      this.release();
    }
    const step = await this.#iterator.next();
    if (this.#gated) {
      if (step.done) this.release();
      else this.#first = step.value;
    }
    return step;
  }

  #read(size) {
    NODES.get('_read').call(this.#stream, size);
  }

  /** Most bytes that may follow what was read. */
  #left() {
    const { end, pos, bytesRead } = this.#stream;
    // without a start, Node counts `end` from where the descriptor stood
    return end - (pos ?? bytesRead) + 1;
  }

  /** Whether the first chunk was all that was read of the file, and there may be much more. */
  #isWorthIt() {
    const stream = this.#stream;
    const { start, pos, fd, bytesRead } = stream;
    const size = check.isBytes(this.#first) ? check.byteLength(this.#first) : 0;
    return (
      // a chunk that is not full is the last one
      this.#held !== null && size >= stream.readableHighWaterMark && size === bytesRead &&
      pos === (start === undefined ? undefined : start + size) && this.#left() >= MIN_BYTES &&
      Number.isInteger(fd) && !stream.destroyed && !stream.errored && stream.readableLength === 0 &&
      stream.readableEncoding === null && stream.listenerCount('data') === 0 &&
      stream.listenerCount('readable') === 1 && isNodes(stream, ['_read'])
    );
  }

  /** Resolves once the native side has read to the end, or must not read further. Never rejects. */
  async #readNatively() {
    const stream = this.#stream;
    const { fd, pos, bytesRead } = stream;
    let rest;
    try {
      const tail = check.part(this.#first, Math.max(0, bytesRead - COMPARED_BYTES), bytesRead);
      rest = native.NativeRest.fromFd(fd, pos, Math.min(this.#left(), Number.MAX_SAFE_INTEGER), tail);
    } catch {
      return; // as when there are no more descriptors
    }
    this.#first = null;
    // A reader that is added now gets what follows, as it does when JavaScript reads.
    const onListener = (event) => {
      if (event === 'data' || event === 'readable') rest.stop();
    };
    const property = { configurable: true, enumerable: true };
    const total = () => bytesRead + rest.bytesRead;
    stream.on('newListener', onListener);
    Object.defineProperty(stream, 'bytesRead', { ...property, get: total, set: noop });
    this.#stopReading = () => {
      this.#stopReading = noop;
      rest.stop();
      stream.off('newListener', onListener);
      const value = total();
      if (pos !== undefined) stream.pos = pos + value - bytesRead;
      Object.defineProperty(stream, 'bytesRead', { ...property, value, writable: true });
    };
    await this.#lane.readRest(rest).catch(noop);
    this.#stopReading();
  }

  /** Ends the reading of the native side, before the stream is destroyed. */
  stop() {
    this.#stopReading();
  }

  /** Gives the stream back to Node. */
  release() {
    if (!this.#gated) return;
    this.#gated = false;
    this.#first = null;
    this.#stopReading();
    delete this.#stream._read;
    if (this.#held !== null && !this.#stream.destroyed) this.#read(this.#held);
  }
}

module.exports = { FileStreamReader };
