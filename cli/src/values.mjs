// Values of options: text of the command line to what the API takes.

import { InvalidArgumentError } from 'commander';

/** 'zstd', 'zstd:7', 'zstd:auto', 'gzip', 'gzip:9', 'none'. */
export function compression(text) {
  const [algorithm, level, ...more] = text.split(':');
  if (!['gzip', 'zstd', 'none'].includes(algorithm) || more.length > 0) {
    throw new InvalidArgumentError('Use zstd, gzip or none, with a level as in zstd:7 or zstd:auto.');
  }
  if (level === undefined) return algorithm;
  const most = LEVELS[algorithm];
  if (most === undefined) throw new InvalidArgumentError('"none" has no level.');
  if (level === 'auto' && algorithm === 'zstd') return { algorithm, level };
  if (!/^\d{1,2}$/.test(level) || Number(level) < 1 || Number(level) > most) {
    throw new InvalidArgumentError(`A level of ${algorithm} is a number from 1 to ${most}${algorithm === 'zstd' ? ', or "auto"' : ''}.`);
  }
  return { algorithm, level: Number(level) };
}

/** The highest level of each algorithm. */
const LEVELS = { gzip: 9, zstd: 19 };

/** A whole number from `least` on, or to `most`. */
export const wholeNumber = (least, most = Number.MAX_SAFE_INTEGER) => (text) => {
  if (!/^\d{1,15}$/.test(text) || Number(text) < least || Number(text) > most) {
    throw new InvalidArgumentError(`Use a whole number from ${least} ${most === Number.MAX_SAFE_INTEGER ? 'on' : `to ${most}`}.`);
  }
  return Number(text);
};

/** One of several parts: 'n/t', the n-th of t. */
export function part(text) {
  const [, number, total] = /^(\d{1,9})\/(\d{1,9})$/.exec(text) ?? [];
  if (number === undefined || Number(number) < 1 || Number(number) > Number(total)) {
    throw new InvalidArgumentError('Use N/T, the n-th of t parts, as 1/30.');
  }
  return text;
}

/** How many snapshots a rule keeps: a number, or 'all' (restic: 'unlimited'). */
export function keepCount(text) {
  return text === 'all' || text === 'unlimited' ? 'all' : wholeNumber(0)(text);
}

/** A percentage as a share from 0 to 1: '5', '5%'. */
export function share(text) {
  const [, number] = /^(\d{1,3}(?:\.\d+)?) ?%?$/.exec(text) ?? [];
  if (number === undefined || Number(number) > 100) throw new InvalidArgumentError('Use a percentage, as 5%.');
  return Number(number) / 100;
}

/** A time of the command line; without a zone it is local. */
export function time(text) {
  const date = new Date(/^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T00:00:00` : text.replace(' ', 'T'));
  const [, year, month, day] = /^(\d{4})-(\d{2})-(\d{2})/.exec(text) ?? [];
  // Date turns 31 February into 3 March
  const isDay = day !== undefined && new Date(Date.UTC(year, month - 1, day)).getUTCDate() === Number(day);
  if (!isDay || Number.isNaN(date.getTime())) {
    throw new InvalidArgumentError('Use a time as "2026-11-30" or "2026-11-30 14:05:00".');
  }
  return date.toISOString();
}

/** A duration such as '36h' or '7d', in milliseconds. */
export function span(text) {
  const [, number, unit] = /^(\d{1,6})([smhdw])$/.exec(text) ?? [];
  if (number === undefined) throw new InvalidArgumentError('Use a duration as 90m, 36h, 7d or 2w.');
  return Number(number) * 1000 * { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 }[unit];
}

/** Collects an option that may be given more than once. */
export const list = (text, before = []) => [...before, text];

/** Collects tags: 'KEY=VALUE', or 'KEY' for an empty value. */
export function tags(text, before = {}) {
  const at = text.indexOf('=');
  const key = at < 0 ? text : text.slice(0, at);
  if (key === '') throw new InvalidArgumentError('Use KEY=VALUE.');
  if (Object.hasOwn(before, key)) throw new InvalidArgumentError(`The tag ${key} is given twice.`);
  return { ...before, [key]: at < 0 ? '' : text.slice(at + 1) };
}

/**
 * Collects the maps of --keep-tag: 'KEY=VALUE,KEY2=VALUE2'; a snapshot needs all tags of one map.
 */
export function tagMaps(text, before = []) {
  return [...before, text.split(',').reduce((map, one) => tags(one.includes('=') ? one : `${one}=*`, map), {})];
}
