// Patterns of file names, as in a shell: *, ?, [a-z], and \ before what is meant as it is.

import { Failure } from './failure.mjs';
import { characters } from './names.mjs';

/** Classes of POSIX in a set. */
const CLASSES = {
  alnum: '\\p{L}\\p{N}', alpha: '\\p{L}', blank: ' \\t', cntrl: '\\p{Cc}', digit: '0-9', lower: '\\p{Ll}',
  punct: '\\p{P}\\p{S}', space: '\\s', upper: '\\p{Lu}', xdigit: '0-9A-Fa-f',
};
/** A byte in octal digits, as `ls` prints those that are no UTF-8. */
const OCTAL = /^\\([0-3][0-7]{2})/;
const CLASS = /^\[:([a-z]+):\]/;

/** Characters as a part of an expression with the flag u. */
const literal = (text) => [...text].map((char) => `\\u{${char.codePointAt(0).toString(16)}}`).join('');

class Parser {
  #pattern;
  #at = 0;

  constructor(pattern) {
    this.#pattern = pattern;
  }

  #fail(what) {
    return new Failure(`The pattern ${JSON.stringify(this.#pattern)} is not valid: ${what}`, { code: 'ERR_INVALID_ARGUMENT' });
  }

  #matches(expression) {
    const found = expression.exec(this.#pattern.slice(this.#at));
    if (found) this.#at += found[0].length;
    return found;
  }

  /** The next character, without the backslash before it. Several bytes may be one character. */
  #character() {
    const bytes = [];
    for (let found; (found = this.#matches(OCTAL)) !== null;) bytes.push(parseInt(found[1], 8));
    if (bytes.length > 0) return characters(Buffer.from(bytes));
    if (this.#at === this.#pattern.length) throw this.#fail('a set has no end');
    const [char] = this.#matches(/^\\?[^]/u);
    if (char === '\\') throw this.#fail('it ends with a backslash');
    return char.length > 1 && char[0] === '\\' ? char.slice(1) : char;
  }

  /** Whether the set that begins here has an end; without one, its bracket is a character. */
  #hasEnd() {
    return /^\[[!^]?(?:\\[^]|\[:[a-z]+:\]|[^\\])(?:\\[^]|\[:[a-z]+:\]|[^\\\]])*\]/u.test(this.#pattern.slice(this.#at));
  }

  #set() {
    this.#at++;
    const inverted = this.#matches(/^[!^]/) !== null;
    let members = '';
    do {
      const named = this.#matches(CLASS);
      if (named) {
        if (!Object.hasOwn(CLASSES, named[1])) throw this.#fail(`there is no class ${named[0]}`);
        members += CLASSES[named[1]];
        continue;
      }
      const first = this.#character();
      // a hyphen at the end is a member
      const isRange = this.#matches(/^-(?!\])/) !== null;
      const last = isRange ? this.#character() : undefined;
      if (isRange && [...first].at(-1).codePointAt(0) > last.codePointAt(0)) throw this.#fail(`the range ${first}-${last} runs backwards`);
      members += literal(first) + (isRange ? `-${literal(last)}` : '');
    } while (this.#matches(/^\]/) === null);
    return `[${inverted ? '^' : ''}${members}]`;
  }

  /**
   * The pattern as an expression. Of the pieces between stars each is searched from the left and
   * then stays: trying all places would take time that grows exponentially with the stars.
   */
  expression() {
    const pieces = [''];
    while (this.#at < this.#pattern.length) {
      const last = pieces.length - 1;
      if (this.#matches(/^\*+/)) pieces.push('');
      else if (this.#matches(/^\?/)) pieces[last] += '[^]';
      else if (this.#pattern[this.#at] === '[' && this.#hasEnd()) pieces[last] += this.#set();
      else pieces[last] += literal(this.#character());
    }
    const [first, ...others] = pieces;
    if (others.length === 0) return new RegExp(`^${first}$`, 'u');
    const last = others.pop();
    const between = others.map((piece, number) => `(?=([^]*?${piece}))\\${number + 1}`);
    return new RegExp(`^${first}${between.join('')}[^]*${last}$`, 'u');
  }
}

/** Whether names match a pattern: a function of the text that characters() returns. */
export function matcher(pattern) {
  if (pattern.includes('/')) {
    throw new Failure(`The pattern ${JSON.stringify(pattern)} has a slash, and is compared with the last name of a path`, { code: 'ERR_INVALID_ARGUMENT' });
  }
  const expression = new Parser(pattern).expression();
  return (text) => expression.test(text);
}
