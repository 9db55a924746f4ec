// The words of a line that is being typed in a shell, as its completion needs them.

import { homedir } from 'node:os';

/** What a shell replaces by something that only it knows. */
const UNKNOWN = /^[$`]/;

/** Reads one word; returns { text, rest }, or null when only the shell knows it. */
function word(line) {
  let text = '';
  let rest = line;
  let quote = '';
  const take = (length, shown) => {
    text += shown;
    rest = rest.slice(length);
  };
  if (/^~(?=\/|$)/.test(rest)) take(1, homedir());
  while (rest !== '' && (quote !== '' || !/^\s/.test(rest))) {
    const [char, next = ''] = rest;
    if (quote !== "'" && UNKNOWN.test(rest)) return null;
    if (char === quote) [quote, rest] = ['', rest.slice(1)];
    else if (quote === '' && (char === '"' || char === "'")) [quote, rest] = [char, rest.slice(1)];
    else if (char === '\\' && (quote === '' || (quote === '"' && /^["\\$`]/.test(next)))) take(1 + next.length, next);
    else take(char.length, char);
  }
  return { text, rest };
}

/**
 * The words of a line up to the cursor: { words, current }, where `current` is the one that is
 * being typed, or ''. null when a word is the result of an expansion.
 */
export function wordsOf(line) {
  const words = [];
  for (let rest = line.trimStart(); ;) {
    const read = word(rest);
    if (read === null) return null;
    if (read.rest === '') return { words, current: read.text };
    words.push(read.text);
    rest = read.rest.trimStart();
  }
}
