'use strict';
// Growth and deduplication over time: four small charts with one time axis, and the same as a
// table.
//
// Snapshots are summed up by day, week, month or years, so that the size of the page does not
// depend on their number.

const { dateOf, dayOf, monthName, monthOf, shortDate } = require('./dates.js');
const { count, counted, percent, size } = require('./figures.js');
const { html } = require('./markup.js');
const { table } = require('./table.js');

/** Periods in a chart at most, for years; days, weeks and months have limits of their own. */
const MOST = 60;

/** How days are numbered by period, and the first day and the name of a period. */
const day = { name: 'day', of: (number) => number, first: (n) => n, label: shortDate };
const week = {
  name: 'week',
  // 29 December 1969 was a Monday
  of: (number) => Math.floor((number + 3) / 7),
  first: (n) => n * 7 - 3,
  label: (first) => `week of ${shortDate(first)}`,
};
const month = {
  name: 'month',
  of: (number) => monthOf(dateOf(number)),
  first: (n) => dayOf(0, n),
  label: (first) => monthName(monthOf(dateOf(first))),
};
const years = (each) => ({
  name: each === 1 ? 'year' : `${each} years`,
  of: (number) => Math.floor(dateOf(number).year / each),
  first: (n) => dayOf(n * each, 0),
  label: (first) => [dateOf(first).year, dateOf(first).year + each - 1].slice(0, each).join(' to '),
});

/** The shortest period of which few fit between two days. */
function periodFor(first, last) {
  const fits = (period, most) => period.of(last) - period.of(first) < most;
  if (fits(day, 35)) return day;
  if (fits(week, 54)) return week;
  if (fits(month, MOST)) return month;
  return years(Math.ceil((dateOf(last).year - dateOf(first).year + 1) / MOST));
}

/** The sums of each period, empty ones included, and the sums up to its end. */
function periodsOf(snapshots, zone) {
  const days = snapshots.map(({ at }) => zone.day(at));
  // a change of the clock may swap two snapshots around midnight
  const [first, last] = [Math.min(days[0], days.at(-1)), Math.max(days[0], days.at(-1))];
  const period = periodFor(first, last);
  const from = period.of(first);
  const none = { snapshots: 0, original: 0, stored: 0, chunks: 0, newChunks: 0 };
  const labelOf = (i) => period.label(period.first(from + i));
  const length = period.of(last) - from + 1;
  const periods = Array.from({ length }, (_, i) => ({ label: labelOf(i), ...none }));
  for (const [i, { originalSize, storedSize, chunkCount, newChunks }] of snapshots.entries()) {
    const sums = periods[Math.min(Math.max(period.of(days[i]) - from, 0), length - 1)];
    sums.snapshots++;
    sums.original += originalSize;
    sums.stored += storedSize;
    sums.chunks += chunkCount;
    sums.newChunks += newChunks;
  }
  let [original, stored] = [0, 0];
  for (const sums of periods) {
    sums.allOriginal = original += sums.original;
    sums.allStored = stored += sums.stored;
  }
  return { period, periods, axis: [shortDate(first), shortDate(last)] };
}

const WIDTH = 400;
const HEIGHT = 128;
const TOP = 16;
const BASE = HEIGHT - 18;

/** The smallest round size that is not below a number of bytes. */
function roundSize(bytes) {
  if (bytes <= 0) return 1;
  const unit = 1024 ** Math.min(5, Math.floor(Math.log2(bytes) / 10));
  const power = 10 ** Math.floor(Math.log10(bytes / unit));
  return [1, 1.5, 2, 3, 4, 5, 6, 8, 10].map((step) => step * power * unit).find((round) => round >= bytes) ?? bytes;
}

const at = (number) => Number(number.toFixed(1));

/**
 * A chart in which each period has a value.
 * @param axis the names of both ends of the time axis
 * @param value returns that of a period
 * @param top the value at the upper edge, and `write` how it is written
 * @param tip returns the tooltip of a period
 * @param draw returns the drawing of [left, right, y, value] for each period
 */
