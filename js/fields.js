'use strict';
// From the options of a caller to checked values, by the fields of schema.js.

const check = require('./check.js');
const { invalidArgument } = require('./error.js');
const { Compression, LEVELS } = require('./schema.js');

/** Units that the name of a field does not state. */
const MEASURES = ['bytes', 'KiB', 'milliseconds'];

const quoted = (values) => values.map((value) => `'${value}'`).join(', ');

/** One of a few strings. */
function choice(value, where, { values }) {
  if (values.includes(value)) return value;
  const wanted = values.length === 1 ? quoted(values) : `one of ${quoted(values)}`;
  throw invalidArgument(`${where} must be ${wanted}, got ${check.kindOf(value)}`);
}

/** A number in [min, max], not only a whole one. */
function number(value, where, { min, max }) {
  // written so that NaN is refused
  if (typeof value === 'number' && value >= min && value <= max) return value;
  throw invalidArgument(`${where} must be a number from ${min} to ${max}, got ${check.kindOf(value)}`);
}

/** An object of fields, or null where false is allowed and given. */
function object(value, where, { fields, mayBeFalse }) {
  if (mayBeFalse && value === false) return null;
  return read(check.options(value, fields, where), fields, Object.keys(fields), `${where}.`);
}

/** The level by the data, as the engine and config.json have it. */
const AUTO_LEVEL = 0;

/** An algorithm, or { algorithm, level? }. */
function compression(value, where) {
  const isName = typeof value === 'string';
  const given = isName ? { algorithm: value } : check.options(value, Compression, where);
  const algorithm = choice(given.algorithm, isName ? where : `${where}.algorithm`, Compression.algorithm);
  const byDefault = algorithm === 'none' ? undefined : Compression.level.default;
  if (given.level === undefined) return { algorithm, level: byDefault };
  if (given.level === 'auto' && algorithm === 'zstd') return { algorithm, level: AUTO_LEVEL };
  return { algorithm, level: check.integer(given.level, `${where}.level`, ...LEVELS[algorithm]) };
}

/** The check of each type of field. Other types are checked by the file that takes the option. */
const CHECKS = {
  boolean: check.boolean,
  choice,
  compression,
  id: check.hexId,
  integer: (value, where, { min, max, unit }) => (
    check.integer(value, where, min, max, MEASURES.includes(unit) ? unit : '')),
  number,
  object,
  path: (value, where, { mayBeFalse }) => (mayBeFalse && value === false ? value : check.path(value, where)),
  tags: check.tags,
  text: (value, where) => check.text(value, where),
  time: check.time,
  timeBound: check.timeBound,
};

/**
 * Returns the named options, checked, or their defaults. An option that was not passed and has no
 * default is omitted.
 * @param given what check.options() returned
 * @param fields of schema.js
 * @param {string[]} names which of the fields
 * @param {string} prefix of their names in messages
 */
function read(given, fields, names, prefix = '') {
  const out = {};
  for (const name of names) {
    const field = fields[name];
    if (given[name] !== undefined || field.required) {
      out[name] = CHECKS[field.type](given[name], prefix + name, field);
    } else if (field.default !== undefined) {
      out[name] = field.type === 'compression' ? compression(field.default, name) : field.default;
    }
  }
  return out;
}

module.exports = { choice, read };
