// A line that a user edits in a terminal in raw mode: what the keys do. Reads and draws nothing.
//
// Invariant: only keys that have a meaning change the line. The bytes of all others are dropped as
// whole sequences: a part of one would be an invisible character of a passphrase.

/** What a terminal sends before and after text that is pasted (bracketed paste of xterm). */
const PASTE_START = '200';
const PASTE_END = '\u001b[201~';

/** Keys that are one character: the control keys of Emacs, which shells have too. */
const KEYS = {
  '\u0001': 'toStart', // Ctrl-A
  '\u0002': 'left', // Ctrl-B
  '\u0004': 'deleteNext', // Ctrl-D
  '\u0005': 'toEnd', // Ctrl-E
  '\u0006': 'right', // Ctrl-F
  '\b': 'deletePrevious',
  '\u000b': 'deleteRest', // Ctrl-K
  '\u0015': 'clear', // Ctrl-U, which deletes the whole line as in a terminal without raw mode
  '\u0017': 'deleteWord', // Ctrl-W
  '\u007f': 'deletePrevious',
};
/** Keys that are sequences: by their last character, or the number before a tilde. */
const SEQUENCES = { C: 'right', D: 'left', H: 'toStart', F: 'toEnd' };
const NUMBERED = { 1: 'toStart', 7: 'toStart', 4: 'toEnd', 8: 'toEnd', 3: 'deleteNext' };

const characters = new Intl.Segmenter(undefined, { granularity: 'grapheme' });

/** A character, as people count them, that takes two columns. */
const WIDE = /\p{Emoji_Presentation}|\ufe0f|[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6\u{20000}-\u{3fffd}]/u;

/** How many columns a text without control characters takes. */
export const columns = (text) => [...characters.segment(text)].reduce((sum, { segment }) => sum + (WIDE.test(segment) ? 2 : 1), 0);

/** Text that was pasted: as a file has it, whose last newline does not count. */
const pasted = (text) => text.replace(/\r\n?/g, '\n').replace(/\n$/, '');

/** One line, and the cursor in it. */
export class Line {
  /** The text before the cursor, and after it. */
  before = '';
  after = '';
  /** Reads the next character: one of the methods whose names begin with `in`. */
  #read = this.inText;
  /** What was read of a sequence, or of pasted text. */
  #pending = '';

  get text() {
    return this.before + this.after;
  }

  /**
   * Takes what was typed.
   * @returns {{ end: 'entered' | 'interrupted', rest: string } | null} null while the line is not
   * entered; `rest` was typed after its end
   */
  take(typed) {
    const all = [...typed];
    for (const [i, char] of all.entries()) {
      const end = this.#read(char);
      if (!end) continue;
      const isPair = char === '\r' && all[i + 1] === '\n';
      return { end, rest: all.slice(isPair ? i + 2 : i + 1).join('') };
    }
    return null;
  }

  inText(char) {
    if (char === '\r' || char === '\n') return 'entered';
    if (char === '\u0003') return 'interrupted'; // Ctrl-C
    if (char === '\u0004' && this.text === '') return 'entered'; // Ctrl-D
    if (char === '\u001b') this.#read = this.inEscape;
    else if (Object.hasOwn(KEYS, char)) this[KEYS[char]]();
    else if (!/\p{Cc}/u.test(char)) this.insert(char);
    return null;
  }

  /** After an escape: a sequence, or a key together with Alt. */
  inEscape(char) {
    this.#read = this.inText;
    this.#pending = '';
    if (char === '[') this.#read = this.inSequence;
    else if (char === 'O') this.#read = this.inShortSequence;
    else if (char === '\u007f' || char === '\b') this.deleteWord();
    else if (/\p{Cc}/u.test(char)) return this.inText(char);
    return null;
  }

  /** The last character of ESC O, of function keys and of arrows of some terminals. */
  inShortSequence(char) {
    this.#read = this.inText;
    if (/\p{Cc}/u.test(char)) return this.inText(char);
    this.#key(char);
    return null;
  }

  /** After ESC [ : numbers, and a letter or a tilde. */
  inSequence(char) {
    // ESC [ [ A is F1 of the console of Linux
    if (/[0-9;:<=>? !-/]/.test(char) || (char === '[' && this.#pending === '')) {
      this.#pending += char;
      return null;
    }
    this.#read = this.inText;
    if (/\p{Cc}/u.test(char)) return this.inText(char);
    if (char === '~' && this.#pending === PASTE_START) {
      this.#pending = '';
      this.#read = this.inPaste;
    } else if (char === '~') {
      this.#key(this.#pending.split(';')[0]);
    } else if (!this.#pending.startsWith('[')) {
      this.#key(char);
    }
    return null;
  }

  /** A newline in pasted text is a character: the user has not seen it, and presses Enter. */
  inPaste(char) {
    if (char === '\u0003') return 'interrupted';
    this.#pending += char;
    if (!this.#pending.endsWith(PASTE_END)) return null;
    this.insert(pasted(this.#pending.slice(0, -PASTE_END.length)));
    this.#read = this.inText;
    return null;
  }

  #key(name) {
    const method = Object.hasOwn(SEQUENCES, name) ? SEQUENCES[name] : Object.hasOwn(NUMBERED, name) ? NUMBERED[name] : null;
    if (method !== null) this[method]();
  }

  insert(text) {
    this.before += text;
  }

  /** Length of the last character before the cursor, as people count characters. */
  #previous() {
    return [...characters.segment(this.before)].at(-1)?.segment.length ?? 0;
  }

  /** Length of the character at the cursor. */
  #next() {
    return [...characters.segment(this.after)][0]?.segment.length ?? 0;
  }

  left() {
    this.#move(this.before.length - this.#previous());
  }

  right() {
    this.#move(this.before.length + this.#next());
  }

  toStart() {
    this.#move(0);
  }

  toEnd() {
    this.#move(this.text.length);
  }

  #move(at) {
    const { text } = this;
    this.before = text.slice(0, at);
    this.after = text.slice(at);
  }

  deletePrevious() {
    this.before = this.before.slice(0, this.before.length - this.#previous());
  }

  deleteNext() {
    this.after = this.after.slice(this.#next());
  }

  deleteWord() {
    this.before = this.before.replace(/\S*\s*$/u, '');
  }

  deleteRest() {
    this.after = '';
  }

  clear() {
    this.before = '';
    this.after = '';
  }
}
