'use strict';
// The health of a repository: what a quick verify found now, and what parity can repair.
//
// A file that could not be read is listed apart from damage: nothing is known about its bytes.

const { count, counted, percent, size, times } = require('./figures.js');
const { failure, foreign, html, joined } = require('./markup.js');
const { table } = require('./table.js');

/** Problems that are listed one by one. */
const LISTED = 50;
/** Ids and items that are named for each of them. */
const IDS = 6;
const ITEMS = 4;
/** The code of a failed read, which is no damage. */
const UNREADABLE = 'ERR_UNREADABLE';
/** The directory of manifests: a listing leaves out those that are damaged or missing. */
const MANIFESTS = 'snapshots/';

/**
 * The problems by what they mean: { damaged, unreadable, lost, healable, affected, unchecked }, of
 * which `affected` are the ids of snapshots, and `unchecked` is why there was no verify.
 */
function diagnose({ value, problem: unchecked }) {
  const errors = value?.errors ?? [];
  const damaged = errors.filter(({ code }) => code !== UNREADABLE);
  return {
    damaged,
    unreadable: errors.filter(({ code }) => code === UNREADABLE),
    lost: damaged.filter(({ path }) => path?.startsWith(MANIFESTS)),
    healable: damaged.filter(({ healable }) => healable).length,
    affected: new Set(damaged.flatMap(({ snapshots }) => snapshots)),
    unchecked,
  };
}

/** The state of the repository in a few words: { kind, text }. */
function verdict({ damaged, unreadable, healable, unchecked }) {
  if (unchecked) return { kind: 'warn', text: 'Not known' };
  if (damaged.length > 0) {
    const all = healable === damaged.length;
    const repair = healable === 0 ? 'none can be repaired' : `${all ? 'all' : count(healable)} can be repaired`;
    return { kind: 'bad', text: `${counted(damaged.length, 'problem')} found, ${repair}` };
  }
  if (unreadable.length > 0) return { kind: 'warn', text: `${counted(unreadable.length, 'file')} could not be read` };
  return { kind: 'good', text: 'No damage found' };
}

/** How many there are of each code, as pairs, and the message of the first. */
function byCode(all) {
  const codes = new Map();
  for (const each of all) {
    const { number, first } = codes.get(each.code) ?? { number: 0, first: each };
    codes.set(each.code, { number: number + 1, first });
  }
  return [...codes];
}

/** The ids of snapshots, in short. */
function idsOf(ids, shortId) {
  if (ids.length === 0) return '–';
  const shown = joined(ids.slice(0, IDS).map((id) => html`<code>${shortId(id)}</code>`), ' ');
  return [shown, ids.length > IDS && ` and ${count(ids.length - IDS)} more`];
}

/** What a problem is about. */
function subject({ code, error, pack, path, items }) {
  const file = path ?? pack;
  const names = joined(items.slice(0, ITEMS).map(({ item }) => foreign(item, 40)), ', ');
  const rest = items.length - ITEMS;
  return html`<code>${code}</code><br/>${foreign(error, 300)}${file && html`<br/><code>${foreign(file, 120)}</code>`}${
    items.length > 0 && html`<br/>Items: ${names}`}${rest > 0 && ` and ${count(rest)} more`}`;
}

function problems(title, errors, shortId) {
  if (errors.length === 0) return null;
  const codes = byCode(errors).map(([code, { number }]) => html`<code>${code}</code> ${count(number)}`);
  const row = (error) => html`<tr><td>${subject(error)}</td><td>${idsOf(error.snapshots, shortId)}</td><td>${
    error.healable ? 'yes' : 'no'}</td></tr>\n`;
  const more = errors.length - LISTED;
  return html`<h3>${title}</h3>
<p>${joined(codes, ', ')}</p>
<table class="problems"><thead>
<tr><th scope="col">Problem</th><th scope="col">Snapshots</th><th scope="col">Repairable</th></tr></thead>
<tbody>
${errors.slice(0, LISTED).map(row)}</tbody></table>
${more > 0 && html`<p class="fine">And ${count(more)} more: <code>verify()</code> returns all of them.</p>`}`;
}

function notes(all) {
  if (all.length === 0) return null;
  const entry = ([code, { number, first }]) => (
    html`<li><code>${code}</code> ${count(number)}: ${foreign(first.message, 300)}</li>\n`);
  const summary = `${counted(all.length, 'note')}: leftovers and the work of other processes, which are no damage`;
  return html`<details><summary>${summary}</summary>
<ul>
${byCode(all).map(entry)}</ul></details>`;
}

