'use strict';
// The style of the page: system fonts, one accent colour, red only for damage; for screens of any
// width, light and dark, and for paper.
//
// The page is XML too: no `<` and no `&` in here.

const LIGHT = `
  --paper: #fdfdfc; --ink: #1b2024; --soft: #5f676f; --line: #e2e5e7; --faint: #b9bfc4;
  --accent: #0b6770; --tint1: #d3e8e8; --tint2: #74b8ba; --tint3: #0b6770; --on3: #ffffff; --on12: #10282b;
  --bad: #b3241b; --warn: #855600;`;

const DARK = `
  --paper: #121517; --ink: #e7eaec; --soft: #9ba4ab; --line: #2a3035; --faint: #555d64;
  --accent: #66c5c6; --tint1: #1d3d41; --tint2: #2b777c; --tint3: #7ad6d4; --on3: #0b2224; --on12: #eef6f6;
  --bad: #ff9187; --warn: #e8b65a;`;

const STYLE = `
:root { color-scheme: light dark; ${LIGHT} }
@media (prefers-color-scheme: dark) { :root { ${DARK} } }
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 2.5rem 1.25rem 3rem; max-width: 60rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%; text-size-adjust: 100%;
}
h1, h2, h3, p, ul, dl, dd, figure { margin: 0; padding: 0; }
h1 {
  font-size: clamp(1.6rem, 5vw, 2.25rem); font-weight: 600; line-height: 1.15; letter-spacing: -0.02em;
  text-wrap: balance;
}
h2 { font-size: 1.15rem; font-weight: 600; letter-spacing: -0.01em; margin-bottom: 0.75rem; }
h3 { font-size: 0.95rem; font-weight: 600; margin: 1.5rem 0 0.25rem; }
section { margin-top: 2.75rem; padding-top: 1.25rem; border-top: 1px solid var(--line); }
section > p, section > details { margin-bottom: 0.75rem; max-width: 46rem; }
code {
  font: 0.86em/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere;
}
bdi { white-space: pre-wrap; overflow-wrap: anywhere; }
small { font-size: 0.82rem; }
strong { font-weight: 600; }
.kicker {
  display: flex; flex-wrap: wrap; gap: 0 1rem; justify-content: space-between;
  color: var(--soft); font-size: 0.85rem; margin-bottom: 1.5rem;
}
.lead { color: var(--soft); margin-top: 0.4rem; }
.fine, .more { color: var(--soft); font-size: 0.85rem; }
.bad { color: var(--bad); }
.warn { color: var(--warn); }
.facts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: 1.25rem 2rem; margin-top: 2rem;
}
.facts dt { color: var(--soft); font-size: 0.85rem; }
.facts dd { font-weight: 600; }
.facts small { display: block; font-weight: 400; color: var(--soft); }
.mark { width: 1.05em; height: 1.05em; vertical-align: -0.15em; }
.mark circle { fill: currentColor; }
.mark path { fill: none; stroke: var(--paper); stroke-width: 2.4; stroke-linecap: round; stroke-linejoin: round; }
.good .mark { color: var(--accent); }

.legend {
  list-style: none; display: flex; flex-wrap: wrap; gap: 0.15rem 1.25rem; margin: 0.5rem 0 1.25rem;
  color: var(--soft); font-size: 0.85rem;
}
.key { width: 1em; height: 1em; vertical-align: -0.12em; }
.months {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(9.5rem, 1fr)); gap: 1.5rem 1.75rem;
  margin-bottom: 1rem;
}
.month { max-width: 15rem; }
.month figcaption { font-size: 0.85rem; font-weight: 600; margin-bottom: 0.25rem; }
.month svg { display: block; width: 100%; height: auto; overflow: visible; }
.month text { font-size: 9.5px; text-anchor: middle; fill: var(--ink); }
.month .weekday { font-size: 8px; fill: var(--soft); }
.month .none text { fill: var(--soft); }
.month .later text { fill: var(--faint); }
.keep1 rect { fill: var(--tint1); } .keep2 rect { fill: var(--tint2); }
.keep3 rect, .plain rect { fill: var(--tint3); }
.keep0 rect { fill: none; stroke: var(--soft); stroke-width: 1; stroke-dasharray: 2 2; }
.month .keep1 text, .month .keep2 text { fill: var(--on12); }
.month .keep3 text, .month .plain text { fill: var(--on3); font-weight: 600; }
.month rect.today { fill: none; stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: none; }
.dots { fill: none; stroke: var(--on12); stroke-width: 1.6; stroke-linecap: round; }
.keep3 .dots, .plain .dots { stroke: var(--on3); } .keep0 .dots { stroke: var(--soft); }
rect.hit, .month rect.hit { fill: none; stroke: var(--bad); stroke-width: 2.6; stroke-dasharray: none; }

.charts {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1.75rem 2.5rem;
  margin-bottom: 1rem;
}
.chart figcaption { margin-bottom: 0.35rem; font-size: 0.9rem; }
.chart figcaption span { color: var(--soft); margin-left: 0.35rem; }
.chart svg { display: block; width: 100%; height: auto; overflow: visible; }
.chart .axis { font-size: 10px; fill: var(--soft); }
.chart .end { text-anchor: end; }
.grid { stroke: var(--line); fill: none; } .base { stroke: var(--faint); fill: none; }
.area { fill: var(--tint1); } .line { fill: none; stroke: var(--accent); stroke-width: 1.75; stroke-linejoin: round; }
.bar { fill: var(--accent); }
.hover { fill: transparent; }
.hover:hover { fill: var(--ink); fill-opacity: 0.07; }

table { border-collapse: collapse; width: 100%; font-size: 0.88rem; }
caption { text-align: left; color: var(--soft); font-size: 0.85rem; padding-bottom: 0.35rem; }
th, td {
  text-align: left; vertical-align: top; font-weight: 400; padding: 0.4rem 1rem 0.4rem 0;
  border-bottom: 1px solid var(--line);
}
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--soft); font-size: 0.8rem; vertical-align: bottom; white-space: nowrap; }
.n { text-align: right; white-space: nowrap; }
.wide { overflow-x: auto; margin: 0.75rem 0; }
.rules { max-width: 34rem; margin-top: 2rem; }
.periods { white-space: nowrap; }
.years { max-width: 40rem; font-size: 0.75rem; margin-top: 1.5rem; }
.years td, .years th { text-align: center; padding: 0.1rem; border: 0; }
.years .some { display: block; background: var(--tint1); color: var(--on12); border-radius: 3px; padding: 0.1rem; }
abbr { text-decoration: none; }
.warnings { padding-left: 1.1rem; color: var(--warn); font-size: 0.9rem; }
.space { max-width: 40rem; }
.space thead { position: absolute; clip-path: inset(50%); }
.meter { width: 45%; vertical-align: middle; }
.meter svg { display: block; width: 100%; height: 6px; }
.problems { margin-bottom: 1.25rem; }
.problems td:first-child { max-width: 34rem; }
.snapshots th[scope="row"] { white-space: nowrap; }
.snapshots td:nth-child(2) { width: 36%; }
.snapshots th code { color: var(--soft); }
.snapshots .label { display: none; }
.tags {
  list-style: none; display: flex; flex-wrap: wrap; gap: 0 0.75rem; color: var(--soft); font-size: 0.82rem;
}
.goes { color: var(--soft); }
.goes::before { content: "\\2013\\00a0"; }
details summary { cursor: pointer; color: var(--accent); font-size: 0.9rem; }
details ul { padding-left: 1.1rem; font-size: 0.9rem; }
footer {
  margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size: 0.82rem;
}

@media (max-width: 40rem) {
  body { padding: 1.5rem 1rem 2rem; }
  .kicker { margin-bottom: 1rem; }
  .facts { grid-template-columns: 1fr 1fr; gap: 1rem 1.25rem; margin-top: 1.5rem; }
  .months { grid-template-columns: 1fr 1fr; gap: 1.25rem 1rem; }
  .snapshots thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .snapshots, .snapshots tbody { display: block; }
  .snapshots tr {
    display: grid; grid-template-columns: 1fr auto; gap: 0.1rem 1rem; padding: 0.6rem 0;
    border-bottom: 1px solid var(--line);
  }
  .snapshots th, .snapshots td { border: 0; padding: 0; width: auto; }
  .snapshots th { grid-area: 1 / 1; } .snapshots td:nth-child(3) { grid-area: 1 / 2; }
  .snapshots td:nth-child(4) { grid-area: 2 / 2; } .snapshots td:nth-child(2) { grid-area: 2 / 1; width: auto; }
  .snapshots td:nth-child(5) { grid-column: 1 / 3; }
  .snapshots .label { display: inline; color: var(--soft); font-size: 0.82rem; }
}

@media print {
  :root { color-scheme: light; ${LIGHT} --paper: #ffffff; }
  @page { margin: 16mm 14mm; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  section { margin-top: 1.5rem; }
  .months { grid-template-columns: repeat(4, 1fr); gap: 1rem 1.5rem; }
  .charts { grid-template-columns: 1fr 1fr; }
  .hover { display: none; }
  h2, h3, caption { break-after: avoid; }
  tr, figure, .facts, .rules, .space { break-inside: avoid; }
  .facts { grid-template-columns: repeat(4, auto); }
  details:not([open]) { display: none; }
}
`;

module.exports = { STYLE };
