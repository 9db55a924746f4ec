// Names of files in tars: bytes, which most of the time are UTF-8. They are printed as GNU tar
// prints them, so that each name is one line, and different names are different lines.

import { Failure } from './failure.mjs';

/** A byte that is no UTF-8 is this code point and the byte: half a pair, which UTF-8 never has. */
const BYTE = 0xdc00;
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** How many bytes the character has that begins with this one. */
const lengthOf = (byte) => (byte < 0xc2 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4);

/** A name as text, in which each byte that is no UTF-8 is a character of its own. */
export function characters(name) {
  if (typeof name === 'string') return name;
  let text = '';
  for (let at = 0; at < name.length;) {
    const length = lengthOf(name[at]);
    try {
      text += UTF8.decode(name.subarray(at, at + length));
      at += length;
    } catch {
      text += String.fromCharCode(BYTE + name[at]);
      at++;
    }
  }
  return text;
}

/** The bytes that have a letter after the backslash. */
const LETTERS = { 7: 'a', 8: 'b', 9: 't', 10: 'n', 11: 'v', 12: 'f', 13: 'r' };
const BYTES = Object.fromEntries(Object.entries(LETTERS).map(([byte, letter]) => [letter, Number(byte)]));

const octal = (byte) => `\\${byte.toString(8).padStart(3, '0')}`;

/** A character that is not printed as it is. */
function escape(char) {
  if (char === '\\') return '\\\\';
  const code = char.codePointAt(0);
  if (LETTERS[code] !== undefined) return `\\${LETTERS[code]}`;
  return code >= BYTE && code < BYTE + 256 ? octal(code - BYTE) : [...Buffer.from(char)].map(octal).join('');
}

/** A name for the terminal: a backslash, control characters and what is no UTF-8 are escaped. */
export const nameText = (name) => characters(name).replace(/[\\\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, escape);

/** An escape of a byte: a letter, or three octal digits. */
const ESCAPE = /\\(?:([0-3][0-7]{2})|([abtnvfr\\])|([^]?))/gu;

/** The bytes of a name that is given as nameText() prints it. */
export function unescaped(text) {
  const parts = [];
  let end = 0;
  for (const { index, 0: all, 1: digits, 2: letter } of text.matchAll(ESCAPE)) {
    if (digits === undefined && letter === undefined) {
      throw new Failure(`${JSON.stringify(all)} in ${JSON.stringify(text)} is no escape`, {
        code: 'ERR_INVALID_ARGUMENT', hint: 'Use \\\\ for a backslash, \\NNN for a byte in octal digits, or \\a, \\b, \\t, \\n, \\v, \\f, \\r',
      });
    }
    const byte = digits === undefined ? BYTES[letter] ?? 0x5c : parseInt(digits, 8);
    parts.push(Buffer.from(text.slice(end, index)), Buffer.from([byte]));
    end = index + all.length;
  }
  return Buffer.concat([...parts, Buffer.from(text.slice(end))]);
}
