'use strict';
// The page: first what an operator must know, then the calendar, growth, health, space and the
// list.
//
// It is one file without scripts, and its policy (Content-Security-Policy) lets it load nothing.

const { setImmediate: nextTurn } = require('node:timers/promises');
const { calendar } = require('./calendar.js');
const { Zone } = require('./dates.js');
const { age, count, counted, size, times } = require('./figures.js');
const { growth } = require('./growth.js');
const { diagnose, health, isEncrypted, space, verdict } = require('./health.js');
const { list, shortener } = require('./list.js');
const { Markup, failure, foreign, html } = require('./markup.js');
const { decisions, rules, verdictsOf } = require('./retention.js');
const { STYLE } = require('./style.js');

const SYMBOLS = {
  good: 'M6 12.5l4 4 8-9',
  warn: 'M12 6v8M12 17.5v.5',
  bad: 'M7.5 7.5l9 9M16.5 7.5l-9 9',
};

/** How old the newest snapshot is, as the headline. */
function headline({ newest, now, unlisted }) {
  if (unlisted) return 'The snapshots could not be listed';
  if (newest === null) return 'No snapshots yet';
  if (newest.isFuture) return 'The newest snapshot is dated in the future';
  return `Newest snapshot ${age(now - newest.at)} ago`;
}

/** The state of the repository, with a symbol. */
function healthMark({ kind, text }) {
  return html`<span class="${kind}"><svg class="mark" viewBox="0 0 24 24" aria-hidden="true">
<circle cx="12" cy="12" r="11"/><path d="${SYMBOLS[kind]}"/></svg> ${text}</span>`;
}

/** The space, and what it is for. */
function storedFact({ bytes, originalBytes, dedupRatio }) {
  const text = originalBytes > 0 ? `${size(bytes.total)} for ${size(originalBytes)}` : size(bytes.total);
  return ['Stored', text, dedupRatio === null ? 'on disk' : `on disk, deduplicated ${times(dedupRatio)}`];
}

/** Encryption and parity. */
function protectionFact({ stats, keys }) {
  const parity = stats.value?.parity;
  const shards = parity ? `parity ${parity.data} + ${parity.parity}` : parity === null ? 'no parity' : '';
  if (keys.problem) return ['Protection', 'Keys not known', shards];
  const encrypted = isEncrypted(keys.value, stats) && `Encrypted, ${counted(keys.value.length, 'key')}`;
  return ['Protection', encrypted || 'Not encrypted', shards];
}

function facts(data, state) {
  const { snapshots, unlisted, plan, stats, verify } = data;
  const kept = plan?.value ? `${count(plan.value.keep.length)} kept by the policy` : 'listed';
  const all = [
    ['Health', healthMark(state), verify.problem ? 'a quick check failed' : 'in a quick check'],
    stats.value && storedFact(stats.value),
    !unlisted && ['Snapshots', count(snapshots.length), kept],
    protectionFact(data),
  ];
  const fact = ([name, value, hint]) => html`<div><dt>${name}</dt><dd>${value} <small>${hint}</small></dd></div>\n`;
  return html`<dl class="facts">
${all.filter(Boolean).map(fact)}</dl>`;
}

/** A section of the page. */
function section(id, title, content) {
  return html`<section aria-labelledby="${id}"><h2 id="${id}">${title}</h2>
${content}
</section>
`;
}

/** What is between the header and the footer; damage comes first. */
function* sections(data, context) {
  const { snapshots, unlisted, newest } = data;
  const { diagnosis, zone, shortId, verdicts } = context;
  const isUrgent = diagnosis.unchecked || diagnosis.damaged.length + diagnosis.unreadable.length > 0;
  const aboutHealth = section('health', 'Health', health(data, diagnosis, zone, shortId));
  const failed = unlisted && failure('The snapshots could not be listed', unlisted);
  const empty = newest === null && (failed || html`<p>The repository contains no snapshots.</p>`);
  const days = empty || [decisions(data), calendar(snapshots, context), rules(data, verdicts, zone)];
  if (isUrgent) yield aboutHealth;
  yield section('calendar', 'Calendar', days);
  if (!empty) yield section('growth', 'Growth', growth(snapshots, zone));
  if (!isUrgent) yield aboutHealth;
  yield section('space', 'Space', space(data.stats));
  if (!empty) yield section('snapshots', 'Snapshots', list(snapshots, context));
}

/** What the page is made with, from what collect() returned. */
function contextOf({ now, policy, plan, snapshots, verify }) {
  const dayStartsAt = policy?.dayStartsAt ?? '00:00';
  const diagnosis = diagnose(verify);
  return {
    now,
    dayStartsAt,
    zone: new Zone(plan?.value?.timeZone ?? policy?.timeZone ?? 'UTC', dayStartsAt),
    diagnosis,
    affected: diagnosis.affected,
    verdicts: verdictsOf(plan),
    hasPolicy: Boolean(plan?.value),
    shortId: shortener(snapshots),
  };
}

function head({ zone, now }) {
  return html`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<meta name="robots" content="noindex"/>
<meta name="referrer" content="no-referrer"/>
<title>Backup report, ${zone.time(now)}</title>
<style>${new Markup(STYLE)}</style>
</head>
<body>
`;
}

/** The newest snapshot: when it was made, and which it is. */
function newestLine({ newest }, { zone, shortId }) {
  if (newest === null) return null;
  const time = html`<time datetime="${new Date(newest.at).toISOString()}">${zone.longTime(newest.at)}</time>`;
  return html`<p class="lead">${time} <code>${shortId(newest.id)}</code></p>`;
}

function header(data, context) {
  const lost = context.diagnosis.lost.length;
  const warning = lost > 0 && html`<p class="bad">${
    counted(lost, 'manifest is', 'manifests are')} damaged or missing: a newer snapshot may exist.</p>`;
  return html`<header>
<p class="kicker">Backup report <span>${context.zone.longTime(data.now)}</span></p>
<h1>${headline(data)}</h1>
${newestLine(data, context)}${warning}
${facts(data, verdict(context.diagnosis))}
</header>
<main>
`;
}

function footer(repositoryId, { zone, now, dayStartsAt }) {
  const unknown = zone.unknown !== null && html` This runtime does not know the zone ${
    foreign(zone.unknown)} of the policy.`;
  const begin = dayStartsAt !== '00:00' && ` Days begin at ${dayStartsAt}.`;
  return html`</main>
<footer><p>Repository <code>${repositoryId}</code>. Times are ${zone.name}.${unknown}${begin} Ages are as of ${
    zone.longTime(now)}.</p></footer>
</body>
</html>
`;
}

/** Times that are converted to the zone in one turn of the event loop. */
const BATCH = 200;

/** The page of what collect() returned. Between its parts, the event loop has a turn. */
async function page(data, repositoryId) {
  const context = contextOf(data);
  for (const [i, { at }] of data.snapshots.entries()) {
    if (i % BATCH === BATCH - 1) await nextTurn();
    context.zone.day(at);
  }
  const parts = [head(context), header(data, context)];
  for (const each of sections(data, context)) {
    parts.push(each);
    await nextTurn();
  }
  return [...parts, footer(repositoryId, context)].map(({ text }) => text).join('');
}

module.exports = { page };
