'use strict';
// Markup of the report. Whatever is put into it is escaped, unless it is markup already, so that
// names and tags, which are arbitrary data, can never become elements, attributes or styles.
//
// Invariant: the page is well-formed XML too, whatever the data. Characters that XML forbids, that
// cannot be seen, or that change the order of other characters are written out: `\u{202e}`.

/** Markup, as opposed to a text that has to be escaped. */
class Markup {
  constructor(text) {
    this.text = text;
  }
}

const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
/** Controls, format characters (those of text direction too), separators, lone surrogates. */
const UNSEEN = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}\p{Noncharacter_Code_Point}]/gu;
/** More marks on one letter than any language has: they would be drawn over other lines. */
const PILED_UP = /(\p{M}{4})\p{M}+/gu;

const writtenOut = (character) => `\\u{${character.codePointAt(0).toString(16)}}`;

/** A text that can be put between tags and into a quoted attribute. */
function escaped(text) {
  const seen = text.replace(PILED_UP, '$1…').replace(UNSEEN, writtenOut);
  return seen.replace(/[&<>"']/g, (special) => ENTITIES[special]);
}

function part(value) {
  if (value instanceof Markup) return value.text;
  if (Array.isArray(value)) return value.map(part).join('');
  return value === undefined || value === null || value === false ? '' : escaped(String(value));
}

/**
 * Markup with values in it: texts and numbers are escaped, arrays are joined, `null`, `undefined`
 * and `false` are omitted.
 */
function html(strings, ...values) {
  return new Markup(strings.reduce((text, string, i) => text + part(values[i - 1]) + string));
}

/** Most characters of a name, tag or message that the page shows. */
const SHOWN = 80;

/** The beginning of a text, by characters. */
function shortened(text, most = SHOWN) {
  // no character has more than two code units
  const characters = Array.from(text.slice(0, 2 * most + 2));
  return characters.length > most ? `${characters.slice(0, most).join('')}…` : text;
}

/**
 * A text that this program has not written: shortened, and with a direction of its own, so that it
 * cannot reorder its surroundings.
 */
function foreign(text, most) {
  return html`<bdi>${shortened(text, most)}</bdi>`;
}

/** Several values with something between each two. */
function joined(values, separator) {
  return values.map((value, i) => (i === 0 ? value : [separator, value]));
}

/** The paragraph about something that could not be determined, with the error. */
function failure(text, { code, message }) {
  // not red: it is not known whether something is damaged
  return html`<p class="warn">${text} (${code}): ${foreign(message, 300)}</p>`;
}

module.exports = { Markup, failure, foreign, html, joined };
