// A strict reader of XML without name spaces, processing instructions and CDATA: what a page must
// be so that no data in it can have become markup.

import assert from 'node:assert/strict';

const NAME = /[A-Za-z][\w-]*/y;
const ATTRIBUTE = /\s+([A-Za-z][\w-]*)="([^"<]*)"/y;
const ENTITIES = { amp: '&', lt: '<', gt: '>', quot: '"', '#39': "'" };
/** The characters that XML 1.0 forbids, and those that its section 2.2 discourages. */
const FORBIDDEN = /[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\ufffe\uffff]|\p{Cs}/u;

/** The characters of a text between tags, or of the value of an attribute. */
function decoded(text, where) {
  assert.doesNotMatch(text, FORBIDDEN, where);
  return text.replace(/&(?:([\w#]+);)?/g, (all, name) => {
    assert.ok(name in ENTITIES, `${where}: ${all} is no entity`);
    return ENTITIES[name];
  });
}

/** Reads a page; returns its root, an element: { name, attributes, children }. */
export function parse(text) {
  const head = '<!DOCTYPE html>\n';
  assert.ok(text.startsWith(head));
  const open = [{ name: '', attributes: {}, children: [] }];
  let at = head.length;
  /** What the pattern matches here, or null. */
  const take = (pattern) => {
    pattern.lastIndex = at;
    const match = pattern.exec(text);
    if (match) at = pattern.lastIndex;
    return match;
  };
  while (at < text.length) {
    const here = `at ${at}: ${JSON.stringify(text.slice(at, at + 60))}`;
    const parent = open.at(-1);
    const run = take(/[^<]+/y);
    if (run) {
      assert.doesNotMatch(run[0], />(?=[^]*<\/body>)/, `a bare > ${here}`);
      parent.children.push(decoded(run[0], here));
    } else if (take(/<\//y)) {
      assert.equal(take(NAME)?.[0], parent.name, `the end of ${parent.name} ${here}`);
      assert.ok(take(/>/y), here);
      open.pop();
    } else {
      assert.ok(take(/</y), here);
      const element = { name: take(NAME)?.[0], attributes: {}, children: [] };
      assert.ok(element.name, `no name ${here}`);
      for (let match = take(ATTRIBUTE); match; match = take(ATTRIBUTE)) {
        assert.ok(!Object.hasOwn(element.attributes, match[1]), `${match[1]} twice ${here}`);
        element.attributes[match[1]] = decoded(match[2], here);
      }
      parent.children.push(element);
      if (!take(/\/>/y)) {
        assert.ok(take(/>/y), `no end of the tag ${here}`);
        open.push(element);
      }
    }
  }
  assert.equal(open.length, 1, `${open.at(-1).name} has no end`);
  const [root, ...rest] = open[0].children;
  assert.deepEqual(rest.filter((child) => child !== '\n'), []);
  return root;
}

/** Every element in an element, itself included, in the order of the page. */
export function* elements(element) {
  yield element;
  for (const child of element.children) if (typeof child !== 'string') yield* elements(child);
}

/** The elements of a name, and of a class when one is given. */
export function select(element, name, className) {
  return [...elements(element)].filter((one) => (
    one.name === name && (className === undefined || (one.attributes.class ?? '').split(' ').includes(className))));
}

/** The text in an element; that of `<style>` and of tooltips is left out. */
export function textOf(element) {
  return element.children.map((child) => {
    if (typeof child === 'string') return child;
    if (child.name === 'br') return ' ';
    return ['style', 'title'].includes(child.name) ? '' : textOf(child);
  }).join('');
}
