'use strict';
// A retention policy, checked before it crosses: a typo in one must never delete data.
//
// What always holds: what crosses has only known keys, each of the right kind, read once. Whether durations, zones and the
// whole make sense is decided on the native side, before it reads anything. Every refusal is ERR_INVALID_POLICY.

const check = require('./check.js');
const { ContainerArchiveError } = require('./error.js');

const COUNTS = ['keepLast', 'keepHours', 'keepDays', 'keepWeeks', 'keepMonths', 'keepYears'];
/** What the native side reads counts into. */
const MAX_COUNT = 2 ** 32 - 1;
const WHOLE_ID = /^[0-9a-f]{32}$/;

function invalidPolicy(message, hint, cause) {
  return new ContainerArchiveError(message, { code: 'ERR_INVALID_POLICY', hint, cause });
}

/** A check of check.js, whose refusals are about a policy here. */
function checked(fn, ...args) {
  try {
    return fn(...args);
  } catch (error) {
    throw invalidPolicy(error.message, error.hint, error.cause);
  }
}

/** 'all', or how many: 0 turns the rule off. */
function count(value, key) {
  if (value === 'all') return value;
  if (typeof value !== 'number') {
    throw invalidPolicy(`${key} must be a whole number or 'all', got ${check.kindOf(value)}`);
  }
  return checked(check.integer, value, key, 0, MAX_COUNT);
}

/** A list, every entry of which passes. */
function list(value, key, entry) {
  return checked(check.array, value, key).map((one, i) => entry(one, `${key}[${i}]`));
}

/** Snapshots are removed by what stands here: only an id that can name no other one. */
function wholeId(value, where) {
  if (typeof value !== 'string' || !WHOLE_ID.test(value)) {
    throw invalidPolicy(`${where} must be a whole snapshot id of 32 lower-case hex digits`);
  }
  return value;
}

function anchor(value, key) {
  if (value !== 'latest' && value !== 'now') throw invalidPolicy(`${key} must be 'latest' or 'now'`);
  return value;
}

const string = (value, where) => checked(check.wellFormed, value, where);
const CHECKS = {
  ...Object.fromEntries(COUNTS.map((key) => [key, count])),
  keepWithin: string,
  keepTags: (value, key) => list(value, key, (one, where) => checked(check.tags, one, where)),
  keepIds: (value, key) => list(value, key, wholeId),
  groupBy: (value, key) => list(value, key, (one, where) => checked(check.text, one, where)),
  timeZone: string,
  dayStartsAt: string,
  anchor,
};

/** The policy as JSON. */
function policy(value) {
  const where = 'The retention policy';
  if (!checked(check.reading, where, () => check.isPlain(value))) {
    throw invalidPolicy(`${where} must be a plain object, got ${check.kindOf(value)}`);
  }
  const out = {};
  for (const [key, entry] of checked(check.members, value, where)) {
    if (!Object.hasOwn(CHECKS, key)) {
      throw invalidPolicy(`Unknown key ${JSON.stringify(key)} in the retention policy`, `Known keys: ${Object.keys(CHECKS).join(', ')}`);
    }
    if (entry !== undefined) out[key] = CHECKS[key](entry, key);
  }
  return JSON.stringify(out);
}

module.exports = { policy };
