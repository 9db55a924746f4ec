'use strict';
// What the policy decides about each snapshot, and which rules decide it.

const { count, counted, size } = require('./figures.js');
const { failure, foreign, html, joined } = require('./markup.js');
const { table } = require('./table.js');

/**
 * How long a rule keeps snapshots, for the shade of a day: 3 for months and longer, 2 for weeks,
 * 1 for the rest.
 */
const TERMS = { keepMonths: 3, keepYears: 3, keepTags: 3, keepIds: 3, keepWeeks: 2 };
/** The rules of a policy in the order in which people think of them. */
const RULES = [
  'keepLast', 'keepWithin', 'keepHours', 'keepDays', 'keepWeeks', 'keepMonths', 'keepYears', 'keepTags', 'keepIds',
];
/** Reasons that are in no policy. */
const OTHERS = ['newest', 'future', 'filter'];
/** Warnings of a prune that are shown. */
const WARNINGS = 20;

const ruleOf = (reason) => reason.split(' ', 1)[0];

/** A reason in short: 'days 3/7', 'months oldest', 'newest'. */
function brief(reason) {
  return reason.replace(/^keep([A-Z])/, (_, first) => first.toLowerCase());
}

/**
 * By the id of a snapshot: { reasons, term }, `reasons` empty and `term` 0 when the policy removes
 * it. One that was created while the report was made is in no plan.
 */
function verdictsOf(plan) {
  const verdicts = new Map();
  if (!plan?.value) return verdicts;
  const termOf = (reasons) => Math.max(...reasons.map((reason) => TERMS[ruleOf(reason)] ?? 1));
  for (const { id, reasons } of plan.value.keep) verdicts.set(id, { reasons, term: termOf(reasons) });
  for (const { id } of plan.value.remove) verdicts.set(id, { reasons: [], term: 0 });
  return verdicts;
}

/** Snapshots with these tags, in words. */
const tagged = (tags) => Object.entries(tags).map(([key, value]) => `${key}=${value}`).join(' and ');

/** A rule as it is written in the policy. */
function written(rule, value) {
  if (value === undefined) return rule;
  if (rule === 'keepIds') return `keepIds: ${counted(value.length, 'id')}`;
  if (rule === 'keepTags') return html`keepTags: ${foreign(value.map(tagged).join(', '))}`;
  return `${rule}: ${value}`;
}

/** The rules that are in force, and how many snapshots each of them selects. */
function rulesTable({ policy, plan, snapshots }, verdicts, zone) {
  const inForce = RULES.filter((rule) => policy[rule] !== undefined && policy[rule] !== 0 && policy[rule].length !== 0);
  const used = new Set(plan.value.keep.flatMap(({ reasons }) => reasons));
  const kept = snapshots.filter(({ id }) => verdicts.get(id)?.reasons.length > 0);
  const row = (rule) => {
    const isOf = (reason) => ruleOf(reason) === rule;
    const selected = kept.filter(({ id }) => verdicts.get(id).reasons.some(isOf));
    const alone = selected.filter(({ id }) => verdicts.get(id).reasons.every(isOf));
    const oldest = selected.length > 0 ? zone.time(selected[0].at).slice(0, 10) : '–';
    return [written(rule, policy[rule]), count(selected.length), count(alone.length), oldest];
  };
  return table({
    kind: 'rules',
    caption: 'What each rule keeps, and how much of it no other rule does',
    columns: [['Rule'], ['Keeps', 'n'], ['Alone', 'n'], ['Back to', 'n']],
    rows: [...inForce, ...OTHERS.filter((reason) => used.has(reason))].map(row),
  });
}

function warningsOf({ warnings }) {
  if (warnings.length === 0) return null;
  const more = warnings.length - WARNINGS;
  return html`<ul class="warnings">
${warnings.slice(0, WARNINGS).map((warning) => html`<li>${foreign(warning, 300)}</li>\n`)}${
    more > 0 && html`<li>and ${count(more)} more</li>`}</ul>`;
}

/** The decisions in a sentence, or why there are none. */
function decisions({ policy, plan }) {
  if (policy === null) return html`<p>No retention policy was passed, so nothing is marked as kept or removed.</p>`;
  if (plan.problem) return failure('What the policy keeps could not be determined', plan.problem);
  const { keep, remove, freedBytes, pendingBytes } = plan.value;
  const grouped = policy.groupBy?.length > 0 && html` Snapshots are counted separately for each value of ${
    joined(policy.groupBy.map((tag) => foreign(tag)), ', ')}.`;
  const prune = remove.length === 0 ? 'no snapshot' : count(remove.length);
  return html`<p>The policy keeps <strong>${count(keep.length)}</strong> of ${
    counted(keep.length + remove.length, 'snapshot')}. A prune would remove ${prune} and free ${
    size(freedBytes + pendingBytes)}.${grouped}</p>`;
}

/** What each rule keeps, and what is probably not intended. */
function rules(data, verdicts, zone) {
  if (!data.plan?.value) return null;
  return [rulesTable(data, verdicts, zone), warningsOf(data.plan.value)];
}

module.exports = { brief, decisions, rules, verdictsOf };
