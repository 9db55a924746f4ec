'use strict';
// Checks of single values, before anything crosses to the native side (which would coerce NaN and -1 silently).
//
// Every function returns the checked value or throws ERR_INVALID_ARGUMENT with a message that names the argument.

const { types } = require('node:util');
const { invalidArgument } = require('./error.js');

/** Longest item name, type, tag key or tag value, in bytes of UTF-8. */
const MAX_TEXT_BYTES = 4096;

/** How a refused value is shown in a message. Never the content of strings: a secret may have slipped in. */
function kindOf(value) {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (typeof value === 'number') return String(value);
  if (typeof value === 'object') return `an object of class ${value.constructor?.name ?? 'null'}`;
  return value === undefined ? 'undefined' : `a ${typeof value}`;
}

/** Whether a value is an object as `{}` makes one, of any realm: whatever it says is in its own members. */
function isPlain(value) {
  if (value === null || typeof value !== 'object') return false;
  const proto = Object.getPrototypeOf(value);
  return proto === null || (Object.getPrototypeOf(proto) === null && Object.hasOwn(proto, 'isPrototypeOf'));
}

/** The own members of an object, hidden ones (as a secret may be) too, each read once, as pairs of a name and a value. */
function members(value, where) {
  try {
    return Object.getOwnPropertyNames(value).map((name) => [name, value[name]]);
  } catch (cause) {
    throw invalidArgument(`${where} cannot be read`, { cause });
  }
}

/**
 * An options object (or undefined) with no other keys than the known ones. A fresh object of its own members comes back,
 * each read once. Anything but a plain object is refused: a promise whose `await` was forgotten, or a Map, has no members
 * that anybody meant, and would pass for no options at all.
 */
function options(value, known, where) {
  if (value === undefined) return { __proto__: null };
  if (!isPlain(value)) throw invalidArgument(`${where} must be a plain object, got ${kindOf(value)}`);
  const given = members(value, where);
  for (const [key] of given) {
    if (!known.includes(key)) {
      throw invalidArgument(`Unknown option ${JSON.stringify(key)} in ${where}`, {
        hint: `Known options: ${known.join(', ')}`,
      });
    }
  }
  return Object.assign(Object.create(null), Object.fromEntries(given));
}

/** A string that can be written as UTF-8 and read back as it was. */
function wellFormed(value, where) {
  if (typeof value !== 'string') throw invalidArgument(`${where} must be a string, got ${kindOf(value)}`);
  if (!value.isWellFormed()) throw invalidArgument(`${where} holds a lone surrogate, which UTF-8 cannot store`);
  return value;
}

/** A name, type or tag: well formed, at most 4096 bytes, not empty unless `mayBeEmpty`. Any character is allowed. */
function text(value, where, mayBeEmpty = false) {
  wellFormed(value, where);
  if (value === '' && !mayBeEmpty) throw invalidArgument(`${where} must not be empty`);
  // No code unit takes more than three bytes: short strings need no count.
  if (value.length * 3 > MAX_TEXT_BYTES && Buffer.byteLength(value) > MAX_TEXT_BYTES) {
    throw invalidArgument(`${where} is longer than ${MAX_TEXT_BYTES} bytes`);
  }
  return value;
}

/** A whole number in [min, max]. */
function integer(value, where, min = 0, max = Number.MAX_SAFE_INTEGER) {
  if (!Number.isSafeInteger(value)) throw invalidArgument(`${where} must be a whole number, got ${kindOf(value)}`);
  if (value < min || value > max) throw invalidArgument(`${where} must be from ${min} to ${max}, got ${value}`);
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

/** An AbortSignal, or undefined. */
function signal(value, where) {
  if (value === undefined) return undefined;
  if (typeof value !== 'object' || value === null || typeof value.aborted !== 'boolean' ||
      !['throwIfAborted', 'addEventListener', 'removeEventListener'].every((name) => typeof value[name] === 'function')) {
    throw invalidArgument(`${where} must be an AbortSignal, got ${kindOf(value)}`);
  }
  return value;
}

/** A record of strings to strings. A fresh object comes back, so that later changes by the caller do nothing. */
function tags(value, where) {
  if (!isPlain(value)) throw invalidArgument(`${where} must be a plain object of strings, got ${kindOf(value)}`);
  const entries = members(value, where);
  for (const [key, entry] of entries) {
    text(key, `A key of ${where}`);
    text(entry, `${where}[${JSON.stringify(key)}]`, true);
  }
  return Object.fromEntries(entries);
}

const ISO = /^(\d{4})-(\d{2})-(\d{2})(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:\d{2}))?$/;

/** An ISO 8601 date (midnight UTC) or date and time with zone; comes back as UTC with milliseconds. */
function time(value, where) {
  const match = typeof value === 'string' ? ISO.exec(value) : null;
  const date = match && new Date(value);
  // Date takes 30 February for 1 March or 2: the day must survive the way there and back.
  const day = match && new Date(Date.UTC(+match[1], +match[2] - 1, +match[3])).getUTCDate() === +match[3];
  if (!match || !day || Number.isNaN(date.getTime())) {
    throw invalidArgument(`${where} must be an ISO 8601 date, or date and time with a zone ("2026-11-23T04:00:00Z")`);
  }
  return date.toISOString();
}

/** A path of the local file system. */
function path(value, where) {
  wellFormed(value, where);
  if (value === '') throw invalidArgument(`${where} must not be empty`);
  if (value.includes('\0')) throw invalidArgument(`${where} must not hold a NUL character`);
  return value;
}

/** Bytes: any Uint8Array, and so any Buffer, of any realm. */
const isBytes = types.isUint8Array;

/** Whether an empty view is empty because its memory was transferred away: its bytes are lost, not absent. */
function isDetached(bytes) {
  if (bytes.byteLength !== 0) return false;
  try {
    return new Uint8Array(bytes.buffer) === undefined;
  } catch {
    return true;
  }
}

module.exports = {
  boolean, callback, hexId, integer, isBytes, isDetached, isPlain, kindOf, members, options, path, signal, tags, text, time, wellFormed,
};
