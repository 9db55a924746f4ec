// Data of the benchmarks, the same on every machine: numbers from a seed, and endless blocks of
// bytes made from them.

const MIB = 1 << 20;

/** Numbers of 32 bits by xorshift32 (Marsaglia 2003), from a seed other than 0. */
export function generator(seed) {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** Random bytes without end, in blocks of 1 MiB. */
export function* randomBlocks() {
  const next = generator(0x1234567);
  for (;;) {
    const words = new Uint32Array(MIB / 4);
    for (let at = 0; at < words.length; at++) words[at] = next();
    yield Buffer.from(words.buffer);
  }
}

/**
 * Rows as `pg_dump` writes them, without end: growing keys, names from a list, dates, amounts, free
 * text, a hash now and then.
 */
export function* sqlBlocks() {
  const next = generator(42);
  const pick = (list) => list[next() % list.length];
  const first = ['Anna', 'Ben', 'Clara', 'David', 'Emma', 'Felix', 'Greta', 'Hugo', 'Ida', 'Jonas', 'Karla', 'Leo'];
  const last = ['Becker', 'Fischer', 'Hoffmann', 'Klein', 'Lang', 'Meyer', 'Neumann', 'Richter', 'Schulz', 'Weber'];
  const words = 'order shipped late customer asked for refund gift wrapped please ring twice fragile paid by card'.split(' ');
  const states = ['new', 'paid', 'shipped', 'returned'];
  for (let id = 1; ; ) {
    const rows = ['COPY public.orders (id, customer, email, created_at, amount, state, note, token) FROM stdin;'];
    for (let row = 0; row < 4000; row++, id++) {
      const [given, family] = [pick(first), pick(last)];
      const note = Array.from({ length: next() % 12 }, () => pick(words)).join(' ');
      const date = new Date(1.7e12 + id * 31000 + (next() % 30000)).toISOString().replace('T', ' ').replace('Z', '+00');
      const token = next() % 4 === 0 ? next().toString(16).padStart(8, '0') + next().toString(16).padStart(8, '0') : '\\N';
      const email = `${given}.${family}${next() % 9999}@example.org`.toLowerCase();
      rows.push([id, `${given} ${family}`, email, date, (next() % 100000) / 100, pick(states), note, token].join('\t'));
    }
    rows.push('\\.\n\n');
    yield Buffer.from(rows.join('\n'));
  }
}
