'use strict';
// Progress of one operation: from the counters of the native side and of its sources to the public
// shape.
//
// Reports come by time: ten times a second while anything moves, once a second while nothing does,
// at once when the phase changes, and at the end. A timer makes them; the native side only has
// counters, which it delivers as it works, or returns when asked (ingest). The timer keeps no
// process alive. Nothing is reported after close().

const { randomUUID } = require('node:crypto');

/** Time between two reports while anything moves. */
const MOVING_MS = 100;
/** Time between two reports while nothing moves. */
const STALLED_MS = 1000;
/** Time in which a moving rate follows a change, for the most part. */
const RATE_SECONDS = 0.45;

/** A size for people: '12.3 MiB'. */
function human(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  const step = bytes < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** step).toFixed(step === 0 ? 0 : 1)} ${units[step]}`;
}

/**
 * The progress in percent with one decimal; null while the total is not known. Only the last report
 * has 100: what follows the last byte takes time too.
 */
function percentageOf(doneBytes, totalBytes, isLast) {
  if (isLast) return 100;
  if (totalBytes === null) return null;
  return totalBytes === 0 ? 0 : Math.min(99.9, Math.floor((doneBytes / totalBytes) * 1000) / 10);
}

/** The figures of bytes that all operations report; `totalBytes` is null while it is not known. */
function bytesOf(doneBytes, totalBytes, bytesPerSecond, isLast) {
  const rate = Math.round(bytesPerSecond);
  const total = totalBytes === null ? null : Math.max(totalBytes, doneBytes);
  const left = total === null || rate === 0 ? null : Math.round((total - doneBytes) / rate);
  return {
    percentage: percentageOf(doneBytes, total, isLast),
    bytesDone: doneBytes,
    bytesTotal: total,
    bytesPerSecond: rate,
    etaSeconds: isLast ? 0 : left,
  };
}

/** The total as far as the native side knows it: its counter is 0 until it does, and null here. */
function knownTotal({ doneBytes, totalBytes }, isLast) {
  if (isLast) return Math.max(doneBytes, totalBytes);
  return totalBytes > 0 ? totalBytes : null;
}

/** The average rate since the start. */
const average = (doneBytes, seconds) => (seconds > 0 ? doneBytes / seconds : 0);

/** What all kinds of progress share. Each operation describes its own counters. */
class Progress {
  /** Distinguishes concurrent operations. */
  operationId = randomUUID();
  /** The newest counters of the native side. */
  counters = { doneBytes: 0, totalBytes: 0 };
  #operation;
  #report;
  #timer;
  #started = performance.now();
  /** When the last report was made, and when anything had moved since the one before. */
  #last = this.#started;
  #moved = this.#started;
  #position = 0;

  /**
   * @param {string} operation
   * @param {(progress: object) => void} report
   */
  constructor(operation, report) {
    this.#operation = operation;
    this.#report = report;
    this.#timer = setInterval(() => this.#tick(), MOVING_MS);
    // a number in the renderer of Electron
    this.#timer.unref?.();
  }

  /** Nothing is reported after this call. */
  close() {
    this.#report = null;
    clearInterval(this.#timer);
  }

  /** Takes the counters of the native side as JSON. */
  update(json) {
    if (this.#report === null) return;
    const before = this.phase;
    this.take(JSON.parse(json));
    // after a change of the phase, nothing may move for a long time
    if (this.phase !== before) this.#emit(performance.now(), true);
  }

  /** Takes counters that were delivered. */
  take(counters) {
    Object.assign(this.counters, counters);
  }

  /** 'waiting' before the operation begins, while others of the handle use the memory. */
  get phase() {
    return this.counters.waiting === true ? 'waiting' : 'running';
  }

  /** A number that changes whenever anything moves, 0 at the start. */
  get position() {
    return Object.values(this.counters).reduce((sum, value) => (typeof value === 'number' ? sum + value : sum), 0);
  }

  /** Fetches counters that are not delivered. */
  refresh() {}

  /** The last report, with the final figures. */
  finish(counters) {
    this.refresh();
    Object.assign(this.counters, counters, { waiting: false });
    this.#emit(performance.now(), true, true);
    this.close();
  }

  #tick() {
    this.refresh();
    const now = performance.now();
    const hasMoved = this.position !== this.#position;
    if (hasMoved || now - this.#last >= STALLED_MS) this.#emit(now, hasMoved);
  }

  #emit(now, hasMoved, isLast = false) {
    this.#last = now;
    this.#position = this.position;
    if (hasMoved) this.#moved = now;
    const elapsedMs = now - this.#started;
    const stalledMs = Math.round(now - this.#moved);
    const { message, ...figures } = this.describe(elapsedMs / 1000, isLast);
    this.#report({
      operation: this.#operation,
      operationId: this.operationId,
      message: stalledMs < STALLED_MS ? message : `${message}, nothing new for ${Math.floor(stalledMs / 1000)} s`,
      ...figures,
      stalledMs,
      elapsedMs: Math.round(elapsedMs),
    });
  }
}

/** The progress of one ingest. */
class IngestProgress extends Progress {
  /** Name of the item that is being read, or null. */
  item = null;
  /** Bytes of all items, null when not known. */
  total = null;
  /** Bytes that JavaScript has received from the sources. */
  received = 0;
  /** The native ingest: its counters, and as `fileBytes` what it has read from files itself. */
  native = null;
  counters = { doneBytes: 0, newBytes: 0, reusedBytes: 0, storedBytes: 0, chunks: 0, itemsDone: 0, autoLevel: null };
  #itemsTotal;
  #rated = { seconds: 0, bytes: 0 };
  #rate = 0;

  /**
   * @param {number} itemsTotal
   * @param {(progress: object) => void} report
   */
  constructor(itemsTotal, report) {
    super('ingest', report);
    this.#itemsTotal = itemsTotal;
  }

  /**
   * Bytes that have come from the sources. The native side counts the bytes that it has begun to
   * store, which may be seconds later.
   */
  get #read() {
    return Math.max(this.counters.doneBytes, this.received + (this.native?.fileBytes ?? 0));
  }

  get position() {
    return super.position + this.#read;
  }

  refresh() {
    if (this.native === null) return;
    const { waiting, ...counters } = JSON.parse(this.native.counters);
    Object.assign(this.counters, counters);
  }

  /** Only the phase is delivered: by now there may be newer counters. */
  take({ waiting }) {
    this.counters.waiting = waiting;
  }

  /** The last report, with the figures of the snapshot. */
  finish({ originalSize, storedSize, chunkCount }) {
    this.item = null;
    this.total = originalSize;
    this.refresh();
    this.received = 0;
    this.native = null;
    super.finish({ doneBytes: originalSize, storedBytes: storedSize, chunks: chunkCount, itemsDone: this.#itemsTotal });
  }

  describe(seconds, isLast) {
    const { newBytes, reusedBytes, storedBytes, chunks, itemsDone, autoLevel } = this.counters;
    const read = this.#read;
    return {
      phase: this.phase,
      message: this.phase === 'waiting'
        ? 'Waiting for other ingests of this handle'
        : `${human(read)} read, ${human(storedBytes)} stored, ${itemsDone} of ${this.#itemsTotal} items done`,
      // a growing file has more bytes than it had
      ...bytesOf(read, this.total, isLast ? average(read, seconds) : this.#movingRate(seconds, read), isLast),
      newBytes,
      reusedBytes,
      storedBytes,
      chunks,
      compressionLevel: autoLevel,
      item: this.item,
      itemsDone,
      itemsTotal: this.#itemsTotal,
    };
  }

  /** The rate of the last moments: the older, the less they count. */
  #movingRate(seconds, bytes) {
    const span = seconds - this.#rated.seconds;
    if (span <= 0) return this.#rate;
    const rate = (bytes - this.#rated.bytes) / span;
    const weight = this.#rate === 0 ? 1 : 1 - Math.exp(-span / RATE_SECONDS);
    this.#rate += weight * (rate - this.#rate);
    this.#rated = { seconds, bytes };
    return this.#rate;
  }
}

