'use strict';
// Checks of single values, before they are passed to the native side (which would convert NaN and
// -1 silently).
//
// Every function returns the checked value or throws ERR_INVALID_ARGUMENT with a message that names
// the argument. When reading a value of the caller throws (a getter, a trap of a Proxy), what it
// throws is the `cause`, whatever its type.

const { types } = require('node:util');
const { resolve } = require('node:path');
const { invalidArgument, textOf } = require('./error.js');
const { IIngestBaseOptions, MAX_TEXT_BYTES } = require('./schema.js');
const { CallerSignal } = require('./signal.js');

/** How a refused value is shown in a message. Never the content of a string: it may be a secret. */
function kindOf(value) {
  if (value === null) return 'null';
  if (typeof value === 'number') return String(value);
  if (typeof value !== 'object') return value === undefined ? 'undefined' : `a ${typeof value}`;
  try {
    return Array.isArray(value) ? 'an array' : `an object of class ${value.constructor?.name ?? 'null'}`;
  } catch {
    return 'an object that cannot be read';
  }
}

/**
 * Returns what `read` returns, which touches a value of the caller; what it throws is the cause of
 * a refusal.
 */
function reading(where, read) {
  try {
    return read();
  } catch (cause) {
    throw invalidArgument(`${where} cannot be read: ${textOf(cause)}`, { cause });
  }
}

/**
 * Whether a value is an object like that of `{}`, of any realm: all its data is in its own members.
 * May throw.
 */
function isPlain(value) {
  if (value === null || typeof value !== 'object') return false;
  const proto = Object.getPrototypeOf(value);
  return proto === null || (Object.getPrototypeOf(proto) === null && Object.hasOwn(proto, 'isPrototypeOf'));
}

/**
 * The own members of an object, non-enumerable ones included (a secret may be one), each read once,
 * as pairs of name and value.
 */
function members(value, where) {
  return reading(where, () => Object.getOwnPropertyNames(value).map((name) => [name, value[name]]));
}

/** The entries of an array, each read once; holes of a sparse array are undefined. */
function array(value, where) {
  const read = () => (Array.isArray(value) ? Array.from({ length: value.length }, (_, i) => value[i]) : null);
  const entries = reading(where, read);
  if (entries === null) throw invalidArgument(`${where} must be an array, got ${kindOf(value)}`);
  return entries;
}

/**
 * An options object (or undefined) with no keys but those of `fields`, as a new object of its own
 * members, each read once. Anything but a plain object is refused: a promise without its `await`,
 * or a Map, has no such members, and would be treated as no options at all.
 */
function options(value, fields, where) {
  if (value === undefined) return { __proto__: null };
  if (!reading(where, () => isPlain(value))) {
    throw invalidArgument(`${where} must be a plain object, got ${kindOf(value)}`);
  }
  const given = members(value, where);
  for (const [key] of given) {
    if (!Object.hasOwn(fields, key)) {
      throw invalidArgument(`Unknown option ${JSON.stringify(key)} in ${where}`, {
        hint: `Known options: ${Object.keys(fields).join(', ')}`,
      });
    }
  }
  return Object.assign(Object.create(null), Object.fromEntries(given));
}

/** A string that can be written as UTF-8 and read back as it was. */
function wellFormed(value, where) {
  if (typeof value !== 'string') throw invalidArgument(`${where} must be a string, got ${kindOf(value)}`);
  if (!value.isWellFormed()) throw invalidArgument(`${where} contains a lone surrogate, which UTF-8 cannot store`);
  return value;
}

/**
 * A name, type or tag: well formed, at most MAX_TEXT_BYTES, not empty unless `mayBeEmpty`. Any
 * character is allowed.
 */
function text(value, where, mayBeEmpty = false) {
  wellFormed(value, where);
  if (value === '' && !mayBeEmpty) throw invalidArgument(`${where} must not be empty`);
  // No code unit takes more than three bytes: short strings need not be measured.
  if (value.length * 3 > MAX_TEXT_BYTES && Buffer.byteLength(value) > MAX_TEXT_BYTES) {
    throw invalidArgument(`${where} is longer than ${MAX_TEXT_BYTES} bytes`);
  }
  return value;
}

/** A whole number in [min, max]; a message has `unit` after the limit. */
function integer(value, where, min = 0, max = Number.MAX_SAFE_INTEGER, unit = '') {
  if (!Number.isSafeInteger(value)) throw invalidArgument(`${where} must be a whole number, got ${kindOf(value)}`);
  if (value < min || value > max) {
    const range = max === Number.MAX_SAFE_INTEGER ? `at least ${min}` : `from ${min} to ${max}`;
    throw invalidArgument(`${where} must be ${range}${unit && ` ${unit}`}, got ${value}`);
  }
  return value;
}

/** An id: 32 lower-case hex digits. */
function hexId(value, where) {
  if (typeof value !== 'string' || !/^[0-9a-f]{32}$/.test(value)) {
    throw invalidArgument(`${where} must be an id of 32 lower-case hex digits, got ${kindOf(value)}`);
  }
  return value;
}

/** true or false. */
function boolean(value, where) {
  if (typeof value !== 'boolean') throw invalidArgument(`${where} must be true or false, got ${kindOf(value)}`);
  return value;
}

/** A function, or undefined. */
function callback(value, where) {
  if (value !== undefined && typeof value !== 'function') {
    throw invalidArgument(`${where} must be a function, got ${kindOf(value)}`);
  }
  return value;
}

