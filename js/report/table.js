'use strict';
// Tables of the report.

const { html } = require('./markup.js');

/**
 * A table with a header for each row, its first cell.
 * @param {string} kind its class
 * @param {string} caption or null
 * @param columns [title, class], the class 'n' for numbers; one that is false is omitted, with its
 * cells
 * @param rows arrays of cells
 */
function table({ kind, caption, columns, rows }) {
  const shown = columns.map((column, i) => (column ? i : null)).filter((i) => i !== null);
  const classOf = (i) => columns[i][1] && html` class="${columns[i][1]}"`;
  const head = ([title], i) => html`<th scope="col"${classOf(i)}>${title}</th>`;
  const cell = (value, i) => (
    i === 0 ? html`<th scope="row"${classOf(i)}>${value}</th>` : html`<td${classOf(i)}>${value}</td>`);
  return html`<div class="wide"><table class="${kind}">${caption && html`<caption>${caption}</caption>`}
<thead><tr>${shown.map((i) => head(columns[i], i))}</tr></thead>
<tbody>
${rows.map((row) => html`<tr>${shown.map((i) => cell(row[i], i))}</tr>\n`)}</tbody></table></div>`;
}

module.exports = { table };