/** The progress of a restore into a file. */
class RestoreProgress extends Progress {
  #item;

  /**
   * @param {string | null} item
   * @param {(progress: object) => void} report
   */
  constructor(item, report) {
    super('restore', report);
    this.#item = item;
  }

  describe(seconds, isLast) {
    const { doneBytes, chunks } = this.counters;
    const total = knownTotal(this.counters, isLast);
    return {
      message: `${human(doneBytes)} ${total === null ? '' : `of ${human(total)} `}restored`,
      ...bytesOf(doneBytes, total, average(doneBytes, seconds), isLast),
      chunks,
      item: this.#item,
    };
  }
}

/** The progress of one verify. */
class VerifyProgress extends Progress {
  /** Problems found so far. */
  errors = 0;
  #level;

  /**
   * @param {string} level
   * @param {(progress: object) => void} report
   */
  constructor(level, report) {
    super('verify', report);
    this.#level = level;
  }

  /** The last report, with the figures of the result. */
  finish({ packsChecked, chunksChecked }) {
    super.finish({ totalBytes: this.counters.doneBytes, chunks: chunksChecked, itemsDone: packsChecked });
  }

  describe(seconds, isLast) {
    const { doneBytes, chunks, itemsDone } = this.counters;
    return {
      level: this.#level,
      message: `${human(doneBytes)} read, ${itemsDone} packs checked, ${this.errors} problems`,
      ...bytesOf(doneBytes, knownTotal(this.counters, isLast), average(doneBytes, seconds), isLast),
      chunks,
      itemsDone,
      errors: this.errors,
    };
  }
}

/**
 * The progress of an operation that is measured in bytes alone, and whose total is known only while
 * it runs.
 */
class BytesProgress extends Progress {
  #message;

  /**
   * @param {string} operation
   * @param {(bytes: string) => string} message the message for a number of bytes
   * @param {(progress: object) => void} report
   */
  constructor(operation, message, report) {
    super(operation, report);
    this.#message = message;
  }

  describe(seconds, isLast) {
    const { doneBytes } = this.counters;
    return {
      message: this.#message(human(doneBytes)),
      ...bytesOf(doneBytes, knownTotal(this.counters, isLast), average(doneBytes, seconds), isLast),
    };
  }
}

module.exports = { BytesProgress, IngestProgress, RestoreProgress, VerifyProgress };
