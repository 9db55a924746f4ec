'use strict';
// Numbers, sizes and ages for people.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];

/** A whole number: '10,000'. */
function count(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ',');
}

/** A number and its noun: '1 snapshot', '60 snapshots'. */
function counted(number, noun, plural = `${noun}s`) {
  return `${count(number)} ${number === 1 ? noun : plural}`;
}

/** A size with three digits at most: '34 GiB', '1.2 GiB', '512 B'. */
function size(bytes) {
  let step = 0;
  // 999.5 would be rounded to four digits
  while (bytes / 1024 ** step >= 999.5 && step < UNITS.length - 1) step++;
  const value = bytes / 1024 ** step;
  return `${step === 0 || value >= 9.95 ? Math.round(value) : value.toFixed(1)} ${UNITS[step]}`;
}

/** A ratio: '28×', '1.4×'. */
function times(ratio) {
  return `${ratio >= 9.95 ? count(Math.round(ratio)) : ratio.toFixed(1)}×`;
}

/** A share of 1 in percent: '4.9 %', '62 %'. */
function percent(share) {
  const value = share * 100;
  return `${value === 0 || value >= 9.95 ? Math.round(value) : value.toFixed(1)} %`;
}

const SECOND = 1000;
/** Units of an age, and up to how many of the next smaller unit that one is used. */
const AGES = [
  ['minute', 60 * SECOND, 90 * SECOND],
  ['hour', 3600 * SECOND, 90 * 60 * SECOND],
  ['day', 86_400 * SECOND, 48 * 3600 * SECOND],
  ['month', 30.44 * 86_400 * SECOND, 60 * 86_400 * SECOND],
  ['year', 365.25 * 86_400 * SECOND, 730 * 86_400 * SECOND],
];

/** An age: '3 hours', '45 minutes', '12 days'. */
function age(ms) {
  if (ms < AGES[0][2]) return counted(Math.max(0, Math.round(ms / SECOND)), 'second');
  const [unit, length] = AGES.findLast(([, , from]) => ms >= from);
  return counted(Math.round(ms / length), unit);
}

module.exports = { age, count, counted, percent, size, times };
