'use strict';
// The list of snapshots: the newest one by one, all earlier ones summed up by month.

const { dateOf, monthName, monthOf } = require('./dates.js');
const { count, counted, percent, size } = require('./figures.js');
const { foreign, html, joined } = require('./markup.js');
const { brief } = require('./retention.js');
const { table } = require('./table.js');

/** Snapshots that are listed one by one. */
const LISTED = 200;
/** Months in the table of earlier ones. */
const MONTHS_LISTED = 120;
const ITEMS = 3;
const TAGS = 4;

/** Shortest beginning of an id: at least 4 digits are needed to restore by it. */
const ID_DIGITS = 8;

/** A function that shortens ids so that no two of these have the same beginning. */
function shortener(snapshots) {
  const ids = snapshots.map(({ id }) => id).sort();
  let digits = ID_DIGITS;
  for (let i = 1; i < ids.length; i++) while (digits < 32 && ids[i].startsWith(ids[i - 1].slice(0, digits))) digits++;
  return (id) => id.slice(0, digits);
}

const more = (number) => number > 0 && html` <span class="more">and ${count(number)} more</span>`;

function contents({ items, tags }) {
  const label = ([key, value]) => html`<li>${foreign(value === '' ? key : `${key}=${value}`, 60)}</li>`;
  const rest = tags.length > TAGS && html`<li>and ${count(tags.length - TAGS)} more</li>`;
  const labels = tags.length > 0 && html`<ul class="tags">${tags.slice(0, TAGS).map(label)}${rest}</ul>`;
  const names = joined(items.slice(0, ITEMS).map(({ name }) => foreign(name)), ', ');
  return [names, more(items.length - ITEMS), labels];
}

function decision(verdict) {
  if (verdict === undefined) return 'not known';
  if (verdict.reasons.length === 0) return html`<span class="goes">removed by a prune</span>`;
  // a line may end between two reasons only
  return verdict.reasons.map((reason) => brief(reason).replaceAll(' ', '\u00a0')).join(', ');
}

/** Time and id, and what is unusual. */
function heading({ id, at, isFuture }, { affected, zone, shortId }) {
  return html`<time datetime="${new Date(at).toISOString()}">${zone.time(at)}</time><br/><code>${shortId(id)}</code>${
    affected.has(id) && html` <strong class="bad">damaged</strong>`}${
    isFuture && html` <strong class="warn">in the future</strong>`}`;
}

/** The roles keep the meaning of a table where the style shows its rows as cards. */
function row(snapshot, context) {
  const { id, originalSize, storedSize, chunkCount, newChunks } = snapshot;
  const share = percent(chunkCount === 0 ? 0 : newChunks / chunkCount);
  const kept = context.hasPolicy && html`<td role="cell">${decision(context.verdicts.get(id))}</td>`;
  return html`<tr role="row"><th role="rowheader" scope="row">${heading(snapshot, context)}</th><td role="cell">${
    contents(snapshot)}</td><td role="cell" class="n"><span class="label">size </span>${
    size(originalSize)}</td><td role="cell" class="n"><span class="label">added </span>${
    size(storedSize)}<br/><span class="fine">${share} new</span></td>${kept}</tr>
`;
}

/** Earlier snapshots, summed up by month. */
function earlier(snapshots, { verdicts, zone, hasPolicy }) {
  if (snapshots.length === 0) return null;
  const months = new Map();
  for (const { id, at, originalSize, storedSize } of snapshots) {
    const month = monthOf(dateOf(zone.day(at)));
    if (!months.has(month)) months.set(month, { number: 0, kept: 0, original: 0, stored: 0 });
    const sums = months.get(month);
    sums.number++;
    sums.kept += verdicts.get(id)?.reasons.length > 0;
    sums.original += originalSize;
    sums.stored += storedSize;
  }
  const all = [...months].sort(([one], [other]) => other - one);
  const line = ([month, { number, kept, original, stored }]) => (
    [monthName(month), count(number), count(kept), size(original), size(stored)]);
  const rest = all.length - MONTHS_LISTED;
  return html`<h3>${counted(snapshots.length, 'earlier snapshot')}, by month</h3>
${table({
    kind: 'earlier',
    columns: [['Month'], ['Snapshots', 'n'], hasPolicy && ['Kept', 'n'], ['Size', 'n'], ['Added', 'n']],
    rows: all.slice(0, MONTHS_LISTED).map(line),
  })}${rest > 0 && html`<p class="fine">And ${count(rest)} earlier months.</p>`}`;
}

/**
 * The list.
 * @param snapshots oldest first
 * @param context { zone, verdicts, affected, shortId, hasPolicy }
 */
function list(snapshots, context) {
  const newest = snapshots.slice(-LISTED).reverse();
  const titles = [['Time, id'], ['Items, tags'], ['Size', 'n'], ['Added', 'n'], context.hasPolicy && ['Kept by']];
  const head = titles.filter(Boolean).map(([title, kind]) => (
    html`<th role="columnheader" scope="col"${kind && html` class="${kind}"`}>${title}</th>`));
  return html`<table class="snapshots" role="table"><thead role="rowgroup"><tr role="row">${head}</tr></thead>
<tbody role="rowgroup">
${newest.map((snapshot) => row(snapshot, context))}</tbody></table>
${earlier(snapshots.slice(0, -LISTED), context)}`;
}

module.exports = { list, shortener };
