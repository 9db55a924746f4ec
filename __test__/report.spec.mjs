// report: one page that is well-formed whatever the data, and that states what the other calls
// return. It is read here by a strict reader, and by a browser where there is one.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import {
  CHEAP_KDF, ContainerArchive, ContainerArchiveError, DEEP, ENCRYPTED, KIB, PASSPHRASE, PLAIN, afterwards, freshRepo, random, rejectsWith, reopen, repoFiles, sha256,
  temporary, test, treeHash,
} from './support/harness.mjs';
import { elements, parse, select, textOf } from './support/markup.mjs';

const require = createRequire(import.meta.url);

const SMALL = { packSize: 256 * KIB, chunking: { min: 4 * KIB, avg: 16 * KIB, max: 64 * KIB } };
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

/** A time before now, as options of an ingest. */
const ago = (ms, more = {}) => ({ createdAt: new Date(Date.now() - ms).toISOString(), ...more });

/**
 * Adds snapshots to a plain repository that has one: copies of its manifest, each with a change and
 * an id of its own. Much faster than as many ingests.
 */
function addSnapshots(path, changes) {
  const folder = join(path, 'snapshots');
  const { checksum, ...manifest } = JSON.parse(readFileSync(join(folder, readdirSync(folder)[0]), 'utf8'));
  assert.match(checksum, /^[0-9a-f]{64}$/);
  for (const [i, change] of changes.entries()) {
    const id = sha256(Buffer.from(`snapshot ${i}`)).slice(0, 32);
    const body = JSON.stringify({ ...manifest, id, ...change }).slice(0, -1);
    writeFileSync(join(folder, `${id}.json`), `${body},"checksum":"${sha256(Buffer.from(body))}"}\n`);
  }
}

/** The report of a repository, read: { page, text, of(id) }, the last one a section's text. */
async function reportOf(repo, options) {
  const source = await repo.report(options);
  const page = parse(source);
  const sections = new Map(select(page, 'section').map((each) => [each.attributes['aria-labelledby'], each]));
  return { source, page, text: textOf(page).replace(/\s+/g, ' '), sections, of: (id) => textOf(sections.get(id)).replace(/\s+/g, ' ') };
}

const headline = ({ page }) => textOf(select(page, 'h1')[0]);
/** The facts below the headline: name to text. */
const facts = ({ page }) => Object.fromEntries(select(page, 'dl', 'facts')[0].children.filter((child) => child.name === 'div')
  .map(({ children: [dt, dd] }) => [textOf(dt), textOf(dd).replace(/\s+/g, ' ').trim()]));
/** The rows of the list of snapshots: arrays of the texts of their cells. */
const listed = ({ page }) => select(select(page, 'table', 'snapshots')[0], 'tbody').flatMap((body) => select(body, 'tr'))
  .map((row) => row.children.map((cell) => textOf(cell).replace(/\s+/g, ' ').trim()));
/** The days of the calendar that have snapshots: class to number. */
function daysOf({ sections }) {
  const kinds = select(sections.get('calendar'), 'figure', 'month').flatMap((month) => select(month, 'g')).map(({ attributes }) => attributes.class);
  return Object.fromEntries(['plain', 'keep0', 'keep1', 'keep2', 'keep3'].map((kind) => [kind, kinds.filter((each) => each === kind).length]).filter(([, n]) => n > 0));
}

