'use strict';
// The snapshots on a calendar: the last twelve months by day, earlier ones by month.
//
// The shade of a day is how long the policy keeps something of it. Its tooltip has the times and
// the reasons, and the list of snapshots has them as text.

const { MONTHS, WEEKDAYS, dateOf, dayOf, longDate, monthName, monthOf } = require('./dates.js');
const { count, counted } = require('./figures.js');
const { html } = require('./markup.js');
const { brief } = require('./retention.js');
const { table } = require('./table.js');

/** Months that are shown by day. */
const SHOWN_MONTHS = 12;
/** Years that are shown by month. */
const SHOWN_YEARS = 30;
/** Snapshots that the tooltip of a day names. */
const NAMED = 6;

/** Width of a day, and of the space around it, in units of the drawing. */
const CELL = 24;
const HEAD = 14;

/** The snapshots of each day: Map of day to array. */
function byDay(snapshots, zone) {
  const days = new Map();
  for (const snapshot of snapshots) {
    const day = zone.day(snapshot.at);
    if (!days.has(day)) days.set(day, []);
    days.get(day).push(snapshot);
  }
  return days;
}

/** How a day is drawn: by what is kept of it. */
function kindOf(snapshots, verdicts) {
  const known = snapshots.map(({ id }) => verdicts.get(id)).filter((verdict) => verdict !== undefined);
  return known.length === 0 ? 'plain' : `keep${Math.max(...known.map(({ term }) => term))}`;
}

function tooltip(day, snapshots, { verdicts, zone, affected }) {
  const lines = snapshots.slice(-NAMED).reverse().map(({ id, at }) => {
    const verdict = verdicts.get(id);
    const kept = verdict?.reasons.length > 0 && ` kept: ${verdict.reasons.map(brief).join(', ')}`;
    const why = kept || (verdict && ' removed by a prune');
    return html`\n${zone.time(at).slice(-5)}${why}${affected.has(id) && ' (damaged)'}`;
  });
  const more = snapshots.length > NAMED && html`\nand ${count(snapshots.length - NAMED)} more`;
  return html`<title>${longDate(day)}: ${counted(snapshots.length, 'snapshot')}${lines}${more}</title>`;
}

/** Two or three dots for as many snapshots, a line for more. */
function amount(number, x, y) {
  if (number < 2) return null;
  const first = x - (number - 1) * 2;
  const dots = Array.from({ length: Math.min(number, 3) }, (_, i) => `M${first + 4 * i} ${y}h0`);
  return html`<path class="dots" d="${number > 3 ? `M${x - 5} ${y}h10` : dots.join('')}"/>`;
}

/** A square around the centre of a day. */
function square(x, y, half, className) {
  const side = 2 * half;
  const kind = className && html` class="${className}"`;
  return html`<rect${kind} x="${x - half}" y="${y - half}" width="${side}" height="${side}" rx="4.5"/>`;
}

/** One day, whose centre is at x and y. */
function cell(day, x, y, snapshots, context) {
  const today = day === context.today && square(x, y, 11, 'today');
  const number = html`<text x="${x}" y="${y + 3.5}">${dateOf(day).day}</text>`;
  if (snapshots === undefined) return html`<g class="${day > context.today ? 'later' : 'none'}">${today}${number}</g>`;
  const isHit = snapshots.some(({ id }) => context.affected.has(id));
  const hit = isHit && square(x, y, 10.5, 'hit');
  const marks = [square(x, y, 10.5), today, hit, number, amount(snapshots.length, x, y + 7)];
  return html`<g class="${kindOf(snapshots, context.verdicts)}">${tooltip(day, snapshots, context)}${marks}</g>`;
}