function chart({ title, summary, periods, axis, value, top, write, tip, draw }) {
  const step = WIDTH / periods.length;
  const y = (number) => at(BASE - (BASE - TOP) * Math.min(1, number / top));
  const points = periods.map((sums, i) => [i * step, (i + 1) * step, y(value(sums)), value(sums)]);
  const columns = periods.map((sums, i) => html`<rect class="hover" x="${at(i * step)}" y="0" width="${
    at(step)}" height="${BASE}"><title>${sums.label}: ${tip(sums)}</title></rect>\n`);
  return html`<figure class="chart"><figcaption><strong>${title}</strong> <span>${summary}</span></figcaption>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${title}, ${axis[0]} to ${axis[1]}: ${summary}">
<path class="grid" d="M0 ${TOP}h${WIDTH}M0 ${(TOP + BASE) / 2}h${WIDTH}"/>
<text class="axis" x="0" y="${TOP - 5}">${write(top)}</text>
${draw(points)}<path class="base" d="M0 ${BASE}h${WIDTH}"/>
<text class="axis" x="0" y="${HEIGHT - 4}">${axis[0]}</text>
<text class="axis end" x="${WIDTH}" y="${HEIGHT - 4}">${axis[1]}</text>
${columns}</svg></figure>
`;
}

/** A line with steps, and the area below it. */
function area(points) {
  const line = points.map(([left, right, y], i) => `${i === 0 ? `M${at(left)} ${y}` : `V${y}`}H${at(right)}`).join('');
  return html`<path class="area" d="${line}V${BASE}H0z"/><path class="line" d="${line}"/>`;
}

/** A bar for each value that is not 0. */
function bars(points) {
  const gap = Math.min(2, (points[0][1] - points[0][0]) / 4);
  const bar = ([left, right, y]) => {
    // also a small value can be seen
    const top = Math.min(y, BASE - 1);
    return `M${at(left + gap / 2)} ${BASE}V${top}H${at(Math.min(right - gap / 2, left + 30))}V${BASE}z`;
  };
  return html`<path class="bar" d="${points.filter(([, , , value]) => value > 0).map(bar).join('')}"/>`;
}

const newShare = ({ newChunks, chunks }) => (chunks === 0 ? 0 : newChunks / chunks);

function asTable({ period, periods }) {
  const row = (sums) => [
    sums.label, count(sums.snapshots), size(sums.original), size(sums.stored), count(sums.newChunks),
    percent(newShare(sums)), size(sums.allOriginal), size(sums.allStored),
  ];
  const numbers = ['Snapshots', 'Backed up', 'Stored', 'New chunks', 'of all', 'Backed up so far', 'Stored so far'];
  return html`<details><summary>The same as a table, by ${period.name}</summary>
${table({
    kind: 'periods',
    columns: [['Period'], ...numbers.map((title) => [title, 'n'])],
    rows: periods.filter(({ snapshots }) => snapshots > 0).map(row),
  })}</details>`;
}

/** The charts of what grows with each snapshot. */
function cumulative(name, value, shared) {
  const last = shared.periods.at(-1);
  const tip = (sums) => `${size(value(sums))} so far`;
  const top = roundSize(value(last));
  return chart({ ...shared, title: name, summary: tip(last), value, top, write: size, tip, draw: area });
}

function storedEach({ name }, shared) {
  const value = ({ stored }) => stored;
  const most = Math.max(...shared.periods.map(value));
  const tip = ({ snapshots, original, stored }) => (
    `${counted(snapshots, 'snapshot')}, ${size(original)} backed up, ${size(stored)} stored`);
  const [title, summary, top] = [`Stored, by ${name}`, `${size(most)} at most`, roundSize(most)];
  return chart({ ...shared, title, summary, value, top, write: size, tip, draw: bars });
}

function newOnes(shared) {
  const sum = (name) => shared.periods.reduce((all, sums) => all + sums[name], 0);
  const share = newShare({ chunks: sum('chunks'), newChunks: sum('newChunks') });
  const tip = ({ newChunks, chunks }) => `${count(newChunks)} of ${counted(chunks, 'chunk')} new`;
  const summary = `${percent(share)} of all${share < 1 ? '; the others were deduplicated' : ''}`;
  return chart({ ...shared, title: 'New chunks', summary, value: newShare, top: 1, write: percent, tip, draw: bars });
}

/** The section about growth; of fewer than two snapshots there is none to show. */
function growth(snapshots, zone) {
  const present = snapshots.filter(({ isFuture }) => !isFuture);
  if (present.length < 2) return html`<p>Growth is shown from the second snapshot on.</p>`;
  const sums = periodsOf(present, zone);
  const { period, periods, axis } = sums;
  const shared = { periods, axis };
  return html`<div class="charts">
${cumulative('Backed up', ({ allOriginal }) => allOriginal, shared)}${
    cumulative('Stored', ({ allStored }) => allStored, shared)}${storedEach(period, shared)}${newOnes(shared)}</div>
<p class="fine">From the figures of the snapshots that are listed: chunks as stored, without parity and indexes. What
removed snapshots had stored is not in them.</p>
${asTable(sums)}`;
}

module.exports = { growth };