/** Whether a value has the members of an AbortSignal. */
function isSignal(value) {
  return typeof value === 'object' && value !== null && typeof value.aborted === 'boolean' &&
    ['throwIfAborted', 'addEventListener', 'removeEventListener'].every((name) => typeof value[name] === 'function');
}

/** An AbortSignal, wrapped in a CallerSignal, or undefined. */
function signal(value, where) {
  if (value === undefined) return undefined;
  if (!reading(where, () => isSignal(value))) {
    throw invalidArgument(`${where} must be an AbortSignal, got ${kindOf(value)}`);
  }
  return new CallerSignal(value, where);
}

/**
 * A record of strings to strings, as a new object, so that later changes by the caller have no
 * effect.
 */
function tags(value, where) {
  if (!reading(where, () => isPlain(value))) {
    throw invalidArgument(`${where} must be a plain object of strings, got ${kindOf(value)}`);
  }
  const entries = members(value, where);
  for (const [key, entry] of entries) {
    text(key, `A key of ${where}`);
    text(entry, `${where}[${JSON.stringify(key)}]`, true);
  }
  return Object.fromEntries(entries);
}

const { getTime } = Date.prototype;
const ISO = /^(\d{4})-(\d{2})-(\d{2})(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2}))?$/;

/**
 * The first and the last second that a snapshot may be dated: in every time zone, its year has four
 * digits.
 */
const TIMES = [IIngestBaseOptions.createdAt.min, IIngestBaseOptions.createdAt.max].map(Date.parse);
/** No snapshot is dated at this time or later. */
const AFTER_ALL = TIMES[1] + 999;

/**
 * A Date, or an ISO 8601 date (midnight UTC) or date and time with zone, in milliseconds since
 * 1970.
 */
function milliseconds(value, where) {
  if (types.isDate(value)) {
    const ms = getTime.call(value);
    if (Number.isNaN(ms)) throw invalidArgument(`${where} is an invalid Date`);
    return ms;
  }
  const match = typeof value === 'string' ? ISO.exec(value) : null;
  const date = match && new Date(value);
  // Date reads 30 February as 1 or 2 March: the day must survive the round trip.
  const day = match && new Date(Date.UTC(+match[1], +match[2] - 1, +match[3])).getUTCDate() === +match[3];
  if (!match || !day || Number.isNaN(date.getTime())) {
    throw invalidArgument(
      `${where} must be an ISO 8601 date, or date and time with a zone ("2026-11-23T04:00:00Z"), or a Date`,
    );
  }
  return date.getTime();
}

/** The time of a snapshot, returned as UTC with milliseconds. */
function time(value, where) {
  const ms = milliseconds(value, where);
  if (ms < TIMES[0] || ms > TIMES[1]) {
    const [first, last] = TIMES.map((each) => new Date(each).toISOString());
    throw invalidArgument(`${where} must be from ${first} to ${last}, got ${new Date(ms).toISOString()}`);
  }
  return new Date(ms).toISOString();
}

/**
 * A time to compare times of snapshots with: any, clamped to their range, which changes no result.
 */
function timeBound(value, where) {
  const ms = milliseconds(value, where);
  return new Date(Math.min(Math.max(ms, TIMES[0]), AFTER_ALL)).toISOString();
}

/** A path of the local file system. */
function path(value, where) {
  wellFormed(value, where);
  if (value === '') throw invalidArgument(`${where} must not be empty`);
  if (value.includes('\0')) throw invalidArgument(`${where} must not contain a NUL character`);
  return value;
}

/** The same, as an absolute path. */
function absolutePath(value, where) {
  const given = path(value, where);
  // A relative path needs the working directory, which may have been deleted.
  return reading(`The working directory, which ${where} is relative to,`, () => resolve(given));
}

/** Whether a location is a URL. One letter before the colon is a drive of Windows. */
const isUrl = (location) => /^[a-z][a-z0-9+.-]+:\/\//i.test(location);

/** The location of a repository: a URL unchanged, or an absolute path. */
function location(value, where) {
  const given = path(value, where);
  return isUrl(given) ? given : absolutePath(given, where);
}

/** Whether a value is bytes: any Uint8Array, and so any Buffer, of any realm. */
const isBytes = types.isUint8Array;

const { at } = Uint8Array.prototype;
const viewed = (name) => Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), name).get;
const [lengthOf, offsetOf, bufferOf] = ['byteLength', 'byteOffset', 'buffer'].map(viewed);

/** The length of a Uint8Array; a subclass cannot override it. */
function byteLength(bytes) {
  return lengthOf.call(bytes);
}

/** A part of a Uint8Array, in the same memory. */
function part(bytes, start, end) {
  return new Uint8Array(bufferOf.call(bytes), offsetOf.call(bytes) + start, Math.min(end, byteLength(bytes)) - start);
}

/**
 * Whether a Uint8Array has lost its memory: it was transferred away, or is resizable and shrank to
 * less than the view. Its length is 0 then, although its bytes are lost and not absent.
 */
function isLost(bytes) {
  try {
    at.call(bytes, 0);
    return false;
  } catch {
    return true;
  }
}

module.exports = {
  absolutePath, array, boolean, byteLength, callback, hexId, integer, isBytes, isLost, isPlain, isUrl, kindOf, location,
  members, options, part, path, reading, signal, tags, text, time, timeBound, wellFormed,
};