/** Fails unless the page loads nothing and runs nothing. */
function assertInert({ page }) {
  const allowed = new Set([
    'html', 'head', 'meta', 'title', 'style', 'body', 'header', 'main', 'footer', 'section', 'h1', 'h2', 'h3', 'p', 'span', 'small', 'strong', 'code', 'time', 'bdi', 'br', 'abbr',
    'dl', 'dt', 'dd', 'div', 'ul', 'li', 'details', 'summary', 'table', 'caption', 'thead', 'tbody', 'tr', 'th', 'td', 'figure', 'figcaption', 'svg', 'g', 'rect', 'path', 'circle', 'text',
  ]);
  for (const { name, attributes } of elements(page)) {
    assert.ok(allowed.has(name), name);
    for (const [attribute, value] of Object.entries(attributes)) {
      assert.doesNotMatch(attribute, /^(on.*|style|href|src|srcset|action|data|background)$/i);
      assert.doesNotMatch(value, /https?:|javascript:|url\(/i, attribute);
    }
  }
  const [style, ...others] = select(page, 'style');
  assert.deepEqual(others, []);
  assert.doesNotMatch(style.children.join(''), /https?:|url\(|@import|[<&]/);
  const policies = select(page, 'meta').filter(({ attributes }) => attributes['http-equiv'] === 'Content-Security-Policy');
  assert.deepEqual(policies.map(({ attributes }) => attributes.content), ["default-src 'none'; style-src 'unsafe-inline'"]);
}

test('the report of an empty repository says that there are no snapshots', async (t) => {
  const { repo } = await freshRepo(t, PLAIN);
  for (const options of [undefined, {}, { policy: { keepLast: 1 } }]) {
    const report = await reportOf(repo, options);
    assertInert(report);
    assert.equal(headline(report), 'No snapshots yet');
    assert.equal(facts(report).Snapshots.startsWith('0'), true);
    assert.equal(facts(report).Health, 'No damage found in a quick check');
    assert.equal(facts(report).Protection, 'Not encrypted parity 20 + 1');
    assert.ok(!report.sections.has('snapshots') && !report.sections.has('growth'));
  }
});

test('the report of one snapshot has its age, sizes and day, and no growth', async (t) => {
  const { repo } = await freshRepo(t, PLAIN, SMALL);
  const snapshot = await repo.ingest(random(100 * KIB, 1), ago(3 * HOUR_MS + 60_000, { tags: { service: 'shop' }, items: [{ name: 'dump.sql', type: 'x' }] }));
  const report = await reportOf(repo);
  assertInert(report);
  assert.equal(headline(report), 'Newest snapshot 3 hours ago');
  assert.deepEqual(daysOf(report), { plain: 1 });
  const [[time, contents, size, added]] = listed(report);
  assert.equal(time, `${snapshot.createdAt.slice(0, 16).replace('T', ' ')} ${snapshot.id.slice(0, 8)}`);
  assert.equal(contents, 'dump.sqlservice=shop');
  assert.equal(size, 'size 100 KiB');
  assert.equal(added, 'added 100 KiB 100 % new');
  assert.match(report.of('growth'), /from the second snapshot on/);
  assert.match(report.text, /Times are UTC\./);
  assert.match(report.of('calendar'), /No retention policy was passed/);
});

test('the calendar and the list have the decisions and reasons of planPrune', async (t) => {
  const { repo, path } = await freshRepo(t, PLAIN, SMALL);
  await repo.ingest(random(100 * KIB, 1), ago(2 * 60_000));
  addSnapshots(path, Array.from({ length: 41 }, (_, n) => ago(n * 2.5 * DAY_MS + 60_000, { tags: n % 10 === 0 ? { release: `v${n}` } : {} })));
  const policy = { keepLast: 2, keepDays: 5, keepWeeks: 4, keepMonths: 12, keepTags: [{ release: 'v10' }] };
  const plan = await repo.planPrune(policy);
  const snapshots = await repo.listSnapshots();
  const report = await reportOf(repo, { policy });
  assertInert(report);

  const brief = (reason) => reason.replace(/^keep(.)/, (all, first) => first.toLowerCase());
  const reasons = new Map(plan.keep.map((choice) => [choice.id, choice.reasons.map(brief).join(', ')]));
  assert.deepEqual(listed(report).map((cells) => cells.at(-1)), snapshots.map(({ id }) => reasons.get(id) ?? 'removed by a prune'));
  assert.ok(plan.keep.length > 8 && plan.remove.length > 10);

  // a day is as dark as the longest term of what is kept of it
  const term = new Map(plan.keep.map(({ id, reasons: why }) => [id, why.some((one) => /^keep(Months|Years|Tags|Ids)/.test(one)) ? 3 : why.some((one) => /^keepWeeks/.test(one)) ? 2 : 1]));
  const days = new Map();
  for (const { id, createdAt } of snapshots) days.set(createdAt.slice(0, 10), Math.max(days.get(createdAt.slice(0, 10)) ?? 0, term.get(id) ?? 0));
  const expected = {};
  for (const each of [...days.values()].sort()) expected[`keep${each}`] = (expected[`keep${each}`] ?? 0) + 1;
  assert.deepEqual(daysOf(report), expected);
  const titles = select(report.sections.get('calendar'), 'title').map(({ children: [title] }) => title);
  assert.equal(titles.length, days.size);
  assert.ok(titles.some((title) => /2 snapshots\n\d\d:\d\d kept: newest, last 1\/2, days 1\/5, weeks 1\/4, months 1\/12\n\d\d:\d\d kept: last 2\/2/.test(title)) ||
    titles.some((title) => /: 1 snapshot\n\d\d:\d\d kept: newest, last 1\/2/.test(title)), 'one day or two, around midnight');

  assert.ok(report.of('calendar').includes(`keeps ${plan.keep.length} of ${snapshots.length} snapshots. A prune would remove ${plan.remove.length} and free`));
  const rules = Object.fromEntries(select(select(report.page, 'table', 'rules')[0], 'tr').slice(1).map((row) => row.children.map(textOf)).map(([rule, number]) => [rule, Number(number)]));
  const number = (rule) => plan.keep.filter(({ reasons: why }) => why.some((reason) => reason.startsWith(rule))).length;
  assert.deepEqual(rules, {
    'keepLast: 2': 2, 'keepDays: 5': 5, 'keepWeeks: 4': 4, 'keepMonths: 12': number('keepMonths'), 'keepTags: release=v10': 1, newest: 1,
  });
  assert.equal(facts(report).Snapshots, `${snapshots.length} ${plan.keep.length} kept by the policy`);
});

test('growth sums up what the snapshots report', async (t) => {
  const { repo } = await freshRepo(t, PLAIN, { ...SMALL, compression: 'none' });
  const sizes = [64, 64, 128];
  for (const [i, size] of sizes.entries()) await repo.ingest(random(size * KIB, i === 1 ? 0 : i), { createdAt: `2026-03-0${i + 1}T12:00:00Z` });
  const snapshots = (await repo.listSnapshots()).reverse();
  const report = await reportOf(repo);
  const rows = select(report.sections.get('growth'), 'tr').slice(1).map((row) => row.children.map(textOf));
  assert.deepEqual(rows.map(([period]) => period), ['1 Mar 2026', '2 Mar 2026', '3 Mar 2026']);
  assert.deepEqual(rows.map((row) => row[2]), ['64 KiB', '64 KiB', '128 KiB']);
  assert.deepEqual(rows.map((row) => row[3]), ['64 KiB', '0 B', '128 KiB']);
  assert.deepEqual(rows.map((row) => Number(row[4])), snapshots.map(({ newChunks }) => newChunks));
  assert.deepEqual(rows.map((row) => row[6]), ['64 KiB', '128 KiB', '256 KiB']);
  assert.deepEqual(rows.map((row) => row[7]), ['64 KiB', '64 KiB', '192 KiB']);
  assert.equal(select(report.sections.get('growth'), 'svg').length, 4);
  assert.match(headline(report), /^Newest snapshot \d+ (days|months|years) ago$/);
});

test('days are those of the time zone and of dayStartsAt', async (t) => {
  const { repo } = await freshRepo(t, PLAIN, SMALL);
  await repo.ingest(Buffer.from('a'), { createdAt: '2026-03-31T22:30:00Z' });
  const days = async (policy) => {
    const report = await reportOf(repo, { policy: { keepLast: 1, ...policy } });
    const [title] = select(report.sections.get('calendar'), 'title');
    return [title.children[0].split(':')[0], listed(report)[0][0].slice(0, 16), / Times are ([^ ]*)\./.exec(report.text)[1]];
  };
  assert.deepEqual(await days({}), ['31 March 2026', '2026-03-31 22:30', 'UTC']);
  assert.deepEqual(await days({ timeZone: 'Europe/Berlin' }), ['1 April 2026', '2026-04-01 00:30', 'Europe/Berlin']);
  assert.deepEqual(await days({ timeZone: 'Europe/Berlin', dayStartsAt: '06:00' }), ['31 March 2026', '2026-04-01 00:30', 'Europe/Berlin']);
});

test('snapshots of any time and in the future are shown, and the page stays small', async (t) => {
  const { repo, path } = await freshRepo(t, PLAIN, SMALL);
  await repo.ingest(Buffer.from('now'), ago(125_000));
  const times = ['0000-01-01T00:00:00.000Z', '1999-12-31T23:59:59.999Z', '9999-12-30T22:00:00.000Z'];
  addSnapshots(path, times.map((createdAt) => ({ createdAt })));
  for (const policy of [undefined, { keepYears: 3, timeZone: 'America/New_York' }, { keepYears: 3, timeZone: 'Pacific/Kiritimati' }]) {
    const report = await reportOf(repo, { policy });
    assertInert(report);
    assert.match(headline(report), /^Newest snapshot \d+ minutes ago$/);
    assert.match(report.of('calendar'), /1 snapshot is dated in the future/);
    assert.ok(listed(report)[0][0].endsWith('in the future'));
    assert.equal(listed(report).length, 4);
    assert.ok(report.source.length < 120_000, `${report.source.length}`);
  }
});

/** Texts that would be markup, hide something, or break the page if they were not escaped. */
const HOSTILE = [
  '<script>alert(1)</script>', '</style><script>alert(1)</script>', '</title><img src=x onerror=alert(1)>', '"><svg onload=alert(1)>', "' onmouseover='alert(1)",
  '&lt;script&gt; &amp; &#x3c;', ']]><!--', '${alert(1)} {{7*7}} `', 'javascript:alert(1) https://example.com/x', '\u202etxt.exe\u2066', 'nul\0 bell\x07 escape\x1b[31m del\x7f c1\x85',
  'line\nfeed\r\ttab', '\u2028\u2029\ufeff\u200b\u200d', '\ufffe\uffff\u{1fffe}', `z${'\u0300'.repeat(1500)}`, '\u{1f600}'.repeat(1000), 'x'.repeat(4096), '  spaces  ', '__proto__', 'constructor',
];

test('names and tags are data: nothing in them becomes markup, and what cannot be seen is written out', async (t) => {
  const { repo, path } = await freshRepo(t, PLAIN, SMALL);
  const tagsOf = (text) => Object.fromEntries([[text, text], ['service', text], ...HOSTILE.map((each) => [each, each])]);
  // the text in the middle of others, because the page shows the first ones
  const from = (i) => HOSTILE.slice(i).concat(HOSTILE.slice(0, i));
  await repo.ingestMulti(from(0).map((name) => ({ name, type: name, stream: Buffer.from('x') })), ago(HOUR_MS, { tags: tagsOf(HOSTILE[0]) }));
  const [{ id }] = await repo.listSnapshots();
  const { items } = JSON.parse(readFileSync(join(path, 'snapshots', `${id}.json`), 'utf8'));
  addSnapshots(path, HOSTILE.map((text, i) => ago((i + 2) * HOUR_MS, { tags: tagsOf(text), items: from(i).map((name, n) => ({ ...items[n], name, type: text })) })));
  const policy = { keepLast: 3, keepTags: HOSTILE.map((text) => ({ [text]: text, absent: text })), groupBy: HOSTILE };
  const report = await reportOf(repo, { policy });
  assertInert(report);
  const plain = await reportOf(repo);
  assert.deepEqual(new Set([...elements(plain.page)].map(({ name }) => name)).has('script'), false);
  for (const text of HOSTILE.slice(0, 9)) assert.ok(plain.text.includes(text.slice(0, 40).trim()), text);
  assert.ok(plain.text.includes('\\u{202e}txt.exe\\u{2066}') && plain.text.includes('nul\\u{0} bell\\u{7} escape\\u{1b}[31m del\\u{7f} c1\\u{85}'));
  assert.ok(plain.text.includes('line\\u{a}feed\\u{d}\\u{9}tab') && plain.text.includes('\\u{2028}\\u{2029}\\u{feff}\\u{200b}\\u{200d}'));
  assert.doesNotMatch(plain.source, /x{200}|\p{M}{6}|(?:\u{1f600}){100}/u);
  assert.ok(plain.source.length < 150_000 && report.source.length < 200_000, `${plain.source.length} ${report.source.length}`);
});

test('a damaged repository is reported: what is damaged, which snapshots, and what is not known', async (t) => {
  const { repo, path } = await freshRepo(t, PLAIN, { ...SMALL, parity: false });
  const hit = await repo.ingest(random(300 * KIB, 1), ago(50 * HOUR_MS, { items: [{ name: 'lost.sql', type: 'x' }] }));
  const [pack] = repoFiles(path, /^packs\/data\/.*\.pack$/).sort((one, other) => statSync(other).size - statSync(one).size);
  const whole = await repo.ingest(random(300 * KIB, 2), ago(26 * HOUR_MS));
  const torn = await repo.ingest(random(300 * KIB, 3), ago(2 * HOUR_MS));
  rmSync(pack);
  rmSync(pack.replace(/\.pack$/, '.idx'));
  writeFileSync(join(path, 'snapshots', `${torn.id}.json`), 'torn');
  const { errors } = await repo.verify({ level: 'quick' });
  assert.ok(errors.length >= 2);
  const found = [];
  for (const event of ['verify:error', 'verify:progress', 'prune:complete', 'prune:progress']) repo.on(event, () => found.push(event));
  const report = await reportOf(repo, { policy: { keepLast: 1 } });
  assertInert(report);
  assert.deepEqual(found, [], 'the report has no events of verify and prune');
  assert.match(facts(report).Health, new RegExp(`^${errors.length} problems found, `));
  assert.equal([...report.sections.keys()][0], 'health', 'damage comes first');
  for (const { code, path: file, pack: id } of errors) {
    assert.ok(report.of('health').includes(code), code);
    assert.ok(report.of('health').includes(file ?? id), file ?? id);
  }
  assert.match(report.of('health'), /Items: lost\.sql/);
  assert.match(report.of('health'), /no parity: what is damaged cannot be rebuilt/);
  assert.match(report.text, /1 manifest is damaged or missing: a newer snapshot may exist/);
  assert.match(report.of('calendar'), /What the policy keeps could not be determined \(ERR_MANIFEST_CORRUPT\)/);
  assert.deepEqual(listed(report).map(([cell]) => cell.split(' ').slice(2).join(' ')), [whole.id.slice(0, 8), `${hit.id.slice(0, 8)} damaged`]);
  assert.ok(select(select(report.sections.get('calendar'), 'div', 'months')[0], 'rect', 'hit').length >= 1);
});

test('what could not be read is neither damage nor absence', async () => {
  const { page } = require('../js/report/page.js');
  const problem = new ContainerArchiveError('Too many open files', { code: 'ERR_UNREADABLE' });
  const errors = [{ code: 'ERR_UNREADABLE', error: 'EMFILE', path: 'packs/data/x.pack', snapshots: [], items: [], healable: false }];
  const verify = { value: { ok: false, errors, notes: [], stats: { packsChecked: 0, chunksChecked: 0, snapshotsChecked: 0 } }, at: Date.now() };
  const source = await page({
    now: Date.now(), policy: { keepLast: 1, timeZone: 'Mars/Olympus' }, plan: { problem }, unlisted: problem, snapshots: [], newest: null, verify, stats: { problem }, keys: { problem },
  }, '0'.repeat(32));
  const report = { page: parse(source), text: textOf(parse(source)).replace(/\s+/g, ' ') };
  assertInert(report);
  assert.equal(headline(report), 'The snapshots could not be listed');
  assert.deepEqual(facts(report), { Health: '1 file could not be read in a quick check', Protection: 'Keys not known' });
  assert.equal(select(report.page, 'p', 'bad').length + select(report.page, 'span', 'bad').length, 0);
  assert.doesNotMatch(report.text, /amaged|contains no snapshots|not encrypted|no parity/);
  assert.match(report.text, /Times are UTC\. This runtime does not know the zone Mars\/Olympus of the policy\./);
  assert.match(report.text, /A failed read is no statement about the bytes of a file/);
});

test('a check that fails is reported, and the rest of the report is there', async () => {
  const { collect } = require('../js/report/collect.js');
  const { page } = require('../js/report/page.js');
  const fails = (code) => async () => { throw new ContainerArchiveError('I/O error', { code }); };
  const repo = { listSnapshots: async () => '[]', listKeys: async () => '[]', stats: fails('ERR_UNREADABLE'), verify: fails('ERR_UNREADABLE') };
  const root = parse(await page(await collect(repo, null, undefined), '0'.repeat(32)));
  const report = { page: root, text: textOf(root).replace(/\s+/g, ' ') };
  assertInert(report);
  assert.equal(facts(report).Health, 'Not known a quick check failed');
  assert.match(report.text, /The repository could not be checked \(ERR_UNREADABLE\): I\/O error/);
  assert.equal(select(report.page, 'section')[0].attributes['aria-labelledby'], 'health', 'it comes first');
  assert.doesNotMatch(report.text, /amaged|No damage/);
  await assert.rejects(collect({ ...repo, verify: fails('ERR_CLOSED') }, null, undefined), { code: 'ERR_CLOSED' });
});

test('a handle with readOnly reports without a change of the repository', async (t) => {
  const { repo, path } = await freshRepo(t, PLAIN, SMALL);
  await repo.ingest(random(100 * KIB, 1));
  await repo.close();
  const before = treeHash(path);
  const reader = await reopen(t, path, PLAIN, { readOnly: true });
  assertInert(await reportOf(reader, { policy: { keepLast: 1 } }));
  assert.equal(treeHash(path), before);
});

test('of an encrypted repository, the report has the number of keys and no secret; without keys there is none', async (t) => {
  const { repo, path } = await freshRepo(t, ENCRYPTED, SMALL);
  await repo.ingest(random(100 * KIB, 1));
  const raw = random(32, 2);
  const added = await repo.keys.add({ key: raw, label: 'the laptop' });
  await repo.keys.add({ passphrase: 'another', kdf: CHEAP_KDF, label: 'the safe' });
  const report = await reportOf(repo);
  assert.equal(facts(report).Protection, 'Encrypted, 3 keys parity 20 + 1');
  assert.match(report.of('health'), /The repository is encrypted\. Each of these opens it: 2 passphrases and 1 raw key\./);
  for (const secret of [PASSPHRASE, 'another', 'the laptop', 'the safe', added.id, raw.toString('hex'), raw.toString('base64')]) assert.ok(!report.source.includes(secret));
  const keyless = await ContainerArchive.open(path, { keyless: true });
  afterwards(t, () => keyless.close());
  await rejectsWith(keyless.report(), 'ERR_PASSPHRASE_REQUIRED');
});

test('report refuses bad options, obeys its signal, and rejects where there is no repository', async (t) => {
  const { repo, path } = await freshRepo(t, PLAIN, SMALL);
  await repo.ingest(Buffer.from('x'));
  for (const options of [null, 7, 'text', [], { signal: 1 }, { timeZone: 'UTC' }, { level: 'full' }]) await rejectsWith(repo.report(options), 'ERR_INVALID_ARGUMENT');
  for (const policy of [null, {}, { keepDay: 1 }, { keepLast: 0 }, { keepLast: 1, timeZone: 'Mars/Olympus' }]) await rejectsWith(repo.report({ policy }), 'ERR_INVALID_POLICY');
  // a reason is never mistaken for damage
  for (const reason of [new Error('enough'), { code: 'ERR_UNREADABLE' }, 'text']) {
    await assert.rejects(repo.report({ policy: { keepLast: 1 }, signal: AbortSignal.abort(reason) }), (error) => error === reason);
  }
  const reason = new ContainerArchiveError('enough', { code: 'ERR_UNREADABLE' });
  const controller = new AbortController();
  const running = repo.report({ policy: { keepLast: 1 }, signal: controller.signal });
  controller.abort(reason);
  await assert.rejects(running, (error) => error === reason);
  const moved = `${path} moved`;
  renameSync(path, moved);
  // absent is not empty
  await rejectsWith(repo.report(), 'ERR_REPO_NOT_FOUND');
  renameSync(moved, path);
  assert.equal(headline(await reportOf(repo)).startsWith('Newest snapshot'), true);
});

/** Snapshots, and hours between them: more than a year, and less than ten. */
const [MANY, GAP] = DEEP ? [10_000, 8] : [600, 20];

test(`${MANY} snapshots are one page that a browser can show`, async (t) => {
  const { repo, path } = await freshRepo(t, PLAIN, SMALL);
  await repo.ingest(Buffer.from('x'), ago(HOUR_MS, { tags: { service: 'shop' } }));
  addSnapshots(path, Array.from({ length: MANY - 1 }, (_, i) => ago((i + 2) * GAP * HOUR_MS)));
  const report = await reportOf(repo, { policy: { keepLast: 3, keepDays: 7, keepWeeks: 5, keepMonths: 24 } });
  assertInert(report);
  const numberOf = (text) => Number(text.replace(',', ''));
  assert.equal(numberOf(facts(report).Snapshots.split(' ')[0]), MANY);
  assert.equal(listed(report).length, 200);
  const earlier = select(select(report.sections.get('snapshots'), 'table', 'earlier')[0], 'tr').slice(1);
  assert.equal(earlier.reduce((sum, row) => sum + numberOf(textOf(row.children[1])), 200), MANY);
  assert.equal(select(report.page, 'figure', 'month').length, 12);
  const years = select(select(report.page, 'table', 'years')[0], 'td').map(textOf).filter(Boolean);
  const shown = select(report.sections.get('calendar'), 'figure', 'month').map((month) => select(month, 'svg')[0].attributes['aria-label']);
  const byDay = shown.reduce((sum, label) => sum + numberOf(/: ([\d,]+) snapshots? on/.exec(label)[1]), 0);
  assert.equal(years.reduce((sum, number) => sum + numberOf(number), byDay), MANY);
  assert.ok(report.source.length < 350_000, `${report.source.length}`);
});

/** The browser, or null: the first that is installed. */
function browser() {
  for (const name of [process.env.CONTAINERARCHIVE_BROWSER, 'chromium', 'chromium-browser', 'google-chrome'].filter(Boolean)) {
    try {
      execFileSync(name, ['--version'], { stdio: 'ignore' });
      return name;
    } catch {
      // the next one
    }
  }
  return null;
}
const BROWSER = process.platform === 'win32' ? null : browser();
if (BROWSER === null) console.log('# NOT RUN: no Chromium was found, so no browser has read the report (CONTAINERARCHIVE_BROWSER names one)');

/** The document that a browser makes of a file, as text, and what it complained about. */
function rendered(folder, file) {
  const args = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking', '--enable-logging=stderr', `--user-data-dir=${join(folder, 'profile')}`];
  mkdirSync(join(folder, 'profile'), { recursive: true });
  const log = join(folder, 'log');
  const dom = execFileSync('sh', ['-c', `exec "$@" 2>'${log}'`, 'sh', BROWSER, ...args, '--dump-dom', pathToFileURL(file).href], { encoding: 'utf8', maxBuffer: 64 * 1024 * KIB, timeout: 100_000 });
  return { dom, complaints: readFileSync(log, 'utf8').split('\n').filter((line) => line.includes('CONSOLE')) };
}

test('a browser shows the report, finds nothing to run or load, and a phone need not scroll sideways', async (t) => {
  const { repo, path } = await freshRepo(t, PLAIN, SMALL);
  const more = (n) => ago((n * 17 + 1) * DAY_MS, { tags: { [HOSTILE[n]]: HOSTILE[n + 1] } });
  await repo.ingest(random(20 * KIB, 1), { ...more(0), items: [{ name: HOSTILE[0], type: 'x' }] });
  addSnapshots(path, Array.from({ length: 11 }, (_, n) => more(n + 1)));
  const folder = temporary(t);
  const source = await repo.report({ policy: { keepLast: 2, keepWeeks: 4, keepMonths: 12 } });
  // the page in a frame as wide as a phone; the script that measures it is outside of the page
  const widths = [320, 390, 1200];
  const quoted = source.replaceAll('&', '&amp;').replaceAll('"', '&quot;');
  writeFileSync(join(folder, 'frame.html'), `<!DOCTYPE html><meta charset="utf-8"><body>${widths.map((width) => `<iframe width="${width}" height="800" srcdoc="${quoted}"></iframe>`).join('')}
    <script>onload = () => {
      const found = [...document.querySelectorAll('iframe')].map(({ contentDocument: page }) => ({
        width: page.documentElement.scrollWidth, scripts: page.scripts.length, images: page.images.length, heading: page.querySelector('h1').textContent,
        rows: page.querySelectorAll('table.snapshots tbody tr').length, tag: page.querySelector('.tags bdi').textContent, drawn: page.querySelector('.month svg').getBoundingClientRect().height > 50,
        loaded: performance.getEntriesByType('resource').length,
      }));
      document.body.textContent = 'FOUND' + JSON.stringify(found) + 'END';
    };</script>`);
  const { dom, complaints } = rendered(folder, join(folder, 'frame.html'));
  assert.deepEqual(complaints, []);
  const found = JSON.parse(/FOUND(.*)END/s.exec(dom)[1].replaceAll('&lt;', '<').replaceAll('&gt;', '>').replaceAll('&amp;', '&'));
  const tag = `${HOSTILE[0]}=${HOSTILE[1]}`.slice(0, 60);
  assert.deepEqual(found.map(({ width, tag: shown, ...rest }) => [rest, shown.startsWith(tag.slice(0, 40))]), widths.map(() => [
    { scripts: 0, images: 0, heading: 'Newest snapshot 24 hours ago', rows: 12, drawn: true, loaded: 0 }, true,
  ]));
  assert.deepEqual(found.map(({ width }) => width).map((width, i) => width <= widths[i]), [true, true, true], JSON.stringify(found.map(({ width }) => width)));
}, { skip: BROWSER === null && 'NOT RUN: no Chromium was found' });