/** What to do about the problems. */
function advice({ damaged, unreadable, healable }) {
  const repair = healable > 0 ? 'rebuilds what can be repaired' : 'keeps what is intact and lists what is lost';
  return [
    unreadable.length > 0 && html`<p>A failed read is no statement about the bytes of a file. Check the disk or the
server, and verify again.</p>`,
    damaged.length > 0 && html`<p><code>repair()</code> ${repair}; it deletes nothing. Make sure first that the disk
is not failing.</p>`,
  ];
}

function parityText({ value }) {
  if (!value) return null;
  if (value.parity === null) return html`<p>The repository has no parity: what is damaged cannot be rebuilt.</p>`;
  const { data, parity, groups, bytes, ratio } = value.parity;
  const share = ratio !== null && `, ${percent(ratio)} of the size of the packs`;
  return html`<p>Parity: ${counted(groups, 'group')} of up to ${counted(data, 'pack')}. In each group, ${
    parity === 1 ? 'one pack' : `${parity} packs`} may be lost. It takes ${size(bytes)}${share}.</p>`;
}

function keysText({ value, problem }, stats) {
  if (problem) return failure('The keys could not be listed', problem);
  if (value.length === 0 && stats.problem) return html`<p>Whether the repository is encrypted is not known.</p>`;
  if (!isEncrypted(value, stats)) return html`<p>The repository is not encrypted.</p>`;
  if (value.length === 0) {
    return html`<p class="bad">The repository is encrypted, and none of its key files is intact.</p>`;
  }
  const raw = value.filter(({ type }) => type === 'raw').length;
  const kinds = [[value.length - raw, 'passphrase'], [raw, 'raw key']].filter(([number]) => number > 0);
  const opens = kinds.map(([number, noun]) => counted(number, noun)).join(' and ');
  const each = value.length === 1 ? 'It opens with' : 'Each of these opens it:';
  return html`<p>The repository is encrypted. ${each} ${opens}.</p>`;
}

/** Whether a repository is encrypted: by its keys, also when none of them is intact. */
function isEncrypted(keys, stats) {
  return keys.length > 0 || stats.value?.bytes.keys > 0;
}

/** The section about health. */
function health({ verify, stats, keys }, diagnosis, zone, shortId) {
  if (verify.problem) {
    return html`${failure('The repository could not be checked', verify.problem)}
<p>Tried on ${zone.longTime(verify.at)} with <code>verify({ level: 'quick' })</code>.</p>
${parityText(stats)}${keysText(keys, stats)}`;
  }
  const { packsChecked, chunksChecked, snapshotsChecked } = verify.value.stats;
  return html`<p>Checked on ${zone.longTime(verify.at)} with <code>verify({ level: 'quick' })</code>: the index with ${
    counted(chunksChecked, 'chunk')}, names and lengths of ${counted(packsChecked, 'pack')}, ${
    counted(snapshotsChecked, 'snapshot')}, parity and keys. The contents of packs were not read;
<code>verify({ level: 'full' })</code> does that. The repository does not record when it was verified before.</p>
${problems('Damaged or missing', diagnosis.damaged, shortId)}${problems('Not readable', diagnosis.unreadable, shortId)}
${advice(diagnosis)}${parityText(stats)}${keysText(keys, stats)}${notes(verify.value.notes)}`;
}

const KINDS = [
  ['dataPacks', 'Data'], ['metaPacks', 'Lists and copies of manifests'], ['parity', 'Parity'],
  ['packIndexes', 'Indexes of packs'], ['index', 'Global index'], ['snapshots', 'Manifests'], ['keys', 'Keys'],
  ['quarantine', 'Quarantine'], ['other', 'Locks, records, reserve'],
];

function bar(share) {
  const width = Math.max(0.5, share * 100).toFixed(1);
  return html`<svg viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true"><rect class="bar" width="${
    width}" height="6"/></svg>`;
}

/** The space that each kind of file takes. */
function space({ value, problem }) {
  if (problem) return failure('The space could not be counted', problem);
  const { bytes, packs, chunks, uniqueBytes, storedBytes, dedupRatio, compressionRatio } = value;
  const ratio = (number) => (number === null ? '–' : times(number));
  const used = KINDS.filter(([kind]) => bytes[kind] > 0).sort(([one], [other]) => bytes[other] - bytes[one]);
  return html`<p>${counted(chunks, 'chunk')} in ${counted(packs, 'pack')}: ${size(uniqueBytes)}, stored in ${
    size(storedBytes)}. Deduplication ${ratio(dedupRatio)}, compression ${ratio(compressionRatio)}.</p>
${table({
    kind: 'space',
    caption: `${size(bytes.total)} on disk`,
    columns: [['Files'], ['Size', 'n'], ['Share', 'meter']],
    rows: used.map(([kind, name]) => [name, size(bytes[kind]), bar(bytes[kind] / bytes.total)]),
  })}`;
}

module.exports = { diagnose, health, isEncrypted, space, verdict };
