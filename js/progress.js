'use strict';
// Progress of one operation: from the counters of the native side to the shape that users see, at most ten times a second
// and once at the end.

const { randomUUID } = require('node:crypto');

const INTERVAL_MS = 100;
/** Share of the newest interval in the rate: it follows a change within about a second, and does not jump. */
const RATE_WEIGHT = 0.2;

/** A size for people: '12.3 MiB'. */
function human(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  const step = bytes < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** step).toFixed(step === 0 ? 0 : 1)} ${units[step]}`;
}

/** The progress of one ingest. */
class IngestProgress {
  /** Tells concurrent operations apart. */
  operationId = randomUUID();
  /** Name of the item that is being read, or null. */
  item = null;
  /** Bytes to come, null when not known. */
  total = null;
  #report;
  #itemsTotal;
  #started = performance.now();
  #last = { at: this.#started, bytes: 0 };
  #rate = 0;
  #counters = { doneBytes: 0, newBytes: 0, reusedBytes: 0, storedBytes: 0, chunks: 0, itemsDone: 0 };

  /**
   * @param {number} itemsTotal
   * @param {(progress: object) => void} report
   */
  constructor(itemsTotal, report) {
    this.#itemsTotal = itemsTotal;
    this.#report = report;
  }

  /** Whether the counters of the native side have reached this number of bytes. */
  hasReached(bytes) {
    return this.#counters.doneBytes === bytes;
  }

  /** Nothing is reported after this, however late the native side may be. */
  close() {
    this.#report = null;
  }

  /** Takes the counters of the native side as JSON. */
  update(json) {
    if (this.#report === null) return;
    this.#counters = { ...this.#counters, ...JSON.parse(json) };
    if (performance.now() - this.#last.at >= INTERVAL_MS) this.#emit();
  }

  /** The last report, with the figures of the snapshot. */
  finish(snapshot) {
    this.item = null;
    this.total = snapshot.originalSize;
    Object.assign(this.#counters, {
      doneBytes: snapshot.originalSize,
      storedBytes: snapshot.storedSize,
      chunks: snapshot.chunkCount,
      itemsDone: this.#itemsTotal,
    });
    this.#last = { at: this.#started, bytes: 0 };
    this.#rate = 0; // the last report tells the rate of the whole ingest
    this.#emit();
  }

  #emit() {
    const now = performance.now();
    const { doneBytes, newBytes, reusedBytes, storedBytes, chunks, itemsDone } = this.#counters;
    const seconds = (now - this.#last.at) / 1000;
    const rate = seconds > 0 ? (doneBytes - this.#last.bytes) / seconds : 0;
    this.#rate = this.#rate === 0 ? rate : this.#rate + RATE_WEIGHT * (rate - this.#rate);
    this.#last = { at: now, bytes: doneBytes };
    // A file that grows has more than it had.
    const total = this.total === null ? null : Math.max(this.total, doneBytes);
    const left = total === null ? null : total - doneBytes;
    this.#report({
      operation: 'ingest',
      operationId: this.operationId,
      message: `${human(doneBytes)} read, ${human(storedBytes)} stored, ${itemsDone} of ${this.#itemsTotal} items done`,
      percentage: left === null ? null : total === 0 ? 100 : (doneBytes / total) * 100,
      bytesDone: doneBytes,
      bytesTotal: total,
      bytesPerSecond: Math.round(this.#rate),
      etaSeconds: left === null || this.#rate <= 0 ? null : Math.round(left / this.#rate),
      newBytes,
      reusedBytes,
      storedBytes,
      chunks,
      item: this.item,
      itemsDone,
      itemsTotal: this.#itemsTotal,
      elapsedMs: Math.round(now - this.#started),
    });
  }
}

/** The progress of an operation that is measured in bytes alone, and knows only as it goes how many there are. */
class BytesProgress {
  /** Tells concurrent operations apart. */
  operationId = randomUUID();
  #operation;
  #message;
  #report;
  #started = performance.now();
  #last = this.#started;
  #counters = { doneBytes: 0, totalBytes: 0 };

  /**
   * @param {string} operation
   * @param {(bytes: string) => string} message what to say of so many bytes
   * @param {(progress: object) => void} report
   */
  constructor(operation, message, report) {
    this.#operation = operation;
    this.#message = message;
    this.#report = report;
  }

  /** Nothing is reported after this, however late the native side may be. */
  close() {
    this.#report = null;
  }

  /** Takes the counters of the native side as JSON. */
  update(json) {
    if (this.#report === null) return;
    this.#counters = JSON.parse(json);
    if (performance.now() - this.#last >= INTERVAL_MS) this.#emit(null);
  }

  /** The last report. */
  finish() {
    this.#emit(100);
  }

  #emit(percentage) {
    const now = performance.now();
    const { doneBytes, totalBytes } = this.#counters;
    const known = totalBytes > 0;
    this.#last = now;
    this.#report({
      operation: this.#operation,
      operationId: this.operationId,
      message: this.#message(human(doneBytes)),
      // these bytes are nearly all of it; what follows has no measure
      percentage: percentage ?? (known ? Math.min(99, (doneBytes / totalBytes) * 100) : null),
      bytesDone: doneBytes,
      bytesTotal: known ? Math.max(totalBytes, doneBytes) : null,
      elapsedMs: Math.round(now - this.#started),
    });
  }
}

module.exports = { BytesProgress, IngestProgress, human };
