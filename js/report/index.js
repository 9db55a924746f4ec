'use strict';
// The report: a repository as one HTML page, for people.

const check = require('../check.js');
const { policy } = require('../policy.js');
const { IReportOptions } = require('../schema.js');
const { collect } = require('./collect.js');
const { page } = require('./page.js');

/** The options of report(): { policy, signal? }, the first as JSON or null. */
function reportOptions(value) {
  const given = check.options(value, IReportOptions, 'options');
  return {
    policy: given.policy === undefined ? null : policy(given.policy),
    signal: check.signal(given.signal, 'signal'),
  };
}

/**
 * Makes a report.
 * @param repo the native repository
 * @param options what reportOptions() returned
 * @returns the page, or throws what the native side threw
 */
async function runReport(repo, { policy: rules, signal }) {
  const data = await collect(repo, rules, signal);
  signal?.throwIfAborted();
  const text = await page(data, repo.repositoryId);
  signal?.throwIfAborted();
  return text;
}

module.exports = { reportOptions, runReport };