/** One month: a grid of days from Monday to Sunday. */
function monthGrid(month, days, context) {
  const first = dayOf(0, month);
  const length = dayOf(0, month + 1) - first;
  const { weekday } = dateOf(first);
  const cells = Array.from({ length }, (_, i) => {
    const x = ((weekday + i) % 7) * CELL + CELL / 2;
    const y = Math.floor((weekday + i) / 7) * CELL + CELL / 2 + HEAD;
    return cell(first + i, x, y, days.get(first + i), context);
  });
  const used = Array.from({ length }, (_, i) => days.get(first + i)).filter((snapshots) => snapshots !== undefined);
  const label = `${monthName(month)}: ${counted(used.flat().length, 'snapshot')} on ${counted(used.length, 'day')}`;
  const height = Math.ceil((weekday + length) / 7) * CELL + HEAD;
  const names = WEEKDAYS.map((name, i) => (
    html`<text class="weekday" x="${i * CELL + CELL / 2}" y="9">${name.slice(0, 1)}</text>`));
  return html`<figure class="month"><figcaption>${monthName(month)}</figcaption>
<svg viewBox="0 0 ${7 * CELL} ${height}" role="img" aria-label="${label}">${names}
${cells}</svg></figure>
`;
}

/** Years before the months that are shown by day: snapshots of each month. */
function earlier(days, before) {
  const years = new Map();
  for (const [day, snapshots] of days) {
    const date = dateOf(day);
    if (monthOf(date) >= before) continue;
    if (!years.has(date.year)) years.set(date.year, new Array(12).fill(0));
    years.get(date.year)[date.month] += snapshots.length;
  }
  if (years.size === 0) return null;
  const shown = [...years].sort(([one], [other]) => other - one);
  const rest = shown.splice(SHOWN_YEARS).flatMap(([, months]) => months).reduce((sum, number) => sum + number, 0);
  return [
    table({
      kind: 'years',
      caption: 'Snapshots of earlier months',
      columns: [['Year'], ...MONTHS.map((name) => [html`<abbr title="${name}">${name.slice(0, 1)}</abbr>`])],
      rows: shown.map(([year, months]) => [year, ...months.map((number) => (
        number > 0 && html`<span class="some">${count(number)}</span>`))]),
    }),
    rest > 0 && html`<p class="fine">${counted(rest, 'snapshot')} before that.</p>`,
  ];
}

const LEGEND = [
  ['keep3', 'kept by months, years, tags or ids'], ['keep2', 'by weeks'], ['keep1', 'by last, within, hours or days'],
  ['keep0', 'removed by the next prune'],
];

function legend(verdicts, affected) {
  const entry = (mark, text) => (
    html`<li><svg viewBox="0 0 24 24" class="key" aria-hidden="true">${mark}</svg> ${text}</li>\n`);
  const entries = verdicts.size > 0 ? LEGEND : [['plain', 'a day with snapshots']];
  const hit = affected.size > 0 && entry(square(12, 12, 10, 'hit'), 'damaged');
  return html`<ul class="legend">
${entries.map(([kind, text]) => entry(html`<g class="${kind}">${square(12, 12, 10)}</g>`, text))}${hit}</ul>`;
}

/**
 * The calendar.
 * @param snapshots oldest first
 * @param context { now, zone, verdicts, affected }: `affected` are ids of damaged snapshots
 */
function calendar(snapshots, context) {
  const { zone, now } = context;
  const present = snapshots.filter(({ isFuture }) => !isFuture);
  const later = snapshots.length - present.length;
  const note = later > 0 && html`<p class="warn">${counted(later, 'snapshot is', 'snapshots are')
  } dated in the future and not on the calendar: check the clock of the machine that made them.</p>`;
  if (present.length === 0) return note;
  const days = byDay(present, zone);
  const today = zone.day(now);
  const ends = [zone.day(present[0].at), zone.day(present.at(-1).at), today];
  const [oldest, newest, current] = ends.map((day) => monthOf(dateOf(day)));
  // a backup that stopped is seen by the empty months after it, unless that was long ago
  const end = current - newest < SHOWN_MONTHS ? Math.max(current, newest) : newest;
  const start = Math.max(oldest, end - SHOWN_MONTHS + 1);
  const months = Array.from({ length: end - start + 1 }, (_, i) => start + i);
  return html`${legend(context.verdicts, context.affected)}
<div class="months">
${months.map((month) => monthGrid(month, days, { ...context, today }))}</div>
${earlier(days, start)}${note}`;
}

module.exports = { calendar };
