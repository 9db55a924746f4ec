// Retention rules: options of restic's `forget`, as the policy of the API, and what a policy does
// to the snapshots, as a calendar and a table.

import { Option } from 'commander';
import { Failure, inWords } from './failure.mjs';
import { localTime, printable, shortId, table } from './output.mjs';
import { keepCount, list, tagMaps } from './values.mjs';

/** Options, and the member of the policy that each becomes. */
const RULES = [
  ['-l, --keep-last <n>', 'keep the newest n snapshots', keepCount, 'keepLast'],
  ['-H, --keep-hourly <n>', 'keep the newest of each of the last n hours that have one', keepCount, 'keepHours'],
  ['-d, --keep-daily <n>', 'the same for days', keepCount, 'keepDays'],
  ['-w, --keep-weekly <n>', 'the same for weeks', keepCount, 'keepWeeks'],
  ['-m, --keep-monthly <n>', 'the same for months', keepCount, 'keepMonths'],
  ['-y, --keep-yearly <n>', 'the same for years', keepCount, 'keepYears'],
  ['--keep-within <duration>', 'keep all that are at most this old, as 7d or 1y6m', String, 'keepWithin'],
  ['--keep-tag <key=value>', 'keep all with this tag (repeatable; A=1,B=2 for both)', tagMaps, 'keepTags'],
];

const attribute = (flags) => new Option(flags).attributeName();

/** Adds the options of a policy to a command. */
export function addPolicyOptions(command) {
  for (const [flags, text, parse] of RULES) command.option(flags, text, parse);
  command.option('--group-by <tag>', 'count snapshots with different values of this tag apart (repeatable)', list);
  command.option('--time-zone <name>', 'zone of days, weeks and months, as Europe/Berlin (default: that of this machine)');
  return command;
}

/** The time zone of this machine; an empty TZ is UTC. */
function machineZone() {
  const { timeZone } = Intl.DateTimeFormat().resolvedOptions();
  return timeZone === 'Etc/Unknown' ? 'UTC' : timeZone;
}

/** The policy of the options, or null when they have no rule. */
export function policyOf(options) {
  const rules = RULES
    .map(([flags, , , member]) => [member, options[attribute(flags)]])
    .filter(([, value]) => value !== undefined);
  if (rules.length === 0) {
    if (options.groupBy ?? options.timeZone) throw new Failure('A policy needs a rule', { hint: 'Such as --keep-last 7' });
    return null;
  }
  return {
    ...Object.fromEntries(rules),
    ...(options.groupBy && { groupBy: options.groupBy }),
    timeZone: options.timeZone ?? machineZone(),
  };
}

/** The calendar day of a time in a zone: '2026-11-30'. */
function dayIn(zone) {
  const format = new Intl.DateTimeFormat('en-CA', { timeZone: zone, year: 'numeric', month: '2-digit', day: '2-digit' });
  return (iso) => format.format(new Date(iso));
}

const MONTHS = ['January', 'February', 'March', 'April', 'May', 'June', 'July', 'August', 'September', 'October', 'November', 'December'];
/** Longest calendar, in months: older ones are in the table only. */
const MOST_MONTHS = 24;

/** One month as lines: the days with snapshots are marked '+' (all kept), '-' (none), '±'. */
function monthLines(month, days, styled) {
  const [year, number] = month.split('-').map(Number);
  const first = (new Date(Date.UTC(year, number - 1, 1)).getUTCDay() + 6) % 7;
  const last = new Date(Date.UTC(year, number, 0)).getUTCDate();
  const cells = Array(first).fill('    ');
  for (let day = 1; day <= last; day++) {
    const found = days.get(`${month}-${String(day).padStart(2, '0')}`);
    const text = String(day).padStart(3);
    if (!found) cells.push(`${styled('dim', text)} `);
    else if (found.remove === 0) cells.push(styled('green', `${text}+`));
    else cells.push(styled(found.keep === 0 ? 'red' : 'yellow', `${text}${found.keep === 0 ? '-' : '±'}`));
  }
  const weeks = [];
  for (let at = 0; at < cells.length; at += 7) weeks.push(cells.slice(at, at + 7).join(' ').trimEnd());
  return [styled('bold', `${MONTHS[number - 1]} ${year}`), '  Mo   Tu   We   Th   Fr   Sa   Su', ...weeks, ''];
}

/** The calendar of what a plan keeps and removes. */
export function calendar({ keep, remove, timeZone }, styled = (_, text) => text) {
  const dayOf = dayIn(timeZone);
  const days = new Map();
  for (const [what, choices] of Object.entries({ keep, remove })) {
    for (const { createdAt } of choices) {
      const day = dayOf(createdAt);
      const found = days.get(day) ?? { keep: 0, remove: 0 };
      found[what]++;
      days.set(day, found);
    }
  }
  const months = [...new Set([...days.keys()].map((day) => day.slice(0, 7)))].sort();
  const lines = months.slice(-MOST_MONTHS).flatMap((month) => monthLines(month, days, styled));
  if (months.length > MOST_MONTHS) lines.unshift(`(${months.length - MOST_MONTHS} earlier months: see the table)`, '');
  return [...lines, `+ kept   - removed   ± some of the day   (days in ${timeZone})`].join('\n');
}

/** The table of what a plan keeps and why, and what it removes; newest first. */
export function planTable({ keep, remove }) {
  const rows = [
    ...keep.map((choice) => ({ ...choice, action: 'keep' })),
    ...remove.map((choice) => ({ ...choice, action: 'remove', reasons: [] })),
  ].sort((a, b) => (a.createdAt < b.createdAt ? 1 : a.createdAt > b.createdAt ? -1 : 0));
  const grouped = rows.some(({ group }) => Object.keys(group).length > 0);
  return table(
    ['ID', 'Time', ...(grouped ? ['Group'] : []), 'Action', 'Reasons'],
    rows.map(({ id, createdAt, group, action, reasons }) => [
      shortId(id), localTime(createdAt), ...(grouped ? [printable(Object.values(group).join(', '))] : []), action, inWords(reasons.join(', ')),
    ]),
  );
}
